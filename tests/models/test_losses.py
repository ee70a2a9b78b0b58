from math import exp, log

import pytest
import torch

from foretaste.errors import ModelError
from foretaste.models import Objective, losses
from foretaste.models.losses import (
    LOWEST,
    binary_cross_entropy,
    bpr_max,
    cross_entropy,
    gbce,
    gbce_power,
    sampled,
    sampled_softmax,
    survival_loss,
)

# Three items in one dimension: for the state 1 their odds are 1 : 2 : 3.
STATES = torch.tensor([[1.0], [1.0]])
WEIGHTS = torch.tensor([[log(1)], [log(2)], [log(3)]])
BIAS = torch.zeros(3)
SAMPLED = ["sampled_softmax", "bpr_max", "gbce"]


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_cross_entropy_by_hand() -> None:
    total = cross_entropy(STATES, WEIGHTS, BIAS, torch.tensor([2, 0]))
    assert total.item() == pytest.approx(-log(3 / 6) - log(1 / 6))


def test_label_smoothing_spreads_a_share_of_the_target_over_all_items() -> None:
    total = cross_entropy(STATES[:1], WEIGHTS, BIAS, torch.tensor([2]), label_smoothing=0.3)
    assert total.item() == pytest.approx(-0.8 * log(3 / 6) - 0.1 * log(2 / 6) - 0.1 * log(1 / 6))


@pytest.mark.parametrize("name", ["cross_entropy", *SAMPLED])
def test_a_loss_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    torch.manual_seed(0)
    states, weights, bias = torch.randn(5, 3), torch.randn(7, 3), torch.randn(7)
    targets, drawn = torch.tensor([0, 6, 2, 2, 5]), torch.tensor([1, 2, 4])
    objective = Objective(name=name, draws=0 if name == "cross_entropy" else 3)

    def gradients() -> list[torch.Tensor]:
        leaves = [part.clone().requires_grad_() for part in (states, weights, bias)]
        if name == "cross_entropy":
            total = cross_entropy(*leaves, targets)
        else:
            total = sampled(objective, *leaves, targets, drawn, lambda items: -0.1 * items.float())
        return [total.detach(), *torch.autograd.grad(total, leaves)]

    whole = gradients()
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 7)  # a row or two at a time
    for expected, actual in zip(whole, gradients(), strict=True):
        torch.testing.assert_close(actual, expected)


def test_sampled_softmax_by_hand() -> None:
    # Items 0 and 2 were drawn; the target is item 1. In the draws they are expected 0.5, 0.4 and 0.2 times.
    chance = torch.tensor([0.5, 0.4, 0.2])
    expected = {True: (2 / 0.4) / (2 / 0.4 + 1 / 0.5 + 3 / 0.2), False: 2 / (2 + 1 + 3)}
    for log_q, share in expected.items():
        objective = Objective(name="sampled_softmax", draws=2, log_q=log_q)
        total = sampled(objective, STATES[:1], WEIGHTS, BIAS, torch.tensor([1]), torch.tensor([0, 2]), lambda items: chance[items].log())
        assert total.item() == pytest.approx(-log(share))


def test_with_every_item_drawn_the_sampled_softmax_is_the_full_one() -> None:
    targets = torch.tensor([2, 0])
    objective = Objective(name="sampled_softmax", draws=3)
    total = sampled(objective, STATES, WEIGHTS, BIAS, targets, torch.tensor([0, 1, 2]), lambda items: torch.zeros(len(items)))
    assert total.item() == pytest.approx(cross_entropy(STATES, WEIGHTS, BIAS, targets).item(), rel=1e-5)


def test_bpr_max_by_hand() -> None:
    # The target scores 1, the negatives 0 and log 3: of weights 1/4 and 3/4.
    own, others = torch.tensor([1.0]), torch.tensor([[0.0, log(3)]])
    gain = sigmoid(1.0) / 4 + sigmoid(1 - log(3)) * 3 / 4
    assert bpr_max(own, others, penalty=0.0).item() == pytest.approx(-log(gain), rel=1e-5)
    assert bpr_max(own, others, penalty=2.0).item() == pytest.approx(-log(gain) + 2 * (3 / 4) * log(3) ** 2, rel=1e-5)


def test_gbce_by_hand() -> None:
    own, others = torch.tensor([1.0]), torch.tensor([[0.0, -2.0]])
    expected = -0.4 * log(sigmoid(1)) - log(1 - sigmoid(0)) - log(1 - sigmoid(-2))
    assert gbce(own, others, power=0.4).item() == pytest.approx(expected, rel=1e-5)
    # The paper: t = 0 is the plain binary cross-entropy, t = 1 takes the sampling rate itself as the power.
    assert [gbce_power(0.1, t) for t in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1])


@pytest.mark.parametrize("name", SAMPLED)
def test_a_negative_that_is_the_target_does_not_count(name: str) -> None:
    """Neither in the loss nor in the gradient, also where there is no other one."""
    objective = Objective(name=name, draws=2, calibration=0.0)

    def outcome(drawn: list[int]) -> tuple[float, torch.Tensor]:
        weights = WEIGHTS.clone().requires_grad_()
        total = sampled(objective, STATES[:1], weights, BIAS, torch.tensor([2]), torch.tensor(drawn), lambda items: torch.zeros(len(items)))
        total.backward()
        return total.item(), weights.grad

    with_target, without = outcome([0, 2]), outcome([0])
    assert with_target[0] == pytest.approx(without[0])
    torch.testing.assert_close(with_target[1], without[1])
    alone = outcome([2])
    assert torch.isfinite(alone[1]).all()
    assert alone[0] == pytest.approx({"sampled_softmax": 0.0, "bpr_max": 0.0, "gbce": -log(sigmoid(log(3)))}[name], abs=1e-6)


def test_the_lowest_score_is_nobody_elses() -> None:
    assert sampled_softmax(torch.tensor([0.0]), torch.tensor([[LOWEST]])).item() == 0.0


def test_binary_cross_entropy_by_hand() -> None:
    total = binary_cross_entropy(torch.tensor([log(3), log(1 / 4)]), torch.tensor([1, 0], dtype=torch.int32))
    assert total.item() == pytest.approx(-log(3 / 4) - log(4 / 5))


def test_survival_loss_by_hand() -> None:
    """Hazards of 1/4 and 1/2 on two days: of who came on the second, had not come by the first, came later, and tells nothing."""
    hazards = torch.tensor([[log(1 / 3), 0.0]] * 4)
    waited = torch.tensor([[2, 9], [0, 1], [9, 9], [0, 0]])
    each = [survival_loss(hazards[row : row + 1], waited[row : row + 1]).item() for row in range(4)]
    assert each == pytest.approx([-log(3 / 4 * 1 / 2), -log(3 / 4), -log(3 / 4 * 1 / 2), 0.0])
    assert survival_loss(hazards, waited).item() == pytest.approx(sum(each))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "hinge"}, r"no loss is called 'hinge' \(fit.loss.name\)"),
        ({"name": "gbce"}, r"gbce needs negatives \(fit.loss.negatives\)"),
        ({"draws": 5}, "cross_entropy takes no negatives"),
    ],
)
def test_an_objective_that_cannot_be_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Objective(**options)  # type: ignore[arg-type]
