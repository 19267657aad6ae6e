"""From a stream record to the events of the layer: where an item belongs, before the change and after it."""

from __future__ import annotations

from typing import Any

from dynalayer.errors import ConfigurationError, InvalidInputError
from dynalayer.events import Change, ChangeType, EventReader
from dynalayer.streams.records import Stream, StreamRecord
from dynalayer.values import Item

__all__ = ["Places"]

_NEEDED = {"NewImage": ("NEW_IMAGE", "NEW_AND_OLD_IMAGES"), "OldImage": ("OLD_IMAGE", "NEW_AND_OLD_IMAGES")}


class Places:
    """Turns stream records into changes of partitions.

    Args:
        table: The layer's table.
        reader: Tells items' partitions and identifiers.

    Raises:
        ConfigurationError: The layer has nothing that tells an item's identifier.
    """

    def __init__(self, table: str, reader: EventReader) -> None:
        if not reader.tells_ids:
            raise ConfigurationError(
                "the layer was given no get_item_unique_identifier: of an item in a stream nothing else tells its "
                "identifier; say which attribute does, in dynalayer.toml or where the layer is made"
            )
        self._table = table
        self._reader = reader

    def check_stream(self, stream: Stream) -> None:
        """Refuse the stream of another table.

        Raises:
            ConfigurationError: It is.
        """
        if stream.table != self._table:
            raise ConfigurationError(
                f"the stream is of table {stream.table!r}, and the layer of table {self._table!r}: its items would "
                "take the place of others. Give the function or the command the stream of that table, or open a layer "
                f"of {stream.table!r}"
            )

    def check_keys(self, keys: frozenset[str]) -> None:
        """Refuse a table whose items the layer could not tell apart.

        Args:
            keys: The table's key attributes.

        Raises:
            ConfigurationError: Two of its items could be one of the layer's.
        """
        identifying = self._reader.identifying
        if identifying is not None and not keys <= identifying:
            listed = " and ".join(map(repr, sorted(identifying)))
            beside = " and ".join(map(repr, sorted(keys - identifying)))
            raise ConfigurationError(
                f"the key of table {self._table!r} is {' and '.join(map(repr, sorted(keys)))}, and the layer tells "
                f"items apart by {listed}: two items that differ in {beside} alone would be one. Let "
                "get_item_partition and get_item_unique_identifier be the key's attributes, or functions of them"
            )

    def check_view(self, view: str, keys: frozenset[str]) -> None:
        """Refuse a stream whose records lack what is needed.

        Args:
            view: Which images its records have.
            keys: The table's key attributes.

        Raises:
            ConfigurationError: They do.
        """
        needed = ["NewImage"] if self._by_keys(keys) else ["NewImage", "OldImage"]
        for name in needed:
            if view not in _NEEDED[name]:
                raise self._lacks(f"the stream of table {self._table!r}", name, view)

    def check(self, record: StreamRecord) -> None:
        """Refuse what no other record of the stream would make good.

        Raises:
            ConfigurationError: It is another table's, or lacks an image that is needed.
        """
        self.check_stream(record.stream)
        self.check_keys(frozenset(record.keys))
        needs_old = record.name != "INSERT" and not self._by_keys(frozenset(record.keys))
        if record.name != "REMOVE" and record.new is None:
            raise self._lacks(str(record), "NewImage", record.view)
        if needs_old and record.old is None:
            raise self._lacks(str(record), "OldImage", record.view)

    def _lacks(self, what: str, image: str, view: str) -> ConfigurationError:
        why = (
            "what the item is after a change"
            if image == "NewImage"
            else "where an item was before a change, since its partition and identifier are not told by its key alone"
        )
        return ConfigurationError(
            f"{what} has no {image}, which tells {why}: its StreamViewType is {view or 'not told'}. Give table "
            f"{self._table!r} a stream with StreamViewType NEW_AND_OLD_IMAGES (switch the stream off, and on again "
            "with it), then reset the layer"
        )

    def _by_keys(self, keys: frozenset[str]) -> bool:
        """Whether an item's key tells its partition and identifier, so that neither ever changes."""
        identifying = self._reader.identifying
        return identifying is not None and identifying <= keys

    def changes(self, record: StreamRecord) -> list[tuple[str, Change]]:
        """What a record does to the layer: a change at each place, of an item that moved the old one first.

        Args:
            record: The record, checked.

        Raises:
            InvalidInputError: What tells an item's place refuses it, or it holds what cannot be kept.
        """
        try:
            return self._changes(record)
        except InvalidInputError as error:
            # The cause, where it has one, names attribute or function; the record is named here.
            raise InvalidInputError(f"{record}: {error.message}") from error

    def _changes(self, record: StreamRecord) -> list[tuple[str, Change]]:
        by_keys = self._by_keys(frozenset(record.keys))
        if record.name == "REMOVE":
            return [self._deleted(record.keys if by_keys or record.old is None else record.old, record.keys)]
        new = self._change("PUT" if record.name == "INSERT" else "UPDATE", record.new or {})
        if record.name == "INSERT" or by_keys:
            return [new]
        return [each for each in self.left(record) if (each[0], each[1].id) != (new[0], new[1].id)] + [new]

    def left(self, record: StreamRecord) -> list[tuple[str, Change]]:
        """What takes an item from the place that it had before a MODIFY.

        Of an item whose state after the change is set aside this is all that the layer is told: it has no place then.
        """
        before = record.keys if self._by_keys(frozenset(record.keys)) else record.old
        if record.name != "MODIFY" or before is None:
            return []
        try:
            return [self._deleted(before, record.keys)]
        except InvalidInputError:
            # What refuses that state now did so when it came: it never had a place.
            return []

    def _change(self, kind: ChangeType, item: Item) -> tuple[str, Change]:
        placed = self._reader.place(item)
        return placed.partition, Change(kind, placed.id, item, placed.encoded)

    def _deleted(self, item: Item, keys: Item) -> tuple[str, Change]:
        """An item's deletion; of the item only what identifies it is kept, where that is known."""
        identifying = self._reader.identifying
        kept: dict[str, Any] = item
        if identifying is not None:
            kept = {**keys, **{name: value for name, value in item.items() if name in identifying}}
        return self._change("DELETE", kept)
