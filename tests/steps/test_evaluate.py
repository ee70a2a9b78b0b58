"""sequences and stored models → metrics, on rows whose outcome is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyspark.sql import DataFrame, SparkSession

from foretaste import registry
from foretaste.contract import FACTS, FEATURES, Batch
from foretaste.errors import ModelError, SettingsError, TableError
from foretaste.evaluation.bootstrap import poisson_weights
from foretaste.evaluation.judge import JUDGED
from foretaste.evaluation.ranking import Ranking
from foretaste.settings import Settings, TaskSettings
from foretaste.steps.evaluate import evaluate
from foretaste.tables import Warehouse
from foretaste.tables.metrics import METRICS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY
from tests.scoring.stored import LENGTH, batch, store, vocabulary

NUM_ITEMS = 30
COUNTS = {f"item{number}": 900 - number for number in range(NUM_ITEMS)}
NUM_USERS = 60
NEXT = 64


def settings(**evaluation: Any) -> Settings:
    return Settings.model_validate(
        {
            "tasks": {"interest": {}, "returns": {}},
            "evaluation": {"at": [1, 5], "bootstrap": 20, **evaluation},
            "scoring": {"batch_size": 16},
        }
    )


def examples() -> dict[str, np.ndarray]:
    """Each user at three train, one valid and one test moment. What follows is the last item again, for users with an even number."""
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(NUM_USERS), 5)
    split = np.tile(["train", "train", "train", "valid", "test"], NUM_USERS)
    item = random.integers(2, 2 + NUM_ITEMS, (len(user), LENGTH))
    following = np.where(user % 2 == 0, item[:, -1], random.integers(2, 2 + NUM_ITEMS, len(user)))
    following[(user % 10 == 9) & (split == "test")] = 0  # six users do nothing known after their test moment
    recency = random.integers(2, 20, len(user))
    returns = (random.random(len(user)) < 1 / (1 + np.exp(-(5.0 - 0.5 * recency)))).astype(int)
    return {"user": user, "split": split, "item": item, "next": following, "recency": recency, "returns": returns}


def frame(spark: SparkSession, rows: dict[str, np.ndarray]) -> DataFrame:
    data = []
    for place, (user, split, item, following, recency, returns) in enumerate(zip(*rows.values(), strict=True)):
        features = {"item": item.tolist(), "opens_session": [2] * LENGTH}
        lists = [features.get(name, [1] * LENGTH) for name in FEATURES]
        targets = [int(following)] + [0] * (NEXT - 1)
        cuts = ("window", "calendar") if split == "train" else ("calendar",)
        facts, labels = (3, 9, 90, *[0] * (len(FACTS) - 3)), (targets, [0, 0], [0, 0, 0], [1, 7], int(returns))
        rest = (place, LENGTH, LENGTH, int(recency), *lists, *facts, *labels, None)
        data += [(f"user{user}", str(split), cut, *rest) for cut in cuts]
    return spark.createDataFrame(data, SEQUENCES.ddl.replace("`as_of` timestamp", "`as_of` long"))


def shop(warehouse: Warehouse, rows: dict[str, np.ndarray]) -> None:
    spark, root = warehouse.spark, Path(warehouse.path)
    warehouse.overwrite(VOCABULARY, spark.createDataFrame(vocabulary(COUNTS), VOCABULARY.ddl))
    built_from = {"vocabulary": warehouse.version(VOCABULARY), "splits": {"valid_from": "2024-03-01 00:00:00"}}
    warehouse.overwrite(SEQUENCES, SEQUENCES.select(frame(spark, rows)), built_from)
    tables = {table.name: warehouse.version(table) for table in (SEQUENCES, VOCABULARY)}
    store(root, COUNTS, tables=tables)
    share = float(rows["returns"][rows["split"] == "train"].mean())
    store(root, COUNTS, task="returns", calibration={"slope": 0.5, "intercept": -1.0}, base_rate=share, tables=tables)


@pytest.fixture(scope="module")
def judged(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, tuple[str, ...]]:
    warehouse = Warehouse(
        spark, Settings.model_validate({"warehouse": {"path": str(tmp_path_factory.mktemp("shop") / "warehouse")}}).warehouse
    )
    shop(warehouse, examples())
    report = evaluate(warehouse, settings())
    assert report.written == {"metrics": warehouse.read(METRICS).count()}
    assert report.read["test rows for interest"] == NUM_USERS - 6
    return warehouse, report.notes


def values(warehouse: Warehouse, task: str, split: str = "test", segment: str = "all") -> dict[tuple[str, str], Any]:
    rows = warehouse.read(METRICS).where(f"task = '{task}' AND split = '{split}' AND segment = '{segment}'").collect()
    found = {(row.model, row.metric): row for row in rows}
    assert len(found) == len(rows), "a metric is there twice"
    return found


def test_the_models_figures_are_those_of_a_plain_process(judged: tuple[Warehouse, tuple[str, ...]]) -> None:
    warehouse, rows = judged[0], examples()
    test = rows["split"] == "test"
    histories = batch(rows["item"][test].tolist()).map(torch.tensor)
    labelled = Batch(**{**vars(histories), "labels": {"next_items": torch.tensor(rows["next"][test])[:, None]}})
    judge = Ranking(label="next_items", at=[1, 5])
    sums, tells = np.zeros((judge.num_sums, 1)), judge.tells(labelled)
    scores, told = registry.load(warehouse.path, "interest").network().score(labelled), labelled.map(lambda array: array[tells])
    judge.measure(scores[tells], told).add(sums, np.ones((NUM_USERS - 6, 1)))
    found = values(warehouse, "interest")
    for metric in judge.names:
        expected = judge.metrics(sums)[metric]
        assert found["interest", metric].value == pytest.approx(expected[0]), metric
        assert found["interest", metric].num_rows == sums[JUDGED, 0] == NUM_USERS - 6


def test_baselines_and_differences_stand_beside_the_model(judged: tuple[Warehouse, tuple[str, ...]]) -> None:
    found = values(judged[0], "interest")
    models = {model for model, _ in found}
    baselines = {"popularity", "recent_popularity", "own_items", "markov", "rules", "item_knn", "vsknn", "stan"}
    assert models == {"interest", *baselines, *(f"interest minus {name}" for name in baselines)}
    assert found["own_items", "recall@5"].value > 0.4  # half of the users do the last thing again, and it is among their own items
    assert found["popularity", "recall@5"].value < 0.4
    difference = found["interest minus own_items", "recall@5"]
    assert difference.value == pytest.approx(found["interest", "recall@5"].value - found["own_items", "recall@5"].value)
    assert difference.low <= difference.value <= difference.high < 0


def popularity(rows: dict[str, np.ndarray]) -> np.ndarray:
    return np.bincount(rows["item"][rows["split"] == "train"].ravel(), minlength=2 + NUM_ITEMS)


def most_popular(rows: dict[str, np.ndarray]) -> np.ndarray:
    return np.argsort(-popularity(rows), kind="stable")[:5]


def test_popularity_is_what_the_training_rows_say(judged: tuple[Warehouse, tuple[str, ...]]) -> None:
    rows = examples()
    counts, best = popularity(rows), most_popular(rows)
    assert counts[best[-1]] > np.sort(counts)[-6]  # no tie at the edge
    following = rows["next"][(rows["split"] == "test") & (rows["next"] > 0)]
    found = values(judged[0], "interest")
    assert found["popularity", "recall@5"].value == pytest.approx(np.isin(following, best).mean())
    assert found["popularity", "coverage@5"].value == pytest.approx(5 / NUM_ITEMS)
    of_targets = counts[following].mean()
    assert found["popularity", "popularity_bias@5"].value == pytest.approx(counts[best].mean() / of_targets)


def test_groups_of_users_stand_beside_all(judged: tuple[Warehouse, tuple[str, ...]]) -> None:
    segments = {row.segment for row in judged[0].read(METRICS).where("task = 'interest'").select("segment").distinct().collect()}
    assert segments == {"all", "history 5-19", "returning users"}  # every row has six events, every user was there in training
    everybody, returning = (values(judged[0], "interest", segment=name) for name in ("all", "returning users"))
    assert returning["own_items", "recall@5"].value == everybody["own_items", "recall@5"].value
    assert returning["interest minus vsknn", "recall@5"].low == everybody["interest minus vsknn", "recall@5"].low


def test_a_paired_difference_has_its_p_value(judged: tuple[Warehouse, tuple[str, ...]]) -> None:
    found = values(judged[0], "interest")
    assert found["interest minus own_items", "p_value(recall@5)"].value == pytest.approx(2 / 21)  # worse in each of 20 resamples


def test_binary_baselines_learn_from_training_rows(judged: tuple[Warehouse, tuple[str, ...]]) -> None:
    found, rows = values(judged[0], "returns"), examples()
    test = rows["returns"][rows["split"] == "test"]
    train = rows["returns"][rows["split"] == "train"]
    share = train.mean()
    assert found["majority", "brier"].value == pytest.approx(np.mean((test - share) ** 2))
    assert found["majority", "roc_auc"].value == 0.5
    assert found["logistic_rfm", "roc_auc"].value > 0.8  # recency made the labels
    assert found["returns", "roc_auc"].value < found["logistic_rfm", "roc_auc"].value


def test_both_judged_splits_are_there_and_training_is_not(judged: tuple[Warehouse, tuple[str, ...]]) -> None:
    assert {row.split for row in judged[0].read(METRICS).select("split").distinct().collect()} == {"valid", "test"}


def test_the_notes_say_in_words_what_came_out(judged: tuple[Warehouse, tuple[str, ...]]) -> None:
    text = "\n".join(judged[1])
    assert "interest version 1 (gru) on the test split: 54 rows, 6 more have no target; all items ranked, ties against the model" in text
    assert "interest is WORSE than " in text
    assert "0 of 54 targets are items that the vocabulary lacks" in text
    assert "returning users" in text
    assert "returns is WORSE than logistic_rfm" in text
    assert "always naming the more frequent class would be right in" in text


def test_intervals_are_those_of_the_poisson_bootstrap_over_users(judged: tuple[Warehouse, tuple[str, ...]], spark: SparkSession) -> None:
    rows = examples()
    kept = (rows["split"] == "test") & (rows["next"] > 0)
    names = [(f"user{user}",) for user in rows["user"][kept]]
    hashes = spark.createDataFrame(names, "user string").selectExpr("xxhash64(user) AS hash").toPandas()["hash"].to_numpy()
    weights, hits = poisson_weights(hashes, 20, seed=0)[:, 1:], np.isin(rows["next"][kept], most_popular(rows))
    low, high = np.percentile(hits @ weights / weights.sum(0), [2.5, 97.5])
    found = values(judged[0], "interest")["popularity", "recall@5"]
    assert (found.low, found.high) == pytest.approx((low, high))


def test_labels_in_another_order_bring_everything_down_to_chance(warehouse: Warehouse) -> None:
    quick = settings(baselines=["own_items"])
    rows = examples()
    for split in ("valid", "test"):
        of = np.flatnonzero(rows["split"] == split)
        for label in ("next", "returns"):
            rows[label][of] = np.random.default_rng(1).permutation(rows[label][of])
    shop(warehouse, rows)
    evaluate(warehouse, quick)
    own = values(warehouse, "interest")["own_items", "recall@5"]
    assert own.value < 0.4  # 0.59 before
    assert values(warehouse, "returns")["logistic_rfm", "roc_auc"].value < 0.7  # 60 rows: chance reaches 0.65

    # A second run is added to the first; and where the vocabulary has changed, the rows that the model learnt with are judged.
    warehouse.overwrite(VOCABULARY, warehouse.read(VOCABULARY))
    warehouse.overwrite(SEQUENCES, warehouse.read(SEQUENCES).limit(0), {"vocabulary": 99})
    report = evaluate(warehouse, quick.model_copy(update={"tasks": {"interest": TaskSettings()}}))
    assert any("fitted anew" in note for note in report.notes)
    assert warehouse.read(METRICS).select("run_at").distinct().count() == 2


def test_what_cannot_be_judged_says_why(warehouse: Warehouse) -> None:
    with pytest.raises(SettingsError, match="no task"):
        evaluate(warehouse, Settings())
    with pytest.raises(ModelError, match="no model 'interest'"):
        evaluate(warehouse, settings())
    store(Path(warehouse.path), COUNTS)
    with pytest.raises(TableError, match="sequences"):
        evaluate(warehouse, Settings.model_validate({"tasks": {"interest": {}}}))
