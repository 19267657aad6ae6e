"""Source tables for tests: keyed by partition and identifier, in whatever stands for DynamoDB."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any

import boto3

import servers

KEYS = (("pk", "S"), ("sk", "S"))


def resource(endpoint_url: str) -> Any:
    return boto3.session.Session(region_name=servers.REGION).resource("dynamodb", endpoint_url=endpoint_url)


@contextmanager
def source_table(
    endpoint_url: str, name: str | None = None, *, keys: Sequence[tuple[str, str]] = KEYS
) -> Iterator[Any]:
    """A boto3 `Table` under a name that nobody has; deleted at the end."""
    made = resource(endpoint_url).create_table(
        TableName=name or f"users-{secrets.token_hex(6)}",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind in keys],
        KeySchema=[
            {"AttributeName": key, "KeyType": kind} for (key, _), kind in zip(keys, ("HASH", "RANGE"), strict=False)
        ],
    )
    try:
        yield made
    finally:
        made.delete()
        made.meta.client.close()


def fill(table: Any, items: Iterable[Mapping[str, Any]], *, threads: int = 4) -> None:
    """Put items, 25 a request, some requests side by side."""
    client, each = table.meta.client, iter(items)

    def write(batch: Sequence[Mapping[str, Any]]) -> None:
        left: Any = {table.name: [{"PutRequest": {"Item": item}} for item in batch]}
        while left:
            left = client.batch_write_item(RequestItems=left)["UnprocessedItems"]

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(write, iter(lambda: list(islice(each, 25)), [])):
            pass
