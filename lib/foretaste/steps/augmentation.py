"""A gate: rows that a model wrote join the real ones that a task learns from only where validation is the better for it.

The task is fitted twice for each of some seeds, on the real training rows alone and with written ones beside them: the same split, the
same settings, the same seeds, each its own best epoch. Both are judged on the same validation rows, which hold no written one; written
rows are accepted where the interval of the paired difference, over users and over seeds, lies above 0. The model that wrote them learnt
from training rows of the same version; of validation it knows no more than which of its own epochs was the best.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from safetensors.torch import load_file

from foretaste import registry
from foretaste.contract import FIRST_INDEX, Sizes
from foretaste.counting.popularity import events_of_items
from foretaste.errors import FeedError
from foretaste.evaluation.baselines import NetworkAlone
from foretaste.evaluation.bootstrap import Estimate
from foretaste.evaluation.passes import Pass
from foretaste.evaluation.segments import ALL
from foretaste.feed.pin import pin, rows_of
from foretaste.feed.snapshot import Pin, beside
from foretaste.models import options_of, restored
from foretaste.scoring.scorer import rows_at_once
from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps.judging import judge_of, judged_rows, run
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.synthetic_sequences import SYNTHETIC_SEQUENCES, split_of
from foretaste.tables.vocabulary import VOCABULARY
from foretaste.tasks import TASKS, Task
from foretaste.training.plan import Fitted, Plan
from foretaste.training.search import Fit

RARE = 5  # items with fewer training events than that are judged apart, too
_SEEDS = 11  # of the resamples of seeds


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Validation rows of one kind: what both come to by the headline metric, means over seeds, and the paired difference."""

    rows: str
    metric: str
    without: float
    with_written: float
    difference: Estimate

    def __str__(self) -> str:
        gained = self.difference
        return (
            f"{self.rows}: {self.metric} {self.with_written:.4f} with them, {self.without:.4f} without, "
            f"difference {gained.value:+.4f} [{gained.low:+.4f}, {gained.high:+.4f}]"
        )


@dataclass(frozen=True, kw_only=True)
class Gated:
    """plan: what the model is made by, with or without written rows; fitted: its fit with the task's own seed; line: what was decided, and
    why; summary: the same for the registry
    """

    plan: Plan
    fitted: Fitted
    line: str
    summary: Mapping[str, Any]


def gated(warehouse: Warehouse, settings: Settings, plan: Plan, fit: Fit, report: Callable[[str], None]) -> Gated:
    """Fits `plan`, whose settings ask for written rows, with and without them. FeedError where there are not as many as asked for."""
    asked = plan.fit.augment.written
    plain = plan.fit.augment.model_copy(update={"gan": 0.0, "vae": 0.0, "seeds": 1})
    real = replace(plan, fit=plan.fit.model_copy(update={"augment": plain}))
    train = real.train
    for kind, share in asked.items():
        train = beside(train, written_by(warehouse, kind, real.train, plan.fit.augment.of), round(share * real.train.num_rows))
    kinds = " and ".join(asked)
    more = train.num_rows - real.train.num_rows
    report(f"{plan.task}: a gate, {real.train.num_rows:,} real rows alone and {more:,} written by a {kinds} beside them")
    seeds = range(plan.seed, plan.seed + plan.fit.augment.seeds)
    fits: dict[str, list[Fitted]] = {}
    for name, rows in (("without", real.train), ("with", train)):

        def told(line: str, name: str = name) -> None:
            report(f"{name} written rows, {line}")

        fits[name] = [fit(replace(real, train=rows, seed=seed, folder=f"{plan.folder}/gate/{name}-{seed}"), told) for seed in seeds]
    verdicts = compared(warehouse, settings, real, fits)
    accepted = verdicts[0].difference.low > 0
    chosen = "with" if accepted else "without"
    seen = f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"
    line = (
        f"{more:,} rows written by a {kinds} beside {real.train.num_rows:,} real ones are {'accepted' if accepted else 'NOT accepted'} "
        f"({seen}); " + "; ".join(map(str, verdicts))
    )
    return Gated(
        plan=replace(real, train=train if accepted else real.train),
        fitted=fits[chosen][0],
        line=line,
        summary={
            "asked": dict(asked),
            "written_rows": more,
            "accepted": accepted,
            "seeds": list(seeds),
            "verdicts": [
                {
                    "rows": verdict.rows,
                    "metric": verdict.metric,
                    "with": verdict.with_written,
                    "without": verdict.without,
                    "difference": [verdict.difference.value, verdict.difference.low, verdict.difference.high],
                }
                for verdict in verdicts
            ],
        },
    )


def written_by(warehouse: Warehouse, kind: str, real: Pin, of: str | None = None) -> Pin:
    """The rows of the newest model of that kind that learnt from the same version of `sequences`; or, in the warehouse at `of`, from rows
    with the same vocabulary and splits. FeedError where there are none.
    """
    if of is not None and "://" not in of and not Path(of).is_dir():
        raise FeedError("there is no such warehouse", where=f"fit.augment.of: {of}", fix="Name one in which jobs/synthesize.py has run.")
    theirs = warehouse if of is None else Warehouse(warehouse.spark, WarehouseSettings(path=of))
    writing = [task.name for task in TASKS.values() if task.writes_sequences]
    stored = [registry.load(theirs.path, task, version) for task in writing for version in reversed(registry.versions(theirs.path, task))]
    if theirs.exists(SYNTHETIC_SEQUENCES):
        there = {row.split for row in theirs.read(SYNTHETIC_SEQUENCES).select("split").distinct().collect()}
        for model in stored:
            split = split_of(model.task, model.version)
            learnt_alike = model.tables[SEQUENCES.name] == real.version if of is None else _alike(warehouse, real, theirs, model)
            if model.model["name"] == kind and learnt_alike and split in there:
                return pin(theirs, split, None, table=SYNTHETIC_SEQUENCES)
    learnt = f"sequences version {real.version}" if of is None else "rows with the same vocabulary and splits"
    raise FeedError(
        f"there are no rows written by a {kind} that learnt from {learnt}",
        where=SYNTHETIC_SEQUENCES.name if of is None else f"{SYNTHETIC_SEQUENCES.name} of {of}",
        fix=f"Train one there (tasks.behaviour.model.name: {kind}), then run jobs/synthesize.py.",
    )


def _alike(warehouse: Warehouse, real: Pin, theirs: Warehouse, model: StoredModel) -> bool:
    """Whether items have the same numbers, and what the model learnt from ends where ours does: else it might know our validation time."""
    ours = warehouse.built_from(SEQUENCES, real.version)
    if VOCABULARY.name not in ours or theirs.built_from(SEQUENCES, model.tables[SEQUENCES.name]).get("splits") != ours.get("splits"):
        return False
    known = model.vocabulary().to_pandas().sort_values(["field", "index"])[["field", "value"]]
    words = warehouse.read(VOCABULARY, int(str(ours[VOCABULARY.name]))).orderBy("field", "index").select("field", "value").toPandas()
    return bool(np.array_equal(known.to_numpy(), words.to_numpy()))


def compared(warehouse: Warehouse, settings: Settings, plan: Plan, fits: Mapping[str, Sequence[Fitted]]) -> list[Verdict]:
    """`with` against `without`, on all validation rows, and on those whose next item has fewer than RARE training events."""
    task = TASKS[plan.task]
    valid = warehouse.read(SEQUENCES, plan.train.version).where("split = 'valid'")
    counts = events_of_items(rows_of(warehouse, plan.train)).select(F.col("item").alias("_asked"), "events")
    asked = valid.withColumn("_asked", F.element_at(task.label.name, 1)).where(F.col("_asked") >= FIRST_INDEX)
    few = asked.join(counts, "_asked", "left").where(F.coalesce("events", F.lit(0)) < RARE).select(*valid.columns)
    kinds = {"validation rows": valid, f"of these, next items with fewer than {RARE} training events": few}
    return [verdict for name, rows in kinds.items() if (verdict := _verdict(settings, task, plan, fits, name, rows)) is not None]


def _verdict(
    settings: Settings, task: Task, plan: Plan, fits: Mapping[str, Sequence[Fitted]], name: str, rows: DataFrame
) -> Verdict | None:
    """None where there is no such row."""
    judge = judge_of(settings, task)
    stored = {"name": plan.model.name, **options_of(plan.model.name, plan.options)}
    load = partial(_Loaded, stored=stored, head=plan.head, label=plan.label, sizes=plan.sizes)
    scorers = {
        f"{side} {number}": NetworkAlone(load=load(weights=fit.weights))
        for side in ("without", "with")
        for number, fit in enumerate(fits[side])
    }
    first, *others = scorers
    judging = Pass(
        judge=judge,
        label=task.label.name,
        model=first,
        load_model=scorers[first].load,
        baselines={other: scorers[other] for other in others},
        replicates=settings.evaluation.bootstrap,
        seed=settings.evaluation.seed,
        batch_size=min(settings.scoring.batch_size, rows_at_once(plan.sizes.num_items)),
        num_items=plan.sizes.num_items,
    )
    found = run(judging, judged_rows(rows, settings, task, plan.features, ("valid",)))
    if ("valid", ALL, first) not in found:
        return None
    of = {
        side: np.stack([found["valid", ALL, f"{side} {number}"][judge.headline] for number in range(len(fits[side]))])
        for side in ("without", "with")
    }  # (seeds, 1 + replicates) each
    sign = -1.0 if judge.headline in judge.lower_is_better else 1.0
    return Verdict(
        rows=f"{name} ({int(found['valid', ALL, first]['num_judged'][0]):,})",
        metric=judge.headline,
        without=float(of["without"][:, 0].mean()),
        with_written=float(of["with"][:, 0].mean()),
        difference=Estimate.of(over_seeds(sign * (of["with"] - of["without"]), settings.evaluation.seed)),
    )


def over_seeds(difference: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """(1 + replicates,) of (seeds, 1 + replicates): the mean over seeds, which are themselves drawn anew in each resample.

    >>> over_seeds(np.array([[0.1, 0.2, 0.3]]), seed=0)
    array([0.1, 0.2, 0.3])
    """
    number, columns = difference.shape
    drawn = np.random.default_rng([_SEEDS, seed]).integers(number, size=(number, columns))
    drawn[:, 0] = np.arange(number)  # the first is no resample
    means: NDArray[np.float64] = np.take_along_axis(difference, drawn, axis=0).mean(0)
    return means


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A fitted network that travels as the name of its file, and is read once in each process."""

    stored: Mapping[str, Any]
    head: str
    label: str
    sizes: Sizes
    weights: str

    def __call__(self) -> Any:
        return _read(self)

    def __hash__(self) -> int:
        return hash(self.weights)


@lru_cache(maxsize=64)
def _read(wanted: _Loaded) -> Any:
    network = restored(wanted.stored, head=wanted.head, label=wanted.label, sizes=wanted.sizes)
    network.load_state_dict(load_file(wanted.weights))
    return network.eval().requires_grad_(False)
