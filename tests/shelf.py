"""A small adapter in memory, which keeps every promise, and whose parts are easily broken."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from dynalayer import Capabilities, Item, Segment, SegmentMissingError, hookimpl, safe_name
from dynalayer.columns import Columns, SegmentColumns, segment_of
from dynalayer.testing import Place, RawDict
from dynalayer.values import item_to_json

__all__ = ["BasesOnly", "Board", "Mutable", "Pillar", "Press", "Shelf", "Unlisted", "place_of"]


@dataclass
class Board:
    """What outlives an adapter object: the store. Attributes beside the contents are for shelves that are broken."""

    kept: dict[str, bytes] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class Shelf:
    """Keeps segments by table, partition and ref."""

    name = "shelf"
    capabilities = Capabilities()

    def __init__(self, board: Board, table: str) -> None:
        self.board = board
        self.kept = board.kept
        self.table = table

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.table!r})"

    def folder(self, partition: str) -> str:
        return f"{self.table}/{safe_name(partition)}/"

    def ref(self, partition: str, segment: Segment) -> str:
        return segment.name

    def key(self, partition: str, ref: str) -> str:
        return self.folder(partition) + ref

    def encode(self, segment: Segment) -> bytes:
        return segment.to_bytes()

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        return Segment.from_bytes(data, source=ref)

    def refs(self, partition: str) -> list[str]:
        folder = self.folder(partition)
        return [key.removeprefix(folder) for key in sorted(self.kept) if key.startswith(folder)]

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        ref = self.ref(partition, segment)
        self.kept[self.key(partition, ref)] = self.encode(segment)
        return ref

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        data = self.kept.get(self.key(partition, ref))
        if data is None:
            raise SegmentMissingError(f"there is no {ref!r} on the shelf")
        return self.decode(data, partition, ref)

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        self.kept.pop(self.key(partition, ref), None)
        return True

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        return self.refs(partition)


class BasesOnly(Shelf):
    """Keeps no deltas."""

    capabilities = Capabilities(deltas=False)


class Unlisted(Shelf):
    """Cannot list or discard."""

    capabilities = Capabilities(listing=False)


class Mutable(Shelf):
    """Has one place a partition, which each put replaces."""

    capabilities = Capabilities(deltas=False, listing=False, immutable=False)

    def ref(self, partition: str, segment: Segment) -> str:
        return "the one"


class Pillar(Shelf):
    """Reads and writes by columns too."""

    capabilities = Capabilities(columns=True)

    @hookimpl
    def layer_columns_setter(self, partition: str, columns: Columns) -> str:
        return self.layer_setter(partition, segment_of(columns.header, columns.batches()))

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns:
        return SegmentColumns(self.layer_getter(partition, ref))


class Press(Shelf):
    """Publishes too."""

    capabilities = Capabilities(publishing=True)

    @hookimpl
    def layer_publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> bool:
        with self.newest(partition, origin, version) as newest:
            if newest:
                shown = [item_to_json(items[name]) for name in sorted(items)]
                self.kept[f"published/{safe_name(partition)}"] = orjson.dumps(shown)
        return True

    @contextmanager
    def newest(self, partition: str, origin: str, version: int) -> Iterator[bool]:
        with self.board.lock:
            key = f"{partition}/{origin}"
            newest = version >= self.board.notes.get(key, 0)
            yield newest
            if newest:
                self.board.notes[key] = version


def place_of(kind: type[Shelf], **options: Any) -> Place:
    """An empty board, opened as a shelf of this kind."""
    board = Board()
    return Place(open=lambda table: kind(board, table), raw=RawDict(board.kept), **options)
