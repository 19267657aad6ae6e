"""Old segments: rows that each list what one move of the head retired."""

from __future__ import annotations

from typing import Any

from dynalayer.errors import EventLogError
from dynalayer.eventlog.base import OldSegment
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.failures import TakenError
from dynalayer.units import item_size, write_units

__all__ = ["Retired"]

_TRIES = 8  # each loses only to another who has shortened a list


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
            EventLogError: Others shortened the same lists at every one of a bounded number of tries.
        """
        for _ in range(_TRIES if refs else 0):
            requests: list[dict[str, Any]] = []
            complete = True
            for row in self._rows(pk):
                listed = rows.old_segments_of(row)
                left = tuple(old for old in listed if old.segment.ref not in refs)
                if not left:
                    requests.append({"DeleteRequest": {"Key": rows.key_of(pk, rows.text(row, "sk"))}})
                elif len(left) < len(listed):
                    complete &= self._shortened(row, left)
            self._connection.batch_write(requests)
            if complete:
                return
        if refs:
            raise EventLogError(f"others shortened the lists of old segments at each of {_TRIES} tries", retryable=True)

    def _shortened(self, row: rows.Row, left: tuple[OldSegment, ...]) -> bool:
        """Shorten a list; False where another has done so since it was read, whose refs this would bring back."""
        try:
            self._connection.call(
                "put_item",
                failed_units=write_units(item_size(row)),
                Item={**row, **rows.segments_attribute(left)},
                ConditionExpression="#segments = :was",
                ExpressionAttributeNames={"#segments": "segments"},
                ExpressionAttributeValues={":was": row["segments"]},
            )
        except TakenError:
            return False
        return True

    def _rows(self, pk: str) -> list[rows.Row]:
        return list(
            self._connection.query(
                KeyConditionExpression="pk = :pk AND begins_with(sk, :old)",
                ExpressionAttributeValues={":pk": {"S": pk}, ":old": {"S": rows.OLD}},
            )
        )
