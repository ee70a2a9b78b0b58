"""lines: a line a user, `user item item …`, oldest first, parted by blanks, as published sequences come. No times are told.

Times are made up, so that events keep their order: FIRST_TIME for a user's first, a second later for each further one, the same for
everybody. What reads the clock (time gaps, hours, splits by time) means nothing there: sequences.protocol leave_one_out goes by order.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from foretaste.errors import SourceError
from foretaste.sources.parsed import Parsed, Wanted

FIRST_TIME = datetime(2001, 1, 1, tzinfo=UTC)
LINE_COLUMNS: Mapping[str, str] = {"user_id": "user", "item_id": "item", "event_time": "time"}


def read_lines(spark: SparkSession, path: str, options: Mapping[str, str], wanted: Wanted) -> Parsed:
    """A row an event. A line with a user and no item is one row that does not parse."""
    text = spark.read.options(**options).text(path)
    line = F.col("value").alias("record")
    words = F.split(F.trim(F.regexp_replace("value", r"\s+", " ")), " ")
    lines = text.where(F.trim(F.regexp_replace("value", r"\s+", " ")) != "").select(
        line, F.col("_metadata.file_path").alias("source_file"), words[0].alias("user"), F.slice(words, 2, 2**31 - 1).alias("items")
    )
    _check(lines, path)
    events = lines.select("*", F.posexplode_outer("items").alias("number", "item")).drop("items")
    first = int(FIRST_TIME.timestamp())
    columns = {
        "user_id": F.col("user"),
        "item_id": F.col("item"),
        "event_time": F.timestamp_seconds(F.lit(first) + F.col("number")),
    }
    rows = events.withColumn("corrupt_line", F.when(F.col("item").isNull(), F.col("record")))
    return Parsed(rows=rows, fields={field: columns[field] for field in wanted.columns}, kinds={"event_time": TimestampType()})


def _check(lines: DataFrame, path: str) -> None:
    """SourceError where there is nothing, or where the order of a user's events is not told by one line."""
    counts = lines.groupBy("user").agg(F.count("*").alias("lines"))
    users, repeated = counts.agg(F.count("*"), F.count_if(F.col("lines") > 1)).head()  # type: ignore[misc]
    if not users:
        raise SourceError("the file is empty", where=path, fix="Point the path at files with rows.")
    if repeated:
        raise SourceError(
            f"{repeated:,} users have more than one line, so the order of their events is not known",
            where=path,
            fix="Write all of a user's items on one line, oldest first.",
        )
