"""A base-stock policy on held-out days: at each moment of review, stock is filled up to a level; what does it take to serve so many units?

Deliveries come at once, and what is left over stays. A forecaster's levels rise with a knob k, so many standard deviations above the mean
of what it foretells until the next review: the quantile with the probability that a normal distribution has at k, and beyond its most
extreme path, mean + k deviations. All series of a forecaster have the same k, which gives the least stock for a share of units served where
a unit costs the same wherever it lies. Compared are the days of stock at the k that serves the same share of units, between two of KNOBS by
a straight line. (Silver, Pyke & Thomas 2017, Inventory and production management, chapter 7: order-up-to-level systems; fill rate.)

Legend: W moments of one series, H days between two, K knobs, R resamples.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

KNOBS = np.linspace(-1.5, 6.0, 31)
FILL_RATE = 0.95
STOCK_DAYS = f"stock_days@{FILL_RATE:.0%}"


def levels(paths: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, K): what stock is filled up to, from (B, S, H) paths until the next review."""
    total = paths.sum(2)  # (B, S)
    mean, deviation = total.mean(1), total.std(1)
    share = norm.cdf(KNOBS)
    quantiles = np.quantile(total, share, axis=1).T  # (B, K)
    is_beyond = share > 1 - 1 / (1 + total.shape[1])
    normal = np.maximum(mean[:, None] + KNOBS * deviation[:, None], quantiles)
    return np.maximum(0.0, np.where(is_beyond, normal, quantiles))


def simulated(levels: NDArray[np.float64], demand: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K,) units served, and (K,) units on hand at the end of a day, summed up over days. levels: (W, K), demand: (W, H), in their order

    >>> [total.tolist() for total in simulated(np.array([[3.0], [1.0]]), np.array([[1.0, 0.0], [4.0, 1.0]]))]
    [[3.0], [4.0]]
    """
    served, held, stock = (np.zeros(levels.shape[1]) for _ in range(3))
    for level, days in zip(levels, demand, strict=True):
        stock = np.maximum(stock, level)
        for asked in days:
            sold = np.minimum(stock, asked)
            stock = stock - sold
            served, held = served + sold, held + stock
    return served, held


def stock_days(served: NDArray[np.float64], held: NDArray[np.float64], demand: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    """STOCK_DAYS → (R,): stock over the demand of a day, where FILL_RATE of the demand is served; NaN where no knob reaches that.

    served, held: (K, R), demand: (R,), sums over series and days
    """
    found = np.full(len(demand), np.nan)
    for resample, asked in enumerate(demand):
        if asked > 0:
            share, days = served[:, resample] / asked, held[:, resample] / asked
            rising = np.maximum.accumulate(share)
            if rising[0] <= FILL_RATE <= rising[-1]:
                found[resample] = np.interp(FILL_RATE, rising, days)
    return {STOCK_DAYS: found}
