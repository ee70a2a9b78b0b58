"""The memory of neighbourhood methods: the most recent histories, each as its distinct items. See models/neighbours.py."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from foretaste.contract import FIRST_INDEX, PAD
from foretaste.counting.lists import Tables, distinct, offsets

_DAY = 86400 * 1e6  # microseconds


def recent_sessions(rows: DataFrame, num_items: int, max_sessions: int, sample: int) -> Tables:
    """The memory's tables, from the `max_sessions` newest histories: what comes to the driver.

    A history of several windows is in the memory once, as far as one window holds it: one whose events the next one all has is left out.
    """
    by_time = Window.partitionBy("user_id").orderBy("as_of", "length")
    seen_next = F.lead(F.col("length") - F.col("fresh")).over(by_time)  # of the user's next row: the events that are not new in it
    chosen = rows.select("user_id", "item", "length", "fresh", F.unix_micros("as_of").alias("as_of"))
    whole = chosen.withColumn("_seen_next", seen_next).where(F.coalesce(F.col("_seen_next") < F.col("length"), F.lit(True)))
    order = (F.desc("as_of"), F.xxhash64("user_id"))
    found = whole.orderBy(*order).limit(max_sessions).select("item", "as_of").toPandas().iloc[::-1]
    item = np.stack(found["item"].to_list()) if len(found) else np.zeros((0, 1), dtype=np.int32)
    as_of = found["as_of"].to_numpy(dtype=np.float64)
    return memory(item, (as_of.max(initial=0) - as_of) / _DAY, num_items=num_items, sample=sample)


def memory(item: NDArray[np.integer[Any]], age: NDArray[np.floating[Any]], *, num_items: int, sample: int) -> Tables:
    """The tables of `Neighbours` but its popularity, from (S, T) left-padded items, oldest session first, and their (S,) ages in days.

    Of an item only the `sample` most recent sessions are listed: no older one is ever looked at.
    """
    session, column = np.nonzero(item >= FIRST_INDEX)
    last = distinct(session, item[session, column].astype(np.int64), num_items)
    session, column = session[last], column[last]
    items = item[session, column]
    place = column - (item != PAD).argmax(axis=1)[session]  # from the session's first event on
    by_item = np.lexsort((session, items))
    of_item = offsets(items, num_items)
    newer = of_item[items[by_item] + 1] - 1 - np.arange(len(by_item))  # how many sessions of the same item are
    listed = by_item[newer < sample]
    return {
        "session_offset": offsets(session, len(item)),
        "session_item": items.astype(np.int32),
        "session_place": place.astype(np.int32),
        "item_offset": offsets(items[listed], num_items),
        "item_session": session[listed].astype(np.int32),
        "item_place": place[listed].astype(np.int32),
        "item_frequency": np.diff(of_item).astype(np.int32),
        "age": age.astype(np.float32),
    }
