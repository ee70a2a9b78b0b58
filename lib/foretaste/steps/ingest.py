"""Raw files → events, events_quarantine, items and campaigns."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from foretaste.errors import SourceError
from foretaste.settings import Settings
from foretaste.sources import Source, source_of_kind
from foretaste.sources.judge import REASONS, judge
from foretaste.sources.reading import faults_of
from foretaste.sources.times import strict_patterns
from foretaste.steps.report import StepReport
from foretaste.tables import Warehouse, campaigns, events, items, quarantine
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.quarantine import QUARANTINE


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of judged records: how many there are, how many of them are refused by reason, and what time the others span."""

    records: int
    refused: Mapping[str, int]
    first: str | None
    last: str | None

    @property
    def told(self) -> int:
        return self.records - sum(self.refused.values())


def ingest(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Adds to the tables what they do not have yet. The source is read twice, and nothing is written if it is at fault."""
    source = source_of_kind(settings.source.kind)
    with strict_patterns(warehouse.spark):
        return _ingest(warehouse, settings, source)


def _ingest(warehouse: Warehouse, settings: Settings, source: Source) -> StepReport:
    where = settings.source.path or settings.source.kind
    raw = source.events(warehouse.spark, settings.source)
    raw_items = source.items(warehouse.spark, settings.source)
    raw_campaigns = source.campaigns(warehouse.spark, settings.source)
    latest = datetime.now(UTC) + settings.ingest.max_clock_skew
    judged = judge(raw, settings.source.name, settings.ingest.earliest, latest)
    tally = quarantine.tally(judged).persist()
    try:
        with faults_of(where):
            counts = _count(tally)  # the first reading, of every record: a fault shows here
            num_items = None if raw_items is None else _count_useful(raw_items, F.trim("item_id") != "")
            num_campaigns = None if raw_campaigns is None else _count_useful(raw_campaigns, campaigns.is_useful())
        if not counts.records:
            raise SourceError("there are no rows in it", where=where, fix="Point source.path at files with rows.")
        added = warehouse.insert_new(EVENTS, events.build(judged), within=_span(counts, source.has_own_ids(settings.source)))
        held = warehouse.insert_new(QUARANTINE, quarantine.build(tally)) if counts.refused else 0
    finally:
        tally.unpersist()
    read = {"records": counts.records}
    written = {EVENTS.name: added, QUARANTINE.name: held}
    notes = [*_notes(counts, added, held), *([source.CAVEAT] if source.CAVEAT else [])]
    if raw_items is not None and num_items is not None:
        read["item records"] = num_items[0]
        written[ITEMS.name] = warehouse.upsert(ITEMS, items.build(raw_items))
        if num_items[1]:
            notes.append(f"{num_items[1]:,} item records left out: they do not parse or have no id")
    if raw_campaigns is not None and num_campaigns is not None:
        read["campaign records"] = num_campaigns[0]
        written[CAMPAIGNS.name] = warehouse.upsert(CAMPAIGNS, campaigns.build(raw_campaigns))
        if num_campaigns[1]:
            notes.append(f"{num_campaigns[1]:,} campaign records left out: they have no id, or no start and end in this order")
    return StepReport(step="ingest", read=read, written=written, notes=tuple(notes))


def _count(tally: DataFrame) -> Counts:
    by_reason = tally.groupBy("reason").agg(
        F.sum("count").alias("records"), F.min("first").cast("string").alias("first"), F.max("last").cast("string").alias("last")
    )
    rows = {row.reason: row for row in by_reason.collect()}
    told = rows.get(None)
    return Counts(
        records=sum(row.records for row in rows.values()),
        refused={reason: rows[reason].records for reason in REASONS if reason in rows},
        first=told["first"] if told else None,
        last=told["last"] if told else None,
    )


def _count_useful(raw: DataFrame, is_useful: Column) -> tuple[int, int]:
    """How many records there are, and how many of them are of no use."""
    row = raw.agg(F.count("*"), F.count("*") - F.count_if(is_useful)).head()
    return (row[0], row[1]) if row else (0, 0)


def _span(counts: Counts, own_ids: bool) -> str:
    """Where in `events` a record of this run can lie already: a hashed id holds its time, but the source's own may come with another."""
    if own_ids or counts.first is None:
        return "true"
    return f"target.event_time BETWEEN TIMESTAMP'{counts.first}' AND TIMESTAMP'{counts.last}'"


def _notes(counts: Counts, added: int, held: int) -> list[str]:
    refused = sum(counts.refused.values())
    duplicates = counts.told - added
    notes = [f"{counts.records:,} records = {added:,} new events + {duplicates:,} duplicates + {refused:,} quarantined"]
    if refused:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.refused.items())
        known = refused - held
        notes.append(f"quarantined: {reasons}" + (f" ({known:,} of them were there before)" if known else ""))
    if refused == counts.records:
        notes.append("every record was quarantined: check source.columns, source.event_types and source.time")
    return notes
