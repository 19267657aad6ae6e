"""The Parquet adapter: whole layers on four stores, what other programs read, and how little is read."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pandas as pd
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings

import strategies
from dynalayer import (
    URL,
    Adapter,
    ConfigurationError,
    EventLog,
    Item,
    Layer,
    MemoryEventLog,
    Segment,
    SegmentCorruptError,
    StorageError,
)
from dynalayer.columns import ID, ITEM
from dynalayer.opening import StorageOption
from dynalayer_parquet import ParquetAdapter

ORIGIN = "0123456789abcdef"
TWO_DAYS = 2 * 24 * 3600

Open = Callable[..., Layer]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens layers, and closes them in the end."""
    layers: list[Layer] = []

    def layer(storage: StorageOption, log: EventLog | str = "memory:", **options: Any) -> Layer:
        given_options: dict[str, Any] = {"table": "users", "get_item_unique_identifier": "sk", **options}
        layers.append(Layer(events=log, storage=storage, get_item_partition="pk", **given_options))
        return layers[-1]

    yield layer
    for each in layers:
        each.close()


def adapter_of(url: str, table: str = "users") -> ParquetAdapter:
    return ParquetAdapter.from_url(URL.parse(url, what="storage"), table)


def put(layer: Layer, *items: Item, partition: str = "eu") -> None:
    layer.set([{"type": "PUT", "item": {"pk": partition, **item}} for item in items])


def segment_of(partition: str, value: object = 1, *, table: str = "users", origin: str = ORIGIN) -> Segment:
    return Segment(table, partition, origin, "base", 0, 1, {"one": {"sk": "one", "value": value}})


# Segments


@pytest.mark.parametrize("ref", ["../x.parquet", "a/b.parquet", "x", "x.segment", "", "..", "a\\b.parquet"])
def test_a_ref_that_is_none_of_its_own_reaches_no_other_file(tmp_path: Path, ref: str) -> None:
    adapter = adapter_of(f"parquet+file:{tmp_path}")
    with pytest.raises(StorageError, match="is no ref of this adapter"):
        adapter.layer_getter("eu", ref)
    with pytest.raises(StorageError, match="is no ref of this adapter"):
        adapter.layer_discard("eu", ref)


# Layers


@given(item=strategies.items())
@settings(deadline=None)
def test_every_value_comes_back_exactly_before_and_after_a_sync(item: Item) -> None:
    event = {"type": "PUT", "item": item, "id": "one", "partition": "eu"}
    with Layer(table="users", events="memory:", storage="parquet+memory://values", cache_bytes=0) as layer:
        layer.set([event])
        expected = strategies.exactly(layer.get("eu"))
        layer.sync()
        assert strategies.exactly(layer.get("eu")) == expected


def test_attributes_may_change_their_type_from_one_segment_to_the_next(tmp_path: Path, opened: Open) -> None:
    layer = opened(f"parquet+file:{tmp_path}")
    values: Sequence[object] = (1, 1.5, "x", None, Decimal("1.50"), [1], {"a": {b"x"}}, True, 10**37, b"x")
    for number in range(30):
        value = values[number % len(values)]
        put(layer, {"sk": f"i{number}", "value": value}, {"sk": "same", "value": value})
        layer.sync()
    assert layer.meta("eu").segments < 20
    found = {item["sk"]: item["value"] for item in layer.get("eu")}
    for number in range(30):
        assert strategies.exactly(found[f"i{number}"]) == strategies.exactly(values[number % len(values)])


# What other programs read


ITEMS: list[Item] = [
    {"sk": "a", "age": 1, "score": 0.5, "state": "active", "paid": Decimal("12.50"), "ok": True, "raw": b"\x00\xff"},
    {"sk": "b", "age": -(2**62), "score": -1e300, "state": "größer 🎈", "paid": Decimal("-0.01"), "ok": False},
    {"sk": "c", "age": None, "tags": ["x", {"deep": Decimal("1.10")}], "mixed": 1, "raw": b""},
    {"sk": "d", "tags": {2, 1}, "mixed": "one", "big": 10**37},
]


@pytest.fixture
def base(tmp_path: Path, opened: Open) -> Path:
    """The file of a base."""
    layer = opened(f"parquet+file:{tmp_path}")
    put(layer, *ITEMS)
    layer.sync()
    (path,) = tmp_path.rglob("*.parquet")
    return path


def expected_rows() -> list[dict[str, Any]]:
    names = sorted({name for item in ITEMS for name in item})
    rows = [{"pk": "eu", **{name: item.get(name) for name in names}} for item in ITEMS]
    rows[2] |= {"tags": '["x",{"deep":1.10}]', "mixed": "1"}
    rows[3] |= {"tags": "[1,2]", "mixed": '"one"'}
    return rows


def test_duckdb_reads_a_base_as_a_plain_table(base: Path) -> None:
    names = ", ".join(f'"{name}"' for name in expected_rows()[0])
    connection = duckdb.connect()
    found = connection.query(f"SELECT {names} FROM '{base}' ORDER BY sk")  # noqa: S608 -- our own names
    types = dict(zip(found.columns, map(str, found.types), strict=True))
    assert {name: types[name] for name in ("age", "score", "state", "paid", "ok", "raw", "big")} == {
        "age": "BIGINT",
        "score": "DOUBLE",
        "state": "VARCHAR",
        "paid": "DECIMAL(4,2)",
        "ok": "BOOLEAN",
        "raw": "BLOB",
        "big": "DECIMAL(38,0)",
    }
    assert [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()] == expected_rows()
    assert connection.query(f"SELECT sum(age) FROM '{base}' WHERE state = 'active'").fetchall() == [(1,)]  # noqa: S608 -- likewise


def test_polars_reads_a_base_as_a_plain_table(base: Path) -> None:
    frame = pl.read_parquet(base).drop(ID, ITEM)
    assert frame.schema["age"] == pl.Int64
    assert frame.schema["paid"] == pl.Decimal(4, 2)
    assert frame.sort("sk").to_dicts() == expected_rows()


def test_pandas_reads_a_base_as_a_plain_table(base: Path) -> None:
    frame = pd.read_parquet(base, dtype_backend="pyarrow").drop(columns=[ID, ITEM])
    rows = frame.sort_values("sk").astype(object).where(frame.notna(), None).to_dict("records")
    assert rows == expected_rows()


def test_the_newest_base_is_the_last_by_name(tmp_path: Path, opened: Open) -> None:
    layer = opened(f"parquet+file:{tmp_path}")
    for number in range(120):
        put(layer, {"sk": f"i{number % 9}", "n": number})
        layer.sync()
    newest = max(tmp_path.rglob("*-base-*.parquet"))
    assert layer.meta("eu").segments > 1
    (base, *_) = layer._log.head("eu").segments
    assert newest.name == base.ref


def test_whatever_byte_is_damaged_the_items_are_those_stored_or_there_is_an_error(tmp_path: Path) -> None:
    adapter = adapter_of(f"parquet+file:{tmp_path}")
    segment = Segment("users", "eu", ORIGIN, "base", 0, 1, {f"i{number}": {"n": number} for number in range(50)})
    ref = adapter.layer_setter("eu", segment)
    (path,) = tmp_path.rglob("*.parquet")
    data = path.read_bytes()
    told = 0
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert adapter.layer_getter("eu", ref) == segment
        except SegmentCorruptError as error:
            told += str(path) in str(error)
    assert told > len(data) / 2  # the rest says nothing that a reader of items looks at


def test_verify_reads_also_the_columns_that_a_get_does_not(tmp_path: Path, opened: Open) -> None:
    layer = opened(f"parquet+file:{tmp_path}")
    put(layer, *({"sk": f"i{number}", "noise": secrets.token_hex(8)} for number in range(100)))
    layer.sync()
    (path,) = tmp_path.rglob("*.parquet")
    data = bytearray(path.read_bytes())
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(2)
    assert chunk.path_in_schema == "noise"
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(data)
    assert len(layer.get("eu")) == 100
    (finding,) = layer.verify().findings
    assert "is corrupt" in finding.problem


# How little is read


class Counting(MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
    """A file system in memory that counts what it gives."""

    protocol = "counting"
    store: dict[str, Any] = {}  # noqa: RUF012 -- as fsspec has it: all of a protocol share one
    pseudo_dirs = [""]  # noqa: RUF012 -- likewise
    given: list[int] = []  # noqa: RUF012 -- likewise

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        data = bytes(super().cat_file(path, start, end, **options))
        self.given.append(len(data))
        return data


@pytest.fixture
def counting() -> Iterator[list[int]]:
    """What a file system that counts gave so far."""
    fsspec.register_implementation("counting", Counting, clobber=True)
    Counting.given.clear()
    yield Counting.given
    Counting.store.clear()
    Counting.given.clear()


ROWS = 40_000


@pytest.fixture
def large(opened: Open, counting: list[int], monkeypatch: pytest.MonkeyPatch) -> Layer:
    """A partition with a base of some megabytes in several row groups, one small delta, and something pending."""
    monkeypatch.setattr("dynalayer_parquet.files._GROUP_ROWS", 5000)
    monkeypatch.setattr("dynalayer.columns.items.ROWS", 5000)
    layer = opened("parquet+counting://place")
    put(layer, *({"sk": f"{n:08}", "n": n, "noise": secrets.token_hex(50)} for n in range(ROWS)))
    layer.sync()
    put(layer, {"sk": "00000001", "n": -1})
    layer.sync()
    put(layer, {"sk": "00000002", "n": -2})
    counting.clear()
    return layer


def sizes() -> list[int]:
    return sorted(len(file.getvalue()) for file in Counting.store.values())


def test_a_scan_of_one_column_reads_that_column_alone(large: Layer, counting: list[int]) -> None:
    table = large.to_arrow("eu", columns=["n"])
    assert sum(table.column("n").to_pylist()) == sum(range(ROWS)) - 1 - 1 - 2 - 2
    whole = sizes()[-1]
    assert whole > 2_000_000
    assert sum(counting) < whole / 4


def test_a_scan_with_a_filter_reads_only_where_it_may_match(large: Layer, counting: list[int]) -> None:
    table = large.to_arrow("eu", columns=["sk", "noise"], filter=pc.field("n").isin([-2, ROWS - 3]))
    assert sorted(table.column("sk").to_pylist()) == ["00000002", f"{ROWS - 3:08}"]
    assert sum(counting) < sizes()[-1] / 3  # a row group of eight, and footers


def test_what_is_pending_of_another_type_makes_a_scan_read_no_more_than_it_needs(
    large: Layer, counting: list[int]
) -> None:
    put(large, {"sk": "00000003", "n": 0.5, "new": 1})
    table = large.to_arrow("eu", columns=["sk"], filter=(pc.field("n") == 0.5) | (pc.field("new") == 2))
    assert table.column("sk").to_pylist() == ["00000003"]
    # Identifiers, n, and the items that say n exactly: but not the noise.
    assert sum(counting) < sizes()[-1] * 2 / 3


def test_row_groups_are_bounded_by_bytes_too(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynalayer_parquet.files._GROUP_BYTES", 1_000_000)
    layer = opened(f"parquet+file:{tmp_path}")
    put(layer, *({"sk": f"{number:03}", "noise": secrets.token_hex(10_000)} for number in range(200)))
    layer.sync()
    (path,) = tmp_path.rglob("*.parquet")
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    assert sum(group.num_rows for group in groups) == 200
    assert max(group.total_byte_size for group in groups) < 2_500_000
    assert len(layer.get("eu")) == layer.to_arrow("eu").num_rows == 200


def test_a_whole_read_asks_once_for_each_segment(large: Layer, counting: list[int]) -> None:
    assert len(large.get("eu")) == ROWS
    assert sorted(counting) == sizes()


def test_one_change_to_a_large_partition_reads_nothing_and_writes_a_small_file(
    large: Layer, counting: list[int]
) -> None:
    large.sync()
    assert counting == []
    assert sizes()[0] < 10_000


# URLs and options


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("parquet:snapshots", "say where after a +"),
        ("parquet+nosuch://x", "nosuch"),
        ("parquet+file:", "names no path"),
        ("parquet+file:x?fast=1", "knows no option 'fast'"),
        ("parquet+s3://bucket/x?fast=1", "knows no option 'fast'"),
        ("parquet+s3://", "names no place"),
        ("parquet+memory://", "names no place"),
        ("parquet+memory://x?secret=s3cr3t", "'secret' does not belong in a URL"),
        ("parquet+s3://user:s3cr3t@bucket/x", "credentials"),
        ("parquet+s3://bucket/x?endpoint_url=http://user:s3cr3t@host", "credentials"),
    ],
)
def test_a_url_that_is_wrong_is_refused_and_no_secret_is_repeated(url: str, told: str, opened: Open) -> None:
    with pytest.raises(ConfigurationError) as refused:
        opened(url)
    assert told in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


def test_an_adapter_takes_a_file_system_of_ones_own(opened: Open) -> None:
    own = MemoryFileSystem()
    place = secrets.token_hex(8)
    layer = opened(ParquetAdapter(f"memory://{place}", "users", filesystem=own))
    put(layer, {"sk": "a"})
    layer.sync()
    assert own.find(f"/{place}/users")
    assert repr(place)[1:-1] in repr(ParquetAdapter(f"memory://{place}", "users", filesystem=own))
    with pytest.raises(ConfigurationError, match="takes no storage_options"):
        ParquetAdapter("memory://x", "users", filesystem=own, storage_options={})
    with pytest.raises(ConfigurationError, match="root is a URL"):
        ParquetAdapter("x", "users")


def test_the_adapter_is_found_by_name_and_declares_what_it_can() -> None:
    adapter = adapter_of("parquet+memory://x")
    assert isinstance(adapter, Adapter)
    assert (adapter.name, adapter.capabilities.columns, adapter.capabilities.deltas) == ("parquet", True, True)


# Durability on this machine


def test_a_file_is_flushed_with_its_folders_before_its_ref_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flushing(descriptor: int) -> None:
        done.append(f"flush {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def naming(path: Path, target: Path) -> Path:
        done.append(f"name {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(Path, "replace", naming)
    ref = adapter_of(f"parquet+file:{tmp_path}/snapshots").layer_setter("eu", segment_of("eu"))
    assert done[-3:] == [f"flush {ref}.part", f"name {ref}", "flush eu"]
    assert {"flush snapshots", "flush users"} <= set(done)


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapter_of(f"parquet+file:{tmp_path}/snapshots")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="the disk is full") as failed:
            adapter.layer_setter("eu", segment_of("eu"))
    assert failed.value.retryable
    assert list(tmp_path.rglob("*.parquet*")) == []


def test_a_forked_child_reads_and_writes_with_connections_of_its_own(moto_s3: Any, tmp_path: Path) -> None:
    code = f"""
import os
from dynalayer import Layer
layer = Layer(table="users", get_item_unique_identifier="sk", events="sqlite:///{tmp_path}/events.db",
              storage={moto_s3.url(scheme="parquet+s3")!r})
layer.set([{{"type": "PUT", "item": {{"sk": "parent"}}}}])
layer.sync()
child = os.fork()
if child == 0:
    layer.set([{{"type": "PUT", "item": {{"sk": "child"}}}}])
    layer.sync()
    os._exit(0 if len(layer.get()) == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
layer.set([{{"type": "PUT", "item": {{"sk": "again"}}}}])
layer.sync()
child = os.fork()
if child == 0:
    raise SystemExit(0)  # what it never used is thrown away too
assert os.waitpid(child, 0)[1] == 0
print(len(layer.get()), layer.to_arrow().num_rows)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["3", "3"], done.stderr


def test_what_is_passed_to_s3_arrives_there(moto_s3: Any, opened: Open) -> None:
    url = moto_s3.url(scheme="parquet+s3", storage_class="STANDARD_IA", sse="AES256")
    layer = opened(url, MemoryEventLog("users"))
    put(layer, {"sk": "a"})
    layer.sync()
    (key,) = moto_s3.listed()
    told = moto_s3.client.head_object(Bucket=moto_s3.bucket, Key=key)
    assert (told["StorageClass"], told["ServerSideEncryption"]) == ("STANDARD_IA", "AES256")
