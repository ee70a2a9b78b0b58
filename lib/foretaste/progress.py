"""How a long step shows that it is alive, how fast it goes and what is left: a bar on a terminal, a plain line now and then elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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


@dataclass(frozen=True, kw_only=True)
class State:
    """Of the stages that run: tasks that have ended, of how many, and the rows that they have read (executors tell every ten seconds)."""

    done: int = 0
    tasks: int = 0
    rows: int = 0

    def words(self, before: "State", seconds: float) -> str:
        """`before`: as it was so many seconds ago.

        >>> State(done=3, tasks=8, rows=9_000).words(State(done=2, tasks=8, rows=4_000), 10)
        '3 of 8 tasks, 500 rows/s'
        """
        if not self.tasks:
            return "working"
        fresh = self.rows - before.rows
        return f"{self.done} of {self.tasks} tasks" + (f", {fresh / seconds:,.0f} rows/s" if fresh > 0 and seconds > 0 else "")

    def left(self, seconds: float) -> float | None:
        """Seconds left where the rest goes as the first did, which took `seconds`; None where nothing can be said."""
        return seconds / self.done * (self.tasks - self.done) if self.done > 0 else None


def _bar(spark: SparkSession, step: str, console: Console, ended: threading.Event) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, transient=True) as progress:
        bar = progress.add_task(step, total=None, words="")
        before, since = State(), time.monotonic()
        while not ended.wait(_POLL_EVERY_S):
            state, now = _state(spark), time.monotonic()
            if state.tasks != before.tasks:  # other stages: what was is no measure of what is to come
                progress.reset(bar, total=state.tasks or None)
            progress.update(bar, completed=state.done, words=state.words(before, now - since))
            if state.rows != before.rows or state.tasks != before.tasks:
                before, since = state, now


def _lines(spark: SparkSession, step: str, console: Console, ended: threading.Event) -> None:
    started = time.monotonic()
    before, first, since = State(), State(), started
    while not ended.wait(_LINE_EVERY_S):
        state, now = _state(spark), time.monotonic()
        if state.tasks != before.tasks or state.done < before.done:  # other stages
            first, since = state, now
        left = State(done=state.done - first.done, tasks=state.tasks - first.done).left(now - since)
        rest = f", about {left:.0f} s left" if left is not None else ""
        console.print(f"{step}: {state.words(before, _LINE_EVERY_S)}, {now - started:.0f} s so far{rest}", highlight=False)
        before = state


def _state(spark: SparkSession) -> State:
    """From what Spark keeps for its web page, which is there whether the page is served or not."""
    store = spark.sparkContext._jsc.sc().statusStore()
    active = store.activeStages()
    stages = [active.apply(place) for place in range(active.size())]
    return State(
        done=sum(stage.numCompleteTasks() for stage in stages),
        tasks=sum(stage.numTasks() for stage in stages),
        rows=sum(stage.inputRecords() + stage.shuffleReadRecords() for stage in stages),
    )
