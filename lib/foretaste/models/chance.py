"""Random numbers that belong to a row: the same in whichever rank, batch or partition the row turns up, and on any device.

They are hashes of the row's seed and a counter (as Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3, make theirs), mixed by
the finaliser of SplitMix64 (Steele et al. 2014), whose arithmetic is that of wrapping 64-bit integers.

Legend: B rows; a seed is any int64.
"""

import math

import torch
from torch import Tensor

_STEP = -7046029254386353131  # 2^64 / golden ratio, odd
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685
_UNIT = 1.0 / (1 << 53)


def seeds(rows: int, noise: torch.Generator, place: tuple[int, int] | None = None) -> Tensor:
    """(rows,) seeds from a generator on the CPU. place: (rows of the global batch, which of them is the first here), where it is shared"""
    total, first = place or (rows, 0)
    return torch.randint(-(1 << 62), 1 << 62, (total,), generator=noise)[first : first + rows]


def uniform(seed: Tensor, stream: int, count: int) -> Tensor:
    """(B, count) float64 in (0, 1), of seeds (B,). Each `stream` of a row is independent of the others."""
    start = _mixed(_mixed(seed) + _STEP * torch.tensor(stream + 1, device=seed.device))[:, None]
    counter = torch.arange(1, count + 1, device=seed.device) * _STEP
    return (_shifted(_mixed(start + counter), 11).double() + 0.5) * _UNIT


def normal(seed: Tensor, stream: int, count: int) -> Tensor:
    """(B, count) float32 of N(0, 1) (Box & Muller 1958)."""
    half = (count + 1) // 2
    first, second = uniform(seed, stream, 2 * half).chunk(2, dim=1)
    radius, angle = (-2.0 * first.log()).sqrt(), 2.0 * math.pi * second
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count].float()


_LEAST = 2.0**-25  # half of the least number above 0 that torch.rand gives: the logarithm of 0 is none


def gumbel(rows: int, count: int, noise: torch.Generator, place: tuple[int, int] | None = None) -> Tensor:
    """(rows, count) float32 of Gumbel(0, 1): the place of the largest logit plus it is a draw from their softmax.

    For many numbers a row: a generator draws them three times as fast as hashes make them, though for the rows of the other ranks, too.
    """
    total, first = place or (rows, 0)
    share = torch.rand(total, count, generator=noise)[first : first + rows]  # exponential_() draws nine times as slowly
    return share.clamp_(min=_LEAST).log_().neg_().log_().neg_()


def choice(logits: Tensor, point: Tensor) -> Tensor:
    """(B,) int64: a draw from the softmax of (B, n) logits, told by `point`, (B,) in (0, 1): where its cumulative sum passes that."""
    cumulative = torch.softmax(logits, dim=1).cumsum(1)  # (B, n)
    point = (point.to(cumulative.dtype) * cumulative[:, -1])[:, None]
    return torch.searchsorted(cumulative, point).squeeze(1).clamp(max=logits.shape[1] - 1)


def fingerprint(values: Tensor) -> Tensor:
    """(B,) int64: a hash of each row of (B, K) integers."""
    total = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    for column in values.long().unbind(1):
        total = _mixed(total + _STEP * (column + 1))
    return total


def _mixed(bits: Tensor) -> Tensor:
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """To the right, zeros coming in."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
