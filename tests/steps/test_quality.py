"""Data that are odd are warned of, or end the job, as the settings say; bots are left out and counted."""

from pathlib import Path

import pytest

from foretaste.errors import QualityError
from foretaste.settings import BotSettings, EventColumns, Limit, QualitySettings, SessionSettings, Settings, SourceSettings
from foretaste.steps import quality
from foretaste.steps.ingest import ingest
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.quarantine import QUARANTINE
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS
from tests.steps.shop import told

COLUMNS = EventColumns(user_id="user", item_id="item", event_time="at")
SEQUENCES_OF = {"length": 4, "horizon": "2d", "valid_from": "6d", "test_from": "3d", "min_item_count": 1}


@pytest.mark.parametrize(
    ("value", "limit", "outcome"),
    [
        (0.10, Limit(), "nothing"),
        (0.10, Limit(warn=0.10), "nothing"),
        (0.11, Limit(warn=0.10), "warns"),
        (0.11, Limit(warn=0.10, stop=0.2), "warns"),
        (0.21, Limit(warn=0.10, stop=0.2), "stops"),
        (0.21, Limit(stop=0.2), "stops"),
    ],
)
def test_a_limit_warns_or_stops_above_it(value: float, limit: Limit, outcome: str) -> None:
    def weigh() -> list[str]:
        return quality.weighed("volume", value, limit, "it is odd", "nothing was made", "Look")

    if outcome == "stops":
        with pytest.raises(QualityError, match=r"^it is odd, above 20\.0%; nothing was made \(quality\.volume\.stop\)\. Look$"):
            weigh()
    else:
        assert weigh() == (["WARNING: it is odd, above 10.0% (quality.volume.warn)"] if outcome == "warns" else [])


def test_too_much_in_quarantine_stops_before_anything_is_written(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user,item,at\n1,a,2024-04-01\n1,a,once\n")
    settings = Settings(source=SourceSettings(path=str(path), columns=COLUMNS))
    assert "WARNING: 50.0% of 2 records are no events, above 5.0% (quality.quarantined.warn)" in ingest(warehouse, settings).notes
    path.write_text("user,item,at\n2,a,2024-04-01\n2,a,once\n2,b,twice\n")
    strict = settings.model_copy(update={"quality": QualitySettings(quarantined=Limit(stop=0.5))})
    with pytest.raises(QualityError, match=r"66\.7% of 3 records are no events, above 50\.0%; nothing was written"):
        ingest(warehouse, strict)
    assert (warehouse.read(EVENTS).count(), warehouse.read(QUARANTINE).count()) == (1, 1)


def test_the_last_day_is_weighed_against_the_same_a_week_before(warehouse: Warehouse) -> None:
    """Ten events in the 24 hours up to Monday noon, four in the 24 hours up to the noon a week later."""
    told(warehouse, *[("ann", hour, "milk") for hour in range(3, 13)])
    assert quality.volume(warehouse, Limit(warn=0.5)) == []  # there is no week before
    told(warehouse, *[("ann", 168 + hour, "milk") for hour in (1, 2, 3, 12)], ("ann", -24, "milk"))
    what = "WARNING: the last 24 hours have 4 events, the same a week before 10: 60.0% apart, above 50.0% (quality.volume.warn)"
    assert quality.volume(warehouse, Limit(warn=0.5)) == [what]
    assert quality.volume(warehouse, Limit(warn=0.6)) == []
    with pytest.raises(QualityError, match="nothing was made of them"):
        quality.volume(warehouse, Limit(stop=0.5))


def test_items_that_the_vocabulary_does_not_know(warehouse: Warehouse) -> None:
    """Twelve days of milk, of which the last three are of items that nobody had seen before."""
    told(warehouse, *[("ann", 24.0 * day, "milk" if day < 10 else f"new {day}") for day in range(13)])
    settings = Settings.model_validate({"sequences": SEQUENCES_OF, "quality": {"unknown_items": {"warn": 0.4}}})
    sessionize(warehouse, settings)
    notes = sequence(warehouse, settings).notes
    share = 3 / 7
    assert f"WARNING: {share:.1%} of the last week's 7 events are with items that the vocabulary does not know, above 40.0% " in "".join(
        notes
    )
    told(warehouse, ("ann", 24.0 * 13, "new 13"))
    sessionize(warehouse, settings)
    version = warehouse.version(SEQUENCES)
    strict = settings.model_copy(update={"quality": QualitySettings(unknown_items=Limit(stop=0.5))})
    with pytest.raises(QualityError, match="sequences stay as they were"):
        sequence(warehouse, strict)
    assert warehouse.version(SEQUENCES) == version


def test_bots_are_left_out_and_counted(warehouse: Warehouse) -> None:
    """A person, a crawler that clicks twice a second for 20 seconds, one that never sleeps, and a person who is quick, but not for long."""
    second = 1 / 3600
    told(
        warehouse,
        *[("ann", hour / 10, "milk") for hour in range(5)],
        *[("quick bot", number * second / 2, "tea") for number in range(40)],
        *[("slow bot", number / 10, "salt") for number in range(60)],
        *[("bob", number * second / 2, "tea") for number in range(8)],
    )
    bots = BotSettings(most_events=50, most_per_minute=60, burst=10)
    settings = Settings(sessions=SessionSettings(bots=bots))
    report = sessionize(warehouse, settings)
    assert report.notes[1] == "100 events (88.50%) are in no session: sessions.bots leaves theirs out"
    assert sorted(row.user_id for row in warehouse.read(SESSIONS).collect()) == ["ann", "bob"]
    told(warehouse, *[("ann", 0.4 + number * second / 2, "milk") for number in range(1, 100)])  # she turns out to be none
    sessionize(warehouse, settings)
    assert sorted(row.user_id for row in warehouse.read(SESSIONS).collect()) == ["bob"]
    assert len(sessionize(warehouse, Settings()).notes) == 1
    assert warehouse.read(SESSIONS).count() == 4
