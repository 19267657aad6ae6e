"""The row of a layer: its identity and layout, made with its first log."""

from __future__ import annotations

import secrets

from dynalayer.errors import EventLogError, LayoutError
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.rows import Row

__all__ = ["opened_layer"]


def opened_layer(connection: Connection, table: str, *, create: bool) -> Row:
    """The layer's row, made if there is none.

    Args:
        connection: The DynamoDB table.
        table: The layer's table.
        create: Whether it may be made.

    Raises:
        EventLogError: There is none, and none may be made; or it cannot be read.
        LayoutError: It has another layout.
        DamagedRowError: It does not say which.
    """
    key = rows.key_of(rows.layer_key(table), rows.META_KEY)
    meta = connection.get(key)
    if meta is None or "origin" not in meta:
        if not create:
            raise EventLogError(f"{connection.location} has no layer of table {table!r}; a first set() makes it")
        connection.call(
            "update_item",
            Key=key,
            UpdateExpression="SET origin = if_not_exists(origin, :origin), #format = if_not_exists(#format, :format)",
            ExpressionAttributeNames={"#format": "format"},
            ExpressionAttributeValues={":origin": {"S": secrets.token_hex(8)}, ":format": {"N": str(rows.FORMAT)}},
        )
        meta = connection.get(key) or {}
    told = rows.format_of(meta)
    if told != rows.FORMAT:
        raise LayoutError(
            f"the layer of table {table!r} in {connection.location} has layout {told}; this release knows "
            f"{rows.FORMAT}: use the release that wrote it, or a newer one"
        )
    return meta
