"""user_latents → user_segments: groups of users that are alike, and what sets each apart.

The groups are found on a sample of bounded size, by k-means; then each user goes to the nearest, in Spark.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from foretaste.errors import TableError
from foretaste.settings import SegmentSettings, Settings
from foretaste.steps.report import StepReport
from foretaste.tables import Warehouse, scores, user_segments
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.user_latents import USER_LATENTS
from foretaste.tables.user_segments import USER_SEGMENTS

SAMPLE = 50_000  # users that the groups are found on
JUDGED = 5_000  # of these, users that a silhouette is measured on: it compares all pairs
NUM_TOLD = 3  # categories of a segment
LEAST_SHARE = 0.01  # of a segment's events, which a category needs to be told
NO_SEGMENT = 0
_GROUPED = "user_id string, segment int, distance double"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Groups:
    """`latents.mapInArrow(Groups(…), _GROUPED)`: from (user_id, vector). Users whose numbers are all 0 have no history.

    mean, deviation: (Z,) of the numbers; centres: (K, Z) in deviations from the mean, the largest group first
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    centres: NDArray[np.float64]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in batches:
            if rows.num_rows:
                vector = rows.column("vector").flatten().to_numpy().reshape(rows.num_rows, len(self.mean)).astype(np.float64)
                number, distance = self.nearest(vector)
                unknown = ~vector.any(axis=1)
                number[unknown], distance[unknown] = NO_SEGMENT, 0.0
                yield pa.RecordBatch.from_arrays(
                    [rows.column("user_id"), pa.array(number, pa.int32()), pa.array(distance)], names=["user_id", "segment", "distance"]
                )

    def nearest(self, vector: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """(n,) of (n, Z): the nearest centre's number, from 1, and how far it is, in deviations."""
        scaled = (vector - self.mean) / self.deviation
        distances = np.stack([np.linalg.norm(scaled - centre, axis=1) for centre in self.centres], axis=1)  # (n, K)
        return (1 + distances.argmin(axis=1)).astype(np.int32), distances.min(axis=1)


def segment(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Groups the users of the newest user_latents. A rerun replaces its own run. TableError where there are too few users."""
    chosen = settings.segments
    latents, as_of, version = _newest(warehouse, chosen.task)
    groups, silhouette = _found(_sample(latents), chosen)
    condition = scores.run_condition(chosen.task, as_of)
    grouped = latents.select("user_id", "vector").mapInArrow(groups, _GROUPED)
    rows = user_segments.build(grouped, as_of=as_of, task=chosen.task, model_version=version, at=datetime.now(UTC))
    warehouse.replace_where(USER_SEGMENTS, rows, condition)
    written = warehouse.read(USER_SEGMENTS).where(condition)
    moment = f"as of {as_of:%Y-%m-%d %H:%M:%S} UTC"
    return StepReport(
        step="segment",
        read={USER_LATENTS.name: latents.count()},
        written={USER_SEGMENTS.name: written.count()},
        notes=(
            f"{moment}, {len(groups.centres)} segments by {chosen.task} version {version}, silhouette {silhouette:.3f}",
            *told(written, warehouse.read(SESSIONS), as_of),
        ),
    )


def _sample(latents: DataFrame) -> NDArray[np.float64]:
    """(n, Z): the numbers of at most SAMPLE users with a history, the same ones each time."""
    known = latents.where(F.exists("vector", lambda number: number != 0))
    rows = known.orderBy(F.xxhash64("user_id"), "user_id").limit(SAMPLE).select("vector").toPandas()
    if len(rows) < 3:
        raise TableError(
            f"{len(rows)} users have latent numbers, too few for groups", where=USER_LATENTS.name, fix="Score more users by jobs/score.py."
        )
    sample: NDArray[np.float64] = np.stack(rows["vector"].to_list()).astype(np.float64)
    return sample


def _found(sample: NDArray[np.float64], chosen: SegmentSettings) -> tuple[Groups, float]:
    """The groups, and their silhouette: from -1 to 1, how much nearer users are to their own group than to the next (Rousseeuw 1987).

    Numbers are scaled to one standard deviation each. How many groups: `segments.number`, or whichever of 2 to `segments.most` has the
    best silhouette, the smaller of equals.
    """
    mean, deviation = sample.mean(0), sample.std(0)
    deviation[deviation == 0] = 1.0
    scaled = (sample - mean) / deviation
    most = min(chosen.most, len(scaled) - 1)
    best: tuple[KMeans, float] | None = None
    for number in [min(chosen.number, most)] if chosen.number else range(2, most + 1):
        model = KMeans(number, n_init=10, random_state=chosen.seed).fit(scaled)
        silhouette = float(silhouette_score(scaled[:JUDGED], model.labels_[:JUDGED])) if len(set(model.labels_[:JUDGED])) > 1 else -1.0
        if best is None or silhouette > best[1]:
            best = model, silhouette
    assert best is not None
    order = np.argsort(-np.bincount(best[0].labels_), kind="stable")
    return Groups(mean=mean, deviation=deviation, centres=best[0].cluster_centers_[order]), best[1]


def _newest(warehouse: Warehouse, task: str) -> tuple[DataFrame, datetime, int]:
    """The latents of the task's newest moment, that moment, and the version that made them."""
    rows = warehouse.read(USER_LATENTS).where(F.col("task") == task)
    found = rows.agg(F.unix_micros(F.max("as_of")), F.max_by("model_version", "as_of")).head()
    if found is None or found[0] is None:
        raise TableError(f"there are no latent numbers of {task}", where=USER_LATENTS.name, fix=f"Train {task}, then run jobs/score.py.")
    as_of = _EPOCH + timedelta(microseconds=found[0])
    return rows.where(scores.run_condition(task, as_of)), as_of, found[1]


def told(segments: DataFrame, sessions: DataFrame, as_of: datetime) -> list[str]:
    """A line a segment: its users, and the categories that they turn to more often than all do, by how much more."""
    moment = F.timestamp_micros(F.lit(scores.microseconds(as_of)))
    events = sessions.where(F.col("started_at") <= moment).select("user_id", F.explode("category").alias("category"))
    of_segment = segments.select("user_id", "segment").join(events.where(F.col("category").isNotNull()), on="user_id", how="inner")
    counts = of_segment.groupBy("segment", "category").count().toPandas()  # a line for each segment and category
    sizes = {row["segment"]: row["count"] for row in segments.groupBy("segment").count().collect()}
    everybody = counts.groupby("category")["count"].sum() / counts["count"].sum()
    lines = []
    for number, users in sorted(sizes.items()):
        own = counts[counts.segment == number].set_index("category")["count"]
        share = own / own.sum()
        lift = (share / everybody[share.index])[share >= LEAST_SHARE].sort_values(ascending=False)[:NUM_TOLD]
        name = f"segment {number}" if number != NO_SEGMENT else "without usable history"
        most = ", ".join(f"{category} {factor:.1f} times as often as all" for category, factor in lift.items())
        lines.append(f"  {name}: {users:,} users, {users / sum(sizes.values()):.0%}" + (f"; {most}" if most else ""))
    return lines
