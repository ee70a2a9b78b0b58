"""mult_vae: a variational auto-encoder of the bag of a row's items, whatever their order (Liang et al. 2018, Variational autoencoders for
collaborative filtering). What short histories lack in order, the company of their items makes up for.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from foretaste.contract import FIRST_INDEX, PAD, UNKNOWN, Batch
from foretaste.models.losses import Loss
from foretaste.models.presets import BAG
from foretaste.models.rows import last
from foretaste.models.variational import Variational, drawn, log_likelihood


class MultVAE(Variational):
    """The bag, each item once and the whole at length 1 → tanh layer → posterior → tanh layer → a softmax over all items.

    As published, the two ends have item vectors of their own (`tied: false`), and dropout is on the bag, an item at a time.
    A step holds (B, I) probabilities: for catalogues of some 100,000 items, not of millions.
    """

    presets = BAG

    def __init__(self, *, hidden: tuple[int, ...], dropout: float, **others: Any) -> None:
        super().__init__(embedding=hidden[-1], width=hidden[-1], **others)
        self.p = dropout
        self.bias = nn.Parameter(torch.zeros(hidden[-1]))

    def summary(self, batch: Batch[Tensor]) -> Tensor:
        """(B, T, H): of the bag of each prefix. Of `embeddings`, features other than the item count for each event."""
        new = is_new(batch.item)  # (B, T)
        size = new.sum(1, dtype=torch.float32, keepdim=True).sqrt() if self.training else new.cumsum(1).float().sqrt()
        weight = new.float()
        if self.training:
            weight = weight * (torch.rand_like(weight) >= self.p) / (1 - self.p)
        total = (self.embedded(batch) * weight[:, :, None]).cumsum(1)  # (B, T, H)
        return torch.tanh(total / size.clamp(min=1.0)[:, :, None] + self.bias)

    def told(self, batch: Batch[Tensor]) -> Tensor:
        return torch.where(is_new(batch.item), batch.item, PAD)

    def step(self, batch: Batch[Tensor]) -> Iterator[Loss]:
        """The negative evidence lower bound of the multinomial, summed over rows: - Σ log p(item) over the bag, and the divergence."""
        self.steps += 1
        head = self._items_head()
        weights, bias = head.item_weights()
        totals, rows = [], 0
        epsilon = self.epsilon(batch)[:, 0]  # (B, Z)
        for place, part in self._parts(batch):
            mean, log_variance = (last(of, part.length) for of in self.posterior(part))  # (b, Z) each
            states = head.represent(self.decoder(drawn(mean, log_variance, epsilon[place])))
            likelihood = log_likelihood(states, weights[FIRST_INDEX:], bias[FIRST_INDEX:])  # (b, I - 2)
            item = part.item.long()
            bag = likelihood.gather(1, (item - FIRST_INDEX).clamp(min=0)) * is_new(part.item)  # (b, T)
            totals.append(self.cost(mean, log_variance) - bag.sum())
            rows += len(mean)
        yield Loss(optimizer="main", total=torch.stack(totals).sum(), count=torch.tensor(float(rows), device=weights.device))

    def activations(self, length: int) -> int:
        return 3 * length * self.bias.numel() + 6 * self.latent


def is_new(item: Tensor) -> Tensor:
    """(B, T) bool: the known events whose item no earlier event of the row has. Rows are left-aligned, (B, T)."""
    known = item > UNKNOWN
    order = torch.sort(torch.where(known, item, PAD), dim=1, stable=True)
    repeats = torch.cat([torch.zeros_like(known[:, :1]), order.values[:, 1:] == order.values[:, :-1]], dim=1)
    return known & ~torch.zeros_like(known).scatter(1, order.indices, repeats)
