"""Segments: immutable stored files of one partition, and their JSON codec.

The codec writes JSON Lines that describe themselves: a header line, then a line an entry, sorted by id::

    {"dynalayer":"segment","format":1,"kind":"base","table":"users","partition":"eu",…,"entries":2,"hash":"…"}
    {"id":"user-1","item":{"sk":"user-1","state":"active"}}
    {"id":"user-2","item":{"sk":"user-2","balance":{"$decimal":"1.50"}}}

A delta also has lines `{"id":"user-3","deleted":true}`. The same content gives the same bytes, but for the name and
the origin in the header. Where it pays the whole is one zstd frame, which `zstdcat` shows.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import zstandard

from dynalayer.bulk import paused_collector
from dynalayer.errors import SegmentCorruptError
from dynalayer.packing import decompressed, decompressing
from dynalayer.values import UNDECODABLE, Item, item_decoder, item_to_json

__all__ = ["FORMAT", "Segment", "SegmentHeader", "SegmentKind", "fresh_name"]

SegmentKind = Literal["base", "delta", "history"]

FORMAT = 1
"""Version of the JSON codec's layout."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_EXPECTED = 250  # bytes that one of a frame unpacks to, at most, with few exceptions; ten are usual
_LONGEST_HEADER = 65_536
_WORTH_COMPRESSING = 1024  # below, a file takes a block of the disk either way, and plain text is easier to read


def fresh_name(kind: str, to_version: int, origin: str) -> str:
    """A name that no segment has had; names of one partition sort by version, and tell whose log wrote them.

    Args:
        kind: At most five characters that tell what it is.
        to_version: The segment's.
        origin: Identity of the log.
    """
    return f"{to_version:020d}-{kind}-{origin}-{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself, beside its content; see `Segment` for the attributes."""

    table: str
    partition: str
    origin: str
    kind: SegmentKind
    from_version: int
    to_version: int
    name: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One immutable part of a partition's snapshot, as adapters take and give it.

    Attributes:
        table: The layer's table.
        partition: The partition.
        origin: Identity of the event log whose layer wrote it.
        kind: `"base"`: every item at `to_version`; `"delta"`: net changes from `from_version` to `to_version`;
            `"history"`: every event from `from_version` to `to_version`, which only history and as-of reads load.
        from_version: The version it starts after; 0 for a base.
        to_version: The version it holds the state of.
        items: Identifier to item: all of them for a base, the ones set for a delta; for a history segment an event
            each, a flat item of text and whole numbers, by version and place.
        deleted: Identifiers that the delta removes; empty for a base.
        name: Fresh for each segment written, at most 60 characters of `0-9 a-z -`. Adapters that need a name for what
            they store take this one: a put tried twice is then one object, and `vacuum` sees in the ref whose it is.
    """

    table: str
    partition: str
    origin: str
    kind: SegmentKind
    from_version: int
    to_version: int
    items: Mapping[str, Item]
    deleted: frozenset[str] = field(default_factory=frozenset)
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            kind = self.kind if self.kind != "history" else "past"  # names are short
            object.__setattr__(self, "name", fresh_name(kind, self.to_version, self.origin))

    @property
    def header(self) -> SegmentHeader:
        """What it says of itself."""
        return SegmentHeader(
            self.table, self.partition, self.origin, self.kind, self.from_version, self.to_version, self.name
        )

    @property
    def entries(self) -> int:
        """How many identifiers it speaks of."""
        return len(self.items) + len(self.deleted)

    def to_bytes(self) -> bytes:
        """The segment by the JSON codec; canonical, and compressed when it pays."""
        with paused_collector():
            body = self._body()
        header: dict[str, Any] = {
            "dynalayer": "segment",
            "format": FORMAT,
            "kind": self.kind,
            "table": self.table,
            "partition": self.partition,
            "from": self.from_version,
            "to": self.to_version,
            "entries": self.entries,
            "name": self.name,
            "origin": self.origin,
        }
        header["hash"] = _hash(header, body)
        plain = orjson.dumps(header) + b"\n" + body
        if len(plain) > _WORTH_COMPRESSING:
            compressed = zstandard.ZstdCompressor(level=3).compress(plain)
            if len(compressed) < len(plain) * 0.9:
                return compressed
        return plain

    def _body(self) -> bytearray:
        options = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        items, deleted = self.items, self.deleted
        # One growing buffer: each line that orjson gives holds a kilobyte at least for as long as it is kept.
        body = bytearray()
        for key in sorted([*items, *deleted]) if deleted else sorted(items):
            if key in deleted:
                body += orjson.dumps({"id": key, "deleted": True}, option=options)
            else:
                body += orjson.dumps({"id": key, "item": item_to_json(items[key])}, option=options)
        return body

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str) -> Segment:
        """A segment as `to_bytes` wrote it, every byte checked against the hash in its header.

        Args:
            data: The bytes.
            source: Where they are from (a path, a URL), for errors.

        Raises:
            SegmentCorruptError: Truncated, rotten, foreign, or of a newer format; names the source.
        """
        try:
            with paused_collector():
                return cls._decode(_decompressed(data))
        except SegmentCorruptError as error:
            raise SegmentCorruptError(f"{source}: {error.message}") from error
        except UNDECODABLE as error:
            raise SegmentCorruptError(f"{source} is corrupt: {error}") from error

    @classmethod
    def _decode(cls, plain: bytes) -> Segment:
        first, ended, body = plain.partition(b"\n")
        header = orjson.loads(first) if first.startswith(b"{") else None
        if type(header) is not dict or header.get("dynalayer") != "segment":
            raise SegmentCorruptError("this is no dynalayer segment")
        if header["format"] != FORMAT:
            raise SegmentCorruptError(
                f"segment format {header['format']!r}; this release reads format {FORMAT}: a newer dynalayer wrote it"
            )
        stated = header.pop("hash", None)
        if not ended or stated != _hash(header, body):
            raise SegmentCorruptError(
                "the content does not match its hash: it is corrupt or truncated; restore it from a copy, or "
                "rebuild the partition from the source table"
            )
        # JSON text holds no raw line breaks, so the lines are the elements of one array, parsed at once.
        entries = orjson.loads(b"[" + body.rstrip(b"\n").replace(b"\n", b",") + b"]")
        if len(entries) != header["entries"]:
            raise SegmentCorruptError(f"{len(entries)} entries where the header counts {header['entries']}")
        decoded = item_decoder(body)
        return cls(
            table=header["table"],
            partition=header["partition"],
            origin=header["origin"],
            kind=header["kind"],
            from_version=header["from"],
            to_version=header["to"],
            items={entry["id"]: decoded(entry["item"]) for entry in entries if "item" in entry},
            deleted=frozenset(entry["id"] for entry in entries if "item" not in entry),
            name=header["name"],
        )


def _hash(header: Mapping[str, Any], body: bytes | bytearray) -> str:
    digest = _begun_hash(header)
    digest.update(body)
    return digest.hexdigest()


def _begun_hash(header: Mapping[str, Any]) -> hashlib.blake2b:
    digest = hashlib.blake2b(orjson.dumps(header, option=orjson.OPT_SORT_KEYS), digest_size=16)
    digest.update(b"\n")
    return digest


def _decompressed(data: bytes) -> bytes:
    if not data.startswith(_ZSTD_MAGIC):
        return data
    try:
        plain = decompressed(data, _EXPECTED * len(data))
        if plain is None:
            _check_unheld(data)
            plain = decompressed(data, math.inf)
    except (ValueError, zstandard.ZstdError) as error:
        raise SegmentCorruptError(f"the file is corrupt: {error}") from error
    return plain or b""


def _check_unheld(data: bytes) -> None:
    """Check a frame that unpacks to very much more than others do against its hash, before all of it is held.

    Raises:
        ValueError: It is no whole segment.
    """
    parts = decompressing(data)
    begun = b""
    for part in parts:
        begun += part
        if len(begun) > _LONGEST_HEADER or b"\n" in begun:
            break
    first, ended, body = begun.partition(b"\n")
    header = orjson.loads(first[:_LONGEST_HEADER])
    if not ended or type(header) is not dict or header.get("dynalayer") != "segment":
        raise ValueError("it is no dynalayer segment")
    stated = header.pop("hash", None)
    digest = _begun_hash(header)
    digest.update(body)
    del begun, body
    for part in parts:
        digest.update(part)
    if stated != digest.hexdigest():
        raise ValueError("the content does not match its hash")
