"""What can go wrong, one tree.

::

    LayerError
    ├── InvalidInputError        what was given cannot be taken; nothing was written
    │   ├── InvalidEventError    an event, or an item taken over: its position is told
    │   │   └── InvalidValueError    a value that cannot be kept: its path is told
    │   └── ConfigurationError   options that are wrong or do not go together
    ├── EventLogError            the event log failed
    │   ├── AppendError          says for each partition: written, not written, unknown
    │   ├── TransactionError     DynamoDB cancelled a transaction with the source table: the reasons are told
    │   │   └── ConditionFailedError   a condition of the caller's did not hold
    │   ├── BatchError           a batch writer's batch: says for each key: written, not written, unknown
    │   └── LayoutError          the log is not one, or has another layout version
    ├── StorageError             the storage adapter failed
    │   ├── SegmentMissingError  a segment that the head names is gone
    │   └── SegmentCorruptError  a segment is truncated, rotten or a foreign file
    ├── SourceError              a source of items, such as the source table, failed or cannot be used
    ├── SpoolError               what was read of a source could not be kept on this machine
    ├── HistoryError             an as-of read reaches past what is kept, or past the newest version
    │   └── PositionExpiredError a consumer's next events have expired
    ├── ConflictError            others moved the same partition on, again and again
    │   └── ConsumerTakenError   another process follows under the consumer's name
    ├── PluginError              a plugin broke, or does not fit
    │   ├── PluginNotFoundError  nothing by that name is installed
    │   └── PluginLoadError      it is installed, and its import failed
    └── ClosedError              the layer was closed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

__all__ = [
    "AppendError",
    "BatchError",
    "ClosedError",
    "ConditionFailedError",
    "ConfigurationError",
    "ConflictError",
    "ConsumerTakenError",
    "EventLogError",
    "HistoryError",
    "InvalidEventError",
    "InvalidInputError",
    "InvalidValueError",
    "LayerError",
    "LayoutError",
    "Outcome",
    "PluginError",
    "PluginLoadError",
    "PluginNotFoundError",
    "PositionExpiredError",
    "SegmentCorruptError",
    "SegmentMissingError",
    "SourceError",
    "SpoolError",
    "StorageError",
    "TransactionError",
    "TransactionReason",
]

Outcome = Literal["written", "not written", "unknown"]
"""What is certain about one partition's part of a failed `set()`."""


class LayerError(Exception):
    """Root of every error that dynalayer raises on purpose.

    Attributes:
        message: What is wrong, and the way out.
        operation: What was being done (`"set"`, `"get"`, `"sync"` …), or None.
        partition: The partition concerned, or None.
        adapter: Name of the storage adapter concerned, or None.
        distribution: Name and version of the distribution that the adapter came with, or None.
        retryable: Whether doing the same again can help without anything being mended.

    The cause, where there is one, is `__cause__`.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str | None = None,
        partition: str | None = None,
        adapter: str | None = None,
        distribution: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.partition = partition
        self.adapter = adapter
        self.distribution = distribution
        self.retryable = retryable

    def within(
        self,
        *,
        operation: str | None = None,
        partition: str | None = None,
        adapter: str | None = None,
        distribution: str | None = None,
    ) -> Self:
        """Fill in what the place that raised could not know; what is known already stays."""
        self.operation = self.operation or operation
        self.partition = partition if self.partition is None else self.partition
        if self.adapter in (None, adapter):
            self.adapter = adapter
            self.distribution = self.distribution or distribution
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # By its fields, since the arguments of subclasses differ: an error crosses to another process whole.
        return _revived, (type(self), self.args, vars(self).copy())

    def __str__(self) -> str:
        facts: list[str] = []
        if self.operation:
            facts.append(f"operation: {self.operation}")
        if self.partition is not None:
            facts.append(f"partition: {self.partition!r}")
        if self.adapter:
            origin = f" from {self.distribution}" if self.distribution else ""
            facts.append(f"adapter: {self.adapter}{origin}")
        if self.retryable:
            facts.append("trying again can help")
        return f"{self.message} ({'; '.join(facts)})" if facts else self.message


def _revived(kind: type[LayerError], args: tuple[object, ...], fields: dict[str, object]) -> LayerError:
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    return error


class InvalidInputError(LayerError, ValueError):
    """What was given cannot be taken. Nothing was written."""


class InvalidEventError(InvalidInputError):
    """One event of a batch, or one item of a snapshot, cannot be taken; nothing of it was written.

    Attributes:
        index: Its position there, from 0; None where there is no batch.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class InvalidValueError(InvalidEventError):
    """A value that cannot be kept exactly.

    Attributes:
        path: Where it stands in the item, for example `address.lines[2]`.
        index: As in `InvalidEventError`.
    """

    def __init__(self, message: str, *, path: str, index: int | None = None) -> None:
        super().__init__(message, index=index)
        self.path = path


class ConfigurationError(InvalidInputError):
    """Options that are wrong in themselves or do not go together."""


class EventLogError(LayerError):
    """The event log failed; the cause says how."""


class AppendError(EventLogError):
    """A `set()`, or a write to the source table with its events, that was not written whole.

    Attributes:
        outcomes: For each partition of the batch, what is certain.
    """

    def __init__(
        self,
        message: str,
        *,
        outcomes: Mapping[str, Outcome],
        retryable: bool = False,
        operation: str | None = "set",
    ) -> None:
        super().__init__(message, operation=operation, retryable=retryable)
        self.outcomes = dict(outcomes)

    def __str__(self) -> str:
        listed = ", ".join(f"{partition!r}: {outcome}" for partition, outcome in self.outcomes.items())
        return f"{super().__str__()} [{listed}]"


@dataclass(frozen=True, slots=True)
class TransactionReason:
    """Why DynamoDB did not do one of the writes of a transaction.

    Attributes:
        table: The source table.
        key: Of the item that was to be written.
        code: DynamoDB's name for the reason, as `"ConditionalCheckFailed"`.
        message: What it says of it.
        item: The item that was there; None where there was none, or it is not told.
    """

    table: str
    key: Mapping[str, Any]
    code: str
    message: str
    item: Mapping[str, Any] | None = field(default=None, repr=False)


class TransactionError(EventLogError):
    """A transaction that DynamoDB cancelled: neither an item nor an event was written.

    Attributes:
        reasons: Why, for each write that it refused.
    """

    def __init__(self, message: str, *, reasons: Sequence[TransactionReason], retryable: bool = False) -> None:
        super().__init__(message, retryable=retryable)
        self.reasons = tuple(reasons)


class ConditionFailedError(TransactionError):
    """A condition that the caller set for a write did not hold."""


class BatchError(EventLogError):
    """A batch writer's batch that was not written whole. What it wrote before that batch is written.

    Attributes:
        written: Keys of this batch that are written, with their events.
        not_written: Keys that are not.
        unknown: Keys of which neither is certain.
    """

    def __init__(
        self,
        message: str,
        *,
        written: Sequence[Mapping[str, Any]],
        not_written: Sequence[Mapping[str, Any]],
        unknown: Sequence[Mapping[str, Any]],
        retryable: bool = False,
    ) -> None:
        super().__init__(message, retryable=retryable)
        self.written = tuple(written)
        self.not_written = tuple(not_written)
        self.unknown = tuple(unknown)

    def __str__(self) -> str:
        counts = f"{len(self.written)} written, {len(self.not_written)} not written, {len(self.unknown)} unknown"
        return f"{super().__str__()} [{counts}]"


class LayoutError(EventLogError):
    """The event log is not one of ours, or is of a layout version that this release does not know."""


class StorageError(LayerError):
    """The storage adapter failed; the cause says how."""


class SegmentMissingError(StorageError):
    """A segment that the head names is gone from the store."""


class SegmentCorruptError(StorageError):
    """A segment is truncated, rotten, foreign, or not the one that the head names."""


class SourceError(LayerError):
    """What items or changes are read from, as the source table or its stream, failed or cannot be used."""


class SpoolError(LayerError):
    """What was read of a source could not be kept on this machine: a spool or a dead-letter file."""


class HistoryError(LayerError):
    """An as-of read reaches past what is kept, or names a version, moment or cursor that is not there."""


class PositionExpiredError(HistoryError):
    """The events that a consumer would be given next have expired.

    Attributes:
        consumer: The consumer's name.
        first: The first version that is missing.
        last: The last one.
    """

    def __init__(self, message: str, *, consumer: str, first: int, last: int, partition: str) -> None:
        super().__init__(message, partition=partition)
        self.consumer = consumer
        self.first = first
        self.last = last


class ConflictError(LayerError):
    """Others moved the partition on at every one of a bounded number of tries. Nothing is lost."""


class ConsumerTakenError(ConflictError):
    """Another process follows under the consumer's name, or the consumer was moved or forgotten. Nothing is lost."""


class PluginError(LayerError):
    """A plugin does not fit where it was asked for, or broke."""


class PluginNotFoundError(PluginError):
    """Nothing by that name is installed; the message lists what is."""


class PluginLoadError(PluginError):
    """A plugin is installed and could not be loaded; the cause says why."""


class ClosedError(LayerError):
    """The layer, or its event log, was closed."""
