"""Scans: the same rows as `get`, whatever is pending, on adapters with columns and without."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from dynalayer import (
    ClosedError,
    InvalidInputError,
    Item,
    Layer,
    LayerError,
    MemoryEventLog,
    SegmentMissingError,
    SQLiteEventLog,
)
from dynalayer.columns import ID, ITEM
from dynalayer.values import item_from_json
from fakes import Ticking

Open = Callable[..., Layer]


@pytest.fixture(params=["parquet+memory", "local", "pair"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    return options(request.param, tmp_path)


def options(kind: str, folder: Path) -> dict[str, Any]:
    if kind == "pair":
        shelf: dict[str, list[Item]] = {}
        return {"getter": shelf.get, "setter": shelf.__setitem__}
    return {"storage": f"local:{folder}/snapshots" if kind == "local" else f"parquet+memory://{secrets.token_hex(8)}"}


@pytest.fixture
def layer(storage: dict[str, Any]) -> Iterator[Layer]:
    with opened(**storage) as layer:
        yield layer


def opened(**given_options: Any) -> Layer:
    return Layer(**{"table": "users", "get_item_unique_identifier": "sk", "events": "memory:", **given_options})


def put(layer: Layer, *items: Item, partition: str = "eu") -> None:
    layer.set([{"type": "PUT", "item": item, "partition": partition} for item in items])


def delete(layer: Layer, *identifiers: str, partition: str = "eu") -> None:
    layer.set([{"type": "DELETE", "item": {"sk": each}, "partition": partition} for each in identifiers])


def rows(layer: Layer, *columns: str, **asked: Any) -> list[Any]:
    """The rows of some columns, sorted by the first of them."""
    table = layer.to_arrow("eu", columns=columns, **asked)
    return sorted(tuple(row[name] for name in columns) for row in table.to_pylist())


STEPS = st.lists(
    st.one_of(
        st.just("sync"),
        st.lists(
            st.tuples(st.sampled_from("abcde"), st.one_of(st.none(), strategies.values())), min_size=1, max_size=4
        ),
    ),
    max_size=12,
)


@pytest.mark.parametrize("kind", ["parquet+memory", "local"])
@settings(deadline=None)
@given(steps=STEPS)
def test_a_scan_gives_what_get_gives_whatever_was_done(
    kind: str, steps: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with opened(**options(kind, tmp_path_factory.mktemp("scan"))) as layer:
        for step in steps:
            if step == "sync":
                layer.sync()
                continue
            layer.set(
                [
                    {"type": "DELETE", "item": {"sk": key}, "partition": "eu"}
                    if value is None
                    else {"type": "PUT", "item": {"sk": key, "x": value}, "partition": "eu"}
                    for key, value in step
                ]
            )
        items = layer.get("eu")
        table = layer.to_arrow("eu", columns=[ID, ITEM]).sort_by(ID)
        assert table.column(ID).to_pylist() == [item["sk"] for item in items]
        found = [item_from_json(orjson.loads(text)) for text in table.column(ITEM).to_pylist()]
        assert strategies.exactly(found) == strategies.exactly(items)
        whole = layer.to_arrow("eu")
        whole.validate(full=True)
        assert len(whole) == len(items)
        with opened(**options("local", tmp_path_factory.mktemp("other"))) as other:
            if items:
                other.set([{"type": "PUT", "item": item, "partition": "eu"} for item in items])
            plain = other.to_arrow("eu")
        for name in plain.schema.names:  # a type may have widened by what is gone
            if whole.schema.field(name).equals(plain.schema.field(name)):
                assert whole.sort_by("sk").column(name).to_pylist() == plain.sort_by("sk").column(name).to_pylist()


def test_a_scan_sees_its_own_writes_and_what_was_folded_and_deleted(layer: Layer) -> None:
    put(layer, {"sk": "a", "n": 1}, {"sk": "b", "n": 2}, {"sk": "c", "n": 3})
    assert rows(layer, "sk", "n") == [("a", 1), ("b", 2), ("c", 3)]
    layer.sync()
    put(layer, {"sk": "b", "n": 20})
    layer.sync()
    delete(layer, "a")
    put(layer, {"sk": "d", "n": 4})
    assert rows(layer, "sk", "n") == [("b", 20), ("c", 3), ("d", 4)]
    assert layer.to_arrow("eu").schema.names == ["n", "sk"]


def test_a_filter_is_asked_of_the_newest_rows_alone(layer: Layer) -> None:
    put(layer, {"sk": "a", "n": 1}, {"sk": "b", "n": 2}, {"sk": "c", "n": 3})
    layer.sync()
    put(layer, {"sk": "c", "n": 0}, {"sk": "a", "n": 9})
    assert rows(layer, "sk", filter=pc.field("n") >= 2) == [("a",), ("b",)]
    assert rows(layer, "sk", filter=[("n", "<", 2)]) == [("c",)]
    assert rows(layer, "n", filter=(pc.field("sk") == "b") | (pc.field("n") == 0)) == [(0,), (2,)]


def test_a_column_that_changed_its_type_is_the_same_in_every_row_and_filtered_as_such(layer: Layer) -> None:
    put(layer, {"sk": "a", "n": 1}, {"sk": "b", "n": 2})
    layer.sync()
    put(layer, {"sk": "c", "n": 2.5})
    assert rows(layer, "sk", "n", filter=pc.field("n") > 1.5) == [("b", 2.0), ("c", 2.5)]
    put(layer, {"sk": "d", "n": "two"})
    assert rows(layer, "n", "sk") == [('"two"', "d"), ("1", "a"), ("2", "b"), ("2.5", "c")]
    assert rows(layer, "sk", filter=pc.field("n") == '"two"') == [("d",)]
    assert rows(layer, "sk", filter=pc.field("n") == "2") == [("b",)]


def test_a_text_that_became_json_is_filtered_as_json(layer: Layer) -> None:
    put(layer, {"sk": "a", "n": "1"})
    layer.sync()
    put(layer, {"sk": "b", "n": 1})
    assert rows(layer, "sk", "n", filter=pc.field("n") == "1") == [("b", "1")]


def test_a_column_that_only_pending_events_have_is_null_elsewhere(layer: Layer) -> None:
    put(layer, {"sk": "a"})
    layer.sync()
    put(layer, {"sk": "b", "n": 7})
    assert rows(layer, "sk", "n") == [("a", None), ("b", 7)]
    assert rows(layer, "sk", filter=pc.field("n") == 7) == [("b",)]
    assert rows(layer, "sk", filter=pc.field("n").is_null()) == [("a",)]


def test_a_partition_without_items_has_no_rows_whatever_is_asked(layer: Layer) -> None:
    for _ in range(2):
        for asked in ({}, {"columns": ["n"]}, {"columns": ["n"], "filter": pc.field("n") > 1}):
            table = layer.to_arrow("eu", **asked)
            assert len(table) == 0
            assert table.schema.names == asked.get("columns", table.schema.names)
        put(layer, {"sk": "a", "n": 1})
        layer.sync()
        delete(layer, "a")
        layer.sync()


def test_a_scan_stays_as_the_partition_was_when_it_began(layer: Layer) -> None:
    put(layer, *({"sk": str(number), "n": 0} for number in range(10)))
    layer.sync()
    put(layer, {"sk": "3", "n": 1})
    reader = layer.scan("eu", columns=["n"])
    put(layer, *({"sk": str(number), "n": 2} for number in range(20)))
    layer.sync()
    assert sorted(reader.read_all().column("n").to_pylist()) == [0] * 9 + [1]


def test_frames_hold_the_same_rows(layer: Layer) -> None:
    put(layer, {"sk": "a", "n": 1}, {"sk": "b", "n": 2})
    pandas = layer.to_pandas("eu", columns=["sk", "n"], filter=[("n", ">", 1)])
    polars = layer.to_polars("eu", columns=["sk", "n"], filter=[("n", ">", 1)])
    assert isinstance(pandas, pd.DataFrame)
    assert isinstance(polars, pl.DataFrame)
    assert pandas.to_dict("records") == polars.to_dicts() == [{"sk": "b", "n": 2}]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"columns": ["stat"]}, "no item of 'eu' has a column 'stat'; there are: state"),
        ({"columns": "n"}, "columns is a list of attribute names, not 'n'"),
        ({"columns": [1]}, "1 is none"),
        ({"columns": ["n", "n"]}, "names one twice"),
        ({"columns": 5}, "columns is a list"),
        ({"filter": pc.field("m") > 1}, "does not fit the columns of 'eu'"),
        ({"filter": pc.field("state") > 1}, "does not fit the columns of 'eu'"),
        ({"filter": "n > 1"}, "is no expression of pyarrow's"),
        ({"filter": [("n", "~", 1)]}, "is no expression of pyarrow's"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_row_is_read(layer: Layer, asked: dict[str, Any], told: str) -> None:
    put(layer, {"sk": "a", "n": 1, "state": "x"})
    layer.sync()
    with pytest.raises(InvalidInputError) as refused:
        layer.scan("eu", **asked)
    assert told in str(refused.value)
    assert refused.value.operation == "scan"
    assert refused.value.partition == "eu"


def test_items_without_a_column_are_rows_all_the_same(storage: dict[str, Any]) -> None:
    with opened(**{**storage, "get_item_unique_identifier": "$sk"}) as layer:
        put(layer, {"$sk": "a"}, {"$sk": "b"})
        for _ in range(2):
            assert rows(layer, ID, ITEM) == [("a", '{"$sk":"a"}'), ("b", '{"$sk":"b"}')]
            with pytest.raises(InvalidInputError, match="has a column"):
                layer.scan("eu", columns=["$sk"])
            layer.sync()


def test_a_filter_by_position_is_refused(layer: Layer) -> None:
    put(layer, {"sk": "a", "n": 1})
    with pytest.raises(InvalidInputError, match="by its position"):
        layer.scan("eu", filter=pc.field(2) > 0)


@pytest.mark.parametrize("sync", [True, False], ids=["folded", "pending"])
def test_a_filter_that_fails_on_an_item_is_told_as_the_askers_and_no_segment_as_corrupt(
    layer: Layer, *, sync: bool
) -> None:
    put(layer, {"sk": "a", "n": 0, "text": "x"})
    if sync:
        layer.sync()
    for asked in (pc.divide(pc.scalar(100), pc.field("n")) > 5, pc.field("text").cast("int64") > 0):
        with pytest.raises(InvalidInputError, match="cannot be asked of every item") as refused:
            layer.scan("eu", filter=asked).read_all()
        assert refused.value.operation == "scan"


def test_attributes_with_names_that_arrow_uses_itself_are_scanned_as_others(layer: Layer) -> None:
    put(layer, {"sk": "a", "__filename": "x", "__fragment_index": 5}, {"sk": "b", "__filename": "y"})
    layer.sync()
    assert rows(layer, "__filename", "__fragment_index", filter=pc.field("__filename") == "x") == [("x", 5)]


def test_an_error_about_columns_is_short_however_long_and_many_their_names(layer: Layer) -> None:
    put(layer, {"sk": "a", "x" * 50_000: 1, **{f"attribute-{number}": number for number in range(500)}})
    for asked in ({"filter": pc.field("no") > 1}, {"columns": ["no"]}, {"columns": ["no" * 10_000]}):
        with pytest.raises(InvalidInputError) as refused:
            layer.scan("eu", **asked)
        assert len(str(refused.value)) < 3000


def test_a_closed_layer_scans_nothing(layer: Layer) -> None:
    layer.close()
    with pytest.raises(ClosedError):
        layer.scan("eu")


def test_a_segment_that_is_gone_is_an_error_that_names_it_also_in_the_midst_of_a_scan(tmp_path: Path) -> None:
    with opened(storage=f"parquet+file:{tmp_path}") as layer:
        put(layer, {"sk": "a", "n": 1})
        layer.sync()
        (file,) = tmp_path.rglob("*.parquet")
        reader = layer.scan("eu")
        file.unlink()
        with pytest.raises(SegmentMissingError, match="there is no") as lost:
            reader.read_all()
        assert file.name in str(lost.value)
        assert (lost.value.adapter, lost.value.operation, lost.value.partition) == ("parquet", "scan", "eu")
        with pytest.raises(SegmentMissingError, match="names a segment that is gone"):
            layer.scan("eu")


def test_a_scan_beside_syncs_and_vacuums_of_others_misses_nothing(tmp_path: Path) -> None:
    clock = Ticking()
    with (
        SQLiteEventLog(tmp_path / "events.db", "users") as log,
        opened(events=log, storage=f"parquet+file:{tmp_path}/snapshots", clock=clock, ttl=24 * 3600) as layer,
    ):
        for number in range(40):
            put(layer, {"sk": f"i{number % 7}", "n": number}, {"sk": f"new{number}", "n": number})
            expected = sorted((item["sk"], item["n"]) for item in layer.get("eu"))
            layer.sync()
            assert rows(layer, "sk", "n") == expected
            clock.advance(12 * 3600)
            layer.vacuum(dry_run=False)
            assert rows(layer, "sk", "n") == expected


def test_without_pyarrow_a_scan_says_what_to_install_and_all_else_works(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["pyarrow"] = None
from dynalayer import Layer, ConfigurationError
with Layer(table="users", get_item_unique_identifier="sk", events="memory:", storage="local:{tmp_path}") as layer:
    layer.set([{{"type": "PUT", "item": {{"sk": "a"}}}}])
    layer.sync()
    print(layer.get())
    try:
        layer.scan()
    except ConfigurationError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "[{'sk': 'a'}]" in done.stdout, done.stderr
    assert "pip install 'dynalayer[parquet]'" in done.stdout


def test_a_scan_is_counted_as_such() -> None:
    with opened(events=MemoryEventLog("users"), storage=f"parquet+memory://{secrets.token_hex(8)}") as layer:
        put(layer, {"sk": "a"})
        layer.sync()
        layer.to_arrow("eu")
        assert layer.usage()["scan"].storage_reads == 1


def test_errors_of_a_scan_are_layer_errors(tmp_path: Path) -> None:
    with opened(storage=f"parquet+file:{tmp_path}") as layer:
        put(layer, {"sk": "a", "n": 1})
        layer.sync()
        (file,) = tmp_path.rglob("*.parquet")
        data = bytearray(file.read_bytes())
        data[20] ^= 0xFF  # in a page: the footer is whole
        file.write_bytes(data)
        with pytest.raises(LayerError, match="is corrupt"):
            layer.to_arrow("eu", columns=[ID, ITEM, "n"])


def test_batches_come_one_by_one(monkeypatch: pytest.MonkeyPatch, layer: Layer) -> None:
    monkeypatch.setattr("dynalayer.columns.items.ROWS", 10)
    monkeypatch.setattr("dynalayer_parquet.files._GROUP_ROWS", 10)
    put(layer, *({"sk": f"{number:03}", "n": number} for number in range(100)))
    layer.sync()
    reader = layer.scan("eu", columns=["n"])
    assert isinstance(reader, pa.RecordBatchReader)
    assert [len(batch) for batch in reader if len(batch)] == [10] * 10


def test_an_attribute_that_got_no_column_in_the_base_is_scanned_once_it_has_one(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynalayer.columns.items.MAX_COLUMNS", 2)
    put(layer, {"sk": "a", "n": 1, "rare": 7}, {"sk": "b", "n": 2})
    layer.sync()
    assert layer.to_arrow("eu").schema.names == ["n", "sk"]
    for number in range(4):
        put(layer, {"sk": f"x{number}", "rare": number})
    assert rows(layer, "rare", "sk", filter=pc.field("rare") > 1) == [(2, "x2"), (3, "x3"), (7, "a")]
