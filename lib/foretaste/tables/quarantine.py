"""events_quarantine: what broke the contract, with the reason, never dropped."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from foretaste.tables.events import netstring
from foretaste.tables.table import Column, Table

_BLOCK = 1000

QUARANTINE = Table(
    name="events_quarantine",
    comment="One row per raw record that is not an event, with the reason",
    columns=(
        Column(name="reason", type="string", comment="what is wrong with it: no_user, unparsable_time, …", required=True),
        Column(name="source", type="string", comment="the name of the source", required=True),
        Column(name="source_file", type="string", comment="the file it was read from", required=True),
        Column(name="record", type="string", comment="the record as it was read, as JSON or the raw line", required=True),
        Column(name="record_id", type="string", comment="a hash of source, file and record, and its count among equals", required=True),
        Column(name="user_id", type="string", comment="the user's id as the record has it; null where it cannot be read"),
    ),
    key=("record_id",),
)


def tally(judged: DataFrame) -> DataFrame:
    """One row per source, file, reason and record: its `count`, its user, and its `first` and `last` event_time.

    judged: as `sources.judge` gives it. Events have no reason and no record, so that all of a file are one row: the tally is as small
    as what is wrong.
    """
    user_id = F.when(F.col("reason").isNotNull(), F.col("user_id")).alias("user_id")
    return judged.groupBy("source", "source_file", "reason", "record", user_id).agg(
        F.count("*").alias("count"), F.min("event_time").alias("first"), F.max("event_time").alias("last")
    )


def build(tallied: DataFrame) -> DataFrame:
    """One row per record that is kept for what is wrong with it. Equal records of one file are numbered, so that none is taken for another.

    tallied: as `tally` gives it.
    """
    refused = tallied.where(F.col("record").isNotNull())
    above = Window.partitionBy("source", "source_file", "record").orderBy("reason").rowsBetween(Window.unboundedPreceding, -1)
    before = F.coalesce(F.sum("count").over(above), F.lit(0))
    # Numbered by blocks: one sequence of all the numbers would not fit in memory where millions of records are alike.
    block = F.explode(F.sequence(F.lit(0), F.floor((F.col("count") - 1) / _BLOCK)))
    blocks = refused.withColumn("before", before).withColumn("block", block)
    numbers = F.sequence(F.col("block") * _BLOCK + 1, F.least("count", (F.col("block") + 1) * _BLOCK))
    numbered = blocks.withColumn("in_reason", F.explode(numbers))
    number = (F.col("before") + F.col("in_reason")).cast("string")
    record_id = F.md5(F.concat(*[netstring(F.col(name)) for name in ("source", "source_file", "record")], number))
    return QUARANTINE.select(numbered.withColumn("record_id", record_id))
