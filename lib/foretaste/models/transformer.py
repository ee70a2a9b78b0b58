"""A causal transformer over a user's events, of the SASRec family (Kang & McAuley 2018, Self-attentive sequential recommendation).

Not as published: norms come first (Xiong et al. 2020), GELU, positions as one likes, and the whole catalogue in the loss, which matters
most (Klenitskiy & Vasilev 2023, Turning dross into gold loss).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foretaste.contract import Batch, Sizes
from foretaste.errors import ModelError
from foretaste.models.hstu import HSTUBlock
from foretaste.models.model import Model
from foretaste.models.positions import Places, RelativeBias, places_of, rotated
from foretaste.models.presets import TRANSFORMER

EMBEDDING_STD = 0.02  # small against the states, which the last norm sets to 1: the tied softmax starts near its bias
POSITIONS = ("learned", "rotary", "relative")


class AttentionBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)). Legend: B rows, T events, D width, h heads, d = D / h."""

    def __init__(self, *, width: int, heads: int, dropout: float, bias: RelativeBias | None, rotary: bool) -> None:
        super().__init__()
        self.heads, self.rotary, self.p = heads, rotary, dropout
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)  # the norm has one; for keys alone it would change nothing
        self.out = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)
        self.bias = bias

    def forward(self, x: Tensor, places: Places) -> Tensor:
        x = x + self.dropout(self.attended(self.norm_attention(x), places))
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))  # type: ignore[no-any-return]

    def attended(self, x: Tensor, places: Places) -> Tensor:
        rows, length, width = x.shape
        heads = self.qkv(x).view(rows, length, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (B, h, T, d)
        if self.rotary:
            q, k = rotated(q), rotated(k)
        p = self.p if self.training else 0.0
        if self.bias is None:
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=p)
        else:
            mask = self.bias(places).masked_fill(~places.causal, -torch.inf).to(q.dtype)  # (1 or B, h, T, T)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        return self.out(attended.transpose(1, 2).reshape(rows, length, width))  # type: ignore[no-any-return]

    @staticmethod
    def kept(width: int, heads: int, length: int) -> int:
        """Numbers that one event keeps for the backward pass."""
        return 20 * width + 3 * heads * length


BLOCKS: dict[str, type[AttentionBlock | HSTUBlock]] = {"attention": AttentionBlock, "hstu": HSTUBlock}


class Transformer(Model):
    """Embeddings → `layers` blocks → a norm → a head.

    block:    attention, or hstu (see hstu.py)
    position: learned, one vector for each place from the row's start; rotary; or relative, a bias for the distance of two events
              and, where the feature `gap` is on, for the time between them
    """

    presets = TRANSFORMER

    def __init__(
        self,
        *,
        sizes: Sizes,
        embedding: int,
        layers: int,
        heads: int,
        dropout: float,
        block: str,
        position: str,
        embedding_dropout: float | None,
        **others: Any,
    ) -> None:
        """embedding_dropout: `dropout` unless given. others: as Model takes them."""
        _check(embedding, heads, block, position)
        super().__init__(sizes=sizes, embedding=embedding, width=embedding, embedding_std=EMBEDDING_STD, **others)
        self.block, self.width, self.heads = BLOCKS[block], embedding, heads
        self.scale = math.sqrt(embedding) / 2
        self.position = nn.Embedding(sizes.length, embedding) if position == "learned" else None
        if self.position is not None:
            nn.init.normal_(self.position.weight, std=EMBEDDING_STD)
        self.with_time = position == "relative" and "gap" in self.embeddings
        self.blocks = nn.ModuleList(
            BLOCKS[block](
                width=embedding,
                heads=heads,
                dropout=dropout,
                bias=RelativeBias(heads, sizes.length, with_time=self.with_time) if position == "relative" else None,
                rotary=position == "rotary",
            )
            for _ in range(layers)
        )
        self.dropout = nn.Dropout(dropout if embedding_dropout is None else embedding_dropout)
        self.norm = nn.LayerNorm(embedding)

    def encode(self, batch: Batch[Tensor]) -> Tensor:
        x = self.embedded(batch) * self.scale  # (B, T, D)
        if self.position is not None:
            place = torch.arange(x.shape[1], device=x.device).clamp(max=self.position.num_embeddings - 1)
            x = x + self.position(place)
        x = self.dropout(x)
        places = places_of(batch, with_time=self.with_time)
        for block in self.blocks:
            x = self.layer(block, x, places)
        return self.norm(x)  # type: ignore[no-any-return]

    def activations(self, length: int) -> int:
        kept = self.block.kept(self.width, self.heads, length)
        layers = len(self.blocks) * self.width + kept if self.checkpoint_activations else len(self.blocks) * kept
        return length * (3 * self.width + layers)


def _check(embedding: int, heads: int, block: str, position: str) -> None:
    if block not in BLOCKS:
        raise ModelError(f"no block is called {block!r}", where="model.block", fix=f"Use one of {', '.join(BLOCKS)}.")
    if position not in POSITIONS:
        raise ModelError(f"no position is called {position!r}", where="model.position", fix=f"Use one of {', '.join(POSITIONS)}.")
    if embedding % heads or (position == "rotary" and embedding // heads % 2):
        raise ModelError(
            f"{heads} heads cannot share a width of {embedding}" + (" in pairs of numbers" if embedding % heads == 0 else ""),
            where="model.heads",
            fix="Set model.embedding to a multiple of model.heads, an even one for rotary positions.",
        )
