"""Is a row real or written by a generator: the critic of a GAN, and what the two play for.

Temporal convolutions, as the discriminators of SeqGAN and RelGAN are (Yu et al. 2017, Nie et al. 2019): unlike a recurrent network of cuDNN
they can be differentiated twice, which the gradient penalty needs.

Legend: B rows, T events, E embedding, n codes of a feature.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foretaste.contract import Sizes
from foretaste.models.conditions import Asked, Conditions
from foretaste.models.heads import INIT_STD

WIDTH = 3  # events that a convolution sees at once
TINY = 1e-12  # the root of 0 has no gradient


class Discriminator(nn.Module):
    """Embeddings of its own → two convolutions, the second over every other event → mean and most over the row → a number a row.

    Each code's vector has length 1. The penalty bounds the slope in the space that the vectors span: vectors that grew would make the
    critic as sure as it likes, and its word would drown the likelihood (seen: 80 a row, and a generator that wrote the same few pairs).
    """

    def __init__(self, *, features: tuple[str, ...], sizes: Sizes, embedding: int) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: nn.Embedding(sizes.of(name), embedding, padding_idx=0) for name in features})
        for table in self.tables.values():
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=INIT_STD)
            table.weight.data[0] = 0.0
        self.asked = Asked(length=sizes.length, num_categories=sizes.num_categories, embedding=embedding)
        self.near = nn.Conv1d(embedding, embedding, WIDTH, padding=WIDTH // 2)
        self.far = nn.Conv1d(embedding, embedding, WIDTH, padding=2 * (WIDTH // 2), dilation=2)
        self.hidden = nn.Linear(3 * embedding, embedding)
        self.out = nn.Linear(embedding, 1)

    def read(self, features: Mapping[str, Tensor]) -> Tensor:
        """(B, T) codes of each feature → (B, T, E)."""
        first, *others = [F.embedding(features[name], self._vectors(name)) for name in self.tables]
        total: Tensor = sum(others, start=first)
        return total

    def read_choices(self, choices: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """For each feature, (B, T, n) shares that add up to 1 and which (n,) codes they are of → (B, T, E); gradients reach the shares."""
        total = torch.zeros((), device=self.out.weight.device)
        for name in self.tables:
            share, codes = choices[name]
            total = total + share @ self._vectors(name)[codes]
        return total

    def _vectors(self, name: str) -> Tensor:
        """(n, E) of length 1; PAD's is 0."""
        table = self.tables[name]
        assert isinstance(table, nn.Embedding)
        return F.normalize(table.weight, dim=1)

    def forward(self, events: Tensor, length: Tensor, conditions: Conditions) -> Tensor:
        """(B, T, E) of left-aligned rows of so many events (B,) → (B,): the higher, the more real. What lies past the end is not seen."""
        inside = (torch.arange(events.shape[1], device=events.device) < length[:, None])[:, None, :]  # (B, 1, T)
        states = events.transpose(1, 2) * inside
        states = F.leaky_relu(self.near(states), 0.2) * inside
        states = F.leaky_relu(self.far(states), 0.2) * inside
        mean = states.sum(2) / length.clamp(min=1)[:, None]
        most = states.masked_fill(~inside, -torch.inf).amax(2)
        items = self.tables["item"]
        assert isinstance(items, nn.Embedding)
        seen = torch.cat([mean, most, self.asked(conditions, items)], dim=1)
        return self.out(F.leaky_relu(self.hidden(seen), 0.2)).squeeze(1)  # type: ignore[no-any-return]


def discriminator_loss(adversary: str, real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimises, summed over rows: (B,), (B,) → ().

    minimax: -log σ(real) - log(1 - σ(fake)) (Goodfellow et al. 2014, eq. 1); wasserstein: fake - real (Arjovsky et al. 2017)
    """
    if adversary == "minimax":
        return (F.softplus(-real) + F.softplus(fake)).sum()
    return (fake - real).sum()


def generator_loss(adversary: str, fake: Tensor) -> Tensor:
    """What the generator minimises, summed over rows: (B,) → ().

    minimax: -log σ(fake), not saturating (Goodfellow et al. 2014, section 3); wasserstein: -fake
    """
    return F.softplus(-fake).sum() if adversary == "minimax" else -fake.sum()


def gradient_penalty(judge: nn.Module, real: Tensor, fake: Tensor, between: Tensor, length: Tensor, conditions: Conditions) -> Tensor:
    """Σ (|| ∂ judge(x) / ∂ x || - 1)² at x = between · real + (1 - between) · fake (Gulrajani et al. 2017, Improved training, algorithm 1).

    real, fake: (B, T, E) embedded events of left-aligned rows, length (B,) both; between: (B,) in [0, 1] → ()
    """
    weight = between.to(real.dtype)[:, None, None]
    point = (weight * real + (1 - weight) * fake).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(judge(point, length, conditions).sum(), point, create_graph=True)
    return ((slope.square().sum((1, 2)) + TINY).sqrt() - 1).square().sum()
