"""Actors that stand still: one thread each, of which only one goes on at a time, call by call.

A read gives a record at each step and the head at the last, as a log does that is read page by page; a marking marks
one record at a step. What the model leaves out passes without a stop: leases, counts, cursors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from dynalayer import (
    Capabilities,
    EventLogError,
    MemoryEventLog,
    Segment,
    SegmentMissingError,
    WrappedAdapter,
    hookimpl,
)
from dynalayer.eventlog.base import HeadMove, Mark, Run
from dynalayer.testing.faults import WrappedLog
from dynalayer.testing.model.world import BASE

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = 60  # seconds; an actor's step takes microseconds
_ABSENT = {"lease": True, "release": None, "expire": 0}  # in the model each takes the partition, and time lets expire
_FREE = {"last_cursor", "partition_state"}


class Stopped(BaseException):
    """The trace is over. No `Exception`: what handles errors must not go on."""


class Shelf:
    """A store in memory that lists what it has in the model's order."""

    name = "shelf"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.kept: dict[str, Segment] = {}
        self.ever: dict[str, Segment] = {}

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self.kept[segment.name] = self.ever[segment.name] = segment
        return segment.name

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        if ref not in self.kept:
            raise SegmentMissingError(f"{ref} is not on the shelf")
        return self.kept[ref]

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        return self.kept.pop(ref, None) is not None

    @hookimpl
    def layer_list(self, partition: str) -> list[str]:
        return sorted(self.kept, key=lambda ref: shown(self.kept[ref]))


def shown(segment: Segment) -> tuple[int, int, tuple[int, ...]]:
    """A segment as the model has it, its events sorted."""
    after = BASE if segment.kind == "base" else segment.from_version
    return after, segment.to_version, tuple(sorted(int(each) for each in segment.items))


class Player:
    """One actor: a thread that stands still before each call until it is told to go on.

    Attributes:
        point: The call that it stands before; None once it has done all.
        answers: What its work came to, in order.
        fault: What happens to the move that it makes next: `"lost"` or `"late"`.
        late: Moves that are under way.
    """

    def __init__(self, work: Callable[[Player], None]) -> None:
        self.point: str | None = None
        self.answers: list[Any] = []
        self.fault: str | None = None
        self.late: list[HeadMove] = []
        self.version = 0
        self._go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._stop = False
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._wait()

    def _run(self, work: Callable[[Player], None]) -> None:
        try:
            work(self)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 -- told in the test's own thread
            self._failed = error
        self.point = None
        self._stands.release()

    def stand(self, point: str) -> None:
        """Stand still before a call."""
        if threading.current_thread() is not self._thread:
            return
        self.point = point
        self._stands.release()
        self._go.acquire()
        if self._stop:
            raise Stopped

    def go(self, point: str) -> None:
        """Let it make the call that it stands before, and go on to the next."""
        assert self.point == point, f"the engine is at {self.point}, the model at {point}"
        self._go.release()
        self._wait()

    def _wait(self) -> None:
        assert self._stands.acquire(timeout=_PATIENCE), f"stuck after {self.point}"
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        self._stop = True
        self._go.release()
        self._thread.join(_PATIENCE)


class StepLog(WrappedLog):
    """The log as one actor sees it."""

    def __init__(self, log: MemoryEventLog, slots: int, *, atomic: bool) -> None:
        super().__init__(log)
        self.player: Player | None = None
        self._slots = slots
        self._atomic = atomic

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        player = self.player
        if player is None:
            return call(*args, **kwargs)
        if method in _ABSENT:
            return cast(T, _ABSENT[method])
        if method not in _FREE:
            player.stand(method)
        if method == "move_head" and player.fault:
            fault, player.fault = player.fault, None
            move: Any = args[1]
            if fault == "late":
                player.late.append(move)
            else:
                call(*args, **kwargs)
            raise EventLogError("the answer is lost", retryable=True)
        return call(*args, **kwargs)

    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        player = self.player
        if player is None or self._atomic:
            return super().read(partition, after, max_bytes=max_bytes)
        records = []
        # An as-of reader looks no further than the version asked for; what is above cannot matter to it.
        last = player.version or self._slots
        for slot in range(after + 1, self._slots + 1):
            if slot <= last:
                player.stand("slot")
            records += [record for record in self._log.read(partition, slot - 1).records if record.version == slot]
        if not player.version:
            player.stand("head")
        return Run(tuple(records), self._log.head(partition))

    def mark(self, partition: str, marks: Sequence[Mark]) -> None:
        for each in marks:
            if self.player is not None:
                self.player.stand("mark")
            self._log.mark(partition, [each])


class StepShelf(WrappedAdapter):
    """The store as one actor sees it."""

    def __init__(self, inner: Shelf, *, tracked: bool) -> None:
        super().__init__(inner)
        self.player: Player | None = None
        self._tracked = tracked

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self.player is not None and (self._tracked or method != "layer_getter"):
            self.player.stand(method)
        return call(*args, **kwargs)
