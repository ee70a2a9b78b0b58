"""What a use case says of itself: its label, its head, the rows it learns from, how it is judged."""

from dataclasses import dataclass
from typing import Literal

from foretaste.contract import Label


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What acting on the answers is worth, in a shop's own terms, and against what it could do without a model.

    metric, times: a metric of `evaluation`, and by what it is multiplied; words: what that is; against: names of baselines
    digits: that are told after the point
    """

    metric: str
    times: float
    words: str
    against: tuple[str, ...]
    digits: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One use case.

    head:      "items", a score for every item of the vocabulary; "binary", one logit a user; "survival" and "incidence", one a user and
               day; "uplift", two of the latter; "counts", a distribution of units for each item and day
    label:     the column of `table` that it learns from and is judged by
    table:     "sequences", a row a user and moment; "series", a row an item and moment
    train_cut: which training rows it reads. "window": consecutive windows, each event a target once, for next-item models.
               "calendar": every user at fixed moments, as at scoring time; anything else would bias a probability.
               "exposure": every user whom a campaign reached, at that moment.
               "trial": of campaigns with a control group, every user whom it reached, and everybody whom it left out.
               Only `sequences.protocol` global_time has the last three; it says how validation and test rows are cut, too.
    needs_latents: its model makes a few numbers of each user, which scoring writes to user_latents
    needs_content: its model makes item vectors of what items are, so that it can tell of items that it never saw
    writes_sequences: its model writes rows, which jobs/synthesize.py puts into synthetic_sequences
    metrics:   "ranking", "binary", "uplift", "forecast" or "launches", the family in `evaluation` that judges it
    baselines: what stands beside its model (evaluation/baselines.py), where it does not rank items; the base rate always does
    worth:     what the test split's table is followed by
    """

    name: str
    question: str
    head: Literal["items", "binary", "survival", "incidence", "uplift", "counts"]
    label: Label
    train_cut: Literal["window", "calendar", "exposure", "trial"]
    metrics: Literal["ranking", "binary", "uplift", "forecast", "launches"]
    table: Literal["sequences", "series"] = "sequences"
    needs_latents: bool = False
    needs_content: bool = False
    writes_sequences: bool = False
    baselines: tuple[str, ...] = ("logistic_rfm",)
    worth: Worth | None = None

    @property
    def asks_about_campaigns(self) -> bool:
        """Whether a row is about a user and a campaign, not about a user alone."""
        return self.train_cut in ("exposure", "trial")

    def judged_cut(self, usual: str) -> str:
        """The cut of the rows that it is judged on: the usual one, but where it asks about campaigns."""
        return self.train_cut if self.asks_about_campaigns else usual
