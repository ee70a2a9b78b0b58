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


def test_next_courses_and_who_has_left(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Courses follow one another, so what is popular is no guide and what follows is; who left is known by how long nothing was heard."""
    monkeypatch.setattr(school, "NUM_LEARNERS", 300)
    overrides = ["tasks.interest.fit.epochs=12", "tasks.churn.fit.epochs=3", "evaluation.bootstrap=20"]
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
    assert set(counts) == {"interest", "churn"}
