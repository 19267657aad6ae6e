"""Keeping history: what a head's move lists besides the snapshot that it replaces, and how that stays short.

With `history="forever"` the records that a move folds stand in a history segment, listed in the same write. Only then
may they expire, so that none can be gone that no listed segment holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dynalayer.chronicle import (
    FOREVER,
    Stretch,
    due_history,
    history_of,
    history_segment,
    merged_segment,
    size_of,
    stretches,
    superseded,
)
from dynalayer.clock import INITIAL, MICROSECONDS, Clock
from dynalayer.errors import EventLogError, SegmentMissingError
from dynalayer.eventlog.base import EventLog, Head, HeadMove, OldSegment, Record, SegmentRef
from dynalayer.segments import Segment
from dynalayer.snapshots import contiguous
from dynalayer.storage import Storage

__all__ = ["POLICY", "HistoryKeeper", "HistoryPolicy", "retire"]

_MERGES = 8  # that one sync makes at most
_FILLED_BYTES = 8 * 1024 * 1024  # packed; what is brought over from the log at a time
_FILLED = 8  # times that one sync does so
_DAY = 86_400 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class HistoryPolicy:
    """When to merge history segments, and which bases to keep with them.

    Attributes:
        every: Syncs of a partition, of which one looks whether something is due.
        least: How many of the newest segments are merged at least.
        apart: Events, at least, between two bases that are kept for ever; as many as the base has items, if they are
            more.
    """

    every: int = 8
    least: int = 8
    apart: int = 20_000


POLICY = HistoryPolicy()


def retire(segments: Sequence[SegmentRef], now: int, retention: int) -> tuple[OldSegment, ...]:
    """Segments as the old ones that they become."""
    return tuple(OldSegment(named, now, now + retention * MICROSECONDS) for named in segments)


class HistoryKeeper:
    """Says what becomes of what a head's move leaves behind.

    Args:
        log: The layer's event log.
        storage: The layer's storage.
        clock: Tells when segments retire.
        forever: Whether history is kept for ever.

    Attributes:
        forever: Likewise.
    """

    def __init__(self, log: EventLog, storage: Storage, clock: Clock, *, forever: bool) -> None:
        self._log = log
        self._storage = storage
        self._clock = clock
        self.forever = forever
        self._policy = POLICY

    def retired(
        self, partition: str, head: Head, replaced: Sequence[SegmentRef], retention: int, now: int = 0
    ) -> tuple[OldSegment, ...]:
        """Segments that a move replaces, as the old ones that they become: kept for a time, or some for ever.

        Args:
            partition: The partition.
            head: Its head before the move.
            replaced: They.
            retention: How long as-of reads may need them, in seconds.
            now: A moment that it is at least.
        """
        old = retire(replaced, max(now, self._clock()), retention)
        if not self.forever or not replaced or replaced[0].kind != "base":
            return old
        wanted = _wanted(replaced, self._log.old_segments(partition), head, self._policy.apart)
        return tuple(replace(each, keep_until=FOREVER) if each.segment in wanted else each for each in old)

    def recorded(
        self, partition: str, head: Head, records: Sequence[Record], cursor: str, *, committed: int = 0
    ) -> tuple[OldSegment, ...]:
        """Store the records that a move folds as a history segment, for the move to list.

        Args:
            partition: The partition.
            head: Its head before the move.
            records: Those that follow it.
            cursor: Of the sync that folds them.
            committed: The reset among them that the move commits.

        Raises:
            StorageError: The adapter failed.
        """
        if not self.forever:
            return ()
        segment = history_segment(self._log, partition, head.version, records, cursor, committed=(committed,))
        return (self._put(segment, cursor, records[-1].at, self._clock()),)

    def tidy(self, partition: str, head: Head) -> None:
        """Every few syncs: bring over what the log still has and no history segment, and merge what is due.

        Args:
            partition: The partition.
            head: Its head, as it was a moment ago.

        Raises:
            StorageError: The adapter failed; what is kept is as it was.
            EventLogError: The log failed; likewise.
        """
        if not self.forever or (head.synced_times - 1) % self._policy.every:
            return
        listed = self._log.old_segments(partition)
        moved = self._fill(partition, head, listed)
        for _ in range(_MERGES):
            if moved is not head:
                listed = self._log.old_segments(partition)
            history = history_of(listed)
            useless = superseded(history)
            if useless:
                self._log.forget_old_segments(partition, useless)
            parts = _due(history, self._policy.least)
            if not parts or moved is None:
                return
            since = min(old.retired_at for old in listed if old.segment in parts)
            try:
                moved = self._merge(partition, moved, parts, since)
            except SegmentMissingError:
                if {named.ref for named in parts} <= self._listed(partition):
                    raise
                return  # another sync has merged them meanwhile, and a vacuum discarded them

    def _merge(self, partition: str, head: Head, parts: Sequence[SegmentRef], since: int) -> Head | None:
        """Write one segment for several, and list it. The several are forgotten next: a vacuum then finds them."""
        loaded = [self._storage.get(partition, each, table=self._log.table) for each in parts]
        merged = merged_segment(self._log, partition, loaded)
        return self._list(partition, head, self._put(merged, parts[-1].cursor, parts[-1].at, since))

    def _put(self, segment: Segment, cursor: str, at: int, since: int) -> OldSegment:
        return OldSegment(self._storage.put(segment, cursor=cursor, at=at), since, FOREVER)

    def _list(self, partition: str, head: Head, listed: OldSegment) -> Head | None:
        """List a segment by a move that changes nothing else; None where another has moved the head since.

        A vacuum too: what nothing named yet it may have discarded.
        """
        moved = replace(head, revision=head.revision + 1)
        try:
            done = self._log.move_head(partition, HeadMove(head.revision, moved, (listed,)))
        except EventLogError:
            if listed.segment.ref not in self._listed(partition):
                raise
            done = True
        return moved if done else None

    def _listed(self, partition: str) -> set[str]:
        return {old.segment.ref for old in self._log.old_segments(partition)}

    def _fill(self, partition: str, head: Head, listed: Sequence[OldSegment]) -> Head | None:
        """Bring over what was folded without this option, and is still in the log: only what leads up to a stretch."""
        since = {old.segment.ref: old.retired_at for old in listed}
        moved: Head | None = head
        before = 0
        for stretch in stretches(history_of(listed)):
            gap, before = (before, stretch.after), stretch.through
            told = since[stretch.segments[0].ref]
            if moved and gap[0] < gap[1] and self._clock() <= told + head.retention * MICROSECONDS + _DAY:
                moved = self._fill_gap(partition, moved, *gap)
        return moved

    def _fill_gap(self, partition: str, head: Head, after: int, through: int) -> Head | None:
        begin = self._first_kept(partition, after, through) - 1
        for _ in range(_FILLED):
            if begin >= through:
                break
            run = self._log.read(partition, begin, max_bytes=_FILLED_BYTES)
            records = [record for record in run.records if record.version <= through]
            if any(record.cursor == INITIAL for record in records) or len(contiguous(records, begin)) < len(records):
                break  # all were marked and kept a moment ago: another is at work, or they have expired
            if not records:
                break
            last, resets = records[-1], range(head.reset + 1)
            segment = history_segment(self._log, partition, begin, records, last.cursor, committed=resets)
            moved = self._list(partition, head, self._put(segment, last.cursor, last.at, self._clock()))
            if moved is None:
                return None
            head, begin = moved, records[-1].version
        return head

    def _first_kept(self, partition: str, after: int, through: int) -> int:
        """The first of the records up to a version that are all kept; the one after it where that is not."""
        first = expected = after + 1
        size = 1  # mostly nothing is there any more, and what comes after the gap is many pages
        while expected <= through:
            run = self._log.read(partition, expected - 1, max_bytes=size)
            size = _FILLED_BYTES
            for record in run.records:
                if record.version > through:
                    break
                if record.version != expected:
                    first = record.version
                expected = record.version + 1
            if run.complete or not run.records or run.records[-1].version >= through:
                break
        return first if expected == through + 1 else through + 1


def _due(history: Sequence[SegmentRef], least: int) -> Sequence[SegmentRef]:
    for stretch in reversed(stretches(history)):
        span = due_history([size_of(named) for named in stretch.segments], least)
        if span is not None:
            return stretch.segments[slice(*span)]
    return ()


def _wanted(
    replaced: Sequence[SegmentRef], listed: Sequence[OldSegment], head: Head, apart: int
) -> Sequence[SegmentRef]:
    """Which of a base and its deltas to keep for ever: as-of reads need a base not too far below any version."""
    base = replaced[0]
    history = history_of(listed)
    kept = [old.segment for old in listed if old.segment.kind != "history" and old.keep_until >= FOREVER]
    begun = _begun(stretches(history), head)
    if begun and not any(named.to_version >= begun for named in kept):
        return replaced  # nothing before them is known, so that all later versions begin with these
    below = max(
        (named.to_version for named in kept if named.kind == "base" and named.to_version <= base.to_version), default=0
    )
    events = sum(named.entries for named in history if below < named.to_version <= base.to_version)
    return (base,) if base.to_version == head.reset or events >= max(base.entries, apart) else ()


def _begun(found: Sequence[Stretch], head: Head) -> int:
    """The version after which history is known without a gap, up to the head and what it is moved to."""
    return found[-1].after if found and found[-1].through >= head.version else head.version
