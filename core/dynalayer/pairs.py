"""A user's own getter and setter over one mutable place, as an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dynalayer.asynchronous import not_coroutine
from dynalayer.errors import InvalidInputError, SegmentCorruptError, StorageError
from dynalayer.events import EventReader
from dynalayer.hookspecs import Capabilities, hookimpl
from dynalayer.segments import Segment
from dynalayer.values import Item, copy_item

__all__ = ["Getter", "PlainPair", "Setter"]

Getter = Callable[[str], Iterable[Item] | None]
"""Takes a partition and returns its items; None or nothing where it has none."""

Setter = Callable[[str, list[Item]], object]
"""Takes a partition and all its items, and stores them in place of what was there."""


class PlainPair:
    """An adapter without refs: what stands in the head for one is the version.

    It is safe while the lease of a sync holds: a sync that outlives its lease may overwrite a later one's items.

    Args:
        getter: See `Getter`.
        setter: See `Setter`.
        reader: Tells the identifiers of the items.
        table: The layer's table.
    """

    name = "plain pair"
    capabilities = Capabilities(deltas=False, listing=False, immutable=False)

    def __init__(self, getter: Getter, setter: Setter, reader: EventReader, table: str) -> None:
        self._getter = getter
        self._setter = setter
        self._reader = reader
        self._table = table

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        """Hand all items, sorted by identifier, to the setter."""
        items = [copy_item(segment.items[identifier]) for identifier in sorted(segment.items)]
        not_coroutine(self._setter(partition, items), "the setter")
        return str(segment.to_version)

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        """What the getter says.

        Raises:
            SegmentCorruptError: The answer is not a list of items of the value domain, or has an identifier twice.
        """
        try:
            given = not_coroutine(self._getter(partition), "the getter")
            items = self._reader.items_of(partition, given or ())
        except InvalidInputError as error:
            raise SegmentCorruptError(f"the getter gave what is no item of this partition: {error.message}") from error
        return Segment(self._table, partition, "", "base", 0, int(ref), items)

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        """Refused: there is one place a partition."""
        raise StorageError(
            f"a plain getter and setter keep no old snapshots: {partition!r} has none but its newest, {ref!r}"
        )

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        """Refused: there is one place a partition."""
        raise StorageError(f"a plain getter and setter cannot be listed ({partition!r})")
