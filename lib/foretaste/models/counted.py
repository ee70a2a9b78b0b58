"""Models that are counted, not learnt: their tables are buffers, so that they are stored, loaded and served like any network.

Legend: B rows, T events, I items with PAD and UNKNOWN, N entries of a table of lists.
A table of lists is flat: the entries of list i are [offset[i], offset[i + 1]) of each of its columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foretaste.contract import FIRST_INDEX, PAD, UNKNOWN, Batch, Sizes


@dataclass(frozen=True, kw_only=True)
class Options:
    """How counted models score; each reads what it needs. (How they are counted is told to `counting`.)

    smoothing:      the share of popularity in the probabilities: it orders what was never counted, and hardly anything else. With 0 that
                    is all at -inf, as published tables have it: to be judged so, not to be served
    own_decay:      own_items: what an event counts for, of the one after it; 1: all events count alike
    k, sample:      vsknn, stan: the most similar `k` of the `sample` most recent sessions that share an item
    stan_history:   stan: after so many events an event of the row counts for 1/e (λ1 of the paper)
    stan_recency:   stan: after so many days a session counts for 1/e (λ2)
    stan_place:     stan: so many places from the shared item an item counts for 1/e (λ3)
    """

    smoothing: float = 1e-3
    own_decay: float = 1.0
    k: int = 500
    sample: int = 5000
    stan_history: float = 1.0
    stan_recency: float = 30.0
    stan_place: float = 4.0


class Counted(nn.Module):
    """A subclass gives its tables (name → dtype) and `evidence`. `features`: what it reads of a batch, beside the scalars."""

    features: tuple[str, ...] = ("item",)

    def __init__(self, *, sizes: Sizes, options: Options, tables: Mapping[str, torch.dtype] | None = None) -> None:
        super().__init__()
        self.num_items, self.options = sizes.num_items, options
        self.register_buffer("popularity", torch.zeros(sizes.num_items))  # (I,): how often each item was counted
        for name, dtype in (tables or {}).items():
            self.register_buffer(name, torch.zeros(0, dtype=dtype))

    def evidence(self, batch: Batch[Tensor]) -> Tensor:
        """(B, I), not negative: how much speaks for each item. A row that nothing speaks in is popularity's alone."""
        raise NotImplementedError

    def opinions(self, batch: Batch[Tensor]) -> list[Tensor]:
        """(B, I) each, what a blend asks for: of each row the share of each item in the evidence; 0 where nothing speaks for any."""
        return [shares_in(self.evidence(batch))]

    def opinions_of(self, batch: Batch[Tensor], target: Tensor) -> list[Tensor]:
        """(B, k) each: the same of some items (B, k) alone. A subclass that can look them up is the quicker for it."""
        return [opinion.gather(1, target) for opinion in self.opinions(batch)]

    def score(self, batch: Batch[Tensor]) -> Tensor:
        """(B, I): the logarithm of each item's probability: its share of the evidence, and a little popularity. PAD and UNKNOWN at -inf."""
        evidence = self.evidence(batch)
        evidence[:, :FIRST_INDEX] = 0.0
        total = evidence.sum(1, keepdim=True)
        probability = evidence.mul_((1 - self.options.smoothing) / total.clamp(min=torch.finfo(evidence.dtype).tiny))
        popular = torch.where(total > 0, self.options.smoothing, float(self.options.smoothing > 0))  # (B, 1)
        return torch.addcmul(probability, popular, self.shares(probability.dtype)).log_()

    def shares(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """(I,): each item's share of all that was counted; one that never was has half a count, PAD and UNKNOWN none."""
        counts = self._table("popularity").double().clamp(min=0.5)
        counts[:FIRST_INDEX] = 0.0
        return (counts / counts.sum()).to(dtype)

    def _table(self, name: str) -> Tensor:
        table = getattr(self, name)
        assert isinstance(table, Tensor)
        return table

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """Tables are as long as what was counted: each takes the shape that it is loaded with. popularity alone has one it must have."""
        for name, buffer in self._buffers.items():
            given = state_dict.get(prefix + name)
            if name != "popularity" and isinstance(given, Tensor) and buffer is not None and given.shape != buffer.shape:
                setattr(self, name, torch.zeros(given.shape, dtype=buffer.dtype, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def shares_in(evidence: Tensor) -> Tensor:
    """(B, I) evidence → of each row the share of each item, PAD and UNKNOWN apart; 0 where nothing speaks for any."""
    evidence[:, :FIRST_INDEX] = 0.0
    return evidence.div_(evidence.sum(1, keepdim=True).clamp(min=torch.finfo(evidence.dtype).tiny))


def entries(offset: Tensor, lists: Tensor) -> tuple[Tensor, Tensor]:
    """Which of `lists` (n,) each entry belongs to, as a place in `lists`, and where it lies in the flat columns; both (E,) int64."""
    start, stop = offset[lists], offset[lists + 1]
    count = stop - start
    owner = torch.repeat_interleave(torch.arange(len(lists), device=lists.device), count)
    within = torch.arange(len(owner), device=lists.device) - torch.repeat_interleave(count.cumsum(0) - count, count)
    return owner, start[owner] + within


def last_known(item: Tensor) -> Tensor:
    """(B,) int64: the latest item of the vocabulary in each row of (B, T), whatever its alignment; PAD where there is none."""
    known = item > UNKNOWN
    columns = torch.arange(1, item.shape[1] + 1, device=item.device)
    place = (known * columns).amax(1)  # 1 + the column of the latest known item
    found = item.gather(1, (place - 1).clamp(min=0)[:, None]).squeeze(1).long()
    return torch.where(place > 0, found, PAD)
