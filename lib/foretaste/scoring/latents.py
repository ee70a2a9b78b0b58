"""The Spark UDFs that make a few numbers of each user's history, by a stored model. No Spark import here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foretaste.scoring.arrow import to_batch
from foretaste.scoring.scorer import without_history
from foretaste.scoring.udf import load_scorer

LATENTS = "user_id string, vector array<float>"
TASTES = "vector array<float>"


@dataclass(frozen=True, kw_only=True)
class LatentsOfUsers:
    """`rows.mapInArrow(LatentsOfUsers(…), LATENTS)`: from rows with user_id, features and scalars, one row a user, in the same order."""

    root: str
    name: str
    version: int
    batch_size: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in batches:
            if rows.num_rows:  # an empty partition needs no model
                yield self._latents(rows)

    def _latents(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        batch = to_batch(rows)
        vectors = load_scorer(self.root, self.name, self.version, self.batch_size).latents(batch)  # (n, Z)
        vectors[without_history(batch)] = 0.0
        return pa.RecordBatch.from_arrays([rows.column("user_id"), _lists(vectors)], names=["user_id", "vector"])


@dataclass(frozen=True, kw_only=True)
class TastesOfUsers:
    """`rows.mapInArrow(TastesOfUsers(…), TASTES)`: what a model that ranks items multiplies with item vectors, of users with history."""

    root: str
    name: str
    version: int
    batch_size: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in batches:
            if rows.num_rows:
                batch = to_batch(rows)
                tastes = load_scorer(self.root, self.name, self.version, self.batch_size).tastes(batch)  # (n, D)
                yield pa.RecordBatch.from_arrays([_lists(tastes[~without_history(batch)])], names=["vector"])


def _lists(vectors: NDArray[np.float32]) -> pa.ListArray:
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.ravel()))
