"""Campaigns from raw rows, and in a vocabulary's numbers."""

from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame, SparkSession

from foretaste.tables import campaigns
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.items import ITEMS
from foretaste.tables.vocabulary import VOCABULARY

MAY = datetime(2024, 5, 1, tzinfo=UTC)
RAW = "campaign_id string, kind string, starts_at timestamp, ends_at timestamp, item_id string"


def day(number: float) -> datetime:
    return MAY + timedelta(days=number)


def raw(spark: SparkSession) -> DataFrame:
    rows = [
        ("spring", "leaflet", day(0), day(10), "tea"),
        (" spring", "leaflet", day(0), day(10), "jam"),
        ("spring", "leaflet", day(0), day(10), "tea"),
        ("summer", "app", day(30), day(30.5), None),
        ("early", "app", day(-9), day(3), "gone"),
        ("backwards", "app", day(5), day(4), "tea"),
        ("", "app", day(0), day(1), "tea"),
        ("timeless", None, None, day(1), "tea"),
    ]
    return spark.createDataFrame(rows, RAW)


def test_a_row_a_campaign_with_its_items(spark: SparkSession) -> None:
    built = campaigns.build(raw(spark))
    assert built.columns == CAMPAIGNS.names
    found = {row.campaign_id: (row.kind, row["items"]) for row in built.collect()}
    assert found == {"spring": ("leaflet", ["jam", "tea"]), "summer": ("app", []), "early": ("app", ["gone"])}


def test_campaigns_in_the_vocabularys_numbers(spark: SparkSession) -> None:
    """Of what the vocabulary lacks nothing is told. The app's campaigns came first, so theirs is kind 1."""
    words = [("item", "tea", 2, 9, None), ("item", "jam", 3, 5, None), ("category", "hot", 2, 9, None), ("category", "tea", 3, 1, None)]
    items = [("tea", None, "hot", None, None), ("jam", None, "sweet", None, None)]
    found = campaigns.described(
        campaigns.build(raw(spark)), spark.createDataFrame(items, ITEMS.ddl), spark.createDataFrame(words, VOCABULARY.ddl)
    )
    assert found.ids == ("early", "spring", "summer")
    assert (found.kind.tolist(), found.days.tolist()) == ([1, 2, 1], [12, 10, 1])
    assert found.ends.tolist() == [int(day(end).timestamp() * 1e6) for end in (3, 10, 30.5)]
    assert [index.tolist() for index in found.items] == [[], [2, 3], []]
    assert [index.tolist() for index in found.categories] == [[], [2], []]
