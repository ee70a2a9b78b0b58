"""sessionize, batch after batch: only what changes is written, and all is as if it had come at once."""

import json
import random
import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

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


@pytest.mark.parametrize("others", [{}, {"most_events": 2}, {"bots": {"burst": 3, "most_per_minute": 0.2}}])
def test_any_new_events_change_what_a_full_rebuild_changes(warehouse: Warehouse, tmp_path: Path, others: dict[str, Any]) -> None:
    """400 users with up to 12 events each, at whole tens of minutes and under two hints, so that moments, pauses and hints meet;
    then up to 3 more each, anywhere. A pause is one of more than 30 minutes. Chance rarely makes a session that begins as another ends and
    is then grown from its far end: two users have such.
    """
    left = [("left", -10, "1"), ("left", 0, "1"), ("left", 0, "2"), ("left", 25, "2"), ("left", 50, "2")]
    right = [("right", 0, "1"), ("right", 25, "1"), ("right", 50, "1"), ("right", 50, "2"), ("right", 60, "2")]
    planted = {12: [*left, *right], 3: [("left", 55, "2"), ("right", -5, "1")]}
    choose = random.Random(1)
    settings = Settings.model_validate({"sessions": {"gap": "30min", **others}})
    for most in (12, 3):
        events = [
            (f"{user}", 10 * choose.randrange(40), choose.choice(["1", "2", None]))
            for user in range(400)
            for _ in range(choose.randrange(most + 1))
        ]
        rows = [
            (user, f"tea {most} {number}", "view", after(minute), hint, 1.0, None, "t", None, "shop", f"{most} {number}", None)
            for number, (user, minute, hint) in enumerate([*events, *planted[most]])
        ]
        warehouse.insert_new(EVENTS, warehouse.spark.createDataFrame(rows, EVENTS.ddl))
        notes = sessionize(warehouse, settings).notes
    assert "users with new events are new or changed" in notes[0]
    rebuilt = another(warehouse, tmp_path / "rebuilt")
    sessionize(rebuilt, settings)
    assert equal(SESSIONS, warehouse, rebuilt)


def test_a_stretch_ends_at_pauses_alone(spark: SparkSession) -> None:
    """Sessions and moments in minutes; a pause is one of more than 30. carl has no session yet."""
    told = [("ann", 0, 10), ("ann", 60, 90), ("ann", 90, 130), ("ann", 161, 170), ("bob", 0, 40), ("bob", 40, 50)]
    changed = [("ann", 125), ("bob", -5), ("carl", 7)]
    schema = "user_id string, started_at timestamp, ended_at timestamp"
    there = spark.createDataFrame([(user, *map(after, minutes)) for user, *minutes in told], schema)
    moments = spark.createDataFrame([(user, after(minute)) for user, minute in changed], "user_id string, event_time timestamp")
    stretches = sessions.stretches(there, moments, Settings().sessions).collect()
    monday = MONDAY.timestamp()
    found = {row.user_id: ((row.since / 1e6 - monday) / 60, (row.until / 1e6 - monday) / 60) for row in stretches}
    assert found == {
        "ann": (60, 130),  # the one that ends at 90 is of the stretch, since it shares this moment with the next
        "bob": (-5, 50),
        "carl": (7, 7),
    }


def test_a_session_that_goes_on_from_days_before_is_cut_where_a_full_rebuild_cuts_it(warehouse: Warehouse, tmp_path: Path) -> None:
    """One that never pauses for five days, in parts of 50 events each: what part a new event is of, only the first of them tells."""
    settings = Settings.model_validate({"sessions": {"most_events": 50}})
    told(warehouse, *(("ann", number / 3, "tea") for number in range(360)), ("bob", 1, "tea"))
    sessionize(warehouse, settings)
    told(warehouse, ("ann", 120, "jam"), ("bob", 119, "jam"))
    assert sessionize(warehouse, settings).notes == ("2 sessions of 2 users with new events are new or changed",)
    rebuilt = another(warehouse, tmp_path / "rebuilt")
    sessionize(rebuilt, settings)
    assert equal(SESSIONS, warehouse, rebuilt)


def after(minutes: float) -> datetime:
    return MONDAY + timedelta(minutes=minutes)


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
