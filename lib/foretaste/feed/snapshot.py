"""A pinned version of `sequences`: which Parquet files hold it, and how many rows each of their row groups has. No Spark, no torch."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from foretaste.errors import FeedError

FILE_GONE = (
    "VACUUM or a person removed it, or this machine does not see its file system: "
    "train again on the newest version, restore the file, or keep the warehouse where all workers see it."
)
FOOTERS = "url string, groups array<bigint>, what string, fix string"
"""The columns that `footers` gives, as Spark names them."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Exactly the rows of one version of a table, for one split and cut (or several splits, see `joined`).

    table:    the table's name, for messages
    version:  the Delta version
    split:    train, valid or test
    cut:      window, calendar or event; None for any
    num_rows: rows in all files
    files:    (URL, rows of each of its row groups), in a fixed order
    """

    table: str
    version: int
    split: str
    cut: str | None
    num_rows: int
    files: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def where(self) -> str:
        """How an error names it."""
        return f"{self.table} version {self.version}, split {self.split}, {f'cut {self.cut}' if self.cut else 'any cut'}"

    @property
    def num_row_groups(self) -> int:
        return sum(1 for _, groups in self.files for rows in groups if rows)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Pin":
        fields = json.loads(text)
        fields["files"] = tuple((url, tuple(groups)) for url, groups in fields["files"])
        return cls(**fields)


def joined(*pins: Pin) -> Pin:
    """The rows of all these pins of one version and cut."""
    first = pins[0]
    if {(pin.table, pin.version, pin.cut) for pin in pins} != {(first.table, first.version, first.cut)}:
        raise FeedError("pins of different versions or cuts cannot be joined", where=first.where, fix="Pin them at one version.")
    return dataclasses.replace(
        first,
        split=" + ".join(pin.split for pin in pins),
        num_rows=sum(pin.num_rows for pin in pins),
        files=tuple(file for pin in pins for file in pin.files),
    )


def beside(real: Pin, written: Pin, rows: int) -> Pin:
    """The rows of `real`, and of another table that is laid out alike as many whole files as it takes for so many rows.

    FeedError where it has fewer.
    """
    files, taken = [], 0
    for file in written.files:
        if taken < rows:
            files.append(file)
            taken += sum(file[1])
    if taken < rows:
        raise FeedError(f"there are {taken:,} rows, and {rows:,} are asked for", where=written.where, fix="Write more of them.")
    return dataclasses.replace(real, split=f"{real.split} + {written.split}", num_rows=real.num_rows + taken, files=(*real.files, *files))


def divided(pin: Pin, every: int) -> tuple[Pin, Pin]:
    """All rows but those of each `every`-th file, and those. No user has rows in both: see tables/sequences.py.

    FeedError where there is but one file.
    """
    apart = pin.files[::every]
    rest = tuple(file for place, file in enumerate(pin.files) if place % every)
    if not rest:
        raise FeedError("all rows lie in one file, so none can be set apart", where=pin.where, fix="Validate on more users.")
    parts = ((rest, "most of"), (apart, "the rest of"))
    most, least = (
        dataclasses.replace(pin, split=f"{name} {pin.split}", files=files, num_rows=sum(sum(groups) for _, groups in files))
        for files, name in parts
    )
    return most, least


def open_parquet(url: str) -> pq.ParquetFile:
    """The file at `url`, its footer read; FeedError if it is gone or cut short."""
    filesystem, path = filesystem_of(url)
    is_remote = not isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    try:
        return pq.ParquetFile(path, filesystem=filesystem, pre_buffer=is_remote)
    except FileNotFoundError as error:
        raise FeedError("a file of the pinned version is gone", where=url, fix=FILE_GONE) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise unreadable(url, error) from error


def unreadable(url: str, reason: object) -> FeedError:
    """The error for a file that is there but not whole."""
    reason = " ".join(str(reason).split())[:200].rstrip(".")
    return FeedError(
        f"a file of the pinned version is cut short or unreadable: {reason}",
        where=url,
        fix="Restore the file, or write sequences again and train on the new version.",
    )


def row_groups_of(url: str) -> tuple[int, ...]:
    """The rows of each row group, from the file's footer."""
    with open_parquet(url) as file:
        return tuple(file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups))


def footers(urls: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    """`row_groups_of` each URL of a Spark task, for mapInArrow; an error is a row's `what` and `fix`."""
    for batch in urls:
        found = [_footer(url) for url in batch.column(0).to_pylist()]
        types = {"url": pa.string(), "groups": pa.list_(pa.int64()), "what": pa.string(), "fix": pa.string()}
        yield pa.RecordBatch.from_pylist(found, schema=pa.schema(types))


def _footer(url: str) -> dict[str, object]:
    try:
        return {"url": url, "groups": row_groups_of(url), "what": None, "fix": None}
    except FeedError as error:
        return {"url": url, "groups": None, "what": error.what, "fix": error.fix}


def filesystem_of(url: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system of a URL as Spark writes it (percent-encoded), and the path on it.

    Arrow's own file systems read without Python in the way; for schemes that it does not know, fsspec's are wrapped.
    """
    parts = urlsplit(url)
    scheme, path = parts.scheme or "file", unquote(parts.path)
    if scheme == "dbfs":  # Databricks mounts it
        scheme, path = "file", f"/dbfs{path}"
    filesystem, root = _filesystem({"s3a": "s3", "s3n": "s3"}.get(scheme, scheme), parts.netloc if scheme != "file" else "")
    return filesystem, root.rstrip("/") + path


@functools.cache
def _filesystem(scheme: str, netloc: str) -> tuple[pyarrow.fs.FileSystem, str]:
    root = f"{scheme}://{netloc}/"
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(root)
    except pa.ArrowInvalid:  # not one of Arrow's schemes
        try:
            wrapped, path = fsspec.core.url_to_fs(root)
        except (ImportError, ValueError) as error:
            raise FeedError(
                f"no library here reads {scheme}:// files", where=root, fix=f"Install the fsspec package for {scheme} on every worker."
            ) from error
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(wrapped)), path
    return filesystem, path
