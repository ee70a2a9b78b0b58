"""What goes with an item most often: its category, its price bucket."""

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import FIRST_INDEX, PAD


def most_frequent(rows: DataFrame, feature: str, num_items: int) -> NDArray[np.int64]:
    """(num_items,): the code of that feature that each item's events have most often, the lowest where several do; PAD without any."""
    events = rows.select(F.explode(F.arrays_zip("item", feature)).alias("event")).select(
        "event.item", F.col(f"event.{feature}").alias("code")
    )
    counts = events.where((F.col("item") >= FIRST_INDEX) & (F.col("code") >= FIRST_INDEX)).groupBy("item", "code").count()
    best = counts.groupBy("item").agg(F.max_by("code", F.struct("count", -F.col("code"))).alias("code")).toPandas()
    codes = np.full(num_items, PAD, dtype=np.int64)
    codes[best["item"].to_numpy()] = best["code"].to_numpy()
    return codes
