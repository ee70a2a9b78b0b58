"""What baselines of binary tasks are made from: training time only."""

import numpy as np
import pytest
from pyspark.sql import SparkSession

from foretaste.evaluation.fitting import binary_fit


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
