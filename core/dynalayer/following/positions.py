"""How far a consumer has come: one checkpoint a partition, moved only by who follows under its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import orjson

from dynalayer.errors import ConflictError, EventLogError
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove
from dynalayer.following.ownership import Ownership
from dynalayer.quoting import quoted
from dynalayer.values import UNDECODABLE

__all__ = ["BEGINNING", "Position", "Positions", "clear_positions", "positions_of"]

_TRIES = 16  # each loses to another who followed, or moved the consumer, a moment ago


@dataclass(frozen=True, slots=True)
class Position:
    """How far a consumer has come in one partition.

    Attributes:
        version: Every event through this version is handled.
        index: Of the record after it so many events.
        events: Events handled, or passed over where the consumer began later, in all.
        reset: The last committed reset that the consumer was told.
        lost: Whether what came before is still to be told as a reset, since its events have expired.
        made: When the consumer was made whose position this is; set where it is saved.
    """

    version: int = 0
    index: int = 0
    events: int = 0
    reset: int = 0
    lost: bool = False
    made: int = 0

    def to_json(self) -> bytes:
        """As a checkpoint keeps it."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, data: bytes) -> Position:
        """What `to_json` wrote.

        Raises:
            ValueError: It is no position.
        """
        try:
            told = cls(**orjson.loads(data))
        except UNDECODABLE as error:
            raise ValueError(f"no position: {error}") from error
        for name, value in asdict(told).items():
            if type(value) is not (bool if name == "lost" else int) or not 0 <= value < 2**63:
                raise ValueError(f"no position: {name} is {quoted(value, 50)}")
        return told


BEGINNING = Position()
"""Before the first event. A partition without a checkpoint stands here."""


def _scope(consumer: str) -> str:
    return f"follow/{consumer}"


def positions_of(log: EventLog, consumer: str, made: int) -> Iterator[tuple[Checkpoint, Position | None]]:
    """A consumer's positions, each with its checkpoint, whose name is the partition.

    None stands for one of a consumer of that name that was forgotten: who followed under it may have saved it late.

    Raises:
        EventLogError: One is damaged.
    """
    for row in log.checkpoints(_scope(consumer)):
        try:
            position = Position.from_json(row.value)
            yield row, position if position.made == made else None
        except ValueError as error:
            raise EventLogError(
                f"the position of consumer {quoted(consumer)} in {log.location} is damaged ({error}); "
                "move_consumer() writes it anew",
                partition=row.name,
            ) from error


def clear_positions(log: EventLog, consumer: str) -> None:
    """Remove all of a consumer's positions.

    Raises:
        ConflictError: Somebody writes them anew again and again.
    """
    for _ in range(_TRIES):
        rows = log.checkpoints(_scope(consumer))
        if not rows:
            return
        for row in rows:
            log.move_checkpoint(CheckpointMove(row.scope, row.name, row.revision, None))
    raise ConflictError(f"the positions of consumer {quoted(consumer)} are written again and again", retryable=True)


class Positions:
    """A consumer's positions, in the hands of who follows under its name, or moves it.

    Args:
        log: The layer's event log.
        ownership: Of the consumer.
    """

    def __init__(self, log: EventLog, ownership: Ownership) -> None:
        self._log = log
        self._ownership = ownership
        self._scope = _scope(ownership.consumer)
        self._positions: dict[str, Position] = {}
        self._revisions: dict[str, int] = {}
        self._unsaved: dict[str, None] = {}

    def load(self) -> None:
        """Take in what is saved.

        Raises:
            EventLogError: The log failed, or a position is damaged.
        """
        for row, position in positions_of(self._log, self._ownership.consumer, self._ownership.registration.made):
            self._revisions[row.name] = row.revision
            if position is not None:
                self._positions[row.name] = position

    def load_revisions(self) -> None:
        """Take in which partitions have a position, whatever it says."""
        self._revisions = {row.name: row.revision for row in self._log.checkpoints(self._scope)}

    def known(self, partition: str) -> bool:
        """Whether there is one."""
        return partition in self._positions

    def at(self, partition: str) -> Position:
        """How far the consumer has come."""
        return self._positions.get(partition, BEGINNING)

    def reach(self, partition: str, position: Position) -> None:
        """Note how far it has come; `save` makes that last."""
        self._positions[partition] = position
        self._unsaved[partition] = None

    def save(self) -> None:
        """Save what was noted since.

        Raises:
            ConsumerTakenError: Another follows under the name.
            ConflictError: Others were quicker at every one of a bounded number of tries.
            EventLogError: The log failed.
        """
        if not self._unsaved:
            return
        self._ownership.check()
        for partition in tuple(self._unsaved):
            self._save(partition, self._positions[partition])
            self._unsaved.pop(partition, None)

    def _save(self, partition: str, position: Position) -> None:
        value = replace(position, made=self._ownership.registration.made).to_json()
        for _ in range(_TRIES):
            expected = self._revisions.get(partition, 0)
            if self._log.move_checkpoint(CheckpointMove(self._scope, partition, expected, value)):
                self._revisions[partition] = expected + 1
                return
            # One's own move, whose answer was lost, or the last one of who followed before: then one's own is as
            # right. The row first, so that who takes the consumer over after the check finds it moved on.
            row = self._log.checkpoint(self._scope, partition)
            self._ownership.check()
            self._revisions[partition] = 0 if row is None else row.revision
        raise ConflictError(
            f"the position of consumer {quoted(self._ownership.consumer)} moved on at each of {_TRIES} tries",
            partition=partition,
            retryable=True,
        )
