"""Segments by columns: types, exactness, and what several come to, compared with the fold of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import strategies
from dynalayer import Item, Segment, SegmentHeader
from dynalayer.columns import ID, ITEM, Columns, Newest, SegmentColumns, segment_of
from dynalayer.columns import items as columns_of_items
from dynalayer.columns.newest import common_schema, fitted
from dynalayer.columns.types import array_of, field_of
from dynalayer.fold import NetChanges, apply_segment

ORIGIN = "0123456789abcdef"


def segment(items: Mapping[str, Item], deleted: frozenset[str] = frozenset(), kind: Any = "base") -> Segment:
    return Segment("users", "eu", ORIGIN, kind, 0, 1, items, deleted)


def header(kind: Any) -> SegmentHeader:
    return SegmentHeader("users", "eu", ORIGIN, kind, 0, 9, f"{9:020d}-{kind}-{ORIGIN}-0")


def table_of(source: Columns, **asked: Any) -> pa.Table:
    batches = list(source.batches(**asked))
    return pa.Table.from_batches(batches) if batches else source.schema.empty_table()


# Types


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None], pa.bool_()),
        ([1, -(2**63), 2**63 - 1], pa.int64()),
        ([1, 2**63], pa.decimal128(19, 0)),
        ([10**38 - 1], pa.decimal128(38, 0)),
        ([Decimal("1.50"), Decimal(100)], pa.decimal128(5, 2)),
        ([Decimal("1.5"), 10**20], pa.decimal128(22, 1)),
        ([Decimal("0.00")], pa.decimal128(2, 2)),
        ([Decimal("1E+5"), Decimal("-0")], pa.decimal128(6, 0)),
        ([1.5, -0.0], pa.float64()),
        (["a", "", None], pa.string()),
        ([b"a", b""], pa.binary()),
    ],
)
def test_a_column_has_the_type_of_its_values_and_holds_them_exactly(values: list[Any], kind: pa.DataType) -> None:
    field = field_of("x", values)
    assert field.type == kind
    array = array_of(field, values)
    assert array.to_pylist() == values
    array.validate(full=True)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1.5], [1.0, 1.5]),
        ([Decimal("0.1"), 1.5], [0.1, 1.5]),
        ([Decimal("1E+30"), Decimal("1E-30")], [1e30, 1e-30]),  # no decimal has room for both
    ],
)
def test_numbers_that_no_exact_type_holds_together_are_given_to_the_nearest(
    values: list[Any], expected: list[float]
) -> None:
    field = field_of("x", values)
    assert field.type == pa.float64()
    assert array_of(field, values).to_pylist() == expected


def test_a_mixture_and_what_is_nested_is_plain_json() -> None:
    values = [1, "1", None, [Decimal("1.50"), {"a": b"hi"}], {2, 1}, True, 10**30]
    field = field_of("x", values)
    assert array_of(field, values).to_pylist() == [
        "1",
        '"1"',
        None,
        '[1.50,{"a":"aGk="}]',
        "[1,2]",
        "true",
        "1" + 30 * "0",
    ]


COLUMNS: Sequence[list[Any]] = (
    [None],
    [True],
    [1, 2**62],
    [Decimal("1.5")],
    [Decimal("1E-20"), 1],
    [10**37],
    [1.25],
    ["a"],
    [b"a"],
    [1, "a"],
    [{"a": 1}],
)


@pytest.mark.parametrize("one", COLUMNS, ids=repr)
@pytest.mark.parametrize("other", COLUMNS, ids=repr)
def test_two_columns_as_one_hold_what_each_of_them_held(one: list[Any], other: list[Any]) -> None:
    sources = [
        SegmentColumns(segment({f"{position}{number}": {"x": value} for number, value in enumerate(values)}))
        for position, values in enumerate((one, other))
    ]
    common = common_schema([source.schema for source in sources])
    assert common.equals(common_schema([source.schema for source in sources[::-1]]))
    for values, source in zip((one, other), sources, strict=True):
        (batch,) = source.batches()
        held = fitted(batch, source.schema, common).column("x")
        held.validate(full=True)
        assert held.equals(array_of(common.field("x"), values))


def test_what_became_json_or_a_float_says_what_the_items_do_and_not_what_a_column_made_of_them() -> None:
    numbers: dict[str, Item] = {"a": {"x": 2**60 + 1}, "b": {"x": 1}, "c": {"x": Decimal("1.50")}, "d": {"x": 5538910}}
    bottom = SegmentColumns(segment({**numbers, "e": {"x": Decimal("2.125")}}))
    for newer, expected in (
        ("text", ["1152921504606846977", "1", "1.50", "5538910", "2.125", '"text"']),
        (0.5, [float(2**60 + 1), 1.0, 1.5, 5538910.0, 2.125, 0.5]),
    ):
        changed = SegmentColumns(segment({"f": {"x": newer}}, frozenset(), "delta"))
        assert table_of(Newest(header("base"), [bottom, changed])).column("x").to_pylist() == expected


# Items


ITEMS = st.dictionaries(strategies.texts(6), strategies.items(), max_size=8)


@given(items=ITEMS, deleted=st.frozensets(strategies.texts(6), max_size=4))
@example({"": {}, "a": {"$x": 1, "": 2, "A": 3, "a": 4}}, frozenset({"b"}))
def test_items_come_back_from_columns_exactly(items: dict[str, Item], deleted: frozenset[str]) -> None:
    given_segment = segment(items, deleted - items.keys(), "delta")
    columns = SegmentColumns(given_segment)
    back = segment_of(columns.header, columns.batches([ID, ITEM]))
    assert back == given_segment
    assert strategies.exactly(back.items) == strategies.exactly(items)
    whole = table_of(columns)
    assert whole.schema.equals(columns.schema)
    assert whole.column(ID).to_pylist() == sorted([*given_segment.items, *given_segment.deleted])
    whole.validate(full=True)


def test_each_attribute_has_a_column_but_those_that_could_be_taken_for_another() -> None:
    items = {"a": {"name": 1, "Name": 2, "NAME": 3, "$ref": 4, "": 5, "größe": 6}, "b": {"name": 2}}
    columns = SegmentColumns(segment(items))
    assert columns.schema.names == [ID, ITEM, "größe", "name"]


def test_a_spelling_that_few_items_have_takes_no_column_from_the_one_that_most_have() -> None:
    bottom = SegmentColumns(segment({"a": {"name": 1}, "b": {"name": 2}}))
    deltas = [
        SegmentColumns(segment({"c": {"NAME": 3}}, frozenset(), "delta")),
        SegmentColumns(segment({}, frozenset({"c"}), "delta")),
    ]
    newest = Newest(header("base"), [bottom, *deltas])
    assert table_of(newest).select([ID, "name"]).to_pydict() == {ID: ["a", "b"], "name": [1, 2]}
    assert newest.schema.names == [ID, ITEM, "name"]


def test_a_column_that_one_segment_left_out_is_filled_from_its_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_of_items, "MAX_COLUMNS", 2)
    bottom = SegmentColumns(segment({"a": {"x": 1, "y": 1, "z": 7}, "b": {"x": 2, "y": 2}}))
    assert bottom.schema.names == [ID, ITEM, "x", "y"]
    delta = SegmentColumns(segment({f"n{number}": {"z": number} for number in range(3)}, frozenset(), "delta"))
    newest = table_of(Newest(header("base"), [bottom, delta]))
    assert newest.select([ID, "z"]).to_pydict() == {ID: ["a", "b", "n0", "n1", "n2"], "z": [7, None, 0, 1, 2]}


def test_attributes_that_few_items_have_are_in_their_rows() -> None:
    items = {f"{number:04}": {f"x{number % 300}": number, "all": 1} for number in range(900)}
    whole = table_of(SegmentColumns(segment(items)))
    for name in ("x0", "x7", "x299"):
        number = int(name[1:])
        column = whole.column(name).to_pylist()
        assert {row: value for row, value in enumerate(column) if value is not None} == {
            each: each for each in (number, number + 300, number + 600)
        }


def test_of_very_many_attributes_those_that_most_items_have_get_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_of_items, "MAX_COLUMNS", 3)
    items = {str(number): {"b": 1, "a": 1, f"x{number}": 1} for number in range(5)}
    assert SegmentColumns(segment(items)).schema.names == [ID, ITEM, "a", "b", "x0"]


def test_columns_and_rows_are_given_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_of_items, "ROWS", 2)
    columns = SegmentColumns(segment({str(number): {"n": number, "m": -number} for number in range(5)}))
    assert [len(batch) for batch in columns.batches()] == [2, 2, 1]
    assert table_of(columns, columns=["m", ID]).to_pydict() == {"m": [0, -1, -2, -3, -4], ID: list("01234")}


def test_batches_of_large_items_have_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_of_items, "BATCH_BYTES", 10_000)
    columns = SegmentColumns(segment({f"{number:02}": {"text": "x" * 3000} for number in range(10)}))
    assert [len(batch) for batch in columns.batches()] == [3, 3, 3, 1]


# Several as one


def net(*segments: Segment) -> NetChanges:
    changes = NetChanges()
    for each in segments:
        changes.add_segment(each)
    return changes


PART = st.tuples(
    st.dictionaries(st.sampled_from("abcdefgh"), st.fixed_dictionaries({}, optional={"x": strategies.values()})),
    st.frozensets(st.sampled_from("abcdefgh")),
)


@given(base=PART, deltas=st.lists(PART, min_size=1, max_size=4), rows=st.integers(1, 4))
def test_the_newest_rows_are_what_the_fold_of_items_gives(
    base: tuple[dict[str, Item], frozenset[str]], deltas: list[tuple[dict[str, Item], frozenset[str]]], rows: int
) -> None:
    parts = [segment(items, deleted - items.keys(), "delta") for items, deleted in deltas]
    bottom = segment(base[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns_of_items, "ROWS", rows)
        newest = Newest(header("base"), [SegmentColumns(each) for each in (bottom, *parts)])
        folded: dict[str, Item] = dict(bottom.items)
        for part in parts:
            apply_segment(folded, part)
        check_newest(newest, folded, set())
        merged = Newest(header("delta"), [SegmentColumns(each) for each in parts])
        changes = net(*parts)
        check_newest(merged, changes.items, changes.deleted)


def check_newest(newest: Newest, items: Mapping[str, Item], deleted: set[str]) -> None:
    whole = table_of(newest)
    assert whole.column(ID).to_pylist() == sorted([*items, *deleted])
    assert newest.entries == len(whole)
    back = segment_of(newest.header, newest.batches([ID, ITEM]))
    assert strategies.exactly(back.items) == strategies.exactly(items)
    assert back.deleted == deleted
    if "x" in newest.schema.names:  # what it says is what a column of all the values would say
        field = newest.schema.field("x")
        said = array_of(field, [items[each].get("x") if each in items else None for each in sorted([*items, *deleted])])
        assert whole.column("x").to_pylist() == said.to_pylist()


def test_what_changed_far_beyond_the_last_row_or_before_the_first_is_in_its_place() -> None:
    bottom = segment({f"m{number}": {"n": number} for number in range(3)})
    delta = segment({"a": {"n": -1}, "m1x": {"n": 5}, "z": {"n": 9}}, frozenset({"m0", "b"}), "delta")
    newest = Newest(header("base"), [SegmentColumns(bottom), SegmentColumns(delta)])
    assert table_of(newest).select([ID, "n"]).to_pydict() == {ID: ["a", "m1", "m1x", "m2", "z"], "n": [-1, 1, 5, 2, 9]}


def test_a_newest_of_which_columns_are_asked_gives_those_alone() -> None:
    bottom = segment({"a": {"n": 1, "m": 1}, "b": {"n": 2, "m": 2}})
    delta = segment({"b": {"n": 3, "m": 3}}, frozenset(), "delta")
    newest = Newest(header("base"), [SegmentColumns(bottom), SegmentColumns(delta)])
    assert table_of(newest, columns=["m"], filter=pc.field("n") == 2).to_pydict() == {
        "m": [1, 3]
    }  # b's older one hides


@pytest.mark.parametrize("text", ['{"a":1', "[1]", "null", '{"a":{"$decimal":"x"}}'])
def test_columns_of_which_no_items_can_be_made_are_an_error(text: str) -> None:
    batch = pa.record_batch({ID: ["a"], ITEM: [text]})
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        segment_of(header("base"), [batch])
