"""Files → row groups as arrays, for several threads. pyarrow and numpy only."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from foretaste.errors import FeedError
from foretaste.feed.blocks import Columns
from foretaste.feed.order import Order
from foretaste.feed.snapshot import Pin, open_parquet, unreadable

POSITION = "_position"
"""A column that no file has: the row's number in the pin. It goes the way of all others, so that an audit sees what training sees."""

_ROWS_AHEAD = 16384  # rows that threads may have read ahead, in whole row groups …
_MOST_GROUPS_AHEAD = 16  # … at most so many
_FILES_OPEN = 64  # in each thread


class RowGroups:
    """Reads one row group after another into arrays, from several threads."""

    def __init__(self, pin: Pin, order: Order, columns: Sequence[str]) -> None:
        self.pin, self.order = pin, order
        self.columns = [name for name in dict.fromkeys(columns) if name != POSITION]
        self._with_position = POSITION in columns
        self._widths: dict[str, int] = {}
        self._lock = threading.Lock()
        self._files: dict[int, OrderedDict[str, pq.ParquetFile]] = {}  # by thread

    @property
    def groups_ahead(self) -> int:
        """How many row groups may be read ahead: a few, and fewer of large ones."""
        return max(2, min(_MOST_GROUPS_AHEAD, _ROWS_AHEAD // int(self.order.rows.max())))

    def url(self, place: int) -> str:
        """The file of the row group at this place of the order."""
        return self.pin.files[int(self.order.file[place])][0]

    def load(self, place: int) -> Columns:
        """The row group at this place of the order: column → (rows,) or (rows, T), views of Arrow's memory.

        FeedError where its file is gone, cut short or another one, lacks a column, or has one that makes no matrix.
        """
        url, group = self.url(place), int(self.order.group[place])
        rows, first_row = int(self.order.rows[place]), int(self.order.first_row[place])
        try:
            file = self._open(url)
            if group >= file.num_row_groups or file.metadata.row_group(group).num_rows != rows:
                raise FeedError(
                    "a file of the pinned version has changed since", where=url, fix="Write sequences again and train on the new version."
                )
            table = file.read_row_group(group, columns=self.columns, use_threads=False)
            parts = table.to_batches()
            whole = parts[0] if len(parts) == 1 else table.combine_chunks().to_batches()[0]
            arrays = {name: self._matrix(name, array, url) for name, array in zip(whole.schema.names, whole.columns, strict=True)}
        except (pa.ArrowException, OSError) as error:
            raise unreadable(url, error) from error
        if self._with_position:
            arrays[POSITION] = np.arange(first_row, first_row + rows)
        return arrays

    def close(self) -> None:
        """Closes the files; only after the threads have ended."""
        for files in self._files.values():
            for file in files.values():
                file.close(force=True)
        self._files.clear()

    def _open(self, url: str) -> pq.ParquetFile:
        """The thread's own handle: a footer is read once, as long as the file is among the last few."""
        files = self._files.setdefault(threading.get_ident(), OrderedDict())
        if url in files:
            files.move_to_end(url)
        else:
            files[url] = file = open_parquet(url)
            missing = sorted(set(self.columns) - set(file.schema_arrow.names))
            if missing:
                raise FeedError(
                    f"a file of the table has no column {', '.join(missing)}",
                    where=url,
                    fix="Write sequences again, all of it: it is older.",
                )
            if len(files) > _FILES_OPEN:
                files.popitem(last=False)[1].close(force=True)
        return files[url]

    def _matrix(self, name: str, array: pa.Array, url: str) -> NDArray[Any]:
        """(rows,) of a number, (rows, T) of a list of numbers: a view of Arrow's own memory."""
        _check_no_null(array, name, url)
        if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
            numbers: NDArray[Any] = array.to_numpy()
            return numbers
        values = array.values  # the file's, so that they begin with the first row's
        _check_no_null(values, name, url)
        width = len(values) // len(array)
        with self._lock:
            expected = self._widths.setdefault(name, width)
        if width != expected or not np.array_equal(array.offsets.to_numpy(), _ends(len(array), width)):
            raise FeedError(
                f"the lists of column {name} are not all of one length",
                where=url,
                fix="Write sequences again, all of it: lists are padded.",
            )
        matrix: NDArray[Any] = values.to_numpy().reshape(len(array), width)
        return matrix


def _check_no_null(array: pa.Array, name: str, url: str) -> None:
    if array.null_count:
        raise FeedError(f"column {name} has nulls", where=url, fix="Write sequences again: its columns are filled.")


@lru_cache(maxsize=16)
def _ends(rows: int, width: int) -> NDArray[np.int64]:
    """Where lists of one length begin and end: (rows + 1,)."""
    return np.arange(rows + 1) * width
