"""The judge: one reason for each fault, and a verdict on anything at all."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.contract import EVENT_TYPES
from foretaste.sources.judge import REASONS, judge
from foretaste.tables import events, quarantine

EARLIEST, LATEST = datetime(2000, 1, 1), datetime(2020, 1, 2, 1, tzinfo=UTC)
RAW = (
    "user_id string, item_id string, event_type string, session_hint string, category string, campaign_id string, event_id string, "
    "price string, quantity string, event_time timestamp, source_file string, record string, corrupt_line string, extra string"
)
GOOD = {"user_id": "u", "item_id": "i", "event_type": "view", "event_time": "2020-01-01 00:00:00", "source_file": "f", "record": "r"}


@pytest.fixture(params=["false", "true"])
def ansi(spark: SparkSession, request: pytest.FixtureRequest) -> Iterator[None]:
    spark.conf.set("spark.sql.ansi.enabled", request.param)
    yield
    spark.conf.unset("spark.sql.ansi.enabled")


def raw(spark: SparkSession, *records: dict[str, str | None]) -> DataFrame:
    names = [part.split()[0] for part in RAW.split(", ")]
    rows = [tuple((GOOD | record).get(name) for name in names) for record in records]
    texts = spark.createDataFrame(rows, RAW.replace("timestamp", "string"))
    return texts.withColumn("event_time", F.col("event_time").cast("timestamp"))


@pytest.mark.usefixtures("ansi")
def test_each_fault_has_its_reason(spark: SparkSession) -> None:
    cases: list[tuple[dict[str, str | None], str | None]] = [
        ({}, None),
        ({"corrupt_line": "{", "user_id": None}, "malformed_record"),
        ({"user_id": None}, "no_user"),
        ({"user_id": "  "}, "no_user"),
        ({"event_type": None}, "unknown_event_type"),
        ({"event_type": "glance"}, "unknown_event_type"),
        ({"item_id": ""}, "no_item"),
        ({"item_id": None, "event_type": "purchase"}, "no_item"),
        ({"item_id": None, "event_type": "search"}, None),
        ({"item_id": None, "event_type": "exposure"}, None),
        ({"item_id": None, "event_type": "coupon"}, None),
        ({"item_id": None, "event_type": "other"}, None),
        ({"event_time": None}, "unparsable_time"),
        ({"event_time": "2020-01-02 01:00:00"}, None),
        ({"event_time": "2020-01-02 01:00:00.000001"}, "future_time"),
        ({"event_time": "2000-01-01 00:00:00"}, None),
        ({"event_time": "1999-12-31 23:59:59"}, "ancient_time"),
        ({"price": "cheap"}, "bad_number"),
        ({"price": "NaN"}, "bad_number"),
        ({"price": "Infinity"}, "bad_number"),
        ({"price": "1e999"}, "bad_number"),
        ({"price": "1d"}, "bad_number"),
        ({"price": "1,5"}, "bad_number"),
        ({"quantity": "-inf"}, "bad_number"),
        ({"price": " 1.5 ", "quantity": "-2"}, None),
        ({"price": ""}, None),
        ({"price": "-0.01"}, "negative_price"),
        ({"price": "-0"}, None),
        ({"user_id": None, "price": "x"}, "no_user"),
    ]
    numbered = raw(spark, *[{"session_hint": str(number), **case} for number, (case, _) in enumerate(cases)])
    judged = judge(numbered, "shop", EARLIEST, LATEST)
    reasons = {row.session_hint: row.reason for row in judged.collect()}
    assert [reasons[str(number)] for number in range(len(cases))] == [reason for _, reason in cases]


def test_an_event_is_typed_and_the_others_keep_their_record(spark: SparkSession) -> None:
    records = raw(spark, {"price": "1.50", "quantity": "2", "category": ""}, {"user_id": None}, {"corrupt_line": "torn", "record": "x"})
    event, no_user, torn = judge(records, "shop", EARLIEST, LATEST).collect()
    assert (event.price, event.quantity, event.category, event.source, event.record) == (1.5, 2.0, None, "shop", None)
    assert (no_user.record, torn.record) == ("r", "torn")


def test_numbers_may_come_as_numbers_and_records_as_structs(spark: SparkSession) -> None:
    rows = raw(spark, {"price": "2.5"}, {"price": "-2.5"}).withColumn("price", F.col("price").cast("double"))
    nan = raw(spark, {}).withColumn("price", F.lit(float("nan")))
    both = rows.unionByName(nan).withColumn("record", F.struct("user_id", "price"))
    verdicts = [(row.reason, row.record) for row in judge(both, "shop", EARLIEST, LATEST).collect()]
    assert verdicts == [
        (None, None),
        ("negative_price", '{"user_id":"u","price":-2.5}'),
        ("bad_number", '{"user_id":"u","price":"NaN"}'),
    ]


ANYTHING = (
    st.none() | st.text(max_size=8) | st.sampled_from(["1.5", "-1", "NaN", "view", "purchase", "u", "\x00", "'", "\\", "\ufffe", " "])
)


@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    st.lists(
        st.fixed_dictionaries(
            dict.fromkeys(("user_id", "item_id", "event_type", "price", "quantity", "category", "event_id", "record"), ANYTHING)
            | {"event_time": st.sampled_from([None, "2020-01-01 00:00:00", "2030-01-01 00:00:00", "1000-01-01 00:00:00"])}
        ),
        min_size=1,
        max_size=60,
    )
)
def test_whatever_comes_in_is_an_event_a_duplicate_or_quarantined(spark: SparkSession, records: list[dict[str, str | None]]) -> None:
    judged = judge(raw(spark, *records), "shop", EARLIEST, LATEST).cache()
    told = judged.where("reason IS NULL")
    ids = told.select(F.coalesce("event_id", events.hashed_id()).alias("id")).distinct().count()
    refused = quarantine.build(quarantine.tally(judged)).collect()
    kept = events.build(judged).collect()
    assert len(records) == told.count() + len(refused)
    assert len(kept) == ids
    assert len({row.record_id for row in refused}) == len(refused)
    assert {row.reason for row in refused} <= set(REASONS)
    assert all(row.user_id.strip(" ") and row.event_type in EVENT_TYPES and (row.price is None or row.price >= 0) for row in kept)
    judged.unpersist()
