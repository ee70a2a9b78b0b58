"""What the settings leave out of a run's targets, on the shop of test_score: milk, bread, eggs and salt, of which ann bought eggs."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from foretaste import registry
from foretaste.errors import SettingsError, SourceError
from foretaste.scoring.udf import LEFT_OUT
from foretaste.settings import FilterSettings
from foretaste.steps.filters import Filtering, described, filtering
from foretaste.steps.score import score
from foretaste.tables import Warehouse
from foretaste.tables.items import ITEMS
from foretaste.tables.scores import SCORES
from foretaste.tables.sessions import SESSIONS
from tests.steps.test_score import FIRST, FIRST_RUN, settings, shop

ITEM_ROWS = [
    ("milk", "Milk", "FOOD/DAIRY", None, 1.0),
    ("bread", "Bread", "FOOD/BAKERY", None, 3.0),
    ("eggs", "Eggs", "FOOD/DAIRY", None, 2.0),
    ("salt", "Salt", "FOODSTUFF", None, None),
]
ITEMS_IN_ORDER = [row[0] for row in ITEM_ROWS]  # as the vocabulary has them


@pytest.fixture(scope="module")
def kitchen(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    warehouse = shop(spark, tmp_path_factory.mktemp("filters") / "warehouse")
    warehouse.overwrite(ITEMS, spark.createDataFrame(ITEM_ROWS, ITEMS.ddl))
    return warehouse


def of(warehouse: Warehouse, **filters: Any) -> Filtering:
    sessions = warehouse.read(SESSIONS)
    users = sessions.select("user_id").distinct()
    return filtering(warehouse, FilterSettings(**filters), users, sessions, registry.load(warehouse.path, "interest"), FIRST_RUN)


def left(found: Filtering) -> set[str]:
    """The items that stay for all."""
    return {item for item, closed in zip(ITEMS_IN_ORDER, found.filters.closed[2:], strict=True) if not closed}


def of_users(found: Filtering) -> dict[str, set[str]]:
    """user → the items that this user is not to be shown, where there are any."""
    rows = found.rows.where(f"{LEFT_OUT} IS NOT NULL").collect()
    return {row.user_id: {ITEMS_IN_ORDER[index - 2] for index in row[LEFT_OUT]} for row in rows}


def test_what_a_user_bought_of_late_is_left_out_for_that_user(kitchen: Warehouse) -> None:
    """Ann bought eggs nine hours before; she looked at milk ten hours before, and bob at salt."""
    assert of_users(of(kitchen, bought="10h")) == {"ann": {"eggs"}}
    assert of_users(of(kitchen, bought="9h")) == {}
    assert of_users(of(kitchen, bought="11h", bought_types=["view"])) == {"ann": {"milk", "bread"}, "bob": {"salt"}}


@pytest.mark.parametrize(
    ("filters", "stay"),
    [
        ({"categories": ["FOOD"]}, {"milk", "bread", "eggs"}),  # FOODSTUFF is another
        ({"categories": ["FOOD/DAIRY", "FOODSTUFF"]}, {"milk", "eggs", "salt"}),
        ({"not_categories": ["FOOD/DAIRY"]}, {"bread", "salt"}),
        ({"price_from": 1.5}, {"bread", "eggs"}),
        ({"price_to": 2.0}, {"milk", "eggs"}),
        ({"categories": ["FOOD"], "price_to": 2.5, "not_categories": ["FOOD/BAKERY"]}, {"milk", "eggs"}),
    ],
)
def test_items_are_left_out_for_all(kitchen: Warehouse, filters: dict[str, Any], stay: set[str]) -> None:
    assert left(of(kitchen, **filters)) == stay


def test_what_is_not_in_stock_is_left_out(kitchen: Warehouse, spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "stock.csv").write_text("item_id,pieces\nmilk,3\nsalt,1\ncaviar,9\n")
    assert left(of(kitchen, in_stock=str(tmp_path / "stock.csv"))) == {"milk", "salt"}
    spark.createDataFrame([("bread",)], "item_id string").write.parquet(str(tmp_path / "stock.parquet"))
    assert left(of(kitchen, in_stock=str(tmp_path / "stock.parquet"))) == {"bread"}
    (tmp_path / "pieces.csv").write_text("item,pieces\nmilk,3\n")
    for path, words in (("pieces.csv", r"there is no column 'item_id' .*Found: item, pieces"), ("absent.csv", "there is no such file")):
        with pytest.raises(SourceError, match=words):
            of(kitchen, in_stock=str(tmp_path / path))


def test_a_filtered_run_says_what_was_left_out_and_how_much(kitchen: Warehouse) -> None:
    """Of milk, bread and eggs one is dearer than 2.5; ann has eggs; and milk and eggs are of one category."""
    chosen = {"categories": ["FOOD"], "price_to": 2.5, "bought": "1d", "most_per_category": 1}
    notes = score(kitchen, settings(as_of=FIRST_RUN, top_k=4, filters=chosen)).notes
    assert (
        "interest: 2 of 4 items are left out for all (1 of other categories, 2 by price); what a user bought within a day is left out "
        "for that user; at most 1 of a category"
    ) in notes
    rows = {(row.task, row.user_id): row for row in kitchen.read(SCORES).collect()}
    shown = {user: [target.target_id for target in row.targets] for (task, user), row in rows.items() if task == "interest"}
    assert shown["ann"] == ["milk"]
    assert shown["cat"] == shown["dan"] == ["milk"]  # the fallback: the more popular
    assert shown["bob"] in (["milk"], ["eggs"])
    said = {(task, row.filters) for (task, _), row in rows.items()}
    assert {task: json.loads(filters) if filters else None for task, filters in said} == {
        "returns": None,
        "interest": {"bought": "86400s", "categories": ["FOOD"], "most_per_category": 1, "price_to": 2.5},
    }


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"categories": ["FOOD/DIARY"]}, r"no item that the model knows has the category 'FOOD/DIARY' \(.*\). Did you mean FOOD/DAIRY"),
        ({"price_from": 99}, r"all 4 items are left out \(scoring\.filters\)"),
    ],
)
def test_filters_that_cannot_be_meant_are_refused(kitchen: Warehouse, filters: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        of(kitchen, **filters)
    with pytest.raises(ValueError, match="price_from is above price_to"):
        FilterSettings(price_from=2, price_to=1)


def test_without_an_item_file_the_newest_event_says_category_and_price(spark: SparkSession, tmp_path: Path) -> None:
    warehouse = shop(spark, tmp_path / "warehouse")
    old, new, later = ((FIRST + timedelta(hours=hour)) for hour in (0, 1, 99))
    times = [old, new, new, later]
    row = ("ann", "s", old, later, 4, times, ["milk"] * 4, ["view"] * 4, [1.0, 2.0, None, 3.0], ["A", None, "B", "C"], [None] * 4)
    warehouse.overwrite(SESSIONS, spark.createDataFrame([row], SESSIONS.ddl))
    found = described(warehouse, warehouse.read(SESSIONS), pd.DataFrame({"item_id": ITEMS_IN_ORDER}), FIRST_RUN)
    assert found["item_id"].tolist() == ["milk", "bread", "eggs", "salt"]
    assert found["price"].tolist()[0] == 2.0
    assert found["category"].tolist()[0] == "B"
    assert found["category"].isna().tolist() == [False, True, True, True]
