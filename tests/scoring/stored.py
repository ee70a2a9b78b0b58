"""A small model in a warehouse folder, with weights from a seed: enough to be loaded and to score."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import safetensors.torch
import torch

from foretaste import registry
from foretaste.contract import EVENT_CODES, FIRST_INDEX, Batch, Sizes
from foretaste.models import build
from foretaste.stored_model import StoredModel
from foretaste.tasks import TASKS

LENGTH = 6
OPTIONS: dict[str, Any] = {"embedding": 8, "hidden": [8], "dropout": 0.0, "features": ["item"], "tied": True}


def vocabulary(counts: Mapping[str, int]) -> pd.DataFrame:
    """The rows of the vocabulary table for these items, most frequent first."""
    rows = [("item", item, FIRST_INDEX + place, count, None) for place, (item, count) in enumerate(counts.items())]
    return pd.DataFrame(rows, columns=["field", "value", "index", "count", "upper"]).astype({"index": "int32", "upper": "float64"})


def store(
    root: Path,
    counts: Mapping[str, int],
    *,
    task: str = "interest",
    calibration: Mapping[str, float] | None = None,
    base_rate: float | None = None,
    tables: Mapping[str, int] | None = None,
    seed: int = 0,
    model: str = "gru",
) -> StoredModel:
    """The next version of `task`'s model; base_rate: of one that ranks no items."""
    head, label = TASKS[task].head, TASKS[task].label.name
    sizes = Sizes(num_items=FIRST_INDEX + len(counts))
    torch.manual_seed(seed)
    network = build(model, head=head, label=label, sizes=sizes, **{**OPTIONS, "hidden": (8,), "features": ("item",)})
    with torch.no_grad():
        for parameter in network.parameters():  # far from the start, so that scores differ and a wrong one is seen
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    root.mkdir(parents=True, exist_ok=True)
    weights = root / "fresh.safetensors"
    safetensors.torch.save_file(network.state_dict(), str(weights))
    with mock.patch.dict(os.environ, MLFLOW_TRACKING_URI="off"):
        return registry.save(
            SimpleNamespace(path=str(root)),  # type: ignore[arg-type]
            name=task,
            task=task,
            head=head,
            label=label,
            model={"name": model, **OPTIONS},
            sizes=sizes,
            weights=weights,
            vocabulary=SimpleNamespace(toPandas=lambda: vocabulary(counts)),  # type: ignore[arg-type]
            calibration=calibration,
            metrics={},
            history=(),
            tables=tables or {"sequences": 0, "vocabulary": 0},
            seed=seed,
            settings={},
            base_rate=base_rate,
        )


def histories(num_rows: int, num_items: int, seed: int = 0) -> Batch[np.ndarray]:
    """Rows of one to LENGTH events with items of the vocabulary."""
    random = np.random.default_rng(seed)
    length = random.integers(1, LENGTH + 1, num_rows)
    real = np.arange(LENGTH) >= LENGTH - length[:, None]
    item = np.where(real, random.integers(FIRST_INDEX, num_items, (num_rows, LENGTH)), 0)
    return batch(item.tolist())


def batch(item: Sequence[Sequence[int]]) -> Batch[np.ndarray]:
    items = np.array(item, dtype=np.int32).reshape(len(item), -1)
    length = (items > 0).sum(1).astype(np.int32)
    view = np.where(items > 0, EVENT_CODES["view"], 0).astype(np.int32)
    return Batch(features={"item": items, "event": view}, length=length, fresh=length, recency=np.full(len(items), 9, dtype=np.int32))


def record_batch(rows: Batch[np.ndarray], user_ids: Sequence[str]) -> pa.RecordBatch:
    """As Spark would hand the rows to the UDF."""
    scalars = {"length": rows.length, "fresh": rows.fresh, "recency": rows.recency}
    lists = {name: pa.array(list(values), pa.list_(pa.int32())) for name, values in rows.features.items()}
    return pa.RecordBatch.from_pydict({"user_id": pa.array(user_ids, pa.string()), **scalars, **lists})


def session(user: str, *events: tuple[datetime, str, str]) -> tuple[Any, ...]:
    """A row of the sessions table from its events: (time, item, type), oldest first."""
    times, items, kinds = ([event[place] for event in events] for place in range(3))
    return (user, f"{user} {times[0]}", times[0], times[-1], len(events), times, items, kinds, *[[None] * len(events)] * 3)
