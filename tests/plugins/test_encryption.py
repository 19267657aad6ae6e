"""Encryption: what is stored tells nothing, whatever is changed in it is noticed, and keys can be changed."""

from __future__ import annotations

import gc
import logging
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynalayer import (
    Capabilities,
    ConfigurationError,
    Layer,
    MemoryEventLog,
    Segment,
    SegmentCorruptError,
    StorageError,
    hookimpl,
)
from dynalayer.columns import SegmentColumns
from dynalayer_encryption import Encryption, EncryptionAdapter
from dynalayer_encryption.sealing import CHUNK, Unopened, opened, sealed
from dynalayer_local import LocalAdapter
from strategies import items as any_items

ORIGIN = "0123456789abcdef"
KEYS = {"k1": bytes(range(32)), "k2": bytes(range(32, 64))}


def keys(current: str, known: dict[str, bytes] | None = None) -> Callable[[str | None], tuple[str, bytes]]:
    ring = KEYS if known is None else known
    return lambda key_id: (key_id or current, ring[key_id or current])


class Shelf:
    """Segments in a dict, as a store that only sees what it is handed."""

    name = "shelf"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.kept: dict[str, Segment] = {}

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self.kept[segment.name] = segment
        return segment.name

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        return self.kept[ref]

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        return self.kept.pop(ref, None) is not None

    @hookimpl
    def layer_list(self, partition: str) -> list[str]:
        return list(self.kept)


def wrapped(shelf: Any = None, key: Any = None) -> tuple[EncryptionAdapter, Any]:
    shelf = Shelf() if shelf is None else shelf
    return Encryption(key or keys("k1")).around(shelf), shelf


def segment(
    items: dict[str, Any] | None = None,
    *,
    partition: str = "eu",
    version: int = 5,
    deleted: frozenset[str] = frozenset(),
    table: str = "users",
    name: str = "",
) -> Segment:
    items = {"a": {"n": 1}} if items is None else items
    return Segment(table, partition, ORIGIN, "delta", version - 1, version, items, deleted, name)


def opening(items: int = 1, noise: int = 0) -> tuple[EncryptionAdapter, Shelf, str, Segment]:
    """A stored segment, of so many random bytes."""
    adapter, shelf = wrapped()
    stored = segment({str(n): {"noise": secrets.token_bytes(noise), "n": n} for n in range(items)})
    return adapter, shelf, adapter.layer_setter("eu", stored), stored


# Round trips


@given(
    items=st.dictionaries(st.text(min_size=1, max_size=8), any_items(), max_size=3),
    deleted=st.frozensets(st.text(min_size=1, max_size=8), max_size=4),
    partition=st.text(max_size=8),
)
@settings(max_examples=25, deadline=None)
def test_what_is_set_is_what_is_got_and_the_store_sees_none_of_it(
    items: dict[str, Any], deleted: frozenset[str], partition: str
) -> None:
    adapter, shelf = wrapped()
    stored = segment(items, partition=partition, deleted=deleted - items.keys())
    ref = adapter.layer_setter(partition, stored)
    assert adapter.layer_getter(partition, ref) == stored
    seen = shelf.kept[ref]
    assert seen.header == stored.header
    assert seen.entries != stored.entries
    assert not seen.deleted
    assert {attribute for item in seen.items.values() for attribute in item} == {"$format", "$key", "$salt", "$data"}


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK])
def test_large_segments_come_back_in_chunks_no_larger_than_an_item_may_be(size: int) -> None:
    adapter, shelf, ref, stored = opening(noise=size)
    assert adapter.layer_getter("eu", ref) == stored
    assert all(len(item.get("$data", b"")) <= CHUNK + 16 for item in shelf.kept[ref].items.values())


def test_nothing_of_what_is_stored_is_readable_in_the_store(tmp_path: Path) -> None:
    with layer(tmp_path, Encryption(keys("k1"))) as users:
        users.set([{"type": "PUT", "item": {"id": "grace-hopper", "attribute": "value-of-it"}} for _ in range(3)])
        users.set([{"type": "DELETE", "item": {"id": "alan-turing"}}])
        users.sync()
        (path,) = tmp_path.rglob("*.segment")
        seen = Segment.from_bytes(path.read_bytes(), source="the file")
        told = repr(seen).encode() + b"".join(item.get("$data", b"") for item in seen.items.values())
        for word in (b"grace", b"hopper", b"attribute", b"value-of-it", b"alan"):
            assert word not in told
        assert users.get() == [{"id": "grace-hopper", "attribute": "value-of-it"}]
        assert users.verify().ok


def test_the_same_segment_is_never_stored_the_same_twice() -> None:
    adapter, shelf = wrapped()
    stored = segment()
    seen = [shelf.kept[adapter.layer_setter("eu", stored)] for _ in range(2)]
    assert seen[0].items["sealed"]["$salt"] != seen[1].items["sealed"]["$salt"]
    assert seen[0].items["0000000000"] != seen[1].items["0000000000"]


# What is noticed


def changed(seen: Segment, number: str, **values: Any) -> Segment:
    return replace(seen, items={**seen.items, number: {**seen.items[number], **values}})


@given(place=st.integers(0), bit=st.integers(0, 7), where=st.sampled_from(["$data", "$salt"]))
@settings(max_examples=100, deadline=None)
def test_any_changed_bit_is_noticed(place: int, bit: int, where: str) -> None:
    _adapter, shelf, ref, _ = SMALL
    seen = shelf.kept[ref]
    number = "sealed" if where == "$salt" else sorted(seen.items)[place % (len(seen.items) - 1)]
    data = bytearray(seen.items[number][where])
    data[place % len(data)] ^= 1 << bit
    other, copied = wrapped()
    copied.kept[ref] = changed(seen, number, **{where: bytes(data)})
    with pytest.raises(SegmentCorruptError, match="cannot be decrypted with key 'k1'"):
        other.layer_getter("eu", ref)


SMALL = opening(2, noise=300)


def test_chunks_moved_left_out_doubled_or_cut_off_are_noticed() -> None:
    adapter, shelf, ref, _ = opening(noise=4 * CHUNK)
    seen = shelf.kept[ref]
    chunks = {number: item for number, item in seen.items.items() if number != "sealed"}
    first, second, *_, last = sorted(chunks)
    swapped = {**seen.items, first: chunks[second], second: chunks[first]}
    doubled = {**seen.items, f"{int(last) + 1:010d}": chunks[last]}
    cut = {number: item for number, item in seen.items.items() if number != last}
    longer = {**seen.items, first: {"$data": chunks[first]["$data"] + b"\0"}}
    shorter = {**seen.items, last: {"$data": chunks[last]["$data"][:-1]}}
    holed = {number: item for number, item in seen.items.items() if number != second}
    alone = {"sealed": seen.items["sealed"]}
    empty = {**seen.items, last: {"$data": b""}}
    for items in (swapped, doubled, cut, longer, shorter, holed, alone, empty, {}):
        shelf.kept[ref] = replace(seen, items=items)
        with pytest.raises(SegmentCorruptError):
            adapter.layer_getter("eu", ref)
    shelf.kept[ref] = replace(seen, deleted=frozenset({"x"}))
    with pytest.raises(SegmentCorruptError):
        adapter.layer_getter("eu", ref)


@pytest.mark.parametrize(
    "header",
    [
        {"table": "others"},
        {"partition": "us"},
        {"origin": "fedcba9876543210"},
        {"kind": "base"},
        {"from_version": 3},
        {"to_version": 6},
        {"name": "00000000000000000005-delta-0123456789abcdef-0123456789abcdef"},
    ],
    ids=lambda header: next(iter(header)),
)
def test_a_segment_that_says_it_belongs_elsewhere_does_not_open(header: dict[str, Any]) -> None:
    adapter, shelf, ref, stored = opening()
    shelf.kept[ref] = replace(shelf.kept[ref], **header)
    with pytest.raises(SegmentCorruptError):
        adapter.layer_getter(header.get("partition", "eu"), ref)
    shelf.kept[ref] = replace(shelf.kept[ref], **{name: getattr(stored, name) for name in header})
    assert adapter.layer_getter("eu", ref) == stored


def test_the_content_of_another_segment_under_this_ones_header_is_noticed() -> None:
    """Of an older version, of another partition: what an attacker with the store could put there."""
    adapter, shelf = wrapped()
    old = adapter.layer_setter("eu", segment({"a": {"n": 1}}, version=4))
    new = adapter.layer_setter("eu", segment({"a": {"n": 2}}, version=5))
    elsewhere = adapter.layer_setter("us", segment({"a": {"n": 3}}, partition="us"))
    for other in (old, elsewhere):
        whole = shelf.kept[new]
        shelf.kept[new] = replace(whole, items=shelf.kept[other].items)
        with pytest.raises(SegmentCorruptError, match="put in another segment's place"):
            adapter.layer_getter("eu", new)
        shelf.kept[new] = whole
    with pytest.raises(SegmentCorruptError, match="another place"):
        adapter.layer_getter("eu", elsewhere)


def test_files_swapped_in_a_layers_store_are_errors_of_its_reads(tmp_path: Path) -> None:
    with layer(tmp_path, Encryption(keys("k1")), cache_bytes=0) as users:
        for number in (1, 2):
            users.set([{"type": "PUT", "partition": p, "item": {"id": p, "n": number}} for p in ("eu", "us")])
            users.sync()
        eu, us = (sorted(tmp_path.rglob(f"{p}/*.segment")) for p in ("eu", "us"))
        for here, there in ((eu[1], eu[0]), (eu[1], us[1]), (eu[0], us[0])):
            whole = here.read_bytes()
            here.write_bytes(there.read_bytes())
            with pytest.raises(SegmentCorruptError):
                users.get("eu")
            assert users.verify("eu").findings
            here.write_bytes(whole)
        assert users.get("eu") == [{"id": "eu", "n": 2}]


def test_a_segment_stored_without_encryption_is_refused(tmp_path: Path) -> None:
    with MemoryEventLog("users") as log:
        with layer(tmp_path, log=log) as plain:
            plain.set([{"type": "PUT", "item": {"id": "a"}}])
            plain.sync()
        with (
            layer(tmp_path, Encryption(keys("k1")), log=log) as users,
            pytest.raises(SegmentCorruptError, match="not encrypted"),
        ):
            users.get()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_who_reads_without_the_wrapper_never_takes_what_is_sealed_for_items(tmp_path: Path, count: int) -> None:
    with MemoryEventLog("users") as log:
        with layer(tmp_path, Encryption(keys("k1")), log=log) as users:
            users.set(
                [{"type": "PUT", "item": {"id": str(n)}} for n in range(count)]
                or [{"type": "DELETE", "item": {"id": "x"}}]
            )
            users.sync()
        with layer(tmp_path, log=log) as plain, pytest.raises(SegmentCorruptError) as told:
            plain.get()
        assert "such as encryption" in str(told.value)


# The construction by itself: above, the hash and the header inside would tell as well

CHUNKS = [b"one", b"two", b"three"]
SALT = bytes(32)


def sealed_chunks(**changes: Any) -> list[bytes]:
    told: dict[str, Any] = {"key_id": "k1", "salt": SALT, "header": HEADER} | changes
    return list(sealed(CHUNKS, KEYS["k1"], **told))


NAME = "00000000000000000005-delta-0123456789abcdef-0123456789abcdef"
HEADER = segment(name=NAME).header


@pytest.mark.parametrize("order", [(0, 1), (1, 0, 2), (0, 2), (0, 0, 2), (0, 1, 2, 2), (2,)], ids=str)
def test_chunks_open_in_their_order_and_to_their_end_alone(order: tuple[int, ...]) -> None:
    chunks, header = sealed_chunks(), HEADER
    assert opened(chunks, KEYS["k1"], key_id="k1", salt=SALT, header=header) == b"onetwothree"
    with pytest.raises(Unopened):
        opened([chunks[number] for number in order], KEYS["k1"], key_id="k1", salt=SALT, header=header)


@pytest.mark.parametrize(
    "other",
    [
        {"key_id": "k2"},
        {"salt": bytes(31) + b"1"},
        {"header": replace(HEADER, table="others")},
        {"header": replace(HEADER, partition="us")},
        {"header": replace(HEADER, origin="fedcba9876543210")},
        {"header": replace(HEADER, kind="base")},
        {"header": replace(HEADER, from_version=3)},
        {"header": replace(HEADER, to_version=6)},
        {"header": replace(HEADER, name=NAME[:-1] + "0")},
    ],
    ids=str,
)
def test_a_chunk_is_bound_to_its_key_its_salt_and_all_that_its_segment_says_of_itself(other: dict[str, Any]) -> None:
    told: dict[str, Any] = {"key_id": "k1", "salt": SALT, "header": HEADER}
    with pytest.raises(Unopened):
        opened(sealed_chunks(**other), KEYS["k1"], **told)


def test_another_salt_is_another_key_so_that_no_number_is_used_twice_under_one() -> None:
    first, second = sealed_chunks(), sealed_chunks(salt=bytes(31) + b"1")
    for chunk, one, other in zip(CHUNKS, first, second, strict=True):
        assert one[: len(chunk)] != other[: len(chunk)]


# Keys


def test_old_segments_stay_readable_after_a_rotation_and_new_ones_have_the_new_key() -> None:
    adapter, shelf = wrapped()
    old = adapter.layer_setter("eu", segment())
    rotated, _ = wrapped(shelf, keys("k2"))
    new = rotated.layer_setter("eu", segment())
    assert [shelf.kept[ref].items["sealed"]["$key"] for ref in (old, new)] == ["k1", "k2"]
    assert rotated.layer_getter("eu", old).items == rotated.layer_getter("eu", new).items
    forgot, _ = wrapped(shelf, keys("k2", {"k2": KEYS["k2"]}))
    assert forgot.layer_getter("eu", new).items
    with pytest.raises(StorageError, match="key 'k1' is not known") as raised:
        forgot.layer_getter("eu", old)
    assert not isinstance(raised.value, SegmentCorruptError)


def test_a_wrong_key_is_told_without_the_key() -> None:
    _adapter, shelf, ref, _ = opening()
    wrong, _ = wrapped(shelf, keys("k1", {"k1": KEYS["k2"]}))
    with pytest.raises(SegmentCorruptError, match="another key has that id now") as raised:
        wrong.layer_getter("eu", ref)
    assert_tells_no_key(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        KEYS["k1"],
        ("k1",),
        ("k1", KEYS["k1"][:16]),
        ("k1", KEYS["k1"] * 2),
        ("k1", KEYS["k1"].hex()),
        (KEYS["k1"], "k1"),
        ("", KEYS["k1"]),
        ("k" * 129, KEYS["k1"]),
        ("k\n1", KEYS["k1"]),
    ],
    ids=lambda answer: str(type(answer).__name__),
)
def test_what_is_no_key_is_refused_before_anything_is_stored(answer: Any) -> None:
    adapter, shelf = wrapped(key=lambda key_id: answer)
    with pytest.raises(StorageError) as raised:
        adapter.layer_setter("eu", segment())
    assert_tells_no_key(raised.value)
    assert not shelf.kept


def test_a_key_function_that_fails_is_told_by_its_kind_and_whether_it_may_pass() -> None:
    def away(key_id: str | None) -> tuple[str, bytes]:
        raise ConnectionRefusedError(KEYS["k1"].hex())

    adapter, shelf = wrapped()
    ref = adapter.layer_setter("eu", segment())
    failing, _ = wrapped(shelf, away)
    for call in (lambda: failing.layer_setter("eu", segment()), lambda: failing.layer_getter("eu", ref)):
        with pytest.raises(StorageError, match="ConnectionRefusedError") as raised:
            call()
        assert raised.value.retryable
        assert KEYS["k1"].hex() not in str(raised.value)


def test_a_key_function_that_gives_another_key_than_asked_for_is_refused() -> None:
    _adapter, shelf, ref, _ = opening()
    other, _ = wrapped(shelf, lambda key_id: ("k2", KEYS["k2"]))
    with pytest.raises(StorageError, match="asked for key 'k1' the key function gave 'k2'"):
        other.layer_getter("eu", ref)


WRITTEN = ",".join(f"{key_id}:{b64encode(key).decode()}" for key_id, key in KEYS.items())


def test_keys_come_from_the_environment_the_first_of_them_is_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USERS_KEYS", WRITTEN)
    with layer(tmp_path, "encryption:?key_env=USERS_KEYS") as users:
        users.set([{"type": "PUT", "item": {"id": "a"}}])
        users.sync()
        assert users.get() == [{"id": "a"}]
    (path,) = tmp_path.rglob("*.segment")
    assert Segment.from_bytes(path.read_bytes(), source="").items["sealed"]["$key"] == "k1"


def test_keys_in_a_file_are_read_anew_so_that_they_can_be_changed_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"k1:{urlsafe_b64encode(KEYS['k1']).decode()}\n")
    adapter = Encryption(key_file=path).around(Shelf())
    old = adapter.layer_setter("eu", segment())
    path.write_text("\n".join(reversed(WRITTEN.split(","))))
    new = adapter.layer_setter("eu", segment())
    shelf = adapter.inner
    assert isinstance(shelf, Shelf)
    assert [shelf.kept[ref].items["sealed"]["$key"] for ref in (old, new)] == ["k1", "k2"]
    assert adapter.layer_getter("eu", old).items == adapter.layer_getter("eu", new).items
    path.unlink()
    with pytest.raises(StorageError, match="keys"):
        adapter.layer_getter("eu", old)


def current_key(key_id: str | None) -> tuple[str, bytes]:
    return key_id or "k1", KEYS[key_id or "k1"]


def test_a_key_function_is_named_as_configuration_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "keys_of_mine.py").write_text("def key(key_id):\n    return 'k1', bytes(range(32))\n")
    for spec in ("encryption:keys_of_mine:key", {"use": "encryption", "key": "keys_of_mine:key"}):
        with layer(tmp_path, spec) as users:
            users.set([{"type": "PUT", "item": {"id": "a"}}])
            assert users.sync().count == 1
            assert users.get() == [{"id": "a"}]


BAD = b64encode(bytes(range(100, 131))).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ",
        BAD,
        f"k1:{BAD}",
        f"{WRITTEN},k3:{BAD}",
        f"{WRITTEN},{WRITTEN}",
        f":{b64encode(KEYS['k1']).decode()}",
        "k1:€",
    ],
)
def test_keys_that_are_none_are_refused_when_the_layer_is_built_and_never_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("USERS_KEYS", text)
    path = tmp_path / "keys"
    path.write_text(text)
    for setting in ({"key_env": "USERS_KEYS"}, {"key_file": str(path)}):
        with pytest.raises(ConfigurationError, match="encryption: ") as raised:
            layer(tmp_path, {"use": "encryption", **setting})
        assert_tells_no_key(raised.value)
        assert BAD not in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"key_env": "USERS_KEYS", "key_file": "keys"},
        {"key": "builtins:len", "key_env": "USERS_KEYS"},
        {"key_env": "NO_SUCH_VARIABLE_HERE"},
        {"key_file": "no/such/file"},
        {"key": b64encode(KEYS["k1"]).decode()},
        {"key": "k1:" + b64encode(KEYS["k1"]).decode()},
        {"key": KEYS["k1"]},
    ],
    ids=str,
)
def test_settings_that_name_no_keys_are_refused_and_keys_in_their_place_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setenv("USERS_KEYS", WRITTEN)
    with pytest.raises(ConfigurationError) as raised:
        layer(tmp_path, {"use": "encryption", **settings})
    assert_tells_no_key(raised.value)


def test_no_repr_and_no_log_line_shows_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys"
    path.write_text(WRITTEN)
    with caplog.at_level(logging.DEBUG), layer(tmp_path, {"use": "encryption", "key_file": str(path)}) as users:
        users.set([{"type": "PUT", "item": {"id": "a"}}])
        users.sync()
        users.get()
    shown = [caplog.text]
    for thing in (Encryption(key_file=path), Encryption(key_file=path).around(Shelf())):
        shown += [repr(thing), str(thing), repr(vars(thing))]
    assert_tells_no_key(" ".join(shown))
    gc.collect()


def assert_tells_no_key(told: object) -> None:
    texts = [str(told), repr(told)]
    if isinstance(told, BaseException):
        while told is not None:
            texts += [str(told), repr(told)]
            told = told.__cause__ or told.__context__
    for text in texts:
        for key in KEYS.values():
            for form in (key.hex(), repr(key)[2:-1], b64encode(key).decode().rstrip("="), b64encode(key).decode()[:20]):
                assert form not in text


# Orders


def test_what_would_come_out_in_plain_or_could_be_put_back_is_refused(tmp_path: Path) -> None:
    class Publishing(Shelf):
        capabilities = Capabilities(publishing=True)

    class Mutable(Shelf):
        capabilities = Capabilities(immutable=False, deltas=False, listing=False)

    for store, reason in (
        (Publishing(), "publishes a plain copy"),
        (Mutable(), "could not be told from the newest"),
        (Encryption(keys("k2")).around(Shelf()), "hides no more"),
    ):
        with pytest.raises(ConfigurationError, match=reason):
            Layer(
                table="users",
                get_item_unique_identifier="id",
                events="memory:",
                storage=[Encryption(keys("k1")), store],
            )


def test_columns_are_not_passed_on_and_a_scan_is_answered_from_whole_items(tmp_path: Path) -> None:
    with layer(tmp_path, Encryption(keys("k1")), storage=f"parquet+file:{tmp_path}/parquet") as users:
        for number in range(12):
            users.set([{"type": "PUT", "item": {"id": str(number), "n": number}}])
            users.sync()
        assert sorted(users.to_arrow(columns=["n"]).column("n").to_pylist()) == list(range(12))
        assert users.verify().ok
    adapter, _ = wrapped()
    assert not adapter.capabilities.columns
    for call in (
        lambda: adapter.layer_columns("eu", "ref"),
        lambda: adapter.layer_columns_setter("eu", SegmentColumns(segment())),
        lambda: adapter.layer_publish("eu", ORIGIN, 1, {}),
    ):
        with pytest.raises(StorageError):
            call()


def test_a_parquet_store_keeps_what_is_sealed_once(tmp_path: Path) -> None:
    adapter, _ = wrapped(LocalAdapter(tmp_path / "local"))
    stored = segment({"a": {"noise": secrets.token_bytes(400_000)}})
    adapter.layer_setter("eu", stored)
    from dynalayer_parquet import ParquetAdapter  # noqa: PLC0415 -- heavy, and one test needs it

    parquet, _ = wrapped(ParquetAdapter(f"file://{tmp_path}/parquet", "users"))
    parquet.layer_setter("eu", stored)
    (one,), (other,) = tmp_path.rglob("*.segment"), tmp_path.rglob("*.parquet")
    assert other.stat().st_size < 1.2 * one.stat().st_size < 1.4 * 400_000 * 4 / 3


def layer(folder: Path, wrapper: Any = None, *, log: Any = "memory:", storage: Any = None, **options: Any) -> Layer:
    store = storage or f"local:{folder / 'store'}"
    return Layer(
        table="users",
        get_item_unique_identifier="id",
        events=shared(log),
        storage=store if wrapper is None else [wrapper, store],
        **options,
    )


def shared(log: Any) -> Any:
    """A log that stays open when a layer is closed."""
    if isinstance(log, MemoryEventLog):
        log.close = lambda: None  # type: ignore[method-assign] # of this object alone
    return log
