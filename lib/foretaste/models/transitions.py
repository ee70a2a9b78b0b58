"""markov, rules and item_knn: what followed, or went together with, the last known item. One table of the items' neighbours serves all.

markov    what came right after it: first-order Markov chain
rules     what came within some steps after it, each weighted by 1 / steps: sequential rules
          (Ludewig & Jannach 2018, Evaluation of session-based recommendation algorithms, section 3.1, for both)
item_knn  what was in the same histories, by the cosine of their occurrence (Sarwar et al. 2001, Item-based collaborative filtering)

They differ in what `counting` puts into the table.
"""

import torch
from torch import Tensor

from foretaste.contract import Batch, Sizes
from foretaste.models.counted import Counted, Options, entries, last_known

TRAIL = 0.7  # what an event counts for, of the one after it, where all events of a row count
TRAIL_EVENTS = 20  # from there on an event counts for less than a thousandth


class Transitions(Counted):
    """Tables: lists by item, offset (I + 1,), with the columns neighbour (N,), an item, and weight (N,), positive."""

    def __init__(self, *, sizes: Sizes, options: Options) -> None:
        super().__init__(sizes=sizes, options=options, tables={"offset": torch.int64, "neighbour": torch.int32, "weight": torch.float32})

    def evidence(self, batch: Batch[Tensor]) -> Tensor:
        last = last_known(batch.item)  # (B,); the lists of PAD and UNKNOWN are empty
        row, place = entries(self._table("offset"), last)
        evidence = torch.zeros((len(last), self.num_items), device=last.device)
        evidence[row, self._table("neighbour")[place].long()] = self._table("weight")[place]
        return evidence

    def trail(self, batch: Batch[Tensor]) -> Tensor:
        """(B, I): what follows any of the row's last items, each item's neighbours sharing TRAIL ^ (events after it)."""
        item = batch.item[:, -TRAIL_EVENTS:].long()  # (B, T), left-padded
        offset, weight = self._table("offset"), self._table("weight")
        of_item = torch.cat([weight.new_zeros(1), weight.double().cumsum(0)])
        total = (of_item[offset[1:]] - of_item[offset[:-1]]).float().clamp(min=torch.finfo(torch.float32).tiny)  # (I,)
        lately = TRAIL ** torch.arange(item.shape[1] - 1, -1, -1, device=item.device).float()  # (T,)
        event, place = entries(offset, item.flatten())
        row, worth = event // item.shape[1], (lately / total[item]).flatten()[event] * weight[place]
        evidence = torch.zeros(len(item) * self.num_items, device=item.device)
        return evidence.index_add_(0, row * self.num_items + self._table("neighbour")[place], worth).view(len(item), self.num_items)
