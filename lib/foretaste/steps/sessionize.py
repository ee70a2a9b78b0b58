"""events → sessions."""

import json

from pyspark.sql import functions as F

from foretaste.settings import Settings
from foretaste.steps.changes import changes_since, identity
from foretaste.steps.report import StepReport
from foretaste.tables import Warehouse, sessions
from foretaste.tables.events import EVENTS
from foretaste.tables.sessions import SESSIONS


def sessionize(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Sessions of the users who have new events since the last run; of all users where the settings or the
    table's columns changed, or the change feed is gone.
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
    elif (touched := changes_since(warehouse, EVENTS, ["user_id"], before)) is None:
        warehouse.overwrite(SESSIONS, sessions.build(events, settings.sessions), built_from)
        note = "all sessions written anew: what changed in events is not known any more"
    else:
        theirs = events.join(touched, on="user_id", how="left_semi")
        found = sessions.build(theirs, settings.sessions)
        num_written = warehouse.replace_rows_of(SESSIONS, found, touched, built_from, told_by=sessions.GROWS_BY)
        note = f"{num_written:,} sessions of {touched.count():,} users with new events are new or changed"
        touched.unpersist()
    num_events = events.count()
    kept = warehouse.read(SESSIONS).agg(F.count("*"), F.coalesce(F.sum("num_events"), F.lit(0))).head()
    assert kept is not None
    notes = [note]
    left_out = num_events - kept[1]
    if settings.sessions.bots and left_out:
        notes.append(f"{left_out:,} events ({left_out / num_events:.2%}) are in no session: sessions.bots leaves theirs out")
    return StepReport(step="sessionize", read={"events": num_events}, written={"sessions": kept[0]}, notes=tuple(notes))
