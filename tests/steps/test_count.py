"""A counted model as the model of a task: counted, judged, stored, served and evaluated as any other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.errors import SettingsError
from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps.evaluate import evaluate
from foretaste.steps.score import score
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from foretaste.tables.metrics import METRICS
from foretaste.tables.scores import SCORES
from foretaste.tables.sequences import SEQUENCES
from tests.steps.shop import told

CIRCLE = "abcdefgh"  # everybody goes round, one item an hour
NUM_USERS = 32


def settings(model: str = "markov", refit: bool = False, **task: Any) -> Settings:
    return Settings.model_validate(
        {
            "sequences": {"protocol": "leave_one_out", "length": 6, "min_item_count": 1, "refit": refit},
            "tasks": {"interest": {"model": {"name": model}, **task}},
            "evaluation": {"at": [1, 2], "bootstrap": 10, "baselines": ["popularity", "rules"]},
            "scoring": {"top_k": 2},
        }
    )


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    warehouse = Warehouse(spark, WarehouseSettings(path=str(tmp_path_factory.mktemp("shop") / "warehouse")))
    steps = [(user, hour) for user in range(NUM_USERS) for hour in range(5)]
    told(warehouse, *[(f"u{user}", user % 7 + hour, CIRCLE[(user + hour) % len(CIRCLE)]) for user, hour in steps])
    sessionize(warehouse, settings())
    sequence(warehouse, settings())
    report = train(warehouse, settings())
    assert report.read == {"validation rows for interest": NUM_USERS}
    assert report.notes[0].startswith("interest version 1: markov, counted, on validation rows recall@2 1.0000, hit@2 1.0000")
    return warehouse


def test_it_is_stored_as_a_model_and_served_as_one(shop: Warehouse) -> None:
    assert registry.load(shop.path, "interest").model["name"] == "markov"
    score(shop, settings())
    best = {row.user_id: row.targets[0] for row in shop.read(SCORES).collect()}
    for user in range(NUM_USERS):
        assert best[f"u{user}"].target_id == CIRCLE[(user + 5) % len(CIRCLE)]
        assert 0.99 < best[f"u{user}"].score < 1.0  # a probability: the rest is popularity's


def values(warehouse: Warehouse) -> dict[tuple[str, str], float]:
    newest = warehouse.read(METRICS).agg(F.max("run_at")).head()[0]
    rows = warehouse.read(METRICS).where((F.col("run_at") == newest) & (F.col("split") == "test") & (F.col("segment") == "all"))
    return {(row.model, row.metric): row.value for row in rows.collect()}


def test_it_is_judged_beside_its_baselines_and_labels_in_another_order_bring_all_down_to_chance(shop: Warehouse) -> None:
    evaluate(shop, settings())
    before = values(shop)
    assert before["interest", "recall@1"] == before["rules", "recall@1"] == 1.0
    assert before["popularity", "recall@1"] < 0.3

    rows = shop.read(SEQUENCES).toPandas()
    test = rows["split"] == "test"
    order = np.random.default_rng(0).permutation(test.sum())
    rows.loc[test, "next_items"] = rows.loc[test, "next_items"].to_numpy()[order]
    shop.overwrite(SEQUENCES, SEQUENCES.select(shop.spark.createDataFrame(rows, SEQUENCES.ddl)), shop.built_from(SEQUENCES))
    evaluate(shop, settings())
    after = values(shop)
    chance, deviation = 1 / len(CIRCLE), np.sqrt(1 / len(CIRCLE) / NUM_USERS)
    for scorer in ("interest", "rules", "popularity"):
        assert after[scorer, "recall@1"] < chance + 3 * deviation, scorer
    assert list(Path(shop.path).glob("checkpoints/*")) == []  # no counts are left


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"returns": {"model": {"name": "stan"}}}, r"stan ranks items and answers nothing else \(tasks.returns.model.name\)"),
        ({"interest": {"model": {"name": "vsknn", "embedding": 8}}}, r"vsknn is counted and has no setting embedding"),
        ({"interest": {"model": {"name": "rules"}, "counted": {"smoothing": 0}}}, r"no probability \(tasks.interest.counted.smoothing\)"),
    ],
)
def test_what_a_counted_model_does_not_have_is_named(warehouse: Warehouse, task: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        train(warehouse, Settings.model_validate({"tasks": task}))
