"""One pass over the rows for all scorers and resamples: functions from Arrow batches to Arrow batches, run by Spark's executors.

`partial_sums` runs on each partition and gives its sums; `merged` adds up the sums of one split and scorer and gives its metrics.
Memory: the sums, (S, 1 + replicates) for each split and scorer (7 MB for a binary task and 200 replicates), and one batch of scores.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import Batch
from foretaste.evaluation.baselines import rfm
from foretaste.evaluation.bootstrap import poisson_weights
from foretaste.evaluation.judge import JUDGED, LEFT_OUT, Judge, Scorer, Sums, add_rows
from foretaste.scoring.arrow import to_batch

PARTIAL_SUMS = "split string, scorer string, line int, sums array<double>"
MERGED = "split string, scorer string, metric string, resampled array<double>"
RFM_ROWS = "features array<double>, label double"
USER_HASH = "user_hash"
NUM_JUDGED, NUM_LEFT_OUT = "num_judged", "num_left_out"
"""Two names beside the metrics in `merged`: how many rows were judged, and how many could not be."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What is judged how. Rows have `split`, `user_hash` (64 bits of the user id), features, scalars and the label.

    model:      how the model is called
    load_model: gives its Scorer; called in each partition, so it had better remember
    baselines:  name → Scorer, carried along
    batch_size: rows scored at once
    """

    judge: Judge
    label: str
    model: str
    load_model: Callable[[], Scorer]
    baselines: Mapping[str, Scorer] = field(default_factory=dict)
    replicates: int
    seed: int
    batch_size: int

    def partial_sums(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        torch.set_num_threads(1)  # Spark runs one worker a core
        sums: dict[tuple[str, str], Sums] = defaultdict(self._nothing)
        scorers: Mapping[str, Scorer] = {}
        for rows in batches:
            if not rows.num_rows:  # an empty partition needs no model
                continue
            scorers = scorers or {self.model: self.load_model(), **self.baselines}
            for split in pc.unique(rows.column("split")).to_pylist():
                of_split = rows.filter(pc.equal(rows.column("split"), split))
                for start in range(0, len(of_split), self.batch_size):
                    self._add(sums, split, scorers, of_split.slice(start, self.batch_size))
        for (split, scorer), total in sums.items():
            lines = np.flatnonzero(total.any(axis=1))  # most bins of a histogram may be empty
            columns = {"line": pa.array(lines, pa.int32()), "sums": _lists(total[lines])}
            yield _record_batch(split, scorer, columns)

    def _add(self, sums: dict[tuple[str, str], Sums], split: str, scorers: Mapping[str, Scorer], rows: pa.RecordBatch) -> None:
        weights = poisson_weights(rows.column(USER_HASH).to_numpy(), self.replicates, self.seed)
        batch: Batch[Tensor] = to_batch(rows, [self.label]).map(torch.tensor)
        with torch.inference_mode():
            for name, scorer in scorers.items():
                self.judge.add(sums[split, name], scorer.score(batch), batch, weights)

    def merged(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Needs all rows of a (split, scorer) in one partition."""
        sums: dict[tuple[str, str], Sums] = defaultdict(self._nothing)
        for rows in batches:
            pairs = rows.select(["split", "scorer"])
            for pair in pa.Table.from_batches([pairs]).group_by(["split", "scorer"]).aggregate([]).to_pylist():
                chosen = pc.and_(pc.equal(rows.column("split"), pair["split"]), pc.equal(rows.column("scorer"), pair["scorer"]))
                part = rows.filter(chosen)
                values = part.column("sums").flatten().to_numpy().reshape(len(part), 1 + self.replicates)
                add_rows(sums[pair["split"], pair["scorer"]], part.column("line").to_numpy(), values)
        for (split, scorer), total in sums.items():
            counts = {NUM_JUDGED: total[JUDGED], NUM_LEFT_OUT: total[LEFT_OUT]}
            values_by_name = {**self.judge.metrics(total), **counts}
            resampled = _lists(np.stack(list(values_by_name.values())))
            yield _record_batch(split, scorer, {"metric": pa.array(list(values_by_name)), "resampled": resampled})

    def _nothing(self) -> Sums:
        return np.zeros((self.judge.num_sums, 1 + self.replicates))


def rfm_rows(batches: Iterable[pa.RecordBatch], label: str) -> Iterator[pa.RecordBatch]:
    """Rows with features, scalars and a binary label → RFM_ROWS, to fit a baseline on."""
    for rows in batches:
        batch: Batch[Tensor] = to_batch(rows, [label]).map(torch.tensor)
        columns = {"features": _lists(rfm(batch).numpy()), "label": pa.array(batch.labels[label].double().numpy())}
        yield pa.RecordBatch.from_pydict(columns)


def _record_batch(split: str, scorer: str, columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    num_rows = len(next(iter(columns.values())))
    return pa.RecordBatch.from_pydict({"split": pa.repeat(split, num_rows), "scorer": pa.repeat(scorer, num_rows), **columns})


def _lists(rows: NDArray[np.float64]) -> pa.ListArray:
    """(n, R) → n lists of R."""
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.ravel()))
