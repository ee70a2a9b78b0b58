"""Which items follow one another, and which go together: pairs of events, each counted once however windows overlap.

A pair counts in the row in which its later event is one of the `fresh` last ones. Of each item its `keep` strongest neighbours remain.
Legend: B rows, T events, I items.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from foretaste.contract import FIRST_INDEX
from foretaste.counting.lists import Tables, matrix, offsets

PAIRS = "item int, neighbour int, weight double"
FURTHEST = 50  # events that two companions may lie apart: a longer history is no sign that they go together
_NUMBERS_AT_ONCE = 1 << 21  # places looked at at once, on an executor


def successors(rows: DataFrame, num_items: int, *, steps: int, keep: int) -> Tables:
    """The table of lists of models/transitions.py: what came up to `steps` events later, each time with the weight 1 / steps."""
    return _tables(_strongest(_counted(rows, _Pairs(num_items=num_items, steps=steps, together=False)), keep), num_items)


def companions(rows: DataFrame, num_items: int, *, keep: int) -> Tables:
    """The same table for items that are in the same histories, either way round: rows with both, over the root of rows with each."""
    counted = _counted(rows, _Pairs(num_items=num_items, steps=FURTHEST, together=True)).persist()
    try:
        alone = counted.where(F.col("item") == F.col("neighbour"))
        of_item = F.broadcast(alone.select("item", F.col("weight").alias("of_item")))
        of_neighbour = F.broadcast(alone.select("neighbour", F.col("weight").alias("of_neighbour")))
        both = counted.where(F.col("item") != F.col("neighbour"))
        joined = both.join(of_item, on="item", how="inner").join(of_neighbour, on="neighbour", how="inner")
        cosine = F.col("weight") / F.sqrt(F.col("of_item") * F.col("of_neighbour"))
        return _tables(_strongest(joined.select("item", "neighbour", cosine.alias("weight")), keep), num_items)
    finally:
        counted.unpersist()


def _counted(rows: DataFrame, pairs: "_Pairs") -> DataFrame:
    return rows.select("item", "fresh").mapInArrow(pairs, PAIRS).groupBy("item", "neighbour").agg(F.sum("weight").alias("weight"))


def _strongest(counted: DataFrame, keep: int) -> DataFrame:
    by_weight = Window.partitionBy("item").orderBy(F.desc("weight"), "neighbour")
    return counted.withColumn("_place", F.row_number().over(by_weight)).where(F.col("_place") <= keep).drop("_place")


def _tables(strongest: DataFrame, num_items: int) -> Tables:
    found = strongest.toPandas()
    item, neighbour = found["item"].to_numpy(dtype=np.int64), found["neighbour"].to_numpy(dtype=np.int32)
    order = np.lexsort((neighbour, item))
    weight = found["weight"].to_numpy(dtype=np.float32)
    return {"offset": offsets(item, num_items), "neighbour": neighbour[order], "weight": weight[order]}


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Rows in Arrow batches → PAIRS, added up within a block of rows.

    together: each two different items of a row once, both ways round, and each fresh item once with itself, all of weight 1
    """

    num_items: int
    steps: int
    together: bool

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in batches:
            if not rows.num_rows:
                continue
            item, fresh = matrix(rows, "item"), rows.column("fresh").to_numpy()
            num_rows = max(1, _NUMBERS_AT_ONCE // (item.shape[1] * self.steps))
            for start in range(0, len(item), num_rows):
                yield self._added_up(*self._pairs(item[start : start + num_rows], fresh[start : start + num_rows]))

    def _pairs(self, item: NDArray[np.int32], fresh: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(n,) keys item * num_items + neighbour, and (n,) weights."""
        row, earlier, later, distance = pairs(item, fresh, self.steps)
        if not self.together:
            return earlier * self.num_items + later, 1.0 / distance
        differ = earlier != later
        row, earlier, later = row[differ], earlier[differ], later[differ]
        own_row, own = np.nonzero((item >= FIRST_INDEX) & _is_fresh(item, fresh))
        alone = item[own_row, own].astype(np.int64)
        rows = np.concatenate([row, row, own_row])
        keys = np.concatenate([earlier * self.num_items + later, later * self.num_items + earlier, alone * (self.num_items + 1)])
        once = np.unique(rows * self.num_items**2 + keys) % self.num_items**2  # below 2^63: a block has few rows
        return once, np.ones(len(once))

    def _added_up(self, keys: NDArray[np.int64], weights: NDArray[np.float64]) -> pa.RecordBatch:
        different, inverse = np.unique(keys, return_inverse=True)
        columns = {
            "item": pa.array(different // self.num_items, pa.int32()),
            "neighbour": pa.array(different % self.num_items, pa.int32()),
            "weight": pa.array(np.bincount(inverse, weights, minlength=len(different))),
        }
        return pa.RecordBatch.from_pydict(columns)


def pairs(item: NDArray[np.integer[Any]], fresh: NDArray[np.integer[Any]], steps: int) -> tuple[NDArray[np.int64], ...]:
    """(n,) each: row, earlier item, later item and how many events apart, at most `steps`, of two known items of a row whose later one is
    fresh. Of an item that came several times before, the nearest place counts. item: (B, T) left-padded, fresh: (B,)
    """
    known = item >= FIRST_INDEX
    later_counts = known & _is_fresh(item, fresh)
    found = []
    for distance in range(1, min(steps, item.shape[1] - 1) + 1):
        row, column = np.nonzero(known[:, :-distance] & later_counts[:, distance:])
        found.append(np.stack([row, column + distance, item[row, column], np.full(len(row), distance)]))
    row, column, earlier, distance = np.concatenate([np.zeros((4, 0), dtype=np.int64), *found], axis=1)
    seen = (row * item.shape[1] + column) * (int(item.max(initial=0)) + 1) + earlier
    nearest = np.unique(seen, return_index=True)[1]  # the first of each, and distances rise
    row, column = row[nearest], column[nearest]
    return row, earlier[nearest], item[row, column].astype(np.int64), distance[nearest]


def _is_fresh(item: NDArray[np.integer[Any]], fresh: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    is_fresh: NDArray[np.bool_] = np.arange(item.shape[1]) >= item.shape[1] - fresh[:, None]
    return is_fresh
