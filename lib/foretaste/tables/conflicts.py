"""Two jobs that write one table at once: Delta lets the first one commit, and the other begins anew, or waits for a table to be made."""

import functools
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from delta import exceptions
from pyspark.errors import AnalysisException

from foretaste.errors import TableError
from foretaste.tables.table import Table

if TYPE_CHECKING:
    from foretaste.tables.warehouse import Warehouse

CONFLICTS = (
    exceptions.DeltaConcurrentModificationException,
    exceptions.ConcurrentAppendException,
    exceptions.ConcurrentDeleteDeleteException,
    exceptions.ConcurrentDeleteReadException,
    exceptions.ConcurrentTransactionException,
    exceptions.ConcurrentWriteException,
    exceptions.MetadataChangedException,
    exceptions.ProtocolChangedException,
)
TRIES, FIRST_PAUSE_S = 10, 0.2
MAKING_PAUSE_S = 0.5
P = ParamSpec("P")
R = TypeVar("R")


def retried(write: Callable[Concatenate["Warehouse", Table, P], R]) -> Callable[Concatenate["Warehouse", Table, P], R]:
    """A write that is made anew, from the version that is there by then, where another writer was first; TableError after TRIES."""

    @functools.wraps(write)
    def persistent(warehouse: "Warehouse", table: Table, /, *args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(1, TRIES):
            try:
                return write(warehouse, table, *args, **kwargs)
            except CONFLICTS:
                time.sleep(random.uniform(0.5, 1.5) * FIRST_PAUSE_S * 2 ** min(attempt, 5))
        try:
            return write(warehouse, table, *args, **kwargs)
        except CONFLICTS as error:
            raise TableError(
                f"others wrote {table.name} {TRIES} times before this job could",
                where=warehouse.identifier(table),
                fix="Run it again when fewer jobs write the same table.",
            ) from error

    return persistent


def make(warehouse: "Warehouse", table: Table, statement: str) -> None:
    """Runs the statement that makes the table; where another job is making it, waits for that job's first commit.

    Between the other's folder for the log and its first commit there is a folder that is no table. Delta refuses it, or takes it for one
    and does nothing. TableError where it stays like this.
    """
    for _ in range(TRIES):
        try:
            warehouse.run(statement)
        except TableError as error:
            if "DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION" not in str(error):
                raise
        if warehouse.exists(table) or _is_committed(warehouse, table):
            return
        time.sleep(MAKING_PAUSE_S)
    raise TableError(
        f"the folder of the table {table.name} holds something that is no table", where=warehouse.identifier(table),
        fix="Move it elsewhere. If there is only a _delta_log without a commit, a job was ended while it made the table: remove that.",
    )  # fmt: skip


def _is_committed(warehouse: "Warehouse", table: Table) -> bool:
    """Whether the log has a commit now: `exists` tells what the session knows, which another process's commit does not change."""
    try:
        warehouse.version(table)
    except AnalysisException:
        return False
    return True
