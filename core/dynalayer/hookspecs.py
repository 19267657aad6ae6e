"""Every hook of dynalayer, on one screen, and what an adapter says about itself.

A plugin is an object; the methods that it marks with `hookimpl` are called by the layer that it was given to, and by
no other: nothing is global. A method may leave out arguments that it has no use for, but for the four hooks of storage:
wrappers call those by their full signature. Hooks are called per batch, never per item.

An adapter is a plugin that implements the four hooks of storage and has `name` and `capabilities`; all four may be
called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import pluggy

from dynalayer.events import Event
from dynalayer.segments import Segment
from dynalayer.states import LayerMeta, Operation, PartitionMeta, SyncResult
from dynalayer.values import Item

if TYPE_CHECKING:  # it needs pyarrow, which is an extra
    from dynalayer.columns import Columns

__all__ = ["Adapter", "Capabilities", "HookSpecs", "Job", "Wrapper", "hookimpl"]

PROJECT = "dynalayer"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Job = Callable[[], None]
"""A sync to run. It never raises: what fails is reported through `layer_failed` and `meta().error`."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an adapter can do. Asking for what it lacks is an error before any I/O.

    Attributes:
        deltas: It keeps deltas, and several segments a partition; without, every sync writes a base.
        listing: `layer_list` and `layer_discard` work; without, `vacuum` is refused.
        immutable: What was stored under a ref never changes. Without, there is one mutable place a partition (a plain
            pair): nothing read from it is cached, and old snapshots cannot be read.
        publishing: `layer_publish` works: each sync hands it all items of a partition that it folds.
        columns: `layer_columns` and `layer_columns_setter` work: segments are read by columns and compacted in Arrow;
            without, what asks for columns is answered from whole items.
    """

    deltas: bool = True
    listing: bool = True
    immutable: bool = True
    publishing: bool = False
    columns: bool = False


class HookSpecs:
    """The hooks."""

    @hookspec(firstresult=True)
    def layer_setter(self, partition: str, segment: Segment) -> str | None:
        """Store a segment under a fresh ref and return the ref, at most 256 bytes of UTF-8.

        Called by a sync, once a segment, before the head names it. It must be durable, whole, when this returns, and
        what any other ref names must stay as it is. The first result that is not None stops the search.
        """

    @hookspec(firstresult=True)
    def layer_getter(self, partition: str, ref: str) -> Segment | None:
        """Return the segment stored under a ref, exactly as it was set.

        Called by reads, compactions, `verify` and `vacuum`. Raise `SegmentMissingError` where there is none, and
        `SegmentCorruptError` where it is not what was stored. The first result that is not None stops the search.
        """

    @hookspec(firstresult=True)
    def layer_discard(self, partition: str, ref: str) -> bool | None:
        """Remove the segment stored under a ref; True, whether it was there or not.

        Called by `vacuum` alone, for refs that neither the head nor the history names.
        """

    @hookspec(firstresult=True)
    def layer_list(self, partition: str) -> Sequence[str] | None:
        """Return the refs of all segments stored for a partition, in any order; none for one never heard of.

        Called by `vacuum`. Refs of other layers that share the place may be among them.
        """

    @hookspec(firstresult=True)
    def layer_columns_setter(self, partition: str, columns: Columns) -> str | None:
        """Store a segment that is given by columns, as `layer_setter` stores one of items, and return its ref.

        Called by compactions, where `capabilities` say `columns`. Its batches are read once, in order; reading them
        may fail, and then nothing is stored.
        """

    @hookspec(firstresult=True)
    def layer_columns(self, partition: str, ref: str) -> Columns | None:
        """Open the segment stored under a ref by columns: little is read before its batches are asked for.

        Called by compactions, `Layer.scan` and `verify`, where `capabilities` say `columns`. Errors as
        `layer_getter`, also while batches are read.
        """

    @hookspec(firstresult=True)
    def layer_publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> bool | None:
        """Put all items of a partition, by identifier, where other programs read them; True when they are there.

        Called by a sync, a takeover or a reset right before it moves the head to that version, where `capabilities` say
        `publishing`. What fails here leaves the partition as it was, and the next one tries again. Syncs may overlap:
        an older version should not replace a newer one of the same event log. Versions of two logs do not compare, and
        a log that was made anew begins at 1: `origin` tells them apart.
        """

    @hookspec
    def layer_strategy(self, meta: LayerMeta, partition_meta: PartitionMeta) -> bool | Literal["partition"] | None:
        """Say whether to sync now: True all that is pending, `"partition"` this partition, anything false nothing.

        Called after each `set()`, for each partition that it wrote. Of several strategies any may say yes.
        """

    @hookspec(firstresult=True)
    def layer_runner(self, job: Job) -> bool | None:
        """Run the job, now or later, and return True; None leaves it to the next runner, at last to run in line.

        Called when a strategy has said yes.
        """

    @hookspec
    def layer_operation(self, operation: Operation) -> AbstractContextManager[object] | None:
        """Return a context manager, entered now and left when the operation ends, with its error if it has one.

        Called when the layer begins to do something for its caller or calls its adapter, in the thread that does it;
        operations nest, and of several observers the last in the layer's `plugins` is the outermost. What an observer
        raises, or would swallow, is reported and changes nothing; only what is no `Exception`, as KeyboardInterrupt,
        passes. What it does with the layer meanwhile is told to no observer. A scan ends when it is open: its batches
        are read later. Reads of other threads may end after `layer_closed`, and the `close` itself does.
        """

    @hookspec
    def layer_appended(self, events: Sequence[Event]) -> None:
        """Called at the end of each `set()`, within its operation, with the events that are now durable."""

    @hookspec
    def layer_synced(self, result: SyncResult) -> None:
        """Called by each sync that folded something, and each takeover or reset that did, within its operation."""

    @hookspec
    def layer_failed(self, operation: str, error: Exception) -> None:
        """Called when something failed whose caller is not told: a sync after a `set()` or a takeover, an observer.

        Then the operation is the observer's hook. What fails while this is called is only logged.
        """

    @hookspec
    def layer_closing(self) -> None:
        """Called by `close()` first, while all still works: end your waits; a runner runs what it took, and no more.

        Then `close()` waits for the syncs, takeovers and resets that are at work.
        """

    @hookspec
    def layer_closed(self) -> None:
        """Called by `close()` once no sync, takeover or reset is at work, before the log closes: give back all.

        None begins afterwards. A read or a vacuum of another thread may still be at work, and fail.
        """


@runtime_checkable
class Adapter(Protocol):
    """What keeps segments. The methods are hooks, marked with `hookimpl`; see `HookSpecs` for what they promise."""

    name: str
    capabilities: Capabilities

    def layer_setter(self, partition: str, segment: Segment) -> str:
        """See `HookSpecs.layer_setter`."""
        ...

    def layer_getter(self, partition: str, ref: str) -> Segment:
        """See `HookSpecs.layer_getter`."""
        ...

    def layer_discard(self, partition: str, ref: str) -> bool:
        """See `HookSpecs.layer_discard`."""
        ...

    def layer_list(self, partition: str) -> Sequence[str]:
        """See `HookSpecs.layer_list`."""
        ...


@runtime_checkable
class Wrapper(Protocol):
    """What makes an adapter around an adapter: all but the last of a `storage` list."""

    def around(self, inner: Adapter) -> Adapter:
        """Return the adapter that stands in front of `inner`; it passes on the capabilities of `inner`."""
        ...
