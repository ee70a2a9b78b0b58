"""items: one row per id, whatever the file says of it."""

from pyspark.sql import SparkSession

from foretaste.tables import items
from foretaste.tables.items import ITEMS

RAW = "item_id string, name string, category string, brand string, price string"


def test_the_fullest_description_stays_and_impossible_prices_go(spark: SparkSession) -> None:
    raw = spark.createDataFrame(
        [
            ("a", "Tea", None, None, "1.50"),
            ("a", "Green tea", "Drinks/Tea", None, "2"),
            ("a", "", "", "", ""),
            ("b", " ", None, "X", "-1"),
            ("c", None, None, None, "NaN"),
            ("d", None, None, None, "1e999"),
            (None, "nameless", None, None, None),
            ("  ", "blank", None, None, None),
        ],
        RAW,
    )
    built = items.build(raw)
    assert built.columns == ITEMS.names
    assert sorted(tuple(row) for row in built.collect()) == [
        ("a", "Green tea", "Drinks/Tea", None, 2.0),
        ("b", None, None, "X", None),
        ("c", None, None, None, None),
        ("d", None, None, None, None),
    ]
