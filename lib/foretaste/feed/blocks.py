"""Row groups → steps: each thread puts the rows that it has read to their places in the steps to come. numpy only.

A row group's rows go to steps that follow one another, a few to each (`order`). They are written there by the thread that has decoded
them, while a processor's cache still holds them, so that nothing but steps is kept, and no row is copied twice.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretaste.feed.order import Order, Read, Section

Columns = dict[str, NDArray[Any]]

BLOCK_ROWS = 8192  # rows of the steps that share one memory; a single step may have more
_ALIGNED = 64  # bytes


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some steps of a section, one after another.

    num_reads: how many of the reads, in their order, bring all of its rows
    """

    section: int
    first: int
    num_steps: int
    num_reads: int


class Blocks:
    """The steps of some sections, and the reads that fill them, both in the order in which they are needed."""

    def __init__(self, order: Order, sections: Sequence[Section]) -> None:
        self._order, self._sections = order, sections
        self._steps_at_once = [max(1, BLOCK_ROWS // section.share) for section in sections]
        self.reads: list[Read] = []
        self.blocks: list[Block] = []
        self._of_read: list[int] = []  # a read's section
        for number, (section, at_once) in enumerate(zip(sections, self._steps_at_once, strict=True)):
            reads = order.reads(section, at_once)
            begins = np.array([read.first // (section.lanes[read.lane].width * at_once) for read in reads], dtype=np.int64)
            firsts = range(0, section.num_steps, at_once)
            needed = len(self.reads) + np.searchsorted(begins, np.arange(len(firsts)), side="right")
            for first, num_reads in zip(firsts, needed.tolist(), strict=True):
                num_steps = min(at_once, section.num_steps - first)
                self.blocks.append(Block(section=number, first=first, num_steps=num_steps, num_reads=num_reads))
            self.reads += reads
            self._of_read += [number] * len(reads)
        self._lock = threading.Lock()
        self._filled: dict[tuple[int, int], Columns] = {}  # (section, first step) → what is there of it

    def place(self, number: int, columns: Columns) -> None:
        """Writes the rows of read number `number` to their steps. columns: its row group's, (rows,) or (rows, T) each"""
        read, of = self.reads[number], self._of_read[number]
        section = self._sections[of]
        lane = section.lanes[read.lane]
        rows = lane.row(np.arange(read.first, read.last)) - self._order.bounds[read.place]
        index = self._order.permutation(read.place)[rows]
        runs = [
            (self._block(of, first, columns), places, taken)
            for first, places, taken in _runs(read, lane.offset, lane.width, self._steps_at_once[of])
        ]
        for name, column in columns.items():
            ordered = column.take(index, axis=0)
            for block, places, taken in runs:
                target = block[name][places]
                target[...] = ordered[taken].reshape(target.shape)

    def take(self, block: Block) -> Iterator[Columns]:
        """The steps of a block whose reads have all been placed: column → (share,) or (share, T). They are forgotten here."""
        columns = self._filled.pop((block.section, block.first))
        for step in range(block.num_steps):
            yield {name: column[step] for name, column in columns.items()}

    def _block(self, of: int, first: int, columns: Columns) -> Columns:
        """The block that begins with this step, (steps, share, …) each; made for whoever comes first."""
        section = self._sections[of]
        shape = (min(self._steps_at_once[of], section.num_steps - first), section.share)
        with self._lock:
            if (of, first) not in self._filled:
                self._filled[of, first] = _empty(shape, columns)
            return self._filled[of, first]


def _empty(shape: tuple[int, int], like: Columns) -> Columns:
    """(steps, share, …) for each of these columns, (rows, …), all in one piece: large pieces get large pages, which are filled faster."""
    sizes = {name: math.prod((*shape, *column.shape[1:])) * column.dtype.itemsize for name, column in like.items()}
    ends = np.cumsum([-(-size // _ALIGNED) * _ALIGNED for size in sizes.values()])
    parts = np.split(np.empty(ends[-1], np.uint8), ends[:-1])
    return {
        name: part[: sizes[name]].view(column.dtype).reshape(*shape, *column.shape[1:])
        for part, (name, column) in zip(parts, like.items(), strict=True)
    }


def _runs(read: Read, offset: int, width: int, steps_at_once: int) -> Iterator[tuple[int, tuple[slice, slice], slice]]:
    """A read's rows in runs: whole steps of a lane within one block, or a part of one step.

    First step of the block; steps in it, and positions in each of them; rows, counted from the read's first.
    """
    row = read.first
    while row < read.last:
        step, inside = divmod(row, width)
        first = step // steps_at_once * steps_at_once
        whole_until = min(read.last // width, first + steps_at_once)
        if inside or whole_until <= step:
            until, steps = min(read.last, (step + 1) * width), slice(step - first, step - first + 1)
        else:
            until, steps = whole_until * width, slice(step - first, whole_until - first)
        positions = slice(offset + inside, offset + inside + (until - row) // (steps.stop - steps.start))
        yield first, (steps, positions), slice(row - read.first, until - read.first)
        row = until
