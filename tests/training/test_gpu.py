"""On a GPU every network learns what it learns on a CPU. Where there is no GPU, that is not shown."""

from pathlib import Path

import pytest
import torch

from foretaste.models import MODELS
from foretaste.training import loop
from foretaste.training.loop import fit
from foretaste.training.plan import Fitted
from foretaste.training.ranks import Alone
from tests.training import toys

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
RANKING = [name for name, kind in MODELS.items() if not kind.counts]
OWN = {"gan": {"features": ["item", "gap"]}, "transformer": {"layers": 1, "heads": 2, "hidden": None}, "mult_vae": {"embedding": None}}


def fitted(folder: Path, name: str, precision: str, epochs: int = 4, task: str = "interest") -> Fitted:
    model = {"name": name, **OWN.get(name, {}), **({"facts": ["repeats", "campaign_kind"]} if task == "churn" else {})}
    plan = toys.plan(folder, task=task, model=model, fit={"epochs": epochs, "precision": precision})
    return fit(plan, Alone(), toys.quiet, feed=toys.feed)


@pytest.mark.parametrize(("name", "task"), [*((name, "interest") for name in RANKING), ("gru", "returns"), ("gru", "churn")])
def test_the_first_epochs_are_those_of_a_cpu(name: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a thousandth of the loss: sums are added up in another order."""
    on_gpu = fitted(tmp_path / "gpu", name, "float32", epochs=2, task=task)
    monkeypatch.setattr(loop, "_device", lambda ranks: torch.device("cpu"))
    on_cpu = fitted(tmp_path / "cpu", name, "float32", epochs=2, task=task)
    for ours, theirs in zip(on_gpu.history, on_cpu.history, strict=True):
        losses = [key for key in ours if key.startswith("loss")]
        assert losses
        assert [ours[key] for key in losses] == pytest.approx([theirs[key] for key in losses], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "transformer", "vae"])
def test_half_precision_learns_the_rows_by_heart(name: str, tmp_path: Path) -> None:
    assert fitted(tmp_path, name, "auto", epochs=25).metrics["mrr"] > 0.9


def test_a_fit_that_was_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = fitted(tmp_path / "whole", "gru", "float32")
    fitted(tmp_path / "parts", "gru", "float32", epochs=2)
    parts = fitted(tmp_path / "parts", "gru", "float32")
    assert [entry["loss"] for entry in parts.history] == [entry["loss"] for entry in whole.history]
