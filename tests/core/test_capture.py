"""The source table and the event log are written together: neither an item nor its event is there without the other."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr
from botocore.exceptions import ClientError

import servers
from captured import World, resource, source_table, world_of
from dynalayer import (
    AppendError,
    BatchError,
    CapturedTable,
    ClosedError,
    ConditionFailedError,
    ConfigurationError,
    ConflictError,
    DynamoDBEventLog,
    Event,
    InvalidInputError,
    InvalidValueError,
    Layer,
    SourceError,
    hookimpl,
)
from dynalayer.capturing import transactions

from .dynamodb_fakes import Wire, after, cancels, client_of, lost_answer, lost_request, passes, refuses

ANN = {"pk": "eu", "sk": "ann", "n": 1, "tags": {"a"}, "raw": b"\x00", "deep": {"list": [1, None, True]}}


@pytest.fixture(params=["dynamodb_local"])
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


in_both = pytest.mark.parametrize("url", ["dynamodb_local", "moto_server"], indirect=True)
in_moto = pytest.mark.parametrize("url", ["moto_server"], indirect=True)


@pytest.fixture
def wire() -> Wire:
    return Wire()


Makes = Callable[..., World]


@pytest.fixture
def make(url: str, wire: Wire, tmp_path: Path) -> Iterator[Makes]:
    """Makes a source table with its layer; its log's requests go over the wire."""
    with ExitStack() as stack:
        direct = stack.enter_context(closing(servers.dynamodb_client(url)))
        client = stack.enter_context(closing(client_of(url)))
        wire.attach(client)

        def made(**options: Any) -> World:
            return stack.enter_context(world_of(url, tmp_path, client, direct, **options))

        yield made


@pytest.fixture
def world(make: Makes, wire: Wire) -> World:
    world = make()
    wire.operations()
    return world


# Writes


def test_an_item_that_is_put_is_in_the_table_and_in_the_layer(world: World) -> None:
    (event,) = world.captured.put_item(Item=ANN)
    assert (event.type, event.item, event.partition, event.id, event.version) == ("PUT", ANN, "eu", "ann", 1)
    assert world.rows() == world.layer.get("eu") == [ANN]
    assert world.layer.history("eu") == [event]
    world.check()


def test_what_is_returned_shares_nothing_with_what_was_given(world: World) -> None:
    given = {"pk": "eu", "sk": "ann", "deep": [{}]}
    (event,) = world.captured.put_item(Item=given)
    given["deep"].append(1)  # type: ignore[attr-defined] # it is the list
    assert event.item["deep"] == [{}] == world.layer.get("eu")[0]["deep"]


def test_an_item_that_is_deleted_is_in_neither(world: World) -> None:
    world.captured.put_item(Item=ANN)
    (event,) = world.captured.delete_item(Key={"pk": "eu", "sk": "ann"})
    assert (event.type, event.item) == ("DELETE", {"pk": "eu", "sk": "ann"})
    assert world.rows() == world.layer.get("eu") == []
    world.captured.delete_item(Key={"pk": "eu", "sk": "nobody"})  # no error, as with boto3
    world.check()


@in_both
def test_an_update_is_an_event_of_the_whole_item_after_it(world: World) -> None:
    world.captured.put_item(Item=ANN)
    (event,) = world.captured.update_item(
        Key={"pk": "eu", "sk": "ann"},
        UpdateExpression="SET deep.#l[1] = :v REMOVE #raw ADD n :v, tags :s",
        ExpressionAttributeNames={"#l": "list", "#raw": "raw"},
        ExpressionAttributeValues={":v": 5, ":s": {"b"}},
    )
    expected = {"pk": "eu", "sk": "ann", "n": 6, "tags": {"a", "b"}, "deep": {"list": [1, 5, True]}}
    assert (event.type, event.item) == ("UPDATE", expected)
    assert world.rows() == world.layer.get("eu") == [expected]


def test_an_update_of_an_item_that_is_not_there_makes_it(world: World) -> None:
    key = {"pk": "eu", "sk": "new"}
    (event,) = world.captured.update_item(
        Key=key, UpdateExpression="ADD hits :one", ExpressionAttributeValues={":one": 1}
    )
    assert event.item == {**key, "hits": 1}
    world.check()


def test_a_number_that_the_service_writes_with_all_its_zeros_is_kept(world: World) -> None:
    world.captured.put_item(Item={"pk": "eu", "sk": "n", "n": Decimal("1E+100")})
    (event,) = world.captured.update_item(
        Key={"pk": "eu", "sk": "n"}, UpdateExpression="SET m = n", ConditionExpression=Attr("n").exists()
    )
    assert event.item["n"] == event.item["m"] == Decimal("1E+100")
    world.check()
    with pytest.raises(SourceError, match="a number that boto3 does not read"):
        world.layer.reset(world.table)
    world.check()


def test_an_update_that_only_removes_makes_no_item(world: World) -> None:
    key = {"pk": "eu", "sk": "nobody"}
    assert world.captured.update_item(Key=key, UpdateExpression="REMOVE #a", ExpressionAttributeNames={"#a": "a"}) == []
    assert world.rows() == []
    assert world.layer.partitions() == []
    with pytest.raises(ConditionFailedError):
        world.captured.update_item(
            Key=key,
            UpdateExpression="DELETE tags :s",
            ConditionExpression=Attr("pk").exists(),
            ExpressionAttributeValues={":s": {"a"}},
        )


def test_what_a_sync_folds_is_what_is_in_the_table(world: World) -> None:
    for number in range(5):
        world.captured.put_item(Item={"pk": "eu", "sk": str(number), "n": number})
    world.layer.sync()
    world.captured.update_item(
        Key={"pk": "eu", "sk": "3"}, UpdateExpression="SET n = n - :v", ExpressionAttributeValues={":v": Decimal("0.5")}
    )
    world.captured.delete_item(Key={"pk": "eu", "sk": "4"})
    world.check()
    world.layer.sync()
    world.check()
    assert world.layer.verify().ok


# Conditions


@pytest.mark.parametrize(
    "condition",
    [
        {"ConditionExpression": Attr("n").gt(5) & ~Attr("gone").exists()},
        {"ConditionExpression": "n > :v", "ExpressionAttributeValues": {":v": 5}},
        {
            "ConditionExpression": "#n > :v",
            "ExpressionAttributeNames": {"#n": "n"},
            "ExpressionAttributeValues": {":v": 5},
        },
    ],
)
def test_a_condition_that_does_not_hold_leaves_both_as_they_were(world: World, condition: dict[str, Any]) -> None:
    world.captured.put_item(Item=ANN)
    key = {"pk": "eu", "sk": "ann"}
    update = {"UpdateExpression": "SET raw = :r", **condition}
    update["ExpressionAttributeValues"] = {":r": 1, **condition.get("ExpressionAttributeValues", {})}
    if "ExpressionAttributeNames" in condition:
        update["UpdateExpression"] = "SET #raw = :r"
        update["ExpressionAttributeNames"] = {**condition["ExpressionAttributeNames"], "#raw": "raw"}
    else:
        update["UpdateExpression"] = "SET note = :r"
    writes: list[Callable[[], object]] = [
        lambda: world.captured.put_item(Item={**ANN, "n": 2}, **condition),
        lambda: world.captured.delete_item(Key=key, **condition),
        lambda: world.captured.update_item(Key=key, **update),
    ]
    for write in writes:
        with pytest.raises(ConditionFailedError, match="does not hold, and nothing was written") as caught:
            write()
        (reason,) = caught.value.reasons
        assert (reason.table, reason.key, reason.code) == (world.name, key, "ConditionalCheckFailed")
        assert reason.item == ANN
        assert isinstance(caught.value.__cause__, ClientError)
        assert not caught.value.retryable
        assert "tags" not in str(caught.value) + repr(caught.value) + repr(reason)
    assert world.rows() == world.layer.get("eu") == [ANN]
    assert len(world.layer.history("eu")) == 1
    world.captured.put_item(Item={**ANN, "n": 9})
    writes[2]()
    writes[1]()
    assert [event.type for event in world.layer.history("eu")] == ["PUT", "PUT", "UPDATE", "DELETE"]
    world.check()


def test_a_condition_that_dynamodb_does_not_take_is_told_in_its_words(world: World) -> None:
    with pytest.raises(InvalidInputError, match=r"DynamoDB does not take this: .*ValidationException"):
        world.captured.put_item(Item=ANN, ConditionExpression="nonsense(")
    assert world.rows() == []
    assert world.layer.history("eu") == []


# Items whose place is told by more than their key


@pytest.fixture
def moving(make: Makes) -> World:
    """A table whose key is `id`; the partition is the attribute `country`."""
    return make(keys={"id": "N"}, partition="country", identifier="id")


def places(world: World) -> dict[str, list[object]]:
    return {each: [item["id"] for item in world.layer.get(each)] for each in world.layer.partitions()}


def test_an_item_that_moves_is_deleted_where_it_was_in_the_same_transaction(moving: World) -> None:
    moving.captured.put_item(Item={"id": 1, "country": "fr"})
    moving.captured.put_item(Item={"id": 1, "country": "fr", "again": True})
    deleted, put = moving.captured.put_item(Item={"id": 1, "country": "de"})
    assert (deleted.type, deleted.partition, put.type, put.partition) == ("DELETE", "fr", "PUT", "de")
    assert places(moving) == {"de": [1], "fr": []}
    deleted, updated = moving.captured.update_item(
        Key={"id": 1}, UpdateExpression="SET country = :c", ExpressionAttributeValues={":c": "it"}
    )
    assert (deleted.partition, updated.type, updated.partition) == ("de", "UPDATE", "it")
    (event,) = moving.captured.delete_item(Key={"id": 1})
    assert (event.type, event.partition) == ("DELETE", "it")
    assert places(moving) == {"de": [], "fr": [], "it": []}
    assert moving.captured.delete_item(Key={"id": 1}) == []
    with pytest.raises(ConditionFailedError):
        moving.captured.delete_item(Key={"id": 1}, ConditionExpression=Attr("id").exists())
    moving.check()


@pytest.mark.parametrize("functions", [False, True])
def test_a_move_that_another_makes_meanwhile_is_seen(make: Makes, wire: Wire, functions: bool) -> None:
    told: dict[str, Any] = {"partition": "country", "identifier": "id"}
    if functions:
        told = {"partition": lambda item: item["country"], "identifier": lambda item: item["id"]}
    moving = make(keys={"id": "N"}, **told)
    moving.captured.put_item(Item={"id": 1, "country": "fr"})
    other = moving.also()
    writes: list[Callable[[], list[Event]]] = [
        lambda: moving.captured.put_item(Item={"id": 1, "country": "de"}),
        lambda: moving.captured.put_item(Item={"id": 1, "country": "de"}, ConditionExpression=Attr("id").exists()),
        lambda: moving.captured.update_item(
            Key={"id": 1}, UpdateExpression="SET n = :n", ExpressionAttributeValues={":n": 1}
        ),
        lambda: moving.captured.delete_item(Key={"id": 1}),
    ]
    for number, write in enumerate(writes):
        move = {"id": 1, "country": f"c{number}"}
        wire.plan("TransactWriteItems", after(partial(other.put_item, Item=move)))
        events = write()
        assert ("DELETE", f"c{number}") in [(event.type, event.partition) for event in events] or number == 2
        moving.check()


def test_an_item_that_another_makes_elsewhere_meanwhile_is_deleted_there(moving: World, wire: Wire) -> None:
    """Nothing in the log tells that others were before: they wrote to another partition."""
    item = {"id": 1, "country": "fr"}
    wire.plan("TransactWriteItems", after(partial(moving.also().put_item, Item=item)))
    deleted, put = moving.captured.put_item(Item={"id": 1, "country": "de"})
    assert (deleted.type, deleted.partition, put.type, put.partition) == ("DELETE", "fr", "PUT", "de")
    moving.check()


def test_an_item_that_was_none_of_the_layers_is_replaced_and_not_deleted(moving: World) -> None:
    moving.table.put_item(Item={"id": 1, "country": 5})
    with pytest.raises(InvalidInputError, match="delete it by the boto3 table itself"):
        moving.captured.delete_item(Key={"id": 1})
    (event,) = moving.captured.put_item(Item={"id": 1, "country": "fr"})
    assert event.type == "PUT"
    moving.check()


# Others at the same time


def test_a_write_that_another_was_before_goes_after_it(world: World, wire: Wire) -> None:
    world.captured.put_item(Item=ANN)
    other = world.another()
    fate = after(lambda: other.set([{"type": "PUT", "item": {"pk": "eu", "sk": "bob"}}]))
    wire.plan("TransactWriteItems", fate, fate)
    (event,) = world.captured.put_item(Item={**ANN, "n": 2})
    assert event.version == 4
    assert [each.id for each in world.layer.history("eu")] == ["ann", "bob", "bob", "ann"]


@in_both
def test_an_update_counts_what_another_has_counted_meanwhile(world: World, wire: Wire) -> None:
    world.captured.put_item(Item=ANN)
    other, key = world.also(), {"pk": "eu", "sk": "ann"}
    count: dict[str, Any] = {"UpdateExpression": "ADD n :one", "ExpressionAttributeValues": {":one": 1}}
    wire.plan("TransactWriteItems", after(lambda: other.update_item(Key=key, **count)))
    (event,) = world.captured.update_item(Key=key, **count)
    assert event.item["n"] == 3
    # By one who writes past the layer too: the transaction is on condition of what was read.
    wire.plan("TransactWriteItems", after(lambda: world.table.update_item(Key=key, **count)))
    (event,) = world.captured.update_item(Key=key, ConditionExpression=Attr("n").gt(0), **count)
    assert event.item["n"] == 5
    world.check()


def test_a_condition_that_holds_is_not_told_to_fail_where_others_are_before_at_log_and_item_in_turn(
    world: World, wire: Wire
) -> None:
    world.captured.put_item(Item=ANN)
    log, table = world.another(), world.also()
    count: dict[str, Any] = {"Key": {"pk": "eu", "sk": "ann"}, "UpdateExpression": "ADD n :one"}
    count["ExpressionAttributeValues"] = {":one": 1}
    wire.plan(
        "TransactWriteItems",
        after(lambda: log.set([{"type": "PUT", "item": {"pk": "eu", "sk": "bob"}}])),
        after(lambda: table.update_item(**count)),
    )
    (event,) = world.captured.update_item(ConditionExpression=Attr("n").gt(0), **count)
    assert event.item["n"] == 3


def test_an_update_of_a_large_item_has_what_another_adds_meanwhile(world: World, wire: Wire) -> None:
    """No condition can name all that there is and all that there is not: the log's end tells that others were there."""
    key = {"pk": "eu", "sk": "large"}
    world.captured.put_item(Item={**key, "n": 0, **{f"attribute-{number}": number for number in range(400)}})
    other = world.also()

    def more() -> None:
        other.update_item(
            Key=key,
            UpdateExpression="SET fresh = :v, #a = :v",
            ExpressionAttributeNames={"#a": "attribute-399"},
            ExpressionAttributeValues={":v": "fresh"},
        )

    wire.plan("TransactWriteItems", after(more))
    (event,) = world.captured.update_item(Key=key, UpdateExpression="ADD n :one", ExpressionAttributeValues={":one": 1})
    assert event.item["fresh"] == event.item["attribute-399"] == "fresh"
    assert len(event.item) == 404
    world.check()


def test_an_attribute_that_another_adds_before_the_item_is_read_is_in_the_event(world: World, wire: Wire) -> None:
    """The log's end is looked for before the item is read: no condition names an attribute that is not there."""
    other, key = world.also(), {"pk": "eu", "sk": "ann"}
    other.put_item(Item={**key, "n": 1})

    def add() -> None:
        other.update_item(Key=key, UpdateExpression="SET fresh = :v", ExpressionAttributeValues={":v": 1})

    wire.plan("Query", after(add))
    (event,) = world.captured.update_item(Key=key, UpdateExpression="ADD n :one", ExpressionAttributeValues={":one": 1})
    assert event.item == {**key, "n": 2, "fresh": 1}
    world.check()


def test_others_who_are_always_before_end_in_an_error_that_can_be_tried_again(
    world: World, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "_TRIES", 3)
    other = world.another()
    fate = after(lambda: other.set([{"type": "PUT", "item": {"pk": "eu", "sk": "bob"}}]))
    wire.plan("TransactWriteItems", *[fate] * 3)
    with pytest.raises(ConflictError, match="at each of 3 tries; nothing was written") as caught:
        world.captured.put_item(Item=ANN)
    assert caught.value.retryable
    assert world.rows() == []
    world.captured.put_item(Item=ANN)


def test_threads_that_count_at_once_lose_nothing(world: World) -> None:
    key = {"pk": "eu", "sk": "count"}

    def count(_: int) -> int:
        (event,) = world.captured.update_item(
            Key=key, UpdateExpression="ADD n :one", ExpressionAttributeValues={":one": 1}
        )
        return int(event.item["n"])

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(count, range(40))) == list(range(1, 41))
    assert [event.item["n"] for event in world.layer.history("eu")] == list(range(1, 41))
    world.check()


# What goes wrong on the way


def test_an_answer_that_is_lost_makes_no_second_event(world: World, wire: Wire) -> None:
    wire.plan("TransactWriteItems", lost_request, lost_answer)
    world.captured.put_item(Item=ANN)
    wire.plan("TransactWriteItems", lost_answer)
    world.captured.update_item(
        Key={"pk": "eu", "sk": "ann"}, UpdateExpression="ADD n :one", ExpressionAttributeValues={":one": 1}
    )
    assert [event.item["n"] for event in world.layer.history("eu")] == [1, 2]
    world.check()


def test_a_conflict_with_another_transaction_is_tried_again(world: World, wire: Wire) -> None:
    wire.plan("TransactWriteItems", cancels("None", "TransactionConflict"), refuses("ThrottlingException"))
    world.captured.put_item(Item=ANN)
    assert len(world.layer.history("eu")) == 1
    world.check()


def test_a_transaction_that_is_cancelled_for_good_is_told_with_its_reasons(world: World, wire: Wire) -> None:
    wire.plan("TransactWriteItems", cancels("None", "ItemCollectionSizeLimitExceeded"))
    with pytest.raises(Exception, match="DynamoDB cancelled the transaction, and nothing was written") as caught:
        world.captured.put_item(Item=ANN)
    error: Any = caught.value
    assert type(error).__name__ == "TransactionError"
    assert [reason.code for reason in error.reasons] == ["ItemCollectionSizeLimitExceeded"]
    assert isinstance(error.__cause__, ClientError)
    assert world.rows() == world.layer.get("eu") == []


# Refused before any request

KEY = {"pk": "eu", "sk": "ann"}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("put_item", {"Item": {"pk": "eu"}}, "no attribute 'sk', which is its identifier"),
    ("put_item", {"Item": {**KEY, "pk": 5}}, "a partition is text"),
    ("put_item", {"Item": {**KEY, "sk": ""}}, "an identifier is never empty"),
    ("put_item", {"Item": {**KEY, "sk": 5}}, "'sk' is 5: the table has 'pk' \\(text\\) and 'sk' \\(text\\)"),
    ("put_item", {"Item": {**KEY, "pk": ""}}, "takes 0 bytes; 1 to 2048 are possible"),
    ("put_item", {"Item": {**KEY, "a": 0.5}}, "attribute 'a' cannot be kept in DynamoDB: Float"),
    ("put_item", {"Item": {**KEY, "a": {"b": [set()]}}}, "attribute 'a' holds an empty set"),
    ("put_item", {"Item": {**KEY, "a": (1,)}}, "attribute a: .*tuple"),
    ("put_item", {"Item": {**KEY, "a": "x" * 410_000}}, "takes 410.* bytes; DynamoDB keeps 409600"),
    ("put_item", {"Item": [1]}, "an item is a dict"),
    ("put_item", {"Item": KEY, "ReturnValues": "ALL_OLD"}, "'ReturnValues' is not taken .*: the events returned"),
    ("put_item", {"Item": KEY, "Expected": {}}, "'Expected' is not taken .*: say it as ConditionExpression"),
    ("put_item", {"Item": KEY, "ConditionExpression": 5}, "a text or a condition of boto3's"),
    ("put_item", {"Item": KEY, "ConditionExpression": " "}, "ConditionExpression is empty"),
    ("put_item", {"Item": KEY, "ConditionExpression": "a = :v"}, "expressions use :v, and nothing says"),
    ("put_item", {"Item": KEY, "ExpressionAttributeNames": {"#a": "a"}}, "no expression uses #a"),
    ("put_item", {"Item": KEY, "ExpressionAttributeNames": ["#a"]}, "maps #placeholders to attributes"),
    ("put_item", {"Item": KEY, "ExpressionAttributeValues": "v"}, "maps :placeholders to values"),
    (
        "put_item",
        {
            "Item": KEY,
            "ConditionExpression": Attr("a").exists(),
            "ExpressionAttributeNames": {"#n0": "b"},
        },
        "#n0: boto3's conditions use these placeholders",
    ),
    ("delete_item", {"Key": {"pk": "eu"}}, "has other attributes than the table's key: 'pk' \\(text\\)"),
    ("delete_item", {"Key": {**KEY, "a": 1}}, "has other attributes"),
    ("delete_item", {"Key": {"pk": "eu", "sk": b"x"}}, "'sk' is b'x'"),
    ("delete_item", {"Key": "ann"}, "has other attributes"),
    ("update_item", {"Key": KEY, "UpdateExpression": None}, "UpdateExpression is a text"),
    ("update_item", {"Key": KEY, "UpdateExpression": "SET a = size(b)"}, "uses size\\(\\) where it is not computed"),
    ("update_item", {"Key": KEY, "UpdateExpression": "REMOVE sk"}, "changes 'sk', which is part of the table's key"),
    ("update_item", {"Key": KEY, "UpdateExpression": "REMOVE a", "AttributeUpdates": {}}, "say it as UpdateExpression"),
    (
        "update_item",
        {"Key": KEY, "UpdateExpression": "SET a = :v", "ExpressionAttributeValues": {":v": 0.5}},
        "attribute ':v' cannot be kept",
    ),
]


@pytest.mark.parametrize(("method", "arguments", "told"), REFUSED)
def test_what_cannot_be_taken_is_refused_before_any_request(
    refusing: tuple[CapturedTable, Wire], method: str, arguments: dict[str, Any], told: str
) -> None:
    captured, wire = refusing
    with pytest.raises(InvalidInputError, match=told):
        getattr(captured, method)(**arguments)
    assert wire.operations() == []


@pytest.fixture(scope="module")
def refusing(moto_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CapturedTable, Wire]]:
    """A table that nothing gets to, and its wire."""
    wire = Wire()
    with closing(servers.dynamodb_client(moto_server)) as direct, closing(client_of(moto_server)) as client:
        wire.attach(client)
        with world_of(moto_server, tmp_path_factory.mktemp("refusing"), client, direct) as world:
            wire.operations()
            yield world.captured, wire
            assert world.rows() == []
            assert world.layer.partitions() == []


def test_a_value_that_cannot_be_kept_is_told_with_its_path(refusing: tuple[CapturedTable, Wire]) -> None:
    with pytest.raises(InvalidValueError) as caught:
        refusing[0].put_item(Item={**KEY, "a": {"b": [float("nan")]}})
    assert caught.value.path == "a.b[0]"


@in_moto
def test_an_update_that_cannot_be_done_to_the_item_writes_nothing(world: World) -> None:
    world.captured.put_item(Item=ANN)
    for text, told in (("SET n = absent", "reads absent"), ("SET n = sk + n", "takes two numbers")):
        with pytest.raises(InvalidInputError, match=told):
            world.captured.update_item(Key=KEY, UpdateExpression=text)
    assert world.layer.get("eu") == [ANN]


@in_moto
def test_nothing_is_written_once_the_layer_is_closed(world: World) -> None:
    world.layer.close()
    with pytest.raises(ClosedError, match="was closed"):
        world.captured.put_item(Item=ANN)
    with pytest.raises(ClosedError):
        world.layer.table(world.table)
    assert world.rows() == []


# Tables that do not fit


@in_moto
def test_a_table_that_does_not_fit_is_refused(make: Makes, tmp_path: Path) -> None:
    world = make()
    with pytest.raises(ConfigurationError, match="the layer is of table"):
        world.layer.table(resource(world.url).Table(world.events))
    options: dict[str, Any] = {"storage": f"local:{tmp_path / 'snapshots'}", "table": world.name}
    layer = Layer(events="memory:", get_item_unique_identifier="sk", **options)
    with (
        layer,
        pytest.raises(ConfigurationError, match="in one transaction of DynamoDB, and this layer's events are in"),
    ):
        layer.table(world.table)
    with pytest.raises(ConfigurationError, match="two items that differ in 'pk' alone would be one"):
        world.another(get_item_partition=None).table(world.table)
    with pytest.raises(ConfigurationError, match="no get_item_unique_identifier"):
        world.another(get_item_unique_identifier=None).table(world.table)
    log = DynamoDBEventLog(world.events, "nothing", client=world.direct)
    layer = Layer(**{**options, "table": "nothing"}, events=log, get_item_unique_identifier="sk")
    with layer, pytest.raises(SourceError, match="there is no table 'nothing' where the source was looked for"):
        layer.table(resource(world.url).Table("nothing"))
    with pytest.raises(InvalidInputError, match="a boto3 Table"):
        world.layer.table("users")  # type: ignore[arg-type] # as a user may


def test_the_event_logs_own_table_is_refused(world: World) -> None:
    log = DynamoDBEventLog(world.events, world.events, client=world.direct)
    with (
        Layer(table=world.events, get_item_unique_identifier="sk", get_item_partition="pk", events=log) as layer,
        pytest.raises(ConfigurationError, match="holds the event log itself"),
    ):
        layer.table(resource(world.url).Table(world.events))


def test_a_condition_of_many_operators_leaves_room_for_what_the_item_must_be(world: World) -> None:
    key = {"pk": "eu", "sk": "large"}
    world.captured.put_item(Item={**key, "n": 0, **{f"a{number}": number for number in range(150)}})
    (event,) = world.captured.update_item(
        Key=key,
        UpdateExpression="ADD n :v",
        ConditionExpression=" OR ".join(f"a{number} = :v" for number in range(40)),
        ExpressionAttributeValues={":v": 1},
    )
    assert event.item["n"] == 1
    world.check()


@in_moto
def test_a_table_in_another_place_than_the_log_is_refused(world: World, dynamodb_local: str) -> None:
    table = resource(dynamodb_local).Table(world.name)
    with (
        closing(servers.dynamodb_client(dynamodb_local)) as elsewhere,
        source_table(elsewhere, world.name, {"pk": "S", "sk": "S"}),
        pytest.raises(ConfigurationError, match="one transaction spans tables of one region and account"),
    ):
        world.layer.table(table)


# Batches


def test_a_batch_is_written_whole_and_in_order(world: World, wire: Wire) -> None:
    with world.captured.batch_writer(actions=10) as batch:
        for number in range(30):
            batch.put_item(Item={"pk": f"p{number % 2}", "sk": str(number), "n": 1})
        batch.delete_item(Key={"pk": "p0", "sk": "28"})
        batch.put_item(Item={"pk": "p1", "sk": "29", "n": 2})
    assert batch.written == 32
    assert 4 <= wire.operations().count("TransactWriteItems") <= 8
    assert len(world.rows()) == 29
    assert [event.type for event in world.layer.history("p0", id="28")] == ["PUT", "DELETE"]
    assert [event.item["n"] for event in world.layer.history("p1", id="29")] == [1, 2]
    world.check()


def test_several_writes_of_an_item_are_all_made_one_after_the_other(world: World) -> None:
    with world.captured.batch_writer(actions=10) as batch:
        batch.put_item(Item={"pk": "eu", "sk": "a", "n": 1})
        batch.put_item(Item={"pk": "eu", "sk": "a", "n": 2})
        batch.delete_item(Key={"pk": "eu", "sk": "a"})
    events = world.layer.history("eu")
    assert [(event.type, event.version) for event in events] == [("PUT", 1), ("PUT", 2), ("DELETE", 3)]
    world.check()


def test_of_several_writes_of_an_item_the_last_is_made_where_that_is_asked_for(world: World) -> None:
    with world.captured.batch_writer(overwrite_by_pkeys=["pk", "sk"], actions=10) as batch:
        batch.put_item(Item={"pk": "eu", "sk": "a", "n": 1})
        batch.put_item(Item={"pk": "eu", "sk": "b", "n": 1})
        batch.delete_item(Key={"pk": "eu", "sk": "b"})
        batch.put_item(Item={"pk": "eu", "sk": "a", "n": 2})
    assert [(event.type, event.id) for event in world.layer.history("eu")] == [("DELETE", "b"), ("PUT", "a")]
    world.check()


def test_what_was_put_before_an_exception_is_written_as_boto3s_writer_does(world: World) -> None:
    batch = world.captured.batch_writer(actions=10)
    batch.put_item(Item=ANN)
    with pytest.raises(ZeroDivisionError), batch:
        raise ZeroDivisionError
    assert world.rows() == world.layer.get("eu") == [ANN]


def test_a_write_that_is_refused_leaves_the_batch_as_it_was(world: World) -> None:
    with world.captured.batch_writer(actions=10) as batch:
        batch.put_item(Item=ANN)
        with pytest.raises(InvalidInputError, match="no attribute 'sk'"):
            batch.put_item(Item={"pk": "eu"})
        with pytest.raises(InvalidInputError, match="other attributes than the table's key"):
            batch.delete_item(Key={"pk": "eu"})
    assert world.rows() == [ANN]


def large(number: int) -> bytes:
    """What is not packed any smaller: of seven such items not all go in one transaction."""
    return random.Random(number).randbytes(390_000)


def test_a_batch_that_fails_tells_what_is_certain_of_each_key(world: World, wire: Wire) -> None:
    batch = world.captured.batch_writer(actions=10)
    wire.plan("TransactWriteItems", passes, refuses("AccessDeniedException"))
    for number in range(6):
        batch.put_item(Item={"pk": "eu", "sk": str(number), "raw": large(number)})
    with pytest.raises(BatchError, match=r"7 writes was not written whole, from .*'sk': '[1-6]'.* on: ") as caught:
        batch.put_item(Item={"pk": "eu", "sk": "6"})
    error = caught.value
    written, not_written = ([key["sk"] for key in keys] for keys in (error.written, error.not_written))
    assert (written + not_written, error.unknown) == ([str(number) for number in range(7)], ())
    assert "0" in written
    assert "6" in not_written
    assert sorted(item["sk"] for item in world.rows()) == written
    assert batch.written == len(written)
    assert isinstance(error.__cause__, AppendError)
    world.check()


def test_a_batch_whose_outcome_is_unknown_says_so(world: World, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.plan("TransactWriteItems", *[lost_request] * 12)
    wire.plan("GetItem", refuses("AccessDeniedException"))
    monkeypatch.setattr("dynalayer.eventlog.dynamodb.together.backoff", lambda tries: 0)
    batch = world.captured.batch_writer(actions=10)
    batch.put_item(Item={"pk": "eu", "sk": "1"})
    batch.put_item(Item={"pk": "eu", "sk": "2"})
    with pytest.raises(BatchError, match="0 written, 0 not written, 2 unknown") as caught, batch:
        pass
    assert [key["sk"] for key in caught.value.unknown] == ["1", "2"]
    assert not caught.value.retryable
    assert caught.value.operation == "table.batch_writer"
    with pytest.raises(InvalidInputError, match="an earlier batch of this writer failed"):
        batch.put_item(Item=ANN)


def test_a_number_written_in_two_ways_is_one_key_of_a_batch(make: Makes) -> None:
    numbered = make(keys={"id": "N"}, partition=None, identifier="id")
    with numbered.captured.batch_writer(actions=10) as batch:
        batch.put_item(Item={"id": 1, "n": 1})
        batch.put_item(Item={"id": Decimal("1.0"), "n": 2})
        batch.put_item(Item={"id": 100, "n": 1})
        batch.delete_item(Key={"id": Decimal("1E2")})
    assert numbered.rows() == [{"id": 1, "n": 2}]
    numbered.check()


def test_what_comes_after_the_end_of_a_batch_is_refused_and_not_left_in_its_buffer(world: World) -> None:
    with world.captured.batch_writer(actions=10) as batch:
        batch.put_item(Item=ANN)
    with pytest.raises(InvalidInputError, match="has ended"):
        batch.put_item(Item={"pk": "eu", "sk": "late"})
    with batch:
        batch.put_item(Item={"pk": "eu", "sk": "again"})
    assert sorted(item["sk"] for item in world.rows()) == ["again", "ann"]


def test_a_batch_of_large_items_goes_in_as_many_transactions_as_they_need(world: World, wire: Wire) -> None:
    with world.captured.batch_writer(actions=10) as batch:
        for number in range(9):
            batch.put_item(Item={"pk": "eu", "sk": str(number), "raw": large(number)})
    assert 2 <= wire.operations().count("TransactWriteItems") <= 9
    assert batch.written == len(world.rows()) == len(world.layer.get("eu")) == 9


@pytest.mark.parametrize(
    "arguments", [{"actions": 2}, {"actions": 101}, {"actions": "9"}, {"overwrite_by_pkeys": ["a"]}]
)
def test_a_batch_writer_of_wrong_arguments_is_refused(
    refusing: tuple[CapturedTable, Wire], arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(next(iter(arguments)))):
        refusing[0].batch_writer(**arguments)


def test_a_batch_of_items_that_move_deletes_them_where_they_were(make: Makes) -> None:
    moving = make(keys={"id": "N"}, partition="country", identifier="id")
    for country in ("fr", "de"):
        with moving.captured.batch_writer(actions=10) as batch:
            for number in range(7):
                batch.put_item(Item={"id": number, "country": f"{country}{number % 3}"})
    assert {partition for partition, ids in places(moving).items() if ids} == {"de0", "de1", "de2"}
    moving.check()


# Observers, strategies, counts


class Watcher:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @hookimpl
    def layer_operation(self, operation: Any) -> None:
        self.seen.append(operation.name)

    @hookimpl
    def layer_appended(self, events: Any) -> None:
        self.seen.append(f"{len(events)} appended")


def test_a_write_is_watched_counted_and_may_lead_to_a_sync(make: Makes) -> None:
    watcher = Watcher()
    world = make(plugins=[watcher], sync_strategy=lambda meta: meta.unsynced_total >= 2)
    assert watcher.seen == ["table"]
    watcher.seen.clear()
    world.captured.put_item(Item=ANN)
    world.captured.update_item(Key=KEY, UpdateExpression="REMOVE n")
    assert watcher.seen[:3] == ["table.put_item", "1 appended", "strategy"]
    assert "table.update_item" in watcher.seen
    assert "sync" in watcher.seen
    assert world.layer.meta().synced_total == 2
    usage = world.layer.usage()
    assert usage["table.put_item"].requests > 0
    assert usage["table.update_item"].requests > 0
    with world.captured.batch_writer(actions=10) as batch:
        batch.delete_item(Key=KEY)
    world.captured.delete_item(Key=KEY)
    assert {"table.batch_writer", "table.delete_item"} <= set(watcher.seen)


def test_the_tables_name_is_all_that_it_shows(world: World) -> None:
    assert repr(world.captured) == f"CapturedTable({world.name!r})"
    assert world.captured.source is world.table
