"""Whether data are as they usually are; `quality` of the settings says from where on that matters, and whether it ends the job."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.errors import QualityError
from foretaste.settings import Limit
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS

_DAY_US = 86_400_000_000
_WEEK_US = 7 * _DAY_US


def weighed(name: str, value: float, limit: Limit, what: str, consequence: str, fix: str) -> list[str]:
    """A warning where the value is above the limit's `warn`, and none below; QualityError above its `stop`.

    what: the value in words; consequence: what was, or was not, done
    """
    if limit.stop is not None and value > limit.stop:
        raise QualityError(f"{what}, above {limit.stop:.1%}; {consequence}", where=f"quality.{name}.stop", fix=fix)
    if limit.warn is not None and value > limit.warn:
        return [f"WARNING: {what}, above {limit.warn:.1%} (quality.{name}.warn)"]
    return []


def quarantined(refused: int, records: int, limit: Limit) -> list[str]:
    """Of an ingest's records, before anything is written."""
    share = refused / max(1, records)
    fix = "See what is wrong with the files (source.columns, source.time, source.event_types), or raise the limit."
    return weighed("quarantined", share, limit, f"{share:.1%} of {records:,} records are no events", "nothing was written", fix)


def volume(warehouse: Warehouse, limit: Limit) -> list[str]:
    """The events of the 24 hours up to the last one, beside those a week before. Nothing is said without a week's events."""
    if not limit.is_given:
        return []
    times = warehouse.read(EVENTS).select(F.unix_micros("event_time").alias("at"), "event_time")
    span = times.agg(F.min("at").alias("first"), F.max("at").alias("last")).head()
    if span is None or span.last is None or span.last - span.first < _WEEK_US + _DAY_US:
        return []
    ago = F.lit(span.last) - F.col("at")
    late = times.where(F.col("event_time") > F.timestamp_micros(F.lit(span.last - _WEEK_US - _DAY_US)))  # so that old files are not read
    counts = late.agg(F.count_if(ago < _DAY_US).alias("now"), F.count_if(ago >= _WEEK_US).alias("then")).head()
    assert counts is not None
    change = abs(counts.now - counts.then) / max(counts.now, counts.then, 1)
    what = f"the last 24 hours have {counts.now:,} events, the same a week before {counts.then:,}: {change:.1%} apart"
    fix = "Look whether files are missing, or came twice under other ids; or raise the limit."
    return weighed("volume", change, limit, what, "the events are in the table, and nothing was made of them", fix)


def unknown_items(sessions: DataFrame, vocabulary: DataFrame, limit: Limit) -> list[str]:
    """Of the last seven days' events with an item, those whose item is none of the vocabulary's."""
    if not limit.is_given:
        return []
    last = sessions.agg(F.unix_micros(F.max("ended_at"))).head()
    assert last is not None
    late = sessions.where(F.unix_micros("ended_at") > last[0] - _WEEK_US)
    items = late.select(F.explode("item_id").alias("value")).where("value IS NOT NULL")
    known = vocabulary.where("field = 'item'").select("value", F.lit(True).alias("known"))
    row = items.join(known, on="value", how="left").agg(F.count("*"), F.count_if(F.col("known").isNull())).head()
    count, unknown = (row[0], row[1]) if row else (0, 0)
    share = unknown / max(1, count)
    what = f"{share:.1%} of the last week's {count:,} events are with items that the vocabulary does not know"
    fix = "Move sequences.valid_from forward, lower sequences.min_item_count, see whether item ids changed; or raise the limit."
    return weighed("unknown_items", share, limit, what, "sequences stay as they were", fix)
