"""Where events stand to one another: by how many events and by how much time they are apart.

Legend: B rows, T events, h heads, d width of a head. Rows are left-aligned, and a state looks back only: later events move nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foretaste.contract import FIRST_INDEX, NUM_GAP_BUCKETS, Batch

ROTARY_BASE = 10_000.0


@dataclass(frozen=True, kw_only=True)
class Places:
    """causal: (T, T), whether the event of a row may look at the event of a column; distance: (T, T) events between them, 0 for itself;
    elapsed: (B, T, T) bucket of the time between them, as gap_bucket counts it, or None without the feature `gap`.
    """

    causal: Tensor
    distance: Tensor
    elapsed: Tensor | None


def places_of(batch: Batch[Tensor], *, with_time: bool) -> Places:
    place = torch.arange(batch.item.shape[1], device=batch.item.device)
    distance = place[:, None] - place
    elapsed = elapsed_buckets(batch.features["gap"]) if with_time else None
    return Places(causal=distance >= 0, distance=distance.clamp(min=0), elapsed=elapsed)


def elapsed_buckets(gap: Tensor) -> Tensor:
    """(B, T) buckets of the time since the event before → (B, T, T) buckets of the time between any two.

    A bucket of n bits stands for 0.75 · 2^n seconds, the middle of its range; so one gap alone falls into its own bucket again.
    """
    bits = (gap - FIRST_INDEX).clamp(min=0)
    seconds = torch.floor(0.75 * 2.0 ** bits.double()) * (gap > FIRST_INDEX)  # (B, T)
    since_start = seconds.cumsum(1)
    between = (since_start[:, :, None] - since_start[:, None, :]).clamp(min=0)  # (B, T, T)
    return (torch.frexp(between).exponent + FIRST_INDEX).clamp(max=NUM_GAP_BUCKETS - 1).long()


class RelativeBias(nn.Module):
    """What is added to an attention score for the distance of two events, and for the time between them.

    By distance as in Raffel et al. 2020 (T5), without its buckets: histories are short. By time as in Zhai et al. 2024, section 3.2.
    """

    def __init__(self, heads: int, length: int, *, with_time: bool) -> None:
        super().__init__()
        self.position_distance = nn.Parameter(torch.zeros(length, heads))
        self.position_time = nn.Parameter(torch.zeros(NUM_GAP_BUCKETS, heads)) if with_time else None

    def forward(self, places: Places) -> Tensor:
        """(1 or B, h, T, T)"""
        bias = self.position_distance[places.distance.clamp(max=len(self.position_distance) - 1)][None]  # (1, T, T, h)
        if self.position_time is not None:
            bias = bias + self.position_time[places.elapsed]
        return bias.permute(0, 3, 1, 2)


def rotated(x: Tensor) -> Tensor:
    """(B, h, T, d) → the same, each pair of numbers turned by an angle that grows with the place: a product of two then knows
    their distance alone (Su et al. 2021, RoFormer, eq. 34).
    """
    half = x.shape[-1] // 2
    speed = ROTARY_BASE ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * speed  # (T, d / 2)
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat([first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()], dim=-1)
    return turned.to(x.dtype)
