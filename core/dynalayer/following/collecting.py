"""Whether Python's garbage collector is at work in this thread.

It may interrupt a thread anywhere, within a log's lock or transaction too: what it finalizes must then ask nothing of a
log, or the thread waits for itself.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

__all__ = ["is_collecting", "notice_collector"]

_at_work: set[int] = set()


def notice_collector() -> None:
    """Notice from now on when it is at work; as often as one likes."""
    if _notice not in gc.callbacks:
        gc.callbacks.append(_notice)


def is_collecting() -> bool:
    """Whether it is at work in this thread."""
    return threading.get_ident() in _at_work


def _notice(phase: str, _info: dict[str, Any]) -> None:
    if phase == "start":
        _at_work.add(threading.get_ident())
    else:
        _at_work.discard(threading.get_ident())
