"""A small search for settings by validation, inside the run: successive halving (Jamieson & Talwalkar 2016), seeds fixed.

All trials are fit for a few epochs; the better half goes on for as many again, and so on until one is left, whose fit then goes on to its
end. Nothing is fitted twice: a trial goes on from its own checkpoints, also when a search is cut off and started again.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foretaste.errors import DivergedError
from foretaste.settings import SearchSettings, TaskSettings
from foretaste.training.plan import Fitted, Plan

Fit = Callable[[Plan, Callable[[str], None]], Fitted]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One choice. epochs, value: how far it came, and its best validation value until then; -inf where its loss was no number."""

    number: int
    changes: Mapping[str, Any]
    plan: Plan
    epochs: int = 0
    value: float = -math.inf

    @property
    def summary(self) -> dict[str, Any]:
        return {"trial": self.number, **self.changes, "epochs": self.epochs, "value": self.value if math.isfinite(self.value) else None}


def search(plan: Plan, task: TaskSettings, fit: Fit, report: Callable[[str], None]) -> list[Trial]:
    """All trials, the best first: its plan is the one to fit in full.

    fit: fits a plan and reports by its second argument. `task` has a search. TrainingError where every trial went astray.
    """
    assert task.search is not None
    trials = [_trial(plan, task, number, changes) for number, changes in enumerate(choices(task.search, plan.seed), start=1)]
    alive, epochs = trials, min(task.search.epochs, plan.fit.epochs)
    report(f"{plan.task}: search over {len(trials)} trials of {', '.join(task.search.over)}")
    while True:
        tried = {trial.number: _tried(trial, epochs, fit, report) for trial in alive}
        trials = sorted((tried.get(trial.number, trial) for trial in trials), key=lambda trial: (-trial.value, trial.number))
        alive = [trial for trial in trials if trial.number in tried and math.isfinite(trial.value)]
        if not alive:
            raise DivergedError(
                "the loss of every trial is no number", where=f"tasks.{plan.task}.search", fix="Try lower values of fit.learning_rate."
            )
        alive = alive[: math.ceil(len(alive) / 2)]  # none of them is behind one that was given up: it was better before, too
        if len(alive) == 1 or epochs == plan.fit.epochs:
            break
        epochs = min(2 * epochs, plan.fit.epochs)
    for line in table(trials):
        report(f"{plan.task}: {line}")
    return trials


def choices(search: SearchSettings, seed: int) -> list[dict[str, Any]]:
    """Different choices of one value from each list: all of them in order, or `trials` at random where there are more."""
    number = math.prod(len(values) for values in search.over.values())
    picked: Sequence[int] = range(number) if number <= search.trials else random.Random(seed).sample(range(number), search.trials)
    return [_choice(search.over, place) for place in picked]


def _choice(over: Mapping[str, Sequence[Any]], place: int) -> dict[str, Any]:
    """Choice number `place` of all: a number whose digits are the places in the lists, the last list's first."""
    chosen = {}
    for key, values in reversed(list(over.items())):
        place, digit = divmod(place, len(values))
        chosen[key] = values[digit]
    return {key: chosen[key] for key in over}


def _trial(plan: Plan, task: TaskSettings, number: int, changes: dict[str, Any]) -> Trial:
    altered = task.altered(changes)
    own = replace(plan, model=altered.model, fit=altered.fit, folder=f"{plan.folder}/trial-{number:03d}")
    return Trial(number=number, changes=changes, plan=own)


def _tried(trial: Trial, epochs: int, fit: Fit, report: Callable[[str], None]) -> Trial:
    try:
        fitted = fit(replace(trial.plan, last_epoch=epochs), lambda line: report(f"trial {trial.number}, {line}"))
    except DivergedError as error:
        report(f"trial {trial.number}, {error}")
        return replace(trial, epochs=epochs, value=-math.inf)
    return replace(trial, epochs=len(fitted.history), value=fitted.value)


def table(trials: Sequence[Trial]) -> list[str]:
    """Lines of a table, best first."""
    keys = list(trials[0].changes)
    rows = [["trial", "epochs", "value", *keys]]
    rows += [[str(trial.number), str(trial.epochs), f"{trial.value:.4f}", *(str(trial.changes[key]) for key in keys)] for trial in trials]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
