"""The sync engine: folds pending events into snapshots, marks what is folded, compacts what has grown.

Any step may crash, run twice or be answered late. The head's compare-and-set alone makes an outcome; a lease only
saves double work.
"""

from __future__ import annotations

import itertools
import random
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dynalayer.clock import MICROSECONDS, Clock, from_iso, to_iso
from dynalayer.compaction import Compactor, due
from dynalayer.errors import ConflictError, EventLogError, LayerError, SegmentMissingError
from dynalayer.eventlog.base import MAX_DELTAS, EventLog, Head, HeadMove, Mark, Record, Unmarked
from dynalayer.events import Change
from dynalayer.fold import NetChanges, apply_changes, apply_segment
from dynalayer.keeping import HistoryKeeper
from dynalayer.leaving import LeftError, go_on, has_left
from dynalayer.logs import log_failure
from dynalayer.moving import announce_empty, give_back, has_moved, head_after, new_moment, rising
from dynalayer.segments import Segment
from dynalayer.snapshots import Snapshots, changes_of, contiguous, missing_record
from dynalayer.states import SyncResult
from dynalayer.storage import Storage

__all__ = ["Syncer"]

_FOLD_BYTES = 8 * 1024 * 1024  # packed; what one segment folds at most: about 300 MB of Python objects
_PASSES = 4096  # segments that one sync writes at most for a partition; the next sync carries on
_TRIES = 32  # each loses only to a head that another moved
_MARKED_AT_ONCE = 1000
_EXPIRED_AT_ONCE = 10_000
_REMEMBERED_SYNCS = 400 * 86_400 * MICROSECONDS  # how long a sync's cursor is known in partitions it did not fold


@dataclass(slots=True)
class _Sync:
    """One sync, and what it has done so far.

    Attributes:
        owner: Holds the leases.
        moment: The cursor that it gives, in microseconds; raised where another sync's was later.
        folded: Partition to events folded there.
        records: Records folded.
        marked: Revision of the head, in the partition at hand, under which all that is folded was marked.
        held_until: How long the lease lasts in the partition at hand.
        locked: Whether a partition was left to another sync.
        errors: What failed, a partition each; what is no `LayerError` is a fault of ours, and stops no other either.
    """

    owner: str
    moment: int
    folded: dict[str, int] = field(default_factory=dict)
    records: int = 0
    marked: int = 0
    held_until: int = 0
    locked: bool = False
    errors: list[Exception] = field(default_factory=list)


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
        keeper: Keeps the history of what is folded.
    """

    def __init__(
        self,
        log: EventLog,
        storage: Storage,
        snapshots: Snapshots,
        clock: Clock,
        lease: float,
        keeper: HistoryKeeper,
    ) -> None:
        self._log = log
        self._storage = storage
        self._snapshots = snapshots
        self._clock = clock
        self._lease = int(lease * MICROSECONDS)
        self._keeper = keeper
        self._compactor = Compactor(log, storage, snapshots, keeper)

    def sync(self, partitions: Iterable[str]) -> tuple[SyncResult, Exception | None]:
        """Fold what is pending in partitions, each as far as it goes.

        A partition that fails stays pending and keeps no other from being folded. Where nobody waits for the sync any
        more it ends before the next partition or segment, and says so as its error.

        Returns:
            What was done, and the first partition's error, with further ones in its notes.
        """
        sync = _Sync(secrets.token_hex(8), new_moment(self._log, self._clock))
        for partition in partitions:
            if has_left():
                sync.errors.append(LeftError())
                break
            try:
                self._sync(sync, partition)
            except _LeaseLostError:
                sync.locked = True
            except LeftError as error:
                sync.errors.append(error)
                break
            except LayerError as error:
                sync.errors.append(error.within(operation="sync", partition=partition))
            except Exception as error:  # noqa: BLE001 -- raised at the end, as the others
                sync.errors.append(error)
        self.expire(sync.records)
        for other in sync.errors[1:]:
            sync.errors[0].add_note(f"and: {other}")
        result = SyncResult(
            count=sum(sync.folded.values()),
            locked=sync.locked,
            partitions=tuple(sorted(sync.folded)),
            cursor=to_iso(sync.moment) if sync.folded else None,
        )
        return result, sync.errors[0] if sync.errors else None

    def expire(self, folded: int = 0) -> None:
        """Delete expired records, in portions, more of them than were folded; a failure waits for the next sync."""
        now = self._clock()
        try:
            for _ in range(1 + 2 * folded // _EXPIRED_AT_ONCE):
                if self._log.expire(now, _EXPIRED_AT_ONCE, to_iso(now - _REMEMBERED_SYNCS)) < _EXPIRED_AT_ONCE:
                    return
        except EventLogError as error:
            text = "expired records could not be deleted; the next sync tries again: %s"
            log_failure(text, error, error=error, table=self._log.table)

    def _sync(self, sync: _Sync, partition: str) -> None:
        sync.held_until = 0
        self._hold(sync, partition)
        try:
            sync.marked = 0
            head = self._log.head(partition)
            self._mark_leftovers(sync, partition, head)
            for _ in range(_PASSES):
                head, complete = self._fold(sync, partition, head)
                if due(head.segments):
                    self._mark_leftovers(sync, partition, head)
                    head = self._compactor.compact(partition, head)
                if complete:
                    break
                go_on()
            if partition in sync.folded:
                self._keeper.tidy(partition, head)
        finally:
            give_back(self._log, partition, sync.owner)

    def _hold(self, sync: _Sync, partition: str) -> None:
        """Take the lease, or prolong it once half of it is gone; a mutable place needs it whole each time."""
        now = self._clock()
        if self._storage.capabilities.immutable and 2 * now < 2 * sync.held_until - self._lease:
            return
        sync.held_until = now + self._lease
        if not self._log.lease(partition, sync.owner, now, sync.held_until):
            raise _LeaseLostError

    def _mark_leftovers(self, sync: _Sync, partition: str, head: Head) -> None:
        """Mark what another sync folded and did not come to mark.

        Whenever another has moved the head, and before segments are replaced: they alone tell which sync folded what.
        """
        if head.revision == sync.marked:
            return
        sync.marked = head.revision
        if not head.version:
            return
        for _ in range(_PASSES):
            left = self._log.unmarked(partition, head.version, _MARKED_AT_ONCE)
            self._mark(partition, head, left)
            if len(left) < _MARKED_AT_ONCE:
                return

    def _mark(self, partition: str, head: Head, folded: Sequence[Unmarked]) -> None:
        now = self._clock()
        for start in range(0, len(folded), _MARKED_AT_ONCE):
            marks = []
            for record in folded[start : start + _MARKED_AT_ONCE]:
                cursor = head.cursor_of(record.version)
                # By the later of the clock and the cursor, which never runs backward: a clock that is behind must not
                # let records expire within the floor.
                moment = -(-max(now, from_iso(cursor)) // MICROSECONDS)
                marks.append(Mark(record.version, record.nonce, cursor, moment + record.retention))
            self._log.mark(partition, marks)

    def _fold(self, sync: _Sync, partition: str, head: Head) -> tuple[Head, bool]:
        """Fold the pending run after a head, or as much of it as one segment takes.

        Returns:
            The head as moved, or as last seen; and whether that was all that is pending.

        Raises:
            ConflictError: Others moved the head at every one of a bounded number of tries.
        """
        for _ in range(_TRIES):
            run = self._log.read(partition, head.version, max_bytes=_FOLD_BYTES)
            records = contiguous(run.records, head.version)
            hole = run.head.revision == head.revision and bool(run.records) and not records
            if run.head.revision == head.revision and not hole:
                if not any(record.count for record in records):
                    # Nothing, or resets that were not committed: an empty snapshot must not take the place of a cache
                    # that is about to be taken over. They stay pending until there is an event to fold.
                    return head, True
                if len(head.segments) > MAX_DELTAS:
                    # Only after compactions that failed; this one's error reaches the caller.
                    head = self._compactor.compact(partition, head)
                    continue
                self._mark_leftovers(sync, partition, head)
                self._hold(sync, partition)
                try:
                    moved = self._move(sync, partition, head, records)
                except SegmentMissingError:
                    if self._log.head(partition).revision == head.revision:
                        raise
                    moved = None  # others have replaced it, and a vacuum has discarded it
                if moved is not None:
                    folded = [Unmarked(record.version, record.nonce, record.retention) for record in records]
                    self._mark(partition, moved, folded)
                    sync.marked = moved.revision
                    return moved, run.complete
                head = self._log.head(partition)
            else:
                head = run.head
            time.sleep(random.uniform(0, 0.01))  # noqa: S311 -- jitter, no secret
        if hole:
            raise missing_record(self._log, partition, head.version + 1)
        raise ConflictError(
            f"the head moved on at each of {_TRIES} tries to fold; sync again",
            operation="sync",
            partition=partition,
            retryable=True,
        )

    def _move(self, sync: _Sync, partition: str, head: Head, records: Sequence[Record]) -> Head | None:
        """Write the records' segment and move the head to name it; None if another moved the head first."""
        last, count = records[-1], sum(record.count for record in records)
        sync.moment = rising(sync.moment, head, again=partition in sync.folded)
        cursor = to_iso(sync.moment)
        changes = itertools.chain.from_iterable(changes_of(self._log, partition, record) for record in records)
        segment = self._segment(partition, head, last.version, changes)
        if not segment.items and head.segments and not self._storage.capabilities.immutable:
            announced = announce_empty(self._log, partition, head)
            if announced is None:
                return None
            head = announced
        named = self._storage.put(segment, cursor=cursor, at=last.at)
        if self._storage.capabilities.publishing:
            # Before the head moves, so that what fails stays pending and is tried again. What is published is true all
            # the same: its records are durable.
            items = {} if segment.kind == "base" else self._snapshots.items(partition, head.segments)
            apply_segment(items, segment)
            self._storage.publish(segment, items)
        kept = head.segments if segment.kind == "delta" else ()
        replaced = head.segments[len(kept) :] if self._storage.capabilities.immutable else ()
        moved = head_after(head, records, (*kept, named), cursor, again=partition in sync.folded)
        retired = self._keeper.retired(partition, head, replaced, moved.retention, sync.moment)
        recorded = self._keeper.recorded(partition, head, records, cursor)
        move = HeadMove(head.revision, moved, (*retired, *recorded), folded=count, first=not sync.folded)
        if not has_moved(self._log, partition, move, named):
            return None
        sync.folded[partition] = sync.folded.get(partition, 0) + count
        sync.records += len(records)
        return moved

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
