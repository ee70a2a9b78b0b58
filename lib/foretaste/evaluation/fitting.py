"""What baselines of binary tasks are made from, fitted by Spark on training time only. The one file here that knows Spark."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from lifetimes import BetaGeoFitter  # type: ignore[import-untyped]
from lifetimes.utils import ConvergenceError  # type: ignore[import-untyped]
from pyspark.ml.classification import LogisticRegression as SparkRegression
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import FACTS, SCALARS
from foretaste.evaluation.baselines import RFM_FEATURES, BetaGeometric, LogisticRegression, Numbers, rfm
from foretaste.evaluation.passes import ROWS_TO_FIT, rows_to_fit

_MOST_LOGIT = 20.0  # Spark's intercept is infinite where all training rows are of one class
_REGULARISATION = 1e-4
_CUSTOMERS = 20_000  # four parameters need no more


def regression(rows: DataFrame, label: str, numbers: Numbers = rfm, features: Sequence[str] = RFM_FEATURES) -> LogisticRegression:
    """A logistic regression on `numbers` of training rows, fitted where they lie.

    features: what `numbers` reads, beside the scalars, the items and the facts that are there
    """
    facts = [name for name in FACTS if name in rows.columns]
    chosen = rows.select(*SCALARS, *facts, *dict.fromkeys(("item", *features)), label)
    seen = chosen.mapInArrow(partial(rows_to_fit, label=label, numbers=numbers), ROWS_TO_FIT)
    vectors = seen.select(array_to_vector(F.col("features")).alias("features"), "label")
    fitted = SparkRegression(regParam=_REGULARISATION, maxIter=100).fit(vectors)  # which keeps its own copy of them meanwhile
    intercept = float(np.clip(fitted.intercept, -_MOST_LOGIT, _MOST_LOGIT))
    return LogisticRegression(tuple(fitted.coefficients.toArray().tolist()), intercept, numbers)


def beta_geometric(rows: DataFrame, days: int) -> BetaGeometric | None:
    """BG/NBD by maximum likelihood, from some users' facts at the last moment of training, in days. None where no parameters fit them."""
    newest = rows.agg(F.max(F.unix_micros("as_of"))).head()[0]  # type: ignore[index]
    last = rows.where((F.unix_micros("as_of") == newest) & (F.col("tenure_hours") > 0))
    users = last.orderBy(F.xxhash64("user_id")).limit(_CUSTOMERS).select("repeats", "idle_hours", "tenure_hours").toPandas()
    tenure = users["tenure_hours"] / 24
    fitter = BetaGeoFitter(penalizer_coef=1e-3)
    try:
        fitter.fit(users["repeats"], tenure - users["idle_hours"] / 24, tenure)
    except (ConvergenceError, ValueError):  # nobody at all, or nobody who came again
        return None
    return BetaGeometric(**{name: float(value) for name, value in fitter.params_.items()}, days=days)
