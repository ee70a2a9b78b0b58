"""What models are judged by, and what is done with them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from foretaste.settings.fields import EventType, Span, Strict
from foretaste.settings.learning import Baseline, CountedSettings
from foretaste.tasks import TASKS


class EvaluationSettings(Strict):
    """How models are judged: ranks against all items, at each cut-off, with `bootstrap` resamples over users.

    baselines: what stands beside a model that ranks items, counted as `counted` says
    least_buyers: a new item that fewer bought says nothing of who is offered it
    folds, fold_step: (jobs/backtest.py) so many times the whole, each with its splits moved back by so much more, a test time unless given
    """

    baselines: tuple[Baseline, ...] = Field(
        default=("popularity", "recent_popularity", "own_items", "markov", "rules", "item_knn", "vsknn", "stan"), min_length=1
    )
    counted: CountedSettings = CountedSettings()
    at: tuple[int, ...] = (1, 5, 10, 20)
    bootstrap: int = Field(default=200, ge=10)
    least_buyers: int = Field(default=3, ge=1)
    leave_out_seen: bool = False
    seed: int = 0
    folds: int = Field(default=3, ge=2, le=100)
    fold_step: Span | None = None


class ReportSettings(Strict):
    """path: of the page; `report.html` in the warehouse unless given. users, series: so many examples on it."""

    path: str | None = None
    users: int = Field(default=10, ge=0, le=100)
    series: int = Field(default=6, ge=0, le=50)

    def page(self, root: str) -> str:
        """Where the page of the warehouse at `root` lies."""
        return self.path or f"{root}/report.html"


class FilterSettings(Strict):
    """What a task that ranks items leaves out of its targets.

    bought:      what the user bought within so long before `as_of`: an event of `bought_types`
    in_stock:    all items but those in this file: CSV with a head line, or Parquet where its name ends so, with a column item_id
    categories, not_categories: items of none of these category paths, and of any of those; a path holds all that is below it
    price_from, price_to: items that are cheaper or dearer by their list price, else by what was last paid; and those without a price
    most_per_category: of each category all but the best so many; items without a category count as of one
    """

    bought: Span | None = None
    bought_types: tuple[EventType, ...] = Field(default=("purchase",), min_length=1)
    in_stock: str | None = None
    categories: tuple[str, ...] = ()
    not_categories: tuple[str, ...] = ()
    price_from: float | None = Field(default=None, ge=0)
    price_to: float | None = Field(default=None, ge=0)
    most_per_category: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _some_price_fits(self) -> "FilterSettings":
        if self.price_from is not None and self.price_to is not None and self.price_from > self.price_to:
            raise ValueError("price_from is above price_to, so no price fits")
        return self

    @property
    def given(self) -> dict[str, Any]:
        """Those that are set, as plain values; {} where nothing is left out."""
        asked = self.model_dump(mode="json", exclude_defaults=True)
        return asked if set(asked) - {"bought_types"} else {}


class ReasonSettings(Strict):
    """Why targets stand where they do: `named` items and facts of each of the best `targets`, of the last `tried` different items."""

    named: int = Field(default=2, ge=1, le=20)
    tried: int = Field(default=5, ge=0, le=100)
    targets: int = Field(default=3, ge=1)


class ShortlistSettings(Strict):
    """Two stages for a catalogue of millions (scoring/shortlists.py): users of like taste share a shortlist, which is scored exactly.

    recall: the share of users' exact best `top_k` that is to be found; groups: of users; users: drawn at random, whose tastes are grouped
    """

    recall: float = Field(default=0.99, gt=0, lt=1)
    groups: int = Field(default=1024, ge=1)
    users: int = Field(default=40_000, ge=1000)


class ScoringSettings(Strict):
    """Who is scored when: `as_of` is a moment, or the last event's time where it is not given.

    reasons: what names them; none unless given, since each item that is tried is one more scoring of the row
    shortlists: score a part of the catalogue only; all of it unless given
    campaigns: what task campaign asks about; all that are not over at `as_of` unless given
    new_items: ids that task new_item asks about: described, and unknown to its model; those first seen lately unless given
    quantiles: of demand, rising, 0.5 among them
    """

    as_of: datetime | None = None
    top_k: int = Field(default=20, ge=1, le=1000)
    batch_size: int = Field(default=256, ge=1)
    filters: FilterSettings = FilterSettings()
    campaigns: tuple[str, ...] = ()
    new_items: tuple[str, ...] = ()
    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    reasons: ReasonSettings | None = None
    shortlists: ShortlistSettings | None = None


class SegmentSettings(Strict):
    """How users are grouped by the latent numbers of `task`: into `number` segments, or as many of 2 to `most` as tell them apart best."""

    task: str = "latents"
    number: int | None = Field(default=None, ge=2, le=100)
    most: int = Field(default=8, ge=2, le=100)
    seed: int = 0


class SynthesisSettings(Strict):
    """What jobs/synthesize.py writes, by the model of `task`: `rows` histories, each asked for what a real training row would have been.

    model:     gan or vae, the newest version of that kind; the champion, whatever it is, unless given
    budget:    events of every row, instead; category: a category's name, and campaign: with or without events of one, instead
    cold:      the share of rows that are asked to hold an item with fewer than `cold_below` training events
    report:    rows a side that the reports on quality and privacy look at, at most; 0: no reports
    """

    task: str = "behaviour"
    model: Literal["gan", "vae"] | None = None
    rows: int = Field(default=10_000, ge=1)
    budget: int | None = Field(default=None, ge=1)
    category: str | None = None
    campaign: bool | None = None
    cold: float = Field(default=0.0, ge=0, le=1)
    cold_below: int = Field(default=5, ge=2)
    seed: int = 0
    batch_size: int = Field(default=512, ge=1)
    report: int = Field(default=5000, ge=0)

    @field_validator("task")
    @classmethod
    def _writes_sequences(cls, name: str) -> str:
        writing = [task.name for task in TASKS.values() if task.writes_sequences]
        if name not in writing:
            raise ValueError(f"task {name!r} writes no sequences; use {' or '.join(writing)}")
        return name
