"""Judging scorers on rows of `sequences`, all in one pass: what evaluating, counting and crowning a champion share."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import FACTS, SCALARS, SPLITS, WAITS
from foretaste.evaluation.baselines import RFM_FEATURES
from foretaste.evaluation.classification import Binary
from foretaste.evaluation.forecast import Forecast
from foretaste.evaluation.judge import Judge
from foretaste.evaluation.passes import MERGED, PARTIAL_SUMS, USER_HASH, Pass
from foretaste.evaluation.ranking import Ranking
from foretaste.evaluation.segments import IS_RETURNING
from foretaste.evaluation.uplift import Uplift
from foretaste.settings import Settings
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY
from foretaste.tasks import Task

Resampled = dict[tuple[str, str, str], dict[str, NDArray[np.float64]]]
"""(split, segment, scorer) → metric → (1 + replicates,) values."""


def judged_splits(settings: Settings, model: str) -> tuple[str, ...]:
    """Never rows that were learnt from: with `refit`, and by a blend's ranker, those of validation time are. model: the network's name"""
    return ("test",) if settings.sequences.refit or model == "blend" else ("valid", "test")


def sequences_version(warehouse: Warehouse, model: StoredModel) -> tuple[int, list[str]]:
    """The newest version whose rows have the numbers that the model learnt: its own, where the vocabulary was fitted anew since."""
    if warehouse.built_from(SEQUENCES).get(VOCABULARY.name) == model.tables[VOCABULARY.name]:
        return warehouse.version(SEQUENCES), []
    version = model.tables[SEQUENCES.name]
    return version, [
        f"the vocabulary was fitted anew after {model.name} version {model.version} learnt: judged on sequences version {version}, as it "
        "was then; train again to judge on newer rows"
    ]


def answered(rows: DataFrame, task: Task, days: int) -> DataFrame:
    """The rows with a label that is 1 or 0: for a head of WAITS the answer for so many days, as contract.answers_of has it, without rows
    that do not tell. For a head "uplift" 2 more where the campaign reached the user.
    """
    if task.head not in WAITS:
        return rows
    day, known = F.element_at(task.label.name, 1), F.element_at(task.label.name, 2)
    came = (day >= 1) & (day <= days)
    answer = (~came if task.head == "survival" else came).cast("int")
    if task.head == "uplift":
        answer = answer + 2 * F.element_at(task.label.name, 3)
    return rows.where(known >= days).withColumn(task.label.name, answer)


def arms(rows: DataFrame, label: str) -> tuple[DataFrame, DataFrame]:
    """Of rows of a trial, as `answered` gives them, those who were left out and those who were reached, with a label that is 1 or 0."""
    kind = F.col(label)
    return rows.where(kind < 2), rows.where(kind >= 2).withColumn(label, kind - 2)


def judged_rows(
    rows: DataFrame, settings: Settings, task: Task, features: Iterable[str], splits: Sequence[str], days: int = 0
) -> DataFrame:
    """What a Pass reads: the rows of these splits, with these features and what baselines need. days: see `answered`"""
    columns = dict.fromkeys(("item", *features, *(() if task.head == "items" else RFM_FEATURES)))
    judged = rows.where(F.col("split").isin(*splits) & (F.col("cut") == task.judged_cut(settings.sequences.judged_cut)))
    wanted = ("split", F.xxhash64("user_id").alias(USER_HASH), *SCALARS, *columns, task.label.name)
    if task.head != "items":
        return answered(judged, task, days).select(*wanted, *FACTS)
    order = F.expr(f"array_position(array{SPLITS}, split)")
    first = rows.groupBy("user_id").agg(F.min(order).alias("_first"))
    return judged.join(first, on="user_id", how="left").select(*wanted, (F.col("_first") < order).alias(IS_RETURNING))


def run(judging: Pass, rows: DataFrame) -> Resampled:
    """What comes to the driver: metrics x resamples numbers for each split, group of users and scorer."""
    num_partitions = rows.sparkSession.sparkContext.defaultParallelism
    spread = rows.repartition(num_partitions, USER_HASH)  # one for each core: no more, since each ends in sums of its own
    partial_sums = spread.mapInArrow(judging.partial_sums, PARTIAL_SUMS)
    merged = partial_sums.repartition(num_partitions, "split", "segment", "scorer").mapInArrow(judging.merged, MERGED)
    resampled: Resampled = {}
    for row in merged.collect():
        resampled.setdefault((row.split, row.segment, row.scorer), {})[row.metric] = np.array(row.resampled)
    return resampled


def added(partial_sums: DataFrame, replicates: int) -> dict[str, NDArray[np.float64]]:
    """What partitions found, added up: scorer → (S, 1 + replicates)."""
    total: dict[str, NDArray[np.float64]] = {}
    for row in partial_sums.collect():
        sums = np.array(row.sums).reshape(-1, 1 + replicates)
        total[row.scorer] = total[row.scorer] + sums if row.scorer in total else sums
    return total


def judge_of(settings: Settings, task: Task, shares: NDArray[np.float64] | None = None) -> Judge:
    """How models of the task are judged. shares: (num_items,) of the events to learn from, where popularity_bias is wanted"""
    if task.metrics == "forecast":
        return Forecast(levels=settings.scoring.quantiles, label=task.label.name)
    if task.metrics == "binary":
        return Binary(label=task.label.name)
    if task.metrics == "uplift":
        return Uplift(label=task.label.name)
    return Ranking(
        label=task.label.name,
        at=settings.evaluation.at,
        next_only=settings.sequences.judged_cut == "event",  # a row an event: what follows it is one item
        leave_out_seen=settings.evaluation.leave_out_seen,
        shares=shares,
    )
