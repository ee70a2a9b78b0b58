"""events → sessions."""

import json
from collections.abc import Mapping
from datetime import timedelta

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from foretaste.settings import SessionSettings, Settings
from foretaste.steps.changes import changes_since, identity
from foretaste.steps.report import StepReport
from foretaste.tables import Warehouse, sessions
from foretaste.tables.events import EVENTS
from foretaste.tables.sessions import SESSIONS

_BEFORE = timedelta(days=2)
_MICROSECOND = timedelta(microseconds=1)


def sessionize(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Sessions anew where events are new since the last run; all of them where the settings or the table's columns changed, or the change
    feed is gone.
    """
    version = warehouse.version(EVENTS) if warehouse.exists(EVENTS) else None
    events = warehouse.read(EVENTS, version)
    before = warehouse.built_from(SESSIONS)
    built_from: dict[str, object] = {
        "events": version,
        "events_id": identity(warehouse, EVENTS),
        "settings": json.loads(settings.sessions.model_dump_json()),
        "columns": SESSIONS.names,
    }
    changed = [name for name in ("settings", "columns") if built_from[name] != before.get(name)]
    if built_from == before:
        note = "nothing new since the last run"
    elif changed:
        warehouse.overwrite(SESSIONS, sessions.build(events, settings.sessions), built_from)
        note = f"all sessions written anew: the {' and '.join(changed)} changed" if before else "all sessions written"
    elif (changes := _changes(warehouse, before, built_from)) is None:
        warehouse.overwrite(SESSIONS, sessions.build(events, settings.sessions), built_from)
        note = "all sessions written anew: what changed in events is not known any more"
    else:
        moments, (first,) = changes
        note = _renew(warehouse, events, moments, first or 0, settings.sessions, built_from)
        moments.unpersist()
    num_events, built = events.count(), warehouse.read(SESSIONS)
    num_sessions = built.count()  # Delta's log knows it
    notes = [note]
    if settings.sessions.bots:
        in_sessions = built.agg(F.coalesce(F.sum("num_events"), F.lit(0))).head()
        left_out = num_events - in_sessions[0]  # type: ignore[index]
        if left_out:
            notes.append(f"{left_out:,} events ({left_out / num_events:.2%}) are in no session: sessions.bots leaves theirs out")
    return StepReport(step="sessionize", read={"events": num_events}, written={"sessions": num_sessions}, notes=tuple(notes))


def _changes(warehouse: Warehouse, before: Mapping[str, object], now: Mapping[str, object]) -> tuple[DataFrame, Row] | None:
    """Whose events changed, and when; and the first of those moments."""
    return changes_since(warehouse, EVENTS, ["user_id", "event_time"], before, now, F.min(F.unix_micros("event_time")))


def _renew(
    warehouse: Warehouse, events: DataFrame, moments: DataFrame, first: int, settings: SessionSettings, built_from: Mapping[str, object]
) -> str:
    """Sessions of the stretches of time in which events changed.

    moments: whose events changed, and when; `first` the first of them (microseconds since 1970)
    """
    stretches, num_users, since = _stretches(warehouse, moments, first, settings)
    try:
        inside = F.unix_micros("event_time").between(F.col("since"), F.col("until"))
        recent = events.where(F.col("event_time") >= F.timestamp_micros(F.lit(since)))  # prunes files
        theirs = recent.join(stretches, on="user_id").where(inside).drop("since", "until")
        num_written = warehouse.replace_rows_of(
            SESSIONS,
            sessions.build(theirs, settings),
            stretches,
            built_from,
            told_by=sessions.GROWS_BY,
            among="unix_micros(target.started_at) BETWEEN touched.since AND touched.until",
            within=f"target.started_at >= timestamp_micros({since})",
        )
    finally:
        stretches.unpersist()
    return f"{num_written:,} sessions of {num_users:,} users with new events are new or changed"


def _stretches(warehouse: Warehouse, moments: DataFrame, first: int, settings: SessionSettings) -> tuple[DataFrame, int, int]:
    """Those stretches, cached, how many, and where the first begins (microseconds since 1970).

    They are looked for among the sessions of some time before the first change, and among all where one may go on from an earlier one.
    """
    there = warehouse.read_as_it_is(SESSIONS)
    seen_from = first - _BEFORE // _MICROSECOND
    recent = there.where(F.col("ended_at") >= F.timestamp_micros(F.lit(seen_from)))
    stretches, num_users, since = _found(warehouse, recent, moments, settings)
    if since - settings.gap // _MICROSECOND < seen_from and not settings.bots:
        stretches.unpersist()
        stretches, num_users, since = _found(warehouse, there, moments, settings)
    return stretches, num_users, since


def _found(warehouse: Warehouse, among: DataFrame, moments: DataFrame, settings: SessionSettings) -> tuple[DataFrame, int, int]:
    with warehouse.planned_once():
        stretches = sessions.stretches(among, moments, settings).persist()
    num_users, since = stretches.agg(F.count("*"), F.coalesce(F.min("since"), F.lit(0))).head()  # type: ignore[misc]
    return stretches, num_users, since
