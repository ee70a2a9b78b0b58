"""Kills processes of a running pipeline at random moments, and looks what becomes of its tables.

PYTHONPATH=lib python -m tests.cluster.faults --kills 100 --seed 1 --out faults.json

Every step runs as its job, by spark-submit, on a standalone master with two workers and two Horovod ranks that this starts on 127.0.0.1.
SIGKILL goes to the driver (its JVM, its Python, or both), an executor, a worker with its executors, a Python worker of Spark's, or a rank;
`--kind rank --last train` to ranks alone.
A job that ends for it is run again. After each kill all tables are read: each is as it was before the step, or as the undisturbed run left
it after the step, and nothing else. After the last step all tables are compared with the undisturbed run's, row for row.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute as pc
import typer
from deltalake import DeltaTable

from tests.cluster.clicks import environment, rows_of, submitted, write_clicks
from tests.cluster.cluster import Cluster, standalone_cluster

STEPS = ("ingest", "sessionize", "sequence", "train", "evaluate", "score")
KINDS = ("driver", "executor", "worker", "Python worker", "rank")
TABLES = ("events", "events_quarantine", "sessions", "vocabulary", "sequences", "metrics", "scores")
OF_A_RUN = ("run_at", "scored_at", "model_version", "data_version", "low", "high")
"""Columns that tell of a run: when it ran, which versions it found; and bounds of intervals, which go with the values."""

JOB_S = 400.0
TIMES_OUT = ("training.start_timeout=60s", "training.stall_timeout=60s")
INTERPRETED = ("spark.sql.codegen.wholeStage=false", "spark.sql.codegen.factoryMode=NO_CODEGEN")  # nor worth writing code for


Rows = dict[str, str] | None
"""Of a table each row as JSON by its key, and how often it is there; None of one that is not there, or has no rows yet."""


def contents(warehouse: Path) -> dict[str, Rows]:
    """Each table's rows."""
    return {name: _content(warehouse / name) for name in TABLES}


def _content(table: Path) -> Rows:
    if not DeltaTable.is_deltatable(str(table)) or not DeltaTable(str(table)).file_uris():
        return None
    rows = rows_of(table)
    if "run_at" in rows.column_names:  # metrics keep all runs: the last one is what a rerun is to equal
        rows = rows.filter(pc.equal(rows["run_at"], pc.max(rows["run_at"])))
    kept = rows.select([name for name in rows.column_names if name not in OF_A_RUN])
    counted = Counter(json.dumps(row, default=str, sort_keys=True) for row in kept.to_pylist())
    return {f"{row} x {count}": row for row, count in counted.items()}


def same(table: str, one: Rows, other: Rows) -> bool:
    """Row for row; of what comes of training as near as two ranks' sums in another order are: the same users, each once, with a best score
    that is not further than NEAR from the other's, and metrics (without p-values) that are not.
    """
    if one is None or other is None or one == other:
        return one == other
    if table not in NUMBERS:
        return False
    key, number = NUMBERS[table]
    told, seen = [_numbers([json.loads(row) for row in rows.values()], key, number) for rows in (one, other)]
    return told.keys() == seen.keys() and all(abs(value - seen[name]) <= NEAR or value != value for name, value in told.items())


NEAR = 0.005
NUMBERS: dict[str, tuple[Callable[[dict[str, Any]], str], Callable[[dict[str, Any]], float]]] = {
    "metrics": (lambda row: " ".join(str(row[name]) for name in ("task", "model", "split", "segment", "metric")), lambda row: row["value"]),
    "scores": (lambda row: f"{row['as_of']} {row['task']} {row['user_id']} {row['fallback']}", lambda row: row["targets"][0]["score"]),
}


def _numbers(
    rows: Sequence[dict[str, Any]], key: Callable[[dict[str, Any]], str], number: Callable[[dict[str, Any]], float]
) -> dict[str, float]:
    told = [row for row in rows if not str(row.get("metric", "")).startswith("p_value")]
    return {f"{key(row)} of {len(told)}": number(row) for row in told}


def _difference(wanted: Rows, seen: Rows) -> str:
    missing, more = [sorted((one or {}).keys() - (other or {}).keys()) for one, other in ((wanted, seen), (seen, wanted))]
    return f"{len(missing)} missing, such as {''.join(missing[:1])[:300]}; {len(more)} more, such as {''.join(more[:1])[:300]}"


@dataclass
class Tally:
    """What came of the kills. half: tables seen in a state between before and after; differing: tables that ended otherwise"""

    kills: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    rerun: int = 0
    half: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    rounds: int = 0
    looks: int = 0

    @property
    def total(self) -> int:
        return sum(self.kills.values())


Report = Callable[[str], None]


class Faults:
    """Runs the steps on a cluster, and kills."""

    def __init__(
        self, cluster: Cluster, folder: Path, seed: int, report: Report, steps: Sequence[str] = STEPS, kinds: Sequence[str] = KINDS
    ) -> None:
        self.cluster, self.folder, self.report, self.steps, self.kinds = cluster, folder, report, steps, kinds
        self.choose = random.Random(seed)
        self.clicks = folder / "clicks.txt"
        write_clicks(self.clicks)
        self.after: dict[str, dict[str, Rows]] = {}
        self.seconds: dict[str, float] = {}
        self.tally = Tally()

    def undisturbed(self) -> None:
        """Runs all steps once, and keeps what the tables were after each, and how long it took."""
        place = self.folder / "undisturbed"
        place.mkdir()
        for step in self.steps:
            started = time.monotonic()
            code = self._start(step, place).wait(timeout=JOB_S)
            if code:
                raise RuntimeError(f"{step} failed without any fault: {self._tail(place, step)}")
            self.seconds[step] = time.monotonic() - started
            self.after[step] = contents(place / "warehouse")
            self.report(f"undisturbed: {step} took {self.seconds[step]:.0f} s")

    def round(self, kills: int, most_a_step: int = 3) -> None:
        """A warehouse from nothing, with up to `kills` kills, and at most so many in a step; and the comparison at its end."""
        self.tally.rounds += 1
        place = self.folder / f"round-{self.tally.rounds}"
        place.mkdir()
        before: dict[str, Rows] = dict.fromkeys(TABLES)
        until = self.tally.total + kills
        for step in self.steps:
            left = most_a_step
            while True:
                kills_here = min(left, until - self.tally.total)
                ended_well, struck = self._attempt(step, place, kills_here)
                left -= struck
                self._look(place, step, before)
                self.cluster.mend()
                if ended_well:
                    self.tally.recovered += bool(struck)
                    break
                self.tally.rerun += 1
            before = self.after[step]
        now = contents(place / "warehouse")
        for name in TABLES:
            if not same(name, before[name], now[name]):
                self.tally.differing.append(f"{name} in round {self.tally.rounds}")
                self.report(f"{self.tally.differing[-1]}: {_difference(before[name], now[name])}")
        shutil.rmtree(place)

    def _attempt(self, step: str, place: Path, kills: int) -> tuple[bool, int]:
        """Runs a step, with at most so many kills, until it ends: whether it ended well, and how many there were."""
        job = self._start(step, place)
        struck: list[str] = []
        until = time.monotonic() + JOB_S
        strikes_at = time.monotonic() + self.choose.uniform(0.15, 1.0) * self.seconds[step]
        while job.poll() is None and time.monotonic() < until:
            if len(struck) < kills and time.monotonic() > strikes_at:
                what = self._strike(job)
                if what is not None:
                    struck.append(what)
                    self.tally.kills[f"{what} in {step}"] += 1
                    self.cluster.mend()
                pause = self.choose.uniform(0.1, 0.7) if what is not None else 0.02  # none was there: soon again
                strikes_at = time.monotonic() + pause * self.seconds[step]
            time.sleep(0.02)
        code = job.poll()
        if code is None:
            self.tally.differing.append(f"{step} hung after {' and '.join(struck)}")
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)  # what a killed driver left behind
        job.wait()
        if code and not struck:
            raise RuntimeError(f"{step} failed and nothing had been killed: {self._tail(place, step)}")
        if struck:
            self.report(f"kill {self.tally.total}: {', '.join(struck)} in {step}, the job ended with {code}")
        return code == 0, len(struck)

    def _start(self, step: str, place: Path) -> subprocess.Popen[bytes]:
        with (place / f"{step}.log").open("ab") as log:
            return subprocess.Popen(
                submitted(self.cluster, step, place / "warehouse", self.clicks, *INTERPRETED, *TIMES_OUT),
                env={**environment(), "MLFLOW_TRACKING_URI": "off"},
                cwd=place,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _strike(self, job: subprocess.Popen[bytes]) -> str | None:
        """Kills something at random of what there is; what it was."""
        own = _tree(job.pid)
        jvms = [pid for pid, line in own.items() if "org.apache.spark.deploy.SparkSubmit" in line]
        pythons = [pid for pid, line in own.items() if "jobs/" in line and pid not in jvms]
        of_workers = {pid: line for worker in self.cluster.workers for pid, line in _tree(worker.pid).items()}
        executors = [pid for pid, line in of_workers.items() if "CoarseGrainedExecutorBackend" in line]
        ranks = [pid for pid, line in of_workers.items() if "horovod.spark" in line and "python" in line.split()[0]]
        daemons = [pid for pid, line in of_workers.items() if "pyspark.daemon" in line]
        targets: dict[str, list[list[int]]] = {
            "driver": [each for each in (jvms, pythons, [*jvms, *pythons]) if each],
            "executor": [[pid] for pid in executors],
            "worker": [
                [worker.pid, *(pid for pid, line in _tree(worker.pid).items() if "Executor" in line)] for worker in self.cluster.workers
            ],
            "rank": [[pid] for pid in ranks],
            "Python worker": [[pid] for pid in daemons],
        }
        there = sorted(name for name, choices in targets.items() if choices and name in self.kinds)
        if not there:
            return None
        name = self.choose.choice(there)
        killed = []
        for pid in self.choose.choice(targets[name]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        for worker in self.cluster.workers:
            if worker.pid in killed:
                worker.wait()  # else it may still count as alive when the cluster is mended
        return name if killed else None

    def _look(self, place: Path, step: str, before: dict[str, Rows]) -> None:
        """Each table is as before the step or as after it."""
        self.tally.looks += 1
        for name, seen in contents(place / "warehouse").items():
            if not any(same(name, state, seen) for state in (before[name], self.after[step][name])):
                self.tally.half.append(f"{name} with {len(seen or ())} rows in {step}")
                self.report(f"{self.tally.half[-1]}: {_difference(self.after[step][name], seen)}")

    def _tail(self, place: Path, step: str) -> str:
        return (place / f"{step}.log").read_text(errors="replace")[-1500:]


def _tree(root: int) -> dict[int, str]:
    """The process and all below it, with their command lines."""
    found: dict[int, str] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += [int(child) for child in (thread / "children").read_text().split()]
        except OSError:
            continue
    return {pid: line for pid, line in found.items() if line}


def main(
    kills: Annotated[int, typer.Option(help="in all")] = 100,
    seed: Annotated[int, typer.Option()] = 1,
    a_step: Annotated[int, typer.Option(help="kills of a step in a round, at most")] = 3,
    last: Annotated[str, typer.Option(help="the step that a round ends with")] = STEPS[-1],
    kind: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(KINDS)}; may be repeated; all, unless given")] = None,
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    """Kills so often, over rounds of all steps."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the cluster ends with it
    with tempfile.TemporaryDirectory(prefix="foretaste-faults-") as folder, standalone_cluster(workers=2) as cluster:
        steps = STEPS[: STEPS.index(last) + 1]
        faults = Faults(cluster, Path(folder), seed, lambda line: print(line, flush=True), steps, kind or KINDS)
        faults.undisturbed()
        while faults.tally.total < kills:
            faults.round(kills - faults.tally.total, a_step)
            told = faults.tally
            print(
                f"round {told.rounds}: {told.total} kills, {told.recovered} jobs went on by themselves, {told.rerun} were run again, "
                f"{told.looks} looks at {len(TABLES)} tables, {len(told.half)} half written, {len(told.differing)} different at the end",
                flush=True,
            )
        told = faults.tally
    for what, count in sorted(told.kills.items()):
        print(f"{count:4} {what}")
    print(f"half written: {told.half or 'none'}; different: {told.differing or 'none'}")
    if out is not None:
        figures = {"seed": seed, "kills": dict(told.kills), "recovered": told.recovered, "rerun": told.rerun, "looks": told.looks}
        out.write_text(json.dumps(figures | {"half": told.half, "different": told.differing}, indent=1))
    if told.half or told.differing:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
