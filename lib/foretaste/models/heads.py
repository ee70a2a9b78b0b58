"""What a model's states are turned into: a score for every item, or one logit a user; each with its training signal.

Batches are left-aligned here (see rows.py). `loss` returns the loss summed over targets and their count, both ().
"""

import torch
from torch import Tensor, nn

from foretaste.contract import FIRST_INDEX, NUM_GAP_BUCKETS, Batch
from foretaste.models.losses import (
    binary_cross_entropy,
    cross_entropy,
    draw_negatives,
    log_uniform,
    sampled_cross_entropy,
)
from foretaste.models.rows import last

RECENCY_WIDTH = 16
INIT_STD = 0.1  # of embeddings: N(0, 1) would start a tied softmax far from the popularity that its bias starts at


class ItemsHead(nn.Module):
    """Which item comes next: a softmax over the vocabulary; its item vectors are the input embedding (`tied`) or its own.

    Legend: H width of states, D width of item vectors, I items, N targets of a batch.
    """

    def __init__(self, *, width: int, num_items: int, num_negatives: int, tied: nn.Embedding | None) -> None:
        super().__init__()
        self.num_items = num_items
        self.num_negatives = num_negatives
        self.tied = (tied,)  # in a tuple, it is not part of this module: it is stored and moved once, by its owner
        if tied is None:
            self.own = nn.Parameter(torch.empty(num_items, width))
            nn.init.normal_(self.own, std=INIT_STD)
        dim = width if tied is None else tied.embedding_dim
        self.project = nn.Identity() if dim == width else nn.Linear(width, dim)
        real = torch.arange(FIRST_INDEX, num_items)
        self.bias = nn.Parameter(log_uniform(real, num_items).log())  # starts at popularity, as the vocabulary is sorted by it
        self.register_buffer("never", torch.full((FIRST_INDEX,), -torch.inf), persistent=False)

    def represent(self, state: Tensor) -> Tensor:
        return self.project(state)  # type: ignore[no-any-return]  # (B, H) → (B, D)

    def item_weights(self) -> tuple[Tensor, Tensor]:
        """(I, D) and (I,); PAD and UNKNOWN have the bias -inf, so that nobody ever predicts them."""
        assert isinstance(self.never, Tensor)
        weights = self.own if self.tied[0] is None else self.tied[0].weight
        return weights, torch.cat([self.never, self.bias])

    def score(self, state: Tensor, batch: Batch[Tensor]) -> Tensor:
        weights, bias = self.item_weights()
        return torch.addmm(bias, self.represent(state), weights.T)  # (B, I)

    def loss(self, states: Tensor, batch: Batch[Tensor], label: str, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        where, targets = next_item_targets(batch, label)
        chosen = self.represent(states.flatten(0, 1).index_select(0, where))  # (N, D)
        weights, bias = self.item_weights()
        if self.num_negatives > 0:
            negatives = draw_negatives(self.num_items, self.num_negatives, noise).to(targets.device)
            total = sampled_cross_entropy(chosen, weights, bias, targets, negatives, self.num_negatives)
        else:
            total = cross_entropy(chosen, weights, bias, targets)
        return total, torch.tensor(float(len(targets)), device=targets.device)


def next_item_targets(batch: Batch[Tensor], label: str) -> tuple[Tensor, Tensor]:
    """Which states learn from which items: indices into the flattened (B * T) states, and items; both (N,) int64.

    The state after an event predicts the event that follows it, where that is one of the row's `fresh` last ones: however much windows
    overlap, no event is a target twice that way. The last state predicts the first item of the label, so that windows without overlap
    lose no target; where they overlap, that one item a window counts twice. PAD and UNKNOWN are no targets.
    """
    item = batch.item  # (B, T)
    end = (batch.length.long() - 1).clamp(min=0)[:, None]
    following = torch.cat([item[:, 1:], torch.zeros_like(item[:, :1])], dim=1)
    following = following.scatter(1, end, batch.labels[label][:, :1].to(item.dtype))
    position = torch.arange(item.shape[1], device=item.device)
    fresh = position + 1 >= (batch.length - batch.fresh)[:, None]
    inside = position < batch.length[:, None]
    where = (fresh & inside & (following >= FIRST_INDEX)).flatten().nonzero().squeeze(1)
    return where, following.flatten().index_select(0, where).long()


class BinaryHead(nn.Module):
    """Will it happen: one logit from the state after the last event and from how long ago that was (`recency`)."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.recency = nn.Embedding(NUM_GAP_BUCKETS, RECENCY_WIDTH)
        self.hidden = nn.Linear(width + RECENCY_WIDTH, width)
        self.out = nn.Linear(width, 1)
        nn.init.normal_(self.recency.weight, std=INIT_STD)

    def score(self, state: Tensor, batch: Batch[Tensor]) -> Tensor:
        both = torch.cat([state, self.recency(batch.recency)], dim=1)  # (B, H + R)
        return self.out(torch.relu(self.hidden(both))).squeeze(1)  # type: ignore[no-any-return]  # (B,)

    def loss(self, states: Tensor, batch: Batch[Tensor], label: str, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        logits = self.score(last(states, batch.length), batch)
        labels = batch.labels[label]
        return binary_cross_entropy(logits, labels), torch.tensor(float(len(labels)), device=states.device)
