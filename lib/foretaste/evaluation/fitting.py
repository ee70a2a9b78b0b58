"""What baselines are made from, counted and fitted by Spark on training time only. The one file here that knows Spark."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import SCALARS
from foretaste.evaluation.baselines import RFM_FEATURES, BinaryFit, ItemCounts
from foretaste.evaluation.passes import RFM_ROWS, rfm_rows
from foretaste.tables.scores import microseconds

RECENT = timedelta(days=7)
_MOST_LOGIT = 20.0  # Spark's intercept is infinite where all training rows are of one class
_REGULARISATION = 1e-4


def item_counts(sessions: DataFrame, vocabulary: pa.Table, num_items: int, event_types: Sequence[str], until: datetime) -> ItemCounts:
    """Events with each item of the vocabulary: over all training time as the vocabulary has them, and over RECENT before `until`.

    What comes to the driver is one number an item of the vocabulary, as many as a model has biases.
    """
    items = vocabulary.filter(pc.equal(vocabulary.column("field"), "item"))
    all_time, recent = np.zeros(num_items), np.zeros(num_items)
    all_time[items.column("index").to_numpy()] = items.column("count").to_numpy()
    known = sessions.sparkSession.createDataFrame(items.select(["value", "index"]).to_pandas(), schema="value string, index int")
    events = _recent_events(sessions, event_types, until)
    counted = events.join(known, on=F.col("item_id") == F.col("value"), how="inner").groupBy("index").count().toPandas()
    recent[counted["index"].to_numpy()] = counted["count"].to_numpy()
    return ItemCounts(all_time=torch.from_numpy(all_time), recent=torch.from_numpy(recent))


def _recent_events(sessions: DataFrame, event_types: Sequence[str], until: datetime) -> DataFrame:
    """(item_id) of events in [until - RECENT, until)."""
    since, end = (F.timestamp_micros(F.lit(microseconds(moment))) for moment in (until - RECENT, until))
    touched = sessions.where((F.col("ended_at") >= since) & (F.col("started_at") < end))
    events = touched.select(F.explode(F.arrays_zip("event_time", "item_id", "event_type")).alias("event")).select("event.*")
    return events.where((F.col("event_time") >= since) & (F.col("event_time") < end) & F.col("event_type").isin(*event_types))


def binary_fit(rows: DataFrame, label: str) -> BinaryFit:
    """The share of positives among training rows, and a logistic regression on their `rfm`, fitted where the rows lie."""
    chosen = rows.select(*SCALARS, "item", *RFM_FEATURES, label)
    features = chosen.mapInArrow(partial(rfm_rows, label=label), RFM_ROWS)
    vectors = features.select(array_to_vector(F.col("features")).alias("features"), "label")
    share = rows.agg(F.avg(label)).head()[0]  # type: ignore[index]
    fitted = LogisticRegression(regParam=_REGULARISATION, maxIter=100).fit(vectors)  # which keeps its own copy of them meanwhile
    intercept = float(np.clip(fitted.intercept, -_MOST_LOGIT, _MOST_LOGIT))
    return BinaryFit(base_rate=share, coefficients=tuple(fitted.coefficients.toArray().tolist()), intercept=intercept)
