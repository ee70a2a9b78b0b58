"""metrics: how well each model and baseline did, with intervals."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.tables.scores import microseconds
from foretaste.tables.table import Column, Table

METRICS = Table(
    name="metrics",
    comment="One row per run, task, model, split, segment and metric",
    columns=(
        Column(name="run_at", type="timestamp", comment="when the evaluation ran, UTC", required=True),
        Column(name="task", type="string", comment="the use case", required=True),
        Column(
            name="model", type="string", comment="a model's name, or a baseline's, or 'A minus B': the paired difference", required=True
        ),
        Column(name="model_version", type="int", comment="the model's version; null for a baseline or a difference"),
        Column(name="split", type="string", comment="valid or test", required=True),
        Column(name="segment", type="string", comment="all, or a group of rows, such as history 5-19 or new users", required=True),
        Column(name="metric", type="string", comment="such as recall@20, roc_auc or p_value(recall@20)", required=True),
        Column(name="value", type="double", comment="the metric over all rows", required=True),
        Column(
            name="low",
            type="double",
            comment="2.5th percentile over bootstrap resamples of users; NaN of a metric without any",
            required=True,
        ),
        Column(
            name="high",
            type="double",
            comment="97.5th percentile over bootstrap resamples of users; NaN of a metric without any",
            required=True,
        ),
        Column(name="num_rows", type="bigint", comment="rows that it was measured on", required=True),
    ),
    key=("run_at", "task", "model", "split", "segment", "metric"),
)


class Measurement(NamedTuple):
    """One metric of one model or baseline; the rest of a row is the run's."""

    task: str
    model: str
    model_version: int | None
    split: str
    segment: str
    metric: str
    value: float
    low: float
    high: float
    num_rows: int


def build(spark: SparkSession, run_at: datetime, measurements: Sequence[Measurement]) -> DataFrame:
    """The rows of one evaluation run: some thousand, whatever the size of the data."""
    fields = [column for column in METRICS.columns if column.name != "run_at"]
    rows = spark.createDataFrame(list(measurements), ", ".join(f"`{column.name}` {column.type}" for column in fields))
    return METRICS.select(rows.withColumn("run_at", F.timestamp_micros(F.lit(microseconds(run_at)))))
