"""What the benches begin with: the sequences, built where they are not."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from foretaste import settings
from foretaste.job import show
from foretaste.session import spark_session
from foretaste.settings import Settings
from foretaste.steps.ingest import ingest
from foretaste.steps.report import StepReport
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse


def prepared(config: Path, overrides: Sequence[str] | None) -> tuple[Warehouse, Settings]:
    """The deployment's warehouse, in which events, sessions and sequences are as new as its source."""
    chosen = settings.load(config, overrides or ())
    warehouse = Warehouse(spark_session(chosen.spark), chosen.warehouse)
    for step in (ingest, sessionize, sequence):
        shown(step, warehouse, chosen)
    return warehouse, chosen


def shown(step: Callable[[Warehouse, Settings], StepReport], warehouse: Warehouse, chosen: Settings) -> None:
    """Takes a step, and prints what it read and wrote and how long it took."""
    started = time.monotonic()
    show(step(warehouse, chosen), time.monotonic() - started, Console(soft_wrap=True))
