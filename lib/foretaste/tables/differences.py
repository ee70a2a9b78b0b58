"""Which rows a MERGE has to write: those that are there as they are never reach it, for it would copy their files, and those who read the
table would see a change.
"""

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.tables.table import Table

IS_THERE = "_is_there"


def same_key(table: Table, one: str = "target", other: str = "source") -> str:
    """The condition that a row of `one` and a row of `other` have the same key."""
    return " AND ".join(f"{one}.`{name}` = {other}.`{name}`" for name in table.key)


def same_values(names: Sequence[str], one: str = "target", other: str = "source") -> str:
    """The condition that two rows have the same in the columns `names`, nulls among them."""
    return " AND ".join(f"{one}.`{name}` <=> {other}.`{name}`" for name in names)


def changed(table: Table, rows: DataFrame, there: DataFrame) -> DataFrame:
    """The rows that `there`, the table, lacks or has otherwise."""
    return rows.alias("source").join(there.alias("target"), on=F.expr(same_values(table.names)), how="left_anti")


def differing(
    table: Table, rows: DataFrame, there: DataFrame, touched: DataFrame, told_by: Sequence[str] | None, among: str, within: str
) -> DataFrame:
    """Of the rows whose key begins with one in `touched`, those that `rows` and `there` do not have alike, as `rows` has them.

    IS_THERE is true where `rows` has the row, and null, as is all but the key, where it is to be deleted. What else is given is what
    `Warehouse.replace_rows_of` is given.
    """
    compared = list(dict.fromkeys((*table.key, *(told_by or table.names))))
    begins = [f"target.`{name}` = touched.`{name}`" for name in touched.columns if name in table.key]
    replaced = there.alias("target").where(within)
    old = replaced.join(touched.alias("touched"), on=F.expr(" AND ".join([*begins, f"({among})"])), how="left_semi").select(*compared)
    new = rows.withColumn(IS_THERE, F.lit(True))
    both = new.alias("new").join(old.alias("old"), on=F.expr(same_key(table, "new", "old")), how="full_outer")
    columns = [F.coalesce(f"new.{name}", f"old.{name}").alias(name) if name in table.key else f"new.{name}" for name in table.names]
    return both.where(f"NOT ({same_values(compared, 'new', 'old')})").select(*columns, IS_THERE)
