import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from pyspark.sql import SparkSession

from foretaste.errors import FeedError, TrainingError
from foretaste.settings import TrainingSettings
from foretaste.training import messages, stalls, workers
from foretaste.training.launch import launch
from foretaste.training.plan import Fitted, Plan
from foretaste.training.ranks import Alone
from foretaste.training.slots import check_slots, slots_left, task_slots, threads_of
from tests.training import toys


def on_disk(tmp_path: Path, name: str, **options: Any) -> Plan:
    """A plan whose rows are Parquet files, so that ranks in other processes can read them."""
    rows = tmp_path / "rows"
    return toys.plan(tmp_path / name, train=toys.written(rows, "train", 60), valid=toys.written(rows, "valid", 31), **options)


def assert_same_fit(first: Fitted, second: Fitted) -> None:
    """The same curves and weights to float tolerance."""
    assert toys.losses(first.history) == pytest.approx(toys.losses(second.history), rel=1e-5)
    for one, other in zip(first.history, second.history, strict=True):
        assert one["targets"] == other["targets"]
        assert one["mrr"] == pytest.approx(other["mrr"], rel=1e-5)
        assert one["rows"] == other["rows"] == 31
    torch.testing.assert_close(
        safetensors.torch.load_file(first.weights), safetensors.torch.load_file(second.weights), rtol=1e-4, atol=1e-5
    )


@pytest.mark.cluster
def test_two_ranks_of_a_gan_equal_one_process_for_both_its_optimizers(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model": {"name": "gan", "latent": 4, "anneal_steps": 2, "features": ["item", "event"]},
        "fit": {"epochs": 1},
    }
    alone = launch(on_disk(tmp_path, "alone", **options), TrainingSettings(threads=1), report=toys.quiet)
    both = launch(on_disk(tmp_path, "both", **options), TrainingSettings(launcher="horovodrun", workers=2, threads=1), report=toys.quiet)
    assert both.size == 2
    assert {"loss of discriminator", "loss of generator"} <= set(both.history[0])
    assert_same_fit(both, alone)


@pytest.mark.cluster
def test_two_ranks_inside_spark_equal_one_process(tmp_path: Path, spark: SparkSession) -> None:
    sampled = {"loss": {"name": "sampled_softmax", "negatives": {"number": 4}}, "augment": {"crop": 0.3, "mask": 0.2, "reorder": 0.3}}
    alone = launch(on_disk(tmp_path, "alone", fit=sampled), TrainingSettings(threads=1), report=toys.quiet)
    handler = signal.getsignal(signal.SIGINT)
    plan = on_disk(tmp_path, "spark", fit=sampled)
    both = launch(plan, TrainingSettings(launcher="spark", workers=2, threads=1), spark, report=toys.quiet)
    assert both.size == 2
    assert_same_fit(both, alone)
    assert signal.getsignal(signal.SIGINT) == handler  # Ctrl-C is still ours


@pytest.mark.cluster
def test_a_killed_rank_of_horovodrun_is_started_again_and_the_fit_is_still_that_of_one_process(tmp_path: Path) -> None:
    settings = {"epochs": 20, "patience": 20}
    alone = launch(on_disk(tmp_path, "alone", fit=settings), TrainingSettings(threads=1), report=toys.quiet)
    plan = on_disk(tmp_path, "killed", fit=settings)
    killed: list[int] = []

    def kill_a_rank() -> None:
        ranks: list[int] = []
        while not list(Path(plan.folder).glob("epoch-*.json")):
            ranks = ranks or _ranks_of(plan)
            time.sleep(0.05)
        os.kill(ranks[0], signal.SIGKILL)
        killed.append(ranks[0])

    killer = threading.Thread(target=kill_a_rank)
    killer.start()
    lines: list[str] = []
    both = launch(plan, TrainingSettings(launcher="horovodrun", workers=2, threads=1), report=lines.append)
    killer.join()
    assert killed
    assert ["a rank was lost" in note for note in both.notes] == [True]
    assert any("goes on after epoch" in line for line in lines)
    assert any(line.startswith("interest: epoch 20 of 20") for line in lines)
    assert_same_fit(both, alone)


@pytest.mark.cluster
def test_a_rank_that_hangs_is_ended_and_training_goes_on(tmp_path: Path) -> None:
    plan = on_disk(tmp_path, "stopped", fit={"epochs": 20, "patience": 20})

    def stop_a_rank() -> None:
        while not list(Path(plan.folder).glob("epoch-*.json")):
            time.sleep(0.05)
        os.kill(_ranks_of(plan)[0], signal.SIGSTOP)

    threading.Thread(target=stop_a_rank).start()
    stall = timedelta(seconds=20)  # a busy machine computes for ten at times; Gloo itself waits for thirty
    both = launch(plan, TrainingSettings(launcher="horovodrun", workers=2, threads=1, stall_timeout=stall), report=toys.quiet)
    assert len(both.history) == 20
    [note] = both.notes
    assert re.search(r"rank [01] on \S+ waited for the other ranks for \d\d s; likely one of them hangs or was stopped", note)
    assert not _ranks_of(plan)


def test_a_rank_that_gets_no_rows_says_so_before_those_that_wait_for_it(tmp_path: Path) -> None:
    messages.write_stall(tmp_path, 0, stalls.OTHERS, 600.2)
    messages.write_stall(tmp_path, 1, stalls.ROWS, 600.4)
    said = f"rank 1 on {socket.gethostname()} waited for rows for 600 s; likely the storage that holds the table does not answer"
    assert messages.read_stall(tmp_path) == said
    messages.clear(tmp_path)
    assert messages.read_stall(tmp_path) == ""


def test_what_goes_on_is_no_stall() -> None:
    told: list[str] = []
    watch = stalls.Watch(0.2, lambda what, seconds: told.append(what))
    for _ in range(10):
        watch.doing(stalls.ROWS)
        time.sleep(0.05)
    assert told == []
    time.sleep(0.5)
    assert told == [stalls.ROWS]
    watch.close()


@pytest.mark.parametrize(("free", "left"), [([1], 1), ([2], None), ([None], None), ([0], None), ([1, 2], None)])
def test_fewer_ranks_where_room_for_the_others_does_not_come_back(free: list[int | None], left: int | None) -> None:
    """With room for two, for one, for any number, for none, and for one and then for two."""
    answers = [*free, *free[-1:] * 100]
    assert slots_left(2, lambda: answers.pop(0), wait_s=0.6) == left


def test_training_goes_on_with_the_ranks_that_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: SparkSession) -> None:
    started: list[int] = []

    def dies_once(text: str, folder: Path, threads: int, training: TrainingSettings, spark: object) -> None:
        started.append(training.workers)
        if len(started) == 1:
            raise workers.RankLostError("exit 137")
        (folder / messages.FITTED).write_text(workers.fit(Plan.from_json(text), Alone(), toys.quiet).to_json())

    monkeypatch.setattr(workers, "run", dies_once)
    monkeypatch.setattr("foretaste.training.launch.check_slots", lambda *_: None)
    monkeypatch.setattr("foretaste.training.launch.slots_left", lambda *_: 1)
    fitted = launch(on_disk(tmp_path, "fewer", fit={"epochs": 1}), TrainingSettings(launcher="spark", workers=2), spark, report=toys.quiet)
    assert started == [2, 1]
    assert fitted.notes[1] == "a machine is gone: 1 rank goes on, with the same rows a step in all"


def _ranks_of(plan: Plan) -> list[int]:
    """The ranks' own processes (horovodrun's have the plan on their command line too)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[1:3] == ["-m", "foretaste.training.workers"] and words[3].startswith(plan.folder):
            found.append(int(folder.name))
    return found


class OneOfTwo(Alone):
    """Rank 1 of two that never meets the other."""

    rank, size, local_rank = 1, 2, 1

    def watch(self, seconds: float, folder: Path) -> None:
        pass

    def close(self) -> None:
        pass


def test_an_error_inside_a_rank_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = on_disk(tmp_path, "missing")
    (tmp_path / "rows" / "train.parquet").unlink()
    monkeypatch.setattr(workers, "HorovodRanks", OneOfTwo)

    def runs(text: str, *_: object) -> None:
        try:
            workers.run_rank(text)
        except FeedError as error:
            raise workers.RankLostError("horovodrun ended with code 1") from error

    monkeypatch.setattr(workers, "run", runs)
    with pytest.raises(FeedError, match=r"^a file of the pinned version is gone .*train.parquet"):
        launch(plan, TrainingSettings(launcher="horovodrun", workers=2), report=toys.quiet)


def test_a_fault_of_our_own_code_names_the_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Fitted:
        raise ZeroDivisionError("division by zero")

    def runs(text: str, *_: object) -> None:
        try:
            workers.run_rank(text)
        except ZeroDivisionError as error:
            raise workers.RankLostError("horovodrun ended with code 1") from error

    monkeypatch.setattr(workers, "HorovodRanks", OneOfTwo)
    monkeypatch.setattr(workers, "fit", broken)
    monkeypatch.setattr(workers, "run", runs)
    with pytest.raises(TrainingError, match=r"^rank 1 failed: ZeroDivisionError: division by zero \(rank 1\)\."):
        launch(toys.plan(tmp_path), TrainingSettings(launcher="horovodrun", workers=2), report=toys.quiet)


def test_ranks_that_die_too_often_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[int] = []

    def dies(text: str, folder: Path, *_: object) -> None:
        starts.append(1)
        raise workers.RankLostError("horovodrun ended with code 1")

    monkeypatch.setattr(workers, "run", dies)
    settings = TrainingSettings(launcher="horovodrun", workers=2, max_restarts=2)
    with pytest.raises(TrainingError, match=r"ranks were lost 3 times, the last time: horovodrun ended with code 1 \(interest\)"):
        launch(toys.plan(tmp_path / "folder"), settings, report=toys.quiet)
    assert len(starts) == 3


def test_what_a_rank_printed_last_is_part_of_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(text: str, folder: Path, *_: object) -> None:
        printed = [
            "[1]<stderr>:Traceback (most recent call last):",
            "[1]<stderr>:ModuleNotFoundError: No module named 'foretaste'",
            "[0]<stderr>:horovod.common.exceptions.HorovodInternalError: Horovod has been shut down.",
            "exit code 1",
        ]
        (folder / messages.OUTPUT).write_text("\n".join(printed))
        raise workers.RankLostError("horovodrun ended with code 1")

    monkeypatch.setattr(workers, "run", dies)
    with pytest.raises(TrainingError, match=r"ended with code 1 ModuleNotFoundError: No module named 'foretaste' \(interest\)"):
        launch(toys.plan(tmp_path), TrainingSettings(launcher="horovodrun", workers=2, max_restarts=0), report=toys.quiet)


def test_a_rank_error_from_before_is_not_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = toys.plan(tmp_path)
    (tmp_path / "error-0000.json").write_text('{"kind": "FeedError", "what": "old", "where": "", "fix": ""}')

    def dies(text: str, folder: Path, *_: object) -> None:
        raise workers.RankLostError("horovodrun ended with code 1")

    monkeypatch.setattr(workers, "run", dies)
    with pytest.raises(TrainingError, match="ranks were lost 1 times"):
        launch(plan, TrainingSettings(launcher="horovodrun", workers=2, max_restarts=0), report=toys.quiet)


def test_ranks_whose_folder_is_not_ours_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "run", lambda *_: None)
    with pytest.raises(TrainingError, match=r"what they wrote is not here .*a folder that the driver and all workers share"):
        launch(toys.plan(tmp_path / "folder"), TrainingSettings(launcher="horovodrun", workers=2), report=toys.quiet)


def test_resume_false_starts_anew(tmp_path: Path) -> None:
    plan = on_disk(tmp_path, "single", fit={"epochs": 1})
    launch(plan, TrainingSettings(threads=1), report=toys.quiet)
    for resume, expected in ((True, True), (False, False)):
        lines: list[str] = []
        launch(plan, TrainingSettings(threads=1, resume=resume), report=lines.append)
        assert ("goes on after epoch 1" in lines[0]) is expected


def test_more_ranks_than_task_slots_is_an_error_and_no_hanging(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert task_slots(spark) == 2  # local[2]
    monkeypatch.setattr("foretaste.training.slots.WAIT_S", 0.0)
    with pytest.raises(TrainingError, match=r"5 ranks need 5 task slots at once, and Spark has 2 \(training.workers\)"):
        launch(toys.plan(tmp_path), TrainingSettings(launcher="spark", workers=5), spark, report=toys.quiet)


def test_slots_that_come_late_are_waited_for() -> None:
    answers: list[int | None] = [0, 1, 2]
    check_slots(2, _next(answers))
    assert answers == []
    check_slots(2, lambda: None)  # executors come and go: nobody can say


def _next(answers: list[int | None]) -> Callable[[], int | None]:
    return lambda: answers.pop(0)


def test_ranks_of_a_local_session_share_its_cores(spark: SparkSession) -> None:
    cores = len(os.sched_getaffinity(0))
    assert threads_of(spark, 1) == cores
    assert threads_of(spark, 10 * cores) == 1


def test_spark_ranks_need_a_session(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no Spark session"):
        launch(toys.plan(tmp_path), TrainingSettings(launcher="spark", workers=1, start_timeout=timedelta(seconds=5)), report=toys.quiet)


@pytest.mark.parametrize(
    ("local_rank", "threads", "expected"), [(0, 1, slice(0, 1)), (1, 1, slice(1, 2)), (0, 2, slice(0, 2)), (1, 10_000, slice(None))]
)
def test_a_rank_keeps_to_cores_of_its_own_where_there_are_enough(local_rank: int, threads: int, expected: slice) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    code = f"import os; from foretaste.training import workers; workers._keep_to_own_cores({local_rank}, {threads}); "
    ended = subprocess.run(
        [sys.executable, "-c", code + "print(sorted(os.sched_getaffinity(0)))"], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == str(cores[expected])
