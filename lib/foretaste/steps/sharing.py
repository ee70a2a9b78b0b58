"""One encoder for several tasks, beside a model for each: fitted together, and taken where validation is the better for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch

from foretaste.models import of_task
from foretaste.settings import Settings
from foretaste.steps.planning import planned, versions_of
from foretaste.tables import Warehouse
from foretaste.tasks import TASKS
from foretaste.training.checkpoints import write
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


def fitted_together(warehouse: Warehouse, settings: Settings, fit: Fit, report: Callable[[str], None]) -> dict[str, Shared]:
    """Task → its part of what all tasks of `settings.shared` learnt together; {} without any."""
    shared = settings.shared
    if shared is None:
        return {}
    plans = []
    for name, weight in shared.weights.items():
        own = settings.tasks[name]
        chosen = own.model_copy(
            update={"model": shared.model.model_copy(update={"facts": own.model.facts}), "fit": shared.fit, "search": None}
        )
        plan = planned(warehouse, settings, TASKS[name], chosen, versions_of(warehouse, TASKS[name]), f"{FOLDER}/{name}")
        plans.append(replace(plan, weight=weight))
    first, *others = plans
    together = replace(first, companions=tuple(others), folder=str(Path(first.folder).parent))
    fitted = fit(together, report)
    tensors = safetensors.torch.load_file(fitted.weights)
    found = {}
    for plan in plans:
        path = Path(fitted.weights).with_name(f"{plan.task}.safetensors")
        write(path, safetensors.torch.save(of_task(tensors, plan.task)))
        found[plan.task] = Shared(plan=plan, fitted=_of_task(fitted, plan.task, str(path)), tasks=tuple(shared.weights))
    return found


def _of_task(fitted: Fitted, task: str, weights: str) -> Fitted:
    """What one task has of a fit of several."""

    def own(numbers: Mapping[str, Any]) -> dict[str, Any]:
        return {name.removeprefix(f"{task}."): number for name, number in numbers.items() if name.startswith(f"{task}.")}

    metrics = own(fitted.metrics)
    value = metrics.pop("value")
    return replace(fitted, weights=weights, value=value, metrics=metrics, calibration=own(fitted.calibration or {}) or None)
