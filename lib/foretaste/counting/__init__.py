"""What counted models are made from: Spark counts it in the rows of `sequences` to learn from; bounded tables come out. No torch."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.counting.lists import Tables
from foretaste.counting.memory import recent_sessions
from foretaste.counting.pairs import companions, successors
from foretaste.counting.popularity import item_counts
from foretaste.settings import CountedSettings

_SOURCES: Mapping[str, Callable[[DataFrame, int, CountedSettings], Tables]] = {
    "markov": lambda rows, num_items, settings: successors(rows, num_items, steps=1, keep=settings.keep),
    "rules": lambda rows, num_items, settings: successors(rows, num_items, steps=settings.steps, keep=settings.keep),
    "item_knn": lambda rows, num_items, settings: companions(rows, num_items, keep=settings.keep),
    "memory": lambda rows, num_items, settings: recent_sessions(rows, num_items, settings.max_sessions, settings.sample),
}
_SOURCE_OF = {"markov": "markov", "rules": "rules", "item_knn": "item_knn", "vsknn": "memory", "stan": "memory"}


def learnt_from(sequences: DataFrame, *, refit: bool) -> DataFrame:
    """The windows that models learn from, of training time, and with `refit` of validation time too."""
    splits = ("train", "valid") if refit else ("train",)
    return sequences.where(F.col("split").isin(*splits) & (F.col("cut") == "window"))


def count(names: Iterable[str], rows: DataFrame, num_items: int, settings: CountedSettings) -> dict[str, Tables]:
    """The tables of each of these models, as its buffers have them. What several of them are made from is counted once."""
    counts = item_counts(rows, num_items, settings.recent)

    @cache
    def counted(source: str) -> Tables:
        return _SOURCES[source](rows, num_items, settings)

    found = {}
    for name in names:
        more = {"recent": counts["recent"]} if name == "recent_popularity" else counted(_SOURCE_OF[name]) if name in _SOURCE_OF else {}
        found[name] = {"popularity": counts["popularity"], **more}
    return found
