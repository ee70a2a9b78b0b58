"""events, promotions and campaigns → series."""

import json

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.errors import SettingsError
from foretaste.settings import Settings
from foretaste.steps.changes import identity
from foretaste.steps.report import StepReport
from foretaste.tables import Table, Warehouse, series
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.promotions import PROMOTIONS
from foretaste.tables.sequences import Bounds
from foretaste.tables.series import SERIES
from foretaste.tasks import TASKS


def wants_series(settings: Settings) -> bool:
    return any(TASKS[name].table == SERIES.name for name in settings.tasks)


def write_series(warehouse: Warehouse, settings: Settings, splits: Bounds) -> StepReport:
    """All rows anew, where anything that they come from has changed. As a whole: a series is as long as the calendar, not as the log."""
    read = (EVENTS, CAMPAIGNS, PROMOTIONS, *([ITEMS] if settings.series.by == "category" else []))
    built_from = {
        "settings": [json.loads(part.model_dump_json()) for part in (settings.series, settings.sequences)],
        "columns": SERIES.names,
        **{table.name: [warehouse.version(table), identity(warehouse, table)] if warehouse.exists(table) else None for table in read},
    }
    if warehouse.exists(SERIES) and warehouse.built_from(SERIES) == json.loads(json.dumps(built_from)):
        return StepReport(step="series", notes=("series: nothing new since the last run",))
    events = warehouse.read(EVENTS)
    rows = series.build(events, promoted(warehouse, settings), settings.series, settings.sequences, splits)
    num_files = int(warehouse.spark.conf.get("spark.sql.shuffle.partitions") or 1)
    with warehouse.rows_per_group(settings.sequences.rows_per_group):
        warehouse.overwrite(SERIES, series.shuffled(rows, num_files, settings.sequences.seed), built_from)
    found = {
        row.split: row
        for row in warehouse.read(SERIES)
        .groupBy("split")
        .agg(F.count("*").alias("rows"), F.count_distinct("series_id").alias("series"))
        .collect()
    }
    if "train" not in found:
        raise SettingsError(
            f"no {settings.series.by} was bought {settings.series.min_units} times before {splits.fitted_until}, on days enough",
            where="series.min_units",
            fix="Lower it or series.least, or name what counts in series.event_types.",
        )
    told = ", ".join(f"{split} {found[split]['rows']:,}" for split in ("train", "valid", "test") if split in found)
    num_rows = sum(row["rows"] for row in found.values())
    days = settings.sequences.every.days
    note = f"series: {found['train']['series']:,} of them ({settings.series.by}), at moments {days} days apart: {told} rows"
    return StepReport(step="series", written={SERIES.name: num_rows}, notes=(note,))


def promoted(warehouse: Warehouse, settings: Settings) -> DataFrame:
    """What is planned for each series, of the tables that are there."""
    planned, asked, items = (_read(warehouse, table) for table in (PROMOTIONS, CAMPAIGNS, ITEMS))
    return series.promotions_of(planned, asked, items, settings.series, settings.sequences.time_zone)


def _read(warehouse: Warehouse, table: Table) -> DataFrame:
    return warehouse.read(table) if warehouse.exists(table) else warehouse.spark.createDataFrame([], table.ddl)
