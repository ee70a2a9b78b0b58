"""When a row had a candidate, as numbers for a ranker. What people buy again and again they buy at intervals: which of its own items a row
will have next is told by how often and how lately it had them.

Legend: B rows, T events, C candidates of a row.
"""

import math

import torch
from torch import Tensor

from foretaste.contract import FIRST_INDEX, Batch

FADES_EVENTS = (10.0, 100.0)  # an event counts for 1/e after so many more events
FADES_DAYS = (7.0, 28.0, 90.0)  # and after so many days
NUM_OWN = 2 + len(FADES_EVENTS) + len(FADES_DAYS)
DAY = 86400.0
LEAST = 1e-3  # of one event just now: what is less says the same, long ago


def own_events(batch: Batch[Tensor], candidate: Tensor) -> Tensor:
    """(B, C, NUM_OWN) in about [0, 1], 0 for what the row never had: how many events ago it had the candidate, how many days ago, and its
    events of the candidate counted as they fade. Reads `item`, `gap` and `recency`.
    """
    item = batch.item.long()
    ago = torch.arange(item.shape[1] - 1, -1, -1, device=item.device).float().expand(item.shape)  # (B, T) events
    days = seconds_ago(batch) / DAY  # (B, T)
    weights = torch.stack([(-ago / fade).exp() for fade in FADES_EVENTS] + [(-days / fade).exp() for fade in FADES_DAYS], dim=2)
    had = (candidate[:, :, None] == item[:, None, :]).float()  # (B, C, T)
    counts = _scaled(torch.bmm(had, weights))  # (B, C, one for each fade)
    latest = (had / (1.0 + ago)[:, None, :]).amax(2)
    since = (had / (1.0 + days)[:, None, :]).amax(2)
    return torch.cat([latest[:, :, None], _scaled(since)[:, :, None], counts], dim=2)


def seconds_ago(batch: Batch[Tensor]) -> Tensor:
    """(B, T) float32: about how long before `as_of` each event was, by the middle of its buckets. Of padding it means nothing."""

    def middle(bucket: Tensor) -> Tensor:
        return torch.where(bucket > FIRST_INDEX, 1.5 * torch.exp2(bucket.float() - FIRST_INDEX - 1), 0.0)  # see contract.gap_bucket

    gap = middle(batch.features["gap"])  # (B, T), before each event
    after = gap.flip(1).cumsum(1).flip(1) - gap
    return after + middle(batch.recency)[:, None]


def _scaled(weight: Tensor) -> Tensor:
    """On a logarithmic scale: 0 → 0, 1 → 1."""
    return torch.log1p(weight / LEAST) / math.log1p(1 / LEAST)
