"""own_items: what the user did most often comes first, the rest by popularity. The baseline that most papers forget and few beat
where people buy the same things again (Hu et al. 2020, Modeling personalized item frequency information for next-basket recommendation).
"""

import torch
from torch import Tensor

from foretaste.contract import FIRST_INDEX, Batch
from foretaste.models.counted import Counted

_LEAST = 1e-4  # popularity against the weight of the last event: it orders what ties, whatever the smoothing


class OwnItems(Counted):
    """Each event of the row counts for its item: own_decay ^ (events after it in the row)."""

    def evidence(self, batch: Batch[Tensor]) -> Tensor:
        item = batch.item.long()  # (B, T), left-padded
        age = torch.arange(item.shape[1] - 1, -1, -1, device=item.device)
        weight = self.options.own_decay ** age.float()  # (T,)
        evidence = torch.zeros((len(item), self.num_items), device=item.device)
        evidence.scatter_add_(1, item, weight.expand(item.shape))
        return evidence + _LEAST * self.shares()

    def opinions_of(self, batch: Batch[Tensor], target: Tensor) -> list[Tensor]:
        item = batch.item.long()
        weight = (self.options.own_decay ** torch.arange(item.shape[1] - 1, -1, -1, device=item.device).float()).expand(item.shape)
        own = ((target[:, :, None] == item[:, None]) * weight[:, None]).sum(2)  # (B, k)
        total = (weight * (item >= FIRST_INDEX)).sum(1, keepdim=True) + _LEAST
        return [(own + _LEAST * self.shares()[target]) / total]
