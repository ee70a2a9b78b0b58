"""A small shop's events for the tests of steps, and how two warehouses are compared."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame

from foretaste.settings import WarehouseSettings
from foretaste.tables import Table, Warehouse
from foretaste.tables.events import EVENTS

MONDAY = datetime(2024, 4, 1, tzinfo=UTC)
Event = tuple[str, float, str]  # user, hours after MONDAY, item


def told(warehouse: Warehouse, *events: Event, kind: str = "view") -> None:
    """Adds events as ingest does: those whose id is not there yet."""
    rows = [
        (
            user,
            item,
            kind,
            MONDAY + timedelta(hours=hour),
            None,
            1.0 + len(item),
            None,
            item[:1],
            None,
            "shop",
            f"{user} {hour} {item}",
            None,
        )
        for user, hour, item in events
    ]
    warehouse.insert_new(EVENTS, warehouse.spark.createDataFrame(rows, EVENTS.ddl))


def another(warehouse: Warehouse, path: Path) -> Warehouse:
    """An empty warehouse with the same events, in one batch."""
    fresh = Warehouse(warehouse.spark, WarehouseSettings(path=str(path)))
    fresh.overwrite(EVENTS, warehouse.read(EVENTS))
    return fresh


def equal(table: Table, one: Warehouse, other: Warehouse) -> bool:
    """Row for row, in any order."""
    left, right = one.read(table), other.read(table)
    return left.exceptAll(right).isEmpty() and right.exceptAll(left).isEmpty() and not left.isEmpty()


def changes(warehouse: Warehouse, table: Table, since: int) -> DataFrame:
    """The change feed after version `since`."""
    feed = warehouse.spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", since + 1)
    return feed.load(f"{warehouse.path}/{table.name}")
