"""The same model with several seeds on the same rows: each one's test metrics, their mean and spread, and what they took.

python bench/seeds.py --config conf/beauty.yaml --seeds 1,2,3,4,5 --set source.path=/data/beauty/Beauty.txt

Seed s lies in `<warehouse>/seeds/<s>`. One that is there already is not fitted again, so a run that was cut off goes on.
"""

import statistics
import sys
from pathlib import Path
from typing import Annotated

import typer
from prepared import prepared, shown
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from foretaste import registry
from foretaste.settings import Settings
from foretaste.steps.evaluate import evaluate
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.metrics import METRICS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY

console = Console(width=None if sys.stdout.isatty() else 160)


def main(
    config: Annotated[Path, typer.Option(help="the deployment's YAML")],
    seeds: Annotated[str, typer.Option(help="numbers, parted by commas")] = "1,2,3,4,5",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a setting on top: key.sub=value; may be repeated")] = None,
) -> None:
    warehouse, chosen = prepared(config, overrides)
    numbers = [int(seed) for seed in seeds.split(",")]
    for task in chosen.tasks:
        _print(task, {seed: _of_seed(warehouse, chosen, seed, task) for seed in numbers})


def _of_seed(warehouse: Warehouse, chosen: Settings, seed: int, task: str) -> dict[str, float]:
    """Metric → value on all test rows, and what the fit took."""
    annex = warehouse.annex(f"seeds/{seed}", EVENTS, SESSIONS, VOCABULARY, SEQUENCES)
    of_seed = chosen.model_copy(update={"training": chosen.training.model_copy(update={"seed": seed})})
    for step, is_done in ((train, bool(registry.versions(annex.path, task))), (evaluate, annex.exists(METRICS))):
        if not is_done:
            shown(step, annex, of_seed)
    rows = annex.read(METRICS).where((F.col("split") == "test") & (F.col("segment") == "all") & (F.col("task") == task))
    measured = {row.metric: row.value for row in rows.where(F.col("model") == task).collect()}
    history = registry.load(annex.path, task).history
    pace = {
        "epochs": float(len(history)),
        "seconds an epoch": statistics.mean(entry["seconds"] for entry in history),
        "sequences a second": statistics.mean(entry["sequences_per_s"] for entry in history),
    }
    return measured | pace


def _print(task: str, by_seed: dict[int, dict[str, float]]) -> None:
    table = Table(title=f"{task}: test rows, by seed")
    for heading in ("metric", *(f"seed {seed}" for seed in by_seed), "mean", "deviation"):
        table.add_column(heading, justify="right")
    for metric in next(iter(by_seed.values())):
        values = [of_seed[metric] for of_seed in by_seed.values()]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        table.add_row(metric, *(f"{value:.4f}" for value in (*values, statistics.mean(values), spread)))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
