"""Between Spark's Arrow batches and numpy, whole columns at a time: no Python object is made for a row or an element."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foretaste.contract import FACTS, FEATURES, PAD, SCALARS, SERIES_FEATURES, Batch
from foretaste.errors import TableError

TARGETS = pa.list_(
    pa.struct([pa.field("target_id", pa.string()), pa.field("score", pa.float64()), pa.field("reasons", pa.list_(pa.string()))])
)
"""The Arrow type of the scores table's `targets`."""


def to_batch(rows: pa.RecordBatch, labels: Sequence[str] = ()) -> Batch[NDArray[np.int32]]:
    """The features and facts that `rows` has (others are not there), its scalars and these labels, as arrays that share Arrow's memory."""
    names = rows.schema.names
    return Batch(
        features={name: _array(rows, name) for name in dict.fromkeys((*FEATURES, *SERIES_FEATURES)) if name in names},
        labels={name: _array(rows, name) for name in labels},
        facts={name: _array(rows, name) for name in FACTS if name in names},
        **{name: _array(rows, name) for name in SCALARS},
    )


def _array(rows: pa.RecordBatch, name: str) -> NDArray[np.int32]:
    """(n,) of an int column; (n, T) of a column of int lists, which must all have the same length T."""
    column = rows.column(name)
    listed = pa.types.is_list(column.type)
    flat = column.flatten() if listed else column  # flatten minds the offset of a slice; null lists vanish in it
    if column.null_count or flat.null_count:
        raise TableError(f"the column {name} holds a null", where=name, fix="Write the table again.")
    numbers: NDArray[np.int32] = flat.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    if not listed:
        return numbers
    width = len(flat) // len(column) if len(column) else 0
    if not np.array_equal(np.diff(column.offsets.to_numpy()), np.full(len(column), width)):
        raise TableError(f"the lists of {name} differ in length", where=name, fix="Write the table again with one sequences.length.")
    matrix: NDArray[np.int32] = numbers.reshape(len(column), width)
    return matrix


def lists(rows: NDArray[Any], number: pa.DataType | None = None) -> pa.ListArray:
    """(n, R) → n lists of R numbers of that type; float64 unless given."""
    ends = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(rows.ravel(), number or pa.float64()))


def targets(
    ids: pa.Array, position: NDArray[np.int64], score: NDArray[np.float64], reasons: NDArray[np.object_] | None = None
) -> pa.ListArray:
    """(n, k) positions in `ids` and their (n, k) scores → n lists of at most k targets; PAD is no target.

    reasons: (n, k' ≤ k, r) texts, None where there are fewer: those of the first targets; others have none
    """
    there = position != PAD
    ends = np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.int32)
    each = [ids.take(pa.array(position[there])), pa.array(score[there], pa.float64()), _listed(there, reasons)]
    structs = pa.StructArray.from_arrays(each, fields=list(TARGETS.value_type))
    return pa.ListArray.from_arrays(pa.array(ends), structs)


def _listed(there: NDArray[np.bool_], reasons: NDArray[np.object_] | None) -> pa.ListArray:
    """A list of texts for each target that is there, row by row."""
    texts = np.full((*there.shape, 0 if reasons is None else reasons.shape[2]), None, dtype=object)
    if reasons is not None:
        texts[:, : reasons.shape[1]] = reasons
    of_targets = texts[there]  # (targets, r)
    given = of_targets != None  # noqa: E711 - element by element
    ends = np.concatenate([[0], np.cumsum(given.sum(1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(of_targets[given].tolist(), pa.string()))
