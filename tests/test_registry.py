import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from foretaste import registry
from foretaste.contract import Sizes
from foretaste.errors import ModelError
from foretaste.models import Model, build
from foretaste.registry import StoredModel
from foretaste.tables import Warehouse
from foretaste.tables.vocabulary import VOCABULARY
from tests.training import toys

SIZES = Sizes(num_items=8)
OPTIONS = {"embedding": 4, "hidden": [4, 3], "dropout": 0.1, "features": ["item"], "tied": True}
WORDS = [
    ("item", "soap", 3, 7, None),
    ("item", "bread", 2, 9, None),
    ("item", "jam", 4, 5, None),
    ("item", "tea", 5, 5, None),
    ("item", "salt", 6, 2, None),
    ("item", "rice", 7, 1, None),
    ("category", "food", 2, 22, None),
]

Save = Callable[..., StoredModel]


def network(sizes: Sizes = SIZES) -> Model:
    torch.manual_seed(0)
    return build("gru", head="items", label="next_items", sizes=sizes, **{**OPTIONS, "hidden": (4, 3), "features": ("item",)}).eval()


@pytest.fixture
def save(warehouse: Warehouse, tmp_path: Path) -> Save:
    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(network().state_dict(), weights)
    vocabulary = warehouse.spark.createDataFrame(WORDS, VOCABULARY.ddl)

    def save(**changes: Any) -> StoredModel:
        told: dict[str, Any] = {
            "name": "interest",
            "task": "interest",
            "head": "items",
            "label": "next_items",
            "model": {"name": "gru", **OPTIONS},
            "sizes": SIZES,
            "weights": weights,
            "vocabulary": vocabulary,
            "calibration": None,
            "metrics": {"mrr": 0.25, "ndcg@20": 0.5},
            "history": ({"epoch": 1, "loss": 2.0, "mrr": 0.25},),
            "tables": {"sequences": 4, "vocabulary": 1},
            "seed": 1,
            "settings": {"model": {"name": "gru"}, "fit": {"epochs": 1}, "blend": {"network": {"ndcg@20": 0.4}}},
        }
        return registry.save(warehouse, **{**told, **changes})

    return save


def test_what_was_stored_is_loaded_and_scores_the_same(save: Save, warehouse: Warehouse) -> None:
    stored = save()
    loaded = registry.load(warehouse.path, "interest")
    assert loaded.version == 1
    assert (loaded.metrics, loaded.tables, loaded.sizes) == ({"mrr": 0.25, "ndcg@20": 0.5}, {"sequences": 4, "vocabulary": 1}, SIZES)
    assert loaded.code_version == stored.code_version == registry.code_version()
    batch = toys.rows(5)
    torch.testing.assert_close(loaded.network().score(batch), network().score(batch), atol=0, rtol=0)
    assert not loaded.network().training


def test_ids_stand_at_their_index(save: Save) -> None:
    assert save().item_ids().tolist() == [None, None, "bread", "soap", "jam", "tea", "salt", "rice"]


def test_versions_count_up_and_old_ones_stay(save: Save, warehouse: Warehouse) -> None:
    assert [save(seed=seed).version for seed in (5, 6, 7)] == [1, 2, 3]
    assert registry.load(warehouse.path, "interest").seed == 7
    assert registry.load(warehouse.path, "interest", 2).seed == 6
    assert sorted(path.name for path in (Path(warehouse.path) / "models/interest").iterdir()) == ["1", "2", "3"]  # nothing half done


def test_a_version_that_another_run_takes_is_left_to_it(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def rename_late(path: Path, target: str) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        (Path(target)).mkdir()
        (Path(target) / "model.json").write_text("of another run")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_late)
    assert save().version == 2


def test_calibration_and_history_are_kept(save: Save, warehouse: Warehouse) -> None:
    save(calibration={"slope": 0.5, "intercept": -1.0})
    loaded = registry.load(warehouse.path, "interest")
    assert loaded.calibration == {"slope": 0.5, "intercept": -1.0}
    assert loaded.history == [{"epoch": 1, "loss": 2.0, "mrr": 0.25}]


def test_a_missing_model_or_version_is_named(save: Save, warehouse: Warehouse) -> None:
    with pytest.raises(ModelError, match=r"there is no model 'interest' yet .*Train it first"):
        registry.load(warehouse.path, "interest")
    save()
    with pytest.raises(ModelError, match="there is no version 9 of model 'interest'"):
        registry.load(warehouse.path, "interest", 9)


def test_weights_that_were_cut_short_are_refused(save: Save) -> None:
    stored = save()
    path = Path(stored.folder) / registry.WEIGHTS
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match="the weights are cut short"):
        stored.network()


def test_weights_of_another_vocabulary_are_refused(save: Save, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file(network(Sizes(num_items=9)).state_dict(), other)
    with pytest.raises(ModelError, match=r"the weights are of another network or vocabulary .*interest version 1"):
        save(weights=other).network()


def test_a_vocabulary_of_another_model_is_refused(save: Save) -> None:
    with pytest.raises(ModelError, match="the vocabulary beside the weights is of another model"):
        save(sizes=Sizes(num_items=5)).item_ids()


def test_a_model_json_that_was_cut_short_is_refused(save: Save, warehouse: Warehouse) -> None:
    path = Path(save().folder) / registry.ABOUT
    path.write_text(path.read_text()[:50])
    with pytest.raises(ModelError, match=r"model\.json is cut short"):
        registry.load(warehouse.path, "interest")


def test_models_need_a_folder() -> None:
    with pytest.raises(ModelError, match="models are kept in a folder, not at a URL"):
        registry.load("s3://bucket/warehouse", "interest")


def test_a_run_is_logged_to_mlflow(save: Save, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    save()
    with sqlite3.connect(f"{warehouse.path}/mlflow.db") as database:
        parameters = dict(database.execute("SELECT key, value FROM params").fetchall())
        metrics = set(database.execute("SELECT key, value, step FROM metrics").fetchall())
        (status,) = database.execute("SELECT status FROM runs").fetchone()
    assert parameters["fit.epochs"] == "1"
    assert parameters["table.sequences"] == "4"
    assert parameters["blend.network.ndcg_at_20"] == "0.4"
    assert {("loss", 2.0, 1), ("mrr", 0.25, 1), ("best.mrr", 0.25, 0), ("best.ndcg_at_20", 0.5, 0)} == metrics
    assert status == "FINISHED"
    (logged,) = Path(warehouse.path).glob("mlruns/*/artifacts/model/**/model.json")
    assert json.loads(logged.read_text())["name"] == "interest"


def test_mlflow_never_ends_a_job(save: Save, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    assert save().version == 1
    (warning,) = [record for record in caplog.records if record.name == "foretaste.registry"]
    assert "MLflow did not take the run of interest version 1" in warning.getMessage()
    assert "\n" not in warning.getMessage()
