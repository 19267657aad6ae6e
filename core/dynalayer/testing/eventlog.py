"""The conformance kit for event logs: every promise of `dynalayer.eventlog.base`, as a test.

Whoever writes an event log subclasses `EventLogConformance` and overrides one fixture::

    class TestMyEventLog(EventLogConformance):
        @pytest.fixture
        def make_log(self, tmp_path: Path) -> OpenLog:
            return lambda table: MyEventLog(tmp_path / "events", table)

All moments lie around the year 2100: a service that expires records by its own clock leaves those of the kit alone.
`pytest.register_assert_rewrite("dynalayer.testing")` in a conftest.py makes a failure show the values compared.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TypeVar

import pytest

from dynalayer.chronicle import FOREVER
from dynalayer.clock import INITIAL, MICROSECONDS, to_iso
from dynalayer.errors import ClosedError, InvalidInputError, LayerError
from dynalayer.eventlog.base import (
    MAX_DELTAS,
    MAX_LEASE,
    MAX_REF_BYTES,
    Appended,
    Draft,
    EventLog,
    Head,
    HeadMove,
    LayerState,
    Mark,
    OldSegment,
    PartitionState,
    RecordKind,
    SegmentRef,
    Unmarked,
)
from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove

__all__ = ["ODD_PARTITIONS", "EventLogConformance", "OpenLog"]

OpenLog = Callable[[str], EventLog]
"""Opens the log of a table. Every call within one test opens it on the same, at first empty, store."""

ODD_PARTITIONS = (
    *("", " ", "/", "a/b", "a//b", "a/", "../a", ".", "..", "#", "a#b", "##", "~head", "~", "!old#", "__meta__"),
    *("__users__", "__INITIAL__", "0", "00", "1", "1.0", "1e0", "true", "null", "NULL", "a", "A", "a ", " a", "a\n"),
    *("a\tb", "a\x00", "a\x00b", "%", "a%", "_", "a_", "*", "?", "'", '"', "`", "\\", ";", "a,b", "$", "{}"),
    *("é", "e\u0301", "É", "ß", "ss", "\u0131", "日本", "\U0001f642", "\ufeff", "\u202e", "\uffff"),
    *("x" * 512, "X" * 512, "x" * 511, "é" * 256, "\U0001f642" * 128, "/" * 512),
)
"""Partition names that every log must keep, and keep apart."""

_SECOND = 4_102_444_800  # 2100-01-01
_AT = _SECOND * MICROSECONDS
_DAY = 24 * 3600
_LATER = _AT + 1000 * _DAY * MICROSECONDS

_T = TypeVar("_T")


def _draft(
    partition: str = "eu",
    *,
    kind: RecordKind = RecordKind.CHANGES,
    nonce: str = "",
    at: int = _AT,
    count: int = 1,
    payload: bytes = b"events",
) -> Draft:
    return Draft(partition, kind, nonce or secrets.token_hex(8), at, count, _DAY, payload)


def _append(log: EventLog, partition: str = "eu", *, times: int = 1) -> None:
    for _ in range(times):
        log.append([_draft(partition)])


def _cursor(sync: int) -> str:
    """Cursor of the kit's sync of that number; later syncs have later ones."""
    return to_iso(_AT + sync)


def _segment(to_version: int, ref: str = "", *, kind: str = "base", from_version: int = 0) -> SegmentRef:
    name = f"{to_version:020d}-{secrets.token_hex(8)}"
    return SegmentRef(
        ref=ref or name,
        kind="delta" if kind == "delta" else "base",
        from_version=from_version,
        to_version=to_version,
        entries=3,
        name=name,
        cursor=_cursor(to_version),
        at=_AT,
    )


def _folded(log: EventLog, partition: str, through: int, sync: int, *, first: bool = True) -> HeadMove:
    """The move by which a sync folds a partition through a version; whether it is the sync's first."""
    head = log.head(partition)
    records = [record for record in log.read(partition, head.version).records if record.version <= through]
    assert records, f"partition {partition!r} has no record above {head.version} through {through}"
    count, last = sum(record.count for record in records), records[-1]
    again = head.cursor == _cursor(sync)
    moved = Head(
        version=last.version,
        revision=head.revision + 1,
        segments=(_segment(last.version),),
        events_total=last.events_total,
        bytes_total=last.bytes_total,
        at=last.at,
        cursor=_cursor(sync),
        synced_times=head.synced_times + (0 if again else 1),
        synced_last_total=count + (head.synced_last_total if again else 0),
        retention=_DAY,
    )
    return HeadMove(head.revision, moved, folded=count, first=first)


def _fold(log: EventLog, partition: str, through: int, sync: int, *, first: bool = True) -> Head:
    move = _folded(log, partition, through, sync, first=first)
    assert log.move_head(partition, move)
    return move.head


def _mark(log: EventLog, partition: str, through: int, sync: int, ttl: int = _SECOND + _DAY) -> None:
    left = log.unmarked(partition, through, 1000)
    log.mark(partition, [Mark(each.version, each.nonce, _cursor(sync), ttl) for each in left])


def _versions(log: EventLog, partition: str = "eu", after: int = 0) -> list[int]:
    return [record.version for record in log.read(partition, after).records]


def _at_once(tasks: Sequence[Callable[[], _T]]) -> list[_T]:
    """Run each task in a thread of its own, begun together; what they return, or the first error."""
    barrier = threading.Barrier(len(tasks), timeout=60)

    def begin(task: Callable[[], _T]) -> _T:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(begin, task) for task in tasks]]


def _while_running(tasks: Sequence[Callable[[], object]], look: Callable[[], None]) -> None:
    """Look again and again while tasks run in threads, and once more after them."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
        while not all(future.done() for future in futures):
            look()
        for future in futures:
            future.result()
    look()


class EventLogConformance:
    """What every event log must do. Subclass it, and override the fixture `make_log`.

    Attributes:
        shared: Whether several log objects can be open on one store; False for a log that lives in its object.
        expires: Whether `expire` itself deletes; False for a log whose service does so.
        writers: Threads that write at once.
        appends: Records that each of them appends; a slow log may lower it.
    """

    shared: bool = True
    expires: bool = True
    writers: int = 6
    appends: int = 12

    @pytest.fixture
    def make_log(self) -> OpenLog:
        """A function that opens the log of a table, each time on the same store; a fresh store for each test."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture make_log, which opens its log")

    @pytest.fixture
    def open_log(self, make_log: OpenLog) -> Iterator[OpenLog]:
        """`make_log`, with what it opened closed at the end."""
        opened: list[EventLog] = []

        def open_one(table: str) -> EventLog:
            opened.append(make_log(table))
            return opened[-1]

        yield open_one
        for log in opened:
            log.close()

    @pytest.fixture
    def log(self, open_log: OpenLog) -> EventLog:
        """The log of table `users`."""
        return open_log("users")

    @pytest.fixture
    def other(self, log: EventLog, open_log: OpenLog) -> EventLog:
        """A second log object on the store of `log`."""
        if not self.shared:
            pytest.skip("shared = False: this log lives in its object")
        return open_log(log.table)

    # Appending

    def test_versions_of_a_partition_are_dense_from_one(self, log: EventLog) -> None:
        """One number after the other, as told and, at once, as read."""
        for version in range(1, 13):
            assert log.append([_draft()])[0].version == version
            assert _versions(log) == list(range(1, version + 1))

    def test_each_partition_counts_its_own_versions(self, log: EventLog) -> None:
        """What is appended to one leaves the numbers of another alone."""
        _append(log, "eu", times=3)
        assert log.append([_draft("us")])[0].version == 1
        assert log.append([_draft("eu")])[0].version == 4

    def test_places_are_told_in_the_order_of_the_drafts(self, log: EventLog) -> None:
        """Not in the order of names, nor of versions."""
        _append(log, "b", times=2)
        places = log.append([_draft("c"), _draft("a", at=_AT + 1), _draft("b")])
        assert places == (Appended("c", 1, _AT), Appended("a", 1, _AT + 1), Appended("b", 3, _AT))
        assert [_versions(log, partition) for partition in "abc"] == [[1], [1, 2, 3], [1]]

    def test_a_record_comes_back_as_it_was_drafted(self, log: EventLog) -> None:
        """Field by field, for both kinds of record."""
        drafts = [
            replace(_draft(nonce="n1", count=2, payload=bytes(range(256))), retention=5 * _DAY),
            _draft(kind=RecordKind.RESET, nonce="n2", at=_AT + 7, count=0, payload=b"{}"),
        ]
        for draft in drafts:
            log.append([draft])
        records = log.read("eu", 0).records
        for draft, record in zip(drafts, records, strict=True):
            for name in ("kind", "nonce", "at", "count", "retention", "payload"):
                assert getattr(record, name) == getattr(draft, name)
                assert type(getattr(record, name)) is type(getattr(draft, name))
            assert record.cursor == INITIAL

    def test_a_record_is_never_dated_before_the_one_before_it(self, log: EventLog) -> None:
        """A clock that was set back does not reorder history; other partitions are not concerned."""
        moments = [_AT, _AT - 5, _AT - 9, _AT + 3, _AT + 1]
        expected = [_AT, _AT, _AT, _AT + 3, _AT + 3]
        assert [log.append([_draft(at=at)])[0].at for at in moments] == expected
        assert [record.at for record in log.read("eu", 0).records] == expected
        assert log.append([_draft("us", at=_AT - 5)])[0].at == _AT - 5

    def test_running_totals_are_exact(self, log: EventLog) -> None:
        """Each record's totals are the sums through it, in its own partition."""
        for count, size in ((3, 10), (0, 0), (1, 7)):
            log.append([_draft(count=count, payload=b"x" * size), _draft("us", count=100)])
        totals = [(record.events_total, record.bytes_total) for record in log.read("eu", 0).records]
        assert totals == [(3, 10), (3, 10), (4, 17)]

    def test_a_payload_of_a_megabyte_comes_back_byte_for_byte(self, log: EventLog) -> None:
        """Or of as much as the log's limit allows; random, so that nothing shrinks it."""
        payloads = [os.urandom(min(1024 * 1024, log.record_limit)) for _ in range(2)]
        for payload in payloads:
            log.append([_draft(payload=payload)])
        assert [record.payload for record in log.read("eu", 0).records] == payloads

    def test_a_record_of_no_events_is_kept(self, log: EventLog) -> None:
        """An empty payload is no missing one."""
        log.append([_draft(count=0, payload=b"")])
        (record,) = log.read("eu", 0).records
        assert (record.version, record.count, record.payload) == (1, 0, b"")

    def test_the_log_says_what_it_is(self, log: EventLog) -> None:
        """Its table, its place and its limit."""
        assert log.table == "users"
        assert log.location
        assert log.record_limit > 0

    # Reading

    def test_a_read_begins_above_the_version_asked_for(self, log: EventLog) -> None:
        """From none to all of them, and past the newest."""
        _append(log, times=4)
        for after in range(6):
            run = log.read("eu", after)
            assert [record.version for record in run.records] == list(range(after + 1, 5))
            assert run.complete

    def test_a_partition_never_written_reads_as_empty(self, log: EventLog) -> None:
        """It is no error."""
        run = log.read("nowhere", 0)
        assert (run.records, run.head, run.complete) == ((), Head(), True)

    def test_pages_of_a_read_add_up_to_the_whole(self, log: EventLog) -> None:
        """Whatever the limit: nothing twice, nothing left out, and an end."""
        for size in (5, 0, 40, 1, 1, 0, 13):
            log.append([_draft(payload=b"x" * size)])
        whole = log.read("eu", 0).records
        for limit in (1, 5, 6, 20, 59, 60, 61):
            read, complete = list(whole[:0]), False
            while not complete:
                run = log.read("eu", len(read), max_bytes=limit)
                assert run.records or run.complete
                read += run.records
                complete = run.complete
            assert tuple(read) == whole

    def test_a_page_holds_at_least_one_record(self, log: EventLog) -> None:
        """However small the limit: a reader always gets on."""
        for size in (100, 200):
            log.append([_draft(payload=b"x" * size)])
        for limit in (1, 0):
            first, second = log.read("eu", 0, max_bytes=limit), log.read("eu", 1, max_bytes=limit)
            assert [record.version for record in first.records[:1]] == [1]
            assert [record.version for record in second.records] == [2]

    def test_a_read_is_complete_unless_records_are_left(self, log: EventLog) -> None:
        """A limit that is not reached cuts nothing; one that cuts is told."""
        for _ in range(4):
            log.append([_draft(payload=b"x" * 10)])
        for limit in (1, 10, 15, 39, 40, 41, None):
            run = log.read("eu", 0, max_bytes=limit)
            assert run.complete == (len(run.records) == 4)
        assert log.read("eu", 0, max_bytes=41).complete
        assert log.read("eu", 4, max_bytes=1).complete

    def test_a_read_gives_the_head_as_moved_before_it(self, log: EventLog) -> None:
        """With records above it and without, whole and in pages."""
        _append(log, times=3)
        head = _fold(log, "eu", 2, 1)
        assert log.read("eu", 2).head == log.read("eu", 3).head == log.read("eu", 0, max_bytes=1).head == head
        assert _versions(log) == [1, 2, 3]

    # Heads

    def test_a_head_that_was_never_moved_is_the_empty_one(self, log: EventLog) -> None:
        """Of a partition with records as of one without."""
        _append(log)
        assert log.head("eu") == log.head("nowhere") == Head()

    def test_a_head_moves_from_the_revision_expected(self, log: EventLog) -> None:
        """Again and again, and it is seen at once."""
        _append(log, times=3)
        for version in (1, 2, 3):
            head = _fold(log, "eu", version, version)
            assert head.revision == version
            assert log.head("eu") == head

    def test_a_head_of_another_revision_stays(self, log: EventLog) -> None:
        """And nothing of the move is done: no segment is retired, no event counted, no cursor known."""
        _append(log, times=3)
        head = _fold(log, "eu", 1, 1)
        state = log.layer_state()
        for expected in (0, 2, 7):
            late = replace(head, version=2, revision=expected + 1, cursor=_cursor(2))
            retired = (OldSegment(head.segments[0], _AT, _LATER),)
            assert not log.move_head("eu", HeadMove(expected, late, retired, folded=1))
        assert log.head("eu") == head
        assert log.old_segments("eu") == ()
        assert log.layer_state() == state
        assert not log.knows_cursor(_cursor(2))

    def test_the_fullest_head_comes_back_as_it_was(self, log: EventLog) -> None:
        """A base and as many deltas as may be, with refs as long as may be, and no field at its default."""
        _append(log)
        refs = [f"{number:03d}é\"\\'#".ljust(MAX_REF_BYTES - 1, "r") for number in range(MAX_DELTAS + 1)]
        assert {len(ref.encode()) for ref in refs} == {MAX_REF_BYTES}
        deltas = (_segment(n + 2, refs[n + 1], kind="delta", from_version=n + 1) for n in range(MAX_DELTAS))
        head = Head(
            version=MAX_DELTAS + 1,
            revision=1,
            segments=(_segment(1, refs[0]), *deltas),
            events_total=2**40,
            bytes_total=2**50,
            at=_AT,
            cursor=_cursor(1),
            synced_times=4,
            synced_last_total=5,
            reset=6,
            retention=7,
            vacuums=8,
        )
        assert log.move_head("eu", HeadMove(0, head))
        assert log.head("eu") == log.read("eu", 0).head == log.partition_state("eu").head == head

    def test_a_head_moves_where_no_record_was_ever_appended(self, log: EventLog) -> None:
        """Revision 0 is expected of it like of any other, and the move makes no partition."""
        head = Head(revision=1, vacuums=1)
        assert log.move_head("eu", HeadMove(0, head))
        assert log.head("eu") == head
        assert not log.move_head("eu", HeadMove(0, head))
        assert log.partitions() == ()
        assert log.append([_draft()])[0].version == 1
        assert log.head("eu") == head

    def test_a_head_is_its_own_partitions_only(self, log: EventLog) -> None:
        """Moving one leaves another where it is."""
        log.append([_draft("eu"), _draft("us")])
        head = _fold(log, "eu", 1, 1)
        assert log.head("us") == Head()
        _fold(log, "us", 1, 1)
        assert log.head("eu") == head

    # What the moves count

    def test_moves_of_one_sync_count_as_one_sync(self, log: EventLog) -> None:
        """However many partitions it folded, and however often one of them."""
        log.append([_draft("eu", count=2), _draft("us", count=3)])
        log.append([_draft("eu", count=4)])
        for number, (partition, version) in enumerate((("eu", 1), ("us", 1), ("eu", 2))):
            _fold(log, partition, version, 1, first=number == 0)
        state = log.layer_state()
        assert (state.folded, state.synced_times, state.synced_last_total, state.cursor) == (9, 1, 9, _cursor(1))

    def test_a_later_sync_counts_anew(self, log: EventLog) -> None:
        """Its total is its own; what was folded is the sum of all."""
        log.append([_draft(count=2)])
        _fold(log, "eu", 1, 1)
        log.append([_draft(count=5)])
        _fold(log, "eu", 2, 2)
        state = log.layer_state()
        assert (state.folded, state.synced_times, state.synced_last_total, state.cursor) == (7, 2, 5, _cursor(2))

    def test_the_last_total_is_that_of_the_sync_whose_cursor_is_told(self, log: EventLog) -> None:
        """Also when the moves of two syncs alternate."""
        log.append([_draft("a", count=1), _draft("b", count=10), _draft("c", count=100), _draft("d", count=1000)])
        for partition, sync in (("a", 1), ("b", 2), ("c", 1), ("d", 2)):
            _fold(log, partition, 1, sync, first=partition in "ab")
        state = log.layer_state()
        assert (state.folded, state.synced_times) == (1111, 2)
        assert state.synced_last_total == {_cursor(1): 101, _cursor(2): 1010}[state.cursor]

    def test_a_move_that_folds_nothing_counts_nothing(self, log: EventLog) -> None:
        """A compaction or a vacuum is no sync."""
        _append(log)
        head = _fold(log, "eu", 1, 1)
        state = log.layer_state()
        assert log.move_head("eu", HeadMove(1, replace(head, revision=2, vacuums=1)))
        assert log.layer_state() == state

    def test_a_cursor_is_known_from_its_first_move_on(self, log: EventLog) -> None:
        """Neither before, nor another one, nor the cursor of what is pending."""
        _append(log)
        assert not log.knows_cursor(_cursor(1))
        _fold(log, "eu", 1, 1)
        assert log.knows_cursor(_cursor(1))
        assert not any(log.knows_cursor(cursor) for cursor in (_cursor(2), INITIAL, "", _cursor(1)[:-1]))

    # Marks

    def test_records_are_unmarked_until_they_are_marked(self, log: EventLog) -> None:
        """Listed in order, through the version asked for, and no more than asked for."""
        for number in range(1, 13):
            log.append([replace(_draft(nonce=f"n{number}"), retention=_DAY + number)])
        _fold(log, "eu", 11, 1)
        expected = tuple(Unmarked(number, f"n{number}", _DAY + number) for number in range(1, 12))
        assert log.unmarked("eu", 11, 100) == expected
        assert log.unmarked("eu", 11, 3) == expected[:3]
        assert log.unmarked("eu", 4, 100) == expected[:4]
        assert log.unmarked("eu", 0, 100) == log.unmarked("nowhere", 11, 100) == ()
        log.mark("eu", [Mark(number, f"n{number}", _cursor(1), _SECOND + _DAY) for number in (1, 2, 5)])
        assert [each.version for each in log.unmarked("eu", 11, 4)] == [3, 4, 6, 7]
        _mark(log, "eu", 11, 1)
        assert log.unmarked("eu", 11, 100) == ()

    def test_a_mark_changes_the_cursor_and_nothing_else(self, log: EventLog) -> None:
        """Of the records named, and of no other."""
        log.append([_draft(count=3, payload=bytes(range(256))), _draft("us")])
        _append(log)
        _fold(log, "eu", 1, 1)
        first, second = log.read("eu", 0).records
        _mark(log, "eu", 1, 1)
        assert log.read("eu", 0).records == (replace(first, cursor=_cursor(1)), second)
        assert log.read("us", 0).records[0].cursor == INITIAL

    def test_a_mark_with_another_nonce_is_ignored(self, log: EventLog) -> None:
        """The others of the same call are not."""
        for nonce in ("n1", "n2", "n3"):
            log.append([_draft(nonce=nonce)])
        _fold(log, "eu", 3, 1)
        log.mark("eu", [Mark(version, "n2", _cursor(1), _SECOND + _DAY) for version in (1, 2, 3)])
        assert [record.cursor for record in log.read("eu", 0).records] == [INITIAL, _cursor(1), INITIAL]
        if self.expires:
            assert log.expire(_LATER, 100, "") == 1

    def test_a_marked_record_is_not_marked_again(self, log: EventLog) -> None:
        """Neither its cursor nor its ttl changes any more."""
        log.append([_draft(nonce="n1")])
        _fold(log, "eu", 1, 1)
        log.mark("eu", [Mark(1, "n1", _cursor(1), _SECOND + 9 * _DAY)])
        log.mark("eu", [Mark(1, "n1", _cursor(2), _SECOND + _DAY)])
        log.expire((_SECOND + 2 * _DAY) * MICROSECONDS, 100, "")
        assert [record.cursor for record in log.read("eu", 0).records] == [_cursor(1)]

    def test_a_mark_of_no_record_makes_none(self, log: EventLog) -> None:
        """A record may have expired before a slow sync marks it."""
        log.append([_draft(nonce="n1")])
        log.mark("eu", [Mark(2, "n2", _cursor(1), _SECOND + _DAY)])
        log.mark("nowhere", [Mark(1, "n1", _cursor(1), _SECOND + _DAY)])
        log.mark("eu", [])
        assert _versions(log) == [1]
        assert log.read("nowhere", 0).records == ()
        assert log.partitions() == log.pending() == ("eu",)

    # Expiry

    def test_nothing_expires_that_was_not_marked(self, log: EventLog) -> None:
        """No pending record, no folded one without a ttl, no head, no old segment."""
        _append(log, times=3)
        old = OldSegment(_segment(1), _AT, _AT + 1)
        move = replace(_folded(log, "eu", 2, 1), retired=(old,))
        assert log.move_head("eu", move)
        assert log.expire(_LATER, 100, "") == 0
        assert _versions(log) == [1, 2, 3]
        assert log.head("eu") == move.head
        assert log.old_segments("eu") == (old,)

    def test_a_record_stays_until_its_ttl(self, log: EventLog) -> None:
        """From then on it expires; a log whose service does so leaves that to it."""
        _append(log, times=3)
        _fold(log, "eu", 2, 1)
        _mark(log, "eu", 1, 1, _SECOND + _DAY)
        _mark(log, "eu", 2, 1, _SECOND + 2 * _DAY)
        due = (_SECOND + _DAY) * MICROSECONDS
        assert log.expire(due - 1, 100, "") == 0
        assert _versions(log) == [1, 2, 3]
        assert log.expire(due, 100, "") == int(self.expires)
        assert _versions(log) == ([2, 3] if self.expires else [1, 2, 3])
        assert log.expire(due, 100, "") == 0

    def test_no_more_expires_at_once_than_the_limit(self, log: EventLog) -> None:
        """In any partition, and what is left expires the next times."""
        for partition in ("eu", "us"):
            _append(log, partition, times=4)
            _fold(log, partition, 3, 1)
            _mark(log, partition, 3, 1)
        counts = [log.expire(_LATER, 2, "") for _ in range(10)]
        assert max(counts) <= 2
        assert sum(counts) == (6 if self.expires else 0)
        if self.expires:
            assert _versions(log, "eu") == _versions(log, "us") == [4]

    def test_versions_moments_and_totals_go_on_when_all_records_have_expired(self, log: EventLog) -> None:
        """No number is given twice."""
        _append(log, times=2)
        log.append([_draft(at=_AT + 50, count=4)])
        head = _fold(log, "eu", 3, 1)
        _mark(log, "eu", 3, 1)
        log.expire(_LATER, 100, "")
        assert _versions(log) == ([] if self.expires else [1, 2, 3])
        assert log.partitions() == ("eu",)
        assert log.partition_state("eu").version == 3
        assert log.append([_draft(at=_AT, count=2, payload=b"123")]) == (Appended("eu", 4, _AT + 50),)
        (record,) = log.read("eu", 3).records
        assert (record.events_total, record.bytes_total) == (head.events_total + 2, head.bytes_total + 3)

    def test_syncs_before_a_moment_are_forgotten_within_the_limit(self, log: EventLog) -> None:
        """Those at it and after it stay known, the last one in any case, and the counts stay."""
        if not self.expires:
            pytest.skip("expires = False: what is remembered of syncs is the service's business")
        _append(log, times=5)
        for number in range(1, 6):
            _fold(log, "eu", number, number)
        state = log.layer_state()
        left = []
        for _ in range(3):
            log.expire(_AT, 2, _cursor(4))
            left.append([number for number in range(1, 6) if log.knows_cursor(_cursor(number))])
        assert [len(known) for known in left] == [3, 2, 2]
        assert left[-1] == [4, 5]
        assert log.layer_state() == state
        log.expire(_AT, 100, _cursor(6))
        assert [number for number in range(1, 6) if log.knows_cursor(_cursor(number))] == [5]
        assert log.layer_state() == state

    # Leases

    def test_a_lease_is_refused_while_anothers_lasts(self, log: EventLog) -> None:
        """And taken over once it has run out."""
        _append(log)
        assert log.lease("eu", "ann", 100, 200)
        assert not log.lease("eu", "bob", 150, 250)
        assert log.lease("eu", "bob", 201, 300)
        assert not log.lease("eu", "ann", 250, 350)

    def test_a_lease_longer_than_any_may_be_counts_as_run_out(self, log: EventLog) -> None:
        """A clock that was wrong took it, and nobody should wait for that clock."""
        _append(log)
        assert log.lease("eu", "ann", 100, 200 + MAX_LEASE)
        assert not log.lease("eu", "bob", 200, 300)
        assert log.lease("eu", "bob", 199, 300)
        assert not log.lease("eu", "ann", 200, 300)

    def test_an_owner_prolongs_its_own_lease(self, log: EventLog) -> None:
        """It then lasts until the later moment."""
        _append(log)
        assert log.lease("eu", "ann", 100, 200)
        assert log.lease("eu", "ann", 150, 400)
        assert not log.lease("eu", "bob", 300, 500)

    def test_a_lease_given_back_is_free(self, log: EventLog) -> None:
        """At once, for anybody."""
        _append(log)
        assert log.lease("eu", "ann", 100, 200)
        log.release("eu", "ann")
        assert log.lease("eu", "bob", 110, 210)

    def test_only_its_owner_gives_a_lease_back(self, log: EventLog) -> None:
        """Neither a stranger, nor who had it before it ran out."""
        _append(log)
        assert log.lease("eu", "ann", 100, 200)
        log.release("eu", "bob")
        assert not log.lease("eu", "bob", 150, 250)
        assert log.lease("eu", "bob", 201, 300)
        log.release("eu", "ann")
        assert not log.lease("eu", "ann", 250, 350)

    def test_a_lease_of_a_partition_without_records_holds_when_the_first_comes(self, log: EventLog) -> None:
        """Else two syncs would both have it."""
        assert log.lease("eu", "ann", 100, 200)
        assert not log.lease("eu", "bob", 150, 250)
        _append(log)
        assert not log.lease("eu", "bob", 150, 250)
        assert log.lease("eu", "ann", 150, 250)

    def test_a_lease_leaves_the_head_and_its_revision_alone(self, log: EventLog) -> None:
        """A sync that began before it still moves the head; and the move leaves the lease alone."""
        _append(log, times=2)
        head = _fold(log, "eu", 1, 1)
        move = _folded(log, "eu", 2, 2)
        assert log.lease("eu", "ann", 100, 200)
        assert log.lease("eu", "ann", 100, 300)
        assert log.head("eu") == log.read("eu", 0).head == head
        assert log.move_head("eu", move)
        assert not log.lease("eu", "bob", 250, 400)
        log.release("eu", "ann")
        assert log.head("eu") == move.head

    def test_a_lease_is_its_own_partitions_only(self, log: EventLog) -> None:
        """Two syncs work on two partitions."""
        log.append([_draft("eu"), _draft("us")])
        assert log.lease("eu", "ann", 100, 200)
        assert log.lease("us", "bob", 100, 200)
        log.release("us", "bob")
        assert not log.lease("eu", "bob", 100, 200)

    # Old segments

    def test_what_a_move_retires_is_listed_oldest_first(self, log: EventLog) -> None:
        """Field by field, from the move on, in its own partition."""
        log.append([_draft("eu"), _draft("us")])
        _append(log, times=11)
        expected: list[OldSegment] = []
        for version in range(1, 13):
            move = _folded(log, "eu", version, version)
            retired = tuple(OldSegment(each, _AT + version, _LATER) for each in log.head("eu").segments)
            assert log.move_head("eu", replace(move, retired=retired))
            expected += retired
            assert log.old_segments("eu") == tuple(expected)
        assert len(expected) == 11
        assert log.old_segments("us") == log.old_segments("nowhere") == ()

    def test_a_move_retires_a_whole_head_at_once(self, log: EventLog) -> None:
        """A base and as many deltas as may be, as a compaction does."""
        _append(log)
        deltas = (_segment(n + 2, kind="delta", from_version=n + 1) for n in range(MAX_DELTAS))
        segments = (_segment(1), *deltas)
        assert log.move_head("eu", HeadMove(0, Head(version=33, revision=1, segments=segments)))
        retired = tuple(OldSegment(each, _AT, _LATER) for each in segments)
        compacted = Head(version=33, revision=2, segments=(_segment(33),))
        assert log.move_head("eu", HeadMove(1, compacted, retired))
        assert log.head("eu") == compacted
        assert log.old_segments("eu") == retired

    def test_what_is_kept_for_ever_is_listed_by_a_move_that_replaces_nothing(self, log: EventLog) -> None:
        """Beside what another move retires, of any kind, until it is forgotten; without a fold nothing is counted."""
        _append(log, times=2)
        head = _fold(log, "eu", 1, 1)
        state = log.layer_state()
        history = replace(_segment(1, "ref-history"), kind="history", name="00000000000000000001-h10-origin-1")
        old = (OldSegment(history, _AT, FOREVER), OldSegment(_segment(1, "ref-base"), _AT, _LATER))
        for number, each in enumerate(old, 1):
            moved = replace(head, revision=head.revision + number)
            assert log.move_head("eu", HeadMove(moved.revision - 1, moved, (each,)))
        assert sorted(log.old_segments("eu"), key=lambda each: each.segment.ref) == [old[1], old[0]]
        assert log.layer_state() == state
        log.forget_old_segments("eu", ["ref-base"])
        assert log.old_segments("eu") == old[:1]

    def test_only_the_refs_named_are_forgotten(self, log: EventLog) -> None:
        """In the partition named; a ref that is not listed is no error."""
        log.append([_draft("eu"), _draft("us")])
        old = [OldSegment(_segment(version, f"ref-{version}"), _AT, _LATER) for version in (1, 2, 3)]
        for partition in ("eu", "us"):
            assert log.move_head(partition, HeadMove(0, Head(revision=1), tuple(old)))
        log.forget_old_segments("eu", ["ref-3", "ref-1", "ref-9"])
        log.forget_old_segments("eu", [])
        log.forget_old_segments("nowhere", ["ref-2"])
        assert log.old_segments("eu") == (old[1],)
        assert log.old_segments("us") == tuple(old)
        log.forget_old_segments("eu", ["ref-2"])
        assert log.old_segments("eu") == ()

    # Lists and counts

    def test_a_partition_is_pending_until_its_records_are_marked(self, log: EventLog) -> None:
        """A head that has passed them is not enough; a record appended since makes it pending again."""
        assert log.pending() == ()
        log.append([_draft("us"), _draft("eu"), _draft("EU")])
        assert log.pending() == ("EU", "eu", "us")
        _fold(log, "eu", 1, 1)
        assert log.pending() == ("EU", "eu", "us")
        _mark(log, "eu", 1, 1)
        assert log.pending() == ("EU", "us")
        _append(log, "eu")
        assert log.pending() == ("EU", "eu", "us")

    def test_every_partition_that_had_a_record_is_listed(self, log: EventLog) -> None:
        """Sorted, once, whether something is pending there or not."""
        assert log.partitions() == ()
        log.append([_draft("us"), _draft("EU")])
        _append(log, "eu", times=2)
        _fold(log, "eu", 2, 1)
        _mark(log, "eu", 2, 1)
        assert log.partitions() == ("EU", "eu", "us")

    def test_looking_at_a_partition_does_not_make_it(self, log: EventLog) -> None:
        """Nor does leasing it, and its first record is version 1."""
        log.read("eu", 0)
        log.head("eu")
        log.partition_state("eu")
        log.old_segments("eu")
        log.lease("eu", "ann", 100, 200)
        log.release("eu", "ann")
        log.forget_old_segments("eu", ["ref"])
        assert log.partitions() == log.pending() == ()
        assert log.append([_draft()])[0].version == 1

    def test_a_partitions_counts_are_exact_at_every_step(self, log: EventLog) -> None:
        """Through appends, a fold of some, its marks, expiry, and a fold of all."""
        assert log.partition_state("eu") == PartitionState("eu", Head(), 0, 0, 0, 0, None)
        for number in (1, 2, 3):
            log.append([_draft(at=_AT + number, count=number, payload=b"x" * 10 * number), _draft("us")])
        appended = PartitionState("eu", Head(), 3, 6, 60, 3, _AT + 1)
        assert log.partition_state("eu") == appended
        head = _fold(log, "eu", 2, 1)
        folded = replace(appended, head=head, pending_since=_AT + 3)
        assert log.partition_state("eu") == folded
        _mark(log, "eu", 2, 1)
        assert log.partition_state("eu") == folded
        log.expire(_LATER, 100, "")
        assert log.partition_state("eu") == folded
        head = _fold(log, "eu", 3, 2)
        folded = replace(appended, head=head, last_count=0, pending_since=None)
        assert log.partition_state("eu") == folded
        _mark(log, "eu", 3, 2)
        log.expire(_LATER, 100, "")
        assert log.partition_state("eu") == folded

    def test_the_layers_counts_are_exact_at_every_step(self, log: EventLog) -> None:
        """One `set()` counts once, over all its partitions, for as long as they are pending; marks change nothing."""
        assert log.layer_state() == LayerState()
        log.append([_draft("eu", nonce="n1", count=4)])
        assert log.layer_state() == LayerState(appended=4, last_pending=4)
        log.append([_draft("eu", nonce="n2", count=2), _draft("us", nonce="n2", count=3)])
        assert log.layer_state() == LayerState(appended=9, last_pending=5)
        _fold(log, "eu", 1, 1)
        assert log.layer_state() == LayerState(9, 4, 5, _cursor(1), 1, 4)
        _fold(log, "eu", 2, 2)
        assert log.layer_state() == LayerState(9, 6, 3, _cursor(2), 2, 2)
        _fold(log, "us", 1, 2, first=False)
        folded = LayerState(9, 9, 0, _cursor(2), 2, 5)
        assert log.layer_state() == folded
        _mark(log, "eu", 2, 1)
        log.expire(_LATER, 100, "")
        assert log.layer_state() == folded

    # Names

    def test_odd_partition_names_are_kept_apart(self, log: EventLog) -> None:
        """Whatever the name, a partition has its own records, head, lease and old segments."""
        names = sorted(ODD_PARTITIONS)
        for name in names:
            log.append([_draft(name, payload=name.encode())])
        heads = {name: _fold(log, name, 1, 1) for name in names}
        for number, name in enumerate(names):
            run = log.read(name, 0)
            assert [record.payload for record in run.records] == [name.encode()]
            assert run.head == log.head(name) == log.partition_state(name).head == heads[name]
            assert log.lease(name, str(number), 100, 200)
        assert log.partitions() == log.pending() == tuple(names)
        for name in names[::2]:
            _mark(log, name, 1, 1)
        assert log.pending() == tuple(names[1::2])

    def test_odd_partition_names_can_share_one_set(self, log: EventLog) -> None:
        """All of them are written, each under its first version."""
        names = ODD_PARTITIONS[::3]
        assert log.append([_draft(name) for name in names]) == tuple(Appended(name, 1, _AT) for name in names)

    def test_tables_on_one_store_do_not_see_each_other(self, open_log: OpenLog) -> None:
        """Also where table and partition, written one after the other, read the same."""
        user, users = open_log("user"), open_log("users")
        for partition in ("", "s", "s#", "x"):
            _append(user, partition, times=2)
            move = _folded(user, partition, 1, 1)
            assert user.move_head(partition, replace(move, retired=(OldSegment(_segment(1), _AT, _LATER),)))
            assert user.lease(partition, "ann", 100, 200)
        for partition in ("", "#", "x", "s"):
            assert users.read(partition, 0).records == ()
            assert users.old_segments(partition) == ()
            assert users.partition_state(partition) == PartitionState(partition, Head(), 0, 0, 0, 0, None)
        assert users.partitions() == users.pending() == ()
        assert users.layer_state() == LayerState()
        assert not users.knows_cursor(_cursor(1))
        before = user.layer_state(), user.partition_state("x"), user.old_segments("x"), user.read("x", 0)
        _append(users, "x")
        assert _fold(users, "x", 1, 2).revision == 1
        assert users.lease("x", "bob", 100, 200)
        _mark(users, "x", 1, 2)
        assert (user.layer_state(), user.partition_state("x"), user.old_segments("x"), user.read("x", 0)) == before
        assert not user.knows_cursor(_cursor(2))

    def test_tables_whose_names_look_alike_are_different(self, open_log: OpenLog) -> None:
        """By case, by a zero in front, by a dot."""
        tables = ("users", "Users", "users.", "users-", "users_", "1", "01", "1.0", "x" * 255)
        for number, table in enumerate(tables, start=1):
            _append(open_log(table), times=number)
        logs = [open_log(table) for table in tables] if self.shared else []
        assert [len(_versions(log)) for log in logs] == list(range(1, len(logs) + 1))
        assert len({log.origin for log in logs}) == len(logs)

    # Many at once

    def test_appends_of_many_threads_are_dense_and_each_thread_stays_in_order(self, log: EventLog) -> None:
        """No version is given twice or left out, and each record stands where it was acknowledged."""
        self._race([log] * self.writers)

    def _race(self, logs: Sequence[EventLog]) -> None:
        def write(log: EventLog, writer: int) -> list[tuple[int, str]]:
            nonces = [f"{writer}-{number}" for number in range(self.appends)]
            return [(log.append([_draft(nonce=nonce, count=2)])[0].version, nonce) for nonce in nonces]

        told = _at_once([partial(write, log, writer) for writer, log in enumerate(logs)])
        assert all(places == sorted(places) for places in told)
        total = len(logs) * self.appends
        for log in logs:
            records = log.read("eu", 0).records
            assert [record.version for record in records] == list(range(1, total + 1))
            assert [(record.version, record.nonce) for record in records] == sorted(chain.from_iterable(told))
            assert [record.events_total for record in records] == list(range(2, 2 * total + 1, 2))
            assert log.layer_state().appended == 2 * total

    def test_sets_over_the_same_partitions_in_other_orders_do_not_block_each_other(self, log: EventLog) -> None:
        """All are acknowledged, and dense in each partition."""
        partitions = ["a", "b", "c"]

        def write(order: Sequence[str]) -> None:
            for _ in range(self.appends):
                assert [place.partition for place in log.append([_draft(name) for name in order])] == list(order)

        _at_once([partial(write, order) for order in (partitions, partitions[::-1]) * 2])
        for partition in partitions:
            assert _versions(log, partition) == list(range(1, 4 * self.appends + 1))

    def test_of_moves_from_one_revision_exactly_one_wins(self, log: EventLog) -> None:
        """The head is the winner's, and only its events are counted."""
        self._race_moves([log] * self.writers)

    def _race_moves(self, logs: Sequence[EventLog]) -> None:
        _append(logs[0], times=5)
        for version in range(1, 6):
            moves = [_folded(logs[0], "eu", version, version) for _ in logs]
            won = _at_once([partial(log.move_head, "eu", move) for log, move in zip(logs, moves, strict=True)])
            assert won.count(True) == 1
            assert {log.head("eu") for log in logs} == {moves[won.index(True)].head}
        assert logs[0].layer_state().folded == 5

    def test_of_leases_asked_for_at_once_exactly_one_is_given(self, log: EventLog) -> None:
        """Each time anew."""
        _append(log)
        for now in (100, 300, 500):
            given = _at_once([partial(log.lease, "eu", str(n), now, now + 100) for n in range(self.writers)])
            assert given.count(True) == 1

    def test_a_read_during_appends_sees_no_gap_and_never_less_than_before(self, log: EventLog) -> None:
        """What one read has shown, the next one shows too."""
        self._read_during_appends(log, log)

    def _read_during_appends(self, log: EventLog, reader: EventLog) -> None:
        seen: list[tuple[int, str]] = []

        def look() -> None:
            run = reader.read("eu", 0)
            now = [(record.version, record.nonce) for record in run.records]
            assert [version for version, _ in now] == list(range(1, len(now) + 1))
            assert now[: len(seen)] == seen
            seen[:] = now

        _while_running([lambda: _append(log, times=self.appends)] * 3, look)
        assert len(seen) == 3 * self.appends

    def test_a_read_that_shows_a_folded_record_shows_a_head_that_has_passed_it(self, log: EventLog) -> None:
        """The head is as it is after the records; and it never goes back."""
        newest = 0

        def work() -> None:
            for number in range(1, 2 * self.appends + 1):
                _append(log)
                _fold(log, "eu", number, number)
                _mark(log, "eu", number, number)

        def look() -> None:
            nonlocal newest
            run = log.read("eu", 0)
            marked = [record.version for record in run.records if record.cursor != INITIAL]
            assert run.head.version >= max(marked, default=0)
            assert run.head.version >= newest
            newest = run.head.version

        _while_running([work], look)
        assert newest == 2 * self.appends

    # Appending after a tail

    def test_a_record_is_appended_right_after_the_tail_given(self, log: EventLog) -> None:
        """And the tail is then its version."""
        assert log.tail("eu") == 0
        assert log.append_after([_draft(nonce="n1")], {"eu": 0}) == (Appended("eu", 1, _AT),)
        assert log.tail("eu") == 1
        _append(log)
        assert log.append_after([_draft(nonce="n3")], {"eu": log.tail("eu")}) == (Appended("eu", 3, _AT),)
        assert [record.nonce for record in log.read("eu", 0).records if record.version in (1, 3)] == ["n1", "n3"]
        assert log.partition_state("eu").events_total == 3
        assert log.pending() == ("eu",)

    def test_nothing_is_appended_after_a_tail_that_is_none_any_more(self, log: EventLog) -> None:
        """Nor is it where the version is still to come; other partitions of the call get nothing either."""
        _append(log, times=2)
        move = CheckpointMove("reader", "one", 0, b"far")
        for tail in (0, 1, 3):
            assert log.append_after([_draft("us"), _draft()], {"us": 0, "eu": tail}, checkpoints=[move]) is None
        assert _versions(log) == [1, 2]
        assert _versions(log, "us") == []
        assert log.checkpoint("reader", "one") is None
        assert log.tail("eu") == 2

    def test_checkpoints_move_with_the_records_or_not_at_all(self, log: EventLog) -> None:
        """Each on condition of its revision."""
        moves = [CheckpointMove("reader", "one", 0, b"1"), CheckpointMove("reader", "two", 0, b"2")]
        assert log.append_after([_draft(), _draft("us")], {"eu": 0, "us": 0}, checkpoints=moves) is not None
        wrong = [CheckpointMove("reader", "one", 1, b"3"), CheckpointMove("reader", "two", 0, b"4")]
        assert log.append_after([_draft()], {"eu": 1}, checkpoints=wrong) is None
        assert [each.value for each in log.checkpoints("reader")] == [b"1", b"2"]
        assert _versions(log) == [1]
        right = [CheckpointMove("reader", "one", 1, b"5"), CheckpointMove("reader", "two", 1, None)]
        assert log.append_after([_draft()], {"eu": log.tail("eu")}, checkpoints=right) is not None
        assert log.checkpoints("reader") == (Checkpoint("reader", "one", b"5", 2),)

    def test_of_appends_after_one_tail_exactly_one_is_made(self, log: EventLog) -> None:
        """Beside others that append without one."""
        for _ in range(3):
            tail = log.tail("eu")
            results = _at_once([partial(log.append_after, [_draft()], {"eu": tail}) for _ in range(self.writers)])
            assert sum(result is not None for result in results) == 1
        done = _at_once([partial(self._append_after, log) for _ in range(self.writers)])
        assert sorted(chain.from_iterable(done)) == list(range(4, 4 + len(done) * 3))

    def _append_after(self, log: EventLog) -> list[int]:
        """Three records, appended in turn after the tail and without one."""
        places = [log.append([_draft()])[0].version]
        for _ in range(1000):
            placed = log.append_after([_draft()], {"eu": log.tail("eu")})
            places += [place.version for place in placed or ()]
            if len(places) == 3:
                break
        return places

    # Checkpoints

    def test_a_checkpoint_moves_from_the_revision_expected(self, log: EventLog) -> None:
        """Any other is left as it is."""
        assert log.checkpoint("reader", "one") is None
        assert not log.move_checkpoint(CheckpointMove("reader", "one", 1, b"early"))
        assert log.move_checkpoint(CheckpointMove("reader", "one", 0, b"first"))
        assert not log.move_checkpoint(CheckpointMove("reader", "one", 0, b"again"))
        assert log.checkpoint("reader", "one") == Checkpoint("reader", "one", b"first", 1)
        assert log.move_checkpoint(CheckpointMove("reader", "one", 1, b""))
        assert log.checkpoint("reader", "one") == Checkpoint("reader", "one", b"", 2)
        assert not log.move_checkpoint(CheckpointMove("reader", "one", 1, None))
        assert log.move_checkpoint(CheckpointMove("reader", "one", 2, None))
        assert log.checkpoint("reader", "one") is None

    def test_a_scopes_checkpoints_are_listed_by_name_from_one_on(self, log: EventLog) -> None:
        """Those of other scopes are not, however alike."""
        names = ["", "9", "10", "a", "a/b", "\xe9", "\uffff", "\U0001f642", "x" * 1000]
        for name in names:
            assert log.move_checkpoint(CheckpointMove("reader/a", name, 0, name.encode()))
        for scope in ("reader", "reader/", "reader/a/", "reader/a/b", "r", "x" * 1000):
            assert log.move_checkpoint(CheckpointMove(scope, "a", 0, b"another's"))
        ordered = sorted(names, key=str.encode)
        assert [each.name for each in log.checkpoints("reader/a")] == ordered
        assert [each.value for each in log.checkpoints("reader/a")] == [name.encode() for name in ordered]
        assert [each.name for each in log.checkpoints("reader/a", from_name="a")] == ordered[3:]
        assert [each.name for each in log.checkpoints("reader/a", from_name="a!")] == ordered[4:]
        assert log.checkpoints("nobody") == ()
        assert log.partitions() == log.pending() == ()

    def test_a_checkpoint_that_no_log_could_keep_is_refused(self, log: EventLog) -> None:
        """By all alike, and nothing is written."""
        for scope, name, value in (
            ("", "a", b""),
            ("x" * 1001, "", b""),
            ("a", "x" * 1001, b""),
            ("a", "", b"x" * 65_537),
        ):
            with pytest.raises(InvalidInputError):
                log.move_checkpoint(CheckpointMove(scope, name, 0, value))
            with pytest.raises(InvalidInputError):
                log.append_after([_draft()], {"eu": 0}, checkpoints=[CheckpointMove(scope, name, 0, value)])
        assert log.move_checkpoint(CheckpointMove("a", "", 0, b"x" * 65_536))
        assert _versions(log) == []

    def test_of_moves_of_a_checkpoint_exactly_one_wins(self, log: EventLog) -> None:
        """From each revision."""
        for expected in range(3):
            moves = [CheckpointMove("reader", "one", expected, bytes([number])) for number in range(self.writers)]
            won = _at_once([partial(log.move_checkpoint, move) for move in moves])
            assert won.count(True) == 1
            found = log.checkpoint("reader", "one")
            assert found is not None
            assert found.value == bytes([won.index(True)])

    def test_a_checkpoint_stays_until_its_ttl(self, log: EventLog) -> None:
        """One without stays for good."""
        if not self.expires:
            pytest.skip("expires = False: this log's service deletes")
        for name, ttl in (("forever", None), ("soon", _SECOND + 10), ("later", _SECOND + 20)):
            assert log.move_checkpoint(CheckpointMove("reader", name, 0, b"", ttl))
        log.expire((_SECOND + 9) * MICROSECONDS, 10, _cursor(0))
        assert [each.name for each in log.checkpoints("reader")] == ["forever", "later", "soon"]
        log.expire((_SECOND + 10) * MICROSECONDS, 10, _cursor(0))
        assert [each.name for each in log.checkpoints("reader")] == ["forever", "later"]
        log.expire(_LATER, 10, _cursor(0))
        assert [each.name for each in log.checkpoints("reader")] == ["forever"]

    # Finding what is new

    def test_a_survey_tells_how_far_every_partition_has_come(self, log: EventLog) -> None:
        """What is pending, what is folded, and what was reset."""
        assert log.survey() == {}
        _append(log, "eu", times=3)
        _append(log, "us", times=2)
        _append(log, "de")
        _fold(log, "eu", 2, 1)
        _fold(log, "us", 2, 2)
        _mark(log, "us", 2, 2)
        move = _folded(log, "de", 1, 3)
        assert log.move_head("de", replace(move, head=replace(move.head, reset=1)))
        told = log.survey()
        assert {name: each.version for name, each in told.items()} == {"eu": 3, "us": 2, "de": 1}
        assert {name: each.reset for name, each in told.items()} == {"eu": 0, "us": 0, "de": 1}

    def test_a_lease_alone_makes_no_partition_in_a_survey(self, log: EventLog) -> None:
        """Nor does it where it was given back."""
        assert log.lease("eu", "ann", 100, 200)
        assert log.survey() == {}
        log.release("eu", "ann")
        assert log.survey() == {}

    def test_a_watch_tells_of_each_partition_in_which_something_was_appended(self, log: EventLog) -> None:
        """Also where it was folded and marked before the look."""
        watch = log.watch()
        for sync, partition in enumerate(("eu", "us", "eu"), 1):
            _append(log, partition)
            version = log.tail(partition)
            told = watch.look()
            assert told[partition].version >= version
            _append(log, partition)
            _fold(log, partition, version + 1, sync)
            _mark(log, partition, version + 1, sync)
            told = watch.look()
            assert told[partition].version >= version + 1

    def test_a_watch_tells_what_another_object_appended(self, log: EventLog, other: EventLog) -> None:
        """To one that is pending, and to one that is folded already."""
        watch = log.watch()
        watch.look()
        _append(other, "eu")
        assert watch.look()["eu"].version >= 1
        _append(other, "us")
        _fold(other, "us", 1, 1)
        _mark(other, "us", 1, 1)
        assert watch.look()["us"].version >= 1

    # Several objects on one store

    def test_two_objects_on_one_store_see_one_another(self, log: EventLog, other: EventLog) -> None:
        """Every method, at once."""
        assert log.origin == other.origin
        _append(log)
        assert other.append([_draft()])[0].version == 2
        assert _versions(log) == _versions(other) == [1, 2]
        move = replace(_folded(log, "eu", 2, 1), retired=(OldSegment(_segment(1), _AT, _LATER),))
        assert other.move_head("eu", move)
        assert not log.move_head("eu", move)
        assert log.head("eu") == move.head
        assert log.knows_cursor(_cursor(1))
        assert log.lease("eu", "ann", 100, 200)
        assert not other.lease("eu", "bob", 100, 200)
        assert log.old_segments("eu") == other.old_segments("eu") == move.retired
        assert len(other.unmarked("eu", 2, 10)) == 2
        _mark(log, "eu", 2, 1)
        assert other.pending() == ()
        assert other.unmarked("eu", 2, 10) == ()
        assert log.partition_state("eu") == other.partition_state("eu")
        assert log.layer_state() == other.layer_state()
        assert log.append_after([_draft()], {"eu": 2}, checkpoints=[CheckpointMove("reader", "", 0, b"1")]) is not None
        assert other.append_after([_draft()], {"eu": 2}) is None
        assert other.append_after([_draft()], {"eu": other.tail("eu")}) is not None
        assert other.move_checkpoint(CheckpointMove("reader", "", 1, b"2"))
        assert log.checkpoint("reader", "") == other.checkpoint("reader", "") == Checkpoint("reader", "", b"2", 2)

    def test_appends_through_two_objects_are_dense(self, log: EventLog, other: EventLog) -> None:
        """Each acknowledged one is there once, whichever object is asked."""
        self._race([log, other] * (self.writers // 2))

    def test_of_moves_through_two_objects_exactly_one_wins(self, log: EventLog, other: EventLog) -> None:
        """Both objects then tell the winner's head."""
        self._race_moves([log, other] * (self.writers // 2))

    def test_a_read_during_appends_through_another_object_sees_no_gap(self, log: EventLog, other: EventLog) -> None:
        """And never less than before."""
        self._read_during_appends(log, other)

    def test_a_log_opened_anew_tells_all_that_was_acknowledged(self, log: EventLog, open_log: OpenLog) -> None:
        """Records, head, counts and identity outlive the object."""
        if not self.shared:
            pytest.skip("shared = False: this log lives in its object")
        _append(log, times=3)
        _fold(log, "eu", 2, 1)
        log.move_checkpoint(CheckpointMove("reader", "", 0, b"1"))
        told = log.origin, log.read("eu", 0), log.partition_state("eu"), log.layer_state(), log.pending()
        log.close()
        anew = open_log("users")
        assert (anew.origin, anew.read("eu", 0), anew.partition_state("eu"), anew.layer_state(), anew.pending()) == told
        assert anew.checkpoint("reader", "") == Checkpoint("reader", "", b"1", 1)
        assert anew.append([_draft()])[0].version == 4

    # Closing

    def test_closing_twice_is_as_closing_once(self, log: EventLog) -> None:
        """Also at the end of a with block."""
        with log as entered:
            assert entered is log
            _append(log)
            log.close()
        log.close()

    def test_a_closed_log_refuses_every_call(self, log: EventLog) -> None:
        """With an error that says so."""
        _append(log)
        log.close()
        calls: dict[str, Callable[[], object]] = {
            "append": lambda: log.append([_draft()]),
            "tail": lambda: log.tail("us"),
            "append_after": lambda: log.append_after([_draft()], {"eu": 1}),
            "checkpoint": lambda: log.checkpoint("reader", ""),
            "checkpoints": lambda: log.checkpoints("reader"),
            "move_checkpoint": lambda: log.move_checkpoint(CheckpointMove("reader", "", 0, b"1")),
            "read": lambda: log.read("eu", 0),
            "head": lambda: log.head("eu"),
            "move_head": lambda: log.move_head("eu", HeadMove(0, Head(revision=1))),
            "unmarked": lambda: log.unmarked("eu", 1, 1),
            "mark": lambda: log.mark("eu", [Mark(1, "n1", _cursor(1), _SECOND)]),
            "pending": log.pending,
            "partitions": log.partitions,
            "survey": log.survey,
            "watch": lambda: log.watch().look(),
            "lease": lambda: log.lease("eu", "ann", 100, 200),
            "release": lambda: log.release("eu", "ann"),
            "old_segments": lambda: log.old_segments("eu"),
            "forget_old_segments": lambda: log.forget_old_segments("eu", ["ref"]),
            "expire": lambda: log.expire(_AT, 1, _cursor(1)),
            "knows_cursor": lambda: log.knows_cursor(_cursor(1)),
            "last_cursor": log.last_cursor,
            "partition_state": lambda: log.partition_state("eu"),
            "layer_state": log.layer_state,
        }
        answered = []
        for name, call in calls.items():
            try:
                call()
            except ClosedError:
                continue
            answered.append(name)
        assert answered == []

    def test_closing_one_object_leaves_the_other_open(self, log: EventLog, other: EventLog) -> None:
        """Whichever was opened first."""
        _append(log)
        log.close()
        assert other.append([_draft()])[0].version == 2
        assert _versions(other) == [1, 2]

    def test_closing_under_a_writer_loses_nothing_acknowledged(self, log: EventLog, other: EventLog) -> None:
        """The writer gets an error, not a false yes."""
        acknowledged: list[int] = []
        begun = threading.Event()

        def write() -> None:
            try:
                while len(acknowledged) < 100_000:
                    acknowledged.append(log.append([_draft()])[0].version)
                    begun.set()
            except LayerError:
                begun.set()

        def close() -> None:
            begun.wait(60)
            log.close()

        _at_once([write, close])
        assert acknowledged
        assert set(acknowledged) <= set(_versions(other))
