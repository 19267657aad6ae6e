"""Bulk decoding without the cyclic garbage collector, which would walk the growing heap again and again."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dynalayer.forking import Lock

__all__ = ["paused_collector"]

_lock = Lock()
_own = threading.local()  # `pauses` of this thread
_paused = 0
_was_enabled = False


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pause the cyclic garbage collector of this process; nested and concurrent pauses share one.

    It runs again, if it ran before, when the last pause has ended, whatever happened meanwhile.
    """
    global _paused, _was_enabled  # noqa: PLW0603 -- the collector is one for the process, and so is its pause
    with _lock:
        _paused += 1  # first, since a signal's handler may come in between and pause it too
        if _paused == 1:
            _was_enabled = gc.isenabled()
            gc.disable()
        _own.pauses = getattr(_own, "pauses", 0) + 1
    try:
        yield
    finally:
        with _lock:
            _own.pauses -= 1
            _end(1)


def _end(pauses: int) -> None:
    global _paused  # noqa: PLW0603 -- see above
    if pauses and _paused == pauses and _was_enabled:
        gc.enable()
    _paused -= pauses  # last, for the same reason


def _after_fork_in_child() -> None:
    """The threads that paused it are not in this process, but for the one that forked."""
    _end(_paused - getattr(_own, "pauses", 0))


os.register_at_fork(after_in_child=_after_fork_in_child)
