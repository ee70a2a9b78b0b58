"""How sources write times, read into timestamps; what cannot be read is null, and never an error (with ANSI casts on, too)."""

import re
from contextlib import AbstractContextManager

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType, TimestampNTZType, TimestampType

from foretaste.errors import SourceError
from foretaste.faults import root_cause
from foretaste.session import configured
from foretaste.settings import TimeFormat

NUMBER = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*$"
_MICROSECONDS_IN = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
_MAX_MICROSECONDS = 9e18  # bigint holds 9.2e18
_DATE = r"^\s*[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_WITHOUT_ZONE = _DATE + r"([ T]([0-9]{1,2}(:[0-9]{1,2}(:[0-9]{1,2}(\.[0-9]*)?)?)?)?)?\s*$"


def as_timestamp(column: Column, kind: DataType, time: TimeFormat) -> Column:
    """`column`, of type `kind`, as a timestamp. The session's time zone is UTC; a time without a zone is one of `time.zone`.

    A column that is a date or a timestamp already needs no format; sub-second digits are kept to the microsecond.
    """
    if isinstance(kind, TimestampType):
        return column
    if isinstance(kind, TimestampNTZType | DateType):
        return _from_zone(column.cast("timestamp"), time.zone)
    text = column.cast("string")
    if time.format in _MICROSECONDS_IN:
        return F.timestamp_micros(_microseconds(text, _MICROSECONDS_IN[time.format]))
    if time.format == "iso":  # Spark's cast would take `12:30` for today and `2019` for a year
        instant = F.when(text.rlike(_DATE), F.try_to_timestamp(text))
        if time.zone == "UTC":
            return instant
        return F.when(text.rlike(_WITHOUT_ZONE), _from_zone(instant, time.zone)).otherwise(instant)
    instant = F.try_to_timestamp(text, F.lit(time.format))
    return instant if _names_a_zone(time.format) else _from_zone(instant, time.zone)


def plus_milliseconds(instant: Column, offset: Column) -> Column:
    """`instant` moved by the number in `offset`; null where that is none."""
    sum_of_both = F.unix_micros(instant).cast("decimal(28,0)") + _microseconds(offset.cast("string"), 1_000).cast("decimal(28,0)")
    return F.timestamp_micros(F.when(F.abs(sum_of_both.cast("double")) < _MAX_MICROSECONDS, sum_of_both.cast("bigint")))


def check(spark: SparkSession, time: TimeFormat) -> None:
    """SourceError where Spark knows no such pattern or zone."""
    checks = [F.to_utc_timestamp(F.lit("2000-01-01 00:00:00"), time.zone)]
    if time.format not in (*_MICROSECONDS_IN, "iso"):
        checks.append(F.try_to_timestamp(F.lit("2000-01-01"), F.lit(time.format)))
    for name, attempt in zip(("zone", "format"), checks, strict=False):
        try:
            spark.range(1).select(attempt).collect()
        except Exception as error:
            value = getattr(time, name)
            kinds = (
                "a zone such as UTC or Europe/Berlin"
                if name == "zone"
                else f"one of {', '.join(_MICROSECONDS_IN)}, iso, or a Spark pattern"
            )
            raise SourceError(
                f"times cannot be read by {name} {value!r}: {root_cause(error)}", where=f"source.time.{name}", fix=f"Use {kinds}."
            ) from error


def strict_patterns(spark: SparkSession) -> AbstractContextManager[None]:
    """Inside, a time that only Spark 2's parser would read is null: by default Spark ends the job there."""
    return configured(spark, {"spark.sql.legacy.timeParserPolicy": "CORRECTED"})


def _microseconds(text: Column, scale: int) -> Column:
    """Exact to the last digit: a double would blur microseconds."""
    number = F.when(text.rlike(NUMBER), text.cast("double"))
    fits = F.abs(number) * scale < _MAX_MICROSECONDS
    return F.when(fits, (F.when(fits, F.trim(text)).cast("decimal(28,9)") * F.lit(scale)).cast("bigint"))


def _from_zone(wall_clock: Column, zone: str) -> Column:
    return wall_clock if zone == "UTC" else F.to_utc_timestamp(wall_clock, zone)


def _names_a_zone(pattern: str) -> bool:
    return re.search("[zZxXVO]", re.sub("'[^']*'", "", pattern)) is not None
