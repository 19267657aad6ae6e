"""The event log's contract: what every log promises, and what it may count on.

A log keeps one layer's records and heads. What it promises, whatever else happens:

* `append` is atomic within a partition and puts a record at the version after the newest, only if that is free.
* A record is durable before `append` returns, and is never changed but by `mark`, nor removed before its ttl.
* `read` and `head` are strong: they see every append and every move that was acknowledged before they began.
* A head moves by compare-and-set on its revision, together with the snapshot and the counts it names.
* Nothing expires that the head has not passed. Pending records have no ttl; a head never has one.
* `append_after` writes records and checkpoints together or not at all, and only right after the tails it is given.

Every method may be called from any thread. What fails raises `EventLogError`; moments are microseconds since the epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

import orjson

from dynalayer.clock import INITIAL, MICROSECONDS, from_iso
from dynalayer.costs import Cost, Usage
from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove
from dynalayer.eventlog.watching import Reached, Watch, WholeWatch
from dynalayer.segments import SegmentKind
from dynalayer.values import UNDECODABLE

__all__ = [
    "MAX_DELTAS",
    "MAX_LEASE",
    "MAX_REF_BYTES",
    "Appended",
    "Draft",
    "EventLog",
    "Head",
    "HeadMove",
    "LayerState",
    "LogCosts",
    "Mark",
    "OldSegment",
    "PartitionState",
    "Record",
    "RecordKind",
    "Run",
    "SegmentRef",
    "Unmarked",
    "segment_ref",
]

MAX_DELTAS = 32
"""Deltas that a head may name."""

MAX_REF_BYTES = 256
"""How long a ref may be, in bytes of UTF-8."""


MAX_LEASE = 2 * 3600 * MICROSECONDS
"""What a lease may have left, in microseconds: twice what any is taken for, since two clocks differ a little."""


class RecordKind(StrEnum):
    """What a record is."""

    CHANGES = "changes"
    RESET = "reset"
    """A mark in the log: a base committed at this version replaces what came before."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What `append` is given for one partition.

    Attributes:
        partition: The partition; each at most once in a call.
        kind: What the record is.
        nonce: Told anew for each `set()`, shared by its partitions: tells an own record from another's.
        at: When it is appended, as the caller's clock says.
        count: Events in it.
        retention: Seconds that the record is kept after its fold; never below 24 hours.
        payload: The packed events, no more than the log's `record_limit`.
    """

    partition: str
    kind: RecordKind
    nonce: str
    at: int
    count: int
    retention: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a draft came to stand.

    Attributes:
        partition: The partition.
        version: The record's version.
        at: When it counts as appended: the draft's moment, or that of the record before it, whichever is later.
    """

    partition: str
    version: int
    at: int


@dataclass(frozen=True, slots=True)
class Record:
    """One `set()`'s part of one partition's log.

    Attributes:
        version: Its dense number within the partition, from 1.
        kind: What it is.
        nonce: Its `set()`'s own.
        at: When it was appended; never before the record before it.
        count: Events in it.
        retention: Seconds that it is kept after its fold.
        payload: The packed events.
        events_total: Events in this record and all before it.
        bytes_total: Payload bytes of this record and all before it.
        cursor: `__INITIAL__` until it is marked.
    """

    version: int
    kind: RecordKind
    nonce: str
    at: int
    count: int
    retention: int
    payload: bytes
    events_total: int
    bytes_total: int
    cursor: str


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A segment as a head names it.

    Attributes:
        ref: The opaque name under which the adapter keeps it.
        kind: Base or delta.
        from_version: The version it starts after; 0 for a base.
        to_version: The version it holds the state of.
        entries: Identifiers it speaks of.
        name: The name in the segment itself: what the store gives back is checked against it.
        cursor: Cursor of the sync that folded its newest record.
        at: When the record at `to_version` was appended.
    """

    ref: str
    kind: SegmentKind
    from_version: int
    to_version: int
    entries: int
    name: str
    cursor: str
    at: int


@dataclass(frozen=True, slots=True)
class OldSegment:
    """A segment that no head names any more, kept for as-of reads.

    Attributes:
        segment: As the head named it.
        retired_at: When the head stopped naming it.
        keep_until: From when on `vacuum` may discard it.
    """

    segment: SegmentRef
    retired_at: int
    keep_until: int


@dataclass(frozen=True, slots=True)
class Head:
    """A partition's durable row. The empty one stands for a partition that was never synced.

    Attributes:
        version: Folded version: what the snapshot holds the state of.
        revision: Raised by every move.
        segments: The snapshot: one base and the deltas after it; empty at version 0.
        events_total: Events in all records through `version`.
        bytes_total: Payload bytes of all records through `version`.
        at: When the record at `version` was appended.
        cursor: Cursor of the last sync of this partition.
        synced_times: Syncs that folded something here.
        synced_last_total: Events that the last of them folded.
        reset: Version of the last committed reset; 0 where there was none. What was folded under another value of
            it is no part of the partition any more.
        retention: The longest retention of any record folded so far, in seconds.
        vacuums: Vacuums that have looked here. A segment written under one number may not be named under a higher
            one: that vacuum may have discarded it.
    """

    version: int = 0
    revision: int = 0
    segments: tuple[SegmentRef, ...] = ()
    events_total: int = 0
    bytes_total: int = 0
    at: int = 0
    cursor: str = INITIAL
    synced_times: int = 0
    synced_last_total: int = 0
    reset: int = 0
    retention: int = 0
    vacuums: int = 0

    def cursor_of(self, version: int) -> str:
        """The cursor of the sync that folded a version; `__INITIAL__` where it is pending.

        Exact for what the last sync folded, which is all that can still be unmarked: older versions may have been
        compacted together with later ones.
        """
        return next((segment.cursor for segment in self.segments if version <= segment.to_version), INITIAL)

    def to_json(self) -> bytes:
        """All of it as JSON, for logs that keep a head as one value."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> Head:
        """What `to_json` wrote.

        Raises:
            ValueError: It is no head.
        """
        try:
            told: dict[str, Any] = orjson.loads(data)
            segments = tuple(segment_ref(segment) for segment in told.pop("segments"))
            return cls(segments=segments, **_typed(told, _HEAD))
        except UNDECODABLE as error:
            raise ValueError(f"no head: {error}") from error


_HEAD = {field.name: type(field.default) for field in fields(Head)}
_REF = dict.fromkeys(("ref", "kind", "name", "cursor"), str) | dict.fromkeys(
    ("from_version", "to_version", "entries", "at"), int
)
_MOST = {"at": 2**57}  # microseconds; a moment that datetime knows


def segment_ref(told: dict[str, Any]) -> SegmentRef:
    """A segment's line in a head, or in a list of old ones, as it was parsed.

    Raises:
        ValueError: It is none; `UNDECODABLE` lists what else odd input can raise.
    """
    return SegmentRef(**_typed(told, _REF))


def _typed(told: dict[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    """What a row says, where every field is of its kind; numbers count something, and fit the stores."""
    for name, value in told.items():
        if type(value) is not kinds[name] or (type(value) is int and not 0 <= value < _MOST.get(name, 2**62)):
            raise ValueError(f"{name} is {value!r:.50}")
    if told.get("cursor", INITIAL) != INITIAL:
        from_iso(told["cursor"])
    return told


@dataclass(frozen=True, slots=True)
class HeadMove:
    """A compare-and-set of a head.

    Attributes:
        expected: The revision that the head must have; 0 for one that was never moved.
        head: What it becomes; its revision is `expected + 1`.
        retired: Segments that it stops naming: listed as old in the same write, or before it.
        folded: Events folded by this move; 0 for a move that folds none (a compaction, a vacuum).
        first: Whether it is the first of its sync that folds: it counts the sync.
    """

    expected: int
    head: Head
    retired: tuple[OldSegment, ...] = ()
    folded: int = 0
    first: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What one strong read gives.

    Attributes:
        records: Those above the version asked for, in order of version; gaps are the reader's to find.
        head: As it was at the end of the read.
        complete: False where `max_bytes` cut the records short.
    """

    records: tuple[Record, ...]
    head: Head
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Unmarked:
    """A record that is folded but still has the cursor of a pending one."""

    version: int
    nonce: str
    retention: int


@dataclass(frozen=True, slots=True)
class Mark:
    """What a folded record is given.

    Attributes:
        version: Which record.
        nonce: The record must have it.
        cursor: Of the sync that folded it.
        ttl: Seconds since the epoch from which on it may expire.
    """

    version: int
    nonce: str
    cursor: str
    ttl: int


@dataclass(frozen=True, slots=True)
class PartitionState:
    """A partition's counts, from its newest record and its head.

    Attributes:
        partition: The partition.
        head: Its head.
        version: The newest version.
        events_total: Events ever appended.
        bytes_total: Payload bytes ever appended.
        last_count: Events in the newest record; 0 if it is folded.
        pending_since: When the oldest pending record was appended; None where nothing is pending.
    """

    partition: str
    head: Head
    version: int
    events_total: int
    bytes_total: int
    last_count: int
    pending_since: int | None


@dataclass(frozen=True, slots=True)
class LayerState:
    """The layer's counts, from what is stored.

    Attributes:
        appended: Events ever appended.
        folded: Events ever folded.
        last_pending: Events of the last `set()` that was appended, as far as they are pending.
        cursor: The last sync's.
        synced_times: Syncs that folded something.
        synced_last_total: Events folded under that cursor.
    """

    appended: int = 0
    folded: int = 0
    last_pending: int = 0
    cursor: str = INITIAL
    synced_times: int = 0
    synced_last_total: int = 0


@dataclass(frozen=True, slots=True)
class LogCosts:
    """What a log requests for one partition as it is now, from the sizes stored.

    Attributes:
        head: The head that all of it starts from.
        pending: Records above it.
        first_read: A read in a process that has not read the partition before.
        read: A further read, with nothing new since.
        first_append: The first append in a process.
        append: A further append; of a record as large as the partition's are on average.
        sync: A sync of the partition alone, marking included, segments apart.
        compaction: What a sync requests besides where a compaction is due.
        lease: What it requests besides to prolong its lease.
        listing: What it requests besides where history is kept for ever, for the list of it.
    """

    head: Head
    pending: int
    first_read: Cost
    read: Cost
    first_append: Cost
    append: Cost
    sync: Cost
    compaction: Cost
    lease: Cost
    listing: Cost = field(default_factory=Cost)


class EventLog(ABC):
    """One layer's log. See the module for what is promised.

    Attributes:
        table: The layer's table: one log object serves one layer.
        location: What people call it, free of credentials.
        record_limit: Packed bytes that one record may have.
        group_limit: Packed bytes up to which what several threads append to one partition at once should go in one
            record, where an append is a round trip and partitions are written one by one anyway; 0: each in its own.
    """

    table: str
    location: str
    record_limit: int
    group_limit: int = 0

    @property
    @abstractmethod
    def origin(self) -> str:
        """Identity of this layer's log, made with it and kept in it: segments carry it."""

    @abstractmethod
    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        """Append one record to each draft's partition, in the drafts' order.

        Raises:
            AppendError: Not all is written; says for each partition what is certain.
        """

    def tail(self, partition: str) -> int:
        """The newest version, read strongly, or as remembered from an append: others may have gone on since.

        After an `append_after` that others were before, it tells a newer one.
        """
        return self.partition_state(partition).version

    @abstractmethod
    def append_after(
        self, drafts: Sequence[Draft], tails: Mapping[str, int], *, checkpoints: Sequence[CheckpointMove] = ()
    ) -> tuple[Appended, ...] | None:
        """Append one record to each draft's partition, right after what was its newest, and move checkpoints with them.

        All of it is written in one transaction, or nothing. Whoever looks at a partition after `tail` told its
        version, and appends so, knows that no other record came between.

        Args:
            drafts: What to append; each partition at most once.
            tails: Each partition's newest version, as `tail` told it.
            checkpoints: Moves that belong to them.

        Returns:
            Where the records came to stand, in the drafts' order. None if another has appended to one of the
            partitions, or moved one of the checkpoints: nothing was written.

        Raises:
            AppendError: It failed; says for each partition what is certain, all of them alike.
        """

    @abstractmethod
    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        """The records above a version, and the head as it is after them.

        Args:
            partition: The partition.
            after: The version above which to read.
            max_bytes: Payload bytes after which it may stop; at least one record is given, if there is one.
        """

    @abstractmethod
    def head(self, partition: str) -> Head:
        """The head; the empty one where there is none."""

    @abstractmethod
    def move_head(self, partition: str, move: HeadMove) -> bool:
        """Move the head if it has the revision expected; tell whether it did.

        In the same write the layer's counts take in `folded`, and the cursor becomes known. An `EventLogError` leaves
        open whether it moved: read the head to know.
        """

    @abstractmethod
    def unmarked(self, partition: str, through: int, limit: int) -> tuple[Unmarked, ...]:
        """Records up to a version that still have the cursor of a pending one, in order, at most `limit`."""

    @abstractmethod
    def mark(self, partition: str, marks: Sequence[Mark]) -> None:
        """Give folded records their cursor and ttl, each on condition of its nonce and of being pending still."""

    @abstractmethod
    def pending(self) -> tuple[str, ...]:
        """Partitions with records that have the cursor of a pending one, sorted."""

    @abstractmethod
    def partitions(self) -> tuple[str, ...]:
        """Every partition that has ever had a record, sorted."""

    @abstractmethod
    def survey(self) -> Mapping[str, Reached]:
        """How far every partition has come, by one look at all of them.

        A log whose lists lag tells of pending records as far as they show them, and surely of all that is folded.
        """

    def watch(self) -> Watch:
        """What tells from now on where something happens, at less cost than `survey`."""
        return WholeWatch(self.survey)

    @abstractmethod
    def lease(self, partition: str, owner: str, now: int, until: int) -> bool:
        """Take or prolong the partition's lease; False while another owner's has not run out at `now`.

        A partition without records has one too: the first may come while the lease holds.

        One that has more than `MAX_LEASE` left was taken by a clock that was wrong, and counts as run
        out.
        """

    @abstractmethod
    def release(self, partition: str, owner: str) -> None:
        """Give the lease back, if it is still this owner's."""

    @abstractmethod
    def old_segments(self, partition: str) -> tuple[OldSegment, ...]:
        """The segments listed as old, oldest first."""

    @abstractmethod
    def forget_old_segments(self, partition: str, refs: Sequence[str]) -> None:
        """Take refs off the list of old segments."""

    @abstractmethod
    def checkpoint(self, scope: str, name: str) -> Checkpoint | None:
        """A checkpoint, read strongly; None where there is none."""

    @abstractmethod
    def checkpoints(self, scope: str, *, from_name: str = "") -> tuple[Checkpoint, ...]:
        """A scope's checkpoints from a name on, read strongly, in order of their names' bytes."""

    @abstractmethod
    def move_checkpoint(self, move: CheckpointMove) -> bool:
        """Move a checkpoint if it has the revision expected; tell whether it did.

        An `EventLogError` leaves open whether it moved.
        """

    @abstractmethod
    def expire(self, now: int, limit: int, syncs_before: str) -> int:
        """Delete at most `limit` records whose ttl has passed; logs whose service does so return 0.

        Likewise delete at most `limit` checkpoints whose ttl has passed, and forget at most `limit` syncs with cursors
        before `syncs_before`, never the last one.
        """

    @abstractmethod
    def knows_cursor(self, cursor: str) -> bool:
        """Whether a sync of this layer had this cursor, as far back as syncs are remembered."""

    @abstractmethod
    def last_cursor(self) -> str:
        """The newest cursor of any sync; `__INITIAL__` before the first."""

    @abstractmethod
    def partition_state(self, partition: str, *, lag: float = 0) -> PartitionState:
        """A partition's counts.

        Args:
            partition: The partition.
            lag: Seconds by which what others did may be left out, where it costs requests to know, but for a
                partition's first record; what was appended and moved through this object is counted in any case.
        """

    @abstractmethod
    def layer_state(self, *, lag: float = 0) -> LayerState:
        """The layer's counts; `lag` as for `partition_state`."""

    def costs(self, partition: str) -> LogCosts | None:  # noqa: ARG002 -- for logs that cost something
        """What a read, an append and a sync of a partition request; None for a log that is not paid by request."""
        return None

    def usage(self) -> Mapping[str, Usage]:
        """What was requested of a service paid by request, by the layer's operation; empty where there is none."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds. Closing twice is as closing once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
