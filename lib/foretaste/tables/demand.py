"""demand: how many units of what will be asked for, day by day."""

from datetime import datetime

from pyspark.sql import DataFrame

from foretaste.tables.scores import of_run
from foretaste.tables.table import Column, Table

DEMAND = Table(
    name="demand",
    comment="One row per as_of, item (or category) and day of the horizon: how many units will be asked for",
    columns=(
        Column(name="as_of", type="timestamp", comment="the moment that it speaks of: events before it were known", required=True),
        Column(name="task", type="string", comment="the task whose model foretold it", required=True),
        Column(name="series_id", type="string", comment="an item's id, or a category path, as series.by says", required=True),
        Column(name="day", type="date", comment="the day, in the shop's time zone", required=True),
        Column(name="mean", type="double", comment="units, on average", required=True),
        Column(
            name="quantiles",
            type="array<struct<level: double, units: double>>",
            comment="units that the day's demand stays at or below with that probability",
            required=True,
        ),
        Column(
            name="cumulative",
            type="array<struct<level: double, units: double>>",
            comment="the same of all days up to and with this one: the stock that lasts so long",
            required=True,
        ),
        Column(name="model", type="string", comment="the model's name", required=True),
        Column(name="model_version", type="int", comment="the model's version", required=True),
        Column(name="data_version", type="string", comment="version of the events table foretold from", required=True),
        Column(name="written_at", type="timestamp", comment="when the run wrote it, UTC", required=True),
    ),
    key=("as_of", "task", "series_id", "day"),
    partitioned_by=("task",),
)


def build(foretold: DataFrame, *, as_of: datetime, task: str, model: str, model_version: int, data_version: str, at: datetime) -> DataFrame:
    """The rows of one run from (series_id, day, mean, quantiles, cumulative); `at` is when it wrote them. A time without a zone is UTC."""
    run = of_run(as_of=as_of, task=task, model=model, model_version=model_version, data_version=data_version, written_at=at)
    return DEMAND.select(foretold.withColumns(run))
