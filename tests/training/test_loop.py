from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from foretaste.errors import TrainingError
from foretaste.models import build
from foretaste.training.loop import fit
from foretaste.training.plan import Fitted, Plan
from foretaste.training.ranks import Alone
from tests.training import toys

ALONE: dict[str, Any] = {"rank": 0, "size": 1, "features": (), "labels": ()}


def fitted(plan: Plan) -> Fitted:
    return fit(plan, Alone(), toys.quiet, feed=toys.feed)


def weights(result: Fitted) -> dict[str, torch.Tensor]:
    return dict(safetensors.torch.load_file(result.weights))


@pytest.mark.parametrize(
    ("name", "options"),
    [("elman", {}), ("gru", {}), ("lstm", {"hidden": [16, 8]}), ("gru", {"num_negatives": 6}), ("gru", {"tied": False})],
)
def test_a_circle_of_items_is_learnt_by_heart(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    result = fitted(toys.plan(tmp_path, model={"name": name, **options}, fit={"epochs": 25, "patience": 25}))
    assert toys.losses(result.history)[-1] < 0.05
    assert result.metrics["mrr"] == 1.0


@pytest.mark.parametrize("name", ["elman", "gru", "lstm"])
def test_a_rule_is_learnt_by_heart(tmp_path: Path, name: str) -> None:
    result = fitted(toys.plan(tmp_path, task="returns", model={"name": name, "hidden": [16, 8]}, fit={"epochs": 40, "patience": 40}))
    assert toys.losses(result.history)[-1] < 0.05
    assert result.metrics["roc_auc"] == 1.0
    assert result.calibration is not None
    assert result.calibration["slope"] > 0


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    options = {"dropout": 0.3, "num_negatives": 3}
    first, second = (weights(fitted(toys.plan(tmp_path / name, model=options))) for name in ("first", "second"))
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    other = weights(fitted(toys.plan(tmp_path / "other", model=options, seed=2)))
    assert not torch.equal(first["embeddings.item.weight"], other["embeddings.item.weight"])


def test_a_resumed_fit_equals_an_undisturbed_one(tmp_path: Path) -> None:
    options = {"dropout": 0.3, "num_negatives": 3}
    straight = fitted(toys.plan(tmp_path / "straight", model=options, fit={"epochs": 4, "patience": 4}))
    fitted(toys.plan(tmp_path / "halves", model=options, fit={"epochs": 2, "patience": 4}))
    lines: list[str] = []
    again = fit(toys.plan(tmp_path / "halves", model=options, fit={"epochs": 4, "patience": 4}), Alone(), lines.append, feed=toys.feed)
    assert "goes on after epoch 2" in lines[0]
    assert toys.losses(again.history) == toys.losses(straight.history)
    torch.testing.assert_close(weights(again), weights(straight), atol=0, rtol=0)


def test_a_truncated_checkpoint_costs_an_epoch_and_nothing_else(tmp_path: Path) -> None:
    settings = {"epochs": 3, "patience": 3}
    straight = fitted(toys.plan(tmp_path / "straight", fit=settings))
    fitted(toys.plan(tmp_path / "broken", fit={**settings, "epochs": 2}))
    newest = tmp_path / "broken" / "epoch-0002.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    again = fitted(toys.plan(tmp_path / "broken", fit=settings))
    assert again.notes == ("skipped checkpoint epoch-0002: its tensors are cut short or changed",)
    torch.testing.assert_close(weights(again), weights(straight), atol=0, rtol=0)


def test_it_stops_when_nothing_gets_better_and_keeps_the_best(tmp_path: Path) -> None:
    # Validation rows that contradict the training rows: whatever is learnt makes them worse.
    plan = toys.plan(tmp_path, task="returns", fit={"epochs": 20, "patience": 2, "learning_rate": 0.01})

    def contrary(pin: Any, **options: Any) -> Any:
        for batch in toys.feed(pin, **options):
            if pin.split == "valid":
                batch.labels["returns"] = 1 - batch.labels["returns"]
            yield batch

    result = fit(plan, Alone(), toys.quiet, feed=contrary)
    losses = [entry["log_loss"] for entry in result.history]
    best = losses.index(min(losses)) + 1
    assert result.best_epoch == best
    assert len(losses) == best + 2 < 20
    assert result.metrics["log_loss"] == min(losses)

    model = build("gru", head="binary", label="returns", sizes=plan.sizes, **plan.options).eval()
    model.load_state_dict(weights(result))
    (batch,) = contrary(
        plan.valid, rank=0, size=1, batch_size=31, features=(), labels=(), epoch=0, seed=0, shuffle=False, drop_uneven=False
    )
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model.score(batch), batch.labels["returns"].float())
    assert loss.item() == pytest.approx(min(losses), rel=1e-5)


def test_a_step_is_one_over_the_mean_of_its_targets(tmp_path: Path) -> None:
    """Plain gradient descent by hand over the same batches comes to the same weights."""
    plan = toys.plan(tmp_path, fit={"epochs": 1, "clip_norm": 0.05})
    result = fitted(plan)

    torch.manual_seed(plan.seed)
    model = build("gru", head="items", label="next_items", sizes=plan.sizes, **plan.options)
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.fit.learning_rate)
    for batch in toys.feed(plan.train, **ALONE, batch_size=12, epoch=1, seed=plan.seed, shuffle=True, drop_uneven=True):
        optimizer.zero_grad()
        (loss,) = model.step(batch)
        (loss.total / loss.count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
    torch.testing.assert_close(weights(result), dict(model.state_dict()))


def test_an_epoch_may_be_cut_short(tmp_path: Path) -> None:
    result = fitted(toys.plan(tmp_path, fit={"epochs": 1, "max_steps": 2}))
    assert result.history[0]["steps"] == 2


def test_a_loss_that_is_no_number_names_its_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1, step 2 \(interest\)\. Lower fit\.learning_rate"):
        fitted(toys.plan(tmp_path, fit={"learning_rate": 1e38}))


@pytest.mark.parametrize(("split", "message"), [("train", "no training row has a target"), ("valid", "no validation row has anything")])
def test_nothing_to_learn_or_to_judge_by_is_said(tmp_path: Path, split: str, message: str) -> None:
    def without(pin: Any, **options: Any) -> Any:
        for batch in toys.feed(pin, **options):
            if pin.split == split:
                batch.features["item"].fill_(1)  # all unknown
                batch.labels["next_items"].zero_()
            yield batch

    with pytest.raises(TrainingError, match=message):
        fit(toys.plan(tmp_path), Alone(), toys.quiet, feed=without)


def test_it_says_what_it_does(tmp_path: Path) -> None:
    lines: list[str] = []
    fit(toys.plan(tmp_path, fit={"epochs": 1}), Alone(), lines.append, feed=toys.feed)
    # 8 x 16 embedding, GRU of 3 x 16 x (16 + 16 + 2), 6 biases
    assert lines[0] == "interest: gru with 1,766 parameters, 60 rows to learn from, 31 to judge by, 1 rank on cpu"
    assert lines[1].startswith("interest: epoch 1 of 1, 5 steps, loss ")


def test_a_plan_survives_json_and_its_digest_names_what_is_learnt(tmp_path: Path) -> None:
    plan = toys.plan(tmp_path)
    assert Plan.from_json(plan.to_json()) == plan
    assert toys.plan(tmp_path / "elsewhere", fit={"epochs": 9}).digest == plan.digest
    assert toys.plan(tmp_path, seed=2).digest != plan.digest
    assert toys.plan(tmp_path, fit={"learning_rate": 0.1}).digest != plan.digest
    assert toys.plan(tmp_path, train=toys.pinned("train", 61)).digest != plan.digest
