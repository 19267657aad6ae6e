"""The journal: which records of a stream are in a partition's log, so that a second delivery adds nothing.

Each append moves a checkpoint of its own along with its records, in the same transaction. Its value has the marks of
what was appended, its name begins with the highest sequence number among them: whatever holds one of a batch's records
is named at or after that record's number. A record's mark is its sequence number and a hash of its item's key: AWS says
of sequence numbers that they rise with the changes of an item, and not that no other shard uses them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import orjson

from dynalayer.clock import MICROSECONDS
from dynalayer.errors import EventLogError
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.checkpoints import CheckpointMove
from dynalayer.forking import Lock
from dynalayer.packing import frame, unframe
from dynalayer.streams.records import MAX_SEQUENCE_DIGITS, StreamRecord
from dynalayer.values import item_to_json

__all__ = ["KEPT", "MAX_MARKS", "Journal", "Mark", "mark_of"]

Mark = tuple[int, bytes]
"""A record's sequence number, and a hash of its item's key."""

KEPT = 48 * 3600
"""Seconds for which the journal knows a record: twice as long as a stream has it."""

MAX_MARKS = 2000
"""Records in one append: so many marks are within what a checkpoint holds."""

_HASH = 8  # bytes
_LIMIT = MAX_MARKS * 32  # bytes of marks unpacked; a number takes at most 20
_REMEMBERED = 4 * MAX_MARKS  # marks of one partition
_IN_ALL = 50 * MAX_MARKS  # and of all, some 15 MB; a partition without marks counts as one


def mark_of(record: StreamRecord) -> Mark:
    """A record's mark, the same for each of its deliveries."""
    key = orjson.dumps(item_to_json(record.keys), option=orjson.OPT_SORT_KEYS)
    return record.sequence, hashlib.blake2b(key, digest_size=_HASH).digest()


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a partition: all marks from a number on, as of a version."""

    version: int
    lowest: int
    marks: frozenset[Mark]


class Journal:
    """The marks of one layer's log, and what was read of them.

    Args:
        log: The log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._lock = Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._count = 0

    def appended(self, scope: str, tail: int, marks: Collection[Mark]) -> Collection[Mark]:
        """Those of some marks whose records are in a partition's log, as of its tail or later.

        Args:
            scope: The stream and the partition.
            tail: The partition's newest version, told before.
            marks: The marks.

        Raises:
            EventLogError: The journal cannot be read.
        """
        lowest = min(number for number, _ in marks)
        with self._lock:
            known = self._known.get(scope)
        # Every append that a journal notes raises the version.
        if known is None or known.version != tail or known.lowest > lowest:
            found, whole = self._found(scope, lowest, frozenset(marks))
            if whole:
                self._remember(scope, _Known(tail, lowest, frozenset(found)))
            return found.intersection(marks)
        return known.marks.intersection(marks)

    def _found(self, scope: str, lowest: int, wanted: Collection[Mark]) -> tuple[set[Mark], bool]:
        """The marks from a number on, and whether these are all: of too many to remember only those that are wanted.

        Where one shard is held up while others go on, what is read to take it up again may be the marks of a day.
        """
        found: set[Mark] = set()
        whole = True
        for mark in self._read(scope, lowest):
            if whole or mark in wanted:
                found.add(mark)
            if whole and len(found) > _REMEMBERED:
                found.intersection_update(wanted)
                whole = False
        return found, whole

    def _read(self, scope: str, lowest: int) -> Iterable[Mark]:
        for checkpoint in self._log.checkpoints(scope, from_name=_padded(lowest)):
            try:
                yield from _unpacked(checkpoint.value)
            except ValueError as error:
                raise EventLogError(
                    f"what is stored in {self._log.location} is damaged: checkpoint {checkpoint.name!r} of "
                    f"{scope!r}: {error}; restore it from a copy"
                ) from error

    def move(self, scope: str, marks: Collection[Mark], now: int) -> CheckpointMove:
        """What notes marks, to be written with their records.

        Args:
            scope: The stream and the partition.
            marks: At most `MAX_MARKS`.
            now: The moment, in microseconds.
        """
        highest = max(number for number, _ in marks)
        # With a text of its own: the same number may be the highest of two appends, of records of two shards.
        name = f"{_padded(highest)}/{secrets.token_hex(8)}"
        return CheckpointMove(scope, name, 0, _packed(marks), ttl=now // MICROSECONDS + KEPT)

    def note(self, scope: str, tail: int, version: int, marks: Collection[Mark]) -> None:
        """Remember what was just appended.

        Args:
            scope: The stream and the partition.
            tail: The version that it was appended after.
            version: Its own.
            marks: Its marks.
        """
        with self._lock:
            known = self._known.get(scope)
        if known is None or known.version != tail:
            return
        together, lowest = known.marks.union(marks), known.lowest
        if len(together) > _REMEMBERED:
            # Cut below a number, that of the mark in the middle: all from there on are still known.
            lowest = sorted(together)[len(together) // 2][0]
            together = frozenset(mark for mark in together if mark[0] >= lowest)
        self._remember(scope, _Known(version, lowest, together))

    def _remember(self, scope: str, known: _Known) -> None:
        with self._lock:
            before = self._known.get(scope)
            if before is not None and before.version > known.version:
                return
            self._forget(scope)
            self._known[scope] = known
            self._count += 1 + len(known.marks)
            while self._count > _IN_ALL and len(self._known) > 1:
                self._forget(next(iter(self._known)))

    def _forget(self, scope: str) -> None:
        known = self._known.pop(scope, None)
        self._count -= 0 if known is None else 1 + len(known.marks)


def _padded(number: int) -> str:
    return f"{number:0{MAX_SEQUENCE_DIGITS}d}"


def _packed(marks: Collection[Mark]) -> bytes:
    body, before = bytearray(), 0
    for number, key in sorted(marks):
        body += _varint(number - before) + key
        before = number
    return frame(bytes(body))


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the last byte has no high bit."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _unpacked(packed: bytes) -> Iterable[Mark]:
    """What `_packed` packed.

    Raises:
        ValueError: It is nothing of the kind.
    """
    body = unframe(packed, _LIMIT)
    marks: list[Mark] = []
    number = delta = shift = place = 0
    while place < len(body):
        byte = body[place]
        delta |= (byte & 0x7F) << shift
        shift += 7
        place += 1
        if byte <= 0x7F:
            number += delta
            key = body[place : place + _HASH]
            if len(key) != _HASH:
                raise ValueError("a mark is cut short")
            marks.append((number, key))
            place += _HASH
            delta = shift = 0
    if shift:
        raise ValueError("a mark is cut short")
    return marks
