"""The only Delta reads and writes: a Warehouse keeps tables by path or in a catalog."""

import functools
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from delta.tables import DeltaMergeBuilder, DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType, _parse_datatype_string

from foretaste.errors import TableError
from foretaste.session import configured
from foretaste.settings import WarehouseSettings
from foretaste.tables import differences
from foretaste.tables.conflicts import make, retried
from foretaste.tables.table import Table, quoted

_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"


class Warehouse:
    """The tables of one deployment: `<path>/<table>` or `catalog.schema.table`.

    shared: tables that lie in another warehouse; this one reads them there, and never writes them
    private: its folder is made for nobody but who runs the job
    """

    def __init__(
        self, spark: SparkSession, settings: WarehouseSettings, shared: Mapping[str, "Warehouse"] | None = None, *, private: bool = False
    ) -> None:
        self.spark = spark
        self.settings = settings
        self.shared = shared or {}
        self.path = settings.path if "://" in settings.path else os.path.abspath(settings.path)
        if "://" not in self.path:
            _check_folder(Path(self.path), private)
        if settings.catalog:
            self.run(f"CREATE SCHEMA IF NOT EXISTS `{settings.catalog}`.`{settings.schema_name}`")

    def annex(self, name: str, *shared: Table) -> "Warehouse":
        """A warehouse of its own under this one, which reads the `shared` tables here: `<path>/<name>`, `catalog.schema_<name>`."""
        schema = f"{self.settings.schema_name}_{name.replace('/', '_')}" if self.settings.catalog else None
        settings = WarehouseSettings(path=f"{self.path}/{name}", catalog=self.settings.catalog, schema=schema)
        return Warehouse(self.spark, settings, {table.name: self for table in shared})

    def identifier(self, table: Table) -> str:
        """How SQL names the table."""
        if table.name in self.shared:
            return self.shared[table.name].identifier(table)
        if self.settings.catalog:
            return f"`{self.settings.catalog}`.`{self.settings.schema_name}`.`{table.name}`"
        return f"delta.`{self._folder(table)}`"

    def _folder(self, table: Table) -> str:
        return f"{self.shared.get(table.name, self).path}/{table.name}"

    def lies_in(self, other: "Warehouse") -> bool:
        """Whether this one is the other, or a folder of it."""
        if self.settings.catalog:
            return (self.settings.catalog, self.settings.schema_name) == (other.settings.catalog, other.settings.schema_name)
        return other.settings.catalog is None and f"{self.path}/".startswith(f"{other.path}/")

    def exists(self, table: Table) -> bool:
        if self.settings.catalog:
            return self.spark.catalog.tableExists(self.identifier(table))
        return DeltaTable.isDeltaTable(self.spark, self._folder(table))

    @retried
    def create(self, table: Table, marks: Mapping[str, str] | None = None) -> None:
        """Creates the table with its comments, NOT NULLs, CHECKs, layout and `marks` (properties), if it is not there.

        One that an earlier version wrote gets the columns that it lacks, null in the rows that are there, and so without NOT NULL.
        """
        if self.exists(table):
            self._complete(table)
            return
        make(self, table, table.create_statement(self.identifier(table), marks or {}))

    def property(self, table: Table, name: str) -> str | None:
        """What the table's property of that name is."""
        properties = self.delta(table).detail().select("properties").head()[0]  # type: ignore[index]
        value = properties.get(name)
        return None if value is None else str(value)

    def set_property(self, table: Table, name: str, value: str) -> None:
        self.run(f"ALTER TABLE {self.identifier(table)} SET TBLPROPERTIES ({quoted(name)} = {quoted(value)})")

    def _complete(self, table: Table) -> None:
        there = set(self.read(table, checked=False).columns)
        new = [column for column in table.columns if column.name not in there]
        if new and table.name not in self.shared:
            columns = ", ".join(f"`{column.name}` {column.type} COMMENT {quoted(column.comment)}" for column in new)
            self.run(f"ALTER TABLE {self.identifier(table)} ADD COLUMNS ({columns})")

    def read(self, table: Table, version: int | None = None, *, checked: bool = True) -> DataFrame:
        """The table as it is now, or as it was at `version`; TableError if there is none, or (checked) if it has other columns now."""
        if not self.exists(table):
            raise TableError(f"there is no table {table.name} yet", where=self.identifier(table), fix="Run the job that writes it first.")
        at = "" if version is None else f" VERSION AS OF {int(version)}"
        rows = self.spark.sql(f"SELECT * FROM {self.identifier(table)}{at}")
        if not checked:
            return rows
        there = {field.name: field.dataType.simpleString() for field in rows.schema}
        lacking = [name for name in table.key if name not in there]  # others an earlier release may not have had
        other = [name for name, kind in _types(table.ddl).items() if there.get(name, kind) != kind]
        if (lacking or other) and version in (None, self.version(table)):
            what = f"has no column {lacking[0]}" if lacking else f"has a column {other[0]} of another type"
            raise TableError(
                f"the table {table.name} {what}: another program wrote it, or an earlier release", where=self.identifier(table),
                fix="Run the job that writes it; or RESTORE it to a version before.",
            )  # fmt: skip
        return rows

    def read_as_it_is(self, table: Table) -> DataFrame:
        """The table at its newest version, for what is cached: without a version, a commit has it planned and computed anew."""
        return self.read(table, self.version(table))

    def delta(self, table: Table) -> DeltaTable:
        """Delta's own handle, for MERGE, DELETE and the history."""
        return DeltaTable.forName(self.spark, self.identifier(table))

    def version(self, table: Table) -> int:
        """The newest version's number."""
        return int(self.delta(table).history(1).select("version").head()[0])  # type: ignore[index]

    def changed_keys(self, table: Table, key: Sequence[str], since: int, until: int) -> DataFrame:
        """The distinct keys of rows that were inserted, updated or deleted after version `since`, up to `until` (needs `change_feed`)."""
        if since >= until:
            return self.read(table).select(*key).limit(0)
        # The table's own reader takes a name or a path, depending on where the table lies.
        reader = self.spark.read.option("readChangeFeed", "true").option("startingVersion", since + 1).option("endingVersion", until)
        changes = reader.table(self.identifier(table)) if self.settings.catalog else reader.format("delta").load(self._folder(table))
        return changes.select(*key).distinct()

    @retried
    def append(self, table: Table, rows: DataFrame, built_from: Mapping[str, object] | None = None) -> None:
        self.create(table)
        self._save(table, rows, "append", {}, built_from)

    @retried
    def overwrite(self, table: Table, rows: DataFrame, built_from: Mapping[str, object] | None = None) -> None:
        """Replaces all rows in one commit; readers see the old or the new ones, never a mixture."""
        self.create(table)
        self._save(table, rows, "overwrite", {}, built_from)

    @retried
    def replace_where(self, table: Table, rows: DataFrame, where: str, built_from: Mapping[str, object] | None = None) -> None:
        """Replaces the rows that meet `where` by `rows` (which must all meet it) in one commit."""
        self.create(table)
        self._save(table, rows, "overwrite", {"replaceWhere": where}, built_from)

    @retried
    def insert_new(self, table: Table, rows: DataFrame, within: str = "true") -> int:
        """Adds the rows whose key the table lacks, and returns how many those were.

        `within` is a condition on `target` that prunes the files to compare with.
        """
        self.create(table)
        merge = self.delta(table).alias("target").merge(rows.alias("source"), f"{differences.same_key(table)} AND ({within})")
        return self._merge(table, merge.whenNotMatchedInsertAll())

    @retried
    def upsert(self, table: Table, rows: DataFrame) -> int:
        """Adds the rows whose key the table lacks and replaces those that differ; returns how many both are."""
        self.create(table)
        changed = differences.changed(table, rows, self.read(table))
        merge = self.delta(table).alias("target").merge(changed.alias("source"), differences.same_key(table))
        return self._merge(table, merge.whenMatchedUpdateAll().whenNotMatchedInsertAll())

    @retried
    def replace_rows_of(
        self,
        table: Table,
        rows: DataFrame,
        touched: DataFrame,
        built_from: Mapping[str, object] | None = None,
        told_by: Sequence[str] | None = None,
        among: str = "true",
        within: str = "true",
    ) -> int:
        """Makes the rows whose key begins with one in `touched` (the key's first columns) equal to `rows`, in one commit.

        Only rows that differ are written, and only they reach the merge; returns how many were added or changed.
        told_by: columns that differ wherever anything of a row does; all, unless given
        among: a condition on `touched` and `target`, the table, that the rows meet which are replaced
        within: a condition on `target` that all rows of `rows` and all that they replace meet; it prunes the files to compare with
        """
        with self.planned_once():
            source = differences.differing(table, rows, self.read_as_it_is(table), touched, told_by, among, within).persist()
        try:
            values: dict[str, str | SparkColumn] = {name: f"source.`{name}`" for name in table.names}
            merge = self.delta(table).alias("target").merge(source.alias("source"), f"{differences.same_key(table)} AND ({within})")
            merge = merge.whenMatchedDelete(condition=f"source.{differences.IS_THERE} IS NULL").whenMatchedUpdate(set=values)
            return self._merge(table, merge.whenNotMatchedInsert(values=values), built_from)
        finally:
            source.unpersist()

    @retried
    def delete(self, table: Table, keys: DataFrame) -> int:
        """Deletes the rows that have the values of a row of `keys` in its columns; returns how many those were.

        `keys` has few rows: they are broadcast, so that the others stay in the order and the files in which they lie. No condition names
        them, so neither does the log. Where nothing is to be deleted there is no new version.
        """
        few = F.broadcast(keys)
        count = self.read(table, checked=False).join(few, on=keys.columns, how="left_semi").count()
        if count:
            same = " AND ".join(f"target.`{name}` = source.`{name}`" for name in keys.columns)
            with self.noted(self.built_from(table) or None):
                self._refuse_shared(table)
                self.delta(table).alias("target").merge(few.alias("source"), same).whenMatchedDelete().execute()
        return count

    def location(self, table: Table) -> str:
        """The folder that the table lies in."""
        return str(self.delta(table).detail().select("location").head()[0])  # type: ignore[index]

    @contextmanager
    def rows_per_group(self, number: int) -> Iterator[None]:
        """Parquet files written inside have row groups of `number` rows.

        Parquet 1.13 knows a row group's size in bytes only, but looks at it first after so many rows, and then one byte is too many.
        """
        settings = {
            "parquet.block.size": "1",
            "parquet.page.size.row.check.min": str(number),
            "parquet.page.size.row.check.max": str(number),
        }
        with configured(self.spark, settings):
            yield

    @contextmanager
    def planned_once(self) -> Iterator[None]:
        """Queries planned inside (`persist` plans) are not planned anew after each stage.

        With each plan Delta looks in a job of its own which files of a table have deletion vectors; where few rows are touched, that takes
        longer than their work.
        """
        with configured(self.spark, {"spark.sql.adaptive.enabled": "false"}):
            yield

    def built_from(self, table: Table, version: int | None = None) -> dict[str, object]:
        """What the last build, or the last one up to `version`, said it was built from ({} if it never did)."""
        if not self.exists(table):
            return {}
        commits = self.delta(table).history().where("get_json_object(userMetadata, '$.built_from') IS NOT NULL").orderBy(F.desc("version"))
        if version is not None:
            commits = commits.where(F.col("version") <= version)
        last = commits.select("userMetadata").head()
        return dict(json.loads(last[0])["built_from"]) if last else {}

    @contextmanager
    def noted(self, built_from: Mapping[str, object] | None) -> Iterator[None]:
        """Commits made inside carry `built_from`, in the same transaction as their rows."""
        if built_from is None:
            yield
            return
        with configured(self.spark, {_USER_METADATA: json.dumps({"built_from": built_from}, sort_keys=True)}):
            yield

    def _merge(self, table: Table, merge: DeltaMergeBuilder, built_from: Mapping[str, object] | None = None) -> int:
        """Runs the merge. Returns how many rows it wrote, as the table's history has it: one that changes nothing makes no commit."""
        self._refuse_shared(table)
        mark = uuid.uuid4().hex  # tells this commit from another writer's
        note = {"commit": mark} | ({} if built_from is None else {"built_from": built_from})
        with configured(self.spark, {_USER_METADATA: json.dumps(note, sort_keys=True)}):
            merge.execute()
        mine = self.delta(table).history().where(f"get_json_object(userMetadata, '$.commit') = '{mark}'")
        done = mine.orderBy(F.desc("version")).select("operationMetrics").head()
        return 0 if done is None else sum(int(done[0].get(name, 0)) for name in ("numTargetRowsInserted", "numTargetRowsUpdated"))

    def _save(self, table: Table, rows: DataFrame, mode: str, options: Mapping[str, str], built_from: Mapping[str, object] | None) -> None:
        self._refuse_shared(table)
        writer = rows.write.format("delta").mode(mode).options(**options)
        with self.noted(built_from):
            if self.settings.catalog:
                writer.saveAsTable(self.identifier(table))
            else:
                writer.save(self._folder(table))

    def _refuse_shared(self, table: Table) -> None:
        if table.name in self.shared:
            raise TableError(
                f"the table {table.name} is another warehouse's, to be read only", where=self.path, fix="Write it in its own warehouse."
            )

    def run(self, statement: str) -> None:
        """Runs a statement; TableError where the warehouse refuses it."""
        try:
            self.spark.sql(statement)
        except (AnalysisException, Py4JJavaError) as error:
            reason = str(error).splitlines()[0][:300]
            raise TableError(
                f"the warehouse refused: {reason}", where=self.path, fix="Check that it is reachable and that you may write there."
            ) from error


@functools.cache
def _types(ddl: str) -> Mapping[str, str]:
    """Column → its type, as Spark writes it."""
    columns = _parse_datatype_string(ddl)
    assert isinstance(columns, StructType)
    return {field.name: field.dataType.simpleString() for field in columns}


def _check_folder(folder: Path, private: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
    except OSError as error:
        raise TableError(
            f"the warehouse cannot be reached: {error.strerror}", where=str(folder), fix="Set warehouse.path to a folder you may write to."
        ) from error
    if not os.access(folder, os.W_OK):
        raise TableError("the warehouse is read-only", where=str(folder), fix="Set warehouse.path to a folder you may write to.")
