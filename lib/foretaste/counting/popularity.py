"""How often each item happened: in all the time that is learnt from, and in its last days."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import FIRST_INDEX
from foretaste.counting.lists import Tables, matrix

COUNTS = "item int, everything bigint, recent bigint"


def item_counts(rows: DataFrame, num_items: int, recent: timedelta) -> Tables:
    """popularity and recent, (num_items,) each. `recent` counts back from the newest row; to the driver comes one line an item."""
    chosen = rows.select("item", "gap", "fresh", F.unix_micros("as_of").alias("as_of"))
    newest = chosen.agg(F.max("as_of")).head()[0]  # type: ignore[index]
    counting = partial(_counts, since=(newest or 0) - recent // timedelta(microseconds=1), num_items=num_items)
    counted = (
        chosen.mapInArrow(counting, COUNTS).groupBy("item").agg(F.sum("everything").alias("everything"), F.sum("recent").alias("recent"))
    )
    found = counted.toPandas()
    tables = {name: np.zeros(num_items, dtype=np.float32) for name in ("popularity", "recent")}
    tables["popularity"][found["item"]] = found["everything"]
    tables["recent"][found["item"]] = found["recent"]
    return tables


def events_of_items(rows: DataFrame) -> DataFrame:
    """`item`, `events`: how often each known item happened in these rows, however their windows overlap."""
    fresh = rows.select(F.explode(F.expr("slice(item, size(item) - fresh + 1, fresh)")).alias("item"))
    return fresh.where(F.col("item") >= FIRST_INDEX).groupBy("item").agg(F.count(F.lit(1)).alias("events"))


def _counts(batches: Iterable[pa.RecordBatch], since: int, num_items: int) -> Iterator[pa.RecordBatch]:
    """Each fresh event counts once; it is recent where its row's `as_of` less the gaps after it, rounded down, is not before `since`."""
    everything, recent = np.zeros(num_items, dtype=np.int64), np.zeros(num_items, dtype=np.int64)
    for rows in batches:
        if not rows.num_rows:
            continue
        item, gap, fresh = matrix(rows, "item"), matrix(rows, "gap"), rows.column("fresh").to_numpy()
        power = gap.astype(np.float64) - FIRST_INDEX - 1
        seconds = np.where(power >= 0, 2.0**power, 0.0)  # a bucket's lower end: see contract.gap_bucket
        after = np.cumsum(seconds[:, ::-1], axis=1)[:, ::-1] - seconds  # (B, T)
        happened = rows.column("as_of").to_numpy()[:, None] - after * 1e6
        counts = (item >= FIRST_INDEX) & (np.arange(item.shape[1]) >= item.shape[1] - fresh[:, None])
        everything += np.bincount(item[counts], minlength=num_items)
        recent += np.bincount(item[counts & (happened >= since)], minlength=num_items)
    known = np.flatnonzero(everything)
    yield pa.RecordBatch.from_pydict({"item": pa.array(known, pa.int32()), "everything": everything[known], "recent": recent[known]})
