"""The one judge of raw records: which are events, and what is wrong with the others."""

from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType

from foretaste.contract import EVENT_TYPES
from foretaste.sources.records import NUMBER_FIELDS
from foretaste.sources.times import NUMBER

REASONS = (
    "malformed_record", "no_user", "unknown_event_type", "no_item", "unparsable_time", "future_time", "ancient_time", "bad_number",
    "negative_price",
)  # fmt: skip
"""What can be wrong with a record; it is quarantined for the first that applies."""

NEED_NO_ITEM = ("search", "exposure", "control", "coupon", "other")

_NAMES = ("session_hint", "category", "campaign_id", "event_id")


def judge(raw: DataFrame, source: str, earliest: datetime, latest: datetime) -> DataFrame:
    """One row per raw record: the fields of the event contract, typed, with `source_file`, `reason` and `record`.

    raw: as `raw_records` gives it. Events lie in [earliest, latest]; a moment without a zone is UTC.
    reason: null for an event, else one of REASONS. record: null for an event, else the record as JSON or the raw line.
    Blank text is no text.
    """
    typed = raw.select(
        *[_text(name).alias(name) for name in ("user_id", "item_id", "event_type", *_NAMES)],
        "event_time",
        *[_number(name, raw.schema[name].dataType).alias(name) for name in NUMBER_FIELDS],
        *[_text(name).isNotNull().alias(f"has_{name}") for name in NUMBER_FIELDS],
        "source_file",
        "record",
        "corrupt_line",
        "extra",
    )
    text = F.col("record") if isinstance(raw.schema["record"].dataType, StringType) else F.to_json("record")
    judged = typed.withColumn("reason", _reason(earliest, latest))
    return judged.select(
        "user_id",
        "item_id",
        "event_type",
        "event_time",
        "session_hint",
        "price",
        "quantity",
        "category",
        "campaign_id",
        F.lit(source).alias("source"),
        "event_id",
        "extra",
        "source_file",
        "reason",
        F.when(F.col("reason").isNotNull(), F.coalesce("corrupt_line", text, F.lit(""))).alias("record"),
    )


def _reason(earliest: datetime, latest: datetime) -> Column:
    """The first of REASONS that applies."""
    needs_item = ~F.col("event_type").isin(*NEED_NO_ITEM)
    faults = {
        "malformed_record": F.col("corrupt_line").isNotNull(),
        "no_user": F.col("user_id").isNull(),
        "unknown_event_type": F.col("event_type").isNull() | ~F.col("event_type").isin(*EVENT_TYPES),
        "no_item": F.col("item_id").isNull() & needs_item,
        "unparsable_time": F.col("event_time").isNull(),
        "future_time": F.col("event_time") > _moment(latest),
        "ancient_time": F.col("event_time") < _moment(earliest),
        "bad_number": _is_bad_number("price") | _is_bad_number("quantity"),
        "negative_price": F.col("price") < 0,
    }
    return F.coalesce(*[F.when(faults[reason], F.lit(reason)) for reason in REASONS])


def _text(name: str) -> Column:
    return F.when(F.trim(name) != "", F.col(name))


def _number(name: str, kind: DataType) -> Column:
    """The value as a double, null where it is none. Java would take the texts `NaN`, `1d` and, as infinite, `1e999` for numbers."""
    number = F.col(name).cast("double") + F.lit(0.0)  # there is one zero, not two
    return F.when(F.col(name).rlike(NUMBER), number) if isinstance(kind, StringType) else number


def _is_bad_number(name: str) -> Column:
    return F.col(f"has_{name}") & ~F.coalesce(F.abs(name) < float("inf"), F.lit(False))


def _moment(at: datetime) -> Column:
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return F.timestamp_micros(F.lit(round(aware.timestamp() * 1_000_000)))
