"""sessions: runs of one user's events without a long pause."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from foretaste.settings import BotSettings, SessionSettings
from foretaste.tables.table import Column, Table

SESSIONS = Table(
    name="sessions",
    comment="One row per session, or part of a long one: events that no long pause and no change of the source's session id breaks",
    columns=(
        Column(name="user_id", type="string", comment="whose session it is", required=True),
        Column(
            name="session_id",
            type="string",
            comment="a hash of user, first event's time and source session id; of a part, of its contents too",
            required=True,
        ),
        Column(name="started_at", type="timestamp", comment="time of its first event, UTC", required=True),
        Column(name="ended_at", type="timestamp", comment="time of its last event, UTC", required=True),
        Column(name="num_events", type="int", comment="how many events it has", required=True),
        Column(name="event_time", type="array<timestamp>", comment="its events' times, oldest first; ties by event_id", required=True),
        Column(name="item_id", type="array<string>", comment="its events' items, in the same order", required=True),
        Column(name="event_type", type="array<string>", comment="its events' types, in the same order", required=True),
        Column(name="price", type="array<double>", comment="its events' unit prices, in the same order", required=True),
        Column(name="category", type="array<string>", comment="its events' category paths, in the same order", required=True),
        Column(name="campaign_id", type="array<string>", comment="its events' campaigns, in the same order", required=True),
    ),
    key=("user_id", "session_id"),
    checks={"ends_after_start": "ended_at >= started_at", "not_empty": "num_events > 0"},
    clustered_by=("user_id", "started_at"),
    change_feed=True,
)

GROWS_BY = ("ended_at", "num_events")
"""What tells whether a session is still the same: events are added and never changed, so one that has as many as before has the same.
A part of one that was cut may have as many and others; but then it has another id.
"""

_MICROSECOND = timedelta(microseconds=1)
_FIRST, _LAST = (moment // _MICROSECOND for moment in (datetime.min - datetime(1970, 1, 1), datetime.max - datetime(1970, 1, 1)))
_ARRAYS = ("event_time", "item_id", "event_type", "price", "category", "campaign_id")
_ORDER = ("event_time", "session_hint", "event_id", "source")
_RUNS = (
    "user_id string, started_at timestamp, ended_at timestamp, num_events int, session_hint string, "
    "event_time array<timestamp>, item_id array<string>, event_type array<string>, price array<double>, category array<string>, "
    "campaign_id array<string>, part int"
)


def build(events: DataFrame, settings: SessionSettings) -> DataFrame:
    """One row per session, the same on any partitioning: one shuffle by user, one sort, then the runs are cut as Arrow columns.

    Those that `settings.bots` tells from a person's are left out.
    A session opens with a user's first event, after a pause longer than `gap`, and (use_hint) where session_hint changes. One of more than
    `most_events` is cut into parts of so many, since a row must fit into a worker's memory: some programs never pause.
    An executor holds one Arrow batch and the part that it has not seen the end of, whatever a user's number of events.
    """
    by_user = events.select("user_id", *_ORDER, *_ARRAYS[1:], F.xxhash64("user_id").alias("user_hash")).repartition("user_hash")
    ordered = by_user.sortWithinPartitions("user_hash", "user_id", *_ORDER)  # hashes compare faster than ids
    runs = ordered.select("user_id", "session_hint", *_ARRAYS).mapInArrow(
        _Cutter(settings.gap, settings.use_hint, settings.most_events), _RUNS
    )
    of_people = runs.where(~_is_bots(settings.bots)) if settings.bots else runs
    return SESSIONS.select(of_people.withColumn("session_id", _session_id(settings.use_hint)))


def stretches(sessions: DataFrame, moments: DataFrame, settings: SessionSettings) -> DataFrame:
    """user_id, since, until (microseconds since 1970): of each user the time outside which no session can differ from `sessions`.

    moments: user_id, event_time: where a user's events changed
    A stretch reaches from the first to the last of them, and on both sides to the ends of the sessions that follow one another without a
    pause longer than `gap`: what lies beyond begins or ends a session, whatever happened inside. Where bots' sessions are left out, nothing
    is known of what they join, and a stretch has no ends.
    """
    moment = F.unix_micros("event_time")
    spans = moments.groupBy("user_id").agg(F.min(moment).alias("first"), F.max(moment).alias("last"))
    if settings.bots:
        return spans.select("user_id", F.lit(_FIRST).alias("since"), F.lit(_LAST).alias("until"))
    gap = settings.gap // _MICROSECOND
    in_order = Window.partitionBy("user_id").orderBy("started", "ended")
    theirs = sessions.select("user_id", F.unix_micros("started_at").alias("started"), F.unix_micros("ended_at").alias("ended"))
    follows = F.col("started") - F.lag("ended").over(in_order) <= gap
    told = theirs.join(spans, on="user_id").withColumn("opens", F.when(follows, 0).otherwise(1))
    runs = told.withColumn("run", F.sum("opens").over(in_order)).groupBy("user_id", "run", "first", "last")
    ends = runs.agg(F.min("started").alias("started"), F.max("ended").alias("ended"))
    joined = ends.where((F.col("started") - F.col("last") <= gap) & (F.col("first") - F.col("ended") <= gap))
    reached = joined.groupBy("user_id").agg(F.min("started").alias("started"), F.max("ended").alias("ended"))
    since, until = F.least("first", "started"), F.greatest("last", "ended")  # both pass nulls over
    return spans.join(reached, on="user_id", how="left").select("user_id", since.alias("since"), until.alias("until"))


def _is_bots(bots: BotSettings) -> SparkColumn:
    """What was cut into parts has more events than a person's, since it has more than sessions.most_events."""
    seconds = (F.unix_micros("ended_at") - F.unix_micros("started_at")) / 1_000_000
    too_fast = F.col("num_events") * 60 > bots.most_per_minute * seconds
    return (F.col("part") > 0) | (F.col("num_events") > bots.most_events) | ((F.col("num_events") >= bots.burst) & too_fast)


def _session_id(use_hint: bool) -> SparkColumn:
    """Unique within a user: ordered events open at most one session at a time and hint. Of a part, it goes by all that is in it."""
    hint = ["session_hint"] if use_hint else []  # concat_ws leaves nulls out, so no hint and an empty one differ
    contents = F.when(F.col("part") > 0, F.concat_ws(" ", "part", F.xxhash64(*_ARRAYS)))
    return F.md5(F.concat_ws("\x1f", F.unix_micros("started_at"), "user_id", *hint, contents))


@dataclass(frozen=True)
class _Cutter:
    """Ordered events → their runs, in parts of at most `most_events`, Arrow batch by Arrow batch.

    part: of a run that is cut which one it is, from 1 on; of a whole one 0
    """

    gap: timedelta
    use_hint: bool
    most_events: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        pending: list[pa.RecordBatch] = []  # the events of the part that is still open
        first = 0  # how many parts its run had before it
        num_seen = 0  # events of that run
        previous: pa.RecordBatch | None = None  # the last event, as a batch of one
        for batch in batches:
            if batch.num_rows == 0:
                continue
            place = _places(self._opens(previous, batch), num_seen)
            previous, num_seen = batch.slice(batch.num_rows - 1), int(place[-1]) + 1
            opening = np.flatnonzero(place % self.most_events == 0)
            if len(opening) == 0:
                pending.append(batch)
                continue
            before = place[opening] // self.most_events  # of each part that opens here: how many its run had before it
            num_pending = sum(part.num_rows for part in pending)
            bounds = opening + num_pending
            if pending:
                bounds, before = np.append(0, bounds), np.append(first, before)
            if len(bounds) > 1:
                goes_on = before[1:] > 0
                yield _runs([*pending, batch.slice(0, opening[-1])], bounds, np.where(goes_on | (before[:-1] > 0), before[:-1] + 1, 0))
            pending, first = [batch.slice(opening[-1])], int(before[-1])
        if pending:
            yield _runs(pending, np.array([0, sum(part.num_rows for part in pending)]), np.array([first + 1 if first else 0]))

    def _opens(self, previous: pa.RecordBatch | None, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """(n,): whether each event of `batch` opens a session."""
        both = pa.Table.from_batches([batch] if previous is None else [previous, batch]).combine_chunks()
        time = both["event_time"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
        opens = _changes(both["user_id"]) | (np.diff(time) > self.gap // _MICROSECOND)
        if self.use_hint:
            hint = both["session_hint"]
            opens |= _changes(hint) | _changes(hint.is_null())
        return np.concatenate([[True], opens]) if previous is None else opens


def _places(opens: NDArray[np.bool_], num_seen: int) -> NDArray[np.int64]:
    """(n,) the place of each event in its run, from 0 on, where `num_seen` events of the first one's run came before, if it opens none."""
    place = np.arange(len(opens))
    opened: NDArray[np.int64] = np.maximum.accumulate(np.where(opens, place, -num_seen))
    return place - opened


def _changes(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """(n - 1,): whether a value differs from the one before it; False beside a null."""
    different = pc.not_equal(column[1:], column[:-1])
    return np.asarray(pc.fill_null(different, False), dtype=bool)


def _runs(batches: list[pa.RecordBatch], bounds: NDArray[np.int64], part: NDArray[np.int64]) -> pa.RecordBatch:
    """The events of `batches`, cut into the sessions, or parts of them, [bounds[i], bounds[i + 1])."""
    events = pa.Table.from_batches(batches).combine_chunks()
    column = {name: events[name].combine_chunks() for name in events.column_names}
    first, last = pa.array(bounds[:-1]), pa.array(bounds[1:] - 1)
    offsets = pa.array(bounds.astype(np.int32))
    return pa.RecordBatch.from_pydict(
        {
            "user_id": column["user_id"].take(first),
            "started_at": column["event_time"].take(first),
            "ended_at": column["event_time"].take(last),
            "num_events": pa.array(np.diff(bounds).astype(np.int32)),
            "session_hint": column["session_hint"].take(first),
            **{name: pa.ListArray.from_arrays(offsets, column[name]) for name in _ARRAYS},
            "part": pa.array(part.astype(np.int32)),
        }
    )
