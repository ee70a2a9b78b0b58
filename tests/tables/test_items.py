"""items: one row per id, whatever the file says of it."""

from pyspark.sql import SparkSession

from foretaste.contract import NUM_CONTENT_WORDS
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


def test_words_of_what_an_item_is(spark: SparkSession) -> None:
    """Categories with those above, brand, price by the doubling and the words of the name: shared by items as they share these."""
    rows = [
        ("green", "Green TEA, 20 bags", "drinks/tea", "X", 3.0),
        ("black", "black tea", "drinks/tea", None, 2.5),
        ("jam", None, "spreads", "X", None),
        ("nothing", None, None, None, None),
    ]
    found = {row.item_id: set(row.words) for row in items.content(spark.createDataFrame(rows, ITEMS.ddl)).collect()}
    assert {name: len(words) for name, words in found.items()} == {"green": 8, "black": 5, "jam": 2, "nothing": 0}
    assert len(found["green"] & found["black"]) == 4  # drinks, drinks/tea, tea, and a price from 2 to 4
    assert len(found["green"] & found["jam"]) == 1
    assert all(0 < word < NUM_CONTENT_WORDS for words in found.values() for word in words)
