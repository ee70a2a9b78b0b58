"""A model beside its baselines, on the same rows and resamples: estimates, differences, a table to read and a plain verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretaste.evaluation.bootstrap import Estimate
from foretaste.evaluation.passes import NUM_JUDGED, NUM_LEFT_OUT

Resampled = Mapping[str, NDArray[np.float64]]
"""Metric → (1 + replicates,) values, the unweighted one first."""

_NOT_COMPARED = ("roc_auc_error", "majority_accuracy")  # they say something of the rows, not of the scorer


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One task on one split. model: how the model is called; scorers: it and its baselines by name; headline: the metric that decides."""

    task: str
    split: str
    model: str
    scorers: Mapping[str, Resampled]
    headline: str
    lower_is_better: frozenset[str]

    @property
    def baselines(self) -> list[str]:
        return [name for name in self.scorers if name != self.model]

    @property
    def metrics(self) -> list[str]:
        """Those that are defined on these rows."""
        values = self.scorers[self.model]
        return [name for name in values if name not in (NUM_JUDGED, NUM_LEFT_OUT) and np.isfinite(values[name][0])]

    @property
    def num_rows(self) -> int:
        return int(self.scorers[self.model][NUM_JUDGED][0])

    @property
    def num_left_out(self) -> int:
        return int(self.scorers[self.model][NUM_LEFT_OUT][0])

    def estimate(self, scorer: str, metric: str) -> Estimate:
        return Estimate.of(self.scorers[scorer][metric])

    def difference(self, metric: str, baseline: str) -> Estimate:
        """Model minus baseline, resample by resample: both are weighed by the same users' counts, so the interval is a paired one."""
        return Estimate.of(self.scorers[self.model][metric] - self.scorers[baseline][metric])

    def best_baseline(self) -> str:
        """The baseline with the best headline metric."""
        sign = -1 if self.headline in self.lower_is_better else 1
        return max(self.baselines, key=lambda name: sign * float(self.scorers[name][self.headline][0]))

    def estimates(self) -> Iterator[tuple[str, str, Estimate]]:
        """(scorer, metric, estimate) of all, then of the differences as "model minus baseline"."""
        for scorer in self.scorers:
            for metric in self.metrics:
                yield scorer, metric, self.estimate(scorer, metric)
        for baseline in self.baselines:
            for metric in self.metrics:
                if metric not in _NOT_COMPARED:
                    yield f"{self.model} minus {baseline}", metric, self.difference(metric, baseline)

    def verdict(self) -> str:
        """Is the model better than its best baseline? Said only where the interval of the difference leaves 0 out."""
        if self.headline not in self.metrics:
            return f"{self.task}: {self.headline} is not defined on these {self.num_rows:,} rows, so nothing is said of the model"
        best = self.best_baseline()
        difference = self.difference(self.headline, best)
        gain = _negated(difference) if self.headline in self.lower_is_better else difference
        ours, theirs = (self.scorers[name][self.headline][0] for name in (self.model, best))
        figures = f"{self.headline} {ours:.4f} against {theirs:.4f}, difference {_signed(difference)}"
        if gain.low > 0:
            return f"{self.model} is better than {best}, its best baseline: {figures}"
        if gain.high < 0:
            return f"{self.model} is WORSE than {best}, which needs no such model: {figures}. Do not use it as it is"
        return f"{self.model} is NOT better than {best}, its best baseline, as far as these rows can tell: {figures}"

    def remarks(self) -> Iterator[str]:
        """What the table's figures need said beside them."""
        values = self.scorers[self.model]
        if "majority_accuracy" in values:
            yield f"always naming the more frequent class would be right in {values['majority_accuracy'][0]:.4f} of these rows"
        if "roc_auc_error" in values:
            yield f"{self.model}'s roc_auc is counted in bins of the score, which moves it by at most {values['roc_auc_error'][0]:.5f}"

    def table(self, reference: str) -> list[str]:
        """Lines: a heading, then metric, value [low, high] of the model and each baseline, and the difference to `reference`."""
        rows = [["metric", *self.scorers, f"{self.model} minus {reference}"]]
        for metric in self.metrics:
            if metric in _NOT_COMPARED:
                continue
            values = [_interval(self.estimate(scorer, metric)) for scorer in self.scorers]
            name = f"{metric} (less is better)" if metric in self.lower_is_better else metric
            rows.append([name, *values, _signed(self.difference(metric, reference))])
        return _aligned(rows)


def _negated(estimate: Estimate) -> Estimate:
    return Estimate(value=-estimate.value, low=-estimate.high, high=-estimate.low)


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
