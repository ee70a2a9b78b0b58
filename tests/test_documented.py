"""Every command in the docs, as written but on little data: FORETASTE_DOCS=1 pytest tests/test_documented.py

Deployments become smaller ones of the same names, paths of data become made-up files, numbers become small. LEFT_OUT says what is left out,
and why. Commands follow one another in a warehouse, as a reader's do, so that later ones need the earlier. On 2 cores that were busy with
other things, too, it took 1 h 47 min; the packed environment is 5 GB, which two workers unpack. tests/test_docs.py, which is part of every
run, has the short version: the tutorial.
"""

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.clicks import rows_of, write_clicks
from tests.cluster.cluster import standalone_cluster
from tests.test_docs import ALL, ROOT
from tests.test_readme import README

LEFT_OUT = {
    r"make (test|test-fast|lint)\b": "it is what runs this",
    r"databricks ": "needs a workspace",
    r".*--recbole ": "needs an environment of its own, with RecBole",
}
SMALLER = (
    (r"^make (demo|notebooks)\b", r"make \1 CONFIG=conf/demo.yaml DIST={dist}"),
    (r"^make (package|wheel)\b", r"make \1 DIST={dist}"),
    (r"\bdist/", "{dist}/"),
    (r"path/to/clicks\.txt", "{data}/clicks.txt"),
    (r"path/to/yoochoose/\*\.txt|/data/yoochoose/\*\.txt", "{data}/clicks.txt"),
    (r"/data/beauty/Beauty\.txt", "{data}/lines.txt"),
    (r"\bleavers\.txt", "{data}/leavers.txt"),
    (r"--warehouse warehouse/use_cases", "--warehouse {data}/warehouse/demo"),
    (r"conf/(\w+)\.yaml", r"{data}/conf/\1.yaml"),
    (r"spark://HOST:7077", "{master}"),
    (r"(jobs/train\.py .*|jobs/pipeline\.py .*)training\.workers=2", r"\1training.workers=2 --set training.launcher=spark"),
    (r"show 1228", "show {household}"),
    (r"--events \d+", "--events 30000"),
    (r"--rounds \d+", "--rounds 1"),
    (r"--users 200000 --fewer 100000", "--users 500 --fewer 250"),
    (r"--users 1000\b", "--users 20"),
    (r"--items \d+", "--items 3000"),
    (r"--steps \d+", "--steps 3"),
    (r"--sizes [\d,]+", "--sizes 20000,30000"),
    (r"--households \d+ --epochs \d+", "--households 60 --epochs 1"),
    (r"synthesis\.rows=5000", "synthesis.rows=200"),
    (r"synthesis\.report=3000", "synthesis.report=200"),
    (r"trials: 8", "trials: 2"),
    (r"(bench/feed\.py)", r"\1 --rows 20000"),
    (r"(bench/seeds\.py)", r"\1 --seeds 1"),
    (r"(bench/retrieval\.py)", r"\1 --asked 200 --groups 8"),
    (r"(bench/synthesis\.py)", r"\1 --rows 300"),
    (r"(bench/augmentation\.py)", r"\1 --users all --ways gan"),
    (r"(bench/communication\.py)", r"\1 --rounds 3 --steps gru-base:100"),
)

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not os.environ.get("FORETASTE_DOCS"), reason="long: FORETASTE_DOCS=1 runs every command of the docs"),
]


def smaller(deployment: dict[str, Any], name: str, data: Path) -> dict[str, Any]:
    """The deployment with little data and less training."""
    found = dict(deployment)
    found["warehouse"] = {"path": str(data / "warehouse" / name)}
    source = dict(found["source"])
    if source["kind"] == "completejourney":
        source["households"] = 150
        found["sequences"] = {**found["sequences"], "min_item_count": 5}
        if "series" in found:
            found["series"] = {**found["series"], "min_units": 50}
    if source["kind"] == "files":
        source["path"] = str(data / {"shop": "shop.csv", "beauty": "lines.txt"}.get(name, "clicks.txt"))
        if found["sequences"].get("protocol") == "session_next_item":  # the clicks are of the first five days of April
            found["sequences"] = {**found["sequences"], "valid_from": "2014-04-04T00:00:00Z", "test_from": "2014-04-05T00:00:00Z"}
    found["source"] = source
    for task in found["tasks"].values():
        if "name" in task.get("model", {}) or "model" not in task:
            task["fit"] = {**task.get("fit", {}), "epochs": 1, "max_steps": 5}
        if task.get("blend"):
            task["blend"] = {**task["blend"], "fit": {**task["blend"].get("fit", {}), "epochs": 1}}
    found["training"] = {**found.get("training", {}), "launcher": "single", "workers": 1}
    found["evaluation"] = {**found.get("evaluation", {}), "baselines": ["popularity"], "bootstrap": 10}
    if "synthesis" in found:
        found["synthesis"] = {**found["synthesis"], "rows": 300}
    return found


def made_shop(file: Path) -> None:
    """What the README's conf/shop.yaml reads: a shop's export of three months, with a few lines at fault."""
    choose = random.Random(1)
    lines = ["customer,sku,action,at,unit_price,device_type"]
    for customer in range(200):
        for _ in range(choose.randint(3, 40)):
            at = f"2026-{choose.randint(7, 9):02}-{choose.randint(1, 28):02} {choose.randint(8, 21):02}:{choose.randint(0, 59):02}:00"
            sku = f"sku-{min(choose.randint(0, 80), choose.randint(0, 80))}"
            lines.append(
                f"customer-{customer},{sku},{choose.choice(['click', 'click', 'add', 'order'])},{at},{choose.randint(1, 90)}.5,phone"
            )
    lines += ["customer-1,sku-1,click,yesterday,1.0,phone", ",sku-1,click,2026-07-01 10:00:00,1.0,phone"]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Place:
    """Where the commands find what they name."""

    data: Path
    master: str

    def command(self, line: str) -> str:
        for pattern, by in SMALLER:
            line = re.sub(pattern, by, line)
        return line.replace("{data}", str(self.data)).replace("{dist}", str(self.data / "dist")).replace("{master}", self.master)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    data = Path(os.environ.get("FORETASTE_DOCS_IN") or tmp_path_factory.mktemp("docs"))
    (data / "conf").mkdir(exist_ok=True)
    write_clicks(data / "clicks.txt", 400)
    choose = random.Random(1)
    (data / "lines.txt").write_text("".join(f"{user} {' '.join(str(choose.randint(1, 60)) for _ in range(8))}\n" for user in range(1, 300)))
    made_shop(data / "shop.csv")
    (data / "leavers.txt").write_text("customer-1\ncustomer-2\n")
    shop = re.search(r"```yaml\n# conf/shop\.yaml\n(.*?)```", README, re.S)
    assert shop
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "conf").glob("*.yaml")} | {"shop": shop[1]}
    for name, text in texts.items():
        (data / "conf" / f"{name}.yaml").write_text(yaml.safe_dump(smaller(yaml.safe_load(text), name, data)), encoding="utf-8")
    with standalone_cluster(2, cores=2, memory="5g") as cluster:
        yield Place(data, cluster.url)


def household(place: Place) -> str:
    """1228 is none of those that are left: one that is."""
    return str(rows_of(place.data / "warehouse/demo/events")["user_id"][0])


@pytest.mark.parametrize(("page", "line"), ALL, ids=[f"{page.stem}-{number}" for number, (page, _) in enumerate(ALL)])
def test_the_command_runs(place: Place, page: Path, line: str) -> None:
    for pattern, why in LEFT_OUT.items():
        if re.match(pattern, line):
            pytest.skip(why)
    command = place.command(line)
    if "{household}" in command:
        command = command.replace("{household}", household(place))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FORETASTE_CONFIG": str(place.data / "conf/demo.yaml"),
        "PYTHONPATH": str(ROOT / "lib"),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    ran = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=1200, check=False)
    assert ran.returncode == 0, f"{command}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
