"""Which items stand for all others in a sampled loss: drawn by popularity, the same ones on every rank."""

import math

import torch
from torch import Tensor, nn


class Negatives(nn.Module):
    """`draws` draws with replacement from P(item) ∝ popularity^exponent; exponent 0 is uniform.

    popularity: (I,) positive, in any unit. Items are counted from the first real one. Nothing here is learnt or stored.
    """

    def __init__(self, draws: int, exponent: float, popularity: Tensor) -> None:
        super().__init__()
        self.draws, self.exponent = draws, exponent
        self.probability: Tensor
        self.cumulative: Tensor
        self.register_buffer("probability", torch.empty(0), persistent=False)
        self.register_buffer("cumulative", torch.empty(0), persistent=False)
        self.follow(popularity)

    def follow(self, popularity: Tensor) -> None:
        """Draws by this popularity from now on."""
        share = popularity.double() ** self.exponent
        self.probability = share / share.sum()
        self.cumulative = self.probability.cumsum(0)

    def draw(self, noise: torch.Generator) -> Tensor:
        """(M,): the distinct items of the draws, rising. `noise` is on the CPU, so that all devices draw alike."""
        uniform = torch.rand(self.draws, generator=noise, dtype=torch.float64).to(self.cumulative.device)
        items = torch.searchsorted(self.cumulative, uniform, right=True).clamp(max=len(self.cumulative) - 1)
        distinct: Tensor = torch.unique(items)
        return distinct

    def log_expected_count(self, items: Tensor) -> Tensor:
        """log P(item is among the distinct items of the draws) = log(1 - (1 - p)^draws). items (…) → (…) float32"""
        return torch.log(-torch.expm1(self.draws * torch.log1p(-self.probability[items]))).float()


def log_uniform(num_items: int) -> Tensor:
    """(I,) float64: Zipf's law over a vocabulary that is sorted by falling count, P(k) = log(1 + 1/(k + 1)) / log(I + 1), k from 0."""
    rank = torch.arange(num_items, dtype=torch.float64)
    return torch.log1p(1 / (rank + 1)) / math.log1p(num_items)
