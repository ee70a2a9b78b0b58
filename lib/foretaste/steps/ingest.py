"""Raw files → events, events_quarantine, items, campaigns and promotions."""

from collections.abc import Callable, Mapping, Sequence
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
from foretaste.steps import quality
from foretaste.steps.column_types import check_types, note_types
from foretaste.steps.identities import ERASED, Identities
from foretaste.steps.report import StepReport
from foretaste.tables import Table, Warehouse, campaigns, events, items, promotions, quarantine
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.promotions import PROMOTIONS
from foretaste.tables.quarantine import QUARANTINE


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of judged records: how many there are, how many of them are refused by reason or of erased users, and the others' time."""

    records: int
    refused: Mapping[str, int]
    erased: int
    first: str | None
    last: str | None

    @property
    def told(self) -> int:
        return self.records - sum(self.refused.values()) - self.erased


def ingest(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Adds to the tables what they do not have yet. The source is read twice, and nothing is written if it is at fault."""
    source = source_of_kind(settings.source.kind)
    with strict_patterns(warehouse.spark):
        return _ingest(warehouse, settings, source)


def _ingest(warehouse: Warehouse, settings: Settings, source: Source) -> StepReport:
    where = settings.source.path or settings.source.kind
    raw = source.events(warehouse.spark, settings.source)
    with faults_of(where):
        types = source.types(warehouse.spark, settings.source)
    check_types(warehouse, settings.source.name, types, where)
    beside = _beside(warehouse, settings, source)
    latest = datetime.now(UTC) + settings.ingest.max_clock_skew
    who = Identities(warehouse, settings.privacy)
    judged = who.without_erased(judge(raw, settings.source.name, settings.ingest.earliest, latest))
    tally = quarantine.tally(judged).persist()
    try:
        with faults_of(where):
            counts = _count(tally)  # the first reading, of every record: a fault shows here
            useful = [_count_useful(part.raw, part.is_useful) for part in beside]
        if not counts.records:
            raise SourceError("there are no rows in it", where=where, fix="Point source.path at files with rows.")
        warnings = quality.quarantined(sum(counts.refused.values()), counts.records, settings.quality.quarantined)
        who.keep(judged)
        who.create_events()
        known = events.build(who.known(judged))
        added = warehouse.insert_new(EVENTS, known, within=_span(counts, source.has_own_ids(settings.source)))
        note_types(warehouse, settings.source.name, types)
        held = who.vault.insert_new(QUARANTINE, quarantine.build(tally)) if counts.refused else 0
    finally:
        tally.unpersist()
    read = {"records": counts.records}
    written = {EVENTS.name: added, QUARANTINE.name: held}
    notes = [*_notes(counts, added, held, warnings), *([source.CAVEAT] if source.CAVEAT else [])]
    for part, (count, useless) in zip(beside, useful, strict=True):
        read[f"{part.what} records"] = count
        written[part.table.name] = warehouse.upsert(part.table, part.build(part.raw))
        if useless:
            notes.append(f"{useless:,} {part.what} records left out: {part.why_useless}")
    notes += quality.volume(warehouse, settings.quality.volume)
    return StepReport(step="ingest", read=read, written=written, notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """What a source tells beside events. raw: its records; build: what the table has of them"""

    what: str
    raw: DataFrame
    table: Table
    build: Callable[[DataFrame], DataFrame]
    is_useful: Column
    why_useless: str


def _beside(warehouse: Warehouse, settings: Settings, source: Source) -> Sequence[_Beside]:
    """Of what the source has."""
    spark, wanted = warehouse.spark, settings.source
    raw = {"item": source.items(spark, wanted), "campaign": source.campaigns(spark, wanted), "promotion": source.promotions(spark, wanted)}
    tables: dict[str, tuple[Table, Callable[[DataFrame], DataFrame], Column, str]] = {
        "item": (ITEMS, items.build, F.trim("item_id") != "", "they do not parse or have no id"),
        "campaign": (CAMPAIGNS, campaigns.build, campaigns.is_useful(), "they have no id, or no start and end in this order"),
        "promotion": (
            PROMOTIONS, promotions.build, promotions.is_useful(), "they have no item, no start and end in this order, or no possible share",
        ),
    }  # fmt: skip
    return [
        _Beside(what=what, raw=rows, table=table, build=build, is_useful=is_useful, why_useless=why_useless)
        for what, (table, build, is_useful, why_useless) in tables.items()
        if (rows := raw[what]) is not None
    ]


def _count(tally: DataFrame) -> Counts:
    by_reason = tally.groupBy("reason").agg(
        F.sum("count").alias("records"), F.min("first").cast("string").alias("first"), F.max("last").cast("string").alias("last")
    )
    rows = {row.reason: row for row in by_reason.collect()}
    told = rows.get(None)
    return Counts(
        records=sum(row.records for row in rows.values()),
        refused={reason: rows[reason].records for reason in REASONS if reason in rows},
        erased=rows[ERASED].records if ERASED in rows else 0,
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


def _notes(counts: Counts, added: int, held: int, warnings: Sequence[str]) -> list[str]:
    refused = sum(counts.refused.values())
    duplicates = counts.told - added
    erased = f" + {counts.erased:,} of erased users" if counts.erased else ""
    notes = [f"{counts.records:,} records = {added:,} new events + {duplicates:,} duplicates + {refused:,} quarantined{erased}"]
    if refused:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.refused.items())
        known = refused - held
        notes.append(f"quarantined: {reasons}" + (f" ({known:,} of them were there before)" if known else ""))
    notes += warnings
    if refused == counts.records:
        notes.append("every record was quarantined: check source.columns, source.event_types and source.time")
    return notes
