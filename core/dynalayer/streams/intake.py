"""Deliveries of a stream into a layer: what a Lambda function is invoked with, and a page that a follower reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike

from dynalayer.asynchronous import not_coroutine
from dynalayer.clock import Clock
from dynalayer.dead_letters import DeadLetter, DeadLetters
from dynalayer.errors import ConfigurationError, InvalidInputError, LayerError, SpoolError
from dynalayer.eventlog.base import EventLog
from dynalayer.events import Change, Event
from dynalayer.layer import Layer
from dynalayer.quoting import quoted
from dynalayer.streams.journal import mark_of
from dynalayer.streams.places import Places
from dynalayer.streams.records import StreamRecord
from dynalayer.streams.taking import Entry, Taken, Taker

__all__ = ["OPERATION", "DeadLetterOption", "Delivered", "Intake"]

OPERATION = "stream"
"""The name of the operation, for observers and `Layer.usage`."""

DeadLetterOption = str | PathLike[str] | Callable[[DeadLetter], object] | None
"""Where what is refused is set aside: a file, or a function that has made it durable when it returns."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of a delivery.

    Attributes:
        events: Events that were appended now.
        known: Changes that an earlier delivery had appended.
        set_aside: Records that were refused, and set aside.
        durable: How many of the records, from the first, are done with.
        error: Why the one after these is not; None where all are.
    """

    events: int
    known: int
    set_aside: int
    durable: int
    error: LayerError | None


class Intake:
    """Takes deliveries into a layer. May be used by many threads.

    Args:
        layer: The layer.
        dead_letters: Where what is refused is set aside; None: it is a failure.

    Raises:
        ConfigurationError: The layer has nothing that tells an item's identifier.
        InvalidInputError: `dead_letters` is nothing that could be written to.
    """

    def __init__(self, layer: Layer, dead_letters: DeadLetterOption) -> None:
        if not isinstance(layer, Layer):
            raise ConfigurationError(f"a stream is taken into a Layer, not into {quoted(layer)}")
        self._writing = layer._writing  # noqa: SLF001 -- made for what stands beside the layer, and no user's matter
        self.places = Places(self._writing.table, self._writing.reader)
        self._taker = Taker(self._writing)
        self._sink = _Sink(dead_letters) if dead_letters is not None else None

    def take(self, records: Sequence[StreamRecord]) -> Delivered:
        """Append what is not in the log yet, in order.

        Args:
            records: Of one stream, as it delivered them.

        Raises:
            ConfigurationError: The stream is another table's, or lacks images; nothing was written.
            InvalidInputError: They are of several streams; nothing was written.
            ClosedError: The layer was closed.
        """
        for record in records:
            self.places.check(record)
        labels = {record.stream.label for record in records}
        if len(labels) > 1:
            raise InvalidInputError(f"records of several streams in one delivery: {', '.join(sorted(labels))}")
        prepared = _Prepared(self, records)
        taken = Taken((), 0)

        def append() -> list[Event]:
            nonlocal taken
            prepared.prepare()
            for label in labels:
                taken = self._taker.take(label, prepared.entries)
            return list(taken.events)

        self._writing.written("stream", append)
        stops = [(taken.position, taken.error), (prepared.position, prepared.error)]
        durable, error = min(
            ((position, why) for position, why in stops if position is not None),
            key=lambda stop: stop[0],
            default=(len(records), None),
        )
        if error is not None:
            error.operation = OPERATION  # an append's says "set"
        return Delivered(len(taken.events), taken.known, prepared.set_aside, durable, error)

    @property
    def table(self) -> str:
        """The layer's table."""
        return self._writing.table

    @property
    def log(self) -> EventLog:
        """The layer's log."""
        return self._writing.log

    @property
    def clock(self) -> Clock:
        """The layer's clock."""
        return self._writing.clock

    def changes(self, record: StreamRecord) -> list[tuple[str, Change]]:
        """What a record does to the layer.

        Raises:
            InvalidInputError: The layer's functions refuse it.
        """
        found = self.places.changes(record)
        self._writing.appender.retention([change for _, change in found])  # a function may refuse an item too
        return found

    def set_aside(self, record: StreamRecord, refusal: InvalidInputError) -> None:
        """Set a record aside, durably.

        Raises:
            InvalidInputError: It is not to be: the refusal.
            SpoolError: It cannot be.
        """
        if self._sink is None:
            raise refusal
        self._sink.add(_letter(record, refusal))

    def failed(self, error: LayerError) -> None:
        """Tell observers of an error that reaches no caller."""
        self._writing.observers.failed(OPERATION, error)


class _Prepared:
    """The records of a delivery, as entries of partitions.

    Attributes:
        entries: By partition, in order.
        set_aside: How many records were.
        position: The first record that cannot be taken; None where all can.
        error: Why.
    """

    def __init__(self, intake: Intake, records: Sequence[StreamRecord]) -> None:
        self._intake = intake
        self._records = records
        self.entries: dict[str, list[Entry]] = {}
        self.set_aside = 0
        self.position: int | None = None
        self.error: LayerError | None = None

    def prepare(self) -> None:
        """Find what each record does, up to the first that cannot be taken.

        What is refused is set aside before anything is appended: a delivery is done with only as a whole.
        """
        for position, record in enumerate(self._records):
            try:
                changes = self._intake.changes(record)
            except InvalidInputError as refusal:
                try:
                    self._intake.set_aside(record, refusal)
                except LayerError as error:
                    self.position, self.error = position, error
                    return
                self.set_aside += 1
                changes = self._intake.places.left(record)
            self._add(position, record, changes)

    def _add(self, position: int, record: StreamRecord, changes: Sequence[tuple[str, Change]]) -> None:
        mark = mark_of(record)
        by_partition: dict[str, list[Change]] = {}
        for partition, change in changes:
            by_partition.setdefault(partition, []).append(change)
        for partition, each in by_partition.items():
            self.entries.setdefault(partition, []).append(Entry(position, mark, tuple(each)))


class _Sink:
    """Where dead letters go."""

    def __init__(self, given: str | PathLike[str] | Callable[[DeadLetter], object]) -> None:
        self._add: Callable[[DeadLetter], object]
        if callable(given):
            self._add = given
        else:
            file = DeadLetters(given)
            self._add = lambda letter: file.add([letter])

    def add(self, letter: DeadLetter) -> None:
        """Set something aside; durable when this returns.

        Raises:
            SpoolError: It could not be.
        """
        try:
            not_coroutine(self._add(letter), "the function for dead letters")
        except LayerError:
            raise
        except Exception as error:
            raise SpoolError(
                f"the function for dead letters raised {type(error).__name__}: {error}; what it was given comes again "
                "with the next delivery"
            ) from error


def _letter(record: StreamRecord, refusal: InvalidInputError) -> DeadLetter:
    item = record.new if record.name != "REMOVE" else record.old
    details = {"event": record.name, "sequence_number": record.number, "stream": record.stream.arn}
    return DeadLetter(f"the stream of {record.stream.table}", refusal.message, item or record.keys, details)
