"""The Spark UDF that writes rows: numbers in, rows of behaviour out, each depending on its number and the run's seed alone.

Memory is that of one batch, whatever the count. No Spark import here.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import FEATURES, FIRST_INDEX, NUM_HOURS, PAD, SCALARS, UNKNOWN, Batch, gap_bucket, local_hours, seconds_of
from foretaste.models import Conditions, Model, chance
from foretaste.models.conditions import conditions_of
from foretaste.scoring.arrow import lists, to_batch
from foretaste.scoring.udf import ByModel

WRITTEN = ", ".join(["number bigint", "as_of bigint", *(f"{name} int" for name in SCALARS), *(f"{name} array<int>" for name in FEATURES)])
ASKED = "budget int, category int, campaign int"
_STREAM = 1 << 30  # of a row's random numbers: far from the model's
_WISH, _COLD, _WHICH, _MOMENT, _WITHIN, _ATTRIBUTES = range(_STREAM, _STREAM + 6)
_SECOND = 1_000_000
_TRIED = 64  # moments within a gap's bucket, of which one is taken
_SPANS_HOURS = gap_bucket(np.array(3600.0))  # a bucket from which on that is worth while


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What goes with the item of an event, and how often: (K,) items in ascending order, their (K,) codes, and the (K,) share of the item's
    events that have these or earlier ones, added to the item: one sorted column in which each draw is one search.
    """

    item: NDArray[np.int64]
    category: NDArray[np.int64]
    price: NDArray[np.int64]
    reached: NDArray[np.float64]

    @classmethod
    def of(cls, item: NDArray[np.int64], category: NDArray[np.int64], price: NDArray[np.int64], count: NDArray[np.int64]) -> "Attributes":
        """Of (K,) different combinations, in any order, and how often each was counted."""
        order = np.lexsort((price, category, item))
        item, category, price, count = item[order], category[order], price[order], count[order].astype(np.float64)
        first = np.searchsorted(item, item, side="left")
        before = np.cumsum(count) - count
        share = (before - before[first] + count) / np.bincount(item, weights=count)[item]
        return cls(item=item, category=category, price=price, reached=item.astype(np.float64) + share)

    def drawn(self, item: NDArray[Any], point: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Category and price codes for items of any shape, one point in (0, 1) each; UNKNOWN for an item that was never counted."""
        if not len(self.item):
            return np.full(item.shape, UNKNOWN), np.full(item.shape, UNKNOWN)
        place = np.minimum(np.searchsorted(self.reached, item + point), len(self.item) - 1)
        known = self.item[place] == item
        return np.where(known, self.category[place], UNKNOWN), np.where(known, self.price[place], UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What rows are asked for, and what goes with them that no model writes.

    budget, category, campaign: (K,) conditions, drawn together, and `weight`, (K,), how often
    cold, cold_share: the items (C,) of which so many rows are asked to hold one
    as_of, recency: (M,) moments in microseconds and their rows' recency, one of which each row gets
    attributes: categories and prices of items
    hours: (168,) how many sessions open in each hour of a week, from Monday's first on
    event: the code of all events, where the model does not write them; zone: of the shop, as contract.local_hours takes it
    """

    budget: NDArray[np.int64]
    category: NDArray[np.int64]
    campaign: NDArray[np.int64]
    weight: NDArray[np.float64]
    cold: NDArray[np.int64]
    cold_share: float
    as_of: NDArray[np.int64]
    recency: NDArray[np.int32]
    attributes: Attributes
    hours: NDArray[np.float64]
    event: int
    zone: tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class WriteRows(ByModel):
    """`numbers.mapInArrow(WriteRows(…), WRITTEN)`: from a column `id` of numbers, one row each, in the same order."""

    seed: int
    wishes: Wishes

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for numbers in batches:
            for start in range(0, numbers.num_rows, self.batch_size):
                yield self._written(numbers.column("id").slice(start, self.batch_size).to_numpy(zero_copy_only=False))

    def _written(self, number: NDArray[np.int64]) -> pa.RecordBatch:
        network = self.scorer.network
        assert isinstance(network, Model)
        seed = chance.fingerprint(torch.from_numpy(np.stack([np.full_like(number, self.seed), number], axis=1)))
        batch = network.draw(asked_for(self.wishes, seed), seed)
        as_of, recency, features = completed(batch, seed, self.wishes)
        length = batch.length.numpy()
        columns = [pa.array(number), pa.array(as_of), pa.array(length), pa.array(length), pa.array(recency)]
        columns += [lists(features[name], pa.int32()) for name in FEATURES]
        return pa.RecordBatch.from_arrays(columns, names=["number", "as_of", *SCALARS, *FEATURES])


def asked_for(wishes: Wishes, seed: Tensor) -> Conditions:
    """Each row's conditions, drawn by its seed, (B,)."""

    def point(stream: int) -> NDArray[np.float64]:
        return chance.uniform(seed, stream, 1).squeeze(1).numpy()

    share = np.cumsum(wishes.weight) / wishes.weight.sum()
    place = np.minimum(np.searchsorted(share, point(_WISH)), len(share) - 1)
    item = np.full(len(place), PAD, dtype=np.int64)
    if wishes.cold_share > 0 and len(wishes.cold):
        which = wishes.cold[(point(_WHICH) * len(wishes.cold)).astype(np.int64)]
        item = np.where(point(_COLD) < wishes.cold_share, which, PAD)
    return Conditions(
        budget=torch.from_numpy(wishes.budget[place]),
        category=torch.from_numpy(wishes.category[place]),
        campaign=torch.from_numpy(wishes.campaign[place]),
        item=torch.from_numpy(item),
    )


def completed(
    batch: Batch[Tensor], seed: Tensor, wishes: Wishes
) -> tuple[NDArray[np.int64], NDArray[np.int32], dict[str, NDArray[np.int32]]]:
    """(B,) as_of, (B,) recency and all FEATURES, (B, T): those that the model wrote, and what follows from them.

    Times go back from `as_of`, by gaps of a length within their buckets; without gaps all is at once, in one session.
    """
    given: Mapping[str, NDArray[np.int32]] = {name: values.numpy() for name, values in batch.features.items()}
    item = given["item"]
    inside = item != PAD
    rows, columns = item.shape
    place = (chance.uniform(seed, _MOMENT, 1).squeeze(1).numpy() * len(wishes.as_of)).astype(np.int64)
    as_of, recency = wishes.as_of[place], wishes.recency[place]
    gap = given.get("gap", np.where(inside, FIRST_INDEX, PAD))
    opens = given.get("opens_session", np.where(inside, 1, PAD))
    if "opens_session" not in given:
        opens[np.arange(rows), np.argmax(inside, axis=1)] = FIRST_INDEX
    hour, weekday = local_hours(moments(as_of, np.column_stack([gap[:, 1:], recency]), seed, wishes).ravel(), wishes.zone)
    category, price = wishes.attributes.drawn(item, chance.uniform(seed, _ATTRIBUTES, columns).numpy())
    features = {
        "item": item,
        "event": given.get("event", np.where(inside, wishes.event, PAD)),
        "gap": gap,
        "opens_session": opens,
        "price": np.where(inside, price, PAD),
        "category": np.where(inside, category, PAD),
        "hour": np.where(inside, hour.reshape(rows, columns) + 1, PAD),
        "weekday": np.where(inside, weekday.reshape(rows, columns) + 1, PAD),
    }
    return as_of, recency, {name: values.astype(np.int32) for name, values in features.items()}


def moments(as_of: NDArray[np.int64], gap: NDArray[np.int32], seed: Tensor, wishes: Wishes) -> NDArray[np.int64]:
    """(B, T) microseconds of events, back from (B,) as_of by (B, T) buckets of the time from each event to the next thing.

    A long gap's bucket spans days. Of some moments in it, evenly spread, one is drawn as often as its hour of the week is busy: so nobody
    shops at night who would not, and the gap stays in its bucket.
    """
    rows, columns = gap.shape
    nudge, point = chance.uniform(seed, _WITHIN, 2 * columns).numpy().reshape(rows, 2, columns).transpose(1, 0, 2)
    busy = wishes.hours + wishes.hours.sum() / (1000 * len(wishes.hours)) + 1e-9  # no hour is out of the question
    found = np.empty((rows, columns), dtype=np.int64)
    after = as_of
    for column in reversed(range(columns)):
        after = after - seconds_of(gap[:, column], nudge[:, column]) * _SECOND
        spans = np.flatnonzero(gap[:, column] >= _SPANS_HOURS)
        part = (np.arange(_TRIED) + nudge[spans, column, None]) / _TRIED  # (S, tried) in (0, 1)
        latest = found[spans, column + 1] if column + 1 < columns else as_of[spans]
        tried = latest[:, None] - seconds_of(gap[spans, column, None], part) * _SECOND
        hour, weekday = local_hours(tried.ravel(), wishes.zone)
        reached = np.cumsum(busy[weekday * NUM_HOURS + hour].reshape(tried.shape), axis=1)
        chosen = (reached < point[spans, column, None] * reached[:, -1:]).sum(1)
        after[spans] = tried[np.arange(len(spans)), chosen]
        found[:, column] = after
    return found


@dataclass(frozen=True, kw_only=True)
class AskedOfRows:
    """`rows.mapInArrow(AskedOfRows(…), ASKED)`: what real rows would have been asked for. category_of_item: (I,)"""

    category_of_item: NDArray[np.int64]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        table = torch.from_numpy(self.category_of_item)
        for rows in batches:
            found = conditions_of(to_batch(rows).map(torch.tensor), table, torch.zeros(len(table)))
            names = [column.split()[0] for column in ASKED.split(", ")]
            yield pa.RecordBatch.from_arrays([pa.array(getattr(found, name).numpy().astype(np.int32)) for name in names], names=names)
