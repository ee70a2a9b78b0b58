"""Makes a table forget what it was: files that are too old, or all that is not in the newest version, in files and in the log."""

from datetime import UTC, datetime

from foretaste.session import configured
from foretaste.tables.conflicts import retried
from foretaste.tables.table import Table
from foretaste.tables.warehouse import Warehouse

_TO_COME_MS = -(10**10)  # a time that is yet to come (and a number that is sent to Java as a long): nothing is too new to be forgotten
_PURGED_AT = "foretaste.purged_at"


@retried
def purge(warehouse: Warehouse, table: Table) -> None:
    """Removes all that is not in the newest version: files, deleted rows in those that stay, the log of how it came about.

    Whoever still reads an older version finds its files gone. What the table was last built from stays known.
    """
    name = warehouse.identifier(table)
    kept = warehouse.built_from(table) or None
    if warehouse.property(table, "delta.enableDeletionVectors") == "true":
        warehouse.run(f"REORG TABLE {name} APPLY (PURGE)")
    vacuum(warehouse, table, hours=0)
    with warehouse.noted(kept):  # a version whose log names no value of any row, for the ones before it to be forgotten
        warehouse.set_property(table, _PURGED_AT, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}")
    _forget_log(warehouse, table)


def vacuum(warehouse: Warehouse, table: Table, hours: float) -> None:
    """Removes files that no version of the last so many hours needs: whoever still reads such a version finds them gone."""
    # VACUUM lists a table's folders in as many tasks as this says: 10,000 unless told otherwise, 45 seconds for one small table.
    listed_by = 4 * warehouse.spark.sparkContext.defaultParallelism
    conf = {
        "spark.databricks.delta.retentionDurationCheck.enabled": "false",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(listed_by),
    }
    with configured(warehouse.spark, conf):
        warehouse.run(f"VACUUM {warehouse.identifier(table)} RETAIN {hours:.4f} HOURS")


def _forget_log(warehouse: Warehouse, table: Table) -> None:
    """Writes a checkpoint of the newest version, and removes the log before it, as Delta itself does where it is a month old."""
    jvm = warehouse.spark._jvm
    assert jvm is not None
    delta = jvm.org.apache.spark.sql.delta
    log = delta.DeltaLog.forTable(warehouse.spark._jsparkSession, warehouse.location(table))
    snapshot = log.update(False, jvm.scala.Option.empty(), jvm.scala.Option.empty())
    log.checkpoint(snapshot, jvm.scala.Option.empty())
    minute = getattr(getattr(delta, "TruncationGranularity$"), "MODULE$").MINUTE()
    log.cleanUpExpiredLogs(snapshot, jvm.scala.Option.apply(_TO_COME_MS), minute)
