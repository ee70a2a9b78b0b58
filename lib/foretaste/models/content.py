"""Item vectors made of what an item is, so that one which nobody has bought yet has a vector, too, in the space of all others.

The vector of a known item is what its content says and one of its own beside it; while learning, the latter is left out of half of the
items in each step, so that content alone must do (Volkovs, Yu & Poutanen 2017, DropoutNet: Addressing cold start in recommender systems).
Legend: I items, L words of an item, D width of item vectors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foretaste.contract import NUM_CONTENT_WORDS, PAD, WORDS_PER_ITEM

OWN_STD = 0.01
LEFT_OUT = 0.5
LEAST_ITEMS = 2


class ContentEmbedding(nn.Module):
    """Stands for nn.Embedding(num_items, dim) among a model's embeddings, and as what an items head is tied to.

    Its vectors are made once for each step, by `redraw`, or, where it does not learn, once until it learns again.
    """

    words: Tensor
    shared: Tensor

    def __init__(self, num_items: int, dim: int, std: float) -> None:
        super().__init__()
        self.embedding_dim = dim
        self.register_buffer("words", torch.zeros(num_items, WORDS_PER_ITEM, dtype=torch.int32))
        self.register_buffer("shared", torch.zeros(NUM_CONTENT_WORDS))
        self.of_words = nn.Embedding(NUM_CONTENT_WORDS, dim, padding_idx=PAD)
        self.tower = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.own = nn.Parameter(torch.randn(num_items, dim) * OWN_STD)
        nn.init.normal_(self.of_words.weight, std=std)
        self.of_words.weight.data[PAD] = 0.0
        self._kept: Tensor | None = None  # (I, 1) in a step: whose own vectors are not left out
        self._weight: Tensor | None = None

    def follow(self, words: Tensor) -> None:
        """words: (I, L) int32 codes of what each item is, PAD where there are fewer"""
        self.words.copy_(words)
        codes, counts = torch.unique(words, return_counts=True)
        self.shared.zero_()
        self.shared[codes[counts >= LEAST_ITEMS].long()] = 1.0
        self.shared[PAD] = 0.0

    def vectors(self, words: Tensor) -> Tensor:
        """(n, L) → (n, D): what content alone says. A word that no two known items share has taught nothing, and is left out."""
        is_told = self.shared[words.long()][:, :, None]  # (n, L, 1)
        known = is_told.sum(1).clamp(min=1)
        mean = (self.of_words(words) * is_told).sum(1) / known.sqrt()  # a longer name says more, but not in proportion
        vectors: Tensor = mean + self.tower(mean)
        return vectors

    def redraw(self, noise: torch.Generator) -> None:
        """At the start of a step: whose own vectors are left out, the same on all ranks."""
        drawn = torch.rand(len(self.own), 1, generator=noise) >= LEFT_OUT
        self._kept, self._weight = drawn.to(self.own.device, self.own.dtype), None

    def train(self, mode: bool = True) -> "ContentEmbedding":
        self._kept = self._weight = None
        return super().train(mode)

    @property
    def weight(self) -> Tensor:
        """(I, D), zeros for PAD."""
        if self._weight is None or (self._weight.requires_grad != torch.is_grad_enabled() and self.own.requires_grad):
            own = self.own if self._kept is None else self.own * self._kept
            there = torch.ones(len(own), 1, device=own.device, dtype=own.dtype)
            there[PAD] = 0.0
            self._weight = (self.vectors(self.words) + own) * there
        return self._weight

    def forward(self, item: Tensor) -> Tensor:
        return F.embedding(item, self.weight)
