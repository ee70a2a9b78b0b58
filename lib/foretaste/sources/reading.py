"""Faults of raw files, told as SourceErrors."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from foretaste.errors import SourceError
from foretaste.faults import root_cause

_NUM_NAMED = 20
HEADERS_DIFFER = "HEADERS_DIFFER"  # raised inside Spark, while the rows are read
_FIXES = {
    HEADERS_DIFFER: ("its files have the same columns in different orders", "Ingest each kind of file by itself."),
    "PATH_NOT_FOUND": (
        "there is no such file, or nothing matches the pattern",
        "Check the path; a relative one starts at the working directory.",
    ),
    "UNABLE_TO_INFER_SCHEMA": ("there is no data in it", "Point the path at files with rows."),
    "TIMESTAMP(NANOS": (
        "Spark cannot read times in nanoseconds",
        "Write them in microseconds (pandas: to_parquet(…, coerce_timestamps='us')).",
    ),
    "is not a Parquet file": ("it is not a Parquet file", "Set the format to the one that it has."),
}


@contextmanager
def faults_of(where: str) -> Iterator[None]:
    """Whatever Spark says inside against reading `where` becomes a SourceError of one line."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        said = str(error)
        for sign, (what, fix) in _FIXES.items():
            if sign in said:
                raise SourceError(what, where=where, fix=fix) from error
        raise SourceError(
            f"Spark cannot read it: {root_cause(error)}", where=where, fix="Check that the files are whole and in the format that is set."
        ) from error


def missing(wanted: Mapping[str, str], found: Sequence[str], where: str, key: str) -> SourceError:
    """For mapped columns that are not there. `wanted`: field → its mapped column, `key`: where the settings map them."""
    named = " and ".join(f"{column!r} ({key}.{field})" for field, column in wanted.items())
    close = [match for column in wanted.values() for match in difflib.get_close_matches(column, found, n=1, cutoff=0.5)]
    lower = {name.lower(): name for name in found}
    close = [lower[column.lower()] for column in wanted.values() if column.lower() in lower] or close
    listed = ", ".join(found[:_NUM_NAMED]) + (", …" if len(found) > _NUM_NAMED else "")
    hint = f"Did you mean {' and '.join(map(repr, dict.fromkeys(close)))}? " if close else ""
    return SourceError(f"there is no column {named}", where=where, fix=f"{hint}Found: {listed}.")
