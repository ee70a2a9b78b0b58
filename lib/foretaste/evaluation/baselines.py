"""What a shop could do without a model. Each baseline scores a Batch as a model does, so it is judged by the same code on the same rows.

For items they are the counted models of models/. For yes-or-no tasks they are the base rate and logistic regressions on a few numbers: one
is added by its line in REGRESSIONS. For those that ask who stays away, there is BG/NBD, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from foretaste.contract import CODED_FACTS, FACTS, FIRST_INDEX, UNKNOWN, Batch, Sizes
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


class Same:
    """One score for everybody: whom it names is drawn at random."""

    def __init__(self, score: float) -> None:
        self.for_all = score

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return torch.full((len(batch.length),), self.for_all, dtype=torch.float64)


class BaseRate(Same):
    """The share of positives among the training rows for everybody: the majority class, with an honest probability."""

    def __init__(self, share: float) -> None:
        super().__init__(float(torch.logit(torch.tensor(share, dtype=torch.float64), eps=1e-9)))


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


def recency(batch: Batch[Tensor]) -> Tensor:
    """(B, 1) float64: log1p of the hours since the last activity. Its regression orders users by that alone."""
    return batch.facts["idle_hours"].double().log1p()[:, None]


def answers(batch: Batch[Tensor]) -> Tensor:
    """(B, 1) float64: log1p of the campaigns that were answered before. Its regression orders users by that alone."""
    return batch.facts["answers"].double().log1p()[:, None]


def facts(batch: Batch[Tensor], names: Sequence[str] = FACTS) -> Tensor:
    """(B, F) float64: log1p of each of these facts that is an amount, one-hot codes of each that is one; in the order of names."""
    numbers = [
        torch.nn.functional.one_hot(batch.facts[name].long(), CODED_FACTS[name]).double()
        if name in CODED_FACTS
        else batch.facts[name].double().log1p()[:, None]
        for name in names
    ]
    return torch.cat(numbers, dim=1)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The chance to come that a logistic regression on who was reached says, less that of one on who was left out. Without the latter it is
    a response model: who comes, whether because of it or not.
    """

    reached: LogisticRegression
    left_out: LogisticRegression | None = None

    def score(self, batch: Batch[Tensor]) -> Tensor:
        came = torch.sigmoid(self.reached.score(batch))
        return came if self.left_out is None else came - torch.sigmoid(self.left_out.score(batch))


REGRESSIONS: Mapping[str, tuple[Numbers, Sequence[str]]] = {
    "recency": (recency, ()),
    "logistic_rfm": (rfm, RFM_FEATURES),
    "coupon_users": (answers, ()),
    "logistic_facts": (facts, ()),
}
"""What a logistic regression sees, and the features that it reads for that."""


@dataclass(frozen=True, kw_only=True)
class BetaGeometric:
    """BG/NBD: purchases come at a rate of one's own until one drops out after one of them, with a chance of one's own (Fader, Hardie &
    Lee 2005, "Counting your customers" the easy way). Its score is the logit of the chance that nobody comes within `days`.

    r, alpha: of the gamma distribution of rates a day; a, b: of the beta distribution of drop-outs
    """

    r: float
    alpha: float
    a: float
    b: float
    days: int

    def score(self, batch: Batch[Tensor]) -> Tensor:
        repeats = batch.facts["repeats"].double()
        until = batch.facts["tenure_hours"].double() / 24  # T of the paper; its t_x is the last purchase's time
        last = until - batch.facts["idle_hours"].double() / 24
        shape, age = self.r + repeats, self.alpha + until
        gone = self.a / (self.b + repeats - 1) * (age / (self.alpha + last)) ** shape  # eq. for P(alive), x > 0
        alive = torch.where(repeats > 0, 1 / (1 + gone), torch.ones_like(gone))
        waits = (age / (age + self.days)) ** shape  # who is alive: rates given the past are gamma(r + x, alpha + T)
        return torch.logit(1 - alive * (1 - waits), eps=1e-9)
