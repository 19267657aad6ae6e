"""Threads of one's own, so many and no more, and the line of the calls that wait for one.

They are neither asyncio's nor trio's: whoever asked may be cancelled, and its event loop may end, while a thread is at
work. The thread stays counted until its call has come to its end.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from dynalayer.forking import renew_in_child
from dynalayer.leaving import working_for

__all__ = ["Work", "Workers"]

T = TypeVar("T")


class Work(Generic[T]):
    """A call that a thread makes for a task, in a copy of the context that the task has now.

    Args:
        call: The call. It is given the work, and asks `begin` right before it does what must not be left half done.
        kept: It has begun already: it cannot be dropped.

    Attributes:
        left: Whether nobody waits for it any more; `leaving.has_left` tells the call so.
        done: Whether it came to its end.
        error: What it raised.
    """

    def __init__(self, call: Callable[[Work[T]], T], *, kept: bool = False) -> None:
        self._call: Callable[[Work[T]], T] | None = call
        self._context: Context | None = _context()
        self._lock = threading.Lock()
        self._state: Literal["waiting", "begun", "dropped"] = "begun" if kept else "waiting"
        self._watchers: list[Callable[[], object]] = []
        self._answer: list[T] = []
        self.left = False
        self.done = False
        self.error: BaseException | None = None

    def begin(self) -> bool:
        """Begin, or have begun; False if it was dropped."""
        with self._lock:
            if self._state == "waiting":
                self._state = "begun"
            return self._state == "begun"

    def drop(self) -> bool:
        """Drop it, or have dropped it: nothing happens any more. False if it has begun."""
        with self._lock:
            if self._state == "waiting":
                self._state = "dropped"
            return self._state == "dropped"

    def do(self) -> None:
        """Make the call, in the thread that this is called in. Raises nothing: `result` does."""
        call, context = self._call, self._context
        self._call = self._context = None
        try:
            if call is not None and context is not None and self._state != "dropped":
                with working_for(lambda: self.left):
                    self._answer.append(context.run(call, self))
        except BaseException as error:  # noqa: BLE001 -- it is raised where it is waited for
            self.error = error
        finally:
            self.done = True
            for watcher in tuple(self._watchers):
                watcher()

    def watch(self, watcher: Callable[[], object]) -> None:
        """Call a function from the working thread once it is done, or now if it is. It may be called twice."""
        self._watchers.append(watcher)
        if self.done:
            watcher()

    def unwatch(self, watcher: Callable[[], object]) -> None:
        """Call it no more."""
        self._watchers.remove(watcher)

    def result(self) -> T:
        """What the call answered, once it is done.

        Raises:
            BaseException: What the call raised.
        """
        try:
            if self.error is not None:
                raise self.error
            return self._answer[0]
        finally:
            del self  # what is raised holds this frame, and through it would hold itself


def _context() -> Context:
    context = copy_context()
    sniffio: Any = sys.modules.get("sniffio")
    if sniffio is not None:  # no event loop runs in the thread, whatever runs in the task
        context.run(sniffio.current_async_library_cvar.set, None)
    return context


@dataclass(slots=True, eq=False)
class _Line:
    """The line of one process.

    Attributes:
        pool: Has the threads.
        changed: Guards the others, and tells that nobody is at work any more.
        waiting: What waits for a thread, in the order that it came.
        busy: Threads that are at work.
    """

    pool: ThreadPoolExecutor
    changed: threading.Condition = field(default_factory=threading.Condition)
    waiting: OrderedDict[Work[Any], None] = field(default_factory=OrderedDict)
    busy: int = 0


class Workers:
    """Threads that work off a line. In a forked child there are others, and nothing waits.

    The line is as long as there are tasks that wait: who is cancelled leaves it.

    Args:
        threads: How many.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._closed = False
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin with threads of one's own."""
        self._line = _Line(ThreadPoolExecutor(self._threads, thread_name_prefix="dynalayer-worker"))

    def take(self, work: Work[Any]) -> bool:
        """Have a thread do it, when it is its turn; False where no more is taken.

        Raises:
            RuntimeError: There is no thread for it: the interpreter is about to end, or the system has none.
        """
        line = self._line
        with line.changed:
            if self._closed:
                return False
            if line.busy < self._threads:
                turn = _Turn(line)
                try:
                    line.pool.submit(turn.serve)  # first: where no thread can be had nothing is taken
                except BaseException:
                    turn.void = True  # the pool may have kept it, for a thread that it gets later
                    raise
                line.busy += 1
            line.waiting[work] = None
            return True

    def forget(self, work: Work[Any]) -> None:
        """Let what was dropped leave the line."""
        line = self._line
        with line.changed:
            line.waiting.pop(work, None)

    def close(self) -> None:
        """Take no more; what was taken is done."""
        with self._line.changed:
            self._closed = True

    def open(self) -> None:
        """Take more again."""
        self._closed = False

    def wait(self) -> None:
        """Wait until all that was taken is done."""
        line = self._line
        with line.changed:
            line.changed.wait_for(lambda: not line.busy)

    def end(self) -> None:
        """Let the threads go."""
        self._line.pool.shutdown(wait=False)


class _Turn:
    """What a thread of the pool is given to do: work off the line, as one of its busy threads.

    Args:
        line: By this one and no later: in a child that a call forks the workers have another.

    Attributes:
        void: Whether it was never counted as busy.
    """

    def __init__(self, line: _Line) -> None:
        self._line = line
        self.void = False

    def serve(self) -> None:
        line = self._line
        while True:
            with line.changed:
                if self.void:
                    return
                if not line.waiting:
                    line.busy -= 1
                    line.changed.notify_all()
                    return
                work, _ = line.waiting.popitem(last=False)
            work.do()
            del work  # while it waits for the next it holds nothing of the last
