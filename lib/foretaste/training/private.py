"""Learning that gives no row away: DP-SGD (Abadi et al. 2016), clipped, noised and accounted by Opacus, over any number of ranks.

Each row's gradient is clipped to `clip` by itself, whatever the network: one backward pass a row, which is slow and exact for all of them.
Their sum gets Gaussian noise once, on rank 0, before ranks add up; so the noise is that of one process, however many there are.

What epsilon is of: one row (what one user did up to one moment), there or blank. An epoch takes each row once at most, in batches of a
size that is known, so on each row it is one Gaussian mechanism, and epochs compose. Nothing is won by sampling, since rows are shuffled and
not drawn: accounts that take shuffling for Poisson sampling claim too much (Chua et al. 2024, How private are DP-SGD implementations?).

Noise comes from the machine's randomness, not from the seed, which is stored with the model: two runs differ.
"""

import os
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from foretaste.contract import Batch
from foretaste.errors import TrainingError
from foretaste.models import Model
from foretaste.settings import PrivateSettings
from foretaste.training.descent import Descent

UNIT = "row"


@lru_cache
def noise_multiplier(epsilon: float, delta: float, epochs: int) -> float:
    """Standard deviation of the noise over `clip`, by which so many epochs keep to epsilon; TrainingError where the account knows none."""
    from opacus.accountants.utils import get_noise_multiplier  # an extra of setup.py

    try:
        found: float = get_noise_multiplier(target_epsilon=epsilon, target_delta=delta, sample_rate=1.0, steps=epochs, accountant="rdp")
    except ValueError as error:
        raise TrainingError(
            f"no noise that the account knows keeps to epsilon {epsilon:g} at delta {delta:g}",
            where="fit.private",
            fix="Ask for a larger epsilon or delta.",
        ) from error
    return found


def account(private: PrivateSettings, epochs: int) -> dict[str, Any]:
    """What is stored with the model: the epsilon that all its epochs come to, whether they were all run or not."""
    from opacus.accountants import RDPAccountant

    multiplier = noise_multiplier(private.epsilon, private.delta, epochs)
    accountant = RDPAccountant()
    accountant.history = [(multiplier, 1.0, epochs)]
    spent = accountant.get_epsilon(private.delta)
    return {"epsilon": spent, "delta": private.delta, "noise_multiplier": multiplier, "clip": private.clip, "epochs": epochs, "unit": UNIT}


class PrivateDescent:
    """Takes the steps of `descent`'s one optimizer, with gradients that tell little of any row."""

    def __init__(self, descent: Descent, private: PrivateSettings, device: torch.device) -> None:
        from opacus.optimizers import DPOptimizer

        self.descent = descent
        fit = descent.fit
        generator = torch.Generator(device)
        generator.manual_seed(int.from_bytes(os.urandom(7), "big"))
        self.optimizer = DPOptimizer(
            descent.optimizers["main"],
            noise_multiplier=noise_multiplier(private.epsilon, private.delta, fit.epochs),
            max_grad_norm=private.clip,
            expected_batch_size=fit.batch_size,
            loss_reduction="mean",
            generator=generator,
        )

    def step(self, model: Model, batch: Batch[Tensor], epoch: int, step: int) -> tuple[float, float]:
        """One step on this rank's rows and everybody's → the summed loss of all ranks' rows, and the count of their targets."""
        summed = torch.zeros(2, device=batch.length.device)
        self.optimizer.zero_grad()
        for place in range(len(batch.length)):
            [loss] = model.step(batch.map(lambda array, place=place: array[place : place + 1]))  # type: ignore[misc]
            if loss.count == 0:
                continue
            summed += torch.stack([loss.total.detach().float(), loss.count.float()])
            (loss.total / loss.count).backward()  # type: ignore[no-untyped-call]
            for parameter in self.optimizer.params:
                parameter.grad_sample = torch.zeros_like(parameter)[None] if parameter.grad is None else parameter.grad[None]
                parameter.grad = None
            self.optimizer.clip_and_accumulate()
        for parameter in self.optimizer.params:
            if parameter.summed_grad is None:  # a rank whose rows have no target
                parameter.summed_grad = torch.zeros_like(parameter)
                parameter.grad_sample = torch.zeros_like(parameter)[None]
        if self.descent.ranks.rank == 0:
            self.optimizer.add_noise()
        else:
            for parameter in self.optimizer.params:
                parameter.grad = parameter.summed_grad
        self.descent.ranks.add_up([*[parameter.grad for parameter in self.optimizer.params], summed], "step.private")
        self.optimizer.scale_grad()
        if torch.isfinite(summed).all():
            self.descent.follow("main", epoch, step)
        total, count = summed.tolist()
        return total, count
