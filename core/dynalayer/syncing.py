"""The sync engine: folds pending events into snapshots, marks what is folded, compacts what has grown.

Any step may crash, run twice or be answered late. The head's compare-and-set alone makes an outcome; a lease only
saves double work.
"""

from __future__ import annotations

import itertools
import logging
import random
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dynalayer.clock import INITIAL, MICROSECONDS, Clock, from_iso, to_iso
from dynalayer.compaction import Compactor, retire
from dynalayer.errors import ConflictError, EventLogError, LayerError
from dynalayer.eventlog.base import MAX_DELTAS, EventLog, Head, HeadMove, Mark, Record, SegmentRef, Unmarked
from dynalayer.events import Change
from dynalayer.fold import NetChanges, apply_changes
from dynalayer.segments import Segment
from dynalayer.snapshots import Snapshots, changes_of, contiguous
from dynalayer.states import SyncResult
from dynalayer.storage import Storage

__all__ = ["Syncer"]

logger = logging.getLogger("dynalayer")

_FOLD_BYTES = 64 * 1024 * 1024  # packed; what one segment folds at most, so that a long backlog fits into memory
_PASSES = 1024  # segments that one sync writes at most for a partition; the next sync carries on
_TRIES = 32  # each loses only to a head that another moved
_MARKED_AT_ONCE = 1000
_EXPIRED_AT_ONCE = 10_000
_REMEMBERED_SYNCS = 400 * 86_400 * MICROSECONDS  # how long a sync's cursor is known in partitions it did not fold


@dataclass(slots=True)
class _Work:
    """One sync of one partition, and what it has done so far."""

    partition: str
    owner: str
    moment: int
    folded: int = 0


class _LeaseLostError(Exception):
    """Another sync has taken the partition over."""


class Syncer:
    """Folds pending events.

    Args:
        log: The layer's event log.
        storage: The layer's storage.
        snapshots: The layer's snapshots.
        clock: Tells cursors, ttls and leases.
        lease: How long a lease lasts, in seconds.
    """

    def __init__(self, log: EventLog, storage: Storage, snapshots: Snapshots, clock: Clock, lease: float) -> None:
        self._log = log
        self._storage = storage
        self._snapshots = snapshots
        self._clock = clock
        self._lease = int(lease * MICROSECONDS)
        self._compactor = Compactor(log, storage, snapshots, clock)

    def sync(self, partitions: Iterable[str]) -> SyncResult:
        """Fold what is pending in partitions, each as far as it goes.

        A partition that fails stays pending and keeps no other from being folded; its error is raised at the end.

        Raises:
            LayerError: The first partition's error; further ones stand in its notes.
        """
        moment = self._moment()
        owner = secrets.token_hex(8)
        done: list[_Work] = []
        errors: list[LayerError] = []
        locked = False
        for partition in partitions:
            work = _Work(partition, owner, moment)
            done.append(work)
            try:
                self._sync(work)
            except _LeaseLostError:
                locked = True
            except LayerError as error:
                errors.append(error.within(operation="sync", partition=partition))
        now = self._clock()
        self._log.expire(now, _EXPIRED_AT_ONCE, to_iso(now - _REMEMBERED_SYNCS))
        if errors:
            first, *others = errors
            for other in others:
                first.add_note(f"and: {other}")
            raise first
        count = sum(work.folded for work in done)
        return SyncResult(
            count=count,
            locked=locked,
            partitions=tuple(sorted(work.partition for work in done if work.folded)),
            cursor=to_iso(moment) if count else None,
        )

    def _moment(self) -> int:
        """This sync's moment: later than every sync's before it, whatever the clocks say."""
        last = self._log.layer_state().cursor
        now = self._clock()
        return now if last == INITIAL else max(now, from_iso(last) + 1)

    def _sync(self, work: _Work) -> None:
        self._hold(work)
        try:
            self._mark_leftovers(work.partition)
            for _ in range(_PASSES):
                complete = self._fold(work)
                self._compactor.compact(work.partition)
                if complete:
                    break
        finally:
            try:
                self._log.release(work.partition, work.owner)
            except EventLogError as error:
                logger.warning("a lease could not be given back; it will run out by itself: %s", error)

    def _hold(self, work: _Work) -> None:
        """Take the lease, or prolong it."""
        now = self._clock()
        if not self._log.lease(work.partition, work.owner, now, now + self._lease):
            raise _LeaseLostError

    def _mark_leftovers(self, partition: str) -> None:
        """Mark what an earlier sync folded and did not come to mark."""
        head = self._log.head(partition)
        if not head.version:
            return
        for _ in range(_PASSES):
            left = self._log.unmarked(partition, head.version, _MARKED_AT_ONCE)
            self._mark(partition, head, left)
            if len(left) < _MARKED_AT_ONCE:
                return

    def _mark(self, partition: str, head: Head, folded: Sequence[Unmarked]) -> None:
        now = -(-self._clock() // MICROSECONDS)
        for start in range(0, len(folded), _MARKED_AT_ONCE):
            marks = [
                Mark(record.version, record.nonce, head.cursor_of(record.version), now + record.retention)
                for record in folded[start : start + _MARKED_AT_ONCE]
            ]
            self._log.mark(partition, marks)

    def _fold(self, work: _Work) -> bool:
        """Fold the pending run, or as much of it as one segment takes; tell whether that was all.

        Raises:
            ConflictError: Others moved the head at every one of a bounded number of tries.
        """
        partition = work.partition
        for _ in range(_TRIES):
            head = self._log.head(partition)
            run = self._log.read(partition, head.version, max_bytes=_FOLD_BYTES)
            records = contiguous(run.records, head.version)
            if run.head.revision == head.revision:
                if not records:
                    return True
                if len(head.segments) > MAX_DELTAS:
                    # Only after compactions that failed; this one's error reaches the caller.
                    self._compactor.compact(partition)
                    continue
                self._hold(work)
                moved = self._move(work, head, records)
                if moved is not None:
                    work.folded += sum(record.count for record in records)
                    folded = [Unmarked(record.version, record.nonce, record.retention) for record in records]
                    self._mark(partition, moved, folded)
                    return run.complete
            time.sleep(random.uniform(0, 0.01))  # noqa: S311 -- jitter, no secret
        raise ConflictError(
            f"the head moved on at each of {_TRIES} tries to fold; sync again",
            operation="sync",
            partition=partition,
            retryable=True,
        )

    def _move(self, work: _Work, head: Head, records: Sequence[Record]) -> Head | None:
        """Write the records' segment and move the head to name it; None if another moved the head first."""
        partition, last = work.partition, records[-1]
        # Two syncers' clocks may differ: cursors rise with the versions all the same.
        own = to_iso(work.moment)
        cursor = own if head.cursor in (INITIAL, own) or head.cursor < own else to_iso(from_iso(head.cursor) + 1)
        changes = itertools.chain.from_iterable(changes_of(self._log, partition, record) for record in records)
        segment = self._segment(partition, head, last.version, changes)
        named = self._storage.put(segment, cursor=cursor, at=last.at)
        kept = head.segments if segment.kind == "delta" else ()
        replaced = head.segments[len(kept) :] if self._storage.capabilities.immutable else ()
        count = sum(record.count for record in records)
        again = head.cursor == cursor
        moved = Head(
            version=last.version,
            revision=head.revision + 1,
            segments=(*kept, named),
            events_total=last.events_total,
            bytes_total=last.bytes_total,
            at=last.at,
            cursor=cursor,
            synced_times=head.synced_times + (0 if again else 1),
            synced_last_total=count + (head.synced_last_total if again else 0),
            reset=head.reset,
            retention=max(head.retention, *(record.retention for record in records)),
            vacuums=head.vacuums,
        )
        retired = retire(replaced, self._clock(), moved.retention)
        return moved if self._moved(partition, HeadMove(head.revision, moved, retired, folded=count), named) else None

    def _moved(self, partition: str, move: HeadMove, named: SegmentRef) -> bool:
        """Move the head; where the answer is no, or lost, the head itself tells whether it was this that moved it."""
        try:
            if self._log.move_head(partition, move):
                return True
        except EventLogError:
            if named not in self._log.head(partition).segments:
                raise
            return True
        return named in self._log.head(partition).segments

    def _segment(self, partition: str, head: Head, version: int, changes: Iterable[Change]) -> Segment:
        """What the changes after a head come to: a base where there is none, or where no delta can be kept."""
        table, origin = self._log.table, self._log.origin
        if head.segments and self._storage.capabilities.deltas:
            net = NetChanges()
            net.add_changes(changes)
            return Segment(table, partition, origin, "delta", head.version, version, net.items, frozenset(net.deleted))
        items = self._snapshots.items(partition, head.segments)
        apply_changes(items, changes)
        return Segment(table, partition, origin, "base", 0, version, items)
