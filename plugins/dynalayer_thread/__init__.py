"""Syncs on a thread of their own: `background_runner="thread"`."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque

from dynalayer import ClosedError, Job, hookimpl

__all__ = ["ThreadRunner"]

logger = logging.getLogger("dynalayer")

_WAITING = 16  # jobs; one more is run by its caller, who then waits for it: that slows down whoever is too fast
_PATIENCE = 60.0  # seconds that such a caller waits for his turn: it may be he who keeps the job before from ending


class ThreadRunner:
    """Runs jobs one at a time on a thread, which ends when there are none and is drained by the layer's `close()`.

    A job that was taken is run. Sixteen may wait; one more is run by its caller, in his turn, for which he waits up to
    a minute. A forked child has no part in its parent's jobs and starts a thread of its own.
    """

    name = "thread"

    def __init__(self) -> None:
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._turn = threading.RLock()  # a job may set, and so lead to another one
        self._jobs: deque[Job] = deque()
        self._thread: threading.Thread | None = None

    @hookimpl
    def layer_runner(self, job: Job) -> bool:
        """Take a job."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            if self._closed:
                raise ClosedError("the background runner was closed")
            if len(self._jobs) < _WAITING:
                if self._thread is None:
                    # No daemon: a process that ends without close() still runs what was taken.
                    thread = threading.Thread(target=self._run, name="dynalayer-sync", daemon=False)
                    thread.start()  # first: where no thread can be had the job is not taken
                    self._thread = thread
                self._jobs.append(job)
                return True
        self._run_one(job, _PATIENCE)
        return True

    @hookimpl
    def layer_closing(self) -> None:
        """Run what was taken, and take no more."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.popleft()
            try:
                self._run_one(job, -1)
            except BaseException:  # a job that raises, which none should, must not take with it those that wait
                logger.exception("a job of the background runner raised")

    def _run_one(self, job: Job, patience: float) -> None:
        turn = self._turn  # in a child that the job forks the runner has another
        mine = turn.acquire(timeout=patience)
        try:
            job()
        finally:
            if mine:
                turn.release()
