"""Is the whole curve right: how many were foretold to stay away until each day, and how many did, of all rows, whole waits or not?

What came is told by Kaplan & Meier's product (1958, Nonparametric estimation from incomplete observations): it counts a row that ends early
for as long as it is known. The bootstrap is the one of all metrics, over users.

Legend: B rows, D days, R resamples.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import Batch
from foretaste.evaluation.bootstrap import Estimate, poisson_weights
from foretaste.evaluation.judge import ratio
from foretaste.evaluation.passes import USER_HASH
from foretaste.scoring.arrow import to_batch

WAITING_SUMS = "sums array<double>"
_KINDS = 3  # sums of a day: those at risk on it, those who came on it, the chances to stay away up to and on it


class Curve(Protocol):
    """What answers with (B, D) chances that nobody comes up to and on each day."""

    def survival(self, batch: Batch[Tensor]) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class WaitingSums:
    """`rows.mapInArrow(WaitingSums(…), WAITING_SUMS)`: a row a partition with rows, (1 + _KINDS · D) · (1 + replicates)
    numbers to be added up.

    label: as contract.answers_of takes it; load: gives the model, called in each partition
    """

    label: str
    load: Callable[[], Curve]
    days: int
    replicates: int
    seed: int
    batch_size: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        torch.set_num_threads(1)  # Spark runs one worker a core
        total = np.zeros((1 + _KINDS * self.days, 1 + self.replicates))
        for rows in batches:
            for start in range(0, rows.num_rows, self.batch_size):
                part = rows.slice(start, self.batch_size)
                weights = poisson_weights(part.column(USER_HASH).to_numpy(), self.replicates, self.seed)
                batch: Batch[Tensor] = to_batch(part, [self.label]).map(torch.tensor)
                with torch.inference_mode():
                    chances = self.load().survival(batch).double().numpy()
                total += sums_of(batch.labels[self.label].numpy(), chances, weights)
        if total[0, 0]:
            yield pa.RecordBatch.from_pydict({"sums": pa.array([total.ravel()], pa.list_(pa.float64()))})


def sums_of(waited: NDArray[np.int32], chances: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 + 3 D, R) of (B, 2) labels, (B, D) chances and (B, R) weights."""
    day = np.arange(1, chances.shape[1] + 1)
    came_on, known = waited[:, :1], waited[:, 1:]
    came = (day == came_on).astype(np.float64)
    at_risk = (day <= np.where(came_on > 0, came_on, known)).astype(np.float64)
    return np.concatenate([weights.sum(0, keepdims=True), at_risk.T @ weights, came.T @ weights, chances.T @ weights])


def curves(sums: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    """From the sums of all rows: `foretold` and `kaplan_meier`, (D, R) each, the share of rows in which nobody came until each day."""
    rows, (at_risk, came, chances) = sums[0], np.split(sums[1:], _KINDS)
    return {"foretold": ratio(chances, rows[None]), "kaplan_meier": np.cumprod(1 - ratio(came, at_risk, empty=0.0), axis=0)}


def by_week(sums: NDArray[np.float64], days: int) -> Mapping[tuple[str, int], Estimate]:
    """(foretold, kaplan_meier or their difference "foretold minus kaplan_meier", day) at the end of each week, and on the last day."""
    found = dict(curves(sums))
    found["foretold minus kaplan_meier"] = found["foretold"] - found["kaplan_meier"]
    ends = sorted({*range(7, days + 1, 7), days})
    return {(name, day): Estimate.of(curve[day - 1]) for day in ends for name, curve in found.items()}
