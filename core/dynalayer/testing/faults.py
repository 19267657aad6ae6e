"""Faults on purpose: a process that dies at a named point of its work.

A crash point is `"before METHOD"` or `"after METHOD"`, where the method is one of the event log's or a storage hook.
`Crash` says where, when and how; `CrashPoints` stands around the log and `CrashingStore` around the adapter::

    crash = Crash("after move_head", "before mark", probability=0.05, seed=7)
    log = CrashPoints(SQLiteEventLog("events.db", "users"), crash)
    layer = Layer(table="users", ..., events=log, storage=[CrashingStore(crash), "local:snapshots"])

`WrappedLog` and `dynalayer.WrappedAdapter` are what both are made of: every call goes through one method, for
subclasses that count calls, lose answers, or let something else happen in between.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

from dynalayer.errors import ConfigurationError
from dynalayer.eventlog.base import EventLog
from dynalayer.hookspecs import Adapter
from dynalayer.testing.wrapped_log import WrappedLog
from dynalayer.wrapping import WrappedAdapter

__all__ = [
    "FOLLOW_POINTS",
    "HISTORY_POINTS",
    "RESET_POINTS",
    "SET_POINTS",
    "SYNC_POINTS",
    "TAKEOVER_POINTS",
    "VACUUM_POINTS",
    "Crash",
    "CrashPoints",
    "Crashed",
    "CrashingStore",
    "WrappedLog",
]

P = ParamSpec("P")
T = TypeVar("T")


def _around(*methods: str) -> tuple[str, ...]:
    return tuple(f"{when} {method}" for method in methods for when in ("before", "after"))


SET_POINTS = _around("append")
"""Every crash point of a `set()` that no strategy answers with a sync."""

SYNC_POINTS = _around(
    "pending",
    "last_cursor",
    "lease",
    "head",
    "unmarked",
    "read",
    "layer_setter",
    "move_head",
    "mark",
    "layer_getter",
    "expire",
    "release",
)
"""Every crash point of a `sync()`, compaction included, about in the order in which they are first reached."""

HISTORY_POINTS = _around("old_segments", "forget_old_segments")
"""Every crash point that a `sync()` with `history="forever"` has besides `SYNC_POINTS`."""

VACUUM_POINTS = _around(
    "partitions", "layer_list", "head", "move_head", "old_segments", "layer_discard", "forget_old_segments"
)
"""Every crash point of a `vacuum()` that meets its own segments only, in the order in which they are first reached."""

TAKEOVER_POINTS = _around(
    "lease",
    "head",
    "append",
    "read",
    "last_cursor",
    "layer_setter",
    "move_head",
    "release",
    "partition_state",
    "unmarked",
    "mark",
    "expire",
)
"""Every crash point of an `import_snapshot()`, about in the order in which they are first reached."""

RESET_POINTS = _around(
    "checkpoint",
    "move_checkpoint",
    "partitions",
    "pending",
    "partition_state",
    "head",
    "lease",
    "append",
    "read",
    "last_cursor",
    "layer_setter",
    "move_head",
    "release",
    "unmarked",
    "mark",
    "expire",
)
"""Every crash point of a `reset()`, about in the order in which they are first reached."""
FOLLOW_POINTS = _around(
    "checkpoint", "move_checkpoint", "checkpoints", "survey", "head", "read", "watch", "look", "partition_state"
)
"""Every crash point of a `follow()` that makes its consumer, about in the order in which they are first reached."""

_HOOKS = (
    "layer_setter",
    "layer_getter",
    "layer_discard",
    "layer_list",
    "layer_columns_setter",
    "layer_columns",
    "layer_publish",
)
_POINTS = frozenset(_around(*EventLog.__abstractmethods__ - {"origin", "close"}, "tail", "watch", "look", *_HOOKS))


class Crashed(BaseException):
    """The process counts as dead. No `Exception`: what handles errors must not outlive it.

    Attributes:
        point: Where it died.
    """

    def __init__(self, point: str) -> None:
        super().__init__(f"crashed {point}")
        self.point = point


class Crash:
    """Where, when and how one process dies. Give the same object to its log and to its storage.

    Args:
        *points: Crash points; each may be of the log or of the storage.
        nth: It dies at its n-th arrival at any of the points, from 1.
        probability: In place of `nth`: how likely it dies at each arrival, from 0 to 1.
        seed: Of the random numbers that decide: the same arrivals then end the same way.
        how: `"kill"`: by SIGKILL, at once, nothing is cleaned up. `"raise"`: `Crashed` is raised, and again by every
            later call through what has this object, which does nothing more: the dead hold no lease back. `"stop"`:
            it stands still, by SIGSTOP, and goes on from there once somebody sends it SIGCONT.
        tell: Called with the point's name right before, to keep the count; what it raises is raised in place of the
            crash.

    Raises:
        ConfigurationError: There is no such crash point, or no such moment.
    """

    def __init__(
        self,
        *points: str,
        nth: int = 1,
        probability: float | None = None,
        seed: int = 0,
        how: Literal["kill", "raise", "stop"] = "kill",
        tell: Callable[[str], object] | None = None,
    ) -> None:
        for point in points:
            if point not in _POINTS:
                raise ConfigurationError(f"there is no crash point {point!r}; there are: {', '.join(sorted(_POINTS))}")
        if nth < 1 or not (probability is None or 0 <= probability <= 1):
            raise ConfigurationError(f"a crash at arrival nth={nth}, probability={probability} never comes")
        self._points = frozenset(points)
        self._nth = nth
        self._probability = probability
        self._random = random.Random(seed)  # noqa: S311 -- it must repeat
        self._how = how
        self._tell = tell
        self._lock = threading.Lock()
        self._arrivals = 0
        self.crashed: str | None = None

    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call, and die before or after it if that is where and when."""
        self._reach(f"before {method}")
        answer = call(*args, **kwargs)
        self._reach(f"after {method}")
        return answer

    def _reach(self, point: str) -> None:
        with self._lock:
            if self.crashed is not None:
                raise Crashed(self.crashed)
            if point not in self._points or not self._now():
                return
            if self._how != "stop":
                self.crashed = point
        if self._tell is not None:
            self._tell(point)
        if self._how == "raise":
            raise Crashed(point)
        os.kill(os.getpid(), signal.SIGKILL if self._how == "kill" else signal.SIGSTOP)

    def _now(self) -> bool:
        self._arrivals += 1
        if self._probability is None:
            return self._arrivals == self._nth
        return self._random.random() < self._probability


class CrashPoints(WrappedLog):
    """An event log whose process dies where a `Crash` says.

    Args:
        log: The log that does the work.
        crash: Where, when and how.
    """

    def __init__(self, log: EventLog, crash: Crash) -> None:
        super().__init__(log)
        self._crash = crash

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make the call, and die before or after it if that is where and when."""
        return self._crash.around(method, call, *args, **kwargs)


class CrashingStore:
    """A wrapper for a `storage` list: the process dies where a `Crash` says.

    Args:
        crash: Where, when and how.
    """

    name = "crashing"

    def __init__(self, crash: Crash) -> None:
        self._crash = crash

    def around(self, inner: Adapter) -> Adapter:
        """The adapter with its crash points; capabilities are those of `inner`."""
        return _CrashingAdapter(inner, self._crash)


class _CrashingAdapter(WrappedAdapter):
    def __init__(self, inner: Adapter, crash: Crash) -> None:
        super().__init__(inner)
        self._crash = crash

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._crash.around(method, call, *args, **kwargs)
