"""Moving a head to what was folded: under which cursor, to what, and whether it was this move that moved it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dynalayer.clock import INITIAL, Clock, from_iso, to_iso
from dynalayer.errors import EventLogError
from dynalayer.eventlog.base import EventLog, Head, HeadMove, Record, SegmentRef
from dynalayer.logs import log_failure

__all__ = ["announce_empty", "give_back", "has_moved", "head_after", "new_moment", "rising"]


def new_moment(log: EventLog, clock: Clock) -> int:
    """A moment for a new cursor: later than every sync's before it, whatever the clocks say."""
    last = log.last_cursor()
    now = clock()
    return now if last == INITIAL else max(now, from_iso(last) + 1)


def rising(moment: int, head: Head, *, again: bool = False) -> int:
    """The moment, or a later one, under which a head may move on.

    Syncs overlap and clocks differ: cursors rise with the versions all the same.

    Args:
        moment: The sync's.
        head: The head.
        again: Whether that sync has moved the head before, which then has its cursor.
    """
    if head.cursor == INITIAL or (again and head.cursor == to_iso(moment)):
        return moment
    return max(moment, from_iso(head.cursor) + 1)


def head_after(
    head: Head, records: Sequence[Record], segments: tuple[SegmentRef, ...], cursor: str, *, again: bool = False
) -> Head:
    """What a head becomes when records are folded.

    Args:
        head: The head.
        records: Those above it, in order.
        segments: The snapshot with them.
        cursor: Of the sync that folds them.
        again: Whether that sync has folded events here before.
    """
    last, count = records[-1], sum(record.count for record in records)
    return Head(
        version=last.version,
        revision=head.revision + 1,
        segments=segments,
        events_total=last.events_total,
        bytes_total=last.bytes_total,
        at=last.at,
        cursor=cursor,
        synced_times=head.synced_times + (1 if count and not again else 0),
        synced_last_total=count + (head.synced_last_total if head.cursor == cursor else 0),
        reset=head.reset,
        retention=max(head.retention, *(record.retention for record in records)),
        vacuums=head.vacuums,
    )


def has_moved(log: EventLog, partition: str, move: HeadMove, named: SegmentRef) -> bool:
    """Move the head; where the answer is no, or lost, the head itself tells whether it was this that moved it.

    Args:
        log: The event log.
        partition: The partition.
        move: The move.
        named: The segment that only this move names.

    Raises:
        EventLogError: The log failed, and the head has not moved.
    """
    try:
        if log.move_head(partition, move):
            return True
    except EventLogError:
        if named not in log.head(partition).segments:
            raise
        return True
    return named in log.head(partition).segments


def announce_empty(log: EventLog, partition: str, head: Head) -> Head | None:
    """Let the head vouch for no items before a mutable place is emptied; None if another moved it first.

    A reader takes an empty answer for a failure where the head counts items. Between the emptying and the move to
    the version that is empty a sync may crash: without this every read and sync after it would fail. While the
    head vouches for none, whatever the place gives comes out right: the pending events remove all of it.
    """
    if not head.segments[0].entries:
        return head
    emptied = replace(
        head, revision=head.revision + 1, segments=tuple(replace(named, entries=0) for named in head.segments)
    )
    return emptied if log.move_head(partition, HeadMove(head.revision, emptied)) else None


def give_back(log: EventLog, partition: str, owner: str) -> None:
    """Give a lease back; where that fails it runs out by itself."""
    try:
        log.release(partition, owner)
    except EventLogError as error:
        text = "a lease could not be given back; it will run out by itself: %s"
        log_failure(text, error, error=error, table=log.table, partition=partition)
