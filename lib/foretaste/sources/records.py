"""The one shape that every source gives: raw records, as the source wrote them, before anything is judged."""

from collections.abc import Mapping
from typing import Protocol

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, FloatType

from foretaste.settings import SourceSettings

TEXT_FIELDS = ("user_id", "item_id", "event_type", "session_hint", "category", "campaign_id", "event_id")
"""Text as the source has it, but event_type: one of our names, null where the source's name for it is unknown."""

NUMBER_FIELDS = ("price", "quantity")
"""Numbers of any type, or text, as the source has it."""

ITEM_FIELDS = ("item_id", "name", "category", "brand", "price")

_EXACT_WHOLE = 2.0**53  # up to here a double holds every whole number


class Source(Protocol):
    """What a module of SOURCES offers."""

    CAVEAT: str
    """What whoever sees this source's name must know of its data; "" for nothing."""

    def events(self, spark: SparkSession, settings: SourceSettings) -> DataFrame:
        """Raw records (see `raw_records`). SourceError if the source is missing or not in the shape that the settings say."""

    def items(self, spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
        """ITEM_FIELDS as text, a null item_id where a record does not parse; None if the source has no items."""

    def campaigns(self, spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
        """What tables.campaigns.build reads; None if the source has no campaigns."""

    def promotions(self, spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
        """What tables.promotions.build reads, where `settings.promotions` asks for them; else None."""

    def types(self, spark: SparkSession, settings: SourceSettings) -> Mapping[str, str]:
        """The type of each column that is read, in SQL's words, where the source has types; {} where all is text."""

    def has_own_ids(self, settings: SourceSettings) -> bool:
        """Whether event ids are the source's own, so that one of them may come back with another time."""


def raw_records(
    rows: DataFrame,
    fields: Mapping[str, Column],
    *,
    event_time: Column,
    source_file: Column,
    record: Column,
    corrupt_line: Column | None = None,
    extra: Column | None = None,
) -> DataFrame:
    """One row per record of the source: TEXT_FIELDS and NUMBER_FIELDS (null where `fields` has none), and

    event_time    timestamp, null where the source's time cannot be read
    source_file   the file it was read from
    record        the record as read: its line, or a struct of its columns
    corrupt_line  the line, where it does not parse; else null
    extra         other columns that are to be kept, as JSON; null without any
    """
    nothing = F.lit(None).cast("string")
    return rows.select(
        *[fields.get(name, nothing).cast("string").alias(name) for name in TEXT_FIELDS],
        *[fields.get(name, nothing).alias(name) for name in NUMBER_FIELDS],
        event_time.cast("timestamp").alias("event_time"),
        source_file.cast("string").alias("source_file"),
        record.alias("record"),
        (nothing if corrupt_line is None else corrupt_line).alias("corrupt_line"),
        (nothing if extra is None else extra).alias("extra"),
    )


def as_text(column: Column, kind: DataType) -> Column:
    """A column of any type as text: whole floats without their `.0`, for pandas turns integer ids into floats where one is null."""
    if not isinstance(kind, FloatType | DoubleType):
        return column.cast("string")
    whole = (column == F.floor(column)) & (F.abs(column) < _EXACT_WHOLE)
    return F.when(whole, column.cast("bigint").cast("string")).otherwise(F.when(~F.isnan(column), column.cast("string")))
