"""Row groups → steps: each thread puts the rows that it has read to their places in the steps to come. numpy only.

A row group's rows go to steps that follow one another, a few to each (`order`). They are written there by the thread that has decoded
them, while a processor's cache still holds them: nothing but steps is kept, in blocks of some that follow one another.
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
_BLOCK = Read._fields.index("block")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some steps of `share` rows each. num_reads: how many of the reads, in their order, bring all of its rows"""

    num_steps: int
    share: int
    num_reads: int


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A section in blocks of so many steps, the last one maybe of fewer.

    reads: (reads, fields of `Read`); first_block, first_read: where its blocks and reads begin among all
    """

    section: Section
    steps_at_once: int
    reads: NDArray[np.int64]
    first_block: int
    first_read: int


class Blocks:
    """The steps of some sections, and the reads that fill them, both in the order in which they are needed."""

    def __init__(self, order: Order, sections: Sequence[Section]) -> None:
        self.blocks: list[Block] = []
        self.num_reads = 0
        self._order = order
        self._parts: list[_Part] = []
        for section in sections:
            at_once = max(1, BLOCK_ROWS // section.share)
            reads = order.reads(section, at_once)
            part = _Part(section=section, steps_at_once=at_once, reads=reads, first_block=len(self.blocks), first_read=self.num_reads)
            self._parts.append(part)
            starts = np.arange(0, section.num_steps, at_once)
            needed = self.num_reads + np.searchsorted(reads[:, _BLOCK], np.arange(len(starts)), side="right")
            for start, num_reads in zip(starts.tolist(), needed.tolist(), strict=True):
                self.blocks.append(Block(num_steps=min(at_once, section.num_steps - start), share=section.share, num_reads=num_reads))
            self.num_reads += len(reads)
        self._lock = threading.Lock()
        self._filled: dict[int, Columns] = {}  # a block's number → what is there of it

    def group(self, number: int) -> int:
        """The row group of read number `number`, as its place in the order."""
        return self._read(number)[1].place

    def place(self, number: int, columns: Columns) -> None:
        """Writes the rows of read number `number` to their steps. columns: its row group's, (rows,) or (rows, T) each"""
        part, read = self._read(number)
        lane = part.section.lanes[read.lane]
        rows = lane.row(np.arange(read.first, read.last)) - self._order.bounds[read.place]
        index = self._order.permutation(read.place)[rows]
        runs = [
            (self._block(part.first_block + block, columns), places, taken)
            for block, places, taken in _runs(read, lane.offset, lane.width, part.steps_at_once)
        ]
        for name, column in columns.items():
            ordered = column.take(index, axis=0)
            for block, places, taken in runs:
                target = block[name][places]
                target[...] = ordered[taken].reshape(target.shape)

    def take(self, number: int) -> Iterator[Columns]:
        """The steps of a block whose reads have all been placed: column → (share,) or (share, T). They are forgotten here."""
        columns = self._filled.pop(number)
        for step in range(self.blocks[number].num_steps):
            yield {name: column[step] for name, column in columns.items()}

    def _read(self, number: int) -> tuple[_Part, Read]:
        part = next(part for part in reversed(self._parts) if number >= part.first_read)
        return part, Read(*part.reads[number - part.first_read].tolist())

    def _block(self, number: int, columns: Columns) -> Columns:
        """(steps, share, …) each; made for whoever comes first."""
        with self._lock:
            if number not in self._filled:
                block = self.blocks[number]
                self._filled[number] = _empty((block.num_steps, block.share), columns)
            return self._filled[number]


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

    Which of the section's blocks; steps in it, and positions in each of them; rows, counted from the read's first.
    """
    row = read.first
    while row < read.last:
        step, inside = divmod(row, width)
        block, first = step // steps_at_once, step // steps_at_once * steps_at_once
        whole_until = min(read.last // width, first + steps_at_once)
        if inside or whole_until <= step:
            until, steps = min(read.last, (step + 1) * width), slice(step - first, step - first + 1)
        else:
            until, steps = whole_until * width, slice(step - first, whole_until - first)
        positions = slice(offset + inside, offset + inside + (until - row) // (steps.stop - steps.start))
        yield block, (steps, positions), slice(row - read.first, until - read.first)
        row = until
