"""The jobs: which steps each of them takes, and how it runs them: the session, notice to other jobs, a report of each step."""

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from foretaste.progress import watching
from foretaste.session import spark_session
from foretaste.settings import Settings
from foretaste.steps.report import StepReport
from foretaste.steps.running import announced
from foretaste.tables import Warehouse

Step = Callable[[Warehouse, Settings], StepReport]


@dataclass(frozen=True)
class Job:
    """about: what it makes of what; steps: modules of foretaste, each with a function of its own name; after: what it shows at the end

    A job imports its own steps alone: those that train load torch, and those that do not start the faster for it.
    """

    about: str
    steps: tuple[str, ...]
    after: str | None = None


JOBS: Mapping[str, Job] = {
    "ingest": Job("Raw files → events, items, campaigns, promotions; what is no event goes to events_quarantine.", ("steps.ingest",)),
    "sessionize": Job("events → sessions.", ("steps.sessionize",)),
    "sequence": Job("sessions → vocabulary and sequences; for demand, events → series.", ("steps.sequence",)),
    "train": Job("sequences, pinned at one version → a model version of each task.", ("steps.train",)),
    "evaluate": Job("Judges the models on test rows, beside their baselines → metrics.", ("steps.evaluate",)),
    "score": Job("Everybody's history and the champions → scores, demand, user_latents.", ("steps.score",)),
    "pipeline": Job(
        "Raw files → scores: ingest, sessionize, sequence, train, evaluate, score, and a look at what came out.",
        ("steps.ingest", "steps.sessionize", "steps.sequence", "steps.train", "steps.evaluate", "steps.score"),
        after="summary.summarize",
    ),
    "backtest": Job("Cross-validation with a rolling origin: trains and judges at several moments → metrics.", ("steps.backtest",)),
    "segment": Job("user_latents → user_segments: users who are alike, and what sets each group apart.", ("steps.segment",)),
    "synthesize": Job("A model of behaviour → synthetic_sequences, with reports of their quality and privacy.", ("steps.synthesize",)),
    "report": Job("Tables and models → one HTML page: data, sessions, models and their worth, demand, what changed, users.", ("report",)),
    "maintain": Job("Joins and clusters the tables' small files, and removes those that no version needs any more.", ("steps.maintain",)),
    "erase": Job("Takes users out of every table and of what the tables were, and searches all bytes for them.", ("steps.erase",)),
}


def run(name: str, settings: Settings, console: Console) -> None:
    """Runs the job's steps in turn, and tells of each as it ends."""
    job = JOBS[name]
    steps: list[Step] = [_function(f"{path}.{path.rpartition('.')[2]}") for path in job.steps]
    spark = spark_session(settings.spark)
    warehouse = Warehouse(spark, settings.warehouse)
    with announced(warehouse.path, [step.__name__ for step in steps], console.print):
        for step in steps:
            started = time.monotonic()
            with watching(spark, step.__name__, console):
                report = step(warehouse, settings)
            show(report, time.monotonic() - started, console)
        if job.after:
            _function(job.after)(warehouse, settings, console)


def _function(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"foretaste.{module}"), name)


def show(report: StepReport, seconds: float, console: Console) -> None:
    """One line for what went in and out, and one for each note."""
    into = ", ".join(f"{count:,} {name}" for name, count in report.read.items())
    out = ", ".join(f"{count:,} {name}" for name, count in report.written.items())
    console.print(f"[bold]{report.step}[/bold]  {into} → {out}  [dim]{seconds:.1f} s[/dim]", highlight=False)
    for note in report.notes:
        console.print(f"  {note}", highlight=False, markup=False)
