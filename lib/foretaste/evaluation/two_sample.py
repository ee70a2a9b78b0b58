"""Can a classifier tell two sets of rows apart? The area under its ROC curve: near 0.5 it cannot (Lopez-Paz & Oquab 2017, Revisiting
classifier two-sample tests). Bounded samples, in one process.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from foretaste.contract import FIRST_INDEX, PAD
from foretaste.evaluation.bootstrap import Estimate

Features = Mapping[str, NDArray[np.int32]]
"""Name in FEATURES → (n, T), left-padded."""

_ITEM_BUCKETS, _PAIR_BUCKETS = 64, 64
_FOLDS = 3
_RESAMPLES = 200


def separability(one: Features, other: Features, seed: int) -> Estimate:
    """The area of gradient-boosted trees that saw the other folds alone, and its interval over resamples of rows."""
    numbers = np.concatenate([row_numbers(one), row_numbers(other)])
    label = np.repeat([0, 1], [len(one["item"]), len(other["item"])])
    trees = HistGradientBoostingClassifier(max_iter=80, random_state=seed)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    score = cross_val_predict(trees, numbers, label, cv=folds, method="predict_proba")[:, 1]
    return area(label, score, seed)


def area(label: NDArray[Any], score: NDArray[Any], seed: int) -> Estimate:
    """The area under the ROC curve of these scores, with an interval over resamples of rows, each class apart."""
    random = np.random.default_rng(seed)
    zeros, ones = np.flatnonzero(label == 0), np.flatnonzero(label == 1)
    values = [roc_auc_score(label, score)]
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([random.choice(rows, len(rows)) for rows in (zeros, ones)])
        values.append(roc_auc_score(label[drawn], score[drawn]))
    return Estimate.of(np.array(values))


def row_numbers(rows: Features) -> NDArray[np.float64]:
    """(n, F): what a person would look at (how long, how many different items, repeats, popularity, gaps, sessions, hours), and which
    share of its items and pairs of neighbours falls into each bucket.
    """
    item = rows["item"]
    inside = item != PAD
    length = np.maximum(inside.sum(1), 1)
    repeated = (item[:, 1:] == item[:, :-1]) & inside[:, 1:]
    ordered = np.sort(item, axis=1)
    distinct = ((ordered[:, 1:] != ordered[:, :-1]) & (ordered[:, 1:] != PAD)).sum(1) + (ordered[:, 0] != PAD)
    columns = [length, distinct / length, repeated.sum(1) / length, (rows["opens_session"] == FIRST_INDEX).sum(1) / length]
    for values in (np.log1p(item), *(rows[name].astype(np.float64) for name in ("gap", "hour", "weekday", "event"))):
        mean = (values * inside).sum(1) / length
        columns += [mean, np.sqrt((((values - mean[:, None]) ** 2) * inside).sum(1) / length), (values * inside).max(1)]
        columns += [np.take_along_axis(values, (values.shape[1] - length)[:, None], 1)[:, 0], values[:, -1]]
    pair = item[:, :-1].astype(np.int64) * 40_503 + item[:, 1:]
    counted = [_shares(item, inside, _ITEM_BUCKETS), _shares(pair * 2_654_435_761 >> 8, inside[:, :-1], _PAIR_BUCKETS)]
    return np.concatenate([np.stack(columns, axis=1), *counted], axis=1)


def _shares(codes: NDArray[Any], inside: NDArray[np.bool_], buckets: int) -> NDArray[np.float64]:
    """(n, buckets): of each row, the share of its codes in each bucket."""
    row, column = np.nonzero(inside)
    counts = np.zeros((len(codes), buckets))
    np.add.at(counts, (row, codes[row, column] % buckets), 1.0)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
    return shares
