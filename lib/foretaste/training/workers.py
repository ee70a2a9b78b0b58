"""Ranks, and how they are started: inside a Spark job, or by horovodrun. The only file that knows Horovod.

    python -m foretaste.training.workers PLAN.json      is one rank, as horovodrun starts it

Ranks and driver talk through the plan's folder (see messages.py).
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import foretaste
from foretaste.settings import TrainingSettings
from foretaste.training import messages
from foretaste.training.checkpoints import write
from foretaste.training.loop import fit
from foretaste.training.plan import Plan
from foretaste.training.stalls import COMPUTING, OTHERS, Watch, end

if TYPE_CHECKING:  # ranks need no Spark
    from pyspark.sql import SparkSession

POLL_EVERY_S = 2e-4
SILENT_S = 30
TRIAL_S = 60.0  # in which ranks that are there have added up one number


class RankLostError(Exception):
    """Ranks ended without a result and without an error of their own: killed, or out of reach."""


# ---- the driver's side -------------------------------------------------------------------------------------------------------


def run(text: str, folder: Path, threads: int | None, training: TrainingSettings, spark: "SparkSession | None") -> None:
    """Runs ranks of what `text` says (see `run_rank`) until all have ended; RankLostError where one did not end well.

    folder: all ranks see it; what they print is there. threads: CPU threads a rank
    """
    if training.launcher == "spark":
        _run_in_spark(text, folder, threads, training, spark)
    else:
        _run_horovodrun(text, folder, threads, training)


def _run_in_spark(text: str, folder: Path, threads: int | None, training: TrainingSettings, spark: "SparkSession | None") -> None:
    """Ranks of what `text` says (see `run_rank`), as Spark tasks."""
    import horovod.spark
    from horovod.runner.common.util.timeout import TimeoutException

    assert spark is not None
    context = spark.sparkContext
    # A package sent by --py-files is in the working folder of executors; in a local session it is where it is here.
    paths = [str(Path(foretaste.__file__).parents[1]), *(os.path.join(".", name) for name in context._python_includes or ())]
    with (folder / messages.OUTPUT).open("a", encoding="utf-8") as output, _interruptible() as interrupted, _lost_hosts_noticed():
        try:
            horovod.spark.run(
                _shipped(paths),
                args=(text,),
                num_proc=training.workers,
                start_timeout=int(training.start_timeout.total_seconds()),
                env=_environment(threads),
                stdout=output,
                stderr=output,
                verbose=0,
                nics={training.network_interface} if training.network_interface else None,
                executable=context.pythonExec,
            )
        except TimeoutException as error:  # there was room for them: an executor or a host was lost, or they cannot reach one another
            why = "its free cores are too few, or training.network_interface is not the one on which hosts reach one another"
            raise RankLostError(f"the ranks did not start within {training.start_timeout}; if nothing was lost, {why}") from error
        except Exception as error:  # Horovod raises a bare RuntimeError or Exception, Spark its own
            if interrupted():
                raise KeyboardInterrupt from None
            raise RankLostError(messages.one_line(error)) from error


def _shipped(paths: Sequence[str]) -> Callable[[str], None]:
    """The rank's function in a form that needs nothing on the other side but `paths`: being nested, it travels by value."""

    def rank(plan: str) -> None:
        import sys

        sys.path.extend(path for path in paths if path not in sys.path)
        from foretaste.training.workers import run_rank

        run_rank(plan)

    return rank


def _run_horovodrun(text: str, folder: Path, threads: int | None, training: TrainingSettings) -> None:
    """Ranks of what `text` says (see `run_rank`), on this machine."""
    path = folder / "plan.json"
    write(path, text.encode())
    number = str(training.workers)
    command = [sys.executable, "-m", "horovod.runner.launch", "--gloo", "-np", number, "-H", f"localhost:{number}"]
    command += ["--start-timeout", str(int(training.start_timeout.total_seconds()))]
    if training.network_interface:
        command += ["--network-interfaces", training.network_interface]
    command += [sys.executable, "-m", "foretaste.training.workers", str(path)]
    here = str(Path(foretaste.__file__).parents[1])
    search = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    environment = os.environ | _environment(threads) | {"PYTHONPATH": search}
    with (folder / messages.OUTPUT).open("a", encoding="utf-8") as output:
        ended = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if ended.returncode != 0:
        raise RankLostError(f"horovodrun ended with code {ended.returncode}")


CYCLE_MS = "5"


def _environment(threads: int | None) -> dict[str, str]:
    """A rank's: its threads; memory that it keeps instead of asking for it again in each step: an LSTM takes half the time so; and how
    often Horovod's ranks ask one another for work: each time takes a tenth of a millisecond from the core that learns, and by default it is
    every one.
    """
    number = str(threads or 1)
    cycle = os.environ.get("HOROVOD_CYCLE_TIME", CYCLE_MS)
    kept = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 31), "MALLOC_TOP_PAD_": str(1 << 26)}  # glibc's
    return {"OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number, "PYTHONUNBUFFERED": "1", "HOROVOD_CYCLE_TIME": cycle, **kept}


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Horovod takes over Ctrl-C and never gives it back: this notes whether it came, and restores the handlers."""
    import signal

    from horovod.runner import gloo_run

    register, events = gloo_run.register_shutdown_event, []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def noted() -> threading.Event:
        events.append(register())
        event: threading.Event = events[-1]
        return event

    gloo_run.register_shutdown_event = noted
    try:
        yield lambda: any(event.is_set() for event in events)
    finally:
        gloo_run.register_shutdown_event = register
        for number, handler in handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def _lost_hosts_noticed() -> Iterator[None]:
    """Horovod waits for a rank's end on a connection without a time-out: where a host's network is cut, for ever. Its connections get
    TCP's keep-alive, so that one is given up SILENT_S after it fell silent, and new ones are tried no longer.
    """
    from horovod.runner.common.util import network

    class KeptAlive(socket.socket):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in ((socket.TCP_KEEPIDLE, SILENT_S // 2), (socket.TCP_KEEPINTVL, SILENT_S // 6), (socket.TCP_KEEPCNT, 3)):
                self.setsockopt(socket.IPPROTO_TCP, option, value)

        def connect(self, address: Any) -> None:
            before = self.gettimeout()
            self.settimeout(before or SILENT_S)
            super().connect(address)
            self.settimeout(before)

    network.socket = SimpleNamespace(**{**vars(socket), "socket": KeptAlive})
    try:
        yield
    finally:
        network.socket = socket


# ---- a rank's side -----------------------------------------------------------------------------------------------------------


class HorovodRanks:
    """The ranks that Horovod started; see `Ranks`."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        hvd.init()
        self._hvd = hvd
        self.rank, self.size, self.local_rank = hvd.rank(), hvd.size(), hvd.local_rank()
        self._on_gpu = bool(hvd.nccl_built())
        self._watch: Watch | None = None

    def watch(self, seconds: float, folder: Path) -> None:
        """From now on this rank ends itself, with word in `folder`, if it does the same for so long."""

        def on_stall(what: str, waited: float) -> None:
            messages.write_stall(folder, self.rank, what, waited)
            end()

        self._watch = Watch(seconds, on_stall)

    def doing(self, what: str) -> None:
        if self._watch is not None:
            self._watch.doing(what)

    def add_up(self, tensors: Sequence[Tensor], name: str) -> None:
        """A constant `name` lets Horovod remember how the tensors go together."""
        self.doing(OTHERS)
        sent = [tensor if self._on_gpu or not tensor.is_cuda else tensor.cpu() for tensor in tensors]
        handle = self._hvd.grouped_allreduce_async_(sent, name=name, op=self._hvd.Sum)
        while not self._hvd.poll(handle):  # Horovod's own waiting takes a whole core from the rank that it waits for
            time.sleep(POLL_EVERY_S)
        self._hvd.synchronize(handle)
        for tensor, summed in zip(tensors, sent, strict=True):
            if tensor is not summed:
                tensor.copy_(summed)
        self.doing(COMPUTING)

    def broadcast(self, data: bytes) -> bytes:
        self.doing(OTHERS)
        length = torch.tensor([len(data)], dtype=torch.int64)
        self._hvd.broadcast_(length, root_rank=0, name="length")
        sent = torch.zeros(int(length), dtype=torch.uint8)
        if self.rank == 0:
            sent.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        self._hvd.broadcast_(sent, root_rank=0, name="bytes")
        self.doing(COMPUTING)
        return sent.numpy().tobytes()

    def close(self) -> None:
        """Leaves; ranks that still wait for this one get an error."""
        if self._watch is not None:
            self._watch.close()
        self._hvd.shutdown()


def run_rank(text: str) -> None:
    """One rank of the plan in `text`. Rank 0 leaves its result in the folder; a fault of a rank's own is left there too.

    Where `text` is a trial's, the rank adds up its number, and leaves the sum.
    """
    from horovod.common.exceptions import HorovodInternalError

    if "trial" in (asked := json.loads(text)):
        _try(Path(asked["trial"]))
        return
    plan = Plan.from_json(text)
    folder = Path(plan.folder)
    folder.mkdir(parents=True, exist_ok=True)
    ranks = HorovodRanks()
    ranks.watch(plan.stall_s, folder)
    if plan.own_cores:
        _keep_to_own_cores(ranks.local_rank, plan.threads or 1)
    try:
        with (folder / messages.LINES if ranks.rank == 0 else Path(os.devnull)).open("a", encoding="utf-8", buffering=1) as lines:
            fitted = fit(plan, ranks, lambda line: print(line, file=lines))
        if ranks.rank == 0:
            write(folder / messages.FITTED, fitted.to_json().encode())
    except HorovodInternalError:  # another rank is gone: its fault, or nobody's
        raise
    except Exception as error:
        messages.write_fault(folder, error, ranks.rank)
        raise
    finally:
        ranks.close()


def _try(folder: Path) -> None:
    ranks = HorovodRanks()
    ranks.watch(TRIAL_S, folder)
    number = torch.tensor([float(ranks.rank)])
    ranks.add_up([number], "trial")
    write(folder / f"trial-{ranks.rank:04d}.json", json.dumps({"host": socket.gethostname(), "sum": float(number)}).encode())
    ranks.close()


def _keep_to_own_cores(local_rank: int, threads: int) -> None:
    """All threads of this rank run on `threads` cores that no other rank of the machine has; nothing happens where there are too few."""
    cores = sorted(os.sched_getaffinity(0))[local_rank * threads : (local_rank + 1) * threads]
    if len(cores) == threads:
        for thread in os.listdir("/proc/self/task"):  # later ones take after the one that starts them
            os.sched_setaffinity(int(thread), cores)


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]).read_text(encoding="utf-8"))
