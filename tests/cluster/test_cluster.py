"""The cluster that tests start, and the package as a cluster gets it: a zip by --py-files."""

import json
import os
import signal
import subprocess
import sys
import time
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


def secured(folder: Path, secret: str) -> Path:
    """conf/spark/cluster.conf with its lines of safety, and the secret."""
    text = (ROOT / "conf/spark/cluster.conf").read_text(encoding="utf-8").replace("#secure ", "")
    file = folder / f"{secret[:4]}.conf"
    file.write_text(f"{text}\nspark.authenticate.secret {secret}\n", encoding="utf-8")
    return file


@pytest.mark.cluster
def test_executors_import_the_packed_zip_and_nobody_without_the_secret_gets_in(tmp_path: Path) -> None:
    subprocess.run(["make", "-s", "-C", str(ROOT), "zip", f"DIST={tmp_path}"], check=True)
    job = tmp_path / "job.py"
    job.write_text(JOB, encoding="utf-8")
    small = ["spark.executor.memory=1g", "spark.executor.memoryOverhead=384m", "spark.executor.cores=1", "spark.driver.memory=1g"]
    options = [*small, f"spark.pyspark.python={sys.executable}", "spark.driver.host=127.0.0.1", "spark.ui.enabled=false"]
    ours, others = secured(tmp_path, "ours-0123456789abcdef0123456789abcdef"), secured(tmp_path, "others-0123456789abcdef0123456789ab")

    def submitted(url: str, properties: Path, until: str = "") -> tuple[int | None, str, str]:
        """The exit code, None where it was ended, as it said `until` or took too long; stdout and stderr."""
        command = [
            *(str(SPARK_HOME / "bin/spark-submit"), "--master", url, "--properties-file", str(properties)),
            *(part for option in options for part in ("--conf", option)),
            *("--py-files", str(tmp_path / "foretaste.zip"), str(job)),
        ]
        said, told = tmp_path / "stdout", tmp_path / "stderr"
        with said.open("w") as stdout, told.open("w") as stderr:
            process = subprocess.Popen(command, env=spark_environment(), cwd=tmp_path, stdout=stdout, stderr=stderr, start_new_session=True)
            deadline = time.monotonic() + 180
            while (code := process.poll()) is None and time.monotonic() < deadline and not (until and until in told.read_text()):
                time.sleep(0.5)
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return code, said.read_text(), told.read_text()

    with standalone_cluster(workers=2, properties=ours) as cluster:
        code, out, err = submitted(cluster.url, ours)
        refused, _, why = submitted(cluster.url, others, until="Failed to connect to master")  # it would try for a minute
        registered = cluster.log.read_text(encoding="utf-8").count("Registered app ")
    assert code == 0, err[-3000:]
    assert (refused, registered) == (None, 1)
    assert "Failed to connect to master" in why
    assert "ours-0123" not in out + err
    places = json.loads(out.splitlines()[-1])
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
