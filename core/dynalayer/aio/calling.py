"""How a task waits for what a thread does: under asyncio and trio, cancelled at any moment.

anyio's own worker threads would not do: a native `task.cancel()` passes the shield around the wait for one, and under
asyncio a thread that was left behind counts as free while it is still at work.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import anyio
from anyio.lowlevel import current_token

from dynalayer.aio.workers import Work, Workers
from dynalayer.errors import ClosedError
from dynalayer.leaving import LeftError

__all__ = ["Calls", "Steps"]

T = TypeVar("T")


class Calls:
    """Calls that worker threads make for tasks.

    Args:
        workers: The threads.
        closed: What is raised once they take no more.
    """

    def __init__(self, workers: Workers, closed: Callable[[], ClosedError]) -> None:
        self._workers = workers
        self._closed = closed

    def start(self, work: Work[T]) -> Work[T]:
        """Have a thread do it, when it is its turn.

        Raises:
            ClosedError: No more is taken.
        """
        if not self._workers.take(work):
            raise self._closed()
        return work

    def drop(self, work: Work[Any]) -> bool:
        """Drop what has not begun; False if it has."""
        dropped = work.drop()
        if dropped:
            self._workers.forget(work)
        return dropped

    async def make(self, call: Callable[[], T], *, leave: bool = False, kept: bool = False) -> T:
        """The answer of a call.

        Args:
            call: The call.
            leave: Whether it may be left behind once it has begun.
            kept: Whether it is made in any case, also for a task that is cancelled before its turn.
        """

        def made(work: Work[T]) -> T:
            if not work.begin():
                raise LeftError
            return call()

        return await self.answer(self.start(Work(made, kept=kept)), leave=leave)

    async def answer(self, work: Work[T], *, leave: bool) -> T:
        """What a thread's work comes to.

        A cancelled task's work is dropped as long as it has not begun. If it has, the task leaves it behind, or waits
        for its end, however it is cancelled: then it gets the answer, and the cancellation comes at its next wait.
        Work that ended early since its task had left, and did not do all that it was asked for, has no answer: then
        the cancellation comes at once.

        Args:
            work: Was started.
            leave: Whether it may be left behind.
        """
        asked = _asked()
        try:
            await wait(work)
        except BaseException as broken:
            if self.drop(work):
                raise
            work.left = True
            # Without an event loop, where a coroutine is closed, nobody can tell what a cancellation is; nor wait.
            if leave or isinstance(broken, GeneratorExit) or not isinstance(broken, anyio.get_cancelled_exc_class()):
                raise
            # A cancelled scope goes on asking by itself; what is of no scope is asked for once.
            of_no_scope = anyio.current_effective_deadline() > -math.inf
            again = _task() in _sent_again
            again = await _ended(work) or again
            ended_early = isinstance(work.error, LeftError)
            if again or (of_no_scope and not ended_early):
                _cancel_again(broken, asked)
            if ended_early:
                raise
        return work.result()


async def wait(work: Work[Any]) -> None:
    """Wait until it is done; what breaks off the wait does nothing to the work."""
    done = anyio.Event()
    tell = _teller()

    def told() -> None:
        try:
            tell(done.set)
        except RuntimeError:  # the event loop has ended, and who waited in it
            return

    work.watch(told)
    try:
        await done.wait()
    finally:
        work.unwatch(told)


def _teller() -> Callable[[Callable[[], object]], object]:
    """What makes a call in this event loop, from any thread, and does not wait for it: a loop may stand still."""
    native: Any = current_token().native_token
    if isinstance(native, asyncio.AbstractEventLoop):
        return native.call_soon_threadsafe
    tell: Callable[[Callable[[], object]], object] = native.run_sync_soon  # trio's
    return tell


async def _ended(work: Work[Any]) -> bool:
    """Wait until it is done; whether the task itself was cancelled meanwhile, which no shield keeps away."""
    cancelled = False
    with anyio.CancelScope(shield=True):
        while not work.done:
            try:
                await wait(work)
            except anyio.get_cancelled_exc_class():
                cancelled = True
    return cancelled


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # under trio
        return None


# Tasks that are about to be cancelled again, and how often each was asked to end before that.
_held_up: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
# Those that were, since their last call began: a call that is under way then holds the same up again.
_sent_again: WeakSet[asyncio.Task[Any]] = WeakSet()


def _asked() -> int:
    """How often this task was asked to end, and was told so; what is held up is still to come."""
    task = _task()
    if task is None:
        return 0
    _sent_again.discard(task)
    return _held_up.get(task, task.cancelling())


def _cancel_again(broken: BaseException, asked: int) -> None:
    """Let a native cancellation that was held up meet the next wait of this task.

    Not by cancelling now: a task that is being cancelled when it returns counts as cancelled, and its answer is lost.

    Args:
        broken: What it came as.
        asked: How often the task was asked to end before.
    """
    task = _task()
    if task is None:
        return

    def cancel() -> None:
        _held_up.pop(task, None)
        # Whoever asked may have taken it back meanwhile, as `asyncio.timeout` does at its end.
        if not task.done() and task.cancelling() > asked:
            _sent_again.add(task)
            task.uncancel()
            task.cancel(*broken.args[:1])

    _held_up[task] = asked
    asyncio.get_running_loop().call_soon(cancel)


class _NoMore:
    """Stands for the end of an iterator."""


_NO_MORE: Final = _NoMore()


class Steps(AsyncIterator[T], Generic[T]):
    """An iterator that blocks, one step at a time in a worker thread; also a context manager that closes it.

    A step that was cancelled loses nothing: what it comes to is the next one's answer. Tasks that share it each get
    what no other gets.

    Args:
        calls: Make the steps.
        iterator: The iterator. If it has a `close`, that is called in the end, also where it is left early.
    """

    def __init__(self, calls: Calls, iterator: Iterator[T]) -> None:
        self._calls = calls
        self._iterator: Iterator[T] | None = iterator
        self._stepping = threading.Lock()
        self._turn = anyio.Lock()
        self._step: Work[T | _NoMore] | None = None
        self._cut: Exception | None = None

    async def __anext__(self) -> T:
        async with self._turn:
            if self._step is None:
                if self._iterator is None:
                    raise self._end()
                self._step = self._calls.start(Work(self._next))
            step = self._step
            try:
                await wait(step)
            except BaseException:
                if self._calls.drop(step):
                    self._step = None
                raise
            self._step = None
            answer = step.result()
        if isinstance(answer, _NoMore):
            raise self._end()
        return answer

    def _end(self) -> Exception:
        return StopAsyncIteration() if self._cut is None else self._cut.with_traceback(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close it, once a step that is under way has ended; done also when this is cancelled."""
        self.end()
        if self._iterator is None:
            return
        with suppress(ClosedError):  # whoever closes the workers closes this too
            await self._calls.make(self.close, kept=True)

    def end(self) -> None:
        """Let a step that is under way end as soon as it can."""
        step = self._step
        if step is not None:
            step.left = True

    def close(self, cut: Exception | None = None) -> None:
        """Close it, in this thread.

        Args:
            cut: What is raised from then on where it has not come to its end; left out, it counts as ended.
        """
        with self._stepping:
            if self._iterator is not None:
                self._cut = cut
            self._let_go()

    def _next(self, step: Work[T | _NoMore]) -> T | _NoMore:
        with self._stepping:
            if self._iterator is None or not step.begin():
                return _NO_MORE
            try:
                return next(self._iterator)
            except (StopIteration, LeftError):
                self._let_go()
                return _NO_MORE
            except BaseException:
                self._let_go()
                raise

    def _let_go(self) -> None:
        iterator, self._iterator = self._iterator, None
        close: Callable[[], object] | None = getattr(iterator, "close", None)
        if close is not None:
            close()
