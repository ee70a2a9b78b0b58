"""The UDF on Spark's Python workers gives what a plain process gives."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste.scoring.filters import Filters
from foretaste.scoring.udf import LEFT_OUT, SCORED, Fallback, ScoreUsers, load_scorer
from foretaste.stored_model import StoredModel
from tests.scoring.stored import batch, histories, record_batch, store

COUNTS = {f"item{number}": 1000 - 10 * number for number in range(40)}
NUM_USERS = 60
TOP_K = 5
POPULAR = Fallback(indices=np.array([2, 3, 4, 5, 6]), scores=np.array([0.5, 0.2, 0.1, 0.05, 0.05]))


def users_of(root: Path, stored: StoredModel, fallback: Fallback = POPULAR, batch_size: int = 16) -> ScoreUsers:
    return ScoreUsers(root=str(root), name=stored.name, version=stored.version, batch_size=batch_size, top_k=TOP_K, fallback=fallback)


def rows(seed: int = 0) -> pa.RecordBatch:
    return record_batch(histories(NUM_USERS, 2 + len(COUNTS), seed), [f"user{number}" for number in range(NUM_USERS)])


def test_spark_scores_each_user_once_as_a_fresh_process_without_spark_does(spark: SparkSession, tmp_path: Path) -> None:
    stored = store(tmp_path / "warehouse", COUNTS)
    frame = spark.createDataFrame(rows().to_pandas()).repartition(3)
    scored = {row.user_id: row for row in frame.mapInArrow(users_of(tmp_path / "warehouse", stored), SCORED).collect()}
    assert len(scored) == NUM_USERS

    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, rows().schema) as writer:
        writer.write_batch(rows())
    script = """
import sys
import numpy as np, pyarrow as pa, torch
from foretaste import registry
from foretaste.scoring.arrow import to_batch
root, path = sys.argv[1:]
stored = registry.load(root, "interest")
network, ids = stored.network(), stored.item_ids()
rows = pa.ipc.open_file(path).get_batch(0)
best = network.score(to_batch(rows).map(torch.tensor)).double().softmax(1).topk(5)
assert not {"pyspark", "mlflow", "petastorm", "horovod"} & set(sys.modules), "a plain process needs none of them"
for user, indices, values in zip(rows.column("user_id").to_pylist(), best.indices.tolist(), best.values.tolist()):
    print(user, *[f"{ids[index]}={value!r}" for index, value in zip(indices, values)])
"""
    command = [sys.executable, "-W", "error::UserWarning", "-c", script, str(tmp_path / "warehouse"), str(tmp_path / "rows.arrow")]
    plain = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert plain.returncode == 0, plain.stderr
    for line in plain.stdout.splitlines():
        user, *expected = line.split()
        found = scored.pop(user)
        assert not found.fallback
        assert [target.target_id for target in found.targets] == [pair.split("=")[0] for pair in expected]
        assert max(abs(target.score - float(pair.split("=")[1])) for target, pair in zip(found.targets, expected, strict=True)) <= 1e-5
    assert not scored


def test_a_python_worker_loads_a_model_once_however_many_tasks_it_runs(spark: SparkSession, tmp_path: Path) -> None:
    stored = store(tmp_path, COUNTS)
    score_users = users_of(tmp_path, stored)

    def probe(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        before = load_scorer.cache_info().misses
        scored = sum(part.num_rows for part in score_users(batches))
        loads = load_scorer.cache_info().misses - before
        yield pa.RecordBatch.from_pydict({"worker": [os.getpid()], "loads": [loads], "scored": [scored]})

    frame = spark.createDataFrame(rows().to_pandas()).repartition(8)
    found = frame.mapInArrow(probe, "worker long, loads long, scored long")
    by_worker = (
        found.groupBy("worker").agg(F.count("*").alias("tasks"), F.sum("loads").alias("loads"), F.sum("scored").alias("scored")).collect()
    )
    assert sum(row.tasks for row in by_worker) == 8
    assert sum(row.scored for row in by_worker) == NUM_USERS
    assert [row.loads for row in by_worker] == [1] * len(by_worker)
    assert len(by_worker) < 8  # workers are used again


def test_users_without_a_known_item_get_what_is_popular_and_are_marked(tmp_path: Path) -> None:
    stored = store(tmp_path, COUNTS)
    given = record_batch(batch([[0, 0, 2], [0, 1, 1], [0, 0, 0]]), ["known", "unknown", "empty"])
    (scored,) = users_of(tmp_path, stored)([given])
    known, unknown, empty = scored.to_pylist()
    assert [row["fallback"] for row in (known, unknown, empty)] == [False, True, True]
    assert unknown["targets"] == empty["targets"] != known["targets"]
    assert [(target["target_id"], target["score"]) for target in unknown["targets"]] == [
        ("item0", 0.5), ("item1", 0.2), ("item2", 0.1), ("item3", 0.05), ("item4", 0.05)
    ]  # fmt: skip


def test_what_a_user_is_not_to_be_shown_is_left_out_of_the_fallback_too(tmp_path: Path) -> None:
    """Item 3 is closed for all, and the stranger bought the most popular, 2; nobody else is shown less for it."""
    stored = store(tmp_path, COUNTS)
    closed = np.zeros(2 + len(COUNTS), dtype=np.bool_)
    closed[3] = True
    filters = Filters(closed=closed, category=np.arange(len(closed)))
    fallback = Fallback(indices=np.array([2, 4, 5]), scores=np.array([0.5, 0.1, 0.05]))
    given = record_batch(batch([[0, 0, 2], [0, 1, 1], [0, 0, 0]]), ["known", "stranger", "empty"])
    not_shown = pa.array([[4, 5], [2, 9], None], pa.list_(pa.int32()))
    given = pa.RecordBatch.from_arrays([*given.columns, not_shown], names=[*given.schema.names, LEFT_OUT])
    (scored,) = replace(users_of(tmp_path, stored, fallback), filters=filters)([given])
    known, stranger, empty = scored.to_pylist()
    named = [target["target_id"] for target in known["targets"]]
    assert len(named) == TOP_K
    assert not {"item1", "item2", "item3"} & set(named)  # items 3, 4 and 5
    assert [(target["target_id"], target["score"]) for target in stranger["targets"]] == [("item2", 0.1), ("item3", 0.05)]
    assert [target["target_id"] for target in empty["targets"]] == ["item0", "item2", "item3"]


def test_a_binary_task_answers_with_its_own_name_and_the_base_rate_for_strangers(tmp_path: Path) -> None:
    stored = store(tmp_path, COUNTS, task="returns", calibration={"slope": 1.0, "intercept": 0.0}, base_rate=0.3)
    base_rate = Fallback(indices=np.zeros(0, dtype=np.int64), scores=np.array([0.3]))
    (scored,) = users_of(tmp_path, stored, base_rate)([record_batch(batch([[0, 0, 2], [0, 1, 1]]), ["known", "stranger"])])
    known, stranger = scored.to_pylist()
    assert stranger["targets"] == [{"target_id": "returns", "score": 0.3, "reasons": []}]
    assert (known["fallback"], stranger["fallback"]) == (False, True)
    assert known["targets"][0]["score"] != 0.3


def test_padding_and_unknown_are_never_recommended(tmp_path: Path) -> None:
    stored = store(tmp_path, {"a": 3, "b": 2, "c": 1})  # fewer items than are asked for
    fallback = Fallback(indices=np.array([2, 3, 4]), scores=np.array([0.5, 0.3, 0.2]))
    (scored,) = users_of(tmp_path, stored, fallback)([record_batch(histories(20, 5), [f"user{number}" for number in range(20)])])
    assert all(sorted(target["target_id"] for target in targets) == ["a", "b", "c"] for targets in scored.column("targets").to_pylist())


def test_a_batch_larger_than_batch_size_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = store(tmp_path, COUNTS)
    network = load_scorer(str(tmp_path), "interest", 1, 16).network
    represent, sizes = network.represent, []
    monkeypatch.setattr(network, "represent", lambda part: sizes.append(len(part.length)) or represent(part))
    (scored,) = users_of(tmp_path, stored)([rows()])
    assert scored.num_rows == NUM_USERS
    assert sizes == [16, 16, 16, 12]


def test_an_empty_partition_loads_nothing(tmp_path: Path) -> None:
    absent = ScoreUsers(root=str(tmp_path), name="none", version=1, batch_size=4, top_k=TOP_K, fallback=POPULAR)
    assert list(absent([rows().slice(0, 0)])) == []
