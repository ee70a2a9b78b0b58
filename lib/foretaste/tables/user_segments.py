"""user_segments: which users are alike, by their latent numbers."""

from datetime import datetime

from pyspark.sql import DataFrame

from foretaste.tables.scores import of_run
from foretaste.tables.table import Column, Table

USER_SEGMENTS = Table(
    name="user_segments",
    comment="One row per as_of, task and user: the group of users that the user is most like",
    columns=(
        Column(name="as_of", type="timestamp", comment="the moment that the latent numbers speak of", required=True),
        Column(name="task", type="string", comment="the task whose model made the latent numbers", required=True),
        Column(name="user_id", type="string", comment="the shop's own user id", required=True),
        Column(name="segment", type="int", comment="1 is the largest; 0 is everybody without usable history", required=True),
        Column(name="distance", type="double", comment="to the segment's centre, in standard deviations; 0 in segment 0", required=True),
        Column(name="model_version", type="int", comment="the version whose latent numbers they are", required=True),
        Column(name="written_at", type="timestamp", comment="when the run wrote it, UTC", required=True),
    ),
    key=("as_of", "task", "user_id"),
    partitioned_by=("task",),
)


def build(grouped: DataFrame, *, as_of: datetime, task: str, model_version: int, at: datetime) -> DataFrame:
    """The rows of one run from (user_id, segment, distance); `at` is when it wrote them."""
    run = of_run(as_of=as_of, task=task, model_version=model_version, written_at=at)
    return USER_SEGMENTS.select(grouped.withColumns(run))
