"""From a URL to a table: `dynamodb://TABLE?region=…&endpoint_url=…`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dynalayer.errors import ConfigurationError
from dynalayer.eventlog.dynamodb.arguments import check_name, check_shards
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.log import DynamoDBEventLog
from dynalayer.eventlog.dynamodb.table import TableMade, make_table
from dynalayer.urls import URL

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["create_table", "open_log"]

_OPTIONS = frozenset({"region", "endpoint_url", "pending_shards"})


def open_log(url: URL, table: str, *, create: bool) -> DynamoDBEventLog:
    """The log of a layer in the table that a URL names.

    Raises:
        ConfigurationError: The URL is wrong.
        EventLogError: As `DynamoDBEventLog`.
    """
    return DynamoDBEventLog(
        _name(url),
        table,
        region=url.options.get("region"),
        endpoint_url=url.options.get("endpoint_url"),
        pending_shards=_shards(url),
        create=create,
    )


def check_url(url: URL) -> None:
    """Refuse a URL that names no table, or has a wrong option; nothing is requested.

    Raises:
        ConfigurationError: What is wrong with it.
    """
    _name(url)
    check_shards(_shards(url))


def create_table(url: str, *, client: DynamoDBClient | None = None) -> TableMade:
    """Make the table of an event log: keys, index, TTL, billed by request; and wait until it is active.

    A table that is there already is left as it is, but for TTL, which is switched on where it is off; so is one that an
    earlier try made whose answer was lost, and `created` is then False. Needs the permissions `dynamodb:CreateTable`,
    `DescribeTable`, `DescribeTimeToLive` and `UpdateTimeToLive`.

    Args:
        url: As a layer's `events`: `dynamodb://TABLE?region=…&endpoint_url=…`.
        client: A low-level boto3 client of one's own, in place of one that is made.

    Raises:
        ConfigurationError: The URL is wrong.
        LayoutError: A table of that name is there, and is something else.
        EventLogError: The service refused, or the table was not active after five minutes.
    """
    parsed = URL.parse(url, what="events")
    if parsed.scheme != "dynamodb":
        raise ConfigurationError(f"create_table makes dynamodb://TABLE, not {parsed.scheme}:; others make themselves")
    check_url(parsed)  # the table is the same for any number of shards; a URL that no log takes is wrong here too
    name = _name(parsed)
    connection = Connection(
        name, client=client, region=parsed.options.get("region"), endpoint_url=parsed.options.get("endpoint_url")
    )
    try:
        return make_table(connection)
    finally:
        connection.close()


def _name(url: URL) -> str:
    if any("#" in text for text in (url.location, *url.options.values())):
        raise ConfigurationError("events: # and what follows it mean nothing in the URL of a table; leave them out")
    url.refuse_options(_OPTIONS)
    return check_name(url.location.removeprefix("//") if url.location.startswith("//") else None)


def _shards(url: URL) -> int:
    shards = url.options.get("pending_shards", "1")
    if not re.fullmatch("[0-9]{1,9}", shards):
        raise ConfigurationError(f"events: pending_shards={shards!r:.50} is no whole number")
    return int(shards)
