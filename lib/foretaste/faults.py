"""What Spark and Delta say when something broke, in one line: what, where, and how to mend it."""

import re

_TELLS_CONTENT = ("Pars", "Upgrade", "DateTime")  # errors of these names quote the data, and with it perhaps a user id
_FILE = re.compile(r"(?:file:|s3a?:|abfss?:|gs:|dbfs:|hdfs:)?/[^\s:,)]+")
_RESTORE = "RESTORE TABLE … TO VERSION AS OF … brings an earlier version back; then run the job again."

_KNOWN: tuple[tuple[str, str, str], ...] = (
    (r"No space left on device|File too large|Disk quota exceeded", "the disk is full", "Make room; nothing of the run is visible."),
    (
        r"UnsatisfiedLinkError: no \w+ in java\.library\.path",  # Spark's JARs bring libraries, which are unpacked there
        "the temporary folder's disk is full, or it may not be written",
        "Make room there, or name another by JAVA_TOOL_OPTIONS=-Djava.io.tmpdir=…; nothing of the run is visible.",
    ),
    (
        r"ChecksumException|is not a Parquet file|[Cc]ould not read footer|CANNOT_READ_FILE_FOOTER|FAILED_READ_FILE",
        "a file is cut short, or was changed",
        f"Bring it back from a copy, or let {_RESTORE}",
    ),
    (
        r"FileNotFoundException",
        "a file is gone",
        f"Run the job again, if VACUUM or jobs/erase.py ran beside it; else {_RESTORE}",
    ),
    (
        r"DELTA_VERSIONS_NOT_CONTIGUOUS|DELTA_LOG_FILE_NOT_FOUND|DELTA_STATE_RECOVER_ERROR|DELTA_TRUNCATED_TRANSACTION_LOG",
        "an entry of a table's log is missing",
        "Bring the table's _delta_log back from a copy, or remove the table and run the job that writes it.",
    ),
    (r"OutOfMemoryError|Java heap space|GC overhead", "Spark ran out of memory", "Raise spark.driver_memory, or spark.executor.memory."),
    (r"AccessControlException|Permission denied", "something may not be read or written", "Ask for the right, or set warehouse.path."),
    (
        r"NOT NULL constraint violated|CHECK constraint .* violated|DELTA_VIOLATE_CONSTRAINT|DELTA_NOT_NULL_CONSTRAINT",
        "rows break a constraint of the table",
        "Nothing was written. Please report it: a job should have put them into quarantine.",
    ),
)


def explained(error: BaseException) -> str:
    """One line for an error of Spark's or Delta's."""
    cause = root_cause(error)
    said = f"{cause} {error}"
    for sign, what, fix in _KNOWN:
        if re.search(sign, said):
            file = _FILE.search(cause) or (None if "file" not in what else _FILE.search(str(error)))
            where = f" ({file[0]})" if file else ""
            return f"{what}{where}. {fix}"
    return f"Spark stopped: {cause}. Add --debug for the trace."


def root_cause(error: BaseException) -> str:
    """The innermost reason that Java or Python gives, in one line, without the data it may quote."""
    cause = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if cause is None:
        return _one_line(type(error).__name__, str(error))
    while cause.getCause() is not None:
        cause = cause.getCause()
    return _one_line(str(cause.getClass().getSimpleName()), str(cause.getMessage()))


def _one_line(name: str, message: str) -> str:
    lines = [] if any(sign in name for sign in _TELLS_CONTENT) else message.splitlines()
    return f"{name}: {lines[0][:200].rstrip('.')}" if lines else name
