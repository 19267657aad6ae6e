"""Compaction: when several segments of a snapshot become one, which, and how the head takes it over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dynalayer.errors import ConflictError, EventLogError, SegmentMissingError
from dynalayer.eventlog.base import MAX_DELTAS, EventLog, Head, HeadMove, SegmentRef
from dynalayer.fold import NetChanges
from dynalayer.keeping import HistoryKeeper
from dynalayer.segments import Segment, SegmentHeader, fresh_name
from dynalayer.snapshots import Snapshots
from dynalayer.storage import Storage

__all__ = ["POLICY", "Compactor", "Policy", "due"]

_TRIES = 8


@dataclass(frozen=True, slots=True)
class Policy:
    """When to compact. Sizes are counted in entries, which the head knows without reading a segment.

    Attributes:
        base_from: Deltas from which on a new base may be due.
        base_share: A new base is due when the deltas have more than this share of the base's entries.
        merge_from: Deltas from which on the newest are merged into one, while the base stays.
        merge_least: How many are merged at least.
    """

    base_from: int = 8
    base_share: float = 0.5
    merge_from: int = 24
    merge_least: int = 8


POLICY = Policy()


def due(segments: Sequence[SegmentRef], policy: Policy = POLICY) -> tuple[int, int] | None:
    """Which segments should become one, as a half-open range of positions; None for none.

    A range from 0 becomes a base. Any other becomes one delta: the newest deltas, and further back as long as the next
    older one is no more than twice as large as what is merged already, so that what was merged once is left alone until
    as much again has come: what a change costs in rewriting grows with the logarithm of the number of changes.
    """
    base, deltas = segments[:1], segments[1:]
    if not base or not deltas:
        return None
    changed = sum(delta.entries for delta in deltas)
    if len(deltas) >= policy.base_from and changed > base[0].entries * policy.base_share:
        return 0, len(segments)
    if len(deltas) < policy.merge_from:
        return None
    start = len(segments) - policy.merge_least
    merged = sum(delta.entries for delta in segments[start:])
    while start > 1 and segments[start - 1].entries <= 2 * merged:
        start -= 1
        merged += segments[start].entries
    return start, len(segments)


class Compactor:
    """Makes one segment of several, without changing what they say.

    Args:
        log: The layer's event log.
        storage: The layer's storage.
        snapshots: The layer's snapshots.
        keeper: Says what becomes of the segments that are replaced.
    """

    def __init__(self, log: EventLog, storage: Storage, snapshots: Snapshots, keeper: HistoryKeeper) -> None:
        self._log = log
        self._storage = storage
        self._snapshots = snapshots
        self._keeper = keeper

    def compact(self, partition: str, head: Head) -> Head:
        """Compact a partition if it is due.

        Args:
            partition: The partition.
            head: Its head, as it was a moment ago.

        Returns:
            The head as moved, or as last seen.

        Raises:
            ConflictError: A head that cannot take another delta moved on at every one of a bounded number of tries.
        """
        for _ in range(_TRIES):
            span = due(head.segments)
            if span is None:
                return head
            replaced = head.segments[slice(*span)]
            try:
                merged = self._merge(partition, replaced)
            except SegmentMissingError:
                now = self._log.head(partition)
                if now.revision == head.revision:
                    raise
                head = now  # others have replaced them, and a vacuum has discarded them
                continue
            head, moved = self._replace(partition, head, replaced, merged)
            if moved:
                return head
        if len(head.segments) > MAX_DELTAS:
            raise ConflictError(
                f"the snapshot moved on at each of {_TRIES} tries to compact it; sync again",
                operation="sync",
                partition=partition,
                retryable=True,
            )
        return head

    def _merge(self, partition: str, replaced: Sequence[SegmentRef]) -> SegmentRef:
        first, last = replaced[0], replaced[-1]
        table, origin = self._log.table, self._log.origin
        if self._storage.capabilities.columns:
            header = SegmentHeader(
                table,
                partition,
                origin,
                first.kind,
                first.from_version,
                last.to_version,
                fresh_name(first.kind, last.to_version, origin),
            )
            return self._merge_columns(header, replaced)
        if first.kind == "base":
            items = self._snapshots.items(partition, replaced)
            segment = Segment(table, partition, origin, "base", 0, last.to_version, items)
        else:
            net = NetChanges()
            for named in replaced:
                net.add_segment(self._storage.get(partition, named, table=table))
            segment = Segment(
                table,
                partition,
                origin,
                "delta",
                first.from_version,
                last.to_version,
                net.items,
                frozenset(net.deleted),
            )
        return self._storage.put(segment, cursor=last.cursor, at=last.at)

    def _merge_columns(self, header: SegmentHeader, replaced: Sequence[SegmentRef]) -> SegmentRef:
        from dynalayer.columns import Newest  # noqa: PLC0415 -- needs pyarrow, which whoever reads by columns has

        opened = [self._storage.columns(header.partition, named, table=header.table) for named in replaced]
        last = replaced[-1]
        return self._storage.put_columns(Newest(header, opened), cursor=last.cursor, at=last.at)

    def _replace(
        self, partition: str, head: Head, replaced: Sequence[SegmentRef], merged: SegmentRef
    ) -> tuple[Head, bool]:
        """Move the head to name the one in place of the several; whatever was added after them stays.

        Returns:
            The head as last seen, and whether it names the merged segment.
        """
        vacuums = head.vacuums
        for _ in range(_TRIES):
            position = _find(head.segments, replaced)
            if position is None or head.vacuums != vacuums:
                break  # a vacuum meanwhile may have discarded what was merged, which nothing named yet
            segments = (
                *head.segments[:position],
                merged,
                *head.segments[position + len(replaced) :],
            )
            moved = replace(head, revision=head.revision + 1, segments=segments)
            retired = self._keeper.retired(partition, head, replaced, head.retention)
            failed: EventLogError | None = None
            try:
                if self._log.move_head(partition, HeadMove(head.revision, moved, retired)):
                    return moved, True
            except EventLogError as error:
                failed = error
            head = self._log.head(partition)
            if merged in head.segments:  # an answer was lost: it was this one that moved the head
                return head, True
            if failed is not None:
                raise failed
        return head, False


def _find(segments: Sequence[SegmentRef], wanted: Sequence[SegmentRef]) -> int | None:
    for position in range(len(segments) - len(wanted) + 1):
        if tuple(segments[position : position + len(wanted)]) == tuple(wanted):
            return position
    return None
