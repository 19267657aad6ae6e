"""How far a stream was followed: checkpoints of the log, so that whoever follows next goes on there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import orjson

from dynalayer.clock import MICROSECONDS, Clock
from dynalayer.errors import ConfigurationError, EventLogError, SourceError
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove
from dynalayer.streams.journal import KEPT
from dynalayer.streams.records import Stream
from dynalayer.values import UNDECODABLE

__all__ = ["HORIZON", "Position", "Positions", "Start", "begin_anew"]

Start = Literal["latest", "trim-horizon"]
"""Where a stream is begun the first time: with what comes from then on, or with all that it still has."""

HORIZON = 24 * 3600
"""Seconds for which a stream keeps its records."""

_SCOPE, _FOLLOWED = "stream", "followed"
_SKEW = 15 * 60  # seconds by which clocks may differ: the service takes no request of a clock that is off by more
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Position:
    """How far a shard was read.

    Attributes:
        after: The last record's sequence number that is done with; None: none is.
        closed: Whether it was read to its end.
        revision: The checkpoint's; 0 where there is none yet.
    """

    after: str | None = None
    closed: bool = False
    revision: int = 0


@dataclass(frozen=True, slots=True)
class _Followed:
    """The stream that a layer's followers follow.

    Attributes:
        arn: Its name.
        since: From which moment on, in microseconds; None: from its beginning.
        alive: When a follower last had taken all that was not fresh.
    """

    arn: str
    since: int | None
    alive: int


def begin_anew(log: EventLog) -> None:
    """Forget all positions, so that the next follower begins as the first one did.

    Raises:
        EventLogError: It failed; what is forgotten stays so.
    """
    for found in log.checkpoints(_SCOPE):
        if found.name != _FOLLOWED:
            continue
        label = Stream.parse(_read(log, found, _Followed).arn, "the checkpoint's stream").label
        for shard in log.checkpoints(_shards(label)):
            log.move_checkpoint(CheckpointMove(shard.scope, shard.name, shard.revision, None))
        log.move_checkpoint(CheckpointMove(_SCOPE, _FOLLOWED, found.revision, None))


class Positions:
    """The positions of one stream's shards.

    Args:
        log: The layer's log.
        stream: The stream.
        clock: Tells the moment.
    """

    def __init__(self, log: EventLog, stream: Stream, clock: Clock) -> None:
        self._log = log
        self._stream = stream
        self._clock = clock
        self._since: int | None = None

    def open(self, start: Start) -> bool:
        """Begin to follow, or go on; tells whether nobody did before.

        Raises:
            ConfigurationError: Another stream was followed before: changes between the two may be missing.
            SourceError: Nobody has taken it for longer than it keeps its records: some may be missing.
            EventLogError: The log failed.
        """
        for _ in range(_TRIES):
            now = self._clock()
            found = self._log.checkpoint(_SCOPE, _FOLLOWED)
            if found is None:
                followed = _Followed(self._stream.arn, now if start == "latest" else None, now)
                if self._move(0, followed):
                    self._since = followed.since
                    return True
                continue
            followed = _read(self._log, found, _Followed)
            self._check(followed, now)
            self._since = followed.since
            return False
        raise SourceError("other followers of the stream begin at the same time; try again", retryable=True)

    def _check(self, followed: _Followed, now: int) -> None:
        way_out = (
            "Begin anew (--anew), and once it follows, reset the layer from the table: that brings what is missing"
        )
        if followed.arn != self._stream.arn:
            raise ConfigurationError(
                f"the layer followed {followed.arn}, and the stream is now {self._stream.arn}: changes between the two "
                f"may be missing. {way_out}"
            )
        if now - followed.alive > HORIZON * MICROSECONDS:
            hours = (now - followed.alive) // (3600 * MICROSECONDS)
            raise SourceError(
                f"for {hours} hours nobody has taken all of the stream of {self._stream.table!r}, and it keeps its "
                f"records for {HORIZON // 3600}: some may be missing. {way_out}"
            )

    def alive(self) -> None:
        """Say that all was taken but what is fresh.

        Raises:
            ConfigurationError: As `open`.
            SourceError: As `open`: a shard of which nothing was read yet may have lost its first records meanwhile, and
                its beginning does not tell.
        """
        found = self._log.checkpoint(_SCOPE, _FOLLOWED)
        if found is not None:
            followed, now = _read(self._log, found, _Followed), self._clock()
            self._check(followed, now)
            self._move(found.revision, _Followed(followed.arn, followed.since, max(now, followed.alive)))

    def fresh(self, created: int | None) -> bool:
        """Whether a record is far from being forgotten, and so what comes after it."""
        return created is None or created > self._clock() - HORIZON * MICROSECONDS // 2

    def _move(self, revision: int, followed: _Followed) -> bool:
        value = orjson.dumps(followed)
        return self._log.move_checkpoint(CheckpointMove(_SCOPE, _FOLLOWED, revision, value))

    def precedes(self, created: int | None) -> bool:
        """Whether a record is from before the moment from which on the stream is followed.

        Of those from shortly before some are taken: clocks differ. That does no harm, since what follows is taken too.
        """
        return self._since is not None and created is not None and created < self._since - _SKEW * MICROSECONDS

    def all(self) -> dict[str, Position]:
        """The positions of all shards that have one."""
        return {each.name: self._position(each) for each in self._log.checkpoints(_shards(self._stream.label))}

    def of(self, shard: str) -> Position:
        """A shard's position."""
        found = self._log.checkpoint(_shards(self._stream.label), shard)
        return Position() if found is None else self._position(found)

    def _position(self, found: Checkpoint) -> Position:
        read = _read(self._log, found, _Shard)
        return Position(read.after, read.closed, found.revision)

    def save(self, shard: str, before: Position, after: str | None, *, closed: bool) -> Position:
        """Move a shard's position on.

        Args:
            shard: The shard.
            before: Its position as known.
            after: The last record that is done with.
            closed: Whether it was read to its end. Such a position expires: the stream forgets the shard before.

        Returns:
            Its position now: another follower's where that one moved it meanwhile.
        """
        ttl = self._clock() // MICROSECONDS + KEPT if closed else None
        value = orjson.dumps(_Shard(after, closed))
        move = CheckpointMove(_shards(self._stream.label), shard, before.revision, value, ttl)
        if self._log.move_checkpoint(move):
            return Position(after, closed, before.revision + 1)
        return self.of(shard)


@dataclass(frozen=True, slots=True)
class _Shard:
    """A position, as it is written."""

    after: str | None
    closed: bool


def _shards(label: str) -> str:
    return f"stream-shards/{label}"


T = TypeVar("T", _Followed, _Shard)


def _read(log: EventLog, found: Checkpoint, kind: type[T]) -> T:
    """What a checkpoint says.

    Raises:
        EventLogError: It is damaged.
    """
    try:
        told: Any = orjson.loads(found.value)
        read = kind(**told)
        known = _KINDS[kind]
        if any(not isinstance(told[name], known[name]) for name in known):
            raise ValueError("a field is of another kind")
    except UNDECODABLE as error:
        raise EventLogError(
            f"what is stored in {log.location} is damaged: checkpoint {found.name!r} of {found.scope!r}: {error}; "
            "follow the stream anew, then reset the layer from the table"
        ) from error
    return read


_KINDS: dict[type, dict[str, type | tuple[type, ...]]] = {
    _Followed: {"arn": str, "since": (int, type(None)), "alive": int},
    _Shard: {"after": (str, type(None)), "closed": bool},
}
