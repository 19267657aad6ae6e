"""What the log will request, and what that costs: from the rows stored, by the service's documented rules.

Each estimate follows the calls that the engine makes of the log, and the requests that the log makes of the table;
tests hold them to what is counted when the same is really done.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dynalayer.clock import now, to_iso
from dynalayer.costs import Cost, Request
from dynalayer.eventlog.base import Draft, Head, LogCosts, OldSegment, RecordKind, SegmentRef
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.rows import Row, Tail
from dynalayer.eventlog.dynamodb.shards import Shards
from dynalayer.segments import fresh_name
from dynalayer.units import get_units, index_writes, item_size, read_units, write_units

__all__ = ["estimate"]

_PAGE = 1024 * 1024  # bytes that one request of a query reads at most
_LEASE = {"lease_owner": {"S": "0" * 16}, "lease_until": {"N": "1" * 16}}
_MARK = {"cursor": {"S": to_iso(10**15)}, "ttl": {"N": "1" * 10}}


def estimate(connection: Connection, table: str, partition: str, shards: Shards) -> LogCosts:
    """Read a partition's head and pending rows, and say what comes next costs.

    With more than eight megabytes pending a sync makes a few requests more than this says.

    Raises:
        EventLogError: It cannot be read.
        DamagedRowError: A row does not say what it should.
    """
    pk = rows.partition_key(table, partition)
    head_row = connection.get(rows.key_of(pk, rows.HEAD_KEY))
    head = rows.head_of(head_row)
    found = connection.query(
        KeyConditionExpression="pk = :pk AND sk BETWEEN :above AND :last",
        ExpressionAttributeValues={
            ":pk": {"S": pk},
            ":above": {"S": rows.past(head.version)},
            ":last": {"S": rows.past(10**19)},
        },
    )
    pending = list(found)
    meta = connection.get(rows.key_of(rows.layer_key(table), rows.META_KEY))
    end = connection.query(
        KeyConditionExpression="pk = :pk AND sk >= :first",
        ExpressionAttributeValues={":pk": {"S": pk}, ":first": {"S": rows.FIRST_SLOT}},
        ScanIndexForward=False,
        limit=2,
    )
    return _Estimate(table, pk, head, head_row, pending, list(end), shards, meta or {}).costs()


class _Estimate:
    def __init__(
        self,
        table: str,
        pk: str,
        head: Head,
        head_row: Row | None,
        pending: Sequence[Row],
        end: Sequence[Row],
        shards: Shards,
        meta: Row,
    ) -> None:
        self._layer_pk = rows.layer_key(table)
        self._pk = pk
        self._head = head
        # Without a lease, as it is between syncs.
        self._head_row = {name: value for name, value in (head_row or {}).items() if name not in _LEASE}
        self._pending = pending
        self._end = end
        self._headers = [row for row in pending if "#" not in rows.text(row, "sk")]
        self._shards = shards
        self._meta = meta

    def costs(self) -> LogCosts:
        get_head = Request("GetItem", 1, get_units(item_size(self._head_row), consistent=True), 0, "the head")
        tail = self._tail()
        append = self._append()
        return LogCosts(
            head=self._head,
            pending=len(self._headers),
            first_read=Cost((get_head, self._query(self._pending, self._head_row))),
            read=Cost((self._query((), self._head_row),)),
            first_append=Cost((*self._note(), *tail, append)),
            append=Cost((append,)),
            sync=Cost(tuple(self._sync())),
            compaction=Cost((self._compaction(),)),
            lease=Cost((self._lease(prolonged=True),)),
            listing=Cost((self._listing(),) if self._headers else ()),
        )

    def _lease(self, *, prolonged: bool = False) -> Request:
        size = item_size({**(self._head_row or self._empty()), **_LEASE})
        before = size if prolonged else item_size(self._head_row)
        return Request("UpdateItem", 1, 0, write_units(size, before=before), "the lease")

    def _query(self, pending: Sequence[Row], head_row: Row) -> Request:
        pages = [0]
        for size in map(item_size, (*pending, head_row)):
            if pages[-1] and pages[-1] + size > _PAGE:
                pages.append(0)
            pages[-1] += size
        units = sum(read_units(page, consistent=True) for page in pages)
        return Request("Query", len(pages), units, 0, "the records above the snapshot, and the head")

    def _tail(self) -> list[Request]:
        """Looking at the end of the partition: backward, two rows, also where there is no head yet."""
        newest = self._pending[-1:]
        size = sum(map(item_size, self._end))
        requests = [Request("Query", 1, read_units(size, consistent=True), 0, "the newest record and the head")]
        if newest and "#" in rows.text(newest[0], "sk"):
            units = get_units(item_size(self._headers[-1]), consistent=True)
            requests.append(Request("GetItem", 1, units, 0, "what the newest record says of itself"))
        return requests

    def _note(self) -> list[Request]:
        if self._shards.own in self._shards.noted:
            return []
        units = write_units(item_size(self._meta) + item_size({"shards": {"NS": [str(self._shards.own)]}}))
        return [Request("UpdateItem", 1, 0, units, "the number of shards, noted before the first record")]

    def _append(self) -> Request:
        version = rows.version_of(self._headers[-1]) if self._headers else self._head.version
        total = rows.tail_of_record(self._headers[-1]).bytes_total if self._headers else self._head.bytes_total
        payload = bytes(total // version if version else 0)
        draft = Draft("", RecordKind.CHANGES, "0" * 16, now(), 1, 10**6, payload)
        cursor = rows.pending_cursor(self._pk, self._shards.own)
        written = rows.record_rows(self._pk, draft, Tail(version or 0, 0, total, total), cursor)
        several = len(written) > 1
        units = sum(write_units(item_size(row), transactional=several) for row in written)
        return Request(
            "TransactWriteItems" if several else "PutItem",
            1,
            0,
            units + index_writes(None, cursor),
            f"a record of {len(payload):,} bytes, and its entry in the index",
        )

    def _sync(self) -> list[Request]:
        leased = {**(self._head_row or self._empty()), **_LEASE}
        size = item_size(leased)
        requests = self._tail()
        if not self._headers and not self._head.version:  # nobody has heard of it, and it stays so
            return requests
        if len(self._headers) > 1:
            units = get_units(item_size(self._headers[0]), consistent=True)
            requests.append(Request("GetItem", 1, units, 0, "when the oldest pending record came"))
        requests.append(Request("Query", 1, read_units(0, consistent=True), 0, "the last sync's cursor"))
        if "last_sync" not in self._meta:
            units = get_units(item_size(self._meta), consistent=True)
            requests.append(Request("GetItem", 1, units, 0, "the last sync's cursor, where none is listed"))
        requests.append(self._lease())
        requests.append(Request("GetItem", 1, get_units(size, consistent=True), 0, "the head"))
        if self._head.version:
            requests.append(self._leftovers())
        requests.append(self._query(self._pending, leased))
        if self._headers:
            moved = self._moved()
            requests.append(self._move(leased, moved))
            requests += self._marks()
            leased = moved
            size = item_size(leased)
        requests.append(Request("UpdateItem", 1, 0, write_units(0, before=size), "the lease given back"))
        return requests

    def _empty(self) -> dict[str, Any]:
        return rows.key_of(self._pk, rows.HEAD_KEY)

    def _leftovers(self) -> Request:
        found = dict.fromkeys((rows.pending_cursor(self._pk, shards) for shards in self._shards.noted), 0)
        for row in self._headers:
            cursor = rows.text(row, "cursor")
            entry = {name: row[name] for name in ("pk", "sk", "cursor")}
            found[cursor] = found.get(cursor, 0) + item_size(entry)
        units = sum(read_units(size, consistent=False) for size in found.values())
        return Request("Query", len(found), units, 0, "the index, for what an earlier sync left unmarked")

    def _moved(self) -> dict[str, Any]:
        """The head's row as a fold of all that is pending leaves it."""
        last = rows.tail_of_record(self._headers[-1])
        shape = self._head.segments[-1] if self._head.segments else None
        name = fresh_name("delta" if shape else "base", last.version, secrets.token_hex(8))
        entries = sum(map(rows.count_of, self._headers))
        named = SegmentRef(
            name, "delta" if shape else "base", self._head.version, last.version, entries, name, to_iso(now()), last.at
        )
        if shape is not None:  # as long as those that the adapter gives
            named = replace(named, ref=(name * 8)[: len(shape.ref)])
        moved = replace(
            self._head,
            version=last.version,
            revision=self._head.revision + 1,
            segments=(*self._head.segments, named),
            events_total=last.events_total,
            bytes_total=last.bytes_total,
            at=last.at,
            cursor=named.cursor,
            synced_times=self._head.synced_times + 1,
            synced_last_total=entries,
            retention=max(self._head.retention, 10**6),
        )
        return self._row_of(moved)

    def _row_of(self, head: Head) -> dict[str, Any]:
        return {**self._empty(), **_LEASE, **rows.head_attributes(head, "0" * 16)}

    def _move(self, leased: Row, moved: Row) -> Request:
        entry = None if "cursor" not in leased else rows.HEADS
        cursor = to_iso(now())
        journal = rows.journal_row(self._layer_pk, cursor)
        meta = {**self._meta, "last_sync": {"S": cursor}, "synced_times": {"N": "1000"}}
        units = (
            write_units(item_size(moved), before=item_size(leased), transactional=True)
            + index_writes(entry, rows.HEADS)
            + write_units(item_size(journal), transactional=True)
            + write_units(item_size(meta), before=item_size(self._meta), transactional=True)
        )
        return Request("TransactWriteItems", 1, 0, units, "the head moved, and the sync's cursor with it")

    def _marks(self) -> list[Request]:
        units = count = 0
        for row in self._pending:
            size = item_size(row)
            if "#" in rows.text(row, "sk"):
                units += write_units(size + item_size({"ttl": _MARK["ttl"]}), before=size)
                count += 1
                continue
            units += write_units(item_size({**row, **_MARK}), before=size) + index_writes("pending", "folded")
            count += 1
            if "parts" in row:  # tried as a row without parts first, and marked after its parts
                units += write_units(0, before=size)
                count += 1
        requests = [Request("UpdateItem", count, 0, units, "each folded record given its cursor and ttl")]
        headers = [item_size(row) for row in self._headers if "parts" in row]
        if headers:
            reads = get_units(*headers, consistent=True)
            requests.append(Request("GetItem", len(headers), reads, 0, "how many parts a large record has"))
        return requests

    def _listing(self) -> Request:
        """The row of a history segment, which goes in the transaction that moves the head."""
        version = rows.tail_of_record(self._headers[-1]).version
        name = fresh_name("h20", version, secrets.token_hex(8))
        named = SegmentRef(name, "history", self._head.version, version, 1, name, to_iso(now()), now())
        row = rows.old_row(self._pk, self._head.revision + 1, (OldSegment(named, now(), now()),))
        units = write_units(item_size(row), transactional=True)
        return Request("TransactWriteItems", 0, 0, units, "the list of history, in the same transaction")

    def _compaction(self) -> Request:
        head = replace(self._head, revision=self._head.revision + 1, segments=self._head.segments[-1:])
        retired = tuple(OldSegment(segment, now(), now()) for segment in self._head.segments)
        units = write_units(item_size(self._row_of(head)), before=item_size(self._head_row), transactional=True)
        if retired:
            old = rows.old_row(self._pk, head.revision, retired)
            units += write_units(item_size(old), transactional=True)
        return Request(
            "TransactWriteItems", 1, 0, units, "the head moved to the merged segment, those before it listed"
        )
