"""scores, and scores_flat over it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.settings import WarehouseSettings
from foretaste.tables import Warehouse, scores
from foretaste.tables.items import ITEMS
from foretaste.tables.scores import SCORES

AS_OF = datetime(2024, 3, 1, 12, tzinfo=UTC)
LATER = AS_OF + timedelta(days=1)


def run(spark: SparkSession, users: Sequence[str], as_of: datetime = AS_OF, task: str = "interest", score: float = 0.5) -> DataFrame:
    """A run that recommends milk, then bread, to each of these users."""
    targets = [("milk", score, []), ("bread", score / 2, [])]
    scored = spark.createDataFrame(
        [(user, targets, False) for user in users],
        "user_id string, targets array<struct<target_id: string, score: double, reasons: array<string>>>, fallback boolean",
    )
    return scores.build(
        scored, as_of=as_of, task=task, model=task, model_version=3, data_version="sessions@1 vocabulary@2", at=datetime.now(UTC)
    )


def best(warehouse: Warehouse) -> dict[tuple[str, str, str], float]:
    rows = warehouse.read(SCORES).select(F.date_format("as_of", "yyyy-MM-dd HH:mm").alias("moment"), "task", "user_id", "targets").collect()
    return {(row.moment, row.task, row.user_id): row.targets[0].score for row in rows}


def test_a_run_says_whose_it_is(spark: SparkSession) -> None:
    rows = run(spark, ["u1"])
    assert rows.columns == SCORES.names
    row = rows.select("*", F.unix_seconds("as_of").alias("seconds")).head()
    assert row is not None
    assert (row.task, row.user_id, row.model, row.model_version, row.data_version) == (
        "interest", "u1", "interest", 3, "sessions@1 vocabulary@2"
    )  # fmt: skip
    assert row.seconds == AS_OF.timestamp()


def test_a_rerun_replaces_its_own_run_and_nothing_else(spark: SparkSession, warehouse: Warehouse) -> None:
    users = ["u1", "u2"]
    others = run(spark, users, AS_OF, "returns").union(run(spark, users, LATER, "interest"))
    warehouse.append(SCORES, run(spark, users, AS_OF, "interest").union(others).coalesce(1))
    warehouse.replace_where(SCORES, run(spark, ["u2", "u3"], score=0.9), scores.run_condition("interest", AS_OF))
    assert best(warehouse) == {
        ("2024-03-01 12:00", "interest", "u2"): 0.9,
        ("2024-03-01 12:00", "interest", "u3"): 0.9,
        ("2024-03-01 12:00", "returns", "u1"): 0.5,
        ("2024-03-01 12:00", "returns", "u2"): 0.5,
        ("2024-03-02 12:00", "interest", "u1"): 0.5,
        ("2024-03-02 12:00", "interest", "u2"): 0.5,
    }


@pytest.mark.parametrize(
    "moment",
    [datetime(2024, 3, 1, 12), datetime(2024, 3, 1, 12, tzinfo=UTC), datetime(2024, 3, 1, 14, tzinfo=timezone(timedelta(hours=2)))],
)
def test_a_moment_without_a_zone_is_in_utc(moment: datetime) -> None:
    assert scores.microseconds(moment) == 1_709_294_400_000_000


def test_scores_flat_has_a_row_a_target_with_its_name(spark: SparkSession, warehouse: Warehouse) -> None:
    warehouse.append(SCORES, run(spark, ["u1"]))
    warehouse.append(ITEMS, spark.createDataFrame([("milk", "Whole milk 1 l", None, None, None)], ITEMS.ddl))
    scores.publish_flat(warehouse)
    rows = spark.sql("SELECT * FROM scores_flat WHERE task = 'interest' AND user_id = 'u1' ORDER BY rank")
    expected = "as_of task user_id rank target_id target_name score reasons model model_version fallback scored_at"
    assert rows.columns == expected.split()
    assert [(row["rank"], row.target_id, row.target_name, row.score) for row in rows.collect()] == [
        (1, "milk", "Whole milk 1 l", 0.5),
        (2, "bread", None, 0.25),
    ]


def test_the_script_beside_path_tables_makes_the_views_in_any_other_session(spark: SparkSession, warehouse: Warehouse) -> None:
    warehouse.append(SCORES, run(spark, ["u1", "u2"]))
    how = scores.publish_flat(warehouse)
    script = Path(warehouse.path) / "scores_flat.sql"
    assert str(script) in how
    other = spark.newSession()
    for statement in script.read_text(encoding="utf-8").split(";\n"):
        if statement:
            other.sql(statement)
    assert other.sql("SELECT count(*) FROM scores_flat").head() == (4,)
    assert other.sql("SELECT count(*) FROM scores").head() == (2,)


def test_in_a_catalog_scores_flat_is_a_view_beside_the_tables(spark: SparkSession, tmp_path: Path) -> None:
    settings = WarehouseSettings.model_validate({"path": str(tmp_path), "catalog": "spark_catalog", "schema": "flat_test"})
    warehouse = Warehouse(spark, settings)
    try:
        warehouse.append(SCORES, run(spark, ["u1"]))
        assert scores.publish_flat(warehouse) == "SELECT * FROM spark_catalog.flat_test.scores_flat"
        assert spark.newSession().sql("SELECT target_id FROM spark_catalog.flat_test.scores_flat ORDER BY rank").head() == ("milk",)
    finally:
        spark.sql("DROP SCHEMA IF EXISTS flat_test CASCADE")
