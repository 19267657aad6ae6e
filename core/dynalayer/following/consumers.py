"""What is told of consumers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from dynalayer.clock import to_datetime
from dynalayer.errors import EventLogError
from dynalayer.eventlog.base import EventLog
from dynalayer.following.ownership import CONSUMERS, Registration
from dynalayer.following.positions import BEGINNING, positions_of
from dynalayer.quoting import quoted

__all__ = ["Consumer", "ConsumerPosition", "told_consumers"]


@dataclass(frozen=True, slots=True)
class ConsumerPosition:
    """How far a consumer has come in a partition.

    Attributes:
        partition: The partition.
        version: Every event through this version is handled.
        behind: Events that are not handled.
    """

    partition: str
    version: int
    behind: int


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who follows the layer, or has followed it.

    Attributes:
        name: Its name.
        since: Where it began: `"beginning"`, `"now"`, a moment or a cursor as text.
        made_at: When.
        behind: Events that are not handled, in all partitions; those that have expired are counted too.
        partitions: How far it has come in each, sorted by partition.
    """

    name: str
    since: str
    made_at: datetime
    behind: int
    partitions: tuple[ConsumerPosition, ...]


def told_consumers(log: EventLog) -> Iterator[Consumer]:
    """Every consumer, by name, from what is saved.

    Raises:
        EventLogError: The log failed, or a row is damaged.
    """
    rows = log.checkpoints(CONSUMERS)
    totals = {}
    if rows:
        totals = {partition: log.partition_state(partition).events_total for partition in log.partitions()}
    for row in rows:
        try:
            registration = Registration.from_json(row.value)
        except ValueError as error:
            raise EventLogError(
                f"consumer {quoted(row.name)} in {log.location} is damaged ({error}); forget_consumer() removes it"
            ) from error
        kept = positions_of(log, row.name, registration.made)
        positions = {checkpoint.name: position for checkpoint, position in kept if position is not None}
        told = tuple(
            ConsumerPosition(partition, position.version, max(0, totals.get(partition, 0) - position.events))
            for partition in sorted(totals.keys() | positions.keys())
            for position in (positions.get(partition, BEGINNING),)
        )
        behind = sum(each.behind for each in told)
        yield Consumer(row.name, registration.since, to_datetime(registration.made), behind, told)
