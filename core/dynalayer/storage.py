"""The one face of storage adapters: calls their hooks, checks what they give, names them in every error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

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
from dynalayer.segments import Segment
from dynalayer.values import Item
from dynalayer.wording import counted

__all__ = ["Storage"]

T = TypeVar("T")


class Storage:
    """A layer's storage.

    Args:
        manager: The layer's plugin manager, in which the adapter is registered.
        name: The adapter's name.
        distribution: Name and version of what it came with; None for an object that the caller made.
        capabilities: What it can do.

    Attributes:
        counter: Counts the calls of its hooks, as requests to the store.
    """

    def __init__(
        self,
        manager: pluggy.PluginManager,
        *,
        name: str,
        distribution: str | None,
        capabilities: Capabilities,
    ) -> None:
        self._hook = manager.hook
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
            "store a segment",
            segment.partition,
            lambda: self._hook.layer_setter(partition=segment.partition, segment=segment),
            Usage(storage_writes=1),
        )
        if not isinstance(ref, str) or not ref or len(ref.encode()) > MAX_REF_BYTES:
            raise self._named(
                StorageError(f"the adapter returned no ref of 1 to {MAX_REF_BYTES} bytes but {ref!r:.300}"),
                segment.partition,
            )
        return SegmentRef(
            ref=ref,
            kind=segment.kind,
            from_version=segment.from_version,
            to_version=segment.to_version,
            entries=segment.entries,
            name=segment.name,
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
            expected = (
                table,
                partition,
                named.kind,
                named.from_version,
                named.to_version,
                named.entries,
                named.name,
            )
            found = (
                segment.table,
                segment.partition,
                segment.kind,
                segment.from_version,
                segment.to_version,
                segment.entries,
                segment.name,
            )
            if expected != found:
                raise self._named(
                    SegmentCorruptError(
                        f"the store gave another segment under {named.ref!r} than was stored there: "
                        f"expected {expected}, found {found}"
                    ),
                    partition,
                )
        return segment

    def fetch(self, partition: str, ref: str) -> Segment:
        """Whatever segment stands under a ref; errors as `get`."""
        segment = self._call(
            "read a segment",
            partition,
            lambda: self._hook.layer_getter(partition=partition, ref=ref),
            Usage(storage_reads=1),
        )
        if not isinstance(segment, Segment):
            raise self._named(
                StorageError(f"the adapter returned no segment for {ref!r} but {segment!r:.100}"), partition
            )
        return segment

    def publish(self, partition: str, version: int, items: Mapping[str, Item]) -> None:
        """Put all items of a partition where other programs read them."""
        self._call(
            "publish a partition",
            partition,
            lambda: self._hook.layer_publish(partition=partition, version=version, items=items),
            Usage(storage_writes=1),
        )

    def discard(self, partition: str, ref: str) -> None:
        """Remove a segment."""
        self.need_listing("vacuum")
        self._call(
            "discard a segment",
            partition,
            lambda: self._hook.layer_discard(partition=partition, ref=ref),
            Usage(storage_writes=1),
        )

    def list(self, partition: str) -> tuple[str, ...]:
        """The refs of all that is stored for a partition, sorted."""
        self.need_listing("vacuum")
        refs = self._call(
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

    def _call(self, what: str, partition: str, call: Callable[[], T], usage: Usage) -> T:
        self.counter.add(usage)
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
