"""items: what the shop offers, as the source describes it."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

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
