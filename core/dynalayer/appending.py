"""The append engine: a batch of events becomes one record in each partition that it touches."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dynalayer.bulk import paused_collector
from dynalayer.clock import INITIAL, Clock, to_datetime
from dynalayer.errors import ConfigurationError, InvalidInputError
from dynalayer.eventlog.base import Appended, Draft, EventLog, RecordKind
from dynalayer.events import Change, Event, EventReader, pack
from dynalayer.grouping import Groups
from dynalayer.quoting import quoted
from dynalayer.values import Item, copy_item

__all__ = ["DEFAULT_TTL", "TTL", "Appender", "Batch", "check_ttl"]

TTL = float | Callable[[Item], float]
"""Seconds, or a function of the item that tells them."""

DAY = 24 * 3600
DEFAULT_TTL = 5 * DAY
_LONGEST = 1000 * 366 * DAY


def check_ttl(ttl: object) -> int:
    """A ttl in whole seconds, rounded up.

    Raises:
        ConfigurationError: It is no number, or below a day: within that floor a slow read may still need the events.
    """
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not -math.inf < ttl < math.inf:
        raise ConfigurationError(f"ttl is a number of seconds or a function of the item, not {quoted(ttl)}")
    if ttl > _LONGEST:
        raise ConfigurationError(f"ttl={quoted(ttl)} seconds is more than a thousand years")
    if ttl < DAY:
        raise ConfigurationError(f"ttl={quoted(ttl)} seconds is less than a day; at least {DAY} are needed")
    return math.ceil(ttl)


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that are to be appended together, and their drafts.

    Attributes:
        read: Each with its partition, in the order given.
        changes: By partition.
        drafts: One for each partition, in the same order.
    """

    read: Sequence[tuple[str, Change]]
    changes: Mapping[str, Sequence[Change]]
    drafts: Sequence[Draft]

    def events(self, placed: Iterable[Appended]) -> list[Event]:
        """The events, in the order given, with the versions that they got."""
        places = {place.partition: place for place in placed}
        return [
            Event(
                type=change.type,
                item=change.item,
                id=change.id,
                partition=partition,
                version=places[partition].version,
                cursor=INITIAL,
                at=to_datetime(places[partition].at),
            )
            for partition, change in self.read
        ]


class Appender:
    """Appends events.

    Args:
        log: The layer's event log.
        reader: Checks events and tells where they belong.
        ttl: How long events are kept after their fold.
        clock: Tells when they are appended.
    """

    def __init__(self, log: EventLog, reader: EventReader, ttl: TTL, clock: Clock) -> None:
        self._log = log
        self._groups = Groups(log)
        self._reader = reader
        self._ttl = ttl
        self._clock = clock

    def append(self, events: Iterable[object]) -> list[Event]:
        """Append a batch; its events are durable when this returns.

        Returns:
            The events, in the order given, with the versions that they got.

        Raises:
            InvalidInputError: An event cannot be taken; nothing was written.
            AppendError: Not all was written; says for each partition what is certain.
        """
        # Bulk work alone pauses the collector: what waits for a log would starve it where sets overlap.
        with paused_collector():
            batch = self.batch([self._reader.read(event, index) for index, event in enumerate(events)])
            if not batch.drafts:
                return []
        if self._log.group_limit:
            placed = self._groups.append(list(zip(batch.drafts, batch.changes.values(), strict=True)))
        else:
            placed = self._log.append(batch.drafts)
        return batch.events(placed)

    def batch(self, read: Sequence[tuple[str, Change]]) -> Batch:
        """Changes as they are appended, under a nonce of their own.

        Raises:
            InvalidInputError: They are too much for one record, or the function for their ttl refuses one.
        """
        batches: dict[str, list[Change]] = {}
        for partition, change in read:
            batches.setdefault(partition, []).append(change)
        nonce, at = secrets.token_hex(8), self._clock()
        return Batch(read, batches, [self.draft(name, changes, nonce, at) for name, changes in batches.items()])

    def draft(self, partition: str, changes: Sequence[Change], nonce: str, at: int) -> Draft:
        """One partition's changes as they are appended.

        Raises:
            InvalidInputError: As `batch`.
        """
        payload = pack(changes)
        if len(payload) > self._log.record_limit:
            if len(changes) == 1:
                what = "the one event for a partition takes"
                way_out = "an event is never split: keep what is large elsewhere, and its address in the item"
            else:
                what, way_out = f"the {len(changes)} events for one partition take", "give them in several"
            raise InvalidInputError(
                f"{what} {len(payload)} bytes packed; one set() may have {self._log.record_limit}: {way_out}",
                partition=partition,
            )
        return Draft(partition, RecordKind.CHANGES, nonce, at, len(changes), self.retention(changes), payload)

    def retention(self, changes: Sequence[Change]) -> int:
        """A record is kept as long as the longest-lived of its events.

        Raises:
            InvalidInputError: The function for their ttl refuses one.
        """
        ttl = self._ttl
        return max(_asked(ttl, change) for change in changes) if callable(ttl) else check_ttl(ttl)


def _asked(ttl: Callable[[Item], float], change: Change) -> int:
    try:
        return check_ttl(ttl(copy_item(change.item)))
    except Exception as error:
        if change.type == "DELETE":
            # Of what is gone perhaps only the identifier is known, from a key or a stream: no deletion fails for that.
            return DEFAULT_TTL
        if isinstance(error, ConfigurationError):
            raise
        raise InvalidInputError(f"the function for ttl raised {type(error).__name__}: {error}") from error
