"""sequences, pinned at one version → a version of each task's model."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from foretaste import registry
from foretaste.contract import CODED_FACTS, DAILY, FACTS, WAITS
from foretaste.errors import SettingsError
from foretaste.feed.pin import pin, rows_of
from foretaste.feed.snapshot import joined
from foretaste.models import COUNTED, MODELS, Model, Variational, options_of
from foretaste.settings import Settings, TaskSettings
from foretaste.steps import count, sharing
from foretaste.steps.augmentation import gated
from foretaste.steps.blend import Blended, blend
from foretaste.steps.champion import crown
from foretaste.steps.judging import answered
from foretaste.steps.launches import fitted_line
from foretaste.steps.planning import check_options, planned, starting, variants, versions_of
from foretaste.steps.report import StepReport
from foretaste.steps.sharing import FOLDER, Shared, fitted_together
from foretaste.stored_model import StoredModel
from foretaste.tables import TABLES, Warehouse
from foretaste.tables.vocabulary import VOCABULARY
from foretaste.tasks import TASKS, Task
from foretaste.training.launch import launch
from foretaste.training.loop import fitted_network
from foretaste.training.plan import Fitted, Plan
from foretaste.training.private import account, noise_multiplier
from foretaste.training.search import Fit, search


def train(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Fits each task of the settings and stores it: searches first where it is asked to, and learns from validation time last (`refit`).

    Checkpoints of a run that was cut off are gone on from, then removed.
    """
    if not settings.tasks:
        raise SettingsError("no task is configured, so there is nothing to train", where="tasks", fix=f"Add one of {', '.join(TASKS)}.")
    for name, task in settings.tasks.items():
        check(name, task)
        if TASKS[name].head == "uplift":
            _check_trial(warehouse, TASKS[name])
    sharing.check(settings)
    read: dict[str, int] = {}
    notes: list[str] = []
    fit = _fit(warehouse, settings)
    together = fitted_together(warehouse, settings, fit, _line)
    for name in settings.tasks:
        rows, told = _trained(warehouse, settings, TASKS[name], fit, together.get(name))
        read |= rows
        notes += told
    shutil.rmtree(f"{warehouse.path}/checkpoints/{FOLDER}", ignore_errors=True)
    return StepReport(step="train", read=read, written={"models": len(settings.tasks)}, notes=tuple(notes))


def _trained(warehouse: Warehouse, settings: Settings, task: Task, fit: Fit, rival: Shared | None) -> tuple[dict[str, int], list[str]]:
    """Fits and stores one task's model; the rows that it read, and what came of it, in words. rival: what it learnt beside other tasks"""
    started, name, own = time.monotonic(), task.name, settings.tasks[task.name]
    versions = versions_of(warehouse, task)
    if own.model.name in COUNTED:
        counted = count.count_model(warehouse, settings, task, own, versions)
        told = [count.summary(counted, time.monotonic() - started), crown(warehouse, settings, counted)]
        return {f"validation rows for {name}": int(counted.metrics["rows"])}, told
    plan = planned(warehouse, settings, task, own, versions)
    folder = plan.folder
    seen = _statistics(warehouse, plan) if task.metrics in ("binary", "uplift") else {}
    constant = (None, 0.0, 1.0) if plan.head in DAILY else (None,)  # an effect of 0 or 1 is one
    if plan.head in WAITS and seen["base_rate"] in constant:
        raise SettingsError(
            f"{name}: all training rows that tell of {plan.sizes.days} days have the same answer, if there are any",
            where=f"tasks.{name}.within",
            fix="Shorten it, or name the event types that count in sequences.activity (churn) or sequences.answers (campaign).",
        )
    about: dict[str, Any] = {}
    lines: list[str] = []
    if own.search:
        trials = search(plan, own, fit, _line)
        about["search"] = [trial.summary for trial in trials]
        plan = trials[0].plan
    gate = gated(warehouse, settings, plan, fit, _line) if plan.fit.augment.written else None
    if gate:
        about["augmentation"] = gate.summary
        lines.append(gate.line)
    plan, fitted = (gate.plan, gate.fitted) if gate else (plan, fit(plan, _line))
    if rival:
        about["shared"] = rival.summary(fitted)
        lines.append(rival.against(fitted))
        plan, fitted = (rival.plan, rival.fitted) if rival.beats(fitted) else (plan, fitted)
    again = fit(_refit(warehouse, plan, fitted, versions[VOCABULARY.name]), _line) if settings.sequences.refit else None
    mixed = blend(warehouse, plan, own.blend, own.counted, fitted, again, fit, _line) if own.blend else None
    if task.metrics == "launches":
        load = partial(fitted_network, plan.to_json(), fitted.weights)  # validation time taught it nothing: its launches are new to it
        seen = {"launch": fitted_line(warehouse, settings, load, plan.features, versions, plan.sizes.days)}
    stored = _store(warehouse, plan, fitted, again, mixed, about, versions, seen)
    shutil.rmtree(folder, ignore_errors=True)
    if again:
        lines.append(
            f"the weights are those of {fitted.best_epoch} epochs on training and validation time together; "
            "the metrics are those of the model before, which chose them: nothing is left to judge these by but the test"
        )
    told = [_summary(stored, fitted, time.monotonic() - started), *(f"{name}: {line}" for line in (*fitted.notes, *lines))]
    rows = {f"rows for {name}": plan.train.num_rows + (plan.valid.num_rows if plan.valid else 0)}
    return rows, [*told, crown(warehouse, settings, stored)]


def _check_trial(warehouse: Warehouse, task: Task) -> None:
    """SettingsError where nothing tells what would have happened without a campaign."""
    rows = warehouse.read(TABLES[task.table], versions_of(warehouse, task)[task.table]).where(
        f"split = 'train' AND cut = '{task.train_cut}'"
    )
    arms = {row[0] for row in rows.select(F.element_at(task.label.name, 3)).distinct().collect()}
    if arms != {0, 1}:
        missing = "reached by a campaign that has a control group" if arms == {0} else "left out of a campaign at random"
        raise SettingsError(
            f"in training time nobody was {missing}, so nothing tells what reaching users changes",
            where=f"tasks.{task.name}",
            fix="Send whom a campaign left out as events of type control, with its campaign_id and time; or leave the task out.",
        )


def check(name: str, settings: TaskSettings) -> None:
    """SettingsError for a network, or a setting of it, that there is not; for each value that a search may try, too."""
    if settings.model.name in COUNTED:
        count.check(name, TASKS[name], settings)
        return
    for altered in variants(settings):
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
        only_of_users = {
            "model.facts": (altered.model.facts, "reads facts"),
            "model.latents": (altered.model.latents, "reads latents"),
            "fit.start_at_line": (altered.fit.start_at_line, "starts at a line"),
        }
        for key, (asked, does) in only_of_users.items():
            if asked and TASKS[name].head in ("items", "counts"):
                raise SettingsError(
                    f"only a model that answers for a user as a whole {does}", where=f"tasks.{name}.{key}", fix="Leave it out."
                )
        if altered.fit.start_at_line and not altered.model.facts:
            raise SettingsError(
                "there are no facts to draw a line through",
                where=f"tasks.{name}.fit.start_at_line",
                fix="Set model.facts, or leave it out.",
            )
        if altered.fit.start_at_line and altered.model.facts != settings.model.facts:
            raise SettingsError(
                "a line goes through facts, which are searched over", where=f"tasks.{name}.search.over", fix="Leave model.facts out of it."
            )
        if altered.fit.private and (model.counts or issubclass(model, Variational) or model.writes):
            raise SettingsError(
                f"{altered.model.name} learns by more than a row's own loss",
                where=f"tasks.{name}.fit.private",
                fix="Use a recurrent network or the transformer.",
            )
        if altered.fit.private:
            noise_multiplier(altered.fit.private.epsilon, altered.fit.private.delta, altered.fit.epochs)
        check_options(altered.model, f"tasks.{name}")


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
    return starting(warehouse, plan, vocabulary, [plan.fit])


def _store(
    warehouse: Warehouse,
    plan: Plan,
    fitted: Fitted,
    again: Fitted | None,
    mixed: Blended | None,
    about: Mapping[str, Any],
    versions: dict[str, int],
    seen: Mapping[str, Any],
) -> StoredModel:
    """The metrics, history and calibration are always those of the fit that was judged."""
    settings: dict[str, Any] = {"model": plan.model.model_dump(mode="json"), "fit": plan.fit.model_dump(mode="json"), "ranks": fitted.size}
    settings |= about
    if again:
        settings["refit"] = {"epochs": fitted.best_epoch, "history": list(again.history)}
    if plan.fit.private:
        settings["private"] = account(plan.fit.private, plan.fit.epochs)
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
    """Of the rows that a task learns from that ranks no items: base_rate (of an uplift the mean effect) and medians of StoredModel."""
    rows = answered(rows_of(warehouse, plan.train), TASKS[plan.task], plan.sizes.days)
    amounts = [name for name in FACTS if name not in CODED_FACTS]
    rate = F.avg(plan.label)
    if plan.head == "uplift":
        kind = F.col(plan.label)
        rate = F.avg(F.when(kind >= 2, kind % 2)) - F.avg(F.when(kind < 2, kind % 2))
    found = rows.agg(rate.alias("base_rate"), *[F.median(name).alias(name) for name in amounts]).head()
    assert found is not None  # an aggregate of all rows is one row
    return {"base_rate": found["base_rate"], "medians": {name: found[name] for name in amounts}}


def _summary(stored: StoredModel, fitted: Fitted, seconds: float) -> str:
    metrics = _shown(fitted.metrics)
    blended = f"; its blend {_shown(stored.metrics)} on the {stored.metrics['rows']:,.0f} set apart" if "blend" in stored.settings else ""
    spent = stored.settings.get("private")
    private = f"; of any one {spent['unit']} epsilon {spent['epsilon']:.2f} at delta {spent['delta']:g}" if spent else ""
    return (
        f"{stored.name} version {stored.version}: {stored.settings['model']['name']}, {fitted.num_parameters:,} parameters, "
        f"{fitted.size} {'rank' if fitted.size == 1 else 'ranks'}, best epoch {fitted.best_epoch} of {len(fitted.history)}, "
        f"on validation rows {metrics}{blended}{private}; {seconds:.0f} s"
    )


def _shown(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "rows")


def _line(line: str) -> None:
    print(line, flush=True)
