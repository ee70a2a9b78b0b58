from math import log

import pytest
import torch

from foretaste.models.negatives import Negatives, log_uniform

COUNTS = torch.tensor([16.0, 9.0, 4.0, 1.0])


@pytest.mark.parametrize(
    ("exponent", "expected"), [(0.0, [0.25, 0.25, 0.25, 0.25]), (0.5, [0.4, 0.3, 0.2, 0.1]), (1.0, [16 / 30, 9 / 30, 4 / 30, 1 / 30])]
)
def test_the_exponent_goes_from_uniform_to_popularity(exponent: float, expected: list[float]) -> None:
    negatives = Negatives(3, exponent, COUNTS)
    assert negatives.probability.tolist() == pytest.approx(expected)
    first = 1 - (1 - expected[0]) ** 3  # in three draws at least once
    assert negatives.log_expected_count(torch.tensor([0])).exp().item() == pytest.approx(first)


def test_log_uniform_over_three_items() -> None:
    expected = torch.tensor([log(2 / 1), log(3 / 2), log(4 / 3)], dtype=torch.float64) / log(4)
    torch.testing.assert_close(log_uniform(3), expected)
    assert log_uniform(3).sum().item() == pytest.approx(1)


def test_negatives_come_from_the_seed_and_are_as_frequent_as_said() -> None:
    times = 4000
    negatives = Negatives(4, 0.75, 1 + torch.arange(10).flip(0).float())
    noise = torch.Generator().manual_seed(7)
    drawn = [negatives.draw(noise) for _ in range(times)]
    noise.manual_seed(7)
    assert torch.equal(negatives.draw(noise), drawn[0])
    assert all(len(set(items.tolist())) == len(items) for items in drawn)
    counts = torch.bincount(torch.cat(drawn), minlength=10)
    torch.testing.assert_close(counts / times, negatives.log_expected_count(torch.arange(10)).exp(), atol=0.03, rtol=0)


def test_other_counts_are_followed_and_nothing_is_stored() -> None:
    negatives = Negatives(2, 1.0, COUNTS)
    negatives.follow(torch.tensor([0.0, 0.0, 5.0, 0.0]))
    assert negatives.draw(torch.Generator()).tolist() == [2]
    assert negatives.state_dict() == {}
