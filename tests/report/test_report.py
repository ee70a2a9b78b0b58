"""The report: what it tells of a small shop, and that a browser shows it whole, on a desk and on a phone, without a network."""

import html.parser
import json
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from foretaste.evaluation.classification import Binary, LabelledRows
from foretaste.report import charts, report
from foretaste.settings import Settings, load
from foretaste.steps.evaluate import evaluate
from foretaste.steps.ingest import ingest
from foretaste.steps.score import score
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.metrics import METRICS
from tests.cluster.clicks import few_clicks
from tests.test_readme import ROOT

PAGE, FIGURES = "report.html", "report.json"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, Settings]:
    """A small shop of clicks, from raw files to scores."""
    asked = few_clicks(tmp_path_factory.mktemp("shop"), "scoring.reasons={named: 1, tried: 2, targets: 1}", "report.users=3")
    settings = load(ROOT / "conf/clicks.yaml", asked)
    warehouse = Warehouse(spark, settings.warehouse)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", "off")
        for step in (ingest, sessionize, sequence, train, evaluate, score):
            step(warehouse, settings)
    return warehouse, settings


class Tags(html.parser.HTMLParser):
    """Fails where a tag is closed that is not open."""

    open_ones: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.open_ones = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "br", "img"):
            self.open_ones.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_ones.pop() == tag


def test_one_page_tells_of_all_and_asks_nobody(shop: tuple[Warehouse, Settings]) -> None:
    warehouse, settings = shop
    told = report(warehouse, settings)
    assert told.notes[0].startswith(f"{warehouse.path}/{PAGE}")
    page = Path(warehouse.path, PAGE).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.open_ones == []
    assert re.findall(r"""(?:src|href)=["'](?!#)[^"']*""", re.sub(r'xlink:href="#[^"]*"', "", page)) == []
    assert "<script" not in page
    assert [
        name for name in ("Data", "Sessions", "Models", "What they are worth", "What changed", "3 users") if f">{name}</h2>" not in page
    ] == []
    pictures = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(pictures) == page.count("<svg") == 1 + 2 + 1 + 1  # days, lengths and visits, learning, recall
    events = warehouse.read(EVENTS).count()
    assert f"<b>{events:,}</b>events" in page
    [recall] = warehouse.read(METRICS).where("metric = 'recall@20' AND model = 'interest' AND segment = 'all' AND split = 'test'").collect()
    assert f"{recall.value:.4f}<small>[{recall.low:.4f}, {recall.high:.4f}]</small>" in page
    assert "This is the first report here" in page


def test_the_next_report_says_what_changed(shop: tuple[Warehouse, Settings]) -> None:
    warehouse, settings = shop
    report(warehouse, settings)
    figures = Path(warehouse.path, FIGURES)
    before = json.loads(figures.read_text())
    before["rows"]["events"] -= 7
    figures.write_text(json.dumps(before))
    report(warehouse, settings)
    page = Path(warehouse.path, PAGE).read_text(encoding="utf-8")
    assert f"Since the last report, {before['made_at']}." in page
    assert re.search(r"<td>events</td><td class=\"n\">[\d,]+</td><td class=\"n\">\+7</td>", page)


def test_an_empty_warehouse_has_a_report_too(warehouse: Warehouse) -> None:
    told = report(warehouse, Settings())
    assert told.notes[1] == "left out, since nothing is there yet: events, sessions, metrics, scores"
    assert "No model was trained yet." in Path(warehouse.path, PAGE).read_text(encoding="utf-8")


def test_names_are_no_html(warehouse: Warehouse) -> None:
    rows = warehouse.spark.sql(
        "SELECT 'u' AS user_id, '<script>alert(1)</script>' AS item_id, 'view' AS event_type, timestamp'2024-01-01' AS event_time, "
        "null AS session_hint, 1.0 AS price, 1.0 AS quantity, null AS category, null AS campaign_id, '<b>' AS source, 'e' AS event_id, "
        "null AS extra"
    )
    warehouse.append(EVENTS, EVENTS.select(rows))
    report(warehouse, Settings.model_validate({"source": {"name": "<i>shop</i>"}}))
    page = Path(warehouse.path, PAGE).read_text(encoding="utf-8")
    assert "&lt;i&gt;shop&lt;/i&gt;" in page
    assert "<script" not in page
    assert "<i>shop" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_it_whole(shop: tuple[Warehouse, Settings], tmp_path: Path, width: int) -> None:
    """No part of the page is wider than the window: only tables scroll, within themselves."""
    warehouse, settings = shop
    report(warehouse, settings)
    page = Path(warehouse.path, PAGE).read_text(encoding="utf-8")
    sizes = "[document.documentElement.scrollWidth, innerWidth, document.querySelectorAll('svg').length]"
    probe = f"<script>document.title = JSON.stringify({sizes})</script>"
    frame = tmp_path / "page.html"
    frame.write_text(page.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    # A window is 500 wide at least; inside a frame the page is as narrow as on a phone.
    outer = tmp_path / "outer.html"
    outer.write_text(
        f"<iframe id=f src=page.html style='width:{width}px;height:3000px;border:0'></iframe>"
        "<script>f.onload = () => document.body.append(f.contentDocument.title)</script>"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", f"--user-data-dir={tmp_path}/profile"]
    assert CHROMIUM
    found = subprocess.run(
        [CHROMIUM, *options, "--virtual-time-budget=5000", "--dump-dom", outer.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    [measured] = re.findall(r"\[(\d+),(\d+),(\d+)\]", found.stdout)
    scrolled, inner, pictures = map(int, measured)
    assert inner == width
    assert scrolled <= width
    assert pictures == page.count("<svg")
    picture = tmp_path / "page.png"
    window = f"--window-size={max(width, 500)},2400"
    subprocess.run([CHROMIUM, *options, window, f"--screenshot={picture}", frame.as_uri()], capture_output=True, timeout=120, check=True)
    assert picture.stat().st_size > 20_000  # an empty page has some 10,000 bytes


def test_points_of_curves_by_hand() -> None:
    """Twenty rows, two a tenth: the best tenth holds both of the three positives that score highest."""
    judge = Binary(label="returns")
    logit = np.linspace(3, -3, 20)
    label = np.array([1, 1, 0, 1, *[0] * 16])
    sums = np.zeros((judge.num_sums, 1))
    LabelledRows(logit=logit, label=label, probability=1 / (1 + np.exp(-logit))).add(sums, np.ones((20, 1)))
    found = {name: value[0] for name, value in judge.metrics(sums).items()}
    assert [found[f"observed in tenth {n}"] for n in (1, 2, 3)] == pytest.approx([1, 0.5, 0])
    assert [found[f"found to tenth {n}"] for n in (1, 2, 10)] == pytest.approx([2 / 3, 1, 1])
    assert found["predicted in tenth 1"] == pytest.approx((1 / (1 + np.exp(-logit[:2]))).mean(), abs=0.002)
    assert found["predicted in tenth 10"] == pytest.approx((1 / (1 + np.exp(-logit[-2:]))).mean(), abs=0.002)


def test_pictures_have_words_and_take_any_name() -> None:
    curves = pd.DataFrame(
        [(f"{name} {n}", n / 10) for n in range(1, 11) for name in ("predicted in tenth", "observed in tenth", "found to tenth")],
        columns=["metric", "value"],
    )
    assert 'aria-label="Among the best tenth 10% of the positives' in charts.gains(curves)
    assert 'role="img"' in charts.calibration(curves)
    days = [datetime(2024, 1, day).date() for day in (1, 2)]
    quantiles = [[{"level": 0.1, "units": 1.0}, {"level": 0.9, "units": 5.0}]] * 2
    foretold = pd.DataFrame({"day": days, "mean": [2.0, 3.0], "quantiles": quantiles})
    past = pd.DataFrame({"day": [datetime(2023, 12, 30).date()], "units": [4.0]})
    assert 'aria-label="Demand for a $5 &lt;b&gt; $x: 5 units foretold over 2 days"' in charts.fan("a $5 <b> $x", past, foretold)
