"""Moving heads: a compare-and-set on the revision, with what belongs to it in the same write."""

from __future__ import annotations

import secrets
import time
from typing import Any

from dynalayer.eventlog.base import HeadMove
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import PATIENCE, Connection, backoff
from dynalayer.eventlog.dynamodb.failures import FailedCallError, TakenError
from dynalayer.units import item_size, write_units

__all__ = ["Moves"]

_TRIES = 12  # of a move that the service put off or did not answer


class Moves:
    """Moves heads. A move carries a nonce of its own, so that one whose answer was lost is known again.

    Args:
        connection: The table.
        table: The layer's table.
    """

    def __init__(self, connection: Connection, table: str) -> None:
        self._connection = connection
        self._table = table
        self._layer_pk = rows.layer_key(table)
        self._journaled: str | None = None

    def _pk(self, partition: str) -> str:
        return rows.partition_key(self._table, partition)

    def make(self, partition: str, move: HeadMove) -> bool:
        """Move a head if it has the revision expected; tell whether it did.

        Raises:
            EventLogError: It failed, and whether it moved is open.
        """
        nonce = secrets.token_hex(8)
        update = self._head_update(partition, move, nonce)
        others = self._beside(partition, move)
        units = -(-len(update["ExpressionAttributeValues"][":head"]["B"]) // 1024)
        begun = time.monotonic()
        for tries in range(1, _TRIES + 1):
            try:
                if others:
                    actions = [{"Update": {"TableName": self._connection.name, **update}}, *others]
                    failed = 2 * units + sum(map(_units_of, others))
                    self._connection.once("transact_write_items", TransactItems=actions, failed_units=failed)
                else:
                    self._connection.once("update_item", failed_units=units, **update)
            except TakenError as error:
                row = error.row or self._connection.get(rows.key_of(self._pk(partition), rows.HEAD_KEY))
                if row is None or row.get("move") != {"S": nonce}:
                    return False
            except FailedCallError as error:
                if not error.retryable or tries == _TRIES or time.monotonic() - begun > PATIENCE:
                    raise error.within(partition=partition)  # noqa: B904 -- the same error
                time.sleep(backoff(tries))
                continue
            if move.folded:
                self._journaled = move.head.cursor
            return True
        raise AssertionError("the last try returns or raises")

    def _head_update(self, partition: str, move: HeadMove, nonce: str) -> dict[str, Any]:
        attributes = rows.head_attributes(move.head, nonce)
        # Each by a placeholder, since some are reserved words of the service's expressions.
        names = {f"#{name}": name for name in attributes}
        values = {f":{name}": value for name, value in attributes.items()}
        sets = ", ".join(f"#{name} = :{name}" for name in attributes)
        condition = "attribute_not_exists(#revision)"
        if move.expected:
            condition = "#revision = :expected"
            values[":expected"] = {"N": str(move.expected)}
        return {
            "Key": rows.key_of(self._pk(partition), rows.HEAD_KEY),
            "UpdateExpression": f"SET {sets}",
            "ConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _beside(self, partition: str, move: HeadMove) -> list[dict[str, Any]]:
        """What is written together with the head: segments retired, and once a sync its cursor and count."""
        name = self._connection.name
        actions: list[dict[str, Any]] = []
        if move.retired:
            row = rows.old_row(self._pk(partition), move.head.revision, move.retired)
            actions.append({"Put": {"TableName": name, "Item": row}})
        cursor = move.head.cursor
        if move.folded and (move.first or cursor != self._journaled):
            actions.append({"Put": {"TableName": name, "Item": rows.journal_row(self._layer_pk, cursor)}})
            actions.append(
                {
                    "Update": {
                        "TableName": name,
                        "Key": rows.key_of(self._layer_pk, rows.META_KEY),
                        # Kept beside the journal, whose rows expire: the last sync is known for good.
                        "UpdateExpression": "SET last_sync = :cursor ADD synced_times :first",
                        "ExpressionAttributeValues": {":cursor": {"S": cursor}, ":first": {"N": str(int(move.first))}},
                    }
                }
            )
        return actions


def _units_of(action: dict[str, Any]) -> int:
    """Write units of what is written beside a head; the layer's own row, which is updated, is a small one."""
    return write_units(item_size(action["Put"]["Item"]) if "Put" in action else 0, transactional=True)
