"""Events: each way to be refused, what identifies them, and their packed form."""

from __future__ import annotations

import contextlib
import copy
import enum
import random
import string
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dynalayer import ConfigurationError, InvalidEventError, InvalidInputError, InvalidValueError
from dynalayer.events import (
    MAX_PARTITION_BYTES,
    Change,
    EventReader,
    ItemFunction,
    check_partition,
    check_table,
    pack,
    unpack,
)
from dynalayer.values import item_to_json
from strategies import changes, exactly, items, json_values, label, texts

LIMIT = 1 << 20


def reader(get_id: ItemFunction | None = "sk", get_partition: ItemFunction | None = "pk") -> EventReader:
    return EventReader("users", get_id, get_partition)


def event(**changed: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": {"pk": "eu", "sk": "user-1", "n": 1}, **changed}


def refusal(given: object, using: EventReader | None = None, index: int = 3) -> InvalidEventError:
    with pytest.raises(InvalidEventError) as caught:
        (using or reader()).read(given, index)
    assert caught.value.index == index
    assert str(caught.value).startswith(f"event {index}: ")
    return caught.value


class SurpriseError(Exception):
    pass


def raises(item: dict[str, Any]) -> str:
    raise SurpriseError("out of order")


# What is taken


def test_an_event_is_its_partition_and_its_change() -> None:
    assert reader().read(event(), 0) == ("eu", Change("PUT", "user-1", {"pk": "eu", "sk": "user-1", "n": 1}))


@pytest.mark.parametrize("change_type", ["PUT", "UPDATE", "DELETE"])
def test_each_type_is_taken(change_type: str) -> None:
    assert reader().read(event(type=change_type), 0)[1].type == change_type


def test_an_event_may_be_any_mapping() -> None:
    assert reader().read(types.MappingProxyType(event()), 0)[0] == "eu"


def test_functions_of_the_item_tell_partition_and_identifier() -> None:
    by_function = reader(lambda item: f"#{item['n']}", lambda item: item["pk"].upper())
    partition, change = by_function.read(event(), 0)
    assert (partition, change.id) == ("EU", "#1")


@pytest.mark.parametrize("given", [event(id="user-1"), event(sort="user-1"), event(id="user-1", sort="user-1")])
def test_an_identifier_may_be_given_where_it_agrees(given: dict[str, Any]) -> None:
    assert reader().read(given, 0)[1].id == "user-1"


@pytest.mark.parametrize("given", [event(id="a"), event(sort="a"), event(id="a", sort="a")])
def test_the_given_identifier_is_used_where_the_layer_has_no_function(given: dict[str, Any]) -> None:
    assert reader(get_id=None).read(given, 0)[1].id == "a"


def test_the_given_partition_is_used_where_the_layer_has_no_function() -> None:
    assert reader(get_partition=None).read(event(partition="us"), 0)[0] == "us"


def test_an_event_belongs_to_the_empty_partition_where_partitions_are_not_used() -> None:
    assert reader(get_partition=None).read(event(), 0)[0] == ""


def test_keys_that_are_none_count_as_absent() -> None:
    assert reader().read(event(partition=None, id=None, sort=None), 0)[1].id == "user-1"


def test_an_event_may_name_the_layers_own_table() -> None:
    assert reader().read(event(table="users"), 0)[0] == "eu"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (-7, "-7"),
        (Decimal(7), "7"),
        (Decimal("7.00"), "7"),
        (Decimal("7E+2"), "700"),
        ("é😀", "é😀"),
        (2**70, str(2**70)),
    ],
    ids=label,
)
def test_a_whole_number_counts_as_its_text(value: object, text: str) -> None:
    assert reader().read(event(item={"pk": "eu", "sk": value}), 0)[1].id == text
    assert reader(get_id=lambda item: value).read(event(), 0)[1].id == text
    assert reader(get_id=None).read(event(id=value), 0)[1].id == text
    assert reader().read(event(item={"pk": "eu", "sk": value}, id=text), 0)[1].id == text


def test_a_partition_has_at_most_512_bytes_of_utf8() -> None:
    longest = "é" * (MAX_PARTITION_BYTES // 2)
    assert reader().read(event(item={"pk": longest, "sk": "a"}), 0)[0] == longest
    assert check_partition(longest) == longest
    error = refusal(event(item={"pk": longest + "e", "sk": "a"}))
    assert "513 bytes of UTF-8; at most 512" in str(error)


@settings(deadline=None, max_examples=60)
@given(items())
def test_a_change_equals_what_was_given_and_shares_nothing_with_it(item: dict[str, Any]) -> None:
    given = {"type": "PUT", "item": item, "id": "a"}
    before = copy.deepcopy(given)
    _, change = reader(None, None).read(given, 0)
    assert exactly(change.item) == exactly(item)
    assert exactly(given) == exactly(before)
    change.item["new"] = 1
    for value in change.item.values():
        if type(value) is list:
            value.append(1)
        if type(value) is dict or type(value) is set:
            value.clear()
    assert exactly(given) == exactly(before)


@pytest.mark.parametrize("item", [{"pk": "eu", "sk": "a", "l": [1]}, {}], ids=["some attributes", "none"])
def test_a_function_that_changes_the_item_it_is_given_changes_nothing_that_is_kept(item: dict[str, Any]) -> None:
    def meddling(given: dict[str, Any]) -> str:
        given["meddled"] = 1
        given.get("l", []).append(2)
        return "a"

    before = copy.deepcopy(item)
    _, change = reader(meddling, None).read({"type": "PUT", "item": item}, 0)
    assert item == before
    (kept,) = unpack(pack([change]), LIMIT)
    assert kept.item == before


def test_boto3s_wrapper_of_bytes_is_bytes_in_the_change() -> None:
    wrapper = type("Binary", (), {"__module__": "boto3.dynamodb.types"})
    wrapped = wrapper()
    wrapped.value = b"hi"
    _, change = reader().read(event(item={"pk": "eu", "sk": "a", "b": wrapped, "l": [wrapped]}), 0)
    assert exactly(change.item) == exactly({"pk": "eu", "sk": "a", "b": b"hi", "l": [b"hi"]})


def test_an_enumerations_member_as_type_is_the_plain_type_in_the_change() -> None:
    class Type(enum.StrEnum):
        PUT = "PUT"

    assert type(reader().read(event(type=Type.PUT), 0)[1].type) is str


def test_an_enumerations_member_as_partition_is_plain_text() -> None:
    class Region(str, enum.Enum):  # noqa: UP042 -- unlike a StrEnum's member this one formats as its name
        EU = "eu"

    partition, _ = reader(get_partition=lambda item: Region.EU).read(event(), 0)
    assert partition == "eu"
    assert type(partition) is str


# What is refused


@pytest.mark.parametrize("given", [None, "PUT", 5, [], [("type", "PUT")], ("PUT", {}), object], ids=label)
def test_an_event_that_is_no_mapping_is_refused(given: object) -> None:
    assert f"an event is a mapping with 'type' and 'item', not {type(given).__name__}" in str(refusal(given))


@pytest.mark.parametrize("key", ["Type", "items", "version", "cursor", "at", "", 5, None, ("type",)], ids=label)
def test_an_unknown_key_is_refused(key: Any) -> None:
    error = refusal({**event(), key: 1})
    assert f"unknown key {key!r}" in str(error)
    assert "an event has: type, item, partition, id, sort, table" in str(error)


@pytest.mark.parametrize("change_type", ["put", "INSERT", "", None, 1, True, [], {}, b"PUT", ("PUT",)], ids=label)
def test_an_unknown_type_is_refused(change_type: object) -> None:
    assert f"type {change_type!r} is none of PUT, UPDATE, DELETE" in str(refusal(event(type=change_type)))


def test_a_missing_type_is_refused() -> None:
    assert "type None is none of PUT" in str(refusal({"item": event()["item"]}))


def test_a_missing_item_is_refused() -> None:
    assert "it has no 'item'" in str(refusal({"type": "PUT"}))


@pytest.mark.parametrize("item", [None, [], "x", 1, (), [("sk", 1)]], ids=label)
def test_an_item_that_is_no_dict_is_refused(item: object) -> None:
    error = refusal(event(item=item))
    assert isinstance(error, InvalidValueError)
    assert f"an item is a dict of attributes, not {type(item).__name__}" in str(error)


def test_a_value_that_cannot_be_kept_is_refused_with_its_path_and_the_events_index() -> None:
    error = refusal(event(item={"pk": "eu", "sk": "a", "deep": [{"odd key": (1,)}]}), index=7)
    assert isinstance(error, InvalidValueError)
    assert error.path == "deep[0]['odd key']"
    assert "event 7: attribute deep[0]['odd key']: a value of type tuple" in str(error)
    assert error.__cause__ is not None


@pytest.mark.parametrize("change_type", ["UPDATE", "DELETE"])
def test_the_item_of_every_type_is_checked(change_type: str) -> None:
    assert "attribute x" in str(refusal(event(type=change_type, item={"pk": "eu", "sk": "a", "x": (1,)})))


@pytest.mark.parametrize("table", ["user", "Users", "", None, 5], ids=label)
def test_an_event_for_another_table_is_refused(table: object) -> None:
    assert f"it is for table {table!r}; this layer's is 'users'" in str(refusal(event(table=table)))


@pytest.mark.parametrize("value", [True, False, None, 1.0, 1.5, b"x", [1], {"a": 1}, Decimal("1.5"), {"a"}], ids=label)
def test_an_identifier_that_is_neither_text_nor_a_whole_number_is_refused(value: Any) -> None:
    kind = type(value).__name__
    assert f"the item's identifier is {kind}" in str(refusal(event(item={"pk": "eu", "sk": value})))
    assert f"the item's identifier is {kind}" in str(refusal(event(), reader(get_id=lambda item: value)))
    if value is not None:
        assert f"'id' is {kind}" in str(refusal(event(id=value), reader(get_id=None)))
        assert f"'sort' is {kind}" in str(refusal(event(sort=value)))


def test_an_empty_identifier_is_refused() -> None:
    assert "the item's identifier is empty" in str(refusal(event(item={"pk": "eu", "sk": ""})))
    assert "'id' is empty" in str(refusal(event(id=""), reader(get_id=None)))
    assert "'sort' is empty" in str(refusal(event(sort="")))


def test_an_identifier_with_a_lone_surrogate_is_refused() -> None:
    assert "'id' holds a lone surrogate" in str(refusal(event(id="\ud800"), reader(get_id=None)))
    assert "the item's identifier holds a lone surrogate" in str(refusal(event(), reader(lambda item: "\udfff")))


@pytest.mark.parametrize("given", [event(), event(id=None), event(sort=None)])
def test_an_event_without_identifier_is_refused_where_the_layer_cannot_tell_it(given: dict[str, Any]) -> None:
    error = refusal(given, reader(get_id=None))
    assert "it has no 'id', and the layer was given no get_item_unique_identifier to ask" in str(error)


def test_an_item_without_the_identifying_attribute_is_refused() -> None:
    assert "the item has no attribute 'sk', which is its identifier" in str(refusal(event(item={"pk": "eu"})))


def test_an_item_without_the_partitioning_attribute_is_refused() -> None:
    assert "the item has no attribute 'pk', which is its partition" in str(refusal(event(item={"sk": "a"})))


@pytest.mark.parametrize("value", [5, None, True, b"eu", 1.5, ["eu"], Decimal(5)], ids=label)
def test_a_partition_that_is_no_text_is_refused(value: Any) -> None:
    words = f"a partition is text, not {type(value).__name__}"
    assert words in str(refusal(event(item={"pk": value, "sk": "a"})))
    assert words in str(refusal(event(), reader(get_partition=lambda item: value)))
    if value is not None:
        assert words in str(refusal(event(partition=value)))
        assert words in str(refusal(event(partition=value), reader(get_partition=None)))


def test_a_partition_that_is_too_long_is_refused() -> None:
    error = refusal(event(partition="x" * 513), reader(get_partition=None))
    assert "513 bytes of UTF-8; at most 512" in str(error)
    assert "x" * 100 not in str(error)


def test_a_partition_with_a_lone_surrogate_is_refused_with_text_that_can_be_printed() -> None:
    error = refusal(event(partition="\ud800"), reader(get_partition=None))
    assert "lone surrogate" in str(error)
    str(error).encode()


def test_a_function_that_raises_is_told_with_what_it_raised() -> None:
    error = refusal(event(), reader(get_id=raises))
    assert "the function for an item's identifier raised SurpriseError: out of order" in str(error)
    error = refusal(event(), reader(get_partition=raises))
    assert "the function for an item's partition raised SurpriseError: out of order" in str(error)
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(type(cause))
        cause = cause.__cause__
    assert SurpriseError in causes


@pytest.mark.parametrize("key", ["id", "sort"])
def test_an_identifier_that_disagrees_with_the_items_is_refused(key: str) -> None:
    assert "it says id 'user-2', its item is 'user-1'" in str(refusal(event(**{key: "user-2"})))


def test_an_id_and_a_sort_that_disagree_are_refused() -> None:
    assert "it says id 'b', its item is 'a'" in str(refusal(event(id="a", sort="b"), reader(get_id=None)))


def test_a_partition_that_disagrees_with_the_items_is_refused() -> None:
    assert "it says partition 'us', its item belongs to 'eu'" in str(refusal(event(partition="us")))


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        json_values(), st.dictionaries(st.sampled_from(["type", "item", "id", "sort", "partition"]), json_values())
    )
)
def test_whatever_is_given_is_taken_or_refused_with_its_index(given: object) -> None:
    refused: InvalidEventError | None = None
    try:
        partition, change = reader(None, None).read(given, 4)
    except InvalidEventError as error:
        refused = error
    else:
        assert check_partition(partition) == partition
        assert change.id
    assert refused is None or (refused.index == 4 and str(refused).encode())


# Tables and partitions


@pytest.mark.parametrize("table", ["u", "users", "A-Z.a_9", "x" * 255])
def test_a_table_name_that_dynamodb_would_take_is_taken(table: str) -> None:
    assert check_table(table) == table


@pytest.mark.parametrize(
    "table", ["", "x" * 256, "a b", "a/b", "a#b", "ü", "a\n", "..\x00", None, 5, b"users"], ids=label
)
def test_a_table_name_with_anything_else_is_refused(table: object) -> None:
    with pytest.raises(ConfigurationError, match="is no table name: 1 to 255 of"):
        check_table(table)


@settings(deadline=None, max_examples=60)
@given(texts(max_size=200))
def test_text_of_at_most_512_bytes_is_a_partition_and_longer_text_is_not(text: str) -> None:
    if len(text.encode()) <= MAX_PARTITION_BYTES:
        assert check_partition(text) == text
    else:
        with pytest.raises(InvalidInputError, match="bytes of UTF-8"):
            check_partition(text)


# The packed form


@settings(deadline=None, max_examples=60)
@given(st.lists(changes(), max_size=6))
def test_packed_changes_come_back_in_order_and_type_for_type(packed: list[Change]) -> None:
    back = unpack(pack(packed), LIMIT)
    assert [(change.type, change.id) for change in back] == [(change.type, change.id) for change in packed]
    assert [exactly(change.item) for change in back] == [exactly(change.item) for change in packed]


def test_packing_leaves_the_changes_as_they_were() -> None:
    change = Change("PUT", "a", {"l": [{"s": {1}}], "d": Decimal("1.50"), "$x": {"$y": b"z"}})
    before = copy.deepcopy(change)
    unpack(pack([change]), LIMIT)
    assert exactly(change.item) == exactly(before.item)


def test_changes_are_compressed_when_it_pays() -> None:
    alike = [Change("PUT", f"user-{number}", {"state": "active" * 5}) for number in range(100)]
    plain = len(orjson.dumps([(change.type, change.id, change.item) for change in alike]))
    packed = pack(alike)
    assert packed[:1] == b"Z"
    assert len(packed) < plain / 5
    assert unpack(packed, LIMIT) == alike


@pytest.mark.parametrize(
    "change",
    [
        Change("PUT", "a", {"x": "small" * 40}),
        Change("PUT", "a", {"x": "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=250))}),
    ],
    ids=["small", "of little redundancy"],
)
def test_changes_are_left_readable_where_compression_does_not_pay(change: Change) -> None:
    packed = pack([change])
    assert packed[:1] == b"J"
    assert orjson.loads(packed[5:]) == [[change.type, change.id, change.item]]
    assert unpack(packed, LIMIT) == [change]


@settings(deadline=None, max_examples=60)
@given(st.lists(changes(), max_size=10))
def test_packing_costs_at_most_five_bytes(packed: list[Change]) -> None:
    plain = orjson.dumps([(change.type, change.id, item_to_json(change.item)) for change in packed])
    assert len(pack(packed)) <= len(plain) + 5


def frame(plain: bytes, **options: Any) -> bytes:
    return b"Z" + zstandard.ZstdCompressor(**options).compress(plain)


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda body: b"J" + body),
        st.binary(max_size=200).map(lambda body: b"Z" + body),
        st.binary(max_size=200).map(lambda body: b"Z\x28\xb5\x2f\xfd" + body),
        st.binary(max_size=200).map(frame),
        json_values().map(lambda data: b"J" + orjson.dumps(data)),
        st.lists(
            st.tuples(st.one_of(st.just("PUT"), json_values()), st.one_of(st.just("a"), json_values()), json_values())
        ).map(lambda data: b"J" + orjson.dumps(data)),
    )
)
@example(b"")
@example(b"J")
@example(b"Z")
@example(b'J[["PUT","a"]]')
@example(b'J[["PUT","a",{},1]]')
@example(b'J[["PUT",1,{}]]')
@example(b'J[["MOVE","a",{}]]')
@example(b'J[["PUT","a",[]]]')
@example(b'J[["PUT","a",{"x":{"$set":[[]]}}]]')
@example(b'J{"PUT":1}')
@example(b"J" + b"[" * 900 + b"]" * 900)
def test_unpacking_arbitrary_bytes_raises_a_value_error_or_gives_changes(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert all(isinstance(change, Change) for change in unpack(data, LIMIT))


@settings(deadline=None, max_examples=60)
@given(st.lists(changes(), min_size=1, max_size=4), st.data())
def test_truncated_changes_raise_a_value_error(packed: list[Change], data: st.DataObject) -> None:
    whole = pack(packed)
    with pytest.raises(ValueError, match=r"."):
        unpack(whole[: data.draw(st.integers(0, len(whole) - 1))], LIMIT)


@pytest.mark.parametrize(
    "compress",
    [frame, lambda plain: frame(plain, write_content_size=False)],
    ids=["size told", "size not told"],
)
def test_bytes_that_unpack_to_more_than_the_limit_are_refused(compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(b'[["PUT","a",{"x":"' + b"0" * LIMIT + b'"}]]')
    assert len(bomb) < 10_000
    with pytest.raises(ValueError, match=r"."):
        unpack(bomb, LIMIT)


def test_a_frame_that_claims_four_gigabytes_raises_a_value_error_where_there_is_less_memory() -> None:
    program = """
        import resource
        from dynalayer.events import unpack
        claimed = b"Z\\x28\\xb5\\x2f\\xfd\\xa0\\xff\\xff\\xff\\xff\\x01\\x00\\x00"
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        try:
            unpack(claimed, 1 << 32)
        except ValueError:
            print("refused")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_bytes_after_the_end_of_packed_changes_raise_a_value_error() -> None:
    change = Change("PUT", "a", {"x": "active" * 100})
    assert pack([change])[:1] == b"Z"
    with pytest.raises(ValueError, match=r"."):
        unpack(pack([change]) + b"rest", LIMIT)
