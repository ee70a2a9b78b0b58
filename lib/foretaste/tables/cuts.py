"""Where rows are cut, for each protocol: which events were known at which moment, and which of those that followed are the label's.

global_time        A history is a user's. Training rows are windows, and, as validation and test rows are, calendar moments.
session_next_item  A history is a session's (windows.by_session). It belongs to the split in which it ends, and is never torn.
                   In validation and test, a row after each moment of it that another one follows. The label reaches to its end.
leave_one_out      A history is a user's. Its last event is test, the one before it validation, the rest training, whatever the times.

Training windows, and with `refit` those of validation time, name as `fresh` the events that no earlier row to learn from holds.
numpy only, as windows.py; its legend holds here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretaste.tables.contacts import NO_CAMPAIGNS, Campaigns
from foretaste.tables.windows import BLOCK_NUMBERS, OPENS, Cuts, Events, Int32, Int64, count_until

TRAIN, VALID, TEST = range(3)  # places in contract.SPLITS
WINDOW, CALENDAR, EVENT, EXPOSURE, TRIAL = range(5)  # places in contract.CUTS
SMALLEST, LARGEST = np.iinfo(np.int64).min // 2, np.iinfo(np.int64).max // 2  # before and after all times, with room to add a horizon
FEWEST_HELD_OUT = 3  # leave_one_out: a user with fewer events has none to spare


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """When rows are cut, the same for all users; all in microseconds, `length` and `stride` in events.

    Training is before valid_from, validation before test_from, test until `last` and at it.
    protocol: see the top of this file; horizon, every and follow_up: of global_time alone
    refit:    validation time has windows to learn from, too
    after:    only rows of later moments are wanted
    """

    protocol: str
    refit: bool
    length: int
    stride: int
    horizon: int
    every: int
    follow_up: int
    valid_from: int
    test_from: int
    last: int
    after: int = SMALLEST

    def learns_from(self, split: int) -> bool:
        return split == TRAIN or (split == VALID and self.refit)

    def extent(self, split: int) -> tuple[int, int]:
        """The first and the last moment of a split."""
        return ((SMALLEST, self.valid_from - 1), (self.valid_from, self.test_from - 1), (self.test_from, self.last))[split]

    def moments(self, split: int) -> tuple[int, int]:
        """The first and the last calendar moment of a split, whole multiples of `every` apart; the first is the later one if it has none.

        The horizon of each fits into its split: it ends where the next split starts, at the latest.
        Training counts back from there, as far as there are events.
        """
        if split == TRAIN:
            return SMALLEST, self.valid_from - self.horizon
        start, end = ((self.valid_from, self.test_from), (self.test_from, self.last))[split - VALID]
        return start, start + (end - self.horizon - start) // self.every * self.every


def all_cuts(
    events: Events, calendar: Calendar, splits: Sequence[int] = (TRAIN, VALID, TEST), campaigns: Campaigns = NO_CAMPAIGNS
) -> Iterator[Cuts]:
    """Every row of these splits after `calendar.after`, in blocks. `events` has the histories of the protocol."""
    for split in splits:
        for found in _of_split(events, calendar, split, campaigns):
            yield found if calendar.after == SMALLEST else found.rows(found.as_of > calendar.after)


def _of_split(events: Events, calendar: Calendar, split: int, campaigns: Campaigns) -> Iterator[Cuts]:
    yield from PROTOCOLS[calendar.protocol](events, calendar, split)
    if calendar.protocol == "global_time" and events.contacts is not None:
        yield contact_cuts(events, calendar, split, EXPOSURE, *events.contacts.exposures())
        yield contact_cuts(events, calendar, split, TRIAL, *events.contacts.trials(campaigns.has_control))


def global_time(events: Events, calendar: Calendar, split: int) -> Iterator[Cuts]:
    if calendar.learns_from(split):
        start, end = calendar.extent(split)
        everybody = np.arange(len(events.owner))
        begin, until = (count_until(events, everybody, moment) for moment in (start - 1, end))
        yield window_cuts(events, calendar, split, begin, until, calendar.horizon)
    yield from calendar_cuts(events, calendar, split)


def session_next_item(events: Events, calendar: Calendar, split: int) -> Iterator[Cuts]:
    begin, end = events.offset[:-1], events.offset[1:]
    start, last = calendar.extent(split)
    ended = events.time[end - 1]
    until = np.where((start <= ended) & (ended <= last), end, begin)  # no event of a session that another split has
    if calendar.learns_from(split):
        yield window_cuts(events, calendar, split, begin, until)
    if split != TRAIN:
        is_followed = events.closes_moment & (np.arange(1, len(events.time) + 1) < until[events.history])
        yield _after(events, np.flatnonzero(is_followed) + 1, split, EVENT, begin, until)


def leave_one_out(events: Events, calendar: Calendar, split: int) -> Iterator[Cuts]:
    begin, end = events.offset[:-1], events.offset[1:]
    gives = end - begin >= FEWEST_HELD_OUT
    trained = np.where(gives, end - 2, end)
    if split == TRAIN:
        yield window_cuts(events, calendar, split, begin, trained)
        return
    held_out = np.where(gives, end - 1, end) if split == VALID else end  # where the event that is asked for ends
    yield _after(events, held_out[gives] - 1, split, EVENT, begin, held_out)
    if calendar.learns_from(split):
        yield window_cuts(events, calendar, split, trained, held_out)


PROTOCOLS: Mapping[str, Callable[[Events, Calendar, int], Iterator[Cuts]]] = {
    "global_time": global_time,
    "session_next_item": session_next_item,
    "leave_one_out": leave_one_out,
}


def window_cuts(events: Events, calendar: Calendar, split: int, begin: Int64, until: Int64, horizon: int | None = None) -> Cuts:
    """Rows to learn from: after each `stride` of a history's events [begin, until), and after their last one; of two events at least.

    Those events are fresh, each in one row; the ones before are there to be read. begin, until: (H,)
    A cut waits for the last event of its moment: what happened at the same time is known together.
    """
    history = events.history
    place = np.arange(len(events.time))
    number = place + 1 - begin[history]
    inside = (number > 0) & (place < until[history])
    asked = np.flatnonzero(inside & ((number % calendar.stride == 0) | (place == until[history] - 1)))
    closing = np.flatnonzero(events.closes_moment)
    end = np.unique(np.minimum(closing[np.searchsorted(closing, asked)] + 1, until[history[asked]]))
    end = end[end - events.offset[history[end - 1]] >= 2]
    return _after(events, end, split, WINDOW, begin, until, horizon)


def _after(events: Events, end: Int64, split: int, cut: int, begin: Int64, until: Int64, horizon: int | None = None) -> Cuts:
    """A row after each of these ends (R,), rising. Its label: what followed within the horizon, if there is one, and before `until`."""
    history = np.searchsorted(events.offset, end - 1, side="right") - 1
    as_of = events.time[end - 1]
    continues = _equals_previous(history)
    stop = until[history] if horizon is None else np.minimum(until[history], count_until(events, history, as_of + horizon))
    cuts = Cuts(
        split=split,
        cut=cut,
        user=events.owner[history],
        as_of=as_of,
        first=events.offset[history],
        end=end,
        earlier=np.where(continues, np.append(0, end)[: len(end)], begin[history]),
        stop=stop,
        reach=stop,
        known=as_of,
    )
    # Sessions of a user may share a moment, and a row's key has room for one of them: the last.
    is_last = ~(_equals_previous(cuts.user) & _equals_previous(as_of))
    return cuts.rows(np.append(is_last[1:], True)[: len(end)])


def _equals_previous(values: Int64) -> NDArray[np.bool_]:
    return np.append(False, values[1:] == values[:-1])[: len(values)]


def calendar_cuts(events: Events, calendar: Calendar, split: int) -> Iterator[Cuts]:
    """Rows of every history at each of the split's moments, from its first event on."""
    oldest, newest = calendar.moments(split)
    if newest < oldest:
        return
    learnt = calendar.valid_from - 1 if split == VALID and calendar.refit else SMALLEST  # what rows of training time had
    histories = np.flatnonzero(np.diff(events.offset))
    first = events.time[events.offset[histories]]
    histories, first = histories[first <= newest], first[first <= newest]
    num_back = (newest - np.maximum(first, oldest)) // calendar.every  # each one's first row is so many moments before the newest
    ends = np.cumsum(num_back + 1)
    for start in range(0, int(ends[-1]) if len(ends) else 0, BLOCK_NUMBERS):  # a long calendar has far more rows than there are events
        row = np.arange(start, min(start + BLOCK_NUMBERS, int(ends[-1])))
        whose = np.searchsorted(ends, row, side="right")
        history, back = histories[whose], ends[whose] - 1 - row
        as_of = newest - back * calendar.every
        before = np.where(back == num_back[whose], learnt, as_of - calendar.every)
        last = calendar.extent(split)[1]
        followed = np.minimum(as_of + calendar.follow_up, last)
        yield Cuts(
            split=split,
            cut=CALENDAR,
            user=events.owner[history],
            as_of=as_of,
            first=events.offset[history],
            end=count_until(events, history, as_of),
            earlier=count_until(events, history, before),
            stop=count_until(events, history, np.minimum(as_of + calendar.horizon, last)),
            reach=count_until(events, history, followed),
            known=followed + 1,
        )


def contact_cuts(
    events: Events, calendar: Calendar, split: int, cut: int, user: Int64, time: Int64, campaign: Int64, reached: Int32 | None = None
) -> Cuts:
    """A row for each of these contacts within the split, at its moment. reached: see Cuts"""
    start, last = calendar.extent(split)
    inside = (start <= time) & (time <= last)
    user, as_of = user[inside], time[inside]
    first, end = events.offset[user], count_until(events, user, as_of)
    followed = np.minimum(as_of + calendar.follow_up, last)
    return Cuts(
        split=split,
        cut=cut,
        user=user,
        as_of=as_of,
        first=first,
        end=end,
        earlier=first,
        stop=count_until(events, user, np.minimum(as_of + calendar.horizon, last)),
        reach=count_until(events, user, followed),
        known=followed + 1,
        campaign=campaign[inside],
        reached=None if reached is None else reached[inside],
    )


def latest_cuts(events: Events, user: Int64, moment: int, *, last_session: bool, campaign: Int64 | None = None) -> Cuts:
    """A row for each of these users at `moment`, without a label: their history, or what they did in their last session up to then.

    events: a history for each user; campaign: of each row what it asks about
    """
    as_of = np.full(len(user), moment)
    first, end = events.offset[user], count_until(events, user, as_of)
    if last_session:
        opens = np.append(np.flatnonzero(events.features["opens_session"] == OPENS), 0)
        first = np.where(end > first, opens[np.searchsorted(opens[:-1], end - 1, side="right") - 1], first)
    return Cuts(
        split=0, cut=0, user=user, as_of=as_of, first=first, end=end, earlier=first, stop=end, reach=end, known=as_of, campaign=campaign
    )
