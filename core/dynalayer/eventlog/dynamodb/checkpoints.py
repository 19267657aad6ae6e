"""Checkpoints as rows, each moved by a put or a delete on condition of its revision.

Their keys are spread by scope, `__{table}__/{scope}`: no partition's has a slash before its first `#`.
"""

from __future__ import annotations

import secrets
from typing import Any

from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove, check_move
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.failures import TakenError
from dynalayer.eventlog.dynamodb.rows import Row
from dynalayer.units import item_size, write_units

__all__ = ["Checkpoints", "checkpoint_action"]


def checkpoint_action(name: str, table: str, move: CheckpointMove, nonce: str) -> dict[str, Any]:
    """A move as an action of a transaction.

    Args:
        name: The DynamoDB table's name.
        table: The layer's table.
        move: The move.
        nonce: The move's own.
    """
    condition: dict[str, Any] = {"TableName": name, "ConditionExpression": "attribute_not_exists(pk)"}
    if move.expected:
        condition["ConditionExpression"] = "revision = :expected"
        condition["ExpressionAttributeValues"] = {":expected": {"N": str(move.expected)}}
    if move.value is None:
        return {"Delete": {**condition, "Key": _key(table, move.scope, move.name)}}
    return {"Put": {**condition, "Item": _row(table, move, move.value, nonce)}}


def _key(table: str, scope: str, name: str) -> dict[str, Any]:
    return rows.key_of(f"__{table}__/{scope}", f"={name}")  # the sign, since a key is never empty


def _row(table: str, move: CheckpointMove, value: bytes, nonce: str) -> dict[str, Any]:
    """A checkpoint as a move leaves it, with the nonce of the move."""
    ttl = {} if move.ttl is None else {"ttl": {"N": str(move.ttl)}}
    kept = {"value": {"B": value}} if value else {}
    row = {"revision": {"N": str(move.expected + 1)}, "move": {"S": nonce}}
    return {**_key(table, move.scope, move.name), **kept, **row, **ttl}


def _checkpoint_of(scope: str, row: Row) -> Checkpoint:
    return Checkpoint(scope, rows.text(row, "sk")[1:], rows.bytes_in(row, "value"), rows.number(row, "revision"))


class Checkpoints:
    """Reads and moves checkpoints.

    Args:
        connection: The table.
        table: The layer's table.
    """

    def __init__(self, connection: Connection, table: str) -> None:
        self._connection = connection
        self._table = table

    def get(self, scope: str, name: str) -> Checkpoint | None:
        """A checkpoint, read strongly; None where there is none.

        Raises:
            DamagedRowError: Its row says none.
        """
        row = self._connection.get(_key(self._table, scope, name))
        return None if row is None else _checkpoint_of(scope, row)

    def listed(self, scope: str, from_name: str) -> tuple[Checkpoint, ...]:
        """A scope's, from a name on, in order.

        Raises:
            DamagedRowError: A row says none.
        """
        key = _key(self._table, scope, from_name)
        found = self._connection.query(
            KeyConditionExpression="pk = :pk AND sk >= :first",
            ExpressionAttributeValues={":pk": key["pk"], ":first": key["sk"]},
        )
        return tuple(_checkpoint_of(scope, row) for row in found)

    def move(self, move: CheckpointMove) -> bool:
        """Move a checkpoint if it has the revision expected; tell whether it did.

        Raises:
            EventLogError: It failed, and whether it moved is open.
        """
        check_move(move)
        nonce = secrets.token_hex(8)
        ((kind, action),) = checkpoint_action(self._connection.name, self._table, move, nonce).items()
        units = write_units(item_size(action.get("Item", action.get("Key"))))
        try:
            self._connection.call(f"{kind.lower()}_item", failed_units=units, **action)
        except TakenError:
            # Perhaps by an earlier try of this one, whose answer was lost.
            row = self._connection.get(_key(self._table, move.scope, move.name))
            return row is not None and row.get("move") == {"S": nonce}
        return True
