"""What the log keeps in its table: keys, rows, and what they say.

A record is one row, `pk` `{table}#{partition}` and `sk` its version in 20 digits. One too large for a row is a header
in that slot and parts that follow it, written in one transaction. The head sorts after all records, what is old before
them, so that one query gives what is new and then the head.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from dynalayer.clock import INITIAL, MICROSECONDS, from_iso
from dynalayer.eventlog.base import Draft, Head, OldSegment, Record, RecordKind, Unmarked, segment_ref
from dynalayer.eventlog.dynamodb.damage import DamagedRowError
from dynalayer.packing import frame, unframe
from dynalayer.values import UNDECODABLE

__all__ = [
    "FIRST_SLOT",
    "FORMAT",
    "HEADS",
    "HEAD_KEY",
    "INDEX",
    "META_KEY",
    "OLD",
    "PART_BYTES",
    "SYNC",
    "DamagedRowError",
    "Row",
    "Tail",
    "bytes_in",
    "count_of",
    "format_of",
    "head_attributes",
    "head_of",
    "journal_row",
    "key_of",
    "layer_key",
    "next_key",
    "number",
    "old_row",
    "old_segments_of",
    "part_key",
    "partition_key",
    "partition_of",
    "parts_to_mark",
    "past",
    "pending_cursor",
    "pending_cursors",
    "record_rows",
    "records_of",
    "segments_attribute",
    "shards_of",
    "slot",
    "synced_times",
    "tail_of_head",
    "tail_of_record",
    "text",
    "unmarked_of",
    "version_of",
]

Row = Mapping[str, Any]
"""An item as the low-level client gives it: `{"pk": {"S": "…"}}`."""

INDEX = "cursor-index"
HEAD_KEY = "~head"
HEADS = "__HEAD__"
META_KEY = "__meta__"
OLD = "!old#"
SYNC = "sync#"
FIRST_SLOT = "0"
FORMAT = 1

PART_BYTES = 400_000
"""Packed bytes in one row: what the service's 409,600 leave beside keys and counts, rounded down."""

_SYNCS_KEPT = 400 * 86_400  # seconds that a sync's cursor is known
_UNPACKED_LIMIT = 1 << 26  # bytes of a head or of a list of old segments


def partition_key(table: str, partition: str) -> str:
    """`pk` of a partition: a table's name holds no `#`, so that none is the beginning of another's."""
    return f"{table}#{partition}"


def partition_of(key: str) -> str:
    """The partition whose `pk` it is."""
    return key.partition("#")[2]


def layer_key(table: str) -> str:
    """`pk` of what belongs to no partition; without `#`, so that it is none."""
    return f"__{table}__"


def next_key(key: str) -> str:
    """The smallest `pk` above one."""
    return f"{key}\0"


def slot(version: int) -> str:
    """`sk` of a record."""
    return f"{version:020d}"


def part_key(version: int, part: int) -> str:
    """`sk` of one of a record's parts, from 1."""
    return f"{version:020d}#{part:03d}"


def past(version: int) -> str:
    """What sorts after a record's slot and its parts, and before the next record."""
    return f"{version:020d}~"


def key_of(pk: str, sk: str) -> dict[str, Any]:
    """A row's key as the low-level client takes it."""
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def pending_cursor(pk: str, shards: int) -> str:
    """`cursor` of a pending record; the same partition's are all under one key of the index."""
    return _shard_cursor(zlib.crc32(pk.encode()) % shards)


def pending_cursors(shards: frozenset[int]) -> list[str]:
    """Every `cursor` that a pending record may have, by the numbers of shards that were ever used."""
    return [_shard_cursor(shard) for shard in range(max(shards))]


def _shard_cursor(shard: int) -> str:
    return f"{INITIAL}#{shard}" if shard else INITIAL


def text(row: Row, name: str) -> str:
    """A text attribute.

    Raises:
        DamagedRowError: There is none.
    """
    try:
        return str(row[name]["S"])
    except (KeyError, TypeError) as error:
        raise DamagedRowError(f"no text {name!r}") from error


def number(row: Row, name: str) -> int:
    """A whole number, or a `DamagedRowError`."""
    try:
        return int(row[name]["N"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedRowError(f"no whole number {name!r}") from error


def bytes_in(row: Row, name: str) -> bytes:
    """Bytes, none where the attribute is left out; or a `DamagedRowError`."""
    try:
        return bytes(row[name]["B"]) if name in row else b""
    except (KeyError, TypeError) as error:
        raise DamagedRowError(f"no bytes {name!r}") from error


def version_of(row: Row) -> int | None:
    """The version that a record's row or one of its parts belongs to; None for any other row."""
    digits = text(row, "sk").partition("#")[0]
    return int(digits) if digits.isdecimal() else None


# Records


@dataclass(frozen=True, slots=True)
class Tail:
    """A partition's newest record, as far as the next one depends on it.

    Attributes:
        version: Its version; 0 where there is none.
        at: When it was appended, in microseconds since the epoch.
        events_total: Events through it.
        bytes_total: Payload bytes through it.
    """

    version: int
    at: int
    events_total: int
    bytes_total: int


def tail_of_record(row: Row) -> Tail:
    """The tail that a record's row, or its header, makes.

    Raises:
        DamagedRowError: It is no record's.
    """
    version = version_of(row)
    if version is None:
        raise DamagedRowError(f"no record: {text(row, 'sk')!r:.50}")
    return Tail(version, number(row, "at"), number(row, "events_total"), number(row, "bytes_total"))


def tail_of_head(head: Head) -> Tail:
    """The tail that a head makes whose records have all been folded."""
    return Tail(head.version, head.at, head.events_total, head.bytes_total)


def record_rows(pk: str, draft: Draft, tail: Tail, cursor: str) -> list[dict[str, Any]]:
    """The rows of a record after a tail, its slot's first."""
    version, payload = tail.version + 1, draft.payload
    row: dict[str, Any] = {
        **key_of(pk, slot(version)),
        "cursor": {"S": cursor},
        "nonce": {"S": draft.nonce},
        "at": {"N": str(max(draft.at, tail.at))},
        "count": {"N": str(draft.count)},
        "keep": {"N": str(draft.retention)},
        "events_total": {"N": str(tail.events_total + draft.count)},
        "bytes_total": {"N": str(tail.bytes_total + len(payload))},
    }
    if draft.kind is not RecordKind.CHANGES:
        row["kind"] = {"S": str(draft.kind)}
    if len(payload) <= PART_BYTES:
        if payload:
            row["events"] = {"B": payload}
        return [row]
    parts = [payload[start : start + PART_BYTES] for start in range(0, len(payload), PART_BYTES)]
    row["parts"] = {"N": str(len(parts))}
    return [
        row,
        *(
            {**key_of(pk, part_key(version, number)), "events": {"B": part}}
            for number, part in enumerate(parts, start=1)
        ),
    ]


def records_of(rows: Iterable[Row]) -> Iterator[Record]:
    """The whole records in rows that stand in order; what lacks a part is left out, as if it was not there.

    Raises:
        DamagedRowError: A row does not say what a record says.
    """
    header: Row | None = None
    parts: list[bytes] = []
    for row in rows:
        if "#" not in text(row, "sk"):
            header, parts = row, []
            if "parts" not in row:
                yield _record(row, bytes_in(row, "events"))
        elif header is not None and text(row, "sk") == part_key(version_of(header) or 0, len(parts) + 1):
            parts.append(bytes_in(row, "events"))
            if len(parts) == number(header, "parts"):
                yield _record(header, b"".join(parts))


def _record(row: Row, payload: bytes) -> Record:
    cursor = text(row, "cursor")
    version = version_of(row)
    try:
        kind = RecordKind(row["kind"]["S"]) if "kind" in row else RecordKind.CHANGES
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedRowError("an unknown kind of record") from error
    if version is None:
        raise DamagedRowError("no version")
    return Record(
        version=version,
        kind=kind,
        nonce=text(row, "nonce"),
        at=number(row, "at"),
        count=number(row, "count"),
        retention=number(row, "keep"),
        payload=payload,
        events_total=number(row, "events_total"),
        bytes_total=number(row, "bytes_total"),
        cursor=INITIAL if cursor.startswith(INITIAL) else cursor,
    )


def unmarked_of(row: Row) -> Unmarked | None:
    """A record's row as one that is to be marked; None if it is marked already.

    Raises:
        DamagedRowError: It is no record's.
    """
    version = version_of(row)
    if version is None:
        raise DamagedRowError(f"no record: {text(row, 'sk')!r:.50}")
    if not text(row, "cursor").startswith(INITIAL):
        return None
    return Unmarked(version, text(row, "nonce"), number(row, "keep"))


def parts_to_mark(row: Row | None, nonce: str) -> list[str]:
    """`sk` of the parts of a record that is pending still; none where there is nothing to mark."""
    if row is None or "parts" not in row or text(row, "nonce") != nonce or not text(row, "cursor").startswith(INITIAL):
        return []
    version = version_of(row) or 0
    return [part_key(version, part) for part in range(1, number(row, "parts") + 1)]


def count_of(row: Row) -> int:
    """Events in a record."""
    return number(row, "count")


def shards_of(meta: Row | None) -> frozenset[int]:
    """Numbers of shards that the layer's writers have used, by its meta row; at least one shard in any case.

    Raises:
        DamagedRowError: They are no numbers.
    """
    if meta is None or "shards" not in meta:
        return frozenset({1})
    try:
        return frozenset(int(number) for number in meta["shards"]["NS"]) | {1}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedRowError("no whole numbers 'shards'") from error


def format_of(meta: Row) -> int:
    """The layout that a layer's rows have.

    Raises:
        DamagedRowError: It is not told.
    """
    return number(meta, "format")


def synced_times(meta: Row | None) -> int:
    """Syncs that folded something, by the layer's meta row."""
    return number(meta, "synced_times") if meta and "synced_times" in meta else 0


# Heads and old segments


def head_of(row: Row | None) -> Head:
    """What a head's row says; the empty head where there is no row, or one that holds a lease alone.

    Raises:
        DamagedRowError: It says no head.
    """
    if row is None or not {"head", "revision"} & row.keys():
        return Head()
    try:
        return Head.from_json(unframe(bytes_in(row, "head"), _UNPACKED_LIMIT))
    except ValueError as error:
        raise DamagedRowError(str(error)) from error


def head_attributes(head: Head, nonce: str) -> dict[str, Any]:
    """A head as its row keeps it, with the nonce of the move that wrote it.

    From its first fold on a partition is listed in the index.
    """
    listed = {"cursor": {"S": HEADS}} if head.version else {}
    return {
        "version": {"N": str(head.version)},
        "revision": {"N": str(head.revision)},
        "head": {"B": frame(head.to_json())},
        "move": {"S": nonce},
        **listed,
    }


def journal_row(pk: str, cursor: str) -> dict[str, Any]:
    """The row that makes a sync's cursor known."""
    ttl = from_iso(cursor) // MICROSECONDS + _SYNCS_KEPT
    return {**key_of(pk, f"{SYNC}{cursor}"), "ttl": {"N": str(ttl)}}


def old_row(pk: str, revision: int, retired: tuple[OldSegment, ...]) -> dict[str, Any]:
    """The row that lists what one move retired: one row, so that it goes in the move's own transaction."""
    newest = max(old.segment.to_version for old in retired)
    return {**key_of(pk, f"{OLD}{newest:020d}#{revision:020d}"), **segments_attribute(retired)}


def segments_attribute(listed: tuple[OldSegment, ...]) -> dict[str, Any]:
    """The attribute of such a row that lists its segments."""
    return {"segments": {"B": frame(orjson.dumps(listed))}}


def old_segments_of(row: Row) -> tuple[OldSegment, ...]:
    """What such a row lists.

    Raises:
        DamagedRowError: It lists no segments.
    """
    try:
        listed = orjson.loads(unframe(bytes_in(row, "segments"), _UNPACKED_LIMIT))
        return tuple(
            OldSegment(segment_ref(old["segment"]), int(old["retired_at"]), int(old["keep_until"])) for old in listed
        )
    except UNDECODABLE as error:
        raise DamagedRowError(f"no list of segments: {error}") from error
