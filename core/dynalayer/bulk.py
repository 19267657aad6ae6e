"""Bulk decoding without the cyclic garbage collector, which would walk the growing heap again and again."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused_collector"]

_lock = threading.Lock()
_paused = 0
_was_enabled = False


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pause the cyclic garbage collector of this process; nested and concurrent pauses share one.

    It runs again, if it ran before, when the last pause has ended, whatever happened meanwhile.
    """
    global _paused, _was_enabled  # noqa: PLW0603 -- the collector is one for the process, and so is its pause
    with _lock:
        if _paused == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _paused += 1
    try:
        yield
    finally:
        with _lock:
            _paused -= 1
            if _paused == 0 and _was_enabled:
                gc.enable()
