"""events: which of several records with one id stays, and what an id is made of."""

import hashlib

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.tables import events
from foretaste.tables.events import EVENTS

JUDGED = f"{EVENTS.ddl}, source_file string, reason string, record string"


def judged(spark: SparkSession, *rows: dict[str, object]) -> DataFrame:
    base = {"user_id": "u", "item_id": "i", "event_type": "view", "event_time": "2020-01-01 00:00:00", "source": "shop", "source_file": "f"}
    names = [*EVENTS.names, "source_file", "reason", "record"]
    texts = spark.createDataFrame([tuple((base | row).get(name) for name in names) for row in rows], JUDGED.replace("timestamp", "string"))
    return texts.withColumn("event_time", F.col("event_time").cast("timestamp"))


def test_equal_records_are_one_event_and_refused_ones_none(spark: SparkSession) -> None:
    rows = judged(spark, {"price": 1.0}, {"price": 1.0}, {"price": 2.0}, {"price": None}, {"price": 3.0, "reason": "no_user"})
    built = events.build(rows)
    assert built.columns == EVENTS.names
    assert sorted([row.price for row in built.collect()], key=str) == [1.0, 2.0, None]


def test_of_one_source_id_the_earliest_record_stays_and_sources_do_not_meet(spark: SparkSession) -> None:
    rows = judged(
        spark,
        {"event_id": "a", "event_time": "2020-01-02 00:00:00", "item_id": "later"},
        {"event_id": "a", "event_time": "2020-01-01 00:00:00", "item_id": "earlier"},
        {"event_id": "a", "source": "other shop", "item_id": "other"},
        {"event_id": None, "item_id": "no id"},
    )
    assert {(row.source, row.item_id) for row in events.build(rows).collect()} == {
        ("shop", "earlier"),
        ("other shop", "other"),
        ("shop", "no id"),
    }


def test_an_id_depends_on_every_column_and_tells_null_from_empty(spark: SparkSession) -> None:
    differing: list[dict[str, object]] = [
        {},
        {"user_id": "v"},
        {"item_id": "j"},
        {"event_type": "cart"},
        {"event_time": "2020-01-01 00:00:00.000001"},
        {"session_hint": "s"},
        {"price": 1.0},
        {"quantity": 1.0},
        {"category": "c"},
        {"campaign_id": "c"},
        {"campaign_id": ""},
        {"session_hint": ""},
        {"source": "other"},
        {"user_id": "u1:i", "item_id": ""},
        {"user_id": "u", "item_id": "1:i"},
    ]
    ids = [row[0] for row in judged(spark, *differing).select(events.hashed_id()).collect()]
    assert len(set(ids)) == len(differing)
    assert ids[0] == hashlib.md5(b"1:u1:i4:view16:1577836800000000-----4:shop").hexdigest()
