"""What benches that compare have in common: two sides in turn, medians with their spread, ratios round by round, and a file of it all."""

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as Printed

from foretaste.tables import Table

Figures = dict[str, list[float]]
console = Console(width=None if sys.stdout.isatty() else 160)


def in_turn(sides: Mapping[str, Callable[[int], float]], rounds: int, unit: str = "s") -> Figures:
    """What each side tells in each round, all sides in every round; round 0, which warms up, is left out where there are others."""
    figures: Figures = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, measure in sides.items():
            figures[side].append(measure(number))
            console.print(f"{'warming up' if number == 0 else f'round {number}'}: {side} {figures[side][-1]:,.1f} {unit}")
    return {side: values[min(1, rounds) :] for side, values in figures.items()}


def tell(title: str, figures: Mapping[str, Sequence[float]], unit: str) -> None:
    shown = Printed(title=title)
    for heading in ("", "median", "least", "most"):
        shown.add_column(heading, justify="right")
    for side, values in figures.items():
        shown.add_row(side, *(f"{value:,.4g} {unit}" for value in (statistics.median(values), min(values), max(values))))
    console.print(shown)


def ratio(figures: Mapping[str, Sequence[float]], one: str, other: str) -> tuple[float, str]:
    """The median of `one` / `other`, round by round, and the same with its spread in words."""
    ratios = [mine / theirs for mine, theirs in zip(figures[one], figures[other], strict=True)]
    middle = statistics.median(ratios)
    return middle, f"{middle:.3g} ({min(ratios):.3g} to {max(ratios):.3g})"


def keep(out: Path | None, bench: str, **figures: object) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"bench": bench, **figures}, indent=1))


def fingerprint(table: Table, rows: DataFrame) -> dict[str, int]:
    """How many rows, and of each column the sum of a hash of it beside its row's key: the order of rows does not matter."""
    key = [name for name in table.key if name != "campaign_id"]
    sums = [F.sum(F.xxhash64(*key, name).cast("decimal(38,0)")).alias(name) for name in table.names]
    found = rows.agg(F.count("*").alias("rows"), *sums).head()
    return {name: int(value) for name, value in found.asDict().items()} if found else {}
