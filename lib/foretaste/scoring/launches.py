"""Who will buy an item that nobody has bought yet: the chance for each of many users and a few new items, by what these are.

A network says of a user how likely each item is the next one; how many a user buys it does not say. So the logarithm of that share, how
often the user bought of the item's category, and how active the user is, go into a line that was fitted on the launches of validation time:
a calibrated chance to buy the item within so many days.

Legend: B users, M new items, L words of an item, D width of item vectors, F numbers of a user.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import FIRST_INDEX, PAD, Batch
from foretaste.errors import ModelError
from foretaste.models import Model
from foretaste.scoring.arrow import targets, to_batch
from foretaste.scoring.udf import ByModel

ACTIVITY_FACTS = ("repeats", "idle_hours", "tenure_hours")
ACTIVITY_FEATURES = ("opens_session", "category")
NUMBERS = ("log_share", "log_of_category", "log_sessions_a_day", "log_events_a_session", "log_idle_days")
"""What the line is through, in this order."""


@dataclass(frozen=True, kw_only=True)
class NewItems:
    """ids: (M,) the shop's own; words: (M, L) codes of what each is; category: (M,) vocabulary index, PAD where that lacks it"""

    ids: Sequence[str]
    words: NDArray[np.int32]
    category: NDArray[np.int32]


def log_shares(network: Model, batch: Batch[Tensor], words: Tensor) -> Tensor:
    """(B, M): of the chance that a user's next event is with each new item, beside all known ones; M words as (M, L)."""
    if network.content is None:
        raise ModelError("this model knows nothing of what items are", where="model.content", fix="Train it with content: true.")
    states = network.represent(batch)
    weights, bias = network.item_weights()
    known = torch.addmm(bias, states, weights.T).logsumexp(1, keepdim=True)  # (B, 1)
    scores: Tensor = states @ network.content.vectors(words).T - known
    return scores


def activity(batch: Batch[Tensor]) -> Tensor:
    """(B, F - 2) float64 of a user: NUMBERS but the first two."""
    facts = {name: batch.facts[name].double() for name in ACTIVITY_FACTS}
    sessions = (batch.features["opens_session"] == FIRST_INDEX).sum(1).clamp(min=1)
    return torch.stack(
        [
            ((facts["repeats"] + 1) / (facts["tenure_hours"] / 24 + 7)).log(),  # a week more, or who came once today comes daily
            (batch.length.clamp(min=1) / sessions).double().log(),
            (facts["idle_hours"] / 24).log1p(),
        ],
        dim=1,
    )


def affinity(batch: Batch[Tensor], category: Tensor) -> Tensor:
    """(B, M) float64: how many of a row's events are of each item's category; 0 for one that nobody knew. category: (M,)"""
    codes = batch.features["category"].long()  # (B, T)
    size = 1 + int(max(codes.max(), category.max()))
    counts = torch.zeros(len(codes), size, dtype=torch.float64).scatter_add_(1, codes, torch.ones_like(codes, dtype=torch.float64))
    counts[:, PAD] = 0.0
    return counts[:, category.long()]


def numbers(network: Model, batch: Batch[Tensor], items: NewItems) -> Tensor:
    """(B, M, F) float64: NUMBERS of each user and item."""
    shares = log_shares(network, batch, torch.from_numpy(items.words)).double()
    of_category = affinity(batch, torch.from_numpy(items.category)).log1p()
    of_user = activity(batch)[:, None].expand(-1, len(items.ids), -1)
    return torch.cat([shares[:, :, None], of_category[:, :, None], of_user], dim=2)


def chances(line: Mapping[str, float], told: Tensor) -> Tensor:
    """(B, M) logits: the line through (B, M, F) numbers."""
    if not set(NUMBERS) <= set(line):
        raise ModelError("the line of the model is through other numbers", where="launch", fix="Train it again: it is of another release.")
    return told @ torch.tensor([line[name] for name in NUMBERS], dtype=torch.float64) + line["intercept"]


@dataclass(frozen=True, kw_only=True)
class ScoreLaunches(ByModel):
    """`rows.mapInArrow(ScoreLaunches(…), udf.SCORED)`: from rows with user_id, features, facts and scalars, a row a user: the best `top_k`
    of the new items with the chance to buy each. Who has no known item gets `base_rate` for all.
    """

    top_k: int
    items: NewItems
    base_rate: float

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in batches:
            for start in range(0, rows.num_rows, self.batch_size):
                yield self._scored(rows.slice(start, self.batch_size))

    def _scored(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        scorer = self.scorer
        network, line = scorer.network, scorer.stored.launch
        assert isinstance(network, Model)
        assert line is not None
        arrays = to_batch(rows)
        nothing_known = scorer.knows_nothing(arrays)
        batch: Batch[Tensor] = arrays.map(torch.tensor)
        with torch.inference_mode():
            chance = torch.sigmoid(chances(line, numbers(network, batch, self.items))).numpy()
        if np.isnan(chance).any():
            raise ModelError("the model scores NaN", where=scorer.where, fix="Train it again, with a lower learning rate.")
        chance[nothing_known] = self.base_rate
        best = np.argsort(-chance, axis=1, kind="stable")[:, : self.top_k]
        ids = pa.array([None] * FIRST_INDEX + list(self.items.ids), pa.string())  # no target has a number below: 0 would be PAD
        listed = targets(ids, FIRST_INDEX + best, np.take_along_axis(chance, best, axis=1))
        return pa.RecordBatch.from_arrays(
            [rows.column("user_id"), listed, pa.array(nothing_known)], names=["user_id", "targets", "fallback"]
        )
