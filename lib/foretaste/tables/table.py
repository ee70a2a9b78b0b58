"""What a table is. A table's own file defines its TABLE (columns, key, checks) beside its pure `build`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its type in SQL, what it means, and whether it may be null."""

    name: str
    type: str
    comment: str
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table's definition. `comment` starts with "One row per …"; `checks` are CHECK constraints by name."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    checks: Mapping[str, str] = field(default_factory=dict)
    partitioned_by: tuple[str, ...] = ()
    clustered_by: tuple[str, ...] = ()
    change_feed: bool = False

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def ddl(self) -> str:
        """The columns as Spark's `createDataFrame` takes them (all nullable: Delta itself holds the NOT NULLs)."""
        return ", ".join(f"`{column.name}` {column.type}" for column in self.columns)

    def select(self, rows: DataFrame) -> DataFrame:
        """`rows` with exactly this table's columns, cast to its types: the contract at the end of every build."""
        return rows.select(*[F.col(column.name).cast(column.type).alias(column.name) for column in self.columns])

    def _statistics(self) -> Mapping[str, str]:
        """Of which columns a file's smallest and largest value are kept: those that tell files apart. The others lie in all alike."""
        times = [column.name for column in self.columns if column.type == "timestamp"]
        kept = [name for name in dict.fromkeys((*self.clustered_by, *times)) if name not in self.partitioned_by]
        return {"delta.dataSkippingStatsColumns": ",".join(kept)} if kept else {"delta.dataSkippingNumIndexedCols": "0"}

    def create_statement(self, identifier: str, marks: Mapping[str, str]) -> str:
        """The SQL that makes this table, if it is not there, with comments, NOT NULLs, CHECKs, layout and `marks` (properties)."""
        columns = ", ".join(
            f"`{column.name}` {column.type}{' NOT NULL' if column.required else ''} COMMENT {quoted(column.comment)}"
            for column in self.columns
        )
        layout = ""
        if self.partitioned_by:
            layout = f"PARTITIONED BY ({', '.join(self.partitioned_by)})"
        elif self.clustered_by:
            layout = f"CLUSTER BY ({', '.join(self.clustered_by)})"
        properties = {
            # Where rows change one by one, marks of those that are gone spare the others in their files a copy. Not where Petastorm reads:
            # it reads whole files, and deleted rows would come back.
            "delta.enableDeletionVectors": str(self.change_feed).lower(),
            "delta.enableChangeDataFeed": str(self.change_feed).lower(),
            **self._statistics(),
            **{f"delta.constraints.{name}": condition for name, condition in self.checks.items()},
            **marks,
        }
        pairs = ", ".join(f"{quoted(key)} = {quoted(value)}" for key, value in properties.items())
        return (
            f"CREATE TABLE IF NOT EXISTS {identifier} ({columns}) USING DELTA {layout} "
            f"COMMENT {quoted(self.comment)} TBLPROPERTIES ({pairs})"
        )


def quoted(text: str) -> str:
    """`text` as a string in SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
