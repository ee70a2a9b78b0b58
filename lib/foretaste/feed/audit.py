"""Counts how often each row of a pinned version comes out of the feed, by reading it as training does."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from foretaste.feed.groups import POSITION
from foretaste.feed.order import Order, remainder, steps_per_epoch
from foretaste.feed.reader import columns_of
from foretaste.feed.snapshot import Pin


@dataclass(frozen=True, kw_only=True)
class EpochAudit:
    """One epoch over all ranks.

    steps:      steps of each rank
    seen:       rows that came at least once; seen_twice: more than once; never_seen: the others
    remainder:  rows that the epoch is meant to leave out
    """

    epoch: int
    steps: tuple[int, ...]
    seen: int
    seen_twice: int
    never_seen: int
    remainder: int

    @property
    def is_exact(self) -> bool:
        """Every row once, but for the remainder, in as many steps on each rank."""
        return self.seen_twice == 0 and self.never_seen == self.remainder and len(set(self.steps)) == 1


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Some epochs; never_seen: rows that came in none of them."""

    num_rows: int
    size: int
    epochs: tuple[EpochAudit, ...]
    never_seen: int

    @property
    def is_exact(self) -> bool:
        return all(epoch.is_exact for epoch in self.epochs)


def audit(pin: Pin, size: int, batch_size: int, epochs: Iterable[int], seed: int, *, num_threads: int = 2) -> Audit:
    """Reads the given epochs, each with `size` ranks one after another, through the same reader as training.

    A row is known by its place in the pin (file, row group, row), which takes the way of a data column. Holds two bytes a row.
    """
    steps_per_epoch(pin, size, batch_size)
    ever_seen = np.zeros(pin.num_rows, dtype=bool)
    audits = []
    for epoch in epochs:
        order = Order(pin, batch_size=batch_size, epoch=epoch, seed=seed, shuffle=True)
        times = np.zeros(pin.num_rows, dtype=np.uint8)
        steps = []
        for rank in range(size):
            sections = order.sections(rank=rank, size=size, drop_uneven=True)
            count = 0
            for step in columns_of(pin, order, sections, ("length", POSITION), num_threads):
                np.add.at(times, step[POSITION], 1)
                count += 1
            steps.append(count)
        ever_seen |= times > 0
        audits.append(
            EpochAudit(
                epoch=epoch,
                steps=tuple(steps),
                seen=int((times > 0).sum()),
                seen_twice=int((times > 1).sum()),
                never_seen=int((times == 0).sum()),
                remainder=remainder(pin, batch_size),
            )
        )
    return Audit(num_rows=pin.num_rows, size=size, epochs=tuple(audits), never_seen=int((~ever_seen).sum()))
