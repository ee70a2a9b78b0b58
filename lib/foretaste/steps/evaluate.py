"""sequences and each task's model → metrics: the model beside its baselines, on the same validation and test rows, in one pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.contract import DAILY, SCALARS
from foretaste.counting import learnt_from
from foretaste.errors import SettingsError, TableError
from foretaste.evaluation.baselines import REGRESSIONS, BaseRate, CountedBaseline, Effect, NetworkAlone, Same
from foretaste.evaluation.bootstrap import Estimate
from foretaste.evaluation.comparison import Comparison, aligned, by_segment
from foretaste.evaluation.fitting import beta_geometric, regression
from foretaste.evaluation.judge import CURVE, Scorer
from foretaste.evaluation.passes import NUM_JUDGED, USER_HASH, Pass
from foretaste.evaluation.segments import ALL, SEGMENTS
from foretaste.evaluation.waiting import WAITING_SUMS, WaitingSums, by_week
from foretaste.scoring.scorer import rows_at_once
from foretaste.scoring.udf import load_network, load_scorer
from foretaste.settings import Settings
from foretaste.steps import foretelling, launches
from foretaste.steps.count import counted
from foretaste.steps.judging import answered, arms, judge_of, judged_rows, judged_splits, run, sequences_version
from foretaste.steps.report import StepReport
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse, metrics
from foretaste.tables.metrics import METRICS, Measurement
from foretaste.tables.sequences import SEQUENCES
from foretaste.tasks import TASKS

_OWN_ROWS: Mapping[str, Callable[[Warehouse, Settings, StoredModel], list[Comparison]]] = {
    "forecast": foretelling.compared,
    "launches": launches.compared,
}
"""Families of metrics that are not of rows with a label beside them."""


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
        if TASKS[model.task].metrics in _OWN_ROWS:
            comparisons = _OWN_ROWS[TASKS[model.task].metrics](warehouse, settings, model)
        else:
            version, about_version = sequences_version(warehouse, model)
            notes += about_version
            comparisons = _compare(warehouse, settings, model, version)
        found = [row for comparison in comparisons for row in _measurements(comparison, model)]
        registry.log_metrics(warehouse, model, _of_test(found))
        measurements += found
        waiting = _waiting(warehouse, settings, model, version) if model.head in DAILY else {}
        measurements += _measured(waiting, model)
        for comparison in comparisons:
            if comparison.segment == ALL:
                groups = [other for other in comparisons if other.split == comparison.split and other.segment != ALL]
                notes += _told(comparison, groups, model, settings)
                if comparison.split == "test" and waiting:
                    notes += _waited(waiting, model)
                read[f"{comparison.split} rows for {model.task}"] = comparison.num_rows
    warehouse.append(METRICS, metrics.build(warehouse.spark, run_at, measurements))
    return StepReport(step="evaluate", read=read, written={"metrics": len(measurements)}, notes=tuple(notes))


def _compare(warehouse: Warehouse, settings: Settings, model: StoredModel, version: int) -> list[Comparison]:
    """One for each split that has rows, and for each group of its users."""
    task = TASKS[model.task]
    rows = warehouse.read(SEQUENCES, version)
    splits = judged_splits(settings, model.model["name"])
    with _baselines(warehouse, settings, model, rows) as baselines:
        counts = next((scorer for scorer in baselines.values() if isinstance(scorer, CountedBaseline)), None)
        judge = judge_of(settings, task, counts.shares() if counts else None)
        size = min(settings.scoring.batch_size, rows_at_once(model.sizes.num_items))
        at = (warehouse.path, model.name, model.version, size)
        parts: dict[str, Scorer] = {}
        if model.model["name"] == "blend":
            parts[f"{model.model['network']['name']} alone"] = NetworkAlone(load=partial(load_network, *at))
        judging = Pass(
            judge=judge,
            label=task.label.name,
            model=model.name,
            load_model=partial(load_scorer, *at),
            baselines={**parts, **baselines},
            replicates=settings.evaluation.bootstrap,
            seed=settings.evaluation.seed,
            batch_size=size,
            num_items=model.sizes.num_items,
        )
        resampled = run(judging, judged_rows(rows, settings, task, model.features, splits, model.sizes.days))
    if not resampled:
        raise TableError(
            f"there is no {' or '.join(splits)} row to judge {model.name} on",
            where="sequences",
            fix="Set sequences.valid_from and test_from to times with events after them.",
        )
    return [
        Comparison(
            task=task.name,
            split=split,
            model=model.name,
            scorers={name: resampled[split, segment, name] for name in (model.name, *parts, *baselines)},
            headline=judge.headline,
            lower_is_better=judge.lower_is_better,
            shown=judge.shown,
            segment=segment,
            parts=tuple(parts),
        )
        for split in splits
        for segment in (ALL, *SEGMENTS)
        if (split, segment, model.name) in resampled and resampled[split, segment, model.name][NUM_JUDGED][0] > 0
    ]


@contextmanager
def _baselines(warehouse: Warehouse, settings: Settings, model: StoredModel, rows: DataFrame) -> Iterator[Mapping[str, Scorer]]:
    """What stands beside the model, made from the rows that it learnt from. Files of theirs are there while the block lasts."""
    task, wanted = TASKS[model.task], settings.evaluation
    if task.head == "items":
        learnt = learnt_from(rows, refit=settings.sequences.refit)
        with counted(warehouse.path, wanted.baselines, learnt, model.sizes, wanted.counted) as found:
            yield found
    else:
        learnt = answered(rows.where((F.col("split") == "train") & (F.col("cut") == task.train_cut)), task, model.sizes.days)
        assert model.base_rate is not None
        if task.metrics == "uplift":
            effects = _of_trial(learnt, task.label.name)
            yield {"random": Same(model.base_rate), **{name: effects[name] for name in task.baselines}}
            return
        others: dict[str, Scorer] = {"majority": BaseRate(model.base_rate)}
        others |= {name: regression(learnt, task.label.name, *REGRESSIONS[name]) for name in task.baselines if name in REGRESSIONS}
        bought_again = beta_geometric(learnt, model.sizes.days) if "bg_nbd" in task.baselines else None
        yield others | ({"bg_nbd": bought_again} if bought_again else {})


def _of_trial(learnt: DataFrame, label: str) -> dict[str, Scorer]:
    """Whom to reach without such a model. learnt: training rows of a trial, with their kinds"""
    left_out, reached = (regression(rows, label, *REGRESSIONS["logistic_facts"]) for rows in arms(learnt, label))
    return {
        "responders": Effect(reached=reached),
        "two_regressions": Effect(reached=reached, left_out=left_out),
    }


def _waiting(warehouse: Warehouse, settings: Settings, model: StoredModel, version: int) -> Mapping[tuple[str, int], Estimate]:
    """How many stay away until the end of each week, as foretold and as it came, of all test rows; {} without any."""
    task, days = TASKS[model.task], model.sizes.days
    read = dict.fromkeys(("item", *model.features, *model.model.get("facts", ())))
    is_judged = (F.col("split") == "test") & (F.col("cut") == task.judged_cut(settings.sequences.judged_cut))
    rows = warehouse.read(SEQUENCES, version).where(is_judged)
    chosen = rows.select(F.xxhash64("user_id").alias(USER_HASH), *SCALARS, *read, task.label.name)
    size = settings.scoring.batch_size
    adding = WaitingSums(
        label=task.label.name,
        load=partial(load_scorer, warehouse.path, model.name, model.version, size),
        days=days,
        replicates=settings.evaluation.bootstrap,
        seed=settings.evaluation.seed,
        batch_size=size,
    )
    parts = [np.array(row.sums) for row in chosen.mapInArrow(adding, WAITING_SUMS).collect()]
    return by_week(np.sum(parts, axis=0).reshape(-1, 1 + settings.evaluation.bootstrap), days) if parts else {}


def _measured(waiting: Mapping[tuple[str, int], Estimate], model: StoredModel) -> Iterator[Measurement]:
    for (name, day), estimate in waiting.items():
        yield Measurement(
            task=model.task, model=name, model_version=model.version, split="test", segment="waiting", metric=f"stays_away@{day}d",
            value=estimate.value, low=estimate.low, high=estimate.high, num_rows=0,
        )  # fmt: skip


def _waited(waiting: Mapping[tuple[str, int], Estimate], model: StoredModel) -> Iterator[str]:
    yield f"{model.name}: the share of all test rows in which nobody came until a day, foretold and as it was (Kaplan-Meier)"
    days = dict.fromkeys(day for _, day in waiting)
    rows = [["day", "foretold", "Kaplan-Meier", "difference"]]
    for day in days:
        foretold, came, apart = (waiting[name, day] for name in ("foretold", "kaplan_meier", "foretold minus kaplan_meier"))
        rows.append([str(day), f"{foretold.value:.4f}", f"{came.value:.4f}", f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]"])
    yield from (f"  {line}" for line in aligned(rows))


def _measurements(comparison: Comparison, model: StoredModel) -> Iterator[Measurement]:
    for scorer, metric, estimate in comparison.estimates():
        yield Measurement(
            task=comparison.task,
            model=scorer,
            model_version=model.version if scorer == model.name else None,
            split=comparison.split,
            segment=comparison.segment,
            metric=metric,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            num_rows=comparison.num_rows,
        )


def _of_test(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Of all test rows, of the model and of the differences to others: value, and the ends of its interval."""
    chosen = [row for row in measurements if (row.split, row.segment) == ("test", ALL) and CURVE not in row.metric]
    return {
        f"{row.split}.{row.model}.{row.metric}{end}".replace("(", ".").replace(")", "").replace("%", "pc"): value
        for row in chosen
        for end, value in (("", row.value), (".low", row.low), (".high", row.high))
    }


def _told(comparison: Comparison, groups: Sequence[Comparison], model: StoredModel, settings: Settings) -> Iterator[str]:
    """The whole table for the test split, and the verdict alone for the validation split, which training has chosen by."""
    left_out = f", {comparison.num_left_out:,} more have no target" if comparison.num_left_out else ""
    seen = "left out" if settings.evaluation.leave_out_seen else "ranked too"
    ranks_items = TASKS[model.task].metrics == "ranking"
    ranked = f"; all items ranked, ties against the model, items seen before are {seen}" if ranks_items else ""
    rows = "buyers of new items" if TASKS[model.task].metrics == "launches" else "rows"
    whom = "users" if TASKS[model.task].table == SEQUENCES.name else "series"
    yield (
        f"{model.name} version {model.version} ({model.model['name']}) on the {comparison.split} split: {comparison.num_rows:,} {rows}"
        f"{left_out}{ranked}; 95 % intervals over {whom}"
    )
    if comparison.split == "test":
        yield from (f"  {line}" for line in comparison.table())
        yield from (f"  {line}" for line in by_segment(groups, comparison.best_baseline()))
        yield from comparison.remarks()
        worth = TASKS[comparison.task].worth
        if worth is not None:
            yield from comparison.worth(worth.metric, worth.times, worth.words, worth.against, worth.digits)
    yield comparison.verdict()
