"""Intervals over users."""

import numpy as np
import pytest

from foretaste.evaluation.bootstrap import Estimate, poisson_weights


def users(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**63), 2**63 - 1, count)


def means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return values @ weights / weights.sum(0)


def test_the_first_column_weighs_every_row_once() -> None:
    weights = poisson_weights(users(5), 3, seed=1)
    assert weights.shape == (5, 4)
    assert (weights[:, 0] == 1).all()


def test_weights_are_poisson_with_mean_and_variance_one_and_independent() -> None:
    weights = poisson_weights(users(20_000), 10, seed=1)[:, 1:]
    assert weights.mean() == pytest.approx(1.0, abs=0.01)
    assert weights.var() == pytest.approx(1.0, abs=0.02)
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)
    assert np.abs(np.corrcoef(weights.T) - np.eye(10)).max() < 0.04


def test_sequential_user_hashes_are_as_good_as_any() -> None:
    weights = poisson_weights(np.arange(20_000), 10, seed=0)[:, 1:]
    assert np.abs(np.corrcoef(weights.T) - np.eye(10)).max() < 0.04
    assert abs(np.corrcoef(weights[:-1, 0], weights[1:, 0])[0, 1]) < 0.04


def test_a_users_rows_share_their_weights_wherever_they_lie() -> None:
    apart = [poisson_weights(np.array([user]), 50, seed=3) for user in (42, 7, 42)]
    together = poisson_weights(np.array([42, 7, 42]), 50, seed=3)
    assert (np.concatenate(apart) == together).all()
    assert (together[0] == together[2]).all()
    assert (together[0] != together[1]).any()


def test_another_seed_gives_other_weights() -> None:
    assert (poisson_weights(users(50), 20, seed=1) != poisson_weights(users(50), 20, seed=2)).any()


def test_intervals_of_a_mean_hold_the_truth_in_about_95_of_100_samples() -> None:
    random = np.random.default_rng(5)
    held = 0
    for trial in range(400):
        values = random.exponential(1.0, 200)  # true mean 1
        estimate = Estimate.of(means(values, poisson_weights(users(200, seed=trial), 200, seed=0)))
        held += estimate.low <= 1.0 <= estimate.high
    assert 0.90 <= held / 400 <= 0.98


def test_a_users_rows_stay_together_so_repeating_them_gains_no_certainty() -> None:
    values, who = np.random.default_rng(2).normal(size=300), users(300)
    once = Estimate.of(means(values, poisson_weights(who, 300, seed=0)))
    ten_times = Estimate.of(means(np.repeat(values, 10), poisson_weights(np.repeat(who, 10), 300, seed=0)))
    assert (ten_times.low, ten_times.high) == pytest.approx((once.low, once.high))


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    random = np.random.default_rng(2)
    hard = random.normal(size=500)  # how hard a user is: both models meet the same ones
    weights = poisson_weights(users(500), 300, seed=0)
    first, second = means(hard + 0.05, weights), means(hard, weights)
    difference = Estimate.of(first - second)
    assert difference.value == pytest.approx(0.05)
    assert difference.low > 0
    assert Estimate.of(second).high > Estimate.of(first).low  # one by one they cannot be told apart


def test_undefined_resamples_are_left_out() -> None:
    assert Estimate.of(np.array([0.5, np.nan, 0.4, 0.6])) == Estimate(value=0.5, low=pytest.approx(0.405), high=pytest.approx(0.595))
    assert np.isnan(Estimate.of(np.array([np.nan, np.nan])).low)
