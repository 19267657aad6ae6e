"""Old segments: rows that each list what one move of the head retired."""

from __future__ import annotations

from typing import Any

from dynalayer.eventlog.base import OldSegment
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection

__all__ = ["Retired"]


class Retired:
    """Lists old segments, and forgets them. Moves put the rows.

    Args:
        connection: The table.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def listed(self, pk: str) -> tuple[OldSegment, ...]:
        """A partition's, oldest first.

        Raises:
            DamagedRowError: A row lists no segments.
        """
        found = {old.segment.ref: old for row in self._rows(pk) for old in rows.old_segments_of(row)}
        return tuple(sorted(found.values(), key=lambda old: old.segment.to_version))

    def forget(self, pk: str, refs: frozenset[str]) -> None:
        """Take refs off the lists; a row that lists nothing more goes.

        Raises:
            DamagedRowError: As `listed`.
        """
        requests: list[dict[str, Any]] = []
        for row in self._rows(pk) if refs else ():
            listed = rows.old_segments_of(row)
            left = tuple(old for old in listed if old.segment.ref not in refs)
            if not left:
                requests.append({"DeleteRequest": {"Key": rows.key_of(pk, rows.text(row, "sk"))}})
            elif len(left) < len(listed):
                requests.append({"PutRequest": {"Item": {**row, **rows.segments_attribute(left)}}})
        self._connection.batch_write(requests)

    def _rows(self, pk: str) -> list[rows.Row]:
        return list(
            self._connection.query(
                KeyConditionExpression="pk = :pk AND begins_with(sk, :old)",
                ExpressionAttributeValues={":pk": {"S": pk}, ":old": {"S": rows.OLD}},
            )
        )
