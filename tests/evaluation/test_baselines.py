"""What a shop could do without a model."""

import math

import pytest
import torch

from foretaste.contract import Batch
from foretaste.evaluation.baselines import BINARY_BASELINES, ITEM_BASELINES, BinaryFit, ItemCounts, rfm

COUNTS = ItemCounts(all_time=torch.tensor([0, 0, 50, 30, 20, 5]), recent=torch.tensor([0, 0, 0, 0, 7, 0]))
FIT = BinaryFit(base_rate=0.2, coefficients=(0.1, 0.0, 1.0, 0.0, 0.0), intercept=-2.0)


def rows(item: list[list[int]], **features: list[list[int]]) -> Batch[torch.Tensor]:
    items = torch.tensor(item, dtype=torch.int32)
    length = (items > 0).sum(1).int()
    given = {name: torch.tensor(values, dtype=torch.int32) for name, values in features.items()}
    return Batch(features={"item": items, **given}, length=length, fresh=length, recency=torch.full_like(length, 5))


def ranking(name: str, item: list[list[int]]) -> list[list[int]]:
    scores = ITEM_BASELINES[name](COUNTS).score(rows(item))
    assert scores.shape == (len(item), 6)
    assert (scores[:, :2] == -math.inf).all(), "PAD and UNKNOWN are no items"
    return scores.argsort(dim=1, descending=True)[:, :4].tolist()


def test_popularity_ranks_by_count_for_everybody() -> None:
    assert ranking("popularity", [[0, 5], [3, 3]]) == [[2, 3, 4, 5]] * 2


def test_recent_popularity_breaks_its_ties_by_all_time() -> None:
    assert ranking("recent_popularity", [[0, 5]]) == [[4, 2, 3, 5]]


def test_own_items_come_first_by_their_number_then_the_popular_ones() -> None:
    assert ranking("own_items", [[5, 3, 5], [0, 0, 4], [0, 1, 1]]) == [[5, 3, 2, 4], [4, 2, 3, 5], [2, 3, 4, 5]]


def test_own_items_tie_by_popularity() -> None:
    assert ranking("own_items", [[5, 4, 3]]) == [[3, 4, 5, 2]]


def test_the_majority_baseline_knows_the_base_rate() -> None:
    scores = BINARY_BASELINES["majority"](FIT).score(rows([[0, 2], [3, 4]]))
    assert torch.sigmoid(scores).tolist() == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_base_rate_of_nothing_or_all_stays_finite(share: float) -> None:
    fit = BinaryFit(base_rate=share, coefficients=FIT.coefficients, intercept=0.0)
    assert BINARY_BASELINES["majority"](fit).score(rows([[0, 2]])).isfinite().all()


def test_rfm_by_hand() -> None:
    found = rfm(rows([[0, 2, 3], [2, 3, 4]], opens_session=[[0, 2, 1], [2, 2, 1]], price=[[0, 4, 1], [1, 1, 1]]))
    assert found.tolist() == [
        pytest.approx([5, 25, math.log(3), math.log(2), 4.0]),  # one of its two events has a price
        pytest.approx([5, 25, math.log(4), math.log(3), 0.0]),
    ]


def test_logistic_regression_is_linear_in_rfm() -> None:
    scores = BINARY_BASELINES["logistic_rfm"](FIT).score(rows([[0, 2, 3]], opens_session=[[0, 2, 1]], price=[[0, 4, 1]]))
    assert scores.tolist() == pytest.approx([0.1 * 5 + math.log(3) - 2.0])
