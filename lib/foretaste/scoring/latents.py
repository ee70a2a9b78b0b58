"""The Spark UDFs that make a few numbers of each user's history, by a stored model. No Spark import here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from foretaste.scoring.arrow import lists, to_batch
from foretaste.scoring.scorer import without_history
from foretaste.scoring.udf import ByModel

LATENTS = "user_id string, vector array<float>"
TASTES = "vector array<float>"


@dataclass(frozen=True, kw_only=True)
class LatentsOfUsers(ByModel):
    """`rows.mapInArrow(LatentsOfUsers(…), LATENTS)`: from rows with user_id, features and scalars, one row a user, in the same order."""

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in batches:
            if rows.num_rows:  # an empty partition needs no model
                yield self._latents(rows)

    def _latents(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        batch = to_batch(rows)
        vectors = self.scorer.latents(batch)  # (n, Z)
        vectors[without_history(batch)] = 0.0
        return pa.RecordBatch.from_arrays([rows.column("user_id"), lists(vectors, pa.float32())], names=["user_id", "vector"])


@dataclass(frozen=True, kw_only=True)
class TastesOfUsers(ByModel):
    """`rows.mapInArrow(TastesOfUsers(…), TASTES)`: what a model that ranks items multiplies with item vectors, of users with history."""

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in batches:
            if rows.num_rows:
                batch = to_batch(rows)
                tastes = self.scorer.tastes(batch)  # (n, D)
                yield pa.RecordBatch.from_arrays([lists(tastes[~without_history(batch)], pa.float32())], names=["vector"])
