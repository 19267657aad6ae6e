"""What a layer tells about itself: frozen, and free of what is inside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

__all__ = [
    "ImportResult",
    "LayerMeta",
    "Operation",
    "PartitionMeta",
    "ResetProgress",
    "ResetResult",
    "SyncResult",
]


@dataclass(frozen=True, slots=True)
class LayerMeta:
    """A layer's counts, all in events, from what is stored.

    Attributes:
        cursor: The last sync's: its ISO 8601 UTC time; `"__INITIAL__"` before the first.
        loaded: Whether anything was ever stored.
        synced_last_total: Events that the last sync folded.
        synced_times: Syncs that folded something.
        synced_total: Events folded by all syncs.
        unsynced_last_total: Events of the last `set()`, as far as they are pending.
        unsynced_total: Events that are pending.
        error: What failed last in a sync that a strategy asked for in this process; None after one that did not.
    """

    cursor: str
    loaded: bool
    synced_last_total: int
    synced_times: int
    synced_total: int
    unsynced_last_total: int
    unsynced_total: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PartitionMeta:
    """One partition's counts, in events where nothing else is said.

    Attributes:
        partition: The partition.
        version: Its newest version.
        synced_version: The version that its snapshot holds the state of.
        cursor: The last sync's of this partition.
        synced_last_total: Events that the last sync folded here.
        synced_times: Syncs that folded something here.
        synced_total: Events folded here by all syncs.
        unsynced_last_total: Events of the newest record, if it is pending.
        unsynced_total: Events that are pending.
        unsynced_bytes: Packed bytes that are pending.
        unsynced_since: When the oldest pending record was appended; None where nothing is pending.
        segments: Segments in the snapshot.
    """

    partition: str
    version: int
    synced_version: int
    cursor: str
    synced_last_total: int
    synced_times: int
    synced_total: int
    unsynced_last_total: int
    unsynced_total: int
    unsynced_bytes: int
    unsynced_since: datetime | None
    segments: int


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What taking over a partition's items did.

    Attributes:
        count: Items taken.
        folded: Events of the log that were folded on top of them.
        version: The version whose snapshot they are.
        cursor: The cursor under which it stands.
    """

    count: int
    folded: int
    version: int
    cursor: str


@dataclass(frozen=True, slots=True)
class ResetProgress:
    """How far a reset is.

    Attributes:
        phase: `"scan"` while the source is read, then `"commit"`.
        items: Items read, or committed, so far in this call.
        partitions: Partitions that are done.
        of: While the source is read, about how many items it has; then how many partitions there are. None where that
            is not known.
    """

    phase: Literal["scan", "commit"]
    items: int
    partitions: int
    of: int | None


@dataclass(frozen=True, slots=True)
class ResetResult:
    """What a reset did, together with earlier calls that it went on with by their spool.

    Attributes:
        count: Items taken.
        locked: Whether something was left to others: all of it to another reset, or partitions to a sync.
        partitions: The partitions that were reset, sorted; those that were empty and stay so are not among them.
        left: The partitions that were left to a sync, sorted.
        refused: Items that could not be taken and were set aside.
    """

    count: int
    locked: bool
    partitions: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that a layer does, as its observers are told.

    Attributes:
        name: What: `"set"`, `"get"`, `"sync"` …, as `Layer.usage` names it; a call of the adapter is `"storage.put"`,
            `"storage.get"` and so on.
        table: The layer's table.
        partition: The partition; None where it is not one.
        adapter: Name of the adapter, for its calls; else None.
    """

    name: str
    table: str
    partition: str | None
    adapter: str | None


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync did.

    Attributes:
        count: Events folded.
        locked: Whether a partition was left alone because another sync holds its lease.
        partitions: The partitions in which something was folded, sorted.
        cursor: The newest cursor that it gave, under which or earlier ones all stands that it folded; None if it
            folded nothing.
    """

    count: int
    locked: bool
    partitions: tuple[str, ...] = ()
    cursor: str | None = None
