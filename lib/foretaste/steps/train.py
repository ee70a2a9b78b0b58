"""sequences, pinned at one version → a version of each task's model."""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from safetensors.numpy import save_file

from foretaste import registry
from foretaste.contract import CODED_FACTS, DAILY, FACTS, FIRST_INDEX, PAD, WORDS_PER_ITEM
from foretaste.counting.attributes import combinations, most_frequent
from foretaste.counting.pairs import companions
from foretaste.counting.popularity import events_of_items
from foretaste.errors import ModelError, SettingsError
from foretaste.feed.pin import pin, rows_of
from foretaste.feed.snapshot import Pin, divided, joined
from foretaste.models import COUNTED, MODELS, Model, Variational, options_of
from foretaste.settings import Settings, TaskSettings
from foretaste.steps import count
from foretaste.steps.augmentation import Gated, gated
from foretaste.steps.blend import Blended, blend
from foretaste.steps.champion import crown
from foretaste.steps.judging import answered
from foretaste.steps.launches import fitted_line
from foretaste.steps.report import StepReport
from foretaste.tables import TABLES, Warehouse, items
from foretaste.tables.items import ITEMS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY, sizes
from foretaste.tasks import TASKS, Task
from foretaste.training.loop import fitted_network
from foretaste.training.plan import Fitted, Plan
from foretaste.training.search import Fit, Trial, search
from foretaste.training.workers import launch

_DAY = timedelta(days=1)
APART = 5  # of the training users one in so many stays unknown to a model that writes rows: see steps/likeness.py
NUM_SIMILAR = 20  # items that one may be substituted by


def train(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Fits each task of the settings and stores it: searches first where it is asked to, and learns from validation time last (`refit`).

    Checkpoints of a run that was cut off are gone on from, then removed.
    """
    if not settings.tasks:
        raise SettingsError("no task is configured, so there is nothing to train", where="tasks", fix=f"Add one of {', '.join(TASKS)}.")
    for name, task in settings.tasks.items():
        check(name, task)
    read: dict[str, int] = {}
    notes: list[str] = []
    for name, task in settings.tasks.items():
        started = time.monotonic()
        versions = _versions(warehouse, TASKS[name])
        if task.model.name in COUNTED:
            counted = count.count_model(warehouse, settings, TASKS[name], task, versions)
            read[f"validation rows for {name}"] = int(counted.metrics["rows"])
            notes += [count.summary(counted, time.monotonic() - started), crown(warehouse, settings, counted)]
            continue
        plan = _plan(warehouse, settings, TASKS[name], task, versions)
        seen = _statistics(warehouse, plan) if TASKS[name].metrics == "binary" else {}
        if plan.head in DAILY and seen["base_rate"] in (None, 0.0, 1.0):
            raise SettingsError(
                f"{name}: all training rows that tell of {plan.sizes.days} days have the same answer, if there are any",
                where=f"tasks.{name}.within",
                fix="Shorten it, or name the event types that count in sequences.activity (churn) or sequences.answers (campaign).",
            )
        fit = _fit(warehouse, settings)
        trials = search(plan, task, fit, _line) if task.search else []
        chosen = trials[0].plan if trials else plan
        gate = gated(warehouse, settings, chosen, fit, _line) if chosen.fit.augment.written else None
        chosen, fitted = (gate.plan, gate.fitted) if gate else (chosen, fit(chosen, _line))
        again = fit(_refit(warehouse, chosen, fitted, versions[VOCABULARY.name]), _line) if settings.sequences.refit else None
        mixed = blend(warehouse, chosen, task.blend, task.counted, fitted, again, fit, _line) if task.blend else None
        if TASKS[name].metrics == "launches":
            weights = fitted.weights  # those that validation time taught nothing: its launches are new to them
            load = partial(fitted_network, chosen.to_json(), weights)
            seen = {"launch": fitted_line(warehouse, settings, load, chosen.features, versions, chosen.sizes.days)}
        stored = _store(warehouse, chosen, fitted, again, mixed, trials, gate, versions, seen)
        shutil.rmtree(plan.folder, ignore_errors=True)
        read[f"rows for {name}"] = chosen.train.num_rows + (plan.valid.num_rows if plan.valid else 0)
        notes += [_summary(stored, fitted, time.monotonic() - started), *(f"{name}: {note}" for note in fitted.notes)]
        notes += [f"{name}: {gate.line}"] if gate else []
        if again:
            notes.append(
                f"{name}: the weights are those of {fitted.best_epoch} epochs on training and validation time together; "
                "the metrics are those of the model before, which chose them: nothing is left to judge these by but the test"
            )
        notes.append(crown(warehouse, settings, stored))
    return StepReport(step="train", read=read, written={"models": len(settings.tasks)}, notes=tuple(notes))


def check(name: str, settings: TaskSettings) -> None:
    """SettingsError for a network, or a setting of it, that there is not; for each value that a search may try, too."""
    if settings.model.name in COUNTED:
        count.check(name, TASKS[name], settings)
        return
    for altered in _variants(settings):
        model = MODELS.get(altered.model.name, Model)
        if TASKS[name].needs_latents and not issubclass(model, Variational):
            raise SettingsError(
                f"{altered.model.name} makes no latent numbers", where=f"tasks.{name}.model.name", fix="Use vae or mult_vae."
            )
        if TASKS[name].needs_content and not altered.model.content:
            raise SettingsError(
                f"{name} asks about items that its model never saw", where=f"tasks.{name}.model.content", fix="Set it to true."
            )
        if TASKS[name].writes_sequences and not model.writes:
            raise SettingsError(f"{altered.model.name} writes no sequences", where=f"tasks.{name}.model.name", fix="Use gan or vae.")
        if model.counts != (TASKS[name].head == "counts") and altered.model.name in MODELS:
            counting = " or ".join(kind for kind, network in MODELS.items() if network.counts)
            why, fix = ("foretells units of items, not what users do", "any other") if model.counts else ("foretells no units", counting)
            raise SettingsError(f"{altered.model.name} {why}", where=f"tasks.{name}.model.name", fix=f"Use {fix}.")
        if altered.model.facts and TASKS[name].head in ("items", "counts"):
            raise SettingsError(
                "only a model that answers for a user as a whole reads facts", where=f"tasks.{name}.model.facts", fix="Leave them out."
            )
        try:
            options_of(altered.model.name, altered.model.model_dump(exclude={"name"}))
        except ModelError as error:
            raise SettingsError(error.what, where=f"tasks.{name}.{error.where}", fix=error.fix) from None


def _variants(settings: TaskSettings) -> list[TaskSettings]:
    """These settings, and each with one of the values that a search may try."""
    over = settings.search.over.items() if settings.search else ()
    return [settings, *(settings.altered({key: value}) for key, values in over for value in values)]


def _versions(warehouse: Warehouse, task: Task) -> dict[str, int]:
    """The newest rows that the task learns from, and the vocabulary that sequences were written with. TableError where there are none."""
    table = TABLES[task.table]
    warehouse.read(table)
    version = warehouse.built_from(SEQUENCES).get("vocabulary")
    words = version if isinstance(version, int) else warehouse.version(VOCABULARY)
    return {table.name: warehouse.version(table), VOCABULARY.name: words}


def _plan(warehouse: Warehouse, settings: Settings, task: Task, chosen: TaskSettings, versions: dict[str, int]) -> Plan:
    version, table = versions[task.table], TABLES[task.table]
    known = sizes(warehouse.read(VOCABULARY, versions[VOCABULARY.name]))
    row = warehouse.read(table, version).select(F.size("item" if table is SEQUENCES else "units")).head()
    plan = Plan(
        task=task.name,
        head=task.head,
        label=task.label.name,
        model=chosen.model,
        fit=chosen.fit,
        sizes=replace(known, length=row[0] if row else known.length, days=math.ceil((chosen.within or settings.sequences.horizon) / _DAY)),
        train=learnt(warehouse, task, version),
        valid=pin(warehouse, "valid", task.judged_cut(settings.sequences.judged_cut), version, table),
        seed=settings.training.seed,
        folder=f"{warehouse.path}/checkpoints/{task.name}",
        threads=settings.training.threads,
        leave_out_seen=settings.evaluation.leave_out_seen,
        next_only=settings.sequences.judged_cut == "event",
    )
    if not settings.training.resume:
        shutil.rmtree(plan.folder, ignore_errors=True)
    substitutes = any(variant.fit.augment.substitute for variant in _variants(chosen))
    return replace(plan, tables=_tables(warehouse, plan, versions[VOCABULARY.name], with_similar=substitutes))


def learnt(warehouse: Warehouse, task: Task, version: int) -> Pin:
    """The training rows that the task's model learns from: all, but for one that writes rows: they resemble people, and copy none."""
    pinned = pin(warehouse, "train", task.train_cut, version, TABLES[task.table])
    return divided(pinned, APART)[0] if task.writes_sequences else pinned


def _fit(warehouse: Warehouse, settings: Settings) -> Fit:
    """Launches as the settings say. What an earlier run left is gone already, where it was not wanted."""
    training = settings.training.model_copy(update={"resume": True})

    def fit(plan: Plan, report: Callable[[str], None]) -> Fitted:
        return launch(plan, training, warehouse.spark, report=report)

    return fit


def _refit(warehouse: Warehouse, chosen: Plan, fitted: Fitted, vocabulary: int) -> Plan:
    """The same fit on training and validation time, for as many epochs as were best, and nothing to judge by."""
    _line(f"{chosen.task}: once more for {fitted.best_epoch} epochs, on training and validation time together")
    later = pin(warehouse, "valid", chosen.train.cut, chosen.train.version, TABLES[chosen.train.table])
    plan = replace(
        chosen, train=joined(chosen.train, later), valid=None, last_epoch=fitted.best_epoch, folder=f"{chosen.folder}/refit", tables=None
    )
    substitutes = plan.fit.augment.substitute > 0
    return replace(plan, tables=_tables(warehouse, plan, vocabulary, with_similar=substitutes))


def _content(warehouse: Warehouse, num_items: int, vocabulary: int) -> NDArray[np.int32]:
    """(num_items, WORDS_PER_ITEM): what each item of the vocabulary is, PAD where its description has fewer words."""
    if not warehouse.exists(ITEMS) or warehouse.read(ITEMS).isEmpty():
        raise SettingsError("no item is described, so there is no content", where="source.items", fix="Ingest a file of items.")
    known = warehouse.read(VOCABULARY, vocabulary).where("field = 'item'").select(F.col("value").alias("item_id"), "index")
    found = known.join(items.content(warehouse.read(ITEMS)), on="item_id", how="inner").select("index", "words").toPandas()
    words = np.full((num_items, WORDS_PER_ITEM), PAD, dtype=np.int32)
    for index, codes in zip(found["index"], found["words"], strict=True):
        words[index, : len(codes)] = codes
    return words


def _tables(warehouse: Warehouse, plan: Plan, vocabulary: int, *, with_similar: bool) -> str | None:
    """Writes what is counted in its rows before an items head learns (see Plan.tables). As large as the vocabulary."""
    if plan.head != "items":
        return None
    rows = rows_of(warehouse, plan.train)
    counts = events_of_items(rows).toPandas()
    popularity = np.ones(plan.sizes.num_items - FIRST_INDEX, dtype=np.float32)  # nothing is impossible
    popularity[counts["item"].to_numpy() - FIRST_INDEX] += counts["events"].to_numpy()
    tables: dict[str, NDArray[Any]] = {"popularity": popularity}
    if with_similar:
        tables["similar"] = _similar(rows, plan.sizes.num_items)
    if plan.model.content:
        tables["content"] = _content(warehouse, plan.sizes.num_items, vocabulary)
    if MODELS[plan.model.name].reads_categories:
        tables["category"] = most_frequent(combinations(rows, ("category",)), "category", plan.sizes.num_items)
    path = Path(plan.folder) / "tables.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tables, path)
    except OSError as error:
        raise ModelError(
            f"the counts cannot be written: {error.strerror}", where=str(path), fix="Make room there, or set warehouse.path."
        ) from error
    return str(path)


def _similar(rows: DataFrame, num_items: int) -> NDArray[np.int32]:
    """(num_items, NUM_SIMILAR): the items that are in the same histories as each most often, PAD where there are fewer."""
    lists = companions(rows, num_items, keep=NUM_SIMILAR)
    offset, neighbour = lists["offset"], lists["neighbour"]
    item = np.repeat(np.arange(num_items), np.diff(offset))
    similar = np.full((num_items, NUM_SIMILAR), PAD, dtype=np.int32)
    similar[item, np.arange(len(neighbour)) - offset[item]] = neighbour
    return similar


def _store(
    warehouse: Warehouse,
    plan: Plan,
    fitted: Fitted,
    again: Fitted | None,
    mixed: Blended | None,
    trials: Sequence[Trial],
    gate: Gated | None,
    versions: dict[str, int],
    seen: Mapping[str, Any],
) -> registry.StoredModel:
    """The metrics, history and calibration are always those of the fit that was judged."""
    settings: dict[str, Any] = {"model": plan.model.model_dump(mode="json"), "fit": plan.fit.model_dump(mode="json"), "ranks": fitted.size}
    if trials:
        settings["search"] = [trial.summary for trial in trials]
    if gate:
        settings["augmentation"] = gate.summary
    if again:
        settings["refit"] = {"epochs": fitted.best_epoch, "history": list(again.history)}
    if mixed:
        settings["blend"] = {"network": dict(fitted.metrics), "ranker": list(mixed.fitted.history)}
    return registry.save(
        warehouse,
        name=plan.task,
        task=plan.task,
        head=plan.head,
        label=plan.label,
        model=mixed.model if mixed else {"name": plan.model.name, **options_of(plan.model.name, plan.options)},
        sizes=plan.sizes,
        weights=mixed.weights if mixed else Path((again or fitted).weights),
        judged=Path((mixed.fitted if mixed else fitted).weights) if again else None,
        vocabulary=warehouse.read(VOCABULARY, versions[VOCABULARY.name]),
        calibration=fitted.calibration,
        metrics=(mixed.fitted if mixed else fitted).metrics,
        history=fitted.history,
        tables=versions,
        seed=plan.seed,
        settings=settings,
        **seen,
    )


def _statistics(warehouse: Warehouse, plan: Plan) -> dict[str, Any]:
    """Of the rows that a task learns from that ranks no items: base_rate and medians of StoredModel."""
    rows = answered(rows_of(warehouse, plan.train), TASKS[plan.task], plan.sizes.days)
    amounts = [name for name in FACTS if name not in CODED_FACTS]
    found = rows.agg(F.avg(plan.label).alias("base_rate"), *[F.median(name).alias(name) for name in amounts]).head()
    assert found is not None  # an aggregate of all rows is one row
    return {"base_rate": found["base_rate"], "medians": {name: found[name] for name in amounts}}


def _summary(stored: registry.StoredModel, fitted: Fitted, seconds: float) -> str:
    metrics = _shown(fitted.metrics)
    blended = f"; its blend {_shown(stored.metrics)} on the {stored.metrics['rows']:,.0f} set apart" if "blend" in stored.settings else ""
    return (
        f"{stored.name} version {stored.version}: {stored.settings['model']['name']}, {fitted.num_parameters:,} parameters, "
        f"{fitted.size} {'rank' if fitted.size == 1 else 'ranks'}, best epoch {fitted.best_epoch} of {len(fitted.history)}, "
        f"on validation rows {metrics}{blended}; {seconds:.0f} s"
    )


def _shown(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "rows")


def _line(line: str) -> None:
    print(line, flush=True)
