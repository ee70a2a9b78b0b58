"""What ranks tell the driver, through the plan's folder, which all of them see."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foretaste import errors
from foretaste.errors import ForetasteError, TrainingError
from foretaste.training.checkpoints import write
from foretaste.training.plan import Fitted
from foretaste.training.stalls import CAUSES

LINES = "ranks.lines"  # what rank 0 reports
OUTPUT = "ranks.log"  # what else ranks print
FITTED = "fitted.json"  # rank 0's result
TAIL_EVERY_S = 0.3
_LAST_BYTES = 1 << 16
_ERROR = re.compile(r"^(?:\[\d+\]<stderr>:)?((?:\w+\.)*\w+(?:Error|Exception): .+)", re.MULTILINE)


def clear(folder: Path) -> None:
    """Forgets what earlier ranks said."""
    for stale in (*folder.glob("error-*.json"), *folder.glob("stall-*.json"), *(folder / name for name in (LINES, OUTPUT, FITTED))):
        stale.unlink(missing_ok=True)


def write_fault(folder: Path, error: Exception, rank: int) -> None:
    """Leaves the error of a rank, so that the driver can raise it as it is."""
    if isinstance(error, ForetasteError):
        fault = {"kind": type(error).__name__, "what": error.what, "where": error.where, "fix": error.fix}
    else:
        what = f"rank {rank} failed: {type(error).__name__}: {one_line(error)}".rstrip(": ")
        fault = {"kind": "TrainingError", "what": what, "where": f"rank {rank}", "fix": f"Read {folder / OUTPUT}."}
    write(folder / f"error-{rank:04d}.json", json.dumps(fault).encode())


def raise_fault(folder: Path) -> None:
    """Raises what a rank said of itself, if one did: the first rank's."""
    for path in sorted(folder.glob("error-*.json"))[:1]:
        fault = json.loads(path.read_text(encoding="utf-8"))
        raise getattr(errors, fault["kind"])(fault["what"], where=fault["where"], fix=fault["fix"])


def write_stall(folder: Path, rank: int, what: str, seconds: float) -> None:
    """Leaves word of a rank that ends itself, since it has done nothing but `what` (one of stalls.CAUSES) for so long."""
    said = f"rank {rank} on {socket.gethostname()} {what} for {seconds:.0f} s; likely {CAUSES[what]}"
    write(folder / f"stall-{list(CAUSES).index(what)}-{rank:04d}.json", json.dumps(said).encode())


def read_stall(folder: Path) -> str:
    """What a rank said that ended itself: first of those that did not just wait for others."""
    paths = sorted(folder.glob("stall-*.json"))
    return str(json.loads(paths[0].read_text(encoding="utf-8"))) if paths else ""


def read_fitted(folder: Path) -> Fitted:
    """Rank 0's result; TrainingError where it is not to be seen from here."""
    path = folder / FITTED
    if not path.is_file():
        raise TrainingError(
            "the ranks ended well, but what they wrote is not here",
            where=str(folder),
            fix="Set warehouse.path to a folder that the driver and all workers share.",
        )
    return Fitted.from_json(path.read_text(encoding="utf-8"))


def last_words(folder: Path) -> str:
    """The last error that a rank printed, where it is more than that another one was gone."""
    path = folder / OUTPUT
    if not path.exists():
        return ""
    with path.open("rb") as output:
        output.seek(max(0, path.stat().st_size - _LAST_BYTES))
        found = [line for line in _ERROR.findall(output.read().decode(errors="replace")) if "HorovodInternalError" not in line]
    return found[-1][:300].rstrip(". ") if found else ""


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


@contextmanager
def relayed(folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Reports each line that rank 0 adds to LINES while the body runs."""
    path, ended = folder / LINES, threading.Event()

    def tail() -> None:
        shown, last = 0, False
        while not last:
            last = ended.wait(TAIL_EVERY_S)  # once more after the end
            lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
            for line in lines[shown:]:
                report(line)
            shown = len(lines)

    watcher = threading.Thread(target=tail, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
