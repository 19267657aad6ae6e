"""Shelves that break one promise each, as somebody could in good faith; `BROKEN` says which tests must notice.

Most stand for a real habit: a codec that knows fewer types, a name built of too little, an index kept in the object.
Where one defect cannot but break several promises, `BROKEN` says why.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import orjson
import zstandard

from dynalayer import (
    Item,
    Segment,
    SegmentCorruptError,
    SegmentMissingError,
    StorageError,
    hookimpl,
    safe_name,
)
from dynalayer.columns import ITEM, Columns, SegmentColumns, segment_of
from dynalayer.segments import SegmentKind
from dynalayer.testing import AdapterConformance as Kit
from dynalayer.testing.adapters.catalogue import VALUES
from dynalayer.values import item_decoder
from shelf import Board, Pillar, Press, Shelf

__all__ = ["BROKEN", "Defect"]


def with_items(segment: Segment, change: Callable[[Item], Item]) -> Segment:
    return replace(segment, items={name: change(item) for name, item in segment.items.items()})


def plain_of(data: bytes) -> bytes:
    """The lines of a segment."""
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data) if data[:1] == b"\x28" else data
    except zstandard.ZstdError as error:
        raise SegmentCorruptError(f"corrupt: {error}") from error


def taken_apart(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The header and the other lines, whatever they are."""
    first, *lines = plain_of(data).split(b"\n")
    try:
        header = orjson.loads(first)
    except ValueError as error:
        raise SegmentCorruptError(f"corrupt: {error}") from error
    if not isinstance(header, dict) or "entries" not in header:
        raise SegmentCorruptError("no segment")
    return header, [line for line in lines if line]


def put_together(header: dict[str, Any], lines: Sequence[bytes]) -> Segment:
    """A segment of a header and lines, unchecked."""
    try:
        entries = [orjson.loads(line) for line in lines]
        decoded = item_decoder(b"\n".join(lines))
        return Segment(
            header["table"],
            header["partition"],
            header["origin"],
            header["kind"],
            header["from"],
            header["to"],
            {entry.get("id", ""): decoded(entry.get("item", {})) for entry in entries if "deleted" not in entry},
            frozenset(entry["id"] for entry in entries if "deleted" in entry),
            header["name"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise SegmentCorruptError(f"corrupt: {error}") from error


# What a segment holds


class FloatsBecomeInts(Shelf):
    """Its numbers are JSON's, which has one kind of them."""

    def encode(self, segment: Segment) -> bytes:
        return with_items(segment, self._numbers).to_bytes()

    @staticmethod
    def _numbers(item: Item) -> Item:
        return {key: int(value) if type(value) is float and value == 1 else value for key, value in item.items()}


def _depth(value: object) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, parts), default=0)


class KeepsShallowItems(Shelf):
    """Its encoder goes 20 levels deep."""

    def encode(self, segment: Segment) -> bytes:
        for item in segment.items.values():
            if _depth(item) > 20:
                raise StorageError("nested too deep")
        return segment.to_bytes()


class NeedsAttributeNames(Shelf):
    """A column has to have a name."""

    def encode(self, segment: Segment) -> bytes:
        return with_items(segment, lambda item: {key: item[key] for key in item if key}).to_bytes()


class OneTypeAColumn(Shelf):
    """A column is of one type: what does not fit becomes text."""

    def encode(self, segment: Segment) -> bytes:
        types: dict[str, type] = {}

        def fitted(item: Item) -> Item:
            return {
                key: value if types.setdefault(key, type(value)) is type(value) else str(value)
                for key, value in item.items()
            }

        return with_items(segment, fitted).to_bytes()


class StripsIdentifiers(Shelf):
    """White space at the ends of a key is no part of it."""

    def encode(self, segment: Segment) -> bytes:
        return replace(segment, items={name.strip() or name: item for name, item in segment.items.items()}).to_bytes()


class TakesHistoryForADelta(Shelf):
    """What is no base is a delta."""

    def encode(self, segment: Segment) -> bytes:
        return replace(segment, kind="base" if segment.kind == "base" else "delta").to_bytes()


class DeletesFewAtOnce(Shelf):
    """A delta's deletions have 20 places."""

    def encode(self, segment: Segment) -> bytes:
        return replace(segment, deleted=frozenset(sorted(segment.deleted)[:20])).to_bytes()


class TakesOnlyDeletionsForNothing(Shelf):
    """Without items there is nothing to do."""

    def encode(self, segment: Segment) -> bytes:
        return (segment if segment.items else replace(segment, deleted=frozenset())).to_bytes()


class RefusesEmptySegments(Shelf):
    """There is nothing to store."""

    def encode(self, segment: Segment) -> bytes:
        if not segment.entries:
            raise StorageError("nothing to store")
        return segment.to_bytes()


class CountsVersionsInFloats(Shelf):
    """Versions go through JavaScript."""

    def encode(self, segment: Segment) -> bytes:
        to = int(float(segment.to_version))
        return replace(segment, from_version=int(float(segment.from_version)), to_version=to).to_bytes()


class HasAnItemLimit(Shelf):
    """What is stored has at most 40,000 bytes."""

    def encode(self, segment: Segment) -> bytes:
        data = segment.to_bytes()
        if len(data) > 40_000:
            raise StorageError("too large")
        return data


class StopsAt500Items(Shelf):
    """It stores the first page."""

    def encode(self, segment: Segment) -> bytes:
        return replace(segment, items=dict(list(segment.items.items())[:500])).to_bytes()


class GivesWhatItRemembers(Shelf):
    """What was read once is given again, the same object."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(board, table)
        self._read: dict[bytes, Segment] = {}

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        if data not in self._read:
            self._read[data] = super().decode(data, partition, ref)
        return self._read[data]


class RemembersWhatItWasGiven(Shelf):
    """What was just written is answered from the object that it was given."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(board, table)
        self._given: dict[bytes, Segment] = {}

    def encode(self, segment: Segment) -> bytes:
        data = segment.to_bytes()
        self._given[data] = segment
        return data

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        return copy.deepcopy(self._given[data]) if data in self._given else super().decode(data, partition, ref)


class EncodesInPlace(Shelf):
    """Sets of a delta become lists where they stand, on their way to JSON."""

    def encode(self, segment: Segment) -> bytes:
        data = segment.to_bytes()
        if segment.kind == "delta":
            for item in segment.items.values():
                for key, value in item.items():
                    if type(value) is set and len(segment.items) == len(VALUES):
                        item[key] = sorted(value, key=repr)
        return data


# Refs


class PutsThePartitionIntoTheRef(Shelf):
    """A ref is a path."""

    def ref(self, partition: str, segment: Segment) -> str:
        return f"{safe_name(partition)}/{segment.name}"

    def key(self, partition: str, ref: str) -> str:
        return f"{self.table}/{ref}"

    def refs(self, partition: str) -> list[str]:
        return [f"{safe_name(partition)}/{ref}" for ref in super().refs(partition)]


class RemembersTheLastPut(Shelf):
    """What says the same as what was put last is not put again."""

    last: tuple[object, str] | None = None

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        said = partition, segment.kind, segment.to_version, repr(segment.items)
        if segment.kind == "base" and self.last is not None and self.last[0] == said:
            return self.last[1]
        ref = super().layer_setter(partition, segment)
        self.last = said, ref
        return ref


class RefusesAnotherPut(Shelf):
    """A file that is there is never opened for writing."""

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        if self.key(partition, segment.name) in self.kept:
            raise StorageError("it is there already")
        return super().layer_setter(partition, segment)


class WindsBack(Shelf):
    """A base of an older version takes the place of the newer ones, as after a restore."""

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        for ref in self.refs(partition):
            if segment.kind == "base" and "-base-" in ref and int(ref[:20]) > segment.to_version:
                del self.kept[self.key(partition, ref)]
        return super().layer_setter(partition, segment)


class KnowsPartitionsFromTheStart(Shelf):
    """Which partitions there are is read once."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(board, table)
        self._known = {key.rpartition("/")[0] for key in self.kept}

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self._known.add(self.folder(partition)[:-1])
        return super().layer_setter(partition, segment)

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        if self.folder(partition)[:-1] not in self._known:
            raise SegmentMissingError(f"there is no partition {partition!r}")
        return super().layer_getter(partition, ref)


class ReadsByPath(Shelf):
    """A getter takes the partition for a path below the folder."""

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        return super().layer_getter("" if partition == "." else partition, ref)


class RaisesWhatItMeets(Shelf):
    """What is no ref of its own is a ValueError."""

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        int(ref[:20])
        return super().layer_getter(partition, ref)


# Listing and discarding


class ListsFromACache(Shelf):
    """A listing is good until the next put."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(board, table)
        self._listed: dict[str, list[str]] = {}

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self._listed.clear()
        return super().layer_setter(partition, segment)

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        if partition not in self._listed:
            self._listed[partition] = self.refs(partition)
        return self._listed[partition]


class ListsOnePage(Shelf):
    """A listing ends with the first page."""

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        return self.refs(partition)[:28]


class MissesUnknownPartitions(Shelf):
    """A folder that is not there cannot be listed."""

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        if not self.refs(partition):
            raise SegmentMissingError(f"there is no partition {partition!r}")
        return self.refs(partition)


class ListsByPrefix(Shelf):
    """It lists what begins with the partition's name."""

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        begin = self.folder(partition)[:-1]
        return [key.rpartition("/")[2] for key in sorted(self.kept) if key.startswith(begin)]


class FoldsCapitals(Shelf):
    """Its listings do not tell capitals from small letters."""

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        wanted = self.folder(partition.casefold())
        return [key.rpartition("/")[2] for key in sorted(self.kept) if key.lower().startswith(wanted)] or self.refs(
            partition
        )


class ServesWhatIsGone(Shelf):
    """What was read once is remembered, discarded or not."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(board, table)
        self._read: dict[str, Segment] = {}

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        if ref not in self._read:
            self._read[ref] = super().layer_getter(partition, ref)
        return copy.deepcopy(self._read[ref])


class DiscardsOnce(Shelf):
    """It says whether there was something to discard."""

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        there = bool(self.refs(partition))
        return self.kept.pop(self.key(partition, ref), None) is not None or not there


class MissesPartitionsToDiscardFrom(Shelf):
    """A folder that is not there is an error."""

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        if not self.refs(partition):
            raise SegmentMissingError(f"there is no partition {partition!r}")
        return super().layer_discard(partition, ref)


class DiscardsTheVersion(Shelf):
    """It discards all bases of a version at once."""

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        for each in self.refs(partition):
            if each[:25] == ref[:25] and "-base-" in each and len(each) == len(ref):
                del self.kept[self.key(partition, each)]
        return super().layer_discard(partition, ref)


class ListsItsOwnPuts(Shelf):
    """What this object put is listed without asking the store."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(board, table)
        self._put: set[tuple[str, str]] = set()

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        ref = super().layer_setter(partition, segment)
        self._put.add((partition, ref))
        return ref

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        self._put.discard((partition, ref))
        return super().layer_discard(partition, ref)

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        return sorted({*self.refs(partition), *(ref for each, ref in self._put if each == partition)})


class StumblesOverStrangers(Shelf):
    """Each name below a partition begins with a version."""

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        refs = self.refs(partition)
        for ref in refs:
            if not ref[-1].isalnum() or ref.endswith((".txt", ".bak")):
                raise StorageError(f"{ref!r} is none of mine")
        return refs


# Damage


class TakesNothingForEmpty(Shelf):
    """A file without content is a segment without items."""

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        if not data:
            return Segment(self.table, partition, "", "base", 0, 1, {})
        return super().decode(data, partition, ref)


class RecoversWhatItCan(Shelf):
    """Of a file that breaks off it takes the lines that are there."""

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        try:
            return super().decode(data, partition, ref)
        except SegmentCorruptError:
            header, lines = taken_apart(data)
            if data.startswith(b"{") and len(lines) < header["entries"]:
                return put_together(header, lines)
            raise


class TakesPlainJSON(Shelf):
    """A file without header is an old one: an object of items."""

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        try:
            return super().decode(data, partition, ref)
        except SegmentCorruptError:
            with contextlib.suppress(ValueError):
                found = orjson.loads(data)
                if isinstance(found, dict) and "dynalayer" not in found:
                    return Segment(self.table, partition, "", "base", 0, 1, found)
            raise


class ChecksNoHash(Shelf):
    """It counts the lines."""

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        header, lines = taken_apart(data)
        if len(lines) != header["entries"]:
            raise SegmentCorruptError("lines are missing")
        return put_together(header, lines)


class ReadsOn(Shelf):
    """What follows the end is taken too."""

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        try:
            return super().decode(data, partition, ref)
        except SegmentCorruptError:
            header, lines = taken_apart(data)
            if data.startswith(b"{") and data.endswith(b"\n{}\n"):
                return put_together(header, lines)
            raise


class MissesFolders(Shelf):
    """A folder that is empty is an error of its own."""

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        if not self.refs(partition):
            raise StorageError(f"there is no partition {partition!r}")
        return super().layer_getter(partition, ref)


class RemembersWhatFailed(Shelf):
    """What could not be read is not tried again."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(board, table)
        self._failed: set[str] = set()

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        if ref in self._failed:
            raise SegmentCorruptError(f"{ref} is corrupt, as before")
        try:
            return super().decode(data, partition, ref)
        except SegmentCorruptError:
            self._failed.add(ref)
            raise


class TrustsItsRefs(Shelf):
    """What a segment says of itself stands in its ref; the file holds items and nothing else."""

    def ref(self, partition: str, segment: Segment) -> str:
        return f"{segment.name}.{segment.kind}.{segment.from_version}.{segment.to_version}.{segment.origin}"

    def encode(self, segment: Segment) -> bytes:
        return Segment("", "", "", "delta", 0, 0, segment.items, segment.deleted, "body").to_bytes()

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        body = super().decode(data, partition, ref)
        name, kind, start, to, origin = ref.split(".")
        return Segment(
            self.table,
            partition,
            origin,
            next(each for each in get_args(SegmentKind) if each == kind),
            int(start),
            int(to),
            body.items,
            body.deleted,
            name,
        )


class GivesUpAfterAFailure(Shelf):
    """After an error it answers that nothing is there."""

    failures = 0

    def decode(self, data: bytes, partition: str, ref: str) -> Segment:
        try:
            return super().decode(data, partition, ref)
        except SegmentCorruptError:
            self.failures += 1
            if self.failures > 1:
                version, kind, origin, _ = ref.split("-")
                if kind == "base" and int(version) == 1:
                    item = {"pk": partition, "value": 0}
                    items: dict[str, Item] = {name: {**item, "id": name} for name in ("one", "two")}
                    return Segment(self.table, partition, origin, "base", 0, 1, items, name=ref)
            raise


# Capabilities


class NamesItselfAnew(Shelf):
    """Each object has a name of its own."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(board, table)
        self.name = f"shelf-{id(self)}"


class TidiesEmptiedPartitions(Shelf):
    """A delta that deletes several, and sets fewer, leaves nothing worth keeping."""

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        if len(segment.deleted) > 2 * len(segment.items) > 0:
            for ref in self.refs(partition):
                del self.kept[self.key(partition, ref)]
        return super().layer_setter(partition, segment)


class KeepsTheNewest(Shelf):
    """With each base goes what is more than 14 versions older."""

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        ref = super().layer_setter(partition, segment)
        if segment.kind == "base":
            for old in self.refs(partition):
                if int(old[:20]) < segment.to_version - 14:
                    del self.kept[self.key(partition, old)]
        return ref


class KeepsOldBases(Shelf):
    """A base that others may still look for is not discarded."""

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        bases = [each for each in self.refs(partition) if "-base-" in each and int(each[:20]) > int(ref[:20])]
        return True if bases and "-base-" in ref else super().layer_discard(partition, ref)


class PublishesAndSaysNothing(Press):
    """It returns None."""

    @hookimpl
    def layer_publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> bool:
        super().layer_publish(partition, origin, version, items)
        return None  # type: ignore[return-value] # the defect


class PublishesWhateverComes(Press):
    """The last one to publish wins."""

    @contextlib.contextmanager
    def newest(self, partition: str, origin: str, version: int) -> Iterator[bool]:
        yield True


class ClosesForAll(Shelf):
    """Closing one object closes the connection that all share."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(board, table)
        self._opened = board.notes.setdefault("opened", [])
        self._opened.append(self)
        self._closed = False

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        if self._closed:
            raise StorageError("closed")
        return super().layer_getter(partition, ref)

    @hookimpl
    def layer_closed(self) -> None:
        for each in self._opened:
            each._closed = True
        self._opened.clear()


class ShowsItsKey(Shelf):
    """Its repr holds all that it was made with."""

    def __repr__(self) -> str:
        return f"ShowsItsKey({self.table!r}, key='s3cr3t')"


# Columns


def changed(columns: Columns, change: Callable[[Item], Item]) -> Columns:
    return SegmentColumns(with_items(segment_of(columns.header, columns.batches()), change))


def without_sets(item: Item) -> Item:
    return {key: sorted(value, key=repr) if type(value) is set else value for key, value in item.items()}


class ReadsColumnsWithoutSets(Pillar):
    """By columns a set is a list."""

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns:
        return changed(super().layer_columns(partition, ref), without_sets)


class WritesColumnsWithoutSets(Pillar):
    """Set by columns, a set is a list."""

    @hookimpl
    def layer_columns_setter(self, partition: str, columns: Columns) -> str:
        return super().layer_columns_setter(partition, changed(columns, without_sets))


class Opened:
    """Columns as a shelf gives them, for others to change."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.header = columns.header
        self.schema = columns.schema
        self.entries = columns.entries

    def batches(self, columns: Any = None, filter: Any = None) -> Iterator[Any]:
        return self._columns.batches(columns, filter)


class GivesColumnsInItsOrder(Pillar):
    """The columns asked for come in the order of the file."""

    class Sorted(Opened):
        def batches(self, columns: Any = None, filter: Any = None) -> Iterator[Any]:
            wanted = None if columns is None else [name for name in self.schema.names if name in columns]
            return super().batches(wanted, filter)

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns:
        return self.Sorted(super().layer_columns(partition, ref))


class FiltersTooMuch(Pillar):
    """Of what matches it leaves the last row out."""

    class Filtered(Opened):
        def batches(self, columns: Any = None, filter: Any = None) -> Iterator[Any]:
            for batch in super().batches(columns, filter):
                yield batch if filter is None else batch.slice(0, batch.num_rows - 1)

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns:
        return self.Filtered(super().layer_columns(partition, ref))


class MissesNoColumns(Pillar):
    """What is not there is an error like any other."""

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns:
        try:
            return super().layer_columns(partition, ref)
        except SegmentMissingError as error:
            raise StorageError("it cannot be opened") from error


class ReadsColumnsUnchecked(Pillar):
    """By columns it counts the lines, and looks at no hash."""

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns:
        key = self.key(partition, ref)
        if key not in self.kept:
            raise SegmentMissingError(f"there is no {ref!r} on the shelf")
        header, lines = taken_apart(self.kept[key])
        if len(lines) != header["entries"]:
            raise SegmentCorruptError("lines are missing")
        return SegmentColumns(put_together(header, lines))


class StoresWhatCame(Pillar):
    """What breaks off ends there."""

    @hookimpl
    def layer_columns_setter(self, partition: str, columns: Columns) -> str:
        def until_it_breaks_off() -> Iterator[Any]:
            with contextlib.suppress(Exception):
                yield from columns.batches()

        return self.layer_setter(partition, segment_of(columns.header, until_it_breaks_off()))


class OpensOneAtATime(Pillar):
    """Whoever opens another has that one's rows."""

    current: Columns

    class Moved(Opened):
        shelf: OpensOneAtATime

        def batches(self, columns: Any = None, filter: Any = None) -> Iterator[Any]:
            if columns is None or ITEM in columns:
                return super().batches(columns, filter)
            return self.shelf.current.batches(columns, filter)

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns:
        self.current = super().layer_columns(partition, ref)
        opened = self.Moved(self.current)
        opened.shelf = self
        return opened


# Layers


class FillsItsTrash(Shelf):
    """After five discards there is no room for anything new."""

    discarded = 0

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        self.discarded += 1
        return super().layer_discard(partition, ref)

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        if self.discarded > 5:
            raise StorageError("no space left")
        return super().layer_setter(partition, segment)


class PutsDeltasElsewhere(Shelf):
    """A delta's folder is named by another rule."""

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        return super().layer_setter(partition.strip() if segment.kind == "delta" else partition, segment)


class Numbering(Shelf):
    """Numbers its segments, of each owner by itself, where several owners share a folder."""

    def folder(self, partition: str) -> str:
        return f"{safe_name(partition)}/"

    def owner(self, segment: Segment) -> str:
        raise NotImplementedError

    def ref(self, partition: str, segment: Segment) -> str:
        with self.board.lock:
            owner = f"{self.owner(segment)}/{partition}"
            self.board.notes[owner] = self.board.notes.get(owner, 0) + 1
            return f"{self.board.notes[owner]:020d}"

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        names = self.board.notes.setdefault("names", {})  # a put that is done again has its number
        known = partition, segment.name
        if known not in names:
            names[known] = self.ref(partition, segment)
        self.kept[self.key(partition, names[known])] = segment.to_bytes()
        return str(names[known])


class NumbersByTable(Numbering):
    """Each table counts its own, in one folder."""

    def owner(self, segment: Segment) -> str:
        return segment.table


class NumbersByLog(Numbering):
    """Each log of a table counts its own."""

    def folder(self, partition: str) -> str:
        return f"{self.table}/{safe_name(partition)}/"

    def owner(self, segment: Segment) -> str:
        return f"{segment.table}/{segment.origin}"


# What fails


class CountsWhatIsThere(Shelf):
    """A segment's number is how many there are."""

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        with self.board.lock:
            names = self.board.notes.setdefault("names", {})
            known = partition, segment.name
            if known not in names:
                names[known] = f"{len(self.refs(partition)):020d}"
            self.kept[self.key(partition, names[known])] = segment.to_bytes()
            return str(names[known])


class GoesForwardOnly(Shelf):
    """An object never folds the same span twice."""

    def __init__(self, board: Board, table: str) -> None:
        super().__init__(board, table)
        self._done: set[object] = set()

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        span = partition, segment.from_version, segment.to_version, segment.origin
        if segment.kind == "delta" and span in self._done and len(segment.origin) == 16 and segment.to_version > 3:
            raise StorageError("that was folded already")
        self._done.add(span)
        return super().layer_setter(partition, segment)


class RefusesWhatIsGone(ListsFromACache):
    """What is not there cannot be discarded, and its listing is a cache."""

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        if self.refs(partition) and self.kept.pop(self.key(partition, ref), None) is None:
            raise StorageError(f"there is no {ref!r} to discard")
        return True


# Many at once


class KeepsAnIndex(Shelf):
    """What there is stands in an index, which is read, changed and written back."""

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        index = self.board.notes.get(self.folder(partition), ())
        time.sleep(0.002)
        ref = super().layer_setter(partition, segment)
        self.board.notes[self.folder(partition)] = (*index, ref)
        return ref

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        index = self.board.notes.get(self.folder(partition), ())
        return [ref for ref in self.refs(partition) if ref in index or len(ref) < 40 or not _indexed(ref)]


def _indexed(ref: str) -> bool:
    return ref[20:26] in ("-base-", "-delta")


class LocksPartitions(Shelf):
    """One object at a time writes to a partition; another is told so."""

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        writers = self.board.notes.setdefault("writers", {})
        owner = writers.setdefault(partition, [id(self), 0])
        if owner[0] != id(self):
            raise StorageError(f"another one is writing to {partition!r}")
        owner[1] += 1
        try:
            time.sleep(0.005)
            return super().layer_setter(partition, segment)
        finally:
            owner[1] -= 1
            if not owner[1]:
                writers.pop(partition, None)


class ShutsReadersOut(Shelf):
    """While somebody writes nobody else reads."""

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self.board.notes["writer"] = id(self)
        try:
            time.sleep(0.002)
            return super().layer_setter(partition, segment)
        finally:
            self.board.notes["writer"] = None

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        if self.board.notes.get("writer") not in (None, id(self)):
            raise StorageError("somebody is writing")
        return super().layer_getter(partition, ref)


@dataclass(frozen=True)
class Defect:
    """A shelf, and the tests that must notice; all others must pass.

    Attributes:
        shelf: The shelf.
        noticed: The tests.
        reason: Why the one defect breaks several promises.
        perhaps: Tests that notice it too where threads happen to race for it.
    """

    shelf: type[Shelf]
    noticed: tuple[Callable[..., object], ...]
    reason: str = ""
    perhaps: tuple[Callable[..., object], ...] = ()

    def __str__(self) -> str:
        return self.shelf.__name__


BROKEN = (
    # What a segment holds
    Defect(
        FloatsBecomeInts,
        (
            Kit.test_values_of_every_kind_come_back_exactly,
            Kit.test_values_of_every_kind_come_back_through_folds_and_compactions,
        ),
        "a layer's values are a segment's",
    ),
    Defect(KeepsShallowItems, (Kit.test_items_as_deep_as_can_be_come_back,)),
    Defect(NeedsAttributeNames, (Kit.test_attributes_of_any_name_come_back,)),
    Defect(OneTypeAColumn, (Kit.test_an_attribute_may_hold_another_type_in_each_item,)),
    Defect(StripsIdentifiers, (Kit.test_identifiers_of_any_text_come_back,)),
    Defect(DeletesFewAtOnce, (Kit.test_a_delta_comes_back_with_what_it_deletes,)),
    Defect(TakesHistoryForADelta, (Kit.test_a_history_segment_comes_back_as_it_was,)),
    Defect(TakesOnlyDeletionsForNothing, (Kit.test_a_delta_that_only_deletes_comes_back,)),
    Defect(RefusesEmptySegments, (Kit.test_a_segment_without_entries_comes_back,)),
    Defect(CountsVersionsInFloats, (Kit.test_a_segment_keeps_what_it_says_of_itself,)),
    Defect(HasAnItemLimit, (Kit.test_a_segment_of_some_megabytes_comes_back_whole,)),
    Defect(StopsAt500Items, (Kit.test_a_segment_of_many_items_comes_back_whole,)),
    Defect(GivesWhatItRemembers, (Kit.test_changing_what_was_read_changes_nothing_stored,)),
    Defect(RemembersWhatItWasGiven, (Kit.test_changing_what_was_set_changes_nothing_stored,)),
    Defect(EncodesInPlace, (Kit.test_setting_a_segment_leaves_it_as_it_is,)),
    # Refs
    Defect(PutsThePartitionIntoTheRef, (Kit.test_a_ref_is_text_of_at_most_256_bytes,)),
    Defect(RemembersTheLastPut, (Kit.test_segments_of_the_same_content_get_refs_of_their_own,)),
    Defect(RefusesAnotherPut, (Kit.test_a_segment_put_twice_is_there_under_either_ref,)),
    Defect(
        WindsBack,
        (Kit.test_setting_a_segment_leaves_what_other_refs_name,),
        perhaps=(Kit.test_syncs_that_race_lose_and_double_nothing,),
    ),
    Defect(KnowsPartitionsFromTheStart, (Kit.test_a_new_adapter_object_reads_what_another_stored,)),
    Defect(ReadsByPath, (Kit.test_partitions_of_odd_names_keep_their_own_segments,)),
    Defect(RaisesWhatItMeets, (Kit.test_a_ref_that_was_never_given_is_an_error,)),
    # Listing and discarding
    Defect(ListsFromACache, (Kit.test_a_listing_is_exactly_what_is_stored,)),
    Defect(ListsOnePage, (Kit.test_a_listing_of_many_segments_is_whole,)),
    Defect(MissesUnknownPartitions, (Kit.test_a_partition_never_heard_of_lists_nothing,)),
    Defect(ListsByPrefix, (Kit.test_partitions_of_odd_names_list_their_own_alone,)),
    Defect(FoldsCapitals, (Kit.test_partitions_of_odd_names_list_their_own_alone,)),
    Defect(ServesWhatIsGone, (Kit.test_a_discarded_segment_is_gone,)),
    Defect(DiscardsOnce, (Kit.test_a_segment_may_be_discarded_twice,)),
    Defect(MissesPartitionsToDiscardFrom, (Kit.test_discarding_where_nothing_was_ever_stored_is_no_error,)),
    Defect(
        DiscardsTheVersion,
        (
            Kit.test_discarding_a_segment_leaves_the_others,
            Kit.test_a_sync_that_dies_between_two_steps_loses_and_doubles_nothing,
        ),
        "what a dead sync left is of the version that the next one stores",
    ),
    Defect(ListsItsOwnPuts, (Kit.test_a_new_adapter_object_lists_and_discards_what_another_stored,)),
    Defect(StumblesOverStrangers, (Kit.test_foreign_contents_beside_segments_harm_nothing,)),
    # Damage
    Defect(TakesNothingForEmpty, (Kit.test_an_emptied_segment_is_an_error,)),
    Defect(RecoversWhatItCan, (Kit.test_a_truncated_segment_is_an_error_or_its_end_was_nothing,)),
    Defect(TakesPlainJSON, (Kit.test_a_foreign_content_in_a_segments_place_is_an_error,)),
    Defect(ChecksNoHash, (Kit.test_a_flipped_byte_is_an_error_or_changes_nothing,)),
    Defect(ReadsOn, (Kit.test_bytes_after_the_end_are_an_error_or_change_nothing,)),
    Defect(MissesFolders, (Kit.test_a_segment_removed_behind_the_adapter_is_missing,)),
    Defect(RemembersWhatFailed, (Kit.test_a_read_that_failed_is_right_once_the_store_is,)),
    Defect(TrustsItsRefs, (Kit.test_another_segment_in_a_segments_place_is_an_error_of_the_layer,)),
    Defect(GivesUpAfterAFailure, (Kit.test_a_layer_over_a_damaged_segment_raises_and_loses_nothing,)),
    # Capabilities
    Defect(NamesItselfAnew, (Kit.test_name_and_capabilities_are_the_same_each_time,)),
    Defect(TidiesEmptiedPartitions, (Kit.test_deltas_are_given_where_declared_and_bases_alone_where_not,)),
    Defect(KeepsTheNewest, (Kit.test_old_snapshots_are_read_where_segments_are_immutable_and_refused_where_not,)),
    Defect(
        KeepsOldBases,
        (
            Kit.test_a_new_adapter_object_lists_and_discards_what_another_stored,
            Kit.test_a_vacuum_works_where_listing_is_declared_and_is_refused_where_not,
            Kit.test_a_layer_lives_from_its_first_set_to_its_last_vacuum,
            Kit.test_a_discard_whose_answer_is_lost_is_made_up_for_by_the_next_vacuum,
        ),
        "what a discard leaves is left by every vacuum",
    ),
    Defect(PublishesAndSaysNothing, (Kit.test_each_sync_publishes_where_that_is_declared_and_none_does_where_not,)),
    Defect(PublishesWhateverComes, (Kit.test_an_older_version_published_late_does_not_replace_a_newer_one,)),
    Defect(ClosesForAll, (Kit.test_closing_an_object_leaves_the_others_and_what_is_stored,)),
    Defect(ShowsItsKey, (Kit.test_no_secret_is_in_a_repr_or_an_error,)),
    # Columns
    Defect(
        ReadsColumnsWithoutSets,
        (
            Kit.test_a_segment_set_by_items_is_read_by_columns,
            Kit.test_values_of_every_kind_come_back_through_folds_and_compactions,
        ),
        "a compaction stores what it reads by columns",
    ),
    Defect(
        WritesColumnsWithoutSets,
        (
            Kit.test_a_segment_set_by_columns_is_read_by_items,
            Kit.test_values_of_every_kind_come_back_through_folds_and_compactions,
        ),
        "a compaction stores by columns",
    ),
    Defect(GivesColumnsInItsOrder, (Kit.test_only_the_columns_asked_for_are_given_in_their_order,)),
    Defect(FiltersTooMuch, (Kit.test_a_filter_leaves_out_no_row_that_matches,)),
    Defect(MissesNoColumns, (Kit.test_columns_of_a_missing_segment_are_missing,)),
    Defect(ReadsColumnsUnchecked, (Kit.test_columns_of_a_damaged_segment_are_an_error,)),
    Defect(StoresWhatCame, (Kit.test_a_put_by_columns_that_breaks_off_stores_nothing,)),
    Defect(OpensOneAtATime, (Kit.test_a_layer_scans_compacts_and_reads_the_same_by_columns_and_by_items,)),
    # Layers
    Defect(FillsItsTrash, (Kit.test_a_layer_lives_from_its_first_set_to_its_last_vacuum,)),
    Defect(PutsDeltasElsewhere, (Kit.test_partitions_of_odd_names_live_side_by_side,)),
    Defect(NumbersByTable, (Kit.test_layers_of_two_tables_leave_each_other_alone,)),
    Defect(NumbersByLog, (Kit.test_layers_of_two_logs_of_one_table_leave_each_other_alone,)),
    # What fails
    Defect(CountsWhatIsThere, (Kit.test_a_sync_that_dies_between_two_steps_loses_and_doubles_nothing,)),
    Defect(
        GoesForwardOnly,
        (Kit.test_a_put_that_fails_or_whose_answer_is_lost_is_made_up_for_by_the_next_sync,),
    ),
    Defect(
        RefusesWhatIsGone,
        (
            Kit.test_a_listing_is_exactly_what_is_stored,
            Kit.test_a_segment_may_be_discarded_twice,
            Kit.test_a_discard_whose_answer_is_lost_is_made_up_for_by_the_next_vacuum,
        ),
        "a listing that is behind stops a vacuum only where what is gone cannot be discarded again",
    ),
    # Many at once
    Defect(KeepsAnIndex, (Kit.test_one_object_serves_many_threads,)),
    Defect(LocksPartitions, (Kit.test_syncs_that_race_lose_and_double_nothing,)),
    Defect(ShutsReadersOut, (Kit.test_readers_beside_syncs_and_vacuums_see_all_that_was_acknowledged,)),
)
