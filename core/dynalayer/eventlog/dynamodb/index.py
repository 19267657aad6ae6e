"""The index: where to look for pending records and for heads. It lags, so that it never says what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.shards import Shards
from dynalayer.eventlog.watching import UNTOLD

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

    def versions(self, cursors: Iterable[str]) -> dict[str, int]:
        """Partitions with records under cursors, each with the newest that is shown; `UNTOLD` for one with very many.

        Of such a partition no more than a page is read.
        """
        newest: dict[str, int] = {}
        for cursor in cursors:
            for row, skipped in self._listed(cursor, "pk, sk"):
                partition, version = rows.partition_of(rows.text(row, "pk")), rows.version_of(row)
                newest[partition] = max(newest.get(partition, 0), UNTOLD if skipped else version or 0)
        return newest

    def _partitions(self, cursors: Iterable[str]) -> set[str]:
        """Partitions with rows under keys of the index. Of one with many rows no more than a page is read."""
        return {rows.partition_of(rows.text(row, "pk")) for cursor in cursors for row, _ in self._listed(cursor, "pk")}

    def _listed(self, cursor: str, attributes: str) -> Iterator[tuple[rows.Row, bool]]:
        """Rows under a key of the index, each with whether others of its partition, which follow, are skipped."""
        first, last = f"{self._table}#", f"{self._table}$"  # what begins with the table's name and #
        start: dict[str, Any] = {}
        names: set[str] = set()
        while True:
            answer = self._connection.call(
                "query",
                **start,
                IndexName=rows.INDEX,
                KeyConditionExpression="#cursor = :cursor AND pk BETWEEN :first AND :last",
                ProjectionExpression=attributes,
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues={":cursor": {"S": cursor}, ":first": {"S": first}, ":last": {"S": last}},
            )
            names |= {rows.text(row, "pk") for row in answer["Items"]}
            key = answer.get("LastEvaluatedKey")
            pk = None if key is None else rows.text(key, "pk")
            # What else there is of a partition that is known says the same.
            yield from ((row, pk in names and rows.text(row, "pk") == pk) for row in answer["Items"])
            if pk is None:
                return
            if pk in names:
                first, start = rows.next_key(pk), {}
            else:
                start = {"ExclusiveStartKey": key}
