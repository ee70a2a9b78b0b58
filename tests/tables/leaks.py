"""Finds a target inside its own input, in `sequences` of events whose items no user repeats: there an item is an event."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import FIRST_INDEX


def leaked(rows: DataFrame) -> DataFrame:
    """The rows whose label names an item of their own input, PAD and UNKNOWN apart."""
    targets = F.filter("next_items", lambda item: item >= FIRST_INDEX)
    return rows.where(F.arrays_overlap("item", targets))
