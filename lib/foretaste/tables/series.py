"""series: the examples that demand is learnt from: a row an item (or a category) and moment, as `sequences` are a row a user and moment."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import DAY, MOST_PROMOTED, NUM_PROMOTIONS, SPLITS, gap_bucket
from foretaste.settings import SequenceSettings, SeriesSettings
from foretaste.tables.scores import microseconds
from foretaste.tables.sequences import Bounds, offsets
from foretaste.tables.table import Column, Table
from foretaste.tasks import TASKS

LABEL = next(task.label for task in TASKS.values() if task.table == "series")
SERIES = Table(
    name="series",
    comment="One row per example of demand: the last days of an item (or a category) up to as_of, and the units of the days that followed",
    columns=(
        Column(name="series_id", type="string", comment="an item's id, or a category path, as series.by says", required=True),
        Column(name="split", type="string", comment="train, valid or test", required=True),
        Column(name="cut", type="string", comment="calendar: each of them at the same moments", required=True),
        Column(
            name="as_of", type="timestamp", comment="a midnight of the shop; what is learnt lies before it, labels after it", required=True
        ),
        Column(name="length", type="int", comment="days from its first sale to as_of, at the right end of the arrays", required=True),
        Column(name="fresh", type="int", comment="rightmost days that no earlier row of this split holds", required=True),
        Column(name="recency", type="int", comment="bucket of the time from the last day with a sale to as_of", required=True),
        Column(name="units", type="array<int>", comment="units bought on each day, oldest first, left-padded with 0", required=True),
        Column(
            name="price_level", type="array<int>", comment="percent of the mean price of the known days; the last one stays", required=True
        ),
        Column(
            name="weekday",
            type="array<int>",
            comment="1 + day of the week, Monday first; these and the next, of the horizon too",
            required=True,
        ),
        Column(name="monthday", type="array<int>", comment="day of the month", required=True),
        Column(
            name="promotion",
            type="array<int>",
            comment="percent, a kind after the other: campaigns about it, then of the shops that promote it, kinds as they first came",
            required=True,
        ),
        Column(name=LABEL.name, type="array<int>", comment=LABEL.comment, required=True),
    ),
    key=("series_id", "split", "cut", "as_of"),
    partitioned_by=("split", "cut"),
)
CAMPAIGN = 1  # the kind of promotion that campaigns are
_USUAL = 100  # percent
_MOST_LEVEL = 1000
_EPOCH = datetime(1970, 1, 1)
_LEAST_FILES = 16  # a split, so that a few ranks can share a small one
_WITHOUT_LABELS = tuple(column for column in SERIES.columns if column.name not in ("split", "cut", LABEL.name))


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Days since 1970 in the shop's zone. valid_from, test_from, until: where splits end; every, horizon: so many days

    Moments of a split lie `every` apart, counted back from the end of training time, and on from where the others start.
    """

    valid_from: int
    test_from: int
    until: int
    every: int
    horizon: int

    def moments(self, split: str, first: int) -> NDArray[np.int64]:
        """Rising, of a series whose first known day is `first`: each with its whole horizon in the split."""
        if split == "train":
            last = self.valid_from - self.horizon
            return np.arange(last - max(0, last - first) // self.every * self.every, last + 1, self.every)
        start, end = (self.valid_from, self.test_from) if split == "valid" else (self.test_from, self.until)
        return np.arange(start, end - self.horizon + 1, self.every)


def calendar(splits: Bounds, settings: SequenceSettings) -> Calendar:
    """The last day counts as a whole one."""
    zone = offsets(settings.time_zone)
    ends = [-(-_local(microseconds(moment), zone) // DAY) for moment in (splits.valid_from, splits.test_from, splits.until)]
    day = timedelta(days=1)
    return Calendar(valid_from=ends[0], test_from=ends[1], until=ends[2], every=settings.every // day, horizon=settings.horizon // day)


def build(events: DataFrame, promoted: DataFrame, settings: SeriesSettings, of_rows: SequenceSettings, splits: Bounds) -> DataFrame:
    """The examples of every series with `min_units` in training time. promoted: of `promotions_of`"""
    sold = daily(events, settings, of_rows.time_zone)
    fitted = _local(microseconds(splits.fitted_until), offsets(of_rows.time_zone)) // DAY
    lay_out = _LayOut(settings=settings, calendar=calendar(splits, of_rows), zone=offsets(of_rows.time_zone), as_of=None)
    return SERIES.select(_by_series(sold, promoted, settings, fitted).mapInArrow(lay_out, SERIES.ddl))


def latest(events: DataFrame, promoted: DataFrame, settings: SeriesSettings, of_rows: SequenceSettings, as_of: datetime) -> DataFrame:
    """The features of every series with `min_units` before `as_of`, at the first midnight from then on: what foretelling reads."""
    zone, day = offsets(of_rows.time_zone), first_day(of_rows, as_of)
    sold = daily(events.where(F.unix_micros("event_time") <= microseconds(as_of)), settings, of_rows.time_zone)
    at = Calendar(valid_from=day, test_from=day, until=day, every=1, horizon=of_rows.horizon // timedelta(days=1))
    lay_out = _LayOut(settings=settings, calendar=at, zone=zone, as_of=day)
    ddl = ", ".join(f"`{column.name}` {column.type}" for column in _WITHOUT_LABELS)
    return _by_series(sold, promoted, settings, day).mapInArrow(lay_out, ddl)


def first_day(of_rows: SequenceSettings, as_of: datetime) -> int:
    """Since 1970: the first day of the shop that begins at `as_of` or later. The one before counts as whole."""
    return -(-_local(microseconds(as_of), offsets(of_rows.time_zone)) // DAY)


def daily(events: DataFrame, settings: SeriesSettings, time_zone: str) -> DataFrame:
    """series_id, day (since 1970, in that zone), units and mean price of the days on which there was a sale. Without a quantity it is 1."""
    name = "item_id" if settings.by == "item" else "category"
    is_wanted = F.col("event_type").isin(*settings.event_types) & F.col(name).isNotNull()
    for path in settings.not_categories:
        is_wanted &= ~F.coalesce((F.col("category") == path) | F.startswith("category", F.lit(f"{path}/")), F.lit(False))
    units = F.coalesce("quantity", F.lit(1.0))
    sold = events.where(is_wanted).select(
        F.col(name).alias("series_id"), _day("event_time", time_zone).alias("day"), units.alias("units"), "price"
    )
    by_day = sold.groupBy("series_id", "day")
    priced = F.when(F.col("price") > 0, F.col("units"))
    price = F.try_divide(F.sum(F.col("price") * priced), F.sum(priced))
    return by_day.agg(F.sum("units").alias("units"), price.alias("price")).where("units > 0")


def promotions_of(promotions: DataFrame, campaigns: DataFrame, items: DataFrame, settings: SeriesSettings, time_zone: str) -> DataFrame:
    """series_id, kind, first and end day, share: of a category, of its items on average.

    kind: CAMPAIGN, then promotions' kinds as they first came, so that a new one moves none.

    Kinds past NUM_PROMOTIONS - 1 are left out.
    """
    came = promotions.groupBy("kind").agg(F.min("starts_at").alias("came")).orderBy("came", "kind")
    kinds = [row.kind for row in came.limit(NUM_PROMOTIONS - 1).collect()]
    place = F.call_function("array_position", F.array(*map(F.lit, kinds)).cast("array<string>"), F.col("kind"))  # from 1 on
    number = place.cast("int") + F.lit(CAMPAIGN)
    moments = (_day("starts_at", time_zone).alias("first"), _day("ends_at", time_zone, up=True).alias("end"))
    planned = promotions.where(F.col("kind").isin(kinds)).select("item_id", number.alias("kind"), *moments, "share")
    asked = campaigns.select(F.explode("items").alias("item_id"), F.lit(CAMPAIGN).alias("kind"), *moments, F.lit(1.0).alias("share"))
    of_items = planned.unionByName(asked)
    if settings.by == "item":
        return of_items.withColumnRenamed("item_id", "series_id")
    size = items.groupBy("category").agg(F.count("*").alias("size"))
    named = of_items.join(items.select("item_id", "category"), on="item_id", how="inner").join(size, on="category", how="inner")
    by_time = named.groupBy(F.col("category").alias("series_id"), "kind", "first", "end")
    return by_time.agg((F.sum("share") / F.first("size")).alias("share"))


def shuffled(rows: DataFrame, num_files: int, seed: int) -> DataFrame:
    """In an order without meaning, the same each time, all rows of a series in one file of a split: as `sequences` are."""
    place = F.xxhash64(F.lit(seed), "series_id", "split", "as_of")
    by_series = rows.withColumn("_place", place).repartition(max(num_files, _LEAST_FILES), F.xxhash64(F.lit(seed), "series_id"))
    return by_series.sortWithinPartitions("split", "_place").drop("_place")


def _by_series(sold: DataFrame, promoted: DataFrame, settings: SeriesSettings, before: int) -> DataFrame:
    """A row a series: series_id; days, structs of day, units and price; promoted, structs of kind, first, end and share."""
    whole = F.sum(F.when(F.col("day") < before, F.col("units")))
    days = F.sort_array(F.collect_list(F.struct("day", "units", "price")))
    each = sold.groupBy("series_id").agg(days.alias("days"), whole.alias("whole")).where(F.col("whole") >= settings.min_units)
    planned = promoted.groupBy("series_id").agg(F.collect_list(F.struct("kind", "first", "end", "share")).alias("promoted"))
    return each.join(planned, on="series_id", how="left").select("series_id", "days", "promoted")


def _day(name: str, time_zone: str, *, up: bool = False) -> SparkColumn:
    """Days since 1970 at that wall clock; the next one for a moment inside of a day, if `up`."""
    days = F.unix_micros(F.from_utc_timestamp(name, time_zone)) / F.lit(DAY)
    return (F.ceil(days) if up else F.floor(days)).cast("int")


def _local(moment: int, zone: tuple[NDArray[np.int64], NDArray[np.int64]]) -> int:
    """Microseconds in UTC → by the clock of the zone."""
    since, distance = zone
    return moment + int(distance[max(0, int(np.searchsorted(since, moment, side="right")) - 1)])


# ---- what runs on executors ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _LayOut:
    """What `_by_series` gives → rows of SERIES, or, at `as_of` (a day), a row a series without split and label."""

    settings: SeriesSettings
    calendar: Calendar
    zone: tuple[NDArray[np.int64], NDArray[np.int64]]
    as_of: int | None

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            names, days, promoted = batch.column("series_id"), _Structs(batch.column("days")), _Structs(batch.column("promoted"))
            for place in range(batch.num_rows):
                yield from self._rows(names[place].as_py(), days.of(place), promoted.of(place))

    def _rows(self, name: str, sold: dict[str, NDArray[Any]], promoted: dict[str, NDArray[Any]]) -> Iterator[pa.RecordBatch]:
        first, end = int(sold["day"][0]), self.calendar.until + self.calendar.horizon
        origin = first - self.settings.length
        series = _Days.of(sold, promoted, origin=origin, first=first, end=end)
        splits = SPLITS if self.as_of is None else ("",)
        for split in splits:
            moments = np.array([self.as_of]) if self.as_of is not None else self.calendar.moments(split, first)
            moments = moments[moments - first >= self.settings.least]
            if len(moments) == 0:
                continue
            columns = series.rows(moments, self.settings.length, self.calendar.horizon, every=self.calendar.every)
            arrays: dict[str, pa.Array] = {key: _arrow(column) for key, column in columns.items()}
            arrays["series_id"] = pa.repeat(name, len(moments))
            arrays["split"], arrays["cut"] = pa.repeat(split, len(moments)), pa.repeat("calendar", len(moments))
            arrays["as_of"] = pa.array(self._midnight(moments)).cast(pa.timestamp("us", tz="UTC"))
            wanted = SERIES.names if self.as_of is None else [column.name for column in _WITHOUT_LABELS]
            yield pa.RecordBatch.from_arrays([arrays[key] for key in wanted], names=wanted)

    def _midnight(self, day: NDArray[np.int64]) -> NDArray[np.int64]:
        """When these days begin in the shop, UTC."""
        since, distance = self.zone
        guess = day * DAY - distance[np.maximum(np.searchsorted(since, day * DAY, side="right") - 1, 0)]
        begins: NDArray[np.int64] = day * DAY - distance[np.maximum(np.searchsorted(since, guess, side="right") - 1, 0)]
        return begins


class _Structs:
    """A column of lists of structs, whose fields are taken as arrays."""

    def __init__(self, column: pa.Array) -> None:
        values = column.values
        self.ends = column.offsets.to_numpy()
        self.fields = {field.name: values.field(place).to_numpy(zero_copy_only=False) for place, field in enumerate(values.type)}

    def of(self, place: int) -> dict[str, NDArray[Any]]:
        run = slice(int(self.ends[place]), int(self.ends[place + 1]))
        return {name: values[run] for name, values in self.fields.items()}


@dataclass(frozen=True, kw_only=True)
class _Days:
    """One series, a number for each day from `origin` on; it was first sold on `first`. promotion: (NUM_PROMOTIONS, days) percent"""

    origin: int
    first: int
    units: NDArray[np.int64]
    price: NDArray[np.float64]
    promotion: NDArray[np.int64]

    @classmethod
    def of(cls, sold: dict[str, NDArray[Any]], promoted: dict[str, NDArray[Any]], *, origin: int, first: int, end: int) -> "_Days":
        end = max(end, int(sold["day"][-1]) + 1)
        units = np.zeros(end - origin, dtype=np.int64)
        units[sold["day"] - origin] = np.minimum(np.rint(sold["units"]), np.iinfo(np.int32).max).astype(np.int64)
        price = np.full(end - origin, np.nan)
        price[sold["day"] - origin] = sold["price"]
        known = np.maximum.accumulate(np.where(np.isnan(price), -1, np.arange(len(price))))  # the last day with a price
        promotion = np.zeros((NUM_PROMOTIONS, end - origin))
        for kind, begin, over, share in zip(*(promoted[name] for name in ("kind", "first", "end", "share")), strict=True):
            promotion[kind - CAMPAIGN, max(0, begin - origin) : max(0, over - origin)] += 100 * share
        percent = np.minimum(np.rint(promotion), MOST_PROMOTED).astype(np.int64)
        return cls(origin=origin, first=first, units=units, price=np.where(known >= 0, price[known], np.nan), promotion=percent)

    def rows(self, moments: NDArray[np.int64], length: int, horizon: int, *, every: int) -> dict[str, NDArray[np.int32]]:
        """The columns of rows at these days: N rows of `length` known days and `horizon` that follow."""
        past = moments[:, None] + np.arange(-length, 0)  # (N, T)
        whole = moments[:, None] + np.arange(-length, horizon)  # (N, T + H)
        there = whole >= self.first
        known = np.minimum(moments - self.first, length)
        sold = np.maximum.accumulate(np.where(self.units > 0, np.arange(len(self.units)), -1))[moments - 1 - self.origin] + self.origin
        held = np.concatenate([known[:1], np.minimum(known[1:], every)])
        promotion = self.promotion[:, whole - self.origin] * there  # (K, N, T + H)
        columns = {
            "length": known,
            "fresh": held,
            "recency": gap_bucket((moments - 1 - sold) * 86_400.0),
            "units": self.units[past - self.origin],
            "price_level": self._levels(past, horizon) * there,
            "weekday": ((whole + 3) % 7 + 1) * there,  # 1970 began on a Thursday
            "monthday": _day_of_month(whole) * there,
            "promotion": promotion.transpose(1, 0, 2).reshape(len(moments), -1),
            LABEL.name: self.units[moments[:, None] + np.arange(horizon) - self.origin],
        }
        return {name: np.asarray(column).astype(np.int32) for name, column in columns.items()}

    def _levels(self, past: NDArray[np.int64], horizon: int) -> NDArray[np.int64]:
        """(N, T + H)"""
        price = self.price[past - self.origin]  # (N, T), NaN before the first one
        priced = np.isfinite(price)
        mean = np.where(priced, price, 0.0).sum(1) / np.maximum(1, priced.sum(1))
        level = np.divide(100 * price, mean[:, None], out=np.full_like(price, _USUAL), where=priced & (mean[:, None] > 0))
        rounded: NDArray[np.int64] = np.clip(np.rint(level), 1, _MOST_LEVEL).astype(np.int64)
        return np.concatenate([rounded, np.repeat(rounded[:, -1:], horizon, axis=1)], axis=1)


def _day_of_month(days: NDArray[np.int64]) -> NDArray[np.int64]:
    dates = days.astype("datetime64[D]")
    of_month: NDArray[np.int64] = (dates - dates.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1
    return of_month


def _arrow(column: NDArray[np.int32]) -> pa.Array:
    if column.ndim == 1:
        return pa.array(column, pa.int32())
    rows, width = column.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * width, pa.int32()), pa.array(column.ravel(), pa.int32()))
