"""Appending: a record goes into the slot after its partition's tail, only if that is free.

Three things make every success one, and no event lost or doubled:

* Every try for a record carries the same nonce. A slot found taken is looked at before another is tried: it may hold
  this very record, put by an earlier try whose answer was lost.
* A slot whose try may still arrive is not left until it is known to be taken. Taken by another, that try can do
  nothing any more.
* Each try is signed and sent within an hour of the reading of the tail, by the larger of two clocks, and the service
  refuses signatures older than a quarter of an hour: a record gets into its slot while whatever was there when the
  tail was read still is, since nothing expires within 24 hours of its fold.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from dynalayer.errors import EventLogError, LayerError, Outcome
from dynalayer.eventlog.base import Appended, Draft
from dynalayer.eventlog.dynamodb.connection import PATIENCE, Connection, backoff
from dynalayer.eventlog.dynamodb.failures import FailedCallError, TakenError
from dynalayer.eventlog.dynamodb.rows import (
    FIRST_SLOT,
    HEAD_KEY,
    DamagedRowError,
    Row,
    Tail,
    head_of,
    key_of,
    partition_key,
    pending_cursor,
    record_rows,
    slot,
    tail_of_head,
    tail_of_record,
    text,
    version_of,
)
from dynalayer.forking import Lock
from dynalayer.units import item_size, write_units

__all__ = ["Known", "Newest", "NotAppendedError", "Slots", "StaleError"]

_PATIENCE = 3600  # seconds from the reading of a tail to the last try that builds on it
_TAKEN = 256  # slots that others may take before one's own append gives up
_ANEW = 4  # taken slots in a row after which the tail is looked for anew
_FAILURES = 12  # tries that the service put off or did not answer
_LOOKS = 8  # at the end of a partition, where a large record is just being written
_REMEMBERED = 65_536  # partitions whose tails are remembered

# Counts the time that a machine sleeps, where the system has such a clock.
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class _Moment:
    """A moment by two clocks, since either may be wrong."""

    boot: float
    wall: float

    @classmethod
    def now(cls) -> _Moment:
        return cls(time.clock_gettime(_BOOT), time.time())

    def passed(self) -> float:
        """Seconds since then, by the clock that tells more."""
        now = self.now()
        return max(now.boot - self.boot, now.wall - self.wall)


@dataclass(frozen=True, slots=True)
class Known:
    """A tail, and since when it is known to have been one."""

    tail: Tail
    since: _Moment

    @staticmethod
    def moment() -> _Moment:
        """Now, for what is about to be known."""
        return _Moment.now()

    def check(self) -> None:
        """Refuse to build on a tail that was read too long ago.

        Raises:
            StaleError: It was.
        """
        if self.since.passed() > _PATIENCE:
            raise StaleError


@dataclass(frozen=True, slots=True)
class Newest:
    """What a strong look at the end of a partition shows.

    Attributes:
        tail: The newest record, or what the head says of it where all records have expired.
        head: The head's row, if there is one.
        row: The newest record's row or header; None where the head has passed all that is kept.
    """

    tail: Tail
    head: Row | None
    row: Row | None


class NotAppendedError(Exception):
    """A record that was not, or perhaps not, appended.

    Attributes:
        outcome: What is certain.
        cause: What went wrong.
    """

    def __init__(self, outcome: Outcome, cause: LayerError) -> None:
        super().__init__(str(cause))
        self.outcome = outcome
        self.cause = cause


class StaleError(Exception):
    """The tail was read too long ago to build on."""


class Slots:
    """Appends records, and remembers tails between appends.

    Args:
        connection: The table.
        table: The layer's table.
        shards: Keys of the index over which pending records are spread.
    """

    def __init__(self, connection: Connection, table: str, shards: int) -> None:
        self._connection = connection
        self._table = table
        self._shards = shards
        self._lock = Lock()
        self._tails: OrderedDict[str, Known] = OrderedDict()

    def append(self, draft: Draft) -> Appended:
        """Append one record.

        Raises:
            NotAppendedError: It was given up; says what is certain.
        """
        attempt = _Attempt(draft, partition_key(self._table, draft.partition))
        try:
            return self._append(attempt)
        except NotAppendedError as error:
            # Before somebody is left with a doubt: the slot itself may tell.
            settled = self._settled(attempt) if error.outcome == "unknown" else None
            if settled is None:
                raise
            nonce, tail = settled
            if nonce != draft.nonce:
                raise NotAppendedError("not written", error.cause) from error
            return Appended(draft.partition, tail.version, tail.at)

    def _settled(self, attempt: _Attempt) -> tuple[str, Tail] | None:
        """Nonce and tail of the record in the slot at hand: it stays that one's. None where none is seen."""
        try:
            key = key_of(attempt.pk, slot(attempt.version))
            there = self._connection.once("get_item", Key=key, ConsistentRead=True).get("Item")
            return None if there is None else (text(there, "nonce"), tail_of_record(there))
        except (LayerError, DamagedRowError):
            return None

    def _append(self, attempt: _Attempt) -> Appended:
        draft = attempt.draft
        known = self._remembered(draft.partition)
        while True:
            try:
                if known is None:
                    since = _Moment.now()
                    known = Known(self.newest(draft.partition).tail, since)
                appended, known = self._put(attempt, known)
            except StaleError:
                known = None
                attempt.stale(self._connection.location)
            except DamagedRowError as error:
                raise attempt.given_up(
                    EventLogError(
                        f"what is stored in {self._connection.location} is damaged: {error}; restore it from a copy",
                        partition=draft.partition,
                    )
                ) from error
            except LayerError as error:  # a ClosedError too: what was tried before may have arrived
                raise attempt.given_up(error) from error
            else:
                if appended is not None:
                    return appended

    def _put(self, attempt: _Attempt, known: Known) -> tuple[Appended | None, Known | None]:
        """Try the slot after a tail: what came of it, and else the tail to go on from, None to look for it anew."""
        draft, sent = attempt.draft, _Moment.now()
        attempt.version = known.tail.version + 1
        rows = record_rows(attempt.pk, draft, known.tail, pending_cursor(attempt.pk, self._shards))
        try:
            self._send(rows, known)
        except FailedCallError as error:
            attempt.failed(error)
            time.sleep(backoff(attempt.failures))
            return None, known
        except TakenError as error:
            there = error.row or self._connection.get(key_of(attempt.pk, slot(attempt.version)))
            if there is None:
                raise EventLogError(
                    f"record {attempt.version} was there in {self._connection.location} and is gone: somebody "
                    "deletes what nothing expires yet; set again",
                    partition=draft.partition,
                ) from error
            tail = tail_of_record(there)
            if text(there, "nonce") != draft.nonce:
                attempt.taken(self._connection.location)
                # It proves that its record exists, and that is all that the tail's reading was for.
                return None, None if attempt.slots % _ANEW == 0 else Known(tail, known.since)
            sent = known.since
        else:
            tail = tail_of_record(rows[0])
        self.remember(draft.partition, Known(tail, sent))
        return Appended(draft.partition, tail.version, tail.at), None

    def _send(self, rows: list[dict[str, Any]], known: Known) -> None:
        free = "attribute_not_exists(pk)"
        if len(rows) == 1:
            self._connection.once(
                "put_item",
                allowed=known.check,
                failed_units=write_units(item_size(rows[0])),
                Item=rows[0],
                ConditionExpression=free,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
            return
        name = self._connection.name
        first = {"ConditionExpression": free, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        self._connection.once(
            "transact_write_items",
            allowed=known.check,
            failed_units=sum(write_units(item_size(row), transactional=True) for row in rows),
            TransactItems=[
                {"Put": {"TableName": name, "Item": row, **(first if number == 0 else {})}}
                for number, row in enumerate(rows)
            ],
        )

    def newest(self, partition: str) -> Newest:
        """Look at the end of a partition: one strong query backward.

        Raises:
            EventLogError: It failed.
            DamagedRowError: A row does not say what it should.
        """
        for tries in range(1, _LOOKS + 1):
            newest = self._look(partition)
            if newest is not None:
                return newest
            time.sleep(backoff(tries))
        raise DamagedRowError("the newest record has parts and no header")

    def _look(self, partition: str) -> Newest | None:
        """The end of a partition; None where a part of a record is seen, and its header is not.

        A query may see a transaction half done; or what was there was folded and has expired meanwhile.
        """
        pk = partition_key(self._table, partition)
        head = found = None
        for row in self._connection.query(
            KeyConditionExpression="pk = :pk AND sk >= :first",
            ExpressionAttributeValues={":pk": {"S": pk}, ":first": {"S": FIRST_SLOT}},
            ScanIndexForward=False,
            limit=2,
        ):
            if text(row, "sk") == HEAD_KEY:
                head = row
            else:
                found = row
                break
        folded = tail_of_head(head_of(head))
        version = version_of(found) if found is not None else None
        if found is None or version is None or version <= folded.version:
            return Newest(folded, head, None)
        if "#" in text(found, "sk"):  # a part: its record's header says what is needed
            found = self._connection.get(key_of(pk, slot(version)))
            if found is None:
                return None
        return Newest(tail_of_record(found), head, found)

    # Tails

    def known(self, partition: str) -> Known:
        """A partition's tail, as remembered, or read and remembered.

        Raises:
            EventLogError: It cannot be read.
            DamagedRowError: A row does not say what it should.
        """
        known = self._remembered(partition)
        if known is None:
            since = _Moment.now()
            known = Known(self.newest(partition).tail, since)
            self.remember(partition, known)
        return known

    def forget(self, partition: str) -> None:
        """Look for a partition's tail anew the next time."""
        with self._lock:
            self._tails.pop(partition, None)

    def _remembered(self, partition: str) -> Known | None:
        with self._lock:
            known = self._tails.get(partition)
            return known if known is not None and known.since.passed() <= _PATIENCE else None

    def remember(self, partition: str, known: Known) -> None:
        """Keep a tail for the next append, unless a newer one is kept."""
        with self._lock:
            before = self._tails.pop(partition, known)
            self._tails[partition] = max(before, known, key=lambda each: each.tail.version)
            while len(self._tails) > _REMEMBERED:
                self._tails.popitem(last=False)


class _Attempt:
    """One record on its way into the log, and what its tries may have done.

    Attributes:
        draft: The record.
        pk: Its partition's key.
        version: Of the slot at hand.
        slots: Slots that others took.
        failures: Tries that failed.
        begun: When the slot at hand was first tried.
        unknown: Whether a try at the slot at hand may have arrived, or may still.
    """

    def __init__(self, draft: Draft, pk: str) -> None:
        self.draft = draft
        self.pk = pk
        self.version = 0
        self.slots = 0
        self.failures = 0
        self.begun = time.monotonic()
        self.unknown = False

    def given_up(self, cause: LayerError) -> NotAppendedError:
        return NotAppendedError("unknown" if self.unknown else "not written", cause)

    def failed(self, error: FailedCallError) -> None:
        """Count a try that failed.

        Raises:
            NotAppendedError: It cannot help to try again, or there were too many.
        """
        self.failures += 1
        self.unknown = self.unknown or error.certainty == "unknown"
        if not error.retryable or self.failures >= _FAILURES or time.monotonic() - self.begun > PATIENCE:
            raise self.given_up(error) from error

    def stale(self, location: str) -> None:
        """Note that the tail is too old to build on.

        Raises:
            NotAppendedError: A try may have arrived in the slot that must not be tried any more.
        """
        if self.unknown:
            raise self.given_up(
                EventLogError(f"{location} was not asked for more than an hour after a try of unknown outcome")
            )

    def taken(self, location: str) -> None:
        """Note that another's record is in the slot: no try of this one's can get into it any more.

        Raises:
            NotAppendedError: There were too many.
        """
        self.unknown = False
        self.begun = time.monotonic()
        self.slots += 1
        if self.slots >= _TAKEN:
            raise self.given_up(
                EventLogError(
                    f"others took {self.slots} slots in a row in {location}; group what is set, or set it later",
                    retryable=True,
                )
            )
        time.sleep(random.uniform(0, min(0.2, 0.002 * self.slots)))  # noqa: S311 -- jitter, no secret
