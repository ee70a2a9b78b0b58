import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import safetensors.torch
import torch

from foretaste.contract import Batch, answers_of
from foretaste.errors import DivergedError, ModelError, TrainingError
from foretaste.models import MODELS, build
from foretaste.models.model import Health
from foretaste.models.rnn import GRU
from foretaste.training.judge import ItemsJudge
from foretaste.training.loop import fit
from foretaste.training.plan import Fitted, Plan
from foretaste.training.ranks import Alone
from tests.training import toys

SAMPLED = {"name": "sampled_softmax", "negatives": {"number": 3}}
AUGMENT = {"crop": 0.2, "mask": 0.1, "reorder": 0.2}
ALONE: dict[str, Any] = {"rank": 0, "size": 1, "features": ("item",), "labels": (), "facts": ()}


def fitted(plan: Plan) -> Fitted:
    return fit(plan, Alone(), toys.quiet, feed=toys.feed)


def weights(result: Fitted) -> dict[str, torch.Tensor]:
    return dict(safetensors.torch.load_file(result.weights))


@pytest.mark.parametrize(
    ("name", "options"),
    [("elman", {}), ("gru", {}), ("lstm", {"hidden": [16, 8]}), ("gru", {"tied": False}), ("gru", {"output_bias": False})],
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


def test_a_model_that_does_not_read_the_items_learns_from_what_it_reads(tmp_path: Path) -> None:
    options = {"model": {"features": ["event"], "hidden": [8]}, "fit": {"epochs": 20, "patience": 20}}
    assert fitted(toys.plan(tmp_path / "returns", task="returns", **options)).metrics["roc_auc"] == 1.0
    assert fitted(toys.plan(tmp_path / "interest", **options)).metrics["mrr"] > 0.5  # three items follow an odd one: 1, 1/2 or 1/3


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": {"dropout": 0.3}, "fit": {"loss": SAMPLED, "augment": AUGMENT}}
    first, second = (weights(fitted(toys.plan(tmp_path / name, **options))) for name in ("first", "second"))
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    other = weights(fitted(toys.plan(tmp_path / "other", **options, seed=2)))
    assert not torch.equal(first["embeddings.item.weight"], other["embeddings.item.weight"])


@pytest.mark.parametrize(
    ("model", "schedule"),
    [
        ({"name": "gru"}, "constant"),
        ({"name": "transformer"}, "cosine"),
        ({"name": "vae", "latent": 4}, "constant"),
        ({"name": "gan", "latent": 4, "anneal_steps": 7, "features": ["item", "event"]}, "constant"),  # with both players when cut off
    ],
)
def test_a_resumed_fit_equals_an_undisturbed_one(tmp_path: Path, model: dict[str, Any], schedule: str) -> None:
    whole = {"epochs": 4, "patience": 4, "warmup_steps": 3, "average": 0.9, "l1": 0.01, "loss": SAMPLED, "augment": AUGMENT}
    options: dict[str, Any] = {"model": {"dropout": 0.3, **model}, "fit": {**whole, "schedule": schedule}}
    straight = fitted(toys.plan(tmp_path / "straight", **options))
    fitted(replace(toys.plan(tmp_path / "halves", **options), last_epoch=2))
    lines: list[str] = []
    again = fit(toys.plan(tmp_path / "halves", **options), Alone(), lines.append, feed=toys.feed)
    assert "goes on after epoch 2" in lines[0]
    assert toys.losses(again.history) == toys.losses(straight.history)
    torch.testing.assert_close(weights(again), weights(straight), atol=0, rtol=0)


LOSSES = {
    "cross_entropy": {"label_smoothing": 0.1},
    "sampled_softmax": {"negatives": {"number": 3, "exponent": 0.5}},
    "bpr_max": {"negatives": {"number": 3}},
    "gbce": {"negatives": {"number": 3}},
}


@pytest.mark.parametrize("name", ["gru", "transformer"])
@pytest.mark.parametrize("loss", LOSSES)
def test_ranks_learn_what_one_process_learns(tmp_path: Path, name: str, loss: str) -> None:
    """Whatever the loss, and with all that changes rows and weights."""
    settings = {"loss": {"name": loss, **LOSSES[loss]}, "augment": AUGMENT, "average": 0.9, "l1": 0.01, "schedule": "cosine", "epochs": 2}
    one = fitted(toys.plan(tmp_path / "one", model={"name": name}, fit=settings))
    three = toys.fitted_together(toys.plan(tmp_path / "three", model={"name": name}, fit=settings), size=3)
    assert three.size == 3
    assert toys.losses(three.history) == pytest.approx(toys.losses(one.history), rel=1e-4)
    assert [entry["targets"] for entry in three.history] == [entry["targets"] for entry in one.history]
    torch.testing.assert_close(weights(three), weights(one), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "vae", "latent": 4},
        {"name": "mult_vae", "latent": 4, "embedding": None},
        {"name": "gan", "latent": 4, "anneal_steps": 2, "adversary": "wasserstein", "features": ["item", "event"]},
        {"name": "gan", "latent": 4, "anneal_steps": 0, "adversary": "minimax", "features": ["item", "event"]},
    ],
)
@pytest.mark.parametrize("loss", ["cross_entropy", "sampled_softmax"])
def test_ranks_of_a_generative_model_draw_what_one_process_draws(tmp_path: Path, model: dict[str, Any], loss: str) -> None:
    """For an epoch: after many steps the last bit of a sum decides a choice of a GAN's roll-out, and both are right in their way."""
    settings = {"loss": {"name": loss, **LOSSES[loss]}, "epochs": 1, "learning_rate": 0.001}
    one = fitted(toys.plan(tmp_path / "one", model=model, fit=settings))
    three = toys.fitted_together(toys.plan(tmp_path / "three", model=model, fit=settings), size=3)
    assert len(toys.losses(one.history)) == (2 if model["name"] == "gan" else 1)
    assert toys.losses(three.history) == pytest.approx(toys.losses(one.history), rel=1e-4)
    assert dict(three.metrics) == pytest.approx(dict(one.metrics), rel=1e-3)
    torch.testing.assert_close(weights(three), weights(one), atol=5e-4, rtol=1e-3)  # Adam makes steps of gradients that are rounding alone


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_the_circle(tmp_path: Path, loss: str) -> None:
    settings = {"loss": {"name": loss, **LOSSES[loss]}, "epochs": 15, "patience": 15, "learning_rate": 0.03}
    assert fitted(toys.plan(tmp_path, fit=settings)).metrics["mrr"] > 0.95


def test_an_average_of_the_weights_is_what_is_judged_and_kept(tmp_path: Path) -> None:
    plain = weights(fitted(toys.plan(tmp_path / "plain", fit={"epochs": 1})))
    result = fitted(toys.plan(tmp_path / "average", fit={"epochs": 1, "average": 0.9}))
    averaged = weights(result)
    assert not torch.allclose(plain["embeddings.item.weight"], averaged["embeddings.item.weight"])
    model = build("gru", head="items", label="next_items", sizes=toys.plan(tmp_path).sizes, **toys.plan(tmp_path).options).eval()
    model.load_state_dict(averaged)
    judge = ItemsJudge("next_items")
    judge.add(model, toys.rows(31))
    verdict = judge.verdict()
    assert verdict is not None
    assert result.metrics["mrr"] == pytest.approx(verdict.metrics["mrr"])


def test_a_fit_without_validation_rows_ends_where_it_is_told(tmp_path: Path) -> None:
    plan = replace(toys.plan(tmp_path / "alone", fit={"epochs": 5}), valid=None, last_epoch=3)
    result = fitted(plan)
    assert (len(result.history), result.best_epoch, dict(result.metrics)) == (3, 3, {})
    watched = toys.plan(tmp_path / "watched", fit={"epochs": 3, "patience": 3})
    fitted(watched)
    last = safetensors.torch.load_file(tmp_path / "watched" / "epoch-0003.safetensors")
    torch.testing.assert_close(weights(result)["embeddings.item.weight"], last["model.embeddings.item.weight"], atol=0, rtol=0)


def test_popularity_and_similar_items_come_from_the_tables(tmp_path: Path) -> None:
    tables = tmp_path / "tables.safetensors"
    popularity = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 5.0])
    similar = torch.full((toys.NUM_ITEMS, 2), 3, dtype=torch.int32)
    safetensors.torch.save_file({"popularity": popularity, "similar": similar}, tables)
    settings = {"epochs": 1, "learning_rate": 1e-12, "augment": {"substitute": 1.0}}
    plan = replace(toys.plan(tmp_path / "fit", fit=settings), tables=str(tables))
    bias = weights(fitted(plan))["head.bias"]
    torch.testing.assert_close(bias.exp(), popularity / 10)

    seen: list[set[int]] = []
    with mock.patch.object(GRU, "encode", autospec=True, side_effect=_noting(seen)):
        fitted(replace(plan, folder=str(tmp_path / "noted")))
    assert {0, 3} == seen[0]  # every known item was replaced in training …
    assert seen[-1] > {2, 3, 4}  # … and none in judging
    with pytest.raises(TrainingError, match=r"there is no table of items that come together \(fit.augment.substitute\)"):
        fitted(replace(plan, tables=None))


@pytest.mark.parametrize("starts", [True, False])
def test_a_fit_starts_at_the_line_of_the_tables_where_it_is_asked_to(tmp_path: Path, starts: bool) -> None:
    """A search may try both on the same tables."""
    line = {"repeats": [0.5], "intercept": [-1.0], "share": [0.3]}
    tables = tmp_path / "tables.safetensors"
    safetensors.torch.save_file({f"line.0.{name}": torch.tensor(values) for name, values in line.items()}, tables)
    settings = {"epochs": 1, "learning_rate": 1e-12, "start_at_line": starts}
    plan = toys.plan(tmp_path / "fit", task="returns", model={"facts": ["repeats"]}, fit=settings)
    found = weights(fitted(replace(plan, tables=str(tables))))
    torch.testing.assert_close(found["head.wide.amounts.weight"], torch.tensor([[0.5 if starts else 0.0]]))
    assert (float(found["head.out.bias"][0]) == pytest.approx(-1.0)) is starts


def _noting(seen: list[set[int]]) -> Any:
    encode = GRU.encode

    def noted(self: GRU, batch: Any) -> torch.Tensor:
        seen.append(set(batch.item.flatten().tolist()))
        return encode(self, batch)

    return noted


def test_half_precision_learns_too(tmp_path: Path) -> None:
    lines: list[str] = []
    plan = toys.plan(tmp_path, model={"name": "transformer"}, fit={"precision": "bf16", "epochs": 12, "patience": 12})
    result = fit(plan, Alone(), lines.append, feed=toys.feed)
    assert lines[1].endswith(", bf16")
    assert result.metrics["mrr"] > 0.9
    assert {tensor.dtype for tensor in weights(result).values()} == {torch.float32}


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
        plan.valid,
        rank=0,
        size=1,
        batch_size=31,
        features=("item",),
        labels=(),
        facts=(),
        epoch=0,
        seed=0,
        shuffle=False,
        drop_uneven=False,
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
    # Weights with gradients and two moments: 4 x 4 bytes x 1,766. Activations of 12 rows of 50 events: 2 x 16 + 9 x 16 each, and
    # 600 x 8 logits twice.
    assert lines[1] == "interest: about 0.5 MB a rank (weights 0.0 MB, adam 0.0 MB, activations 0.5 MB at most), float32"
    assert lines[2].startswith("interest: epoch 1 of 1, 5 steps, loss ")
    assert re.search(r"mrr \d\.\d{4}, .*, \d+ s, [\d.]+ steps/s, [\d,]+ sequences/s, [\d.]+% of it waiting for rows$", lines[2])
    assert re.search(r"[\d.]+ [MG]B was the most memory of the process in epoch 1$", lines[3])


def test_a_plan_survives_json_and_its_digest_names_what_is_learnt(tmp_path: Path) -> None:
    plan = toys.plan(tmp_path)
    assert Plan.from_json(plan.to_json()) == plan
    alone = replace(plan, valid=None, last_epoch=2, tables="tables.safetensors", leave_out_seen=True)
    assert Plan.from_json(alone.to_json()) == alone
    assert toys.plan(tmp_path / "elsewhere", fit={"epochs": 9}).digest == plan.digest
    assert toys.plan(tmp_path, seed=2).digest != plan.digest
    assert toys.plan(tmp_path, fit={"learning_rate": 0.1}).digest != plan.digest
    assert toys.plan(tmp_path, train=toys.pinned("train", 61)).digest != plan.digest
    cosine = [toys.plan(tmp_path, fit={"schedule": "cosine", "epochs": epochs}).digest for epochs in (3, 9)]
    assert cosine[0] != cosine[1]  # its rates know how many epochs there are
    assert replace(plan, last_epoch=2).digest == plan.digest


class Watched(GRU):
    """Counts the validation rows, and falls ill when it is told to."""

    num_observed = 1
    ailment: str | None = None

    def observe(self, batch: Batch[torch.Tensor]) -> torch.Tensor:
        return torch.tensor([float(len(batch.length))], dtype=torch.float64)

    def health(self, observed: torch.Tensor) -> Health:
        return Health(metrics={"watched": float(observed)}, ailment=self.ailment)


@pytest.mark.parametrize("size", [1, 2])
def test_what_a_model_says_of_itself_is_added_up_over_ranks_and_stands_beside_its_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setitem(MODELS, "watched", Watched)
    result = toys.fitted_together(toys.plan(tmp_path, model={"name": "watched"}, fit={"epochs": 2}), size=size)
    assert result.metrics["watched"] == result.metrics["rows"] == 31
    assert [entry["watched"] for entry in result.history] == [31, 31]


def test_a_model_that_falls_ill_ends_the_fit_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "watched", Watched)
    monkeypatch.setattr(Watched, "ailment", "all rows look the same")
    with pytest.raises(DivergedError, match="all rows look the same"):
        fitted(toys.plan(tmp_path, model={"name": "watched"}))


@pytest.mark.parametrize("size", [1, 2])
def test_days_until_somebody_is_back_are_learnt_also_from_rows_that_end_before(tmp_path: Path, size: int) -> None:
    """Who is back on day 2 has an odd last item. Of 31 rows to judge by, those that tell nothing of 4 days are left out."""
    plan = toys.plan(tmp_path, task="churn", model={"facts": ["repeats", "idle_hours"]}, fit={"epochs": 20})
    result = toys.fitted_together(plan, size=size)
    answers = answers_of("survival", toys.rows(31).labels["next_activity"], 4)
    assert 0 < result.metrics["rows"] == (answers >= 0).sum() < 31
    assert result.metrics["rate"] == pytest.approx((answers == 1).sum() / (answers >= 0).sum())
    assert result.metrics["roc_auc"] > 0.99
    assert result.calibration is not None


def test_a_ranking_reads_no_facts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a model that ranks items reads no facts \(model.facts\)"):
        fitted(toys.plan(tmp_path, model={"facts": ["repeats"]}))
