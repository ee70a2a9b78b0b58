"""DeepAR: one recurrent network for all series, which foretells a day's distribution from the days before and what is planned for it.

(Salinas, Flunkert, Gasthaus & Januschowski 2020, DeepAR: Probabilistic forecasting with autoregressive recurrent networks.)
Legend: B rows, T known days, H days that follow, K kinds of promotions, S paths, F inputs of a day.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from foretaste.contract import NUM_PROMOTIONS, Batch
from foretaste.models.heads import CountsHead
from foretaste.models.losses import Loss, negative_binomial_loss
from foretaste.models.model import Model
from foretaste.models.presets import DAYS

LEAST_SCALE = 0.1  # units a day, of a series that was hardly sold
WARM_UP = 7  # known days before the first one that is learnt from
NUM_PATHS = 128
PATH_SEED = 1
_PERCENT = 100.0
_EDGE = 1e-6


class DeepAR(Model):
    """GRUs over days: what was bought the day before, scaled by the row's own mean, and the day's calendar, price and promotions.

    Learns each known day past the first WARM_UP, and those of the horizon. Foretells by drawing paths, a day after the other.
    """

    presets = DAYS
    parts_rows = False
    counts = True

    def __init__(self, *, embedding: int, hidden: tuple[int, ...], dropout: float, **others: Any) -> None:
        """others: as Model takes them; whichever features are asked for, it reads those of a series."""
        super().__init__(**{**others, "features": ("weekday", "monthday")}, embedding=embedding, width=hidden[-1])
        self.widths = (embedding + 4 + NUM_PROMOTIONS, *hidden)
        self.layers = nn.ModuleList(nn.GRU(width, units, batch_first=True) for width, units in pairwise(self.widths))
        self.dropout = nn.Dropout(dropout)
        self.units = CountsHead(width=hidden[-1])

    def step(self, batch: Batch[Tensor]) -> Iterator[Loss]:
        losses = self._losses(batch)
        past = batch.features["units"].shape[1]
        day = torch.arange(losses.shape[1], device=losses.device)
        learnt = (day >= past) | (day >= (past - batch.length + WARM_UP)[:, None])  # (B, T + H)
        yield Loss(optimizer="main", total=losses[learnt].sum(), count=learnt.sum())

    def horizon_losses(self, batch: Batch[Tensor]) -> Tensor:
        """(B, H): how unlikely what came was, each day given those before it: nats."""
        return self._losses(batch)[:, batch.features["units"].shape[1] :]

    def score(self, batch: Batch[Tensor]) -> Tensor:
        """(B, S, H): units on each day of paths that may come, all as likely.

        The points of all rows are the same, of a scrambled Sobol sequence: a row's answer depends on nothing but the row.
        """
        units = batch.features["units"]
        past, horizon = units.shape[1], batch.features["weekday"].shape[1] - units.shape[1]
        engine = torch.quasirandom.SobolEngine(horizon, scramble=True, seed=PATH_SEED)  # type: ignore[no-untyped-call]
        points = engine.draw(NUM_PATHS).double().clamp(_EDGE, 1 - _EDGE)  # (S, H)
        scale, planned = self._scale(batch), self._planned(batch)
        _, hidden = self._run(torch.cat([_told(_shifted(units), scale), planned[:, :past]], dim=2))
        states = [state.repeat_interleave(NUM_PATHS, dim=1) for state in hidden]
        scales, previous = scale.repeat_interleave(NUM_PATHS, dim=0), units[:, -1].float().repeat_interleave(NUM_PATHS)
        path = []
        for day in range(horizon):
            of_day = planned[:, past + day].repeat_interleave(NUM_PATHS, dim=0)[:, None]  # (B * S, 1, F)
            output, states = self._run(torch.cat([_told(previous[:, None], scales), of_day], dim=2), states)
            mean, shape = self.units.distribution(output[:, 0], scales)
            drawn = _quantile(points[:, day].repeat(len(units)), mean, shape)
            path.append(drawn)
            previous = drawn.float()
        return torch.stack(path, dim=1).reshape(len(units), NUM_PATHS, horizon)

    def activations(self, length: int) -> int:
        embedding, *units = self.widths
        return length * (2 * embedding + 9 * sum(units))

    def _losses(self, batch: Batch[Tensor]) -> Tensor:
        """(B, T + H): the negative log-likelihood of each day's units."""
        came = torch.cat([batch.features["units"], batch.labels[self.label]], dim=1).float()
        scale = self._scale(batch)
        states, _ = self._run(torch.cat([_told(_shifted(came), scale), self._planned(batch)], dim=2))
        mean, shape = self.units.distribution(states, scale[:, None])
        return negative_binomial_loss(came, mean, shape)

    def _run(self, inputs: Tensor, states: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """(B, days, F) → (B, days, width), and each layer's last state."""
        outputs, last = inputs, []
        for place, layer in enumerate(self.layers):
            outputs, state = layer(outputs, states[place] if states else None)
            outputs = self.dropout(outputs)
            last.append(state)
        return outputs, last

    def _scale(self, batch: Batch[Tensor]) -> Tensor:
        """(B, 1): units of a known day, on average."""
        return (batch.features["units"].float().sum(1) / batch.length.clamp(min=1))[:, None] + LEAST_SCALE

    def _planned(self, batch: Batch[Tensor]) -> Tensor:
        """(B, T + H, …): what is known of each day beforehand, and how large the series is."""
        weekday = batch.features["weekday"]
        promotion = batch.features["promotion"].float().reshape(len(weekday), NUM_PROMOTIONS, -1).transpose(1, 2) / _PERCENT
        level = (batch.features["price_level"].float().clamp(min=1.0) / _PERCENT).log() * (batch.features["price_level"] > 0)
        size = self._scale(batch).log().expand_as(level)
        return torch.cat([self.embedded(batch), promotion, torch.stack([level, size], dim=2)], dim=2)


def _told(before: Tensor, scale: Tensor) -> Tensor:
    """(B, days, 2) from the units of the day before each, (B, days)."""
    return torch.stack([(before.float() / scale).log1p(), (before > 0).float()], dim=2)


def _shifted(units: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(units[:, :1]), units[:, :-1]], dim=1)


def _quantile(point: Tensor, mean: Tensor, shape: Tensor) -> Tensor:
    """(n,) float64: the least number of units that a negative binomial stays at or below with the probability `point`."""
    from scipy.stats import nbinom  # models that foretell no units need torch alone

    size = shape.double().cpu().numpy()
    success = size / (size + mean.double().cpu().numpy())
    return torch.from_numpy(nbinom.ppf(point.numpy(), size, success)).to(mean.device)
