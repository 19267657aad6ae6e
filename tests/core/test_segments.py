"""Segments: the JSON codec keeps all, writes the same content alike, and takes nothing that is not whole."""

from __future__ import annotations

import copy
import random
import string
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dynalayer import Segment, SegmentCorruptError
from dynalayer.segments import FORMAT, fresh_name
from dynalayer.values import Item
from strategies import exactly, identifiers, items, label, texts

MAGIC = b"\x28\xb5\x2f\xfd"
SOURCE = "shelf 7/box 3.segment"


def base(content: Mapping[str, Item], name: str = "one") -> Segment:
    return Segment("users", "eu", "log-1", "base", 0, 7, content, name=name)


def delta(content: Mapping[str, Item], deleted: set[str], name: str = "one") -> Segment:
    return Segment("users", "eu", "log-1", "delta", 5, 7, content, frozenset(deleted), name=name)


SMALL = base({"a": {"sk": "a", "n": 1}, "b": {"sk": "b", "d": Decimal("1.50")}})
SMALL_DELTA = delta({"a": {"sk": "a", "n": 1}}, {"b", "c"})
LARGE = base({f"user-{number}": {"sk": f"user-{number}", "state": "active"} for number in range(40)})
EMPTY = base({})


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    content = draw(st.dictionaries(identifiers(), items(), max_size=5))
    deleted = draw(st.frozensets(identifiers(), max_size=4)) - content.keys()
    table, partition, origin = draw(st.sampled_from(["users", "u.s_-"])), draw(texts(max_size=12)), "0a1b"
    start, name = draw(st.integers(0, 2**60)), "a-name-that-stays-the-same"
    if draw(st.booleans()):
        return Segment(table, partition, origin, "base", 0, start, content, name=name)
    end = start + draw(st.integers(1, 99))
    return Segment(table, partition, origin, "delta", start, end, content, deleted, name=name)


def decompressed(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data) if data.startswith(MAGIC) else data


def identity(segment: Segment) -> object:
    """All that a segment says, types included."""
    return (
        (segment.table, segment.partition, segment.origin, segment.kind),
        (segment.from_version, segment.to_version, segment.name),
        exactly(dict(segment.items)),
        segment.deleted,
    )


def refusal(data: bytes) -> SegmentCorruptError:
    with pytest.raises(SegmentCorruptError) as caught:
        Segment.from_bytes(data, source=SOURCE)
    assert SOURCE in str(caught.value)
    return caught.value


def with_header(segment: Segment, **changed: Any) -> bytes:
    """The segment's bytes with another header, whose hash is left as it was."""
    first, _, body = decompressed(segment.to_bytes()).partition(b"\n")
    return orjson.dumps({**orjson.loads(first), **changed}) + b"\n" + body


# What comes back


@settings(deadline=None, max_examples=100)
@given(segments())
def test_every_segment_comes_back_as_it_was(segment: Segment) -> None:
    back = Segment.from_bytes(segment.to_bytes(), source=SOURCE)
    assert identity(back) == identity(segment)
    assert back == segment


@pytest.mark.parametrize(
    "segment", [SMALL, SMALL_DELTA, LARGE, EMPTY, delta({}, {"a"}), delta({}, set())], ids=range(6)
)
def test_bases_and_deltas_come_back_with_and_without_content(segment: Segment) -> None:
    assert identity(Segment.from_bytes(segment.to_bytes(), source=SOURCE)) == identity(segment)


def test_writing_a_segment_leaves_its_items_as_they_were() -> None:
    content = {"a": {"l": [{"s": {1, 2}}], "$x": {"$y": b"z"}, "d": Decimal("1.50")}}
    before = copy.deepcopy(content)
    back = Segment.from_bytes(base(content).to_bytes(), source=SOURCE)
    assert exactly(content) == exactly(before)
    assert back.items["a"] is not content["a"]


def test_line_breaks_of_every_kind_in_the_content_are_kept() -> None:
    odd = "\n\r\u2028\u2029\x85\x0b\x0c\x1c"
    segment = Segment("users", odd, "log-1", "base", 0, 1, {odd: {odd: odd, "b": [odd]}})
    assert identity(Segment.from_bytes(segment.to_bytes(), source=SOURCE)) == identity(segment)


# Canonical


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(identifiers(), items(), max_size=6), st.randoms(use_true_random=False))
def test_the_same_content_gives_the_same_bytes(content: dict[str, Item], shuffling: random.Random) -> None:
    def reordered(value: Any) -> Any:
        if type(value) is dict:
            pairs = [(key, reordered(element)) for key, element in value.items()]
            shuffling.shuffle(pairs)
            return dict(pairs)
        if type(value) is list:
            return [reordered(element) for element in value]
        if type(value) is set:
            return {*sorted(value, key=repr)}
        return value

    assert base(reordered(content)).to_bytes() == base(content).to_bytes()
    assert delta(reordered(content), {"~1", "~2"}).to_bytes() == delta(content, {"~2", "~1"}).to_bytes()


def test_other_content_gives_another_hash() -> None:
    hashes = {
        orjson.loads(decompressed(segment.to_bytes()).partition(b"\n")[0])["hash"]
        for segment in (
            base({"a": {"n": 1}}),
            base({"a": {"n": 1.0}}),
            base({"a": {"n": True}}),
            base({"a": {"n": Decimal(1)}}),
            base({"b": {"n": 1}}),
            base({"a": {"n": 1}}, name="other"),
            delta({"a": {"n": 1}}, set()),
        )
    }
    assert len(hashes) == 7


def test_names_are_fresh_sort_by_version_and_tell_the_log() -> None:
    names = [fresh_name("base", version, "0a1b") for version in (2, 10, 999, 10**19)]
    assert names == sorted(names)
    assert len({fresh_name("delta", 1, "0a1b") for _ in range(100)}) == 100
    assert all("-0a1b-" in name for name in names)


@given(st.sampled_from(["base", "delta"]), st.integers(0, 10**20 - 1))
def test_a_name_is_short_and_fits_every_store(kind: Any, version: int) -> None:
    name = fresh_name(kind, version, "0123456789abcdef")
    assert len(name) <= 60
    assert set(name) <= set("0123456789abcdefghijklmnopqrstuvwxyz-")


def test_a_segment_without_a_name_gets_a_fresh_one() -> None:
    unnamed = [Segment("users", "eu", "log-1", "base", 0, 7, {}) for _ in range(2)]
    assert unnamed[0].name != unnamed[1].name
    assert unnamed[0].name.startswith(f"{7:020d}-base-")


# Self-describing


@pytest.mark.parametrize("segment", [SMALL, SMALL_DELTA, LARGE, EMPTY], ids=["base", "delta", "compressed", "empty"])
def test_the_first_line_describes_the_segment_in_json(segment: Segment) -> None:
    header = orjson.loads(decompressed(segment.to_bytes()).split(b"\n")[0])
    assert len(header.pop("hash")) == 32
    assert header == {
        "dynalayer": "segment",
        "format": FORMAT,
        "kind": segment.kind,
        "table": "users",
        "partition": "eu",
        "from": segment.from_version,
        "to": 7,
        "entries": len(segment.items) + len(segment.deleted),
        "name": "one",
        "origin": "log-1",
    }


def test_each_further_line_is_one_entry_in_json_sorted_by_id() -> None:
    segment = delta({"b": {"d": Decimal("1.50"), "a": 1}, "d": {}}, {"a", "c"})
    *lines, last = decompressed(segment.to_bytes()).split(b"\n")[1:]
    assert last == b""
    assert lines == [
        b'{"deleted":true,"id":"a"}',
        b'{"id":"b","item":{"a":1,"d":{"$decimal":"1.50"}}}',
        b'{"deleted":true,"id":"c"}',
        b'{"id":"d","item":{}}',
    ]


# Compression


def test_a_large_segment_is_one_frame_that_any_zstd_reads() -> None:
    data = LARGE.to_bytes()
    assert data.startswith(MAGIC)
    plain = zstandard.ZstdDecompressor().decompress(data)
    assert plain.count(b"\n") == 41
    assert len(data) < len(plain) / 3


@pytest.mark.parametrize(
    "segment",
    [SMALL, EMPTY, base({"a": {"x": "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=700))}})],
    ids=["small", "empty", "of little redundancy"],
)
def test_a_segment_is_plain_text_where_compression_does_not_pay(segment: Segment) -> None:
    assert segment.to_bytes().startswith(b'{"dynalayer":"segment"')


@settings(deadline=None, max_examples=50)
@given(segments())
def test_compression_never_costs_bytes(segment: Segment) -> None:
    data = segment.to_bytes()
    assert len(data) <= len(decompressed(data))


@pytest.mark.parametrize("options", [{"level": 19}, {"write_content_size": False}, {"write_checksum": True}], ids=label)
def test_a_segment_compressed_by_somebody_else_is_read(options: dict[str, Any]) -> None:
    data = zstandard.ZstdCompressor(**options).compress(decompressed(LARGE.to_bytes()))
    assert Segment.from_bytes(data, source=SOURCE) == LARGE


def test_a_segment_decompressed_by_somebody_else_is_read() -> None:
    assert Segment.from_bytes(decompressed(LARGE.to_bytes()), source=SOURCE) == LARGE


# Rot

SHOWN = [SMALL, SMALL_DELTA, EMPTY, LARGE]
SHOWN_IDS = ["plain base", "plain delta", "empty base", "compressed base"]


def outcome(data: bytes) -> Segment | SegmentCorruptError:
    """What the bytes are read as, or the error; whatever else is raised is out of order."""
    try:
        return Segment.from_bytes(data, source=SOURCE)
    except SegmentCorruptError as error:
        return error


def is_refused(data: bytes) -> bool:
    found = outcome(data)
    return isinstance(found, SegmentCorruptError) and SOURCE in str(found)


def with_byte(data: bytes, position: int, flipped: int) -> bytes:
    return data[:position] + bytes([data[position] ^ flipped]) + data[position + 1 :]


@pytest.mark.parametrize("segment", SHOWN, ids=SHOWN_IDS)
def test_every_truncation_is_corrupt(segment: Segment) -> None:
    data = segment.to_bytes()
    assert [length for length in range(len(data)) if not is_refused(data[:length])] == []


@pytest.mark.parametrize("segment", SHOWN, ids=SHOWN_IDS)
def test_every_flipped_byte_is_corrupt(segment: Segment) -> None:
    data = segment.to_bytes()
    assert [position for position in range(len(data)) if not is_refused(with_byte(data, position, 0xFF))] == []


@pytest.mark.parametrize("segment", SHOWN, ids=SHOWN_IDS)
def test_no_flipped_bit_changes_what_is_read(segment: Segment) -> None:
    data = segment.to_bytes()
    for position in range(len(data)):
        for bit in range(8):
            rotten = with_byte(data, position, 1 << bit)
            if not is_refused(rotten):
                # Of a few bits of a frame zstd itself makes nothing; the content is checked and whole.
                assert data.startswith(MAGIC)
                assert identity(Segment.from_bytes(rotten, source=SOURCE)) == identity(segment)


@settings(deadline=None, max_examples=100)
@given(segments(), st.data())
def test_a_replaced_removed_or_added_byte_is_corrupt_or_harmless(segment: Segment, data: st.DataObject) -> None:
    whole = segment.to_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 3)))
    rotten = whole[:start] + data.draw(st.binary(max_size=3)) + whole[end:]
    assert is_refused(rotten) or identity(Segment.from_bytes(rotten, source=SOURCE)) == identity(segment)


@settings(deadline=None, max_examples=100)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda rest: MAGIC + rest),
        st.binary(max_size=200).map(zstandard.ZstdCompressor().compress),
        st.binary(max_size=100).map(lambda rest: b'{"dynalayer":"segment","format":1}\n' + rest),
    )
)
@example(b"")
@example(b"{")
@example(b"{}")
@example(b"{}\n")
@example(b"[]\n")
@example(b"null\n")
@example(b'{"dynalayer":"segment"}\n')
@example(b'{"dynalayer":"segment","format":1}\n')
@example(b"{" * 2000)
@example(MAGIC)
@example(zstandard.ZstdCompressor().compress(b""))
@example(b'{"sk":"user-1","state":"active"}\n{"sk":"user-2"}\n')
def test_foreign_bytes_are_corrupt_and_raise_nothing_else(data: bytes) -> None:
    refusal(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", b"PAR1....PAR1", b"<html>Not Found</html>", b'[{"sk":"a"}]', b'{"sk":"a"}\n', b"\x1f\x8b\x08"],
    ids=label,
)
def test_a_foreign_file_is_told_to_be_no_segment(data: bytes) -> None:
    assert "this is no dynalayer segment" in str(refusal(data))


@pytest.mark.parametrize("newer", [2, 99, "2", None], ids=label)
def test_a_newer_format_is_told_as_such(newer: object) -> None:
    error = refusal(with_header(SMALL, format=newer))
    assert f"segment format {newer!r}; this release reads format {FORMAT}" in str(error)


@pytest.mark.parametrize(
    "changed",
    [
        {"partition": "us"},
        {"table": "user"},
        {"kind": "delta"},
        {"from": 1},
        {"to": 8},
        {"to": "7"},
        {"entries": 3},
        {"name": "two"},
        {"origin": "log-2"},
        {"hash": "0" * 32},
        {"hash": None},
        {"hash": 5},
        {"more": 1},
    ],
    ids=label,
)
def test_a_header_that_says_anything_else_is_corrupt(changed: dict[str, Any]) -> None:
    assert "does not match its hash" in str(refusal(with_header(SMALL, **changed)))


def test_entries_out_of_order_are_corrupt() -> None:
    header, first, second, _ = SMALL.to_bytes().split(b"\n")
    assert "does not match its hash" in str(refusal(b"\n".join([header, second, first, b""])))


@pytest.mark.parametrize("extra", [b"\n", b" ", b"{}\n", b"\x00", MAGIC], ids=label)
@pytest.mark.parametrize("segment", SHOWN, ids=SHOWN_IDS)
def test_bytes_after_the_end_are_corrupt(segment: Segment, extra: bytes) -> None:
    refusal(segment.to_bytes() + extra)


def test_two_segments_in_one_file_are_corrupt() -> None:
    refusal(LARGE.to_bytes() + LARGE.to_bytes())
    refusal(SMALL.to_bytes() + SMALL.to_bytes())


def test_a_frame_that_claims_a_terabyte_is_corrupt() -> None:
    claimed = MAGIC + b"\xe0" + (2**40).to_bytes(8, "little") + b"\x01\x00\x00"
    refusal(claimed)


def test_a_corrupt_segment_keeps_its_cause() -> None:
    assert refusal(LARGE.to_bytes()[:-5]).__cause__ is not None
    assert "truncated" in str(refusal(LARGE.to_bytes()[:-5]))
