"""Labels by hand: three users' futures cut from one flat list of events."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.contract import DAY, Future, answers_of
from foretaste.tables import TABLES
from foretaste.tasks import TASKS, interest
from foretaste.tasks.campaign import answer_day
from foretaste.tasks.churn import next_activity
from foretaste.tasks.interest import NUM_NEXT_ITEMS, next_items
from foretaste.tasks.returns import returns
from foretaste.tasks.uplift import trial


def future(start: list[int], stop: list[int], item: list[int], **others: list[float]) -> Future:
    """others: time, is_active (of events), as_of, reach, known (of rows); times in days, 0 unless given."""
    items = np.array(item, dtype=np.int32)
    rows = dict.fromkeys(("as_of", "known", "answer", "asked_until"), len(start))
    days = {name: (np.array(others.get(name, [0] * size)) * DAY).astype(np.int64) for name, size in {"time": len(item), **rows}.items()}
    return Future(
        start=np.array(start, dtype=np.int64),
        stop=np.array(stop, dtype=np.int64),
        item=items,
        event=np.ones_like(items),
        is_active=np.array(others.get("is_active", [0] * len(item)), dtype=np.bool_),
        reach=np.array(others.get("reach", stop), dtype=np.int64),
        reached=np.array(others.get("reached", [-1] * len(start)), dtype=np.int32),
        **days,
    )


def test_next_items_are_distinct_and_in_the_order_of_appearance() -> None:
    #                     0  1  2  3  4  5  6
    found = next_items(future([0, 4, 4], [4, 4, 7], [9, 5, 9, 7, 0, 3, 3]))  # 0: an event without an item
    assert found.shape == (3, NUM_NEXT_ITEMS)
    assert found[:, :4].tolist() == [[9, 5, 7, 0], [0, 0, 0, 0], [3, 0, 0, 0]]
    assert not found[:, 4:].any()


def test_next_items_that_the_vocabulary_lacks_stay_unknown_in_their_places() -> None:
    found = next_items(future([0, 3], [4, 6], [-9, 5, -7, -9, 2, 5]))  # -9 and -7 are two of them
    assert found[:, :4].tolist() == [[1, 5, 1, 0], [1, 2, 5, 0]]
    assert not found[:, 4:].any()


def test_next_items_keeps_the_first_of_too_many() -> None:
    many = list(range(2, 2 + 2 * NUM_NEXT_ITEMS))
    assert next_items(future([0], [len(many)], many))[0].tolist() == many[:NUM_NEXT_ITEMS]


@given(
    st.lists(st.integers(-3, 9), max_size=60), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8), st.integers(1, 5)
)
def test_next_items_of_any_rows_however_few_are_looked_at_at_first(items: list[int], rows: list[tuple[int, int]], first: int) -> None:
    """At most four items a row are asked for; of what follows a million may be looked through in small parts."""
    spans = [(min(begin, len(items)), min(max(begin, end), len(items))) for begin, end in rows]
    with pytest.MonkeyPatch.context() as small:
        for name, value in {"NUM_NEXT_ITEMS": 4, "FIRST_LOOK": first, "MOST_EVENTS": 6}.items():
            small.setattr(interest, name, value)
        found = next_items(future([begin for begin, _ in spans], [end for _, end in spans], items))
    expected = [[max(item, 1) for item in dict.fromkeys(item for item in items[begin:end] if item)][:4] for begin, end in spans]
    assert found.tolist() == [each + [0] * (4 - len(each)) for each in expected]


def test_rows_that_share_events_have_labels_of_their_own() -> None:
    assert next_items(future([0, 1, 2], [2, 3, 3], [4, 5, 4]))[:, :2].tolist() == [[4, 5], [5, 4], [4, 0]]


def test_no_rows_at_all() -> None:
    assert next_items(future([], [], [])).shape == (0, NUM_NEXT_ITEMS)


def test_returns_if_anything_followed() -> None:
    assert returns(future([0, 2, 2], [2, 2, 3], [4, 5, 6])).tolist() == [1, 0, 1]


def test_the_next_activity_s_day_or_how_long_nobody_came() -> None:
    """A user's events at these days, of which the second and the last two count, and one of a second user, which does not.

    Rows are cut on days 0, 0.5, 4, and on 3.25 of a split that ends with day 6: two whole days are left. The last is the second user's.
    """
    found = next_activity(
        future([0, 0, 3, 3, 5], [1, 1, 3, 3, 6], [2] * 6,
               time=[1, 1.5, 3.25, 6, 8, 1], is_active=[0, 1, 0, 1, 1, 0],
               as_of=[0, 0.5, 4, 3.25, 0], reach=[5, 5, 5, 3, 6], known=[9, 9, 9, 6, 3.5])
    )  # fmt: skip
    assert found.tolist() == [[2, 9], [1, 8], [2, 5], [0, 2], [0, 3]]
    assert answers_of("survival", found, 2).tolist() == [0, 0, 0, 1, 1]
    assert answers_of("survival", found, 3).tolist() == [0, 0, 0, -1, 1]
    assert answers_of("survival", found, 6).tolist() == [0, 0, -1, -1, -1]  # the third came, but of six days only five are known


def test_the_day_of_the_answer_to_a_campaign() -> None:
    """On the third day, at once, after the split's end (which is not known), not by then, and not before it was over."""
    far = 10**6
    times = {"as_of": [1] * 5, "known": [10] * 5, "answer": [3.5, 1, 12, far, far], "asked_until": [10, 10, 10, 10, far]}
    found = answer_day(future([0] * 5, [0] * 5, [2], **times))
    assert found[:4].tolist() == [[3, 9], [1, 9], [0, 9], [0, 9]]
    assert answers_of("survival", found, 28).tolist() == [-1, -1, -1, -1, 1]
    assert answers_of("incidence", found, 3).tolist() == [1, 1, 0, 0, 0]


def test_a_trial_tells_when_somebody_came_and_whether_reached() -> None:
    """A purchase on day 3. Rows of a trial on day 1, reached, and on day 4, left out; and one of no trial."""
    times = {"time": [3], "is_active": [1], "as_of": [1, 4, 1], "known": [10] * 3}
    found = trial(future([0, 1, 0], [1, 1, 1], [2], reach=[1, 1, 1], reached=[1, 0, -1], **times))
    assert found.tolist() == [[2, 9, 1], [0, 6, 0], [0, 0, 0]]
    assert answers_of("uplift", found, 6).tolist()[:2] == [1, 0]
    assert answers_of("uplift", found, 7).tolist()[:2] == [1, -1]


def test_every_task_has_its_label_in_its_table() -> None:
    assert [task.name for task in TASKS.values() if task.label.name not in TABLES[task.table].names] == []
