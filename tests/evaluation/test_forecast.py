"""Forecast metrics, against numbers worked out by hand, scikit-learn, and what must hold of any forecast."""

import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss

from foretaste.errors import SettingsError
from foretaste.evaluation.forecast import Forecast, ForecastRows, seasonal_scale

LEVELS = (0.1, 0.5, 0.9)


def judged(actual: np.ndarray, foretold: np.ndarray, scale: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    judge = Forecast(levels=LEVELS)
    weights = np.ones((len(actual), 1)) if weights is None else weights
    sums = np.zeros((judge.num_sums, weights.shape[1]))
    for row in range(len(actual)):  # one by one: sums must add up, whatever the partitions
        part = slice(row, row + 1)
        ForecastRows(levels=LEVELS, actual=actual[part], foretold=foretold[part], scale=scale[part]).add(sums, weights[part])
    return dict(judge.metrics(sums))


def test_by_hand() -> None:
    actual = np.array([[4.0, 6.0], [0.0, 2.0]])
    foretold = np.array([[[2, 5, 9], [2, 5, 9]], [[0, 1, 1], [0, 1, 1]]], dtype=float)
    found = judged(actual, foretold, scale=np.array([2.0, 0.0]))
    assert found["wape"][0] == pytest.approx(4 / 12)  # four errors of 1; 12 units
    assert found["mase"][0] == pytest.approx(0.5)  # the first series alone: 1 / 2
    assert found["pinball@0.5"][0] == pytest.approx(0.5)
    assert found["pinball@0.1"][0] == pytest.approx(0.1 * (2 + 4 + 0 + 2) / 4)
    assert found["coverage@0.9"][0] == pytest.approx(3 / 4)  # 2 lies above 1
    assert found["coverage@0.1"][0] == pytest.approx(1 / 4)  # 0 lies at 0


def test_a_resample_is_the_rows_so_often() -> None:
    random = np.random.default_rng(3)
    actual, foretold = random.poisson(4, (5, 7)).astype(float), np.sort(random.gamma(4, 1, (5, 7, 3)), axis=2)
    scale, counts = random.uniform(1, 2, 5), np.array([0, 2, 1, 0, 3])
    weighted = judged(actual, foretold, scale, counts[:, None].astype(float))
    often = np.repeat(np.arange(5), counts)
    for metric, value in judged(actual[often], foretold[often], scale[often]).items():
        assert weighted[metric] == pytest.approx(value), metric


def test_pinball_is_scikit_learns() -> None:
    random = np.random.default_rng(5)
    actual, foretold = random.poisson(4, (9, 4)).astype(float), np.sort(random.gamma(4, 1, (9, 4, 3)), axis=2)
    found = judged(actual, foretold, np.ones(9))
    for place, level in enumerate(LEVELS):
        expected = mean_pinball_loss(actual.ravel(), foretold[:, :, place].ravel(), alpha=level)
        assert found[f"pinball@{level:g}"][0] == pytest.approx(expected)
    assert found["pinball"][0] == pytest.approx(np.mean([found[f"pinball@{level:g}"][0] for level in LEVELS]))


def test_the_true_quantiles_lose_least_and_cover_what_they_say() -> None:
    random = np.random.default_rng(7)
    actual = random.poisson(20, (400, 5)).astype(float)
    true = np.broadcast_to(np.quantile(random.poisson(20, 100_000), LEVELS), (400, 5, 3))
    found, wide = (judged(actual, np.array(of), np.ones(400)) for of in (true, true * [0.5, 1, 1.5]))
    assert found["pinball"][0] < wide["pinball"][0]
    assert found["coverage@0.9"][0] == pytest.approx(0.9, abs=0.03)


def test_the_scale_is_the_error_of_repeating_a_season() -> None:
    none = np.nan
    history = np.array([[1, 2, 1, 4, 3, 4], [none, none, none, 5, 0, 5], [7, 7, 7, 7, 7, 7], [none, none, none, none, none, 1]])
    # 0, 2, 2, 0 · 0 (5 and 5) · 0 · none
    assert seasonal_scale(history, season=2).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert seasonal_scale(history, season=1).tolist()[1] == 5.0


@pytest.mark.parametrize("levels", [(0.1, 0.9), (0.5, 0.1), (0.5, 0.5), (0.5, 1.0)])
def test_quantiles_that_are_none_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match=r"must rise, lie between 0 and 1, and have 0.5 among them"):
        Forecast(levels=levels)
