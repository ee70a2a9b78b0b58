"""Row groups → arrays, for several threads. pyarrow and numpy only."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from foretaste.errors import FeedError
from foretaste.feed.order import Order, Read
from foretaste.feed.snapshot import Pin, open_parquet, unreadable

POSITION = "_position"
"""A column that no file has: the row's number in the pin. It goes the way of all others, so that an audit sees what training sees."""

Columns = dict[str, NDArray[Any]]
Loaded = tuple[Columns, NDArray[np.int64]]
"""A row group: its columns, and the order in which its rows are taken."""

_ROWS_AHEAD = 16384  # rows that threads may have read ahead, in whole row groups …
_MOST_GROUPS_AHEAD = 16  # … at most so many
_FILES_OPEN = 64  # in each thread


class RowGroups:
    """Reads one row group after another into arrays, from several threads."""

    def __init__(self, pin: Pin, order: Order, reads: Sequence[Read], columns: Sequence[str]) -> None:
        self.pin, self.order, self.reads = pin, order, reads
        self.columns = [name for name in dict.fromkeys(columns) if name != POSITION]
        self._with_position = POSITION in columns
        self._widths: dict[str, int] = {}
        self._lock = threading.Lock()
        self._files: dict[int, OrderedDict[str, pq.ParquetFile]] = {}  # by thread

    @property
    def first_url(self) -> str:
        return self.pin.files[int(self.order.file[self.reads[0].place])][0]

    @property
    def groups_ahead(self) -> int:
        """How many row groups may be read ahead: a few, and fewer of large ones."""
        return max(2, min(_MOST_GROUPS_AHEAD, _ROWS_AHEAD // int(self.order.rows.max())))

    def load(self, number: int) -> Loaded | FeedError:
        """Read number `number`: column → (rows,) or (rows, T). Errors are handed over, so that no thread dies with a stack trace."""
        place = self.reads[number].place
        url = self.pin.files[int(self.order.file[place])][0]
        group, rows, first_row = int(self.order.group[place]), int(self.order.rows[place]), int(self.order.first_row[place])
        try:
            file = self._open(url)
            if group >= file.num_row_groups or file.metadata.row_group(group).num_rows != rows:
                raise FeedError(
                    "a file of the pinned version has changed since", where=url, fix="Write sequences again and train on the new version."
                )
            table = file.read_row_group(group, columns=self.columns, use_threads=False)
            arrays = {name: self._matrix(name, table.column(name), url) for name in self.columns}
        except FeedError as error:
            return error
        except (pa.ArrowException, OSError) as error:
            return unreadable(url, error)
        if self._with_position:
            arrays[POSITION] = np.arange(first_row, first_row + rows)
        return arrays, self.order.permutation(place)

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

    def _matrix(self, name: str, column: pa.ChunkedArray, url: str) -> NDArray[Any]:
        """(rows,) of a number, (rows, T) of a list of numbers: a view of Arrow's own memory."""
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
            _check_no_null(array, name, url)
            numbers: NDArray[Any] = array.to_numpy()
            return numbers
        values = array.flatten()
        _check_no_null(array, name, url)
        _check_no_null(values, name, url)
        width = len(values) // len(array)
        with self._lock:
            expected = self._widths.setdefault(name, width)
        ends = array.offsets.to_numpy()
        if width != expected or not (np.diff(ends) == width).all():
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
