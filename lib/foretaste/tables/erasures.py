"""erasures: who was erased, so that the same files, read again, do not bring them back."""

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.tables.table import Column, Table

ERASURES = Table(
    name="erasures",
    comment="One row per erased user, without the user's id",
    columns=(
        Column(name="digest", type="string", comment="SHA-256 of the id that tables had for the user, in hexadecimal", required=True),
        Column(name="erased_at", type="timestamp", comment="when, UTC", required=True),
    ),
    key=("digest",),
)


def digest(user_id: SparkColumn) -> SparkColumn:
    return F.sha2(user_id, 256)


def build(users: DataFrame) -> DataFrame:
    """One row per user. users: user_id, as tables have it"""
    return ERASURES.select(users.select(digest(F.col("user_id")).alias("digest")).distinct().withColumn("erased_at", F.current_timestamp()))
