"""Requests side by side: threads that carry on the operation under which they are counted, and do not cross a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

__all__ = ["Pool"]

T = TypeVar("T")
U = TypeVar("U")

_THREADS = 16


class Pool:
    """Threads of one log, begun when they are first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: tuple[int, ThreadPoolExecutor] | None = None

    def map(self, call: Callable[[T], U], arguments: Sequence[T]) -> list[U]:
        """Make calls side by side; a single one is made in this thread.

        Returns:
            The answers, in the order of the arguments.

        Raises:
            BaseException: What the first of the calls that failed raised; the others are made all the same.
        """
        if len(arguments) <= 1:
            return [call(argument) for argument in arguments]
        executor = self._executor()
        # Each in a context of its own: one cannot be entered twice at a time.
        futures = [executor.submit(copy_context().run, call, argument) for argument in arguments]
        return [future.result() for future in futures]

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._begun is None or self._begun[0] != os.getpid():
                self._begun = os.getpid(), ThreadPoolExecutor(_THREADS, thread_name_prefix="dynalayer-dynamodb")
            return self._begun[1]

    def close(self) -> None:
        """Wait until all calls have ended."""
        with self._lock:
            begun, self._begun = self._begun, None
        if begun is not None and begun[0] == os.getpid():
            begun[1].shutdown(wait=True)
