"""Jobs at the same time on one warehouse: scorings beside each other and beside an erasure end as if one had come after the other."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste.settings import Settings
from foretaste.steps.erase import erase
from foretaste.steps.running import announced
from foretaste.steps.score import score
from foretaste.steps.traces import search
from foretaste.tables import Warehouse
from foretaste.tables.scores import SCORES
from foretaste.tables.sessions import SESSIONS
from tests.steps.test_score import FIRST_RUN, HOUR, settings, shop
from tests.tables.writers import another, at_once

DAY = timedelta(days=1)


@pytest.fixture
def warehouse(spark: SparkSession, tmp_path: Path) -> Warehouse:
    """The shop of test_score: ann, bob, cat and dan on the first day, eve a day later."""
    return shop(spark, tmp_path / "warehouse")


def job(warehouse: Warehouse, step: Callable[[Warehouse, Settings], object], asked: Settings) -> Callable[[], None]:
    """The step as job.py runs it, in a session of its own."""
    mine = another(warehouse)

    def run() -> None:
        with announced(mine.path, [step.__name__]):
            step(mine, asked)

    return run


def users(warehouse: Warehouse) -> dict[tuple[datetime, str], list[str]]:
    rows = warehouse.read(SCORES).groupBy("as_of", "task").agg(F.sort_array(F.collect_list("user_id")).alias("users")).collect()
    return {(row.as_of, row.task): row.users for row in rows}


def test_two_scorings_of_one_moment_and_of_two_lose_and_double_nothing(warehouse: Warehouse) -> None:
    score(warehouse, settings(as_of=FIRST_RUN - HOUR))  # so that the table is there
    at_once(*(job(warehouse, score, settings(as_of=moment)) for moment in (FIRST_RUN, FIRST_RUN, FIRST_RUN + DAY)))
    early, late = ["ann", "bob", "cat", "dan"], ["ann", "bob", "cat", "dan", "eve"]
    assert sorted(users(warehouse).values()) == [early] * 4 + [late] * 2


def test_scorings_beside_an_erasure_lose_no_file_and_bring_nobody_back(warehouse: Warehouse, tmp_path: Path) -> None:
    (tmp_path / "leavers.txt").write_text("bob\n")
    leaving = Settings.model_validate({"privacy": {"erase": {"users": str(tmp_path / "leavers.txt")}}})
    score(warehouse, settings(as_of=FIRST_RUN))
    erased = threading.Event()

    def erases() -> None:
        try:
            job(warehouse, erase, leaving)()
        finally:
            erased.set()

    def scores() -> None:
        while not erased.is_set():
            job(warehouse, score, settings(as_of=FIRST_RUN))()

    at_once(scores, erases)
    assert set(map(tuple, users(warehouse).values())) == {("ann", "cat", "dan")}
    assert warehouse.read(SESSIONS).select("user_id").distinct().count() == 4
    assert warehouse.read(SCORES).where("size(targets) = 0").isEmpty()  # each file is there, and can be read
    assert not search(warehouse.spark, [warehouse.path], ["bob"]).where
