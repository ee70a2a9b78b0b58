"""Rolling-origin cross-validation: every task trained and judged again and again, each time with all splits moved further back.

Fold 0 has the splits of the settings; fold k has them k steps earlier, and what came after its test time does not exist for it. (Tashman
2000, Out-of-sample tests of forecasting accuracy.) A fold's tables and models lie in a warehouse of its own, `<warehouse>/folds/<k>`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyspark.sql import functions as F

from foretaste.errors import SettingsError
from foretaste.evaluation.comparison import aligned
from foretaste.evaluation.launches import FOUND
from foretaste.settings import Settings
from foretaste.steps.evaluate import evaluate
from foretaste.steps.judging import judge_of
from foretaste.steps.report import StepReport
from foretaste.steps.sequence import sequence
from foretaste.steps.train import train
from foretaste.tables import Warehouse, sequences
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.metrics import METRICS
from foretaste.tables.promotions import PROMOTIONS
from foretaste.tables.scores import microseconds
from foretaste.tables.sequences import Bounds
from foretaste.tables.sessions import SESSIONS
from foretaste.tasks import TASKS

Values = Mapping[tuple[str, int], float]
"""(model or baseline, fold) → its headline metric."""


@dataclass(frozen=True, kw_only=True)
class _Fold:
    number: int
    settings: Settings
    bounds: Bounds

    @property
    def segment(self) -> str:
        return f"fold {self.number}"


def backtest(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Builds, trains and judges each fold on the sessions that are there; appends its metrics on test rows as the segment `fold k`."""
    if not settings.tasks:
        raise SettingsError("no task is configured, so there is nothing to train", where="tasks", fix=f"Add one of {', '.join(TASKS)}.")
    folds = _folds(warehouse, settings)  # all of them, before any is built
    run_at = datetime.now(UTC)
    notes = [
        f"{fold.segment}: training before {fold.bounds.valid_from}, validation before {fold.bounds.test_from}, test up to "
        f"{fold.bounds.until}"
        for fold in folds
    ]
    values: dict[str, dict[tuple[str, int], float]] = {name: {} for name in settings.tasks}
    worths: dict[str, dict[tuple[str, int], float]] = {name: {} for name in settings.tasks}
    num_rows = num_measurements = 0
    for fold in folds:
        annex = warehouse.annex(f"folds/{fold.number}", EVENTS, SESSIONS, CAMPAIGNS, PROMOTIONS, ITEMS)
        for step in (sequence, train, evaluate):
            report = step(annex, fold.settings)
        num_rows += sum(count for name, count in report.read.items() if name.startswith("test "))
        of_fold = annex.read(METRICS).where((F.col("split") == "test") & (F.col("segment") == "all"))
        newest = of_fold.agg(F.unix_micros(F.max("run_at"))).head()[0]  # type: ignore[index]
        rows = of_fold.where(F.unix_micros("run_at") == newest).withColumns(
            {
                "run_at": F.timestamp_micros(F.lit(microseconds(run_at))),
                "segment": F.lit(fold.segment),
                "model_version": F.lit(None).cast("int"),  # it counts in the fold's own warehouse
            }
        )
        warehouse.append(METRICS, METRICS.select(rows))
        for row in rows.select("task", "model", "metric", "value").collect():
            num_measurements += 1
            if row.metric == _headline(settings, row.task) and " minus " not in row.model:
                values[row.task][row.model, fold.number] = row.value
            worth = TASKS[row.task].worth
            if worth is not None and row.metric == worth.metric and row.model in (row.task, *worth.against):
                worths[row.task][row.model, fold.number] = row.value
    for task, found in values.items():
        notes += _told(task, _headline(settings, task), found, len(folds), lower_is_better=_lower_is_better(settings, task))
        notes += _gained(task, worths[task], len(folds))
    return StepReport(step="backtest", read={"test rows": num_rows}, written={"metrics": num_measurements}, notes=tuple(notes))


def _folds(warehouse: Warehouse, settings: Settings) -> list[_Fold]:
    wanted = settings.sequences
    if wanted.protocol == "leave_one_out":
        raise SettingsError(
            "leave_one_out knows no times, so there is no origin to move",
            where="sequences.protocol",
            fix="Use global_time or session_next_item.",
        )
    sessions = warehouse.read(SESSIONS)
    whole = sequences.bounds(sessions, wanted)
    step = settings.evaluation.fold_step or whole.until - whole.test_from
    return [_fold(warehouse, settings, whole, number, number * step) for number in range(settings.evaluation.folds)]


def _fold(warehouse: Warehouse, settings: Settings, whole: Bounds, number: int, back: timedelta) -> _Fold:
    moved = {name: getattr(whole, name) - back for name in ("valid_from", "test_from", "until")}
    of_fold = settings.model_copy(update={"sequences": settings.sequences.model_copy(update=moved)})
    try:
        bounds = sequences.bounds(warehouse.read(SESSIONS), of_fold.sequences)
    except SettingsError as error:
        raise SettingsError(
            f"fold {number} does not fit into the events there are: {error.what}",
            where="evaluation.folds",
            fix="Lower evaluation.folds or evaluation.fold_step.",
        ) from None
    return _Fold(number=number, settings=of_fold, bounds=bounds)


def _headline(settings: Settings, task: str) -> str:
    if TASKS[task].metrics == "launches":
        return FOUND[0]
    return judge_of(settings, TASKS[task]).headline


def _lower_is_better(settings: Settings, task: str) -> bool:
    return _headline(settings, task) in judge_of(settings, TASKS[task]).lower_is_better


def _gained(task: str, values: Values, folds: int) -> Sequence[str]:
    """A table: what acting on the answers comes to in a shop's own terms, beside what it could do without the model."""
    worth = TASKS[task].worth
    if worth is None or not values:
        return []
    scorers = [name for name in (task, *worth.against) if (name, 0) in values]
    rows = [["", "mean", *(f"fold {fold}" for fold in range(folds))]]
    for name in scorers:
        of_folds = [worth.times * values[name, fold] for fold in range(folds)]
        rows.append([name, *(f"{value:,.{max(1, worth.digits)}f}" for value in (sum(of_folds) / folds, *of_folds))])
    return [f"{task}, {worth.words}", *(f"  {line}" for line in aligned(rows))]


def _told(task: str, metric: str, values: Values, folds: int, *, lower_is_better: bool) -> Sequence[str]:
    """A table, the best mean first, and whether the model is the best of it."""
    sign = 1 if lower_is_better else -1
    by_name = {name: [values[name, fold] for fold in range(folds)] for name in dict.fromkeys(name for name, _ in values)}
    mean = {name: sum(of_folds) / folds for name, of_folds in by_name.items()}
    ranked = sorted(by_name, key=lambda name: sign * mean[name])
    width = max(len(task), *map(len, ranked))
    lines = [
        f"{task}: {metric} on the test rows of each fold",
        f"  {'':{width}}    mean" + "".join(f"  fold {fold}" for fold in range(folds)),
    ]
    lines += [f"  {name:{width}}  {mean[name]:.4f}" + "".join(f"  {value:.4f}" for value in by_name[name]) for name in ranked]
    best = next((name for name in ranked if name != task), None)
    if best is None:
        return lines
    won = sum(sign * values[task, fold] < sign * values[best, fold] for fold in range(folds))
    verdict = "better" if sign * mean[task] < sign * mean[best] else "NOT better"
    return [*lines, f"{task} is {verdict} than {best}, the best of the baselines, on average, and better in {won} of {folds} folds"]
