"""One encoder for several tasks, beside a model for each: fitted together, and taken where validation is the better for it."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from foretaste.errors import SettingsError
from foretaste.models import MODELS, Model, of_task
from foretaste.settings import Settings
from foretaste.steps.planning import check_options, planned, versions_of, written
from foretaste.tables import Warehouse
from foretaste.tasks import TASKS
from foretaste.training.plan import Fitted, Plan
from foretaste.training.search import Fit

FOLDER = "shared"


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What a task is left with: the encoder with its own head, as a plan and a fit like any other. tasks: those that learnt together"""

    plan: Plan
    fitted: Fitted
    tasks: tuple[str, ...]

    def against(self, alone: Fitted) -> str:
        """Which of the two is taken, and why, in words."""
        better = "is taken" if self.beats(alone) else "is NOT taken"
        others = ", ".join(task for task in self.tasks if task != self.plan.task)
        headline = "mrr" if self.plan.head == "items" else "log_loss"
        ours, theirs = self.fitted.metrics[headline], alone.metrics[headline]
        return f"the encoder shared with {others} {better}: {headline} {ours:.4f} on validation rows, {theirs:.4f} with one of its own"

    def summary(self, alone: Fitted) -> dict[str, Any]:
        """The same for the registry: values are what training stops on, the larger the better."""
        return {"tasks": list(self.tasks), "value": self.fitted.value, "alone": alone.value, "taken": self.beats(alone)}

    def beats(self, alone: Fitted) -> bool:
        return self.fitted.value > alone.value


def check(settings: Settings) -> None:
    """SettingsError where what the tasks of `settings.shared` are to share is no encoder, or not what one of them needs."""
    if settings.shared is None:
        return
    model = settings.shared.model
    check_options(model, "shared")
    encoders = [name for name, network in MODELS.items() if network.step is Model.step]  # the others learn in ways of their own
    if model.name not in encoders:
        raise SettingsError(f"{model.name} has no encoder to share", where="shared.model.name", fix=f"Use {' or '.join(encoders)}.")
    for name in settings.shared.weights:
        if TASKS[name].needs_content and not model.content:
            raise SettingsError(
                f"{name} asks about items that its model never saw", where="shared.model.content", fix="Set it to true, or leave it out."
            )


def fitted_together(warehouse: Warehouse, settings: Settings, fit: Fit, report: Callable[[str], None]) -> dict[str, Shared]:
    """Task → its part of what all tasks of `settings.shared` learnt together; {} without any."""
    shared = settings.shared
    if shared is None:
        return {}
    folder = f"{warehouse.path}/checkpoints/{FOLDER}"
    if not settings.training.resume:
        shutil.rmtree(folder, ignore_errors=True)
    plans = []
    for name, weight in shared.weights.items():
        own = settings.tasks[name]
        chosen = own.model_copy(
            update={"model": shared.model.model_copy(update={"facts": own.model.facts}), "fit": shared.fit, "search": None}
        )
        plan = planned(warehouse, settings, TASKS[name], chosen, versions_of(warehouse, TASKS[name]), f"{FOLDER}/{name}")
        plans.append(replace(plan, weight=weight))
    first, *others = plans
    together = replace(first, companions=tuple(others), folder=folder)
    fitted = fit(together, report)
    tensors = load_file(fitted.weights)
    found = {}
    for plan in plans:
        save = partial(save_file, of_task(tensors, plan.task))
        path = written(Path(folder) / f"{plan.task}.safetensors", save, f"{plan.task}'s part")
        found[plan.task] = Shared(plan=plan, fitted=_of_task(fitted, plan.task, str(path)), tasks=tuple(shared.weights))
    return found


def _of_task(fitted: Fitted, task: str, weights: str) -> Fitted:
    """What one task has of a fit of several."""

    def own(numbers: Mapping[str, Any]) -> dict[str, Any]:
        return {name.removeprefix(f"{task}."): number for name, number in numbers.items() if name.startswith(f"{task}.")}

    metrics = own(fitted.metrics)
    value = metrics.pop("value")
    return replace(fitted, weights=weights, value=value, metrics=metrics, calibration=own(fitted.calibration or {}) or None)
