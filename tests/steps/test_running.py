"""Jobs see one another while they live, whatever the clocks of their machines say."""

import os
import threading
import time
from pathlib import Path

import pytest

from foretaste.steps import running
from foretaste.steps.running import ALONE, STALE_S, announced, at_work, still_at_work
from tests.tables.writers import at_once


def files(root: Path) -> list[Path]:
    return sorted((root / running.FOLDER).glob("*.json"))


def test_a_job_is_seen_as_long_as_it_lives(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert at_work(root) == []
    with announced(root, ["sequence", "train"]):
        [job] = at_work(root)
        assert job.steps == ("sequence", "train")
        assert job.process == os.getpid()
        assert at_work(root, but=("sequence", "train", "score")) == []
        assert len(at_work(root, but=("train",))) == 1
        assert still_at_work([job], 0.0) == [job]
    assert at_work(root) == still_at_work([job], 5.0) == []
    assert list((tmp_path / running.FOLDER).iterdir()) == []


def test_one_that_was_killed_counts_for_nothing_after_a_while(tmp_path: Path) -> None:
    with announced(str(tmp_path), ["score"]):
        [path] = files(tmp_path)
        [job] = at_work(str(tmp_path))
        for age, lives in ((STALE_S - 30, True), (STALE_S + 30, False)):
            os.utime(path, (time.time() - age, time.time() - age))
            assert bool(still_at_work([job], 0.0)) == lives
            assert bool(at_work(str(tmp_path))) == lives
        assert files(tmp_path) == []


@pytest.mark.parametrize("first", sorted(ALONE))
def test_nobody_begins_beside_one_that_removes_files(tmp_path: Path, first: str) -> None:
    told: list[str] = []
    began = threading.Event()

    def score() -> None:
        with announced(str(tmp_path), ["score"], told.append):
            began.set()

    thread = threading.Thread(target=score)
    with announced(str(tmp_path), [first]):
        [remover] = at_work(str(tmp_path))
        thread.start()
        assert not began.wait(1.5)
        assert at_work(str(tmp_path)) == [remover]  # who waits stands in nobody's way
    assert began.wait(5.0)
    thread.join()
    assert told == [f"waiting for {remover}"]
    assert files(tmp_path) == []


def test_of_those_that_remove_files_one_is_at_work_at_a_time(tmp_path: Path) -> None:
    inside: list[str] = []

    def work(step: str) -> None:
        for _ in range(2):
            with announced(str(tmp_path), [step]):
                inside.append(step)
                assert len(inside) == 1
                time.sleep(0.1)
                inside.remove(step)

    at_once(lambda: work("erase"), lambda: work("erase"), lambda: work("maintain"))
    assert files(tmp_path) == []


@pytest.mark.parametrize("minutes", [-60, -10, 10, 60])
def test_a_clock_that_goes_wrong_takes_nobody_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int) -> None:
    """This machine's clock, not that of the folder, by which files are touched."""
    with announced(str(tmp_path), ["score"]):
        real = time.time
        monkeypatch.setattr(running.time, "time", lambda: real() + 60 * minutes)
        [job] = at_work(str(tmp_path))
        assert still_at_work([job], 0.0) == [job]
    assert at_work(str(tmp_path)) == []
