"""What a family of metrics is: sums over rows from which its metrics follow, so that partitions and resamples only add up."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import Batch
from foretaste.errors import ModelError

Sums = NDArray[np.float64]
"""(S, R): S sums over rows, each with the weights of R resamples; the first resample weighs every row 1.

Its first line is the weight of the rows that were judged, its second that of the rows that could not be.
"""
JUDGED, LEFT_OUT = 0, 1

CURVE = " tenth "
"""What is in the name of a metric that is one point of a curve: kept to be drawn, and compared with nobody's."""


class Scorer(Protocol):
    """A model or a baseline: (B, num_items) scores with PAD and UNKNOWN at -inf, or (B,) logits, as `Model.score` gives them."""

    def score(self, batch: Batch[Tensor]) -> Tensor: ...


class Measured(Protocol):
    """What a judge found in the scores of B rows."""

    def add(self, sums: Sums, weights: NDArray[np.float64]) -> None:
        """Adds the rows to `sums`, with their (B, R) weights; a row of weight 0 is not there."""

    def recommended(self) -> Mapping[str, NDArray[np.int64]]:
        """Metric name → the items that were recommended to anybody: their share of the catalogue is that metric."""
        ...


class Judge(Protocol):
    """num_sums: S. lower_is_better: the metrics that are errors. headline: the metric that decides which of two is better.

    shown:     the metrics that a person reads first
    segmented: whether its sums are small enough to be kept for each group of users, too
    """

    num_sums: int
    headline: str
    shown: Sequence[str]
    segmented: bool
    lower_is_better: frozenset[str]

    def tells(self, batch: Batch[Tensor]) -> Tensor:
        """(B,) bool: rows that have something to be judged by, as all have unless a judge says otherwise. No other needs a score."""
        return torch.ones_like(batch.length, dtype=torch.bool)

    def measure(self, scores: Tensor, batch: Batch[Tensor]) -> Measured:
        """batch: rows that tell"""
        ...

    def metrics(self, sums: Sums) -> Mapping[str, NDArray[np.float64]]:
        """Metric name → (R,), NaN where it is not defined, such as an AUC with one class only."""


def numbers(scores: Tensor) -> NDArray[np.float64]:
    """(B,) scores, none of which is a NaN; ModelError where one is."""
    found: NDArray[np.float64] = scores.double().numpy()
    if np.isnan(found).any():
        raise ModelError("the model scores NaN", where="evaluation", fix="Train it again, with a lower learning rate or clip_norm.")
    return found


def add_rows(sums: Sums, index: NDArray[np.integer[Any]], rows: NDArray[np.float64]) -> None:
    """sums[index[i]] += rows[i] for each i, also where an index comes twice. index: (n,), rows: (n, R)."""
    if len(index) == 0:
        return
    order = np.argsort(index, kind="stable")
    lines, starts = np.unique(index[order], return_index=True)
    sums[lines] += np.add.reduceat(rows[order], starts, axis=0)


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64], empty: float = np.nan) -> NDArray[np.float64]:
    """numerator / denominator, and `empty` where the denominator is 0."""
    whole = denominator != 0
    return np.where(whole, numerator / np.where(whole, denominator, 1.0), empty)
