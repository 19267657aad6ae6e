"""Calls made side by side: all of them, by whatever threads can be had, and none when the caller has gone on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

import servers
from dynalayer import AppendError
from dynalayer.side_by_side import side_by_side

from .dynamodb_fakes import Table, after, append, draft, fresh

PATIENCE = 30.0  # seconds, for what takes none


@pytest.fixture
def table(moto_server: str) -> Iterator[Table]:
    with fresh(moto_server) as table:
        yield table


@contextmanager
def no_more_threads_than(limit: int, error: Exception | None = None) -> Iterator[None]:
    """No further thread that helps can be had."""
    start = threading.Thread.start
    begun: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("dynalayer-dynamodb"):
            if len(begun) == limit:
                raise error or RuntimeError("can't start new thread")
            begun.append(thread)
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        yield


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("dynalayer-dynamodb")]


def test_sixteen_calls_are_under_way_at_once_and_never_more() -> None:
    all_in, lock, under_way, most = threading.Barrier(16), threading.Lock(), [0], [0]

    def call(number: int) -> int:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        all_in.wait(PATIENCE)
        with lock:
            under_way[0] -= 1
        return number * 2

    assert side_by_side(call, range(48)) == [number * 2 for number in range(48)]
    assert most == [16]
    assert ours() == []


def test_a_single_call_is_made_by_the_caller_itself() -> None:
    assert side_by_side(lambda _: threading.current_thread(), [1]) == [threading.current_thread()]
    assert side_by_side(lambda _: threading.current_thread(), []) == []


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("limit", [0, 1, 5])
def test_where_threads_cannot_be_had_the_others_make_all_calls(limit: int, error: Exception) -> None:
    with no_more_threads_than(limit, error):
        made_by = side_by_side(lambda _: threading.current_thread(), range(40))
    assert len(made_by) == 40
    assert len(set(made_by)) <= 1 + limit
    assert ours() == []


def test_the_first_failure_in_order_is_raised_once_all_calls_are_made() -> None:
    made = []

    def call(number: int) -> None:
        made.append(number)
        if number in (3, 7):
            raise ValueError(f"call {number}")

    with pytest.raises(ValueError, match="call 3"):
        side_by_side(call, range(40))
    assert sorted(made) == list(range(40))


class Interrupted(BaseException):
    """What is raised in the midst of anything, as by Ctrl-C."""


@pytest.mark.parametrize("in_the_caller", [True, False])
def test_an_interrupted_batch_begins_no_further_call_and_leaves_none_running(in_the_caller: bool) -> None:
    caller, begun, ended, interrupted = threading.current_thread(), [], [], threading.Event()

    def call(number: int) -> None:
        begun.append(number)
        if (threading.current_thread() is caller) is in_the_caller and not interrupted.is_set():
            interrupted.set()
            raise Interrupted
        assert interrupted.wait(PATIENCE)
        ended.append(number)

    with pytest.raises(Interrupted):
        side_by_side(call, range(10_000))
    assert len(begun) < 10_000
    assert len(ended) >= len(begun) - 16
    assert ours() == []


def test_each_call_is_made_in_the_context_of_the_caller() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("the caller's")
    assert side_by_side(lambda _: variable.get(), range(40)) == ["the caller's"] * 40


# In the log


def test_a_set_that_no_thread_can_be_had_for_is_written_by_its_caller(table: Table) -> None:
    """And nothing of it is left to be written later, over what comes after it."""
    log = table.open()
    with no_more_threads_than(0):
        log.append([draft("old", partition) for partition in ("a", "b", "c")])
    assert append(log, "new", "a") == 2
    log.append([draft("later", partition) for partition in ("b", "c")])
    assert table.nonces("a") == ["old", "new"]


AFTER_MAIN = """
import sys, threading
from dynalayer import DynamoDBEventLog
from dynalayer.eventlog.base import Draft, RecordKind
from dynalayer.opening import open_event_log

name, endpoint = sys.argv[1:]
log = open_event_log(f"dynamodb://{name}?endpoint_url={endpoint}", "users")

def append(nonce):
    log.append([Draft(each, RecordKind.CHANGES, nonce, 1, 1, 86400, b"events") for each in ("eu", "us", "ap")])

def work():
    threading.main_thread().join()
    append("after main")
    print(log.layer_state().appended)

threading.Thread(target=work).start()
append("main")
"""


def test_a_thread_that_outlives_the_main_thread_still_writes_to_several_partitions(table: Table) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", AFTER_MAIN, table.name, table.url],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "AWS_DEFAULT_REGION": servers.REGION},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "6"), done.stderr


def test_an_error_that_nobody_expected_tells_the_outcome_of_each_partition(table: Table) -> None:
    def breaks() -> None:
        raise KeyError("nobody expected this")

    log = table.open()
    table.wire.plan("PutItem", after(breaks), about="users#eu")
    with pytest.raises(AppendError, match="KeyError: 'nobody expected this'") as caught:
        log.append([draft("n", "eu"), draft("n", "us")])
    assert caught.value.outcomes == {"eu": "unknown", "us": "written"}
    assert not caught.value.retryable
    assert isinstance(caught.value.__cause__, Exception)
    assert isinstance(caught.value.__cause__.__cause__, KeyError)
