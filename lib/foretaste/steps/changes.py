"""What changed in a table since another was built from it."""

from collections.abc import Mapping, Sequence

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, Row

from foretaste.tables import Table, Warehouse


def identity(warehouse: Warehouse, table: Table) -> str:
    """Delta's own id of the table: another one, where the table was dropped and written again."""
    return str(warehouse.delta(table).detail().select("id").head()[0])  # type: ignore[index]


def changes_since(
    warehouse: Warehouse, table: Table, key: Sequence[str], before: Mapping[str, object], now: Mapping[str, object], *asked: Column
) -> tuple[DataFrame, Row] | None:
    """The distinct keys of rows that changed between the versions that `before` and `now` name (each a built_from), cached on disk; and
    what is `asked` of them, as aggregates.

    None where that is not known: the table is another one now, or its change feed was cleaned up.
    """
    since, until = before.get(table.name), now[table.name]
    same_table = before.get(f"{table.name}_id") == now[f"{table.name}_id"]
    if not isinstance(since, int) or not isinstance(until, int) or not same_table or since > until:
        return None
    try:
        changes = warehouse.changed_keys(table, key, since, until).persist()
        told = changes.agg(*asked).head()  # the files of the feed are opened here, and may be gone
    except (PySparkException, Py4JJavaError):
        return None
    assert told is not None
    return changes, told
