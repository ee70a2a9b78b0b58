"""Broken tables, full disks and other programs: one clear line, and the tables are as they were."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from foretaste.errors import TableError
from foretaste.faults import explained
from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.sessions import SESSIONS
from tests.steps.shop import told

ROOT = Path(__file__).parents[1]


def cut_short(events: Path) -> None:
    for file in events.glob("*.parquet"):
        file.write_bytes(file.read_bytes()[:200])
        file.with_name(f".{file.name}.crc").unlink()


def removed(events: Path) -> None:
    for file in events.glob("*.parquet"):
        file.unlink()


def unlogged(events: Path) -> None:
    (events / "_delta_log" / f"{1:020}.json").unlink()


@pytest.fixture(scope="module")
def whole(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sessions of an event, and another event that is not in them yet."""
    path = tmp_path_factory.mktemp("whole")
    warehouse = Warehouse(spark, WarehouseSettings(path=str(path)))
    told(warehouse, ("ann", 0.0, "milk"))
    sessionize(warehouse, Settings())
    told(warehouse, ("ann", 72.0, "milk"))
    return path


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (cut_short, r"^a file is cut short, or was changed \(.*/events/part-.*\.parquet\)\. Bring it back"),
        (removed, r"^a file is gone \(.*/events/part-.*\.parquet\)\. Run the job again"),
        (unlogged, r"^an entry of a table's log is missing\. Bring the table's _delta_log back"),
    ],
)
def test_a_broken_table_is_named_and_nothing_is_made_of_it(
    warehouse: Warehouse, whole: Path, broken: Callable[[Path], None], said: str
) -> None:
    shutil.copytree(whole, warehouse.path, dirs_exist_ok=True)
    version = warehouse.version(SESSIONS)
    broken(Path(warehouse.path) / "events")
    with pytest.raises((PySparkException, Py4JJavaError)) as caught:
        sessionize(Warehouse(warehouse.spark.newSession(), warehouse.settings), Settings())
    assert re.search(said, explained(caught.value)), explained(caught.value)
    assert "\n" not in explained(caught.value)
    assert warehouse.version(SESSIONS) == version


def test_a_table_that_another_program_changed_is_refused(warehouse: Warehouse, whole: Path) -> None:
    shutil.copytree(whole, warehouse.path, dirs_exist_ok=True)
    version = warehouse.version(SESSIONS)
    rows = warehouse.read(EVENTS).localCheckpoint()
    cases = {
        "has no column source": rows.drop("source"),
        "has a column quantity of another type": rows.withColumn("quantity", rows.quantity.cast("string")),
    }
    for said, other in cases.items():
        other.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(f"{warehouse.path}/events")
        with pytest.raises(TableError, match=f"the table events {said}: another program wrote it"):
            sessionize(warehouse, Settings())
    assert warehouse.version(SESSIONS) == version


def test_a_library_that_cannot_be_unpacked_tells_of_the_temporary_folder() -> None:
    told = explained(RuntimeError("UnsatisfiedLinkError: no snappyjava in java.library.path: /usr/lib"))
    assert told.startswith("the temporary folder's disk is full, or it may not be written")


def test_a_full_disk_ends_the_job_in_one_line_and_leaves_the_tables(warehouse: Warehouse, tmp_path: Path) -> None:
    """No file may be larger than 8 KiB: what a disk without room is to a program that writes. Which of its writes fails first is chance:
    rows on their way, or a library that Spark unpacks.
    """
    lines = [f"{number % 7},{number},2024-04-01T00:{number // 60 % 60:02}:{number % 60:02}Z" for number in range(3000)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,at", *lines]))
    told(warehouse, ("ann", 0.0, "milk"))
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    columns = "{user_id: user, item_id: item, event_time: at}"
    job = [str(ROOT / "jobs" / "ingest.py"), "--config", str(ROOT / "conf" / "clicks.yaml"), "--set", f"warehouse.path={warehouse.path}"]
    source = ["--set", f"source={{path: {tmp_path}/events.csv, columns: {columns}}}", "--set", "spark.shuffle_partitions=1"]
    run = subprocess.run(
        [sys.executable, "-c", code, *job, *source],
        env={**os.environ, "PYTHONPATH": str(ROOT / "lib"), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 1, run.stderr[-2000:]
    assert re.search(r"^error the (temporary folder's )?disk is full", run.stderr, re.M), run.stderr[-2000:]
    assert warehouse.read(EVENTS).count() == 1
