import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from foretaste.errors import DivergedError
from foretaste.settings import SearchSettings, TaskSettings
from foretaste.training.loop import fit
from foretaste.training.plan import Fitted, Plan
from foretaste.training.ranks import Alone
from foretaste.training.search import choices, search
from tests.training import toys

RATES = [0.1, 0.2, 0.3, 0.4, 0.5]


def task(trials: int = 5, epochs: int = 1, **over: Any) -> TaskSettings:
    over = over or {"fit.learning_rate": RATES}
    return TaskSettings.model_validate({"search": {"trials": trials, "epochs": epochs, "over": over}})


def told(value: Callable[[Plan], float], seen: list[tuple[float, int]]) -> Callable[[Plan, Callable[[str], None]], Fitted]:
    """A fit whose validation value is told, and that notes the learning rate and the last epoch it was asked for."""

    def fitted(plan: Plan, report: Callable[[str], None]) -> Fitted:
        seen.append((plan.fit.learning_rate, plan.end))
        history: tuple[Mapping[str, float], ...] = ({},) * plan.end
        one = {"weights": "", "best_epoch": 1, "metrics": {}, "calibration": None, "num_parameters": 1, "size": 1}
        return Fitted(**one, value=value(plan), history=history)

    return fitted


def test_the_better_half_goes_on_for_twice_as_long(tmp_path: Path) -> None:
    seen: list[tuple[float, int]] = []
    plan = toys.plan(tmp_path, fit={"epochs": 9})
    trials = search(plan, task().model_copy(update={"fit": plan.fit}), told(lambda plan: -abs(plan.fit.learning_rate - 0.42), seen), print)
    assert seen == [(0.1, 1), (0.2, 1), (0.3, 1), (0.4, 1), (0.5, 1), (0.4, 2), (0.5, 2), (0.3, 2), (0.4, 4), (0.5, 4)]
    assert [(trial.changes["fit.learning_rate"], trial.epochs) for trial in trials] == [(0.4, 4), (0.5, 4), (0.3, 2), (0.2, 1), (0.1, 1)]
    assert trials[0].plan.fit.learning_rate == 0.4
    assert trials[0].plan.end == 9  # which is then fitted in full


def test_no_trial_is_fitted_for_longer_than_the_fit_itself(tmp_path: Path) -> None:
    seen: list[tuple[float, int]] = []
    plan = toys.plan(tmp_path, fit={"epochs": 3})
    search(plan, task(epochs=2).model_copy(update={"fit": plan.fit}), told(lambda plan: plan.fit.learning_rate, seen), toys.quiet)
    assert max(epochs for _, epochs in seen) == 3


def test_a_trial_that_diverges_loses(tmp_path: Path) -> None:
    def value(plan: Plan) -> float:
        if plan.fit.learning_rate > 0.3:
            raise DivergedError("the loss is nan in epoch 1, step 2", where="interest")
        return plan.fit.learning_rate

    trials = search(toys.plan(tmp_path), task(), told(value, []), toys.quiet)
    assert trials[0].changes == {"fit.learning_rate": 0.3}
    assert [trial.value for trial in trials[-2:]] == [-math.inf, -math.inf]
    assert trials[-1].summary["value"] is None  # JSON knows no infinity

    def nan(plan: Plan) -> float:
        raise DivergedError("the loss is nan")

    with pytest.raises(DivergedError, match=r"the loss of every trial is no number \(tasks.interest.search\)"):
        search(toys.plan(tmp_path), task(), told(nan, []), toys.quiet)


def test_choices_are_different_and_the_seed_s() -> None:
    over = {"model.dropout": [0.1, 0.2, 0.3], "fit.learning_rate": [0.01, 0.02]}
    every = choices(SearchSettings.model_validate({"trials": 9, "over": over}), seed=1)
    assert every[:3] == [
        {"model.dropout": 0.1, "fit.learning_rate": 0.01},
        {"model.dropout": 0.1, "fit.learning_rate": 0.02},
        {"model.dropout": 0.2, "fit.learning_rate": 0.01},
    ]
    assert len(every) == 6
    few = SearchSettings.model_validate({"trials": 4, "over": over})
    chosen = choices(few, seed=1)
    assert len({tuple(choice.items()) for choice in chosen}) == 4
    assert all(choice in every for choice in chosen)
    assert chosen == choices(few, seed=1)
    assert any(choices(few, seed=seed) != chosen for seed in range(2, 6))
    huge = SearchSettings.model_validate(
        {"trials": 3, "over": {f"fit.{key}": list(range(1, 100)) for key in ("epochs", "patience", "a", "b", "c")}}
    )
    assert len(choices(huge, seed=1)) == 3


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_winner_goes_on_from_its_own_checkpoint_and_equals_a_fit_of_its_own(tmp_path: Path, schedule: str) -> None:
    lines: list[str] = []
    chosen = TaskSettings.model_validate(
        {
            "model": {"name": "gru", "embedding": 16, "hidden": [16], "dropout": 0.2},
            "fit": {"epochs": 4, "batch_size": 12, "patience": 4, "schedule": schedule},
            "search": {"trials": 2, "epochs": 1, "over": {"fit.learning_rate": [1e-6, 0.02]}},
        }
    )
    plan = toys.plan(tmp_path / "search", model=chosen.model.model_dump(), fit=chosen.fit.model_dump())

    def run(plan: Plan, report: Callable[[str], None]) -> Fitted:
        return fit(plan, Alone(), report, feed=toys.feed)

    best, other = search(plan, chosen, run, lines.append)
    assert best.changes == {"fit.learning_rate": 0.02}
    assert [line.split() for line in lines[-3:]] == [
        ["interest:", "trial", "epochs", "value", "fit.learning_rate"],
        ["interest:", "2", "1", f"{best.value:.4f}", "0.02"],
        ["interest:", "1", "1", f"{other.value:.4f}", "1e-06"],
    ]
    full = run(best.plan, lines.append)
    assert any("goes on after epoch 1" in line for line in lines)
    own = toys.plan(tmp_path / "own", model=chosen.model.model_dump(), fit={**chosen.fit.model_dump(), "learning_rate": 0.02})
    assert toys.losses(run(own, toys.quiet).history) == toys.losses(full.history)
