"""Generated clicks, and the jobs on them as a user submits them to a cluster."""

import os
import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

from tests.cluster.cluster import QUICK, QUICK_EXECUTOR, Cluster

ROOT = Path(__file__).parents[2]
NUM_SESSIONS, NUM_ITEMS, START = 1500, 60, 1_396_310_400  # 1 April 2014, UTC


def write_clicks(file: Path, num_sessions: int = NUM_SESSIONS) -> int:
    """Sessions over five days in which item i is followed by i + 1 four times out of five; returns the number of clicks."""
    choose = random.Random(1)
    lines = ["SessionId\tItemId\tTime"]
    for session in range(num_sessions):
        at = START + choose.uniform(0, 5 * 86_400 - 3_600)  # ended before the fifth day is
        item = choose.randrange(NUM_ITEMS)
        for _ in range(choose.randint(2, 8)):
            lines.append(f"{session}\t{1000 + item}\t{at:.3f}")
            at += choose.uniform(5, 300)
            item = (item + 1) % NUM_ITEMS if choose.random() < 0.8 else choose.randrange(NUM_ITEMS)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines) - 1


def few_clicks(folder: Path, *more: str) -> list[str]:
    """Settings on top of conf/clicks.yaml: 300 sessions in `folder`, and a network that one process fits in seconds."""
    write_clicks(folder / "clicks.txt", 300)
    return [
        f"warehouse.path={folder / 'warehouse'}",
        f"source.path={folder / 'clicks.txt'}",
        "sequences.rows_per_group=64",
        "scoring.top_k=5",
        "training={launcher: single, workers: 1}",
        "tasks.interest={model: {name: gru, embedding: 8, hidden: [8]}, fit: {epochs: 2, batch_size: 32}}",
        "evaluation.baselines=[popularity, markov]",
        "evaluation.bootstrap=20",
        *more,
    ]


def submitted(cluster: Cluster, job: str, warehouse: Path, clicks: Path, *more: str) -> list[str]:
    """The command line of a job on the cluster. more: settings on top, those whose name begins with `spark.` of Spark's own"""
    of_spark = [
        "spark.driver.host=127.0.0.1",
        f"spark.pyspark.python={sys.executable}",
        "spark.ui.enabled=false",
        "spark.executor.memory=1g",
        f"spark.driver.extraJavaOptions={QUICK}",
        f"spark.executor.extraJavaOptions={QUICK_EXECUTOR}",
    ]
    of_spark += [each for each in more if each.startswith("spark.")]
    ours = [f"warehouse.path={warehouse}", f"source.path={clicks}", "spark.shuffle_partitions=2", "sequences.rows_per_group=64"]
    ours += ["scoring.top_k=5", "tasks.interest.fit.epochs=4", "tasks.interest.model.dropout=0.0"]
    ours += [each for each in more if not each.startswith("spark.")]
    return [
        *(str(Path(sys.executable).with_name("spark-submit")), "--master", cluster.url),
        *(part for each in of_spark for part in ("--conf", each)),
        *(str(ROOT / "jobs" / f"{job}.py"), "--config", str(ROOT / "conf" / "clicks.yaml")),
        *(part for each in ours for part in ("--set", each)),
    ]


def environment() -> dict[str, str]:
    """What such a job runs in."""
    return {**os.environ, "PYSPARK_DRIVER_PYTHON": sys.executable, "PYTHONPATH": str(ROOT / "lib")}


def rows_of(table: Path) -> pa.Table:
    """The newest version's rows. (deltalake's own readers of structs need a newer pyarrow.)"""
    files = [file.removeprefix("file://") for file in DeltaTable(str(table)).file_uris()]
    return ds.dataset(files, format="parquet", partitioning="hive").to_table()
