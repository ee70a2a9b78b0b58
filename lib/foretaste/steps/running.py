"""Which jobs are at work in a warehouse: each says so in `<warehouse>/running`, as long as it lives.

Delta keeps readers and writers apart, but what VACUUM removes is gone for a job that still reads it, or that wrote it and did not commit
yet: jobs/erase.py waits for those that began before it, and those that begin later wait for it. A job that was killed stops touching its
file, and counts for nothing after STALE_S.
"""

import json
import math
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from foretaste.errors import TableError

FOLDER = "running"
ALONE = frozenset({"erase", "maintain"})
"""Steps that remove files: no job begins beside them."""

TOUCH_S = 20.0
STALE_S = 180.0


@dataclass(frozen=True, kw_only=True)
class JobAtWork:
    """steps: what it runs; since: when it began, UTC"""

    steps: tuple[str, ...]
    host: str
    process: int
    since: str
    path: str

    def __str__(self) -> str:
        return f"{' and '.join(self.steps)} on {self.host} (process {self.process}) since {self.since}"


@contextmanager
def announced(root: str, steps: Sequence[str], tell: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """While inside, other jobs of the warehouse at `root` see this one; it begins when none is left that removes files, and tells whom it
    waits for. Nothing happens where it is no folder.
    """
    if "://" in root:
        yield
        return
    path = _note(root, steps)
    while before := [job for job in at_work(root) if ALONE & {*job.steps} and job.path != str(path)]:
        path.unlink(missing_ok=True)  # so that the other does not wait for this one
        tell(f"waiting for {before[0]}")
        still_at_work(before, math.inf)
        time.sleep(random.uniform(0.0, 1.0))  # two that met try again, one after the other
        path = _note(root, steps)
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(TOUCH_S):
            with suppress(OSError):  # the next time, perhaps
                path.touch()

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        path.unlink(missing_ok=True)


def _note(root: str, steps: Sequence[str]) -> Path:
    path = Path(root) / FOLDER / f"{uuid.uuid4().hex}.json"
    about = {"steps": list(steps), "host": socket.gethostname(), "process": os.getpid(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(about), encoding="utf-8")
    except OSError as error:
        raise TableError(f"the job cannot say that it runs: {error.strerror}", where=str(path.parent), fix="Make room there.") from error
    return path


def at_work(root: str, but: Sequence[str] = ()) -> list[JobAtWork]:
    """The jobs that are at work in the warehouse at `root`, without those whose steps are all among `but`."""
    jobs = []
    now = _now(root)
    for path in sorted(Path(root).glob(f"{FOLDER}/*.json")):
        try:
            if now - path.stat().st_mtime > STALE_S:
                path.unlink(missing_ok=True)
                continue
            about = json.loads(path.read_text(encoding="utf-8"))
            job = JobAtWork(path=str(path), **{**about, "steps": tuple(about["steps"])})
        except (OSError, ValueError, TypeError):  # it ends, or begins, at this moment
            continue
        if not set(job.steps) <= set(but):
            jobs.append(job)
    return jobs


def still_at_work(jobs: Sequence[JobAtWork], seconds: float) -> list[JobAtWork]:
    """Waits until those jobs ended, at most so long; which of them have not."""
    until = time.monotonic() + seconds
    while True:
        left = [job for job in jobs if _lives(Path(job.path))]
        if not left or time.monotonic() >= until:
            return left
        time.sleep(min(1.0, max(0.0, until - time.monotonic())))


def _lives(path: Path) -> bool:
    try:
        return _now(str(path.parents[1])) - path.stat().st_mtime <= STALE_S
    except FileNotFoundError:
        return False


def _now(root: str) -> float:
    """By the clock that touches the files, which on a shared folder is not this machine's: clocks that differ kill nobody's job."""
    probe = Path(root) / FOLDER / f".{uuid.uuid4().hex}"
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:  # no job was ever announced here, or nobody may write
        return time.time()
    return now
