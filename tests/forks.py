"""Children that are killed, or stopped and continued, for programs of one thread that tests start."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PATIENCE = 60  # seconds: a child that hangs is a child that fails


@contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """A child that does something and ends; its process id. It does not outlive the block."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _work(work)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _work(work: Callable[[], object]) -> None:
    signal.alarm(PATIENCE)
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 -- whatever it is, it must not get into what the parent does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def end_of(pid: int) -> int:
    """Wait for a child: its exit code, or the negative number of the signal that it died of."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stands_still(pid: int) -> bool:
    """Wait until a child stands still, stopped by a signal; False if it ended instead."""
    return os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])


def go_on(pid: int) -> int:
    """Continue a child that stands still, and wait for its end."""
    os.kill(pid, signal.SIGCONT)
    return end_of(pid)
