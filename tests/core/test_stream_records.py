"""Stream records taken apart: values as boto3 types them, and what no stream writes refused by name."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynalayer import ConfigurationError, InvalidInputError
from dynalayer.events import EventReader, ItemFunction
from dynalayer.streams.images import image
from dynalayer.streams.places import Places
from dynalayer.streams.records import Stream, StreamRecord, record_of, records_of_lambda
from dynalayer.values import item_to_json

from .stream_fakes import Fake, arn_of, lambda_event, plain, typed

NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**30), max_value=10**30) | (
    st.integers(-(10**38) + 1, 10**38 - 1).map(Decimal)
)
ATOMS = st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.binary(max_size=5)
SETS = (
    st.sets(NUMBERS, min_size=1, max_size=3)
    | st.sets(st.text(max_size=3), min_size=1, max_size=3)
    | st.sets(st.binary(max_size=3), min_size=1, max_size=3)
)
VALUES = st.recursive(
    ATOMS | SETS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
ITEMS = st.dictionaries(st.text(min_size=1, max_size=4), VALUES, max_size=4)

# The event of AWS's Lambda Developer Guide ("Using AWS Lambda with Amazon DynamoDB"), with values in place of its own.
DOCUMENTED: dict[str, Any] = {
    "Records": [
        {
            "eventID": "1",
            "eventVersion": "1.0",
            "dynamodb": {
                "Keys": {"Id": {"N": "101"}},
                "NewImage": {"Message": {"S": "New item!"}, "Id": {"N": "101"}, "Blob": {"B": "aGk="}},
                "StreamViewType": "NEW_AND_OLD_IMAGES",
                "SequenceNumber": "111",
                "SizeBytes": 26,
                "ApproximateCreationDateTime": 1428537600.0,
            },
            "awsRegion": "us-west-2",
            "eventName": "INSERT",
            "eventSourceARN": arn_of("users"),
            "eventSource": "aws:dynamodb",
        }
    ]
}


def said(item: Any) -> Any:
    """An item through Lambda's JSON."""
    record = {"eventSource": "aws:dynamodb", "dynamodb": {"NewImage": typed(item)}}
    return lambda_event([record], arn_of("users"))["Records"][0]["dynamodb"]["NewImage"]


@settings(max_examples=50)
@given(ITEMS)
def test_values_are_what_boto3_makes_of_them_in_both_forms(item: Any) -> None:
    as_boto3 = plain(typed(item))
    for form in (typed(item), said(item)):
        found = image(form, "it")
        assert found == as_boto3
        assert json.dumps(shape(found)) == json.dumps(shape(as_boto3))


def test_zeros_that_the_service_writes_are_no_digits_of_a_number() -> None:
    (found,) = image({"n": {"N": "1" + "0" * 100}}, "it").values()
    assert item_to_json({"n": found, "same": Decimal("1E+100")})
    assert found == Decimal("1E+100")
    assert image({"n": {"N": "1" * 39}}, "it") == {"n": Decimal("1" * 39)}  # which no layer keeps, and DynamoDB neither


def shape(value: Any) -> Any:
    """A value with its types, which `==` does not tell."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    if isinstance(value, set):
        return sorted(map(repr, value))
    return [type(value).__name__, str(value)]


def test_the_documented_event_of_lambda_is_read_whole() -> None:
    (record,) = records_of_lambda(DOCUMENTED)
    stream = Stream(arn_of("users"), "users", "2026-01-02T03:04:05.678")
    assert record == StreamRecord(
        stream=stream,
        name="INSERT",
        number="111",
        created=1_428_537_600_000_000,
        keys={"Id": Decimal(101)},
        new={"Message": "New item!", "Id": Decimal(101), "Blob": b"hi"},
        old=None,
        view="NEW_AND_OLD_IMAGES",
    )


def test_an_event_without_records_has_none() -> None:
    assert records_of_lambda({"Records": []}) == []


def changed(path: tuple[Any, ...], value: Any) -> Any:
    event = json.loads(json.dumps(DOCUMENTED))
    place = event
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return event


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (None, "'Records'"),
        ([], "'Records'"),
        ({}, "'Records'"),
        ({"Records": {}}, "'Records'"),
        ({"Records": [7]}, r"Records\[0\] is 7"),
        (changed(("Records", 0, "eventSource"), "aws:sqs"), r"Records\[0\] is from 'aws:sqs'"),
        (changed(("Records", 0, "eventSourceARN"), "arn:aws:kinesis:x"), r"Records\[0\].eventSourceARN is"),
        (changed(("Records", 0, "eventSourceARN"), None), r"Records\[0\].eventSourceARN is None"),
        (changed(("Records", 0, "eventName"), "UPSERT"), r"Records\[0\].eventName is 'UPSERT'"),
        (changed(("Records", 0, "eventName"), ["INSERT"]), r"Records\[0\].eventName"),
        (changed(("Records", 0, "dynamodb"), None), r"Records\[0\].dynamodb is None"),
        (changed(("Records", 0, "dynamodb", "SequenceNumber"), 111), r"SequenceNumber is 111"),
        (changed(("Records", 0, "dynamodb", "SequenceNumber"), "-1"), r"SequenceNumber is '-1'"),
        (changed(("Records", 0, "dynamodb", "SequenceNumber"), "1" * 41), r"SequenceNumber"),
        (changed(("Records", 0, "dynamodb", "SequenceNumber"), "\u0661"), r"SequenceNumber"),
        (changed(("Records", 0, "dynamodb", "Keys"), {}), r"Records\[0\].dynamodb.Keys is empty"),
        (changed(("Records", 0, "dynamodb", "Keys"), None), r"Records\[0\].dynamodb.Keys"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"N": 1}), r"NewImage, attribute a: 1 is no number"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"N": "NaN"}), r"attribute a: 'NaN' is no number"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"N": "\u0661"}), r"attribute a"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"B": "h!"}), r"attribute a: 'h!' is neither bytes"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"S": None}), r"attribute a: None is no text"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"X": 1}), r"attribute a: 'X' is no type"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"S": "a", "N": "1"}), r"attribute a: .* no value"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), "a"), r"attribute a: 'a' is no value"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"NULL": False}), r"attribute a: NULL"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"BOOL": 1}), r"attribute a: 1 is neither true"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"SS": ["x", "x"]}), r"attribute a: a set holds"),
        (changed(("Records", 0, "dynamodb", "NewImage", "a"), {"SS": "x"}), r"attribute a: 'x' is no list"),
        (
            changed(("Records", 0, "dynamodb", "NewImage", "a"), {"L": [{"M": {"b": {"N": "x"}}}]}),
            r"attribute a\[0\].b: 'x' is no number",
        ),
        (changed(("Records", 0, "dynamodb", "NewImage"), ["a"]), r"NewImage: typed attributes are a mapping"),
    ],
)
def test_what_no_stream_writes_is_refused_by_name(event: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        records_of_lambda(event)


def test_a_value_of_endless_depth_is_refused_before_the_stack_ends() -> None:
    value: Any = {"S": "a"}
    for _ in range(100_000):
        value = {"L": [value]}
    with pytest.raises(InvalidInputError, match="more than 32 deep"):
        image({"a": value}, "it")
    for _ in range(100_000):  # let it be freed without a recursion of its own
        value = value["L"].pop()


def record(name: str, new: Any = None, old: Any = None, keys: Any = None) -> StreamRecord:
    stream = Stream(arn_of("users"), "users", "1")
    of = keys if keys is not None else {each: (new or old)[each] for each in ("pk", "sk")}
    return StreamRecord(stream, name, "111", None, of, new, old, "NEW_AND_OLD_IMAGES")  # type: ignore[arg-type] # the name


def places(id: ItemFunction | None = "sk", partition: ItemFunction | None = "pk") -> Places:
    return Places("users", EventReader("users", id, partition))


def told(places: Places, record: StreamRecord) -> list[Any]:
    places.check(record)
    return [(partition, change.type, change.id, change.item) for partition, change in places.changes(record)]


A, B = {"pk": "eu", "sk": "1", "team": "x", "n": 1}, {"pk": "eu", "sk": "1", "team": "y", "n": 2}


def test_each_kind_of_record_is_its_kind_of_event() -> None:
    assert told(places(), record("INSERT", A)) == [("eu", "PUT", "1", A)]
    assert told(places(), record("MODIFY", B, A)) == [("eu", "UPDATE", "1", B)]
    assert told(places(), record("REMOVE", None, A)) == [("eu", "DELETE", "1", {"pk": "eu", "sk": "1"})]


def test_where_the_key_tells_the_place_the_new_image_alone_suffices() -> None:
    keys = {"pk": "eu", "sk": "1"}
    assert told(places(), record("MODIFY", B, None)) == [("eu", "UPDATE", "1", B)]
    assert told(places(), record("REMOVE", None, None, keys)) == [("eu", "DELETE", "1", keys)]


def test_an_item_that_moves_leaves_its_old_place_and_comes_to_the_new() -> None:
    assert told(places("sk", lambda item: item["pk"] + item["team"]), record("MODIFY", B, A)) == [
        ("eux", "DELETE", "1", A),
        ("euy", "UPDATE", "1", B),
    ]
    by_team = Places("users", EventReader("users", "sk", "team"))
    keys = {"sk": "1"}
    assert told(by_team, record("MODIFY", B, A, keys)) == [
        ("x", "DELETE", "1", {"sk": "1", "team": "x"}),
        ("y", "UPDATE", "1", B),
    ]
    assert told(by_team, record("MODIFY", {**A, "n": 9}, A, keys)) == [("x", "UPDATE", "1", {**A, "n": 9})]


def test_a_state_that_was_refused_had_no_place_so_that_its_successor_is_taken() -> None:
    by_team = Places("users", EventReader("users", "sk", "team"))
    assert told(by_team, record("MODIFY", B, {"sk": "1"}, {"sk": "1"})) == [("y", "UPDATE", "1", B)]


@pytest.mark.parametrize(
    ("record", "places", "lacks"),
    [
        (record("INSERT", None, None, {"pk": "eu", "sk": "1"}), places(), "NewImage"),
        (record("MODIFY", None, A), places(), "NewImage"),
        (record("MODIFY", A), places(lambda item: item["sk"]), "OldImage"),
        (record("REMOVE", None, None, {"pk": "eu", "sk": "1"}), places("sk", lambda item: item["pk"]), "OldImage"),
    ],
)
def test_a_record_without_the_image_that_is_needed_names_table_view_type_and_way_out(
    record: StreamRecord, places: Places, lacks: str
) -> None:
    with pytest.raises(
        ConfigurationError, match=f"has no {lacks}, .*StreamViewType is NEW_AND_OLD_IMAGES.*'users'.*NEW_AND_OLD_IMAGES"
    ):
        places.check(record)


@pytest.mark.parametrize(
    ("view", "by_key", "by_function"),
    [
        ("KEYS_ONLY", False, False),
        ("OLD_IMAGE", False, False),
        ("NEW_IMAGE", True, False),
        ("NEW_AND_OLD_IMAGES", True, True),
    ],
)
def test_a_view_type_is_refused_where_its_records_would_be(view: str, by_key: bool, by_function: bool) -> None:
    for each, fits in ((places(), by_key), (places(lambda item: item["sk"]), by_function)):
        if fits:
            each.check_view(view, frozenset({"pk", "sk"}))
        else:
            with pytest.raises(ConfigurationError, match=f"StreamViewType is {view}"):
                each.check_view(view, frozenset({"pk", "sk"}))


def test_a_table_whose_items_the_layer_could_not_tell_apart_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="two items that differ in 'pk' alone would be one"):
        places("sk", None).check(record("INSERT", A))
    places("sk", lambda item: item["pk"]).check(record("INSERT", A, A))


def test_another_tables_stream_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="of table 'users', and the layer of table 'orders'"):
        Places("orders", EventReader("orders", "sk", "pk")).check(record("INSERT", A))


def test_a_layer_that_knows_no_identifier_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="get_item_unique_identifier"):
        places(None)


@pytest.mark.parametrize("given", [None, "", 7, math.nan, True, "2026-01-01"])
def test_a_record_that_does_not_say_when_is_taken_all_the_same(given: Any) -> None:
    fake = Fake()
    fake.put(A)
    raw = fake.records[0]
    raw["dynamodb"]["ApproximateCreationDateTime"] = given
    found = record_of(raw, Stream(fake.arn, "users", "1"), "it")
    assert found.created == (7_000_000 if given == 7 else None)
    assert found.new == A
