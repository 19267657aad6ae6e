"""The value domain: what is set is what is got, type for type, and what cannot be kept is refused by its path."""

from __future__ import annotations

import collections
import copy
import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dynalayer import InvalidValueError
from dynalayer.values import (
    MAX_DEPTH,
    MAX_DIGITS,
    UNDECODABLE,
    Item,
    copy_item,
    identifier_text,
    item_from_json,
    item_to_json,
    join_path,
)
from strategies import decimals, exactly, floats, ints, items, json_values, keys, label, nested, sets, texts, values


class Binary:
    """What boto3 gives bytes in: equal to them, but of a class of its own."""

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return other == self.value

    def __hash__(self) -> int:
        return hash(self.value)


Binary.__module__ = "boto3.dynamodb.types"


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Flags(enum.IntFlag):
    ON = 1


class State(enum.StrEnum):
    ACTIVE = "active"


def stored(item: Item) -> Item:
    """The item after a stay in JSON text."""
    return item_from_json(orjson.loads(orjson.dumps(item_to_json(item))))


def refusal(item: object) -> InvalidValueError:
    with pytest.raises(InvalidValueError) as caught:
        item_to_json(item)
    return caught.value


# What comes back


@settings(deadline=None, max_examples=300)
@given(items())
def test_every_item_comes_back_equal_and_of_the_same_types(item: Item) -> None:
    back = stored(item)
    assert back == item
    assert exactly(back) == exactly(item)


@settings(deadline=None)
@given(st.one_of(ints(), floats(), decimals()))
def test_every_number_comes_back_with_its_type_sign_and_digits(number: Any) -> None:
    back = stored({"n": number})["n"]
    assert type(back) is type(number)
    assert repr(back) == repr(number)


@settings(deadline=None)
@given(sets())
def test_every_set_comes_back_with_the_types_of_its_elements(value: set[Any]) -> None:
    assert exactly(stored({"s": value})) == exactly({"s": value})


@settings(deadline=None)
@given(st.dictionaries(keys(), values(), min_size=1, max_size=1))
@example({"$set": [1, 2]})
@example({"$set": {1, 2}})
@example({"$decimal": "1.5"})
@example({"$dict": {"$dict": {"$int": "1"}}})
def test_a_dict_that_looks_like_a_tag_comes_back_as_a_dict_at_every_place(mapping: Item) -> None:
    item = {"inside": mapping, "listed": [mapping, {"deeper": mapping}], **mapping}
    assert exactly(stored(item)) == exactly(item)
    assert exactly(stored(mapping)) == exactly(mapping)


@pytest.mark.parametrize(
    "value",
    [
        True,
        1,
        1.0,
        Decimal(1),
        Decimal("1.50"),
        Decimal("1.500"),
        Decimal("1E+3"),
        Decimal("-0"),
        Decimal("0.00"),
        Decimal("9.9E+125"),
        Decimal("1E-130"),
        Decimal("9" * 38),
        Decimal("-0." + "9" * 38),
        0.0,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        1e16,
        0.1 + 0.2,
        2**53 + 1,
        2**63 - 1,
        2**63,
        -(2**63),
        -(2**63) - 1,
        2**64 - 1,
        2**64,
        10**MAX_DIGITS - 1,
        -(10**MAX_DIGITS) + 1,
        None,
        "",
        b"",
        [],
        {},
        set(),
        "\x00\n\u2028😀",
        bytes(range(256)),
        [[], {}, set(), None, False, 0, 0.0, "", b""],
        {"a", "b"},
        {b"a", b""},
        {1, 2.5, Decimal("3.10"), 2**70},
        {"": {"": ""}},
        {"$bytes": "aGk="},
        {"$dict": {}},
        {"$set": [1], "more": 1},
    ],
    ids=label,
)
def test_what_is_set_is_what_is_got(value: object) -> None:
    assert exactly(stored({"value": value, "listed": [value]})) == exactly({"value": value, "listed": [value]})


def test_an_attribute_that_is_none_is_told_from_one_that_is_absent() -> None:
    assert stored({"here": None}) == {"here": None}
    assert stored({}) == {}


@pytest.mark.parametrize("leaf", [1, Decimal("1.50"), 2**80, b"x", "x", None], ids=label)
def test_containers_stand_32_deep_in_one_another(leaf: object) -> None:
    item = nested(MAX_DEPTH, leaf)
    assert exactly(stored(item)) == exactly(item)


@pytest.mark.parametrize("leaf", [[], {}, {1, 2**80}, {"$set": [1]}, {"$x": Decimal("1.50")}, set()], ids=label)
def test_the_deepest_container_may_be_of_every_kind(leaf: object) -> None:
    inside = [1] if leaf == {"$set": [1]} else None  # a list inside it is one deeper
    item = nested(MAX_DEPTH - 1 - (1 if inside else 0), leaf)
    assert exactly(stored(item)) == exactly(item)


@settings(deadline=None)
@given(items())
def test_plain_values_are_plain_in_json(item: Item) -> None:
    written = item_to_json(item)
    for key, value in item.items():
        if value is None or type(value) in {bool, float, str}:
            assert written[key] is value
    assert list(written) == list(item)


def test_values_stand_in_json_as_the_documentation_says() -> None:
    item = {
        "decimal": Decimal("1.50"),
        "int": 123,
        "large": 99999999999999999999,
        "bytes": b"hi",
        "set": {2, 1},
        "dict": {"$x": 1},
        "plain": {"x": [1]},
    }
    assert item_to_json(item) == {
        "decimal": {"$decimal": "1.50"},
        "int": 123,
        "large": {"$int": "99999999999999999999"},
        "bytes": {"$bytes": "aGk="},
        "set": {"$set": [1, 2]},
        "dict": {"$dict": {"$x": 1}},
        "plain": {"x": [1]},
    }


@settings(deadline=None)
@given(sets())
def test_equal_sets_are_written_alike(value: set[Any]) -> None:
    other = {*sorted(value, key=repr)}
    assert orjson.dumps(item_to_json({"s": value})) == orjson.dumps(item_to_json({"s": other}))


@settings(deadline=None)
@given(items())
def test_writing_an_item_leaves_it_as_it_was(item: Item) -> None:
    before = copy.deepcopy(item)
    item_to_json(item)
    assert exactly(item) == exactly(before)


def test_a_refused_item_is_left_as_it_was() -> None:
    item = {"good": [1, {"x": {1}}], "bad": [1, (2,)]}
    refusal(item)
    assert item == {"good": [1, {"x": {1}}], "bad": [1, (2,)]}


def test_boto3s_wrapper_of_bytes_comes_back_as_bytes() -> None:
    back = stored({"b": Binary(b"hi"), "in": [Binary(b"")]})
    assert exactly(back) == exactly({"b": b"hi", "in": [b""]})


def test_a_binary_set_as_boto3_gives_it_comes_back_as_a_set_of_bytes() -> None:
    back = stored({"s": {Binary(b"a"), Binary(b"b")}})
    assert exactly(back) == exactly({"s": {b"a", b"b"}})


# What is refused


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1,), "tuple cannot be kept; use a list"),
        (frozenset({1}), "frozenset cannot be kept; use a set"),
        (bytearray(b"x"), "bytearray cannot be kept; use bytes"),
        (memoryview(b"x"), "memoryview cannot be kept; use bytes"),
        (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "datetime cannot be kept; use text"),
        (dt.date(2024, 1, 1), "date cannot be kept; use text"),
        (uuid.UUID(int=1), "UUID cannot be kept; use text"),
        (1j, "complex cannot be kept"),
        (object(), "object cannot be kept"),
        (range(3), "range cannot be kept"),
        ((x for x in "ab"), "generator cannot be kept"),
        (float("nan"), "nan is no number that can be kept"),
        (float("inf"), "inf is no number that can be kept"),
        (float("-inf"), "-inf is no number that can be kept"),
        (Decimal("NaN"), "NaN is no number that can be kept"),
        (Decimal("sNaN"), "NaN is no number that can be kept"),
        (Decimal("-Infinity"), "-Infinity is no number that can be kept"),
        (Decimal("1" * 39), "more than 38 digits"),
        (Decimal("0." + "1" * 39), "more than 38 digits"),
        (Decimal("1E+126"), "outside 1E-130 to 9.9E+125"),
        (Decimal("1E-131"), "outside 1E-130 to 9.9E+125"),
        (10**38, "more than 38 digits"),
        (-(10**38), "more than 38 digits"),
        ("\ud800", "lone surrogate"),
        ("a\udfffb", "lone surrogate"),
        ({1, "a"}, "this one holds numbers, text"),
        ({b"a", "a"}, "this one holds bytes, text"),
        ({True, "a"}, "this one holds bool, text"),
        ({True}, "this one holds bool"),
        ({2, True}, "this one holds bool, numbers"),
        ({None}, "this one holds NoneType"),
        ({(1,)}, "this one holds tuple"),
        ({frozenset()}, "this one holds frozenset"),
        ({float("nan")}, "nan is no number that can be kept"),
        ({"\ud800"}, "lone surrogate"),
        ({10**38}, "more than 38 digits"),
        ({Text("a")}, "this one holds Text"),
        (Text("a"), "Text is a subclass of str and would come back as str; convert it first"),
        (Number(1), "Number is a subclass of int"),
        (Flags.ON, "Flags is a subclass of int"),
        (State.ACTIVE, "State is a subclass of str"),
        (collections.OrderedDict(a=1), "OrderedDict is a subclass of dict"),
        (collections.defaultdict(list), "defaultdict is a subclass of dict"),
        (collections.Counter("a"), "Counter is a subclass of dict"),
        ({1: "a"}, "an attribute's name is text, not int (1)"),
        ({b"k": "a"}, "an attribute's name is text, not bytes"),
        ({None: "a"}, "an attribute's name is text, not NoneType"),
        ({Text("k"): "a"}, "an attribute's name is text, not Text"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_kept_is_refused_with_its_path_at_every_depth(value: object, words: str) -> None:
    for item, path in (
        ({"bad": value}, "bad"),
        ({"fine": 1, "a": {"b": [0, 1, {"odd key": value}]}}, "a.b[2]['odd key']"),
        ({"l": [[value]]}, "l[0][0]"),
    ):
        error = refusal(item)
        assert error.path == path
        assert str(error) == f"attribute {path}: {error.message.partition(': ')[2]}"
        assert words in str(error)


@pytest.mark.parametrize("item", [None, [], "text", 1, Text("x"), collections.OrderedDict(), [("a", 1)]], ids=label)
def test_an_item_that_is_no_dict_is_refused(item: object) -> None:
    error = refusal(item)
    assert error.path == ""
    assert str(error) == f"an item is a dict of attributes, not {type(item).__name__}"


def test_an_attribute_name_that_is_no_text_is_refused_at_the_top() -> None:
    error = refusal({1: "a"})
    assert error.path == ""
    assert "an attribute's name is text, not int (1)" in str(error)


def test_a_lone_surrogate_in_an_attributes_name_is_refused_with_text_that_can_be_printed() -> None:
    error = refusal({"a": {"k\ud800": 1}})
    assert error.path == "a['k\\ud800']"
    str(error).encode()


@pytest.mark.parametrize("item", [nested(MAX_DEPTH + 1), nested(MAX_DEPTH + 1, {1}), nested(5000)], ids=range(3))
def test_containers_more_than_32_deep_are_refused(item: Item) -> None:
    assert "more than 32 deep in one another" in str(refusal(item))


@pytest.mark.parametrize("leaf", [[], {}, set(), {"$x": 1}], ids=label)
def test_no_kind_of_container_may_be_the_33rd(leaf: object) -> None:
    assert "more than 32 deep in one another" in str(refusal(nested(MAX_DEPTH, leaf)))


def test_a_list_that_holds_itself_is_refused() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    error = refusal({"c": cyclic})
    assert error.path.startswith("c[0][0]")
    assert "more than 32 deep" in str(error)


def test_a_dict_that_holds_itself_is_refused() -> None:
    cyclic: Item = {}
    cyclic["self"] = cyclic
    assert refusal(cyclic).path.startswith("self.self")


def test_a_class_that_is_only_called_binary_is_refused() -> None:
    class Binary:
        value = b"x"

    assert "Binary cannot be kept" in str(refusal({"b": Binary()}))


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        (["address", "lines", 2], "address.lines[2]"),
        (["a", "b", 2, "odd key"], "a.b[2]['odd key']"),
        (["a b"], "['a b']"),
        (["a b", "c"], "['a b'].c"),
        ([""], "['']"),
        (["a", "1"], "a['1']"),
        (["m", 0, 1], "m[0][1]"),
        (["it's"], '["it\'s"]'),
        ([], ""),
    ],
)
def test_a_path_reads_as_people_write_it(steps: list[str | int], path: str) -> None:
    assert join_path(steps) == path


# What was not written by us


@settings(deadline=None, max_examples=500)
@given(json_values())
@example({"a": {"$int": "9" * 39}})
@example({"a": {"$int": "1_0"}})
@example(nested(MAX_DEPTH + 1))
def test_arbitrary_json_is_an_item_that_can_be_written_again_or_raises_what_callers_expect(data: Any) -> None:
    try:
        item = item_from_json(copy.deepcopy(data))
    except UNDECODABLE:
        return
    assert exactly(stored(item)) == exactly(item)


@pytest.mark.parametrize(
    "tagged",
    [
        {"$decimal": "x"},
        {"$decimal": ""},
        {"$decimal": "NaN"},
        {"$decimal": "Infinity"},
        {"$decimal": "1E+126"},
        {"$decimal": "1E+99999999999999999999"},
        {"$decimal": "1" * 39},
        {"$decimal": 1.5},
        {"$decimal": None},
        {"$decimal": ["1"]},
        {"$decimal": "\ud800"},
        {"$int": "x"},
        {"$int": ""},
        {"$int": "1.5"},
        {"$int": "1" * 39},
        {"$int": "1" * 10_000},
        {"$int": 5},
        {"$int": {}},
        {"$bytes": "a"},
        {"$bytes": "aGk"},
        {"$bytes": "a Gk="},
        {"$bytes": "é"},
        {"$bytes": 1},
        {"$set": "abc"},
        {"$set": {}},
        {"$set": None},
        {"$set": [1, 1]},
        {"$set": [1, 1.0]},
        {"$set": [1, "a"]},
        {"$set": [True]},
        {"$set": [None]},
        {"$set": [[1]]},
        {"$set": [{"a": 1, "b": 2}]},
        {"$set": [{"$set": []}]},
        {"$dict": []},
        {"$dict": "x"},
        {"$other": 1},
        {"$": 1},
    ],
    ids=label,
)
def test_a_malformed_tag_is_a_value_error(tagged: Any) -> None:
    for data in ({"a": copy.deepcopy(tagged)}, {"a": [copy.deepcopy(tagged)]}, {"a": {"$dict": {"$b": tagged}}}):
        with pytest.raises(ValueError, match=r"."):
            item_from_json(data)


@pytest.mark.parametrize("data", [None, [], "x", 1, True, [{"a": 1}]], ids=label)
def test_json_that_is_no_object_is_no_item(data: object) -> None:
    with pytest.raises(ValueError, match=f"an item is a JSON object, not {type(data).__name__}"):
        item_from_json(data)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100, 900])
def test_json_that_is_too_deep_is_no_item(depth: int) -> None:
    with pytest.raises(ValueError, match="more than 32 deep"):
        item_from_json(nested(depth))


# Copies


def mutables(value: Any) -> list[int]:
    """The identity of everything mutable in a value."""
    found = [id(value)] if type(value) in {dict, list, set} else []
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    return found + [each for element in inner for each in mutables(element)]


@settings(deadline=None)
@given(items())
def test_a_copy_is_equal_and_shares_nothing_mutable(item: Item) -> None:
    copied = copy_item(item)
    assert exactly(copied) == exactly(item)
    assert not set(mutables(copied)) & set(mutables(item))


@settings(deadline=None)
@given(items())
def test_what_is_read_shares_nothing_mutable_with_what_was_written(item: Item) -> None:
    assert not set(mutables(stored(item))) & set(mutables(item))


# Identifiers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("user-1", "user-1"),
        ("", ""),
        ("  ", "  "),
        ("é😀", "é😀"),
        (Text("x"), "x"),
        (State.ACTIVE, "active"),
        (0, "0"),
        (-7, "-7"),
        (42, "42"),
        (Number(42), "42"),
        (Flags.ON, "1"),
        (2**70, str(2**70)),
        (10**38 - 1, "9" * 38),
        (10**38, None),
        (-(10**38), None),
        (Decimal(5), "5"),
        (Decimal("5.00"), "5"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E+37"), "1" + "0" * 37),
        (Decimal("-0"), "0"),
        (Decimal("5.5"), None),
        (Decimal("1E-5"), None),
        (Decimal("1E+38"), None),
        (Decimal("1E+1000000"), None),
        (Decimal("NaN"), None),
        (Decimal("sNaN"), None),
        (Decimal("Infinity"), None),
        (True, None),
        (False, None),
        (None, None),
        (1.0, None),
        (1.5, None),
        (b"x", None),
        ([], None),
        ({}, None),
        (("a",), None),
        (object(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_text_and_whole_numbers_identify_and_nothing_else_does(value: object, text: str | None) -> None:
    found = identifier_text(value)
    assert found == text
    assert found is None or type(found) is str


@settings(deadline=None)
@given(st.one_of(ints(), decimals()))
def test_equal_whole_numbers_identify_alike(number: int | Decimal) -> None:
    text = identifier_text(number)
    if text is not None:
        assert int(text) == number
        assert identifier_text(int(number)) == text
        assert identifier_text(Decimal(int(number))) == text


@settings(deadline=None)
@given(texts())
def test_text_identifies_as_itself(text: str) -> None:
    assert identifier_text(text) == text
