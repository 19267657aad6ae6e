"""What was requested of a service that is paid by request, counted by the operation of the layer that asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from dynalayer.costs import Usage
from dynalayer.forking import Lock

__all__ = ["UsageCounter", "current_operation", "operation"]

_operation: ContextVar[str] = ContextVar("dynalayer-operation", default="other")


@contextmanager
def operation(name: str) -> Iterator[None]:
    """Count what is requested inside under this name; the innermost one counts."""
    token = _operation.set(name)
    try:
        yield
    finally:
        _operation.reset(token)


def current_operation() -> str:
    """The operation under which requests of this thread are counted; `"other"` outside of any."""
    return _operation.get()


class UsageCounter:
    """Sums of usage, by operation. May be used by many threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sums: dict[str, Usage] = {}

    def add(self, usage: Usage) -> None:
        """Count under the operation of this thread."""
        name = current_operation()
        with self._lock:
            self._sums[name] = self._sums.get(name, Usage()) + usage

    def sums(self) -> dict[str, Usage]:
        """What was counted so far."""
        with self._lock:
            return dict(self._sums)
