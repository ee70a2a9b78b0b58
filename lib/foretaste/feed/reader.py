"""A pinned table version → Petastorm → Batch. Each rank reads its own row groups; `order` says which rows and when.

Petastorm's `make_batch_reader` makes a `Reader` around its own arrow worker. The same Reader is made here around another worker
and an explicit list of row groups, because the stock ones (0.13.1)
- shard by row group number, which is neither even nor exact,
- read the footers of all files in every rank and epoch, and each file's twice more for every row group,
- build a Python object for each list of each column,
- and, with small row groups and several threads, give them in another order, or end before all were read (both seen often).
What is left to it: the threads, the bounded queues between them and us, and the supply of work in order.
"""

import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch
from fsspec.implementations.arrow import ArrowFSWrapper  # type: ignore[import-untyped]
from petastorm.reader import Reader
from petastorm.workers_pool import EmptyResultError
from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator
from petastorm.workers_pool.worker_base import WorkerBase
from pyarrow.filesystem import DaskFileSystem

from foretaste.contract import SCALARS, Batch
from foretaste.errors import FeedError
from foretaste.feed.blocks import Blocks, Columns
from foretaste.feed.groups import RowGroups
from foretaste.feed.order import Order, Section, steps_per_epoch
from foretaste.feed.snapshot import Pin, filesystem_of, open_parquet

_QUEUED = 1024  # row groups that wait for a thread: numbers, no data


def batches(
    pin: Pin,
    *,
    rank: int = 0,
    size: int = 1,
    batch_size: int,
    features: Sequence[str],
    labels: Sequence[str] = (),
    facts: Sequence[str] = (),
    epoch: int = 0,
    seed: int = 0,
    shuffle: bool = True,
    drop_uneven: bool = True,
    num_threads: int = 2,
) -> Generator[Batch[torch.Tensor], None, None]:
    """One rank's part of one epoch, in batches of int32 tensors that share no memory with later ones.

    batch_size:  rows in a step over all `size` ranks; a rank's share of it is `order.share`
    shuffle:     row groups, and rows in them, in an order of (seed, epoch); else in the table's own, the remainder always its last rows
    drop_uneven: leave out the rows that fill no global batch, so that all ranks take the same steps (`steps_per_epoch`); else they
                 come last, shared out too, each row once: ranks may then take a step more or less than others
    Same arguments, same batches, whatever the number of threads. Close the iterator to stop early: that ends its threads.
    FeedError where ranks, rows and batch size do not go together, and where a file is gone, cut short or lacks a column.
    """
    if drop_uneven:
        steps_per_epoch(pin, size, batch_size)  # refuses now, and not on the first batch
    order = Order(pin, batch_size=batch_size, epoch=epoch, seed=seed, shuffle=shuffle)
    sections = order.sections(rank=rank, size=size, drop_uneven=drop_uneven)
    columns = (*features, *SCALARS, *labels, *facts)
    return _to_torch(columns_of(pin, order, sections, columns, num_threads), features, labels, facts)


def _to_torch(
    steps: Generator[Columns, None, None], features: Sequence[str], labels: Sequence[str], facts: Sequence[str]
) -> Generator[Batch[torch.Tensor], None, None]:
    with closing(steps):
        for step in steps:
            scalars = {name: torch.from_numpy(step[name]) for name in SCALARS}
            yield Batch(
                features={name: torch.from_numpy(step[name]) for name in features},
                labels={name: torch.from_numpy(step[name]) for name in labels},
                facts={name: torch.from_numpy(step[name]) for name in facts},
                **scalars,
            )


def columns_of(
    pin: Pin, order: Order, sections: Sequence[Section], columns: Sequence[str], num_threads: int
) -> Generator[Columns, None, None]:
    """The steps of these sections: column → (share,) or (share, T). What is held is bounded, whatever the table's size."""
    blocks = Blocks(order, sections)
    if not blocks.num_reads:
        return
    groups = RowGroups(pin, order, columns)
    with closing(groups), closing(_PinnedReader(groups, blocks, num_threads)) as reader:
        placed = reader.in_order()
        num_placed = 0
        for number, block in enumerate(blocks.blocks):
            for _ in range(num_placed, block.num_reads):
                next(placed)
            num_placed = block.num_reads
            yield from blocks.take(number)


class _Worker(WorkerBase):  # type: ignore[misc]
    """Runs in Petastorm's threads."""

    def process(self, groups: RowGroups, blocks: Blocks, number: int) -> None:
        """Says that a read was placed, or what kept it from that: an error that is raised here would end the thread with a stack trace."""
        try:
            blocks.place(number, groups.load(blocks.group(number)))
        except FeedError as error:
            self.publish_func((number, error))
        else:
            self.publish_func((number, None))

    @staticmethod
    def new_results_queue_reader() -> "_Results":
        return _Results()


class _Results:
    """Hands results from Petastorm's queues on as they are."""

    batched_output = True

    def read_next(self, pool: Any, schema: Any, ngram: Any) -> Any:
        try:
            return pool.get_results()
        except EmptyResultError:
            raise StopIteration from None


class _FirstFile(DaskFileSystem):  # type: ignore[misc]
    """A file system in the old form that Petastorm needs, good enough to read one file's schema."""

    def isdir(self, path: str) -> bool:
        return False

    def isfile(self, path: str) -> bool:
        return True


class _PinnedReader(Reader):  # type: ignore[misc]
    """Petastorm's Reader over a given list of row groups, in the list's order."""

    def __init__(self, groups: RowGroups, blocks: Blocks, num_threads: int) -> None:
        self._groups, self._blocks = groups, blocks
        first_url = groups.url(blocks.group(0))
        filesystem, path = filesystem_of(first_url)
        open_parquet(first_url).close()  # a file that is gone or cut short is named by our error, not by Petastorm's
        # A result is followed by a message that it is done, so each takes two places in the queues.
        pool = ThreadPool(num_threads, results_queue_size=2 * groups.groups_ahead)
        with warnings.catch_warnings():
            # Petastorm uses parts of pyarrow that later versions drop; the lock file holds the version that has them.
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*(deprecated|legacy)")
            warnings.filterwarnings("ignore", category=UserWarning, message="Column .* has an unsupported field")  # we read none of them
            super().__init__(
                _FirstFile(ArrowFSWrapper(filesystem)),
                [path],
                schema_fields=groups.columns,
                reader_pool=pool,
                worker_class=_Worker,
                shuffle_row_groups=False,
                is_batched_reader=True,
            )

    def _create_ventilator(self, *_: Any) -> ConcurrentVentilator:
        """Replaces the first file's row groups by ours."""
        read = partial(self._workers_pool.ventilate, groups=self._groups, blocks=self._blocks)
        work = [{"number": number} for number in range(self._blocks.num_reads)]  # of numbers alone: nothing for a garbage collector
        return ConcurrentVentilator(read, work, iterations=1, max_ventilation_queue_size=_QUEUED)

    def in_order(self) -> Iterator[None]:
        """Once for each row group of the list, in the list's order, when its rows have been placed: whichever thread was first."""
        early: dict[int, FeedError | None] = {}
        for number in range(self._blocks.num_reads):
            while number not in early:
                ready, failed = self._next_result()
                early[ready] = failed
            error = early.pop(number)
            if error is not None:
                raise error
            yield

    def _next_result(self) -> tuple[int, FeedError | None]:
        # Petastorm says that all is done when its threads are idle and the last work was handed out, also if that happened in between.
        for _ in range(1000):
            try:
                result: tuple[int, FeedError | None] = next(self)
            except StopIteration:
                time.sleep(0.001)
            else:
                return result
        raise FeedError("Petastorm stopped before the last row group", where=self._groups.pin.where, fix="Run the job again.")

    def close(self) -> None:
        """Ends the threads, and waits until they have."""
        self.stop()
        self.join()
