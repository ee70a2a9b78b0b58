"""events_quarantine: every refused record is there once, and has the same id in every run."""

from pyspark.sql import DataFrame, SparkSession

from foretaste.tables import quarantine
from foretaste.tables.quarantine import QUARANTINE

JUDGED = "source string, source_file string, reason string, record string, event_time timestamp, user_id string"


def built(spark: SparkSession, *rows: tuple[str, str | None, str | None]) -> DataFrame:
    judged = spark.createDataFrame([("shop", file, reason, record, None, None) for file, reason, record in rows], JUDGED)
    return quarantine.build(quarantine.tally(judged))


def test_equal_records_are_all_kept(spark: SparkSession) -> None:
    rows = [("f", None, None)] * 3 + [("f", "no_user", "x")] * 3 + [("f", "no_item", "x"), ("g", "no_user", "x"), ("f", "no_user", "y")]
    refused = built(spark, *rows)
    assert refused.columns == QUARANTINE.names
    collected = refused.collect()
    assert sorted((row.source_file, row.reason, row.record) for row in collected) == sorted(row for row in rows if row[1])
    assert len({row.record_id for row in collected}) == 6


def test_ids_are_the_same_in_another_run_and_another_order(spark: SparkSession) -> None:
    rows = [("f", "no_user", "x"), ("f", "no_item", "x"), ("f", "no_user", "y"), ("f", "no_user", "x")]
    once = {row.record_id for row in built(spark, *rows).collect()}
    fewer = {row.record_id for row in built(spark, *rows[::-1][:3]).collect()}
    assert once == {row.record_id for row in built(spark, *rows[::-1]).collect()}
    assert fewer < once


def test_more_equal_records_than_a_block_holds(spark: SparkSession) -> None:
    tallied = spark.createDataFrame(
        [("shop", "f", "no_user", "x", 2001, None), ("shop", "f", "no_item", "x", 1, None)],
        "source string, source_file string, reason string, record string, count bigint, user_id string",
    )
    assert quarantine.build(tallied).select("record_id").distinct().count() == 2002
