"""Intervals over users, by a Poisson bootstrap that needs no resampling of the data.

In resample r each user counts Poisson(1) times (Hanley & MacGibbon 2006; Chamandy et al. 2012, "Estimating uncertainty for massive
data streams"). The count is a hash of (user, r, seed): all rows of a user share it wherever they lie, each partition adds up its own
weighted sums, and two models judged on the same rows share their resamples, which makes their difference a paired one.
"""

from dataclasses import dataclass
from math import exp, factorial

import numpy as np
from numpy.typing import NDArray

_CDF = np.cumsum([exp(-1) / factorial(count) for count in range(12)])  # P(Poisson(1) > 11) < 1e-9
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric over all rows, and the middle 95 % of its resamples."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, resampled: NDArray[np.float64]) -> "Estimate":
        """From (1 + replicates,) values, the unweighted one first. NaN where all of them are."""
        finite = resampled[1:][np.isfinite(resampled[1:])]
        low, high = np.percentile(finite, _INTERVAL) if len(finite) else (np.nan, np.nan)
        return cls(value=float(resampled[0]), low=float(low), high=float(high))


def poisson_weights(user: NDArray[np.int64], replicates: int, seed: int) -> NDArray[np.float64]:
    """(B, 1 + replicates) from (B,) hashes of user ids: ones, then each resample's Poisson(1) counts."""
    replicate = _mixed(np.arange(replicates, dtype=np.uint64) + np.uint64(seed % (1 << 32)) * np.uint64(1 << 32))
    bits = _mixed(user.view(np.uint64)[:, None] ^ replicate[None, :])  # (B, replicates)
    uniform = (bits >> np.uint64(11)) * 2.0**-53  # [0, 1)
    counts = np.searchsorted(_CDF, uniform, side="right").astype(np.float64)
    return np.concatenate([np.ones((len(user), 1)), counts], axis=1)


def _mixed(number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014) after one step of its counter: every bit depends on every bit."""
    z = number + np.uint64(0x9E3779B97F4A7C15)  # numpy's unsigned integers wrap round, as wanted
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
