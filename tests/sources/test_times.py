"""Each way to write a time, with what it must be read as."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste.errors import SourceError
from foretaste.settings import TimeFormat
from foretaste.sources import times


@pytest.fixture
def ansi(spark: SparkSession) -> Iterator[None]:
    """Databricks may turn it on: a cast of bad text is an error then."""
    spark.conf.set("spark.sql.ansi.enabled", "true")
    yield
    spark.conf.unset("spark.sql.ansi.enabled")


def read(spark: SparkSession, texts: list[str], time: TimeFormat) -> list[str | None]:
    rows = spark.createDataFrame(list(enumerate(texts)), "number int, text string")
    parsed = times.as_timestamp(F.col("text"), rows.schema["text"].dataType, time)
    with times.strict_patterns(spark):
        return [row[0] for row in rows.orderBy("number").select(parsed.cast("string")).collect()]


def check(spark: SparkSession, time: TimeFormat, expected: dict[str, str | None]) -> None:
    assert dict(zip(expected, read(spark, list(expected), time), strict=True)) == expected


@pytest.mark.usefixtures("ansi")
def test_unix_times_keep_their_sub_second_digits(spark: SparkSession) -> None:
    check(
        spark,
        TimeFormat(format="seconds"),
        {
            "1396860669": "2014-04-07 08:51:09",
            "1396860669.277": "2014-04-07 08:51:09.277",
            "1396860669.123456": "2014-04-07 08:51:09.123456",
            " 1.396860669277E9 ": "2014-04-07 08:51:09.277",
            "-1": "1969-12-31 23:59:59",
            "": None,
            "NaN": None,
            "1d": None,
            "9" * 60: None,
            "1e999": None,
            "1e-999999999": None,
            "2014-04-07": None,
        },
    )
    check(
        spark,
        TimeFormat(format="milliseconds"),
        {"1396860669277": "2014-04-07 08:51:09.277", "1396860669277.5": "2014-04-07 08:51:09.2775"},
    )
    check(spark, TimeFormat(format="microseconds"), {"1396860669277001": "2014-04-07 08:51:09.277001", "x": None})


@pytest.mark.usefixtures("ansi")
def test_iso_times_with_and_without_a_zone(spark: SparkSession) -> None:
    check(
        spark,
        TimeFormat(format="iso", zone="Europe/Berlin"),
        {
            "2019-10-01 00:00:00 UTC": "2019-10-01 00:00:00",
            "2019-10-01T00:00:00Z": "2019-10-01 00:00:00",
            "2019-10-01T00:00:00+0300": "2019-09-30 21:00:00",
            "2019-10-01T00:00:00.123456+03:00": "2019-09-30 21:00:00.123456",
            "2019-10-01T00:00:00": "2019-09-30 22:00:00",
            "2019-12-01 12:30": "2019-12-01 11:30:00",
            "2019-10-01": "2019-09-30 22:00:00",
            "2019-02-30": None,
            "12:30": None,
            "2019": None,
            "1569888000": None,
            "yesterday": None,
            "": None,
        },
    )


@pytest.mark.usefixtures("ansi")
def test_a_pattern_reads_only_what_it_says(spark: SparkSession) -> None:
    zoned = TimeFormat(format="dd.MM.yyyy HH:mm", zone="Europe/Berlin")
    check(spark, zoned, {"01.10.2019 12:00": "2019-10-01 10:00:00", "1.10.2019 12:00": None, "32.10.2019 12:00": None, "": None})
    named = TimeFormat(format="yyyy-MM-dd HH:mm:ss z", zone="Europe/Berlin")
    check(spark, named, {"2019-10-01 12:00:00 UTC": "2019-10-01 12:00:00"})


def test_typed_columns_need_no_format(spark: SparkSession) -> None:
    row = spark.sql(
        "SELECT TIMESTAMP_NTZ'2019-10-01 12:00:00.5' AS wall, TIMESTAMP'2019-10-01 12:00:00' AS instant, "
        "DATE'2019-10-01' AS day, 1569931200L AS unix"
    )
    berlin = TimeFormat(format="seconds", zone="Europe/Berlin")
    parsed = [times.as_timestamp(F.col(name), row.schema[name].dataType, berlin).cast("string") for name in row.columns]
    assert list(row.select(*parsed).collect()[0]) == [
        "2019-10-01 10:00:00.5",
        "2019-10-01 12:00:00",
        "2019-09-30 22:00:00",
        "2019-10-01 12:00:00",
    ]


def test_an_offset_that_is_no_number_leaves_no_time(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("1500",), ("-1",), ("x",), (None,), ("9" * 30,)], "offset string")
    moved = times.plus_milliseconds(F.lit("2020-01-01 00:00:00").cast("timestamp"), F.col("offset"))
    expected = ["2020-01-01 00:00:01.5", "2019-12-31 23:59:59.999", None, None, None]
    assert [row[0] for row in rows.select(moved.cast("string")).collect()] == expected


@pytest.mark.parametrize(
    ("time", "where"),
    [
        (TimeFormat(format="second"), "source.time.format"),
        (TimeFormat(format="YYYY-MM-dd"), "source.time.format"),
        (TimeFormat(zone="Mars/Olympus"), "source.time.zone"),
    ],
)
def test_a_format_or_zone_that_spark_does_not_know_is_named(spark: SparkSession, time: TimeFormat, where: str) -> None:
    with pytest.raises(SourceError) as caught:
        times.check(spark, time)
    assert caught.value.where == where
    assert "\n" not in str(caught.value)


def test_the_parser_policy_is_put_back(spark: SparkSession) -> None:
    policy = "spark.sql.legacy.timeParserPolicy"
    before = spark.conf.get(policy)
    with times.strict_patterns(spark):
        assert spark.conf.get(policy) == "CORRECTED"
    assert spark.conf.get(policy) == before
