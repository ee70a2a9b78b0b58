"""One pass over the rows for all scorers and resamples: functions from Arrow batches to Arrow batches, run by Spark's executors.

`partial_sums` runs on each partition and gives its sums; `merged` adds up the sums of one split and scorer and gives its metrics.
Memory: the sums, (S, 1 + replicates) for each split and scorer (7 MB for a binary task and 200 replicates; 50 kB for a ranking, which is
summed up by segment, too), a bit an item and cut-off of a ranking, and one batch of scores.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import FIRST_INDEX, Batch
from foretaste.evaluation.baselines import Numbers
from foretaste.evaluation.bootstrap import poisson_weights
from foretaste.evaluation.judge import JUDGED, LEFT_OUT, Judge, Scorer, Sums, add_rows
from foretaste.evaluation.segments import ALL, segments
from foretaste.scoring.arrow import lists, to_batch

PARTIAL_SUMS = "split string, segment string, scorer string, line int, sums array<double>, metric string, items binary"
"""A line of the sums; or, with `metric`, the items that were recommended to anybody, as a bitmap."""
MERGED = "split string, segment string, scorer string, metric string, resampled array<double>"
ROWS_TO_FIT = "features array<double>, label double"
USER_HASH = "user_hash"
NUM_JUDGED, NUM_LEFT_OUT = "num_judged", "num_left_out"
"""Two names beside the metrics in `merged`: how many rows were judged, and how many could not be."""

Key = tuple[str, str, str]
"""Split, segment, scorer."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What is judged how. Rows have `split`, `user_hash` (64 bits of the user id), features, scalars and the label.

    model:      how the model is called
    load_model: gives its Scorer; called in each partition, so it had better remember
    baselines:  name → Scorer, carried along
    batch_size: rows scored at once
    num_items:  of the vocabulary, PAD and UNKNOWN included; 0 where nothing ranks items
    """

    judge: Judge
    label: str
    model: str
    load_model: Callable[[], Scorer]
    baselines: Mapping[str, Scorer] = field(default_factory=dict)
    replicates: int
    seed: int
    batch_size: int
    num_items: int = 0

    def partial_sums(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        torch.set_num_threads(1)  # Spark runs one worker a core
        sums: dict[Key, Sums] = defaultdict(self._nothing)
        named: dict[Key, dict[str, NDArray[np.bool_]]] = defaultdict(dict)
        scorers: Mapping[str, Scorer] = {}
        for rows in batches:
            if not rows.num_rows:  # an empty partition needs no model
                continue
            scorers = scorers or {self.model: self.load_model(), **self.baselines}
            for split in pc.unique(rows.column("split")).to_pylist():
                of_split = rows.filter(pc.equal(rows.column("split"), split))
                for start in range(0, len(of_split), self.batch_size):
                    self._add(sums, named, split, scorers, of_split.slice(start, self.batch_size))
        for key, total in sums.items():
            lines = np.flatnonzero(total.any(axis=1))  # most bins of a histogram may be empty
            yield _record_batch(PARTIAL_SUMS, key, len(lines), line=pa.array(lines, pa.int32()), sums=lists(total[lines]))
        for key, bitmaps in named.items():
            packed = pa.array([np.packbits(bits).tobytes() for bits in bitmaps.values()], pa.binary())
            yield _record_batch(PARTIAL_SUMS, key, len(bitmaps), metric=pa.array(list(bitmaps)), items=packed)

    def _add(
        self,
        sums: dict[Key, Sums],
        named: dict[Key, dict[str, NDArray[np.bool_]]],
        split: str,
        scorers: Mapping[str, Scorer],
        rows: pa.RecordBatch,
    ) -> None:
        weights = poisson_weights(rows.column(USER_HASH).to_numpy(), self.replicates, self.seed)
        groups = [(name, weights * belongs[:, None]) for name, belongs in segments(rows)] if self.judge.segmented else []
        everybody: Batch[Tensor] = to_batch(rows, [self.label]).map(torch.tensor)
        tells = self.judge.tells(everybody)
        told, batch = tells.numpy(), everybody.map(lambda array: array[tells])
        for name, (segment, of_segment) in product(scorers, [(ALL, weights), *groups]):
            sums[split, segment, name][LEFT_OUT] += of_segment[~told].sum(0)
        if not told.any():
            return
        for name, scorer in scorers.items():
            with torch.inference_mode():
                scores = scorer.score(batch)
                measured = self.judge.measure(scores, batch)
            for segment, of_segment in [(ALL, weights), *groups]:
                measured.add(sums[split, segment, name], of_segment[told])
            for metric, items in measured.recommended().items():
                bits = named[split, ALL, name].setdefault(metric, np.zeros(scores.shape[1], dtype=np.bool_))
                bits[items] = True

    def merged(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Needs all rows of a split, segment and scorer in one partition."""
        sums: dict[Key, Sums] = defaultdict(self._nothing)
        named: dict[Key, dict[str, NDArray[np.uint8]]] = defaultdict(dict)
        for rows in batches:
            for key, part in _by_key(rows):
                is_sum = part.column("metric").is_null()
                lines = part.filter(is_sum)
                values = lines.column("sums").flatten().to_numpy().reshape(len(lines), 1 + self.replicates)
                add_rows(sums[key], lines.column("line").to_numpy(), values)
                for row in part.filter(pc.invert(is_sum)).select(["metric", "items"]).to_pylist():
                    bits = np.frombuffer(row["items"], dtype=np.uint8)
                    named[key][row["metric"]] = named[key].get(row["metric"], bits) | bits
        for key, total in sums.items():
            metrics = {**self.judge.metrics(total), NUM_JUDGED: total[JUDGED], NUM_LEFT_OUT: total[LEFT_OUT]}
            metrics |= {metric: self._share(bits) for metric, bits in named[key].items()}
            resampled = lists(np.stack(list(metrics.values())))
            yield _record_batch(MERGED, key, len(metrics), metric=pa.array(list(metrics)), resampled=resampled)

    def _share(self, bits: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(1 + replicates,): the share of all items that the bitmap names. What resamples would name is not known."""
        share = np.full(1 + self.replicates, np.nan)
        share[0] = np.unpackbits(bits)[FIRST_INDEX:].sum() / max(1, self.num_items - FIRST_INDEX)
        return share

    def _nothing(self) -> Sums:
        return np.zeros((self.judge.num_sums, 1 + self.replicates))


def rows_to_fit(batches: Iterable[pa.RecordBatch], label: str, numbers: Numbers) -> Iterator[pa.RecordBatch]:
    """Rows with features, scalars and a binary label → ROWS_TO_FIT: what a logistic regression is fitted on."""
    for rows in batches:
        batch: Batch[Tensor] = to_batch(rows, [label]).map(torch.tensor)
        with torch.inference_mode():
            features = numbers(batch).double().numpy()
        columns = {"features": lists(features), "label": pa.array(batch.labels[label].double().numpy())}
        yield pa.RecordBatch.from_pydict(columns)


def _by_key(rows: pa.RecordBatch) -> Iterator[tuple[Key, pa.RecordBatch]]:
    names = ["split", "segment", "scorer"]
    for key in pa.Table.from_batches([rows.select(names)]).group_by(names).aggregate([]).to_pylist():
        equal = [pc.equal(rows.column(name), key[name]) for name in names]
        yield (key["split"], key["segment"], key["scorer"]), rows.filter(pc.and_(pc.and_(equal[0], equal[1]), equal[2]))


def _record_batch(ddl: str, key: Key, num_rows: int, **columns: pa.Array) -> pa.RecordBatch:
    """The columns that `ddl` names, in its order; null where none is given."""
    given = {name: pa.repeat(value, num_rows) for name, value in zip(("split", "segment", "scorer"), key, strict=True)} | columns
    fields = [field.split() for field in ddl.split(", ")]
    nothing = {name: pa.nulls(num_rows, _TYPES[kind]) for name, kind in fields if name not in given}
    return pa.RecordBatch.from_pydict({name: given.get(name, nothing.get(name)) for name, _ in fields})


_TYPES = {"int": pa.int32(), "string": pa.string(), "binary": pa.binary(), "array<double>": pa.list_(pa.float64())}
