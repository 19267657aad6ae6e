"""Snapshots: from a head to its segments to items, and a bounded memory of what was folded already."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import orjson

from dynalayer.errors import EventLogError
from dynalayer.eventlog.base import EventLog, Head, Record, RecordKind, Run, SegmentRef
from dynalayer.events import Change, unpack
from dynalayer.fold import apply_segment
from dynalayer.forking import Lock
from dynalayer.packing import unframe
from dynalayer.storage import Storage
from dynalayer.values import Item, item_to_json

__all__ = ["Snapshots", "State", "body_of", "changes_of", "contiguous", "following", "missing_record"]

T = TypeVar("T")

_UNPACKED_LIMIT = 1 << 32  # bytes of JSON in one record; far above what any log takes packed, far below what is rotten
_WEIGHED_ITEMS = 64
_EMPTY_WEIGHT = 512  # a partition without items takes its place too


@dataclass(slots=True)
class State:
    """A partition's items folded through a version.

    Attributes:
        version: The version.
        reset: The head's `reset` under which they were folded; under another they are worth nothing.
        items: Identifier to item.
    """

    version: int
    reset: int
    items: dict[str, Item]


def contiguous(records: Sequence[Record], after: int) -> tuple[Record, ...]:
    """The records that follow a version without a gap."""
    return tuple(record for expected, record in zip(itertools.count(after + 1), records) if record.version == expected)


def following(run: Run, version: int, reset: int) -> tuple[Record, ...] | None:
    """The records of a run that lead on from what was folded through a version; None where they do not.

    Args:
        run: What is above the version.
        version: The version.
        reset: The head's `reset` under which that was folded.
    """
    records = contiguous(run.records, version)
    end = records[-1].version if records else version
    if end < run.head.version or reset != run.head.reset:
        # Folded records have expired between the two, or a reset has replaced what was folded.
        return None
    if len(records) < len(run.records):
        return None
    if any(record.kind is RecordKind.RESET and record.version <= run.head.version for record in records):
        return None
    return records


def missing_record(log: EventLog, partition: str, version: int) -> EventLogError:
    """The error for a pending record that is not there, although later ones are."""
    return EventLogError(
        f"record {version} in {log.location} is missing: it is pending, and nothing deletes what is; "
        "restore the log from a copy",
        partition=partition,
    )


def changes_of(log: EventLog, partition: str, record: Record) -> list[Change]:
    """A record's changes.

    Raises:
        EventLogError: Its bytes are rotten; names the record.
    """
    return _unpacked(unpack, log, partition, record)


def body_of(log: EventLog, partition: str, record: Record) -> bytes:
    """A record's changes as JSON, undecoded; errors as `changes_of`."""
    return _unpacked(unframe, log, partition, record)


def _unpacked(how: Callable[[bytes, int], T], log: EventLog, partition: str, record: Record) -> T:
    try:
        return how(record.payload, _UNPACKED_LIMIT)
    except ValueError as error:
        raise EventLogError(
            f"record {record.version} in {log.location} is damaged: {error}; restore the log from a copy",
            partition=partition,
        ) from error


@dataclass(slots=True)
class Slot:
    """One partition's place in the memory; its lock is held while it is used.

    Attributes:
        state: What is remembered.
        weight: About the bytes of JSON that its items take.
        weighed: How many items there were when that was last judged.
        changed: Changes folded since.
        lock: Held while the slot is used.
    """

    state: State | None = None
    weight: int = 0
    weighed: int = 0
    changed: int = 0
    lock: Lock = field(default_factory=Lock)


class Snapshots:
    """Loads snapshots and remembers folded states, the least recently used forgotten first.

    What was folded once stays valid, since segments are immutable and versions dense. Where the adapter has one
    mutable place a partition nothing is remembered.

    Args:
        storage: The layer's storage.
        table: The layer's table.
        cache_bytes: What may be remembered, in bytes of JSON that the items would take; memory is 2 to 4 times that.
    """

    def __init__(self, storage: Storage, table: str, cache_bytes: int) -> None:
        self._storage = storage
        self._table = table
        self._cache_bytes = cache_bytes if storage.capabilities.immutable else 0
        self._lock = Lock()
        self._slots: OrderedDict[str, Slot] = OrderedDict()
        self._total = 0

    def load(self, partition: str, head: Head) -> State:
        """The state that a head names, read from its segments.

        Raises:
            StorageError: A segment is missing or corrupt, or the adapter failed.
        """
        return State(head.version, head.reset, self.items(partition, head.segments))

    def items(self, partition: str, segments: Sequence[SegmentRef]) -> dict[str, Item]:
        """The items of a base and the deltas after it; without a base, of the deltas alone."""
        items: dict[str, Item] = {}
        for named in segments:
            apply_segment(items, self._storage.get(partition, named, table=self._table))
        return items

    def remembers(self, partition: str) -> bool:
        """Whether a folded state of a partition is remembered."""
        with self._lock:
            return partition in self._slots

    @contextmanager
    def slot(self, partition: str) -> Iterator[Slot]:
        """A partition's place in the memory, for one user at a time; what is left in it is kept if there is room."""
        with self._lock:
            slot = self._slots.setdefault(partition, Slot())
            self._slots.move_to_end(partition)
        with slot.lock:
            try:
                yield slot
            finally:
                self._keep(partition, slot)

    def _keep(self, partition: str, slot: Slot) -> None:
        weight = _weight(slot)
        with self._lock:
            if self._slots.get(partition) is not slot:  # others needed its room meanwhile
                return
            self._total += weight - slot.weight
            slot.weight = weight
            if slot.state is None or weight > self._cache_bytes:
                self._forget(partition)
            while self._slots and self._total > self._cache_bytes:
                self._forget(next(iter(self._slots)))

    def _forget(self, partition: str) -> None:
        self._total -= self._slots.pop(partition).weight


def _weight(slot: Slot) -> int:
    """About the bytes of JSON that a slot's items take, judged by some of them; anew when a tenth has changed."""
    items = slot.state.items if slot.state else {}
    if not items:
        slot.weighed = 0
        return _EMPTY_WEIGHT
    if slot.weighed and 10 * (slot.changed + abs(len(items) - slot.weighed)) < slot.weighed:
        return slot.weight
    slot.weighed, slot.changed = len(items), 0
    some = list(itertools.islice(items.values(), 0, None, max(1, len(items) // _WEIGHED_ITEMS)))
    each = sum(len(orjson.dumps(item_to_json(item))) for item in some) / len(some)
    return _EMPTY_WEIGHT + int(each * len(items))
