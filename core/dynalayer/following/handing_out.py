"""Handing out events: which partitions have come further, page by page in turn, and what of it is handled."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

from dynalayer.asynchronous import not_coroutine
from dynalayer.clock import INITIAL, to_datetime
from dynalayer.counting import operation as counted
from dynalayer.errors import LayerError, PositionExpiredError
from dynalayer.eventlog.base import EventLog, Head, Record, Run
from dynalayer.eventlog.watching import Reached
from dynalayer.events import Event
from dynalayer.following.collecting import is_collecting, notice_collector
from dynalayer.following.pages import Pages
from dynalayer.following.positions import Position, Positions
from dynalayer.observing import Observers
from dynalayer.quoting import quoted
from dynalayer.snapshots import changes_of

__all__ = ["HandingOut", "OnReset"]

OnReset = Callable[[str, int], object]
"""Told a partition and a version: up to there items have changed without events."""

_PAGE_BYTES = 1024 * 1024  # packed; of one partition, before it is the next one's turn
_SAVED_EVENTS = 1000
_SAVED_SECONDS = 1.0
_SURVEY_SECONDS = 900.0  # all heads are read so often, for what the watch may leave out
_SURVEY_SHARE = 20  # and no sooner than after so many times what that takes

_logger = logging.getLogger("dynalayer")


class HandingOut:
    """What a feed hands out. It knows no feed, so that one that is dropped ends, and saves, at once.

    Args:
        pages: Reads partitions.
        positions: The consumer's.
        consumer: Its name.
        partitions: Only these; None: all.
        wait: Whether to wait for what is still to come.
        poll: Seconds between two looks for it.
        on_reset: Told where items changed without events.
        observers: Whom to tell of what is read.

    Attributes:
        stop: Set to end it.
    """

    def __init__(
        self,
        pages: Pages,
        positions: Positions,
        *,
        consumer: str,
        partitions: Collection[str] | None,
        wait: bool,
        poll: float,
        on_reset: OnReset | None,
        observers: Observers,
    ) -> None:
        notice_collector()
        self.stop = threading.Event()
        self._pages = pages
        self._log = pages.log
        self._positions = positions
        self._consumer = consumer
        self._partitions = None if partitions is None else frozenset(partitions)
        self._wait = wait
        self._poll = poll
        self._on_reset = on_reset
        self._observers = observers
        self._watch = pages.log.watch()
        self._next_survey: float | None = None
        self._torn: set[str] = set()
        self._expired: PositionExpiredError | None = None
        self._warned = False
        self._unsaved = 0
        self._saved_at = time.monotonic()

    # Rounds

    def events(self) -> Generator[Event, None, None]:
        """The events. One is handled when the next is asked for; when it ends, what is handled is saved.

        Raises:
            LayerError: As `Feed`.
        """
        try:
            yield from self._rounds()
        except GeneratorExit:
            if not is_collecting():  # else it is given again: this thread may be at work with the log
                self._save()
            raise
        except BaseException:
            with suppress(LayerError):  # what went wrong first is told; what is not saved is given again
                self._save()
            raise
        self._save()

    def _rounds(self) -> Iterator[Event]:
        while not self.stop.is_set():
            queue, looked_at = deque(self._news()), time.monotonic()
            while queue and not self.stop.is_set():
                # Who is far behind in one partition hears of the others all the same; but what has expired is told
                # once all that was found is handed out, and who does not wait has an end.
                if self._wait and self._expired is None and time.monotonic() - looked_at >= self._poll:
                    queue.extend(sorted({*self._news()} - {*queue}))
                    looked_at = time.monotonic()
                partition = queue.popleft()
                if (yield from self._page(partition)):
                    queue.append(partition)
            self._save()
            if self._expired is not None and not self.stop.is_set():
                raise self._expired
            if not self._wait:
                return
            self.stop.wait(self._poll)

    def _news(self) -> list[str]:
        """Partitions that have come further than the consumer."""
        with _follow():
            reached = self._look()
        behind = {partition for partition, told in reached.items() if self._is_behind(partition, told)}
        behind |= self._torn
        self._torn = set()
        return sorted(behind)

    def _look(self) -> Mapping[str, Reached]:
        begun = time.monotonic()
        if self._next_survey is not None and begun < self._next_survey:
            return self._watch.look()
        reached = self._log.survey()
        now = time.monotonic()
        self._next_survey = now + max(_SURVEY_SECONDS, _SURVEY_SHARE * (now - begun))
        return reached

    def _is_behind(self, partition: str, told: Reached) -> bool:
        if self._partitions is not None and partition not in self._partitions:
            return False
        position = self._positions.at(partition)
        return told.version > position.version or told.reset > position.reset or position.lost

    # A partition

    def _page(self, partition: str) -> Generator[Event, None, bool]:
        """Hand out what comes next in a partition, up to a page; tell whether there is more."""
        position = self._positions.at(partition)
        with self._observers.running("follow", partition):
            run = self._pages.read(partition, position.version, _PAGE_BYTES)
        if position.lost or position.reset < run.head.reset <= position.version:
            self._tell_reset(partition, position.version if position.lost else run.head.reset, run.head)
        for record in run.records:
            if record.version != self._positions.at(partition).version + 1:
                break
            yield from self._record(partition, record, run.head)
            if self.stop.is_set():
                return False
        else:
            if not run.complete:
                return True
        return self._is_torn(partition, run)

    def _record(self, partition: str, record: Record, head: Head) -> Iterator[Event]:
        position = self._positions.at(partition)
        for event in _events_of(self._log, partition, record, head)[position.index :]:
            if self.stop.is_set():
                return
            yield event
            position = replace(position, index=position.index + 1, events=position.events + 1)
            self._positions.reach(partition, position)
            self._count()
        # A record without events is passed as well.
        position = Position(record.version, 0, position.events, position.reset)
        self._positions.reach(partition, position)
        if position.reset < head.reset <= position.version:
            self._tell_reset(partition, head.reset, head)

    def _is_torn(self, partition: str, run: Run) -> bool:
        """At the end of what leads on, tell whether to read again at once: it was appended while it was read."""
        reached = self._positions.at(partition).version
        if reached < run.head.version:
            with self._observers.running("follow", partition):
                gone = self._pages.gone(partition, reached)
            if not gone:
                return True
            last = next((each.version - 1 for each in run.records if each.version > reached), run.head.version)
            self._expired = self._expired or _expired(self._consumer, partition, reached + 1, last)
        elif run.records and run.records[-1].version > reached:
            self._torn.add(partition)  # a record is just being written there
        return False

    def _tell_reset(self, partition: str, version: int, head: Head) -> None:
        if self._on_reset is not None:
            not_coroutine(self._on_reset(partition, version), "on_reset")
        elif not self._warned:
            self._warned = True
            _logger.warning(
                "items of partition %r changed without events, by a reset or because events have expired, up to "
                "version %d; follow(on_reset=...) tells of it, this is logged once",
                partition,
                version,
                extra={"dynalayer": {"table": self._log.table, "partition": partition, "consumer": self._consumer}},
            )
        position = self._positions.at(partition)
        reset = head.reset if head.reset <= position.version else position.reset
        self._positions.reach(partition, replace(position, reset=reset, lost=False))

    # Saving

    def _count(self) -> None:
        self._unsaved += 1
        if self._unsaved >= _SAVED_EVENTS or time.monotonic() - self._saved_at >= _SAVED_SECONDS:
            self._save()

    def _save(self) -> None:
        with _follow():
            self._positions.save()
        self._unsaved, self._saved_at = 0, time.monotonic()


@contextmanager
def _follow() -> Iterator[None]:
    """Count as `follow`; observers are told of what is read alone, not of each look that finds nothing."""
    with counted("follow"):
        try:
            yield
        except LayerError as error:
            error.within(operation="follow")
            raise


def _events_of(log: EventLog, partition: str, record: Record, head: Head) -> list[Event]:
    cursor = record.cursor if record.cursor != INITIAL else head.cursor_of(record.version)
    at = to_datetime(record.at)
    return [
        Event(change.type, change.item, change.id, partition, record.version, cursor, at)
        for change in changes_of(log, partition, record)
    ]


def _expired(consumer: str, partition: str, first: int, last: int) -> PositionExpiredError:
    missed = f"version {first} has" if first == last else f"versions {first} to {last} have"
    return PositionExpiredError(
        f"what consumer {quoted(consumer)} would be given next of partition {quoted(partition)} is gone: {missed} "
        f'expired. move_consumer({quoted(consumer)}, "beginning", partition={quoted(partition)}) goes on at the oldest '
        "event from which all are kept; on_reset is then told of it, and reads the partition whole, by get()",
        consumer=consumer,
        first=first,
        last=last,
        partition=partition,
    )
