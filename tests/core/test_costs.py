"""Costs follow the documented rules to the byte and the unit; a price table that is none is refused by its key."""

from __future__ import annotations

import dataclasses
import math
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from hypothesis import assume, given
from hypothesis import strategies as st

from dynalayer.costs import Cost, Prices, Request, Usage
from dynalayer.errors import ConfigurationError, InvalidInputError
from dynalayer.units import get_units, index_writes, item_size, plain_size, read_units, write_units
from strategies import items, label

KB = 1024

# What dynamodb-conformance, src/item-size.ts, has measured on the service.
MEASURED = {
    "0": 1,
    "1": 2,
    "12": 2,
    "123": 3,
    "1234": 3,
    "12345678901234567890123456789012345678": 20,
    "0042": 2,
    "100": 2,
    "1010": 3,
    "0.0000001": 2,
    "1E125": 2,
    "1E-100": 2,
    "1.5": 3,
    "15": 2,
    "1.2": 3,
    "1.200": 3,
    "1.234": 4,
    "3.14159": 5,
    "123456": 4,
    "100.5": 4,
    "0.15": 2,
    "-42": 3,
    "-0": 1,
}

# Where counting pairs from the decimal point and counting significant digits differ; measured with DynamoDB Local.
ALIGNED = {
    "120": 3,
    "1200": 2,
    "12E10": 2,
    "12E11": 3,
    "0.12": 2,
    "0.012": 3,
    "0.0012": 2,
    "10.01": 3,
    "-1": 3,
    "-12345678901234567890123456789012345678": 21,
    "1234567890123456789.1234567890123456789": 21,
    "-1234567890123456789.1234567890123456789": 21,
}

sizes = st.integers(0, 400 * KB)
flags = st.booleans()


def size_of(value: dict[str, Any]) -> int:
    """The size of a value apart from the name under which it stands."""
    return item_size({"name": value}) - len("name")


def keepable(value: Any) -> Any:
    """The value with all that DynamoDB has no room for replaced: floats beyond its range, and empty sets."""
    match value:
        case float():
            return value if value == 0 or 1e-130 <= abs(value) <= 9e125 else 1.5
        case list():
            return [keepable(element) for element in value]
        case dict():
            return {name: keepable(inner) for name, inner in value.items()}
        case set():
            return {keepable(element) for element in value} or {1}
    return value


def without_floats(value: Any) -> Any:
    """The value as boto3 takes it, which has decimals for floats."""
    match value:
        case float():
            return Decimal(repr(value))
        case list():
            return [without_floats(element) for element in value]
        case dict():
            return {name: without_floats(inner) for name, inner in value.items()}
        case set():
            decimals = {without_floats(element) for element in value}
            assume(len(decimals) == len(value))  # 0.1 and Decimal("0.1") become one
            return decimals
    return value


# Sizes


@pytest.mark.parametrize(("text", "size"), (MEASURED | ALIGNED).items())
def test_a_number_is_as_long_as_it_was_measured(text: str, size: int) -> None:
    assert size_of({"N": text}) == size
    assert plain_size({"name": Decimal(text)}) == len("name") + size


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": ""}, 0),
        ({"S": "abc"}, 3),
        ({"S": "é漢😀"}, 9),
        ({"B": b""}, 0),
        ({"B": b"\x00\xff\x00"}, 3),
        ({"BOOL": False}, 1),
        ({"NULL": True}, 1),
        ({"L": []}, 3),
        ({"M": {}}, 3),
        ({"L": [{"S": "abc"}]}, 3 + 1 + 3),
        ({"L": [{"S": "abc"}, {"N": "1"}]}, 3 + 1 + 3 + 1 + 2),
        ({"L": [{"L": []}]}, 3 + 1 + 3),
        ({"M": {"ab": {"S": "abc"}}}, 3 + 1 + 2 + 3),
        ({"M": {"é": {"M": {"a": {"NULL": True}}}}}, 3 + 1 + 2 + 3 + 1 + 1 + 1),
        ({"SS": ["a", "é"]}, 3),
        ({"NS": ["1", "123"]}, 2 + 3),
        ({"BS": [b"a", b"bcd"]}, 4),
    ],
    ids=label,
)
def test_a_value_is_as_long_as_the_guide_says(value: dict[str, Any], size: int) -> None:
    assert size_of(value) == size


def test_an_empty_item_has_no_size_and_a_name_counts_in_bytes() -> None:
    assert item_size({}) == plain_size({}) == 0
    assert item_size({"é": {"NULL": True}}) == plain_size({"é": None}) == 3


@given(items().map(keepable))
def test_a_plain_item_is_as_long_as_what_boto3_makes_of_it(item: dict[str, Any]) -> None:
    serialize = TypeSerializer().serialize
    assert plain_size(item) == item_size({name: serialize(without_floats(value)) for name, value in item.items()})


@given(items(), items())
def test_the_size_of_an_item_is_the_sum_of_its_attributes(some: dict[str, Any], more: dict[str, Any]) -> None:
    more = {name: value for name, value in more.items() if name not in some}
    assert plain_size(some | more) == plain_size(some) + plain_size(more)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_a_number_takes_one_to_twenty_one_bytes_and_its_negative_at_most_one_more(number: Decimal) -> None:
    size = plain_size({"": abs(number)})
    assert 1 <= size <= 21
    assert plain_size({"": -abs(number)}) == (min(size + 1, 21) if number else 1)


@given(st.integers(-(10**38) + 1, 10**38 - 1), st.integers(0, 40))
def test_zeros_in_pairs_at_the_end_of_a_number_take_nothing(number: int, pairs: int) -> None:
    assert plain_size({"": number * 100**pairs}) == plain_size({"": number})


def test_tuples_and_frozen_sets_count_as_what_boto3_makes_of_them() -> None:
    assert plain_size({"": (1, "a")}) == plain_size({"": [1, "a"]})
    assert plain_size({"": frozenset({1, 22})}) == plain_size({"": {1, 22}}) == 4
    assert plain_size({"": bytearray(3)}) == 3


@pytest.mark.parametrize("value", [{"X": 1}, {}, {"S": "a", "N": "1"}, "S", None, {"N": "one"}, {"N": "NaN"}])
def test_what_is_no_attribute_value_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"no attribute value|no number"):
        item_size({"name": value})


@pytest.mark.parametrize("value", [range(3), 1j, date(2026, 1, 1), math.inf, math.nan, Decimal("NaN")], ids=label)
def test_what_dynamodb_keeps_under_no_type_is_refused(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"no value of type|no number"):
        plain_size({"name": value})


# Units


@pytest.mark.parametrize(
    ("size", "consistently"),
    [(0, 1), (1, 1), (4095, 1), (4096, 1), (4097, 2), (8192, 2), (8193, 3), (400 * KB, 100), (1024 * KB, 256)],
)
def test_reads_are_rounded_up_to_four_kilobytes_and_half_when_eventually_consistent(
    size: int, consistently: int
) -> None:
    assert read_units(size, consistent=True) == get_units(size, consistent=True) == consistently
    assert read_units(size, consistent=False) == get_units(size, consistent=False) == consistently / 2


def test_a_query_rounds_the_sum_and_a_batch_each_item() -> None:
    # The guide's examples, page "DynamoDB read and write operations".
    assert get_units(1536, 6656, consistent=True) == 12 / 4
    assert read_units(1536 + 6656, consistent=True) == 8 / 4
    assert read_units(int(40.8 * KB), consistent=True) == 44 / 4
    assert read_units(1500 * 64, consistent=True) == 96 / 4


def test_what_is_not_there_costs_the_minimum_and_an_empty_batch_nothing() -> None:
    assert get_units(0, 0, 4097, consistent=True) == 4
    assert get_units(0, consistent=False) == 0.5
    assert get_units(consistent=True) == 0


@pytest.mark.parametrize(
    ("size", "before", "units"),
    [
        (0, 0, 1),
        (1, 0, 1),
        (1024, 0, 1),
        (1025, 0, 2),
        (2048, 0, 2),
        (2049, 0, 3),
        (400 * KB, 0, 400),
        (100, 3000, 3),
        (3000, 100, 3),
        (1024, 1025, 2),
        (0, 1024, 1),
        (0, 1025, 2),
    ],
)
def test_writes_are_rounded_up_to_one_kilobyte_by_the_larger_of_before_and_after(
    size: int, before: int, units: int
) -> None:
    assert write_units(size, before=before) == units
    assert write_units(size, before=before, transactional=True) == 2 * units


def test_a_write_whose_condition_fails_costs_by_what_is_there() -> None:
    # The guide's examples, page "Working with items and attributes".
    assert write_units(0, before=0) == 1
    assert write_units(0, before=1 * KB) == 1
    assert write_units(0, before=2 * KB) == 2


@pytest.mark.parametrize(
    ("old", "new", "old_size", "new_size", "changed", "units"),
    [
        (None, None, 0, 0, False, 0),
        (None, "a", 0, 18, False, 1),
        (None, "a", 0, 1024, False, 1),
        (None, "a", 0, 1025, False, 2),
        ("a", None, 3017, 0, False, 3),
        ("a", "a", 3017, 3017, False, 0),
        ("a", "a", 3017, 18, True, 3),
        ("a", "a", 18, 3020, True, 3),
        ("a", "a", 617, 617, True, 1),
        ("a", "a", 1517, 1517, True, 2),
        ("a", "b", 18, 18, False, 2),
        ("a", "b", 1517, 1517, False, 4),
        ("a", "b", 3017, 18, True, 4),
    ],
)
def test_an_index_costs_what_was_measured_on_the_service(  # dynoxide, src/actions/index_capacity.rs
    old: str | None, new: str | None, old_size: int, new_size: int, changed: bool, units: int
) -> None:
    assert index_writes(old, new, old_size=old_size, new_size=new_size, changed=changed) == units


def test_entries_of_unsaid_size_count_as_small_ones() -> None:
    assert index_writes(None, ("cursor", "pk")) == index_writes(("cursor", "pk"), None) == 1
    assert index_writes(("cursor", "pk"), ("later", "pk")) == 2
    assert index_writes(("cursor", "pk"), ("cursor", "pk")) == 0


@given(sizes, sizes, flags)
def test_reads_grow_with_what_is_read_and_together_cost_no_more_than_apart(a: int, b: int, consistent: bool) -> None:
    together = read_units(a + b, consistent=consistent)
    assert max(read_units(a, consistent=consistent), read_units(b, consistent=consistent)) <= together
    assert together <= get_units(a, b, consistent=consistent)
    assert read_units(a, consistent=True) == 2 * read_units(a, consistent=False)


@given(sizes, sizes, sizes, flags)
def test_writes_grow_with_what_is_written_and_cost_the_same_forth_and_back(
    size: int, before: int, more: int, transactional: bool
) -> None:
    units = write_units(size, before=before, transactional=transactional)
    assert units == write_units(before, before=size, transactional=transactional)
    assert units <= write_units(size + more, before=before, transactional=transactional)
    assert units * KB >= max(size, before)


@given(sizes, sizes)
def test_moving_an_index_entry_costs_its_going_and_its_coming(old_size: int, new_size: int) -> None:
    moved = index_writes("a", "b", old_size=old_size, new_size=new_size)
    assert moved == index_writes("a", None, old_size=old_size) + index_writes(None, "b", new_size=new_size)
    assert moved > index_writes("a", "a", old_size=old_size, new_size=new_size, changed=True)


# Usage and prices

usages = st.builds(
    Usage,
    st.integers(0, 10**6),
    st.integers(0, 10**6).map(lambda halves: halves / 2),
    st.integers(0, 10**6).map(float),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)


@given(usages, usages, usages)
def test_usage_adds_up_in_any_order_and_nothing_changes_nothing(a: Usage, b: Usage, c: Usage) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Usage() == a == sum([a], Usage())


@given(usages, usages)
def test_the_price_of_a_sum_is_the_sum_of_the_prices(a: Usage, b: Usage) -> None:
    prices = Prices(storage_read=0.0000004, storage_write=0.000005)
    assert prices.dollars(a + b) == pytest.approx(prices.dollars(a) + prices.dollars(b))
    assert prices.dollars(a) >= 0


@pytest.mark.parametrize("other", [1, None, Prices()], ids=type)
def test_usage_and_cost_add_up_with_their_like_alone(other: Any) -> None:
    with pytest.raises(TypeError):
        Usage() + other
    with pytest.raises(TypeError):
        Cost() + other


def test_a_million_units_cost_the_price_of_a_million() -> None:
    prices = Prices()
    assert prices.dollars(Usage()) == 0
    assert prices.dollars(Usage(read_units=1_000_000)) == 0.125
    assert prices.dollars(Usage(write_units=1_000_000)) == 0.625
    assert prices.dollars(Usage(requests=5, storage_reads=1_000_000, storage_writes=1_000_000)) == 0


def test_requests_to_storage_cost_what_the_price_table_says() -> None:
    prices = Prices(storage_read=0.0000004, storage_write=0.000005)
    assert prices.dollars(Usage(storage_reads=1000)) == pytest.approx(0.0004)
    assert prices.dollars(Usage(storage_writes=1000)) == pytest.approx(0.005)


def test_a_table_of_prices_overrides_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text("as_of = 2026-11-01\nwrite_million = 1\n", encoding="utf-8")
    expected = Prices(as_of="2026-11-01", write_million=1)
    assert Prices.from_toml(file) == Prices.from_toml(str(file)) == expected
    assert Prices.from_mapping({}) == Prices()


FIGURES = ("read_million", "write_million", "storage_read", "storage_write")


@pytest.mark.parametrize("label", [{"currency": "EUR"}, {"region": "eu-west-1"}, {"currency": "USD"}], ids=str)
@pytest.mark.parametrize("missing", FIGURES)
def test_a_currency_or_a_region_without_all_figures_is_refused(label: dict[str, str], missing: str) -> None:
    whole = label | dict.fromkeys(FIGURES, 1.0)
    assert Prices.from_mapping(whole).read_million == 1
    del whole[missing]
    with pytest.raises(ConfigurationError, match=rf"names a \w+, '[\w-]+', and leaves out {missing}, .*all four"):
        Prices.from_mapping(whole)


a_price: st.SearchStrategy[Any] = st.one_of(st.floats(0, allow_infinity=False), st.integers(0, 10**9))
a_day: dict[str, st.SearchStrategy[Any]] = {"as_of": st.one_of(st.text(), st.dates())}


@given(
    st.one_of(
        st.fixed_dictionaries({}, optional=dict.fromkeys(FIGURES, a_price) | a_day),
        st.fixed_dictionaries(
            dict.fromkeys(FIGURES, a_price), optional=dict.fromkeys(("currency", "region"), st.text()) | a_day
        ),
    )
)
def test_every_price_that_is_one_is_taken_as_it_is(table: dict[str, Any]) -> None:
    prices = Prices.from_mapping(table)
    assert dataclasses.asdict(prices) == dataclasses.asdict(Prices()) | {
        key: value.isoformat() if isinstance(value, date) else value for key, value in table.items()
    }


@pytest.mark.parametrize("key", FIGURES)
@pytest.mark.parametrize("value", ["1", True, None, -0.1, -1, math.nan, math.inf, 10**400, [1]], ids=label)
def test_a_price_that_is_none_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"{key} is the price of .*a number of at least 0, not ") as caught:
        Prices.from_mapping({key: value})
    assert "its keys are currency, region, as_of, read_million" in str(caught.value)


@pytest.mark.parametrize("key", ["currency", "region", "as_of"])
@pytest.mark.parametrize("value", [1, None, b"USD"], ids=label)
def test_a_text_that_is_none_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"{key} is text, not .*; its keys are currency, "):
        Prices.from_mapping({key: value})


def test_a_price_table_given_in_code_is_checked_too() -> None:
    with pytest.raises(ConfigurationError, match="write_million"):
        Prices(write_million=-1)


@pytest.mark.parametrize("key", ["read_milion", "", "prices", 1])
def test_an_unknown_key_is_named_beside_the_known_ones(key: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"no key {key!r}; its keys are currency, .*, storage_write"):
        Prices.from_mapping({"currency": "EUR", key: 1})


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"field names to values, not \['currency'\]"):
        Prices.from_mapping(["currency"])  # type: ignore[arg-type] # a mistake that types would show


def test_a_price_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.toml' cannot be read: No such file"):
        Prices.from_toml(tmp_path / "gone.toml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Prices.from_toml(tmp_path)


@pytest.mark.parametrize("content", [b"currency: EUR", b"\xff\xfe", b"read_million = \n"], ids=label)
def test_a_price_file_that_is_no_toml_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "prices.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"prices\.toml' is no TOML: .*; its keys are currency, "):
        Prices.from_toml(file)


@pytest.mark.parametrize(
    ("key", "value"),
    [("writes", "1"), ("write_million", "nan"), ("write_million", "-inf"), ("region", "12:00:00")],
)
def test_a_wrong_line_of_a_price_file_is_refused_by_file_and_key(tmp_path: Path, key: str, value: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(f"{key} = {value}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"prices\.toml': .*{key}.*its keys are currency, "):
        Prices.from_toml(file)


# What an explanation tells


def test_a_cost_is_the_sum_of_its_requests_and_tells_storage_apart() -> None:
    cost = Cost(
        (
            Request("Query", 2, 1.5, 0.0, "the records above the snapshot, and the head"),
            Request("get segment", 3, 0.0, 0.0, "a base and two deltas", storage="read"),
        )
    ) + Cost((Request("put segment", 1, 0.0, 0.0, "a delta", storage="write"), Request("PutItem", 1, 0.0, 4.0, "it")))
    assert cost.count == 7
    assert cost.usage == Usage(requests=3, read_units=1.5, write_units=4.0, storage_reads=3, storage_writes=1)
    assert [request.name for request in cost.requests] == ["Query", "get segment", "put segment", "PutItem"]


def test_a_cost_of_nothing_is_nothing() -> None:
    assert Cost().count == 0
    assert Cost().usage == Usage()


@pytest.mark.parametrize("thing", [Usage(), Prices(), Cost(), Request("Query", 1, 0.5, 0.0, "all")], ids=type)
def test_what_is_told_cannot_be_changed(thing: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(thing, dataclasses.fields(thing)[0].name, 1)
