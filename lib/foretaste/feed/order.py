"""Which rows each step takes, and which of them each rank: fixed by pin, batch size, epoch and seed. numpy only.

An epoch lays all rows in one order: row groups shuffled (file by file, so that few files are open at a time), rows shuffled
inside each. The first num_steps · batch_size rows of it are cut into equal **streams**, and every global batch takes its
next few rows from each stream:

    order    |<------ stream 0 ------>|<------ stream 1 ------>|<------ stream 2 ------>|<-remainder->|
    step 0    000                      000                      000
    step 1       111                      111                      111

Rank r of N takes the positions [r·B/N, (r+1)·B/N) of every batch. So:
- A step's rows are the same set whatever the number of ranks, for row groups of any size: N ranks equal one process.
- Ranks take the same number of steps, and shares of a batch that differ by one row at most.
- A rank reads only the row groups of its own streams: 1/N of the table, and at its borders one row group twice for each stream.
  (Beyond NUM_STREAMS ranks, or for tables of few row groups, ranks share streams, and so read the same row groups.)
- A batch mixes up to NUM_STREAMS places of the table, however the table was appended to.
- The remainder, less than one batch, comes from other row groups in the next epoch, and so is seen there
  (from other rows at random where the row groups are too few for that).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretaste.errors import FeedError
from foretaste.feed.snapshot import Pin

NUM_STREAMS = 32  # row groups that one batch is mixed from, at most: a process holds the rows of so many
ROWS_HELD = 65536  # fewer streams where row groups are so large that more rows than this would be held …
FEWEST_STREAMS = 4  # … but not fewer than this
GROUPS_PER_STREAM = 4  # at least; shorter streams would read too many row groups twice
_BASE, _EPOCH, _ROWS = 0, 1, 2  # what a random generator is for


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A rank's part of one stream: rows [start + k·stride, start + k·stride + width) of the order at step k.

    offset: where these rows stand in the rank's part of the batch
    """

    offset: int
    width: int
    start: int
    stride: int

    def row(self, ordinal: NDArray[np.int64]) -> NDArray[np.int64]:
        """The place in the order of the lane's rows number `ordinal`, counted from its first step on."""
        return self.start + ordinal // self.width * self.stride + ordinal % self.width

    def count_before(self, row: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of the lane's rows come before these places in the order."""
        ahead = np.maximum(row - self.start, 0)
        before: NDArray[np.int64] = ahead // self.stride * self.width + np.minimum(ahead % self.stride, self.width)
        return before


@dataclass(frozen=True, kw_only=True)
class Section:
    """Steps in a row that all take `share` rows on this rank, in lanes."""

    num_steps: int
    share: int
    lanes: tuple[Lane, ...]


class Read(NamedTuple):
    """A row group that a lane needs: its rows number [first, last) lie in it.

    place: which row group, as its place in the order
    block: in which run of steps that are put together the first of these rows stands
    """

    place: int
    lane: int
    block: int
    first: int
    last: int


def share(batch_size: int, rank: int, size: int) -> tuple[int, int]:
    """The positions [first, last) of a global batch that a rank takes."""
    return rank * batch_size // size, (rank + 1) * batch_size // size


def steps_per_epoch(pin: Pin, size: int, batch_size: int, epoch: int = 0, seed: int = 0) -> int:
    """Steps that every rank takes in an epoch without its uneven last batch: the same in each epoch, from the pin alone.

    FeedError where so many ranks cannot share the pin's row groups or a batch, or where there is not one whole batch.
    """
    del epoch, seed  # the order of rows depends on them, their number does not
    if size > pin.num_row_groups:
        largest = max(rows for _, groups in pin.files for rows in groups)
        raise FeedError(
            f"{size} ranks cannot share {pin.num_row_groups} row groups",
            where=pin.where,
            fix=f"Set training.workers to {pin.num_row_groups} or less, or sequences.rows_per_group below {largest} "
            "and write sequences again.",
        )
    if size > batch_size:
        raise FeedError(
            f"{size} ranks cannot share a global batch of {batch_size} rows",
            where=pin.where,
            fix="Raise fit.batch_size, or lower training.workers.",
        )
    if batch_size > pin.num_rows:
        raise FeedError(
            f"there are only {pin.num_rows} rows, less than one batch of {batch_size}",
            where=pin.where,
            fix="Lower fit.batch_size, or give the split more time.",
        )
    return pin.num_rows // batch_size


def remainder(pin: Pin, batch_size: int) -> int:
    """Rows that an epoch leaves out because they fill no batch: fewer than batch_size, other ones in the next epoch."""
    return pin.num_rows % batch_size


class Order:
    """The order of one epoch.

    place → row group: file (index into pin.files), group (index in that file), first_row (its first row's number in the pin),
    bounds (place in the order of its first row; one more than there are row groups). All (G,) int64.
    """

    def __init__(self, pin: Pin, *, batch_size: int, epoch: int, seed: int, shuffle: bool) -> None:
        self.num_rows = pin.num_rows
        self.batch_size = batch_size
        self.num_steps = pin.num_rows // batch_size
        self._epoch, self._seed, self._shuffle = epoch, seed % 2**32, shuffle

        sizes = [len(groups) for _, groups in pin.files]
        rows = np.array([count for _, groups in pin.files for count in groups], dtype=np.int64)
        file = np.repeat(np.arange(len(sizes)), sizes)
        group = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        first_row = np.cumsum(rows) - rows
        kept = np.flatnonzero(rows)

        order = kept[self._shuffled(rows[kept], file[kept], tail=remainder(pin, batch_size))] if shuffle else kept
        self.file, self.group, self.first_row, self.rows = file[order], group[order], first_row[order], rows[order]
        self.bounds = np.concatenate([[0], np.cumsum(self.rows)])
        by_size = max(FEWEST_STREAMS, ROWS_HELD // int(rows.max()))
        self.num_streams = min(NUM_STREAMS, by_size, batch_size, max(1, len(order) // GROUPS_PER_STREAM))

    def sections(self, *, rank: int, size: int, drop_uneven: bool) -> list[Section]:
        """What a rank takes in the epoch: the even steps, then the uneven last one where it is wanted and has rows for this rank."""
        low, high = share(self.batch_size, rank, size)
        edges = [stream * self.batch_size // self.num_streams for stream in range(self.num_streams + 1)]
        lanes = tuple(
            Lane(
                offset=max(first, low) - low,
                width=min(last, high) - max(first, low),
                start=self.num_steps * first + max(first, low) - first,
                stride=last - first,
            )
            for first, last in pairwise(edges)
            if max(first, low) < min(last, high)
        )
        sections = [Section(num_steps=self.num_steps, share=high - low, lanes=lanes)]
        if not drop_uneven:
            even = self.num_steps * self.batch_size
            low, high = share(self.num_rows - even, rank, size)
            width = high - low
            sections.append(Section(num_steps=1, share=width, lanes=(Lane(offset=0, width=width, start=even + low, stride=width),)))
        return [section for section in sections if section.num_steps and section.share]

    def reads(self, section: Section, steps_at_once: int) -> NDArray[np.int64]:
        """The section's row groups in the order in which they are needed, if `steps_at_once` steps are put together, lane after lane.

        (reads, fields of `Read`): a large table has so many that objects would set off Python's garbage collector before the first batch.
        """
        found = []
        for number, lane in enumerate(section.lanes):
            end = lane.start + (section.num_steps - 1) * lane.stride + lane.width
            low, high = np.searchsorted(self.bounds, [lane.start + 1, end])
            places = np.arange(low - 1, high)
            counts = np.minimum(lane.count_before(self.bounds[low - 1 : high + 1]), section.num_steps * lane.width)
            first, last = counts[:-1], counts[1:]
            read = np.stack([places, np.full_like(places, number), first // (lane.width * steps_at_once), first, last])
            found.append(read[:, first < last])
        reads: NDArray[np.int64] = np.concatenate(found, axis=1)
        place, lane_number, block = reads[:3]
        return reads[:, np.lexsort((place, lane_number, block))].T

    def permutation(self, place: int) -> NDArray[np.int64]:
        """The order of the rows inside a row group: the same on every rank that reads it."""
        rows = int(self.rows[place])
        if not self._shuffle:
            return np.arange(rows)
        return np.random.default_rng([_ROWS, self._seed, self._epoch, int(self.first_row[place])]).permutation(rows)

    def _shuffled(self, rows: NDArray[np.int64], file: NDArray[np.int64], tail: int) -> NDArray[np.int64]:
        """A permutation of the row groups whose last ones, that hold the remainder's `tail` rows, change with each epoch.

        The `turn` smallest row groups would hold that many rows; so do any `turn` of them. They are taken from a circle that
        the seed fixes, the next `turn` in each epoch: no row group is among them in two epochs in a row, if there are 2 · turn.
        """
        turn = int(np.searchsorted(np.cumsum(np.sort(rows)), tail)) + 1 if tail else 0
        circle = np.roll(np.random.default_rng([_BASE, self._seed]).permutation(len(rows)), -self._epoch * turn)
        last, head = circle[:turn], circle[turn:]
        random = np.random.default_rng([_EPOCH, self._seed, self._epoch])
        file_key, group_key = random.random(int(file.max()) + 1), random.random(len(rows))
        return np.concatenate([head[np.lexsort((group_key[head], file_key[file[head]]))], random.permutation(last)])
