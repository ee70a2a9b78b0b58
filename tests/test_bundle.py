"""The bundle for Databricks: its schema, and that every path, variable and parameter in it exists. No one here has a workspace for it."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.bundles.jobs import ClusterSpec, Job
from typer.testing import CliRunner

from foretaste import command
from foretaste.settings import load
from tests.test_readme import ROOT

BUNDLE = yaml.safe_load((ROOT / "databricks.yml").read_text(encoding="utf-8"))
RESOURCES = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "resources").glob("*.yml"))}
JOBS: dict[str, Any] = {name: job for file in RESOURCES.values() for name, job in file.get("resources", {}).get("jobs", {}).items()}
VARIABLES = {**BUNDLE["variables"], **{name: each for file in RESOURCES.values() for name, each in file.get("variables", {}).items()}}
TASKS = [(name, task) for name, job in JOBS.items() for task in job["tasks"]]
GIVEN = {"catalog": "main", "schema": "shop", "config": "conf/demo.yaml", "workers": "2"}
FILES = "/Volumes/main/shop/files"


def resolved(text: str) -> str:
    text = text.replace("${workspace.file_path}", str(ROOT))
    return re.sub(r"\$\{var\.(\w+)\}", lambda found: GIVEN[found[1]], text)


def test_jobs_and_clusters_are_as_databricks_takes_them() -> None:
    assert set(JOBS) == {"nightly", "maintenance"}
    for job in JOBS.values():
        Job.from_dict(job)
    for name in ("without_gpu", "with_gpu"):
        ClusterSpec.from_dict(VARIABLES[name]["default"])
    with pytest.raises(Exception, match="tasksk"):
        Job.from_dict({**JOBS["nightly"], "tasksk": []})  # what is no key is found


def test_every_variable_is_declared_and_used() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "databricks.yml", *(ROOT / "resources").glob("*.yml")])
    used = set(re.findall(r"\$\{var\.(\w+)\}", text))
    assert used == set(VARIABLES)
    others = set(re.findall(r"\$\{((?!var\.)[\w.]+)\}", text))
    assert others == {"workspace.file_path", "workspace.current_user.short_name", "bundle.name", "bundle.target"}
    assert {name for name, each in VARIABLES.items() if "default" not in each} == {"catalog", "notify"}  # the deployer's to say


def test_targets() -> None:
    assert {name: target["mode"] for name, target in BUNDLE["targets"].items()} == {"dev": "development", "prod": "production"}
    assert [name for name, target in BUNDLE["targets"].items() if target.get("default")] == ["dev"]
    assert BUNDLE["include"] == ["resources/*.yml"]


def test_every_path_is_there() -> None:
    assert (ROOT / VARIABLES["config"]["default"]).parent.is_dir()
    for name in ("without_gpu", "with_gpu"):
        [script] = VARIABLES[name]["default"]["init_scripts"]
        path = Path(resolved(script["workspace"]["destination"]))
        assert path.is_file()
        assert path.stat().st_mode & stat.S_IXUSR
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.match(r"make (\w+)", BUNDLE["artifacts"]["wheel"]["build"])[1] == "wheel"  # type: ignore[index]
    assert "\nwheel: " in makefile
    assert "runtime.lock" in makefile
    assert BUNDLE["sync"]["include"] == ["dist/runtime.lock"]


@pytest.mark.parametrize(("job", "task"), TASKS, ids=[f"{job}-{task['task_key']}" for job, task in TASKS])
def test_every_task_is_a_verb_with_settings_that_exist(job: str, task: dict[str, Any]) -> None:
    wheel = task["python_wheel_task"]
    assert (wheel["package_name"], wheel["entry_point"]) == ("foretaste", "foretaste")
    verb, *rest = [resolved(each) for each in wheel["parameters"]]
    assert verb in command.VERBS
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    assert set(options) == {"--config", "--set"}
    asked = [value for name, value in zip(rest[::2], rest[1::2], strict=True) if name == "--set"]
    settings = load(options["--config"], asked)
    assert (settings.warehouse.catalog, settings.warehouse.schema_name, settings.warehouse.path) == ("main", "shop", FILES)
    keys = {cluster["job_cluster_key"] for cluster in JOBS[job]["job_clusters"]}
    assert task["job_cluster_key"] in {*keys, "${var.cluster}"}
    assert VARIABLES["cluster"]["default"] in {*keys, "cpu"}
    assert CliRunner().invoke(command.app, [verb, "--help"]).exit_code == 0


def test_the_nightly_job_takes_the_steps_in_their_order_and_tells_of_failures() -> None:
    tasks = JOBS["nightly"]["tasks"]
    assert [task["task_key"] for task in tasks] == ["doctor", "ingest", "sessionize", "sequence", "train", "evaluate", "score", "report"]
    assert [[each["task_key"] for each in task.get("depends_on", [])] for task in tasks[1:]] == [[task["task_key"]] for task in tasks[:-1]]
    assert all(task["max_retries"] >= 1 for task in tasks[1:])
    assert JOBS["nightly"]["email_notifications"]["on_failure"] == ["${var.notify}"]


FAKE = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
*"import horovod.torch"*) [ -f "$LOADS" ] ;;
*"pip wheel"*) for last; do :; done; while [ "$1" != --wheel-dir ]; do shift; done; touch "$2/horovod-0.28.1-cp311.whl" ;;
*"pip install"*horovod-*.whl*) touch "$LOADS" ;;
esac
"""


@pytest.mark.parametrize(("loads", "kept", "builds"), [(True, False, False), (False, False, True), (False, True, False)])
def test_the_init_script_builds_horovod_where_it_must(tmp_path: Path, loads: bool, kept: bool, builds: bool) -> None:
    """Where the runtime's own loads, nothing is built; else it is built once, and taken from where it was kept the next time."""
    python, wheels = tmp_path / "python", tmp_path / "wheels"
    python.write_text(FAKE)
    python.chmod(0o755)
    if loads:
        (tmp_path / "loads").touch()
    if kept:
        wheels.mkdir()
        (wheels / "horovod-0.28.1-cp311.whl").touch()
    environment = {
        "PATH": "/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "LOADS": str(tmp_path / "loads"), "FORETASTE_PYTHON": str(python),
        "FORETASTE_LOCK": str(ROOT / "requirements.lock"), "FORETASTE_WHEELS": str(wheels),
    }  # fmt: skip
    subprocess.run(["bash", str(ROOT / "resources/init.sh")], env=environment, check=True, capture_output=True, timeout=60)
    calls = (tmp_path / "calls").read_text()
    assert ("pip wheel" in calls) == builds
    assert ("--force-reinstall" in calls) == (not loads)
    assert [path.name for path in wheels.glob("*")] == ([] if loads else ["horovod-0.28.1-cp311.whl"])


def test_the_init_script_refuses_another_python_than_the_locks(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(FAKE.replace('case "$*" in', 'case "$*" in\n*"sys.version_info"*) exit 1 ;;'))
    python.chmod(0o755)
    environment = {
        "PATH": "/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "FORETASTE_PYTHON": str(python),
        "FORETASTE_LOCK": str(ROOT / "requirements.lock"), "FORETASTE_WHEELS": str(tmp_path / "wheels"),
    }  # fmt: skip
    ended = subprocess.run(["bash", str(ROOT / "resources/init.sh")], env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("foretaste: the lock is for Python 3.11")
    assert "pip" not in (tmp_path / "calls").read_text()


@pytest.mark.parametrize(("kind", "asks"), [("runtime", False), ("", True)])
def test_the_wheel_for_a_runtime_asks_for_nothing_that_the_runtime_has(tmp_path: Path, kind: str, asks: bool) -> None:
    """pip on the cluster would put another Spark beside the runtime's."""
    command_line = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command_line, cwd=ROOT, env={**os.environ, "FORETASTE_WHEEL": kind}, check=True, capture_output=True, timeout=60)
    required = (tmp_path / "foretaste.egg-info/requires.txt").read_text(encoding="utf-8").split("[")[0]
    assert ("pyspark==" in required) == asks
    assert (required.strip() != "") == asks
