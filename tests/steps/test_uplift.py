"""uplift from events to scores, in a shop where reminders work on some users and on no others.

Users with an odd number buy every day. Those with an even one buy on the day after a reminder, and never else. Each reminder reaches half
of both and leaves the others out; whom earlier ones reached says nothing of that.
"""

from datetime import timedelta
from typing import Any

import pytest
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.errors import SettingsError
from foretaste.settings import Settings
from foretaste.steps.evaluate import evaluate
from foretaste.steps.score import score
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.events import EVENTS
from foretaste.tables.metrics import METRICS
from foretaste.tables.scores import SCORES
from foretaste.tables.sequences import SEQUENCES
from tests.steps.shop import MONDAY

NUM_USERS = 64
REMINDERS = {"first": 5, "second": 12, "third": 20, "fourth": 33, "fifth": 48, "last": 58}
FIT = {"epochs": 30, "batch_size": 20, "learning_rate": 0.02, "patience": 30}


def settings(**changes: Any) -> Settings:
    model = {"name": "gru", "embedding": 4, "hidden": [8], "dropout": 0.0, "features": ["gap"], "facts": ["idle_hours"]}
    return Settings.model_validate(
        {
            "sequences": {
                "length": 8, "horizon": "3d", "every": "3d", "min_item_count": 1, "event_types": ["purchase"],
                "valid_from": MONDAY + timedelta(days=30), "test_from": MONDAY + timedelta(days=45), "until": MONDAY + timedelta(days=60),
            },
            "tasks": {"uplift": {"model": model, "fit": FIT, "within": "3d"}},
            "training": {"threads": 1, "seed": 1},
            "evaluation": {"bootstrap": 20},
            "scoring": {"as_of": MONDAY + timedelta(days=57)},
            **changes,
        }
    )  # fmt: skip


def is_reached(user: int, reminder: int) -> bool:
    coins = user // 2  # five bits, each combination once
    return bool((coins >> reminder) & 1) if reminder < 5 else bool((coins ^ coins >> 1) & 1)


def write(warehouse: Warehouse, control: str | None = "control") -> None:
    """Events and campaigns. control: the event type of being left out; None: nobody tells"""
    rows = []

    def happened(user: int, day: float, kind: str, item: str | None, campaign: str | None) -> None:
        at = MONDAY + timedelta(days=day)
        rows.append((f"u{user}", item, kind, at, None, None, None, None, campaign, "shop", f"{user} {day} {kind} {campaign}", None))

    for user in range(NUM_USERS):
        for day in range(60 if user % 2 else 1):
            happened(user, day + 0.1, "purchase", "tea", None)
        for number, (name, day) in enumerate(REMINDERS.items()):
            if is_reached(user, number):
                happened(user, day, "exposure", None, name)
                if user % 2 == 0:
                    happened(user, day + 1, "purchase", "tea", None)
            elif control:
                happened(user, day, control, None, name)
    warehouse.overwrite(EVENTS, warehouse.spark.createDataFrame(rows, EVENTS.ddl))
    if warehouse.exists(CAMPAIGNS):
        return
    days = {name: (MONDAY + timedelta(days=day), MONDAY + timedelta(days=day + 4)) for name, day in REMINDERS.items()}
    told = [(name, "mail", start, end, ["tea"]) for name, (start, end) in days.items()]
    warehouse.overwrite(CAMPAIGNS, warehouse.spark.createDataFrame(told, CAMPAIGNS.ddl))


def test_whom_a_reminder_moves_is_found(warehouse: Warehouse) -> None:
    write(warehouse)
    for step in (sessionize, sequence, train):
        step(warehouse, settings())
    trials = warehouse.read(SEQUENCES).where("cut = 'trial'")
    assert {row.split: row["count"] for row in trials.groupBy("split").count().collect()} == {"train": 192, "valid": 64, "test": 128}
    found = {
        (row.user_id, row.campaign_id): row.trial
        for row in trials.where("split = 'train' AND campaign_id = 'second'").select("user_id", "campaign_id", "trial").collect()
    }
    assert (found["u1", "second"], found["u5", "second"]) == ([1, 3, 0], [1, 3, 1])  # both come anyway
    assert found["u4", "second"] == [1, 3, 1]  # comes because of it
    assert found["u8", "second"] == [0, 3, 0]  # only after the third, when this row is not followed any more
    assert found["u0", "second"] == [0, 3, 0]
    assert trials.count() == warehouse.read(SEQUENCES).where("cut = 'exposure'").count() * 2

    model = registry.load(warehouse.path, "uplift")
    assert model.base_rate == pytest.approx(0.5)
    assert model.calibration is None
    report = evaluate(warehouse, settings())
    values = {(row.model, row.metric): row.value for row in warehouse.read(METRICS).where("split = 'test'").collect()}
    assert values["uplift", "ate"] == pytest.approx(0.5)  # of the fifth alone: of the last fewer than three days are known
    assert values["uplift", "foretold"] == pytest.approx(0.5, abs=0.1)
    assert values["uplift", "uplift@30%"] == pytest.approx(1.0)
    assert values["uplift", "qini"] == pytest.approx(0.125, abs=0.01)  # the half that it moves first, then the half that it does not
    assert values["random", "qini"] == pytest.approx(0.0)
    assert values["responders", "qini"] == pytest.approx(0.0, abs=0.01)  # everybody comes who is reached, because of it or not
    assert {"uplift", "random", "responders", "two_regressions"} == {name for name, _ in values if " minus " not in name}
    assert any(note.startswith("more users who come because they are reached, of 1,000 of the best 30 %") for note in report.notes)

    score(warehouse, settings())
    scored = warehouse.read(SCORES).select("user_id", F.explode("targets").alias("target")).collect()
    assert {row.target.target_id for row in scored} == {"last"}
    moved = {row.user_id: row.target.score for row in scored}
    assert len(moved) == NUM_USERS
    assert min(score for user, score in moved.items() if int(user[1:]) % 2 == 0) > 0.5
    assert max(abs(score) for user, score in moved.items() if int(user[1:]) % 2) < 0.2


@pytest.mark.parametrize(("control", "why"), [(None, "nobody was left out of a campaign at random"), ("search", "left out")])
def test_without_a_control_group_it_is_refused(warehouse: Warehouse, control: str | None, why: str) -> None:
    write(warehouse, control)
    for step in (sessionize, sequence):
        step(warehouse, settings())
    with pytest.raises(SettingsError, match=why) as refused:
        train(warehouse, settings())
    assert refused.value.where == "tasks.uplift"
    assert "type control" in refused.value.fix


def test_a_control_group_that_is_told_of_late_makes_trials_of_all_whom_it_is_compared_with(warehouse: Warehouse) -> None:
    """Also of those whose own events are as they were."""
    write(warehouse, None)
    for step in (sessionize, sequence):
        step(warehouse, settings())
    assert warehouse.read(SEQUENCES).where("cut = 'trial'").isEmpty()
    write(warehouse)
    sessionize(warehouse, settings())
    assert sequence(warehouse, settings()).notes[0] == "all rows written anew: controlled changed"
    assert warehouse.read(SEQUENCES).where("cut = 'trial'").count() == 6 * NUM_USERS
