"""Every notebook runs from top to bottom on a small shop, with stand-ins for what Databricks brings, and shows something."""

import re
from pathlib import Path

import matplotlib as mpl
import pytest
from pyspark.sql import SparkSession

from foretaste.notebook import Cell, NotebookError, cells, html, run
from foretaste.settings import load
from foretaste.steps.ingest import ingest
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse
from tests.cluster.clicks import few_clicks

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
CONFIG = str(ROOT / "conf" / "clicks.yaml")


@pytest.fixture(scope="module")
def overrides(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a small shop whose sequences are there."""
    asked = few_clicks(tmp_path_factory.mktemp("shop"))
    settings = load(CONFIG, asked)
    warehouse = Warehouse(spark, settings.warehouse)
    for step in (ingest, sessionize, sequence):
        step(warehouse, settings)
    return asked


def test_notebooks_run_in_turn_and_are_rendered_with_their_pictures(spark: SparkSession, overrides: list[str]) -> None:
    mpl.use("Agg")
    for path in NOTEBOOKS:
        ran = run(path, spark, {"config": CONFIG}, overrides)
        assert all(each.shown for each in ran if each.cell.kind == "sql"), path
        told = [thing["text/html"] for each in ran for thing in each.shown if "text/html" in thing]
        tables = [thing for thing in told if "<table" in thing]
        assert tables
        assert all(re.search(r"<tbody>\s*<tr", table) for table in tables), f"{path}: a table without a row"
        page = html(path.stem, ran)
        pictures = [picture for picture in re.findall(r"<img[^>]*>", page) if 'src="data:image/png;base64,' in picture]
        assert all(re.search(r'alt="Figure: \w[^"]+\."', picture) for picture in pictures), f"{path}: a figure without words"
        assert len(pictures) == len(told) - len(tables)
        assert not re.search(r'src="https?://', page)


def test_a_figure_is_told_in_words(spark: SparkSession, tmp_path: Path) -> None:
    mpl.use("Agg")
    path = tmp_path / "draws.py"
    path.write_text(
        "# Databricks notebook source\nimport matplotlib.pyplot as plt\nfigure, (one, two, _) = plt.subplots(1, 3)\n"
        'one.set(title="a & b", xlabel="hour", ylabel="events")\ntwo.set(ylabel="users")\ndisplay(figure)\n'
    )
    assert 'alt="Figure: a &amp; b, events against hour; users."' in html("draws", run(path, spark, {}))


def test_the_cells_of_a_notebook() -> None:
    text = "# Databricks notebook source\n# MAGIC %md\n# MAGIC # Title\n# MAGIC\n# MAGIC words\n\n# COMMAND ----------\n\nx = 1\n\n"
    text += "# COMMAND ----------\n\n# MAGIC %sql SELECT 1\n# MAGIC FROM t\n"
    assert cells(text) == [
        Cell(kind="markdown", source="# Title\n\nwords"),
        Cell(kind="python", source="x = 1"),
        Cell(kind="sql", source="SELECT 1\nFROM t"),
    ]
    with pytest.raises(NotebookError, match="no notebook in Databricks' source format"):
        cells("x = 1")
    with pytest.raises(NotebookError, match="%sh is Databricks' alone"):
        cells("# Databricks notebook source\n# MAGIC %sh ls")


def test_a_cell_that_fails_is_named(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("# Databricks notebook source\nx = 1\n\n# COMMAND ----------\n\nx / 0\n")
    with pytest.raises(NotebookError, match=r"^cell 2 failed: ZeroDivisionError: division by zero \(.*broken\.py\)"):
        run(path, spark, {})


def test_widgets_have_defaults_and_choices(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "asks.py"
    path.write_text(
        '# Databricks notebook source\ndbutils.widgets.dropdown("fit", "yes", ["yes", "no"], "fit?")\nprint(dbutils.widgets.get("fit"))\n'
    )
    assert [run(path, spark, given)[0].shown for given in ({}, {"fit": "no"})] == [({"text/plain": f"{said}\n"},) for said in ("yes", "no")]
    with pytest.raises(NotebookError, match="'maybe' is no choice"):
        run(path, spark, {"fit": "maybe"})
