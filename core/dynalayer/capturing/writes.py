"""What one write to the source table does: to the table, and which events it is to the layer.

A write is planned by the item that is there, where that matters, as often as others change it meanwhile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynalayer.capturing.changes import changed
from dynalayer.capturing.conditions import Expression, Guard, guarded
from dynalayer.capturing.expressions import Update
from dynalayer.capturing.places import Placed, Places
from dynalayer.errors import InvalidInputError
from dynalayer.quoting import quoted
from dynalayer.sourcing.tables import plain
from dynalayer.units import item_size
from dynalayer.values import Item

__all__ = ["Deleting", "Plan", "Putting", "Updating", "Write"]

Row = Mapping[str, Any]

_MAX_ITEM = 400 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written.

    Attributes:
        changes: The events; none where nothing changes, but for a condition that has to hold.
        action: As `TransactWriteItems` takes it, without the table; None where there is nothing to ask.
        guard: What the item must still be; None where it does not matter.
    """

    changes: tuple[Placed, ...]
    action: tuple[str, dict[str, Any]] | None
    guard: Guard | None = None


class Write(ABC):
    """One write.

    Attributes:
        key: Of the item, as the caller said it.
        key_row: As the low-level client takes it.
        own: The caller's condition.
        reads: Whether the item that is there matters.
        partition: Where its events go, as far as the key tells.
    """

    def __init__(self, places: Places, key: Item, own: Expression) -> None:
        self._places = places
        self.key = key
        self.key_row = places.key_row(key)
        self.own = own
        self.reads = not places.by_key
        self.partition: str | None = None

    @abstractmethod
    def plan(self, there: Row | None) -> Plan:
        """What is to be written.

        Args:
            there: The item that is there, read strongly; None where there is none, or where it does not matter.

        Raises:
            InvalidInputError: It cannot be done to that item.
        """

    def _guard(self, there: Row | None) -> Guard:
        """What tells the item's place must still be so."""
        attributes = self._places.attributes
        return Guard(self._places.keys.hash, there, attributes or (), whole=attributes is None)

    def _nothing(self, guard: Guard) -> Plan:
        """Nothing is there, and nothing is to be: only the caller's condition is asked for."""
        if not self.own.text:
            return Plan((), None, guard)
        condition = guarded(self.own.alone(), guard)
        return Plan((), ("Delete", {"Key": self.key_row, **condition.arguments()}), guard)


class Putting(Write):
    """A whole item.

    Args:
        places: Tells where items belong.
        item: The item.
        own: The caller's condition.
    """

    def __init__(self, places: Places, item: object, own: Expression) -> None:
        self._placed, self._row = places.put(item)
        _check_size(self._row)
        kept = self._placed[1].item
        super().__init__(places, places.keys.of(kept) or {}, own)
        self.partition = self._placed[0] if places.by_key else None

    def plan(self, there: Row | None) -> Plan:
        """See `Write`."""
        if not self.reads:
            return Plan((self._placed,), ("Put", {"Item": self._row, **self.own.arguments()}))
        guard = self._guard(there)
        condition = guarded(self.own, guard)
        changes = (*self._places.left(there, self._placed), self._placed)
        return Plan(changes, ("Put", {"Item": self._row, **condition.arguments()}), guard)


class Deleting(Write):
    """An item's deletion."""

    def __init__(self, places: Places, key: object, own: Expression) -> None:
        super().__init__(places, places.key(key), own)
        if places.by_key:
            self._placed = places.deleted(self.key)
            self.partition = self._placed[0]

    def plan(self, there: Row | None) -> Plan:
        """See `Write`."""
        if not self.reads:
            return Plan((self._placed,), ("Delete", {"Key": self.key_row, **self.own.arguments()}))
        guard = self._guard(there)
        if there is None:
            return self._nothing(guard)
        changes = self._places.left(there, None)
        if not changes:
            raise InvalidInputError(
                f"the item {quoted(self.key)} cannot be deleted with its event: nothing tells its place in the layer, "
                "which therefore never had it; delete it by the boto3 table itself"
            )
        condition = guarded(self.own, guard)
        return Plan(changes, ("Delete", {"Key": self.key_row, **condition.arguments()}), guard)


class Updating(Write):
    """A change of an item, computed here.

    Args:
        places: Tells where items belong.
        key: Of the item.
        text: The update expression.
        update: What it does.
        own: The caller's condition, with names and values of both.
    """

    def __init__(self, places: Places, key: object, text: str, update: Update, own: Expression) -> None:
        super().__init__(places, places.key(key), own)
        self._text = text
        self._update = update
        self.reads = True
        for action in update.actions:
            if action.path[0] in places.keys.names:
                raise InvalidInputError(
                    f"the UpdateExpression changes {action.path[0]!r}, which is part of the table's key; an item's key "
                    "never changes: put_item() it under the new key and delete_item() the old one"
                )
        if places.by_key:
            self.partition = places.deleted(self.key)[0]

    def plan(self, there: Row | None) -> Plan:
        """See `Write`."""
        first = tuple(dict.fromkeys((*self._update.used, *(self._places.attributes or ()))))
        guard = Guard(self._places.keys.hash, there, first)
        if there is None and not self._update.creates:
            return self._nothing(guard)
        after = changed(dict(self.key) if there is None else plain(there), self._update)
        placed, row = self._places.put(after, "UPDATE")
        _check_size(row)
        changes = (*self._places.left(there, placed), placed)
        condition = guarded(self.own, guard)
        arguments = {"Key": self.key_row, "UpdateExpression": self._text, **condition.arguments()}
        return Plan(changes, ("Update", arguments), guard)


def _check_size(row: Row) -> None:
    size = item_size(row)
    if size > _MAX_ITEM:
        raise InvalidInputError(
            f"the item takes {size} bytes; DynamoDB keeps {_MAX_ITEM}: keep what is large elsewhere, and its address "
            "here"
        )
