"""events: what users did, as the sources tell it."""

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from foretaste.contract import EVENT_TYPES
from foretaste.tables.table import Column, Table

_TYPES = ", ".join(f"'{name}'" for name in EVENT_TYPES)

EVENTS = Table(
    name="events",
    comment="One row per event: something one user did, once",
    columns=(
        Column(name="user_id", type="string", comment="the shop's own user id", required=True),
        Column(name="item_id", type="string", comment="the shop's own item id; null where the event has none (a search, a campaign)"),
        Column(name="event_type", type="string", comment="what was done: view, cart, purchase, …", required=True),
        Column(name="event_time", type="timestamp", comment="when, in UTC", required=True),
        Column(name="session_hint", type="string", comment="the source's own session or basket id"),
        Column(name="price", type="double", comment="unit price in the shop's currency"),
        Column(name="quantity", type="double", comment="units"),
        Column(name="category", type="string", comment="the item's category path at that time, parts joined by /"),
        Column(name="campaign_id", type="string", comment="the campaign that the event belongs to"),
        Column(name="source", type="string", comment="the name of the source that told it", required=True),
        Column(name="event_id", type="string", comment="the source's own event id, else a hash of all of the above", required=True),
        Column(name="extra", type="string", comment="other columns of the source that settings keep, as JSON; null without any"),
    ),
    key=("source", "event_id"),
    checks={"event_type_known": f"event_type IN ({_TYPES})", "price_not_negative": "price IS NULL OR price >= 0"},
    clustered_by=("event_time", "user_id"),
    change_feed=True,
)


def build(judged: DataFrame) -> DataFrame:
    """One row per event id among the judged records that are events; of several with one id, the earliest stays.

    judged: as `sources.judge` gives it.
    """
    told = judged.where(F.col("reason").isNull()).withColumn("event_id", F.coalesce("event_id", hashed_id()))
    # In a fixed order of all columns, time first: the same record stays, whatever the order in which Spark meets them.
    # Partitioned by event_id alone, as the merge into `events` needs it: the rows are shuffled and sorted once for both.
    rest = [name for name in EVENTS.names if name not in (*EVENTS.key, "event_time")]
    same_id = Window.partitionBy("event_id").orderBy("source", "event_time", *rest)
    is_first = ~F.lag("source").over(same_id).eqNullSafe(F.col("source"))
    return EVENTS.select(told.withColumn("is_first", is_first).where("is_first"))


def hashed_id() -> SparkColumn:
    """A hash of all the other columns but `extra`, in hexadecimal: the same record gives the same id in any run, whatever else is kept."""
    fields = [F.unix_micros(name) if name == "event_time" else F.col(name) for name in EVENTS.names if name not in ("event_id", "extra")]
    return F.md5(F.concat(*[netstring(field.cast("string")) for field in fields]))


def netstring(text: SparkColumn) -> SparkColumn:
    """`length:text`, and `-` for null: joined ones can be told apart, which no separator inside free text allows."""
    return F.coalesce(F.concat(F.length(text), F.lit(":"), text), F.lit("-"))
