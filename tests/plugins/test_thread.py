"""The runner on a thread: what it takes is run, one job at a time, whatever happens around it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import dynalayer_thread
from dynalayer import ClosedError, Job
from dynalayer_thread import ThreadRunner


def test_jobs_run_one_at_a_time_in_order_and_close_waits_for_them() -> None:
    runner, ran, running = ThreadRunner(), list[int](), threading.Lock()

    def job(number: int) -> None:
        assert running.acquire(blocking=False)
        ran.append(number)
        running.release()

    for number in range(10):
        assert runner.layer_runner(partial(job, number))
    runner.layer_closing()
    assert ran == list(range(10))


class Full:
    """A runner whose thread is at a job that waits to be let through, and that has as many more as it takes."""

    def __init__(self) -> None:
        self.runner, self.gate, self.running = ThreadRunner(), threading.Event(), threading.Lock()
        self.ran: list[str] = []
        entered = threading.Event()

        def first() -> None:
            entered.set()
            assert self.gate.wait(30)

        self.runner.layer_runner(partial(self._alone, first))
        assert entered.wait(30)
        for _ in range(16):
            self.runner.layer_runner(self.job)
        assert self.ran == []

    def job(self) -> None:
        self._alone(lambda: self.ran.append(threading.current_thread().name))

    def _alone(self, job: Job) -> None:
        alone = self.running.acquire(blocking=False)
        job()
        if alone:
            self.running.release()
        else:
            self.ran.append("beside another")


@pytest.fixture
def full() -> Iterator[Full]:
    full = Full()
    yield full
    full.gate.set()
    full.runner.layer_closing()


def test_a_job_that_does_not_fit_any_more_is_run_by_its_caller_in_his_turn(full: Full) -> None:
    caller = threading.Thread(target=full.runner.layer_runner, args=(full.job,), name="caller")
    caller.start()
    caller.join(0.2)
    assert (caller.is_alive(), full.ran) == (True, [])
    full.gate.set()
    caller.join(30)
    full.runner.layer_closing()
    assert sorted(full.ran) == ["caller", *["dynalayer-sync"] * 16]


def test_a_caller_whose_turn_never_comes_runs_his_job_in_the_end(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynalayer_thread, "_PATIENCE", 0.01)
    full.runner.layer_runner(full.job)
    assert full.ran == [threading.current_thread().name, "beside another"]


def test_a_job_may_lead_to_more_jobs_than_fit() -> None:
    runner, ran, handed = ThreadRunner(), list[int](), threading.Event()

    def job() -> None:
        for number in range(20):
            runner.layer_runner(partial(ran.append, number))
        handed.set()

    runner.layer_runner(job)
    assert handed.wait(30)
    runner.layer_closing()
    assert sorted(ran) == list(range(20))


@pytest.mark.parametrize("error", [OSError("full"), SystemExit(3)], ids=["an error", "an exit"])
def test_a_job_that_raises_takes_none_with_it_that_waits(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    runner, gate, ran = ThreadRunner(), threading.Event(), list[int]()

    def job() -> None:
        assert gate.wait(30)
        raise error

    runner.layer_runner(job)
    runner.layer_runner(lambda: ran.append(1))
    gate.set()
    runner.layer_closing()
    assert (ran, caplog.messages) == ([1], ["a job of the background runner raised"])


def test_a_job_that_comes_after_the_close_is_refused_not_dropped() -> None:
    runner = ThreadRunner()
    runner.layer_closing()
    with pytest.raises(ClosedError):
        runner.layer_runner(lambda: None)


def test_closing_within_a_job_does_not_wait_for_itself() -> None:
    runner, ended = ThreadRunner(), threading.Event()

    def job() -> None:
        runner.layer_closing()
        ended.set()

    runner.layer_runner(job)
    assert ended.wait(30)


FORKING = """
import os, threading
from dynalayer_thread import ThreadRunner

runner, gate = ThreadRunner(), threading.Event()
runner.layer_runner(gate.wait)
child = os.fork()
if not child:
    ran = []
    runner.layer_runner(lambda: ran.append(1))
    runner.layer_closing()
    os._exit(0 if ran == [1] else 1)
gate.set()
runner.layer_closing()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system knows no fork")
def test_a_forked_child_runs_its_own_jobs_and_closes() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr


UNCLOSED = """
from pathlib import Path
from dynalayer_thread import ThreadRunner

ThreadRunner().layer_runner(lambda: Path("ran").touch())
"""


def test_what_was_taken_is_run_also_where_nobody_closes(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", UNCLOSED], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ran").exists()


def test_where_no_thread_can_be_had_the_job_is_refused_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    runner, ran = ThreadRunner(), list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            runner.layer_runner(lambda: ran.append(1))
    runner.layer_runner(lambda: ran.append(2))
    runner.layer_closing()
    assert ran == [2]
