"""Reading the past: history, and partitions as they were at a version, a moment or a sync."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from dynalayer.bulk import paused_collector
from dynalayer.clock import INITIAL, from_iso, to_datetime, to_iso, to_microseconds
from dynalayer.errors import ConflictError, HistoryError, InvalidInputError, SegmentMissingError
from dynalayer.eventlog.base import EventLog, Head, Record, RecordKind, Run, SegmentRef
from dynalayer.events import Event
from dynalayer.fold import apply_changes
from dynalayer.quoting import quoted
from dynalayer.recalling import Recaller
from dynalayer.snapshots import Snapshots, changes_of, missing_record
from dynalayer.values import Item, copy_item

__all__ = ["At", "Historian"]

At = int | datetime | str
"""A version, an aware moment, or the cursor of a sync."""

_TRIES = 16


@dataclass(frozen=True, slots=True)
class _Past:
    """What is known of a partition's past besides its records."""

    head: Head
    segments: tuple[SegmentRef, ...]

    @property
    def history(self) -> tuple[SegmentRef, ...]:
        """The history segments among them."""
        return tuple(named for named in self.segments if named.kind == "history")


class Historian:
    """Reads the log and the old segments for what was.

    What is answered is exact; what is no longer known is an error, never a guess.

    Args:
        log: The layer's event log.
        snapshots: The layer's snapshots.
        recaller: Reads records, wherever they are.
        immutable: Whether the adapter keeps old segments at all.
    """

    def __init__(self, log: EventLog, snapshots: Snapshots, recaller: Recaller, *, immutable: bool) -> None:
        self._log = log
        self._snapshots = snapshots
        self._recaller = recaller
        self._immutable = immutable

    def history(self, partition: str, identifier: str | None, after: int, through: int | None) -> list[Event]:
        """The events of a partition that are still kept, in order of version.

        Args:
            partition: The partition.
            identifier: Only this item's; None: all.
            after: Only those above this version.
            through: Only those up to this version; None: all.

        Raises:
            HistoryError: Some are missing among those that were to be kept for ever.
        """
        newest = self._log.partition_state(partition).version  # what comes later is not waited for
        newest = newest if through is None else min(newest, through)
        events: list[Event] = []
        reached = after
        for run in self._recaller.runs(partition, after):
            with paused_collector():
                for record in run.records:
                    if record.version > max(reached, run.head.version) + 1:
                        # Past a hole in what is pending: a large record is just being written there. Who goes on from
                        # here the next time would never see it.
                        return events
                    if record.version > reached + 1:
                        self._check_gap(partition, reached, min(record.version - 1, newest))
                    if record.version > newest:
                        return events
                    reached = record.version
                    cursor = record.cursor if record.cursor != INITIAL else run.head.cursor_of(record.version)
                    at = to_datetime(record.at)
                    events.extend(
                        Event(change.type, change.item, change.id, partition, record.version, cursor, at)
                        for change in changes_of(self._log, partition, record)
                        if identifier is None or change.id == identifier
                    )
            if run.complete:
                self._check_gap(partition, reached, min(run.head.version, newest))
        return events

    def _check_gap(self, partition: str, reached: int, through: int) -> None:
        """Refuse to pass over versions that are kept nowhere, where history was kept for ever before them.

        A beginning that has expired is no gap: it is gone by design.
        """
        begun = self._recaller.begun(partition) if reached < through else None
        if begun is None or begun >= through:
            return
        first = max(reached, begun) + 1
        raise HistoryError(
            f"versions {first} to {through} are kept nowhere any more: they were folded without history='forever'. "
            f"history(through={first - 1}) tells what was before them, history(after={through}) what came after",
            operation="history",
            partition=partition,
        )

    def get(self, partition: str, at: At, *, in_order: bool) -> list[Item]:
        """The items of a partition as they were.

        Args:
            partition: The partition.
            at: A version; a moment, which means the last record not after it; or the cursor of a sync.
            in_order: Sort by identifier.

        Raises:
            HistoryError: It is past the newest version, names no sync, or reaches back past what is kept.
            InvalidInputError: It is none of the three, or a moment without a time zone.
        """
        gone: frozenset[str] = frozenset()
        past = self._past(partition)
        for _ in range(_TRIES + len(past.segments)):  # each try that fails leaves out what was gone
            try:
                version = self._resolve(partition, past, at)
                path, records = self._way(partition, past, gone, version)
            except HistoryError:
                if self._log.head(partition).revision == past.head.revision:
                    raise
                # What was pending when the head was read has been folded since, and its records have expired: the
                # snapshot that the head names now may know it.
                past = self._past(partition)
                continue
            try:
                items = self._snapshots.items(partition, path)
            except SegmentMissingError:
                # A vacuum came between, or did not finish. Without what it discarded there may be another way.
                named_now = {named.ref for named in self._log.head(partition).segments}
                missing = {named.ref for named in path} - named_now
                if not missing:
                    raise
                gone |= missing
                past = self._past(partition)
                continue
            with paused_collector():
                for record in records:
                    apply_changes(items, changes_of(self._log, partition, record))
                if in_order:
                    return [copy_item(items[identifier]) for identifier in sorted(items)]
                return [copy_item(item) for item in items.values()]
        raise ConflictError(
            "segments were discarded at each of a bounded number of tries to read the past; try again",
            operation="get",
            partition=partition,
            retryable=True,
        )

    def _past(self, partition: str) -> _Past:
        # The head first: a segment that retires between the two reads is then known from both.
        head = self._log.head(partition)
        if not self._immutable:
            return _Past(head, ())  # the one place holds what is there now, and nothing of what was
        old = tuple(each.segment for each in self._log.old_segments(partition))
        return _Past(head, tuple({named.ref: named for named in (*old, *head.segments)}.values()))

    def _runs(self, partition: str, past: _Past, after: int) -> Iterator[Run]:
        return self._recaller.runs(partition, after, past.history)

    def _resolve(self, partition: str, past: _Past, at: object) -> int:
        if isinstance(at, bool):
            raise InvalidInputError(f"at={quoted(at)} is no version, moment or cursor")
        if isinstance(at, int):
            newest = self._log.partition_state(partition).version
            if not 0 <= at <= newest:
                raise HistoryError(
                    f"there is no version {quoted(at)}; the newest is {newest}", operation="get", partition=partition
                )
            return at
        if isinstance(at, datetime):
            if at.tzinfo is None:
                raise InvalidInputError(f"at={at!r} has no time zone; as in datetime.now(timezone.utc)")
            moment = to_microseconds(at)
            return self._last(partition, past, at, lambda named: named.at <= moment, lambda record: record.at <= moment)
        if isinstance(at, str):
            return self._resolve_cursor(partition, past, at)
        raise InvalidInputError(f"at={quoted(at)} is no version (int), moment (datetime) or cursor (str)")

    def _resolve_cursor(self, partition: str, past: _Past, cursor: str) -> int:
        def folded(record: Record) -> bool:
            marked = record.cursor if record.cursor != INITIAL else past.head.cursor_of(record.version)
            return marked != INITIAL and marked <= cursor

        known = any(named.cursor == cursor for named in past.segments) or self._knows(cursor)
        # Logs forget syncs after a time. What one folded here knows its cursor as long as it is kept.
        if not known and not (_is_cursor(cursor) and past.history):
            raise _unknown(partition, cursor)
        version = self._last(partition, past, cursor, lambda named: named.cursor <= cursor, folded)
        if not known and self._cursor(partition, past, version) != cursor:
            raise _unknown(partition, cursor)
        return version

    def _cursor(self, partition: str, past: _Past, version: int) -> str | None:
        """The cursor of a folded record; None of none."""
        runs = self._runs(partition, past, version - 1) if version else ()
        return next((record.cursor for run in runs for record in run.records), None)

    def _knows(self, cursor: str) -> bool:
        return _is_cursor(cursor) and self._log.knows_cursor(cursor)

    def _last(
        self,
        partition: str,
        past: _Past,
        at: object,
        segment_within: Callable[[SegmentRef], bool],
        record_within: Callable[[Record], bool],
    ) -> int:
        """The last version within a bound that rises with the versions.

        Segments tell where to begin; from there on each record must be there to say whether it is within.
        """
        version = max((named.to_version for named in past.segments if segment_within(named)), default=0)
        for run in self._runs(partition, past, version):
            for record in run.records:
                if record.version != version + 1 and version >= run.head.version:
                    raise missing_record(self._log, partition, version + 1)
                if record.version != version + 1:
                    raise self._expired(partition, past, at)
                if not record_within(record):
                    return version
                version += 1
            # By the head as it is after these records: they may have been folded, and have expired, since it was
            # first read.
            if run.complete and version < run.head.version:
                raise self._expired(partition, past, at)
        return version

    def _expired(self, partition: str, past: _Past, at: object) -> HistoryError:
        kept = next((record for run in self._runs(partition, past, 0) for record in run.records), None)
        reach = f"the oldest kept event is of {to_iso(kept.at)}, version {kept.version}" if kept else "nothing is kept"
        shown = at.isoformat() if isinstance(at, datetime) else repr(at)
        return HistoryError(
            f"at={shown} reaches back past what is kept: {reach}; a longer ttl keeps more, history='forever' all",
            operation="get",
            partition=partition,
        )

    def _way(
        self, partition: str, past: _Past, gone: frozenset[str], version: int
    ) -> tuple[Sequence[SegmentRef], Sequence[Record]]:
        """The segments and, after them, the records that lead to a version."""
        path = _path((named for named in past.segments if named.ref not in gone), version)
        reached = path[-1].to_version if path else 0
        records: list[Record] = []
        for record in (record for run in self._runs(partition, past, reached) for record in run.records):
            if record.version > version or record.version != reached + len(records) + 1:
                break
            records.append(record)
        # A reset that was committed has replaced what came before it; one that was not, changes nothing.
        crossed = any(
            record.kind is RecordKind.RESET
            and record.version <= past.head.reset
            and not self._recaller.passed(partition, record.version, past.history)
            for record in records
        )
        if reached + len(records) != version or crossed:
            raise self._expired(partition, past, version)
        return path, records


def _is_cursor(text: str) -> bool:
    try:
        return to_iso(from_iso(text)) == text
    except (ValueError, OverflowError, TypeError):  # no moment, or one without a time zone: no sync gave it
        return False


def _unknown(partition: str, cursor: str) -> HistoryError:
    return HistoryError(
        f"no sync had the cursor {cursor!r}, or it is forgotten; the last one's is in meta().cursor",
        operation="get",
        partition=partition,
    )


def _path(segments: Iterable[SegmentRef], version: int) -> Sequence[SegmentRef]:
    """The cheapest base and deltas that lead to the newest state not above a version."""
    paths: dict[int, tuple[int, tuple[SegmentRef, ...]]] = {0: (0, ())}
    for named in sorted(segments, key=lambda each: (each.to_version, each.from_version)):
        if named.to_version > version:
            break
        if named.kind == "history":
            continue
        before = (0, ()) if named.kind == "base" else paths.get(named.from_version)
        if before is None:
            continue
        entries, path = before[0] + named.entries, (*before[1], named)
        known = paths.get(named.to_version)
        if known is None or entries < known[0]:
            paths[named.to_version] = (entries, path)
    return paths[max(paths)][1]
