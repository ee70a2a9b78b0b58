"""A real Spark standalone cluster on 127.0.0.1, or on hosts that a test made, for the length of a test."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyspark

SPARK_HOME = Path(pyspark.__file__).parent
START_SECONDS = 60
STOP_SECONDS = 10
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # of a JVM that lives for seconds: not worth compiling well
CLASSES = SPARK_HOME / "classes.jsa"  # the set-up made it; master, workers and drivers find it through spark-env.sh
QUICK_EXECUTOR = f"{QUICK} -XX:SharedArchiveFile={CLASSES} -Xlog:cds=off -Xlog:cds+dynamic=off" if CLASSES.exists() else QUICK


@dataclass(frozen=True)
class Host:
    """Where a process runs. prefix: the command that runs another one there"""

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


HERE = Host()


class Cluster:
    """A master and its workers. url: the master's spark://…; hosts: the master's, and the workers', who take turns"""

    def __init__(self, folder: str, cores: int, memory: str, properties: Path | None, hosts: Sequence[Host]) -> None:
        self.folder, self.cores, self.memory, self.hosts = folder, cores, memory, hosts
        self.log = Path(folder, "master.log")
        self.properties = ["--properties-file", str(properties)] if properties else []
        self.master = _start(hosts[0], "master.Master", ["--port", "0", *self.properties], self.log, folder)
        self.workers: list[subprocess.Popen[bytes]] = []
        self._started = 0

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        return [self.master, *self.workers]

    def await_master(self) -> None:
        self.url = _wait_for(r"Starting Spark master at (spark://\S+)", 1, self.processes, self.log)[0]

    def add_workers(self, number: int) -> None:
        """Starts more, and waits until they are registered."""
        before = len(re.findall("Registering worker", self.log.read_text(encoding="utf-8", errors="replace")))
        for _ in range(number):
            self._started += 1
            options = [
                "--port",
                "0",
                "--cores",
                str(self.cores),
                "--memory",
                self.memory,
                "--work-dir",
                f"{self.folder}/work-{self._started}",
            ]
            log = self.log.with_name(f"worker-{self._started}.log")
            others = self.hosts[1:] or self.hosts
            host = others[(self._started - 1) % len(others)]
            self.workers.append(_start(host, "worker.Worker", [*options, *self.properties, self.url], log, self.folder))
        _wait_for(r"Registering worker (\S+)", before + number, self.processes, self.log)

    def mend(self) -> None:
        """Starts a worker in place of each that was killed."""
        dead = [worker for worker in self.workers if worker.poll() is not None]
        for worker in dead:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            self.workers.remove(worker)
        if dead:
            self.add_workers(len(dead))


@contextmanager
def standalone_cluster(
    workers: int = 2, *, cores: int = 1, memory: str = "2g", properties: Path | None = None, hosts: Sequence[Host] = (HERE,)
) -> Iterator[Cluster]:
    """Starts a master and `workers` workers of `cores` and `memory` each; yields them once all are registered.

    properties: Spark's settings of master and workers
    Ports are free ones that Spark picks itself. All processes have ended when the context closes, however it closes.
    RuntimeError with the end of the log if one of them does not start.
    """
    with tempfile.TemporaryDirectory(prefix="spark-cluster-") as folder:
        Path(folder, "local").mkdir()  # two workers that make it at the same moment fail: one finds it neither there nor makable
        cluster = Cluster(folder, cores, memory, properties, hosts)
        try:
            cluster.await_master()
            cluster.add_workers(workers)
            yield cluster
        finally:
            _stop(cluster.processes)


def spark_environment(host: Host = HERE) -> dict[str, str]:
    """The environment of a process that knows this Spark, and nothing of the Spark or Python that started the test."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_", "PYTHON"))}
    return {**inherited, "SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": host.address}


def _start(host: Host, kind: str, options: Sequence[str], log: Path, folder: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [
                *(*host.prefix, str(SPARK_HOME / "bin/spark-class"), f"org.apache.spark.deploy.{kind}"),
                *("--host", host.address, "--webui-port", "0", *options),
            ],
            env={
                **spark_environment(host),
                "SPARK_LOCAL_DIRS": f"{folder}/local",
                "SPARK_DAEMON_MEMORY": "512m",
                "SPARK_DAEMON_JAVA_OPTS": QUICK,
            },
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its executors share its process group, and end with it
        )


def _wait_for(pattern: str, count: int, processes: Sequence[subprocess.Popen[bytes]], log: Path) -> list[str]:
    """The matches of `pattern` in the master's log, once there are `count` of them; RuntimeError as soon as a process has ended."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        found = re.findall(pattern, log.read_text(encoding="utf-8", errors="replace"))
        if len(found) >= count:
            return found
        if any(process.poll() is not None for process in processes):
            break
        time.sleep(0.1)
    tails = "\n".join(f"{file.name}: {file.read_text(errors='replace')[-1500:]}" for file in sorted(log.parent.glob("*.log")))
    raise RuntimeError(f"the cluster did not start: {pattern!r} seen fewer than {count} times\n{tails}")


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Workers first, so that they end their executors in order; what is left of a group after STOP_SECONDS is killed."""
    for process in reversed(processes):
        process.terminate()
    until = time.monotonic() + STOP_SECONDS
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.1, until - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
