"""The one face of storage adapters: calls their hooks, checks what they give, names them in every error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import pluggy

from dynalayer.costs import Usage
from dynalayer.counting import UsageCounter
from dynalayer.errors import (
    ConfigurationError,
    LayerError,
    SegmentCorruptError,
    SegmentMissingError,
    StorageError,
)
from dynalayer.eventlog.base import MAX_REF_BYTES, SegmentRef
from dynalayer.hookspecs import Capabilities
from dynalayer.observing import Observers
from dynalayer.quoting import quoted
from dynalayer.segments import Segment, SegmentHeader
from dynalayer.values import Item
from dynalayer.wording import counted

if TYPE_CHECKING:  # they need pyarrow, which is an extra
    from pyarrow import RecordBatch
    from pyarrow.compute import Expression

    from dynalayer.columns import Columns

__all__ = ["Storage"]

T = TypeVar("T")

_NAMED_BY = ("table", "partition", "kind", "first version", "last version", "name", "number of entries")


class Storage:
    """A layer's storage.

    Args:
        manager: The layer's plugin manager, in which the adapter is registered.
        observers: Whom to tell of each call.
        name: The adapter's name.
        distribution: Name and version of what it came with; None for an object that the caller made.
        capabilities: What it can do.

    Attributes:
        counter: Counts the calls of its hooks, as requests to the store.
    """

    def __init__(
        self,
        manager: pluggy.PluginManager,
        observers: Observers,
        *,
        name: str,
        distribution: str | None,
        capabilities: Capabilities,
    ) -> None:
        self._hook = manager.hook
        self._observers = observers
        self.counter = UsageCounter()
        self.name = name
        self.distribution = distribution
        self.capabilities = capabilities

    def put(self, segment: Segment, *, cursor: str, at: int) -> SegmentRef:
        """Store a segment; it is durable when this returns.

        Args:
            segment: The segment.
            cursor: Cursor of the sync that folded its newest record.
            at: When the record at its `to_version` was appended.

        Raises:
            StorageError: The adapter failed, or returned no ref.
        """
        ref = self._call(
            "put",
            "store a segment",
            segment.partition,
            lambda: self._hook.layer_setter(partition=segment.partition, segment=segment),
            Usage(storage_writes=1),
        )
        return self._stored(ref, segment.header, segment.entries, cursor=cursor, at=at)

    def _stored(self, ref: object, header: SegmentHeader, entries: int, *, cursor: str, at: int) -> SegmentRef:
        if not isinstance(ref, str) or not ref or len(ref.encode()) > MAX_REF_BYTES:
            raise self._named(
                StorageError(f"the adapter returned no ref of 1 to {MAX_REF_BYTES} bytes but {quoted(ref, 300)}"),
                header.partition,
            )
        return SegmentRef(
            ref=ref,
            kind=header.kind,
            from_version=header.from_version,
            to_version=header.to_version,
            entries=entries,
            name=header.name,
            cursor=cursor,
            at=at,
        )

    def get(self, partition: str, named: SegmentRef, *, table: str) -> Segment:
        """The segment that a head names, checked to be that one.

        Raises:
            SegmentMissingError: It is gone.
            SegmentCorruptError: It is rotten, or another than the one named.
            StorageError: The adapter failed.
        """
        segment = self.fetch(partition, named.ref)
        if not self.capabilities.immutable and named.entries and not segment.items:
            raise self._named(
                SegmentMissingError(
                    f"the getter gave nothing for a partition that has {counted(named.entries, 'item')}; if it "
                    "swallows its errors let it raise them, and if what it reads is lost, rebuild it from the "
                    "source table"
                ),
                partition,
            )
        if self.capabilities.immutable:
            self._check(named, segment.header, segment.entries, table=table, partition=partition)
        return segment

    def _check(self, named: SegmentRef, header: SegmentHeader, entries: int, *, table: str, partition: str) -> None:
        expected = (table, partition, named.kind, named.from_version, named.to_version, named.name, named.entries)
        found = (
            header.table,
            header.partition,
            header.kind,
            header.from_version,
            header.to_version,
            header.name,
            entries,
        )
        if expected != found:
            raise self._named(
                SegmentCorruptError(
                    f"the store gave another segment under {named.ref!r} than was stored there: "
                    f"{_differing(expected, found)}"
                ),
                partition,
            )

    def columns(self, partition: str, named: SegmentRef, *, table: str) -> Columns:
        """The segment that a head names, opened by columns; errors as `get`, also while its batches are read."""
        columns = self._call(
            "open",
            "open a segment by columns",
            partition,
            lambda: self._hook.layer_columns(partition=partition, ref=named.ref),
            Usage(storage_reads=1),
        )
        self._check(named, columns.header, columns.entries, table=table, partition=partition)
        return _NamedColumns(self, columns)

    def next_batch(self, partition: str, batches: Iterator[RecordBatch]) -> RecordBatch | None:
        """The next batch of an opened segment; None after the last. Errors as `get`."""
        return self._call("batch", "read a segment by columns", partition, lambda: next(batches, None), Usage())

    def put_columns(self, columns: Columns, *, cursor: str, at: int) -> SegmentRef:
        """Store a segment given by columns; as `put`."""
        partition = columns.header.partition
        ref = self._call(
            "put",
            "store a segment by columns",
            partition,
            lambda: self._hook.layer_columns_setter(partition=partition, columns=columns),
            Usage(storage_writes=1),
        )
        return self._stored(ref, columns.header, columns.entries, cursor=cursor, at=at)

    def fetch(self, partition: str, ref: str) -> Segment:
        """Whatever segment stands under a ref; errors as `get`."""
        segment = self._call(
            "get",
            "read a segment",
            partition,
            lambda: self._hook.layer_getter(partition=partition, ref=ref),
            Usage(storage_reads=1),
        )
        if not isinstance(segment, Segment):
            raise self._named(
                StorageError(f"the adapter returned no segment for {ref!r} but {quoted(segment)}"), partition
            )
        return segment

    def publish(self, segment: Segment, items: Mapping[str, Item]) -> None:
        """Put all items of a partition, as they are after a segment, where other programs read them."""
        partition, origin, version = segment.partition, segment.origin, segment.to_version
        self._call(
            "publish",
            "publish a partition",
            partition,
            lambda: self._hook.layer_publish(partition=partition, origin=origin, version=version, items=items),
            Usage(storage_writes=1),
        )

    def discard(self, partition: str, ref: str) -> None:
        """Remove a segment."""
        self.need_listing("vacuum")
        self._call(
            "discard",
            "discard a segment",
            partition,
            lambda: self._hook.layer_discard(partition=partition, ref=ref),
            Usage(storage_writes=1),
        )

    def list(self, partition: str) -> tuple[str, ...]:
        """The refs of all that is stored for a partition, sorted."""
        self.need_listing("vacuum")
        refs = self._call(
            "list",
            "list segments",
            partition,
            lambda: self._hook.layer_list(partition=partition),
            Usage(storage_reads=1),
        )
        return tuple(sorted(refs or ()))

    def need_listing(self, operation: str) -> None:
        """Refuse what needs a listing, before any I/O, where the adapter has none."""
        if not self.capabilities.listing:
            raise ConfigurationError(
                f"{operation} needs an adapter that can list and discard its segments; {self.name} cannot",
            ).within(operation=operation, adapter=self.name, distribution=self.distribution)

    def _call(self, name: str, what: str, partition: str, call: Callable[[], T], usage: Usage) -> T:
        self.counter.add(usage)
        with self._observers.watched(f"storage.{name}", partition, self.name):
            return self._reported(what, partition, call)

    def _reported(self, what: str, partition: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except LayerError as error:
            raise self._named(error, partition)  # noqa: B904 -- the same error, with what it could not know
        except FileNotFoundError as error:
            raise self._named(SegmentMissingError(f"could not {what}: {error}"), partition) from error
        except Exception as error:
            failure = StorageError(f"could not {what}: {type(error).__name__}: {error}")
            raise self._named(failure, partition) from error

    def _named(self, error: LayerError, partition: str) -> LayerError:
        return error.within(partition=partition, adapter=self.name, distribution=self.distribution)


class _NamedColumns:
    """A segment opened by columns, whose errors are named as those of all calls of the adapter.

    Args:
        storage: Names them.
        columns: As the adapter gave it.
    """

    def __init__(self, storage: Storage, columns: Columns) -> None:
        self._storage = storage
        self._columns = columns
        self.header = columns.header
        self.schema = columns.schema
        self.entries = columns.entries

    def batches(
        self,
        columns: Sequence[str] | None = None,
        filter: Expression | None = None,
    ) -> Iterator[RecordBatch]:
        """See `Columns`."""
        partition = self.header.partition
        batches = self._columns.batches(columns, filter)
        while (batch := self._storage.next_batch(partition, batches)) is not None:
            yield batch


def _differing(expected: Sequence[object], found: Sequence[object]) -> str:
    """What a segment says of itself that is not what the head says, and what that may come from."""
    pairs = zip(_NAMED_BY, expected, found, strict=True)
    told = ", ".join(f"its {what} is {here!r}, not {there!r}" for what, there, here in pairs if here != there)
    if expected[:-1] == found[:-1]:
        return f"{told}; what went through a wrapper, such as encryption, is read with it in storage alone"
    return told
