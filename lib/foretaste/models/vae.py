"""vae: a sequential variational auto-encoder. A GRU reads the row; after each event, what will follow is drawn from a few latent numbers.

After Sachdeva et al. 2019, Sequential variational autoencoders for collaborative filtering (SVAE): a posterior a step, decoded into what
follows. Unlike there the decoder predicts the next event alone, as every next-item model here does; and beside its item what goes with it,
of the features that are read: when and how a user comes back is as much of what the latent numbers are to hold as what is taken.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from foretaste.contract import FIRST_INDEX, PAD, UNKNOWN, Batch
from foretaste.errors import ModelError
from foretaste.models import chance
from foretaste.models.conditions import Conditions
from foretaste.models.details import WRITTEN, Details, Unknown
from foretaste.models.heads import next_item_targets
from foretaste.models.losses import Loss
from foretaste.models.presets import VARIATIONAL
from foretaste.models.rows import step_rows_of
from foretaste.models.variational import Variational, drawn
from foretaste.models.writing import write


class VAE(Variational):
    """Embeddings → GRU layers, one for each number in `hidden` → posterior → decoder → an items head."""

    presets = VARIATIONAL
    writes: ClassVar[bool] = True

    def __init__(self, *, embedding: int, hidden: tuple[int, ...], dropout: float, embedding_dropout: float | None, **others: Any) -> None:
        widths = (embedding, *hidden)
        super().__init__(embedding=embedding, width=widths[-1], **others)
        self.widths, self.length = widths, others["sizes"].length
        self.layers = nn.ModuleList(nn.GRU(width, units, batch_first=True) for width, units in pairwise(widths))
        self.step_rows = step_rows_of(widths)
        self.embedding_dropout = nn.Dropout(dropout if embedding_dropout is None else embedding_dropout)
        self.dropout = nn.Dropout(dropout)
        sizes = others["sizes"]
        codes = {name: sizes.of(name) for name in WRITTEN[1:] if name in self.embeddings}
        self.details = Details(num_codes=codes, width=widths[-1], embedding=embedding) if "item" in self.embeddings else None
        self.unknown = Unknown(width=widths[-1])

    def summary(self, batch: Batch[Tensor]) -> Tensor:
        states: Tensor = self.embedding_dropout(self.embedded(batch))  # (B, T, E)
        for layer in self.layers:
            states = self.dropout(self.layer(lambda inputs, layer=layer: layer(inputs)[0], states))  # (B, T, units)
        return states

    def told(self, batch: Batch[Tensor]) -> Tensor:
        return batch.labels[self.label][:, :1]  # what comes next

    def step(self, batch: Batch[Tensor]) -> Iterator[Loss]:
        """The negative evidence lower bound, summed over targets: each next event from the posterior before it."""
        self.steps += 1
        head = self._items_head()
        found = []
        epsilon = self.epsilon(batch)
        for rows, part in self._parts(batch):
            where, targets = next_item_targets(part, self.label, least=UNKNOWN)
            of_part = epsilon[rows, : part.item.shape[1]]
            all_three = torch.cat([*self.posterior(part), of_part], dim=-1).flatten(0, 1)  # (b · T, 3 Z)
            found.append((all_three.index_select(0, where), targets, self._following(part, where)))
        posteriors, targets, details = (torch.cat(each) for each in zip(*found, strict=True))  # (N, 3 Z), (N,), (N, details)
        mean, log_variance, chosen = posteriors.chunk(3, dim=1)  # (N, Z) each
        states = self.decoder(drawn(mean, log_variance, chosen))
        known = (targets >= FIRST_INDEX).nonzero().squeeze(1)
        total = head.loss(head.represent(states[known]), targets[known], self.noise) + self.unknown.loss(states, targets)
        total = total + self.cost(mean, log_variance)
        if self.details is not None and self.details.names:
            there = (details[:, 0] > PAD).nonzero().squeeze(1)
            codes = dict(zip(self.details.names, details[there].unbind(1), strict=True))
            total = total + self.details.loss(states[there], self.embeddings["item"](targets[there]), codes, self.embeddings)
        yield Loss(optimizer="main", total=total, count=torch.tensor(float(len(targets)), device=targets.device))

    def _following(self, part: Batch[Tensor], where: Tensor) -> Tensor:
        """(N, details): the codes that go with each target, PAD where it is the label, of which nothing else is known."""
        names = self.details.names if self.details else ()
        columns = [torch.cat([part.features[name][:, 1:], torch.zeros_like(part.item[:, :1])], dim=1) for name in names]
        return torch.stack(columns, dim=-1).flatten(0, 1)[where] if columns else where[:, None]

    @torch.no_grad()
    def draw(self, conditions: Conditions, seed: Tensor) -> Batch[Tensor]:
        """Rows of `conditions.budget` events: the first from the prior, each next one from the posterior after those so far.

        Only of a model that reads nothing but what it writes, and nothing but a budget may be asked for. Holds (B, I) numbers.
        """
        if self.details is None or set(self.embeddings) - set(WRITTEN):
            raise ModelError(
                "a VAE that reads more than it writes cannot write rows", where="model.features", fix=f"Train it on {', '.join(WRITTEN)}."
            )
        hidden: list[Tensor | None] = [None] * len(self.layers)

        def advance(event: Tensor, number: int) -> Tensor:
            states = event[:, None, :]  # (B, 1, E)
            for place, layer in enumerate(self.layers):
                states, hidden[place] = layer(states, hidden[place])
            mean, log_variance = self.to_posterior(states[:, 0]).chunk(2, dim=1)
            return self.decoder(drawn(mean, log_variance, chance.normal(seed, 2 * number + 2, self.latent)))  # type: ignore[no-any-return]

        return write(
            budget=conditions.budget,
            length=self.length,
            seed=seed,
            state=self.decoder(chance.normal(seed, 0, self.latent)),
            advance=advance,
            stream=lambda number: 2 * number + 1,
            head=self._items_head(),
            unknown=self.unknown,
            details=self.details,
            embeddings=self.embeddings,
        )

    def activations(self, length: int) -> int:
        embedding, *units = self.widths
        kept = 2 if self.checkpoint_activations else 9
        return length * (2 * embedding + kept * sum(units) + 6 * self.latent + 3 * units[-1])
