"""synthetic_sequences: rows that a model wrote, laid out as `sequences` is, so that whatever learns from those can learn from these."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import FACTS, PAD
from foretaste.tables.scores import microseconds
from foretaste.tables.sequences import LABELS, SEQUENCES
from foretaste.tables.table import Column, Table

_OWN = {
    "user_id": "nobody: synthetic, the run, a number",
    "split": "which run wrote it: synthetic, the task and its model's version",
    "cut": "window",
    "as_of": "a moment like those of real rows",
    "campaign_id": "nothing: a written row asks about no campaign",
    **dict.fromkeys(FACTS, "nothing: what came before a written row was not written"),
    **{label.name: "nothing: what a written row leads to was not written" for label in LABELS},
}
SYNTHETIC_SEQUENCES = Table(
    name="synthetic_sequences",
    comment="One row per history that nobody left: a model wrote it",
    columns=(
        *(
            Column(name=column.name, type=column.type, comment=_OWN.get(column.name, column.comment), required=column.required)
            for column in SEQUENCES.columns
        ),
        Column(name="synthetic", type="boolean", comment="always true", required=True),
        Column(name="model", type="string", comment="the model's name", required=True),
        Column(name="model_version", type="int", comment="the model's version", required=True),
        Column(name="written_at", type="timestamp", comment="when the run wrote it, UTC", required=True),
    ),
    key=SEQUENCES.key,
    checks={"is_synthetic": "synthetic"},
    partitioned_by=SEQUENCES.partitioned_by,
)


def split_of(task: str, version: int) -> str:
    """What the rows of a run have as their split."""
    return f"synthetic {task} {version}"


def build(written: DataFrame, *, task: str, model: str, model_version: int, at: datetime) -> DataFrame:
    """The rows of one run from (number, as_of in microseconds, scalars, features); `at` is when it wrote them."""
    split = split_of(task, model_version)
    nothing = {
        label.name: F.array_repeat(F.lit(PAD), label.width) if label.width else F.lit(PAD)
        for label in LABELS
    } | {name: F.lit(0) for name in FACTS}  # fmt: skip
    constants = {
        "user_id": F.concat_ws(" ", F.lit(split), F.col("number")),
        "split": F.lit(split),
        "cut": F.lit("window"),
        "as_of": F.timestamp_micros("as_of"),
        **nothing,
        "campaign_id": F.lit(None).cast("string"),
        "synthetic": F.lit(True),
        "model": F.lit(model),
        "model_version": F.lit(model_version),
        "written_at": F.timestamp_micros(F.lit(microseconds(at))),
    }
    return SYNTHETIC_SEQUENCES.select(written.withColumns(constants))
