"""Binary metrics, against scikit-learn and numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from foretaste.contract import Batch
from foretaste.errors import ModelError
from foretaste.evaluation.classification import LOGIT_RANGE, NUM_BINS, Binary, lift


def rows(labels: list[int] | np.ndarray) -> Batch[torch.Tensor]:
    ones = torch.ones(len(labels), dtype=torch.int32)
    return Batch(features={}, length=ones, fresh=ones, recency=ones, labels={"returns": torch.tensor(labels, dtype=torch.int32)})


def judged(logits: list[float] | np.ndarray, labels: list[int] | np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    judge = Binary(label="returns")
    weights = np.ones((len(logits), 1)) if weights is None else weights
    sums = np.zeros((judge.num_sums, weights.shape[1]))
    judge.measure(torch.tensor(logits, dtype=torch.float64), rows(labels)).add(sums, weights)
    return dict(judge.metrics(sums))


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    logits = random.normal(-1.0, 2.0, 3000)
    return logits, (random.random(3000) < 1 / (1 + np.exp(-logits))).astype(int)


def test_threshold_metrics_are_scikit_learns(sample: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = sample
    found, named, probability = judged(logits, labels), logits > 0, 1 / (1 + np.exp(-logits))
    for name, expected in {
        "accuracy": sk.accuracy_score(labels, named),
        "precision": sk.precision_score(labels, named),
        "recall": sk.recall_score(labels, named),
        "f1": sk.f1_score(labels, named),
        "brier": sk.brier_score_loss(labels, probability),
        "log_loss": sk.log_loss(labels, probability),
        "majority_accuracy": max(labels.mean(), 1 - labels.mean()),
    }.items():
        assert found[name][0] == pytest.approx(expected, abs=1e-12), name


def test_areas_are_scikit_learns_of_the_binned_scores_exactly(sample: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = sample
    binned = np.floor((logits + LOGIT_RANGE) * NUM_BINS / (2 * LOGIT_RANGE))
    found = judged(logits, labels)
    assert found["roc_auc"][0] == pytest.approx(sk.roc_auc_score(labels, binned), abs=1e-12)
    assert found["pr_auc"][0] == pytest.approx(sk.average_precision_score(labels, binned), abs=1e-12)


def test_the_told_error_of_binning_bounds_the_true_one(sample: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = sample
    found = judged(logits, labels)
    assert abs(found["roc_auc"][0] - sk.roc_auc_score(labels, logits)) <= found["roc_auc_error"][0] < 0.002


def test_calibration_error_by_hand() -> None:
    logit = math.log(0.9 / 0.1)
    found = judged([logit] * 10 + [-logit] * 10, [1] * 7 + [0] * 3 + [1] * 2 + [0] * 8)
    assert found["calibration_error"][0] == pytest.approx(0.5 * 0.2 + 0.5 * 0.1)  # says 0.9 where 0.7 is true, and 0.1 where 0.2 is


def test_what_chance_leaves_of_the_calibration_error() -> None:
    """By hand, and as labels that are drawn from the probabilities themselves have it."""
    assert judged([0.0] * 4, [0, 0, 1, 1])["calibration_floor"][0] == pytest.approx(math.sqrt(2 / math.pi * 4 * 0.25) / 4)
    random = np.random.default_rng(3)
    logits = random.normal(-2.0, 1.0, 1500)
    drawn = [judged(logits, (random.random(1500) < 1 / (1 + np.exp(-logits))).astype(int)) for _ in range(200)]
    assert np.mean([found["calibration_error"][0] for found in drawn]) == pytest.approx(drawn[0]["calibration_floor"][0], rel=0.05)


def test_lift_by_hand() -> None:
    assert judged([5.0, 4.0, *[0.0] * 18], [1, 1, 1, 1, *[0] * 16])["lift_first_decile"][0] == pytest.approx(1.0 / 0.2)
    assert judged([1.0] * 20, [1, *[0] * 19])["lift_first_decile"][0] == pytest.approx(1.0)  # all tied: no better than anyone


def test_lift_takes_a_part_of_the_bin_at_the_edge() -> None:
    negative, positive = np.array([[8.0], [0.0]]), np.array([[0.0], [2.0]])  # the best tenth is half of the two positives
    assert lift(negative, positive, 0.1)[0] == pytest.approx(5.0)


def test_a_weight_of_two_is_the_row_twice(sample: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = sample[0][:200], sample[1][:200]
    times = np.arange(200) % 3
    weighted = judged(logits, labels, np.stack([np.ones(200), times.astype(float)], axis=1))
    repeated = judged(np.repeat(logits, times), np.repeat(labels, times))
    for name, values in repeated.items():
        assert weighted[name][1] == pytest.approx(values[0], abs=1e-12), name


def test_one_class_leaves_the_areas_undefined_and_the_rest_whole() -> None:
    found = judged([1.0, -1.0], [0, 0])
    assert np.isnan(found["roc_auc"][0])
    assert found["accuracy"][0] == 0.5
    assert found["precision"][0] == 0.0


def test_scores_beyond_the_bins_and_certainties_are_counted() -> None:
    found = judged([1e6, -1e6, math.inf, -math.inf], [1, 0, 1, 0])
    assert found["roc_auc"][0] == 1.0
    assert found["log_loss"][0] == 0.0


def test_a_nan_is_an_error() -> None:
    with pytest.raises(ModelError, match="NaN"):
        judged([math.nan], [1])
