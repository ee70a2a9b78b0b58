"""What a shop could do without a model. Each baseline scores a Batch as a model does, so it is judged by the same code on the same rows.

For items they are the counted models of models/; a baseline of a binary task is added by its class and its line in BINARY_BASELINES.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from foretaste.contract import FIRST_INDEX, UNKNOWN, Batch, Sizes
from foretaste.errors import ModelError
from foretaste.evaluation.judge import Scorer
from foretaste.models import Counted, build_counted


@dataclass(frozen=True, kw_only=True)
class CountedBaseline:
    """A counted model (models/counted.py) whose tables lie in the file `path`: it travels to executors as its path, and is loaded there.

    options: the fields of models.Options
    """

    name: str
    path: str
    sizes: Sizes
    options: tuple[tuple[str, float], ...] = ()

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return _loaded(self).score(batch)

    def shares(self) -> NDArray[np.float64]:
        """(num_items,): each item's share of the events that were counted."""
        shares: NDArray[np.float64] = _loaded(self).shares(torch.float64).numpy()
        return shares


@lru_cache(maxsize=16)
def _loaded(baseline: CountedBaseline) -> Counted:
    """In this process, at the first call."""
    model = build_counted(baseline.name, head="items", sizes=baseline.sizes, **dict(baseline.options))
    try:
        model.load_state_dict(load_file(baseline.path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the counts of {baseline.name} cannot be read", where=baseline.path, fix="Run the step again.") from error
    return model.eval()


@dataclass(frozen=True, kw_only=True)
class NetworkAlone:
    """The network of a blend by itself: how far the blend is ahead of it is what the counted models add. load: gives the network"""

    load: Callable[[], Scorer]

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return self.load().score(batch)


@dataclass(frozen=True, kw_only=True)
class BinaryFit:
    """What binary baselines are made from, all of training rows: the share of positives, and a logistic regression."""

    base_rate: float
    coefficients: tuple[float, ...]
    intercept: float


class BaseRate:
    """The share of positives among the training rows for everybody: the majority class, with an honest probability."""

    def __init__(self, share: float) -> None:
        self.logit = float(torch.logit(torch.tensor(share, dtype=torch.float64), eps=1e-9))

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return torch.full((len(batch.length),), self.logit, dtype=torch.float64)


Numbers = Callable[[Batch[Tensor]], Tensor]
"""What a logistic regression sees of B rows: (B, F)."""


class LogisticRegression:
    """Logistic regression on `numbers` of the same row: recency, frequency and monetary features, unless others are given."""

    def __init__(self, coefficients: tuple[float, ...], intercept: float, numbers: Numbers | None = None) -> None:
        self.coefficients = torch.tensor(coefficients, dtype=torch.float64)
        self.intercept = intercept
        self.numbers = numbers or rfm

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return self.numbers(batch).double() @ self.coefficients + self.intercept


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
