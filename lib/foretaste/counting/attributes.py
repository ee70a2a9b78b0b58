"""What goes with an event beside its item: categories, prices, hours. Counted by Spark; what comes back is as large as the vocabulary."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import FIRST_INDEX, NUM_HOURS, NUM_WEEKDAYS, PAD


def combinations(rows: DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """(item, the features, count): how many events have just these codes; unknown items are one item."""
    return _events(rows, ("item", *features)).where(F.col("item") != PAD).groupBy("item", *features).count().toPandas()


def most_frequent(counts: pd.DataFrame, feature: str, num_items: int) -> NDArray[np.int64]:
    """(num_items,): the code of that feature that each item's events have most often, the lowest where several do; PAD without any.

    counts: of `combinations`, that feature among them
    """
    known = counts[(counts["item"] >= FIRST_INDEX) & (counts[feature] >= FIRST_INDEX)]
    by_count = known.groupby(["item", feature])["count"].sum().reset_index().sort_values(["count", feature], ascending=[False, True])
    best = by_count.drop_duplicates("item")
    codes = np.full(num_items, PAD, dtype=np.int64)
    codes[best["item"].to_numpy()] = best[feature].to_numpy()
    return codes


def most_frequent_code(rows: DataFrame, feature: str) -> int:
    """The code of that feature that most events have, the lowest where several do; PAD where there are no events."""
    found = _events(rows, (feature,)).where(F.col(feature) != PAD).groupBy(feature).count().orderBy(F.desc("count"), feature).head()
    return int(found[0]) if found else PAD


def hours_of_week(rows: DataFrame) -> NDArray[np.float64]:
    """(168,): how many sessions open in each hour of a week, from Monday's first on."""
    opened = _events(rows, ("opens_session", "weekday", "hour")).where((F.col("opens_session") == FIRST_INDEX) & (F.col("weekday") != PAD))
    counts = opened.groupBy(((F.col("weekday") - 1) * NUM_HOURS + F.col("hour") - 1).alias("hour")).count().toPandas()
    hours = np.zeros(NUM_WEEKDAYS * NUM_HOURS)
    hours[counts["hour"].to_numpy()] = counts["count"].to_numpy()
    return hours


def _events(rows: DataFrame, features: Sequence[str]) -> DataFrame:
    """An event a row, of rows of events."""
    return rows.select(F.explode(F.arrays_zip(*features)).alias("event")).select("event.*")
