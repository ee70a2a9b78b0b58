"""vae: a sequential variational auto-encoder. A GRU reads the row; after each event, what will follow is drawn from a few latent numbers.

After Sachdeva et al. 2019, Sequential variational autoencoders for collaborative filtering (SVAE): a posterior a step, decoded into what
follows. Unlike there the decoder predicts the next item alone, as every next-item model here does.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from foretaste.contract import FIRST_INDEX, Batch
from foretaste.errors import ModelError
from foretaste.models.heads import next_item_targets
from foretaste.models.losses import Loss
from foretaste.models.presets import VARIATIONAL
from foretaste.models.variational import Variational


class VAE(Variational):
    """Embeddings → GRU layers, one for each number in `hidden` → posterior → decoder → an items head."""

    presets = VARIATIONAL

    def __init__(self, *, embedding: int, hidden: tuple[int, ...], dropout: float, embedding_dropout: float | None, **others: Any) -> None:
        widths = (embedding, *hidden)
        super().__init__(embedding=embedding, width=widths[-1], **others)
        self.widths = widths
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
        for _, part in self._parts(batch):
            where, targets = next_item_targets(part, self.label)
            both = torch.cat(self.posterior(part), dim=-1).flatten(0, 1)  # (b · T, 2 Z)
            posteriors.append(both.index_select(0, where))
            answers.append(targets)
        mean, log_variance = torch.cat(posteriors).chunk(2, dim=1)  # (N, Z) each
        answer = torch.cat(answers)
        states = head.represent(self.decoder(self.drawn(mean, log_variance)))
        total = head.loss(states, answer, self.noise) + self.cost(mean, log_variance)
        yield Loss(optimizer="main", total=total, count=torch.tensor(float(len(answer)), device=answer.device))

    @torch.no_grad()
    def sample(self, num: int, length: int, generator: torch.Generator) -> Tensor:
        """(num, length) items of rows that nobody wrote: the first from the prior, each next one from the posterior after those so far.

        Only for a model that reads nothing but items. (num, I) probabilities are held at a time: ask for as many rows as that allows.
        """
        if tuple(self.embeddings) != ("item",):
            raise ModelError(
                "rows cannot be drawn from a model with other features than item", where="model.features", fix="Train without."
            )
        head, states, items = self._items_head(), [None] * len(self.layers), []
        z = torch.randn(num, self.latent, generator=generator)
        for _ in range(length):
            weights, bias = head.item_weights()
            logits = torch.addmm(bias, head.represent(self.decoder(z)), weights.T)  # (num, I)
            items.append(torch.multinomial(torch.softmax(logits, dim=1), 1, generator=generator).squeeze(1))
            x = self.embeddings["item"](items[-1][:, None])  # (num, 1, E)
            for number, layer in enumerate(self.layers):
                x, states[number] = layer(x, states[number])
            mean, log_variance = self.to_posterior(x[:, 0]).chunk(2, dim=1)
            z = mean + (0.5 * log_variance).exp() * torch.randn(num, self.latent, generator=generator)
        drawn = torch.stack(items, dim=1)
        assert int(drawn.min()) >= FIRST_INDEX
        return drawn

    def activations(self, length: int) -> int:
        embedding, *units = self.widths
        kept = 2 if self.checkpoint_activations else 9
        return length * (2 * embedding + kept * sum(units) + 6 * self.latent + 3 * units[-1])
