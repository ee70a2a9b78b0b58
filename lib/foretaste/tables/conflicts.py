"""Two jobs that write one table at once: Delta lets the first one commit, and the other begins anew."""

import functools
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from delta import exceptions

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
