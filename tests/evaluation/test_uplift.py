"""Whom reaching changes, on eight users that a reader can follow."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foretaste.contract import Batch
from foretaste.errors import ModelError
from foretaste.evaluation.baselines import Effect, LogisticRegression
from foretaste.evaluation.uplift import Uplift

CAME, REACHED = 1, 2
EIGHT = [  # score, kind; best first
    (0.9, REACHED + CAME),
    (0.8, 0),
    (0.7, REACHED + CAME),
    (0.6, 0),
    (0.1, REACHED),
    (0.0, CAME),
    (-0.1, REACHED),
    (-0.2, 0),
]


def metrics(rows: list[tuple[float, int]], weights: list[float] | None = None) -> dict[str, float]:
    judge = Uplift(label="trial")
    scores, kinds = (torch.tensor(column) for column in zip(*rows, strict=True))
    nothing = torch.zeros(len(rows))
    batch = Batch(features={}, length=nothing, fresh=nothing, recency=nothing, labels={"trial": kinds})
    sums = np.zeros((judge.num_sums, 1))
    judge.measure(scores, batch).add(sums, np.array(weights or [1.0] * len(rows))[:, None])
    return {name: float(value[0]) for name, value in judge.metrics(sums).items()}


def test_the_gain_of_reaching_the_best() -> None:
    """Of four reached two came, of four left out one. The gain goes 1/4 up with each who came of the reached, and down of the others:
    1/4, 1/4, 1/2, 1/2, 1/2, 1/4, 1/4, 1/4. The best 30 % are two users and two fifths of the third.
    """
    found = metrics(EIGHT)
    assert found["ate"] == pytest.approx(1 / 4)
    assert found["auuc"] == pytest.approx((1 / 8 + 1 / 4 + 3 / 8 + 1 / 2 + 1 / 2 + 3 / 8 + 1 / 4 + 1 / 4) / 8)
    assert found["qini"] == pytest.approx(found["auuc"] - 1 / 8)
    assert found["uplift@30%"] == pytest.approx(1.0)
    assert np.isnan(found["uplift@10%"])  # nobody there was left out
    assert found["foretold"] == pytest.approx(2.8 / 8)


def test_the_other_way_round_it_loses_what_it_won() -> None:
    assert metrics([(-score, kind) for score, kind in EIGHT])["qini"] == pytest.approx(-metrics(EIGHT)["qini"])


def test_one_score_for_all_is_random_targeting() -> None:
    found = metrics([(0.3, kind) for _, kind in EIGHT])
    assert found["qini"] == pytest.approx(0.0)
    assert found["uplift@10%"] == found["uplift@30%"] == found["ate"] == pytest.approx(1 / 4)


@given(st.lists(st.tuples(st.sampled_from([-0.5, 0.0, 0.25, 0.9]), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_a_weight_is_so_many_rows(rows: list[tuple[float, int, int]]) -> None:
    weighed = metrics([(score, kind) for score, kind, _ in rows], [float(weight) for *_, weight in rows])
    copied = [(score, kind) for score, kind, weight in rows for _ in range(weight)]
    if copied:
        assert weighed == pytest.approx(metrics(copied), nan_ok=True)


def test_nan_is_no_score() -> None:
    with pytest.raises(ModelError, match="NaN"):
        metrics([(float("nan"), 0)])


def test_an_effect_is_a_difference_of_chances() -> None:
    def one(batch: Batch[torch.Tensor]) -> torch.Tensor:
        return torch.ones(1, 1)

    nothing = torch.zeros(1)
    batch = Batch(features={}, length=nothing, fresh=nothing, recency=nothing)
    reached, left_out = LogisticRegression((1.0,), 0.5, one), LogisticRegression((-1.0,), 0.0, one)
    chance = 1 / (1 + np.exp(-1.5))
    assert Effect(reached=reached).score(batch).item() == pytest.approx(chance)
    assert Effect(reached=reached, left_out=left_out).score(batch).item() == pytest.approx(chance - 1 / (1 + np.e))
