"""Notebooks in Databricks' source format: what their cells call, and how they run elsewhere.

On Databricks, `spark`, `dbutils` and `display` are there. Elsewhere `run` stands in for them, in this process:

    foretaste notebooks --config conf/demo.yaml --out dist/notebooks notebooks/*.py      (or `make notebooks`)

runs the notebooks from top to bottom, and writes each with all that it showed as one HTML file.
"""

import base64
import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Literal

from pyspark.sql import DataFrame, SparkSession

from foretaste import settings as settings_module
from foretaste.errors import ForetasteError
from foretaste.session import spark_session
from foretaste.settings import Settings
from foretaste.tables import TABLES, Warehouse
from foretaste.tables.scores import SCORES, publish_flat

MOST_ROWS = 1000
_HEAD = "# Databricks notebook source"
_CELL = re.compile(r"^# COMMAND -+\s*$", re.MULTILINE)
_MAGIC = "# MAGIC"
_PYTHON = {"name": "python", "pygments_lexer": "python3"}  # the default takes IPython


class NotebookError(ForetasteError):
    """A cell that did not run."""


def opened(spark: SparkSession, dbutils: Any) -> tuple[Warehouse, Settings]:
    """The warehouse and the settings that the widgets name: `config`, and `catalog` and `schema` where tables are not kept by path.

    Each table that is there becomes a view of its name, and so does scores_flat: SQL cells read them in a folder as in a catalog.
    """
    catalog, schema = dbutils.widgets.get("catalog"), dbutils.widgets.get("schema")
    overrides = [f"warehouse.catalog={catalog}", f"warehouse.schema={schema}"] if catalog else []
    settings = settings_module.load(dbutils.widgets.get("config"), [*overrides, *getattr(dbutils, "overrides", ())])
    warehouse = Warehouse(spark, settings.warehouse)
    views(warehouse)
    return warehouse, settings


def views(warehouse: Warehouse) -> list[str]:
    """Makes the views anew, of the tables that are there by now; their names."""
    there = [table for table in TABLES.values() if warehouse.exists(table)]
    for table in there:
        warehouse.read(table).createOrReplaceTempView(table.name)
    if SCORES in there:
        publish_flat(warehouse)
    return [table.name for table in there]


@dataclass(frozen=True, kw_only=True)
class Cell:
    kind: Literal["python", "sql", "markdown"]
    source: str


def cells(text: str) -> list[Cell]:
    """The cells of a notebook; NotebookError where it is none."""
    if not text.startswith(_HEAD):
        raise NotebookError("it is no notebook in Databricks' source format", fix=f"Begin it with the line `{_HEAD}`.")
    return [_cell(part.strip("\n")) for part in _CELL.split(text[len(_HEAD) :]) if part.strip()]


def _cell(source: str) -> Cell:
    if not source.startswith(_MAGIC):
        return Cell(kind="python", source=source)
    lines = [line.removeprefix(_MAGIC).removeprefix(" ") for line in source.split("\n")]
    magic, _, rest = lines[0].partition(" ")
    kinds: dict[str, Literal["sql", "markdown"]] = {"%md": "markdown", "%sql": "sql"}
    if magic not in kinds:
        raise NotebookError(f"{magic} is Databricks' alone", fix="Use %md, %sql or Python.")
    return Cell(kind=kinds[magic], source="\n".join([rest, *lines[1:]]).strip())


@dataclass
class _Widgets:
    """dbutils.widgets: given values, else defaults."""

    given: Mapping[str, str]
    known: dict[str, str] = field(default_factory=dict)

    def text(self, name: str, default: str, label: str = "") -> None:
        self.known[name] = self.given.get(name, default)

    def dropdown(self, name: str, default: str, choices: Sequence[str], label: str = "") -> None:
        self.text(name, default, label)
        if self.known[name] not in choices:
            raise NotebookError(f"{self.known[name]!r} is no choice", where=name, fix=f"Use one of {', '.join(choices)}.")

    def get(self, name: str) -> str:
        return self.known[name]


@dataclass
class _DBUtils:
    widgets: _Widgets
    overrides: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A cell, and what it showed: MIME type → content of each thing."""

    cell: Cell
    shown: Sequence[Mapping[str, str]]


def run(path: Path, spark: SparkSession, widgets: Mapping[str, str], overrides: Sequence[str] = ()) -> list[Ran]:
    """Runs a notebook from top to bottom; NotebookError names the cell that failed. overrides: of settings, as --set has them"""
    shown: list[Mapping[str, str]] = []

    def display(thing: Any) -> None:
        shown.append(_told(thing))

    names: dict[str, Any] = {"spark": spark, "dbutils": _DBUtils(_Widgets(widgets), overrides), "display": display, "__name__": path.stem}
    ran = []
    for number, cell in enumerate(cells(path.read_text(encoding="utf-8")), start=1):
        shown.clear()
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                if cell.kind == "sql":
                    display(spark.sql(cell.source.rstrip(";")))
                elif cell.kind == "python":
                    exec(compile(cell.source, f"{path} cell {number}", "exec"), names)
        except ForetasteError:
            raise
        except Exception as error:
            raise NotebookError(
                f"cell {number} failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300],
                where=str(path),
                fix="Run its cells one by one.",
            ) from error
        printed = [{"text/plain": said.getvalue()}] if said.getvalue() else []
        ran.append(Ran(cell=cell, shown=(*printed, *shown)))
    return ran


def _told(thing: Any) -> dict[str, str]:
    """What a thing looks like: a DataFrame's first rows, a figure, else its text."""
    if isinstance(thing, DataFrame):
        thing = thing.limit(MOST_ROWS).toPandas()
    if hasattr(thing, "savefig"):
        picture = io.BytesIO()
        thing.savefig(picture, format="png", bbox_inches="tight", dpi=110)
        data, words = base64.b64encode(picture.getvalue()).decode(), _in_words(thing)
        return {"text/html": f'<img alt="{escape(words)}" src="data:image/png;base64,{data}">', "text/plain": words}
    if hasattr(thing, "to_html"):
        return {"text/html": thing.to_html(index=False, max_rows=50), "text/plain": str(thing)}
    return {"text/plain": str(thing)}


def _in_words(figure: Any) -> str:
    """What a figure's panels show, for who cannot see it: their titles, and what stands at their axes."""
    panels = []
    for axes in figure.axes:
        title, across, up = axes.get_title(), axes.get_xlabel(), axes.get_ylabel()
        against = f"{up} against {across}" if up and across else up or across
        panels += [", ".join(part for part in (title, against) if part)]
    return f"Figure: {'; '.join(panel for panel in panels if panel)}."


def html(title: str, ran: Sequence[Ran]) -> str:
    """One page with the cells and what they showed; pictures inside, and nothing from a network."""
    import nbformat
    from nbconvert import HTMLExporter

    nodes = []
    for each in ran:
        if each.cell.kind == "markdown":
            nodes.append(nbformat.v4.new_markdown_cell(each.cell.source))
            continue
        node = nbformat.v4.new_code_cell(each.cell.source if each.cell.kind == "python" else f"%sql\n{each.cell.source}")
        node.outputs = [nbformat.v4.new_output("display_data", dict(data)) for data in each.shown]
        nodes.append(node)
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=nodes, metadata={"title": title, "language_info": _PYTHON}))
    return re.sub(r'<script[^>]*src="https?://[^>]*>\s*</script>', "", page)  # for formulas and diagrams, of which there are none


def render(paths: Sequence[Path], config: Path, overrides: Sequence[str], out: Path) -> Iterator[Path]:
    """Runs notebooks in turn, and writes what each showed as a page in `out`; the page, as each is there."""
    import matplotlib as mpl

    mpl.use("Agg")
    spark = spark_session(settings_module.load(config, overrides).spark)
    out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        page = out / f"{path.stem}.html"
        page.write_text(html(path.stem, run(path, spark, {"config": str(config)}, overrides)), encoding="utf-8")
        yield page
