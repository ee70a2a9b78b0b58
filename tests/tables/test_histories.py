"""Sessions in Arrow batches → whole users' integers. Every session here is one that a reader can see whole."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from foretaste.tables import histories as module
from foretaste.tables.histories import COLUMNS, Codes, columns_for, histories

SECOND = 1_000_000
UTC_ZONE = (np.array([0]), np.array([0]))
CODES = Codes(
    items=pa.array(["tea", "milk"]),
    categories=pa.array(["drinks"]),
    edges=np.array([2.0, 5.0]),
    event_types=("view", "purchase"),
    activity=("purchase",),
    zone=UTC_ZONE,
    campaigns=pa.array(["easter", "may"]),
    answers=("coupon",),
)
Session = tuple[str, list[tuple[Any, ...]]]  # user, (second, item, type, price, category and, if it has one, campaign)


def batch(*sessions: Session) -> pa.RecordBatch:
    columns = [[[event[place] for event in events] for _, events in sessions] for place in range(5)]
    times = [[second * SECOND for second in seconds] for seconds in columns[0]]
    campaigns = [[event[5] if len(event) > 5 else None for event in events] for _, events in sessions]
    return pa.RecordBatch.from_pydict(
        {
            "user_id": pa.array([user for user, _ in sessions], pa.string()),
            "event_time": pa.array(times, pa.list_(pa.timestamp("us", tz="UTC"))),
            "item_id": pa.array(columns[1], pa.list_(pa.string())),
            "event_type": pa.array(columns[2], pa.list_(pa.string())),
            "price": pa.array(columns[3], pa.list_(pa.float64())),
            "category": pa.array(columns[4], pa.list_(pa.string())),
            "campaign_id": pa.array(campaigns, pa.list_(pa.string())),
        }
    )


def by_user(*batches: pa.RecordBatch) -> dict[str, dict[str, list[Any]]]:
    """user → feature → its values; "time" in seconds and "began" are there too."""
    found: dict[str, dict[str, list[Any]]] = {}
    for users, events, began in histories(batches, CODES):
        for place, user in enumerate(users.to_pylist()):
            assert user not in found  # a user comes whole, once
            theirs = slice(events.offset[place], events.offset[place + 1])
            found[user] = {name: column[theirs].tolist() for name, column in events.features.items()}
            found[user] |= {
                "target": events.target[theirs].tolist(),
                "is_active": events.is_active[theirs].tolist(),
                "time": (events.time[theirs] // SECOND).tolist(),
                "began": [int(began[place]) // SECOND],
            }
            assert events.contacts is not None
            those = slice(events.contacts.offset[place], events.contacts.offset[place + 1])
            columns = (events.contacts.time[those] // SECOND, events.contacts.campaign[those], events.contacts.kind[those])
            found[user]["contacts"] = [list(contact) for contact in zip(*(column.tolist() for column in columns), strict=True)]
    return found


def test_every_feature_of_an_event() -> None:
    history = by_user(
        batch(
            ("ann", [(0, "milk", "view", 1.5, "drinks"), (3, "tea", "purchase", 2.0, "toys")]),
            ("ann", [(90_000, "gone", "purchase", 9.0, None), (90_000, None, "view", None, "drinks")]),
        )
    )["ann"]
    assert history["item"] == [3, 2, 1, 1]
    assert history["target"][:2] + history["target"][3:] == [3, 2, 0]  # no item is no target
    assert history["target"][2] < 0  # but one that the vocabulary lacks is
    assert history["event"] == [1, 5, 5, 1]  # codes of the contract
    assert history["is_active"] == [False, True, True, False]
    assert history["gap"] == [1, 4, 19, 2]  # none before; 3 s; 89,997 s, 17 bits; 0 s
    assert history["opens_session"] == [2, 1, 2, 1]
    assert history["price"] == [2, 2, 4, 1]  # up to 2, up to 2, above 5, none
    assert history["category"] == [2, 1, 1, 2]
    assert history["hour"] == [1, 1, 2, 2]
    assert history["weekday"] == [4, 4, 5, 5]  # 1970 began on a Thursday


def test_contacts_lie_beside_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever batches end. A purchase within a campaign is no contact, and of a campaign that nobody knows nothing is told."""
    monkeypatch.setattr(module, "BLOCK_EVENTS", 1)
    sessions: list[Session] = [
        ("ann", [(1, None, "exposure", None, None, "may"), (2, "tea", "purchase", None, None, "may")]),
        ("ann", [(3, None, "coupon", None, None, "may"), (4, None, "exposure", None, None, "unheard of")]),
        ("bob", [(5, "tea", "view", None, None)]),
        ("cat", [(6, None, "exposure", None, None, "easter")]),
        ("cat", [(7, None, "coupon", None, None, "easter"), (8, None, "coupon", None, None, None)]),
    ]
    found = by_user(*[batch(session) for session in sessions])
    assert found == by_user(batch(*sessions))
    assert {user: theirs["contacts"] for user, theirs in found.items()} == {
        "ann": [[1, 1, False], [3, 1, True]], "bob": [], "cat": [[6, 0, False], [7, 0, True]],
    }  # fmt: skip
    assert (found["ann"]["item"], found["cat"]["item"]) == ([2], [])


def test_unknown_items_are_told_apart_as_targets() -> None:
    names = ("cake", "pie", "cake")
    one = by_user(batch(("ann", [(0, name, "view", None, None) for name in names])))["ann"]
    other = by_user(batch(("bob", [(0, "pie", "view", None, None)])), batch(("bob", [(9, "cake", "view", None, None)])))["bob"]
    cake, pie, again = one["target"]
    assert cake == again != pie
    assert other["target"] == [pie, cake]  # in whatever batch they come
    assert one["item"] == [1, 1, 1]


def test_types_that_do_not_enter_leave_no_trace() -> None:
    history = by_user(
        batch(
            ("ann", [(0, None, "search", None, None), (5, "tea", "view", None, None)]),
            ("ann", [(50, "tea", "exposure", None, None)]),
            ("bob", [(7, "tea", "exposure", None, None)]),
        )
    )
    assert history["ann"]["time"] == [5]
    assert history["ann"]["opens_session"] == [2]  # the first of its session that enters
    assert history["ann"]["gap"] == [1]
    assert history["ann"]["began"] == [0]
    assert history["bob"] == {"time": [], "began": [7], **{key: [] for key in history["bob"].keys() - {"time", "began"}}}


def test_no_vocabulary_at_all_is_unknown_throughout() -> None:
    nothing = Codes(
        items=pa.array([], pa.string()),
        categories=pa.array([], pa.string()),
        edges=np.array([]),
        event_types=("view",),
        activity=("view",),
        zone=UTC_ZONE,
    )
    ((_, events, _),) = histories([batch(("ann", [(0, "tea", "view", 1.0, "drinks")]))], nothing)
    assert [events.features[name].tolist() for name in ("item", "category", "price")] == [[1], [1], [2]]


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=6), size=st.integers(1, 5), data=st.data()
)
def test_batches_may_end_anywhere(lengths: list[list[int]], size: int, data: st.DataObject) -> None:
    """lengths: events of each session of each user; size: sessions in a batch."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "BLOCK_EVENTS", data.draw(st.integers(1, 8)))
        clock = iter(range(10_000))
        types = st.sampled_from(["view", "purchase", "search"])
        sessions = [
            (f"user {user}", [(next(clock), "tea", data.draw(types), None, None) for _ in range(length)])
            for user, theirs in enumerate(lengths)
            for length in theirs
        ]
        in_one = by_user(batch(*sessions))
        in_many = by_user(*[batch(*sessions[start : start + size]) for start in range(0, len(sessions), size)])
    assert in_many == in_one
    assert list(in_one) == [f"user {user}" for user in range(len(lengths))]
    entering = [second for _, events in sessions for second, _, kind, _, _ in events if kind != "search"]
    assert [second for history in in_one.values() for second in history["time"]] == entering


@pytest.mark.parametrize(
    ("read", "campaigns", "left_out"),
    [
        (["item", "hour", "idle_hours"], [], {"price", "category", "campaign_id"}),
        (["item", "price"], [], {"category", "campaign_id"}),
        (["item", "category"], ["may"], {"price"}),
        (["item", "bought_category"], ["may"], {"price"}),
    ],
)
def test_columns_of_sessions_that_nothing_comes_from_are_left_out(read: list[str], campaigns: list[str], left_out: set[str]) -> None:
    assert set(COLUMNS) - set(columns_for(read, pa.array(campaigns, pa.string()))) == left_out


def test_a_column_that_is_left_out_is_one_of_nulls() -> None:
    whole = batch(("ann", [(0, "tea", "view", 1.0, "drinks", "may"), (1, "milk", "coupon", 3.0, "drinks", "may")]))
    nulls = batch(("ann", [(0, "tea", "view", None, None, None), (1, "milk", "coupon", None, None, None)]))
    assert by_user(whole.select(["user_id", "event_time", "item_id", "event_type"])) == by_user(nulls) != by_user(whole)
