"""Launches judged: of the users who then bought a new item, how many are among the few that it would have been offered to?

Functions from Arrow batches to Arrow batches, run by Spark's executors. `Pairs` gives a line for each user and item launched at that
moment; Spark says which of them are among the best of their item; `FoundSums` adds up the buyers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import Batch
from foretaste.evaluation.bootstrap import poisson_weights
from foretaste.evaluation.judge import ratio
from foretaste.evaluation.passes import USER_HASH
from foretaste.models import Model
from foretaste.scoring.arrow import lists, to_batch
from foretaste.scoring.launches import NUMBERS, NewItems, affinity, chances, numbers

SHARES = (0.01, 0.1)
"""Of all users, best first: those that an item is offered to."""
FOUND = tuple(f"buyers@{share:.0%}" for share in SHARES)
BASELINES = ("category_affinity", "most_active", "random")
PAIRS = "item_id string, user_hash bigint, scores array<double>"
NUMBERED = "item_id string, user_hash bigint, numbers array<double>"
FOUND_SUMS = "scorer string, sums array<double>"
MOMENT = "moment"

Launched = Mapping[int, NewItems]
"""Moment, in microseconds → the items that are launched then."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Rows with MOMENT, USER_HASH, features, facts and scalars → PAIRS, a score for the model and each of BASELINES; or, without a line to
    score by, NUMBERED: the numbers that one can be fitted through. load: gives the network, in each partition
    """

    launched: Launched
    load: Callable[[], Model]
    line: Mapping[str, float] | None
    batch_size: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        torch.set_num_threads(1)  # Spark runs one worker a core
        for rows in batches:
            moments = rows.column(MOMENT).to_numpy()
            for moment in np.unique(moments):
                of_moment = rows.filter(pa.array(moments == moment))
                for start in range(0, of_moment.num_rows, self.batch_size):
                    yield self._pairs(of_moment.slice(start, self.batch_size), self.launched[int(moment)])

    def _pairs(self, rows: pa.RecordBatch, items: NewItems) -> pa.RecordBatch:
        batch: Batch[Tensor] = to_batch(rows).map(torch.tensor)
        user = rows.column(USER_HASH).to_numpy()
        with torch.inference_mode():
            told = numbers(self.load(), batch, items)  # (B, M, F)
        num_users, num_items, _ = told.shape
        pairs = {
            "item_id": pa.array(items.ids, pa.string()).take(pa.array(np.tile(np.arange(num_items), num_users))),
            USER_HASH: pa.array(np.repeat(user, num_items)),
        }
        if self.line is None:
            return pa.RecordBatch.from_pydict({**pairs, "numbers": lists(told.reshape(-1, len(NUMBERS)).numpy())})
        scores = [
            chances(self.line, told).numpy(),
            affinity(batch, torch.from_numpy(items.category)).numpy(),
            np.broadcast_to(batch.facts["repeats"].double().numpy()[:, None], told.shape[:2]),
            np.broadcast_to(0.0, told.shape[:2]),  # nobody before anybody else
        ]
        return pa.RecordBatch.from_pydict({**pairs, "scores": lists(np.stack(scores, axis=2).reshape(-1, len(scores)))})


@dataclass(frozen=True, kw_only=True)
class FoundSums:
    """Buyers (scorer, USER_HASH, found: for each of SHARES the chance that the buyer is among the best) → FOUND_SUMS: how many there are,
    then how many are found, each with the weights of resamples of users.
    """

    replicates: int
    seed: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[str, NDArray[np.float64]] = {}
        for rows in batches:
            names = np.asarray(rows.column("scorer").to_pylist(), dtype=object)
            found = rows.column("found").flatten().to_numpy(zero_copy_only=False).reshape(-1, len(SHARES))
            weights = poisson_weights(rows.column(USER_HASH).to_numpy(), self.replicates, self.seed)
            for name in np.unique(names) if len(names) else ():
                part = names == name
                total = sums.setdefault(name, np.zeros((1 + len(SHARES), 1 + self.replicates)))
                total[0] += weights[part].sum(0)
                total[1:] += found[part].T @ weights[part]
        for name, total in sums.items():
            yield pa.RecordBatch.from_pydict({"scorer": pa.array([name]), "sums": lists(total.reshape(1, -1))})


def metrics(sums: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    """Metric name → (R,)"""
    return {name: ratio(sums[1 + place], sums[0]) for place, name in enumerate(FOUND)}
