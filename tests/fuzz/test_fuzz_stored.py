"""Whatever the stores hold: rot and slips are told as such, and what is read without an error is what was kept."""

from __future__ import annotations

import contextlib
import io
import sqlite3
import zlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynalayer import Layer, LayerError, Segment, SegmentCorruptError
from dynalayer.columns import SegmentColumns
from dynalayer.eventlog.base import Draft, Head, OldSegment, RecordKind, SegmentRef
from dynalayer.eventlog.dynamodb import rows
from dynalayer.events import Change, pack, unpack
from dynalayer.packing import frame, unframe
from dynalayer_local import LocalAdapter
from dynalayer_parquet.files import read_segment, write_columns
from mutations import memory_bounded, mutated
from strategies import exactly

LIMIT = 64 * 1024 * 1024
MB = 1024 * 1024
GUARD = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def item(number: int) -> dict[str, Any]:
    return {
        "sk": f"user-{number}",
        "n": number,
        "d": Decimal("1.50"),
        "b": b"\0\xff",
        "s": {"x", "y"},
        "m": {"$set": 1},
    }


def bomb(start: bytes, unpacked: int) -> bytes:
    """A frame that says nothing of its size and unpacks to very many zeros after a beginning."""
    # Raw block, then blocks of one byte repeated; see RFC 8878, 3.1.1.2.
    blocks = [(len(start) << 3).to_bytes(3, "little") + start] if start else []
    repeats = unpacked // (128 * 1024)
    each = ((128 * 1024 << 3) | 2).to_bytes(3, "little") + b"0"
    last = ((1 << 3) | 3).to_bytes(3, "little") + b"0"
    window = bytes([(17 - 10) << 3])
    return b"\x28\xb5\x2f\xfd\x00" + window + b"".join(blocks) + each * repeats + last


# Packed records

CHANGES = [Change("PUT", f"user-{number}", item(number)) for number in range(12)]
PACKED = {"plain": pack(CHANGES[:1]), "compressed": pack(CHANGES)}


@pytest.mark.parametrize("which", PACKED)
@GUARD
@given(data=st.data())
def test_a_mutated_record_is_a_value_error_or_what_it_was(which: str, data: st.DataObject) -> None:
    whole = PACKED[which]
    rotten = data.draw(mutated(whole))
    with memory_bounded(MB), contextlib.suppress(ValueError):
        found = unpack(rotten, LIMIT)
        assert exactly([vars_of(each) for each in found]) == exactly([vars_of(each) for each in unpack(whole, LIMIT)])


def vars_of(change: Change) -> list[Any]:
    return [change.type, change.id, change.item]


@pytest.mark.parametrize("claimed", [None, 256 * 1024])
def test_a_record_that_unpacks_to_more_than_it_claims_fills_no_memory(claimed: int | None) -> None:
    """Its checksum is right: somebody made it so."""
    body = bomb(b"[", 256 * MB)
    if claimed is not None:  # a frame of one segment, that tells its size in four bytes
        body = body[:4] + b"\xa0" + claimed.to_bytes(4, "little") + body[6:]
    made = b"Z" + zlib.crc32(body).to_bytes(4, "big") + body
    assert len(made) < 20_000
    with memory_bounded(80 * MB), pytest.raises(ValueError, match=r"."):
        unframe(made, LIMIT)


# Segments

SEGMENT = Segment(
    "users", "eu", "log-1", "delta", 5, 7, {f"user-{n}": item(n) for n in range(40)}, frozenset({"gone"}), name="one"
)
SMALL = Segment("users", "eu", "log-1", "base", 0, 7, {"user-1": item(1)}, name="one")


def parquet(segment: Segment) -> bytes:
    file = io.BytesIO()
    write_columns(file, SegmentColumns(segment))
    return file.getvalue()


READ: dict[str, tuple[Segment, bytes, Callable[[bytes], Segment]]] = {
    "json plain": (SMALL, SMALL.to_bytes(), lambda data: Segment.from_bytes(data, source="box 3")),
    "json frame": (SEGMENT, SEGMENT.to_bytes(), lambda data: Segment.from_bytes(data, source="box 3")),
    "parquet": (SEGMENT, parquet(SEGMENT), lambda data: read_segment(data, "box 3")),
}


@pytest.mark.parametrize("which", READ)
@GUARD
@given(data=st.data())
def test_a_mutated_segment_is_corrupt_or_what_it_was(which: str, data: st.DataObject) -> None:
    segment, whole, read = READ[which]
    rotten = data.draw(mutated(whole))
    with memory_bounded(4 * MB), contextlib.suppress(SegmentCorruptError):
        found = read(rotten)
        assert found == segment
        assert exactly(dict(found.items)) == exactly(dict(segment.items))


@pytest.mark.parametrize("start", [b"", b"{", b'{"dynalayer":"other"}\n', SMALL.to_bytes()], ids=range(4))
def test_a_frame_that_unpacks_to_a_quarter_of_a_gigabyte_and_is_no_whole_segment_fills_no_memory(start: bytes) -> None:
    made = bomb(start, 256 * MB)
    assert len(made) < 20_000
    with memory_bounded(80 * MB), pytest.raises(SegmentCorruptError):
        Segment.from_bytes(made, source="box 3")


def test_a_whole_segment_that_packs_to_almost_nothing_is_read() -> None:
    segment = Segment("users", "eu", "log-1", "base", 0, 7, {"a": {"x": "0" * 4 * MB}}, name="one")
    data = segment.to_bytes()
    assert len(data) < 4 * MB / 1000
    assert Segment.from_bytes(data, source="box 3") == segment


# Rows of the DynamoDB log

TAIL = rows.Tail(6, 1_800_000_000_000_000, 10, 1000)
CURSOR = "2027-01-15T08:00:00.000000Z"
REF = SegmentRef("one.segment", "base", 0, 7, 12, "one", CURSOR, TAIL.at)


def record(payload: bytes) -> list[dict[str, Any]]:
    return rows.record_rows("users#eu", Draft("eu", RecordKind.CHANGES, "n1", TAIL.at, 12, 86_400, payload), TAIL, "c")


def key(sk: str) -> dict[str, Any]:
    return rows.key_of("users#eu", sk)


ROWS: list[dict[str, Any]] = [
    *record(PACKED["compressed"]),
    *record(bytes(2 * rows.PART_BYTES)),
    {**key(rows.HEAD_KEY), **rows.head_attributes(Head(7, 2, (REF,), 22, 2000, TAIL.at, CURSOR), "m1")},
    rows.old_row("users#eu", 2, (OldSegment(REF, TAIL.at, TAIL.at + 5),)),
    {**key(rows.META_KEY), "shards": {"NS": ["1", "4"]}, "format": {"N": "1"}, "synced_times": {"N": "5"}},
]
NUMBERS = st.sampled_from(["0", "-1", "1.5", "1E+125", "9" * 38, "nan", "", "x"])
# What boto3's client makes of whatever the service sends.
VALUES = st.one_of(
    st.builds(lambda text: {"S": text}, st.sampled_from(["", "x", "~head", "7", "9" * 1000, "٣", "²", "7#001", "#"])),
    st.builds(lambda number: {"N": number}, NUMBERS),
    st.builds(lambda data: {"B": data}, st.binary(max_size=8) | st.sampled_from([frame(b"[]"), frame(b"null")])),
    st.builds(lambda numbers: {"NS": numbers}, st.lists(NUMBERS, max_size=2)),
    st.sampled_from([{"NULL": True}, {"BOOL": True}, {"L": []}, {"M": {}}, {"SS": ["a"]}, {}]),
)
READERS: list[Any] = [
    lambda row: list(rows.records_of([row])),
    lambda row: list(rows.records_of([*record(bytes(2 * rows.PART_BYTES))[:1], row])),
    lambda row: rows.parts_to_mark(row, "n1"),
    *(rows.tail_of_record, rows.unmarked_of, rows.version_of, rows.count_of, rows.head_of, rows.old_segments_of),
    *(rows.shards_of, rows.format_of, rows.synced_times),
]


@GUARD
@given(data=st.data(), row=st.sampled_from(ROWS))
def test_a_mutated_row_is_told_to_be_damaged_or_read(data: st.DataObject, row: dict[str, Any]) -> None:
    row = dict(row)
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from([*row, "parts", "kind", "segments", "shards", "head", "events"]))
        match data.draw(st.sampled_from(["drop", "replace", "rot"])):
            case "drop":
                row.pop(name, None)
            case "rot" if "B" in row.get(name, {}):
                row[name] = {"B": data.draw(mutated(row[name]["B"][:5000]))}
            case _:
                row[name] = data.draw(VALUES)
    for reader in READERS:
        with memory_bounded(4 * MB), contextlib.suppress(rows.DamagedRowError):
            reader(row)


# The SQLite log's file


class Kept:
    """A layer's two places, with something of every kind in them, as bytes to be laid down anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self.layer() as layer:
            for number in range(4):
                layer.set([{"type": "PUT", "partition": "eu", "id": f"user-{number}", "item": item(number)}])
                layer.sync()
            layer.set([{"type": "DELETE", "partition": "eu", "id": "user-0", "item": {}}])
            self.expected = exactly(layer.get("eu"))
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.whole = self.database.read_bytes()

    @property
    def database(self) -> Path:
        return self.folder / "events.db"

    def layer(self) -> Layer:
        return Layer(table="users", events=f"sqlite:///{self.database}", storage=LocalAdapter(self.folder / "s"))

    def lay(self, data: bytes) -> None:
        for path in self.folder.glob("events.db*"):
            path.unlink()
        self.database.write_bytes(data)

    def use(self) -> list[object]:
        """What reading gave; everything that a layer does is tried."""
        found: list[object] = []
        try:
            layer = self.layer()
        except LayerError:
            return found
        calls: list[Any] = [
            lambda: found.append(exactly(layer.get("eu"))),
            lambda: list(layer.history("eu")),
            lambda: layer.get("eu", at=2),
            lambda: (layer.meta(), layer.meta("eu"), layer.partitions()),
            layer.verify,
            lambda: layer.set([{"type": "PUT", "partition": "eu", "id": "new", "item": {}}]),
            layer.sync,
            lambda: layer.vacuum(dry_run=False),
        ]
        try:
            for call in calls:
                with contextlib.suppress(LayerError):
                    call()
        finally:
            layer.close()
        return found


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


@settings(GUARD, max_examples=40)
@given(data=st.data())
def test_a_mutated_file_of_the_event_log_is_an_error_of_it_and_no_other(kept: Kept, data: st.DataObject) -> None:
    kept.lay(data.draw(mutated(kept.whole)))
    kept.use()


HEADS = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.sampled_from([2**63, 2**61, -(2**63), 1e300, "", "x", "base"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*Head.__slots__, "x"]), inner),
    max_leaves=4,
)


@settings(GUARD, max_examples=40)
@given(data=st.data())
def test_a_head_that_says_anything_is_damaged_or_taken(kept: Kept, data: st.DataObject) -> None:
    kept.lay(kept.whole)
    with contextlib.closing(sqlite3.connect(kept.database)) as db, db:
        (told,) = db.execute("SELECT head FROM partitions WHERE head IS NOT NULL").fetchone()
        head = orjson.loads(told)
        where = data.draw(st.sampled_from([head, *head["segments"]]))
        where[data.draw(st.sampled_from([*where, "more"]))] = data.draw(HEADS)
        db.execute("UPDATE partitions SET head = ?", [orjson.dumps(head).decode()])
    kept.use()
