"""Pages read side by side by a few threads, and handed over through a queue that holds few of them."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from typing import TypeVar

__all__ = ["side_by_side"]

T = TypeVar("T")

_LOOK = 0.1  # seconds after which a thread that has a page to hand over looks whether anybody still wants it


class _End:
    """A thread has ended; with what it raised, if that is why."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def side_by_side(reads: Sequence[Callable[[], Iterator[T]]]) -> Generator[T]:
    """What iterators give, each read by a thread; in the order of each, mixed.

    Each thread holds one page more than the queue, which holds one for each. Where no thread can be had the caller
    reads by itself. When the generator is closed, or one of the reads fails, no thread runs any more once it has ended.

    Args:
        reads: What begins each.

    Raises:
        BaseException: What the first of them raised that failed.
    """
    if len(reads) == 1:
        yield from reads[0]()
        return
    pages: queue.Queue[T | _End] = queue.Queue(maxsize=max(1, len(reads)))
    stopped = threading.Event()
    left = deque(reads)
    threads: list[threading.Thread] = []
    try:
        _start(threads, left, pages, stopped)
        running = len(threads)
        while running:
            page = pages.get()
            if not isinstance(page, _End):
                yield page
                continue
            running -= 1
            if page.error is not None:
                raise page.error
        while left:
            yield from left.popleft()()
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _start(
    threads: list[threading.Thread],
    left: deque[Callable[[], Iterator[T]]],
    pages: queue.Queue[T | _End],
    stopped: threading.Event,
) -> None:
    """Add a running thread for each that is left, or as many as can be had."""
    for _ in range(len(left)):
        context = copy_context()  # one of its own, so that requests are counted under the caller's operation
        work = partial(context.run, _run, left, pages, stopped)
        thread = threading.Thread(target=work, name="dynalayer-source")
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            return
        threads.append(thread)


def _run(left: deque[Callable[[], Iterator[T]]], pages: queue.Queue[T | _End], stopped: threading.Event) -> None:
    error: BaseException | None = None
    try:
        while not stopped.is_set():
            try:
                read = left.popleft()
            except IndexError:
                break
            for page in read():
                if not _handed(pages, page, stopped):
                    return
    except BaseException as raised:  # noqa: BLE001 -- raised where the pages are taken
        error = raised
    _handed(pages, _End(error), stopped)


def _handed(pages: queue.Queue[T | _End], page: T | _End, stopped: threading.Event) -> bool:
    """Hand a page over; False if nobody wants it any more."""
    while not stopped.is_set():
        try:
            pages.put(page, timeout=_LOOK)
        except queue.Full:
            continue
        return True
    return False
