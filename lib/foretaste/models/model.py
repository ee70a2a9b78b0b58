"""What every model is: optimizers(), step(batch) and score(batch); a sequence model only adds encode()."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from foretaste.contract import Batch, Sizes
from foretaste.errors import ModelError
from foretaste.models.heads import INIT_STD, BinaryHead, ItemsHead
from foretaste.models.losses import Loss
from foretaste.models.rows import last, left_aligned


class Model(nn.Module):
    """A network for one head. Legend: B rows, T events, E embedding, H units of the top layer, D width of item vectors.

    A subclass gives `encode`; one with several optimizers (a GAN) gives `optimizers` and `step` too.
    """

    def __init__(
        self,
        *,
        head: str,
        label: str,
        sizes: Sizes,
        features: tuple[str, ...],
        embedding: int,
        width: int,
        num_negatives: int,
        tied: bool,
    ) -> None:
        """width: H. Without the feature `item` there is nothing to tie the item vectors to, so they are the head's own."""
        super().__init__()
        self.label = label
        self.embeddings = nn.ModuleDict()
        tied_to: nn.Embedding | None = None
        for name in features:
            table = nn.Embedding(sizes.of(name), embedding, padding_idx=0)
            nn.init.normal_(table.weight, std=INIT_STD)
            table.weight.data[0] = 0.0  # padding_idx
            self.embeddings[name] = table
            tied_to = table if tied and name == "item" else tied_to
        self.head: ItemsHead | BinaryHead
        if head == "items":
            self.head = ItemsHead(width=width, num_items=sizes.num_items, num_negatives=num_negatives, tied=tied_to)
        elif head == "binary":
            self.head = BinaryHead(width=width)
        else:
            raise ModelError(f"no head is called {head!r}", where="the task", fix="Use items or binary.")
        self.noise = torch.Generator()  # for what all ranks must draw alike, such as negatives: the loop seeds it before each step

    def encode(self, batch: Batch[Tensor]) -> Tensor:
        """(B, T, H): the state after each event of left-aligned rows (see rows.py)."""
        raise NotImplementedError

    def embedded(self, batch: Batch[Tensor]) -> Tensor:
        """(B, T, E): the sum of one embedding for each switched-on feature."""
        first, *others = [table(batch.features[name]) for name, table in self.embeddings.items()]
        total: Tensor = sum(others, start=first)
        return total

    def optimizers(self, *, learning_rate: float, weight_decay: float) -> dict[str, Optimizer]:
        """One Adam (AdamW where weights decay) over all parameters, by the name that `step` uses."""
        kind = torch.optim.AdamW if weight_decay else torch.optim.Adam
        return {"main": kind(self.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)}

    def step(self, batch: Batch[Tensor]) -> Iterator[Loss]:
        """One Loss for each optimizer, in turn; the loop takes a step on each before it asks for the next."""
        aligned = left_aligned(batch)
        total, count = self.head.loss(self.encode(aligned), aligned, self.label, self.noise)
        yield Loss(optimizer="main", total=total, count=count)

    def score(self, batch: Batch[Tensor]) -> Tensor:
        """(B, num_items) logits of what comes next, PAD and UNKNOWN at -inf; or the (B,) logits of a binary head."""
        aligned = left_aligned(batch)
        return self.head.score(last(self.encode(aligned), aligned.length), aligned)

    def represent(self, batch: Batch[Tensor]) -> Tensor:
        """(B, D): what `item_weights` is multiplied with; only for head "items"."""
        aligned = left_aligned(batch)
        return self._items_head().represent(last(self.encode(aligned), aligned.length))

    def item_weights(self) -> tuple[Tensor, Tensor]:
        """(num_items, D) and (num_items,): score == represent @ weights.T + bias; only for head "items"."""
        return self._items_head().item_weights()

    def _items_head(self) -> ItemsHead:
        if not isinstance(self.head, ItemsHead):
            raise ModelError("this model does not score items", where="head binary", fix="Call score instead.")
        return self.head
