"""Requests side by side: a few threads for one batch of calls, gone when it is done."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Generic, TypeVar

__all__ = ["side_by_side"]

T = TypeVar("T")
U = TypeVar("U")

_THREADS = 16  # the caller's own among them


def side_by_side(call: Callable[[T], U], arguments: Sequence[T]) -> list[U]:
    """Make calls side by side; none is begun, or still runs, once this has returned or raised.

    The caller makes them itself, helped by threads, which count under its operation. Where no thread can be had fewer
    help, at worst none. Not by an executor: that one queues a call before it looks for a thread, so that a call that
    was told to have failed may be made at any later time; and it takes none after the main thread has ended.

    Returns:
        The answers, in the order of the arguments.

    Raises:
        Exception: What the first of the calls that failed raised; the others are made all the same.
        BaseException: The caller was interrupted; no further call is begun.
    """
    calls = _Calls(call, arguments)
    helpers: list[_Helper] = []
    try:
        for _ in range(min(len(arguments), _THREADS) - 1):
            try:
                helpers.append(_Helper(calls.help))
                helpers[-1].start()
            except (RuntimeError, MemoryError):
                break
        calls.make()
        for helper in helpers:
            helper.wait()
    except BaseException:
        calls.stop()
        for helper in helpers:
            helper.wait()
        raise
    return calls.results()


class _Calls(Generic[T, U]):
    """Calls that are still to be made, and what came of the others."""

    def __init__(self, call: Callable[[T], U], arguments: Sequence[T]) -> None:
        self._call = call
        self._left = deque(enumerate(arguments))
        self._answers: dict[int, U] = {}
        self._failures: dict[int, Exception] = {}
        self._broken_off: BaseException | None = None

    def make(self) -> None:
        """Make one call after the other until none is left."""
        while True:
            try:
                place, argument = self._left.popleft()
            except IndexError:
                return
            try:
                self._answers[place] = self._call(argument)
            except Exception as error:  # noqa: BLE001 -- raised by `results`
                self._failures[place] = error

    def stop(self) -> None:
        """Begin no further call."""
        self._left.clear()

    def help(self) -> None:
        """Make calls on a thread of one's own: what would end it is kept for the caller, since nobody else is told."""
        try:
            self.make()
        except BaseException as error:  # noqa: BLE001 -- raised by `results`
            self._broken_off = error
            self.stop()

    def results(self) -> list[U]:
        """The answers in order; or else the first failure is raised."""
        if self._broken_off is not None:
            raise self._broken_off
        if self._failures:
            raise self._failures[min(self._failures)]
        return [self._answers[place] for place in sorted(self._answers)]


class _Helper:
    """A thread that helps to make calls. No daemon: a process that ends does not cut off what it has begun."""

    def __init__(self, help: Callable[[], None]) -> None:  # noqa: A002 -- the word for it
        context = copy_context()  # one of its own: none can be entered twice at a time
        self._done = threading.Event()

        def run() -> None:
            try:
                context.run(help)
            finally:
                self._done.set()

        self._thread = threading.Thread(target=run, name="dynalayer-dynamodb", daemon=False)

    def start(self) -> None:
        self._thread.start()

    def wait(self) -> None:
        """Wait until it has ended. One that has not begun will find nothing to do."""
        if self._thread.ident is not None:
            self._done.wait()  # since an interrupted `join` takes the thread for ended
            self._thread.join()
