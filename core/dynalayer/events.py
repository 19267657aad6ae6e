"""Events: what a caller gives, checked once; what a record keeps of them, packed; what a caller gets back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

import orjson

from dynalayer.errors import ConfigurationError, InvalidEventError, InvalidInputError, InvalidValueError
from dynalayer.packing import frame, unframe
from dynalayer.quoting import quoted
from dynalayer.values import UNDECODABLE, Item, copy_item, identifier_text, item_decoder, item_to_json

__all__ = [
    "MAX_PARTITION_BYTES",
    "Change",
    "ChangeType",
    "Event",
    "EventReader",
    "ItemFunction",
    "Placed",
    "check_partition",
    "check_table",
    "check_versions",
    "pack",
    "unpack",
]

ChangeType = Literal["PUT", "UPDATE", "DELETE"]
_TYPES: tuple[ChangeType, ...] = get_args(ChangeType)

ItemFunction = str | Callable[[Item], object]
"""An attribute's name, or a function of the item."""

MAX_PARTITION_BYTES = 512
"""How long a partition's name may be, in bytes of UTF-8."""

_TABLE = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_KEYS = ("type", "item", "partition", "id", "sort", "table")


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as `set()` returns and `history()` lists it.

    Attributes:
        type: `"PUT"`, `"UPDATE"` or `"DELETE"`.
        item: The full item after the change; for DELETE what the caller gave to identify it.
        id: The item's unique identifier within its partition.
        partition: The partition.
        version: The version of the record that holds the event; events of one `set()` share it.
        cursor: `"__INITIAL__"` while pending, then the ISO 8601 UTC time of the sync that folded it.
        at: When it was appended; never earlier than the record before it.
    """

    type: ChangeType
    item: Item
    id: str
    partition: str
    version: int
    cursor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """An event as a record keeps it: where it stands is the record's own matter.

    Attributes:
        type: `"PUT"`, `"UPDATE"` or `"DELETE"`.
        id: The item's identifier.
        item: The item.
        encoded: The item as JSON says it, where that is at hand already.
    """

    type: ChangeType
    id: str
    item: Item
    encoded: dict[str, Any] | None = field(default=None, compare=False, repr=False)


def check_table(table: object) -> str:
    """The layer's table name, or a `ConfigurationError`."""
    if not isinstance(table, str) or not _TABLE.fullmatch(table):
        raise ConfigurationError(f"table={quoted(table, 300)} is no table name: 1 to 255 of A-Z a-z 0-9 _ . -")
    return table


def check_partition(partition: object) -> str:
    """A partition's name.

    Raises:
        InvalidInputError: It is no text, no Unicode text, or too long.
    """
    if not isinstance(partition, str):
        raise InvalidInputError(f"a partition is text, not {type(partition).__name__} ({quoted(partition)})")
    try:
        size = len(partition.encode())
    except UnicodeEncodeError:
        raise InvalidInputError(
            f"partition {quoted(partition)} holds a lone surrogate, which is no Unicode text"
        ) from None
    if size > MAX_PARTITION_BYTES:
        raise InvalidInputError(
            f"partition {partition[:40]!r}… is {size} bytes of UTF-8; at most {MAX_PARTITION_BYTES} are possible"
        )
    return str.__str__(partition)  # of an enumeration's member the text, not its name


@dataclass(frozen=True, slots=True)
class Placed:
    """An item of a source, and where it belongs.

    Attributes:
        partition: Its partition.
        id: Its identifier.
        encoded: The item as JSON says it, exactly.
    """

    partition: str
    id: str
    encoded: dict[str, Any]


def check_versions(**versions: object) -> None:
    """Refuse what is no version, each by its name.

    Raises:
        InvalidInputError: One is no whole number.
    """
    for name, version in versions.items():
        if isinstance(version, bool) or not isinstance(version, int):
            raise InvalidInputError(f"{name}={quoted(version)} is no version")


class EventReader:
    """Turns what callers give as events into changes of partitions, and refuses what cannot be one.

    Args:
        table: The layer's table.
        get_id: Attribute or function that tells an item's identifier; None: each event says it.
        get_partition: The same for its partition; None: each event says it, or it is `""`.
    """

    def __init__(self, table: str, get_id: ItemFunction | None, get_partition: ItemFunction | None) -> None:
        self._table = table
        self._get_id = get_id
        self._get_partition = get_partition

    def read(self, event: object, index: int) -> tuple[str, Change]:
        """One event's partition and change; the change shares nothing mutable with what was given.

        Raises:
            InvalidEventError: What is wrong, and with which event of the batch.
        """
        try:
            return self.change(event)
        except InvalidValueError as error:
            raise InvalidValueError(f"event {index}: {error.message}", path=error.path, index=index) from error
        except InvalidInputError as error:
            raise InvalidEventError(f"event {index}: {error.message}", index=index) from error

    def change(self, event: object) -> tuple[str, Change]:
        """As `read`, of an event that is none of a batch.

        Raises:
            InvalidInputError: What is wrong.
        """
        if not isinstance(event, Mapping):
            raise InvalidInputError(
                f"an event is a mapping with 'type' and 'item', not {type(event).__name__} ({quoted(event)})"
            )
        for key in event:
            if key not in _KEYS:
                raise InvalidInputError(f"unknown key {quoted(key)}; an event has: {', '.join(_KEYS)}")
        given = event.get("type")
        change_type = next((each for each in _TYPES if each == given), None)
        if change_type is None:
            raise InvalidInputError(f"type {quoted(given)} is none of {', '.join(_TYPES)}")
        if "item" not in event:
            raise InvalidInputError("it has no 'item'")
        if event.get("table", self._table) != self._table:
            raise InvalidInputError(f"it is for table {quoted(event['table'])}; this layer's is {self._table!r}")
        item = event["item"]
        encoded = item_to_json(item)
        item = copy_item(item)
        seen = self._seen(item)
        return self._partition_of(seen, event), Change(change_type, self._id_of(seen, event), item, encoded)

    def items_of(self, partition: str, items: Iterable[object]) -> dict[str, Item]:
        """All items of a partition by identifier, as somebody else kept them; they share nothing mutable with those.

        Raises:
            InvalidEventError: What is wrong, and with which item, counted from 0.
        """
        found: dict[str, Item] = {}
        for index, item in enumerate(items):
            try:
                identifier, copied = self._item_of(partition, item)
            except InvalidValueError as error:
                raise InvalidValueError(f"item {index}: {error.message}", path=error.path, index=index) from error
            except InvalidInputError as error:
                raise InvalidEventError(f"item {index}: {error.message}", index=index) from error
            if identifier in found:
                same = list(found).index(identifier)
                raise InvalidEventError(
                    f"item {index}: its identifier, {identifier!r:.100}, is that of item {same} too", index=index
                )
            found[identifier] = copied
        return found

    @property
    def tells_ids(self) -> bool:
        """Whether an item by itself tells its identifier."""
        return self._get_id is not None

    @property
    def partition_attribute(self) -> str | None:
        """The attribute that is an item's partition; None where a function tells it, or nothing."""
        return self._get_partition if isinstance(self._get_partition, str) else None

    @property
    def tells_partitions(self) -> bool:
        """Whether an item by itself tells its partition."""
        return self._get_partition is not None

    @property
    def identifying(self) -> frozenset[str] | None:
        """The attributes that tell one item of all partitions from another; None where a function has a part in it."""
        used = [each for each in (self._get_id, self._get_partition) if each is not None]
        names = [each for each in used if isinstance(each, str)]
        return frozenset(names) if len(names) == len(used) else None

    def place(self, item: Any, partition: str = "") -> Placed:
        """Where an item of a source belongs; what is returned may share plain parts with it.

        Args:
            item: The item.
            partition: Its partition where the layer has nothing that tells it.

        Raises:
            InvalidInputError: It cannot be an item, or what tells its partition or identifier refuses it.
        """
        encoded = item_to_json(item)
        seen = copy_item(item)
        identifier = self._id_of(seen, {})
        belongs = self._partition_of(seen, {"partition": partition} if self._get_partition is None else {})
        return Placed(belongs, identifier, encoded)

    def _item_of(self, partition: str, item: Any) -> tuple[str, Item]:
        item_to_json(item)
        copied = copy_item(item)
        seen = self._seen(copied)
        identifier = self._id_of(seen, {})
        if self._get_partition is not None:
            belongs = self._partition_of(seen, {})
            if belongs != partition:
                raise InvalidInputError(f"it belongs to partition {belongs!r:.100}, not to {quoted(partition)}")
        return identifier, copied

    def _seen(self, item: Item) -> Item:
        """What functions are given: a copy of their own, since they may do as they like with it."""
        return copy_item(item) if callable(self._get_id) or callable(self._get_partition) else item

    def _partition_of(self, item: Item, event: Mapping[str, Any]) -> str:
        given = event.get("partition")
        if given is not None:
            given = check_partition(given)
        if self._get_partition is None:
            return given if given is not None else ""
        partition = check_partition(_ask(self._get_partition, item, "partition"))
        if given is not None and given != partition:
            raise InvalidInputError(f"it says partition {quoted(given)}, its item belongs to {quoted(partition)}")
        return partition

    def _id_of(self, item: Item, event: Mapping[str, Any]) -> str:
        given = [_check_id(event[key], f"{key!r}") for key in ("id", "sort") if event.get(key) is not None]
        if self._get_id is None:
            if not given:
                raise InvalidInputError("it has no 'id', and the layer was given no get_item_unique_identifier to ask")
            identifier = given[0]
        else:
            identifier = _check_id(_ask(self._get_id, item, "identifier"), "the item's identifier")
        for other in given:
            if other != identifier:
                raise InvalidInputError(f"it says id {quoted(other)}, its item is {identifier!r:.100}")
        return identifier


def _ask(function: ItemFunction, item: Item, what: str) -> object:
    if isinstance(function, str):
        if function not in item:
            raise InvalidInputError(f"the item has no attribute {function!r}, which is its {what}")
        return item[function]
    try:
        return function(item)
    except Exception as error:
        raise InvalidInputError(f"the function for an item's {what} raised {type(error).__name__}: {error}") from error


def _check_id(value: object, what: str) -> str:
    text = identifier_text(value)
    if text is None:
        raise InvalidInputError(
            f"{what} is {type(value).__name__} ({quoted(value)}); an identifier is text or a whole number"
        )
    if not text:
        raise InvalidInputError(f"{what} is empty; an identifier is never empty")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidInputError(f"{what} holds a lone surrogate, which is no Unicode text") from None
    return text


# A packed record is a framed JSON array of [type, id, item].


def pack(changes: Sequence[Change]) -> bytes:
    """Changes as the bytes of a record; compressed when it pays."""
    return frame(orjson.dumps([(change.type, change.id, _encoded(change)) for change in changes]))


def _encoded(change: Change) -> dict[str, Any]:
    return item_to_json(change.item) if change.encoded is None else change.encoded


def unpack(packed: bytes, limit: int) -> list[Change]:
    """What `pack` packed.

    Args:
        packed: The bytes of a record.
        limit: Bytes of JSON above which they are refused, so that rotten bytes cannot fill the memory.

    Raises:
        ValueError: They are no packed record.
    """
    body = unframe(packed, limit)
    try:
        changes = []
        decoded = item_decoder(body)
        for change_type, identifier, item in orjson.loads(body):
            if change_type not in _TYPES or type(identifier) is not str:
                raise ValueError(f"no change: {change_type!r:.50} {identifier!r:.50}")
            changes.append(Change(change_type, identifier, decoded(item)))
    except UNDECODABLE as error:
        raise ValueError(f"no packed record: {error}") from error
    return changes
