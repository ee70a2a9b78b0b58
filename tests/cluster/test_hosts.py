"""Two ranks on two hosts: what they say crosses a network, and one host is lost in the middle of a fit.

FORETASTE_HOSTS=1 pytest tests/cluster/test_hosts.py      some minutes, as root
"""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster.clicks import environment, submitted, write_clicks
from tests.cluster.cluster import Cluster, Host, standalone_cluster
from tests.cluster.hosts import CARD, can_make_hosts, hosts, pull_cable

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        not (os.environ.get("FORETASTE_HOSTS") and can_make_hosts()),
        reason="some minutes, with root and iproute2: FORETASTE_HOSTS=1 loses a host",
    ),
]

EPOCHS = 40


def started(cluster: Cluster, driver: Host, step: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    settings = [f"spark.driver.host={driver.address}", f"training.network_interface={CARD}", *more]
    return subprocess.Popen(
        [*driver.prefix, *submitted(cluster, step, folder / "warehouse", folder / "clicks.txt", *settings)],
        env={**environment(), "SPARK_LOCAL_IP": driver.address, "MLFLOW_TRACKING_URI": "off"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def done(job: subprocess.Popen[str], seconds: float = 300) -> str:
    try:
        told = job.communicate(timeout=seconds)[0]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)  # the driver's Python does not end with its JVM
    assert job.returncode == 0, told[-4000:]
    return told


def test_a_fit_outlives_the_loss_of_a_host(tmp_path: Path) -> None:
    """The host's cable is pulled: no connection is closed, nobody is told. The rank that is left notices, and goes on alone."""
    write_clicks(tmp_path / "clicks.txt")
    soon = (
        "spark.network.timeout=20s",
        "spark.network.timeoutInterval=5s",
        "spark.executor.heartbeatInterval=4s",
        "training.stall_timeout=10s",
        "training.start_timeout=60s",
    )
    with hosts(3) as (driver, *others), standalone_cluster(workers=2, hosts=[driver, *others]) as cluster:
        for step in ("ingest", "sessionize", "sequence"):
            done(started(cluster, driver, step, tmp_path))
        job = started(cluster, driver, "train", tmp_path, f"tasks.interest.fit.epochs={EPOCHS}", *soon)
        checkpoints = tmp_path / "warehouse/checkpoints"
        until = time.monotonic() + 120
        while not list(checkpoints.rglob("epoch-*.safetensors")) and job.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        assert job.poll() is None, done(job)
        pull_cable(3)
        told = done(job)
    assert "waited for the other ranks for 1" in told
    assert "a machine is gone: 1 rank goes on" in told
    history = json.loads((tmp_path / "warehouse/models/interest/1/model.json").read_text())["history"]
    assert len(history) > 1
    assert [entry["epoch"] for entry in history] == [*range(1, len(history) + 1)]
