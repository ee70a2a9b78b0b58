"""user_latents → user_segments: users that are alike come together, numbered by size, and each group is told by what it does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import functions as F

from foretaste.errors import TableError
from foretaste.settings import Settings
from foretaste.steps.segment import segment
from foretaste.tables import Warehouse, user_latents
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.user_latents import USER_LATENTS
from foretaste.tables.user_segments import USER_SEGMENTS

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
# Five bakers near (2, 0), three cooks near (-2, 1), and one whom nobody knows.
VECTORS = {
    "b1": [2.0, 0.1], "b2": [2.1, 0.0], "b3": [1.9, 0.0], "b4": [2.0, -0.1], "b5": [2.0, 0.0],
    "c1": [-2.0, 1.0], "c2": [-2.1, 1.0], "c3": [-1.9, 1.1],
    "new": [0.0, 0.0],
}  # fmt: skip


def write(warehouse: Warehouse, as_of: datetime = AS_OF) -> None:
    rows = warehouse.spark.createDataFrame(list(VECTORS.items()), "user_id string, vector array<float>")
    run = {"as_of": as_of, "task": "latents", "model": "latents", "model_version": 3, "data_version": "sessions@1 vocabulary@1"}
    warehouse.append(USER_LATENTS, user_latents.build(rows, **run, at=datetime.now(UTC)))  # type: ignore[arg-type]
    sessions = [
        session(user, AS_OF - timedelta(days=1), ["bread"] * 3 + ["milk"] if user[0] == "b" else ["meat", "milk"]) for user in VECTORS
    ]
    sessions.append(session("c1", AS_OF + timedelta(days=1), ["bread"] * 100))
    warehouse.overwrite(SESSIONS, warehouse.spark.createDataFrame(sessions, SESSIONS.ddl))


def session(user: str, at: datetime, category: list[str]) -> tuple[Any, ...]:
    size = len(category)
    return (user, f"{user} {at}", at, at, size, [at] * size, category, ["view"] * size, [1.0] * size, category, [None] * size)


def of(**segments: Any) -> Settings:
    return Settings.model_validate({"segments": segments})


def segments(warehouse: Warehouse) -> dict[str, int]:
    return {row.user_id: row.segment for row in warehouse.read(USER_SEGMENTS).collect()}


def test_those_who_are_alike_come_together_and_the_larger_group_is_the_first(warehouse: Warehouse) -> None:
    write(warehouse)
    report = segment(warehouse, of(most=3))
    assert segments(warehouse) == {user: {"b": 1, "c": 2, "n": 0}[user[0]] for user in VECTORS}
    assert report.written == {"user_segments": 9}
    assert "2 segments by latents version 3, silhouette 0.9" in report.notes[0]
    told_of = {line.split(":")[0].strip(): line for line in report.notes[1:]}
    # Up to the moment: of 28 events 15 are bread, 9 milk, 4 meat; the bakers' are 15 bread of 20, the cooks' 3 meat of 6.
    assert told_of["segment 1"].endswith("segment 1: 5 users, 56%; bread 1.4 times as often as all, milk 0.8 times as often as all")
    assert told_of["segment 2"].endswith("segment 2: 3 users, 33%; meat 3.5 times as often as all, milk 1.6 times as often as all")
    assert told_of["without usable history"].startswith("  without usable history: 1 users, 11%")
    far = {row.user_id: row.distance for row in warehouse.read(USER_SEGMENTS).collect()}
    assert far["new"] == 0.0
    assert 0 < far["b1"] < 1


def test_a_rerun_replaces_its_own_run_and_the_newest_moment_is_grouped(warehouse: Warehouse) -> None:
    write(warehouse)
    segment(warehouse, of(number=2))
    before = warehouse.read(USER_SEGMENTS).drop("written_at").orderBy("user_id").collect()
    segment(warehouse, of(number=2))
    assert warehouse.read(USER_SEGMENTS).drop("written_at").orderBy("user_id").collect() == before
    write(warehouse, AS_OF + timedelta(days=1))
    segment(warehouse, of(number=3))
    rows = warehouse.read(USER_SEGMENTS)
    assert rows.count() == 18
    assert rows.where(F.col("as_of") > F.lit(AS_OF)).select("segment").distinct().count() == 4


def test_without_latent_numbers_it_says_what_to_do(warehouse: Warehouse) -> None:
    with pytest.raises(TableError, match="user_latents"):
        segment(warehouse, of())
    write(warehouse)
    with pytest.raises(TableError, match="there are no latent numbers of behaviour"):
        segment(warehouse, of(task="behaviour"))
