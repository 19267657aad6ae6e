"""A source table and its layer in a service that stands for DynamoDB, for tests of what is written to both."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import servers
from dynalayer import CapturedTable, DynamoDBEventLog, Item, Layer
from dynalayer.sourcing.tables import plain
from dynalayer_local import LocalAdapter

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.service_resource import Table

KEYS = {"pk": "S", "sk": "S"}


def resource(url: str) -> Any:
    return servers.session().resource("dynamodb", endpoint_url=url, region_name=servers.REGION)


@contextmanager
def source_table(client: DynamoDBClient, name: str, keys: Mapping[str, str]) -> Iterator[None]:
    """A source table by its keys, the partition key first; deleted at the end."""
    kinds: Any = ("HASH", "RANGE")
    attributes: Any = [{"AttributeName": key, "AttributeType": kind} for key, kind in keys.items()]
    schema: Any = [{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, kinds, strict=False)]
    client.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST", AttributeDefinitions=attributes, KeySchema=schema
    )
    try:
        yield
    finally:
        client.delete_table(TableName=name)


@dataclass
class World:
    """A source table, and layers of it.

    Attributes:
        url: The service.
        name: The source table's name.
        events: The event log's table.
        client: What logs are opened with.
        direct: A client that goes round it.
        table: boto3's own, which writes past the layer.
        layer: The layer.
        captured: The table as the layer writes it.
    """

    url: str
    name: str
    events: str
    client: DynamoDBClient
    direct: DynamoDBClient
    table: Table
    layer: Layer
    captured: CapturedTable
    _folder: Path
    _options: dict[str, Any]
    _open: ExitStack

    def another(self, **options: Any) -> Layer:
        """Another process's layer, whose requests go round the client."""
        log = DynamoDBEventLog(self.events, self.name, client=self.direct)
        given = {**self._options, "events": log, "storage": LocalAdapter(self._folder), **options}
        return self._open.enter_context(Layer(table=self.name, **given))

    def also(self) -> CapturedTable:
        """The table as another process writes it."""
        return self.another().table(self.table)

    def rows(self) -> list[Item]:
        """The source's items, in no order."""
        pages = self.direct.get_paginator("scan").paginate(TableName=self.name, ConsistentRead=True)
        return [plain(row) for page in pages for row in page["Items"]]

    def check(self) -> None:
        """The layer has the source's items, item by item, and no other; with and without what is remembered."""
        there = sorted(self.rows(), key=key_of)
        for layer in (self.layer, self.another()):
            assert sorted((item for each in layer.partitions() for item in layer.get(each)), key=key_of) == there


def key_of(item: Item) -> str:
    """What items are sorted by: whatever is part of a key here."""
    return repr([str(item.get(name)) for name in ("pk", "sk", "id")])


@contextmanager
def world_of(
    url: str,
    folder: Path,
    client: DynamoDBClient,
    direct: DynamoDBClient,
    *,
    keys: Mapping[str, str] = KEYS,
    partition: Any = "pk",
    identifier: Any = "sk",
    **options: Any,
) -> Iterator[World]:
    given = {"get_item_partition": partition, "get_item_unique_identifier": identifier, **options}
    name = f"users-{secrets.token_hex(8)}"
    with ExitStack() as stack:
        events = stack.enter_context(servers.fresh_table(direct))
        stack.enter_context(source_table(direct, name, keys))
        inner = stack.enter_context(ExitStack())
        log = DynamoDBEventLog(events, name, client=client)
        layer = inner.enter_context(Layer(table=name, events=log, storage=LocalAdapter(folder), **given))
        table = resource(url).Table(name)
        yield World(url, name, events, client, direct, table, layer, layer.table(table), folder, given, inner)
