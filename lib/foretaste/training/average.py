"""A moving average of a model's weights: steadier than the last step's (Polyak & Juditsky 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PREFIX = "average."


class Average:
    """average ← d · average + (1 - d) · weights after each step; d grows up to `decay`, so that the first steps are soon forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """After step number `step` of the fit, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.model.named_parameters():
            self.weights[name].lerp_(parameter, 1 - decay)

    def settle(self) -> None:
        """Makes the average the model's weights for good."""
        self._set(self.weights)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the average as its weights inside."""
        own = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        self._set(self.weights)
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(weights[name])
