"""What DynamoDB Local says that requests consumed is what our arithmetic says, at every boundary.

Left out is what DynamoDB Local counts otherwise than the service, and otherwise from release to release: transactions,
queries that find nothing, batches that ask for items that are not there.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Mapping
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from boto3.dynamodb.types import TypeSerializer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynalayer.units import get_units, index_writes, item_size, read_units, write_units
from servers import dynamodb_client, fresh_table
from strategies import label

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import WriteRequestTypeDef

INDEX = "cursor-index"
ENTRY = ("pk", "sk", "cursor")  # what a KEYS_ONLY index holds of an item
BOUNDARIES = (100, 1023, 1024, 1025, 2048, 2049, 3000, 4096, 4097, 8192, 8193)

RawItem = dict[str, Any]


def text(value: str) -> dict[str, str]:
    return {"S": value}


def entry(item: RawItem | None) -> RawItem | None:
    """The index's entry of an item; None where it has none."""
    return {name: item[name] for name in ENTRY} if item and "cursor" in item else None


class Table:
    """A table with an index, and what is expected that a request to it consumes: table and index apart."""

    def __init__(self, client: DynamoDBClient, name: str) -> None:
        self.client = client
        self.name = name
        self.items: dict[str, RawItem] = {}

    @staticmethod
    def expected(before: RawItem | None, after: RawItem | None) -> tuple[float, float]:
        old, new = entry(before), entry(after)
        table = write_units(item_size(after or {}), before=item_size(before or {}))
        index = index_writes(
            old and (old["cursor"], old["pk"]),
            new and (new["cursor"], new["pk"]),
            old_size=item_size(old or {}),
            new_size=item_size(new or {}),
        )
        return table, index

    @staticmethod
    def consumed(answer: Mapping[str, Any]) -> tuple[float, float]:
        told = answer["ConsumedCapacity"]
        told = told[0] if isinstance(told, list) else told
        index = told.get("GlobalSecondaryIndexes", {}).get(INDEX, {}).get("CapacityUnits", 0)
        assert told["CapacityUnits"] == told["Table"]["CapacityUnits"] + index
        return told["Table"]["CapacityUnits"], index

    def put(self, item: RawItem) -> tuple[float, float]:
        self.items[item["pk"]["S"]] = item
        answer = self.client.put_item(TableName=self.name, Item=item, ReturnConsumedCapacity="INDEXES")
        return self.consumed(answer)

    def update(self, item: RawItem) -> tuple[float, float]:
        """An update after which the item is this one."""
        parts = {"SET": "#v = :v"}
        values = {":v": item["v"]}
        if "cursor" in item:
            parts["SET"] += ", #cursor = :cursor"
            values[":cursor"] = item["cursor"]
        else:
            parts["REMOVE"] = "#cursor"
        self.items[item["pk"]["S"]] = item
        answer = self.client.update_item(
            TableName=self.name,
            Key=key(item),
            UpdateExpression=" ".join(f"{verb} {what}" for verb, what in parts.items()),
            ExpressionAttributeNames={"#v": "v", "#cursor": "cursor"},
            ExpressionAttributeValues=values,
            ReturnConsumedCapacity="INDEXES",
        )
        return self.consumed(answer)

    def delete(self, item: RawItem) -> tuple[float, float]:
        self.items.pop(item["pk"]["S"], None)
        answer = self.client.delete_item(TableName=self.name, Key=key(item), ReturnConsumedCapacity="INDEXES")
        return self.consumed(answer)

    def query(self, pk: str, **options: Any) -> tuple[float, float]:
        return self.consumed(
            self.client.query(
                TableName=self.name,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": text(pk)},
                ReturnConsumedCapacity="INDEXES",
                **options,
            )
        )


def key(item: RawItem) -> RawItem:
    return {"pk": item["pk"], "sk": item["sk"]}


def sized(size: int, *, pk: str = "", sk: str = "s", cursor: str = "") -> RawItem:
    """An item of exactly this size, all told; in the index where a cursor is given."""
    item: RawItem = {"pk": text(pk or uuid4().hex), "sk": text(sk), "v": text("")}
    if cursor:
        item["cursor"] = text(cursor)
    item["v"] = text("v" * (size - item_size(item)))
    assert item_size(item) == size
    return item


@pytest.fixture(scope="module")
def table(dynamodb_local: str) -> Iterator[Table]:
    with closing(dynamodb_client(dynamodb_local)) as client, fresh_table(client) as name:
        yield Table(client, name)


# Sizes, to the byte


def check_size(table: Table, name: str, value: Mapping[str, Any]) -> None:
    """Padded to 4 KB by our size of it an item takes 4 units, and with one byte more 5."""
    item: RawItem = {"pk": text(uuid4().hex), "sk": text("s"), name: value, "padding": text("")}
    room = 4096 - item_size(item)
    assert table.put(item | {"padding": text("p" * room)}) == (4, 0)
    assert table.put(item | {"pk": text(uuid4().hex), "padding": text("p" * (room + 1))}) == (5, 0)


@pytest.mark.parametrize(
    "number",
    [
        *("0", "-0", "1", "12", "123", "1234", "120", "1200", "100", "1010", "-1", "-42"),
        *("1.5", "15", "100.5", "10.01", "1010.0101", "3.14159", "0.15", "0.012", "0.0012", "0.0000001"),
        *("1E125", "1E-130", "12E10", "12E11", "-123E10"),
        *("12345678901234567890123456789012345678", "-12345678901234567890123456789012345678"),
        *("1234567890123456789.1234567890123456789", "-1234567890123456789.1234567890123456789"),
        *("0.12345678901234567890123456789012345678", "-1.2345678901234567890123456789012345678"),
    ],
)
def test_a_number_is_as_long_as_we_say(table: Table, number: str) -> None:
    check_size(table, "n", {"N": number})


@pytest.mark.parametrize(
    "value",
    [
        {"S": "é漢😀"},
        {"B": bytes(range(256))},
        {"BOOL": True},
        {"NULL": True},
        {"L": []},
        {"M": {}},
        {"L": [{"S": "abc"}, {"N": "1"}, {"L": [{"NULL": True}]}]},
        {"M": {"ab": {"S": "abc"}, "é": {"M": {"x": {"BOOL": False}}}}},
        {"SS": ["a", "é"]},
        {"NS": ["1", "-123", "0.5"]},
        {"BS": [b"a", b"bcd"]},
    ],
    ids=label,
)
def test_a_value_is_as_long_as_we_say(table: Table, value: RawItem) -> None:
    check_size(table, "name", value)
    check_size(table, "ñame", value)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
decimals = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent), st.integers(-(10**20), 10**20), st.integers(-60, 60)
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    decimals,
    texts,
    st.binary(min_size=1, max_size=20),
    st.sets(texts, min_size=1, max_size=4),
    st.sets(decimals, min_size=1, max_size=4),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_any_value_is_as_long_as_we_say(table: Table, value: Any) -> None:
    check_size(table, "name", TypeSerializer().serialize(value))


# Writes


@pytest.mark.parametrize("cursor", ["", "c", "c" * 1024])
@pytest.mark.parametrize("size", [*BOUNDARIES[5:], 400 * 1024], ids=str)
def test_an_item_costs_as_we_say_to_put_and_to_delete(table: Table, size: int, cursor: str) -> None:
    item = sized(size, cursor=cursor)
    assert table.put(item) == table.expected(None, item)
    assert table.put(item) == table.expected(item, item)
    assert table.delete(item) == table.expected(item, None)
    assert table.delete(item) == table.expected(None, None) == (1, 0)


@pytest.mark.parametrize("length", [900, 953, 972, 973, 974, 1024], ids=str)
def test_an_index_entry_costs_by_its_own_size(table: Table, length: int) -> None:
    pk = uuid4().hex
    item = {"pk": text(pk), "sk": text("s"), "cursor": text("c" * length), "v": text("v")}
    size = item_size({name: item[name] for name in ENTRY})
    assert size == length + len("pk" + pk + "sk" + "s" + "cursor")
    assert table.put(item)[1] == (1 if size <= 1024 else 2)


@pytest.mark.parametrize("size", [1024, 1025], ids=str)
def test_an_update_costs_the_index_only_when_its_key_changes(table: Table, size: int) -> None:
    item = sized(size, cursor="before")
    table.put(item)
    assert table.update(item | {"v": text("w" * len(item["v"]["S"]))})[1] == 0
    assert table.update(item | {"cursor": text("later!")})[1] == 2
    assert table.update({name: value for name, value in item.items() if name != "cursor"})[1] == 1
    assert table.update(item)[1] == 1


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_written_after_whatever_costs_as_we_say(table: Table, seed: int) -> None:
    chance = random.Random(seed)
    table.items.clear()
    names = [f"{uuid4().hex}-{letter}" for letter in string.ascii_lowercase[:3]]
    for step in range(60):
        pk = chance.choice(names)
        before = table.items.get(pk)
        cursor = chance.choice(["", "a", "b", "c" * 1000, "d" * 1500])
        item = sized(chance.choice((1600, 2048, 2049, 3072, 3073, 5000)), pk=pk, cursor=cursor)
        does = chance.choice(["put", "update", "delete"])
        told = getattr(table, does)(item)
        assert told == table.expected(before, None if does == "delete" else item), f"step {step}: {does}"


def test_a_batch_of_writes_costs_what_they_cost_alone(table: Table) -> None:
    items = [sized(1025, cursor="c"), sized(100), sized(2048, cursor="c" * 1000)]
    gone = sized(3000, cursor="gone")
    table.put(gone)
    requests: list[WriteRequestTypeDef] = [{"PutRequest": {"Item": item}} for item in items]
    requests.append({"DeleteRequest": {"Key": key(gone)}})
    answer = table.client.batch_write_item(RequestItems={table.name: requests}, ReturnConsumedCapacity="INDEXES")
    alone = [*(table.expected(None, item) for item in items), table.expected(gone, None)]
    assert table.consumed(answer) == tuple(map(sum, zip(*alone, strict=True)))


# Reads


@pytest.mark.parametrize("consistent", [True, False], ids=["strongly", "eventually"])
@pytest.mark.parametrize("size", BOUNDARIES, ids=str)
def test_an_item_costs_as_we_say_to_get(table: Table, size: int, consistent: bool) -> None:
    item = sized(size)
    table.put(item)
    for found, options in ((size, {}), (size, {"ProjectionExpression": "pk"})):
        answer = table.client.get_item(
            TableName=table.name,
            Key=key(item),
            ConsistentRead=consistent,
            ReturnConsumedCapacity="INDEXES",
            **options,  # type: ignore[arg-type] # the stubs want each option by its own type
        )
        assert table.consumed(answer) == (get_units(found, consistent=consistent), 0)


@pytest.mark.parametrize("consistent", [True, False], ids=["strongly", "eventually"])
def test_to_get_what_is_not_there_costs_the_minimum(table: Table, consistent: bool) -> None:
    answer = table.client.get_item(
        TableName=table.name, Key=key(sized(100)), ConsistentRead=consistent, ReturnConsumedCapacity="INDEXES"
    )
    assert table.consumed(answer) == (get_units(0, consistent=consistent), 0)


@pytest.mark.parametrize("consistent", [True, False], ids=["strongly", "eventually"])
def test_a_batch_of_gets_rounds_each_item(table: Table, consistent: bool) -> None:
    items = [sized(size) for size in (100, 1536, 4096, 4097, 6656)]
    for item in items:
        table.put(item)
    answer = table.client.batch_get_item(
        RequestItems={table.name: {"Keys": [key(item) for item in items], "ConsistentRead": consistent}},
        ReturnConsumedCapacity="INDEXES",
    )
    assert table.consumed(answer) == (get_units(*map(item_size, items), consistent=consistent), 0)


@pytest.mark.parametrize("consistent", [True, False], ids=["strongly", "eventually"])
@pytest.mark.parametrize(
    "sizes",
    [(100,), (4096,), (4097,), (2048, 2048), (2048, 2049), (4096, 4097), (1000,) * 5, (400 * 1024,) * 2],
    ids=str,
)
def test_a_query_rounds_the_sum_and_counts_what_is_left_out(
    table: Table, sizes: tuple[int, ...], consistent: bool
) -> None:
    pk = uuid4().hex
    for position, size in enumerate(sizes):
        table.put(sized(size, pk=pk, sk=str(position)))
    units = read_units(sum(sizes), consistent=consistent)
    assert table.query(pk, ConsistentRead=consistent) == (units, 0)
    assert table.query(pk, ConsistentRead=consistent, ProjectionExpression="sk") == (units, 0)
    assert table.query(pk, ConsistentRead=consistent, Select="COUNT") == (units, 0)
    assert table.query(pk, ConsistentRead=consistent, FilterExpression="attribute_not_exists(v)") == (units, 0)
    first = read_units(sizes[0], consistent=consistent)
    assert table.query(pk, ConsistentRead=consistent, Limit=1) == (first, 0)


def test_a_query_of_the_index_costs_by_its_entries(table: Table) -> None:
    cursor = uuid4().hex * 16
    total = 0
    for _ in range(20):
        item = sized(1500, cursor=cursor)
        table.put(item)
        total += item_size({name: item[name] for name in ENTRY})
        answer = table.client.query(
            TableName=table.name,
            IndexName=INDEX,
            KeyConditionExpression="#cursor = :cursor",
            ExpressionAttributeNames={"#cursor": "cursor"},
            ExpressionAttributeValues={":cursor": text(cursor)},
            ReturnConsumedCapacity="INDEXES",
        )
        assert table.consumed(answer) == (0, read_units(total, consistent=False))
    assert total > 2 * 4096
