"""vocabulary: the integers that stand for items, categories and prices, fitted on what a model may learn from."""

from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from foretaste.contract import EVENT_TYPES, FIRST_INDEX, Sizes
from foretaste.settings import SequenceSettings
from foretaste.tables.table import Column, Table

VOCABULARY = Table(
    name="vocabulary",
    comment="One row per field and value that a model knows, with the integer that stands for it",
    columns=(
        Column(name="field", type="string", comment="item, category or price", required=True),
        Column(name="value", type="string", comment="the item id or category; for a price, its bucket's upper edge", required=True),
        Column(name="index", type="int", comment="from 2 (0 is padding, 1 unknown): items and categories by falling count", required=True),
        Column(name="count", type="bigint", comment="events with it in the time that models learn from", required=True),
        Column(name="upper", type="double", comment="upper edge of a price bucket; null for other fields and for the last bucket"),
    ),
    key=("field", "value"),
    checks={"index_is_real": "index >= 2"},
)

_STEPS = 1024  # in which prices are told apart within a doubling: 0.07 %


def build(sessions: DataFrame, settings: SequenceSettings, until: datetime) -> DataFrame:
    """Items, categories and price buckets of the events before `until`, of the types that enter sequences.

    Under session_next_item, of the sessions that ended before: one under way at that time belongs to a later split.

    Items that occur `min_item_count` times, at most `max_items` of them, by falling count, then by id; categories alike, all of them.
    Prices: buckets of about equal counts.
    """
    items = _ranked(_values(sessions, "item_id", settings, until), "item", settings.min_item_count, settings.max_items)
    categories = _ranked(_values(sessions, "category", settings, until), "category", 1, None)
    prices = _price_buckets(_values(sessions, "price", settings, until), settings.num_price_buckets)
    return VOCABULARY.select(items.unionByName(categories).unionByName(prices))


def _values(sessions: DataFrame, column: str, settings: SequenceSettings, until: datetime) -> DataFrame:
    """One row per value of `column` in an event that counts."""
    end = F.timestamp_micros(F.lit((until - datetime(1970, 1, 1)) // timedelta(microseconds=1)))
    reached = F.col("ended_at" if settings.protocol == "session_next_item" else "started_at") < end
    happened = F.arrays_zip("event_time", "event_type", F.col(column).alias("value"))
    event = sessions.where(reached).select(F.explode(happened).alias("event")).select("event.*")
    counts = (F.col("event_time") < end) & F.col("value").isNotNull()
    if not set(EVENT_TYPES) <= set(settings.event_types):
        counts &= F.col("event_type").isin(*settings.event_types)
    return event.where(counts).select("value")


def _ranked(values: DataFrame, field: str, at_least: int, at_most: int | None) -> DataFrame:
    counts = values.groupBy("value").agg(F.count("*").alias("count")).where(F.col("count") >= at_least)
    by_count = Window.partitionBy(F.lit(0)).orderBy(F.desc("count"), "value")  # one partition: the vocabulary, not the events
    ranked = counts.withColumn("index", F.row_number().over(by_count) + (FIRST_INDEX - 1))
    known = ranked if at_most is None else ranked.where(F.col("index") < at_most + FIRST_INDEX)
    return known.select(F.lit(field).alias("field"), "value", "index", "count", F.lit(None).cast("double").alias("upper"))


def _price_buckets(values: DataFrame, num_buckets: int) -> DataFrame:
    """One row per bucket; the last one has no upper edge.

    Equal and nearly equal prices are counted together, by the logarithm, and go into the bucket that the cheapest of them belongs to.
    So the edges come out the same in any order and partitioning, which a sketch's (percentile_approx) do not.
    """
    prices = values.where((F.col("value") >= 0) & (F.col("value") < float("inf")))  # NaN is above infinity in Spark
    step = F.coalesce(F.floor(F.log2("value") * _STEPS), F.lit(-(2**62)))  # a price of 0 has no logarithm
    counted = prices.groupBy(step.alias("step")).agg(F.count("*").alias("count"), F.max("value").alias("upper"))
    rising = Window.partitionBy(F.lit(0)).orderBy("step")  # one partition: a price's steps are few
    cheaper = F.sum("count").over(rising) - F.col("count")
    total = F.sum("count").over(Window.partitionBy(F.lit(0)))
    placed = counted.withColumn("share", F.floor(cheaper * num_buckets / total))
    buckets = placed.groupBy("share").agg(F.sum("count").alias("count"), F.max("upper").alias("upper"))
    by_share = Window.partitionBy(F.lit(0)).orderBy("share")
    upper = F.when(F.lead("share").over(by_share).isNotNull(), F.col("upper"))
    return buckets.select(
        F.lit("price").alias("field"),
        F.coalesce(upper.cast("string"), F.lit("above")).alias("value"),
        (F.row_number().over(by_share) + (FIRST_INDEX - 1)).alias("index"),
        "count",
        upper.alias("upper"),
    )


def sizes(vocabulary: DataFrame) -> Sizes:
    """How many codes each field has, PAD and UNKNOWN included."""
    largest = {row.field: row.largest for row in vocabulary.groupBy("field").agg(F.max("index").alias("largest")).collect()}
    return Sizes(
        num_items=largest.get("item", FIRST_INDEX - 1) + 1,
        num_categories=largest.get("category", FIRST_INDEX - 1) + 1,
        num_price_buckets=largest.get("price", FIRST_INDEX - 1) + 1,
    )
