"""The source table as the layer writes it: each write and its event in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dynalayer.appending import Appender
from dynalayer.capturing.batches import BatchWriter
from dynalayer.capturing.conditions import condition_of
from dynalayer.capturing.expressions import parse_update
from dynalayer.capturing.places import Places
from dynalayer.capturing.transactions import Transactions
from dynalayer.capturing.writes import Deleting, Putting, Updating, Write
from dynalayer.errors import ConfigurationError, InvalidInputError
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.dynamodb.together import MAX_ACTIONS
from dynalayer.events import Event, EventReader
from dynalayer.quoting import quoted
from dynalayer.sourcing.sources import is_table
from dynalayer.sourcing.tables import SourceTable
from dynalayer.values import Item

if TYPE_CHECKING:
    from boto3.dynamodb.conditions import ConditionBase
    from mypy_boto3_dynamodb.service_resource import Table

__all__ = ["CapturedTable", "Run"]

Run = Callable[[str, Callable[[], list[Event]]], list[Event]]
"""Makes writes as an operation of the layer: its name, and what writes them."""

_WAYS_OUT = {
    "ReturnValues": "the events returned have the whole item after the write",
    "ReturnConsumedCapacity": "layer.usage() counts what is requested",
    "ReturnItemCollectionMetrics": "a transaction of other tables too tells none for one",
    "ReturnValuesOnConditionCheckFailure": "ConditionFailedError.reasons have the item that was there in any case",
    "Expected": "say it as ConditionExpression",
    "ConditionalOperator": "say it as ConditionExpression",
    "AttributeUpdates": "say it as UpdateExpression",
}
_FEWEST, _MOST = 3, MAX_ACTIONS


class CapturedTable:
    """A layer's source table, written with its events: neither can exist without the other.

    As boto3's `Table`, with the same names and types, for writes; what only reads is for `source` itself. Each write is
    one transaction over the table and the event log: when it returns both are durable and seen by every read; when it
    raises neither is there, or the error says that it is unknown. `Layer.table` makes it.

    Writes return their events, as `set()` does: one, or none where nothing changed, or two where an item moves to
    another partition or identifier: a DELETE of the one it was, first.

    Attributes:
        source: boto3's own `Table`.
    """

    def __init__(
        self, table: Table, name: str, log: EventLog, reader: EventReader, appender: Appender, run: Run
    ) -> None:
        _check_table(table)
        self.source = table
        besides = _besides(log)
        source = SourceTable(table)
        if not reader.tells_ids:
            raise ConfigurationError(
                "the layer was given no get_item_unique_identifier: nothing tells the identifier of an item that is "
                "written to the table; say which attribute does, where the layer is made or in dynalayer.toml"
            )
        source.check(name, reader.identifying)
        _check_together(besides, source)
        self._places = Places(source, reader)
        self._transactions = Transactions(besides, source, appender)
        self._run = run

    def __repr__(self) -> str:
        return f"CapturedTable({self.source.name!r})"

    def put_item(
        self,
        *,
        Item: Item,  # noqa: N803 -- boto3's name, as those below
        ConditionExpression: str | ConditionBase | None = None,  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any] | None = None,  # noqa: N803
        **others: object,
    ) -> list[Event]:
        """Put an item, and append a PUT event of it.

        Args:
            Item: The item.
            ConditionExpression: What must hold of the item that is there: a text, or a condition of boto3's.
            ExpressionAttributeNames: What its `#name`s stand for.
            ExpressionAttributeValues: What its `:value`s stand for.
            others: boto3's other arguments, which are refused.

        Returns:
            Its events.

        Raises:
            InvalidInputError: It cannot be taken; nothing was written.
            ConditionFailedError: The condition does not hold; nothing was written.
            TransactionError: DynamoDB cancelled the transaction; nothing was written.
            ConflictError: Others were before again and again; nothing was written.
            AppendError: It failed; says whether it is written.
        """
        _refuse(others)
        own, _ = condition_of(ConditionExpression, ExpressionAttributeNames, ExpressionAttributeValues)
        return self._make("table.put_item", Putting(self._places, Item, own))

    def delete_item(
        self,
        *,
        Key: Item,  # noqa: N803
        ConditionExpression: str | ConditionBase | None = None,  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any] | None = None,  # noqa: N803
        **others: object,
    ) -> list[Event]:
        """Delete an item, and append a DELETE event of it. One that is not there is no error, as with boto3.

        Args:
            Key: The item's key.
            ConditionExpression: As for `put_item`, and so are the others.
            ExpressionAttributeNames: Likewise.
            ExpressionAttributeValues: Likewise.
            others: Likewise.

        Returns:
            Its events.

        Raises:
            LayerError: As `put_item`.
        """
        _refuse(others)
        own, _ = condition_of(ConditionExpression, ExpressionAttributeNames, ExpressionAttributeValues)
        return self._make("table.delete_item", Deleting(self._places, Key, own))

    def update_item(
        self,
        *,
        Key: Item,  # noqa: N803
        UpdateExpression: str,  # noqa: N803
        ConditionExpression: str | ConditionBase | None = None,  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any] | None = None,  # noqa: N803
        **others: object,
    ) -> list[Event]:
        """Update an item, and append an UPDATE event of the whole item after it. One that is not there is made.

        The item is read strongly, the change computed here, and both written on condition that the item still is as it
        was read, within bounds as often as others change it meanwhile. Computed is `SET` of a path to another, to a
        value, to `+` or `-` of two, to `if_not_exists()` and `list_append()`; `REMOVE`; `ADD` of numbers and sets, and
        `DELETE` of elements of sets, of whole attributes.

        Args:
            Key: The item's key.
            UpdateExpression: What to do.
            ConditionExpression: As for `put_item`, and so are the others.
            ExpressionAttributeNames: Likewise.
            ExpressionAttributeValues: Likewise.
            others: Likewise.

        Returns:
            Its events; the last has the item as it is then.

        Raises:
            InvalidInputError: The expression does what is not computed here, changes the key, or cannot be done to the
                item; nothing was written.
            LayerError: As `put_item`.
        """
        _refuse(others)
        if not isinstance(UpdateExpression, str):
            raise InvalidInputError(f"UpdateExpression is a text, not {quoted(UpdateExpression)}")
        own, values = condition_of(
            ConditionExpression, ExpressionAttributeNames, ExpressionAttributeValues, update=UpdateExpression
        )
        update = parse_update(UpdateExpression, own.names, values)
        return self._make("table.update_item", Updating(self._places, Key, UpdateExpression, update, own))

    def batch_writer(
        self, overwrite_by_pkeys: Sequence[str] | None = None, *, actions: int = MAX_ACTIONS
    ) -> BatchWriter:
        """A context manager with `put_item(Item=…)` and `delete_item(Key=…)`, which go in transactions of many.

        Unlike boto3's it makes each transaction whole or not at all. They are made in the order given, and two writes
        of one item never in one: the second begins another. At the end of the `with` all is written; also where an
        exception leaves it, as with boto3's own, unless it was this writer's.

        Args:
            overwrite_by_pkeys: The table's key: of several writes of one item that wait, only the last is made.
            actions: How many writes and records of the log one transaction may have, 3 to 100; old builds of DynamoDB
                Local take 10.

        Raises:
            InvalidInputError: An argument is wrong.
        """
        names = self._places.keys.names
        if overwrite_by_pkeys is not None and set(overwrite_by_pkeys) != set(names):
            raise InvalidInputError(f"overwrite_by_pkeys={quoted(overwrite_by_pkeys)} is not the key: {list(names)}")
        if actions not in range(_FEWEST, _MOST + 1):
            raise InvalidInputError(f"actions={quoted(actions)} is no whole number from {_FEWEST} to {_MOST}")

        def make(writes: Sequence[Write]) -> list[Event]:
            return self._run("table.batch_writer", lambda: self._transactions.make(writes, actions))

        return BatchWriter(self._places, make, overwrite_by_pkeys, actions)

    def _make(self, operation: str, write: Write) -> list[Event]:
        return self._run(operation, lambda: self._transactions.make([write]))


def _refuse(others: Mapping[str, object]) -> None:
    for name, value in others.items():
        if value != "NONE":  # which is what is done anyway
            way_out = _WAYS_OUT.get(name, "only what belongs to the write itself can be given")
            raise InvalidInputError(f"{name!r:.100} is not taken by a write with its event: {way_out}")


def _check_table(table: Any) -> None:
    if not is_table(table):
        raise InvalidInputError(
            f"table() takes a boto3 Table, as boto3.resource('dynamodb').Table('users'), not {quoted(table)}"
        )


def _besides(log: Any) -> Any:
    """The log, where its transactions may span other tables."""
    if not callable(getattr(log, "append_beside", None)):
        raise ConfigurationError(
            "a write and its event go in one transaction of DynamoDB, and this layer's events are in "
            f"{log.location!r}: give it events='dynamodb://TABLE', or write to the table first and set() after it"
        )
    return log


def _check_together(log: Any, source: SourceTable) -> None:
    """Refuse a table that the log does not see: a transaction spans tables of one region and one account.

    Raises:
        ConfigurationError: It does not.
    """
    here, there = source.described, log.described_beside(source.name)
    same = ("TableArn", "TableId", "CreationDateTime")
    if there is None or any(here.get(name) != there.get(name) for name in same):
        raise ConfigurationError(
            f"the table given ({source.url}) is not where the event log is ({log.url}): one transaction spans tables "
            "of one region and account. Give a boto3 table of the log's, or put the events there"
        )
    if source.location == log.location:
        raise ConfigurationError(
            f"{source.location} holds the event log itself: an item could take the place of a record. Give the events "
            "a table of their own"
        )
