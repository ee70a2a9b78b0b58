"""new_item on a toy shop: half of the users drink tea, half eat jam; each week something new of both kinds is launched."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.errors import SettingsError
from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps.evaluate import evaluate
from foretaste.steps.launches import launches
from foretaste.steps.report import StepReport
from foretaste.steps.score import score
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.steps.train import train
from foretaste.tables import Warehouse, events
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.metrics import METRICS
from foretaste.tables.scores import SCORES
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
NUM_USERS, NUM_WEEKS = 40, 13
LAUNCHED = (7, 8, 10, 11)
"""Weeks in which something new comes: validation time begins with week 7, test time with week 9."""
MODEL = {"name": "gru", "embedding": 16, "hidden": [16], "dropout": 0.0, "content": True}
FIT = {"epochs": 20, "batch_size": 16, "learning_rate": 0.02}


def settings(**changes: Any) -> Settings:
    return Settings.model_validate(
        {
            "sequences": {
                "length": 12, "horizon": "7d", "every": "7d", "min_item_count": 1, "rows_per_group": 16,
                "event_types": ["purchase", "view"],
                "valid_from": MONDAY + timedelta(weeks=7), "test_from": MONDAY + timedelta(weeks=9), "until": MONDAY + timedelta(weeks=12),
            },
            "tasks": {"new_item": {"model": MODEL, "fit": FIT}},
            "training": {"threads": 1, "seed": 1},
            "evaluation": {"bootstrap": 20},
            "scoring": {"new_items": ["tea 99", "jam 99"]},
            **changes,
        }
    )  # fmt: skip


def kind_of(user: int) -> str:
    return "tea" if user % 2 else "jam"


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, list[StepReport]]:
    """Everybody buys one of six things of their kind a day and half, in no order; users from 30 on are ten times as rare."""
    warehouse = Warehouse(spark, WarehouseSettings(path=str(tmp_path_factory.mktemp("launches"))))
    random, log = np.random.default_rng(0), []
    for user in range(NUM_USERS):
        pause = 1.5 if user < 30 else 15.0
        for number in range(int(7 * NUM_WEEKS / pause)):
            day = number * pause + random.uniform(0, 1)
            log.append((f"user {user}", f"{kind_of(user)} {random.integers(6)}", MONDAY + timedelta(days=day), kind_of(user)))
        if user < 20:
            log += [
                (f"user {user}", f"new {kind_of(user)} {week}", MONDAY + timedelta(days=7 * week + 2), kind_of(user)) for week in LAUNCHED
            ]
        if user < 9:
            log.append((f"user {user}", "not described", MONDAY + timedelta(days=7 * 10 + 1), "nothing"))
            log.append((f"user {user}", "seen before", MONDAY + timedelta(days=7 * 10 + 1), "tea"))
    log.append(("user 1", "seen before", MONDAY + timedelta(days=3), "view"))
    rows = spark.createDataFrame(log, "user_id string, item_id string, event_time timestamp, category string")
    looked = F.when(F.col("category") == "view", "view").otherwise("purchase")
    given = {"event_type": looked, "source": F.lit("shop"), "price": F.lit(1.0), "quantity": F.lit(1.0)}
    given |= {name: F.lit(None).cast("string") for name in ("session_hint", "campaign_id", "event_id", "extra")}
    told = rows.withColumns(given)
    warehouse.overwrite(EVENTS, EVENTS.select(told.withColumn("event_id", events.hashed_id())))
    known = [(f"{kind} {number}", f"{kind} of sort {number}", kind, None, None) for kind in ("tea", "jam") for number in (*range(6), 99)]
    known.append(("seen before", "tea of an old sort", "tea", None, None))
    new = [(f"new {kind} {week}", f"{kind} of sort {week}", kind, None, None) for kind in ("tea", "jam") for week in LAUNCHED]
    warehouse.overwrite(ITEMS, spark.createDataFrame(known + new, ITEMS.ddl))
    sessionize(warehouse, settings())
    return warehouse, [step(warehouse, settings()) for step in (sequence, train, evaluate, score)]


def test_launches_are_what_training_and_validation_never_saw(shop: tuple[Warehouse, list[StepReport]]) -> None:
    """Of test time: those of weeks 10 and 11, at the Monday before. Not what nobody described, or what somebody looked at before."""
    vocabulary = shop[0].version(VOCABULARY)
    found = launches(shop[0], settings(), "test", vocabulary, 7)
    weeks = {at: (MONDAY + timedelta(weeks=at)).timestamp() * 1e6 for at in (10, 11)}
    assert {at: found.by_moment[int(moment)].ids for at, moment in weeks.items()} == {
        10: ("new jam 10", "new tea 10"),
        11: ("new jam 11", "new tea 11"),
    }
    assert len(found) == 4
    assert found.buyers.count() == 40
    words = shop[0].read(VOCABULARY).where("field = 'item'").toPandas()["value"]
    assert not {name for new in found.by_moment.values() for name in new.ids} & set(words)


def test_a_week_that_is_not_known_whole_judges_nothing(shop: tuple[Warehouse, list[StepReport]]) -> None:
    found = launches(shop[0], settings(), "test", shop[0].version(VOCABULARY), 14)
    assert [new.ids for new in found.by_moment.values()] == [("new jam 10", "new tea 10")]


def test_buyers_are_found_by_what_an_item_is(shop: tuple[Warehouse, list[StepReport]]) -> None:
    """Four of forty users are the best tenth. Of those of an item's kind who come often, ten of fifteen buy it, so that the four have
    2.7 of its ten buyers; of all who come often, whatever their kind, four have 1.3, and at random it is one.
    """
    value = {
        (row.model, row.metric): row.value
        for row in shop[0].read(METRICS).where("split = 'test' and segment = 'all'").collect()
        if " minus " not in row.model
    }
    assert value["new_item", "buyers@10%"] > 0.2
    assert value["random", "buyers@10%"] == pytest.approx(0.1)
    assert value["random", "buyers@1%"] == pytest.approx(1 / 40)
    assert value["new_item", "calibration_error"] < 0.15  # of 40 users and 4 items
    assert value["most_active", "buyers@10%"] <= value["new_item", "buyers@10%"]


def test_what_it_is_worth_is_told(shop: tuple[Warehouse, list[StepReport]]) -> None:
    told = "\n".join(shop[1][2].notes)
    assert "on the test split: 40 buyers of new items" in told
    assert "of 100 buyers of a new item, found among the 1 % of users" in told


def test_everybody_has_a_chance_for_each_item_that_is_asked_about(shop: tuple[Warehouse, list[StepReport]]) -> None:
    """Tea drinkers, who buy as often, are more likely to buy new tea than jam, and the other way round."""
    rows = shop[0].read(SCORES).collect()
    assert len(rows) == NUM_USERS
    first = {int(row.user_id.split()[1]): row.targets for row in rows}
    assert {user: targets[0].target_id for user, targets in first.items()} == {user: f"{kind_of(user)} 99" for user in first}
    assert all(0 < target.score < 1 for targets in first.values() for target in targets)


def test_chances_are_those_of_the_launches_that_they_were_fitted_to(shop: tuple[Warehouse, list[StepReport]]) -> None:
    """In validation time 10 of 40 users bought each of four items: what scoring says of these, at their moments, is as much on average."""
    stored = registry.load(shop[0].path, "new_item")
    assert stored.launch is not None
    assert stored.launch["base_rate"] == 0.25
    said = []
    for week in (7, 8):
        moment = MONDAY + timedelta(weeks=week)
        score(shop[0], settings(scoring={"as_of": moment, "new_items": [f"new tea {week}", f"new jam {week}"]}))
        at = F.unix_micros("as_of") == int(moment.timestamp() * 1e6)
        said += [target.score for row in shop[0].read(SCORES).where(at).collect() for target in row.targets]
    assert len(said) == 4 * NUM_USERS
    assert np.mean(said) == pytest.approx(0.25, abs=0.01)


def test_without_names_it_asks_about_what_came_lately(shop: tuple[Warehouse, list[StepReport]]) -> None:
    score(shop[0], settings(scoring={"as_of": MONDAY + timedelta(weeks=11)}))
    at = F.unix_micros("as_of") == int((MONDAY + timedelta(weeks=11)).timestamp() * 1e6)
    names = {target.target_id for row in shop[0].read(SCORES).where(at).collect() for target in row.targets}
    assert names == {"new tea 10", "new jam 10"}


@pytest.mark.parametrize(
    ("changes", "step", "says"),
    [
        ({"tasks": {"new_item": {"model": {**MODEL, "content": False}, "fit": FIT}}}, train, r"asks about items that its model never saw"),
        ({"scoring": {"new_items": ["no such"]}}, score, "there is no item no such"),
        ({"scoring": {"as_of": MONDAY + timedelta(weeks=10)}}, score, "no item was first seen in the 7 days before"),
        ({"evaluation": {"least_buyers": 1000}}, evaluate, "with 1000 buyers in 7 days"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    shop: tuple[Warehouse, list[StepReport]], changes: dict[str, Any], step: Any, says: str
) -> None:
    with pytest.raises(Exception, match=says) as raised:
        step(shop[0], settings(**changes))
    assert type(raised.value).__module__ == SettingsError.__module__


def test_a_vocabulary_that_was_fitted_anew_is_not_taken_for_the_models(shop: tuple[Warehouse, list[StepReport]]) -> None:
    """In it, numbers stand for other items, the last for the first: judged are the rows as they were, so that the figures stay."""
    warehouse = shop[0]

    def newest() -> dict[str, float]:
        rows = warehouse.read(METRICS).where("split = 'test' and metric = 'buyers@10%'")
        last = rows.agg(F.max(F.unix_micros("run_at"))).head()[0]  # type: ignore[index]
        return {row.model: row.value for row in rows.where(F.unix_micros("run_at") == last).collect()}

    def turned(field: str) -> Column:
        last = warehouse.read(VOCABULARY).where(F.col("field") == field).agg(F.max("index")).head()[0]  # type: ignore[index]
        return F.transform(field, lambda code: F.when(code >= 2, F.lit(last + 2) - code).otherwise(code))

    before = newest()
    rows = warehouse.read(SEQUENCES).withColumns({field: turned(field) for field in ("item", "category")}).localCheckpoint()
    warehouse.overwrite(VOCABULARY, warehouse.read(VOCABULARY))
    warehouse.overwrite(SEQUENCES, SEQUENCES.select(rows), {"vocabulary": warehouse.version(VOCABULARY)})
    evaluate(warehouse, settings())
    assert newest() == before
