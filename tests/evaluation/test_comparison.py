"""What a person reads of a comparison."""

import math
from dataclasses import replace

import numpy as np
import pytest

from foretaste.evaluation.comparison import Comparison, by_segment


def resampled(value: float, noise: float = 0.001) -> np.ndarray:
    return np.concatenate([[value], value + noise * np.random.default_rng(0).normal(size=200)])


def comparison(model: np.ndarray, metric: str = "recall@20", lower: frozenset[str] = frozenset(), **baselines: np.ndarray) -> Comparison:
    counts = {"num_judged": np.full(201, 1000.0), "num_left_out": np.full(201, 7.0)}
    scorers = {name: {metric: values, **counts} for name, values in {"interest": model, **baselines}.items()}
    return Comparison(task="interest", split="test", model="interest", scorers=scorers, headline=metric, lower_is_better=lower)


def test_a_model_that_is_better_is_said_to_be() -> None:
    verdict = comparison(resampled(0.30), popularity=resampled(0.20), own_items=resampled(0.25)).verdict()
    assert verdict == (
        "interest is better than own_items, its best baseline: recall@20 0.3000 against 0.2500, "
        "difference +0.0500 [+0.0500, +0.0500], p 0.010"
    )


def test_a_model_that_cannot_be_told_from_its_best_baseline_is_not_better() -> None:
    unsure = np.concatenate([[0.26], 0.26 + 0.05 * np.random.default_rng(1).normal(size=200)])
    assert "NOT better than popularity" in comparison(unsure, popularity=resampled(0.25)).verdict()


def test_a_model_that_is_worse_is_said_to_be() -> None:
    assert "WORSE than popularity" in comparison(resampled(0.2), popularity=resampled(0.25)).verdict()


def test_what_a_model_is_made_of_is_compared_but_no_baseline() -> None:
    found = comparison(resampled(0.30), popularity=resampled(0.20), **{"gru alone": resampled(0.29)})
    found = replace(found, parts=("gru alone",))
    assert found.best_baseline() == "popularity"
    assert "interest minus gru alone" in {name for name, _, _ in found.estimates()}


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
    heading, line = comparison(resampled(0.30, 0.0), popularity=resampled(0.20, 0.0)).table()
    assert [cell.strip() for cell in line.split("  ") if cell.strip()] == [
        "recall@20", "0.3000 [0.3000, 0.3000]", "0.2000 [0.2000, 0.2000]", "+0.1000 [+0.1000, +0.1000]"
    ]  # fmt: skip
    assert "interest minus popularity" in heading


def test_estimates_name_the_differences() -> None:
    found = {
        (scorer, metric): estimate.value for scorer, metric, estimate in comparison(resampled(0.3), popularity=resampled(0.2)).estimates()
    }
    assert found.pop(("interest minus popularity", "p_value(recall@20)")) == pytest.approx(2 / 201)
    assert found == {
        ("interest", "recall@20"): 0.3,
        ("popularity", "recall@20"): 0.2,
        ("interest minus popularity", "recall@20"): pytest.approx(0.1),
    }


def test_worth_in_a_shops_own_terms() -> None:
    """1.2 hits a user against 0.9 and 1.25, of a thousand users."""
    found = comparison(resampled(1.2, 0.0), metric="hits@10", popularity=resampled(0.9, 0.0), own_items=resampled(1.25, 0.0))
    assert list(found.worth("hits@10", 1000, "hits of 1,000 users", ("popularity", "own_items", "absent"))) == [
        "hits of 1,000 users: interest 1,200 [1,200, 1,200], against popularity 900 (difference +300 [+300, +300]), "
        "own_items 1,250 (difference -50 [-50, -50])"
    ]
    assert list(found.worth("hits@5", 1000, "hits", ("popularity",))) == list(found.worth("hits@10", 1, "hits", ())) == []


def test_p_values_by_hand() -> None:
    difference = np.array([0.01, *[0.02] * 180, *[-0.01] * 15, *[0.0] * 5])  # the model is not ahead in 20 of 200 resamples
    found = comparison(0.2 + difference, popularity=np.full(201, 0.2))
    assert found.p_value("recall@20", "popularity") == pytest.approx(2 * 21 / 201)
    assert comparison(0.2 - difference, popularity=np.full(201, 0.2)).p_value("recall@20", "popularity") == pytest.approx(2 * 21 / 201)
    assert comparison(np.full(201, 0.2), popularity=np.full(201, 0.2)).p_value("recall@20", "popularity") == 1.0
    unknown = np.array([0.2, *[np.nan] * 200])
    assert math.isnan(comparison(unknown, popularity=unknown).p_value("recall@20", "popularity"))


def test_many_scorers_stand_one_below_another() -> None:
    baselines = {name: resampled(value, 0.0) for name, value in {"popularity": 0.1, "markov": 0.2, "vsknn": 0.3}.items()}
    heading, *lines = comparison(resampled(0.25, 0.0), **baselines).table()
    assert heading.split() == ["recall@20", "interest", "ahead", "by", "recall@20", "p"]
    assert [line.split()[0] for line in lines] == ["interest", "popularity", "markov", "vsknn"]
    assert lines[3].split() == ["vsknn", "0.3000", "-0.0500", "[-0.0500,", "-0.0500]", "0.010"]


def test_groups_of_users_are_told_a_line_each() -> None:
    found = [
        replace(comparison(resampled(value, 0.0), popularity=resampled(0.2, 0.0)), segment=name)
        for name, value in {"history 1": 0.1, "new users": 0.25}.items()
    ]
    heading, first, second = by_segment(found, "popularity")
    assert "recall@20 of interest" in heading
    assert first.split() == ["history", "1", "1,000", "0.1000", "0.2000", "-0.1000", "[-0.1000,", "-0.1000]"]
    assert second.split()[:4] == ["new", "users", "1,000", "0.2500"]


def test_unknown_targets_are_told() -> None:
    counted = {**comparison(resampled(0.3), popularity=resampled(0.2)).scorers["interest"]}
    counted |= {"num_targets": np.full(201, 1200.0), "num_unknown": np.full(201, 34.0)}
    found = replace(comparison(resampled(0.3), popularity=resampled(0.2)), scorers={"interest": counted, "popularity": counted})
    assert list(found.remarks()) == [
        "34 of 1,200 targets are items that the vocabulary lacks: nobody could name them, and each is a miss for all"
    ]
    assert found.metrics == ["recall@20"]
