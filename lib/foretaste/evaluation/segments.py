"""Groups of rows that are judged apart, too: by how much history a row has, and whether its user was there before the split. numpy only."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ALL = "all"
IS_RETURNING = "is_returning"
"""A column of the rows: whether the user has a row in an earlier split."""

_HISTORIES = {"history 1": (0, 1), "history 2-4": (2, 4), "history 5-19": (5, 19), "history 20+": (20, np.inf)}  # events, both ends in
SEGMENTS = (*_HISTORIES, "new users", "returning users")


def segments(rows: pa.RecordBatch) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Names, and which of the rows belong there, (B,). `rows` has `length`, and perhaps IS_RETURNING."""
    length = rows.column("length").to_numpy()
    for name, (least, most) in _HISTORIES.items():
        yield name, (length >= least) & (length <= most)
    if IS_RETURNING in rows.schema.names:
        returning = rows.column(IS_RETURNING).to_numpy(zero_copy_only=False).astype(bool)
        yield "new users", ~returning
        yield "returning users", returning
