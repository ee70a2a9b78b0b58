"""Where rows are cut, protocol by protocol, on users whose events are numbered by their item, from 2 on. Times are in seconds here."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.contract import CUTS, PAD, SPLITS, UNKNOWN, Label
from foretaste.tables.cuts import Calendar, all_cuts, latest_cuts
from foretaste.tables.windows import Events, by_session, lay_out

SECOND = 1_000_000
FAR = 10**6
PROTOCOLS = ("global_time", "session_next_item", "leave_one_out")


def events_of(*times: Sequence[int], pause: int = FAR) -> Events:
    """One list of times a user; items are numbered from 2 over all of them. A pause longer than `pause` opens a session."""
    flat = np.array([time for user in times for time in user], dtype=np.int64) * SECOND
    offset = np.cumsum([0, *(len(user) for user in times)])
    item = np.arange(2, 2 + len(flat), dtype=np.int32)
    opens = np.diff(flat, prepend=-FAR * SECOND) > pause * SECOND
    opens[offset[:-1][np.diff(offset) > 0]] = True
    features = {"item": item, "event": np.ones_like(item), "gap": np.full_like(item, 9), "opens_session": np.where(opens, 2, 1)}
    return Events(offset=offset, owner=np.arange(len(times)), time=flat, features=features, target=item, is_active=item % 2 == 0)


def calendar(
    *, protocol: str = "global_time", refit: bool = False, length: int = 4, stride: int = 2, horizon: int = 10, every: int = 5,
    follow_up: int = 20, valid_from: int = FAR, test_from: int = 2 * FAR, last: int = 3 * FAR,
) -> Calendar:  # fmt: skip
    seconds = {"horizon": horizon, "every": every, "follow_up": follow_up, "valid_from": valid_from, "test_from": test_from, "last": last}
    return Calendar(protocol=protocol, refit=refit, length=length, stride=stride, **{name: s * SECOND for name, s in seconds.items()})


def followed(future: object) -> np.ndarray:
    return (future.stop - future.start).astype(np.int32)  # type: ignore[attr-defined]


def next_item(future: object) -> np.ndarray:
    has_one = future.stop > future.start  # type: ignore[attr-defined]
    return np.where(has_one, np.append(future.item, 0)[future.start], PAD).astype(np.int32)  # type: ignore[attr-defined]


NUM_FOLLOWING = Label(name="num_following", comment="events in the label", width=0, compute=followed)
NEXT_ITEM = Label(name="next_item", comment="the first of them", width=0, compute=next_item)
Rows = list[tuple[int, int, list[int], int, int]]


def rows_of(events: Events, plan: Calendar, split: str, cut: str) -> Rows:
    """(user, as_of, items, fresh, events that followed) of one split and cut."""
    histories = by_session(events) if plan.protocol == "session_next_item" else events
    rows: Rows = []
    for cuts in all_cuts(histories, plan, [SPLITS.index(split)]):
        for block, columns in lay_out(histories, cuts, plan.length, [NUM_FOLLOWING]):
            if CUTS[block.cut] == cut:
                numbers = (block.user, block.as_of // SECOND, columns["item"], columns["fresh"], columns["num_following"])
                rows += zip(*(column.tolist() for column in numbers), strict=True)
    return rows


# ---- global_time


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


def test_a_row_is_followed_until_its_split_ends_at_the_latest() -> None:
    """Moments 45, 50 and 55; rows are followed for 12 seconds, and the last event that lies in the split is at 65."""
    events = events_of([1, 46, 57, 58, 62, 63, 70])
    plan = calendar(valid_from=30, test_from=45, last=65, follow_up=12)
    [found] = all_cuts(events, plan, [SPLITS.index("test")])
    told = zip(found.as_of // SECOND, events.time[found.reach - 1] // SECOND, (found.known - 1) // SECOND, strict=True)
    assert [tuple(map(int, row)) for row in told] == [(45, 57, 57), (50, 62, 62), (55, 63, 65)]


def test_only_rows_of_later_moments_may_be_asked_for() -> None:
    events, plan = events_of([1, 46, 60]), calendar(valid_from=30, test_from=45, last=65)
    whole = rows_of(events, plan, "test", "calendar")
    assert [row[1] for row in whole] == [45, 50, 55]
    for after, left in ((44, whole), (45, whole[1:]), (54, whole[2:]), (55, [])):
        assert rows_of(events, replace(plan, after=after * SECOND), "test", "calendar") == left


def test_a_split_too_short_for_its_horizon_has_no_moment() -> None:
    assert rows_of(events_of([1, 30]), calendar(valid_from=30, test_from=39, last=60), "valid", "calendar") == []


def test_with_refit_windows_of_validation_time_go_on_where_training_ended() -> None:
    events = events_of([1, 2, 3, 10, 11, 12, 20], [10, 19])
    plan = calendar(refit=True, valid_from=10, test_from=20, last=40)
    assert rows_of(events, plan, "train", "window")[-1] == (0, 3, [0, 2, 3, 4], 1, 0)
    assert rows_of(events, plan, "valid", "window") == [
        (0, 11, [3, 4, 5, 6], 2, 1),  # the event at 20 is test time's
        (0, 12, [4, 5, 6, 7], 1, 0),
        (1, 19, [0, 0, 9, 10], 2, 0),
    ]
    # The moment 10 is the only one that fits; what training time knew is not fresh again.
    assert rows_of(events, plan, "valid", "calendar") == [(0, 10, [2, 3, 4, 5], 1, 2), (1, 10, [0, 0, 0, 9], 1, 1)]
    assert rows_of(events, plan, "test", "window") == []


# ---- session_next_item


def test_a_session_is_its_own_history_in_the_split_in_which_it_ends() -> None:
    #       a session, one that begins before 20 and ends after; the next user's is validation's, and a single event
    events = events_of([1, 2, 3, 18, 19, 21], [11, 12], [13], pause=9)
    plan = calendar(protocol="session_next_item", valid_from=10, test_from=20, last=30)
    assert rows_of(events, plan, "train", "window") == [(0, 2, [0, 0, 2, 3], 2, 1), (0, 3, [0, 2, 3, 4], 1, 0)]
    assert rows_of(events, plan, "valid", "event") == [(1, 11, [0, 0, 0, 8], 1, 1)]
    assert rows_of(events, plan, "test", "event") == [(0, 18, [0, 0, 0, 5], 1, 2), (0, 19, [0, 0, 5, 6], 1, 1)]
    assert rows_of(events, plan, "train", "calendar") == rows_of(events, plan, "test", "calendar") == []


def test_a_sessions_prefix_grows_by_a_moment_and_its_label_reaches_to_its_end() -> None:
    events = events_of([11, 11, 12, 19])  # the horizon is a second
    plan = calendar(protocol="session_next_item", horizon=1, valid_from=10, test_from=20, last=30)
    assert rows_of(events, plan, "valid", "event") == [(0, 11, [0, 0, 2, 3], 2, 2), (0, 12, [0, 2, 3, 4], 1, 1)]


def test_sessions_after_the_last_moment_are_in_no_split() -> None:
    plan = calendar(protocol="session_next_item", valid_from=10, test_from=20, last=22)
    assert [rows_of(events_of([21, 22, 23]), plan, split, "event") for split in SPLITS] == [[], [], []]


def test_with_refit_sessions_of_validation_time_are_windows_too() -> None:
    plan = calendar(protocol="session_next_item", refit=True, valid_from=10, test_from=20, last=30)
    events = events_of([1, 2, 11, 12, 13, 21, 22], pause=5)
    assert rows_of(events, plan, "valid", "window") == [(0, 12, [0, 0, 4, 5], 2, 1), (0, 13, [0, 4, 5, 6], 1, 0)]
    assert rows_of(events, plan, "valid", "event") == [(0, 11, [0, 0, 0, 4], 1, 2), (0, 12, [0, 0, 4, 5], 1, 1)]
    assert rows_of(events, plan, "test", "window") == []


def test_of_sessions_that_end_at_one_moment_one_has_a_window() -> None:
    events = events_of([5, 5, 5, 5])
    events = replace(events, features={**events.features, "opens_session": np.array([2, 1, 2, 1])})
    assert rows_of(events, calendar(protocol="session_next_item"), "train", "window") == [(0, 5, [0, 0, 4, 5], 2, 0)]


def test_nothing_was_before_a_session() -> None:
    gaps = by_session(events_of([1, 2, 30], [5], pause=9)).features["gap"]
    assert gaps.tolist() == [UNKNOWN, 9, UNKNOWN, UNKNOWN]


# ---- leave_one_out


def test_the_last_event_is_test_and_the_one_before_validation() -> None:
    events = events_of([1, 2, 3, 900, 901], [7, 8], [5, 6, 7])  # times do not matter: those of the first user are far apart
    plan = calendar(protocol="leave_one_out", valid_from=2, test_from=3, last=4)
    assert rows_of(events, plan, "train", "window") == [
        (0, 2, [0, 0, 2, 3], 2, 1),
        (0, 3, [0, 2, 3, 4], 1, 0),
        (1, 8, [0, 0, 7, 8], 2, 0),  # too short to hold anything out
    ]
    assert rows_of(events, plan, "valid", "event") == [(0, 3, [0, 2, 3, 4], 3, 1), (2, 5, [0, 0, 0, 9], 1, 1)]
    assert rows_of(events, plan, "test", "event") == [(0, 900, [2, 3, 4, 5], 4, 1), (2, 6, [0, 0, 9, 10], 2, 1)]
    assert rows_of(events, plan, "valid", "window") == []


def test_with_refit_the_validation_event_is_learnt_and_the_test_event_is_not() -> None:
    plan = calendar(protocol="leave_one_out", refit=True)
    assert rows_of(events_of([1, 2, 3, 4, 5], [7, 8]), plan, "valid", "window") == [(0, 4, [2, 3, 4, 5], 1, 0)]


def test_events_at_one_time_are_left_out_by_their_order() -> None:
    plan, events = calendar(protocol="leave_one_out"), events_of([1, 5, 5, 5])
    assert rows_of(events, plan, "train", "window") == [(0, 5, [0, 0, 2, 3], 2, 0)]
    assert rows_of(events, plan, "valid", "event") == [(0, 5, [0, 0, 2, 3], 2, 1)]
    assert rows_of(events, plan, "test", "event") == [(0, 5, [0, 2, 3, 4], 3, 1)]


# ---- scoring


@pytest.mark.parametrize(("last_session", "items"), [(False, [3, 4, 5]), (True, [0, 4, 5])])
def test_the_latest_row_knows_the_last_session_or_all(last_session: bool, items: list[int]) -> None:
    events = events_of([1, 2, 20, 21, 22], [], [30], pause=9)
    cuts = latest_cuts(events, np.array([0, 1, 2]), 21 * SECOND, last_session=last_session)
    ((_, columns),) = lay_out(events, cuts, 3, ())
    assert columns["item"].tolist() == [items, [0, 0, 0], [0, 0, 0]]
    assert columns["length"].tolist() == [2 if last_session else 3, 0, 0]


# ---- for whatever events there are

USERS = st.lists(st.lists(st.integers(0, 60), max_size=12).map(sorted), min_size=1, max_size=4)
OPTIONS = {"length": st.integers(2, 6), "stride": st.integers(1, 6), "horizon": st.integers(1, 30), "every": st.integers(1, 20)}
PLANS = st.builds(calendar, protocol=st.sampled_from(PROTOCOLS), refit=st.booleans(), valid_from=st.just(30), test_from=st.just(45),
                  last=st.just(60), **OPTIONS)  # fmt: skip
PAUSE = 7


def histories_of(users: list[list[int]], protocol: str) -> list[tuple[int, list[tuple[int, int]]]]:
    """(user, its events as (time, item)), one for each user, or for each session under session_next_item."""
    numbered = iter(range(2, 10**6))
    found: list[tuple[int, list[tuple[int, int]]]] = []
    for user, times in enumerate(users):
        events = [(time, next(numbered)) for time in times]
        opens = [place for place in range(len(times)) if place == 0 or times[place] - times[place - 1] > PAUSE]
        starts = opens if protocol == "session_next_item" else opens[:1]
        found += [(user, events[start:stop]) for start, stop in zip(starts, [*starts[1:], len(events)], strict=False)]
    return [(user, events) for user, events in found if events]


def split_of(place: int, events: list[tuple[int, int]], protocol: str) -> str:
    """The split that an event is in, by the words of the protocol."""
    if protocol == "leave_one_out":
        return "train" if len(events) < 3 or place < len(events) - 2 else SPLITS[place - len(events) + 3]
    time = events[-1][0] if protocol == "session_next_item" else events[place][0]
    return "train" if time < 30 else "valid" if time < 45 else "test"


@settings(max_examples=150, deadline=None)
@given(users=USERS, plan=PLANS)
def test_a_row_is_what_its_protocol_says(users: list[list[int]], plan: Calendar) -> None:
    """It knows its history up to an event; its label is what follows in its split; and every event to learn from is fresh once."""
    events = events_of(*users, pause=PAUSE)
    whole = {}
    for user, history in histories_of(users, plan.protocol):
        splits = [split_of(place, history, plan.protocol) for place in range(len(history))]
        whole |= {item: (user, place, history, splits) for place, (_, item) in enumerate(history)}
    for split, cut in product(SPLITS, CUTS):
        known_before: dict[int, int] = {}  # a history's first item → how much of it the row before knew
        for user, as_of, row, fresh, following in rows_of(events, plan, split, cut):
            items = [item for item in row if item]
            owner, place, history, splits = whole[items[-1]]
            assert owner == user
            assert items == [item for _, item in history[: place + 1]][-plan.length :]
            assert history[place][0] <= as_of
            rest = [number for number in range(place + 1, len(history)) if splits[number] == split]
            if plan.protocol == "global_time":
                rest = [number for number in rest if history[number][0] <= as_of + plan.horizon // SECOND]
            if plan.protocol != "leave_one_out":  # which goes by the order of events, whatever their times
                assert all(history[number][0] > as_of for number in range(place + 1, len(history)))
            assert following == len(rest)
            assert following > 0 or cut != "event"
            learnt = splits.count("train") if plan.refit and split == "valid" and cut != "event" else 0
            known = place + 1
            assert fresh == min(plan.length, known - known_before.get(history[0][1], min(learnt, known)))
            assert fresh > 0 or cut == "calendar"
            known_before[history[0][1]] = known
        if cut == "window" and plan.learns_from(SPLITS.index(split)):  # and no event to learn from is forgotten
            for _, history in histories_of(users, plan.protocol):
                splits = whole[history[0][1]][3]
                if split in splits and len(history[: (last := len(splits) - splits[::-1].index(split))]) > 1:
                    assert known_before[history[0][1]] == last
        elif cut == "window":
            assert known_before == {}


@settings(max_examples=150, deadline=None)
@given(users=USERS, plan=PLANS, data=st.data())
def test_a_changed_future_moves_no_feature(users: list[list[int]], plan: Calendar, data: st.DataObject) -> None:
    """Everything after a row's `as_of` is another item, of another type, at another gap; its label alone may tell."""
    moment = data.draw(st.integers(0, 60))
    events = events_of(*users, pause=PAUSE)
    later = events.time > moment * SECOND
    changed = replace(
        events,
        features={name: np.where(later & (name != "opens_session"), 77, column) for name, column in events.features.items()},
        target=np.where(later, 77, events.target),
    )
    assert _known(changed, plan, moment) == _known(events, plan, moment)


def _known(events: Events, plan: Calendar, moment: int) -> list[tuple[object, ...]]:
    """The features of rows up to `moment`."""
    histories = by_session(events) if plan.protocol == "session_next_item" else events
    return [
        (block.split, block.cut, *(column[kept].tolist() for name, column in columns.items()))
        for cuts in all_cuts(histories, plan)
        for block, columns in lay_out(histories, cuts, plan.length, ())
        if (kept := block.as_of <= moment * SECOND).any()
    ]
