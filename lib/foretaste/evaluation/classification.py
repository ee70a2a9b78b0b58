"""How well a yes-or-no prediction separates and how far its probabilities can be believed, from sums that partitions add up.

Areas under curves are no sums over rows, so scores are counted in NUM_BINS bins of the logit, for each class and resample. The areas
are then exact for scores rounded to bins of 0.016 in the logit. A pair of a positive and a negative row in one bin counts as a tie,
half right, so roc_auc is off by at most `roc_auc_error` = half the share of such pairs; the metrics tell it for the data at hand.
All else (accuracy, precision, recall, f1, brier, log_loss, calibration_error) is exact.

accuracy, precision, recall, f1   at probability > 0.5; precision and f1 are 0 where nothing is predicted positive
pr_auc                            average precision: the sum of precision · (rise of recall) over falling thresholds, as scikit-learn's
calibration_error                 expected calibration error over 15 equal-width bins of the probability (Guo et al. 2017, L1)
calibration_floor                 about what chance alone would leave of it, were every probability right: the smaller the sample, the more
lift_first_decile                 share of positives among the tenth of rows with the highest scores, over their share among all rows;
                                  of rows tied at the edge of that tenth a proportional part is taken
found@10%, found@30%               share of all positives that are among so many of the rows with the highest scores, edges as above
majority_accuracy                 the accuracy of always naming the more frequent class of the rows judged

And for curves, of each tenth of the rows by falling score (edges as above):
predicted in tenth k, observed in tenth k   mean probability, and share of positives; of scores rounded to bins
found to tenth k                  share of all positives in this tenth and those above it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import Batch
from foretaste.evaluation.judge import JUDGED, Judge, Sums, add_rows, numbers, ratio

NUM_BINS = 2000
LOGIT_RANGE = 16.0  # the first and the last bin take what lies beyond
NUM_CALIBRATION_BINS = 15
DECILE = 0.1
REACHED = {"found@10%": 0.1, "found@30%": 0.3}
NUM_TENTHS = 10

_TP, _FP, _FN, _TN, _LOG_LOSS, _BRIER = range(2, 8)
_CALIBRATION = 8  # for each bin the sums of probability, of its variance p (1 - p), and of the label
_NEGATIVE = _CALIBRATION + 3 * NUM_CALIBRATION_BINS
_POSITIVE = _NEGATIVE + NUM_BINS


class Binary(Judge):
    """The Judge of yes-or-no models, whose scores are logits. `label`: where Batch.labels holds (B,) of 0 or 1."""

    num_sums = _POSITIVE + NUM_BINS
    headline = "roc_auc"
    shown: Sequence[str] = (
        "accuracy",
        "precision",
        "recall",
        "f1",
        "roc_auc",
        "pr_auc",
        "calibration_error",
        "calibration_floor",
        "brier",
        "log_loss",
        "lift_first_decile",
    )
    segmented = False  # 2000 bins a class and resample are enough to keep once
    lower_is_better = frozenset({"calibration_error", "brier", "log_loss"})

    def __init__(self, *, label: str) -> None:
        self.label = label

    def measure(self, scores: Tensor, batch: Batch[Tensor]) -> "LabelledRows":
        return LabelledRows(
            logit=numbers(scores), label=batch.labels[self.label].long().numpy(), probability=torch.sigmoid(scores.double()).numpy()
        )

    def metrics(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        num_rows = sums[JUDGED]
        tp, fp, fn, tn = sums[_TP], sums[_FP], sums[_FN], sums[_TN]
        negative, positive = sums[_NEGATIVE:_POSITIVE], sums[_POSITIVE:]
        share = ratio(tp + fn, num_rows)
        return {
            "accuracy": ratio(tp + tn, num_rows),
            "majority_accuracy": np.maximum(share, 1 - share),
            "precision": ratio(tp, tp + fp, empty=0.0),
            "recall": ratio(tp, tp + fn),
            "f1": ratio(2 * tp, 2 * tp + fp + fn, empty=0.0),
            "roc_auc": roc_auc(negative, positive),
            "roc_auc_error": ratio((negative * positive).sum(0), 2 * negative.sum(0) * positive.sum(0)),
            "pr_auc": average_precision(negative, positive),
            "calibration_error": _calibration_error(sums),
            "calibration_floor": _calibration_floor(sums),
            "brier": ratio(sums[_BRIER], num_rows),
            "log_loss": ratio(sums[_LOG_LOSS], num_rows),
            "lift_first_decile": lift(negative, positive, DECILE),
            **{name: part * lift(negative, positive, part) for name, part in REACHED.items()},
            **_curves(negative, positive),
        }


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """B rows: logits, labels of 0 or 1, and probabilities; (B,) each."""

    logit: NDArray[np.float64]
    label: NDArray[np.int64]
    probability: NDArray[np.float64]

    def add(self, sums: Sums, weights: NDArray[np.float64]) -> None:
        logit, label, probability = self.logit, self.label, self.probability
        predicted = logit > 0
        outcome = np.where(predicted, np.where(label == 1, _TP, _FP), np.where(label == 1, _FN, _TN))
        log_loss = np.logaddexp(0.0, np.where(label == 1, -logit, logit))
        interval = np.minimum((probability * NUM_CALIBRATION_BINS).astype(np.int64), NUM_CALIBRATION_BINS - 1)
        bins = ((np.clip(logit, -LOGIT_RANGE, LOGIT_RANGE) + LOGIT_RANGE) * (NUM_BINS / (2 * LOGIT_RANGE))).astype(np.int64)
        histogram = np.where(label == 1, _POSITIVE, _NEGATIVE) + np.minimum(bins, NUM_BINS - 1)

        sums[JUDGED] += weights.sum(0)
        add_rows(sums, outcome, weights)
        sums[_LOG_LOSS] += log_loss @ weights
        sums[_BRIER] += (probability - label) ** 2 @ weights
        for offset, value in enumerate((probability, probability * (1 - probability), label.astype(np.float64))):
            add_rows(sums, _CALIBRATION + 3 * interval + offset, value[:, None] * weights)
        add_rows(sums, histogram, weights)

    def recommended(self) -> Mapping[str, NDArray[np.int64]]:
        return {}


def roc_auc(negative: NDArray[np.float64], positive: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) from (bins, R) counts by rising score: the share of pairs in which the positive scores higher, ties half."""
    lower = np.cumsum(negative, axis=0) - negative
    return ratio((positive * (lower + negative / 2)).sum(0), negative.sum(0) * positive.sum(0))


def average_precision(negative: NDArray[np.float64], positive: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) from (bins, R) counts by rising score."""
    hits = np.cumsum(positive[::-1], axis=0)
    named = hits + np.cumsum(negative[::-1], axis=0)
    return ratio((positive[::-1] * ratio(hits, named, empty=0.0)).sum(0), positive.sum(0))


def lift(negative: NDArray[np.float64], positive: NDArray[np.float64], part: float) -> NDArray[np.float64]:
    """(R,) from (bins, R) counts by rising score: share of positives in the best `part` of the rows, over their share in all."""
    falling = (negative + positive)[::-1]
    num_rows = falling.sum(0)
    before = np.cumsum(falling, axis=0) - falling
    taken = ratio(np.clip(part * num_rows - before, 0.0, falling), falling, empty=0.0)  # of each bin, from the best down
    return ratio((taken * positive[::-1]).sum(0), part * positive.sum(0))


def _curves(negative: NDArray[np.float64], positive: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """From (bins, R) counts by rising score."""
    falling = (negative + positive)[::-1]
    num_rows, ends = falling.sum(0), np.cumsum(falling, axis=0)
    middle = (np.arange(len(falling))[::-1] + 0.5) * (2 * LOGIT_RANGE / NUM_BINS) - LOGIT_RANGE
    probability = torch.sigmoid(torch.from_numpy(middle)).numpy()[:, None]
    found: dict[str, NDArray[np.float64]] = {}
    for tenth in range(1, NUM_TENTHS + 1):
        start, stop = ((tenth - 1) / NUM_TENTHS * num_rows, tenth / NUM_TENTHS * num_rows)
        within = np.clip(np.minimum(ends, stop) - np.maximum(ends - falling, start), 0.0, None)
        positives = (ratio(within, falling, empty=0.0) * positive[::-1]).sum(0)
        found[f"predicted in tenth {tenth}"] = ratio((within * probability).sum(0), within.sum(0))
        found[f"observed in tenth {tenth}"] = ratio(positives, within.sum(0))
        found[f"found to tenth {tenth}"] = tenth / NUM_TENTHS * lift(negative, positive, tenth / NUM_TENTHS)
    return found


def _calibration_error(sums: Sums) -> NDArray[np.float64]:
    probability, label = (sums[_CALIBRATION + offset : _NEGATIVE : 3] for offset in (0, 2))
    return ratio(np.abs(probability - label).sum(0), sums[JUDGED])


def _calibration_floor(sums: Sums) -> NDArray[np.float64]:
    """The mean of a normal distribution's absolute value, σ √(2 / π), for each bin: labels drawn from the probabilities themselves."""
    variance = sums[_CALIBRATION + 1 : _NEGATIVE : 3]
    return ratio(np.sqrt(2 / np.pi * variance).sum(0), sums[JUDGED])
