"""The whole pipeline as its users run it: spark-submit on a standalone master with two workers, and two Horovod ranks."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from tests.cluster.cluster import standalone_cluster

ROOT = Path(__file__).parents[2]
NUM_SESSIONS, NUM_ITEMS, START = 1500, 60, 1_396_310_400  # 1 April 2014, UTC


def write_clicks(file: Path) -> int:
    """Sessions over five days in which item i is followed by i + 1 four times out of five; returns the number of clicks."""
    choose = random.Random(1)
    lines = ["SessionId\tItemId\tTime"]
    for session in range(NUM_SESSIONS):
        at = START + choose.uniform(0, 5 * 86_400 - 3_600)  # ended before the fifth day is
        item = choose.randrange(NUM_ITEMS)
        for _ in range(choose.randint(2, 8)):
            lines.append(f"{session}\t{1000 + item}\t{at:.3f}")
            at += choose.uniform(5, 300)
            item = (item + 1) % NUM_ITEMS if choose.random() < 0.8 else choose.randrange(NUM_ITEMS)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines) - 1


def rows_of(table: Path) -> pa.Table:
    """The newest version's rows. (deltalake's own readers of structs need a newer pyarrow.)"""
    return pa.concat_tables(pq.read_table(file.removeprefix("file://"), partitioning=None) for file in DeltaTable(str(table)).file_uris())


@pytest.mark.cluster
def test_clicks_to_scores_on_a_standalone_cluster(tmp_path: Path) -> None:
    num_clicks = write_clicks(tmp_path / "clicks.txt")
    warehouse = tmp_path / "warehouse"
    with standalone_cluster(workers=2) as cluster:
        run = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("spark-submit")), "--master", cluster.url),
                *("--conf", "spark.driver.host=127.0.0.1", "--conf", f"spark.pyspark.python={sys.executable}"),
                *("--conf", "spark.ui.enabled=false", "--conf", "spark.executor.memory=1g"),
                *(str(ROOT / "jobs" / "pipeline.py"), "--config", str(ROOT / "conf" / "clicks.yaml")),
                *("--set", f"warehouse.path={warehouse}", "--set", f"source.path={tmp_path}/clicks.txt"),
                *("--set", "spark.shuffle_partitions=2", "--set", "sequences.rows_per_group=64", "--set", "scoring.top_k=5"),
                *("--set", "tasks.interest.fit.epochs=4", "--set", "tasks.interest.model.dropout=0.0"),
            ],
            env={**os.environ, "PYSPARK_DRIVER_PYTHON": sys.executable, "PYTHONPATH": str(ROOT / "lib")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert f"{num_clicks:,} events" in run.stdout

    scores = rows_of(warehouse / "scores")
    assert sorted(scores["user_id"].to_pylist()) == sorted(str(session) for session in range(NUM_SESSIONS))
    assert {len(targets) for targets in scores["targets"].to_pylist()} == {5}

    metrics = rows_of(warehouse / "metrics").to_pandas()
    recall = metrics[(metrics.metric == "recall@5") & (metrics.split == "test") & (metrics.segment == "all")].set_index("model")
    assert recall.loc["interest"].low > recall.loc["popularity"].high, recall[["value", "low", "high"]]
    shutil.rmtree(warehouse)
