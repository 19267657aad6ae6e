"""What a process knows by itself: partitions that the index may not show yet, and counts that may lag.

No row is written by every append, so that the layer's counts are summed when asked for. A strategy asks after each
append: it is given what was summed a while ago and what this process has done since.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from dynalayer.clock import INITIAL
from dynalayer.eventlog.base import Appended, Draft, Head, HeadMove, LayerState, PartitionState
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.damage import damage_in
from dynalayer.eventlog.dynamodb.slots import Newest, Slots
from dynalayer.forking import Lock
from dynalayer.side_by_side import side_by_side

__all__ = ["Counts"]

_OWN = 100_000  # partitions remembered; of one forgotten the index has known for long
_STATES = 4096
_SHARE = 20  # the layer's counts are summed anew no sooner than after so many times what summing takes


class Counts:
    """Counts of one log, and what its process has done to them.

    Args:
        connection: The table.
        table: The layer's table.
        slots: Looks at the end of partitions.
    """

    def __init__(self, connection: Connection, table: str, slots: Slots) -> None:
        self._connection = connection
        self._table = table
        self._slots = slots
        self._lock = Lock()
        self._appended: OrderedDict[str, int] = OrderedDict()
        self._folded: OrderedDict[str, None] = OrderedDict()
        self._states: OrderedDict[str, tuple[PartitionState, float]] = OrderedDict()
        self._events = 0
        self._changes = 0
        self._last_nonce = ""
        self._layer: LayerState | None = None
        self._summed = 0.0
        self._good_for = 0.0

    # What this process did

    def appended(self, draft: Draft, place: Appended) -> None:
        """Take in a record that this process appended."""
        partition = place.partition
        with self._lock:
            self._appended[partition] = max(place.version, self._appended.pop(partition, 0))
            self._changes += 1
            _trim(self._appended, _OWN)
            state, read = self._states.get(partition, (None, 0.0))
            if state is not None and place.version > state.version + 1:
                self._states.pop(partition, None)  # others came between, or another thread's is told later: look anew
            elif state is not None and place.version > state.version:
                since = place.at if state.pending_since is None else state.pending_since
                self._states[partition] = (
                    replace(
                        state,
                        version=place.version,
                        events_total=state.events_total + draft.count,
                        bytes_total=state.bytes_total + len(draft.payload),
                        last_count=draft.count,
                        pending_since=since,
                    ),
                    read,
                )
            self._events += draft.count
            if self._layer is not None:
                last = draft.count + (self._layer.last_pending if draft.nonce == self._last_nonce else 0)
                self._layer = replace(self._layer, appended=self._layer.appended + draft.count, last_pending=last)
            self._last_nonce = draft.nonce

    def moved(self, partition: str, move: HeadMove) -> None:
        """Take in a head that this process moved."""
        self.seen(partition, move.head)
        with self._lock:
            self._states.pop(partition, None)
            self._changes += 1
            if move.head.version:
                self._folded[partition] = None
                _trim(self._folded, _OWN)
            layer = self._layer
            if layer is None or not move.folded:
                return
            cursor, last = move.head.cursor, move.folded
            if layer.cursor == cursor:
                last += layer.synced_last_total
            elif layer.cursor != INITIAL and layer.cursor > cursor:
                cursor, last = layer.cursor, layer.synced_last_total
            self._layer = replace(
                layer,
                # What others appended since the counts were summed may be among what was folded.
                appended=max(layer.appended, layer.folded + move.folded),
                folded=layer.folded + move.folded,
                last_pending=0,
                cursor=cursor,
                synced_times=layer.synced_times + int(move.first),
                synced_last_total=last,
            )

    def seen(self, partition: str, head: Head) -> None:
        """Take in a head as it is: what it has passed is pending no more."""
        with self._lock:
            if self._appended.get(partition, head.version + 1) <= head.version:
                self._appended.pop(partition, None)
                self._folded[partition] = None  # the index may list neither yet
                _trim(self._folded, _OWN)

    def own_pending(self) -> set[str]:
        """Partitions that this process appended to, and whose records it has not seen folded."""
        with self._lock:
            return set(self._appended)

    def own_versions(self) -> dict[str, int]:
        """Of these partitions the newest version that this process put there."""
        with self._lock:
            return dict(self._appended)

    def own_folded(self, listed: set[str]) -> set[str]:
        """Partitions that this process folded and the index does not list yet."""
        with self._lock:
            for partition in listed & self._folded.keys():
                self._folded.pop(partition, None)
            return set(self._folded)

    # Counts

    def partition(self, partition: str, lag: float) -> PartitionState:
        """A partition's counts, as stored, or as read up to so many seconds ago and changed by this process since."""
        with self._lock:
            state, read = self._states.get(partition, (None, 0.0))
            # That a partition is not there yet is not remembered: a sync of it would leave out what it has by now.
            if state is not None and state.version and lag and time.monotonic() - read < lag:
                return state
            changes = self._changes
        read = time.monotonic()
        state = self._look(partition)[0]
        with self._lock:
            if changes == self._changes:  # else it may lack what this process did meanwhile
                self._states.pop(partition, None)
                self._states[partition] = state, read
                _trim(self._states, _STATES)
        return state

    def _look(self, partition: str) -> tuple[PartitionState, Newest]:
        with damage_in(partition):
            return self._looked(partition, self._slots.newest(partition))

    def _looked(self, partition: str, newest: Newest) -> tuple[PartitionState, Newest]:
        head, tail = rows.head_of(newest.head), newest.tail
        self.seen(partition, head)
        since = None
        if newest.row is not None:
            rows.text(newest.row, "nonce")  # by which the layer's counts tell the last `set()`
            since = tail.at if tail.version == head.version + 1 else self._since(partition, head)
        state = PartitionState(
            partition=partition,
            head=head,
            version=tail.version,
            events_total=tail.events_total,
            bytes_total=tail.bytes_total,
            last_count=0 if newest.row is None else rows.count_of(newest.row),
            pending_since=since,
        )
        return state, newest

    def _since(self, partition: str, head: Head) -> int | None:
        key = rows.key_of(rows.partition_key(self._table, partition), rows.slot(head.version + 1))
        row = self._connection.get(key)
        return None if row is None else rows.tail_of_record(row).at

    def layer(self, lag: float, summed: Callable[[], LayerState]) -> LayerState:
        """The layer's counts, summed now, or a while ago and changed by this process since."""
        begun = time.monotonic()
        with self._lock:
            events = self._events
            if self._layer is not None and lag and begun - self._summed < max(lag, self._good_for):
                return self._layer
        state = summed()
        with self._lock:
            # What this process appended meanwhile may be in the sum or not: rather twice than not at all.
            self._layer = replace(state, appended=state.appended + self._events - events)
            self._summed, self._good_for = begun, _SHARE * (time.monotonic() - begun)
        return state

    def sum(self, partitions: Iterable[str], pending: Sequence[str], cursor: str, synced_times: int) -> LayerState:
        """The layer's counts from those of its partitions.

        Args:
            partitions: All of them.
            pending: Those that may have pending records.
            cursor: The last sync's.
            synced_times: Syncs that folded something.
        """
        looks = side_by_side(self._look, pending)
        states = [state for state, _ in looks]
        done = sorted(set(partitions) - set(pending))
        keys = [rows.key_of(rows.partition_key(self._table, partition), rows.HEAD_KEY) for partition in done]
        heads = [_head_in(row) for row in self._connection.batch_get(keys)]
        folded = [*heads, *(state.head for state in states)]
        return LayerState(
            appended=sum(head.events_total for head in heads) + sum(state.events_total for state in states),
            folded=sum(head.events_total for head in folded),
            last_pending=_last_pending(folded, [newest.row for _, newest in looks if newest.row is not None]),
            cursor=cursor,
            synced_times=synced_times,
            synced_last_total=sum(head.synced_last_total for head in folded if head.cursor == cursor != INITIAL),
        )


def _head_in(row: rows.Row) -> Head:
    with damage_in(rows.partition_of(rows.text(row, "pk"))):
        return rows.head_of(row)


def _last_pending(heads: Sequence[Head], newest: Sequence[rows.Row]) -> int:
    """Events of the last `set()`, as far as they are pending; which one was the last, clocks tell."""
    at, nonce = max(((rows.tail_of_record(row).at, rows.text(row, "nonce")) for row in newest), default=(0, ""))
    if any(head.at > at for head in heads):
        return 0
    return sum(rows.count_of(row) for row in newest if rows.text(row, "nonce") == nonce)


def _trim(kept: OrderedDict[str, Any], limit: int) -> None:
    while len(kept) > limit:
        kept.popitem(last=False)
