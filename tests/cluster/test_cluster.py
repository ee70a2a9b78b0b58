"""The cluster that tests start, and the package as a cluster gets it: a zip by --py-files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.cluster import SPARK_HOME, spark_environment, standalone_cluster

ROOT = Path(__file__).parents[2]

JOB = """
import json, os
from foretaste.session import spark_session
from foretaste.settings import SparkSettings

def where(_):
    import foretaste.tasks
    yield os.environ["SPARK_EXECUTOR_DIRS"], foretaste.tasks.__file__

spark = spark_session(SparkSettings(shuffle_partitions=2))
places = spark.sparkContext.parallelize(range(8), 8).mapPartitions(where).collect()
print(json.dumps(places))
"""


@pytest.mark.cluster
def test_executors_import_the_packed_zip(tmp_path: Path) -> None:
    subprocess.run(["make", "-s", "-C", str(ROOT), "zip", f"DIST={tmp_path}"], check=True)
    job = tmp_path / "job.py"
    job.write_text(JOB, encoding="utf-8")
    with standalone_cluster(workers=2) as cluster:
        submit = [str(SPARK_HOME / "bin/spark-submit"), "--master", cluster.url, "--properties-file", str(ROOT / "conf/spark/cluster.conf")]
        small = ["spark.executor.memory=1g", "spark.executor.memoryOverhead=384m", "spark.executor.cores=1", "spark.driver.memory=1g"]
        options = [*small, f"spark.pyspark.python={sys.executable}", "spark.driver.host=127.0.0.1", "spark.ui.enabled=false"]
        run = subprocess.run(
            [
                *submit,
                *(part for option in options for part in ("--conf", option)),
                *("--py-files", str(tmp_path / "foretaste.zip"), str(job)),
            ],
            env=spark_environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    assert run.returncode == 0, run.stderr[-3000:]
    places = json.loads(run.stdout.splitlines()[-1])
    assert len({executor for executor, _ in places}) == 2
    assert all(file.endswith("foretaste.zip/foretaste/tasks/__init__.py") for _, file in places)  # not the checkout's


@pytest.mark.cluster
def test_a_failure_inside_ends_every_process() -> None:
    before = children()

    def fail() -> None:
        with standalone_cluster(workers=1):
            assert len(children() - before) == 2
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert children() == before


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
