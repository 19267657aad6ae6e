"""Watching a layer through the index: what is pending, and what each sync has folded since.

A record stands in the index under the cursor of a pending one until it is marked, and from then on under its sync's.
The index shows both late, and a sync marks for as long as it goes on: so each sync's cursor is asked for again, after
ever longer waits. What slips through all of that is found in the heads, which `survey` reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dynalayer.clock import INITIAL, MICROSECONDS, from_iso, to_iso
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.counts import Counts
from dynalayer.eventlog.dynamodb.index import Index
from dynalayer.eventlog.dynamodb.shards import Shards
from dynalayer.eventlog.watching import Reached, Watch

__all__ = ["IndexWatch"]

_OVERLAP = 120 * MICROSECONDS  # by how much a cursor may be older than the newest, and be journaled after it
_FIRST_WAIT = 0.5  # seconds until a cursor is asked for again; doubled each time
_LAST_WAIT = 600.0  # a longer wait is left to whoever reads all heads


@dataclass(slots=True)
class _Cursor:
    """A sync's cursor.

    Attributes:
        due: When it is asked for again, by `time.monotonic`.
        wait: Seconds after that until it is asked for once more.
    """

    due: float = 0.0
    wait: float = _FIRST_WAIT


class IndexWatch(Watch):
    """Looks at the index and at the journal of syncs.

    Args:
        connection: The table.
        table: The layer's table.
        index: Where to look.
        shards: Numbers of shards that the layer's writers have used.
        counts: What this process appended itself.
        last_cursor: Tells the newest cursor of any sync.
    """

    def __init__(
        self,
        connection: Connection,
        table: str,
        index: Index,
        shards: Shards,
        counts: Counts,
        last_cursor: Callable[[], str],
    ) -> None:
        self._connection = connection
        self._layer_pk = rows.layer_key(table)
        self._index = index
        self._shards = shards
        self._counts = counts
        self._cursors: dict[str, _Cursor] = {}
        self._newest = last_cursor()

    def look(self) -> Mapping[str, Reached]:
        """See `Watch`."""
        self._shards.look()
        # The journal after what is pending: what a sync marks in between is then found under its cursor.
        found = dict(self._counts.own_versions())
        _merge(found, self._index.versions(rows.pending_cursors(self._shards.noted)))
        self._read_journal()
        _merge(found, self._index.versions(self._due()))
        return {partition: Reached(version) for partition, version in found.items()}

    def _read_journal(self) -> None:
        oldest = "" if self._newest == INITIAL else to_iso(from_iso(self._newest) - _OVERLAP)
        journaled = self._connection.query(
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ProjectionExpression="sk",
            ExpressionAttributeValues={
                ":pk": {"S": self._layer_pk},
                ":first": {"S": f"{rows.SYNC}{oldest}"},
                ":last": {"S": f"{rows.SYNC}~"},
            },
        )
        for row in journaled:
            cursor = rows.text(row, "sk").removeprefix(rows.SYNC)
            self._cursors.setdefault(cursor, _Cursor())
            self._newest = cursor if self._newest == INITIAL else max(self._newest, cursor)
        over = [cursor for cursor, each in self._cursors.items() if cursor < oldest and each.wait > _LAST_WAIT]
        for cursor in over:
            del self._cursors[cursor]

    def _due(self) -> list[str]:
        now = time.monotonic()
        due = [cursor for cursor, each in self._cursors.items() if each.due <= now and each.wait <= _LAST_WAIT]
        for cursor in due:
            each = self._cursors[cursor]
            each.due, each.wait = now + each.wait, 2 * each.wait
        return due


def _merge(found: dict[str, int], others: Mapping[str, int] | Iterable[tuple[str, int]]) -> None:
    for partition, version in dict(others).items():
        found[partition] = max(version, found.get(partition, 0))
