"""Finds the files of one version of `sequences`. The only part of the feed that needs Spark: it runs once, in the driver."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.errors import FeedError
from foretaste.feed.snapshot import FILE_GONE, FOOTERS, Pin, footers, row_groups_of, unreadable
from foretaste.tables import Table, Warehouse
from foretaste.tables.sequences import SEQUENCES

_FEW_FILES = 64  # footers of more are read in Spark tasks
_SKIPS = ("spark.sql.files.ignoreMissingFiles", "spark.sql.files.ignoreCorruptFiles")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def pin(warehouse: Warehouse, split: str, cut: str | None, version: int | None = None, table: Table = SEQUENCES) -> Pin:
    """The rows of `split` and `cut` (None: any) as they were at `version` (None: now), of sequences or a table like it.

    TableError if there is no table. FeedError if there is no such version or no row, if a file is gone or cut short,
    and if the files hold rows that the version does not (deletion vectors): Parquet readers would bring them back.
    """
    for name in _SKIPS:
        if warehouse.spark.conf.get(name, "false") == "true":
            raise FeedError(
                "Spark would skip files that it cannot read", where=name, fix=f"Set {name} to false: rows would be lost silently."
            )
    warehouse.read(table)  # raises if there is none
    number = warehouse.version(table) if version is None else version
    named = Pin(table=table.name, version=number, split=split, cut=cut, num_rows=0, files=())
    live = _rows_by_file(warehouse, table, named)
    if not live:
        raise FeedError(
            "there are no rows",
            where=named.where,
            fix="Write sequences first, or move sequences.valid_from and test_from so that it has some.",
        )
    groups = _row_groups(warehouse, sorted(live, key=_stable))
    for url, rows in groups.items():
        if sum(rows) != live[url]:
            raise _not_alone(warehouse, table, named, url, live[url], sum(rows))
    return Pin(
        table=named.table,
        version=number,
        split=split,
        cut=cut,
        num_rows=sum(live.values()),
        files=tuple((url, groups[url]) for url in groups),
    )


def _rows_by_file(warehouse: Warehouse, table: Table, named: Pin) -> dict[str, int]:
    """File URL → rows that the version has in it. Spark reads footers for this, and deletion vectors, but no column."""
    is_wanted = F.col("split") == named.split
    if named.cut is not None:
        is_wanted &= F.col("cut") == named.cut
    try:
        rows = warehouse.read(table, named.version).where(is_wanted)
        counts = rows.groupBy(F.col("_metadata.file_path").alias("url")).agg(F.count(F.lit(1)).alias("num_rows")).collect()
    except AnalysisException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise FeedError(f"the version cannot be read: {reason}", where=named.where, fix="Pin a version that is still there.") from error
    except (Py4JJavaError, PySparkException) as error:
        raise _unreadable(str(error), named) from error
    return {row["url"]: row["num_rows"] for row in counts}


def rows_of(warehouse: Warehouse, pinned: Pin, table: Table = SEQUENCES) -> DataFrame:
    """The same rows for Spark: those of the pinned files."""
    return warehouse.read(table, pinned.version).where(F.col("_metadata.file_path").isin([url for url, _ in pinned.files]))


def _row_groups(warehouse: Warehouse, urls: Sequence[str]) -> Mapping[str, tuple[int, ...]]:
    """File URL → rows of each row group, from the footers; `urls` in their order."""
    if len(urls) <= _FEW_FILES:
        with ThreadPoolExecutor(max_workers=8) as pool:
            return dict(zip(urls, pool.map(row_groups_of, urls), strict=True))
    found = {}
    for row in warehouse.spark.createDataFrame([(url,) for url in urls], "url string").mapInArrow(footers, FOOTERS).collect():
        if row["what"]:
            raise FeedError(row["what"], where=row["url"], fix=row["fix"])
        found[row["url"]] = tuple(row["groups"])
    return {url: found[url] for url in urls}


def _stable(url: str) -> tuple[str, str]:
    """Sorts files so that a table that is written again gets the same order, though its files have other names."""
    return _UUID.sub("", url), url


def _not_alone(warehouse: Warehouse, table: Table, named: Pin, url: str, live: int, stored: int) -> FeedError:
    """The error for a file that holds more rows than the version has in it."""
    partitions = warehouse.delta(table).detail().select("partitionColumns").head()
    if partitions is not None and not {"split", "cut"} <= set(partitions[0]):
        return FeedError(
            f"the table is not partitioned by split and cut, so a file holds {stored} rows of which {live} are wanted",
            where=url,
            fix="Drop the table and write sequences again.",
        )
    return FeedError(
        f"a file holds {stored} rows of which {live} are left: deletion vectors hide the others, and readers would bring them back",
        where=f"{named.where}, {url}",
        fix=f"Run REORG TABLE {warehouse.identifier(table)} APPLY (PURGE) and set delta.enableDeletionVectors=false on it, "
        "then pin the new version.",
    )


def _unreadable(message: str, named: Pin) -> FeedError:
    """The error for a scan that failed, out of Spark's own message."""
    lines = [line.strip() for line in message.splitlines()]
    fault = next((line for line in lines if ".parquet" in line), "")
    url = re.search(r"[a-z0-9]+:/.*?\.parquet", fault)
    if url is None:
        return FeedError(f"Spark cannot read the version: {lines[0][:200].rstrip('.')}", where=named.where, fix="See the Spark log.")
    if "does not exist" in fault or "NotFound" in fault:
        return FeedError("a file of the pinned version is gone", where=url[0], fix=FILE_GONE)
    return unreadable(url[0], fault.rpartition("Exception: ")[2].replace(url[0], "it"))
