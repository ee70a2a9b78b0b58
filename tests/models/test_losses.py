from math import log

import pytest
import torch

from foretaste.models import losses
from foretaste.models.losses import (
    binary_cross_entropy,
    cross_entropy,
    draw_negatives,
    log_expected_count,
    log_uniform,
    sampled_cross_entropy,
)

# Five codes (PAD, UNKNOWN, three items) in one dimension: for the state 1 the items' odds are 1 : 2 : 3.
STATES = torch.tensor([[1.0], [1.0]])
WEIGHTS = torch.tensor([[0.0], [0.0], [log(1)], [log(2)], [log(3)]])
BIAS = torch.tensor([-torch.inf, -torch.inf, 0.0, 0.0, 0.0])


def test_cross_entropy_by_hand() -> None:
    total = cross_entropy(STATES, WEIGHTS, BIAS, torch.tensor([4, 2]))
    assert total.item() == pytest.approx(-log(3 / 6) - log(1 / 6))


def test_cross_entropy_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    states, weights, bias = torch.randn(5, 3), torch.randn(7, 3), torch.randn(7)
    targets = torch.tensor([0, 6, 2, 2, 5])

    def gradients() -> list[torch.Tensor]:
        leaves = [part.clone().requires_grad_() for part in (states, weights, bias)]
        total = cross_entropy(*leaves, targets)
        return [total.detach(), *torch.autograd.grad(total, leaves)]

    whole = gradients()
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 14)  # two rows of seven
    for expected, actual in zip(whole, gradients(), strict=True):
        torch.testing.assert_close(actual, expected)


def test_log_uniform_over_three_items() -> None:
    probabilities = log_uniform(torch.tensor([2, 3, 4]), num_items=5)
    torch.testing.assert_close(probabilities, torch.tensor([log(2 / 1), log(3 / 2), log(4 / 3)]) / log(4))
    assert probabilities.sum().item() == pytest.approx(1)


def test_sampled_cross_entropy_by_hand() -> None:
    # P: 0.5, 0.2925, 0.2075. In two draws an item appears with 1 - (1 - P)²: 0.75, 0.4994, 0.3720.
    chance = {2: 1 - (1 - log(2) / log(4)) ** 2, 3: 1 - (1 - log(3 / 2) / log(4)) ** 2, 4: 1 - (1 - log(4 / 3) / log(4)) ** 2}
    own, first, second = 2 / chance[3], 1 / chance[2], 3 / chance[4]
    total = sampled_cross_entropy(STATES[:1], WEIGHTS, BIAS, torch.tensor([3]), torch.tensor([2, 4]), draws=2)
    assert total.item() == pytest.approx(-log(own / (own + first + second)))


def test_a_negative_that_is_the_target_counts_once() -> None:
    chance = {2: 1 - (1 - log(2) / log(4)) ** 2, 4: 1 - (1 - log(4 / 3) / log(4)) ** 2}
    own, other = 3 / chance[4], 1 / chance[2]
    total = sampled_cross_entropy(STATES[:1], WEIGHTS, BIAS, torch.tensor([4]), torch.tensor([2, 4]), draws=2)
    assert total.item() == pytest.approx(-log(own / (own + other)))


def test_with_every_item_drawn_the_sampled_loss_is_the_full_one() -> None:
    targets = torch.tensor([4, 2])
    sampled = sampled_cross_entropy(STATES, WEIGHTS, BIAS, targets, torch.tensor([2, 3, 4]), draws=10_000)
    assert sampled.item() == pytest.approx(cross_entropy(STATES, WEIGHTS, BIAS, targets).item(), rel=1e-5)


def test_negatives_come_from_the_seed_and_are_as_frequent_as_said() -> None:
    draws, num_items, times = 4, 12, 4000
    generator = torch.Generator().manual_seed(7)
    drawn = [draw_negatives(num_items, draws, generator) for _ in range(times)]
    generator.manual_seed(7)
    assert torch.equal(draw_negatives(num_items, draws, generator), drawn[0])
    assert all(len(set(negatives.tolist())) == len(negatives) for negatives in drawn)

    counts = torch.bincount(torch.cat(drawn), minlength=num_items)
    assert counts[:2].sum() == 0
    expected = log_expected_count(torch.arange(2, num_items), num_items, draws).exp()
    torch.testing.assert_close(counts[2:] / times, expected, atol=0.03, rtol=0)


def test_binary_cross_entropy_by_hand() -> None:
    total = binary_cross_entropy(torch.tensor([log(3), log(1 / 4)]), torch.tensor([1, 0], dtype=torch.int32))
    assert total.item() == pytest.approx(-log(3 / 4) - log(4 / 5))
