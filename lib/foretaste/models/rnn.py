"""Recurrent models: Elman, LSTM and GRU, stacked, with as many units in each layer as one likes."""

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from foretaste.contract import Batch, Sizes
from foretaste.models.model import Model


class Recurrent(Model):
    """Embeddings → one recurrent layer for each number in `hidden`, with dropout on each layer's output → a head.

    Every layer starts from a zero state at a row's first real event, so padding never changes a score.
    """

    cell: ClassVar[type[nn.RNN | nn.LSTM | nn.GRU]]

    def __init__(
        self,
        *,
        head: str,
        label: str,
        sizes: Sizes,
        embedding: int = 64,
        hidden: tuple[int, ...] = (64,),
        dropout: float = 0.0,
        features: tuple[str, ...] = ("item",),
        num_negatives: int = 0,
        tied: bool = True,
    ) -> None:
        widths = (embedding, *hidden)
        super().__init__(
            head=head,
            label=label,
            sizes=sizes,
            features=features,
            embedding=embedding,
            width=widths[-1],
            num_negatives=num_negatives,
            tied=tied,
        )
        self.layers = nn.ModuleList(self.cell(width, units, batch_first=True) for width, units in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def encode(self, batch: Batch[Tensor]) -> Tensor:
        states = self.embedded(batch)  # (B, T, E)
        for layer in self.layers:
            states = self.dropout(layer(states)[0])  # (B, T, units)
        return states


class Elman(Recurrent):
    """h' = tanh(W x + U h + b) (Elman 1990, Finding Structure in Time)."""

    cell = nn.RNN


class LSTM(Recurrent):
    """Gates that keep, write and read a cell (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000)."""

    cell = nn.LSTM


class GRU(Recurrent):
    """Two gates, no cell of its own (Cho et al. 2014); as a recommender: GRU4Rec (Hidasi et al. 2016)."""

    cell = nn.GRU
