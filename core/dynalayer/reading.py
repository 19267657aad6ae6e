"""The reading engine: snapshot + pending events, and never an answer around a hole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from dynalayer.bulk import paused_collector
from dynalayer.current import read_current
from dynalayer.eventlog.base import EventLog, Record
from dynalayer.fold import apply_changes
from dynalayer.snapshots import Snapshots, State, changes_of
from dynalayer.values import Item, copy_item

__all__ = ["Reader"]


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
        # Bulk work alone pauses the collector: what waits for a store would starve it where reads overlap.
        with self._items(partition) as items, paused_collector():
            # Copies, since others hold the items too: the memory, and an adapter that keeps what it gave.
            if in_order:
                return [copy_item(items[identifier]) for identifier in sorted(items)]
            return [copy_item(item) for item in items.values()]

    def items(self, partition: str) -> dict[str, Item]:
        """The items by identifier, to be looked at only: others hold them too. Errors as `get`."""
        with self._items(partition) as items:
            return dict(items)

    @contextmanager
    def _items(self, partition: str) -> Iterator[dict[str, Item]]:
        with self._snapshots.slot(partition) as slot:
            state, slot.state = slot.state, None  # what fails half way leaves nothing half folded behind
            state, records = read_current(self._log, partition, partial(self._snapshots.load, partition), state)
            changed = self._fold(partition, state, records)
            yield state.items
            # Given back last: a signal's handler that reads in the midst of it folds into a state of its own.
            slot.state = state
            slot.changed += changed

    def _fold(self, partition: str, state: State, records: tuple[Record, ...]) -> int:
        """Fold records into the state that they lead on from, and count their changes."""
        with paused_collector():
            # All of them are unpacked before the first is folded, so that a damaged one leaves the state whole.
            changes = [changes_of(self._log, partition, record) for record in records]
            for each in changes:
                apply_changes(state.items, each)
        if records:
            state.version = records[-1].version
        return sum(map(len, changes))
