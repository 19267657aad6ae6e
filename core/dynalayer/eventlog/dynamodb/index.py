"""The index: where to look for pending records and for heads. It lags, so that it never says what is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.shards import Shards

__all__ = ["Index"]

_NAMES = {"#cursor": "cursor"}  # a reserved word of the service's expressions


class Index:
    """Looks things up by their cursor.

    Args:
        connection: The table.
        table: The layer's table.
        shards: Numbers of shards that the layer's writers have used.
    """

    def __init__(self, connection: Connection, table: str, shards: Shards) -> None:
        self._connection = connection
        self._table = table
        self._shards = shards

    def heads(self) -> set[str]:
        """Partitions that have been folded."""
        return self._partitions([rows.HEADS])

    def pending(self) -> set[str]:
        """Partitions with records that are not marked."""
        return self._partitions(rows.pending_cursors(self._shards.noted))

    def slots(self, pk: str, through: int) -> set[str]:
        """`sk` of a partition's records up to a version that are not marked."""
        found: set[str] = set()
        for cursor in {rows.pending_cursor(pk, shards) for shards in self._shards.noted}:
            listed = self._connection.query(
                consistent=False,
                IndexName=rows.INDEX,
                KeyConditionExpression="#cursor = :cursor AND pk = :pk",
                ProjectionExpression="sk",
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues={":cursor": {"S": cursor}, ":pk": {"S": pk}},
            )
            found |= {sk for row in listed if (sk := rows.text(row, "sk")) <= rows.slot(through)}
        return found

    def _partitions(self, cursors: Iterable[str]) -> set[str]:
        """Partitions with rows under keys of the index. Of one with many rows no more than a page is read."""
        names: set[str] = set()
        for cursor in cursors:
            first, last = f"{self._table}#", f"{self._table}$"  # what begins with the table's name and #
            start: dict[str, Any] = {}
            while True:
                answer = self._connection.call(
                    "query",
                    **start,
                    IndexName=rows.INDEX,
                    KeyConditionExpression="#cursor = :cursor AND pk BETWEEN :first AND :last",
                    ProjectionExpression="pk",
                    ExpressionAttributeNames=_NAMES,
                    ExpressionAttributeValues={":cursor": {"S": cursor}, ":first": {"S": first}, ":last": {"S": last}},
                )
                names |= {rows.partition_of(rows.text(row, "pk")) for row in answer["Items"]}
                if "LastEvaluatedKey" not in answer:
                    break
                pk = rows.text(answer["LastEvaluatedKey"], "pk")
                if rows.partition_of(pk) in names:  # what else there is of it says the same
                    first, start = rows.next_key(pk), {}
                else:
                    start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
        return names
