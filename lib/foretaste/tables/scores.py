"""scores: what every user will want, in the shop's own ids."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.tables.items import ITEMS
from foretaste.tables.table import Column, Table
from foretaste.tables.warehouse import Warehouse

SCORES = Table(
    name="scores",
    comment="One row per as_of, task and user: the best targets with their scores",
    columns=(
        Column(name="as_of", type="timestamp", comment="the moment that the scores speak of: events before it were known", required=True),
        Column(name="task", type="string", comment="the use case: interest, returns, …", required=True),
        Column(name="user_id", type="string", comment="the shop's own user id", required=True),
        Column(
            name="targets",
            type="array<struct<target_id: string, score: double, reasons: array<string>>>",
            comment="best first: target_id is an item's, a campaign's, or the task's name; score a chance, of uplift a difference of two; "
            "reasons are items and facts",
            required=True,
        ),
        Column(name="model", type="string", comment="the model's name", required=True),
        Column(name="model_version", type="int", comment="the model's version", required=True),
        Column(name="data_version", type="string", comment="version of the sessions and vocabulary tables scored from", required=True),
        Column(name="fallback", type="boolean", comment="true where the user had no usable history and popularity answers", required=True),
        Column(name="scored_at", type="timestamp", comment="when the run wrote it, UTC", required=True),
        Column(name="filters", type="string", comment="what was left out of the targets, as the settings say it in JSON; null for nothing"),
    ),
    key=("as_of", "task", "user_id"),
    partitioned_by=("task",),
)

FLAT = "scores_flat"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build(
    scored: DataFrame,
    *,
    as_of: datetime,
    task: str,
    model: str,
    model_version: int,
    data_version: str,
    at: datetime,
    filters: Mapping[str, Any] | None = None,
) -> DataFrame:
    """The rows of one run from (user_id, targets, fallback); `at` is when it wrote them. A time without a zone is UTC."""
    run = of_run(as_of=as_of, task=task, model=model, model_version=model_version, data_version=data_version, scored_at=at)
    asked = F.lit(json.dumps(filters, sort_keys=True) if filters else None).cast("string")
    return SCORES.select(scored.withColumns({**run, "filters": asked}))


def of_run(**constants: str | int | datetime) -> dict[str, SparkColumn]:
    """Columns that all rows of a run share. A time without a zone is UTC."""
    return {
        name: F.timestamp_micros(F.lit(microseconds(value))) if isinstance(value, datetime) else F.lit(value)
        for name, value in constants.items()
    }


def run_condition(task: str, as_of: datetime) -> str:
    """SQL that is true of the rows of one run, and of no others."""
    return f"task = '{task}' AND as_of = timestamp_micros({microseconds(as_of)}L)"


def microseconds(moment: datetime) -> int:
    """Since 1970 in UTC; a time without a zone is UTC. Spark's own conversion would take it for the machine's local time."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def flat_query(scores: str, items: str) -> str:
    """SQL of scores_flat, one row per as_of, task, user and rank; `scores` and `items` as SQL names the two tables."""
    return f"""SELECT s.as_of, s.task, s.user_id, s.position + 1 AS rank, s.target.target_id, i.name AS target_name,
  s.target.score, s.target.reasons, s.model, s.model_version, s.fallback, s.scored_at
FROM (SELECT *, posexplode(targets) AS (position, target) FROM {scores}) s
LEFT JOIN {items} i ON i.item_id = s.target.target_id"""


def publish_flat(warehouse: Warehouse, *beside: Table) -> str:
    """Makes scores_flat queryable, and returns how. beside: tables that are to be found by their names, too, where there is no catalog

    In a catalog it is a view beside the tables. Tables kept by path have no catalog to hold a view, so there it is a view of this Spark
    session, and `<warehouse>/scores_flat.sql` defines it, with the tables, for any other: `spark-sql -i …/scores_flat.sql`.
    """
    warehouse.create(SCORES)
    warehouse.create(ITEMS)  # a source without an item file leaves it empty, and target_name null
    queries = _views(warehouse, (SCORES, ITEMS, *beside))
    if warehouse.settings.catalog:
        name = f"`{warehouse.settings.catalog}`.`{warehouse.settings.schema_name}`.`{FLAT}`"
        warehouse.spark.sql(f"CREATE OR REPLACE VIEW {name} COMMENT 'One row per as_of, task, user and rank' AS {queries[FLAT]}")
        return f"SELECT * FROM {name.replace('`', '')}"
    for view, query in queries.items():
        warehouse.spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW {view} AS {query}")
    if "://" in warehouse.path:
        return f"SELECT * FROM {FLAT} in this session"
    script = Path(warehouse.path) / f"{FLAT}.sql"
    script.write_text("".join(f"CREATE OR REPLACE TEMPORARY VIEW {view} AS\n{query};\n" for view, query in queries.items()), "utf-8")
    return f"SELECT * FROM {FLAT} in this session, or after spark-sql -i {script}"


def _views(warehouse: Warehouse, tables: Sequence[Table]) -> Mapping[str, str]:
    plain = {table.name: f"SELECT * FROM {warehouse.identifier(table)}" for table in tables}
    return {**plain, FLAT: flat_query(warehouse.identifier(SCORES), warehouse.identifier(ITEMS))}
