"""What a shop could foretell of its demand without a model: each gives paths that may come, as DeepAR does, and is judged by the same code.

Legend: B series, T known days, H days that follow, S paths.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from foretaste.contract import Batch
from foretaste.evaluation.forecast import SEASON
from foretaste.evaluation.judge import Scorer

RECENT = 28  # days
NUM_POINTS = 64


class LastValue:
    """Each day as the last one, give or take what days have differed by, so many apart, in the row's own history."""

    def score(self, batch: Batch[Tensor]) -> Tensor:
        known, horizon = _known(batch)
        changes = _windows(known, horizon + 1)  # (B, S, H + 1)
        return _not_negative(known[:, None, -1:] + changes[:, :, 1:] - changes[:, :, :1])


class SeasonalNaive:
    """Each day as the same weekday last was, give or take what that has been off by in the row's own history."""

    def score(self, batch: Batch[Tensor]) -> Tensor:
        known, horizon = _known(batch)
        ahead = np.arange(horizon) % SEASON - SEASON
        off = _windows(known[:, SEASON:] - known[:, :-SEASON], horizon)
        return _not_negative(known[:, None, ahead] + off)


class RecentDays:
    """A stretch of days like any of the last four weeks."""

    def score(self, batch: Batch[Tensor]) -> Tensor:
        known, horizon = _known(batch)
        return _not_negative(_windows(known[:, -max(RECENT, horizon) :], horizon))


class AutoETS:
    """Exponential smoothing, error, trend and season chosen for each series (Hyndman et al. 2002; statsforecast), with normal errors."""

    def score(self, batch: Batch[Tensor]) -> Tensor:
        from statsforecast.models import AutoETS as Smoothing  # only where it is asked for: it takes seconds to import

        known, horizon = _known(batch)
        engine = torch.quasirandom.SobolEngine(horizon, scramble=True, seed=1)  # type: ignore[no-untyped-call]
        spread = norm.ppf(engine.draw(NUM_POINTS).numpy().clip(1e-6, 1 - 1e-6))  # (S, H)
        model = Smoothing(season_length=SEASON)
        level = 100 * (norm.cdf(1) - norm.cdf(-1))
        paths = np.empty((len(known), NUM_POINTS, horizon))
        for row, days in enumerate(known):
            since = max(0, min(len(days) - 2 * SEASON, len(days) - int(batch.length[row])))
            found = model.forecast(y=days[since:], h=horizon, level=[level])
            paths[row] = found["mean"] + (found[f"hi-{level}"] - found["mean"]) * spread
        return _not_negative(np.nan_to_num(paths))


FORECASTERS: dict[str, type[Scorer]] = {
    "seasonal_naive": SeasonalNaive,
    "last_value": LastValue,
    "recent_days": RecentDays,
    "auto_ets": AutoETS,
}


def _known(batch: Batch[Tensor]) -> tuple[NDArray[np.float64], int]:
    """(B, T) units, and H."""
    units = batch.features["units"]
    return units.double().cpu().numpy(), batch.features["weekday"].shape[1] - units.shape[1]


def _windows(days: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """(B, S, width): all runs of so many days."""
    return np.lib.stride_tricks.sliding_window_view(days, min(width, days.shape[1]), axis=1)


def _not_negative(paths: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.maximum(paths, 0.0))
