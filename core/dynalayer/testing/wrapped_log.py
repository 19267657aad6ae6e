"""An event log around another: what stands between an engine and its log in tests is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from dynalayer.costs import Usage
from dynalayer.eventlog.base import (
    Appended,
    Draft,
    EventLog,
    Head,
    HeadMove,
    LayerState,
    LogCosts,
    Mark,
    OldSegment,
    PartitionState,
    Run,
    Unmarked,
)
from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove
from dynalayer.eventlog.watching import Reached, Watch

__all__ = ["WrappedLog"]

P = ParamSpec("P")
T = TypeVar("T")


class WrappedLog(EventLog):
    """An event log around another. Every method but `close` is called by `through`, which subclasses override.

    Args:
        log: The log that does the work.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.table = log.table
        self.location = log.location
        self.record_limit = log.record_limit
        self.group_limit = log.group_limit

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._log!r})"

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: ARG002 -- for subclasses
        """Make the call of a method, by whose name it is known, and return its answer."""
        return call(*args, **kwargs)

    @property
    def origin(self) -> str:
        """See `EventLog`."""
        return self._log.origin

    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        """See `EventLog`."""
        return self.through("append", self._log.append, drafts)

    def tail(self, partition: str) -> int:
        """See `EventLog`."""
        return self.through("tail", self._log.tail, partition)

    def append_after(
        self, drafts: Sequence[Draft], tails: Mapping[str, int], *, checkpoints: Sequence[CheckpointMove] = ()
    ) -> tuple[Appended, ...] | None:
        """See `EventLog`."""
        return self.through("append_after", self._log.append_after, drafts, tails, checkpoints=checkpoints)

    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        """See `EventLog`."""
        return self.through("read", self._log.read, partition, after, max_bytes=max_bytes)

    def head(self, partition: str) -> Head:
        """See `EventLog`."""
        return self.through("head", self._log.head, partition)

    def move_head(self, partition: str, move: HeadMove) -> bool:
        """See `EventLog`."""
        return self.through("move_head", self._log.move_head, partition, move)

    def unmarked(self, partition: str, through: int, limit: int) -> tuple[Unmarked, ...]:
        """See `EventLog`."""
        return self.through("unmarked", self._log.unmarked, partition, through, limit)

    def mark(self, partition: str, marks: Sequence[Mark]) -> None:
        """See `EventLog`."""
        return self.through("mark", self._log.mark, partition, marks)

    def pending(self) -> tuple[str, ...]:
        """See `EventLog`."""
        return self.through("pending", self._log.pending)

    def partitions(self) -> tuple[str, ...]:
        """See `EventLog`."""
        return self.through("partitions", self._log.partitions)

    def survey(self) -> Mapping[str, Reached]:
        """See `EventLog`."""
        return self.through("survey", self._log.survey)

    def watch(self) -> Watch:
        """See `EventLog`; its looks go by the name `look`."""
        return _WrappedWatch(self, self.through("watch", self._log.watch))

    def lease(self, partition: str, owner: str, now: int, until: int) -> bool:
        """See `EventLog`."""
        return self.through("lease", self._log.lease, partition, owner, now, until)

    def release(self, partition: str, owner: str) -> None:
        """See `EventLog`."""
        return self.through("release", self._log.release, partition, owner)

    def old_segments(self, partition: str) -> tuple[OldSegment, ...]:
        """See `EventLog`."""
        return self.through("old_segments", self._log.old_segments, partition)

    def forget_old_segments(self, partition: str, refs: Sequence[str]) -> None:
        """See `EventLog`."""
        return self.through("forget_old_segments", self._log.forget_old_segments, partition, refs)

    def checkpoint(self, scope: str, name: str) -> Checkpoint | None:
        """See `EventLog`."""
        return self.through("checkpoint", self._log.checkpoint, scope, name)

    def checkpoints(self, scope: str, *, from_name: str = "") -> tuple[Checkpoint, ...]:
        """See `EventLog`."""
        return self.through("checkpoints", self._log.checkpoints, scope, from_name=from_name)

    def move_checkpoint(self, move: CheckpointMove) -> bool:
        """See `EventLog`."""
        return self.through("move_checkpoint", self._log.move_checkpoint, move)

    def expire(self, now: int, limit: int, syncs_before: str) -> int:
        """See `EventLog`."""
        return self.through("expire", self._log.expire, now, limit, syncs_before)

    def knows_cursor(self, cursor: str) -> bool:
        """See `EventLog`."""
        return self.through("knows_cursor", self._log.knows_cursor, cursor)

    def last_cursor(self) -> str:
        """See `EventLog`."""
        return self.through("last_cursor", self._log.last_cursor)

    def partition_state(self, partition: str, *, lag: float = 0) -> PartitionState:
        """See `EventLog`."""
        return self.through("partition_state", self._log.partition_state, partition, lag=lag)

    def layer_state(self, *, lag: float = 0) -> LayerState:
        """See `EventLog`."""
        return self.through("layer_state", self._log.layer_state, lag=lag)

    def costs(self, partition: str) -> LogCosts | None:
        """See `EventLog`."""
        return self.through("costs", self._log.costs, partition)

    def usage(self) -> Mapping[str, Usage]:
        """See `EventLog`. Never through `through`: it asks nobody."""
        return self._log.usage()

    def close(self) -> None:
        """See `EventLog`. Never through `through`: what is held is given back whatever happened."""
        self._log.close()


class _WrappedWatch(Watch):
    def __init__(self, log: WrappedLog, watch: Watch) -> None:
        self._log = log
        self._watch = watch

    def look(self) -> Mapping[str, Reached]:
        return self._log.through("look", self._watch.look)
