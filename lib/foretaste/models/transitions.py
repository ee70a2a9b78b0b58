"""markov, rules and item_knn: what followed, or went together with, the last known item. One table of the items' neighbours serves all.

markov    what came right after it: first-order Markov chain
rules     what came within some steps after it, each weighted by 1 / steps: sequential rules
          (Ludewig & Jannach 2018, Evaluation of session-based recommendation algorithms, section 3.1, for both)
item_knn  what was in the same histories, by the cosine of their occurrence (Sarwar et al. 2001, Item-based collaborative filtering)

They differ in what `counting` puts into the table.
"""

from typing import Any

import torch
from torch import Tensor

from foretaste.contract import Batch, Sizes
from foretaste.models.counted import Counted, Options, entries, last_known, shares_in

TRAIL = 0.7  # what an event counts for, of the one after it, where all events of a row count
TRAIL_EVENTS = 20  # from there on an event counts for less than a thousandth


class Transitions(Counted):
    """Tables: lists by item, offset (I + 1,), with the columns neighbour (N,), an item, and weight (N,), positive."""

    def __init__(self, *, sizes: Sizes, options: Options) -> None:
        super().__init__(sizes=sizes, options=options, tables={"offset": torch.int64, "neighbour": torch.int32, "weight": torch.float32})
        self._total: Tensor | None = None  # see `_totals`
        self._by_pair: tuple[Tensor, Tensor] | None = None  # rising keys of (item, neighbour), and their shares: see `_shares_of_pairs`

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._total = self._by_pair = None
        super()._load_from_state_dict(*arguments)

    def evidence(self, batch: Batch[Tensor]) -> Tensor:
        last = last_known(batch.item)  # (B,); the lists of PAD and UNKNOWN are empty
        row, place = entries(self._table("offset"), last)
        evidence = torch.zeros((len(last), self.num_items), device=last.device)
        evidence[row, self._table("neighbour")[place].long()] = self._table("weight")[place]
        return evidence

    def opinions(self, batch: Batch[Tensor]) -> list[Tensor]:
        return [*super().opinions(batch), shares_in(self.trail(batch))]

    def opinions_of(self, batch: Batch[Tensor], target: Tensor) -> list[Tensor]:
        """What follows the last item, and the trail. Shares of the trail are those among the events whose item has followers."""
        last = last_known(batch.item)[:, None].expand(target.shape)
        item = batch.item[:, -TRAIL_EVENTS:].long()  # (B, T)
        has_list = torch.diff(self._table("offset"))[item] > 0
        worth = has_list * self._lately(item.shape[1], item.device)  # (B, T)
        pairs = self._shares_of_pairs(item[:, :, None].expand(-1, -1, target.shape[1]), target[:, None].expand(-1, item.shape[1], -1))
        trail = (worth[:, :, None] * pairs).sum(1) / worth.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        return [self._shares_of_pairs(last, target), trail]

    def _shares_of_pairs(self, item: Tensor, neighbour: Tensor) -> Tensor:
        """Of each item's list the share of that neighbour, 0 for one that it lacks; both of any one shape."""
        if self._by_pair is None:
            offset, weight = self._table("offset"), self._table("weight")
            owner = torch.repeat_interleave(torch.arange(self.num_items, device=weight.device), torch.diff(offset))
            keys, order = (owner * self.num_items + self._table("neighbour")).sort()
            self._by_pair = keys, (weight / self._totals()[owner])[order]
        keys, shares = self._by_pair
        if len(keys) == 0:
            return torch.zeros(item.shape, device=item.device)
        wanted = item.long() * self.num_items + neighbour.long()
        place = torch.searchsorted(keys, wanted.contiguous()).clamp(max=len(keys) - 1)
        return torch.where(keys[place] == wanted, shares[place], 0.0)

    def _totals(self) -> Tensor:
        """(I,): the weights of each item's list together, and next to nothing for an empty one. Summed up once: lists are long."""
        if self._total is None:
            offset, weight = self._table("offset"), self._table("weight")
            until = torch.cat([weight.new_zeros(1), weight.double().cumsum(0)])
            self._total = (until[offset[1:]] - until[offset[:-1]]).float().clamp(min=torch.finfo(torch.float32).tiny)
        return self._total

    def _lately(self, events: int, device: torch.device) -> Tensor:
        """(T,): what each of the last events counts for."""
        return TRAIL ** torch.arange(events - 1, -1, -1, device=device).float()

    def trail(self, batch: Batch[Tensor]) -> Tensor:
        """(B, I): what follows any of the row's last items, each item's neighbours sharing TRAIL ^ (events after it)."""
        item = batch.item[:, -TRAIL_EVENTS:].long()  # (B, T), left-padded
        offset, weight = self._table("offset"), self._table("weight")
        total, lately = self._totals(), self._lately(item.shape[1], item.device)  # (I,), (T,)
        event, place = entries(offset, item.flatten())
        row, worth = event // item.shape[1], (lately / total[item]).flatten()[event] * weight[place]
        evidence = torch.zeros(len(item) * self.num_items, device=item.device)
        return evidence.index_add_(0, row * self.num_items + self._table("neighbour")[place], worth).view(len(item), self.num_items)
