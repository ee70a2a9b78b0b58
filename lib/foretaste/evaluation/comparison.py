"""A model beside its baselines, on the same rows and resamples: estimates, differences, a table to read and a plain verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretaste.evaluation.bootstrap import Estimate
from foretaste.evaluation.judge import CURVE
from foretaste.evaluation.passes import NUM_JUDGED, NUM_LEFT_OUT
from foretaste.evaluation.ranking import NUM_TARGETS, NUM_UNKNOWN
from foretaste.evaluation.segments import ALL

Resampled = Mapping[str, NDArray[np.float64]]
"""Metric → (1 + replicates,) values, the unweighted one first."""

_COUNTS = (NUM_JUDGED, NUM_LEFT_OUT, NUM_TARGETS, NUM_UNKNOWN)
_NOT_COMPARED = ("roc_auc_error", "majority_accuracy")  # they say something of the rows, not of the scorer
_FEW = 3  # scorers that stand side by side


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One task on one split, for one group of users.

    model: how the model is called; scorers: it and its baselines by name; headline: the metric that decides; shown: what is read first
    parts: those of the scorers that the model itself is made of: they stand in the table, and are no baselines to be beaten
    """

    task: str
    split: str
    model: str
    scorers: Mapping[str, Resampled]
    headline: str
    lower_is_better: frozenset[str]
    shown: Sequence[str] = ()
    segment: str = ALL
    parts: Sequence[str] = ()

    @property
    def baselines(self) -> list[str]:
        return [name for name in self.scorers if name != self.model]

    @property
    def metrics(self) -> list[str]:
        """Those that are defined on these rows."""
        values = self.scorers[self.model]
        return [name for name in values if name not in _COUNTS and CURVE not in name and np.isfinite(values[name][0])]

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

    def p_value(self, metric: str, baseline: str) -> float:
        """Two-sided, of the paired bootstrap: twice the share of resamples in which the other one of the two is ahead, ties included, at
        most 1 (Efron & Tibshirani 1993, chapter 15). Never below 2 / (1 + resamples); NaN where there is none.
        """
        resamples = (self.scorers[self.model][metric] - self.scorers[baseline][metric])[1:]
        resamples = resamples[np.isfinite(resamples)]
        if not len(resamples):
            return np.nan
        fewer = min((resamples <= 0).sum(), (resamples >= 0).sum())
        return min(1.0, 2.0 * float(1 + fewer) / (1 + len(resamples)))

    def best_baseline(self) -> str:
        """The baseline with the best headline metric."""
        sign = -1 if self.headline in self.lower_is_better else 1
        baselines = [name for name in self.baselines if name not in self.parts]
        return max(baselines, key=lambda name: sign * float(self.scorers[name][self.headline][0]))

    def estimates(self) -> Iterator[tuple[str, str, Estimate]]:
        """(scorer, metric, estimate) of all, and of curves' points; then of the differences as "model minus baseline", with their p-values.

        Of a group of users only the headline is compared.
        """
        for scorer in self.scorers:
            for metric in self.metrics:
                yield scorer, metric, self.estimate(scorer, metric)
            for metric, values in self.scorers[scorer].items():
                if CURVE in metric and np.isfinite(values[0]):
                    yield scorer, metric, self.estimate(scorer, metric)
        compared = self.metrics if self.segment == ALL else [name for name in self.metrics if name == self.headline]
        for baseline in self.baselines:
            for metric in compared:
                if metric not in _NOT_COMPARED:
                    yield f"{self.model} minus {baseline}", metric, self.difference(metric, baseline)
                    p_value = self.p_value(metric, baseline)
                    if np.isfinite(p_value):
                        yield f"{self.model} minus {baseline}", f"p_value({metric})", Estimate(value=p_value, low=np.nan, high=np.nan)

    def verdict(self) -> str:
        """Is the model better than its best baseline? Said only where the interval of the difference leaves 0 out."""
        if self.headline not in self.metrics:
            return f"{self.task}: {self.headline} is not defined on these {self.num_rows:,} rows, so nothing is said of the model"
        best = self.best_baseline()
        difference = self.difference(self.headline, best)
        gain = _negated(difference) if self.headline in self.lower_is_better else difference
        ours, theirs = (self.scorers[name][self.headline][0] for name in (self.model, best))
        p_value = self.p_value(self.headline, best)
        figures = f"{self.headline} {ours:.4f} against {theirs:.4f}, difference {_signed(difference)}, p {p_value:.3f}"
        if gain.low > 0:
            return f"{self.model} is better than {best}, its best baseline: {figures}"
        if gain.high < 0:
            return f"{self.model} is WORSE than {best}, which needs no such model: {figures}. Do not use it as it is"
        return f"{self.model} is NOT better than {best}, its best baseline, as far as these rows can tell: {figures}"

    def worth(self, metric: str, times: float, words: str, against: Sequence[str], digits: int = 0) -> Iterator[str]:
        """A line: what the model comes to by `metric`, so many times, and each of these baselines that is there; nothing without any."""
        others = [name for name in against if name in self.scorers]
        if metric not in self.metrics or not others:
            return
        told = [
            f"{name} {times * self.scorers[name][metric][0]:,.{digits}f} "
            f"(difference {_rounded(self.difference(metric, name), times, digits)})"
            for name in others
        ]
        ours = self.estimate(self.model, metric)
        yield (
            f"{words}: {self.model} {times * ours.value:,.{digits}f} [{times * ours.low:,.{digits}f}, {times * ours.high:,.{digits}f}], "
            "against " + ", ".join(told)
        )

    def remarks(self) -> Iterator[str]:
        """What the table's figures need said beside them."""
        values = self.scorers[self.model]
        if NUM_UNKNOWN in values:
            yield (
                f"{int(values[NUM_UNKNOWN][0]):,} of {int(values[NUM_TARGETS][0]):,} targets are items that the vocabulary lacks: "
                "nobody could name them, and each is a miss for all"
            )
        if "majority_accuracy" in values:
            yield f"always naming the more frequent class would be right in {values['majority_accuracy'][0]:.4f} of these rows"
        if "roc_auc_error" in values:
            yield f"{self.model}'s roc_auc is counted in bins of the score, which moves it by at most {values['roc_auc_error'][0]:.5f}"

    def table(self) -> list[str]:
        """Lines with a heading: the metrics to read first, by scorer; where few scorers stand side by side, with all their intervals."""
        shown = [metric for metric in self.shown or self.metrics if metric in self.metrics]
        return self._side_by_side(shown) if len(self.scorers) <= _FEW else self._one_below_another(shown)

    def _side_by_side(self, shown: Sequence[str]) -> list[str]:
        """A line a metric: value [low, high] of each scorer, and the difference to the first baseline."""
        reference = self.baselines[0]
        rows = [["metric", *self.scorers, f"{self.model} minus {reference}"]]
        for metric in shown:
            values = [_interval(self.estimate(scorer, metric)) for scorer in self.scorers]
            name = f"{metric} (less is better)" if metric in self.lower_is_better else metric
            rows.append([name, *values, _signed(self.difference(metric, reference))])
        return aligned(rows)

    def _one_below_another(self, shown: Sequence[str]) -> list[str]:
        """A line a scorer: its values, and how far the model is ahead of it, or, where less is better, apart from it, by the headline."""
        apart = "minus it" if self.headline in self.lower_is_better else "ahead"
        rows = [["", *shown, f"{self.model} {apart} by {self.headline}", "p"]]
        for scorer, values in self.scorers.items():
            told = [f"{values[metric][0]:.4f}" for metric in shown]
            if scorer == self.model:
                rows.append([scorer, *told, _interval(self.estimate(scorer, self.headline)), ""])
            else:
                difference, p_value = self.difference(self.headline, scorer), self.p_value(self.headline, scorer)
                rows.append([scorer, *told, _signed(difference), f"{p_value:.3f}"])
        return aligned(rows)

    def line(self, baseline: str) -> list[str]:
        """Of a group of users: its name, rows, and the headline of the model and of `baseline` with their difference."""
        values = [f"{self.scorers[name][self.headline][0]:.4f}" for name in (self.model, baseline)]
        return [self.segment, f"{self.num_rows:,}", *values, _signed(self.difference(self.headline, baseline))]


def by_segment(comparisons: Sequence[Comparison], baseline: str) -> list[str]:
    """Lines: the headline of the model and of one baseline in each group of users that has rows."""
    told = [comparison for comparison in comparisons if comparison.headline in comparison.metrics]
    if not told:
        return []
    first = told[0]
    heading = ["users", "rows", f"{first.headline} of {first.model}", f"of {baseline}", "difference"]
    return aligned([heading, *(comparison.line(baseline) for comparison in told)])


def _negated(estimate: Estimate) -> Estimate:
    return Estimate(value=-estimate.value, low=-estimate.high, high=-estimate.low)


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


def _rounded(estimate: Estimate, times: float, digits: int) -> str:
    value, low, high = (times * number for number in (estimate.value, estimate.low, estimate.high))
    return f"{value:+,.{digits}f} [{low:+,.{digits}f}, {high:+,.{digits}f}]"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
