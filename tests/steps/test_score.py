"""sessions and stored models → scores, on a shop of five users that a reader can follow."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.errors import ModelError, SettingsError, TableError
from foretaste.settings import ScoringSettings, Settings, ShortlistSettings, WarehouseSettings
from foretaste.steps import shortlists
from foretaste.steps.score import score
from foretaste.tables import Warehouse
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.scores import SCORES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY
from tests.scoring.stored import batch, session, store, vocabulary

COUNTS = {"milk": 50, "bread": 30, "eggs": 15, "salt": 5}
FIRST = datetime(2024, 3, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
TOP_K = 3
BASE_RATE = 0.3
FIRST_RUN = FIRST + 10 * HOUR  # its as_of; a test adds a later one


def settings(**scoring: Any) -> Settings:
    sequences = {"length": 6, "event_types": ["view", "purchase"]}
    return Settings.model_validate(
        {"sequences": sequences, "tasks": {"interest": {}, "returns": {}}, "scoring": {"top_k": TOP_K, "batch_size": 2, **scoring}}
    )


def shop(spark: SparkSession, path: Path) -> Warehouse:
    """Five users, two models, and a vocabulary table that was fitted anew, in another order, after the models learnt."""
    warehouse = Warehouse(spark, WarehouseSettings(path=str(path)))
    rows = [
        session("ann", (FIRST, "milk", "view"), (FIRST + HOUR, "eggs", "purchase")),
        session("ann", (FIRST + 5 * HOUR, "bread", "view")),
        session("bob", (FIRST, "salt", "view"), (FIRST + HOUR, "caviar", "view")),
        session("cat", (FIRST + HOUR, "caviar", "view")),  # nothing the model knows
        session("dan", (FIRST + 2 * HOUR, "milk", "search")),  # a type that enters no sequence
        session("eve", (FIRST + 24 * HOUR, "milk", "view")),  # comes a day later
    ]
    warehouse.overwrite(SESSIONS, spark.createDataFrame(rows, SESSIONS.ddl))
    anew = vocabulary(dict(reversed(COUNTS.items())))
    warehouse.overwrite(VOCABULARY, spark.createDataFrame(anew, VOCABULARY.ddl))
    store(Path(warehouse.path), COUNTS)
    store(Path(warehouse.path), COUNTS, task="returns", calibration={"slope": 0.5, "intercept": -1.0}, base_rate=BASE_RATE)
    return warehouse


@pytest.fixture(scope="module")
def scored(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    warehouse = shop(spark, tmp_path_factory.mktemp("shop") / "warehouse")
    report = score(warehouse, settings(as_of=FIRST_RUN))
    assert report.written == {"scores of interest": 4, "scores of returns": 4}
    assert any("interest: 4 users by interest version 1 (gru), 2 of them without usable history" in note for note in report.notes)
    return warehouse


def first_run(warehouse: Warehouse) -> DataFrame:
    return warehouse.read(SCORES).where(F.unix_seconds("as_of") == int(FIRST_RUN.timestamp()))


def targets(warehouse: Warehouse, task: str) -> dict[str, list[tuple[str, float]]]:
    rows = first_run(warehouse).where(F.col("task") == task).collect()
    assert len({row.user_id for row in rows}) == len(rows), "a user is there twice"
    return {row.user_id: [(target.target_id, target.score) for target in row.targets] for row in rows}


def test_every_user_with_an_event_by_then_is_there_once_and_nobody_else(scored: Warehouse) -> None:
    for task in ("interest", "returns"):
        assert set(targets(scored, task)) == {"ann", "bob", "cat", "dan"}


def test_scores_are_the_networks_own_in_the_ids_of_the_vocabulary_it_learnt_with(scored: Warehouse) -> None:
    stored = registry.load(scored.path, "interest", 1)
    # milk 2, bread 3, eggs 4, salt 5, unknown 1; the vocabulary table now numbers them the other way round
    histories = batch([[0, 0, 0, 2, 4, 3], [0, 0, 0, 0, 5, 1]])
    best = stored.network().score(histories.map(torch.tensor)).double().softmax(1).topk(TOP_K)
    ids = [None, None, *COUNTS]
    found = targets(scored, "interest")
    for user, indices, values in zip(("ann", "bob"), best.indices.tolist(), best.values.tolist(), strict=True):
        assert [target for target, _ in found[user]] == [ids[index] for index in indices]
        assert [value for _, value in found[user]] == pytest.approx(values, abs=1e-6)


def test_users_without_a_known_item_get_popularity_and_the_base_rate_and_are_marked(scored: Warehouse) -> None:
    popular = [("milk", 0.5), ("bread", 0.3), ("eggs", 0.15)]
    interest, returns = targets(scored, "interest"), targets(scored, "returns")
    assert interest["cat"] == interest["dan"] == popular
    assert returns["cat"] == returns["dan"] == [("returns", BASE_RATE)]
    marked = first_run(scored).where("fallback").select("task", "user_id").collect()
    assert {(row.task, row.user_id) for row in marked} == {(task, user) for task in ("interest", "returns") for user in ("cat", "dan")}


def test_a_run_says_when_and_from_what_it_was_made(scored: Warehouse) -> None:
    said = first_run(scored).select("model", "model_version", "data_version").distinct().collect()
    assert sorted(tuple(row) for row in said) == [
        (task, 1, f"sessions@{scored.version(SESSIONS)} vocabulary@0") for task in ("interest", "returns")
    ]


def test_scores_flat_can_be_queried(scored: Warehouse) -> None:
    rows = scored.spark.sql(
        "SELECT target_id, score FROM scores_flat WHERE task = 'interest' AND user_id = 'cat' ORDER BY as_of, rank"
    ).collect()
    assert [(row.target_id, row.score) for row in rows[:3]] == [("milk", 0.5), ("bread", 0.3), ("eggs", 0.15)]


def runs(warehouse: Warehouse) -> dict[tuple[str, int], tuple[int, datetime]]:
    """(task, as_of) → users, and when it was written."""
    grouped = warehouse.read(SCORES).groupBy("task", F.unix_seconds("as_of").alias("as_of"))
    rows = grouped.agg(F.count("*").alias("users"), F.max("scored_at").alias("at")).collect()
    return {(row.task, row.as_of): (row.users, row["at"]) for row in rows}


def test_reruns_replace_their_own_run_whole_under_the_eyes_of_a_reader(scored: Warehouse) -> None:
    warehouse = scored
    score(warehouse, settings())  # as of the last event: eve is there too
    before = runs(warehouse)
    last = int((FIRST + 24 * HOUR).timestamp())
    assert sorted(users for users, _ in before.values()) == [4, 4, 5, 5]

    seen: list[tuple[int, int]] = []
    written = threading.Event()

    def read() -> None:
        while not written.is_set():
            run = warehouse.read(SCORES).where((F.col("task") == "interest") & (F.unix_seconds("as_of") == last))
            seen.append(tuple(run.agg(F.count("*"), F.count_distinct("scored_at")).head()))  # type: ignore[arg-type]

    reader = threading.Thread(target=read)
    reader.start()
    try:
        store(Path(warehouse.path), COUNTS, seed=1)  # a new version of one model
        score(warehouse, settings())
    finally:
        written.set()
        reader.join()
    assert set(seen) == {(5, 1)}, "a reader saw a part of a run, or of two"

    after = runs(warehouse)
    replaced = {key for key in before if after[key] != before[key]}
    assert replaced == {("interest", last), ("returns", last)}
    assert after[("interest", last)][0] == 5
    versions = warehouse.read(SCORES).select("task", F.unix_seconds("as_of"), "model_version").distinct().collect()
    assert sorted(row.model_version for row in versions) == [1, 1, 1, 2]


def test_each_user_is_told_of_each_campaign_that_is_not_over(spark: SparkSession, tmp_path: Path) -> None:
    """One is over, one runs and one is yet to start; whoever is of interest for them is named once, with the better one first."""
    warehouse = shop(spark, tmp_path / "warehouse")
    store(Path(warehouse.path), COUNTS, task="campaign", calibration={"slope": 1.0, "intercept": 0.0}, base_rate=0.1)
    wanted = settings(as_of=FIRST_RUN).model_copy(update={"tasks": {"campaign": settings().tasks["interest"]}})
    with pytest.raises(SettingsError, match="no campaign runs at 2024-03-01 20:00 or later"):
        score(warehouse, wanted)
    days = {"spring": (-9, -1), "summer": (-1, 9), "autumn": (90, 99)}
    rows = [(name, "app", FIRST + timedelta(days=start), FIRST + timedelta(days=end), ["milk"]) for name, (start, end) in days.items()]
    warehouse.overwrite(CAMPAIGNS, spark.createDataFrame(rows, CAMPAIGNS.ddl))
    assert score(warehouse, wanted).written == {"scores of campaign": 4}
    found = targets(warehouse, "campaign")
    assert set(found) == {"ann", "bob", "cat", "dan"}
    for user, told in found.items():
        assert {name for name, _ in told} == {"summer", "autumn"}
        assert told[0][1] >= told[1][1]
        assert (told[0][1] == 0.1) is (user in ("cat", "dan"))  # the base rate, for want of history

    one = wanted.model_copy(update={"scoring": wanted.scoring.model_copy(update={"campaigns": ("spring",)})})
    score(warehouse, one)
    assert {name for told in targets(warehouse, "campaign").values() for name, _ in told} == {"spring"}
    none = wanted.model_copy(update={"scoring": wanted.scoring.model_copy(update={"campaigns": ("winter",)})})
    with pytest.raises(SettingsError, match=r"there is no campaign winter \(scoring.campaigns\)"):
        score(warehouse, none)


def test_a_part_of_the_catalogue_is_scored_where_that_is_asked_for_and_pays(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(spark, WarehouseSettings(path=str(tmp_path / "warehouse")))
    counts = {f"item {number}": 200 - number for number in range(200)}
    rows = [session(f"user {number}", (FIRST, f"item {number % 200}", "view")) for number in range(400)]
    warehouse.overwrite(SESSIONS, spark.createDataFrame(rows, SESSIONS.ddl))
    store(Path(warehouse.path), counts)

    def found(**lists: Any) -> tuple[dict[str, list[str]], str]:
        asked = {"shortlists": {"groups": 40, **lists}} if lists else {}
        wanted = Settings.model_validate(
            {"sequences": {"length": 6}, "tasks": {"interest": {}}, "scoring": {"top_k": TOP_K, "as_of": FIRST_RUN, **asked}}
        )
        report = score(warehouse, wanted)
        return {user: [target for target, _ in told] for user, told in targets(warehouse, "interest").items()}, " ".join(report.notes)

    exact, _ = found()
    blend = replace(registry.load(warehouse.path, "interest"), model={"name": "blend"})
    with pytest.raises(SettingsError, match=r"interest is blend, which has no item vectors to list by \(scoring.shortlists\)"):
        shortlists.check(ScoringSettings(shortlists=ShortlistSettings()), [blend])
    with monkeypatch.context() as without:
        without.setattr("foretaste.steps.shortlists.find_spec", lambda _: None)
        with pytest.raises(SettingsError, match=r"faiss.* is not installed \(scoring.shortlists\)"):
            found(recall=0.9)
    few, note = found(recall=0.9)
    assert "the whole catalogue is scored: 400 users with history are too few" in note
    assert few == exact
    monkeypatch.setattr("foretaste.steps.shortlists.LEAST_USERS", 1)
    listed, note = found(recall=0.9)
    assert "of 202 items for 40 groups of users" in note
    same = [len(set(listed[user]) & set(exact[user])) / TOP_K for user in exact]
    assert sum(same) / len(same) > 0.85
    assert not list(Path(warehouse.path, "shortlists").iterdir()), "the file is there only while users are scored"


def test_without_a_model_or_a_session_or_a_task_nothing_is_written(warehouse: Warehouse) -> None:
    with pytest.raises(ModelError, match="no model 'interest'"):
        score(warehouse, settings())
    with pytest.raises(SettingsError, match="no task"):
        score(warehouse, Settings())
    store(Path(warehouse.path), COUNTS)
    store(Path(warehouse.path), COUNTS, task="returns", base_rate=0.5, calibration={"slope": 1.0, "intercept": 0.0})
    with pytest.raises(TableError, match="sessions"):
        score(warehouse, settings())
    warehouse.create(SESSIONS)
    with pytest.raises(TableError, match="no session"):
        score(warehouse, settings())
    assert not warehouse.exists(SCORES)
