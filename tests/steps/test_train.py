from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.contract import FACTS, FEATURES
from foretaste.counting.popularity import events_of_items
from foretaste.errors import SettingsError, TableError
from foretaste.models import Model
from foretaste.settings import Settings, TrainingSettings, load
from foretaste.steps import sharing
from foretaste.steps.planning import _similar
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY
from foretaste.tasks import TASKS as TASK_KINDS
from foretaste.training.launch import launch
from tests.training import toys

FIT = {"epochs": 2, "batch_size": 10, "learning_rate": 0.02}
TASKS = {
    "interest": {
        "model": {"name": "gru", "embedding": 8, "hidden": [8]},
        "fit": {**FIT, "loss": {"name": "sampled_softmax", "negatives": {"number": 4}}},
    },
    "returns": {"model": {"name": "lstm", "embedding": 8, "hidden": [8, 4]}, "fit": FIT},
}


def settings(**changes: Any) -> Settings:
    return Settings.model_validate({"tasks": TASKS, "training": {"threads": 1, "seed": 1}, **changes})


NUM_TEST = 15


def write_tables(warehouse: Warehouse, num_files: int = 1, *, with_test: bool = False) -> None:
    """The circle of six items as training windows, training moments and validation moments; in so many files each."""
    places = [("train", "window", 40), ("train", "calendar", 30), ("valid", "calendar", 20), ("valid", "window", 20)]
    places += [("test", "calendar", NUM_TEST)] if with_test else []
    rows = [row for split, cut, number in places for row in sequence_rows(split, cut, number)]
    words = [("item", f"item {index}", index, 10 - index, None) for index in range(2, toys.NUM_ITEMS)]
    warehouse.overwrite(VOCABULARY, warehouse.spark.createDataFrame(words, VOCABULARY.ddl))
    built_from = {"vocabulary": warehouse.version(VOCABULARY)}
    written = warehouse.spark.createDataFrame(rows, SEQUENCES.ddl)
    warehouse.overwrite(SEQUENCES, written.repartition(num_files, "user_id") if num_files > 1 else written, built_from)


def sequence_rows(split: str, cut: str, number: int) -> list[tuple[Any, ...]]:
    batch = toys.rows(number).map(lambda array: array.numpy())
    moments = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(number)]
    features = [batch.item if name == "item" else np.minimum(batch.item, 1) for name in FEATURES]
    arrays = [column.tolist() for column in (batch.length, batch.fresh, batch.recency, *features)]
    wide = np.pad(batch.labels["next_items"], ((0, 0), (0, TASK_KINDS["interest"].label.width - batch.labels["next_items"].shape[1])))
    labels = [
        *(batch.facts[name].tolist() for name in FACTS),
        wide.tolist(),
        np.zeros((number, 2), dtype=np.int32).tolist(),  # of campaigns, and of trials
        np.zeros((number, 3), dtype=np.int32).tolist(),
        batch.labels["next_activity"].tolist(),
        batch.labels["returns"].tolist(),
        [None] * number,
    ]
    return [(f"user {row}", split, cut, moments[row], *values) for row, values in enumerate(zip(*arrays, *labels, strict=True))]


def test_every_task_becomes_a_version_and_training_again_gives_the_same_weights(warehouse: Warehouse) -> None:
    write_tables(warehouse)
    report = train(warehouse, settings())
    assert report.read == {"rows for interest": 40 + 20, "rows for returns": 30 + 20}
    assert report.written == {"models": 2}
    assert report.notes[0].startswith("interest version 1: gru, ")
    assert "mrr" in report.notes[0]

    interest, returns = (registry.load(warehouse.path, name) for name in TASKS)
    assert interest.tables == {"sequences": warehouse.version(SEQUENCES), "vocabulary": warehouse.version(VOCABULARY)}
    assert interest.item_ids().tolist() == [None, None, *(f"item {index}" for index in range(2, 8))]
    assert len(interest.history) == 2
    assert interest.calibration is None
    assert returns.calibration is not None
    odd = toys.rows(30).labels["returns"].float().mean().item()
    assert returns.base_rate == pytest.approx(odd)
    assert returns.network().score(toys.rows(4)).shape == (4,)
    assert not list(Path(warehouse.path).glob("checkpoints/*"))  # what a finished run leaves is its model

    train(warehouse, settings())
    again = registry.load(warehouse.path, "interest", 2)
    assert registry.load(warehouse.path, "interest").version == 1  # the champion: the second is no better
    assert (again.version, again.sha256) == (2, interest.sha256)


def test_a_search_chooses_and_a_refit_learns_from_validation_time_too(warehouse: Warehouse) -> None:
    write_tables(warehouse)
    over = {"model.dropout": [0.0, 0.9], "model.name": ["gru", "transformer"]}
    model = {"embedding": 8, "size": "tiny"}
    tasks = {
        "interest": {
            "model": model,
            "fit": {**FIT, "epochs": 4, "augment": {"substitute": 0.1}},
            "search": {"trials": 4, "epochs": 1, "over": over},
        }
    }
    report = train(warehouse, settings(tasks=tasks, sequences={"refit": True}))
    stored = registry.load(warehouse.path, "interest")
    best, *others = stored.settings["search"]
    assert [one["epochs"] for one in (best, *others)] == [2, 2, 1, 1]
    assert best["value"] == max(one["value"] for one in (best, *others))
    assert stored.model["dropout"] == stored.settings["model"]["dropout"] == best["model.dropout"]
    assert stored.model["name"] == best["model.name"]

    history = stored.settings["refit"]["history"]
    assert stored.history[0]["steps"] == 40 // 10
    assert history[0]["steps"] == (40 + 20) // 10
    assert len(history) == stored.settings["refit"]["epochs"] <= len(stored.history) == 4
    assert "mrr" in stored.metrics  # those of the model that chose
    assert "mrr" not in history[0]
    assert "the metrics are those of the model before" in report.notes[1]
    assert stored.network().score(toys.rows(4)).shape == (4, toys.NUM_ITEMS)


def test_an_items_head_starts_at_how_often_each_item_is_a_target(warehouse: Warehouse) -> None:
    write_tables(warehouse)
    rows = warehouse.read(SEQUENCES).where("split = 'train' and cut = 'window'")

    def counted(rows: DataFrame) -> dict[int, int]:
        return {row["item"]: row["events"] for row in events_of_items(rows).collect()}

    item = toys.rows(40).item  # every event of them is fresh
    assert counted(rows) == {index: int((item == index).sum()) for index in range(2, toys.NUM_ITEMS)}
    assert sum(counted(rows.withColumn("fresh", F.lit(1))).values()) == 40
    assert counted(rows.withColumn("fresh", F.lit(0))) == {}


def test_items_are_substituted_by_those_of_the_same_histories(warehouse: Warehouse) -> None:
    write_tables(warehouse)
    rows = warehouse.read(SEQUENCES).where("split = 'train' and cut = 'window'")
    together = {index: set() for index in range(toys.NUM_ITEMS)}
    for history in toys.rows(40).item.tolist():
        for item in history:
            together[item] |= set(history) - {item, 0} if item else set()
    similar = _similar(rows, toys.NUM_ITEMS)
    assert [set(row.tolist()) - {0} for row in similar] == [together[index] for index in range(toys.NUM_ITEMS)]
    assert similar[2, 5:].tolist() == [0] * 15  # there are but five others


def test_a_model_is_stored_with_the_vocabulary_that_its_rows_were_written_with(warehouse: Warehouse) -> None:
    write_tables(warehouse)
    anew = [("item", "another", 2, 1, None)]
    warehouse.overwrite(VOCABULARY, warehouse.spark.createDataFrame(anew, VOCABULARY.ddl))
    train(warehouse, settings(tasks={"interest": TASKS["interest"]}))
    stored = registry.load(warehouse.path, "interest")
    assert stored.sizes.num_items == toys.NUM_ITEMS
    assert stored.item_ids()[2] == "item 2"


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "no task is configured"),
        (
            {"interest": {"model": {"name": "oracle"}}},
            r"no model is called 'oracle' \(tasks.interest.model.name\). Use one of elman, lstm, gru",
        ),
        ({"interest": {"model": {"name": "gru", "layers": 2}}}, r"gru has no setting layers \(tasks.interest.model.layers\)"),
        (
            {"interest": {"search": {"trials": 2, "over": {"model.name": ["gru", "oracle"]}}}},
            r"no model is called 'oracle' \(tasks.interest.model.name\)",
        ),
    ],
)
def test_settings_that_cannot_be_trained_are_named(warehouse: Warehouse, tasks: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        train(warehouse, settings(tasks=tasks))


def test_without_sequences_it_says_which_job_writes_them(warehouse: Warehouse) -> None:
    with pytest.raises(TableError, match="there is no table sequences yet"):
        train(warehouse, settings())


def test_a_model_reads_the_latent_numbers_of_another(warehouse: Warehouse) -> None:
    """Who returns is told by the last item, and the network reads no item: it knows by the numbers that another model makes of them."""
    write_tables(warehouse)
    vae = {"name": "vae", "size": "tiny", "latent": 4, "kl_weight": 0.01, "dropout": 0.0}
    blind = {"name": "gru", "embedding": 4, "hidden": [8], "features": ["gap"], "dropout": 0.0}
    fits = {"latents": {**FIT, "epochs": 20, "patience": 20}, "returns": {**FIT, "epochs": 20, "patience": 20}}
    tasks = {
        "latents": {"model": vae, "fit": fits["latents"]},
        "returns": {"model": {**blind, "latents": True}, "fit": fits["returns"]},
    }
    train(warehouse, settings(tasks=tasks))
    latents, returns = (registry.load(warehouse.path, name) for name in tasks)
    assert returns.metrics["roc_auc"] > 0.95
    assert set(returns.features) == {"gap", "item"}
    read, made = returns.network(), latents.network()
    assert isinstance(read, Model)
    assert read.reader is not None
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, read.reader.state_dict()[name])  # which learnt nothing more
    train(warehouse, settings(tasks={"returns": {"model": blind, "fit": {**fits["returns"], "epochs": 5}}}))
    assert registry.load(warehouse.path, "returns", 2).metrics["roc_auc"] < 0.7


def test_latent_numbers_that_are_not_there_are_refused(warehouse: Warehouse) -> None:
    write_tables(warehouse)
    wants = {"model": {"name": "gru", "size": "tiny", "latents": True}, "fit": FIT}
    with pytest.raises(SettingsError, match="no model of task latents is there") as refused:
        train(warehouse, settings(tasks={"returns": wants}))
    assert refused.value.where == "tasks.returns.model.latents"
    with pytest.raises(SettingsError, match="only a model that answers for a user as a whole reads latents"):
        train(warehouse, settings(tasks={"interest": wants}))


def test_tasks_take_the_shared_encoder_where_validation_is_the_better_for_it(warehouse: Warehouse) -> None:
    """interest by itself hardly moves, returns learns well: the one takes the encoder that both learnt on, the other does not."""
    write_tables(warehouse)
    slow = {**TASKS["interest"], "fit": {**TASKS["interest"]["fit"], "learning_rate": 1e-6}}
    alone = {"model": {"name": "gru", "embedding": 8, "hidden": [8], "facts": ["idle_hours"]}, "fit": {**FIT, "epochs": 60, "patience": 60}}
    together = {
        "weights": {"interest": 1.0, "returns": 1e-6},
        "model": {"name": "lstm", "embedding": 8, "hidden": [12], "dropout": 0.0},
        "fit": {**FIT, "epochs": 5},
    }
    report = train(warehouse, settings(tasks={"interest": slow, "returns": alone}, shared=together))
    interest, returns = (registry.load(warehouse.path, name) for name in TASKS)
    told = [note for note in report.notes if "shared" in note]
    assert told[0].startswith("interest: the encoder shared with returns is taken: mrr ")
    assert told[1].startswith("returns: the encoder shared with interest is NOT taken: log_loss ")
    assert (interest.model["name"], returns.model["name"]) == ("lstm", "gru")
    assert returns.model["facts"] == ["idle_hours"]
    assert interest.settings["shared"]["tasks"] == ["interest", "returns"]
    assert (interest.settings["shared"]["taken"], returns.settings["shared"]["taken"]) == (True, False)
    assert interest.settings["shared"]["value"] == interest.metrics["mrr"] > interest.settings["shared"]["alone"]
    assert interest.network().score(toys.rows(4)).shape == (4, toys.NUM_ITEMS)
    assert not list(Path(warehouse.path).glob("checkpoints/*"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weights": {"interest": 1.0, "churn": 1.0}}, "shared.weights.churn is none of tasks"),
        ({"weights": {"interest": 1.0, "demand": 1.0}}, "shared.weights.demand: its model is no encoder"),
        ({"weights": {"interest": 1.0}}, "shared.weights"),
        ({"weights": {"interest": 1.0, "returns": 0.0}}, "shared.weights.returns"),
        ({"model": {"name": "gru", "facts": ["idle_hours"]}}, "no two tasks read the same"),
        ({"fit": {"augment": {"vae": 1.0}}}, "only a task by itself"),
    ],
)
def test_what_cannot_be_shared_is_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    shared = {"weights": {"interest": 1.0, "returns": 1.0}, **changes}
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump({"tasks": {"interest": {}, "returns": {}, "demand": {}}, "shared": shared}))
    with pytest.raises(SettingsError, match=why):
        load(file)


def test_a_shared_model_has_the_settings_of_its_kind(warehouse: Warehouse) -> None:
    write_tables(warehouse)
    weights = {"interest": 1.0, "returns": 1.0}
    with pytest.raises(SettingsError, match="gru has no setting heads") as refused:
        train(warehouse, settings(shared={"weights": weights, "model": {"name": "gru", "heads": 2}}))
    assert refused.value.where == "shared.model.heads"
    with pytest.raises(SettingsError, match=r"vae has no encoder to share .*\. Use elman or lstm or gru or transformer"):
        train(warehouse, settings(shared={"weights": weights, "model": {"name": "vae"}}))
    new_item = {"new_item": {"model": {"name": "gru", "size": "tiny", "content": True}}}
    with pytest.raises(SettingsError, match="new_item asks about items that its model never saw") as refused:
        train(warehouse, settings(tasks={**TASKS, **new_item}, shared={"weights": {**weights, "new_item": 1.0}}))
    assert refused.value.where == "shared.model.content"


def test_without_resume_what_was_learnt_together_is_learnt_anew(warehouse: Warehouse, capsys: pytest.CaptureFixture[str]) -> None:
    write_tables(warehouse)
    shared = {"weights": {"interest": 1.0, "returns": 1.0}, "model": {"name": "gru", "embedding": 4, "hidden": [4]}, "fit": FIT}
    for resume in (True, True, False):
        chosen = settings(shared=shared, training={"threads": 1, "seed": 1, "resume": resume})
        sharing.fitted_together(warehouse, chosen, lambda plan, report: launch(plan, TrainingSettings(threads=1)), print)
    first, again, anew = [line for line in capsys.readouterr().out.splitlines() if "parameters" in line]
    assert ["goes on after epoch 2" in line for line in (first, again, anew)] == [False, True, False]


def test_an_encoder_that_is_shared_is_not_fitted_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="what several tasks learnt together is not fitted again"):
        settings(shared={"weights": {"interest": 1.0, "returns": 1.0}}, sequences={"refit": True})
