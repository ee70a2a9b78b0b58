"""A line a user: the order is told, and times are made up by it."""

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste.errors import SourceError
from foretaste.settings import SourceSettings
from foretaste.sources import files
from foretaste.sources.judge import judge
from foretaste.sources.lines import FIRST_TIME


def read(spark: SparkSession, folder: Path, text: str, **changes: Any) -> list[tuple[Any, ...]]:
    """(user, item, seconds after FIRST_TIME, reason, record), in the file's order."""
    (folder / "users.txt").write_text(text, encoding="utf-8")
    raw = files.events(spark, SourceSettings(path=str(folder / "*.txt"), format="lines", **changes))
    judged = judge(raw, "reviews", FIRST_TIME, FIRST_TIME.replace(year=2030))
    seconds = F.unix_seconds("event_time") - int(FIRST_TIME.timestamp())
    return [tuple(row) for row in judged.select("user_id", "item_id", seconds, "reason", "record").collect()]


def test_events_are_a_second_apart_in_the_order_of_the_line(spark: SparkSession, tmp_path: Path) -> None:
    assert read(spark, tmp_path, "7 30 4 30\n\nann\ttea  milk \n") == [
        ("7", "30", 0, None, None),
        ("7", "4", 1, None, None),
        ("7", "30", 2, None, None),
        ("ann", "tea", 0, None, None),
        ("ann", "milk", 1, None, None),
    ]


def test_a_user_without_items_is_no_event(spark: SparkSession, tmp_path: Path) -> None:
    assert read(spark, tmp_path, "7\n8 1\n") == [("7", None, None, "malformed_record", "7"), ("8", "1", 0, None, None)]


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("1 2 3\n1 4\n2 5\n", {}, r"1 users have more than one line"),
        (" \n", {}, "the file is empty"),
        ("1 2\n", {"columns": {"user_id": "u", "event_time": "t"}}, "no columns to map"),
    ],
)
def test_what_cannot_be_read_says_why(spark: SparkSession, tmp_path: Path, text: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(spark, tmp_path, text, **changes)
