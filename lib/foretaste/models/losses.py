"""Losses as sums over targets, with their count: ranks add both up before they divide, so any number of ranks learns the same."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from foretaste.contract import FIRST_INDEX

LOGITS_AT_ONCE = 1 << 26  # 256 MB of float32 logits, and as much again for their gradient


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What one optimizer minimises on this rank's batch.

    optimizer: a name in `Model.optimizers()`
    total:     (), the loss summed over targets; it carries the gradient
    count:     (), how many targets
    """

    optimizer: str
    total: Tensor
    count: Tensor


def cross_entropy(states: Tensor, weights: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """The summed softmax cross-entropy over the full catalogue. states (N, D), weights (I, D), bias (I,), targets (N,) → ().

    Where the (N, I) logits would not fit, they are made in blocks of rows and once more in the backward pass.
    """
    rows = max(1, LOGITS_AT_ONCE // len(weights))
    if len(targets) <= rows:
        return _full_softmax(states, weights, bias, targets)
    blocks = zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
    totals = [checkpoint(_full_softmax, state, weights, bias, target, use_reentrant=False) for state, target in blocks]
    return torch.stack(totals).sum()


def _full_softmax(states: Tensor, weights: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    logits = torch.addmm(bias, states, weights.T)  # (N, I)
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def sampled_cross_entropy(states: Tensor, weights: Tensor, bias: Tensor, targets: Tensor, negatives: Tensor, draws: int) -> Tensor:
    """The summed softmax cross-entropy against shared negatives, with the logQ correction. negatives (M,) distinct → ().

    Each logit loses the log of how often `draws` draws are expected to hold its item, which makes the sampled softmax an
    estimate of the full one; a negative that is the row's own target counts once. (Bengio & Senécal 2008; Yi et al. 2019, eq. 3.)
    """
    own = (states * F.embedding(targets, weights)).sum(1).float() + bias[targets] - log_expected_count(targets, len(weights), draws)  # (N,)
    offset = bias[negatives] - log_expected_count(negatives, len(weights), draws)  # (M,)
    others = torch.addmm(offset, states, F.embedding(negatives, weights).T).float()  # (N, M)
    others = others.masked_fill(targets[:, None] == negatives, -torch.inf)
    logits = torch.cat([own[:, None], others], dim=1)  # (N, 1 + M)
    return F.cross_entropy(logits, torch.zeros_like(targets), reduction="sum")


def draw_negatives(num_items: int, draws: int, generator: torch.Generator) -> Tensor:
    """The distinct items of `draws` draws from the log-uniform distribution over the vocabulary, on the generator's device.

    The vocabulary is sorted by falling count, so log-uniform over the index stands for popularity (Zipf's law).
    """
    real = num_items - FIRST_INDEX
    uniform = torch.rand(draws, generator=generator, device=generator.device, dtype=torch.float64)
    rank = (uniform * math.log1p(real)).exp().long() - 1  # inverse of the distribution
    distinct: Tensor = torch.unique(rank.clamp(0, real - 1))
    return distinct + FIRST_INDEX


def log_uniform(items: Tensor, num_items: int) -> Tensor:
    """P(item) under the log-uniform distribution over the real items of a vocabulary. items (…) ≥ FIRST_INDEX → (…) float32."""
    rank = (items - FIRST_INDEX).double()
    probability: Tensor = torch.log1p(1 / (rank + 1)) / math.log1p(num_items - FIRST_INDEX)
    return probability.float()


def log_expected_count(items: Tensor, num_items: int, draws: int) -> Tensor:
    """log P(item is among the distinct items of `draws` draws) = log(1 - (1 - p)^draws). items (…) → (…)."""
    return torch.log(-torch.expm1(draws * torch.log1p(-log_uniform(items, num_items))))


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The summed log loss of logits (B,) against labels (B,) of 0 and 1 → ()."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum")
