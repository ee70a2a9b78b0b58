"""vae: a sequential variational auto-encoder. A GRU reads the row; after each event, what will follow is drawn from a few latent numbers.

After Sachdeva et al. 2019, Sequential variational autoencoders for collaborative filtering (SVAE): a posterior a step, decoded into what
follows. Unlike there the decoder predicts the next item alone, as every next-item model here does.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from foretaste.contract import UNKNOWN, Batch
from foretaste.errors import ModelError
from foretaste.models import chance
from foretaste.models.conditions import Conditions
from foretaste.models.heads import next_item_targets
from foretaste.models.losses import Loss
from foretaste.models.presets import VARIATIONAL
from foretaste.models.variational import Variational, drawn


class VAE(Variational):
    """Embeddings → GRU layers, one for each number in `hidden` → posterior → decoder → an items head."""

    presets = VARIATIONAL
    writes: ClassVar[bool] = True

    def __init__(self, *, embedding: int, hidden: tuple[int, ...], dropout: float, embedding_dropout: float | None, **others: Any) -> None:
        widths = (embedding, *hidden)
        super().__init__(embedding=embedding, width=widths[-1], **others)
        self.widths, self.length = widths, others["sizes"].length
        self.layers = nn.ModuleList(nn.GRU(width, units, batch_first=True) for width, units in pairwise(widths))
        self.embedding_dropout = nn.Dropout(dropout if embedding_dropout is None else embedding_dropout)
        self.dropout = nn.Dropout(dropout)

    def summary(self, batch: Batch[Tensor]) -> Tensor:
        states: Tensor = self.embedding_dropout(self.embedded(batch))  # (B, T, E)
        for layer in self.layers:
            states = self.dropout(self.layer(lambda inputs, layer=layer: layer(inputs)[0], states))  # (B, T, units)
        return states

    def step(self, batch: Batch[Tensor]) -> Iterator[Loss]:
        """The negative evidence lower bound, summed over targets: each next item from the posterior before it."""
        self.steps += 1
        head = self._items_head()
        posteriors, answers = [], []
        epsilon = self.epsilon(batch)
        for rows, part in self._parts(batch):
            where, targets = next_item_targets(part, self.label)
            of_part = epsilon[rows, : part.item.shape[1]]
            all_three = torch.cat([*self.posterior(part), of_part], dim=-1).flatten(0, 1)  # (b · T, 3 Z)
            posteriors.append(all_three.index_select(0, where))
            answers.append(targets)
        mean, log_variance, chosen = torch.cat(posteriors).chunk(3, dim=1)  # (N, Z) each
        answer = torch.cat(answers)
        states = head.represent(self.decoder(drawn(mean, log_variance, chosen)))
        total = head.loss(states, answer, self.noise) + self.cost(mean, log_variance)
        yield Loss(optimizer="main", total=total, count=torch.tensor(float(len(answer)), device=answer.device))

    @torch.no_grad()
    def draw(self, conditions: Conditions, seed: Tensor) -> Batch[Tensor]:
        """Rows of `conditions.budget` items: the first from the prior, each next one from the posterior after those so far.

        Only of a model that reads nothing but items, and nothing but a budget may be asked for. Holds (B, I) numbers.
        """
        if tuple(self.embeddings) != ("item",):
            raise ModelError("a VAE that reads more than items cannot write rows", where="model.features", fix="Train without.")
        budget = conditions.budget.clamp(min=1, max=self.length)
        head = self._items_head()
        weights, bias = head.item_weights()
        item = torch.zeros(len(budget), self.length, dtype=torch.int32, device=bias.device)
        z, states = chance.normal(seed, 0, self.latent), [None] * len(self.layers)
        rows = torch.arange(len(budget), device=bias.device)
        for event in range(int(budget.max())):
            logits = torch.addmm(bias, head.represent(self.decoder(z)), weights.T)  # (B, I)
            code = chance.choice(logits, chance.uniform(seed, 2 * event + 1, 1).squeeze(1))
            inside = event < budget
            item[rows[inside], (self.length - budget + event)[inside]] = code[inside].int()
            x = self.embeddings["item"](code[:, None])  # (B, 1, E)
            for number, layer in enumerate(self.layers):
                x, states[number] = layer(x, states[number])
            mean, log_variance = self.to_posterior(x[:, 0]).chunk(2, dim=1)
            z = drawn(mean, log_variance, chance.normal(seed, 2 * event + 2, self.latent))
        length = budget.int()
        return Batch(features={"item": item}, length=length, fresh=length, recency=torch.full_like(length, UNKNOWN))

    def activations(self, length: int) -> int:
        embedding, *units = self.widths
        kept = 2 if self.checkpoint_activations else 9
        return length * (2 * embedding + kept * sum(units) + 6 * self.latent + 3 * units[-1])
