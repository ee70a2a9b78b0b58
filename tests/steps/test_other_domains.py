"""What is no shop: the made-up school, by its settings alone, from nothing to scores."""

from pathlib import Path

import pytest
from pyspark.sql import functions as F

from foretaste import settings as settings_module
from foretaste.sources import school
from foretaste.steps.evaluate import evaluate
from foretaste.steps.ingest import ingest
from foretaste.steps.score import score
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from foretaste.tables.metrics import METRICS
from foretaste.tables.scores import SCORES

CONF = Path(__file__).parents[2] / "conf" / "school.yaml"


def test_a_learner_does_one_course_after_the_other_and_the_same_each_time() -> None:
    log = list(school._log_of(7))
    assert log == list(school._log_of(7)) != list(school._log_of(8))
    assert [action for _, _, action, _ in log][:4] == ["start", "finish"] * 2
    assert [seconds for *_, seconds in log] == sorted(seconds for *_, seconds in log)
    started = [course for _, course, action, _ in log if action == "start"]
    assert len(set(started)) == len(started)


def test_a_reminder_brings_back_who_left_lately_and_nobody_is_there_because_of_it_else() -> None:
    """Of learners of whom nothing was heard for 15 to 36 days, those who were mailed come within 14 days more often than those left out."""
    day = 86_400
    came: dict[str, list[bool]] = {"exposure": [], "control": []}
    sides: list[str] = []
    for number in range(400):
        times = sorted(seconds for *_, seconds in school._log_of(number))
        for _, _, side, mailed, _ in school._mails_of(number):
            sides.append(side)
            idle = mailed - max(time for time in times if time <= mailed)
            if 15 * day < idle < 36 * day:
                came[side].append(any(mailed < time <= mailed + 14 * day for time in times))
    assert 0.45 < sides.count("exposure") / len(sides) < 0.55
    assert len(came["control"]) > 50
    assert not any(came["control"])
    assert 0.2 < sum(came["exposure"]) / len(came["exposure"]) < 0.6


def test_next_courses_and_who_has_left(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Courses follow one another, so what is popular is no guide and what follows is; who left is known by how long nothing was heard."""
    monkeypatch.setattr(school, "NUM_LEARNERS", 300)
    overrides = ["tasks.interest.fit.epochs=12", "tasks.churn.fit.epochs=3", "tasks.uplift.fit.epochs=3", "evaluation.bootstrap=20"]
    settings = settings_module.load(CONF, overrides)
    for step in (ingest, sessionize, sequence, train, evaluate, score):
        step(warehouse, settings)
    rows = warehouse.read(METRICS).where("split = 'test' AND segment = 'all'").collect()
    found = {(row.task, row.model, row.metric): row.value for row in rows}
    assert found["interest", "interest", "recall@5"] > 2 * found["interest", "popularity", "recall@5"]
    assert found["churn", "churn", "roc_auc"] > 0.8
    learners = warehouse.read(SCORES).groupBy("task").agg(F.count("*").alias("users"), F.count_distinct("user_id").alias("ids"))
    counts = {row.task: (row.users, row.ids) for row in learners.collect()}
    assert len(set(counts.values())) == 1
    assert {users == ids for users, ids in counts.values()} == {True}
    assert set(counts) == {"interest", "churn", "uplift"}
    assert {"uplift", "random", "responders", "two_regressions"} <= {model for task, model, _ in found if task == "uplift"}
    asked = warehouse.read(SCORES).where("task = 'uplift'").select(F.explode("targets.target_id").alias("id")).distinct().collect()
    assert [row.id for row in asked] == ["reminder of day 180"]  # the one that is yet to come
