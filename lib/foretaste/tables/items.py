"""items: what the shop offers, as the source describes it."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import NUM_CONTENT_WORDS, WORDS_PER_ITEM
from foretaste.tables.table import Column, Table

_PRICE = r"^[+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"

ITEMS = Table(
    name="items",
    comment="One row per item that a source describes",
    columns=(
        Column(name="item_id", type="string", comment="the shop's own item id", required=True),
        Column(name="name", type="string", comment="what a person would call it"),
        Column(name="category", type="string", comment="category path, parts joined by /"),
        Column(name="brand", type="string", comment="brand or maker"),
        Column(name="price", type="double", comment="list price in the shop's currency"),
    ),
    key=("item_id",),
)


def content(items: DataFrame) -> DataFrame:
    """item_id and `words`, codes of what it is: its category path and those above it, brand, price by the doubling, words of its name.

    A word's code is a hash, from 1 on below NUM_CONTENT_WORDS, so that any item of any time has codes; at most WORDS_PER_ITEM of them.
    """
    parts = F.split("category", "/")
    lengths = F.sequence(F.lit(1), F.size(parts))
    paths = F.transform(lengths, lambda length: F.concat(F.lit("c "), F.concat_ws("/", F.slice(parts, 1, length))))
    named = F.array_distinct(F.filter(F.split(F.lower("name"), r"[^\p{L}\p{N}]+"), lambda word: word != ""))
    priced = F.when(F.col("price") > 0, F.concat(F.lit("p "), F.floor(F.log2("price")).cast("string")))
    nothing = F.array().cast("array<string>")
    words = F.concat(
        F.when(F.col("category").isNotNull(), paths).otherwise(nothing),
        F.array_compact(F.array(F.concat(F.lit("b "), F.col("brand")), priced)),
        F.when(F.col("name").isNotNull(), F.transform(named, lambda word: F.concat(F.lit("n "), word))).otherwise(nothing),
    )
    coded = F.transform(words, lambda word: (F.pmod(F.xxhash64(word), F.lit(NUM_CONTENT_WORDS - 1)) + 1).cast("int"))
    return items.select("item_id", F.slice(F.array_distinct(coded), 1, WORDS_PER_ITEM).alias("words"))


def build(raw: DataFrame) -> DataFrame:
    """One row per item id; of several descriptions of an item, the fullest stays. A price that is none, or negative, is null.

    raw: item_id, name, category, brand and price as text.
    """
    texts = raw.select(*[F.when(F.trim(name) != "", F.trim(name)).alias(name) for name in ITEMS.names])
    price = F.when(F.col("price").rlike(_PRICE), F.col("price").cast("double"))
    described = texts.where(F.col("item_id").isNotNull()).withColumn("price", F.when(price < float("inf"), price))
    details = [name for name in ITEMS.names if name not in ITEMS.key]
    known = sum((F.col(name).isNotNull().cast("int") for name in details), F.lit(0))
    # The greatest struct is one whole description: fullest first, then any fixed order.
    fullest = described.groupBy("item_id").agg(F.max(F.struct(known.alias("known"), *details)).alias("best"))
    return ITEMS.select(fullest.select("item_id", "best.*"))
