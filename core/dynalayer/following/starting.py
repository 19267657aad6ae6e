"""Where a consumer begins in a partition: at all that is kept, now, after a moment, or after a sync."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dynalayer.clock import INITIAL, MICROSECONDS, Clock, from_iso, to_iso, to_microseconds
from dynalayer.errors import HistoryError, InvalidInputError
from dynalayer.eventlog.base import EventLog, Head, Record
from dynalayer.following.pages import Pages
from dynalayer.following.positions import BEGINNING, Position
from dynalayer.quoting import quoted

__all__ = ["Since", "Start", "check_known", "check_since", "position_at_version", "position_since"]

Since = datetime | str
"""`"beginning"`, `"now"`, an aware moment, or the cursor of a sync."""

_PAGE_BYTES = 1024 * 1024
_SURELY_KEPT = 23 * 3600 * MICROSECONDS  # a record is kept for a day after its fold; an hour is left to the clocks


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin, checked.

    Attributes:
        kind: `"beginning"`, `"now"`, `"moment"` or `"cursor"`.
        text: The kind, or the moment or the cursor as text.
    """

    kind: str
    text: str

    def within(self, at: int, cursor: str) -> bool:
        """Whether what was appended at a moment, and folded under a cursor, comes before."""
        if self.kind == "moment":
            return at <= from_iso(self.text)
        return self.kind == "cursor" and cursor != INITIAL and cursor <= self.text


def check_since(since: object, *, name: str = "since") -> Start:
    """What a caller gave as a beginning.

    Raises:
        InvalidInputError: It is none, or a moment without a time zone.
    """
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise InvalidInputError(f"{name}={since!r} has no time zone; as in datetime.now(timezone.utc)")
        return Start("moment", to_iso(to_microseconds(since)))
    if isinstance(since, str) and since in ("beginning", "now"):
        return Start(since, since)
    if isinstance(since, str) and _is_cursor(since):
        return Start("cursor", since)
    raise InvalidInputError(
        f'{name}={quoted(since)} is no beginning: "beginning", "now", an aware datetime, or the cursor of a sync'
    )


def check_known(log: EventLog, start: Start) -> None:
    """Refuse the cursor of no sync.

    Raises:
        HistoryError: No sync had it, or it is forgotten.
    """
    if start.kind == "cursor" and not log.knows_cursor(start.text):
        raise HistoryError(
            f"no sync had the cursor {start.text!r}, or it is forgotten; the last one's is in meta().cursor"
        )


def _is_cursor(text: str) -> bool:
    try:
        return to_iso(from_iso(text)) == text
    except (ValueError, OverflowError, TypeError):
        return False


def position_since(pages: Pages, partition: str, start: Start, clock: Clock) -> Position:
    """Where a consumer begins in a partition.

    Where events after the beginning have expired it is the oldest from which all are kept, and `lost` is set.

    Args:
        pages: Reads the partition.
        partition: The partition.
        start: The beginning.
        clock: Tells which records are surely kept still, and nothing else.

    Raises:
        EventLogError: The log failed.
        StorageError: What stands in history segments cannot be read.
    """
    if start.kind == "now":
        state = pages.log.partition_state(partition)
        return Position(state.version, 0, state.events_total, state.head.reset)
    return _Search(pages, partition, start, clock).run()


class _Search:
    """Looks through a partition's kept records for where a consumer begins."""

    def __init__(self, pages: Pages, partition: str, start: Start, clock: Clock) -> None:
        self._pages = pages
        self._partition = partition
        self._start = start
        self._kept_since = clock() - _SURELY_KEPT
        self._version = 0
        self._lost = False
        self._before = True  # whether what comes next may still be before the beginning

    def run(self) -> Position:
        head = self._pages.log.head(self._partition)
        if head.version and self._start.within(head.at, head.cursor):
            self._version = head.version
        reached = self._version
        while True:
            run = self._pages.read(self._partition, reached, _PAGE_BYTES)
            head = run.head
            for record in run.records:
                if record.version != reached + 1:
                    if reached >= head.version:
                        return self._found(head)  # a record is just being written there: it, and what follows, is new
                    if not self._pages.gone(self._partition, reached):
                        break
                    self._begin_at(record.version - 1, lost=True)
                reached = record.version
                if self._take(record, head):
                    return self._found(head)
            if run.complete:
                break
        if reached < head.version and self._pages.gone(self._partition, reached):
            self._begin_at(head.version, lost=not self._start.within(head.at, head.cursor))
        return self._found(head)

    def _begin_at(self, version: int, *, lost: bool) -> None:
        self._version, self._lost, self._before = version, lost, True

    def _take(self, record: Record, head: Head) -> bool:
        """Take a record in; tell whether what follows can change nothing any more."""
        cursor = record.cursor if record.cursor != INITIAL else head.cursor_of(record.version)
        self._before = self._before and self._start.within(record.at, cursor)
        if self._before:
            self._begin_at(record.version, lost=False)
            return False
        # What was recalled, and bears no nonce, is kept for ever.
        return cursor == INITIAL or not record.nonce or from_iso(cursor) >= self._kept_since

    def _found(self, head: Head) -> Position:
        if not self._version:
            return BEGINNING
        events = self._pages.events_through(self._partition, self._version)
        reset = head.reset if head.reset <= self._version else 0
        return Position(self._version, 0, events, reset, self._lost)


def position_at_version(pages: Pages, partition: str, version: int) -> Position:
    """Right after a version.

    Raises:
        HistoryError: There is no such version, or what follows it has expired.
    """
    state = pages.log.partition_state(partition)
    if not 0 <= version <= state.version:
        raise HistoryError(f"there is no version {quoted(version)}; the newest is {state.version}", partition=partition)
    reset = state.head.reset if state.head.reset <= version else 0
    if version == state.version:
        return Position(version, 0, state.events_total, reset)
    if pages.gone(partition, version):
        raise HistoryError(
            f'the events right after version {version} have expired; to="beginning" means the oldest from which all '
            "are kept",
            partition=partition,
        )
    return Position(version, 0, pages.events_through(partition, version), reset)
