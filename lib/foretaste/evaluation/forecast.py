"""How far forecasts of amounts are off, from sums over series that partitions add up.

wape            Σ |y − ŷ| / Σ |y| over all series and steps, of the median
mase            the mean over series of mean |y − ŷ| / scale, the scale being the error that repeating the last season makes within the
                series' own history (Hyndman & Koehler 2006, Another look at measures of forecast accuracy); a series whose history
                repeats itself exactly has no scale, and is left out of this one metric
pinball@q       the mean of max(q · (y − ŷ), (q − 1) · (y − ŷ)), in units (Koenker & Bassett 1978, Regression quantiles)
pinball         the mean of those over all quantiles
coverage@q      the share of y that lies at or below the q quantile: q, if the forecast knows what it does not know

Legend: B series, T steps of history, H steps ahead, Q quantiles, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import Batch
from foretaste.errors import SettingsError
from foretaste.evaluation.judge import JUDGED, Judge, Sums, ratio
from foretaste.evaluation.stock import STOCK_DAYS

MEDIAN = 0.5
SEASON = 7  # days

_STEPS, _ERROR, _ACTUAL, _SCALED, _HAVE_SCALE = range(2, 7)
_BY_QUANTILE = 7  # the pinball losses, then what was at or below


class Forecast(Judge):
    """Metrics of forecasts at `levels`, rising, the median among them."""

    headline = "pinball"
    lower_is_better = frozenset({"wape", "mase", "pinball", STOCK_DAYS})

    segmented = False

    def __init__(self, *, levels: Sequence[float], label: str = "units_ahead") -> None:
        if list(levels) != sorted(set(levels)) or MEDIAN not in levels or not all(0 < level < 1 for level in levels):
            raise SettingsError("quantiles must rise, lie between 0 and 1, and have 0.5 among them", where="quantiles", fix="Mend them.")
        self.levels, self.label = tuple(levels), label
        self.num_sums = _BY_QUANTILE + 2 * len(levels)
        self.shown: Sequence[str] = ("wape", "mase", "pinball", STOCK_DAYS, *(f"coverage@{level:g}" for level in self.levels))

    def measure(self, scores: Tensor, batch: Batch[Tensor]) -> "ForecastRows":
        """scores: (B, S, H) paths that may come."""
        foretold = np.quantile(scores.double().numpy(), self.levels, axis=1).transpose(1, 2, 0)  # (B, H, Q)
        known = batch.features["units"].double().numpy()
        before = np.arange(known.shape[1]) < known.shape[1] - batch.length.numpy()[:, None]
        scale = seasonal_scale(np.where(before, np.nan, known), SEASON)
        return ForecastRows(levels=self.levels, actual=batch.labels[self.label].double().numpy(), foretold=foretold, scale=scale)

    def metrics(self, sums: Sums) -> Mapping[str, NDArray[np.float64]]:
        """Metric name → (R,), NaN where it is not defined."""
        num_levels = len(self.levels)
        losses = ratio(sums[_BY_QUANTILE : _BY_QUANTILE + num_levels], sums[_STEPS])  # (Q, R)
        below = ratio(sums[_BY_QUANTILE + num_levels :], sums[_STEPS])
        return {
            "wape": ratio(sums[_ERROR], sums[_ACTUAL]),
            "mase": ratio(sums[_SCALED], sums[_HAVE_SCALE]),
            "pinball": losses.mean(0),
            **{f"pinball@{level:g}": loss for level, loss in zip(self.levels, losses, strict=True)},
            **{f"coverage@{level:g}": share for level, share in zip(self.levels, below, strict=True)},
        }


@dataclass(frozen=True, kw_only=True)
class ForecastRows:
    """What came and what was foretold. actual: (B, H); foretold: (B, H, Q) at `levels`; scale: (B,), of `seasonal_scale`."""

    levels: Sequence[float]
    actual: NDArray[np.float64]
    foretold: NDArray[np.float64]
    scale: NDArray[np.float64]

    def add(self, sums: Sums, weights: NDArray[np.float64]) -> None:
        """Adds the series to `sums`, with their (B, R) weights."""
        levels = np.asarray(self.levels)
        error = np.abs(self.actual - self.foretold[:, :, self.levels.index(MEDIAN)])  # (B, H)
        over = self.actual[:, :, None] - self.foretold  # (B, H, Q)
        has_scale = self.scale > 0
        scaled = np.divide(error.mean(1), self.scale, out=np.zeros_like(self.scale), where=has_scale)

        sums[JUDGED] += weights.sum(0)
        sums[_STEPS] += self.actual.shape[1] * weights.sum(0)
        sums[_ERROR] += error.sum(1) @ weights
        sums[_ACTUAL] += np.abs(self.actual).sum(1) @ weights
        sums[_SCALED] += scaled @ weights
        sums[_HAVE_SCALE] += has_scale.astype(np.float64) @ weights
        sums[_BY_QUANTILE : _BY_QUANTILE + len(levels)] += np.maximum(levels * over, (levels - 1) * over).sum(1).T @ weights
        sums[_BY_QUANTILE + len(levels) :] += (over <= 0).sum(1).T @ weights

    def recommended(self) -> Mapping[str, NDArray[np.int64]]:
        return {}


def seasonal_scale(history: NDArray[np.float64], season: int) -> NDArray[np.float64]:
    """(B,): the mean absolute difference between values a season apart. history: (B, T), oldest first, NaN before a series began; 0 where
    no two values lie a season apart."""
    change = np.abs(history[:, season:] - history[:, :-season])  # (B, T − season)
    known = np.isfinite(change)
    return ratio(np.where(known, change, 0.0).sum(1), known.sum(1).astype(np.float64), empty=0.0)
