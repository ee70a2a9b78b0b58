"""Flat, time-ordered events of whole users → rows of fixed length. numpy only: executors run this for many users at once.

Legend: U users, N events, R rows, T length of a row. Events of user u are [offset[u], offset[u + 1]) of every flat column.
Times are int64 microseconds since 1970, UTC.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretaste.contract import PAD, Future, Label, gap_bucket

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
TRAIN, VALID, TEST = range(3)  # places in contract.SPLITS
WINDOW, CALENDAR, EVENT = range(3)  # places in contract.CUTS
BLOCK_ROWS = 8192  # rows that are laid out at once, at most …
BLOCK_NUMBERS = 1 << 19  # … and numbers in one of their features, and events that follow them: memory knows a bound
SMALLEST, LARGEST = np.iinfo(np.int64).min // 2, np.iinfo(np.int64).max // 2  # before and after all times, with room to add a horizon


@dataclass(frozen=True, kw_only=True)
class Events:
    """offset: (U + 1,); time: (N,), rising within a user; features: name → (N,) int32."""

    offset: Int64
    time: Int64
    features: Mapping[str, Int32]

    @property
    def user(self) -> Int64:
        """(N,): whose event each is."""
        return np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))

    @property
    def closes_moment(self) -> NDArray[np.bool_]:
        """(N,): whether an event is the last of its user at its time."""
        closes = np.append(self.time[1:] != self.time[:-1], True)[: len(self.time)]
        closes[self.offset[1:][np.diff(self.offset) > 0] - 1] = True
        return closes


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """R rows to be: whose, at which moment, and the events [offset[user], end) that were known then.

    earlier: where the events end that the row before of the same user, split and cut knew; offset[user] for a user's first row
    stop:    events [end, stop) are what followed within the horizon and inside the row's own split
    split, cut: places in contract.SPLITS and contract.CUTS, the same for all
    """

    split: int
    cut: int
    user: Int64
    as_of: Int64
    end: Int64
    earlier: Int64
    stop: Int64

    def __len__(self) -> int:
        return len(self.user)

    def rows(self, start: int, stop: int) -> "Cuts":
        columns = {name: column[start:stop] for name, column in vars(self).items() if isinstance(column, np.ndarray)}
        return Cuts(split=self.split, cut=self.cut, **columns)


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """When rows are cut, the same for all users; all in microseconds, `length` and `stride` in events.

    Training is before valid_from, validation before test_from, test until `last` and at it.
    judged_at_events: validation and test rows at every event, instead of `every` so often from the split's start on
    """

    length: int
    stride: int
    horizon: int
    every: int
    valid_from: int
    test_from: int
    last: int
    judged_at_events: bool

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


def count_until(events: Events, user: Int64, moment: Int64 | int) -> Int64:
    """(R,): for each user and moment, the end of that user's events at or before it, as a place in the flat columns.

    A binary search in all users' events at once: as many passes as the longest history has bits.
    """
    low, high = events.offset[user], events.offset[user + 1]
    while (open_ := low < high).any():
        middle = (low + high) // 2
        known = events.time[np.minimum(middle, len(events.time) - 1)] <= moment
        low, high = np.where(open_ & known, middle + 1, low), np.where(open_ & ~known, middle, high)
    return low


def all_cuts(events: Events, calendar: Calendar, splits: Sequence[int] = (TRAIN, VALID, TEST)) -> Iterator[Cuts]:
    """Every row of these splits, in blocks."""
    for split in splits:
        if split == TRAIN:
            yield from window_cuts(events, calendar)
        if split == TRAIN or not calendar.judged_at_events:
            yield from calendar_cuts(events, calendar, split)
        else:
            yield from event_cuts(events, calendar, split)


def window_cuts(events: Events, calendar: Calendar) -> Iterator[Cuts]:
    """Training rows after each `stride` events, and after a user's last one; of two events at least.

    A cut waits for the last event of its moment: what happened at the same time is known together.
    """
    first = events.offset[:-1]
    users = np.arange(len(first))
    until = count_until(events, users, calendar.extent(TRAIN)[1])
    user = events.user
    place = np.arange(len(events.time))
    in_time = place < until[user]
    asked = in_time & (((place - first[user] + 1) % calendar.stride == 0) | (place == until[user] - 1))
    closing = np.flatnonzero(events.closes_moment)
    end = np.unique(closing[np.searchsorted(closing, np.flatnonzero(asked))]) + 1
    end = end[end - first[user[end - 1]] >= 2]
    yield from _after_events(events, calendar, end, TRAIN, WINDOW)


def event_cuts(events: Events, calendar: Calendar, split: int) -> Iterator[Cuts]:
    """Rows of every user at each moment of the split at which something happened and after which something can."""
    start, last = calendar.extent(split)
    yield from _after_events(
        events, calendar, np.flatnonzero(events.closes_moment & (events.time >= start) & (events.time < last)) + 1, split, EVENT
    )


def _after_events(events: Events, calendar: Calendar, end: Int64, split: int, cut: int) -> Iterator[Cuts]:
    """A row after each of these ends of moments (rising)."""
    user = np.searchsorted(events.offset, end - 1, side="right") - 1
    as_of = events.time[end - 1]
    same_user = np.append(False, user[1:] == user[:-1])[: len(end)]
    earlier = np.where(same_user, np.append(0, end[:-1])[: len(end)], events.offset[user])
    stop = count_until(events, user, np.minimum(as_of + calendar.horizon, calendar.extent(split)[1]))
    yield Cuts(split=split, cut=cut, user=user, as_of=as_of, end=end, earlier=earlier, stop=stop)


def calendar_cuts(events: Events, calendar: Calendar, split: int) -> Iterator[Cuts]:
    """Rows of every user at each of the split's moments, from the user's first event on."""
    oldest, newest = calendar.moments(split)
    if newest < oldest:
        return
    users = np.flatnonzero(np.diff(events.offset))
    first = events.time[events.offset[users]]
    users, first = users[first <= newest], first[first <= newest]
    num_back = (newest - np.maximum(first, oldest)) // calendar.every  # each user's first row is so many moments before the newest
    ends = np.cumsum(num_back + 1)
    for start in range(0, int(ends[-1]) if len(ends) else 0, BLOCK_NUMBERS):  # a long calendar has far more rows than there are events
        row = np.arange(start, min(start + BLOCK_NUMBERS, int(ends[-1])))
        whose = np.searchsorted(ends, row, side="right")
        user, back = users[whose], ends[whose] - 1 - row
        as_of = newest - back * calendar.every
        before = np.where(back == num_back[whose], SMALLEST, as_of - calendar.every)
        yield Cuts(
            split=split,
            cut=CALENDAR,
            user=user,
            as_of=as_of,
            end=count_until(events, user, as_of),
            earlier=count_until(events, user, before),
            stop=count_until(events, user, np.minimum(as_of + calendar.horizon, calendar.extent(split)[1])),
        )


def lay_out(events: Events, cuts: Cuts, length: int, labels: Sequence[Label]) -> Iterator[tuple[Cuts, dict[str, Int32]]]:
    """Blocks of rows: their cuts, and their columns by name: features (R, T) left-padded, length, fresh and recency (R,), labels.

    A user without a known event has length 0, recency UNKNOWN, and nothing but padding.
    """
    padded = {name: np.append(column, np.int32(PAD)) for name, column in events.features.items()}
    for block in _blocks(cuts, length):
        first = events.offset[block.user]
        place = block.end[:, None] + np.arange(-length, 0)  # (R, T)
        place = np.where(place >= first[:, None], place, len(events.time))
        columns = {name: column[place] for name, column in padded.items()}
        known = block.end > first
        last_event = np.append(events.time, 0)[np.where(known, block.end - 1, len(events.time))]
        columns["length"] = np.minimum(block.end - first, length).astype(np.int32)
        columns["fresh"] = np.minimum(block.end - block.earlier, length).astype(np.int32)
        columns["recency"] = gap_bucket(np.where(known, (block.as_of - last_event) / 1e6, np.nan))
        future = Future(start=block.end, stop=block.stop, item=events.features["item"], event=events.features["event"])
        columns |= {label.name: label.compute(future) for label in labels}
        yield block, columns


def _blocks(cuts: Cuts, length: int) -> Iterator[Cuts]:
    """Runs of rows that are small enough together: a row of its own where its future alone is too long."""
    most = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // length))
    followed = np.append(0, np.cumsum(cuts.stop - cuts.end))
    start = 0
    while start < len(cuts):
        by_future = int(np.searchsorted(followed, followed[start] + BLOCK_NUMBERS, side="right")) - 1
        stop = min(start + most, max(start + 1, by_future))
        yield cuts.rows(start, stop)
        start = stop


def local_hours(time: Int64, offsets: tuple[Int64, Int64]) -> tuple[Int64, Int64]:
    """(N,) hour of the day, (N,) day of the week (Monday 0), in the zone of these `offsets`: from each moment on, so many microseconds."""
    since, offset = offsets
    hours = (time + offset[np.maximum(np.searchsorted(since, time, side="right") - 1, 0)]) // 3_600_000_000
    return hours % 24, (hours // 24 + 3) % 7  # 1970 began on a Thursday
