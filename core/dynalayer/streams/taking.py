"""Appending what a stream says, each record exactly once, however often and by however many it is delivered.

Per partition: its tail; which of the records the journal knows, read after the tail; then one transaction of the others
and their marks, right after that tail. Whoever appends the same records meanwhile takes that slot, and nothing is
written: so no record can be in the log that was not seen in the journal.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dynalayer.appending import Batch
from dynalayer.errors import ConflictError, InvalidInputError, LayerError
from dynalayer.eventlog.base import Draft
from dynalayer.events import Change, Event
from dynalayer.side_by_side import side_by_side
from dynalayer.streams.journal import MAX_MARKS, Journal, Mark
from dynalayer.writing import Writing

__all__ = ["Entry", "Taken", "Taker"]

_TRIES = 100  # in a row that others were before


@dataclass(frozen=True, slots=True)
class Entry:
    """What one stream record does to one partition.

    Attributes:
        position: The record's among those delivered with it.
        mark: The record's mark.
        changes: The changes.
    """

    position: int
    mark: Mark
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a delivery.

    Attributes:
        events: What was appended now.
        known: Entries that were in the log already.
        position: The first record that is not, or perhaps not, durable; None where all are.
        error: Why.
    """

    events: tuple[Event, ...]
    known: int
    position: int | None = None
    error: LayerError | None = None


class Taker:
    """Takes deliveries into a layer's log. May be used by many threads.

    Args:
        writing: The layer's parts.
    """

    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._journal = Journal(writing.log)

    def take(self, label: str, entries: Mapping[str, Sequence[Entry]]) -> Taken:
        """Append what is not in the log yet; one partition's failure keeps no other from being written.

        Args:
            label: The stream's.
            entries: By partition, each in the stream's order.
        """
        if self._writing.log.group_limit:  # an append is a round trip: side by side, each for itself
            groups = [{partition: each} for partition, each in entries.items()]
        else:
            groups = [dict(entries)] if entries else []
        return _together(side_by_side(partial(self._take, label), groups))

    def _take(self, label: str, entries: Mapping[str, Sequence[Entry]]) -> Taken:
        group = _Group(self._writing, self._journal, label, entries)
        try:
            group.take()
        except InvalidInputError as error:
            if len(group.left) == 1:
                return Taken(tuple(group.events), group.known, group.first, error)
            # What one partition's log cannot take is no reason to hold up the others.
            alone = [self._take(label, {partition: each}) for partition, each in group.left.items()]
            return _together([Taken(tuple(group.events), group.known), *alone])
        except LayerError as error:
            return Taken(tuple(group.events), group.known, group.first, error)
        return Taken(tuple(group.events), group.known)


def _together(results: Sequence[Taken]) -> Taken:
    """What came of a delivery, by what came of its parts."""
    first = min(
        (each for each in results if each.position is not None),
        key=lambda each: each.position or 0,
        default=Taken((), 0),
    )
    events = tuple(event for each in results for event in each.events)
    return Taken(events, sum(each.known for each in results), first.position, first.error)


@dataclass(frozen=True, slots=True)
class _Portion:
    """What of one partition goes in one record."""

    tail: int
    entries: Sequence[Entry]
    draft: Draft


class _Group:
    """Partitions that are written together.

    Attributes:
        left: What is still to be written of each.
        events: What was appended.
        known: How many entries were in the log already.
    """

    def __init__(self, writing: Writing, journal: Journal, label: str, entries: Mapping[str, Sequence[Entry]]) -> None:
        self._writing = writing
        self._journal = journal
        self._label = label
        self.left = {partition: _each_once(each) for partition, each in entries.items()}
        self.events: list[Event] = []
        self.known = sum(map(len, entries.values())) - sum(map(len, self.left.values()))

    @property
    def first(self) -> int:
        """The first record of which something is left."""
        return min(entry.position for entries in self.left.values() for entry in entries)

    def take(self) -> None:
        """Append all that is left.

        Raises:
            LayerError: It failed; what is left is not, or perhaps not, in the log.
        """
        tries = 0
        while portions := self._portions():
            if self._append(portions):
                tries = 0
                continue
            tries += 1
            if tries == _TRIES:
                raise ConflictError(
                    f"others appended to {', '.join(map(repr, list(portions)[:3]))} before each of {_TRIES} tries to "
                    "append what the stream says; try again",
                    retryable=True,
                )
            time.sleep(random.uniform(0, min(0.25, 0.005 * tries)))  # noqa: S311 -- jitter, no secret

    def _portions(self) -> dict[str, _Portion]:
        """What goes in the next append; what the journal knows is left no more."""
        nonce, at = secrets.token_hex(8), self._writing.clock()
        portions = {}
        for partition in list(self.left):
            tail = self._writing.log.tail(partition)
            appended = self._journal.appended(
                self._scope(partition), tail, {entry.mark for entry in self.left[partition]}
            )
            fresh = [entry for entry in self.left[partition] if entry.mark not in appended]
            self.known += len(self.left[partition]) - len(fresh)
            self.left[partition] = fresh
            if fresh:
                portions[partition] = self._portion(partition, tail, fresh, nonce, at)
            else:
                del self.left[partition]
        return portions

    def _scope(self, partition: str) -> str:
        return f"stream/{self._label}/{partition}"

    def _portion(self, partition: str, tail: int, fresh: Sequence[Entry], nonce: str, at: int) -> _Portion:
        """As many of the entries, from the first, as one record takes."""
        count = min(len(fresh), MAX_MARKS)
        while True:
            changes = [change for entry in fresh[:count] for change in entry.changes]
            try:
                draft = self._writing.appender.draft(partition, changes, nonce, at)
            except InvalidInputError:
                if count == 1:
                    raise
                count //= 2
            else:
                return _Portion(tail, fresh[:count], draft)

    def _append(self, portions: Mapping[str, _Portion]) -> bool:
        """Write portions and their marks; False where others were before."""
        marks = {partition: {entry.mark for entry in each.entries} for partition, each in portions.items()}
        places = self._writing.log.append_after(
            [portion.draft for portion in portions.values()],
            {partition: portion.tail for partition, portion in portions.items()},
            checkpoints=[
                self._journal.move(self._scope(partition), each, portions[partition].draft.at)
                for partition, each in marks.items()
            ],
        )
        if places is None:
            return False
        changes = [
            (partition, change)
            for partition, portion in portions.items()
            for entry in portion.entries
            for change in entry.changes
        ]
        self.events += Batch(changes, {}, ()).events(places)
        for place in places:
            portion = portions[place.partition]
            scope = self._scope(place.partition)
            self._journal.note(scope, portion.tail, place.version, marks[place.partition])
            self.left[place.partition] = self.left[place.partition][len(portion.entries) :]
            if not self.left[place.partition]:
                del self.left[place.partition]
        return True


def _each_once(entries: Sequence[Entry]) -> list[Entry]:
    """Without what is in the same delivery twice."""
    found: dict[Mark, Entry] = {}
    for entry in entries:
        found.setdefault(entry.mark, entry)
    return list(found.values())
