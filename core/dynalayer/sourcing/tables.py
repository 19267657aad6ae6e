"""A layer's source table in DynamoDB: its keys, strong reads of it, and its items as boto3 writes them.

For all that works on a boto3 `Table` which the user gives. `SourceTable(table)` asks nothing of anyone; `name`,
`location` and `url` are known at once, `keys` when the table was described, once. `check(layer's table, attributes)`
refuses a table that is not the layer's, or whose items the layer could not tell apart. All reads are strong, tried
again within bounds, and their errors are `SourceError`s that name the table. `typed` and `plain` translate between
items and what the low-level client takes and gives.

Needs boto3, which whoever has a `Table` has: imported only when one is given (`need_source_tables`
in `sources`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact
from functools import cached_property
from typing import Any

import boto3
from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from botocore.exceptions import BotoCoreError, NoRegionError

from dynalayer.costs import Usage
from dynalayer.counting import UsageCounter
from dynalayer.errors import ConfigurationError, InvalidInputError, SourceError
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.failures import FailedCallError, TakenError, reason_of
from dynalayer.quoting import quoted
from dynalayer.urls import URL
from dynalayer.values import MAX_DIGITS, Item, copy_item

__all__ = ["Keys", "SourceTable", "TablePage", "open_table", "plain", "typed"]

_OPTIONS = frozenset({"region", "endpoint_url"})
_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_KEY_TYPES: Mapping[str, tuple[type, ...]] = {"S": (str,), "N": (int, Decimal), "B": (bytes, Binary)}
_EXACT = Context(prec=MAX_DIGITS, traps=[Inexact])


class _Deserializer(TypeDeserializer):
    """Takes a number that the service writes with all its zeros, as 1E+100, too; boto3's own refuses that."""

    def _deserialize_n(self, value: str) -> Decimal:
        return _EXACT.create_decimal(value)


_serializer, _deserializer = TypeSerializer(), _Deserializer()


def typed(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as the low-level client takes it: `{"pk": {"S": "a"}}`.

    Raises:
        InvalidInputError: A value is none that DynamoDB keeps, as a float; names the attribute.
    """
    found = {}
    for name, value in item.items():
        try:
            found[name] = _serializer.serialize(value)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise InvalidInputError(f"attribute {quoted(name)} cannot be kept in DynamoDB: {error}") from error
    return found


def plain(row: Mapping[str, Any]) -> Item:
    """What the low-level client gives as an item, bytes as bytes; the other way round.

    Raises:
        InvalidInputError: It is none.
    """
    try:
        return copy_item({name: _deserializer.deserialize(value) for name, value in row.items()})
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{quoted(row)} is no item as DynamoDB gives one: {error}") from error


def open_table(url: str, *, region: str | None = None, endpoint_url: str | None = None) -> Any:
    """The boto3 `Table` that a URL names: `dynamodb://TABLE?region=…&endpoint_url=…`.

    Args:
        url: The URL.
        region: Where it says none.
        endpoint_url: Likewise.

    Raises:
        ConfigurationError: The URL is wrong, or no client can be made.
    """
    parsed = URL.parse(url, what="source")
    if parsed.scheme != "dynamodb":
        raise ConfigurationError(f"source: a table is dynamodb://TABLE?region=REGION, not {parsed.scheme}:")
    parsed.refuse_options(_OPTIONS)
    name = parsed.location.removeprefix("//")
    if not parsed.location.startswith("//") or not _NAME.fullmatch(name):
        raise ConfigurationError(
            "source: write dynamodb://TABLE?region=REGION, with a table's name of 3 characters at least"
        )
    options = {"region": region, "endpoint_url": endpoint_url, **parsed.options}
    session = boto3.session.Session(region_name=options["region"])
    try:
        return session.resource("dynamodb", endpoint_url=options["endpoint_url"]).Table(name)
    except NoRegionError as error:
        raise ConfigurationError(
            f"source: the region of dynamodb://{name} is not known; add ?region=… to the URL, or set AWS_REGION"
        ) from error
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"source: no client for dynamodb://{name} can be made: {reason_of(error)}") from None


@dataclass(frozen=True, slots=True)
class Keys:
    """A table's key.

    Attributes:
        hash: The attribute that is its partition key.
        range: The one that is its sort key; None where it has none.
        types: Of each of them: `"S"`, `"N"` or `"B"`.
    """

    hash: str
    range: str | None
    types: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes, in order."""
        return (self.hash,) if self.range is None else (self.hash, self.range)

    def of(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """An item's key; None where it lacks a part of it, or has another type there than the table takes."""
        key = {name: item.get(name) for name in self.names}
        return key if all(_is_key(value, self.types[name]) for name, value in key.items()) else None


def _is_key(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, _KEY_TYPES[kind]) and (kind == "N" or bool(value))


@dataclass(frozen=True, slots=True)
class TablePage:
    """What one request gave.

    Attributes:
        items: The items.
        position: Where to go on; None at the end.
    """

    items: tuple[Item, ...]
    position: dict[str, Any] | None


class SourceTable:
    """A DynamoDB table that a layer is made from. May be used by many threads: requests go through its client.

    Args:
        table: A boto3 `Table`.
        counter: Where its requests are counted.

    Raises:
        ConfigurationError: It is no table of this account by its name, or its endpoint holds credentials.
    """

    def __init__(self, table: Any, counter: UsageCounter | None = None) -> None:
        name = table.name
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"the source table is given as {name!r:.100}; give its plain name, in a resource of its region"
            )
        # The resource's client, which is safe for many threads as the resource is not; it takes and gives plain values.
        self._connection = Connection(name, client=table.meta.client)
        if counter is not None:
            self._connection.counter = counter
        self.name: str = name
        self.location = self._connection.location
        self.url = self._connection.url

    @property
    def usage(self) -> Usage:
        """What was requested of it in all."""
        return sum(self._connection.counter.sums().values(), Usage())

    def __repr__(self) -> str:
        return f"SourceTable({self.location!r})"

    @cached_property
    def described(self) -> dict[str, Any]:
        """What the service says of it, asked once.

        Raises:
            SourceError: It is not there, or cannot be described.
        """
        return dict(self._call("describe_table")["Table"])

    @cached_property
    def keys(self) -> Keys:
        """Its key."""
        kinds = {each["KeyType"]: each["AttributeName"] for each in self.described["KeySchema"]}
        types = {each["AttributeName"]: each["AttributeType"] for each in self.described["AttributeDefinitions"]}
        return Keys(kinds["HASH"], kinds.get("RANGE"), {name: types[name] for name in kinds.values()})

    def check(self, table: str, identifying: Collection[str] | None) -> None:
        """Refuse a table that is not the layer's own, or whose items the layer could not tell apart.

        Args:
            table: The layer's table.
            identifying: The attributes by which the layer tells items apart; None where functions do.

        Raises:
            ConfigurationError: It is another table, or its key has attributes that identify nothing in the layer.
            SourceError: It is not there, or cannot be described.
        """
        if self.name != table:
            raise ConfigurationError(
                f"the source is table {self.name!r}, and the layer is of table {table!r}: items of another table would "
                "take the place of its own. Open a layer of that table; or, if its items are meant, give an iterable "
                "of them, or a function that returns one"
            )
        if identifying is None:
            return
        beside = [name for name in self.keys.names if name not in identifying]
        if beside:
            listed = " and ".join(map(repr, sorted(identifying))) or "nothing"
            raise ConfigurationError(
                f"the key of {self.location} is {' and '.join(map(repr, self.keys.names))}, and the layer tells items "
                f"apart by {listed}: two items that differ in {' and '.join(map(repr, beside))} alone would be one. "
                "Let get_item_partition and get_item_unique_identifier be the key's attributes, or functions of them"
            )

    def get(self, key: Mapping[str, Any]) -> Item | None:
        """The item under a key, read strongly; None where there is none."""
        found = self._call("get_item", Key=dict(key), ConsistentRead=True).get("Item")
        return None if found is None else copy_item(found)

    def get_many(self, keys: Sequence[Mapping[str, Any]]) -> list[Item | None]:
        """The items under keys, each read strongly, in the order of the keys; None where there is none."""
        different = list({self._told(key): dict(key) for key in keys}.values())
        with self._reported():
            found = {self._told(item): copy_item(item) for item in self._connection.batch_get(different)}
        return [found.get(self._told(key)) for key in keys]

    def _told(self, item: Mapping[str, Any]) -> tuple[Any, ...]:
        """An item's key as what can be compared: numbers by their value, bytes as bytes."""
        return tuple(copy_item({name: item[name] for name in self.keys.names}).values())

    def query(self, value: Any, position: Mapping[str, Any] | None = None) -> Iterator[TablePage]:
        """The items under a value of the partition key, read strongly, page after page.

        Args:
            value: The value.
            position: Where to go on; None: from the beginning.
        """
        return self._pages(
            "query",
            position,
            KeyConditionExpression="#key = :value",
            ExpressionAttributeNames={"#key": self.keys.hash},
            ExpressionAttributeValues={":value": value},
        )

    def scan(self, segment: int, of: int, position: Mapping[str, Any] | None = None) -> Iterator[TablePage]:
        """The items of one of the segments of a parallel scan, read strongly, page after page.

        Args:
            segment: Which, from 0.
            of: How many there are.
            position: As for `query`.
        """
        return self._pages("scan", position, Segment=segment, TotalSegments=of)

    def _pages(self, action: str, position: Mapping[str, Any] | None, **arguments: Any) -> Iterator[TablePage]:
        while True:
            begun = {} if position is None else {"ExclusiveStartKey": dict(position)}
            answer = self._call(action, ConsistentRead=True, **arguments, **begun)
            position = answer.get("LastEvaluatedKey")
            yield TablePage(tuple(answer["Items"]), None if position is None else copy_item(dict(position)))
            if position is None:
                return

    def _call(self, action: str, **arguments: Any) -> dict[str, Any]:
        with self._reported():
            return self._connection.call(action, **arguments)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except FailedCallError as error:
            message = error.message
            if error.code == "ResourceNotFoundException":
                message = f"there is no table {self.name!r} where the source was looked for ({self.url})"
            raise SourceError(f"the source: {message}", retryable=error.retryable) from error
        except ArithmeticError as error:
            raise SourceError(
                f"the source: {self.location} has a number that boto3 does not read ({type(error).__name__}): one that "
                "takes more than 38 digits to write, as 1E+100"
            ) from error
        except TakenError as error:  # nothing here has a condition
            raise SourceError(f"the source: {self.location} refused a request: {error}") from error
