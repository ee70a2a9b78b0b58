"""user_ids: whose pseudonym is which. It lies in the vault, a warehouse of its own that ingest and erase alone open."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.tables.table import Column, Table

USER_IDS = Table(
    name="user_ids",
    comment="One row per pseudonym, with the user whose it is; in the vault, where ids are pseudonymised",
    columns=(
        Column(name="pseudonym", type="string", comment="what all other tables call the user", required=True),
        Column(name="user_id", type="string", comment="the shop's own user id", required=True),
    ),
    key=("pseudonym",),
)


def build(users: DataFrame) -> DataFrame:
    """One row per pseudonym. users: user_id and pseudonym of each event"""
    return USER_IDS.select(users.groupBy("pseudonym").agg(F.min("user_id").alias("user_id")))
