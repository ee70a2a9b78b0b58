"""scores: what every user will want, in the shop's own ids."""

from foretaste.tables.table import Column, Table

SCORES = Table(
    name="scores",
    comment="One row per as_of, task and user: the best targets with their scores",
    columns=(
        Column(name="as_of", type="timestamp", comment="the moment that the scores speak of: events before it were known", required=True),
        Column(name="task", type="string", comment="the use case: interest, returns, …", required=True),
        Column(name="user_id", type="string", comment="the shop's own user id", required=True),
        Column(
            name="targets",
            type="array<struct<target_id: string, score: double, reasons: array<string>>>",
            comment="best first; target_id is an item id, or the task's name where the task has no items",
            required=True,
        ),
        Column(name="model", type="string", comment="the model's name", required=True),
        Column(name="model_version", type="int", comment="the model's version", required=True),
        Column(name="data_version", type="string", comment="version of the sessions and vocabulary tables scored from", required=True),
        Column(name="fallback", type="boolean", comment="true where the user had no usable history and popularity answers", required=True),
        Column(name="scored_at", type="timestamp", comment="when the run wrote it, UTC", required=True),
    ),
    key=("as_of", "task", "user_id"),
    partitioned_by=("task",),
)
