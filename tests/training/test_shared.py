"""Several tasks on one encoder: the circle of toys.py, of which one task learns what follows, one where it stands, one who comes back."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from foretaste.models import build, of_task
from foretaste.training.judge import Verdict, together
from foretaste.training.loop import _Fit, fit
from foretaste.training.plan import Fitted, Plan
from foretaste.training.ranks import Alone
from tests.training import toys

MODEL = {"name": "gru", "embedding": 16, "hidden": [16], "dropout": 0.0, "features": ["item", "event"]}
FACTS = {"churn": ["idle_hours"]}
ROWS = {"interest": 60, "returns": 24, "churn": 130}


def shared(folder: Path, *, model: dict[str, Any] | None = None, weights: dict[str, float] | None = None, **settings: Any) -> Plan:
    """interest, returns and churn, of 60, 24 and 130 rows."""
    plans = [
        replace(
            toys.plan(
                folder,
                task=task,
                model={**MODEL, **(model or {}), "facts": FACTS.get(task)},
                fit=settings,
                train=toys.pinned("train", num_rows),
            ),
            weight=(weights or {}).get(task, 1.0),
        )
        for task, num_rows in ROWS.items()
    ]
    return replace(plans[0], companions=tuple(plans[1:]))


def fitted(plan: Plan) -> Fitted:
    return fit(plan, Alone(), toys.quiet, feed=toys.feed)


@pytest.mark.parametrize("model", [{}, {"name": "transformer", "hidden": None, "layers": 1, "heads": 2}])
def test_all_tasks_are_learnt_by_heart_on_one_encoder(tmp_path: Path, model: dict[str, Any]) -> None:
    result = fitted(shared(tmp_path, model=model, epochs=30, patience=30))
    assert result.metrics["interest.mrr"] == 1.0
    assert result.metrics["returns.roc_auc"] == 1.0
    assert result.metrics["churn.roc_auc"] == 1.0
    assert {"loss of interest", "loss of returns", "loss of churn"} <= set(result.history[0])
    tensors = safetensors.torch.load_file(result.weights)
    parts = {task: of_task(tensors, task) for task in ROWS}
    for name, tensor in parts["interest"].items():
        if not name.startswith("head."):
            assert torch.equal(tensor, parts["churn"][name])  # one encoder
            assert torch.equal(tensor, parts["returns"][name])


def test_what_is_left_of_a_task_is_a_model_as_any_other_of_its_kind(tmp_path: Path) -> None:
    plan = shared(tmp_path, epochs=2)
    result = fitted(plan)
    for task, own in plan.tasks.items():
        model = build(own.model.name, head=own.head, label=own.label, sizes=own.sizes, **own.options)
        model.load_state_dict(of_task(safetensors.torch.load_file(result.weights), task))
        judged = fit(
            replace(own, folder=str(tmp_path / task), fit=own.fit.model_copy(update={"epochs": 1})), Alone(), toys.quiet, feed=toys.feed
        )
        assert set(judged.metrics) | {"value"} == {name.split(".")[1] for name in result.metrics if name.startswith(task)}
        batch = toys.rows(31).map(lambda array: array)
        scores = model.eval().score(replace(batch, facts={name: batch.facts[name] for name in own.facts}))
        if task == "interest":
            ranks = (scores >= scores.gather(1, batch.labels["next_items"][:, :1].long())).sum(1)
            assert (1 / ranks.double()).mean().item() == pytest.approx(result.metrics["interest.mrr"])


def test_an_epoch_is_a_pass_over_everybodys_rows(tmp_path: Path) -> None:
    """Batches of 12: of 60 rows 5 an epoch, of 24 rows 2, of 130 rows 10, and those with fewer sit out steps, evenly spread."""
    learner = _Fit(shared(tmp_path), Alone(), toys.quiet, toys.feed)
    with closing(learner._steps(1)) as steps:
        assert [" ".join(batches) for batches in steps] == [
            "churn", "interest churn", "churn", "interest churn", "returns churn",
            "interest churn", "churn", "interest churn", "churn", "interest returns churn",
        ]  # fmt: skip
    assert [entry["steps"] for entry in fitted(shared(tmp_path, epochs=2)).history] == [10, 10]


def test_ranks_learn_what_one_process_learns(tmp_path: Path) -> None:
    settings = {"epochs": 2, "average": 0.9, "augment": {"crop": 0.2, "mask": 0.1}, "loss": {"name": "gbce", "negatives": {"number": 3}}}
    one = fitted(shared(tmp_path / "one", **settings))
    three = toys.fitted_together(shared(tmp_path / "three", **settings), size=3)
    assert toys.losses(three.history) == pytest.approx(toys.losses(one.history), rel=1e-4)
    assert dict(three.metrics) == pytest.approx(dict(one.metrics), rel=1e-3)
    first, second = (safetensors.torch.load_file(result.weights) for result in (one, three))
    torch.testing.assert_close(second, first, atol=1e-4, rtol=1e-3)


def test_a_run_that_was_cut_off_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    straight = fitted(shared(tmp_path / "straight", epochs=4))
    fitted(replace(shared(tmp_path / "halves", epochs=4), last_epoch=2))
    again = fitted(shared(tmp_path / "halves", epochs=4))
    first, second = (safetensors.torch.load_file(result.weights) for result in (straight, again))
    torch.testing.assert_close(second, first, atol=0, rtol=0)


def test_a_weight_is_what_the_learning_rate_is_multiplied_with(tmp_path: Path) -> None:
    """Of two steps from the same weights, the one with a tenth of the weight goes a tenth as far."""

    def moved(weight: float) -> torch.Tensor:
        learner = _Fit(shared(tmp_path / str(weight), weights={"returns": weight}, clip_norm=None), Alone(), toys.quiet, toys.feed)
        head = learner.tasks["returns"][1].head.out.weight  # type: ignore[union-attr, operator]
        before = head.detach().clone()
        with closing(learner._steps(1)) as steps:
            for loss in learner.model.step(next(steps)):  # type: ignore[operator, arg-type]
                learner.descent.step(loss, 1, 1)
        return (head.detach() - before).abs().max()

    assert moved(0.1).item() == pytest.approx(0.1 * moved(1.0).item(), rel=0.05)


def test_a_plan_of_several_tasks_comes_back_from_json_and_has_a_digest_of_its_own(tmp_path: Path) -> None:
    plan = shared(tmp_path)
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.name == "interest + returns + churn"
    digests = {plan.digest, replace(plan, companions=()).digest, shared(tmp_path, weights={"churn": 0.5}).digest}
    assert len(digests) == 3


def test_a_hundredth_more_of_a_metric_is_worth_a_hundredth_less_of_a_loss() -> None:
    def value(mrr: float, log_loss: float) -> float:
        verdicts = {
            "interest": Verdict(metrics={"mrr": mrr}, value=mrr),
            "churn": Verdict(metrics={}, value=-log_loss, calibration={"slope": 2.0}),
        }
        joint = together(verdicts, {"interest": 1.0, "churn": 2.0})
        assert joint.metrics == {"interest.mrr": mrr, "interest.value": mrr, "churn.value": -log_loss}
        assert joint.calibration == {"churn.slope": 2.0}
        return joint.value

    start = value(0.5, 0.4)
    assert value(0.5 * 1.1, 0.4) - start == pytest.approx(value(0.5, 0.4 / 1.1**0.5) - start)
    assert value(0.4, 0.4) < start
    assert value(0.5, 0.5) < start
