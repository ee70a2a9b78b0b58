"""The feed beside pyarrow alone: rows of `sequences` into torch tensors, all features and the label of interest, on the same cores.

python bench/feed.py --events 10000000 --rounds 5

pyarrow.dataset reads the same files in their order, in its own threads; the feed shuffles row groups and rows, and gives each rank its
share. Both give batches of int32 tensors; their sums are compared first. Told are rows a second of both in turn, as medians and as a ratio,
and the time to the feed's first batch beside that of a tenth of the events. Events are made up (bench/made_events.py).
"""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import pyarrow.dataset as ds
import torch
import typer
from made_events import made_shop
from rich.console import Console
from rich.table import Table
from torch import Tensor

from foretaste.contract import FEATURES, SCALARS
from foretaste.feed.pin import pin
from foretaste.feed.reader import batches
from foretaste.feed.snapshot import Pin
from foretaste.scoring.arrow import to_batch
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize

LABEL = "next_items"
CUT = "calendar"  # of all cuts the one with the most rows
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes to it
console = Console(width=None if sys.stdout.isatty() else 160)


def main(
    events: Annotated[int, typer.Option(help="how many the sequences are made of")] = 10_000_000,
    rounds: Annotated[int, typer.Option(help="of both, in turn")] = 5,
    batch_size: Annotated[int, typer.Option(help="rows")] = 256,
    folder: Annotated[Path, typer.Option(help="where events and warehouses go")] = Path("warehouse/bench"),
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    large, small = (_pinned(folder, number) for number in (events, events // 10))
    sides = {"feed": lambda seed: _feed(large, batch_size, seed), "pyarrow.dataset": lambda seed: _raw(large, batch_size)}
    sums = {side: _sums(read(0)) for side, read in sides.items()}  # which warms up, too
    if sums["feed"] != sums["pyarrow.dataset"]:
        raise SystemExit(f"the tensors differ: {sums}")
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(1, rounds + 1):
        for side, read in sides.items():
            started = time.monotonic()
            rows = sum(len(batch["length"]) for batch in read(number))
            rates[side].append(rows / (time.monotonic() - started))
    first: dict[str, list[float]] = {"large": [], "small": []}
    for number in range(2 * rounds):
        for side, rows in (("large", large), ("small", small)):
            started = time.monotonic()
            stream = _feed(rows, batch_size, number)
            next(stream)
            first[side].append(time.monotonic() - started)
            stream.close()  # type: ignore[attr-defined]
    _print(large, small, rates, first)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        figures = {"bench": "feed", "rows": large.num_rows, "rows_per_s": rates, "first_batch_s": first, "fewer_rows": small.num_rows}
        out.write_text(json.dumps(figures, indent=1))


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


def _print(large: Pin, small: Pin, rates: Mapping[str, list[float]], first: Mapping[str, list[float]]) -> None:
    table = Table(title=f"{large.num_rows:,} rows of {len(FEATURES)} features and {LABEL}, {len(rates['feed'])} rounds")
    for heading in ("", "median", "least", "most"):
        table.add_column(heading, justify="right")
    for side, values in rates.items():
        table.add_row(f"{side}, rows/s", *(f"{value:,.0f}" for value in (statistics.median(values), min(values), max(values))))
    for rows, values in ((large, first["large"]), (small, first["small"])):
        shown = (f"{value * 1000:.0f} ms" for value in (statistics.median(values), min(values), max(values)))
        table.add_row(f"first batch of {rows.num_rows:,} rows", *shown)
    console.print(table)
    ratios = [ours / theirs for ours, theirs in zip(rates["feed"], rates["pyarrow.dataset"], strict=True)]
    console.print(f"the feed gives {statistics.median(ratios):.2f} times pyarrow's rows a second ({min(ratios):.2f} to {max(ratios):.2f})")
    later = statistics.median(first["large"]) / statistics.median(first["small"])
    console.print(f"the first batch of {large.num_rows / small.num_rows:.0f} times the rows takes {later:.2f} times as long")


if __name__ == "__main__":
    typer.run(main)
