"""What a shop could do without a model. Each baseline scores a Batch as a model does, so it is judged by the same code on the same rows.

A baseline is added by its class and its line in ITEM_BASELINES or BINARY_BASELINES.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from foretaste.contract import FIRST_INDEX, UNKNOWN, Batch
from foretaste.evaluation.judge import Scorer


@dataclass(frozen=True, kw_only=True)
class ItemCounts:
    """What item baselines are made from: events with each item, (num_items,), over all training time and over its last days."""

    all_time: Tensor
    recent: Tensor


class Popularity:
    """The items with the most events come first, for everybody."""

    def __init__(self, counts: Tensor) -> None:
        self.scores = without_codes(counts.double())

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return self.scores.expand(len(batch.length), -1)


class OwnItems:
    """The user's own most frequent items of the row's history come first, ties and the rest by popularity."""

    def __init__(self, counts: Tensor) -> None:
        self.fraction = without_codes(below_one(counts))  # never outweighs an event of the user's own

    def score(self, batch: Batch[Tensor]) -> Tensor:
        item = batch.item.long()  # (B, T)
        own = torch.zeros((len(item), len(self.fraction)), dtype=torch.float64)
        own.scatter_add_(1, item, torch.ones_like(item, dtype=torch.float64))
        return own + self.fraction


def below_one(counts: Tensor) -> Tensor:
    """The counts as fractions in [0, 1), to break ties between whole numbers."""
    return counts.double() / (counts.double().sum() + 1)


def without_codes(scores: Tensor) -> Tensor:
    """The (num_items,) scores with PAD and UNKNOWN at -inf: they are no items."""
    return scores.index_fill(0, torch.arange(FIRST_INDEX), -torch.inf)


ITEM_BASELINES: Mapping[str, Callable[[ItemCounts], Scorer]] = {
    "popularity": lambda counts: Popularity(counts.all_time),
    "recent_popularity": lambda counts: Popularity(counts.recent + below_one(counts.all_time)),  # ties by all-time popularity
    "own_items": lambda counts: OwnItems(counts.all_time),
}


@dataclass(frozen=True, kw_only=True)
class BinaryFit:
    """What binary baselines are made from, all of training rows: the share of positives, and a logistic regression on `rfm`."""

    base_rate: float
    coefficients: tuple[float, ...]
    intercept: float


class BaseRate:
    """The share of positives among the training rows for everybody: the majority class, with an honest probability."""

    def __init__(self, share: float) -> None:
        self.logit = float(torch.logit(torch.tensor(share, dtype=torch.float64), eps=1e-9))

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return torch.full((len(batch.length),), self.logit, dtype=torch.float64)


class LogisticRegression:
    """Logistic regression on recency, frequency and monetary features of the same row."""

    def __init__(self, coefficients: tuple[float, ...], intercept: float) -> None:
        self.coefficients = torch.tensor(coefficients, dtype=torch.float64)
        self.intercept = intercept

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return rfm(batch) @ self.coefficients + self.intercept


def rfm(batch: Batch[Tensor]) -> Tensor:
    """(B, 5) float64 from the row's own history: recency bucket (a doubling of time each) and its square, log1p of events, log1p of
    sessions, and the mean price bucket of its priced events (0 where no event has one). History is what the row holds, at most T events.
    """
    recency = batch.recency.double()
    sessions = (batch.features["opens_session"] == FIRST_INDEX).sum(1)
    price = batch.features["price"]
    priced = price > UNKNOWN
    monetary = (price * priced).sum(1).double() / priced.sum(1).clamp(min=1)
    return torch.stack([recency, recency**2, batch.length.double().log1p(), sessions.double().log1p(), monetary], dim=1)


RFM_FEATURES = ("opens_session", "price")
"""The features that `rfm` reads, beside the scalars."""

BINARY_BASELINES: Mapping[str, Callable[[BinaryFit], Scorer]] = {
    "majority": lambda fit: BaseRate(fit.base_rate),
    "logistic_rfm": lambda fit: LogisticRegression(fit.coefficients, fit.intercept),
}
