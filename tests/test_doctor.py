"""The doctor sees what is there, and what is not, with the way to mend it."""

import importlib.metadata
import os
import socket
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from foretaste import doctor
from foretaste.doctor import Finding, examine
from foretaste.settings import Settings

SHOP = {
    "source": {"columns": {"user_id": "user", "item_id": "item", "event_time": "at"}},
    "sequences": {"length": 4, "horizon": "2d", "valid_from": "8d", "test_from": "4d", "min_item_count": 1},
    "training": {"launcher": "horovodrun", "workers": 2, "threads": 1, "network_interface": "lo"},
}


def settings_of(folder: Path, **changed: object) -> Settings:
    (folder / "events.csv").write_text("user,item,at\n1,a,2024-04-01\n")
    source = {**SHOP["source"], "path": str(folder / "events.csv")}
    return Settings.model_validate({**SHOP, "source": source, "warehouse": {"path": str(folder / "warehouse")}, **changed})


def findings_of(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(settings)}


@pytest.mark.cluster
def test_where_all_is_there_all_is_well(spark: SparkSession, tmp_path: Path) -> None:
    found = findings_of(settings_of(tmp_path))
    assert {name: finding.said for name, finding in found.items() if not finding.ok} == {}
    assert len(found) == 13
    assert found["ranks"].said.startswith(f"2 ranks by horovodrun on {socket.gethostname()} added up")
    assert [path.name for path in (tmp_path / "warehouse").iterdir()] == []


def test_what_is_missing_is_named_with_its_fix(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\" 2024-01-16' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "delta-spark_2.12-2.4.0.jar").touch()
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "18.0" if name == "pyarrow" else real(name))
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        found = findings_of(
            settings_of(
                tmp_path,
                warehouse={"path": "/proc/nowhere"},
                spark={"conf": {"spark.driver.port": str(port)}},
                privacy={"pseudonyms": {"key": "env:NO_SUCH_KEY", "vault": {"path": str(tmp_path / "vault")}}},
            )
        )
    said = {name: finding.said for name, finding in found.items() if finding.ok is False}
    assert said["java"] == f"Spark 3.5 does not run on Java 21 ({java}). {doctor.JAVA}"
    assert said["versions"].startswith("pyarrow ==14.0.2 is wanted, 18.0 is there (the Python environment). Run `make set-up`")
    assert said["jars"].startswith("Delta is delta-spark_2.12-2.4.0.jar, and delta-spark_2.12-3.3.3.jar is wanted")
    assert said["paths"].endswith("(/proc). Make room, or set warehouse.path.")
    assert said["network"].startswith(f"port {port} cannot be had: Address already in use (spark.driver.port)")
    assert said["warehouse"].startswith("the warehouse cannot be reached")
    assert said["pseudonyms"].startswith("there is no key for pseudonyms (privacy.pseudonyms.key: env:NO_SUCH_KEY)")
    assert {name for name, finding in found.items() if finding.ok is None} == {"executors", "tables", "shards", "ranks"}


def test_an_interface_that_there_is_not(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, training={"network_interface": "eth99"})
    with pytest.raises(doctor.DoctorError, match="no network interface 'eth99'") as caught:
        doctor._network(settings)
    assert "lo" in caught.value.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(doctor.DoctorError, match="nothing may be written there"):
        doctor._paths(settings_of(Path("/tmp"), warehouse={"path": str(tmp_path / "warehouse")}))
