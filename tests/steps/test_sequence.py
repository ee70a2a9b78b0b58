"""sequence, batch after batch: only splits that change are written, and all is as if it had come at once."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from foretaste.contract import SPLITS
from foretaste.errors import SettingsError, TableError
from foretaste.settings import SessionSettings, Settings
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse, sequences, sessions, vocabulary
from foretaste.tables.events import EVENTS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY
from tests.steps.shop import MONDAY, Event, another, equal, told

TABLES = (SESSIONS, VOCABULARY, SEQUENCES)
START: list[Event] = [
    *[("ann", hour, "tea") for hour in range(0, 300, 25)],
    *[("bob", hour, "milk") for hour in range(10, 480, 60)],
    ("cat", 504, "tea"),  # the last event, three weeks after the first
]


def settings(**changes: Any) -> Settings:
    """Training for a week, validation for a week, test from then on."""
    dates = {"valid_from": "2024-04-08", "test_from": "2024-04-15"}
    few = {"length": 4, "horizon": "2d", "every": "3d", "min_item_count": 2}
    return Settings.model_validate({"sequences": {**dates, **few, **changes}})


def ran(warehouse: Warehouse, chosen: Settings) -> str:
    """The first note of `sequence`, after `sessionize`."""
    sessionize(warehouse, chosen)
    return sequence(warehouse, chosen).notes[0]


def files(warehouse: Warehouse) -> dict[str, set[str]]:
    """split → the files that its rows lie in."""
    names = warehouse.read(SEQUENCES).inputFiles()
    return {split: {name for name in names if f"/split={split}/" in name} for split in SPLITS}


def test_batches_equal_a_full_rebuild_and_leave_other_splits_alone(warehouse: Warehouse, tmp_path: Path) -> None:
    told(warehouse, *START)
    assert ran(warehouse, settings()) == "all rows written"
    first = files(warehouse)

    told(warehouse, ("ann", 450, "milk"), ("bob", 503, "jam"))  # in test time
    assert ran(warehouse, settings()) == "2 users have sessions that changed; written anew: test at calendars"
    second = files(warehouse)
    assert (second["train"], second["valid"]) == (first["train"], first["valid"])
    assert second["test"].isdisjoint(first["test"])

    told(warehouse, ("dan", 520, "tea"), ("bob", 200, "tea"), ("bob", 503, "jam"))  # a new end; one late in validation time; one repeated
    assert ran(warehouse, settings()) == "1 users have sessions that changed; written anew: test at calendars, valid at calendars"
    assert files(warehouse)["train"] == first["train"]
    _equals_a_rebuild(warehouse, tmp_path / "third")

    told(warehouse, ("cat", 5, "tea"), ("cat", 6, "pie"), ("cat", 7, "pie"))  # late in training time: another vocabulary
    assert ran(warehouse, settings()) == "all rows written anew: vocabulary changed"
    _equals_a_rebuild(warehouse, tmp_path / "fourth")


def test_a_later_end_of_test_time_adds_its_moments_and_leaves_the_others_alone(warehouse: Warehouse) -> None:
    """Rows are followed for two days. Test time's moments are the hours 336 and 408, and from an event after hour 528 on 480, too."""
    told(warehouse, *START)
    ran(warehouse, settings())
    first = files(warehouse)
    told(warehouse, ("dan", 530, "tea"))
    assert ran(warehouse, settings()) == "written anew: test after 2024-04-20 00:00:00"
    second = files(warehouse)
    assert (second["train"], second["valid"]) == (first["train"], first["valid"])
    assert first["test"] < second["test"]
    _equals_its_rows_built_anew(warehouse, settings())

    told(warehouse, ("ann", 470, "tea"), ("bob", 605, "tea"))  # the first moves the row of hour 480; the second has one of hour 552
    note = ran(warehouse, settings())
    assert note == "1 users have sessions that changed; written anew: test at calendars, test after 2024-04-21 02:00:00"
    assert files(warehouse)["test"].isdisjoint(second["test"])
    _equals_its_rows_built_anew(warehouse, settings())


def test_rows_that_were_not_followed_long_enough_are_written_anew(warehouse: Warehouse) -> None:
    """Followed for five days, hour 408's rows know of four at first, hour 336's of all."""
    chosen = settings(follow_up="5d")
    told(warehouse, *START)
    ran(warehouse, chosen)
    known = warehouse.read(SEQUENCES).where("split = 'test'").selectExpr("day(as_of)", "next_activity[1]").distinct()
    assert sorted(map(tuple, known.collect())) == [(15, 5), (18, 4)]
    told(warehouse, ("dan", 529, "tea"))
    assert ran(warehouse, chosen) == "written anew: test after 2024-04-17 00:00:00"
    known = warehouse.read(SEQUENCES).where("split = 'test'").selectExpr("day(as_of)", "next_activity[1]").distinct()
    assert sorted(map(tuple, known.collect())) == [(15, 5), (18, 5), (21, 2)]
    _equals_its_rows_built_anew(warehouse, chosen)


@pytest.mark.parametrize("protocol", ["global_time", "session_next_item", "leave_one_out"])
def test_batches_equal_a_full_rebuild_under_every_protocol(warehouse: Warehouse, tmp_path: Path, protocol: str) -> None:
    """They come over the start of validation, where one joins two sessions, in validation time, and in test time."""
    chosen = settings(protocol=protocol, refit=True)
    chosen = chosen.model_copy(update={"sessions": SessionSettings(gap=timedelta(hours=26))})
    told(warehouse, *START, *[("eve", hour, "tea") for hour in (150, 160, 190, 200, 345, 355, 360)])
    ran(warehouse, chosen)
    told(warehouse, ("eve", 175, "milk"), ("bob", 231, "tea"), ("bob", 503, "jam"))
    assert "written anew" in ran(warehouse, chosen)

    _equals_its_rows_built_anew(warehouse, chosen)


def _equals_its_rows_built_anew(warehouse: Warehouse, chosen: Settings) -> None:
    whole = sessions.build(warehouse.read(EVENTS), chosen.sessions).cache()
    splits = sequences.bounds(whole, chosen.sequences)
    words = vocabulary.build(whole, chosen.sequences, splits.fitted_until)
    rebuilt = sequences.build(whole, words, chosen.sequences, splits)
    assert sorted(warehouse.read(SEQUENCES).collect()) == sorted(rebuilt.collect())


def test_events_after_the_end_of_the_splits_write_nothing(warehouse: Warehouse) -> None:
    chosen = settings(until=MONDAY + timedelta(hours=505))
    told(warehouse, *START, ("bob", 600, "jam"))
    ran(warehouse, chosen)
    before = [warehouse.version(table) for table in (VOCABULARY, SEQUENCES)]
    told(warehouse, ("ann", 610, "milk"), ("eve", 650, "tea"))
    assert ran(warehouse, chosen) == "no row differs: no session changed that started before 2024-04-22 01:00:00"
    assert [warehouse.version(table) for table in (VOCABULARY, SEQUENCES)] == before
    _equals_its_rows_built_anew(warehouse, chosen)


def test_late_events_of_training_time_without_a_new_vocabulary(warehouse: Warehouse, tmp_path: Path) -> None:
    told(warehouse, *START)
    ran(warehouse, settings())
    known = warehouse.version(VOCABULARY)
    told(warehouse, ("ann", 30, "rare"), kind="search")  # of no type that enters, but it opens a session
    assert ran(warehouse, settings()) == "no row of 1 users whose sessions changed differs"
    assert warehouse.version(VOCABULARY) == known
    _equals_a_rebuild(warehouse, tmp_path / "rebuilt")


def _equals_a_rebuild(warehouse: Warehouse, path: Path) -> None:
    rebuilt = another(warehouse, path)
    ran(rebuilt, settings())
    assert [table.name for table in TABLES if not equal(table, warehouse, rebuilt)] == []


def test_nothing_new_writes_nothing_and_other_settings_all(warehouse: Warehouse) -> None:
    told(warehouse, *START)
    ran(warehouse, settings())
    before = [warehouse.version(table) for table in TABLES]
    assert ran(warehouse, settings()) == "nothing new since the last run"
    assert [warehouse.version(table) for table in TABLES] == before
    assert ran(warehouse, settings(length=3)) == "all rows written anew: settings changed"


def test_what_the_rows_were_built_from_is_in_their_commit(warehouse: Warehouse) -> None:
    told(warehouse, *START)
    ran(warehouse, settings())
    noted = warehouse.built_from(SEQUENCES)
    assert (noted["sessions"], noted["vocabulary"]) == (warehouse.version(SESSIONS), warehouse.version(VOCABULARY))
    ends = {"valid_from": "2024-04-08 00:00:00", "test_from": "2024-04-15 00:00:00", "until": "2024-04-22 00:00:00"}
    assert noted["splits"] == {**ends, "fitted_until": ends["valid_from"]}


def test_a_small_table_has_row_groups_for_a_few_ranks(warehouse: Warehouse) -> None:
    told(warehouse, *[(f"user {user}", float(user % 100 + step), "tea") for user in range(200) for step in (0, 1)], *START)
    ran(warehouse, settings(rows_per_group=4))
    names = [name.removeprefix("file://") for name in warehouse.read(SEQUENCES).inputFiles() if "split=train/cut=window" in name]
    written = [pq.ParquetFile(name).metadata for name in names]
    groups = [[file.row_group(place).num_rows for place in range(file.num_row_groups)] for file in written]
    assert len(groups) == 16
    assert {size for file in groups for size in file[:-1]} == {4}
    assert all(0 < file[-1] <= 4 for file in groups)


def test_impossible_settings_write_nothing(warehouse: Warehouse) -> None:
    told(warehouse, *START)
    with pytest.raises(SettingsError, match="no item occurs 99 times"):
        ran(warehouse, settings(min_item_count=99))
    with pytest.raises(SettingsError, match="do not follow one another"):
        ran(warehouse, settings(valid_from="2023-04-08"))
    assert not warehouse.exists(SEQUENCES)


def test_there_must_be_sessions(warehouse: Warehouse) -> None:
    with pytest.raises(TableError, match="no table sessions"):
        sequence(warehouse, settings())
