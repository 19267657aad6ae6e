"""Update expressions are taken apart, and computed, as DynamoDB does it; what is not is refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynalayer import InvalidInputError, Item
from dynalayer.capturing.changes import changed
from dynalayer.capturing.expressions import parse_update, placeholders_in
from dynalayer.sourcing.tables import plain, typed
from servers import dynamodb_client

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

ITEM: Item = {
    "id": "1",
    "n": Decimal(5),
    "t": "text",
    "tags": {"a", "b"},
    "list": ["zero", "one", "two", "three"],
    "map": {"held": {"deep": [1, 2]}, "n": 1},
    "last": ["x"],
}


def after(text: str, item: Item | None = None, **values: Any) -> Item:
    """An item after an update; names are given as `_name`, values as they are."""
    names = {f"#{name}": value for name, value in values.items() if name.startswith("_")}
    given = {f":{name}": value for name, value in values.items() if not name.startswith("_")}
    return changed(ITEM if item is None else item, parse_update(text, names, given))


CASES: list[tuple[str, Item, Item]] = [
    ("SET a = :v", {"v": 1}, {"a": 1}),
    ("set t = n, n = t", {}, {"t": Decimal(5), "n": "text"}),
    ("SET n = n + :v", {"v": 2}, {"n": Decimal(7)}),
    ("SET m = :v - n", {"v": Decimal("0.5")}, {"m": Decimal("-4.5")}),
    ("SET c = if_not_exists(c, :v) + :v", {"v": 3}, {"c": Decimal(6)}),
    ("SET c = if_not_exists(x, if_not_exists(n, :v))", {"v": 3}, {"c": Decimal(5)}),
    ("SET last = list_append(last, :v)", {"v": ["y"]}, {"last": ["x", "y"]}),
    ("SET q = list_append(:v, if_not_exists(q, :w))", {"v": [1], "w": []}, {"q": [1]}),
    ("SET map.held.deep[1] = :v", {"v": 9}, {"map": {"held": {"deep": [1, 9]}, "n": 1}}),
    ("SET #_a.#_b = :v", {"_a": "map", "_b": "n.m", "v": 2}, {"map": {**ITEM["map"], "n.m": 2}}),
    ("SET list[9] = :v, list[7] = :w", {"v": 9, "w": 7}, {"list": [*ITEM["list"], 7, 9]}),
    ("REMOVE list[1] SET list[3] = :v", {"v": 3}, {"list": ["zero", "two", 3]}),
    ("REMOVE list[2], list[0], list[99]", {}, {"list": ["one", "three"]}),
    ("REMOVE absent, map.absent, list[4]", {}, {}),
    ("REMOVE map.held.deep[0], map.n", {}, {"map": {"held": {"deep": [2]}}}),
    ("ADD n :v, fresh :v, tags :s", {"v": 1, "s": {"c"}}, {"n": Decimal(6), "fresh": 1, "tags": {"a", "b", "c"}}),
    ("DELETE tags :s, absent :s", {"s": {"a", "z"}}, {"tags": {"b"}}),
    ("SET x=:v REMOVE t ADD n :v DELETE tags :s", {"v": 1, "s": {"b"}}, {"x": 1, "n": Decimal(6), "tags": {"a"}}),
]


def expected_of(text: str, changes: Item) -> Item:
    whole = {**ITEM, **changes}
    return {name: value for name, value in whole.items() if name != "t" or "REMOVE t" not in text}


@pytest.mark.parametrize(("text", "values", "expected"), CASES, ids=[text for text, _, _ in CASES])
def test_an_update_is_computed_from_the_item_as_it_was(text: str, values: Item, expected: Item) -> None:
    before = plain(typed(ITEM))
    assert after(text, before, **values) == expected_of(text, expected)
    assert before == ITEM


def test_a_set_without_elements_is_no_attribute() -> None:
    assert "tags" not in after("DELETE tags :s", s={"a", "b"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has its end where SET, REMOVE, ADD or DELETE is expected"),
        ("HELLO a = :v", "has 'HELLO' where"),
        ("SET", "has its end where an attribute"),
        ("SET a", "has its end where '=' is expected"),
        ("SET a = :v,", "has its end where an attribute"),
        ("SET a = :v b = :v", "has 'b' where SET, REMOVE, ADD or DELETE is expected"),
        ("SET a = :v SET b = :v", "has SET twice"),
        ("SET a = :v + :v + :v", "has '\\+' where"),
        ("SET a = (:v)", "has '\\(' where"),
        ("SET _a = :v", "has '_' where an attribute"),
        ("SET a$b = :v", "has '\\$' where '=' is expected"),
        ("SET a = f(b)", "uses f\\(\\) where it is not computed; compute the item"),
        ("SET a = size(b)", "uses size\\(\\)"),
        ("SET a = LIST_APPEND(:l, :l)", "uses LIST_APPEND\\(\\)"),
        ("SET a = list_append(list_append(:l, :l), :l)", "uses list_append\\(\\)"),
        ("SET a = list_append(:l)", "has '\\)' where ',' is expected"),
        ("SET a = if_not_exists(:v, :v)", "has ':v' where an attribute"),
        ("SET a[:v] = :v", "has ':v' where a position"),
        ("SET a[1234567890] = :v", "where a position"),
        ("SET a = :missing", "':missing' is not in ExpressionAttributeValues"),
        ("SET #missing = :v", "'#missing' is not in ExpressionAttributeNames"),
        ("REMOVE set", "has 'set' where an attribute"),
        ("ADD a b", "has 'b' where a :value"),
        ("ADD map.n :v", "ADD map.n: within an attribute it is not computed"),
        ("DELETE list[0] :s", "DELETE list\\[0\\]: within"),
        ("SET a = :v, a = :v", "changes a and a, which overlap"),
        ("SET map.n = :v REMOVE map", "changes map.n and map, which overlap"),
        ("SET map.n = :v, map[0] = :v", "overlap"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        parse_update(text, {}, {":v": 1, ":l": [1], ":s": {"a"}})


@pytest.mark.parametrize(
    ("text", "values", "told"),
    [
        ("SET a = absent", {}, "reads absent, which the item does not have; if_not_exists\\(absent, :value\\)"),
        ("SET a = list[9]", {}, "reads list\\[9\\]"),
        ("SET a = t + :v", {"v": 1}, "\\+ is given text; it takes two numbers"),
        ("SET a = n - :v", {"v": True}, "- is given a truth value"),
        ("SET a = list_append(list, :v)", {"v": {"a"}}, "is given a set of text"),
        ("SET absent.a = :v", {"v": 1}, "changes absent.a, and absent is nothing, not a map"),
        ("SET list.a = :v", {"v": 1}, "list is a list, not a map"),
        ("REMOVE map[0]", {}, "map is a map, not a list"),
        ("ADD t :v", {"v": 1}, "a number cannot be added to text"),
        ("ADD tags :v", {"v": {1}}, "a set of numbers cannot be added to a set of text"),
        ("ADD n :v", {"v": "1"}, "it takes a number or a set, not text"),
        ("DELETE tags :v", {"v": {b"a"}}, "a set of bytes cannot be deleted from a set of text"),
        ("DELETE n :v", {"v": 1}, "it takes a set, not a number"),
        ("SET a = n + :v", {"v": Decimal("1E-40")}, "more than 38 digits"),
        ("SET a = :v + :v", {"v": Decimal("9E+125")}, "out of DynamoDB's range"),
        ("SET a = :v - :w", {"v": Decimal("1.1E-130"), "w": Decimal("1E-130")}, "out of DynamoDB's range"),
    ],
)
def test_what_cannot_be_done_to_the_item_is_refused(text: str, values: Item, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        after(text, **values)


def test_deep_nesting_is_refused_and_ends() -> None:
    with pytest.raises(InvalidInputError, match="uses if_not_exists"):
        after("SET a = " + "if_not_exists(b, " * 5000 + ":v" + ")" * 5000, v=1)


def test_placeholders_are_found_in_any_expression() -> None:
    assert placeholders_in("(#a.#b = :v1) AND size(c) > :_2") == {"#a", "#b", ":v1", ":_2"}


# Compared with the services

NOT_MOTOS = (
    "SET c = if_not_exists(x, if_not_exists(n, :v))",
    "SET list[9] = :v, list[7] = :w",
    "REMOVE list[1] SET list[3] = :v",
)
"""Of these, what DynamoDB documents, and DynamoDB Local does, is not what moto makes."""

NAMES = ("n", "m", "s", "l", "t", "map", "absent")
NUMBERS = st.one_of(
    st.integers(-(10**12), 10**12),
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.decimals(-1000, 1000, places=3, allow_nan=False),
)
WORDS = st.text("abc", min_size=1, max_size=3)
SETS = st.one_of(st.sets(WORDS, min_size=1, max_size=4), st.sets(st.integers(0, 9), min_size=1, max_size=4))
LEAVES = st.one_of(NUMBERS, WORDS, SETS, st.booleans(), st.none(), st.binary(min_size=1, max_size=3))
LISTS = st.lists(LEAVES, max_size=4)
VALUES = st.one_of(LEAVES, LISTS, st.dictionaries(WORDS, LEAVES, max_size=3))
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "n": NUMBERS,
        "m": NUMBERS,
        "s": SETS,
        "l": LISTS,
        "t": VALUES,
        "map": st.dictionaries(WORDS, st.one_of(LEAVES, LISTS), max_size=3),
    },
)
TOPS = st.sampled_from([f"#{name}" for name in NAMES])  # some are words that the service reserves
INNER = st.one_of(
    st.builds("#l[{}]".format, st.integers(0, 6)),
    st.builds("#map.{}".format, WORDS),
    st.builds("#map.{}[{}]".format, WORDS, st.integers(0, 3)),
)
PATHS = st.one_of(TOPS, INNER)


@st.composite
def updates(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """An expression of every kind that is computed, and values of all kinds for it, whether they fit or not."""
    values: dict[str, Any] = {}

    def value(strategy: st.SearchStrategy[Any]) -> str:
        name = f":v{len(values)}"
        values[name] = draw(strategy)
        return name

    def operand(strategy: st.SearchStrategy[Any], depth: int = 0) -> str:
        kind = draw(st.sampled_from(["value", "path", "value", "if_not_exists"]))
        if kind == "if_not_exists" and depth < 2:
            return f"if_not_exists({draw(PATHS)}, {operand(strategy, depth + 1)})"
        return draw(PATHS) if kind == "path" else value(strategy)

    def assigned() -> str:
        kind = draw(st.sampled_from(["value", "sum", "appended"]))
        if kind == "sum":
            return f"{operand(NUMBERS)} {draw(st.sampled_from('+-'))} {operand(NUMBERS)}"
        if kind == "appended":
            return f"list_append({operand(LISTS)}, {operand(LISTS)})"
        return operand(VALUES)

    clauses = {
        "SET": lambda: f"{draw(PATHS)} = {assigned()}",
        "REMOVE": lambda: draw(PATHS),
        "ADD": lambda: f"{draw(TOPS)} {value(st.one_of(NUMBERS, SETS))}",
        "DELETE": lambda: f"{draw(TOPS)} {value(SETS)}",
    }
    used = draw(st.lists(st.sampled_from(list(clauses)), min_size=1, max_size=3, unique=True))
    text = " ".join(f"{each} {', '.join(clauses[each]() for _ in range(draw(st.integers(1, 2))))}" for each in used)
    return text, values


class Compared:
    """A table of a service, and what the service makes of updates."""

    def __init__(self, client: DynamoDBClient) -> None:
        self.client = client
        self.name = f"test-{uuid4()}"
        self.client.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )

    def updated_by(self, text: str, values: Item) -> Item | None:
        """The same of one of the cases."""
        names = {f"#{name}": value for name, value in values.items() if name.startswith("_")}
        for word in ("list", "map", "last", "set"):  # which the service reserves
            text = re.sub(rf"(?<![\w:#.]){word}(?=[ .,)\[]|$)(?! [:#a-z])", f"#{word}", text)
        given = {f":{name}": value for name, value in values.items() if not name.startswith("_")}
        return self.updated(ITEM, text, given, names)

    def updated(self, item: Item, text: str, values: Item, named: Mapping[str, str] | None = None) -> Item | None:
        """What the service holds after an update; None where it refuses it."""
        key = {"id": {"S": item["id"]}}
        self.client.put_item(TableName=self.name, Item=typed(item))
        names = {name: name[1:] for name in placeholders_in(text) if name[0] == "#"} | dict(named or {})
        given: Any = {"ExpressionAttributeValues": typed(values)} if values else {}
        given |= {"ExpressionAttributeNames": names} if names else {}
        try:
            self.client.update_item(TableName=self.name, Key=key, UpdateExpression=text, **given)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ValidationException", error  # noqa: PT017 -- looked at, then gone on
            return None
        return plain(self.client.get_item(TableName=self.name, Key=key)["Item"])


def computed(item: Item, text: str, values: dict[str, Any]) -> Item | None:
    try:
        return changed(item, parse_update(text, {f"#{name}": name for name in NAMES}, values))
    except InvalidInputError:
        return None


@pytest.fixture(scope="module")
def local(dynamodb_local: str) -> Iterator[Compared]:
    with closing(dynamodb_client(dynamodb_local)) as client:
        compared = Compared(client)
        yield compared
        client.delete_table(TableName=compared.name)


@pytest.fixture(scope="module")
def moto(moto_server: str) -> Iterator[Compared]:
    with closing(dynamodb_client(moto_server)) as client:
        compared = Compared(client)
        yield compared
        client.delete_table(TableName=compared.name)


@pytest.mark.parametrize(("text", "values", "expected"), CASES, ids=[text for text, _, _ in CASES])
def test_dynamodb_local_makes_the_same_of_each(local: Compared, text: str, values: Item, expected: Item) -> None:
    assert local.updated_by(text, values) == expected_of(text, expected)


@pytest.mark.parametrize(("text", "values", "expected"), [each for each in CASES if each[0] not in NOT_MOTOS])
def test_moto_makes_the_same_of_each(moto: Compared, text: str, values: Item, expected: Item) -> None:
    assert moto.updated_by(text, values) == expected_of(text, expected)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(item=ITEMS, update=updates())
def test_what_is_computed_is_what_dynamodb_local_then_holds(
    local: Compared, item: Item, update: tuple[str, dict[str, Any]]
) -> None:
    """Some are refused on one side alone: a number that would be rounded here, overlapping reads there."""
    item = {"id": "1", **item}
    ours, theirs = computed(item, *update), local.updated(item, *update)
    assert ours is None or theirs is None or ours == theirs
