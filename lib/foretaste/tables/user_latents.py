"""user_latents: each user as a few numbers, for whatever learns from users: churn models, segments, look-alikes."""

from datetime import datetime

from pyspark.sql import DataFrame

from foretaste.tables.scores import of_run
from foretaste.tables.table import Column, Table

USER_LATENTS = Table(
    name="user_latents",
    comment="One row per as_of, task and user: what a variational model makes of the user's history",
    columns=(
        Column(name="as_of", type="timestamp", comment="the moment that they speak of: events before it were known", required=True),
        Column(name="task", type="string", comment="the task whose model made them, such as latents", required=True),
        Column(name="user_id", type="string", comment="the shop's own user id", required=True),
        Column(name="vector", type="array<float>", comment="the posterior's mean; 0, the prior's, without usable history", required=True),
        Column(name="model", type="string", comment="the model's name", required=True),
        Column(name="model_version", type="int", comment="the model's version: vectors of two versions cannot be compared", required=True),
        Column(name="data_version", type="string", comment="version of the sessions and vocabulary tables made from", required=True),
        Column(name="written_at", type="timestamp", comment="when the run wrote it, UTC", required=True),
    ),
    key=("as_of", "task", "user_id"),
    partitioned_by=("task",),
)


def build(latents: DataFrame, *, as_of: datetime, task: str, model: str, model_version: int, data_version: str, at: datetime) -> DataFrame:
    """The rows of one run from (user_id, vector); `at` is when it wrote them. A time without a zone is UTC."""
    run = of_run(as_of=as_of, task=task, model=model, model_version=model_version, data_version=data_version, written_at=at)
    return USER_LATENTS.select(latents.withColumns(run))
