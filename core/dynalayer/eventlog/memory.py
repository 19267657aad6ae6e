"""The event log in memory: the plainest one, and the model that the others are compared with."""

from __future__ import annotations

import copy
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from dynalayer.clock import INITIAL, MICROSECONDS
from dynalayer.errors import ClosedError
from dynalayer.eventlog.base import (
    MAX_LEASE,
    Appended,
    Draft,
    EventLog,
    Head,
    HeadMove,
    LayerState,
    Mark,
    OldSegment,
    PartitionState,
    Record,
    Run,
    Unmarked,
)
from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove, check_move
from dynalayer.eventlog.watching import Reached

__all__ = ["MemoryEventLog"]


@dataclass(slots=True)
class _Partition:
    head: Head = field(default_factory=Head)
    records: dict[int, Record] = field(default_factory=dict)
    ttls: dict[int, int] = field(default_factory=dict)
    version: int = 0
    at: int = 0
    events_total: int = 0
    bytes_total: int = 0
    old: dict[str, OldSegment] = field(default_factory=dict)
    lease_owner: str = ""
    lease_until: int = 0

    @property
    def pending(self) -> bool:
        return self.version > self.head.version


class MemoryEventLog(EventLog):
    """An event log that lives as long as its object: for tests, trials and caches.

    Args:
        table: The layer's table.
    """

    def __init__(self, table: str) -> None:
        self.table = table
        self.location = "memory:"
        self.record_limit = 64 * 1024 * 1024
        self._origin = secrets.token_hex(8)
        self._lock = threading.RLock()
        self._partitions: dict[str, _Partition] = {}
        self._state = LayerState()
        self._cursors: dict[str, int] = {}
        self._checkpoints: dict[tuple[str, str], tuple[Checkpoint, int | None]] = {}
        self._last_nonce = ""
        self._closed = False

    def __repr__(self) -> str:
        return f"MemoryEventLog(table={self.table!r})"

    @property
    def origin(self) -> str:
        """See `EventLog`."""
        return self._origin

    def copy(self) -> MemoryEventLog:
        """Another log of the same past and identity, which from now on goes its own way."""
        with self._open():
            other = copy.copy(self)
            vars(other).update(
                _lock=threading.RLock(),
                _partitions=copy.deepcopy(self._partitions),
                _cursors=dict(self._cursors),
                _checkpoints=dict(self._checkpoints),
            )
            return other

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise ClosedError("the event log was closed")
            yield

    def _of(self, partition: str) -> _Partition:
        return self._partitions.get(partition) or _Partition()

    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        """See `EventLog`; here the partitions of one call are written together or not at all."""
        with self._open():
            appended = tuple(self._append(draft) for draft in drafts)
            if drafts:
                self._last_nonce = drafts[-1].nonce
            count = sum(draft.count for draft in drafts)
            self._state = replace(self._state, appended=self._state.appended + count)
            return appended

    def _append(self, draft: Draft) -> Appended:
        kept = self._partitions.setdefault(draft.partition, _Partition())
        kept.version += 1
        kept.at = max(kept.at, draft.at)
        kept.events_total += draft.count
        kept.bytes_total += len(draft.payload)
        kept.records[kept.version] = Record(
            version=kept.version,
            kind=draft.kind,
            nonce=draft.nonce,
            at=kept.at,
            count=draft.count,
            retention=draft.retention,
            payload=draft.payload,
            events_total=kept.events_total,
            bytes_total=kept.bytes_total,
            cursor=INITIAL,
        )
        return Appended(draft.partition, kept.version, kept.at)

    def append_after(
        self, drafts: Sequence[Draft], tails: Mapping[str, int], *, checkpoints: Sequence[CheckpointMove] = ()
    ) -> tuple[Appended, ...] | None:
        """See `EventLog`."""
        for move in checkpoints:
            check_move(move)
        with self._open():
            if any(self._of(draft.partition).version != tails[draft.partition] for draft in drafts):
                return None
            if any(self._revision(move) != move.expected for move in checkpoints):
                return None
            for move in checkpoints:
                self._move_checkpoint(move)
            return self.append(drafts)

    def checkpoint(self, scope: str, name: str) -> Checkpoint | None:
        """See `EventLog`."""
        with self._open():
            found, _ = self._checkpoints.get((scope, name), (None, None))
            return found

    def checkpoints(self, scope: str, *, from_name: str = "") -> tuple[Checkpoint, ...]:
        """See `EventLog`."""
        with self._open():
            start = from_name.encode()
            found = (
                each for each, _ in self._checkpoints.values() if each.scope == scope and each.name.encode() >= start
            )
            return tuple(sorted(found, key=lambda each: each.name.encode()))

    def move_checkpoint(self, move: CheckpointMove) -> bool:
        """See `EventLog`."""
        check_move(move)
        with self._open():
            if self._revision(move) != move.expected:
                return False
            self._move_checkpoint(move)
            return True

    def _revision(self, move: CheckpointMove) -> int:
        found, _ = self._checkpoints.get((move.scope, move.name), (None, None))
        return found.revision if found else 0

    def _move_checkpoint(self, move: CheckpointMove) -> None:
        if move.value is None:
            self._checkpoints.pop((move.scope, move.name), None)
            return
        moved = Checkpoint(move.scope, move.name, move.value, move.expected + 1)
        self._checkpoints[move.scope, move.name] = moved, move.ttl

    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        """See `EventLog`."""
        with self._open():
            kept = self._of(partition)
            records: list[Record] = []
            size = 0
            for version in sorted(version for version in kept.records if version > after):
                if records and max_bytes is not None and size >= max_bytes:
                    return Run(tuple(records), kept.head, complete=False)
                records.append(kept.records[version])
                size += len(kept.records[version].payload)
            return Run(tuple(records), kept.head)

    def head(self, partition: str) -> Head:
        """See `EventLog`."""
        with self._open():
            return self._of(partition).head

    def move_head(self, partition: str, move: HeadMove) -> bool:
        """See `EventLog`."""
        with self._open():
            kept = self._of(partition)
            if kept.head.revision != move.expected:
                return False
            self._partitions[partition] = kept
            kept.head = move.head
            for old in move.retired:
                kept.old[old.segment.ref] = old
            if move.folded:
                self._count_sync(move)
            return True

    def _count_sync(self, move: HeadMove) -> None:
        state, cursor = self._state, move.head.cursor
        self._cursors[cursor] = self._cursors.get(cursor, 0) + move.folded
        last = max(self._cursors)
        self._state = replace(
            state,
            folded=state.folded + move.folded,
            cursor=last,
            synced_times=state.synced_times + (1 if move.first else 0),
            synced_last_total=self._cursors[last],
        )

    def unmarked(self, partition: str, through: int, limit: int) -> tuple[Unmarked, ...]:
        """See `EventLog`."""
        with self._open():
            records = self._of(partition).records
            found = [
                Unmarked(version, records[version].nonce, records[version].retention)
                for version in sorted(records)
                if version <= through and records[version].cursor == INITIAL
            ]
            return tuple(found[:limit])

    def mark(self, partition: str, marks: Sequence[Mark]) -> None:
        """See `EventLog`."""
        with self._open():
            kept = self._of(partition)
            for mark in marks:
                record = kept.records.get(mark.version)
                if record and record.nonce == mark.nonce and record.cursor == INITIAL:
                    kept.records[mark.version] = replace(record, cursor=mark.cursor)
                    kept.ttls[mark.version] = mark.ttl

    def pending(self) -> tuple[str, ...]:
        """See `EventLog`."""
        with self._open():
            return tuple(
                sorted(
                    partition
                    for partition, kept in self._partitions.items()
                    if any(record.cursor == INITIAL for record in kept.records.values())
                )
            )

    def partitions(self) -> tuple[str, ...]:
        """See `EventLog`."""
        with self._open():
            return tuple(sorted(partition for partition, kept in self._partitions.items() if kept.version))

    def survey(self) -> Mapping[str, Reached]:
        """See `EventLog`."""
        with self._open():
            kept = self._partitions.items()
            return {partition: Reached(each.version, each.head.reset) for partition, each in kept if each.version}

    def lease(self, partition: str, owner: str, now: int, until: int) -> bool:
        """See `EventLog`."""
        with self._open():
            kept = self._partitions.setdefault(partition, self._of(partition))
            if kept.lease_owner not in ("", owner) and now < kept.lease_until <= now + MAX_LEASE:
                return False
            kept.lease_owner, kept.lease_until = owner, until
            return True

    def release(self, partition: str, owner: str) -> None:
        """See `EventLog`."""
        with self._open():
            kept = self._of(partition)
            if kept.lease_owner == owner:
                kept.lease_owner = ""

    def old_segments(self, partition: str) -> tuple[OldSegment, ...]:
        """See `EventLog`."""
        with self._open():
            return tuple(sorted(self._of(partition).old.values(), key=lambda old: old.segment.to_version))

    def forget_old_segments(self, partition: str, refs: Sequence[str]) -> None:
        """See `EventLog`."""
        with self._open():
            for ref in refs:
                self._of(partition).old.pop(ref, None)

    def expire(self, now: int, limit: int, syncs_before: str) -> int:
        """See `EventLog`."""
        with self._open():
            past = [key for key, (_, ttl) in self._checkpoints.items() if ttl is not None and ttl * MICROSECONDS <= now]
            for key in past[:limit]:
                del self._checkpoints[key]
            for cursor in sorted(cursor for cursor in self._cursors if cursor < syncs_before)[:limit]:
                if cursor != self._state.cursor:
                    del self._cursors[cursor]
            due = [
                (kept, version)
                for kept in self._partitions.values()
                for version, ttl in kept.ttls.items()
                if ttl * MICROSECONDS <= now
            ][:limit]
            for kept, version in due:
                del kept.ttls[version], kept.records[version]
            return len(due)

    def knows_cursor(self, cursor: str) -> bool:
        """See `EventLog`."""
        with self._open():
            return cursor in self._cursors

    def last_cursor(self) -> str:
        """See `EventLog`."""
        with self._open():
            return self._state.cursor

    def partition_state(self, partition: str, *, lag: float = 0) -> PartitionState:  # noqa: ARG002 -- it costs nothing
        """See `EventLog`."""
        with self._open():
            kept = self._of(partition)
            pending = kept.pending
            newest = kept.records.get(kept.version)
            oldest = kept.records.get(kept.head.version + 1)
            return PartitionState(
                partition=partition,
                head=kept.head,
                version=kept.version,
                events_total=kept.events_total,
                bytes_total=kept.bytes_total,
                last_count=newest.count if pending and newest else 0,
                pending_since=oldest.at if pending and oldest else None,
            )

    def layer_state(self, *, lag: float = 0) -> LayerState:  # noqa: ARG002 -- as above
        """See `EventLog`."""
        with self._open():
            newest = (kept.records.get(kept.version) for kept in self._partitions.values() if kept.pending)
            last = sum(record.count for record in newest if record and record.nonce == self._last_nonce)
            return replace(self._state, last_pending=last)

    def close(self) -> None:
        """See `EventLog`; what it held is gone."""
        with self._lock:
            self._closed = True
