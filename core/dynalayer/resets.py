"""A reset from beginning to end: tails noted, the source read into a spool, partition after partition committed.

The order is what makes it right: every event that is not in what was read stands above the tail that was noted before
the reading began, and is folded on top. The leases save double work. Any step may crash: each partition is what it was,
or what it is to be; with a spool of one's own the same call goes on where it broke off.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import orjson

from dynalayer.asynchronous import not_coroutine
from dynalayer.clock import MICROSECONDS, Clock, to_iso
from dynalayer.counting import UsageCounter
from dynalayer.dead_letters import DeadLetters
from dynalayer.errors import ConflictError, InvalidInputError, LayerError
from dynalayer.eventlog.base import EventLog
from dynalayer.events import EventReader
from dynalayer.leaving import go_on
from dynalayer.quoting import quoted
from dynalayer.reset_leases import ResetLease
from dynalayer.resetting import HeldError, Resetter
from dynalayer.sourcing.gathering import gather, tails_of
from dynalayer.sourcing.sources import Source, SourceOption, open_source
from dynalayer.sourcing.spools import Spool, Waiting, check_spool
from dynalayer.states import ImportResult, ResetProgress, ResetResult
from dynalayer.wording import counted

__all__ = ["Progress", "ResetOptions", "Resets"]

Progress = Callable[[ResetProgress], object]
"""Is told how far a reset is; what it raises ends the reset."""

_FLOOR = 24 * 3600 * MICROSECONDS  # what is folded may expire from then on
_FAILURES = 16  # partitions that may fail before the others are left
_WAITS = (0.02, 1.0)  # seconds before it looks again whether a sync is done


@dataclass(frozen=True, slots=True)
class ResetOptions:
    """What a caller may say beside the source.

    Attributes:
        spool: Path of a spool that outlives the process.
        dead_letters: Path of a file for what cannot be taken.
        progress: Is told how far it is.
    """

    spool: str | PathLike[str] | None = None
    dead_letters: str | PathLike[str] | None = None
    progress: Progress | None = None


class Resets:
    """Runs a layer's resets.

    Args:
        log: The layer's event log.
        resetter: Puts items in place of a partition's snapshot.
        reader: Tells where items belong.
        clock: Tells the leases' moments, and how old a spool is.
        lease: How long a lease lasts, in seconds.
        counter: Where requests to sources are counted.
    """

    def __init__(
        self,
        log: EventLog,
        resetter: Resetter,
        reader: EventReader,
        clock: Clock,
        lease: float,
        counter: UsageCounter,
    ) -> None:
        self._counter = counter
        self._log = log
        self._resetter = resetter
        self._reader = reader
        self._clock = clock
        self._lease = lease

    def run(
        self,
        given: SourceOption,
        partition: str | None,
        options: ResetOptions,
        *,
        sync: Callable[[str], object],
        committed: Callable[[str, ImportResult], None],
    ) -> ResetResult:
        """Reset all partitions, or one.

        Args:
            given: The source.
            partition: The partition; None: all.
            options: The rest.
            sync: Syncs a partition.
            committed: Called after each partition that was committed: tells observers, and syncs it.

        Raises:
            LayerError: As `Layer.reset`.
        """
        if options.progress is not None and not callable(options.progress):
            raise InvalidInputError(f"progress is a function, not {quoted(options.progress)}")
        path = check_spool(options.spool)
        letters = None if options.dead_letters is None else DeadLetters(options.dead_letters)
        source = open_source(given, self._reader, self._log.table, self._counter)
        source.prepare(partition)
        with self._spool(path, source, partition) as spool:
            # Of one's own spool, which nobody else has open, the owner is dead.
            owner = str(spool.fact("owner") or secrets.token_hex(8))
            lease = ResetLease(self._log, self._clock, owner, int(self._lease * MICROSECONDS), partition)
            if not lease.take():
                return ResetResult(0, locked=True)
            try:
                work = _Reset(self._resetter, committed, spool, lease, options.progress or _untold)
                if not spool.fact("read"):
                    self._read(work, source, partition, owner, set_aside=letters is not None)
                refused = _set_aside(spool, letters)
                work.commit(sync, self._lease)
            finally:
                lease.release()
            return work.result(refused)

    @contextmanager
    def _spool(self, path: Path | None, source: Source, partition: str | None) -> Iterator[Spool]:
        """The spool; a file stays where there is something to go on with."""
        with Spool(path) as spool:
            if spool.found:
                self._check_found(spool, self._purpose(source, partition))
            try:
                yield spool
            finally:
                if not spool.fact("purpose") or (spool.fact("read") and not spool.count("left")):
                    spool.close(remove=True)

    def _check_found(self, spool: Spool, purpose: str) -> None:
        if spool.fact("purpose") != purpose:
            raise InvalidInputError(
                f"spool {spool.path} is of another reset, {spool.fact('purpose')}; this one is {purpose}. Go on with "
                "that one, or name a file that is not there yet"
            )
        noted = int(spool.fact("noted"))
        if self._clock() - noted >= _FLOOR:
            raise InvalidInputError(
                f"spool {spool.path} was begun at {to_iso(noted)}, a day ago or more: events that came since may have "
                "expired. Remove the file, and begin anew"
            )

    def _purpose(self, source: Source, partition: str | None) -> str:
        """What a spool is of, so that no other reset goes on with it."""
        told = {"table": self._log.table, "log": self._log.origin, "source": source.identity, "partition": partition}
        return orjson.dumps(told).decode()

    def _read(self, work: _Reset, source: Source, partition: str | None, owner: str, *, set_aside: bool) -> None:
        """Note the tails, then read the source; or go on with the reading."""
        spool = work.spool
        if not (spool.found and source.resumable):
            noted = self._clock()
            tails = work.kept(tails_of(self._log, self._reader, partition))
            segments = source.segments(partition)
            spool.begin(tails, segments, purpose=self._purpose(source, partition), noted=noted, owner=owner)
        expected = source.expected(partition)

        def told(read: int) -> None:
            go_on()
            work.keep()
            not_coroutine(work.told(ResetProgress("scan", read, 0, expected)), "progress")

        gather(source, spool, self._reader, partition, set_aside=set_aside, told=told)


def _untold(_: ResetProgress) -> None:
    """Nobody wants to know."""


def _set_aside(spool: Spool, letters: DeadLetters | None) -> int:
    """Write the dead letters of a spool, durably, and tell how many there are."""
    refused = spool.count("letters")
    if refused and not spool.fact("set_aside"):
        if letters is None:
            raise InvalidInputError(
                f"spool {spool.path} holds {counted(refused, 'item')} that could not be taken, and there is no file "
                "for them: give dead_letters, or --dead-letters, as before"
            )
        letters.add_lines(spool.letters())
        spool.write_down(set_aside=1)
    return refused


class _Reset:
    """One reset at work.

    Args:
        resetter: Puts items in place of a partition's snapshot.
        committed: Called after each partition.
        spool: Holds what was read, and what is left to do.
        lease: The reset's.
        told: Is told how far it is.
    """

    def __init__(
        self,
        resetter: Resetter,
        committed: Callable[[str, ImportResult], None],
        spool: Spool,
        lease: ResetLease,
        told: Progress,
    ) -> None:
        self.spool = spool
        self.told = told
        self._resetter = resetter
        self._committed = committed
        self._lease = lease
        self._errors: list[LayerError] = []
        self._items = 0
        self._partitions = 0
        self._of = 0

    def keep(self) -> None:
        """Prolong the lease.

        Raises:
            ConflictError: It had run out, and another reset has it.
        """
        if not self._lease.keep():
            raise ConflictError(
                "the lease of this reset had run out, and another has begun since, or too much time has passed; what "
                "was not committed is as it was",
                retryable=True,
            )

    def kept(self, tails: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        """Tails as they are noted, one request each on some logs; the lease is kept meanwhile."""
        for each in tails:
            go_on()
            self.keep()
            yield each

    def commit(self, sync: Callable[[str], object], patience: float) -> None:
        """Commit partition after partition; those that a sync is at work on again and again, until `patience` is over.

        Raises:
            LayerError: Some could not be committed; the first one's error, with further ones in its notes. The others
                are committed.
        """
        self._of = self.spool.count("partitions")
        self._partitions = self._of - self.spool.count("left")
        try:
            self._commit_all(sync, patience)
        except LayerError as error:  # it goes no further
            self._errors.append(error)
        if self._errors:
            for other in self._errors[1:]:
                self._errors[0].add_note(f"and: {other}")
            raise self._errors[0]

    def _commit_all(self, sync: Callable[[str], object], patience: float) -> None:
        held: deque[Waiting] = deque()
        until = time.monotonic() + patience
        for each in self.spool.waiting():
            if not self._commit(each, sync):
                held.append(each)
            if len(self._errors) == _FAILURES:
                return
        wait = _WAITS[0]
        while held:
            last = time.monotonic() >= until  # a lease that ran out until then is seen once more
            for _ in range(len(held)):
                each = held.popleft()
                if not self._commit(each, sync):
                    held.append(each)
                if len(self._errors) == _FAILURES:
                    return
            if last:
                return
            time.sleep(random.uniform(0, wait))  # noqa: S311 -- jitter, no secret
            wait = min(2 * wait, _WAITS[1])

    def _commit(self, waiting: Waiting, sync: Callable[[str], object]) -> bool:
        """Commit a partition; False if a sync is at work on it."""
        partition = waiting.partition
        go_on()
        self.keep()
        try:
            if self._resetter.needs_sync(partition, waiting.tail):
                sync(partition)
                if self._resetter.needs_sync(partition, waiting.tail):
                    return False
            taken = self._taken(waiting)
        except HeldError:
            return False
        except LayerError as error:
            self._errors.append(error.within(operation="reset", partition=partition))
            return True
        self.spool.done(partition, -1 if taken is None else taken.count)
        if taken is not None:
            self._committed(partition, taken)
            self._items += taken.count
        self._partitions += 1
        not_coroutine(self.told(ResetProgress("commit", self._items, self._partitions, self._of)), "progress")
        return True

    def _taken(self, waiting: Waiting) -> ImportResult | None:
        partition, tail = waiting.partition, waiting.tail
        if not self.spool.has(partition) and self._resetter.needs_none(partition, tail):
            return None
        return self._resetter.reset(partition, partial(self.spool.items, partition), above=tail)

    def result(self, refused: int) -> ResetResult:
        """What was done, by this call and those that it went on with."""
        count, partitions = self.spool.taken()
        left = tuple(each.partition for each in self.spool.waiting())
        return ResetResult(count, locked=bool(left), partitions=partitions, left=left, refused=refused)
