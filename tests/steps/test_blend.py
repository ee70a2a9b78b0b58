"""A network, counted models and their ranker, from the tables to a stored model that scores as one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from foretaste import registry
from foretaste.errors import SettingsError
from foretaste.models import Blend
from foretaste.settings import load
from foretaste.steps.evaluate import evaluate
from foretaste.steps.train import train
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse
from foretaste.tables.metrics import METRICS
from tests.steps.test_train import FIT, NUM_TEST, settings, write_tables
from tests.training import toys

RANKER = {"epochs": 3, "batch_size": 4, "learning_rate": 0.02}
BLEND = {"experts": ["markov", "vsknn", "own_items"], "candidates": 4, "hidden": 8, "fit": RANKER}
TASKS: dict[str, Any] = {"interest": {"model": {"name": "gru", "embedding": 8, "hidden": [8]}, "fit": FIT, "blend": BLEND}}


def weights(stored: StoredModel, part: str) -> dict[str, torch.Tensor]:
    tensors = load_file(Path(stored.folder) / registry.WEIGHTS)
    return {name: tensor for name, tensor in tensors.items() if name.startswith(part)}


def test_a_blend_is_one_model_around_the_network_that_was_fitted(warehouse: Warehouse) -> None:
    write_tables(warehouse, num_files=3)
    train(warehouse, settings(tasks={"interest": {**TASKS["interest"], "blend": None}}))
    report = train(warehouse, settings(tasks=TASKS))
    assert report.notes[-1].startswith("interest version 2")
    assert report.notes[-1].endswith(" on the same validation rows")  # those that were set apart from the ranker
    network, blend = (registry.load(warehouse.path, "interest", version) for version in (1, 2))
    assert blend.model["name"] == "blend"
    for name, tensor in weights(network, "").items():
        assert torch.equal(tensor, weights(blend, "network.")[f"network.{name}"])
    assert {name.split(".")[1] for name in weights(blend, "experts.")} == {"markov", "vsknn", "own_items"}
    assert len(blend.settings["blend"]["ranker"]) <= 3
    assert blend.settings["blend"]["network"] == network.metrics

    model = blend.network()
    assert isinstance(model, Blend)
    scores = model.score(toys.rows(4))
    assert scores.exp().sum(1).tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    assert not list(Path(warehouse.path).glob("checkpoints/*"))


def test_a_blend_is_judged_beside_its_network_alone(warehouse: Warehouse) -> None:
    write_tables(warehouse, num_files=3, with_test=True)
    of = settings(tasks=TASKS, evaluation={"baselines": ["popularity", "markov"], "bootstrap": 10})
    train(warehouse, of)
    evaluate(warehouse, of)
    rows = warehouse.read(METRICS).where("split = 'test' and segment = 'all' and metric = 'mrr@20'").collect()
    found = {row.model: row.value for row in rows}
    assert {"interest", "gru alone", "popularity", "markov", "interest minus gru alone"} <= set(found)
    assert found["interest"] - found["gru alone"] == pytest.approx(found["interest minus gru alone"])

    blend, test = registry.load(warehouse.path, "interest").network(), toys.rows(NUM_TEST)
    assert isinstance(blend, Blend)
    for name, model in (("interest", blend), ("gru alone", blend.network)):
        scores, target = model.score(test), test.labels["next_items"][:, :1].long()
        rank = (scores >= scores.gather(1, target)).sum(1)
        assert found[name] == pytest.approx(float((1 / rank).mean()), abs=1e-6)


def test_with_refit_the_ranker_stays_and_what_it_listens_to_learns_again(warehouse: Warehouse) -> None:
    write_tables(warehouse, num_files=3)
    train(warehouse, settings(tasks=TASKS))
    train(warehouse, settings(tasks=TASKS, sequences={"refit": True}))
    first, second = (registry.load(warehouse.path, "interest", version) for version in (1, 2))
    for part in ("hidden.", "out."):
        for name, tensor in weights(first, part).items():
            assert torch.equal(tensor, weights(second, part)[name]), name
    popularity = "experts.markov.popularity"
    assert weights(second, popularity)[popularity].sum() > weights(first, popularity)[popularity].sum()
    assert not torch.equal(*(weights(stored, "network.embeddings")["network.embeddings.item.weight"] for stored in (first, second)))


def test_a_blend_ranks_items_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("tasks: {returns: {blend: {}}}", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"tasks.returns.blend: a blend ranks items"):
        load(path)
