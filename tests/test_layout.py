"""The walls between the parts fall when they are broken, and the tree is as docs/stack.md and setup.py say."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from foretaste.session import DELTA_PACKAGE

ROOT = Path(__file__).parents[1]
CONTRACTS = {contract["id"] for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]}

# Contract → a module, and an import there that the contract must refuse.
VIOLATIONS = {
    "layers": ("session.py", "import foretaste.steps.report"),
    "contract": ("contract.py", "import pandas"),
    "spark-side": ("tables/sessions.py", "import foretaste.models.rnn"),
    "models": ("models/rnn.py", "import foretaste.settings"),
    "tasks": ("tasks/returns.py", "import torch"),
    "task-names": ("tables/sequences.py", "from foretaste.tasks.returns import RETURNS"),
    "petastorm": ("models/rnn.py", "def late() -> None:\n    import petastorm"),
    "horovod": ("training/loop.py", "import horovod.torch"),
    "mlflow": ("steps/train.py", "import mlflow"),
    "no-spark": ("scoring/topk.py", "import pyspark"),
    "entry-points": ("steps/train.py", "import jobs.train"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "lib", folder / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    assert lint(folder).returncode == 0, lint(folder).stdout
    return folder


def lint(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--cache-dir", str(folder / "cache"), *options]
    environment = {**os.environ, "PYTHONPATH": str(folder / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([*command, "pyproject.toml"], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("contract", sorted(CONTRACTS))
def test_each_wall_falls_with_one_import(copy: Path, contract: str) -> None:
    file, line = VIOLATIONS[contract]
    module = copy / "lib/foretaste" / file
    original = module.read_text(encoding="utf-8")
    module.write_text(f"{original}\n{line}\n", encoding="utf-8")
    broken = lint(copy, "--contract", contract)
    module.write_text(original, encoding="utf-8")
    assert broken.returncode == 1
    assert "Contracts: 0 kept, 1 broken." in broken.stdout, broken.stdout + broken.stderr
    assert f"foretaste.{file.removesuffix('.py').replace('/', '.')} -> " in broken.stdout


def test_entry_points_leave_petastorm_horovod_and_mlflow_to_their_modules() -> None:
    imported = {
        (file.name, name.split(".")[0])
        for file in [*(ROOT / "jobs").glob("*.py"), *(ROOT / "notebooks").glob("*.py")]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for name in names(node)
    }
    assert ("pipeline.py", "foretaste") in imported
    assert {pair for pair in imported if pair[1] in ("petastorm", "horovod", "mlflow")} == set()


def names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_jobs_are_thin() -> None:
    lengths = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in (ROOT / "jobs").glob("*.py")}
    assert lengths
    assert {name: length for name, length in lengths.items() if length > 40} == {}


def test_tests_mirror_lib() -> None:
    """tests/<part>/ tests lib/foretaste/<part>/; tests/cluster is for what needs a real cluster."""
    parts = {folder.name for folder in (ROOT / "lib/foretaste").iterdir() if folder.is_dir()}
    tested = {file.relative_to(ROOT / "tests").parts[0] for file in (ROOT / "tests").glob("*/**/test_*.py")}
    assert tested - parts <= {"cluster"}


def locked() -> dict[str, str]:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", lock, re.MULTILINE))


def test_the_lock_is_exact_and_holds_what_setup_py_pins() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.lstrip().startswith("#") and not re.fullmatch(r"[a-z0-9-]+==\S+", line)] == []
    pinned = dict(re.findall(r'"([a-z0-9-]+)==([0-9.]+)"', (ROOT / "setup.py").read_text(encoding="utf-8")))
    assert {"pyspark", "delta-spark", "petastorm", "torch", "horovod"} <= set(pinned)
    assert {name: locked()[name] for name in pinned} == pinned


def test_delta_is_one_version_everywhere() -> None:
    assert f"io.delta:delta-spark_2.12:{locked()['delta-spark']}" == DELTA_PACKAGE


def test_a_package_found_by_setup_py_is_every_folder_of_the_package() -> None:
    folders = {folder.parent for folder in (ROOT / "lib/foretaste").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []
