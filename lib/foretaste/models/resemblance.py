"""How far written rows resemble real ones, as sums that ranks add up: no process holds them all.

Pairs of consecutive items and whole rows are counted in buckets by their hash. From how many buckets are in use follows how many different
ones there were (linear counting: Whang et al. 1990).
"""

import math

import torch
from torch import Tensor

from foretaste.contract import PAD, Batch
from foretaste.models.chance import fingerprint
from foretaste.models.model import Health

PAIR_BUCKETS, ROW_BUCKETS = 1 << 14, 1 << 16
FEWEST = 0.3  # of the different rows and pairs that real rows have: below it, it writes the same again and again
SUREST = 0.99  # of the pairs: a discriminator of minimax that is never wrong has nothing to teach
FEWEST_ROWS = 100  # to say so


class Resemblance:
    """rows, pairs of a real and a written row in which the former is held for more real, then counts of real and written pairs and rows."""

    num_sums = 2 + 2 * PAIR_BUCKETS + 2 * ROW_BUCKETS

    def sums(self, real: Batch[Tensor], fake: Batch[Tensor], of_real: Tensor, of_fake: Tensor) -> Tensor:
        """(num_sums,) float64 on the CPU. of_real, of_fake: (B,) the discriminator's words"""
        right = (of_real > of_fake).double().sum() + 0.5 * (of_real == of_fake).double().sum()
        head = torch.tensor([float(len(of_real)), float(right)], dtype=torch.float64)
        counts = [_pairs(real.item), _pairs(fake.item), _rows(real.item), _rows(fake.item)]
        return torch.cat([head, *(count.double().cpu() for count in counts)])

    def health(self, sums: Tensor, *, settled: bool, against: str | None) -> Health:
        """distinct_rows, distinct_pairs: how many different ones were written, of those that as many real rows have;
        pair_distance: the total variation between the two ways in which items follow each other, 0 the same, 1 nothing in common.

        settled: that it ails is told; against: the game with a discriminator that learns, if there is one. A minimax one that is always
        right teaches nothing, since its word saturates; a Wasserstein one is meant to be right, and its slope still tells the way.
        """
        rows, right = float(sums[0]), float(sums[1])
        if rows == 0:
            return Health(metrics={})
        real, fake, real_rows, fake_rows = torch.split(sums[2:], [PAIR_BUCKETS, PAIR_BUCKETS, ROW_BUCKETS, ROW_BUCKETS])
        distance = 0.5 * float((real / real.sum().clamp(min=1) - fake / fake.sum().clamp(min=1)).abs().sum())
        distinct_rows = _distinct(fake_rows) / max(1.0, _distinct(real_rows))
        distinct_pairs = _distinct(fake) / max(1.0, _distinct(real))
        metrics = {"distinct_rows": distinct_rows, "distinct_pairs": distinct_pairs, "pair_distance": distance}
        ailment = None
        if against is not None:
            metrics["discriminator_accuracy"] = right / rows
        if settled and rows >= FEWEST_ROWS:
            if min(distinct_rows, distinct_pairs) < FEWEST:
                ailment = (
                    f"the generator has collapsed: it writes {distinct_rows:.0%} of the different rows that real ones are, "
                    f"and {distinct_pairs:.0%} of the different pairs of items"
                )
            elif against == "minimax" and right / rows > SUREST:
                ailment = f"the two players have diverged: the discriminator finds the real row in {right / rows:.1%} of the pairs"
        return Health(metrics=metrics, ailment=ailment)


def _pairs(item: Tensor) -> Tensor:
    """(PAIR_BUCKETS,): pairs of consecutive items of (B, T) rows, by bucket; a first item makes a pair with PAD."""
    item = item.long()
    before = torch.cat([torch.zeros_like(item[:, :1]), item[:, :-1]], dim=1)
    pairs = torch.stack([before, item], dim=2)[item != PAD]  # (N, 2)
    return torch.bincount(fingerprint(pairs) & (PAIR_BUCKETS - 1), minlength=PAIR_BUCKETS)


def _rows(item: Tensor) -> Tensor:
    """(ROW_BUCKETS,): whole rows, by bucket."""
    return torch.bincount(fingerprint(item) & (ROW_BUCKETS - 1), minlength=ROW_BUCKETS)


def _distinct(counts: Tensor) -> float:
    """How many different things fell into these buckets, about."""
    empty = float((counts == 0).double().mean())
    return -len(counts) * math.log(max(empty, 0.5 / len(counts)))
