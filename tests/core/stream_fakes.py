"""A table with a stream, in memory: splits, trimmed shards and expired iterators are had nowhere else on command.

`Fake` is the table and boto3's client of its stream in one. It writes records as the service does; `lambda_event` gives
them in the form in which AWS Lambda hands them over, through JSON.
"""

from __future__ import annotations

import hashlib
import json
import random
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from dynalayer import Event, Item, Layer
from dynalayer.values import copy_item

LABEL = "2026-01-02T03:04:05.678"
WIDTH = 256

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


def typed(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as boto3's low-level client gives it."""
    found: dict[str, Any] = {name: _serialize(value) for name, value in item.items()}
    return {name: _unwrapped(value) for name, value in found.items()}


def _unwrapped(value: dict[str, Any]) -> dict[str, Any]:
    ((kind, inner),) = value.items()
    if kind == "M":
        return {"M": {name: _unwrapped(each) for name, each in inner.items()}}
    if kind == "L":
        return {"L": [_unwrapped(each) for each in inner]}
    return value


def plain(row: Mapping[str, Any]) -> Item:
    """The other way round, as boto3's resource does it; binary as bytes."""
    return copy_item({name: _deserialize(value) for name, value in row.items()})


def arn_of(table: str, label: str = LABEL) -> str:
    return f"arn:aws:dynamodb:eu-west-1:123456789012:table/{table}/stream/{label}"


def lambda_event(records: Iterable[Mapping[str, Any]], arn: str) -> dict[str, Any]:
    """Records of `GetRecords` as AWS Lambda hands them to a function."""

    def said(value: Any) -> Any:
        return b64encode(value).decode() if isinstance(value, bytes) else value.timestamp()

    given = [{**record, "eventSourceARN": arn} for record in records]
    event: dict[str, Any] = json.loads(json.dumps({"Records": given}, default=said))
    return event


def expected(records: Iterable[Mapping[str, Any]], partition: str = "pk", id: str = "sk") -> dict[Any, list[Any]]:
    """What the layer should have of each of its places: types and items, in order, of attributes that tell places."""
    found: dict[Any, list[Any]] = {}
    for record in records:
        told = record["dynamodb"]
        new = plain(told["NewImage"]) if "NewImage" in told else None
        old = plain(told["OldImage"]) if "OldImage" in told else plain(told["Keys"])
        before = (old.get(partition), old.get(id))
        after = (new[partition], new[id]) if new is not None else None
        if record["eventName"] == "REMOVE" or (record["eventName"] == "MODIFY" and before != after):
            found.setdefault(before, []).append(("DELETE", None))
        if after is not None:
            found.setdefault(after, []).append(("PUT" if record["eventName"] == "INSERT" else "UPDATE", new))
    return found


def had(layer: Layer, events: Sequence[Event] | None = None) -> dict[Any, list[Any]]:
    """What the layer has, in the same form."""
    found: dict[Any, list[Any]] = {}
    if events is None:
        events = [event for partition in layer.partitions() for event in layer.history(partition)]
    for event in events:
        told = (event.type, None if event.type == "DELETE" else event.item)
        found.setdefault((event.partition, event.id), []).append(told)
    return found


@dataclass
class FakeShard:
    """A shard, for the items whose hash is in its range."""

    name: str
    parent: str | None
    low: int
    high: int
    starts: int
    ends: int | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    trimmed: int = 0
    gone: bool = False


class Fake:
    """A table and its stream, and boto3's client of it."""

    def __init__(self, name: str = "users", keys: Sequence[str] = ("pk", "sk"), seed: int = 0) -> None:
        self.name = name
        self.keys = keys
        self.label = LABEL
        self.view = "NEW_AND_OLD_IMAGES"
        self.status = "ENABLED"
        self.items: dict[Any, Item] = {}
        self.records: list[dict[str, Any]] = []
        self.shards: list[FakeShard] = []
        self.created = datetime.now(UTC)
        self.page = 3  # records of a page, at most
        self.listed = 2  # shards of a page
        self.expire = 0.0  # how likely an iterator has run out
        self.calls: list[tuple[str, Any]] = []
        self._random = random.Random(seed)
        self._sequence = 10**26
        self._iterators: dict[str, tuple[FakeShard, int]] = {}
        self.begin_shard(None, 0, WIDTH)

    @property
    def arn(self) -> str:
        return arn_of(self.name, self.label)

    # The table

    def put(self, item: Item) -> None:
        key = tuple(item[name] for name in self.keys)
        old = self.items.get(key)
        self.items[key] = item
        self._record("INSERT" if old is None else "MODIFY", item, old)

    def delete(self, *key: Any, identity: Mapping[str, str] | None = None) -> None:
        old = self.items.pop(key, None)
        if old is not None:
            self._record("REMOVE", None, old, identity)

    def _record(self, name: str, new: Item | None, old: Item | None, identity: Mapping[str, str] | None = None) -> None:
        self._sequence += self._random.randint(1, 10**6)
        of = new if new is not None else old
        assert of is not None
        keys = {each: of[each] for each in self.keys}
        told: dict[str, Any] = {
            "ApproximateCreationDateTime": self.created,
            "Keys": typed(keys),
            "SequenceNumber": str(self._sequence),
            "SizeBytes": 100,
            "StreamViewType": self.view,
        }
        if new is not None and "NEW" in self.view:
            told["NewImage"] = typed(new)
        if old is not None and "OLD" in self.view:
            told["OldImage"] = typed(old)
        record: dict[str, Any] = {
            "eventID": hashlib.md5(str(self._sequence).encode()).hexdigest(),  # noqa: S324 -- as the service's look
            "eventName": name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "eu-west-1",
            "dynamodb": told,
        }
        if identity is not None:
            record["userIdentity"] = dict(identity)
        self.records.append(record)
        self.shard_of(keys).records.append(record)

    # Shards

    def begin_shard(self, parent: str | None, low: int, high: int) -> FakeShard:
        name = f"shardId-{len(self.shards):020d}-{self._random.getrandbits(32):08x}"
        shard = FakeShard(name, parent, low, high, self._sequence + 1)
        self.shards.append(shard)
        return shard

    def shard_of(self, keys: Mapping[str, Any]) -> FakeShard:
        place = hashlib.md5(repr(sorted(keys.items())).encode()).digest()[0]  # noqa: S324 -- no secret
        (found,) = (each for each in self.shards if each.ends is None and each.low <= place < each.high)
        return found

    def split(self, shard: FakeShard) -> None:
        """End a shard; two go on from there."""
        shard.ends = self._sequence
        middle = (shard.low + shard.high) // 2
        for low, high in ((shard.low, middle), (middle, shard.high)):
            if low < high:
                self.begin_shard(shard.name, low, high)

    def split_one(self) -> None:
        self.split(self._random.choice([each for each in self.shards if each.ends is None]))

    # The client

    def list_streams(self, **arguments: Any) -> dict[str, Any]:
        if arguments["TableName"] != self.name:
            raise refusal("ResourceNotFoundException", "ListStreams")
        return {"Streams": [{"StreamArn": self.arn, "TableName": self.name, "StreamLabel": self.label}]}

    def describe_stream(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append(("describe_stream", arguments.get("ExclusiveStartShardId")))
        if arguments["StreamArn"] != self.arn:
            raise refusal("ResourceNotFoundException", "DescribeStream")
        there = [each for each in self.shards if not each.gone]
        names = [each.name for each in there]
        first = arguments.get("ExclusiveStartShardId")
        begin = names.index(first) + 1 if first else 0
        told = there[begin : begin + self.listed]
        more = begin + self.listed < len(there)
        return {
            "StreamDescription": {
                "StreamArn": self.arn,
                "StreamLabel": self.label,
                "StreamStatus": self.status,
                "StreamViewType": self.view,
                "TableName": self.name,
                "KeySchema": [
                    {"AttributeName": name, "KeyType": kind}
                    for name, kind in zip(self.keys, ("HASH", "RANGE"), strict=False)
                ],
                "Shards": [_told(each) for each in told],
                **({"LastEvaluatedShardId": told[-1].name} if more else {}),
            }
        }

    def get_shard_iterator(self, **arguments: Any) -> dict[str, Any]:
        shard = next((each for each in self.shards if each.name == arguments["ShardId"] and not each.gone), None)
        if shard is None or arguments["StreamArn"] != self.arn:
            raise refusal("ResourceNotFoundException", "GetShardIterator")
        kind = arguments["ShardIteratorType"]
        self.calls.append((kind, shard.name))
        if kind == "LATEST":
            place = len(shard.records)
        elif kind == "TRIM_HORIZON":
            place = shard.trimmed
        else:
            after = int(arguments["SequenceNumber"])
            place = sum(int(each["dynamodb"]["SequenceNumber"]) <= after for each in shard.records)
            if place < shard.trimmed:
                raise refusal("TrimmedDataAccessException", "GetShardIterator")
        return {"ShardIterator": self._iterator(shard, place)}

    def _iterator(self, shard: FakeShard, place: int) -> str:
        name = f"{len(self._iterators)}|{shard.name}"
        self._iterators[name] = (shard, place)
        return name

    def get_records(self, **arguments: Any) -> dict[str, Any]:
        shard, place = self._iterators[arguments["ShardIterator"]]
        self.calls.append(("get_records", shard.name))
        if shard.gone:
            raise refusal("ResourceNotFoundException", "GetRecords")
        if self._random.random() < self.expire:
            raise refusal("ExpiredIteratorException", "GetRecords")
        if place < shard.trimmed:
            raise refusal("TrimmedDataAccessException", "GetRecords")
        found = shard.records[place : place + self._random.randint(0, self.page)]
        place += len(found)
        ended = shard.ends is not None and place == len(shard.records)
        return {"Records": found, **({} if ended else {"NextShardIterator": self._iterator(shard, place)})}


def _told(shard: FakeShard) -> dict[str, Any]:
    numbers = {"StartingSequenceNumber": str(shard.starts)}
    if shard.ends is not None:
        numbers["EndingSequenceNumber"] = str(shard.ends)
    return {
        "ShardId": shard.name,
        "SequenceNumberRange": numbers,
        **({"ParentShardId": shard.parent} if shard.parent else {}),
    }


def refusal(code: str, operation: str, status: int = 400) -> ClientError:
    """An error as the service gives it."""
    response: Any = {"Error": {"Code": code, "Message": "as told"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)
