"""Tables of lists, as models/counted.py reads them: flat columns, and where each list begins and ends. numpy only."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Tables = dict[str, NDArray[Any]]
"""Buffer name → values, as the model of that name has them."""


def offsets(owner: NDArray[np.integer[Any]], num_lists: int) -> NDArray[np.int64]:
    """(num_lists + 1,): list i is [offset[i], offset[i + 1]) of columns that are sorted by `owner`."""
    table: NDArray[np.int64] = np.zeros(num_lists + 1, dtype=np.int64)
    table[1:] = np.cumsum(np.bincount(owner, minlength=num_lists))
    return table


def distinct(row: NDArray[np.int64], item: NDArray[np.int64], num_items: int) -> NDArray[np.int64]:
    """Where each (row, item) comes for the last time; rising by row, then by item. row: (n,) rising, item: (n,)"""
    key = (row * num_items + item)[::-1]
    last: NDArray[np.int64] = len(key) - 1 - np.unique(key, return_index=True)[1]
    return last


def matrix(rows: pa.RecordBatch, name: str) -> NDArray[np.int32]:
    """(B, T) of a column of lists that all have the length T."""
    column = rows.column(name)
    numbers: NDArray[np.int32] = column.flatten().to_numpy(zero_copy_only=False)  # flatten minds the offset of a slice
    return numbers.reshape(len(column), -1)
