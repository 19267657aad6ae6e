"""Syncs on a thread of their own: `background_runner="thread"`."""

from __future__ import annotations

import queue
import threading

from dynalayer import ClosedError, Job, hookimpl

__all__ = ["ThreadRunner"]

_WAITING = 16  # jobs; one more is run by the caller, who then waits for it: that slows down whoever is too fast


class ThreadRunner:
    """Runs jobs one at a time on one thread, started with the first job and drained by the layer's `close()`."""

    name = "thread"

    def __init__(self) -> None:
        self._jobs: queue.Queue[Job | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    @hookimpl
    def layer_runner(self, job: Job) -> bool:
        """Queue a job."""
        with self._lock:
            if self._closed:
                raise ClosedError("the background runner was closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dynalayer-sync", daemon=True)
                self._thread.start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            job()
        return True

    @hookimpl
    def layer_closed(self) -> None:
        """Run what is queued, then end."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._jobs.put(None)
            thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
