"""What reaching users is worth, and whom, from rows of a trial in which chance decided who was reached.

Users are reached by falling score, some part of them at a time. With N users reached and M left out in the whole trial, of whom n, m are
among the best so many and y, x of these came, what came of reaching the best is y / N - x / M: users more that came, as a share of all
users. Random targeting gains in proportion, up to the effect of reaching everybody.

ate          the effect of reaching everybody: the share that came of those who were reached, less that of those who were left out
foretold     the mean score: what the model thinks that `ate` is
auuc         the area under that gain over the part that is reached (area under the uplift curve)
qini         the area between it and random targeting: auuc - ate / 2 (Radcliffe 2007, Using control groups to target on predicted lift)
uplift@10%, uplift@30%   y / n - x / m among so many of the best: users more that came, for each one who is reached

Scores are counted in NUM_BINS bins of [-1, 1], for each arm, each outcome and each resample; users tied in a bin come in no order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import Batch
from foretaste.evaluation.judge import JUDGED, Judge, Sums, add_rows, numbers, ratio

NUM_BINS = 2000
REACHED = {"uplift@10%": 0.1, "uplift@30%": 0.3}
NUM_KINDS = 4  # of rows: 2 · reached + came

_FORETOLD = 2
_HISTOGRAMS = 3


class Uplift(Judge):
    """The Judge of models whose score is what reaching a user changes. `label`: where Batch.labels holds (B,) kinds of rows."""

    num_sums = _HISTOGRAMS + NUM_KINDS * NUM_BINS
    headline = "qini"
    shown: Sequence[str] = ("qini", "auuc", *REACHED, "ate", "foretold")
    segmented = False
    lower_is_better: frozenset[str] = frozenset()

    def __init__(self, *, label: str) -> None:
        self.label = label

    def measure(self, scores: Tensor, batch: Batch[Tensor]) -> "TrialRows":
        return TrialRows(score=numbers(scores), kind=batch.labels[self.label].long().numpy())

    def metrics(self, sums: Sums) -> Mapping[str, NDArray[np.float64]]:
        left_out, came_anyway, reached, came = sums[_HISTOGRAMS:].reshape(NUM_KINDS, NUM_BINS, -1)[:, ::-1]  # (bins, R), best first
        counts = {"n": reached + came, "y": came, "m": left_out + came_anyway, "x": came_anyway}
        n, m = counts["n"].sum(0), counts["m"].sum(0)
        gain = np.cumsum(ratio(counts["y"], n) - ratio(counts["x"], m), axis=0)
        part = ratio(counts["n"] + counts["m"], n + m)
        before = np.concatenate([np.zeros_like(gain[:1]), gain[:-1]])
        auuc = ((before + gain) / 2 * part).sum(0)
        ate = gain[-1]
        return {
            "qini": auuc - ate / 2,
            "auuc": auuc,
            **{name: _among_best(counts, share) for name, share in REACHED.items()},
            "ate": ate,
            "foretold": ratio(sums[_FORETOLD], sums[JUDGED]),
        }


def _among_best(counts: Mapping[str, NDArray[np.float64]], share: float) -> NDArray[np.float64]:
    """(R,): the effect among the best `share` of all; of the bin at the edge in proportion. counts: (bins, R), best first"""
    rows = counts["n"] + counts["m"]
    before = np.cumsum(rows, axis=0) - rows
    taken = ratio(np.clip(share * rows.sum(0) - before, 0.0, rows), rows, empty=0.0)
    n, y, m, x = ((taken * counts[name]).sum(0) for name in ("n", "y", "m", "x"))
    return ratio(y, n) - ratio(x, m)


@dataclass(frozen=True, kw_only=True)
class TrialRows:
    """B rows: scores, and kinds; (B,) each."""

    score: NDArray[np.float64]
    kind: NDArray[np.int64]

    def add(self, sums: Sums, weights: NDArray[np.float64]) -> None:
        bins = ((np.clip(self.score, -1.0, 1.0) + 1.0) * (NUM_BINS / 2)).astype(np.int64)
        sums[JUDGED] += weights.sum(0)
        sums[_FORETOLD] += self.score @ weights
        add_rows(sums, _HISTOGRAMS + NUM_BINS * self.kind + np.minimum(bins, NUM_BINS - 1), weights)

    def recommended(self) -> Mapping[str, NDArray[np.int64]]:
        return {}
