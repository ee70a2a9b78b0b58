"""How near a row's nearest row of another set is, by what both hold: the Jaccard distance of their items and pairs of neighbours.

An edit distance would punish the same basket in another order; what would give a person away is what the person had, and after what.
Spark goes through the larger set, and the sample, which is bounded, goes along.

Legend: S rows of the sample, R rows looked at, D tokens.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_matrix

from foretaste.contract import PAD
from foretaste.counting.lists import matrix

NEAREST = "place int, distance double"
_TOKENS = 1 << 22
_ODD = np.uint64(0x9E3779B97F4A7C15)
_AT_ONCE = 1 << 22  # distances held at once: 32 MB


def nearest(sample: NDArray[np.int32], rows: DataFrame) -> NDArray[np.float64]:
    """(S,) from 0, a row with just the same items and neighbours, to 1, nothing in common. sample: (S, T) left-padded items"""
    found = rows.select("item").mapInArrow(_Nearest(sample=sample), NEAREST).groupBy("place").agg(F.min("distance")).toPandas()
    distance = np.ones(len(sample))
    distance[found["place"].to_numpy()] = found.iloc[:, 1].to_numpy()
    return distance


def copies(rows: DataFrame, originals: DataFrame, at_least: int) -> tuple[int, int]:
    """Of the rows of at least so many events: how many have the items of one of `originals`, in the same order, and how many they are."""

    def hashed(of: DataFrame) -> DataFrame:
        return of.where(F.col("length") >= at_least).select(F.xxhash64(F.array_remove("item", PAD)).alias("_row"))

    of_rows = hashed(rows)
    return of_rows.join(hashed(originals).distinct(), on="_row", how="left_semi").count(), of_rows.count()


def tokens(item: NDArray[Any]) -> csr_matrix:
    """(R, D) of 0 and 1 from (R, T) left-padded items: which of them, and which pairs of neighbours, a row holds; by their hash."""
    row, column = np.nonzero(item != PAD)
    own = item[row, column].astype(np.uint64)
    before = np.where(column > 0, item[row, column - 1], PAD).astype(np.uint64)
    paired = before != PAD
    pair = (before[paired] * _ODD + own[paired]) * _ODD
    token = np.concatenate([own * _ODD, pair ^ (pair >> np.uint64(29))]) >> np.uint64(64 - 22)
    place = np.concatenate([row, row[paired]])
    held = csr_matrix((np.ones(len(token), dtype=np.float32), (place, token.astype(np.int64))), shape=(len(item), _TOKENS))
    held.data[:] = 1.0  # however often
    return held


@dataclass(frozen=True, kw_only=True)
class _Nearest:
    sample: NDArray[np.int32]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        asked = tokens(self.sample)
        sizes = np.asarray(asked.sum(1)).ravel()
        best = np.ones(len(self.sample))
        at_once = max(1, _AT_ONCE // max(1, len(self.sample)))
        for rows in batches:
            items = matrix(rows, "item")
            for start in range(0, len(items), at_once):
                held = tokens(items[start : start + at_once])
                both = np.asarray((asked @ held.T).todense())  # (S, R)
                either = sizes[:, None] + np.asarray(held.sum(1)).ravel()[None, :] - both
                best = np.minimum(best, (1.0 - both / np.maximum(either, 1.0)).min(axis=1))
        yield pa.RecordBatch.from_arrays([pa.array(np.arange(len(best), dtype=np.int32)), pa.array(best)], names=["place", "distance"])
