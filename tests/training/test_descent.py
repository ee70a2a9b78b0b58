from typing import Any

import pytest
import torch

from foretaste.models import Loss
from foretaste.settings import FitSettings
from foretaste.training.descent import Descent, rate_at
from foretaste.training.ranks import Alone


def rates(steps: int, **settings: Any) -> list[float]:
    fit = FitSettings.model_validate(settings)
    return [rate_at(fit, step, steps) for step in range(1, steps + 1)]


def test_a_constant_rate_warms_up_in_a_line() -> None:
    assert rates(6, warmup_steps=4) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    assert rates(2) == [1.0, 1.0]


def test_a_cosine_falls_to_a_twentieth() -> None:
    # A quarter, a half, three quarters and all of the way: cos π/4, 0, -cos π/4 and -1.
    down = [0.05 + 0.95 * (1 + cosine) / 2 for cosine in (0.5**0.5, 0.0, -(0.5**0.5), -1.0)]
    assert rates(4, schedule="cosine") == pytest.approx(down)
    assert rates(6, schedule="cosine", warmup_steps=2) == pytest.approx([0.5, 1.0, *down])


def stepped(gradient: list[float], count: float = 1.0, times: int = 1, **settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix and a bias of [1, -0.01, 3], after gradient descent at a rate of 0.1 on that gradient, summed over `count`."""
    matrix, bias = (torch.nn.Parameter(torch.tensor([[1.0, -0.01, 3.0]])) for _ in range(2))
    groups = [{"params": [matrix], "shrinks": True}, {"params": [bias], "shrinks": False}]
    optimizers = {"main": torch.optim.SGD(groups, lr=0.1)}
    descent = Descent(FitSettings.model_validate(settings), optimizers, Alone(), steps_per_epoch=2)
    for step in range(times):
        total = ((matrix + bias) * torch.tensor([gradient])).sum()
        descent.step(Loss(optimizer="main", total=total, count=torch.tensor(count)), epoch=1 + step // 2, step=1 + step % 2)
    return matrix.detach()[0], bias.detach()[0]


def test_a_step_is_on_the_mean_of_the_targets() -> None:
    matrix, bias = stepped([4.0, 0.0, -8.0], count=4.0, clip_norm=None)
    torch.testing.assert_close(matrix, torch.tensor([1 - 0.1, -0.01, 3 + 0.2]))
    torch.testing.assert_close(bias, matrix)


def test_a_long_gradient_is_cut_to_the_norm() -> None:
    matrix, _ = stepped([3.0, 0.0, 0.0], clip_norm=1.0)  # both parameters together have the norm 3 √2
    torch.testing.assert_close(matrix, torch.tensor([1 - 0.1 / 2**0.5, -0.01, 3.0]))


def test_l1_moves_matrices_to_zero_and_not_beyond() -> None:
    matrix, bias = stepped([0.0, 0.0, 0.0], l1=0.5)
    torch.testing.assert_close(matrix, torch.tensor([0.95, 0.0, 2.95]))
    torch.testing.assert_close(bias, torch.tensor([1.0, -0.01, 3.0]))


def test_the_schedule_counts_steps_over_epochs() -> None:
    matrix, _ = stepped([1.0, 0.0, 0.0], times=3, warmup_steps=4, clip_norm=None, epochs=3)
    torch.testing.assert_close(matrix[0], torch.tensor(1 - 0.1 * (0.25 + 0.5 + 0.75)))


def test_a_loss_that_is_no_number_changes_nothing() -> None:
    matrix, _ = stepped([float("nan"), 0.0, 0.0])
    torch.testing.assert_close(matrix, torch.tensor([1.0, -0.01, 3.0]))
