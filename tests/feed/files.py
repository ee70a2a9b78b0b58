"""Parquet files with the columns of `sequences`, whose rows carry a number in their last item. No Spark."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from foretaste.contract import Batch
from foretaste.feed.order import remainder
from foretaste.feed.reader import batches
from foretaste.feed.snapshot import Pin, row_groups_of

LENGTH = 3
FIRST_NUMBER = 100


def rows(numbers: Iterable[int]) -> pa.Table:
    """A row for each number n: item [0, 0, n], event [0, 0, n mod 7], length 1, recency n, next_items [n, 0], returns n mod 2."""
    n = list(numbers)
    columns = {
        "user_id": pa.array([f"u{number}" for number in n], pa.string()),
        "item": _lists([0] * (LENGTH - 1) + [number] for number in n),
        "event": _lists([0] * (LENGTH - 1) + [number % 7] for number in n),
        "length": pa.array([1] * len(n), pa.int32()),
        "fresh": pa.array([1] * len(n), pa.int32()),
        "recency": pa.array(n, pa.int32()),
        "next_items": _lists([number, 0] for number in n),
        "returns": pa.array([number % 2 for number in n], pa.int32()),
    }
    return pa.table(columns)


def write(folder: Path, sizes: Sequence[Sequence[int]]) -> Pin:
    """A file for each entry of `sizes`, with row groups of those numbers of rows; numbers from FIRST_NUMBER on, in order."""
    number, files = FIRST_NUMBER, []
    for index, groups in enumerate(sizes):
        path = folder / f"part-{index:05d}.parquet"
        with pq.ParquetWriter(path, rows([]).schema) as writer:
            for size in groups:
                writer.write_table(rows(range(number, number + size)))
                number += size
        files.append((f"file://{path}", row_groups_of(f"file://{path}")))
    return pinned(files)


def pinned(files: Sequence[tuple[str, tuple[int, ...]]]) -> Pin:
    num_rows = sum(sum(groups) for _, groups in files)
    return Pin(table="sequences", version=3, split="train", cut="window", num_rows=num_rows, files=tuple(files))


def numbers(batch: Batch[torch.Tensor]) -> list[int]:
    """Which rows a batch holds."""
    return batch.item[:, -1].tolist()  # type: ignore[no-any-return]


def read(pin: Pin, **options: Any) -> list[list[int]]:
    """The rows of each of a rank's steps."""
    return [numbers(batch) for batch in batches(pin, features=["item"], **options)]


def read_all(pin: Pin, size: int, **options: Any) -> list[list[list[int]]]:
    """The rows of each step of each rank."""
    return [read(pin, rank=rank, size=size, **options) for rank in range(size)]


def left_out(pin: Pin, size: int, batch_size: int, epoch: int) -> set[int]:
    """The rows that no rank sees in an epoch; there are as many as `remainder` says."""
    seen = {n for rank in read_all(pin, size, batch_size=batch_size, epoch=epoch) for step in rank for n in step}
    missing = set(range(FIRST_NUMBER, FIRST_NUMBER + pin.num_rows)) - seen
    assert len(missing) == remainder(pin, batch_size)
    return missing


def _lists(values: Iterable[list[int]]) -> pa.Array:
    return pa.array(list(values), pa.list_(pa.int32()))
