"""A version in MLflow's registry: aliases follow the champion, and the pyfunc gives the scores that the scoring job's UDF gives."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from foretaste import registry
from foretaste.scoring.udf import Fallback, ScoreUsers
from foretaste.tables import Warehouse
from tests.scoring.stored import histories, record_batch, store

COUNTS = {"soap": 9, "bread": 7, "jam": 5, "tea": 2}


@pytest.fixture
def logged(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> tuple[Warehouse, mlflow.MlflowClient]:
    """Two versions in MLflow, of which the first was crowned."""
    uri = f"sqlite:///{warehouse.path}/mlflow.db"
    for seed in (1, 2):
        stored = store(Path(warehouse.path), COUNTS, seed=seed)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry._to_mlflow(warehouse, "a run", lambda client, stored=stored: registry._log_run(client, warehouse, stored))
        if seed == 1:
            registry.crown(warehouse, "interest", 1)
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", uri)
    mlflow.set_tracking_uri(uri)
    return warehouse, mlflow.MlflowClient(uri)


def test_aliases_name_the_champion_and_its_challenger(logged: tuple[Warehouse, mlflow.MlflowClient]) -> None:
    warehouse, client = logged
    aliases = lambda: {name: int(number) for name, number in client.get_registered_model("foretaste-interest").aliases.items()}  # noqa: E731
    assert aliases() == {"champion": 1, "challenger": 2}
    registry.crown(warehouse, "interest", 2)
    assert aliases() == {"champion": 2}
    registry.log_metrics(
        warehouse, registry.load(warehouse.path, "interest", 2), {"test.interest.recall@20": 0.5, "test.interest.nothing": np.nan}
    )
    run = client.get_run(client.get_model_version("foretaste-interest", "2").run_id)
    assert run.data.metrics == {"test.interest.recall_at_20": 0.5}


def expected(warehouse: Warehouse, rows: pa.RecordBatch, version: int, top_k: int = 20) -> pd.DataFrame:
    stored = registry.load(warehouse.path, "interest", version)
    users = ScoreUsers(
        root=warehouse.path, name="interest", version=version, batch_size=3, top_k=top_k, fallback=Fallback.of(stored, top_k)
    )
    [answer] = users([rows])
    flat = answer.to_pylist()
    return pd.DataFrame(
        {name: [[target[name] for target in each["targets"]] for each in flat] for name in ("target_id", "score")}
        | {"fallback": [each["fallback"] for each in flat]}
    )


def test_the_pyfunc_answers_as_the_scoring_job_does(logged: tuple[Warehouse, mlflow.MlflowClient]) -> None:
    warehouse, _ = logged
    rows = histories(7, 2 + len(COUNTS))
    rows.item[3] = 1  # a user of whom nothing is known
    batch = record_batch(rows, [f"u{n}" for n in range(7)])
    model = mlflow.pyfunc.load_model("models:/foretaste-interest@champion")
    assert [each.name for each in model.metadata.get_input_schema().inputs] == ["length", "fresh", "recency", "item"]
    found = model.predict(batch.to_pandas())
    pd.testing.assert_frame_equal(found, expected(warehouse, batch, 1), rtol=1e-6)
    assert found.fallback.tolist() == [False] * 3 + [True] + [False] * 3
    other = mlflow.pyfunc.load_model("models:/foretaste-interest@challenger", model_config={"top_k": 2}).predict(batch.to_pandas())
    pd.testing.assert_frame_equal(other, expected(warehouse, batch, 2, top_k=2), rtol=1e-6)
    assert set(other.target_id.map(len)) == {2}


def test_spark_scores_by_the_pyfunc(logged: tuple[Warehouse, mlflow.MlflowClient]) -> None:
    warehouse, _ = logged
    batch = record_batch(histories(7, 2 + len(COUNTS), seed=1), [f"u{n}" for n in range(7)])
    kind = "target_id array<string>, score array<double>, fallback boolean"
    udf = mlflow.pyfunc.spark_udf(warehouse.spark, "models:/foretaste-interest@champion", result_type=kind, env_manager="local")
    lists = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    rows = warehouse.spark.createDataFrame(
        pd.DataFrame(lists), "user_id string, length int, fresh int, recency int, item array<int>, event array<int>"
    )
    names = ["length", "fresh", "recency", "item"]
    found = rows.select("user_id", udf(*names).alias("told")).select("user_id", "told.*").toPandas().sort_values("user_id")
    wanted = expected(warehouse, batch, 1)
    assert found.target_id.map(list).tolist() == wanted.target_id.tolist()
    np.testing.assert_allclose(np.stack(found.score), np.stack(wanted.score), rtol=1e-6)


def test_nothing_is_pickled(logged: tuple[Warehouse, mlflow.MlflowClient]) -> None:
    warehouse, _ = logged
    files = {path.name for path in Path(warehouse.path, "mlruns").rglob("*") if path.is_file()}
    assert {"MLmodel", "weights.safetensors", "model.json", "vocabulary.parquet"} <= files
    assert {name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".bin"))} == set()
