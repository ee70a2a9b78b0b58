"""sequences and each task's model → metrics: the model beside its baselines, on the same validation and test rows, in one pass."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.contract import SCALARS
from foretaste.errors import SettingsError, TableError
from foretaste.evaluation.baselines import BINARY_BASELINES, ITEM_BASELINES, RFM_FEATURES
from foretaste.evaluation.classification import Binary
from foretaste.evaluation.comparison import Comparison
from foretaste.evaluation.fitting import binary_fit, item_counts
from foretaste.evaluation.judge import Judge, Scorer
from foretaste.evaluation.passes import MERGED, PARTIAL_SUMS, USER_HASH, Pass
from foretaste.evaluation.ranking import Ranking
from foretaste.registry import StoredModel
from foretaste.scoring.udf import load_scorer
from foretaste.settings import Settings
from foretaste.steps.report import StepReport
from foretaste.tables import Warehouse, metrics
from foretaste.tables.metrics import ALL_USERS, METRICS, Measurement
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY
from foretaste.tasks import TASKS, Task

MOST_SCORES = 1 << 24  # scores held at once: with a catalogue of millions, batches are smaller
JUDGED_SPLITS = ("valid", "test")  # never training rows
Resampled = dict[tuple[str, str], dict[str, NDArray[np.float64]]]
"""(split, scorer) → metric → (1 + replicates,) values."""


def evaluate(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Judges the newest model of each task of the settings, appends a run to `metrics`, and says in words what came out."""
    if not settings.tasks:
        raise SettingsError("no task is configured, so there is nothing to judge", where="tasks", fix=f"Add one of {', '.join(TASKS)}.")
    models = [registry.load(warehouse.path, name) for name in settings.tasks]
    run_at = datetime.now(UTC)
    measurements: list[Measurement] = []
    notes: list[str] = []
    read: dict[str, int] = {}
    for model in models:
        version, about_version = _sequences_version(warehouse, model)
        comparisons = _compare(warehouse, settings, model, version)
        measurements += [row for comparison in comparisons for row in _measurements(comparison, model)]
        notes += [*about_version, *chain.from_iterable(_told(comparison, model, settings) for comparison in comparisons)]
        read |= {f"{comparison.split} rows for {model.task}": comparison.num_rows for comparison in comparisons}
    warehouse.append(METRICS, metrics.build(warehouse.spark, run_at, measurements))
    return StepReport(step="evaluate", read=read, written={"metrics": len(measurements)}, notes=tuple(notes))


def _sequences_version(warehouse: Warehouse, model: StoredModel) -> tuple[int, list[str]]:
    """The newest version whose rows have the numbers that the model learnt: its own, where the vocabulary was fitted anew since."""
    if warehouse.built_from(SEQUENCES).get(VOCABULARY.name) == model.tables[VOCABULARY.name]:
        return warehouse.version(SEQUENCES), []
    version = model.tables[SEQUENCES.name]
    return version, [
        f"the vocabulary was fitted anew after {model.name} version {model.version} learnt: judged on sequences version {version}, as it "
        "was then; train again to judge on newer rows"
    ]


def _training_until(warehouse: Warehouse, version: int) -> datetime:
    """Where training time ended in that version of `sequences`, as its build noted; UTC."""
    splits = warehouse.built_from(SEQUENCES, version).get("splits")
    if not isinstance(splits, dict):
        raise TableError("the table does not say how it was split", where="sequences", fix="Write it again with jobs/sequence.py.")
    return datetime.fromisoformat(splits["valid_from"])


def _compare(warehouse: Warehouse, settings: Settings, model: StoredModel, version: int) -> list[Comparison]:
    """One for each split that has rows."""
    task = TASKS[model.task]
    rows = warehouse.read(SEQUENCES, version)
    judge = _judge(task, settings)
    baselines = _baselines(warehouse, settings, model, version)
    size = min(settings.scoring.batch_size, max(1, MOST_SCORES // model.sizes.num_items))
    judging = Pass(
        judge=judge,
        label=task.label.name,
        model=model.name,
        load_model=partial(load_scorer, warehouse.path, model.name, model.version, size),
        baselines=baselines,
        replicates=settings.evaluation.bootstrap,
        seed=settings.evaluation.seed,
        batch_size=size,
    )
    features = dict.fromkeys(("item", *model.model["features"], *(() if task.head == "items" else RFM_FEATURES)))
    judged = rows.where(F.col("split").isin(*JUDGED_SPLITS) & (F.col("cut") == settings.sequences.judged_at))
    chosen = judged.select("split", F.xxhash64("user_id").alias(USER_HASH), *SCALARS, *features, task.label.name)
    resampled = _run(judging, chosen, warehouse.spark.sparkContext.defaultParallelism)
    if not resampled:
        raise TableError(
            f"there is no {' or '.join(JUDGED_SPLITS)} row to judge {model.name} on",
            where="sequences",
            fix="Set sequences.valid_from and test_from to times with events after them.",
        )
    return [
        Comparison(
            task=task.name,
            split=split,
            model=model.name,
            scorers={name: resampled[split, name] for name in (model.name, *baselines)},
            headline=judge.headline,
            lower_is_better=judge.lower_is_better,
        )
        for split in JUDGED_SPLITS
        if (split, model.name) in resampled
    ]


def _run(judging: Pass, rows: DataFrame, num_partitions: int) -> Resampled:
    """(split, scorer) → metric → resampled values. What comes to the driver: metrics x resamples numbers for each of them."""
    spread = rows.repartition(num_partitions, USER_HASH)  # one for each core: no more, since each ends in sums of its own
    partial_sums = spread.mapInArrow(judging.partial_sums, PARTIAL_SUMS)
    merged = partial_sums.repartition(num_partitions, "split", "scorer").mapInArrow(judging.merged, MERGED)
    resampled: Resampled = {}
    for row in merged.collect():
        resampled.setdefault((row.split, row.scorer), {})[row.metric] = np.array(row.resampled)
    return resampled


def _judge(task: Task, settings: Settings) -> Judge:
    if task.metrics == "binary":
        return Binary(label=task.label.name)
    return Ranking(
        label=task.label.name,
        at=settings.evaluation.at,
        next_only=settings.sequences.judged_at == "event",  # a row an event: what follows it is one item
        leave_out_seen=settings.evaluation.leave_out_seen,
    )


def _baselines(warehouse: Warehouse, settings: Settings, model: StoredModel, version: int) -> dict[str, Scorer]:
    task = TASKS[model.task]
    if task.head == "items":
        counts = item_counts(
            warehouse.read(SESSIONS),
            model.vocabulary(),
            num_items=model.sizes.num_items,
            event_types=settings.sequences.event_types,
            until=_training_until(warehouse, version),
        )
        return {name: make(counts) for name, make in ITEM_BASELINES.items()}
    train = warehouse.read(SEQUENCES, version).where((F.col("split") == "train") & (F.col("cut") == task.train_cut))
    fit = binary_fit(train, task.label.name)
    return {name: make(fit) for name, make in BINARY_BASELINES.items()}


def _measurements(comparison: Comparison, model: StoredModel) -> Iterator[Measurement]:
    for scorer, metric, estimate in comparison.estimates():
        yield Measurement(
            task=comparison.task,
            model=scorer,
            model_version=model.version if scorer == model.name else None,
            split=comparison.split,
            segment=ALL_USERS,
            metric=metric,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            num_rows=comparison.num_rows,
        )


def _told(comparison: Comparison, model: StoredModel, settings: Settings) -> Iterator[str]:
    """The whole table for the test split, and the verdict alone for the validation split, which training has chosen by."""
    left_out = f", {comparison.num_left_out:,} more have no known item to rank" if comparison.num_left_out else ""
    seen = "left out" if settings.evaluation.leave_out_seen else "ranked too"
    ranked = f"; all items ranked, ties against the model, items seen before are {seen}" if model.head == "items" else ""
    yield (
        f"{model.name} version {model.version} ({model.model['name']}) on the {comparison.split} split: {comparison.num_rows:,} rows"
        f"{left_out}{ranked}; 95 % intervals over users"
    )
    if comparison.split == "test":
        yield from (f"  {line}" for line in comparison.table(comparison.baselines[0]))
        yield from comparison.remarks()
    yield comparison.verdict()
