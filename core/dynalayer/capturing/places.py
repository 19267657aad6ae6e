"""Where items of the source table belong in the layer, and whether their key alone tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynalayer.errors import InvalidInputError
from dynalayer.events import Change, EventReader
from dynalayer.quoting import quoted
from dynalayer.sourcing.tables import SourceTable, plain, typed
from dynalayer.values import Item, copy_item, item_to_json

__all__ = ["Places", "storable"]

Row = Mapping[str, Any]
Placed = tuple[str, Change]
"""A change, and its partition."""

_MAX_HASH, _MAX_RANGE = 2048, 1024
_KINDS = {"S": "text", "N": "a number", "B": "bytes"}


def storable(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item, or values, as the low-level client takes them.

    Raises:
        InvalidInputError: DynamoDB keeps no such value; names the attribute.
    """
    row = typed(item)
    for name, value in row.items():
        if _has_empty_set(value):
            raise InvalidInputError(
                f"attribute {quoted(name)} holds an empty set, which DynamoDB does not keep; leave it out"
            )
    return row


def _has_empty_set(value: Mapping[str, Any]) -> bool:
    ((kind, inner),) = value.items()
    if kind in ("L", "M"):
        return any(map(_has_empty_set, inner if kind == "L" else inner.values()))
    return kind in ("SS", "NS", "BS") and not inner


class Places:
    """Tells where items belong.

    Args:
        source: The table.
        reader: The layer's own, which tells of each event.
    """

    def __init__(self, source: SourceTable, reader: EventReader) -> None:
        self.keys = source.keys
        self._reader = reader
        identifying = reader.identifying
        self.by_key = identifying is not None and identifying <= set(self.keys.names)
        """Whether an item's key alone tells its place: nothing else is ever in another place under the same key."""
        self.attributes: tuple[str, ...] | None = (
            None if identifying is None else tuple(sorted(identifying - set(self.keys.names)))
        )
        """What tells it besides the key; None where functions look at whatever they like."""

    def key(self, key: object) -> dict[str, Any]:
        """A key as the caller gives it.

        Raises:
            InvalidInputError: It is not this table's.
        """
        if not isinstance(key, Mapping) or set(key) != set(self.keys.names):
            raise InvalidInputError(f"Key={quoted(key)} has other attributes than the table's key: {self._told()}")
        given = dict(key)
        item_to_json(given)
        self.key_row(given)
        return copy_item(given)

    def key_row(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """An item's key as the low-level client takes it.

        Raises:
            InvalidInputError: It lacks a part, or one is of another kind than the table's.
        """
        missing = [name for name in self.keys.names if name not in item]
        if missing:
            raise InvalidInputError(f"the item has no attribute {missing[0]!r}: the table's key is {self._told()}")
        key = {name: item[name] for name in self.keys.names}
        row = typed(key)
        for name, most in zip(self.keys.names, (_MAX_HASH, _MAX_RANGE), strict=False):
            ((kind, value),) = row[name].items()
            if kind != self.keys.types[name]:
                raise InvalidInputError(f"key attribute {name!r} is {quoted(key[name])}: the table has {self._told()}")
            size = len(value.encode() if kind == "S" else value)
            if kind != "N" and not 0 < size <= most:
                raise InvalidInputError(f"key attribute {name!r} takes {size} bytes; 1 to {most} are possible")
        return row

    def _told(self) -> str:
        return " and ".join(f"{name!r} ({_KINDS[self.keys.types[name]]})" for name in self.keys.names)

    def put(self, item: object, kind: str = "PUT") -> tuple[Placed, dict[str, Any]]:
        """The change that an item's writing is, and the item as the low-level client takes it.

        Raises:
            InvalidInputError: Neither `set()` nor the table would take it.
        """
        partition, change = self._reader.change({"type": kind, "item": item})
        row = storable(change.item)
        self.key_row(change.item)
        return (partition, change), row

    def deleted(self, item: Item) -> Placed:
        """The change that an item's deletion is.

        Raises:
            InvalidInputError: The item tells no place.
        """
        return self._reader.change({"type": "DELETE", "item": item})

    def left(self, row: Row | None, placed: Placed | None) -> tuple[Placed, ...]:
        """The deletion of what a row was in the layer, if that is another place than the new one.

        What tells no place is no item of the layer's.
        """
        if row is None:
            return ()
        try:
            before = self.deleted(plain(row))
        except InvalidInputError:
            return ()
        if placed is not None and (before[0], before[1].id) == (placed[0], placed[1].id):
            return ()
        return (before,)
