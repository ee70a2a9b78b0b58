"""A base-stock policy and naive forecasts by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foretaste.contract import Batch
from foretaste.evaluation.naive import AutoETS, LastValue, RecentDays, SeasonalNaive
from foretaste.evaluation.stock import FILL_RATE, KNOBS, STOCK_DAYS, levels, simulated, stock_days


def test_two_weeks_by_hand() -> None:
    """Filled up to 5 and 4. Week 1: 3 of 3, then 2 of 4 sold (2, 0 left); week 2: 0 of 0, 1 of 1 (4, 3 left). A level of 9 serves all."""
    served, held = simulated(np.array([[5.0, 9.0], [4.0, 9.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]))
    assert served.tolist() == [6.0, 8.0]
    assert held.tolist() == [2 + 0 + 4 + 3, 6 + 2 + 9 + 8]


def test_what_is_left_over_stays() -> None:
    served, held = simulated(np.array([[5.0], [1.0]]), np.array([[1.0], [4.0]]))
    assert (served.tolist(), held.tolist()) == ([5.0], [4.0])


def test_levels_are_quantiles_and_then_deviations() -> None:
    """Of the paths 0, 1, …, 100 a day: the median at k = 0; beyond the last path, mean + k deviations."""
    paths = np.arange(101.0)[None, :, None]
    found = levels(paths)[0]
    assert found[KNOBS.tolist().index(0.0)] == 50.0
    assert found[-1] == pytest.approx(50 + KNOBS[-1] * np.arange(101.0).std())
    assert (np.diff(found) >= 0).all()


@given(arrays(np.float64, (2, 8, 3), elements=st.floats(0, 50)))
def test_levels_rise_with_the_knob(paths: np.ndarray) -> None:
    assert (np.diff(levels(paths), axis=1) >= -1e-9).all()


def test_days_of_stock_lie_on_the_line_between_two_knobs() -> None:
    """90 % served with 2 days of stock, 100 % with 4: 95 % with 3. In the second resample nothing reaches 95 %."""
    demand = np.array([10.0, 10.0])
    served, held = np.array([[9.0, 8.0], [10.0, 9.0]]), np.array([[20.0, 20.0], [40.0, 40.0]])
    found = stock_days(served, held, demand)[STOCK_DAYS]
    assert FILL_RATE == 0.95
    assert found[0] == pytest.approx(3.0)
    assert np.isnan(found[1])


def rows(units: list[int], horizon: int = 7) -> Batch[torch.Tensor]:
    known = torch.tensor([units], dtype=torch.int32)
    one = torch.ones(1, dtype=torch.int32)
    weekday = torch.zeros(1, len(units) + horizon, dtype=torch.int32)
    return Batch(features={"units": known, "weekday": weekday}, length=one * len(units), fresh=one, recency=one)


WEEK = [0, 1, 2, 3, 4, 5, 6]


def test_a_season_that_repeats_itself_is_foretold_exactly() -> None:
    paths = SeasonalNaive().score(rows(WEEK * 3))
    assert (paths == torch.tensor(WEEK)).all()
    assert paths.shape == (1, 8, 7)


def test_the_last_value_gives_or_takes_its_changes() -> None:
    """0, 1, 2, 3 and two days ahead: it has risen by one a day each time, so the one path there is rises on."""
    assert LastValue().score(rows([0, 1, 2, 3], horizon=2)).tolist() == [[[4.0, 5.0], [4.0, 5.0]]]


def test_recent_days_are_stretches_of_the_last_four_weeks() -> None:
    paths = RecentDays().score(rows([9] * 28 + [1] * 28))
    assert (paths == 1).all()
    assert paths.shape == (1, 22, 7)


def test_exponential_smoothing_follows_the_season() -> None:
    paths = AutoETS().score(rows([2, 2, 2, 2, 2, 9, 9] * 8))
    assert paths.shape[2] == 7
    assert paths.mean(1)[0].numpy() == pytest.approx([2, 2, 2, 2, 2, 9, 9], abs=0.5)
