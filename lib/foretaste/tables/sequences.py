"""sequences: the examples that models learn from and are judged on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import CUTS, FACTS, FEATURES, FIRST_INDEX, SCALARS, SPLITS, Label
from foretaste.errors import SettingsError, TableError
from foretaste.settings import SequenceSettings
from foretaste.tables import cuts, windows
from foretaste.tables.contacts import NO_CAMPAIGNS, NONE, Campaigns
from foretaste.tables.cuts import SMALLEST, TEST, Calendar
from foretaste.tables.histories import COLUMNS, Codes, columns_for, histories
from foretaste.tables.table import Column, Table
from foretaste.tables.windows import Cuts, Int64
from foretaste.tasks import TASKS

_FEATURE_COMMENTS = {
    "item": "vocabulary indices of the items",
    "event": "codes of the event types",
    "gap": "buckets of the time since the user's previous event",
    "opens_session": "2 where an event opens a session, else 1",
    "price": "buckets of the unit prices",
    "category": "vocabulary indices of the categories",
    "hour": "1 + hour of the day",
    "weekday": "1 + day of the week, Monday first",
}
_FACT_COMMENTS = {
    "repeats": "sessions with activity before as_of, but the first",
    "idle_hours": "whole hours from the last activity to as_of; from the first event, without any",
    "tenure_hours": "whole hours from the first activity to as_of; from the first event, without any",
    "exposures": "campaigns that reached the user before as_of",
    "answers": "answers to campaigns before as_of",
    "answer_rate": "of 1,000 campaigns that reached the user how many were answered, with 0.2 answers to 2 campaigns added",
    "campaign_kind": "of a campaign's row: a code of the campaign's kind",
    "campaign_days": "of a campaign's row: how many days the campaign lasts",
    "campaign_items": "of a campaign's row: how many items of the vocabulary it is about",
    "bought_promoted": "of a campaign's row: the user's events with an item that it is about",
    "bought_category": "of a campaign's row: the user's events with a category that it is about",
}

LABELS: tuple[Label, ...] = tuple(
    {task.label.name: task.label for task in TASKS.values() if task.table == "sequences"}.values()  # tasks may share one
)
SEQUENCES = Table(
    name="sequences",
    comment="One row per example: a user's (or a session's) last events up to as_of, and what followed",
    columns=(
        Column(name="user_id", type="string", comment="whose history it is", required=True),
        Column(name="split", type="string", comment="train, valid or test", required=True),
        Column(name="cut", type="string", comment="window, calendar, event, exposure or trial: how as_of was chosen", required=True),
        Column(name="as_of", type="timestamp", comment="everything in the features was known then; labels lie after it", required=True),
        Column(name="length", type="int", comment="real events at the right end of the arrays", required=True),
        Column(
            name="fresh",
            type="int",
            comment="rightmost events that no earlier row of this history, split and cut holds; with refit, nor one of training",
            required=True,
        ),
        Column(name="recency", type="int", comment="bucket of the time from the last event to as_of", required=True),
        *(
            Column(name=name, type="array<int>", comment=f"{_FEATURE_COMMENTS[name]}, oldest first, left-padded with 0", required=True)
            for name in FEATURES
        ),
        *(Column(name=name, type="int", comment=_FACT_COMMENTS[name], required=True) for name in FACTS),
        *(Column(name=label.name, type="array<int>" if label.width else "int", comment=label.comment, required=True) for label in LABELS),
        Column(name="campaign_id", type="string", comment="at exposures and in trials: the campaign that the row asks about"),
    ),
    key=("user_id", "split", "cut", "as_of", "campaign_id"),
    partitioned_by=("split", "cut"),
)

LEAST_FILES = 16  # a split and cut, so that a few ranks can share a small one
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """When splits end, UTC without zone: training before valid_from, validation before test_from, test with the last event, at `until`.

    fitted_until: vocabulary, and whatever else is counted for a model, know the events before this moment
    Under leave_one_out, which knows no times, all of them come after the last event.
    """

    valid_from: datetime
    test_from: datetime
    until: datetime
    fitted_until: datetime

    def moved(self, before: "Bounds", split: str) -> bool:
        """Whether rows that the split had with other bounds are not its rows any more. A later end of test time leaves them there."""
        is_other = {
            "train": self.valid_from != before.valid_from,
            "valid": (self.valid_from, self.test_from) != (before.valid_from, before.test_from),
            "test": self.test_from != before.test_from or self.until < before.until,
        }
        return is_other[split]


def bounds(sessions: DataFrame, settings: SequenceSettings) -> Bounds:
    """The splits of these sessions. A duration counts back from `until`, or the end of the last event's day.

    SettingsError where training time is empty, the splits are out of order, or no row with its horizon fits into one.
    """
    # Microseconds, since a collected timestamp comes in the machine's own time zone.
    extent = sessions.agg(F.unix_micros(F.min("started_at")), F.unix_micros(F.max("ended_at"))).head()
    if extent is None or extent[0] is None:
        raise SettingsError("there are no sessions to split", where="sequences", fix="Ingest events and sessionize first.")
    first, last = (_EPOCH + micros * _MICROSECOND for micros in extent)
    if settings.protocol == "leave_one_out":
        after = last + _MICROSECOND
        return Bounds(valid_from=after, test_from=after, until=after, fitted_until=after)
    end = datetime(last.year, last.month, last.day) + timedelta(days=1)
    if settings.until is not None:
        end = _EPOCH + _microseconds(settings.until) * _MICROSECOND
        last = min(last, end)
    valid_from, test_from = (
        end - value if isinstance(value, timedelta) else _EPOCH + _microseconds(value) * _MICROSECOND
        for value in (settings.valid_from, settings.test_from)
    )
    if not first < valid_from < test_from < last:
        raise SettingsError(
            f"training, validation and test time do not follow one another: first event {first}, valid_from {valid_from}, "
            f"test_from {test_from}, last event {last}",
            where="sequences",
            fix="Set sequences.valid_from and sequences.test_from to times between the first and the last event, in this order.",
        )
    found = Bounds(valid_from=valid_from, test_from=test_from, until=last, fitted_until=test_from if settings.refit else valid_from)
    spans = {"train": (first, valid_from), "valid": (valid_from, test_from), "test": (test_from, last)}
    for split, (start, end) in spans.items():
        if end - start < settings.horizon and settings.protocol == "global_time":
            raise SettingsError(
                f"no row with its horizon of {settings.horizon} fits into {split} time, {start} to {end}",
                where="sequences",
                fix="Shorten sequences.horizon, or give the split more time by valid_from and test_from.",
            )
    return found


def build(
    sessions: DataFrame,
    vocabulary: DataFrame,
    settings: SequenceSettings,
    splits: Bounds,
    only: Iterable[str] = SPLITS,
    campaigns: Campaigns = NO_CAMPAIGNS,
    num_files: int = LEAST_FILES,
    after: datetime | None = None,
) -> DataFrame:
    """The examples of these sessions' users in the splits of `only`; where there are campaigns, at the exposures to them, too.

    after: only those of later moments

    One shuffle by user, into the files that `filed` tells of, and one sort; then many users at once become rows in numpy, in blocks of
    bounded size. What becomes of sessions is wider than they are, so that it is they that are shuffled.
    An executor holds an Arrow batch of sessions as it comes and the events of one user as integers.
    """
    calendar = _calendar(settings, splits, SMALLEST if after is None else _microseconds(after))
    asked = tuple(SPLITS.index(split) for split in only)
    lay_out = _Examples(codes=_codes(vocabulary, settings, campaigns), calendar=calendar, splits=asked, campaigns=campaigns)
    return SEQUENCES.select(_ordered(filed(sessions, settings, num_files)).mapInArrow(lay_out, SEQUENCES.ddl))


def newest(settings: SequenceSettings, splits: Bounds) -> datetime:
    """The last calendar moment of test time: none is later."""
    return _EPOCH + _calendar(settings, splits).moments(TEST)[1] * _MICROSECOND


def latest(
    sessions: DataFrame,
    vocabulary: DataFrame,
    settings: SequenceSettings,
    as_of: datetime,
    campaigns: Campaigns = NO_CAMPAIGNS,
    about: Sequence[str] = (),
    read: Sequence[str] = (*FEATURES, *FACTS),
) -> DataFrame:
    """The features of every user with an event at or before `as_of`, at that one moment: what scoring reads.

    about: ids of campaigns that are asked about: a row for each of them and each user, with its campaign_id
    read:  the features and facts that are wanted; of sessions only what these need is shuffled

    Under session_next_item they are those of the user's last session, as the rows were that a model learnt from.
    A user whose events are all of types that do not enter sequences is there too, with length 0.
    """
    moment = _microseconds(as_of)
    by_session = settings.protocol == "session_next_item"
    names = {"user_id", *SCALARS, *read, "campaign_id"}
    columns = [column for column in SEQUENCES.columns if column.name in names]
    lay_out = _Latest(
        codes=_codes(vocabulary, settings, campaigns),
        length=settings.length,
        as_of=moment,
        by_session=by_session,
        campaigns=campaigns,
        about=tuple(campaigns.ids.index(name) for name in about),
        names=tuple(column.name for column in columns),
    )
    known = sessions.where(F.unix_micros("started_at") <= moment).repartition(F.xxhash64("user_id"))
    needed = columns_for(read, lay_out.codes.campaigns)
    return _ordered(known, needed).mapInArrow(lay_out, ", ".join(f"`{column.name}` {column.type}" for column in columns))


def filed(rows: DataFrame, settings: SequenceSettings, num_files: int) -> DataFrame:
    """The rows, or sessions, in so many partitions, each of which becomes a file of each split and cut.

    All of a user lie in one, so that files can be set apart without a user on both sides.
    """
    return rows.repartition(max(num_files, LEAST_FILES), F.xxhash64(F.lit(settings.seed), "user_id"))


def shuffled(rows: DataFrame, settings: SequenceSettings) -> DataFrame:
    """The rows of each file in an order without meaning, the same each time: the feed shuffles row groups only."""
    place = F.xxhash64(F.lit(settings.seed), "user_id", "split", "cut", "as_of")
    return rows.withColumn("_place", place).sortWithinPartitions("split", "cut", "_place").drop("_place")


def _ordered(sessions: DataFrame, columns: Sequence[str] = COLUMNS) -> DataFrame:
    """In each partition one user's sessions after another, oldest first. They do not overlap, but may share their first or last moment."""
    keyed = sessions.withColumn("_user", F.xxhash64("user_id"))  # hashes compare faster than ids
    return keyed.sortWithinPartitions("_user", "user_id", "started_at", "ended_at", "session_id").select(*columns)


def _calendar(settings: SequenceSettings, splits: Bounds, after: int = SMALLEST) -> Calendar:
    return Calendar(
        protocol=settings.protocol,
        refit=settings.refit,
        length=settings.length,
        stride=settings.stride or max(1, settings.length // 2),
        horizon=settings.horizon // _MICROSECOND,
        every=settings.every // _MICROSECOND,
        follow_up=settings.followed // _MICROSECOND,
        valid_from=_microseconds(splits.valid_from),
        test_from=_microseconds(splits.test_from),
        last=_microseconds(splits.until),
        after=after,
    )


def _microseconds(moment: datetime) -> int:
    """Since 1970; a moment without a zone is in UTC."""
    moment = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return (moment - _EPOCH) // _MICROSECOND


def _codes(vocabulary: DataFrame, settings: SequenceSettings, campaigns: Campaigns) -> Codes:
    rows = vocabulary.select("field", "value", "index", "upper").toPandas().sort_values("index")
    known = {field: rows[rows.field == field] for field in ("item", "category", "price")}
    for field, values in known.items():
        if values["index"].tolist() != list(range(FIRST_INDEX, FIRST_INDEX + len(values))):
            raise TableError(
                f"the indices of field {field} are not {FIRST_INDEX}, {FIRST_INDEX + 1}, …",
                where="vocabulary",
                fix="Run jobs/sequence.py again.",
            )
    return Codes(
        items=pa.array(known["item"].value, pa.string()),
        categories=pa.array(known["category"].value, pa.string()),
        edges=known["price"].upper.dropna().to_numpy(dtype=np.float64),
        event_types=settings.event_types,
        activity=settings.activity,
        zone=offsets(settings.time_zone),
        campaigns=pa.array(campaigns.ids, pa.string()),
        answers=settings.answers,
    )


@cache
def offsets(zone: str) -> tuple[Int64, Int64]:
    """When the zone's distance from UTC changes (to the hour, by its days from 1970 to 2100), and to how many microseconds."""
    try:
        there = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, IsADirectoryError):
        raise SettingsError(
            f"there is no time zone {zone!r}", where="sequences.time_zone", fix="Use a name such as Europe/Berlin or UTC."
        ) from None
    start, num_days = datetime(1970, 1, 1, tzinfo=UTC), (date(2100, 1, 1) - date(1970, 1, 1)).days
    days = [start + timedelta(days=day) for day in range(num_days)]
    changes = [start]
    for day, following in pairwise(days):
        if day.astimezone(there).utcoffset() != following.astimezone(there).utcoffset():
            quarters = [day + timedelta(minutes=15 * quarter) for quarter in range(97)]
            before = [quarter.astimezone(there).utcoffset() for quarter in quarters]
            changes += [quarters[place] for place in range(1, 97) if before[place] != before[place - 1]]
    since = np.array([_microseconds(change) for change in changes], dtype=np.int64)
    distance = [change.astimezone(there).utcoffset() or timedelta(0) for change in changes]
    return since, np.array([gap // _MICROSECOND for gap in distance], dtype=np.int64)


# ---- what runs on executors ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Examples:
    """Sessions in Arrow batches, one user after another → rows of these splits in Arrow batches."""

    codes: Codes
    calendar: Calendar
    splits: tuple[int, ...]
    campaigns: Campaigns

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for users, whole, _ in histories(batches, self.codes):
            events = windows.by_session(whole) if self.calendar.protocol == "session_next_item" else whole
            for found in cuts.all_cuts(events, self.calendar, self.splits, self.campaigns):
                for block, columns in windows.lay_out(events, found, self.calendar.length, LABELS, self.campaigns):
                    yield _arrow(users, block, columns, self.campaigns, SEQUENCES.names)


@dataclass(frozen=True, kw_only=True)
class _Latest:
    """Sessions in Arrow batches, one user after another → a row a user at `as_of`, or one for each campaign in `about` (its place)."""

    codes: Codes
    length: int
    as_of: int
    by_session: bool
    campaigns: Campaigns
    about: tuple[int, ...]
    names: tuple[str, ...]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for users, whole, began in histories(batches, self.codes):
            user = np.flatnonzero(began <= self.as_of)
            campaign = np.tile(np.array(self.about, dtype=np.int64), len(user)) if self.about else None
            user = np.repeat(user, max(1, len(self.about)))
            found = cuts.latest_cuts(whole, user, self.as_of, last_session=self.by_session, campaign=campaign)
            events = windows.by_session(whole) if self.by_session else whole
            features = [name for name in FEATURES if name in self.names]
            for block, columns in windows.lay_out(events, found, self.length, (), self.campaigns, features):
                yield _arrow(users, block, columns, self.campaigns, self.names)


def _arrow(users: pa.Array, rows: Cuts, columns: Mapping[str, NDArray[Any]], campaigns: Campaigns, names: Sequence[str]) -> pa.RecordBatch:
    campaign = np.full(len(rows), NONE) if rows.campaign is None else rows.campaign
    ids = pa.array([*campaigns.ids, None], pa.string())  # NONE takes the last one
    arrays = {"user_id": users.take(pa.array(rows.user)), "campaign_id": ids.take(pa.array(campaign % len(ids)))}
    if "as_of" in names:
        arrays["split"] = pa.repeat(SPLITS[rows.split], len(rows))
        arrays["cut"] = pa.repeat(CUTS[rows.cut], len(rows))
        arrays["as_of"] = pa.array(rows.as_of).cast(pa.timestamp("us", tz="UTC"))
    arrays |= {name: _list_array(column) for name, column in columns.items() if name in names}
    return pa.RecordBatch.from_arrays([arrays[name] for name in names], names=list(names))


def _list_array(column: NDArray[np.int32]) -> pa.Array:
    if column.ndim == 1:
        return pa.array(column, pa.int32())
    rows, width = column.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * width, pa.int32()), pa.array(column.ravel(), pa.int32()))
