"""Small files are joined, old ones go, and what a model that serves learnt from stays readable."""

from pathlib import Path

import pytest

from foretaste import registry
from foretaste.errors import TableError
from foretaste.settings import Settings
from foretaste.steps.maintain import maintain
from foretaste.steps.running import announced
from foretaste.tables import Warehouse
from foretaste.tables.items import ITEMS
from foretaste.tables.vocabulary import VOCABULARY
from tests.scoring.stored import store


def settings(keep: str, **more: object) -> Settings:
    return Settings.model_validate({"maintenance": {"keep": keep}, **more})


def files(warehouse: Warehouse, table: str) -> int:
    return len(list(Path(warehouse.path, table).glob("*.parquet")))


def add_items(warehouse: Warehouse, *names: str) -> None:
    for name in names:
        warehouse.append(ITEMS, warehouse.spark.createDataFrame([(name, name, None, None, None)], ITEMS.ddl).coalesce(1))


def test_small_files_are_joined_and_old_ones_go_when_their_time_has_come(warehouse: Warehouse) -> None:
    add_items(warehouse, "a", "b", "c")
    assert files(warehouse, "items") == 3
    told = maintain(warehouse, settings("7d"))
    assert told.notes[0] == "files of the newest version: items 3 → 1"
    assert files(warehouse, "items") == 4  # those of a version that is younger than a week stay
    maintain(warehouse, settings("0s"))
    assert files(warehouse, "items") == 1
    assert sorted(row.item_id for row in warehouse.read(ITEMS).collect()) == ["a", "b", "c"]
    assert maintain(warehouse, settings("0s")).notes[0] == "files of the newest version: as they were"


def test_a_version_that_a_champion_learnt_from_stays(warehouse: Warehouse) -> None:
    words = [("item", "a", 2, 1, None)]
    for count in (1, 2, 3):
        warehouse.overwrite(VOCABULARY, warehouse.spark.createDataFrame([(*words[0][:3], count, None)], VOCABULARY.ddl))
    learnt = warehouse.version(VOCABULARY) - 1
    store(Path(warehouse.path), {"a": 1}, tables={"sequences": 0, "vocabulary": learnt})
    registry.crown(warehouse, "interest", 1)
    told = maintain(warehouse, settings("0s", tasks={"interest": {}}))
    assert "vocabulary keeps 1 days, since a model that serves learnt from a version of that time" in told.notes
    assert [row["count"] for row in warehouse.read(VOCABULARY, learnt).collect()] == [2]
    maintain(warehouse, settings("0s"))  # of a deployment without such a model
    assert files(warehouse, "vocabulary") == 1


def test_nothing_goes_that_a_job_may_read(warehouse: Warehouse) -> None:
    add_items(warehouse, "a", "b")
    with announced(warehouse.path, ["score"]):
        with pytest.raises(TableError, match=r"score on .* may read files that would be removed"):
            maintain(warehouse, settings("1h"))
        maintain(warehouse, settings("7d"))
    maintain(warehouse, settings("1h"))
