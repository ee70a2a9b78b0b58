"""Writers and readers at once: Delta lets one of two that collide win, the other writes anew, and nobody sees half of anything."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste.errors import TableError
from foretaste.settings import EventColumns, Settings, SourceSettings
from foretaste.steps.ingest import ingest
from foretaste.tables import Table, Warehouse, conflicts
from foretaste.tables.events import EVENTS
from foretaste.tables.table import Column
from tests.tables.writers import another, at_once

RUNS = Table(
    name="runs",
    comment="One row per run and user",
    columns=(
        Column(name="run", type="int", comment="the run", required=True),
        Column(name="user_id", type="string", comment="the user", required=True),
        Column(name="at", type="int", comment="which replacement wrote it", required=True),
    ),
    key=("run", "user_id"),
)
USERS = 200
REPLACEMENTS = int(os.environ.get("FORETASTE_REPLACEMENTS", "8"))
"""docs/reliability.md tells what came of 50."""


def run_of(warehouse: Warehouse, run: int, at: int) -> None:
    rows = warehouse.spark.range(USERS).select(F.lit(run).alias("run"), F.col("id").alias("user_id"), F.lit(at).alias("at"))
    warehouse.replace_where(RUNS, RUNS.select(rows), f"run = {run}")


def test_a_reader_of_many_replacements_sees_each_time_one_run_whole(warehouse: Warehouse) -> None:
    run_of(warehouse, 1, 0)
    reading, seen, ended = another(warehouse), [], threading.Event()

    def read() -> None:
        while not ended.is_set():
            rows = reading.read(RUNS).where("run = 1").agg(F.count("*"), F.min("at"), F.max("at"))
            seen.append(tuple(rows.head()))  # type: ignore[arg-type]

    def replace() -> None:
        try:
            for at in range(1, REPLACEMENTS + 1):
                run_of(warehouse, 1, at)
        finally:
            ended.set()

    at_once(read, replace)
    assert len({first for _, first, _ in seen}) > 2  # it did read in between
    assert all(count == USERS and first == last for count, first, last in seen)


def test_two_that_replace_the_same_run_leave_one_of_the_two(warehouse: Warehouse) -> None:
    run_of(warehouse, 2, 0)
    one, other = another(warehouse), another(warehouse)
    at_once(*(lambda writer=writer, at=at: [run_of(writer, 1, at) for _ in range(4)] for at, writer in ((1, one), (2, other))))  # type: ignore[misc]
    left = warehouse.read(RUNS).groupBy("run").agg(F.count("*").alias("rows"), F.count_distinct("at").alias("writers")).collect()
    assert sorted(tuple(row) for row in left) == [(1, USERS, 1), (2, USERS, 1)]


def test_two_ingests_of_files_that_overlap_lose_and_double_nothing(warehouse: Warehouse, tmp_path: Path) -> None:
    columns = EventColumns(user_id="user", item_id="item", event_time="at")
    lines = [f"{number % 50},{number},2024-04-01T00:{number // 60 % 60:02}:{number % 60:02}Z" for number in range(900)]
    (tmp_path / "one.csv").write_text("\n".join(["user,item,at", *lines[:600]]))
    (tmp_path / "two.csv").write_text("\n".join(["user,item,at", *lines[300:]]))
    added: list[int] = []

    def takes(name: str) -> Callable[[], None]:
        mine = another(warehouse)
        settings = Settings(source=SourceSettings(path=str(tmp_path / name), columns=columns))
        return lambda: added.append(ingest(mine, settings).written["events"])

    at_once(takes("one.csv"), takes("two.csv"))
    assert warehouse.read(EVENTS).count() == 900 == sum(added)
    assert warehouse.read(EVENTS).select("item_id").distinct().count() == 900


def test_a_table_that_another_is_making_is_waited_for(warehouse: Warehouse) -> None:
    """The other's commit comes as one of another process does: as a file, of which this session is not told."""
    elsewhere = warehouse.annex("elsewhere")
    elsewhere.create(RUNS)
    [commit] = (Path(elsewhere.path) / "runs" / "_delta_log").glob("*.json")
    log = Path(warehouse.path) / "runs" / "_delta_log"
    log.mkdir(parents=True)  # as the other has it before its first commit

    def commits() -> None:
        time.sleep(2.0)
        shutil.copy(commit, log)

    def creates() -> None:
        warehouse.create(RUNS)
        assert list(log.glob("*.json"))

    at_once(creates, commits)
    run_of(warehouse, 1, 1)
    assert warehouse.read(RUNS).count() == USERS


def test_a_folder_that_is_no_table_is_left_as_it_is(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    letter = Path(warehouse.path) / "runs" / "letter.txt"
    letter.parent.mkdir()
    letter.write_text("not yours")
    monkeypatch.setattr(conflicts, "MAKING_PAUSE_S", 0.0)
    with pytest.raises(TableError, match="the folder of the table runs holds something that is no table"):
        run_of(warehouse, 1, 1)
    assert [path.name for path in letter.parent.iterdir()] == ["letter.txt"]


def test_who_never_gets_a_turn_is_told(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, spark: SparkSession) -> None:
    tries: list[int] = []

    def collides(*_: object, **__: object) -> None:
        tries.append(1)
        raise conflicts.exceptions.ConcurrentAppendException("another was first", stackTrace="", cause=None)

    monkeypatch.setattr(warehouse, "_save", collides)
    monkeypatch.setattr(conflicts, "FIRST_PAUSE_S", 0.0)
    with pytest.raises(TableError, match="others wrote runs 10 times before this job could"):
        run_of(warehouse, 1, 1)
    assert len(tries) == 10
