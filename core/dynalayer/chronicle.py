"""History segments: the records of a span of versions, as segments that any adapter keeps, and which of them to read.

An entry is an event: a flat item of text and whole numbers, so that every adapter brings it back as it was, however
deep the event's own item is, which it holds as the exact JSON text of the record. Its identifier is the record's
version and the event's place in it, so that entries sort as they happened. A record without events leaves a mark.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from dynalayer.clock import INITIAL
from dynalayer.errors import SegmentCorruptError
from dynalayer.eventlog.base import EventLog, OldSegment, Record, RecordKind, SegmentRef
from dynalayer.packing import frame
from dynalayer.segments import Segment, fresh_name
from dynalayer.snapshots import body_of
from dynalayer.values import Item

__all__ = [
    "FOREVER",
    "FULL",
    "Stretch",
    "covering",
    "due_history",
    "history_of",
    "history_segment",
    "merged_segment",
    "records_of",
    "size_of",
    "stretches",
    "superseded",
]

FOREVER = 253_370_764_800_000_000
"""Until when an old segment is kept that is kept for ever: the year 9999, later than any clock may tell."""

FULL = 32 * 1024 * 1024
"""Bytes of text that a history segment is merged up to: some MB stored, and about 100 MB in memory while it is read."""

_EVENT = 100  # bytes that an entry takes besides its item and identifier
_RESET, _PASSED = "RESET", "PASSED"  # the marks of a reset that was committed, and of one that never was
_JSON = "$json"  # stores that keep columns make none of what begins so: it is the bulk, and would be there twice
_ENTRY = re.compile(r"(\d{20})\.(\d{9})")
_SIZED = re.compile(r"\d{20}-h(\d\d)-")


def history_segment(
    log: EventLog, partition: str, after: int, records: Iterable[Record], cursor: str, *, committed: Container[int] = ()
) -> Segment:
    """The records that follow a version, as a history segment.

    Args:
        log: The layer's event log.
        partition: The partition.
        after: The version before the first.
        records: They, in order and without a gap; at least one.
        cursor: Of the sync that folds those that are pending still.
        committed: Versions of resets that were committed, or may have been. Any other was passed, and changed nothing.

    Raises:
        EventLogError: A record is rotten; names it.
    """
    items: dict[str, Item] = {}
    version = after
    for record in records:
        version = record.version
        told: dict[str, object] = {
            "at": record.at,
            "cursor": cursor if record.cursor == INITIAL else record.cursor,
            "total": record.events_total,
        }
        changes = orjson.loads(body_of(log, partition, record))
        for place, (kind, identifier, item) in enumerate(changes):
            entry = {"type": kind, "id": identifier, _JSON: orjson.dumps(item).decode(), **told}
            items[f"{version:020d}.{place:09d}"] = entry
        if not changes:
            mark = _RESET if record.kind is RecordKind.RESET and version in committed else _PASSED
            items[f"{version:020d}.{0:09d}"] = {"type": mark, "id": "", _JSON: "", **told}
    return _segment(log, partition, after, version, items)


def merged_segment(log: EventLog, partition: str, parts: Sequence[Segment]) -> Segment:
    """History segments, each beginning where the one before it ends or earlier, as one."""
    items: dict[str, Item] = {}
    for part in parts:
        items.update(part.items)
    return _segment(log, partition, parts[0].from_version, parts[-1].to_version, items)


def _segment(log: EventLog, partition: str, after: int, through: int, items: Mapping[str, Item]) -> Segment:
    size = sum(_EVENT + len(item["id"]) + len(item[_JSON]) for item in items.values())
    # The name tells about how large it is, so that the list alone tells what to merge.
    name = fresh_name(f"h{size.bit_length():02d}", through, log.origin)
    return Segment(log.table, partition, log.origin, "history", after, through, items, name=name)


def size_of(named: SegmentRef) -> int:
    """At most how many bytes of text a history segment has, by its name; one that is named otherwise is full."""
    sized = _SIZED.match(named.name)
    return 2 ** int(sized[1]) if sized else FULL


def records_of(segment: Segment) -> list[Record]:
    """A history segment's records, in order, as the log had them but for what is of use only there.

    Raises:
        SegmentCorruptError: It is none, or one of its versions is missing.
    """
    records: list[Record] = []
    expected = segment.from_version + 1
    try:
        for version, entries in _by_version(segment):
            if version != expected or version > segment.to_version:
                raise SegmentCorruptError(
                    f"history segment {segment.name!r} has version {version} after {expected - 1}"
                )
            records.append(_record(version, entries))
            expected += 1
    except (KeyError, TypeError, ValueError) as error:
        raise SegmentCorruptError(
            f"history segment {segment.name!r} has an entry that is no event: {error!r}"
        ) from error
    if expected <= segment.to_version:
        raise SegmentCorruptError(f"history segment {segment.name!r} ends before version {expected}, one that it names")
    return records


def _by_version(segment: Segment) -> Iterator[tuple[int, list[Item]]]:
    version, entries = 0, list[Item]()
    for identifier in sorted(segment.items):
        told = _ENTRY.fullmatch(identifier)
        if told is None:
            raise ValueError(f"{identifier!r:.100} is no version and place")
        if int(told[1]) != version:
            if entries:
                yield version, entries
            version, entries = int(told[1]), []
        if int(told[2]) != len(entries):
            raise ValueError(f"of version {version} event {len(entries)} is missing")
        entries.append(segment.items[identifier])
    if entries:
        yield version, entries


def _record(version: int, entries: Sequence[Item]) -> Record:
    first = entries[0]
    changes = [_change(entry) for entry in entries if entry["type"] not in (_RESET, _PASSED)]
    at, total, cursor = first["at"], first["total"], first["cursor"]
    if type(at) is not int or type(total) is not int or type(cursor) is not str:
        raise ValueError(f"version {version} has no moment, cursor or total")
    return Record(
        version=version,
        kind=RecordKind.RESET if first["type"] == _RESET else RecordKind.CHANGES,
        nonce="",
        at=at,
        count=len(changes),
        retention=0,
        payload=frame(b"[" + b",".join(changes) + b"]", compress=False),
        events_total=total,
        bytes_total=0,
        cursor=cursor,
    )


def _change(entry: Item) -> bytes:
    """An event as it stands in a record; what in it is wrong is found there."""
    return orjson.dumps([entry["type"], entry["id"]])[:-1] + b"," + str(entry[_JSON]).encode() + b"]"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Versions of which history is kept without a gap.

    Attributes:
        after: The version before the first of them.
        through: The last of them.
        segments: What to read for them, in order. Where two were merged at once a segment may begin before the one
            before it ends.
    """

    after: int
    through: int
    segments: tuple[SegmentRef, ...]


def history_of(listed: Iterable[OldSegment]) -> tuple[SegmentRef, ...]:
    """The history segments among old ones."""
    return tuple(old.segment for old in listed if old.segment.kind == "history")


def stretches(history: Iterable[SegmentRef]) -> list[Stretch]:
    """The versions that history segments hold, and which of these to read for them, the longest rather than many."""
    found: list[Stretch] = []
    left = sorted(history, key=lambda named: (named.from_version, -named.to_version))
    while left:
        reached = after = left[0].from_version
        chosen: list[SegmentRef] = []
        while (named := covering(left, reached)) is not None:
            chosen.append(named)
            reached = named.to_version
        found.append(Stretch(after, reached, tuple(chosen)))
        left = [named for named in left if named.to_version > reached]
    return found


def covering(history: Iterable[SegmentRef], after: int) -> SegmentRef | None:
    """Of the segments that hold the version after one, that which leads furthest; None where there is none."""
    fitting = [named for named in history if named.from_version <= after < named.to_version]
    return max(fitting, key=lambda named: (named.to_version, -named.from_version), default=None)


def superseded(history: Sequence[SegmentRef]) -> list[str]:
    """Refs of segments that nobody needs any more, since others hold all of their versions."""
    needed = {named.ref for stretch in stretches(history) for named in stretch.segments}
    return sorted(named.ref for named in history if named.ref not in needed)


def due_history(sizes: Sequence[int], least: int) -> tuple[int, int] | None:
    """Which of a stretch's segments should become one, as a half-open range of positions; None for none.

    The newest ones once there are some, and further back as long as the next older one is no more than twice as large
    as what is merged already; none that would make more than a full one. So what one event costs in rewriting grows
    with the logarithm of their number, and beside the full segments there are but a few.

    Args:
        sizes: Theirs, oldest first, in bytes of text.
        least: How many of the newest are merged at least.
    """
    end = len(sizes)
    begin = max((position + 1 for position, size in enumerate(sizes) if _is_full(size)), default=0)
    start, total = end, 0
    while start > begin and (end - start < least or sizes[start - 1] <= 2 * total):
        if total + sizes[start - 1] > FULL:
            return start, end
        start -= 1
        total += sizes[start]
    if end - start >= least:
        return start, end
    # What merges that failed have left behind full ones.
    return next(((each, each + 2) for each in range(begin - 1) if sizes[each] + sizes[each + 1] <= FULL), None)


def _is_full(size: int) -> bool:
    return 2 * size > FULL
