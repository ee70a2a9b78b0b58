"""The only Delta reads and writes."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from foretaste.errors import TableError
from foretaste.session import configured
from foretaste.settings import WarehouseSettings
from foretaste.tables import TABLES, Table, Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.table import Column
from tests.steps.shop import told

STOCK = Table(
    name="stock",
    comment="One row per item's shelf",
    columns=(
        Column(name="item", type="string", comment="the item's id", required=True),
        Column(name="units", type="int", comment="units on it"),
    ),
    key=("item",),
    checks={"not_negative": "units >= 0"},
    change_feed=True,
)


def stock(spark: SparkSession, *rows: tuple[str | None, int]) -> "object":
    return spark.createDataFrame(list(rows), STOCK.ddl)


def rows_of(warehouse: Warehouse, version: int | None = None) -> set[tuple[str, int]]:
    return {(row.item, row.units) for row in warehouse.read(STOCK, version).collect()}


def test_every_table_explains_itself() -> None:
    for table in TABLES.values():
        assert table.comment.startswith("One row per ")
        assert set(table.key) <= set(table.names)
        assert all(column.comment for column in table.columns)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_table_is_created_as_it_is_defined(warehouse: Warehouse, table: Table) -> None:
    warehouse.create(table)
    described = {row.col_name: row for row in warehouse.spark.sql(f"DESCRIBE TABLE {warehouse.identifier(table)}").collect()}
    assert {name: described[name].comment for name in table.names} == {column.name: column.comment for column in table.columns}
    assert warehouse.read(table).count() == 0


def test_the_log_keeps_the_smallest_and_largest_of_what_files_are_skipped_by_alone(spark: SparkSession, warehouse: Warehouse) -> None:
    warehouse.overwrite(STOCK, stock(spark, ("a", 1)))
    told(warehouse, ("ann", 1, "tea"))
    kept = {table.name: logged(warehouse, table) for table in (STOCK, EVENTS)}
    assert [sorted(stats.get("minValues", {})) for stats in kept["stock"]] == [[]]
    assert [sorted(stats["minValues"]) for stats in kept["events"]] == [["event_time", "user_id"]]
    assert [stats["numRecords"] for stats in (*kept["stock"], *kept["events"])] == [1, 1]


def logged(warehouse: Warehouse, table: Table) -> list[Any]:
    """The statistics of each file that was added."""
    log = sorted(Path(warehouse.path, table.name, "_delta_log").glob("*.json"))
    actions = [json.loads(line) for commit in log for line in commit.read_text().splitlines()]
    return [json.loads(action["add"]["stats"]) for action in actions if "add" in action]


def test_overwrite_and_time_travel(spark: SparkSession, warehouse: Warehouse) -> None:
    warehouse.overwrite(STOCK, stock(spark, ("a", 1)), {"events": 3})
    first = warehouse.version(STOCK)
    warehouse.overwrite(STOCK, stock(spark, ("b", 2)), {"events": 4})
    assert rows_of(warehouse) == {("b", 2)}
    assert rows_of(warehouse, first) == {("a", 1)}
    assert warehouse.built_from(STOCK) == {"events": 4}


def test_insert_new_adds_only_unknown_keys(spark: SparkSession, warehouse: Warehouse) -> None:
    warehouse.append(STOCK, stock(spark, ("a", 1)))
    warehouse.insert_new(STOCK, stock(spark, ("a", 9), ("b", 2)))
    assert rows_of(warehouse) == {("a", 1), ("b", 2)}


def test_replace_where_leaves_the_rest(spark: SparkSession, warehouse: Warehouse) -> None:
    warehouse.append(STOCK, stock(spark, ("a", 1), ("b", 2)))
    warehouse.replace_where(STOCK, stock(spark, ("b", 7)), "item = 'b'")
    assert rows_of(warehouse) == {("a", 1), ("b", 7)}


@pytest.mark.parametrize(("since", "until", "items"), [(1, 1, []), (1, 2, ["b"]), (2, 3, ["c"]), (1, 3, ["b", "c"])])
def test_changed_keys_between_two_versions(spark: SparkSession, warehouse: Warehouse, since: int, until: int, items: list[str]) -> None:
    """Version 0 is the empty table."""
    for item in "abc":
        warehouse.append(STOCK, stock(spark, (item, 1)))
    assert sorted(row.item for row in warehouse.changed_keys(STOCK, ["item"], since, until).collect()) == items


@pytest.mark.parametrize("row", [("a", -1), (None, 1)], ids=["CHECK", "NOT NULL"])
def test_constraints_are_on_the_table_itself(spark: SparkSession, warehouse: Warehouse, row: tuple[str | None, int]) -> None:
    warehouse.append(STOCK, stock(spark, ("a", 1)))
    with pytest.raises(Py4JJavaError, match=r"DELTA_VIOLATE_CONSTRAINT|DELTA_NOT_NULL_CONSTRAINT"):
        warehouse.append(STOCK, stock(spark, ("b", 1), row))
    assert rows_of(warehouse) == {("a", 1)}


def test_a_table_that_is_not_there(warehouse: Warehouse) -> None:
    with pytest.raises(TableError, match=r"no table stock yet .* Run the job that writes it first"):
        warehouse.read(STOCK)


def test_an_unreachable_warehouse(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(TableError, match=r"cannot be reached.*Set warehouse.path"):
        Warehouse(spark, WarehouseSettings(path=str(tmp_path / "file" / "warehouse")))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_warehouse(spark: SparkSession, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TableError, match="read-only"):
        Warehouse(spark, WarehouseSettings(path=str(tmp_path)))


def test_a_table_of_an_earlier_version_gets_the_columns_that_it_lacks(spark: SparkSession, warehouse: Warehouse) -> None:
    warehouse.overwrite(STOCK, stock(spark, ("a", 1)))
    later = replace(STOCK, columns=(*STOCK.columns, Column(name="shelf", type="string", comment="where it stands")))
    warehouse.append(later, spark.createDataFrame([("b", 2, "left")], later.ddl))
    assert {tuple(row) for row in warehouse.read(later).collect()} == {("a", 1, None), ("b", 2, "left")}
    described = {row.col_name: row.comment for row in spark.sql(f"DESCRIBE TABLE {warehouse.identifier(later)}").collect()}
    assert described["shelf"] == "where it stands"


def test_an_upsert_of_what_is_there_changes_nothing(warehouse: Warehouse) -> None:
    """Neither rows nor the version, on which other tables are built. A null equals a null."""
    table = replace(STOCK, checks={})
    assert warehouse.upsert(table, stock(warehouse.spark, ("tea", 1), ("milk", None))) == 2
    before = warehouse.version(table)
    assert warehouse.upsert(table, stock(warehouse.spark, ("milk", None), ("tea", 1))) == 0
    assert warehouse.version(table) == before
    assert warehouse.upsert(table, stock(warehouse.spark, ("milk", 2), ("tea", 1), ("salt", 3))) == 2
    assert (rows_of(warehouse), warehouse.version(table)) == ({("tea", 1), ("milk", 2), ("salt", 3)}, before + 1)


def test_quotes_in_comments_and_properties(warehouse: Warehouse) -> None:
    table = Table(name="quotes", comment="One row per 'it''s' \\ \"", columns=(Column(name="a", type="int", comment="it's"),), key=("a",))
    warehouse.create(table)
    detail = warehouse.spark.sql(f"DESCRIBE DETAIL {warehouse.identifier(table)}").head()
    assert detail is not None
    assert detail.description == table.comment


def test_an_annex_reads_the_shared_table_and_writes_its_own(warehouse: Warehouse) -> None:
    warehouse.append(STOCK, stock(warehouse.spark, ("tea", 1)))
    sharing, alone = warehouse.annex("folds/1", STOCK), warehouse.annex("folds/2")
    assert sharing.exists(STOCK)
    assert rows_of(sharing) == {("tea", 1)}
    assert sharing.changed_keys(STOCK, ["item"], since=0, until=1).collect() == [("tea",)]
    for write in (sharing.append, sharing.overwrite, sharing.upsert):
        with pytest.raises(TableError, match="another warehouse's, to be read only"):
            write(STOCK, stock(warehouse.spark, ("tea", 2)))
    assert not alone.exists(STOCK)
    alone.append(STOCK, stock(warehouse.spark, ("milk", 3)))
    assert (rows_of(alone), rows_of(warehouse)) == ({("milk", 3)}, {("tea", 1)})


def test_rows_that_are_gone_are_marked_only_where_rows_change_one_by_one(warehouse: Warehouse) -> None:
    for table in TABLES.values():
        warehouse.create(table)
        properties = warehouse.delta(table).detail().select("properties").head()[0]  # type: ignore[index]
        assert properties["delta.enableDeletionVectors"] == str(table.name in ("events", "sessions")).lower()


def test_rows_of_what_was_touched_become_the_new_ones_and_equal_ones_are_not_written(spark: SparkSession, warehouse: Warehouse) -> None:
    """a changes, b stays, c is gone, d is new; e was not touched."""
    warehouse.overwrite(STOCK, stock(spark, ("a", 1), ("b", 2), ("c", 3), ("e", 5)))
    touched = spark.createDataFrame([("a",), ("b",), ("c",), ("d",)], "item string")
    assert warehouse.replace_rows_of(STOCK, stock(spark, ("a", 7), ("b", 2), ("d", 4)), touched, {"events": 1}) == 2
    assert rows_of(warehouse) == {("a", 7), ("b", 2), ("d", 4), ("e", 5)}
    last = warehouse.version(STOCK)
    assert {row.item for row in warehouse.changed_keys(STOCK, ["item"], last - 1, last).collect()} == {"a", "c", "d"}
    assert warehouse.built_from(STOCK) == {"events": 1}


def test_settings_inside_leave_the_session_its_own(warehouse: Warehouse) -> None:
    """One that the session was started with, in tests without adaptive execution, and one that it lacks."""
    conf = warehouse.spark.conf
    with warehouse.planned_once(), configured(warehouse.spark, {"spark.sql.shuffle.partitions": "7", "spark.foretaste.none": "1"}):
        assert (conf.get("spark.sql.shuffle.partitions"), conf.get("spark.foretaste.none")) == ("7", "1")
    assert (conf.get("spark.sql.adaptive.enabled"), conf.get("spark.sql.shuffle.partitions")) == ("false", "2")
    assert conf.get("spark.foretaste.none", "gone") == "gone"


def test_rows_beyond_what_was_touched_of_a_key_stay(spark: SparkSession, warehouse: Warehouse) -> None:
    """a and b were touched, those with more than 2 alone, and all that has more than 1 is compared with."""
    warehouse.overwrite(STOCK, stock(spark, ("a", 2), ("b", 3), ("c", 4)))
    touched = spark.createDataFrame([("a", 2), ("b", 2)], "item string, above int")
    found = warehouse.replace_rows_of(STOCK, stock(spark), touched, among="target.units > touched.above", within="target.units > 1")
    assert found == 0
    assert rows_of(warehouse) == {("a", 2), ("c", 4)}


def test_rows_that_are_told_to_be_the_same_are_not_compared_further(spark: SparkSession, warehouse: Warehouse) -> None:
    warehouse.overwrite(STOCK, stock(spark, ("a", 1)))
    touched = spark.createDataFrame([("a",)], "item string")
    assert warehouse.replace_rows_of(STOCK, stock(spark, ("a", 7)), touched, told_by=["item"]) == 0
    assert rows_of(warehouse) == {("a", 1)}
