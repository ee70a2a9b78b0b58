"""What baselines of binary tasks are made from, fitted by Spark on training time only. The one file here that knows Spark."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from lifetimes import BetaGeoFitter  # type: ignore[import-untyped]
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import FACTS, SCALARS
from foretaste.evaluation.baselines import RFM_FEATURES, BetaGeometric, BinaryFit, Numbers, rfm
from foretaste.evaluation.passes import ROWS_TO_FIT, rows_to_fit

_MOST_LOGIT = 20.0  # Spark's intercept is infinite where all training rows are of one class
_REGULARISATION = 1e-4
_CUSTOMERS = 20_000  # four parameters need no more


def binary_fit(rows: DataFrame, label: str, numbers: Numbers = rfm, features: Sequence[str] = RFM_FEATURES) -> BinaryFit:
    """The share of positives among training rows, and a logistic regression on `numbers` of them, fitted where the rows lie.

    features: what `numbers` reads, beside the scalars, the items and the facts that are there
    """
    facts = [name for name in FACTS if name in rows.columns]
    chosen = rows.select(*SCALARS, *facts, *dict.fromkeys(("item", *features)), label)
    seen = chosen.mapInArrow(partial(rows_to_fit, label=label, numbers=numbers), ROWS_TO_FIT)
    vectors = seen.select(array_to_vector(F.col("features")).alias("features"), "label")
    share = rows.agg(F.avg(label)).head()[0]  # type: ignore[index]
    fitted = LogisticRegression(regParam=_REGULARISATION, maxIter=100).fit(vectors)  # which keeps its own copy of them meanwhile
    intercept = float(np.clip(fitted.intercept, -_MOST_LOGIT, _MOST_LOGIT))
    return BinaryFit(base_rate=share, coefficients=tuple(fitted.coefficients.toArray().tolist()), intercept=intercept)


def beta_geometric(rows: DataFrame, days: int) -> BetaGeometric:
    """BG/NBD by maximum likelihood, from some users' facts at the last moment of training, in days."""
    newest = rows.agg(F.max("as_of")).head()[0]  # type: ignore[index]
    last = rows.where((F.col("as_of") == F.lit(newest)) & (F.col("tenure_hours") > 0))
    users = last.orderBy(F.xxhash64("user_id")).limit(_CUSTOMERS).select(*FACTS).toPandas()
    tenure = users["tenure_hours"] / 24
    fitter = BetaGeoFitter(penalizer_coef=1e-3)
    fitter.fit(users["repeats"], tenure - users["idle_hours"] / 24, tenure)
    return BetaGeometric(**{name: float(value) for name, value in fitter.params_.items()}, days=days)
