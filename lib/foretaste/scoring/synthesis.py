"""The Spark UDF that writes rows: numbers in, rows of behaviour out, each depending on its number and the run's seed alone.

Memory is that of one batch, whatever the count. No Spark import here.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import FEATURES, FIRST_INDEX, PAD, SCALARS, UNKNOWN, Batch, local_hours, seconds_of
from foretaste.models import Conditions, Model, chance
from foretaste.models.conditions import conditions_of
from foretaste.scoring.arrow import list_array, to_batch
from foretaste.scoring.udf import load_scorer

WRITTEN = ", ".join(["number bigint", "as_of bigint", *(f"{name} int" for name in SCALARS), *(f"{name} array<int>" for name in FEATURES)])
ASKED = "budget int, category int, campaign int"
_WISH, _COLD, _WHICH, _MOMENT, _WITHIN = range(1 << 30, (1 << 30) + 5)  # streams of a row's random numbers, far from the model's
_SECOND = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What rows are asked for, and what goes with them that no model writes.

    budget, category, campaign: (K,) conditions, drawn together, and `weight`, (K,), how often
    cold, cold_share: the items (C,) of which so many rows are asked to hold one
    as_of, recency: (M,) moments in microseconds and their rows' recency, one of which each row gets
    category_of_item, price_of_item: (I,) the codes that go with each item
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
    category_of_item: NDArray[np.int64]
    price_of_item: NDArray[np.int64]
    event: int
    zone: tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class WriteRows:
    """`numbers.mapInArrow(WriteRows(…), WRITTEN)`: from a column `id` of numbers, one row each, in the same order."""

    root: str
    name: str
    version: int
    batch_size: int
    seed: int
    wishes: Wishes

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for numbers in batches:
            for start in range(0, numbers.num_rows, self.batch_size):
                yield self._written(numbers.column("id").slice(start, self.batch_size).to_numpy(zero_copy_only=False))

    def _written(self, number: NDArray[np.int64]) -> pa.RecordBatch:
        network = load_scorer(self.root, self.name, self.version, self.batch_size).network
        assert isinstance(network, Model)
        seed = chance.fingerprint(torch.from_numpy(np.stack([np.full_like(number, self.seed), number], axis=1)))
        batch = network.draw(asked_for(self.wishes, seed), seed)
        as_of, recency, features = completed(batch, seed, self.wishes)
        length = batch.length.numpy()
        columns = [pa.array(number), pa.array(as_of), pa.array(length), pa.array(length), pa.array(recency)]
        columns += [list_array(features[name]) for name in FEATURES]
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
    at_once = np.where(inside, FIRST_INDEX, PAD)
    gap = given.get("gap", at_once)
    first = np.argmax(inside, axis=1)
    opens = given.get("opens_session", np.where(inside, 1, PAD))
    if "opens_session" not in given:
        opens[np.arange(rows), first] = FIRST_INDEX
    within = chance.uniform(seed, _WITHIN, columns + 1).numpy()
    before = seconds_of(gap, within[:, :columns])
    after = np.flip(np.cumsum(np.flip(before, 1), 1), 1) - before  # (B, T): from each event to the last
    since = seconds_of(recency, within[:, columns])
    hour, weekday = local_hours((as_of[:, None] - (after + since[:, None]) * _SECOND).ravel(), wishes.zone)
    features = {
        "item": item,
        "event": given.get("event", np.where(inside, wishes.event, PAD)),
        "gap": gap,
        "opens_session": opens,
        "price": np.where(inside, np.maximum(wishes.price_of_item[item], UNKNOWN), PAD),
        "category": np.where(inside, np.maximum(wishes.category_of_item[item], UNKNOWN), PAD),
        "hour": np.where(inside, hour.reshape(rows, columns) + 1, PAD),
        "weekday": np.where(inside, weekday.reshape(rows, columns) + 1, PAD),
    }
    return as_of, recency, {name: values.astype(np.int32) for name, values in features.items()}


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
