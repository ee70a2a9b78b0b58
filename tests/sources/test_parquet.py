"""Parquet: typed columns, as others write them."""

from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste.errors import SourceError
from foretaste.settings import EventColumns, SourceSettings, TimeFormat
from foretaste.sources import files
from foretaste.sources.parquet import read_parquet
from foretaste.sources.parsed import Wanted
from foretaste.sources.reading import faults_of


def test_times_without_a_zone_float_ids_and_numbers(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "events.parquet")
    table = pd.DataFrame(
        {"user": [1.0, None], "item": [10**12, 5], "at": [datetime(2020, 7, 1, 12, 0, 0, 250000)] * 2, "price": [1.5, float("nan")]}
    )
    table.to_parquet(path, coerce_timestamps="us", allow_truncated_timestamps=True)
    columns = EventColumns(user_id="user", item_id="item", event_time="at", price="price")
    settings = SourceSettings(path=path, format="parquet", columns=columns, time=TimeFormat(zone="Europe/Berlin"))
    raw = files.events(spark, settings).withColumn("event_time", F.col("event_time").cast("string"))
    assert [(row.user_id, row.item_id, row.event_time, row.price is None) for row in raw.collect()] == [
        ("1", "1000000000000", "2020-07-01 10:00:00.25", False),
        (None, "5", "2020-07-01 10:00:00.25", True),
    ]


def test_nested_columns_and_exploded_arrays(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "nested.parquet")
    spark.sql(
        "SELECT * FROM VALUES ('1', named_struct('i', 'x'), array(named_struct('id', 'a'), named_struct('id', 'b'))), ('2', null, array()) "
        "AS t(`u.id`, geo, items)"
    ).write.parquet(path)
    wanted = Wanted(columns={"user_id": "u.id", "category": "geo.i", "item_id": "items.id"}, explode="items")
    parsed = read_parquet(spark, path, {}, wanted)
    rows = sorted(tuple(row) for row in parsed.rows.select(*parsed.fields.values(), F.to_json("record")).collect())
    assert [row[:3] for row in rows] == [("1", "x", "a"), ("1", "x", "b"), ("2", None, None)]
    assert rows[0][3] == '{"u.id":"1","geo":{"i":"x"},"items":[{"id":"a"},{"id":"b"}]}'


def test_what_cannot_be_read_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pd.DataFrame({"user": ["1"], "at": [1]}).to_parquet(path)
    with pytest.raises(SourceError, match=r"no column 'users' \(source.columns.user_id\) .* mean 'user'\? Found: user, at"):
        read_parquet(spark, str(path), {}, Wanted(columns={"user_id": "users"}))
    with pytest.raises(SourceError, match="no array 'user' to explode"):
        read_parquet(spark, str(path), {}, Wanted(columns={"user_id": "user"}, explode="user"))
    path.write_bytes(b"user,at\n1,2\n" * 10)
    with pytest.raises(SourceError, match="it is not a Parquet file"), faults_of(str(path)):
        read_parquet(spark, str(path), {}, Wanted(columns={"user_id": "user"}))
    pd.DataFrame({"user": ["1"], "at": pd.to_datetime(["2020-01-01"]).astype("datetime64[ns]")}).to_parquet(path)
    with pytest.raises(SourceError, match="nanoseconds"), faults_of(str(path)):
        read_parquet(spark, str(path), {}, Wanted(columns={"user_id": "user"}))
