"""Curves of waiting by hand: five rows, of which two end before the answer."""

import numpy as np
import pytest

from foretaste.evaluation.waiting import by_week, curves, sums_of

WAITED = np.array([[1, 9], [2, 9], [0, 1], [0, 9], [0, 2]], dtype=np.int32)  # on day 1, on day 2, known for a day, never, known for two
CHANCES = np.array([[0.9, 0.5, 0.5], [0.8, 0.4, 0.2], [1.0, 1.0, 1.0], [0.7, 0.6, 0.3], [0.6, 0.5, 0.0]])


def test_kaplan_meier_counts_a_row_for_as_long_as_it_is_known() -> None:
    """Five at risk on day 1, of whom one comes; three on day 2 (one came, one is not known), of whom one comes; one on day 3."""
    found = curves(sums_of(WAITED, CHANCES, np.ones((5, 1))))
    assert found["kaplan_meier"][:, 0] == pytest.approx([4 / 5, 4 / 5 * 2 / 3, 4 / 5 * 2 / 3])
    assert found["foretold"][:, 0] == pytest.approx([0.8, 0.6, 0.4])


def test_parts_add_up_and_resamples_are_weights() -> None:
    weights = np.random.default_rng(0).poisson(1.0, (5, 4)).astype(float)
    whole = sums_of(WAITED, CHANCES, weights)
    assert sums_of(WAITED[:2], CHANCES[:2], weights[:2]) + sums_of(WAITED[2:], CHANCES[2:], weights[2:]) == pytest.approx(whole)
    repeated = np.repeat(np.arange(5), weights[:, 1].astype(int))
    again = curves(sums_of(WAITED[repeated], CHANCES[repeated], np.ones((len(repeated), 1))))
    for name, curve in curves(whole).items():
        assert curve[:, 1] == pytest.approx(again[name][:, 0])


def test_no_row_at_risk_leaves_the_curve_where_it_was() -> None:
    found = curves(sums_of(np.array([[0, 1]], dtype=np.int32), np.array([[0.5, 0.5]]), np.ones((1, 1))))
    assert found["kaplan_meier"][:, 0].tolist() == [1.0, 1.0]


def test_what_is_told_is_each_week_and_the_last_day() -> None:
    waited, chances = np.array([[3, 10], [0, 10]], dtype=np.int32), np.full((2, 10), 0.75)
    told = by_week(sums_of(waited, chances, np.ones((2, 3))), 10)
    assert sorted({day for _, day in told}) == [7, 10]
    assert told["kaplan_meier", 7].value == 0.5
    assert told["foretold minus kaplan_meier", 10].value == 0.25
