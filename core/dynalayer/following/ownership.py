"""Whose a consumer is: who came last follows under its name, and who followed before is told.

No lease, which a killed process would leave to run out: a new one goes on at once. Two that both mean to follow under
one name take it from each other, and are told so; no event is lost by it, since positions are moved by owners alone.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields, replace

import orjson

from dynalayer.errors import ConflictError, ConsumerTakenError, EventLogError, InvalidInputError
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.checkpoints import CheckpointMove
from dynalayer.quoting import quoted
from dynalayer.values import UNDECODABLE

__all__ = ["CONSUMERS", "MAX_CONSUMER_BYTES", "Ownership", "Registration", "check_consumer"]

CONSUMERS = "consumers"
"""The scope of the checkpoints that say which consumers there are."""

MAX_CONSUMER_BYTES = 255
"""How long a consumer's name may be, in bytes of UTF-8."""

_TRIES = 16  # each loses to another who takes the consumer at the same moment


def check_consumer(name: object) -> str:
    """A consumer's name.

    Raises:
        InvalidInputError: It is no text, empty or too long.
    """
    if not isinstance(name, str):
        raise InvalidInputError(f"a consumer's name is text, not {type(name).__name__} ({quoted(name)})")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidInputError(f"consumer {quoted(name)} holds a lone surrogate, which is no Unicode text") from None
    if not 0 < size <= MAX_CONSUMER_BYTES:
        raise InvalidInputError(
            f"the name of consumer {quoted(name, 40)} is {size} bytes of UTF-8; 1 to {MAX_CONSUMER_BYTES} are possible"
        )
    return str.__str__(name)


@dataclass(frozen=True, slots=True)
class Registration:
    """A consumer's own row.

    Attributes:
        kind: Where it began: `"beginning"`, `"now"`, `"moment"` or `"cursor"`.
        since: The same as text: the kind, the moment or the cursor.
        made: When, in microseconds since the epoch.
        owner: Who follows under its name.
        ready: Whether it is noted for every partition where it begins.
    """

    kind: str
    since: str
    made: int
    owner: str = ""
    ready: bool = False

    @classmethod
    def from_json(cls, data: bytes) -> Registration:
        """What `orjson` wrote of one.

        Raises:
            ValueError: It is none.
        """
        kinds = {"kind": str, "since": str, "made": int, "owner": str, "ready": bool}
        try:
            told = cls(**orjson.loads(data))
        except UNDECODABLE as error:
            raise ValueError(str(error)) from error
        for field in fields(cls):
            if type(getattr(told, field.name)) is not kinds[field.name]:
                raise ValueError(f"{field.name} is {quoted(getattr(told, field.name), 50)}")
        return told


class Ownership:
    """A consumer, as who has taken it holds it.

    Args:
        log: The layer's event log.
        consumer: The consumer's name.

    Attributes:
        consumer: The consumer's name.
        registration: Its row, as last written here.
    """

    def __init__(self, log: EventLog, consumer: str) -> None:
        self._log = log
        self._owner = secrets.token_hex(8)
        self.consumer = consumer
        self.registration = Registration("beginning", "beginning", 0)

    def found(self) -> tuple[Registration, int] | None:
        """The consumer's row and its revision; None where there is no such consumer.

        Raises:
            EventLogError: It is damaged.
        """
        row = self._log.checkpoint(CONSUMERS, self.consumer)
        if row is None:
            return None
        try:
            return Registration.from_json(row.value), row.revision
        except ValueError as error:
            raise EventLogError(
                f"consumer {quoted(self.consumer)} in {self._log.location} is damaged ({error}); "
                "forget_consumer() removes it"
            ) from error

    def take(self, new: Registration | None = None) -> bool:
        """Take the consumer, from whoever has it.

        Args:
            new: What it is made as where there is none.

        Returns:
            Whether it was made.

        Raises:
            InvalidInputError: There is no such consumer, and none is to be made.
            ConflictError: Others took it at every one of a bounded number of tries.
        """
        for _ in range(_TRIES):
            found = self.found()
            if found is None and new is None:
                raise self._unknown()
            before, revision = found or (new, 0)
            assert before is not None  # noqa: S101 -- as just checked; for the type checker
            if self._write(replace(before, owner=self._owner), revision):
                return found is None
        raise self._contended()

    def seize(self) -> None:
        """Take the consumer whatever its row says.

        Raises:
            InvalidInputError: There is no such consumer.
            ConflictError: As `take`.
        """
        for _ in range(_TRIES):
            row = self._log.checkpoint(CONSUMERS, self.consumer)
            if row is None:
                raise self._unknown()
            if self._write(replace(self.registration, owner=self._owner), row.revision):
                return
        raise self._contended()

    def remove(self) -> None:
        """Remove the consumer's row.

        Raises:
            ConsumerTakenError: Another has taken the consumer.
        """
        _, revision = self._checked()
        removed = self._log.move_checkpoint(CheckpointMove(CONSUMERS, self.consumer, revision, None))
        if not removed and self.found() is not None:  # else by an earlier try, whose answer was lost
            self.check()

    def be_ready(self) -> None:
        """Note that every partition has its beginning.

        Raises:
            ConsumerTakenError: Another has taken the consumer.
        """
        _, revision = self._checked()
        if not self._write(replace(self.registration, ready=True), revision):
            self.check()

    def _unknown(self) -> InvalidInputError:
        return InvalidInputError(
            f"there is no consumer {quoted(self.consumer)}; consumers() tells those that are there"
        )

    def _contended(self) -> ConflictError:
        return ConflictError(
            f"consumer {quoted(self.consumer)} was taken by others at each of {_TRIES} tries", retryable=True
        )

    def _write(self, registration: Registration, revision: int) -> bool:
        value = orjson.dumps(registration)
        if not self._log.move_checkpoint(CheckpointMove(CONSUMERS, self.consumer, revision, value)):
            return False
        self.registration = registration
        return True

    def check(self) -> None:
        """See that nobody else has taken the consumer.

        Raises:
            ConsumerTakenError: Somebody has, or it was forgotten.
        """
        self._checked()

    def _checked(self) -> tuple[Registration, int]:
        found = self.found()
        if found is None:
            raise ConsumerTakenError(
                f"consumer {quoted(self.consumer)} was forgotten while it was followed; what was handled since the "
                "last save is not saved"
            )
        if found[0].owner != self._owner:
            raise ConsumerTakenError(
                f"another process follows as consumer {quoted(self.consumer)}, or has moved it; who came last goes on, "
                "and is given again what was not saved here. Give each process a consumer of its own, or let one run"
            )
        return found
