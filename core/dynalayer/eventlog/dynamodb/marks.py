"""Marking folded records: their cursor and ttl, each on condition of its nonce and of being pending still."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynalayer.clock import INITIAL
from dynalayer.eventlog.base import Mark, Unmarked
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.failures import TakenError

__all__ = ["Marks"]

_NAMES = {"#cursor": "cursor", "#ttl": "ttl"}  # reserved words of the service's expressions


class Marks:
    """Marks records.

    Args:
        connection: The table.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def unmarked(self, keys: Sequence[dict[str, Any]]) -> tuple[Unmarked, ...]:
        """Of the records under keys those that are to be marked, in order.

        Raises:
            DamagedRowError: A row is no record's.
        """
        found = self._connection.batch_get(
            keys, ProjectionExpression="sk, nonce, #cursor, keep", ExpressionAttributeNames={"#cursor": "cursor"}
        )
        return tuple(sorted(filter(None, map(rows.unmarked_of, found)), key=lambda each: each.version))

    def mark(self, pk: str, mark: Mark) -> None:
        """Mark one record; its parts before it, so that one half marked is found again.

        Raises:
            DamagedRowError: It is no record.
        """
        key = rows.key_of(pk, rows.slot(mark.version))
        # A record with parts is a small row of its own: that the condition fails there costs little.
        if self._marked(key, mark, " AND attribute_not_exists(parts)"):
            return
        row = self._connection.get(
            key, ProjectionExpression="sk, nonce, #cursor, parts", ExpressionAttributeNames={"#cursor": "cursor"}
        )
        parts = rows.parts_to_mark(row, mark.nonce)
        for sk in parts:
            self._expire(rows.key_of(pk, sk), mark.ttl)
        if parts:
            self._marked(key, mark, "")

    def _expire(self, key: dict[str, Any], ttl: int) -> None:
        try:
            self._connection.call(
                "update_item",
                Key=key,
                UpdateExpression="SET #ttl = :ttl",
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":ttl": {"N": str(ttl)}},
            )
        except TakenError:
            return  # expired, by an earlier try of this marking

    def _marked(self, key: dict[str, Any], mark: Mark, condition: str) -> bool:
        """Mark a record's row if it is pending still; tell whether it was."""
        try:
            self._connection.call(
                "update_item",
                Key=key,
                UpdateExpression="SET #cursor = :cursor, #ttl = :ttl",
                ConditionExpression=f"nonce = :nonce AND begins_with(#cursor, :pending){condition}",
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues={
                    ":cursor": {"S": mark.cursor},
                    ":ttl": {"N": str(mark.ttl)},
                    ":nonce": {"S": mark.nonce},
                    ":pending": {"S": INITIAL},
                },
            )
        except TakenError:
            return False
        return True
