"""Rows that a model can learn by heart, in memory and in files, and a plan around them."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from foretaste.contract import FACTS, SCALARS, Batch, Sizes
from foretaste.feed.snapshot import Pin, row_groups_of
from foretaste.settings import FitSettings, ModelSettings
from foretaste.training.loop import fit
from foretaste.training.plan import Fitted, Plan

NUM_ITEMS = 8  # PAD, UNKNOWN and six items
LENGTH = 6


def rows(num_rows: int) -> Batch[torch.Tensor]:
    """Items 2 … 7 follow each other in a circle, from any start; `next_items` is what comes next.

    `event` is 2 where the item is odd, else 1; `returns` is 1 where the last item is odd, and then the next activity is on day 2 of 5
    that are known; of each fifth row one day is.
    """
    start = torch.arange(num_rows) % 6
    length = 2 + torch.arange(num_rows) % (LENGTH - 1)
    position = torch.arange(LENGTH)
    item = 2 + (start[:, None] + position) % 6
    item = torch.where(position >= LENGTH - length[:, None], item, 0)
    following = 2 + (item[:, -1] - 1) % 6
    labels = {"next_items": torch.stack([following, torch.zeros_like(following)], dim=1), "returns": item[:, -1] % 2}
    known = torch.where(torch.arange(num_rows) % 5 == 4, 1, 5)
    labels["next_activity"] = torch.stack([torch.where((labels["returns"] == 1) & (known > 1), 2, 0), known], dim=1)
    return Batch(
        features={"item": item.int(), "event": torch.where(item > 0, 1 + item % 2, 0).int(), "gap": torch.where(item > 0, 2, 0).int()},
        length=length.int(),
        fresh=length.int(),
        recency=torch.full((num_rows,), 5).int(),
        labels={name: label.int() for name, label in labels.items()},
        facts={
            name: torch.full((num_rows,), number).int() for name, number in zip(FACTS, (3, 9, 90, *[0] * (len(FACTS) - 3)), strict=True)
        },
    )


def feed(
    pin: Pin,
    *,
    rank: int,
    size: int,
    batch_size: int,
    features: Sequence[str],
    labels: Sequence[str],
    facts: Sequence[str],
    epoch: int,
    seed: int,
    shuffle: bool,
    drop_uneven: bool,
) -> Iterator[Batch[torch.Tensor]]:
    """Gives what feed.batches gives, without files."""
    everything = rows(pin.num_rows)
    order = np.random.default_rng([seed, epoch]).permutation(pin.num_rows) if shuffle else np.arange(pin.num_rows)
    end = pin.num_rows // batch_size * batch_size if drop_uneven else pin.num_rows
    for start in range(0, end, batch_size):
        batch = order[start : min(start + batch_size, end)]
        share = torch.from_numpy(batch[rank * len(batch) // size : (rank + 1) * len(batch) // size])
        if len(share):
            chosen = everything.map(lambda array, share=share: array[share])
            read = {"features": {name: chosen.features[name] for name in features}, "facts": {name: chosen.facts[name] for name in facts}}
            yield replace(chosen, **read)


def pinned(split: str, num_rows: int) -> Pin:
    """A pin for `feed`."""
    return Pin(table="sequences", version=3, split=split, cut="window", num_rows=num_rows, files=(("memory", (num_rows,)),))


def written(folder: Path, split: str, num_rows: int, rows_per_group: int = 10) -> Pin:
    """The rows as a Parquet file, pinned."""
    folder.mkdir(parents=True, exist_ok=True)
    batch = rows(num_rows)
    columns = {**batch.features, **{name: getattr(batch, name) for name in SCALARS}, **batch.labels, **batch.facts}
    table = pa.table({name: pa.array(column.numpy().tolist(), _type(column)) for name, column in columns.items()})
    path = folder / f"{split}.parquet"
    pq.write_table(table, path, row_group_size=rows_per_group)
    url = f"file://{path}"
    return Pin(table="sequences", version=3, split=split, cut="window", num_rows=num_rows, files=((url, row_groups_of(url)),))


def _type(column: torch.Tensor) -> pa.DataType:
    return pa.int32() if column.ndim == 1 else pa.list_(pa.int32())


def plan(
    folder: Path,
    *,
    task: str = "interest",
    model: dict[str, Any] | None = None,
    fit: dict[str, Any] | None = None,
    train: Pin | None = None,
    valid: Pin | None = None,
    seed: int = 1,
) -> Plan:
    own = {"layers": 1, "heads": 2} if (model or {}).get("name") == "transformer" else {"hidden": [16]}
    heads = {"interest": ("items", "next_items"), "returns": ("binary", "returns"), "churn": ("survival", "next_activity")}
    head, label = heads[task]
    return Plan(
        task=task,
        head=head,
        label=label,
        model=ModelSettings.model_validate({"name": "gru", "embedding": 16, **own, "dropout": 0.0, **(model or {})}),
        fit=FitSettings.model_validate({"epochs": 3, "batch_size": 12, "learning_rate": 0.02, **(fit or {})}),
        sizes=Sizes(num_items=NUM_ITEMS, days=4),
        train=train or pinned("train", 60),
        valid=valid or pinned("valid", 31),
        seed=seed,
        folder=str(folder),
        threads=1,
    )


class Rank:
    """One of `size` ranks in threads of this process; see `Ranks`."""

    def __init__(self, rank: int, size: int, meeting: threading.Barrier, sent: list[Any]) -> None:
        self.rank, self.size, self.local_rank = rank, size, 0
        self.is_built = threading.Event()
        self._meeting, self._sent = meeting, sent

    def add_up(self, tensors: Sequence[torch.Tensor], name: str) -> None:
        self._sent[self.rank] = [tensor.clone() for tensor in tensors]
        self._meeting.wait(60)
        summed = [torch.stack(parts).sum(0) for parts in zip(*self._sent, strict=True)]
        self._meeting.wait(60)
        for tensor, total in zip(tensors, summed, strict=True):
            tensor.copy_(total)

    def broadcast(self, data: bytes) -> bytes:
        self.is_built.set()
        self._sent[self.rank] = data
        self._meeting.wait(60)
        first: bytes = self._sent[0]
        self._meeting.wait(60)
        return first

    def doing(self, what: str) -> None:
        pass


def fitted_together(plan: Plan, size: int) -> Fitted:
    """The plan fitted by `size` ranks, a thread each.

    Threads share torch's random numbers: each builds its model alone, one after the other, and nothing may be dropped out.
    """
    meeting, sent = threading.Barrier(size), [None] * size
    ranks = [Rank(rank, size, meeting, sent) for rank in range(size)]

    def run(rank: Rank) -> Fitted:
        if rank.rank > 0:
            assert ranks[rank.rank - 1].is_built.wait(60)
        return fit(plan, rank, quiet, feed=feed)

    with ThreadPoolExecutor(size) as pool:
        return next(iter(pool.map(run, ranks)))


def quiet(line: str) -> None:
    pass


def losses(history: Sequence[Any]) -> list[float]:
    """Of each epoch; of a model with several optimizers all of theirs, one after another."""
    return [value for entry in history for name, value in entry.items() if name.startswith("loss")]
