"""Rows to learn from, as `sequences` has them, written out."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession

A, B, C, D, E = range(2, 7)  # the items of the tests
NUM_ITEMS = 7
LENGTH = 6
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Row(NamedTuple):
    user: str
    item: list[int]
    fresh: int | None = None  # all of them
    hours: float = 0.0  # before NOON
    gap: list[int] | None = None  # buckets; 1 s each
    split: str = "train"
    cut: str = "window"


def frame(spark: SparkSession, rows: Sequence[Row]) -> DataFrame:
    ddl = "user_id string, split string, cut string, as_of timestamp, length int, fresh int, item array<int>, gap array<int>"
    return spark.createDataFrame([_columns(row) for row in rows], ddl)


def _columns(row: Row) -> tuple[Any, ...]:
    pad = [0] * (LENGTH - len(row.item))
    fresh = len(row.item) if row.fresh is None else row.fresh
    as_of = NOON - timedelta(hours=row.hours)
    return row.user, row.split, row.cut, as_of, len(row.item), fresh, pad + row.item, pad + (row.gap or [3] * len(row.item))
