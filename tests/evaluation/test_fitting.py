"""What baselines are made from: training time only."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from foretaste.evaluation.fitting import binary_fit, item_counts
from foretaste.tables.sessions import SESSIONS
from tests.scoring.stored import session, vocabulary

UNTIL = datetime(2024, 3, 10, tzinfo=UTC)


def before(user: str, *events: tuple[timedelta, str, str]) -> tuple:
    """A session of events at these times before UNTIL."""
    return session(user, *[(UNTIL - back, item, kind) for back, item, kind in events])


def test_recent_counts_are_those_of_the_last_week_before_the_end_of_training(spark: SparkSession) -> None:
    hour, day = timedelta(hours=1), timedelta(days=1)
    sessions = spark.createDataFrame(
        [
            before("u1", (7 * day + hour, "a", "view"), (7 * day - hour, "b", "view")),  # a is an hour too old
            before("u2", (day, "b", "view"), (day - hour, "b", "purchase"), (hour, "strange", "view")),
            before(
                "u3", (hour, "a", "search"), (hour, "c", "view"), (timedelta(0), "c", "view")
            ),  # search is not asked for; c's second is too late
            before("u4", (-hour, "a", "view")),  # after the end
        ],
        SESSIONS.ddl,
    )
    known = pa.Table.from_pandas(vocabulary({"a": 9, "b": 5, "c": 2}))
    counts = item_counts(sessions, known, 5, ["view", "purchase"], UNTIL)
    assert counts.all_time.tolist() == [0, 0, 9, 5, 2]
    assert counts.recent.tolist() == [0, 0, 0, 3, 1]


def rows(spark: SparkSession, recency: np.ndarray, label: np.ndarray) -> "object":
    data = [(1, 1, int(bucket), [0, 2], [0, 2], [0, 1], int(answer)) for bucket, answer in zip(recency, label, strict=True)]
    lists = "item array<int>, opens_session array<int>, price array<int>"
    return spark.createDataFrame(data, f"length int, fresh int, recency int, {lists}, returns int")


def test_logistic_regression_finds_the_odds_that_made_the_rows(spark: SparkSession) -> None:
    random = np.random.default_rng(0)
    recency = random.integers(2, 20, 2000)
    label = random.random(2000) < 1 / (1 + np.exp(-(4.0 - 0.4 * recency)))
    fit = binary_fit(rows(spark, recency, label), "returns")
    assert fit.base_rate == pytest.approx(label.mean())
    for bucket in (4, 10, 16):
        logit = fit.intercept + np.dot(fit.coefficients, [bucket, bucket**2, np.log(2), np.log(2), 0.0])
        assert logit == pytest.approx(4.0 - 0.4 * bucket, abs=0.5)


def test_one_class_alone_gives_finite_odds(spark: SparkSession) -> None:
    fit = binary_fit(rows(spark, np.array([3, 4, 5]), np.array([1, 1, 1])), "returns")
    assert fit.base_rate == 1.0
    assert np.isfinite([fit.intercept, *fit.coefficients]).all()
    assert fit.intercept > 10
