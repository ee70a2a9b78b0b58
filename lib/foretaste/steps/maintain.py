"""Tables as they should lie: small files joined and clustered (OPTIMIZE), and files that no version needs any more removed (VACUUM)."""

import math
from collections.abc import Iterator
from datetime import timedelta

from pyspark.sql import functions as F

from foretaste import registry
from foretaste.errors import TableError
from foretaste.settings import Settings
from foretaste.steps.report import StepReport
from foretaste.steps.running import at_work
from foretaste.tables import TABLES, Table, Warehouse
from foretaste.tables.purge import vacuum
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.series import SERIES
from foretaste.tables.synthetic_sequences import SYNTHETIC_SEQUENCES

_LAID_OUT = (SEQUENCES, SERIES, SYNTHETIC_SEQUENCES)
"""Petastorm reads them: their row groups are as the job that writes them made them, and stay so."""

_A_WEEK = timedelta(days=7)


def maintain(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Joins and clusters small files, and removes what is older than `maintenance.keep`, but for versions that a model which serves learnt
    from. TableError where less than a week is to be kept and another job is at work, which may read what would go.
    """
    keep = settings.maintenance.keep
    others = at_work(warehouse.path, but=("maintain",)) if keep < _A_WEEK else []
    if others:
        raise TableError(
            f"{others[0]} may read files that would be removed",
            where="maintenance.keep",
            fix="Wait for it to end, or keep seven days or more.",
        )
    tables = [table for table in TABLES.values() if table.name not in warehouse.shared and warehouse.exists(table)]
    before, after = {}, {}
    notes = []
    for table in tables:
        before[table.name] = _num_files(warehouse, table)
        if table not in _LAID_OUT:
            warehouse.run(f"OPTIMIZE {warehouse.identifier(table)}")
        hours = max([keep / timedelta(hours=1), *_pinned_hours(warehouse, settings, table)])
        vacuum(warehouse, table, hours)
        after[table.name] = _num_files(warehouse, table)
        if hours > keep / timedelta(hours=1):
            notes.append(f"{table.name} keeps {math.ceil(hours / 24)} days, since a model that serves learnt from a version of that time")
    joined = [f"{name} {before[name]:,} → {after[name]:,}" for name in before if before[name] != after[name]]
    notes.insert(0, f"files of the newest version: {', '.join(joined) if joined else 'as they were'}")
    return StepReport(step="maintain", read={"files": sum(before.values())}, written={"files": sum(after.values())}, notes=tuple(notes))


def _num_files(warehouse: Warehouse, table: Table) -> int:
    return int(warehouse.delta(table).detail().select("numFiles").head()[0] or 0)  # type: ignore[index]


def _pinned_hours(warehouse: Warehouse, settings: Settings, table: Table) -> Iterator[float]:
    """For each model that serves and learnt from an older version of the table: hours since that version was replaced, and one more."""
    newest = warehouse.version(table)
    for name in settings.tasks:
        if not registry.versions(warehouse.path, name):
            continue
        pinned = registry.load(warehouse.path, name).tables.get(table.name)
        if pinned is None or pinned >= newest:
            continue
        history = warehouse.delta(table).history().where(F.col("version") > pinned)
        ago = history.agg(F.max(F.unix_timestamp() - F.unix_seconds("timestamp"))).head()
        if ago is not None and ago[0] is not None:
            yield ago[0] / 3600 + 1
