"""The feed beside pyarrow alone: rows of `sequences` into torch tensors, all features and the label of interest, on the same cores.

python bench/feed.py --events 10000000 --rounds 5

pyarrow.dataset reads the same files in their order, in its own threads; the feed shuffles row groups and rows, and gives each rank its
share. Both give batches of int32 tensors; their sums are compared first. Told are rows a second of both in turn, of so many rows, and the
time to the feed's first batch of these and of ten times as many. They are the files of a table under more names. Events are made up
(bench/made_events.py).
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import unquote, urlsplit

import pyarrow.dataset as ds
import torch
import typer
from compared import console, in_turn, keep, ratio, tell
from made_events import made_shop
from torch import Tensor

from foretaste.contract import FEATURES, SCALARS
from foretaste.feed.pin import pin
from foretaste.feed.reader import batches
from foretaste.feed.snapshot import Pin
from foretaste.scoring.arrow import to_batch
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize

LABEL = "next_items"
CUT = "window"  # what interest learns from
FEED, RAW = "feed", "pyarrow.dataset"
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes to it


def main(
    events: Annotated[int, typer.Option(help="how many the sequences are made of")] = 10_000_000,
    rows: Annotated[int, typer.Option(help="that both read, at least")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="of both, in turn")] = 5,
    batch_size: Annotated[int, typer.Option(help="rows")] = 256,
    folder: Annotated[Path, typer.Option(help="where events and warehouses go")] = Path("warehouse/bench"),
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    pinned = _pinned(folder, events)
    with TemporaryDirectory(dir=folder.resolve()) as place:
        pins = {f"{wanted:,} rows": _grown(pinned, wanted, Path(place)) for wanted in (rows, 10 * rows)}
        few, many = pins
        sides = {FEED: lambda seed: _feed(pins[few], batch_size, seed), RAW: lambda seed: _raw(pins[few], batch_size)}
        sums = {side: _sums(read(0)) for side, read in sides.items()}
        if sums[FEED] != sums[RAW]:
            raise SystemExit(f"the tensors differ: {sums}")
        rates = in_turn({side: partial(_rows_per_s, read) for side, read in sides.items()}, rounds, "rows/s")
        tell(f"{few} of {len(FEATURES)} features and {LABEL}, the same in both", rates, "rows/s")
        fed, told = ratio(rates, FEED, RAW)
        console.print(f"the feed gives {told} times pyarrow's rows a second")
        first = in_turn({table: partial(_first_batch, grown, batch_size) for table, grown in pins.items()}, 3 * rounds, "ms")
    tell("time to the first batch", first, "ms")
    later, told = ratio(first, many, few)
    console.print(f"the first of {many} takes {told} times as long as that of {few}")
    keep(out, "feed", rows=rows, rows_per_s=rates, ratio=fed, first_batch_ms=first, first_batch_ratio=later)


def _rows_per_s(read: Callable[[int], Iterator[Mapping[str, Tensor]]], number: int) -> float:
    started = time.monotonic()
    rows = sum(len(batch["length"]) for batch in read(number))
    return rows / (time.monotonic() - started)


def _first_batch(pinned: Pin, batch_size: int, number: int) -> float:
    """Milliseconds."""
    started = time.monotonic()
    stream = _feed(pinned, batch_size, number)
    next(stream)
    seconds = time.monotonic() - started
    stream.close()  # type: ignore[attr-defined]
    return 1000 * seconds


def _grown(pinned: Pin, num_rows: int, place: Path) -> Pin:
    """At least so many rows: its files again and again, each time under names of their own."""
    files: list[tuple[str, tuple[int, ...]]] = []
    rows = 0
    for number in count():
        for url, groups in pinned.files:
            if rows >= num_rows:
                return replace(pinned, files=tuple(files), num_rows=rows)
            link = place / f"{num_rows}-{number}-{Path(url).name}"
            os.link(unquote(urlsplit(url).path), link)
            files.append((link.as_uri(), groups))
            rows += sum(groups)
    raise AssertionError("numbers do not end")


def _pinned(folder: Path, events: int) -> Pin:
    """The rows that the feed is to read, written where they are not there yet."""
    warehouse, chosen = made_shop(folder, events)
    for step in (sessionize, sequence):
        step(warehouse, chosen)
    return pin(warehouse, "train", CUT)


def _feed(rows: Pin, batch_size: int, seed: int) -> Iterator[Mapping[str, Tensor]]:
    stream = batches(rows, batch_size=batch_size, features=FEATURES, labels=(LABEL,), seed=seed, drop_uneven=False)
    try:
        for batch in stream:
            yield {**batch.features, **batch.labels, "length": batch.length, "fresh": batch.fresh, "recency": batch.recency}
    finally:
        stream.close()


def _raw(rows: Pin, batch_size: int) -> Iterator[Mapping[str, Tensor]]:
    """Whole row groups as pyarrow reads them, as tensors, and these in slices of a batch."""
    dataset = ds.dataset([url.removeprefix("file:") for url, _ in rows.files], format="parquet")
    for part in dataset.to_batches(columns=[*SCALARS, *FEATURES, LABEL]):
        batch = to_batch(part, [LABEL])
        columns = {**batch.features, **batch.labels, "length": batch.length, "fresh": batch.fresh, "recency": batch.recency}
        tensors = {name: torch.from_numpy(column) for name, column in columns.items()}  # without a copy, in Arrow's memory
        for start in range(0, part.num_rows, batch_size):
            yield {name: tensor[start : start + batch_size] for name, tensor in tensors.items()}


def _sums(stream: Iterator[Mapping[str, Tensor]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for batch in stream:
        for name, tensor in batch.items():
            total[name] = total.get(name, 0) + int(tensor.sum())
    return dict(sorted(total.items()))


if __name__ == "__main__":
    typer.run(main)
