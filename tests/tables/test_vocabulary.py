"""The vocabulary of a few sessions, counted by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from foretaste.contract import Sizes
from foretaste.settings import SequenceSettings
from foretaste.tables import vocabulary
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY

DAY = datetime(2024, 5, 1)
Event = tuple[int, str | None, str, float | None, str | None]  # day, item, type, price, category


def sessions_of(spark: SparkSession, *sessions: list[Event]) -> DataFrame:
    rows = []
    for place, events in enumerate(sessions):
        days, *columns = ([event[column] for event in events] for column in range(5))
        times = [(DAY + timedelta(days=day)).replace(tzinfo=UTC) for day in days]
        rows.append(("ann", f"s{place}", times[0], times[-1], len(events), times, *columns, [None] * len(events)))
    return spark.createDataFrame(rows, SESSIONS.ddl)


def bought(*items: str | None, day: int = 0, price: float | None = None, category: str | None = None) -> list[Event]:
    return [(day, item, "purchase", price, category) for item in items]


def fitted(sessions: DataFrame, day: int = 10, **settings: Any) -> dict[str, list[tuple[Any, ...]]]:
    """field → (index, value, count, upper), by index."""
    built = vocabulary.build(sessions, SequenceSettings(**{"min_item_count": 1, **settings}), DAY + timedelta(days=day))
    assert built.columns == VOCABULARY.names
    rows = sorted(built.collect(), key=lambda row: row["index"])
    return {field: [(row["index"], row.value, row["count"], row.upper) for row in rows if row.field == field] for field in
            ("item", "category", "price")}  # fmt: skip


def test_items_by_falling_count_then_by_id(spark: SparkSession) -> None:
    sessions = sessions_of(spark, bought("tea", "milk", "jam"), bought("milk", None, "tea", "eggs"), bought("milk"))
    assert fitted(sessions)["item"] == [(2, "milk", 3, None), (3, "tea", 2, None), (4, "eggs", 1, None), (5, "jam", 1, None)]
    assert fitted(sessions, min_item_count=2)["item"] == [(2, "milk", 3, None), (3, "tea", 2, None)]
    assert fitted(sessions, max_items=1)["item"] == [(2, "milk", 3, None)]


def test_only_training_time_and_the_types_that_enter_count(spark: SparkSession) -> None:
    straddling = [(9, "tea", "purchase", 1.0, "hot"), (10, "jam", "purchase", 2.0, "sweet")]  # the second at valid_from itself
    others: list[Event] = [(1, "ad", "exposure", 3.0, "ads"), (2, "tea", "view", None, None)]
    sessions = sessions_of(spark, others, straddling, bought("milk", day=11))
    assert fitted(sessions) == {"item": [(2, "tea", 2, None)], "category": [(2, "hot", 1, None)], "price": [(2, "above", 1, None)]}
    assert fitted(sessions, event_types=("exposure",))["item"] == [(2, "ad", 1, None)]


def test_a_session_under_way_belongs_to_what_comes_after_where_sessions_are_histories(spark: SparkSession) -> None:
    straddling = [(9, "tea", "purchase", 1.0, "hot"), (10, "jam", "purchase", 2.0, "sweet")]
    sessions = sessions_of(spark, straddling, bought("milk", day=8))
    assert fitted(sessions, protocol="session_next_item")["item"] == [(2, "milk", 1, None)]
    assert fitted(sessions, day=11, protocol="session_next_item")["item"] == [
        (2, "jam", 1, None),
        (3, "milk", 1, None),
        (4, "tea", 1, None),
    ]


def test_categories_need_no_least_count(spark: SparkSession) -> None:
    sessions = sessions_of(spark, bought("tea", "milk", category="food/b"), bought("jam", category="food/a"))
    assert fitted(sessions, min_item_count=2)["category"] == [(2, "food/b", 2, None), (3, "food/a", 1, None)]


def test_price_buckets_of_equal_counts(spark: SparkSession) -> None:
    prices = [event for price in range(1, 11) for event in bought("tea", price=float(price))]
    assert fitted(sessions_of(spark, prices), num_price_buckets=5)["price"] == [
        (2, "2.0", 2, 2.0), (3, "4.0", 2, 4.0), (4, "6.0", 2, 6.0), (5, "8.0", 2, 8.0), (6, "above", 2, None),
    ]  # fmt: skip


def test_a_price_that_most_have_takes_one_bucket(spark: SparkSession) -> None:
    prices = [*bought(*["tea"] * 7, price=2.0), *bought("milk", price=0.0), *bought("jam", price=9.0), *bought("eggs", price=float("nan"))]
    assert fitted(sessions_of(spark, prices), num_price_buckets=3)["price"] == [(2, "2.0", 8, 2.0), (3, "above", 1, None)]


def test_price_buckets_are_the_same_on_any_partitioning(spark: SparkSession) -> None:
    prices = [bought("tea", price=1.0 + (place * 7919 % 1000) / 97) for place in range(300)]
    edges = [fitted(sessions_of(spark, *prices).repartition(parts), num_price_buckets=7)["price"] for parts in (1, 5)]
    assert edges[0] == edges[1]
    assert [count for _, _, count, _ in edges[0]] == pytest.approx([300 / 7] * 7, abs=2)


def test_no_prices_no_buckets(spark: SparkSession) -> None:
    assert fitted(sessions_of(spark, bought("tea")))["price"] == []


def test_sizes_count_padding_and_unknown(spark: SparkSession) -> None:
    rows = [("item", "tea", 2, 9, None), ("item", "milk", 3, 5, None), ("price", "above", 2, 9, None)]
    known = spark.createDataFrame(rows, VOCABULARY.ddl)
    assert vocabulary.sizes(known) == Sizes(num_items=4, num_categories=2, num_price_buckets=3)
    assert vocabulary.sizes(known.limit(0)) == Sizes(num_items=2, num_categories=2, num_price_buckets=2)
