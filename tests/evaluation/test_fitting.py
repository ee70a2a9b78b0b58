"""What baselines of binary tasks are made from: training time only."""

from datetime import UTC, datetime

import numpy as np
import pytest
from pyspark.sql import SparkSession

from foretaste.evaluation.fitting import beta_geometric, regression


def rows(spark: SparkSession, recency: np.ndarray, label: np.ndarray) -> "object":
    data = [(1, 1, int(bucket), [0, 2], [0, 2], [0, 1], int(answer)) for bucket, answer in zip(recency, label, strict=True)]
    lists = "item array<int>, opens_session array<int>, price array<int>"
    return spark.createDataFrame(data, f"length int, fresh int, recency int, {lists}, returns int")


def test_logistic_regression_finds_the_odds_that_made_the_rows(spark: SparkSession) -> None:
    random = np.random.default_rng(0)
    recency = random.integers(2, 20, 2000)
    label = random.random(2000) < 1 / (1 + np.exp(-(4.0 - 0.4 * recency)))
    fit = regression(rows(spark, recency, label), "returns")
    for bucket in (4, 10, 16):
        logit = fit.intercept + np.dot(fit.coefficients.numpy(), [bucket, bucket**2, np.log(2), np.log(2), 0.0])
        assert logit == pytest.approx(4.0 - 0.4 * bucket, abs=0.5)


def test_one_class_alone_gives_finite_odds(spark: SparkSession) -> None:
    fit = regression(rows(spark, np.array([3, 4, 5]), np.array([1, 1, 1])), "returns")
    assert np.isfinite([fit.intercept, *fit.coefficients.tolist()]).all()
    assert fit.intercept > 10


FACTS = "user_id string, as_of timestamp, repeats int, idle_hours int, tenure_hours int"


def customers(spark: SparkSession, number: int) -> "object":
    """Rates are gamma(2, 30 days), drop-outs beta(1, 3); known for 100 days. A row of an earlier moment says something else."""
    random = np.random.default_rng(0)
    data = [("old", datetime(2024, 1, 1, tzinfo=UTC), 99, 0, 2400)]
    for user in range(number):
        rate, leaves = random.gamma(2.0, 1 / 30), random.beta(1.0, 3.0)
        last, repeats = 0.0, 0
        while (upcoming := last + random.exponential(1 / rate)) < 100:
            last, repeats = upcoming, repeats + 1
            if random.random() < leaves:
                break
        data.append((f"u{user}", datetime(2024, 4, 1, tzinfo=UTC), repeats, round(24 * (100 - last)), 2400))
    return spark.createDataFrame(data, FACTS)


def test_bg_nbd_finds_what_made_the_customers(spark: SparkSession) -> None:
    """Rates and drop-outs by their means: 1/15 a day, and 1/4."""
    fitted = beta_geometric(customers(spark, 3000), 28)
    assert fitted is not None
    assert fitted.r / fitted.alpha == pytest.approx(2 / 30, rel=0.15)
    assert fitted.a / (fitted.a + fitted.b) == pytest.approx(1 / 4, rel=0.25)
    assert fitted.days == 28


def test_nobody_to_fit_gives_no_baseline(spark: SparkSession) -> None:
    assert beta_geometric(spark.createDataFrame([], FACTS), 28) is None
