"""sequences, pinned at one version → a version of each task's model."""

import shutil
import time
from pathlib import Path

from pyspark.sql import functions as F

from foretaste import registry
from foretaste.errors import SettingsError
from foretaste.feed.pin import pin
from foretaste.models import MODELS
from foretaste.settings import Settings, TaskSettings
from foretaste.steps.report import StepReport
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY, sizes
from foretaste.tasks import TASKS, Task
from foretaste.training.plan import Fitted, Plan
from foretaste.training.workers import launch


def train(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Fits each task of the settings and stores it. Checkpoints of a run that was cut off are gone on from, then removed."""
    if not settings.tasks:
        raise SettingsError("no task is configured, so there is nothing to train", where="tasks", fix=f"Add one of {', '.join(TASKS)}.")
    for name, task in settings.tasks.items():
        _check(name, task)
    versions = _versions(warehouse)
    read: dict[str, int] = {}
    notes: list[str] = []
    for name, task in settings.tasks.items():
        started = time.monotonic()
        plan = _plan(warehouse, settings, TASKS[name], task, versions)
        fitted = launch(plan, settings.training, warehouse.spark, report=_line)
        stored = _store(warehouse, plan, task, fitted, versions)
        shutil.rmtree(plan.folder, ignore_errors=True)
        read[f"rows for {name}"] = plan.train.num_rows + plan.valid.num_rows
        notes += [_summary(stored, fitted, time.monotonic() - started), *(f"{name}: {note}" for note in fitted.notes)]
    return StepReport(step="train", read=read, written={"models": len(settings.tasks)}, notes=tuple(notes))


def _check(name: str, settings: TaskSettings) -> None:
    if settings.model.name not in MODELS:
        raise SettingsError(
            f"no model is called {settings.model.name!r}", where=f"tasks.{name}.model.name", fix=f"Use one of {', '.join(MODELS)}."
        )


def _versions(warehouse: Warehouse) -> dict[str, int]:
    """The newest sequences, and the vocabulary that they were written with. TableError where there are none."""
    warehouse.read(SEQUENCES)
    version = warehouse.built_from(SEQUENCES).get("vocabulary")
    words = version if isinstance(version, int) else warehouse.version(VOCABULARY)
    return {SEQUENCES.name: warehouse.version(SEQUENCES), VOCABULARY.name: words}


def _plan(warehouse: Warehouse, settings: Settings, task: Task, chosen: TaskSettings, versions: dict[str, int]) -> Plan:
    version = versions[SEQUENCES.name]
    return Plan(
        task=task.name,
        head=task.head,
        label=task.label.name,
        model=chosen.model,
        fit=chosen.fit,
        sizes=sizes(warehouse.read(VOCABULARY, versions[VOCABULARY.name])),
        train=pin(warehouse, "train", task.train_cut, version),
        valid=pin(warehouse, "valid", settings.sequences.judged_at, version),
        seed=settings.training.seed,
        folder=f"{warehouse.path}/checkpoints/{task.name}",
        threads=settings.training.threads,
    )


def _store(warehouse: Warehouse, plan: Plan, chosen: TaskSettings, fitted: Fitted, versions: dict[str, int]) -> registry.StoredModel:
    return registry.save(
        warehouse,
        name=plan.task,
        task=plan.task,
        head=plan.head,
        label=plan.label,
        model=chosen.model.model_dump(mode="json"),
        sizes=plan.sizes,
        weights=Path(fitted.weights),
        vocabulary=warehouse.read(VOCABULARY, versions[VOCABULARY.name]),
        calibration=fitted.calibration,
        metrics=fitted.metrics,
        history=fitted.history,
        tables=versions,
        seed=plan.seed,
        settings=chosen.model_dump(mode="json") | {"ranks": fitted.size},
        base_rate=_base_rate(warehouse, TASKS[plan.task], versions[SEQUENCES.name]) if plan.head == "binary" else None,
    )


def _base_rate(warehouse: Warehouse, task: Task, version: int) -> float | None:
    """The share of positives among the rows that a binary task learns from."""
    rows = warehouse.read(SEQUENCES, version).where((F.col("split") == "train") & (F.col("cut") == task.train_cut))
    return rows.agg(F.avg(task.label.name)).head()[0]  # type: ignore[index, no-any-return]


def _summary(stored: registry.StoredModel, fitted: Fitted, seconds: float) -> str:
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in fitted.metrics.items() if name != "rows")
    return (
        f"{stored.name} version {stored.version}: {stored.model['name']}, {fitted.num_parameters:,} parameters, "
        f"{fitted.size} {'rank' if fitted.size == 1 else 'ranks'}, best epoch {fitted.best_epoch} of {len(fitted.history)}, "
        f"on validation rows {metrics}; {seconds:.0f} s"
    )


def _line(line: str) -> None:
    print(line, flush=True)
