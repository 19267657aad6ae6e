"""The reset engine: a partition's items from elsewhere become its snapshot, and no event that it has is lost.

A record of kind RESET in the log says where: its snapshot is a base of the given items with all later events folded on
top. Any step may crash: until the head has moved the partition is what it was, and all of it can be done again.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from dynalayer.clock import MICROSECONDS, Clock, to_iso
from dynalayer.errors import ConflictError, InvalidInputError
from dynalayer.eventlog.base import Draft, EventLog, Head, HeadMove, Record, RecordKind
from dynalayer.events import pack
from dynalayer.fold import apply_changes
from dynalayer.keeping import HistoryKeeper
from dynalayer.moving import announce_empty, give_back, has_moved, head_after, new_moment, rising
from dynalayer.segments import Segment
from dynalayer.snapshots import changes_of, contiguous, missing_record
from dynalayer.states import ImportResult
from dynalayer.storage import Storage
from dynalayer.values import Item

__all__ = ["HeldError", "Resetter"]

_PAGE_BYTES = 8 * 1024 * 1024  # packed: what is read of the log at once
_TRIES = 32  # each loses only to a head that another moved


class HeldError(ConflictError):
    """A sync, or another reset, is at work on the partition, and holds its lease."""


@dataclass(slots=True)
class _Gathered:
    """What a reset puts in place of a snapshot, and what it folds with it.

    Attributes:
        items: The items, with what is later folded in.
        folded: Records above the head, their payloads only where history is kept of them.
        reached: The version through which records were there.
        head: As it was after them.
    """

    items: dict[str, Item]
    folded: list[Record]
    reached: int
    head: Head


class Resetter:
    """Puts items in place of partitions' snapshots.

    Args:
        log: The layer's event log.
        storage: The layer's storage.
        clock: Tells moments, cursors and leases.
        lease: How long a lease lasts, in seconds.
        retention: How long a reset's record is kept after it was folded, in seconds.
        keeper: Keeps the history of what is folded.
    """

    def __init__(
        self, log: EventLog, storage: Storage, clock: Clock, lease: float, retention: int, keeper: HistoryKeeper
    ) -> None:
        self._log = log
        self._storage = storage
        self._clock = clock
        self._lease = int(lease * MICROSECONDS)
        self._retention = retention
        self._keeper = keeper

    def take_over(self, partition: str, items: Mapping[str, Item]) -> ImportResult:
        """Let a partition of which no event was folded yet begin with items that are older than all of its events.

        Args:
            partition: The partition.
            items: Its items by identifier.

        Raises:
            InvalidInputError: Events of it were folded: its snapshot says more than these items.
            ConflictError: A sync holds its lease, or others moved its head at every one of a bounded number of tries.
            StorageError: The adapter failed.
            EventLogError: The log failed.
        """
        with self._held(partition, ConflictError) as owner:
            head = self._log.head(partition)
            if head.events_total:
                taken = f"taken over at version {head.reset}, with events folded on top" if head.reset else "synced"
                raise InvalidInputError(
                    f"it was {taken}, already: its snapshot is of version {head.version}. What is taken over comes "
                    "before a partition's first sync: give it a layer of its own, or leave it out"
                )
            # So far there are but resets in it: everything that is in the log is later than the items.
            try:
                return self._reset(partition, owner, items, above=head.version)
            except HeldError as error:
                raise ConflictError(error.message, retryable=True) from error

    def reset(self, partition: str, items: Callable[[], Mapping[str, Item]], *, above: int) -> ImportResult:
        """Put a partition's items, as its source has them, in place of its snapshot, and every later event on top.

        Args:
            partition: The partition.
            items: Gives its items by identifier; called once it is this one's turn. Read after the tail was noted.
            above: The noted tail: every record above it is later than the items, or in them already.

        Raises:
            HeldError: A sync holds its lease, or has taken it since that ran out; the partition is what it was.
            ConflictError: It took so long that later events have expired, or others moved its head at every one of a
                bounded number of tries.
            StorageError: The adapter failed.
            EventLogError: The log failed.
        """
        with self._held(partition, HeldError) as owner:
            return self._reset(partition, owner, items(), above=above)

    def needs_none(self, partition: str, above: int) -> bool:
        """Whether a partition that its source does not have was empty, and nothing else, when its tail was noted."""
        head = self._log.head(partition)
        if above != head.version:
            return False
        return len(head.segments) <= 1 and not any(segment.entries for segment in head.segments)

    def needs_sync(self, partition: str, above: int) -> bool:
        """Whether it must be synced first: where the place is mutable, who reads it meanwhile folds what is pending.

        What is pending must then be later than the items, since those may hold what no event told. What holds no event,
        as the record of a reset that died before it was committed, may be pending: no sync folds it by itself.
        """
        if self._storage.capabilities.immutable:
            return False
        head = self._log.head(partition)
        if head.version >= above:
            return False
        run = self._log.read(partition, head.version)
        return any(record.count for record in run.records if record.version <= above)

    @contextmanager
    def _held(self, partition: str, otherwise: type[ConflictError]) -> Iterator[str]:
        """The partition's lease, for the time of a reset, and its owner's name."""
        owner = secrets.token_hex(8)
        self._hold(partition, owner, otherwise)
        try:
            yield owner
        finally:
            give_back(self._log, partition, owner)

    def _hold(self, partition: str, owner: str, otherwise: type[ConflictError] = HeldError) -> None:
        now = self._clock()
        if not self._log.lease(partition, owner, now, now + self._lease):
            raise otherwise(
                "another sync is at work on it; try again when it is done, or its lease has run out", retryable=True
            )

    def _reset(self, partition: str, owner: str, items: Mapping[str, Item], *, above: int) -> ImportResult:
        """Make a base of items and of all events above a version, which are later than these, and commit it."""
        version, missing = 0, None
        for _ in range(_TRIES):
            head = self._log.head(partition)
            if version <= head.version:  # a reset is committed at its own version, or not at all
                version = self._append(partition)
            # What is pending up to the noted version is folded by this move too, though the items hold it already.
            found = self._gathered(partition, items, head, min(above, head.version), above, version)
            missing = found.reached + 1 if found.reached < version else None
            if missing is not None and above < missing <= found.head.version:
                raise ConflictError(
                    f"it took so long that event records from {missing} on were folded, and have expired, since it "
                    "began; do it again",
                    retryable=True,
                )
            moved = self._commit(partition, owner, head, found) if missing is None else None
            if moved is not None:
                return ImportResult(len(items), moved.events_total - head.events_total, version, moved.cursor)
            time.sleep(random.uniform(0, 0.01))  # noqa: S311 -- jitter, no secret
        if missing is not None:
            raise missing_record(self._log, partition, missing)
        raise ConflictError(
            f"the head moved on at each of {_TRIES} tries to reset the partition; try again", retryable=True
        )

    def _append(self, partition: str) -> int:
        nonce, at = secrets.token_hex(8), self._clock()
        draft = Draft(partition, RecordKind.RESET, nonce, at, 0, self._retention, pack([]))
        (appended,) = self._log.append([draft])
        return appended.version

    def _gathered(
        self, partition: str, items: Mapping[str, Item], head: Head, start: int, above: int, version: int
    ) -> _Gathered:
        """Read the records after one up to a version, page by page, and fold those above the noted one."""
        found = _Gathered(dict(items), [], start, head)
        while found.reached < version:
            run = self._log.read(partition, found.reached, max_bytes=_PAGE_BYTES)
            records = contiguous([record for record in run.records if record.version <= version], found.reached)
            for record in records:
                if record.version > above:
                    apply_changes(found.items, changes_of(self._log, partition, record))
                if record.version > head.version:  # what another sync has folded meanwhile is counted already
                    found.folded.append(record if self._keeper.forever else replace(record, payload=b""))
            found.reached += len(records)
            found.head = run.head
            if run.complete or not records:
                break
        return found

    def _commit(self, partition: str, owner: str, head: Head, found: _Gathered) -> Head | None:
        """Write the base and move the head to it; None if another moved the head first."""
        base, folded, last = found.items, found.folded, found.folded[-1]
        segment = Segment(self._log.table, partition, self._log.origin, "base", 0, last.version, base)
        immutable = self._storage.capabilities.immutable
        if not immutable and not base and head.segments:
            announced = announce_empty(self._log, partition, head)
            if announced is None:
                return None
            head = announced
        self._hold(partition, owner)
        moment = rising(new_moment(self._log, self._clock), head)
        cursor = to_iso(moment)
        named = self._storage.put(segment, cursor=cursor, at=last.at)
        if self._storage.capabilities.publishing:
            self._storage.publish(segment, base)
        moved = replace(head_after(head, folded, (named,), cursor), reset=last.version)
        replaced = head.segments if immutable else ()
        retired = self._keeper.retired(partition, head, replaced, moved.retention, moment)
        recorded = self._keeper.recorded(partition, head, folded, cursor, committed=last.version)
        count = moved.events_total - head.events_total
        move = HeadMove(head.revision, moved, (*retired, *recorded), folded=count, first=True)
        return moved if has_moved(self._log, partition, move, named) else None
