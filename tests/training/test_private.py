"""Gradients that give no row away: clipped one by one, noised once over all ranks, and accounted."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from foretaste.errors import TrainingError
from foretaste.models import Model
from foretaste.settings import FitSettings, PrivateSettings, Settings, TaskSettings, TrainingSettings
from foretaste.training import private
from foretaste.training.descent import Descent
from foretaste.training.launch import launch
from foretaste.training.loop import _model, fit
from foretaste.training.private import PrivateDescent, account
from foretaste.training.ranks import Alone, Ranks
from tests.training import toys


def moved(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, noise: float, clip: float, rows: int = 12, ranks: Ranks | None = None
) -> torch.Tensor:
    """All parameters of a network for `returns`, after one step of plain gradient descent at a rate of 1, less what they were before."""
    monkeypatch.setattr(private, "noise_multiplier", lambda epsilon, delta, epochs: noise)
    plan = toys.plan(folder, task="returns", fit={"private": {"epsilon": 1.0, "clip": clip}, "batch_size": 12})
    torch.manual_seed(3)
    model = _model(plan)
    assert isinstance(model, Model)
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    ranks = ranks or Alone()
    descent = Descent(plan.fit, {"main": torch.optim.SGD(model.parameters(), lr=1.0)}, ranks, steps_per_epoch=1)
    batch = toys.rows(rows)
    part = batch.map(lambda array: array[ranks.rank * rows // ranks.size : (ranks.rank + 1) * rows // ranks.size])
    assert plan.fit.private is not None
    PrivateDescent(descent, plan.fit.private, torch.device("cpu")).step(model, part, 1, 1)
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach() - before


def test_without_noise_and_without_clipping_it_is_the_step_on_the_mean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = toys.plan(tmp_path, task="returns", fit={"clip_norm": None, "batch_size": 12})
    torch.manual_seed(3)
    model = _model(plan)
    assert isinstance(model, Model)
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    descent = Descent(plan.fit, {"main": torch.optim.SGD(model.parameters(), lr=1.0)}, Alone(), steps_per_epoch=1)
    for loss in model.step(toys.rows(12)):
        descent.step(loss, 1, 1)
    plain = torch.nn.utils.parameters_to_vector(model.parameters()).detach() - before
    torch.testing.assert_close(moved(monkeypatch, tmp_path, noise=0.0, clip=1e6), plain, atol=1e-6, rtol=1e-4)


def test_no_row_moves_the_model_further_than_the_clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With one row in a batch of 12 it is clip / 12, to the letter; with twelve, no more than the clip."""
    assert moved(monkeypatch, tmp_path, noise=0.0, clip=1e-3, rows=1).norm().item() == pytest.approx(1e-3 / 12, rel=1e-2)
    assert moved(monkeypatch, tmp_path, noise=0.0, clip=1e-3).norm().item() <= 1e-3 * 1.001


def test_the_noise_is_as_large_as_it_says_and_there_once_however_many_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The clip is 0.001 and the noise 4 times that: its standard deviation over thousands of parameters, in a batch of 12."""
    alone = moved(monkeypatch, tmp_path, noise=4.0, clip=1e-3)
    assert len(alone) > 1000
    assert alone.std().item() == pytest.approx(4e-3 / 12, rel=0.1)
    meeting, sent = threading.Barrier(2), [None] * 2
    together = [toys.Rank(rank, 2, meeting, sent) for rank in range(2)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda rank: moved(monkeypatch, tmp_path, noise=4.0, clip=1e-3, ranks=rank), together)
    assert first.std().item() == pytest.approx(4e-3 / 12, rel=0.1)
    torch.testing.assert_close(second, first, atol=1e-6, rtol=1e-4)


def test_the_account_keeps_to_what_was_asked_for() -> None:
    """One Gaussian mechanism an epoch. Its Rényi divergence of order a is a E / (2 s²), from which epsilon is at most that plus
    log(1 / delta) / (a - 1), for any a (Mironov 2017, proposition 3): the least of these is an upper bound by hand."""
    for epsilon, epochs in ((1.0, 1), (3.0, 4), (8.0, 20)):
        told = account(PrivateSettings(epsilon=epsilon, delta=1e-5), epochs)
        assert told["epsilon"] <= epsilon
        assert told["epsilon"] == pytest.approx(epsilon, rel=0.02)
        s = told["noise_multiplier"]
        by_hand = min(a * epochs / (2 * s * s) + math.log(1e5) / (a - 1) for a in [1 + step / 100 for step in range(1, 10_000)])
        assert 0.7 * by_hand < told["epsilon"] <= by_hand
    assert told["unit"] == "row"
    with pytest.raises(TrainingError, match=r"no noise that the account knows keeps to epsilon 0.01 at delta 1e-05 \(fit.private\)"):
        account(PrivateSettings(epsilon=0.01, delta=1e-5), 4)


def test_two_runs_with_one_seed_draw_different_noise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    once, again = (moved(monkeypatch, tmp_path, noise=1.0, clip=1.0) for _ in range(2))
    assert not torch.equal(once, again)


def test_a_fit_learns_with_little_noise_and_nothing_with_much(tmp_path: Path) -> None:
    found = {}
    for epsilon in (1e4, 0.5):
        plan = toys.plan(
            tmp_path / str(epsilon), task="returns", fit={"epochs": 6, "patience": 6, "private": {"epsilon": epsilon, "clip": 1.0}}
        )
        found[epsilon] = fit(plan, Alone(), toys.quiet, feed=toys.feed).metrics["roc_auc"]
    assert found[1e4] > 0.95
    assert found[1e4] - found[0.5] > 0.1


@pytest.mark.cluster
def test_ranks_of_horovod_learn_together_and_nobody_sees_a_row(tmp_path: Path) -> None:
    plan = toys.plan(
        tmp_path / "fit",
        task="returns",
        fit={"epochs": 3, "private": {"epsilon": 1e4}},
        train=toys.written(tmp_path / "rows", "train", 60),
        valid=toys.written(tmp_path / "rows", "valid", 31),
    )
    both = launch(plan, TrainingSettings(launcher="horovodrun", workers=2, threads=1), report=toys.quiet)
    assert both.size == 2
    assert both.metrics["roc_auc"] > 0.8


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"fit": {"start_at_line": True}, "model": {"name": "gru", "facts": ["events"]}}, "start_at_line learns from rows without noise"),
        ({"fit": {"loss": {"name": "gbce", "negatives": {"number": 4}}}}, "loss.negatives learns from rows without noise"),
        ({"fit": {"augment": {"gan": 1.0}}}, "augment.gan and augment.vae learns"),
        ({"search": {"trials": 2, "over": {"model.dropout": [0.1, 0.2]}}}, "search learns from the same rows beside it"),
        ({"blend": {}}, "blend learns from the same rows beside it"),
    ],
)
def test_what_would_leak_beside_it_is_refused(changes: dict[str, Any], why: str) -> None:
    fit_settings = {"private": {"epsilon": 3.0}, **changes.get("fit", {})}
    with pytest.raises(ValidationError, match=why):
        TaskSettings.model_validate({**changes, "fit": fit_settings})


def test_one_fit_is_accounted_and_not_two() -> None:
    asked = {"returns": {"fit": {"private": {"epsilon": 3.0}}}}
    with pytest.raises(ValidationError, match="refit fits it twice"):
        Settings.model_validate({"tasks": asked, "sequences": {"refit": True}})
    assert FitSettings.model_validate({"private": {"epsilon": 3.0}}).private == PrivateSettings(epsilon=3.0)
