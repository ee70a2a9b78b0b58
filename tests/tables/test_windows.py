"""The kernel that cuts rows, on users whose events are numbered by their item, from 2 on. Times are in seconds here."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.contract import CUTS, SPLITS, Label
from foretaste.tables import windows
from foretaste.tables.windows import Calendar, Cuts, Events, all_cuts, count_until, lay_out, local_hours

SECOND = 1_000_000
FAR = 10**6


def events_of(*times: Sequence[int]) -> Events:
    """One list of times a user; items are numbered from 2 over all of them."""
    flat = np.array([time for user in times for time in user], dtype=np.int64) * SECOND
    offset = np.cumsum([0, *(len(user) for user in times)])
    item = np.arange(2, 2 + len(flat), dtype=np.int32)
    return Events(offset=offset, time=flat, features={"item": item, "event": np.ones_like(item)})


def calendar(
    *, length: int = 4, stride: int = 2, horizon: int = 10, every: int = 5, valid_from: int = FAR, test_from: int = 2 * FAR,
    last: int = 3 * FAR, at_events: bool = False,
) -> Calendar:  # fmt: skip
    seconds = {"horizon": horizon, "every": every, "valid_from": valid_from, "test_from": test_from, "last": last}
    return Calendar(length=length, stride=stride, judged_at_events=at_events, **{name: value * SECOND for name, value in seconds.items()})


def followed(future: object) -> np.ndarray:
    return (future.stop - future.start).astype(np.int32)  # type: ignore[attr-defined]


NUM_FOLLOWING = Label(name="num_following", comment="events in the horizon", width=0, compute=followed)


def rows_of(events: Events, plan: Calendar, split: str, cut: str) -> list[tuple[int, int, list[int], int, int]]:
    """(user, as_of, items, fresh, events that followed) of one split and cut."""
    rows = []
    for cuts in all_cuts(events, plan, [SPLITS.index(split)]):
        for block, columns in lay_out(events, cuts, plan.length, [NUM_FOLLOWING]):
            if CUTS[block.cut] == cut:
                numbers = (block.user, block.as_of // SECOND, columns["item"], columns["fresh"], columns["num_following"])
                rows += zip(*(column.tolist() for column in numbers), strict=True)
    return rows


def test_windows_overlap_and_count_each_event_once() -> None:
    assert rows_of(events_of([1, 2, 3, 4, 5, 6, 7]), calendar(), "train", "window") == [
        (0, 2, [0, 0, 2, 3], 2, 5),
        (0, 4, [2, 3, 4, 5], 2, 3),
        (0, 6, [4, 5, 6, 7], 2, 1),
        (0, 7, [5, 6, 7, 8], 1, 0),
    ]


def test_a_window_waits_for_all_that_happened_at_its_moment() -> None:
    assert rows_of(events_of([1, 5, 5, 5, 9]), calendar(), "train", "window") == [
        (0, 5, [2, 3, 4, 5], 4, 1),
        (0, 9, [3, 4, 5, 6], 1, 0),
    ]


def test_a_basket_longer_than_a_window_keeps_its_last_events() -> None:
    assert rows_of(events_of([1, 5, 5, 5, 5, 5, 5]), calendar(), "train", "window") == [(0, 5, [5, 6, 7, 8], 4, 0)]


def test_one_event_is_no_window_and_is_fresh_in_the_first_one_that_is() -> None:
    assert rows_of(events_of([1], [1, 2, 3]), calendar(stride=1), "train", "window") == [
        (1, 2, [0, 0, 3, 4], 2, 1),
        (1, 3, [0, 3, 4, 5], 1, 0),
    ]


def test_training_windows_and_their_labels_end_before_valid_from() -> None:
    assert rows_of(events_of([1, 2, 3, 4, 5]), calendar(valid_from=4), "train", "window") == [
        (0, 2, [0, 0, 2, 3], 2, 1),
        (0, 3, [0, 2, 3, 4], 1, 0),
    ]


def test_training_moments_count_back_from_a_horizon_before_valid_from() -> None:
    # valid_from 30: the moments are 20, 15, 10, …; user 0's first event is at 10, user 1's at 16, user 2's after all of them
    rows = rows_of(events_of([10, 14, 22, 30], [16], [21]), calendar(valid_from=30), "train", "calendar")
    assert rows == [
        (0, 10, [0, 0, 0, 2], 1, 1),
        (0, 15, [0, 0, 2, 3], 1, 1),
        (0, 20, [0, 0, 2, 3], 0, 1),  # the event at 30 is valid time's
        (1, 20, [0, 0, 0, 6], 1, 0),
    ]


def test_validation_moments_start_with_the_split_and_their_horizon_fits_into_it() -> None:
    plan = calendar(valid_from=30, test_from=45, last=60)  # 30 and 35; a row at 40 would look into test time
    rows = rows_of(events_of([1, 30, 41, 45], [31]), plan, "valid", "calendar")
    assert rows == [
        (0, 30, [0, 0, 2, 3], 2, 0),
        (0, 35, [0, 0, 2, 3], 0, 1),  # the one at 41; that at 45 is test time's
        (1, 35, [0, 0, 0, 6], 1, 0),
    ]


def test_test_moments_go_up_to_the_last_event() -> None:
    plan = calendar(valid_from=30, test_from=45, last=60)
    assert rows_of(events_of([1, 60]), plan, "test", "calendar") == [(0, 45, [0, 0, 0, 2], 1, 0), (0, 50, [0, 0, 0, 2], 0, 1)]


def test_a_split_too_short_for_its_horizon_has_no_moment() -> None:
    assert rows_of(events_of([1, 30]), calendar(valid_from=30, test_from=39, last=60), "valid", "calendar") == []


def test_event_rows_are_one_a_moment_that_something_can_follow() -> None:
    plan = calendar(valid_from=10, test_from=20, last=21, at_events=True)
    events = events_of([1, 11, 11, 12, 20, 21])
    assert rows_of(events, plan, "valid", "event") == [(0, 11, [0, 2, 3, 4], 3, 1), (0, 12, [2, 3, 4, 5], 1, 0)]
    assert rows_of(events, plan, "test", "event") == [(0, 20, [3, 4, 5, 6], 4, 1)]  # nothing can follow the last event of all


@pytest.mark.parametrize(("user", "moment", "end"), [(0, 0, 0), (0, 1, 1), (0, 4, 1), (0, 5, 3), (0, 99, 3), (1, 0, 3), (1, 2, 4)])
def test_count_until(user: int, moment: int, end: int) -> None:
    assert count_until(events_of([1, 5, 5], [2]), np.array([user]), np.array([moment * SECOND])).tolist() == [end]


def test_a_user_without_known_events_is_all_padding() -> None:
    one = np.array([0])
    cuts = Cuts(split=0, cut=0, user=one, as_of=one, end=one, earlier=one, stop=one)
    ((_, columns),) = lay_out(events_of([], [3]), cuts, 3, ())
    assert (columns["item"].tolist(), columns["length"].tolist(), columns["recency"].tolist()) == ([[0, 0, 0]], [0], [1])


def test_recency_is_the_time_since_the_last_known_event() -> None:
    cuts = Cuts(split=0, cut=0, user=np.zeros(3, int), as_of=np.array([4, 5, 11]) * SECOND,
                end=np.array([1, 1, 1]), earlier=np.zeros(3, int), stop=np.array([1, 1, 1]))  # fmt: skip
    ((_, columns),) = lay_out(events_of([4]), cuts, 2, ())
    assert columns["recency"].tolist() == [2, 3, 5]  # 0 s, 1 s, 4 to 7 s


def test_blocks_are_bounded_by_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "BLOCK_NUMBERS", 8)
    events, plan = events_of([1, 2, 3, 4, 5, 6, 7]), calendar(length=2, stride=1)
    blocks = [len(block) for cuts in all_cuts(events, plan, [0]) for block, _ in lay_out(events, cuts, 2, [NUM_FOLLOWING])]
    assert blocks[:3] == [1, 2, 3]  # 5; 4 + 3; 2 + 1 + 0 events follow
    assert rows_of(events, plan, "train", "window")[0] == (0, 2, [2, 3], 2, 5)


def test_hours_and_weekdays_are_local() -> None:
    berlin = (np.array([0, 100 * 3600 * SECOND]), np.array([3600 * SECOND, 7200 * SECOND]))  # an hour ahead, two from hour 100 on
    time = np.array([0, 23, 99, 100]) * 3600 * SECOND  # from Thursday, 1 January 1970, 00:00 UTC
    hour, weekday = local_hours(time, berlin)
    assert hour.tolist() == [1, 0, 4, 6]
    assert weekday.tolist() == [3, 4, 0, 0]


@settings(max_examples=50, deadline=None)
@given(
    users=st.lists(st.lists(st.integers(0, 60), max_size=12).map(sorted), min_size=1, max_size=4),
    length=st.integers(2, 6),
    stride=st.integers(1, 6),
    horizon=st.integers(1, 30),
    every=st.integers(1, 20),
    at_events=st.booleans(),
)
def test_a_row_knows_all_up_to_as_of_and_its_label_is_what_follows_in_the_split(
    users: list[list[int]], length: int, stride: int, horizon: int, every: int, at_events: bool
) -> None:
    plan = calendar(length=length, stride=stride, horizon=horizon, every=every, valid_from=30, test_from=45, last=60, at_events=at_events)
    events = events_of(*users)
    ends = {"train": 30, "valid": 45, "test": 61}
    whole: dict[int, list[tuple[int, int]]] = {
        user: [(int(events.time[place] // SECOND), place + 2) for place in range(events.offset[user], events.offset[user + 1])]
        for user in range(len(users))
    }
    for split in SPLITS:
        for cut in CUTS:
            seen: dict[int, list[int]] = {}
            for user, as_of, items, fresh, following in rows_of(events, plan, split, cut):
                known = [item for time, item in whole[user] if time <= as_of]
                assert [item for item in items if item] == known[-length:]
                assert following == sum(as_of < time <= as_of + horizon and time < ends[split] for time, _ in whole[user])
                earlier = seen.setdefault(user, [])
                assert fresh == min(length, len(known) - len(earlier))
                assert fresh > 0 or cut == "calendar"  # windows and event rows always bring something new
                seen[user] = known
            if (split, cut) == ("train", "window"):  # and no training event is left out
                counts = {user: sum(time < 30 for time, _ in history) for user, history in whole.items()}
                assert {user: len(known) for user, known in seen.items()} == {user: n for user, n in counts.items() if n > 1}
