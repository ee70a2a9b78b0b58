"""promotions: how the shop promotes its items, and when: planned, and so known of days that are yet to come."""

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.tables.table import Column, Table

PROMOTIONS = Table(
    name="promotions",
    comment="One row per item, kind and start of a promotion that a source describes",
    columns=(
        Column(name="item_id", type="string", comment="the shop's own item id", required=True),
        Column(name="kind", type="string", comment="how it is promoted: mailer, display, …", required=True),
        Column(name="starts_at", type="timestamp", comment="when it starts, UTC", required=True),
        Column(name="ends_at", type="timestamp", comment="when it is over, UTC", required=True),
        Column(name="share", type="double", comment="in what share of the shops, 0 to 1", required=True),
    ),
    key=("item_id", "kind", "starts_at"),
    checks={"ends_after_start": "ends_at >= starts_at", "share_is_one": "share BETWEEN 0 AND 1"},
)
UNNAMED = "promotion"


def is_useful() -> SparkColumn:
    """Whether a raw row has an item, a start and an end in this order, and no impossible share; false rather than null."""
    share = F.coalesce("share", F.lit(1.0))
    return F.coalesce((F.trim("item_id") != "") & (F.col("ends_at") >= F.col("starts_at")) & share.between(0.0, 1.0), F.lit(False))


def build(raw: DataFrame) -> DataFrame:
    """One row per item, kind and start, from item_id and kind as text, starts_at, ends_at and share; the longest and widest of several.

    What has no item, no start and end in this order, or a share that is none, is left out; without a share it is everywhere.
    """
    kind = F.coalesce(F.when(F.trim("kind") != "", F.trim("kind")), F.lit(UNNAMED))
    told = raw.where(is_useful()).select(F.trim("item_id").alias("item_id"), kind.alias("kind"), "starts_at", "ends_at", "share")
    by_start = told.groupBy("item_id", "kind", "starts_at")
    return PROMOTIONS.select(by_start.agg(F.max("ends_at").alias("ends_at"), F.max(F.coalesce("share", F.lit(1.0))).alias("share")))
