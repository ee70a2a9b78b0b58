"""churn and campaign from events to scores, in a shop whose users are easily understood.

Users with an even number buy every other day; those with an odd one do so until day 20, and are gone. Three campaigns reach everybody, and
each third user answers on the day after, but to the last one no answer is known when the data end.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import torch
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from safetensors.torch import load_file

from foretaste import registry
from foretaste.contract import answers_of
from foretaste.errors import SettingsError
from foretaste.scoring.arrow import to_batch
from foretaste.scoring.scorer import ModelScorer
from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps.backtest import backtest
from foretaste.steps.evaluate import evaluate
from foretaste.steps.judging import answered
from foretaste.steps.planning import planned, versions_of
from foretaste.steps.report import StepReport
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
from foretaste.tasks import TASKS
from foretaste.tasks.churn import CHURN
from tests.steps.shop import MONDAY, told

NUM_USERS = 60
CAMPAIGN_DAYS = {"spring": 10, "early summer": 15, "summer": 33, "autumn": 46, "winter": 58}
FIT = {"epochs": 20, "batch_size": 64, "learning_rate": 0.01, "patience": 20}
LINE_FIT = {**FIT, "batch_size": 10, "start_at_line": True}
MODEL = {"name": "gru", "embedding": 8, "hidden": [8], "dropout": 0.0, "features": ["gap"]}


def settings(**changes: Any) -> Settings:
    return Settings.model_validate(
        {
            "sequences": {
                "length": 8, "horizon": "3d", "every": "3d", "min_item_count": 1, "event_types": ["purchase"],
                "valid_from": MONDAY + timedelta(days=30), "test_from": MONDAY + timedelta(days=45), "until": MONDAY + timedelta(days=60),
                "follow_up": "60d",
            },
            "tasks": {
                "churn": {"model": {**MODEL, "facts": ["idle_hours", "answers"]}, "fit": FIT, "within": "5d"},
                "campaign": {"model": {**MODEL, "facts": ["answers", "campaign_kind"]}, "fit": LINE_FIT, "within": "3d"},
            },
            "training": {"threads": 1, "seed": 1},
            "evaluation": {"bootstrap": 20},
            "scoring": {"as_of": MONDAY + timedelta(days=57)},
            **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, StepReport, StepReport]:
    """The warehouse after all steps, with the reports of evaluating and scoring."""
    warehouse = Warehouse(spark, WarehouseSettings(path=str(tmp_path_factory.mktemp("shop") / "warehouse")))
    rows = []

    def happened(user: int, day: float, kind: str, item: str | None, campaign: str | None) -> None:
        at = MONDAY + timedelta(days=day)
        rows.append((f"u{user}", item, kind, at, None, None, None, None, campaign, "shop", f"{user} {day} {kind} {campaign}", None))

    for user in range(NUM_USERS):
        for day in range(user % 2, 60, 2):
            if user % 2 == 0 or day <= 20:
                happened(user, day + user / 100, "purchase", f"item{day % 3}", None)
        for name, day in CAMPAIGN_DAYS.items():
            happened(user, day, "exposure", None, name)
            if user % 3 == 0 and name != "winter":
                happened(user, day + 1, "coupon", None, name)
    warehouse.overwrite(EVENTS, spark.createDataFrame(rows, EVENTS.ddl))
    days = {name: (MONDAY + timedelta(days=day), MONDAY + timedelta(days=day + 4)) for name, day in CAMPAIGN_DAYS.items()}
    asked = [(name, "leaflet", start, end, ["item0"]) for name, (start, end) in days.items()]
    warehouse.overwrite(CAMPAIGNS, spark.createDataFrame(asked, CAMPAIGNS.ddl))
    for step in (sessionize, sequence, train):
        step(warehouse, settings())
    return warehouse, evaluate(warehouse, settings()), score(warehouse, settings())


def values(warehouse: Warehouse, task: str) -> dict[tuple[str, str], float]:
    rows = warehouse.read(METRICS).where(f"task = '{task}' AND split = 'test' AND segment = 'all'").collect()
    return {(row.model, row.metric): row.value for row in rows}


def test_who_is_gone_is_found_and_only_whole_waits_are_judged(shop: tuple[Warehouse, StepReport, StepReport]) -> None:
    """Of the test moments, days 45, 48, 51 and 54, the first three are followed by five days of data: the last event is on day 58."""
    warehouse, evaluated, _ = shop
    assert evaluated.read["test rows for churn"] == 3 * NUM_USERS
    found = values(warehouse, "churn")
    assert found["churn", "roc_auc"] == found["recency", "roc_auc"] == pytest.approx(1.0)
    assert found["churn", "found@10%"] == pytest.approx(0.2)  # a tenth of all is a fifth of the half that is gone
    assert found["churn", "calibration_error"] < 0.05
    assert found["bg_nbd", "roc_auc"] == pytest.approx(1.0)
    assert {model for model, _ in found if " minus " not in model} == {"churn", "majority", "recency", "logistic_rfm", "bg_nbd"}
    assert any(note.startswith("of 100 users who will stay away, found among the tenth") for note in evaluated.notes)
    waiting = {
        (row.model, row.metric): row.value for row in warehouse.read(METRICS).where("task = 'churn' AND segment = 'waiting'").collect()
    }
    assert waiting["kaplan_meier", "stays_away@5d"] == pytest.approx(0.5)
    parts = warehouse.read(SEQUENCES).where("split = 'test' AND cut = 'calendar'").drop("as_of")._collect_as_arrow()
    network = registry.load(warehouse.path, "churn").network()
    chances = torch.cat([network.survival(to_batch(part).map(torch.tensor)) for part in parts])
    assert waiting["foretold", "stays_away@5d"] == pytest.approx(chances[:, 4].double().mean().item(), abs=1e-6)


def test_who_answers_is_found_in_later_campaigns(shop: tuple[Warehouse, StepReport, StepReport]) -> None:
    """Of "winter" too little is known; so "autumn" alone is judged, and its answers come from those who answered before."""
    warehouse, evaluated, _ = shop
    assert evaluated.read["test rows for campaign"] == NUM_USERS
    found = values(warehouse, "campaign")
    assert found["campaign", "roc_auc"] == found["coupon_users", "roc_auc"] == pytest.approx(1.0)
    assert found["campaign", "found@30%"] == pytest.approx(0.9)  # 18 users are asked, of whom all are among the 20 who answer
    assert found["majority", "found@30%"] == pytest.approx(0.3)
    assert any(note.startswith("of 100 users who would answer, reached by asking the best 30 %") for note in evaluated.notes)


def test_scores_tell_of_both(shop: tuple[Warehouse, StepReport, StepReport]) -> None:
    """On day 57, when "winter" is yet to start."""
    warehouse, _, scored = shop
    assert scored.written == {"scores of churn": NUM_USERS, "scores of campaign": NUM_USERS}
    rows = warehouse.read(SCORES).collect()
    best = {(row.task, row.user_id): [(target.target_id, target.score) for target in row.targets] for row in rows}
    for user in range(NUM_USERS):
        ((name, gone),) = best["churn", f"u{user}"]
        assert (name, gone > 0.5) == ("churn", user % 2 == 1)
        ((campaign, answers),) = best["campaign", f"u{user}"]
        assert (campaign, answers > 0.5) == ("winter", user % 3 == 0)


def test_a_score_is_what_the_model_says_of_the_row_that_it_was_judged_on(shop: tuple[Warehouse, StepReport, StepReport]) -> None:
    """At a test moment, with all that it reads: campaigns are facts for who stays away, too."""
    warehouse, moment = shop[0], MONDAY + timedelta(days=54)
    score(warehouse, settings(tasks={"churn": settings().tasks["churn"]}, scoring={"as_of": moment}))
    of_moment = F.unix_seconds("as_of") == int(moment.timestamp())
    scored = {row.user_id: row.targets[0].score for row in warehouse.read(SCORES).where(of_moment & (F.col("task") == "churn")).collect()}
    judged = warehouse.read(SEQUENCES).where(of_moment & (F.col("cut") == "calendar") & (F.col("split") == "test")).drop("as_of")
    scorer = ModelScorer(registry.load(warehouse.path, "churn"), 16)
    expected: dict[str, float] = {}
    for part in judged._collect_as_arrow():
        expected |= dict(zip(part.column("user_id").to_pylist(), scorer.probability(to_batch(part)).tolist(), strict=True))
        assert to_batch(part).facts["answers"].any()
    assert scored == pytest.approx(expected, abs=1e-6)
    assert len(scored) == NUM_USERS


def test_answers_that_are_all_the_same_teach_nothing(shop: tuple[Warehouse, StepReport, StepReport]) -> None:
    tasks = {"churn": {"model": MODEL, "fit": FIT, "within": "60d"}}
    with pytest.raises(SettingsError, match=r"all training rows that tell of 60 days have the same answer.*\(tasks.churn.within\)"):
        train(shop[0], settings(tasks=tasks))


def test_more_days_than_rows_were_followed_are_refused(shop: tuple[Warehouse, StepReport, StepReport]) -> None:
    tasks = {"churn": {"model": MODEL, "fit": FIT, "within": "61d"}}
    with pytest.raises(SettingsError, match="churn asks about 61 days, and the rows of sequences were followed for 60"):
        train(shop[0], settings(tasks=tasks, sequences={"protocol": "global_time"}))


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="within is not a number of whole days"):
        settings(tasks={"churn": {"within": "36h"}})
    with pytest.raises(ValueError, match=r"tasks.interest.within belongs to campaign and churn"):
        settings(tasks={"interest": {"within": "2d"}})
    with pytest.raises(ValueError, match=r"sequences.follow_up is shorter than tasks.churn.within"):
        settings(sequences={"follow_up": "14d"}, tasks={"churn": {"within": "28d"}})
    with pytest.raises(ValueError, match=r"sequences.activity: purchase is none of sequences.event_types"):
        settings(sequences={"event_types": ["view"]}, tasks={"churn": {}})


def test_without_campaigns_there_are_no_rows_about_any(warehouse: Warehouse) -> None:
    told(warehouse, *[(f"u{user}", 24.0 * day, "a") for user in range(3) for day in range(60)], kind="purchase")
    sessionize(warehouse, settings())
    assert "exposure" not in sequence(warehouse, settings()).notes[1]


def test_a_line_is_drawn_through_the_facts_of_training_rows(shop: tuple[Warehouse, StepReport, StepReport]) -> None:
    """Of two campaigns then, "spring" and "early summer", a third of the users answered each, and answered the other one too."""
    warehouse, chosen = shop[0], settings()
    plan = planned(warehouse, chosen, TASKS["campaign"], chosen.tasks["campaign"], versions_of(warehouse, TASKS["campaign"]), "line")
    assert plan.tables
    tables = load_file(plan.tables)
    assert {name: tuple(values.shape) for name, values in tables.items()} == {
        "line.0.answers": (1,), "line.0.campaign_kind": (16,), "line.0.intercept": (1,), "line.0.share": (1,),
    }  # fmt: skip
    assert float(tables["line.0.share"][0]) == pytest.approx(1 / 3)
    assert float(tables["line.0.answers"][0]) > 1
    with pytest.raises(SettingsError, match="no facts to draw a line through") as refused:
        train(warehouse, settings(tasks={"campaign": {"model": MODEL, "fit": LINE_FIT, "within": "3d"}}))
    assert refused.value.where == "tasks.campaign.fit.start_at_line"
    with pytest.raises(SettingsError, match="all training rows that tell of 30 days have the same answer, if there are any"):
        train(warehouse, settings(tasks={"churn": {"model": {**MODEL, "facts": ["answers"]}, "fit": LINE_FIT, "within": "30d"}}))
    for task in ("interest", "latents"):
        with pytest.raises(SettingsError, match="only a model that answers for a user as a whole starts at a line"):
            train(warehouse, settings(tasks={task: {"model": {"name": "vae"}, "fit": LINE_FIT}}))
    searched = {"trials": 2, "over": {"model.facts": [["answers"], ["exposures"]]}}
    over_facts = {"model": {**MODEL, "facts": ["answers"]}, "fit": LINE_FIT, "within": "3d", "search": searched}
    with pytest.raises(SettingsError, match="searched over"):
        train(warehouse, settings(tasks={"campaign": over_facts}))


def test_folds_know_the_campaigns_too(shop: tuple[Warehouse, StepReport, StepReport]) -> None:
    """Fold 1 has all splits sixteen days earlier: "spring" to learn from, "early summer" to validate with, and "summer" to test."""
    tasks = {"campaign": {"model": {**MODEL, "facts": ["answers"]}, "fit": {**FIT, "epochs": 2, "batch_size": 10}, "within": "3d"}}
    report = backtest(shop[0], settings(tasks=tasks, evaluation={"bootstrap": 10, "folds": 2, "fold_step": "16d"}))
    assert report.read["test rows"] == 2 * NUM_USERS
    assert "campaign, of 100 users who would answer, reached by asking the best 30 % of those who were asked" in report.notes
    assert any(line.split() == ["majority", "30.0", "30.0", "30.0"] for line in report.notes)


@pytest.mark.parametrize("head", ["survival", "incidence"])
def test_spark_answers_as_the_contract_does(spark: SparkSession, head: str) -> None:
    waited = [[1, 20], [14, 14], [15, 20], [0, 14], [0, 13], [1, 13], [14, 9999]]
    task = replace(CHURN, head=head)  # type: ignore[arg-type]
    rows = spark.createDataFrame([(place, days) for place, days in enumerate(waited)], "place int, next_activity array<int>")
    found = {row.place: row.next_activity for row in answered(rows, task, 14).collect()}
    expected = answers_of(head, np.array(waited), 14)
    assert found == {place: answer for place, answer in enumerate(expected.tolist()) if answer >= 0}
