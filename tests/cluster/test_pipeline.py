"""The whole pipeline as its users run it: spark-submit on a standalone master with two workers, and two Horovod ranks."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.clicks import NUM_SESSIONS, environment, rows_of, submitted, write_clicks
from tests.cluster.cluster import standalone_cluster
from tests.cluster.faults import Faults


@pytest.mark.cluster
def test_clicks_to_scores_on_a_standalone_cluster(tmp_path: Path) -> None:
    num_clicks = write_clicks(tmp_path / "clicks.txt")
    warehouse = tmp_path / "warehouse"
    with standalone_cluster(workers=2) as cluster:
        run = subprocess.run(
            submitted(cluster, "pipeline", warehouse, tmp_path / "clicks.txt"),
            env=environment(),
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


@pytest.mark.cluster
def test_after_kills_the_tables_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    """A short run of tests/cluster/faults.py, of the steps that write most of the tables."""
    with standalone_cluster(workers=2) as cluster:
        faults = Faults(cluster, tmp_path, seed=2, report=print, steps=("ingest", "sessionize"))
        faults.undisturbed()
        while faults.tally.total < 3:  # a job may end before its moment comes
            faults.round(kills=3 - faults.tally.total, most_a_step=2)
    assert (faults.tally.half, faults.tally.differing) == ([], [])
