"""How a long step shows that it is alive: a bar on a terminal, a plain line now and then elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_LINE_EVERY_S = 30.0
_POLL_EVERY_S = 0.5


@contextmanager
def watching(spark: SparkSession, step: str, console: Console) -> Iterator[None]:
    """Shows how far Spark's running stages are while the body runs. Ends with the body, whatever happens in it."""
    ended = threading.Event()
    show = _bar if console.is_terminal else _lines
    watcher = threading.Thread(target=show, args=(spark, step, console, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _bar(spark: SparkSession, step: str, console: Console, ended: threading.Event) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[tasks]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(step, total=None, tasks="")
        while not ended.wait(_POLL_EVERY_S):
            done, total = _running_tasks(spark)
            progress.update(bar, completed=done, total=total or None, tasks=f"{done} of {total} tasks" if total else "")


def _lines(spark: SparkSession, step: str, console: Console, ended: threading.Event) -> None:
    started = time.monotonic()
    while not ended.wait(_LINE_EVERY_S):
        done, total = _running_tasks(spark)
        state = f"{done} of {total} tasks" if total else "working"
        console.print(f"{step}: {state}, {time.monotonic() - started:.0f} s so far", highlight=False)


def _running_tasks(spark: SparkSession) -> tuple[int, int]:
    tracker = spark.sparkContext.statusTracker()
    stages = [stage for number in tracker.getActiveStageIds() if (stage := tracker.getStageInfo(number)) is not None]
    return sum(stage.numCompletedTasks for stage in stages), sum(stage.numTasks for stage in stages)
