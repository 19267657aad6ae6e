"""The reading engine: snapshot + pending events, and never an answer around a hole."""

from __future__ import annotations

from dynalayer.bulk import paused_collector
from dynalayer.errors import ConflictError, SegmentMissingError
from dynalayer.eventlog.base import EventLog, Head, RecordKind, Run
from dynalayer.fold import apply_changes
from dynalayer.snapshots import Snapshots, State, changes_of, contiguous, missing_record
from dynalayer.values import Item, copy_item

__all__ = ["Reader"]

_TRIES = 16  # each loses only to a head that moved while its segments were read


class Reader:
    """Reads partitions as they are now.

    A read sees every event that was acknowledged before it began, in version order, exactly once.

    Args:
        log: The layer's event log.
        snapshots: The layer's snapshots.
    """

    def __init__(self, log: EventLog, snapshots: Snapshots) -> None:
        self._log = log
        self._snapshots = snapshots

    def get(self, partition: str, *, in_order: bool) -> list[Item]:
        """The items of a partition, the caller's own to change.

        Args:
            partition: The partition; one never heard of has no items.
            in_order: Sort by identifier.

        Raises:
            StorageError: A segment that the head names is missing or corrupt, or the adapter failed.
            EventLogError: The log failed, or a record is damaged.
            ConflictError: The head moved away at every one of a bounded number of tries.
        """
        with self._snapshots.slot(partition) as slot:
            state, slot.state = slot.state, None  # what fails half way leaves nothing half folded behind
            state, changed = self._current(partition, state)
            items = state.items
            # Bulk work alone pauses the collector: what waits for a store would starve it where reads overlap.
            with paused_collector():
                # Copies, since others hold the items too: the memory, and an adapter that keeps what it gave.
                copies = [copy_item(items[identifier]) for identifier in (sorted(items) if in_order else items)]
            # Given back last: a signal's handler that reads in the midst of it folds into a state of its own.
            slot.state = state
            slot.changed += changed
            return copies

    def _current(self, partition: str, state: State | None) -> tuple[State, int]:
        """The state as it is now, from the one remembered if that leads there; and how many changes were folded."""
        head = hole = None
        for _ in range(_TRIES):
            if state is None:
                head = head or self._log.head(partition)
                state, head = self._loaded(partition, head), None
            if state is not None:
                run = self._log.read(partition, state.version)
                folded = self._fold(partition, state, run)
                if folded is not None:
                    return state, folded
                hole = _hole(run, state.version)
                state, head = None, run.head
        if hole is not None:
            raise missing_record(self._log, partition, hole)
        raise ConflictError(
            f"the snapshot moved on at each of {_TRIES} tries to read it; try again",
            operation="get",
            partition=partition,
            retryable=True,
        )

    def _loaded(self, partition: str, head: Head) -> State | None:
        """The head's state; None if a segment is gone because the head has moved on."""
        try:
            return self._snapshots.load(partition, head)
        except SegmentMissingError as error:
            now = self._log.head(partition)
            if now.revision != head.revision:
                return None
            raise SegmentMissingError(
                f"the head at version {head.version} (revision {head.revision}) in {self._log.location} names a "
                f"segment that is gone: {error.message}; restore it from a copy, or rebuild the partition from the "
                "source table",
                operation="get",
                partition=partition,
                adapter=error.adapter,
                distribution=error.distribution,
            ) from error

    def _fold(self, partition: str, state: State, run: Run) -> int | None:
        """Fold the run into the state, and count its changes; None, with the state as it was, where there is a hole."""
        records = contiguous(run.records, state.version)
        end = records[-1].version if records else state.version
        if end < run.head.version or state.reset != run.head.reset:
            # Folded records have expired between the two, or a reset has replaced what the state was folded from.
            return None
        if len(records) < len(run.records):
            return None
        if any(record.kind is RecordKind.RESET and record.version <= run.head.version for record in records):
            return None
        with paused_collector():
            # All of them are unpacked before the first is folded, so that a damaged one leaves the state whole.
            changes = [changes_of(self._log, partition, record) for record in records]
            for each in changes:
                apply_changes(state.items, each)
        state.version = end
        return sum(map(len, changes))


def _hole(run: Run, after: int) -> int | None:
    """The pending version that is not there, although later ones are; None if there is none such."""
    records = contiguous(run.records, after)
    end = records[-1].version if records else after
    return end + 1 if end >= run.head.version and len(records) < len(run.records) else None
