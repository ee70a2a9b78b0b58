"""Recurrent models: Elman, LSTM and GRU, stacked, with as many units in each layer as one likes."""

from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from foretaste.contract import Batch
from foretaste.models.model import Model
from foretaste.models.presets import RECURRENT
from foretaste.models.rows import step_rows_of


class Recurrent(Model):
    """Embeddings → one recurrent layer for each number in `hidden`, with dropout on each layer's output → a head.

    Every layer starts from a zero state at a row's first real event, so padding never changes a score.
    """

    presets = RECURRENT
    cell: ClassVar[type[nn.RNN | nn.LSTM | nn.GRU]]
    kept: ClassVar[int]  # numbers that a unit keeps an event for the backward pass

    def __init__(self, *, embedding: int, hidden: tuple[int, ...], dropout: float, embedding_dropout: float | None, **others: Any) -> None:
        """embedding_dropout: `dropout` unless given. others: as Model takes them."""
        widths = (embedding, *hidden)
        super().__init__(embedding=embedding, width=widths[-1], **others)
        self.widths = widths
        self.layers = nn.ModuleList(self.cell(width, units, batch_first=True) for width, units in pairwise(widths))
        self.embedding_dropout = nn.Dropout(dropout if embedding_dropout is None else embedding_dropout)
        self.dropout = nn.Dropout(dropout)
        self.step_rows = 0 if self.cell is nn.LSTM else step_rows_of(widths)  # of an LSTM torch hands all steps to oneDNN at once

    def encode(self, batch: Batch[Tensor]) -> Tensor:
        states: Tensor = self.embedding_dropout(self.embedded(batch))  # (B, T, E)
        for layer in self.layers:
            states = self.dropout(self.layer(lambda inputs, layer=layer: layer(inputs)[0], states))  # (B, T, units)
        return states

    def activations(self, length: int) -> int:
        embedding, *units = self.widths
        return length * (2 * embedding + (2 if self.checkpoint_activations else self.kept) * sum(units))


class Elman(Recurrent):
    """h' = tanh(W x + U h + b) (Elman 1990, Finding Structure in Time)."""

    cell, kept = nn.RNN, 4


class LSTM(Recurrent):
    """Gates that keep, write and read a cell (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000)."""

    cell, kept = nn.LSTM, 22


class GRU(Recurrent):
    """Two gates, no cell of its own (Cho et al. 2014); as a recommender: GRU4Rec (Hidasi et al. 2016)."""

    cell, kept = nn.GRU, 9
