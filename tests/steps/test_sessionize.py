"""sessionize, batch after batch: only what changes is written, and all is as if it had come at once."""

import json
import random
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps.changes import identity
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse, sessions
from foretaste.tables.events import EVENTS
from foretaste.tables.sessions import SESSIONS
from tests.steps.shop import MONDAY, another, changes, equal, told

SETTINGS = Settings().sessions.model_dump_json()


def test_batches_equal_a_full_rebuild_and_touch_only_what_they_change(warehouse: Warehouse, tmp_path: Path) -> None:
    settings = Settings()
    told(warehouse, ("ann", 1, "tea"), ("ann", 1.8, "milk"), ("ann", 9, "jam"), ("bob", 1, "tea"), ("cat", 2, "tea"))
    report = sessionize(warehouse, settings)
    assert (report.read, report.written) == ({"events": 5}, {"sessions": 5})

    first = warehouse.version(SESSIONS)
    late = ("ann", 1.4, "tea")  # joins two of ann's sessions
    told(warehouse, late, ("ann", 9, "jam"), ("bob", 30, "jam"), ("dan", 3, "tea"))  # the second is known already
    assert "4 sessions" not in sessionize(warehouse, settings).notes[0]
    changed = {(row.user_id, tuple(row.item_id), row["_change_type"]) for row in changes(warehouse, SESSIONS, first).collect()}
    assert changed == {
        ("ann", ("tea",), "update_preimage"),
        ("ann", ("tea", "tea", "milk"), "update_postimage"),
        ("ann", ("milk",), "delete"),
        ("bob", ("jam",), "insert"),
        ("dan", ("tea",), "insert"),
    }
    assert warehouse.version(SESSIONS) == first + 1

    told(warehouse, ("ann", 0.9, "jam"), ("cat", 2.5, "tea"))  # earlier than all of ann's: her first session gets another id
    sessionize(warehouse, settings)
    rebuilt = another(warehouse, tmp_path / "rebuilt")
    sessionize(rebuilt, settings)
    assert equal(SESSIONS, warehouse, rebuilt)


@pytest.mark.parametrize("bots", [None, {"burst": 3, "most_per_minute": 0.2}])
def test_any_new_events_change_what_a_full_rebuild_changes(warehouse: Warehouse, tmp_path: Path, bots: dict[str, float] | None) -> None:
    """400 users with up to 12 events each, at whole tens of minutes and under two hints, so that moments, pauses and hints meet;
    then up to 3 more each, anywhere. A pause is one of more than 30 minutes.
    """
    choose = random.Random(1)
    settings = Settings.model_validate({"sessions": {"gap": "30min", "bots": bots}})
    for most in (12, 3):
        events = [
            (f"{user}", "tea", "view", MONDAY + timedelta(minutes=10 * choose.randrange(40)), choose.choice(["1", "2", None]))
            for user in range(400)
            for _ in range(choose.randrange(most + 1))
        ]
        rows = [(*event, 1.0, None, "t", None, "shop", f"{most} {number}", None) for number, event in enumerate(events)]
        warehouse.insert_new(EVENTS, warehouse.spark.createDataFrame(rows, EVENTS.ddl))
        notes = sessionize(warehouse, settings).notes
    assert "users with new events are new or changed" in notes[0]
    rebuilt = another(warehouse, tmp_path / "rebuilt")
    sessionize(rebuilt, settings)
    assert equal(SESSIONS, warehouse, rebuilt)


def test_sessions_beyond_a_pause_are_not_looked_at(warehouse: Warehouse) -> None:
    """An event of ann's at 5.4 joins her session that ends at 5.2, and not those at 1 and 9; carl has no session yet."""
    told(warehouse, ("ann", 1, "tea"), ("ann", 5, "milk"), ("ann", 5.2, "jam"), ("ann", 9, "jam"), ("bob", 5, "tea"))
    sessionize(warehouse, Settings())
    moments = warehouse.spark.createDataFrame(
        [(user, MONDAY + timedelta(hours=hour)) for user, hour in (("ann", 5.4), ("carl", 7))], "user_id string, event_time timestamp"
    )
    stretches = sessions.stretches(warehouse.read(SESSIONS), moments, Settings().sessions).collect()
    monday = int(MONDAY.timestamp())
    assert {(row.user_id, *((micros / 1e6 - monday) / 3600 for micros in row[1:])) for row in stretches} == {
        ("ann", 5.0, 5.4),
        ("carl", 7.0, 7.0),
    }


def test_nothing_new_writes_nothing(warehouse: Warehouse) -> None:
    told(warehouse, ("ann", 1, "tea"))
    sessionize(warehouse, Settings())
    before = warehouse.version(SESSIONS)
    assert sessionize(warehouse, Settings()).notes == ("nothing new since the last run",)
    warehouse.spark.sql(f"ALTER TABLE {warehouse.identifier(EVENTS)} SET TBLPROPERTIES ('note' = 'a version without rows')")
    sessionize(warehouse, Settings())
    assert warehouse.version(SESSIONS) == before


def test_other_settings_and_another_events_table_rebuild_all(warehouse: Warehouse, tmp_path: Path) -> None:
    told(warehouse, ("ann", 1, "tea"), ("ann", 1.4, "milk"))
    sessionize(warehouse, Settings())
    report = sessionize(warehouse, Settings.model_validate({"sessions": {"gap": "10min"}}))
    assert report.written == {"sessions": 2}
    assert report.notes == ("all sessions written anew: the settings changed",)

    another_shop = Warehouse(warehouse.spark, WarehouseSettings(path=str(tmp_path / "another")))
    told(another_shop, ("bob", 1, "tea"))
    shutil.copytree(f"{warehouse.path}/sessions", f"{another_shop.path}/sessions")
    report = sessionize(another_shop, Settings.model_validate({"sessions": {"gap": "10min"}}))
    assert report.written == {"sessions": 1}
    assert "not known any more" in report.notes[0]


def test_a_table_that_lacks_a_column_is_written_anew(warehouse: Warehouse) -> None:
    """As an earlier version left it: nothing came since, and yet nothing may be taken for done."""
    told(warehouse, ("ann", 1, "tea"), ("ann", 2, "milk"))
    older = replace(SESSIONS, columns=tuple(column for column in SESSIONS.columns if column.name != "campaign_id"))
    built_from = {"events": warehouse.version(EVENTS), "events_id": identity(warehouse, EVENTS), "settings": json.loads(SETTINGS)}
    warehouse.overwrite(older, older.select(sessions.build(warehouse.read(EVENTS), Settings().sessions)), built_from)
    assert "campaign_id" not in warehouse.read(SESSIONS).columns
    assert sessionize(warehouse, Settings()).notes == ("all sessions written anew: the columns changed",)
    assert [row.campaign_id for row in warehouse.read(SESSIONS).collect()] == [[None], [None]]
    assert sessionize(warehouse, Settings()).notes == ("nothing new since the last run",)
