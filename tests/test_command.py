"""The command line: a verb a job, errors in one line, and what it shows of a user."""

import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner

from foretaste import command
from foretaste.errors import TableError
from foretaste.job import JOBS
from foretaste.profiles import of_person, of_users, shown
from foretaste.progress import State
from foretaste.settings import Settings
from foretaste.sources.pseudonyms import read_key
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.scores import SCORES
from tests.test_readme import ROOT

AT = "timestamp'2024-03-01 10:00:00'"


def said(*arguments: str) -> tuple[int, str]:
    found = CliRunner(env={"TERM": "dumb", "COLUMNS": "200"}).invoke(command.app, list(arguments))
    return found.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", found.output)


def test_each_job_is_a_verb_and_a_script_of_one_name() -> None:
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "jobs").glob("*.py")}
    assert set(scripts) == {*JOBS, "doctor"} == set(command.VERBS) - {"show", "notebooks"}
    assert [name for name, text in scripts.items() if f'main_of("{name}")' not in text] == []


def test_help_names_every_verb_with_what_it_does() -> None:
    code, text = said("--help")
    assert code == 0
    for name, job in JOBS.items():
        assert re.search(rf"\b{name}\b\W+{re.escape(job.about[:30])}", text), name
    code, text = said("train", "--help")
    assert code == 0
    assert all(option in text for option in ("--config", "--set", "--debug", "FORETASTE_CONFIG"))
    assert said("--version")[1].startswith("foretaste 0.")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("ingest", "--config", "nowhere.yaml"), "there is no such settings file (nowhere.yaml)"),
        (("train", "--config", str(ROOT / "conf/demo.yaml"), "--set", "training.wrokers=2"), "did you mean workers?"),
        (("ingest", "--config", "no[/where].yaml"), "there is no such settings file (no[/where].yaml)"),
        (("show", "somebody", "--config", str(ROOT / "conf/demo.yaml"), "--set", "training"), "an override reads key.sub=value"),
    ],
)
def test_errors_are_one_line_with_the_fix(arguments: tuple[str, ...], line: str) -> None:
    code, text = said(*arguments)
    assert code == 1
    assert line in text
    assert len(text.strip().splitlines()) == 1


def test_a_wheel_task_ends_without_an_exception_unless_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["foretaste", "--version"])
    command.main()
    monkeypatch.setattr("sys.argv", ["foretaste", "nonsense"])
    with pytest.raises(SystemExit, match="2"):
        command.main()


@pytest.fixture
def shop(warehouse: Warehouse) -> Warehouse:
    """Anna bought soap and then bread, and is foretold jam, because of bread; Ben did nothing but view soap."""
    spark = warehouse.spark
    events = f"""SELECT * FROM VALUES
      ('anna', 'soap', 'purchase', {AT}, 1.5, 'home'), ('anna', 'bread', 'purchase', {AT} + INTERVAL 1 DAY, 2.0, 'food'),
      ('ben', 'soap', 'view', {AT}, CAST(NULL AS DOUBLE), 'home') AS (user_id, item_id, event_type, event_time, price, category)"""
    rows = spark.sql(events).selectExpr(
        "*", "null AS session_hint", "1.0 AS quantity", "null AS campaign_id", "'shop' AS source", "uuid() AS event_id", "null AS extra"
    )
    warehouse.append(EVENTS, EVENTS.select(rows))
    warehouse.append(ITEMS, ITEMS.select(spark.createDataFrame([("bread", "Rye bread", "food", None, 2.0)], ITEMS.ddl)))
    targets = """SELECT * FROM VALUES
      (0, array(struct('jam', 0.9D, array('bread')), struct('soap', 0.1D, CAST(array() AS array<string>))), false),
      (1, array(struct('tea', 0.5D, CAST(array() AS array<string>))), false) AS (days, targets, fallback)"""
    scored = spark.sql(targets).selectExpr(
        f"{AT} + make_dt_interval(2 - days) AS as_of", "'interest' AS task", "'anna' AS user_id", "targets", "'interest' AS model",
        "1 AS model_version", "'' AS data_version", "fallback", f"{AT} AS scored_at", "null AS filters",
    )  # fmt: skip
    warehouse.append(SCORES, SCORES.select(scored))
    return warehouse


def test_a_user_is_shown_by_what_was_done_and_what_is_foretold(shop: Warehouse) -> None:
    anna = of_person(shop, Settings(), "anna", events=5, targets=5)
    assert [(event.at, event.kind, event.what, event.price) for event in anna.events] == [
        ("2024-03-02 10:00", "purchase", "Rye bread", 2.0),
        ("2024-03-01 10:00", "purchase", "soap", 1.5),
    ]
    assert [(each.as_of, each.rank, each.target, each.score, list(each.reasons)) for each in anna.foretold] == [
        ("2024-03-03 10:00", 1, "jam", 0.9, ["Rye bread"]),
        ("2024-03-03 10:00", 2, "soap", 0.1, []),
    ]
    assert [grid.row_count for grid in shown(anna)] == [2, 2]
    both = of_users(shop, shop.spark.sql("SELECT * FROM VALUES ('ben'), ('anna') AS (user_id)"), events=1, targets=1)
    assert [(each.user_id, len(each.events), len(each.foretold)) for each in both] == [("anna", 1, 1), ("ben", 1, 0)]
    with pytest.raises(TableError, match="nothing is known of a user of that id") as error:
        of_person(shop, Settings(), "carl", events=5, targets=5)
    assert "carl" not in str(error.value)


def test_a_user_is_found_under_the_pseudonym(shop: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEY", "0123456789abcdefghijklmnopqrstuvwxyz")
    key = read_key(shop.spark, "env:KEY")
    named = shop.read(EVENTS).withColumn("user_id", key.of(F.col("user_id")))
    warehouse = Warehouse(shop.spark, shop.settings.model_copy(update={"path": str(tmp_path / "named")}))
    warehouse.append(EVENTS, EVENTS.select(named))
    settings = Settings.model_validate({"privacy": {"pseudonyms": {"key": "env:KEY", "vault": {"path": str(tmp_path / "vault")}}}})
    found = of_person(warehouse, settings, "anna", events=5, targets=5)
    assert [event.kind for event in found.events] == ["purchase", "purchase"]
    assert found.user_id != "anna"
    assert not (tmp_path / "vault").exists()


def test_how_far_a_step_is(spark: SparkSession) -> None:
    assert State().words(State(), 10) == "working"
    assert State(done=3, tasks=8, rows=9_000).words(State(done=2, tasks=8, rows=4_000), 10) == "3 of 8 tasks, 500 rows/s"
    assert State(done=2, tasks=8).left(10) == 30
    assert State(done=0, tasks=8).left(10) is None
    assert State(done=-1, tasks=3).left(10) is None  # of other stages
