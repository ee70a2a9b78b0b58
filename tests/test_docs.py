"""Every command in the docs: the tutorial's are run, on a small part of the demo's data; of the others all that they name must exist."""

import os
import re
import shlex
import subprocess
from itertools import dropwhile, pairwise
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from foretaste import command
from foretaste.reference import reference
from foretaste.settings import load
from foretaste.sources.judge import REASONS
from tests.test_readme import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OTHERS = {".", "export", "pytest", "spark-sql", "databricks", "mlflow"}
"""Commands that are not ours; which of their arguments are, is seen to elsewhere."""

SMALL = [
    "source.households=60",
    "sequences.min_item_count=5",
    "tasks.interest.fit.epochs=1",
    "tasks.interest.fit.max_steps=5",
    "tasks.interest.blend.fit.epochs=1",
    "tasks.returns.fit.epochs=1",
    "tasks.returns.fit.max_steps=5",
    "training.launcher=single",
    "training.workers=1",
    "evaluation.baselines=[popularity]",
    "evaluation.bootstrap=10",
]


def commands(page: Path) -> list[str]:
    """The lines of its blocks of sh, without comments; continued lines are one."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


ALL = [(page, line) for page in PAGES for line in commands(page)]


def test_the_reference_is_that_of_the_code() -> None:
    assert reference() == (ROOT / "docs/reference.md").read_text(encoding="utf-8"), "run `make reference`"


@pytest.mark.parametrize(("page", "line"), ALL, ids=[f"{page.name}-{place}" for place, (page, _) in enumerate(ALL)])
def test_what_a_command_names_exists(page: Path, line: str) -> None:
    words = list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), shlex.split(re.sub(r"\s#\s.*", "", line))))
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True, timeout=60)
        return
    scripts = [word for word in words if re.fullmatch(r"(jobs|bench|tests|notebooks)/[\w/.*]+\.py", word)]
    assert [word for word in scripts if not list(ROOT.glob(word))] == []
    modules = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "-m" and words[place + 1] != "pytest"]
    assert [name for name in modules if not any((ROOT / base / f"{name.replace('.', '/')}.py").is_file() for base in ("", "lib"))] == []
    verb = words[1] if words[0] == "foretaste" else next((Path(word).stem for word in scripts if word.startswith("jobs/")), None)
    assert verb or scripts or modules or words[0] in OTHERS, f"nothing knows how to check `{line}` of {page.name}"
    if verb:
        assert verb in command.VERBS
        options = [(name, value) for name, value in pairwise(words) if name in ("--config", "--set")]
        config = next((value for name, value in options if name == "--config"), "conf/demo.yaml")
        if config != "conf/shop.yaml":  # the reader's own
            load(ROOT / config, [value for name, value in options if name == "--set" and value != "key.sub=value"])


def test_the_reasons_for_quarantine_that_are_explained_exist() -> None:
    table = (ROOT / "docs/howto/own_data.md").read_text(encoding="utf-8")
    told = re.findall(r"^ *\| `(\w+)` \|", table, re.M)
    assert len(told) == 4
    assert set(told) <= set(REASONS)


def test_every_link_leads_somewhere() -> None:
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))]
    assert links
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_the_tutorial_runs(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, in its order, but on sixty households and with little training."""
    page = ROOT / "docs/tutorial.md"
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FORETASTE_CONFIG", "conf/demo.yaml")
    ran = []
    for line in commands(page):
        words = shlex.split(line)
        if words[0] in (".", "export"):
            continue
        verb, *rest = ["pipeline"] if words == ["make", "demo"] else words[1:]
        rest = [next_household(tmp_path, spark) if word == "1228" else word for word in rest]
        sets = [part for setting in [f"warehouse.path={tmp_path}", *SMALL] for part in ("--set", setting)]
        found = CliRunner(env={"COLUMNS": "200"}).invoke(command.app, [verb, *sets, *rest])
        assert found.exit_code == 0, f"{line}: {found.output}"
        ran.append(verb)
    assert ran == ["pipeline", "show", "score", "show", "report", "sequence", "train", "evaluate", "report"]
    page_made = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "because of" in page_made
    assert os.path.isdir(tmp_path / "models/interest/2")


def next_household(warehouse: Path, spark: SparkSession) -> str:
    """1228 is none of the sixty: one that is."""
    return str(spark.read.format("delta").load(str(warehouse / "events")).agg({"user_id": "min"}).head()[0])  # type: ignore[index]
