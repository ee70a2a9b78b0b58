"""Looks for ids in all files below a folder, whatever they are: what a table's newest version does not show may still lie there."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs
from pyspark.sql import SparkSession

LONG = 6
"""Characters from which on an id is looked for in all texts; a shorter one, such as 7, only where it stands as a user's."""

BEFORE, AFTER = r"(?:^|[^A-Za-z0-9]|\\[bfnrt]|\\u[0-9A-Fa-f]{4})", r"(?:$|[^A-Za-z0-9])"
"""What may stand around an id in a text (an escaped sign before it, too): in customer-12, customer-1 is not. For Python, RE2 and Java."""

_USERS = ("user_id", "pseudonym")


@dataclass(frozen=True, kw_only=True)
class Found:
    """files, num_bytes: looked at; where: those in which an id is"""

    files: int
    num_bytes: int
    where: tuple[str, ...]


def search(spark: SparkSession, roots: Sequence[str], ids: Sequence[str]) -> Found:
    """Looks for the ids in the bytes of all files below the folders, and in the texts of all Parquet files among them.

    The files are shared out over Spark's tasks. roots: paths or URLs that every machine sees
    """
    paths = sorted({path for root in roots for path in _files(root)})
    if not paths:
        return Found(files=0, num_bytes=0, where=())
    wanted = tuple(ids)

    def look(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            seen = [_look(path, wanted) for path in batch["path"]]
            yield pd.DataFrame({"path": batch["path"], "bytes": [size for size, _ in seen], "found": [found for _, found in seen]})

    tasks = min(len(paths), 8 * spark.sparkContext.defaultParallelism)
    rows = spark.createDataFrame([(path,) for path in paths], "path string").repartition(tasks)
    looked = rows.mapInPandas(look, "path string, bytes bigint, found boolean").collect()
    return Found(
        files=len(looked), num_bytes=sum(row.bytes for row in looked), where=tuple(sorted(row.path for row in looked if row.found))
    )


def _files(root: str) -> list[str]:
    system, path = _system(root)
    if system.get_file_info(path).type == fs.FileType.NotFound:
        return []
    told = system.get_file_info(fs.FileSelector(path, recursive=True))
    start = root[: len(root) - len(path)] if root.endswith(path) else ""
    return [start + each.path for each in told if each.type == fs.FileType.File]


def _system(path: str) -> tuple[fs.FileSystem, str]:
    return fs.FileSystem.from_uri(path) if "://" in path else (fs.LocalFileSystem(), path)


def _look(path: str, ids: Sequence[str]) -> tuple[int, bool]:
    """Its size, and whether one of the ids is in it. A file that is gone by now holds nothing."""
    system, inside = _system(path)
    try:
        with system.open_input_file(inside) as file:
            data = file.readall()
    except FileNotFoundError:
        return 0, False
    long, short = _marks(ids)
    held = [each for each in long if each.encode() in data]
    is_parquet = data[:4] == data[-4:] == b"PAR1"
    if is_parquet or b"\0" not in data:  # in a file of another kind, what is beside a text may look like a letter and be none
        held = [each for each in held if re.search(f"{BEFORE}{re.escape(each)}{AFTER}".encode(), data)]
    found = bool(held) or any(each.encode() in data for each in short)
    return len(data), found or (is_parquet and _in_parquet(data, ids))


def _marks(ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """What tells of an id in a text: itself, or, where it is short, as JSON has it beside its name."""
    short = [f"{name}{quote}:{quote}{each}{quote}" for each in ids if len(each) < LONG for name in _USERS for quote in ('"', '\\"')]
    return [each for each in ids if len(each) >= LONG], short


def _in_parquet(data: bytes, ids: Sequence[str]) -> bool:
    """Whether an id is in a text of a Parquet file, which may be compressed: a group of rows at a time."""
    file = pq.ParquetFile(pa.BufferReader(data))
    for number in range(file.num_row_groups):
        group = file.read_row_group(number)
        for name, column in zip(group.column_names, group.columns, strict=True):
            if any(_in_texts(field, texts, ids) for chunk in column.chunks for field, texts in _leaves(name, chunk)):
                return True
    return False


def _leaves(name: str, values: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """All texts inside of `values`, each with the name of the innermost field that holds them."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield name, values
    elif pa.types.is_dictionary(kind):
        yield from _leaves(name, values.dictionary)
    elif pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _leaves(kind.field(number).name, values.field(number))
    elif pa.types.is_map(kind):
        yield from _leaves(name, values.keys)
        yield from _leaves(name, values.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(name, values.flatten())


def _in_texts(name: str, texts: pa.Array, ids: Sequence[str]) -> bool:
    asked = [each for each in ids if len(each) >= LONG or name in _USERS]
    if asked and pc.any(pc.is_in(texts, value_set=pa.array(asked, texts.type))).as_py():
        return True
    any_long, any_short = ("|".join(map(re.escape, marks)) for marks in _marks(ids))
    pattern = "|".join(part for part in (any_long and f"{BEFORE}(?:{any_long}){AFTER}", any_short) if part)
    return bool(pattern) and bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())
