"""Sessions of events written out by hand, and of any events against ten lines of Python."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.settings import SessionSettings
from foretaste.tables import sessions
from foretaste.tables.events import EVENTS
from foretaste.tables.sessions import SESSIONS

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
Event = tuple[str, float, str | None, str, str]  # user, minute after noon, session hint, event id, source


def events_of(spark: SparkSession, events: list[Event]) -> DataFrame:
    """Every event's item is its id, its price the minute."""
    rows = [
        (user, event_id, "view", NOON + timedelta(minutes=minute), hint, float(minute), None, "a/b", None, source, event_id, None)
        for user, minute, hint, event_id, source in events
    ]
    return spark.createDataFrame(rows, EVENTS.ddl)


def cut(spark: SparkSession, events: list[Event], **settings: Any) -> list[tuple[str, list[str]]]:
    """(user, event ids) of each session, in order."""
    built = sessions.build(events_of(spark, events), SessionSettings(**settings)).orderBy("user_id", "started_at", "ended_at")
    return [(row.user_id, row.item_id) for row in built.collect()]


def test_a_session_in_full(spark: SparkSession) -> None:
    rows = [
        ("ann", "milk", "view", NOON, "h1", 1.5, None, "dairy", None, "shop", "2", None),
        ("ann", None, "search", NOON, "h1", None, None, None, None, "shop", "1", None),
        ("ann", "milk", "purchase", NOON + timedelta(minutes=30), "h1", 1.0, 2.0, "dairy", "c7", "shop", "3", None),
    ]
    built = sessions.build(spark.createDataFrame(rows, EVENTS.ddl), SessionSettings())
    assert built.columns == SESSIONS.names
    (row,) = built.collect()
    times = built.select(F.transform("event_time", F.unix_seconds), F.unix_seconds("started_at"), F.unix_seconds("ended_at")).head()
    noon = 1714564800  # 2024-05-01 12:00 UTC
    assert tuple(times) == ([noon, noon, noon + 1800], noon, noon + 1800)
    assert (row.user_id, row.num_events, row.item_id) == ("ann", 3, [None, "milk", "milk"])
    assert (row.event_type, row.price, row.category) == (["search", "view", "purchase"], [None, 1.5, 1.0], [None, "dairy", "dairy"])
    assert row.campaign_id == [None, None, "c7"]


def test_only_a_longer_pause_closes_a_session(spark: SparkSession) -> None:
    events = [("ann", minute, None, f"{minute}", "shop") for minute in (0, 30, 60.5)] + [("bob", 61, None, "b", "shop")]
    assert cut(spark, events) == [("ann", ["0", "30"]), ("ann", ["60.5"]), ("bob", ["b"])]
    assert cut(spark, events, gap="31min") == [("ann", ["0", "30", "60.5"]), ("bob", ["b"])]


def test_a_change_of_the_sources_own_session_closes_one(spark: SparkSession) -> None:
    events: list[Event] = [
        ("ann", 0, "x", "1", "shop"),
        ("ann", 1, "x", "2", "shop"),
        ("ann", 1, "y", "3", "shop"),
        ("ann", 2, None, "4", "shop"),
        ("ann", 3, "x", "5", "shop"),
    ]
    assert cut(spark, events) == [("ann", ["1", "2"]), ("ann", ["3"]), ("ann", ["4"]), ("ann", ["5"])]
    assert cut(spark, events, use_hint=False) == [("ann", ["1", "2", "3", "4", "5"])]
    ids = sessions.build(events_of(spark, events), SessionSettings()).select("session_id")
    assert ids.distinct().count() == 4


def test_a_session_of_more_events_than_a_row_takes_is_cut(spark: SparkSession) -> None:
    """Parts of three at most. Those of ann's at noon are alike but for their items, and have ids of their own all the same."""
    events: list[Event] = [("ann", 0, None, f"{place}", "shop") for place in range(7)]
    events += [("bob", minute, None, f"b{minute}", "shop") for minute in (0, 10, 20, 60, 70)]
    parts = [("ann", ["0", "1", "2"]), ("ann", ["3", "4", "5"]), ("ann", ["6"]), ("bob", ["b0", "b10", "b20"]), ("bob", ["b60", "b70"])]
    assert sorted(cut(spark, events, most_events=3)) == parts
    built = sessions.build(events_of(spark, events), SessionSettings(most_events=3))
    assert built.select("user_id", "session_id").distinct().count() == len(parts)
    of_bob = built.where("user_id = 'bob'").select("session_id")
    assert of_bob.exceptAll(sessions.build(events_of(spark, events), SessionSettings()).select("session_id")).isEmpty()  # none was cut
    bots = {"most_events": 3, "burst": 100}
    assert cut(spark, events, most_events=3, bots=bots) == [("bob", ["b0", "b10", "b20"]), ("bob", ["b60", "b70"])]  # all of ann's
    with pytest.raises(ValueError, match=r"bots\.most_events is above most_events"):
        SessionSettings(most_events=3, bots={"most_events": 4})


def test_sessions_at_one_moment_have_ids_of_their_own(spark: SparkSession) -> None:
    events: list[Event] = [("ann", 0, hint, f"{place}", "shop") for place, hint in enumerate([None, "", "x"])]
    built = sessions.build(events_of(spark, events), SessionSettings())
    assert built.select("session_id").distinct().count() == 3
    assert sorted(row.item_id for row in built.collect()) == [["0"], ["1"], ["2"]]


def test_ties_are_told_apart_by_event_id_and_source(spark: SparkSession) -> None:
    events: list[Event] = [("ann", 0, None, "b", "shop"), ("ann", 0, None, "a", "till"), ("ann", 0, None, "a", "shop")]
    priced = events_of(spark, events).withColumn("item_id", F.concat_ws("@", "event_id", "source"))
    assert [row.item_id for row in sessions.build(priced, SessionSettings()).collect()] == [["a@shop", "a@till", "b@shop"]]


def test_a_hundred_thousand_events_in_an_hour_are_ten_rows(spark: SparkSession) -> None:
    at = F.timestamp_millis(F.lit(1714564800000) + F.col("id") * 36)
    burst = spark.range(100_000).select(F.lit("bot").alias("user_id"), at.alias("event_time"), F.lpad("id", 6, "0").alias("event_id"))
    others = {"item_id": F.col("event_id"), "event_type": F.lit("view"), "source": F.lit("shop"), "price": F.lit(1.0)}
    events = burst.withColumns(others | {name: F.lit(None).cast("string") for name in ("session_hint", "category", "campaign_id")})
    built = sessions.build(events, SessionSettings()).select("num_events", F.array_sort("item_id") == F.col("item_id"))
    assert [tuple(row) for row in built.collect()] == 10 * [(10_000, True)]


def reference(events: list[Event], gap: float, use_hint: bool, most_events: int) -> list[tuple[str, list[str]]]:
    """Ten lines that a reader believes."""
    found: list[tuple[str, list[str]]] = []
    previous: Event | None = None
    for event in sorted(events, key=lambda event: (event[0], event[1], event[2] is not None, event[2] or "", event[3], event[4])):
        same_user = previous is not None and previous[0] == event[0]
        if same_user and event[1] - previous[1] <= gap and (not use_hint or previous[2] == event[2]):  # type: ignore[index]
            found[-1][1].append(event[3])
        else:
            found.append((event[0], [event[3]]))
        previous = event
    return sorted((user, ids[start : start + most_events]) for user, ids in found for start in range(0, len(ids), most_events))


@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=st.lists(
        st.tuples(st.sampled_from(["ann", "bob", "ça", ""]), st.integers(0, 90), st.sampled_from([None, "", "x", "y"])), max_size=60
    ),
    use_hint=st.booleans(),
    num_partitions=st.integers(1, 5),
    batch_size=st.integers(1, 9),
    most_events=st.sampled_from([1, 2, 3, 10_000]),
    order=st.randoms(use_true_random=False),
)
def test_any_events_in_any_order_and_partitioning(
    spark: SparkSession,
    drawn: list[tuple[str, int, str | None]],
    use_hint: bool,
    num_partitions: int,
    batch_size: int,
    most_events: int,
    order: Any,
) -> None:
    events: list[Event] = [(user, minute, hint, f"{place:02}", "shop") for place, (user, minute, hint) in enumerate(drawn)]
    order.shuffle(events)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", batch_size)  # a session may lie in many Arrow batches
    try:
        chosen = SessionSettings(gap="10min", use_hint=use_hint, most_events=most_events)
        built = sessions.build(events_of(spark, events).repartition(num_partitions), chosen)
        rows = built.select("user_id", "session_id", "item_id", "num_events").collect()
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    assert sorted((row.user_id, row.item_id) for row in rows) == reference(events, 10, use_hint, most_events)
    assert len({(row.user_id, row.session_id) for row in rows}) == len(rows)
    assert all(row.num_events == len(row.item_id) for row in rows)


@pytest.mark.parametrize("num_partitions", [1, 7])
def test_ids_are_the_same_on_any_partitioning(spark: SparkSession, num_partitions: int) -> None:
    events = events_of(spark, [("ann", 0, "x", "1", "shop"), ("bob", 5, None, "2", "shop")]).repartition(num_partitions)
    found = {row.user_id: row.session_id for row in sessions.build(events, SessionSettings()).collect()}
    hashed = {"ann": "1714564800000000\x1fann\x1fx", "bob": "1714565100000000\x1fbob"}  # µs since 1970, user, hint where there is one
    assert found == {user: hashlib.md5(text.encode()).hexdigest() for user, text in hashed.items()}
