"""What each step costs at several sizes, in processor seconds and bytes; the line through it; and what that makes of a large shop.

python bench/cost.py --sizes 1000000,10000000,40000000

Each size has a warehouse of its own, from a Parquet file of made-up events (bench/made_events.py) to scores: ingest, sessionize, sequence,
score (a GRU of 64, the exact best 20 of all items). Processor seconds are those of the driver, its JVM and all Python workers. A first,
small run warms up. Then cost = fixed + per · number is fitted, least squares of relative errors; how far a line through the smaller sizes
misses the largest is told, before the line is drawn out to `--events` and `--users` on `--cores` cores as quick as these.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import typer
from compared import console, keep
from made_events import EVENTS_A_USER, settings_of, written_events
from made_model import made_model
from pyspark.sql import SparkSession
from rich.table import Table as Printed

from foretaste.session import spark_session
from foretaste.settings import SequenceSettings, Settings, SourceSettings, TaskSettings
from foretaste.steps.ingest import ingest
from foretaste.steps.report import StepReport
from foretaste.steps.score import score
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Table, Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.scores import SCORES
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS

WARM_UP = 200_000
COLUMNS = ("user_id", "item_id", "event_type", "event_time", "category", "event_id")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A step, the table that it writes, and of what its cost is told."""

    take: Callable[[Warehouse, Settings], StepReport]
    table: Table
    per: str


PARTS = {
    "ingest": Part(take=ingest, table=EVENTS, per="event"),
    "sessionize": Part(take=sessionize, table=SESSIONS, per="event"),
    "sequence": Part(take=sequence, table=SEQUENCES, per="event"),
    "score": Part(take=score, table=SCORES, per="user"),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a step at a size. number: of events or users; rows: that its table has; seconds: of the clock, and of processors"""

    number: int
    rows: int
    seconds: float
    processors: float
    written: int
    shuffled: int


def main(
    sizes: Annotated[str, typer.Option(help="numbers of events, rising, parted by commas")] = "1000000,10000000,40000000",
    last: Annotated[str, typer.Option(help=f"the last step, of {', '.join(PARTS)}")] = "score",
    items: Annotated[int, typer.Option(help="of the catalogue, at most")] = 50_000,
    events: Annotated[int, typer.Option(help="of the large shop, to draw the line out to")] = 1_000_000_000,
    users: Annotated[int, typer.Option(help="of the large shop")] = 100_000_000,
    cores: Annotated[int, typer.Option(help="of the large shop's cluster")] = 320,
    folder: Annotated[Path, typer.Option(help="where events and warehouses go")] = Path("warehouse/bench"),
    driver_memory: Annotated[str, typer.Option(help="of Spark's driver, which is the executor, too")] = "4g",
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    numbers = [int(size) for size in sizes.split(",")]
    _costs(folder, min(WARM_UP, *numbers), items, driver_memory, last)
    found = {number: _costs(folder, number, items, driver_memory, last) for number in numbers}
    for step in found[numbers[0]]:
        _tell(step, [found[number][step] for number in numbers], events if PARTS[step].per == "event" else users, cores)
    if "sequence" in found[numbers[0]]:
        seconds = [found[number]["sessionize"].seconds + found[number]["sequence"].seconds for number in numbers]
        for place, number in enumerate(numbers):
            more = f", {seconds[place] / seconds[place - 1]:.3g} times those of {numbers[place - 1]:,}" if place else ""
            console.print(f"events → sessions → sequences: {number:,} events take {seconds[place]:.1f} s{more}")
    keep(out, "cost", costs={str(number): {step: vars(cost) for step, cost in found[number].items()} for number in numbers})


def _costs(folder: Path, number: int, items: int, driver_memory: str, last: str) -> Mapping[str, Cost]:
    """Of each step up to the last, in a new warehouse."""
    made = written_events(folder, number)
    place = folder.resolve() / f"cost-{number}"
    shutil.rmtree(place, ignore_errors=True)
    base = settings_of(place, driver_memory)
    source = SourceSettings.model_validate({"path": str(made), "format": "parquet", "columns": {name: name for name in COLUMNS}})
    chosen = base.model_copy(
        update={"source": source, "sequences": SequenceSettings(max_items=items), "tasks": {"interest": TaskSettings()}}
    )
    warehouse = Warehouse(spark_session(chosen.spark), chosen.warehouse)
    found = {}
    for step, part in PARTS.items():
        if step == "score":
            made_model(warehouse)
        found[step] = cost = _measured(warehouse, chosen, part, number if part.per == "event" else number // EVENTS_A_USER)
        console.print(f"{number:,} events: {step} {cost.seconds:.1f} s, {cost.processors:.1f} s of processors")
        if step == last:
            break
    shutil.rmtree(place)
    return found


def _measured(warehouse: Warehouse, chosen: Settings, part: Part, number: int) -> Cost:
    started, processors, shuffled = time.monotonic(), _processor_seconds(), _shuffled(warehouse.spark)
    part.take(warehouse, chosen)
    seconds, processors, shuffled = time.monotonic() - started, _processor_seconds() - processors, _shuffled(warehouse.spark) - shuffled
    rows = warehouse.read(part.table).count()
    written = int(warehouse.delta(part.table).detail().select("sizeInBytes").head()[0])  # type: ignore[index]
    return Cost(number=number, rows=rows, seconds=seconds, processors=processors, written=written, shuffled=shuffled)


def _processor_seconds() -> float:
    """Of this process and all below it, those that have ended among them."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])  # user, system, and of children that have ended both
        except psutil.Error:
            continue
    return total


def _shuffled(spark: SparkSession) -> int:
    """Bytes that all tasks so far wrote for others."""
    executors = spark.sparkContext._jsc.sc().statusStore().executorList(False)
    return sum(int(executors.apply(place).totalShuffleWrite()) for place in range(executors.size()))


def _tell(step: str, costs: Sequence[Cost], number: int, cores: int) -> None:
    per = PARTS[step].per
    shown = Printed(title=f"{step}, of {'an' if per[0] in 'aeio' else 'a'} {per}")
    for heading in (
        f"{per}s",
        f"rows of {PARTS[step].table.name}",
        "s",
        "processor s",
        "processor µs each",
        "bytes written each",
        "bytes shuffled each",
    ):
        shown.add_column(heading, justify="right")
    for cost in costs:
        each = (1e6 * cost.processors / cost.number, cost.written / cost.number, cost.shuffled / cost.number)
        numbers = (f"{cost.number:,}", f"{cost.rows:,}", f"{cost.seconds:.1f}", f"{cost.processors:.1f}")
        shown.add_row(*numbers, *(f"{value:,.0f}" for value in each))
    console.print(shown)
    if len(costs) < 2:
        return
    fixed, slope = _line(costs)
    told = f"{step}: {fixed:.0f} s of processors, and {1e6 * slope:.1f} µs of one for each {per}"
    if len(costs) > 2:
        first, steep = _line(costs[:-1])
        missed = costs[-1].processors / (first + steep * costs[-1].number) - 1
        told += f"; the line through the smaller ones misses the largest by {missed:+.0%}"
    console.print(told)
    hours = (fixed + slope * number) / 3600
    largest = costs[-1]
    console.print(
        f"{step}, drawn out and not measured: {number:,} {per}s take {hours:,.1f} hours of a core, {60 * hours / cores:,.1f} min of "
        f"{cores} cores, and write {number * largest.written / largest.number / 1e9:,.0f} GB, shuffling "
        f"{number * largest.shuffled / largest.number / 1e9:,.0f} GB"
    )


def _line(costs: Sequence[Cost]) -> tuple[float, float]:
    """Fixed processor seconds, and those of each one more."""
    numbers = np.array([cost.number for cost in costs], dtype=np.float64)
    seconds = np.array([cost.processors for cost in costs])
    fixed, slope = np.linalg.lstsq(np.stack([1 / seconds, numbers / seconds], axis=1), np.ones(len(costs)), rcond=None)[0]
    return float(fixed), float(slope)


if __name__ == "__main__":
    typer.run(main)
