"""One step down the mean loss of all ranks: gradients added up, clipped, at the schedule's rate, and weights shrunk."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from foretaste.models import Loss
from foretaste.settings import FitSettings
from foretaste.training.ranks import Ranks

LOWEST_RATE = 0.05  # of the learning rate, at the end of a cosine


class Descent:
    """Steps on the optimizers of a model. `steps_per_epoch` is what the schedule counts with."""

    def __init__(self, fit: FitSettings, optimizers: Mapping[str, Optimizer], ranks: Ranks, steps_per_epoch: int) -> None:
        self.fit, self.optimizers, self.ranks = fit, optimizers, ranks
        self.steps_per_epoch = steps_per_epoch
        self.base = {name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in optimizers.items()}

    def step(self, loss: Loss, epoch: int, step: int) -> tuple[float, float]:
        """One step of its optimizer → the summed loss of all ranks, and the count. Nothing is changed where that is not finite."""
        optimizer = self.optimizers[loss.optimizer]
        optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in parameters:
            if parameter.grad is None:  # every rank sums the same tensors
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        both = torch.stack([loss.total.detach().float(), loss.count.float()])
        self.ranks.add_up([*gradients, both], f"step.{loss.optimizer}")
        summed, count = both.tolist()
        if not math.isfinite(summed):
            return summed, count
        torch._foreach_div_(gradients, max(count, 1.0))
        if self.fit.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.fit.clip_norm)
        self.follow(loss.optimizer, epoch, step)
        return summed, count

    def follow(self, name: str, epoch: int, step: int) -> None:
        """Moves that optimizer's parameters along their gradients, at the schedule's rate."""
        optimizer = self.optimizers[name]
        rate = rate_at(self.fit, (epoch - 1) * self.steps_per_epoch + step, self.fit.epochs * self.steps_per_epoch)
        for group, base in zip(optimizer.param_groups, self.base[name], strict=True):
            group["lr"] = base * rate
        optimizer.step()
        if self.fit.l1:
            for group in optimizer.param_groups:
                if group.get("shrinks"):
                    shrink(group["params"], group["lr"] * self.fit.l1)


def rate_at(fit: FitSettings, step: int, steps: int) -> float:
    """What the learning rate is multiplied with at `step` of `steps`, counted from 1: up in a line, then as `schedule` says."""
    if step <= fit.warmup_steps:
        return step / fit.warmup_steps
    if fit.schedule == "constant":
        return 1.0
    done = min(1.0, (step - fit.warmup_steps) / max(1, steps - fit.warmup_steps))
    return LOWEST_RATE + (1 - LOWEST_RATE) * (1 + math.cos(math.pi * done)) / 2


@torch.no_grad()
def shrink(parameters: list[Tensor], amount: float) -> None:
    """Moves each weight towards 0 by `amount`, and no further: the proximal step of an L1 penalty."""
    for parameter in parameters:
        parameter.copy_(F.softshrink(parameter, amount))
