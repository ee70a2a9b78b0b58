"""What a person reads of a comparison."""

import numpy as np
import pytest

from foretaste.evaluation.comparison import Comparison


def resampled(value: float, noise: float = 0.001) -> np.ndarray:
    return np.concatenate([[value], value + noise * np.random.default_rng(0).normal(size=200)])


def comparison(model: np.ndarray, metric: str = "recall@20", lower: frozenset[str] = frozenset(), **baselines: np.ndarray) -> Comparison:
    counts = {"num_judged": np.full(201, 1000.0), "num_left_out": np.full(201, 7.0)}
    scorers = {name: {metric: values, **counts} for name, values in {"interest": model, **baselines}.items()}
    return Comparison(task="interest", split="test", model="interest", scorers=scorers, headline=metric, lower_is_better=lower)


def test_a_model_that_is_better_is_said_to_be() -> None:
    verdict = comparison(resampled(0.30), popularity=resampled(0.20), own_items=resampled(0.25)).verdict()
    assert verdict == (
        "interest is better than own_items, its best baseline: recall@20 0.3000 against 0.2500, difference +0.0500 [+0.0500, +0.0500]"
    )


def test_a_model_that_cannot_be_told_from_its_best_baseline_is_not_better() -> None:
    unsure = np.concatenate([[0.26], 0.26 + 0.05 * np.random.default_rng(1).normal(size=200)])
    assert "NOT better than popularity" in comparison(unsure, popularity=resampled(0.25)).verdict()


def test_a_model_that_is_worse_is_said_to_be() -> None:
    assert "WORSE than popularity" in comparison(resampled(0.2), popularity=resampled(0.25)).verdict()


def test_of_errors_the_lower_is_the_better() -> None:
    found = comparison(
        resampled(0.2), metric="log_loss", lower=frozenset({"log_loss"}), popularity=resampled(0.3), own_items=resampled(0.25)
    )
    assert found.best_baseline() == "own_items"
    assert "interest is better than own_items" in found.verdict()


def test_an_undefined_metric_is_not_told_as_a_number() -> None:
    found = comparison(np.full(201, np.nan), popularity=np.full(201, np.nan))
    assert found.metrics == []
    assert "not defined" in found.verdict()


def test_the_table_holds_each_scorer_and_the_difference_to_popularity() -> None:
    heading, line = comparison(resampled(0.30, 0.0), popularity=resampled(0.20, 0.0)).table("popularity")
    assert [cell.strip() for cell in line.split("  ") if cell.strip()] == [
        "recall@20", "0.3000 [0.3000, 0.3000]", "0.2000 [0.2000, 0.2000]", "+0.1000 [+0.1000, +0.1000]"
    ]  # fmt: skip
    assert "interest minus popularity" in heading


def test_estimates_name_the_differences() -> None:
    found = {
        (scorer, metric): estimate.value for scorer, metric, estimate in comparison(resampled(0.3), popularity=resampled(0.2)).estimates()
    }
    assert found == {
        ("interest", "recall@20"): 0.3,
        ("popularity", "recall@20"): 0.2,
        ("interest minus popularity", "recall@20"): pytest.approx(0.1),
    }
