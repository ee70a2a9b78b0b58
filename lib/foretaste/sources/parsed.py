"""What a file format's reader gives: rows with the wanted columns, and the records they came from."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql.types import DataType, StringType


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Columns to look for: field of ours → the file's column, dots going into nested ones.

    explode: an array column; a record becomes one row per element of it, and one row where there is none
    key:     where the settings map the columns, for messages
    """

    columns: Mapping[str, str]
    explode: str | None = None
    key: str = "source.columns"


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """One row per record (or per element of its exploded array).

    rows:         has the columns `record` (a line, or a struct), `corrupt_line` (the line, where it does not parse) and `source_file`
    fields:       field of ours → its column of `rows`
    kinds:        field of ours → the column's type, where it is not text
    element:      the column of `rows` with the number of the exploded element, if any
    """

    rows: DataFrame
    fields: Mapping[str, Column]
    kinds: Mapping[str, DataType]
    element: Column | None = None

    def kind(self, field: str) -> DataType:
        return self.kinds.get(field, StringType())
