"""The faulty DynamoDB does what it says it does: each fault and each limit, seen by a client of the service."""

from __future__ import annotations

import http.client
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

import servers
from dynalayer import ConfigurationError
from dynalayer.testing.dynamodb import Faults, FaultyDynamoDB
from dynalayer.testing.dynamodb.keys import TableKeys, key_conditions
from dynalayer.testing.dynamodb.limits import (
    MAX_BATCH_BYTES,
    MAX_ITEM_BYTES,
    MAX_PAGE_BYTES,
    Refused,
    cut_batch,
    item_size,
    value_size,
)
from servers import dynamodb_client, fresh_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

INDEX = "cursor-index"
SLOWEST_FIRST = 571  # a seed by which the first of three late requests comes last, by far


@dataclass
class Clock:
    """A clock that the test moves."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A table in a service, a proxy in front of it, and a client of each."""

    proxy: FaultyDynamoDB
    client: DynamoDBClient
    direct: DynamoDBClient
    table: str
    clock: Clock = field(default_factory=Clock)

    def put(self, sk: str, *, pk: str = "eu", **more: Any) -> None:
        self.client.put_item(TableName=self.table, Item=item(sk, pk=pk, **more))

    def there(self) -> set[str]:
        """The sort keys of what is in the table, as the service itself says."""
        pages = self.direct.get_paginator("scan").paginate(TableName=self.table, ConsistentRead=True)
        return {found["sk"]["S"] for page in pages for found in page["Items"]}

    def pages(self, **query: Any) -> Iterator[list[Item]]:
        start: dict[str, Any] = {}
        while True:
            page: Any = self.client.query(TableName=self.table, **query, **start)
            yield page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def index(self, cursor: str, **more: Any) -> list[str]:
        """What the index shows under a cursor, page after page."""
        query = {"IndexName": INDEX, **where("cursor", cursor), **more}
        return [found["sk"]["S"] for page in self.pages(**query) for found in page]


def item(sk: str, *, pk: str = "eu", **more: Any) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}} | more


def where(name: str, value: str) -> dict[str, Any]:
    return {
        "KeyConditionExpression": "#name = :value",
        "ExpressionAttributeNames": {"#name": name},
        "ExpressionAttributeValues": {":value": {"S": value}},
    }


@contextmanager
def world(url: str, faults: Faults | None = None, **options: Any) -> Iterator[World]:
    clock = options.setdefault("clock", Clock())
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultyDynamoDB(url, faults=faults or Faults(), **options))
        client = stack.enter_context(closing(dynamodb_client(proxy.url)))
        direct = stack.enter_context(closing(dynamodb_client(url)))
        yield World(proxy, client, direct, stack.enter_context(fresh_table(direct)), clock)


@pytest.fixture(params=["moto_server", "dynamodb_local"])
def service(request: pytest.FixtureRequest) -> str:
    """The URL of each service in turn."""
    url: str = request.getfixturevalue(request.param)
    return url


def code_of(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def test_without_faults_a_client_sees_what_it_sees_without_the_proxy(service: str) -> None:
    with world(service) as at:
        name = at.table
        at.put("a", n={"N": "1"}, cursor={"S": "c"})
        at.client.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": name, "Item": item("b", cursor={"S": "c"})}},
                {
                    "Update": {
                        "TableName": name,
                        "Key": item("a"),
                        "UpdateExpression": "SET n = n + :one",
                        "ExpressionAttributeValues": {":one": {"N": "1"}},
                    }
                },
            ]
        )
        for client in (at.client, at.direct):
            assert client.get_item(TableName=name, Key=item("a"))["Item"] == item("a", n={"N": "2"}, cursor={"S": "c"})
            assert client.query(TableName=name, **where("pk", "eu"))["Count"] == 2
            assert client.query(TableName=name, IndexName=INDEX, **where("cursor", "c"))["Count"] == 2
            with pytest.raises(ClientError) as caught:
                client.put_item(TableName=name, Item=item("a"), ConditionExpression="attribute_not_exists(pk)")
            assert code_of(caught.value) == "ConditionalCheckFailedException"
        at.client.delete_item(TableName=name, Key=item("a"))
        assert at.there() == {"b"}
        assert at.proxy.told == {}
        assert at.proxy.requests["TransactWriteItems"] == 1


def test_a_lost_request_closes_the_connection_and_is_not_executed(service: str) -> None:
    with world(service, Faults(lost_request=1)) as at:
        with pytest.raises(ConnectionClosedError):
            at.put("a")
        assert at.there() == set()
        assert at.proxy.told == {"lost_request": 1}


def test_a_lost_answer_closes_the_connection_and_was_executed(service: str) -> None:
    with world(service, Faults(lost_answer=1)) as at:
        with pytest.raises(ConnectionClosedError):
            at.put("a")
        assert at.there() == {"a"}
        assert at.proxy.told == {"lost_answer": 1}


def test_a_late_request_closes_the_connection_and_takes_effect_later(service: str) -> None:
    with world(service, Faults(late_request=1, lateness=0.2)) as at:
        for sk in "abc":
            with pytest.raises(ConnectionClosedError):
                at.put(sk)
        at.proxy.settle()
        assert at.there() == {"a", "b", "c"}
        assert at.proxy.told == {"late_request": 3, "late_executed": 3}


def test_a_late_request_is_overtaken_by_what_was_asked_after_it(moto_server: str) -> None:
    with world(moto_server, Faults(late_request=1, lateness=2), seed=SLOWEST_FIRST) as at:
        for number in range(3):
            with pytest.raises(ConnectionClosedError):
                at.put("a", n={"N": str(number)})
        at.proxy.settle()
        assert at.direct.get_item(TableName=at.table, Key=item("a"))["Item"]["n"] == {"N": "0"}


def test_late_requests_are_discarded_at_the_end_and_counted(moto_server: str) -> None:
    with world(moto_server, Faults(late_request=1, lateness=1e6)) as at:
        with pytest.raises(ConnectionClosedError):
            at.put("a")
        at.proxy.close()
        assert at.there() == set()
        assert at.proxy.told == {"late_request": 1, "late_discarded": 1}


def test_a_late_answer_comes_and_a_client_without_patience_does_not_see_it(moto_server: str) -> None:
    with world(moto_server, Faults(late_answer=1, lateness=0.05)) as at:
        at.put("a")
        assert at.there() == {"a"}
        at.proxy.faults = Faults(late_answer=1, lateness=1e6)
        with closing(dynamodb_client(at.proxy.url, read_timeout=0.5)) as hasty, pytest.raises(ReadTimeoutError):
            hasty.put_item(TableName=at.table, Item=item("b"))
        until = time.monotonic() + 60
        while "b" not in at.there() and time.monotonic() < until:
            time.sleep(0.01)
        assert at.there() == {"a", "b"}
        assert at.proxy.told == {"late_answer": 2}


def test_what_is_throttled_is_not_executed_and_says_so_in_each_of_the_service_s_ways(moto_server: str) -> None:
    with world(moto_server, Faults(throttle=1)) as at:
        codes: Counter[str] = Counter()
        for number in range(60):
            with pytest.raises(ClientError) as caught:
                at.put(str(number))
            codes[code_of(caught.value)] += 1
        assert set(codes) == {
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "ThrottlingException",
            "TransactionConflictException",
        }
        assert at.there() == set()
        with pytest.raises(ClientError) as caught:
            at.client.describe_table(TableName=at.table)
        assert code_of(caught.value) == "ThrottlingException"
        assert at.proxy.told == {"throttle": 61}


def test_a_transaction_that_another_s_cancels_tells_a_reason_for_each_action(moto_server: str) -> None:
    with world(moto_server, Faults(throttle=1)) as at:
        seen = set()
        for _ in range(30):
            with pytest.raises(ClientError) as caught:
                at.client.transact_write_items(
                    TransactItems=[{"Put": {"TableName": at.table, "Item": item(sk)}} for sk in "abc"]
                )
            if code_of(caught.value) == "TransactionCanceledException":
                reasons: Any = caught.value.response
                codes = [reason["Code"] for reason in reasons["CancellationReasons"]]
                assert min(codes) == "None"
                assert len(codes) == 3
                seen.update(codes)
                assert f"[{', '.join(codes)}]" in str(caught.value)
        assert seen == {"None", "TransactionConflict", "ThrottlingError"}
        assert at.there() == set()


def test_of_what_fails_with_a_server_error_a_part_was_executed(service: str) -> None:
    with world(service, Faults(server_error=1)) as at:
        for number in range(20):
            with pytest.raises(ClientError) as caught:
                at.put(str(number))
            assert code_of(caught.value) == "InternalServerError"
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert 0 < len(at.there()) < 20


def test_a_batch_leaves_a_part_unprocessed_and_never_all_of_it(service: str) -> None:
    with world(service, Faults(unprocessed=1), seed=1) as at:
        left: Any = {at.table: [{"PutRequest": {"Item": item(f"{number:02}")}} for number in range(20)]}
        rounds = 0
        while left:
            before = len(left[at.table])
            left = at.client.batch_write_item(RequestItems=left).get("UnprocessedItems")
            assert len(left[at.table] if left else []) < before
            assert len(at.there()) == 20 - len(left[at.table] if left else [])
            rounds += 1
        wanted: Any = {at.table: {"Keys": [item(sk) for sk in sorted(at.there())], "ConsistentRead": True}}
        found: list[str] = []
        while wanted:
            answer = at.client.batch_get_item(RequestItems=wanted)
            assert answer["Responses"][at.table]
            found += [each["sk"]["S"] for each in answer["Responses"][at.table]]
            wanted = answer.get("UnprocessedKeys")
            assert not wanted or wanted[at.table]["ConsistentRead"]
            rounds += 1
        assert sorted(found) == [f"{number:02}" for number in range(20)]
        assert at.proxy.told == {"unprocessed": rounds - 2}  # a batch of one is whole


def test_short_pages_give_everything_once_and_in_order(service: str) -> None:
    with world(service, Faults(short_page=0.9), seed=2) as at:
        expected = [f"{number:02}" for number in range(30)]
        for sk in expected:
            at.direct.put_item(TableName=at.table, Item=item(sk, cursor={"S": "c"}))
        lengths: set[int] = set()
        for more in ({}, {"Limit": 7}, {"ConsistentRead": True}):
            pages = list(at.pages(**where("pk", "eu"), **more))
            assert [found["sk"]["S"] for page in pages for found in page] == expected
            lengths.update(map(len, pages))
        assert 0 in lengths
        assert len(lengths) > 3
        assert [
            found["sk"]["S"] for page in at.pages(**where("pk", "eu"), ScanIndexForward=False) for found in page
        ] == (expected[::-1])
        assert sorted(at.index("c")) == expected
        scanned = at.client.get_paginator("scan").paginate(TableName=at.table)
        assert sorted(found["sk"]["S"] for page in scanned for found in page["Items"]) == expected


def test_a_page_is_never_longer_than_it_was_asked_for(moto_server: str) -> None:
    with world(moto_server, Faults(short_page=1, index_lag=10)) as at:
        for number in range(9):
            at.put(str(number), pk=str(number), cursor={"S": "c"})
        at.clock.now += 11
        for number in range(0, 9, 2):
            at.client.delete_item(TableName=at.table, Key=item(str(number), pk=str(number)))
        for limit in (1, 2, 4):
            pages = list(at.pages(IndexName=INDEX, **where("cursor", "c"), Limit=limit))
            assert max(map(len, pages)) <= limit


def test_an_index_shows_a_write_after_a_while(service: str) -> None:
    with world(service, Faults(index_lag=10)) as at:
        shown = set()
        for number in range(20):
            at.put(str(number), cursor={"S": "c"})
        shown.add(len(at.index("c")))
        for _ in range(10):
            at.clock.now += 1
            shown.add(len(at.index("c")))
        assert len(shown) > 3  # each has a lag of its own
        assert sorted(at.index("c")) == sorted(map(str, range(20)))
        assert at.proxy.told["index_hidden"] > 0
        assert len(at.there()) == 20


def test_an_index_shows_what_is_gone_for_a_while_in_its_place(service: str) -> None:
    with world(service, Faults(index_lag=10)) as at:
        partitions = [f"p{number}" for number in range(9)]
        for pk in partitions:
            at.put("1", pk=pk, cursor={"S": "pending"})
        at.clock.now += 11
        change = {
            "UpdateExpression": "SET #cursor = :cursor",
            "ExpressionAttributeNames": {"#cursor": "cursor"},
            "ExpressionAttributeValues": {":cursor": {"S": "done"}},
        }

        def shown(cursor: str, **more: Any) -> list[str]:
            query = {"IndexName": INDEX, **where("cursor", cursor), **more}
            return [found["pk"]["S"] for page in at.pages(**query) for found in page]

        for pk in partitions[::2]:
            at.client.update_item(TableName=at.table, Key=item("1", pk=pk), **change)  # type: ignore[arg-type]
        for pk in partitions[1::4]:
            at.client.delete_item(TableName=at.table, Key=item("1", pk=pk))
        stayed = partitions[3::4]
        for more in (
            {},
            {"Limit": 1},
            {"Limit": 4},
            {"ProjectionExpression": "pk"},
            {"ProjectionExpression": "sk, pk"},
        ):
            assert shown("pending", **more) == partitions
        assert shown("pending", ScanIndexForward=False) == partitions[::-1]
        assert shown("done") == []
        at.clock.now += 5
        assert set(stayed) < set(shown("pending")) < set(partitions)
        assert set(shown("done")) | set(shown("pending")) | set(partitions[1::4]) == set(partitions)
        at.clock.now += 6
        assert shown("pending") == stayed
        assert shown("done") == partitions[::2]
        assert at.proxy.told["index_kept"] > 0


def test_a_projection_has_no_more_and_no_less_than_was_asked_for(service: str) -> None:
    with world(service, Faults(index_lag=10)) as at:
        for sk in "ab":
            at.put(sk, pk=sk, cursor={"S": "c"})
        at.clock.now += 11
        at.client.delete_item(TableName=at.table, Key=item("a", pk="a"))
        at.put("c", pk="c", cursor={"S": "c"})
        query = {"IndexName": INDEX, **where("cursor", "c")}
        for names, expected in [
            ("sk", [{"sk": {"S": "a"}}, {"sk": {"S": "b"}}]),
            ("#name", [{"cursor": {"S": "c"}}] * 2),
            ("pk, sk", [item("a", pk="a"), item("b", pk="b")]),
        ]:
            assert [found for page in at.pages(**query, ProjectionExpression=names) for found in page] == expected
        assert at.proxy.told == {"index_hidden": 3, "index_kept": 3}


def test_a_query_that_leaps_from_entry_to_entry_meets_those_that_are_gone(moto_server: str) -> None:
    with world(moto_server, Faults(index_lag=10)) as at:
        for pk in "bdf":
            at.put("1", pk=pk, cursor={"S": "c"})
        at.clock.now += 11
        for pk in "bdf":
            at.client.delete_item(TableName=at.table, Key=item("1", pk=pk))
        found, after = [], " "
        while True:
            page = at.client.query(
                TableName=at.table,
                IndexName=INDEX,
                Limit=1,
                KeyConditionExpression="#c = :c AND pk > :after",
                ExpressionAttributeNames={"#c": "cursor"},
                ExpressionAttributeValues={":c": {"S": "c"}, ":after": {"S": after}},
            )
            if not page["Items"]:
                break
            found += [after := page["Items"][0]["pk"]["S"]]
        assert found == ["b", "d", "f"]


def test_an_index_never_hides_what_it_has_shown_and_is_as_it_was(service: str) -> None:
    with world(service, Faults(index_lag=10)) as at:
        at.put("a", cursor={"S": "c"})
        at.clock.now += 11
        at.put("a", cursor={"S": "c"}, extra={"S": "x"})
        at.client.update_item(
            TableName=at.table,
            Key=item("a"),
            UpdateExpression="SET extra = :y",
            ExpressionAttributeValues={":y": {"S": "y"}},
        )
        with pytest.raises(ClientError):
            at.client.put_item(TableName=at.table, Item=item("a"), ConditionExpression="attribute_not_exists(pk)")
        assert at.index("c") == ["a"]
        assert at.proxy.told == {}


def test_writes_to_one_item_come_to_the_index_in_their_order(moto_server: str) -> None:
    with world(moto_server, Faults(index_lag=10), seed=5) as at:
        for number in range(8):
            at.put("a", cursor={"S": str(number)})
            at.clock.now += 0.01
        seen = []
        for _ in range(1000):
            shown = [number for number in range(8) if at.proxy._indexes._views(at.table) and at.index(str(number))]
            if shown:
                assert len(shown) == 1
                seen += shown
            if at.index("7"):
                break
            at.clock.now += 0.5
        assert seen == sorted(seen)
        assert at.index("7") == ["a"]


@pytest.mark.parametrize("how", ["batch", "transaction"])
def test_an_index_lags_behind_batches_and_transactions_too(service: str, how: str) -> None:
    with world(service, Faults(index_lag=10)) as at:
        items = [item(sk, cursor={"S": "c"}) for sk in "abc"]
        if how == "batch":
            at.client.batch_write_item(RequestItems={at.table: [{"PutRequest": {"Item": each}} for each in items]})
        else:
            at.client.transact_write_items(
                TransactItems=[{"Put": {"TableName": at.table, "Item": each}} for each in items]
            )
        assert at.index("c") == []
        counted = {"TableName": at.table, "IndexName": INDEX, "Select": "COUNT", **where("cursor", "c")}
        assert at.client.query(**counted)["Count"] == 0
        at.clock.now += 11
        assert sorted(at.index("c")) == ["a", "b", "c"]
        assert at.client.query(**counted)["Count"] == 3


def test_in_a_quiet_time_late_requests_are_over_and_indexes_show_everything(service: str) -> None:
    faults = Faults(late_request=0.5, lateness=0.3, index_lag=1000)
    with world(service, faults, seed=1) as at:
        for number in range(10):
            with suppress(ConnectionClosedError):
                at.put(str(number), cursor={"S": "c"})
        with at.proxy.quiet():
            assert sorted(at.index("c")) == sorted(map(str, range(10)))
            at.put("x", cursor={"S": "c"})
            assert "x" in at.index("c")
        assert at.proxy.faults == faults
        assert at.proxy.told["late_request"] == at.proxy.told["late_executed"] > 0
        at.proxy.faults = Faults(late_request=1, lateness=1e6)
        with suppress(ConnectionClosedError):
            at.put("y")
        with pytest.raises(TimeoutError):
            at.proxy.settle(0.01)


def test_nothing_expires_before_its_ttl_and_everything_after(service: str) -> None:
    with world(service) as at:
        now = int(at.clock.now)
        at.put("none")
        at.put("text", ttl={"S": str(now - 10)})
        at.put("ages ago", ttl={"N": str(now - 6 * 365 * 24 * 3600)})
        for seconds in (-10, 0, 1, 10, 20, 30):
            at.put(str(seconds), ttl={"N": str(now + seconds)})
        stay = {"none", "text", "ages ago"}
        assert at.proxy.expire_some() == 1
        assert at.there() == stay | {"0", "1", "10", "20", "30"}
        assert at.proxy.expire_some() == 0
        at.clock.now = now + 1
        assert at.proxy.expire_some() == 1
        assert at.there() == stay | {"1", "10", "20", "30"}
        at.clock.now = now + 100
        assert at.proxy.expire_some(2) == 2
        assert len(at.there()) == len(stay) + 2
        assert at.proxy.expire_some() == 2
        assert at.there() == stay
        assert at.proxy.told == {"expired": 6}


def test_items_expire_in_an_order_that_the_seed_decides(moto_server: str) -> None:
    left = []
    for seed in (1, 1, 2):
        with world(moto_server, seed=seed) as at:
            for number in range(8):
                at.put(str(number), ttl={"N": str(int(at.clock.now) - 1 - number)})
            assert at.proxy.expire_some(4) == 4
            left.append(at.there())
    assert left[0] == left[1] != left[2]


def test_what_is_given_another_ttl_while_it_expires_stays(moto_server: str) -> None:
    with world(moto_server) as at:
        for sk in ("raised", "removed", "left"):
            at.put(sk, ttl={"N": str(int(at.clock.now) - 5)})
        expire_one = at.proxy._expiry._delete
        changed: list[str] = []

        def change_all_first(table: str, body: Any, rng: random.Random) -> Any:
            if not changed:
                changed.append(table)
                at.direct.put_item(TableName=at.table, Item=item("raised", ttl={"N": str(int(at.clock.now) + 5)}))
                at.direct.put_item(TableName=at.table, Item=item("removed"))
            return expire_one(table, body, rng)

        at.proxy._expiry._delete = change_all_first
        assert at.proxy.expire_some() == 1
        assert at.there() == {"raised", "removed"}


def test_items_expire_by_themselves_and_an_index_follows(moto_server: str) -> None:
    with world(moto_server, Faults(index_lag=1000), expire_every=0.02) as at:
        for number in range(12):
            at.put(str(number), pk=str(number), cursor={"S": "c"}, ttl={"N": str(int(at.clock.now) + 1001)})
        at.clock.now += 1001
        time.sleep(0.1)
        assert len(at.there()) == 12
        assert len(at.index("c")) == 12
        at.clock.now += 1
        until = time.monotonic() + 60
        while at.there() and time.monotonic() < until:
            time.sleep(0.01)
        assert at.there() == set()
        assert len(at.index("c")) == 12
        at.clock.now += 1001
        assert at.index("c") == []
        at.proxy.close()
        assert at.proxy.told["expired"] == 12


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    assert code_of(caught.value) == "ValidationException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return caught.value.response["Error"]["Message"]


def test_what_is_over_a_limit_of_the_service_is_refused_and_not_executed(service: str) -> None:
    with world(service) as at:
        name, large = at.table, {"B": b"x" * MAX_ITEM_BYTES}

        def transact(*actions: Any) -> Callable[[], object]:
            return lambda: at.client.transact_write_items(TransactItems=actions)

        def put(each: Item, **more: Any) -> Any:
            return {"Put": {"TableName": name, "Item": each, **more}}

        def delete(each: Item) -> Any:
            return {"Delete": {"TableName": name, "Key": each}}

        def batch(*items: Item) -> Callable[[], object]:
            writes: Any = [{"PutRequest": {"Item": each}} for each in items]
            return lambda: at.client.batch_write_item(RequestItems={name: writes})

        def get(*keys: Item) -> Callable[[], object]:
            return lambda: at.client.batch_get_item(RequestItems={name: {"Keys": keys}})

        def set_cursor(value: str) -> Any:
            return {
                "TableName": name,
                "Key": item("a"),
                "UpdateExpression": "SET extra = :o, #c = :c",
                "ExpressionAttributeNames": {"#c": "cursor"},
                "ExpressionAttributeValues": {":c": {"S": value}, ":o": {"S": "x"}},
            }

        many = [item(str(number)) for number in range(101)]
        big = [item(str(number), n={"B": b"x" * 390_000}) for number in range(11)]
        long = "attribute_not_exists(pk)" + " AND attribute_not_exists(pk)" * 200
        for call, told in [
            (lambda: at.put("a", n=large), "409600"),
            (lambda: at.put("a", n={"L": [{"M": {"x": large}}]}), "409600"),
            (batch(item("a", n=large)), "409600"),
            (transact(put(item("a", n=large))), "409600"),
            (transact(*(put(each) for each in many)), "100"),
            (transact(*(put(each) for each in big)), "4194304"),
            (transact(put(item("a")), delete(item("a"))), "multiple operations on one item"),
            (batch(*many[:26]), "25"),
            (batch(item("a"), item("a")), "duplicates"),
            (get(*many), "100"),
            (get(item("a"), item("a")), "duplicates"),
            (lambda: at.put(""), "empty string value. Key: sk"),
            (lambda: at.put("a", pk=""), "empty string value. Key: pk"),
            (lambda: at.client.get_item(TableName=name, Key=item("")), "Key: sk"),
            (lambda: at.client.query(TableName=name, **where("pk", "")), "Key: pk"),
            (lambda: at.put("a", pk="é" * 1025), "2048"),
            (lambda: at.put("x" * 1025), "1024"),
            (lambda: at.client.delete_item(TableName=name, Key=item("x" * 1025)), "1024"),
            (lambda: at.put("a", cursor={"S": ""}), "IndexName: cursor-index, IndexKey: cursor"),
            (lambda: at.put("a", cursor={"S": "x" * 2049}), "2048"),
            (lambda: at.put("a", pk="x" * 1025, cursor={"S": "c"}), "1024"),
            (lambda: at.client.update_item(**set_cursor("")), "IndexName: cursor-index, IndexKey: cursor"),
            (transact({"Update": set_cursor("")}), "IndexName: cursor-index, IndexKey: cursor"),
            (lambda: at.client.put_item(TableName=name, Item=item("a"), ConditionExpression=long), "4096"),
            (transact(put(item("a"), ConditionExpression=long)), "4096"),
            (
                lambda: at.client.query(
                    TableName=name,
                    IndexName=INDEX,
                    ConsistentRead=True,
                    **where("cursor", "c"),
                ),
                "onsistent read",
            ),
        ]:
            assert told in refused(call), told
        assert at.there() == set()
        assert at.proxy.told == {"limit": 26}


def test_what_is_just_within_the_limits_is_taken(moto_server: str) -> None:
    with world(moto_server) as at:
        name = at.table
        at.put("x" * 1024, pk="é" * 512, cursor={"S": "c" * 2048})  # the partition key is the index's sort key
        at.client.transact_write_items(
            TransactItems=[{"Put": {"TableName": name, "Item": item(str(number))}} for number in range(100)]
        )
        at.client.batch_write_item(
            RequestItems={name: [{"PutRequest": {"Item": item(f"b{number}")}} for number in range(25)]}
        )
        asked = [item(str(number)) for number in range(100)]
        assert len(at.client.batch_get_item(RequestItems={name: {"Keys": asked}})["Responses"][name]) == 100
        assert at.proxy.told == {}


def test_the_largest_item_is_taken_and_not_a_byte_more(dynamodb_local: str) -> None:
    with world(dynamodb_local) as at:
        room = MAX_ITEM_BYTES - len("pkeuskan")
        at.put("a", n={"B": b"x" * room})
        assert "409600" in refused(lambda: at.put("a", n={"B": b"x" * (room + 1)}))
        at.put("a", n={"S": "é" * (room // 2)})
        assert at.proxy.told == {"limit": 1}


def test_a_page_has_at_most_a_megabyte_and_goes_on_where_it_ends(service: str) -> None:
    with world(service) as at:
        for number in range(7):
            at.direct.put_item(TableName=at.table, Item=item(str(number), n={"S": "é" * 190_000}, cursor={"S": "c"}))
        for more in ({}, {"ProjectionExpression": "n"}, {"Limit": 6}):
            pages = list(at.pages(**where("pk", "eu"), **more))
            assert [len(page) for page in pages] == [2, 2, 2, 1]
            assert all(sum(map(item_size, page)) <= MAX_PAGE_BYTES for page in pages)
        scanned = list(at.client.get_paginator("scan").paginate(TableName=at.table))
        assert sorted(each["sk"]["S"] for page in scanned for each in page["Items"]) == list("0123456")
        assert all(len(page["Items"]) <= 2 for page in scanned)


def test_a_batch_read_gives_at_most_16_megabytes_and_names_the_rest() -> None:
    items = [item(str(number), n={"S": "x" * 400_000}) for number in range(44)]
    answer: dict[str, Any] = {"Responses": {"few": items[:1], "many": items[1:]}, "UnprocessedKeys": {}}
    asked = {"few": {"Keys": []}, "many": {"Keys": [], "ConsistentRead": True}}
    assert cut_batch(answer, asked, lambda _: TableKeys("pk", "sk"))
    assert answer["Responses"] == {"few": items[:1], "many": items[1:41]}
    left = [item(str(number)) for number in range(41, 44)]
    assert answer["UnprocessedKeys"] == {"many": {"Keys": left, "ConsistentRead": True}}
    assert sum(item_size(each) for part in answer["Responses"].values() for each in part) <= MAX_BATCH_BYTES
    assert not cut_batch(answer, asked, lambda _: TableKeys("pk", "sk"))


def test_a_request_that_is_too_large_altogether_is_refused_before_it_is_read(moto_server: str) -> None:
    with world(moto_server) as at:
        address = urlsplit(at.proxy.url).netloc
        with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
            connection.request("POST", "/", b"x" * (18 << 20), {"X-Amz-Target": "DynamoDB_20120810.PutItem"})
            response = connection.getresponse()
            assert (response.status, b"too large" in response.read()) == (413, True)


def test_what_is_no_request_is_the_endpoint_s_to_refuse(moto_server: str) -> None:
    with world(moto_server) as at:
        address = urlsplit(at.proxy.url).netloc
        for body in (b"{", b"[]", b"{}", b'{"TableName": 1, "TransactItems": [1]}', b'{"RequestItems": [1]}'):
            for operation in ("PutItem", "Query", "BatchGetItem", "BatchWriteItem", "TransactWriteItems"):
                at.proxy.faults = Faults(unprocessed=1, short_page=1, index_lag=1)
                with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
                    connection.request("POST", "/", body, {"X-Amz-Target": f"DynamoDB_20120810.{operation}"})
                    response = connection.getresponse()
                    assert b"proxy itself" not in response.read(), (operation, body)
        assert "broken" not in at.proxy.told


@pytest.mark.parametrize("minutes", [-16, -14, 14, 16])
def test_a_request_signed_too_long_ago_or_too_far_ahead_is_refused(moto_server: str, minutes: int) -> None:
    with world(moto_server, signing_clock=lambda: time.time() + minutes * 60) as at:
        if abs(minutes) < 15:
            at.put("a")
            assert at.there() == {"a"}
            return
        with pytest.raises(ClientError) as caught:
            at.put("a")
        assert code_of(caught.value) == "InvalidSignatureException"
        assert at.there() == set()
        assert at.proxy.told == {"signature": 1}


def test_a_late_request_that_comes_too_late_is_refused(moto_server: str) -> None:
    moved = 0.0
    with world(moto_server, Faults(late_request=1, lateness=2), signing_clock=lambda: time.time() + moved) as at:
        with pytest.raises(ConnectionClosedError):
            at.put("a")
        moved = 16 * 60.0
        at.proxy.settle()
        assert at.there() == set()
        assert at.proxy.told == {"late_request": 1, "late_executed": 1, "signature": 1}


def outcomes(url: str, seed: int) -> tuple[list[str], dict[str, int]]:
    faults = Faults(lost_request=0.1, lost_answer=0.1, throttle=0.2, server_error=0.1, short_page=0.5, unprocessed=0.5)
    seen = []
    with world(url, faults, seed=seed) as at:
        for number in range(12):
            for act in (
                lambda number=number: at.put(str(number)),
                lambda: at.client.query(TableName=at.table, **where("pk", "eu"))["Count"],
                lambda: len(
                    at.client.batch_get_item(RequestItems={at.table: {"Keys": [item("0"), item("1")]}})["Responses"]
                ),
            ):
                try:
                    seen.append(f"{act()}")
                except ClientError as error:
                    seen.append(code_of(error))
                except ConnectionClosedError:
                    seen.append("closed")
        return seen, at.proxy.told


def test_the_same_seed_brings_the_same_faults_and_another_others(moto_server: str) -> None:
    first = outcomes(moto_server, 7)
    assert outcomes(moto_server, 7) == first
    assert outcomes(moto_server, 8) != first
    assert set(first[1]) >= {"lost_request", "lost_answer", "throttle", "server_error", "short_page", "unprocessed"}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"throttle": 1.1}, {"lost_answer": -0.1}, {"lateness": -1}, {"index_lag": float("inf")}),
        *({"lost_answer": "x"}, {"throttle": None}, {"lost_request": True}, {"lateness": "1"}),
    ],
    ids=str,
)
def test_faults_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Faults(**wrong)
    with pytest.raises(ConfigurationError):
        replace(Faults(), **wrong)


def test_an_endpoint_that_is_none_is_refused() -> None:
    for url in ("localhost:8000", "ftp://localhost", "http://"):
        with pytest.raises(ConfigurationError, match="no URL"):
            FaultyDynamoDB(url)


def test_an_endpoint_that_does_not_answer_is_told(aws_environment: None) -> None:
    with (
        FaultyDynamoDB(f"http://127.0.0.1:{servers.free_port()}", seed=4) as proxy,
        closing(dynamodb_client(proxy.url)) as client,
    ):
        with pytest.raises(ClientError) as caught:
            client.list_tables()
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert proxy.told == {"unreachable": 1}
        assert repr(proxy) == f"FaultyDynamoDB({proxy.url!r}, seed=4)"


def test_a_closed_proxy_leaves_no_thread_and_no_port_behind(moto_server: str) -> None:
    before = set(threading.enumerate())
    with world(moto_server, Faults(late_request=0.5, lateness=0.1), expire_every=0.01) as at:
        for number in range(10):
            with suppress(ConnectionClosedError):
                at.put(str(number))
        at.proxy.close()
        at.proxy.close()
        left = [thread.name for thread in set(threading.enumerate()) - before if "process_request" not in thread.name]
        assert left == []
        with FaultyDynamoDB(moto_server, port=int(at.proxy.url.rpartition(":")[2])) as again:
            assert again.url == at.proxy.url


def test_many_threads_are_served_at_once_and_every_fault_is_counted(
    moto_server: str, record_property: Callable[[str, object], None]
) -> None:
    with world(moto_server, Faults(lost_answer=0.2, throttle=0.2)) as at:
        failed: Counter[str] = Counter()

        def put(number: int) -> None:
            try:
                at.put(str(number))
            except ClientError:
                failed["throttle"] += 1
            except ConnectionClosedError:
                failed["lost_answer"] += 1

        begun = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(put, range(300)))
        record_property("requests a second through the faulty DynamoDB", round(300 / (time.perf_counter() - begun)))
        assert at.proxy.told == dict(failed)
        assert len(at.there()) == 300 - failed["throttle"]
        assert at.proxy.requests["PutItem"] == 300


def test_of_several_conditional_writes_at_once_one_succeeds(service: str) -> None:
    with world(service) as at:
        won: list[int] = []
        start = threading.Barrier(8)

        def race(number: int) -> None:
            start.wait()
            for sk in "abcde":
                with suppress(ClientError):
                    at.client.put_item(
                        TableName=at.table, Item=item(sk), ConditionExpression="attribute_not_exists(pk)"
                    )
                    won.append(number)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(race, range(8)))
        assert len(won) == 5


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": ""}, 0),
        ({"S": "é"}, 2),
        ({"N": "0"}, 1),
        ({"N": "1"}, 2),
        ({"N": "-123"}, 4),
        ({"N": "12.50"}, 3),
        ({"N": "1E+100"}, 2),
        ({"N": "1" * 38}, 20),
        ({"B": "aGk="}, 2),
        ({"B": "aGkh"}, 3),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"SS": ["ab", "c"]}, 3),
        ({"NS": ["1", "22"]}, 4),
        ({"BS": ["aGk="]}, 2),
        ({"L": []}, 3),
        ({"L": [{"S": "ab"}, {"N": "1"}]}, 9),
        ({"M": {"key": {"S": "ab"}}}, 9),
    ],
)
def test_a_value_measures_what_the_service_says(value: dict[str, Any], size: int) -> None:
    assert value_size(value) == size
    assert item_size({"é": value}) == size + 2


def test_what_is_nested_too_deep_is_refused() -> None:
    value: dict[str, Any] = {"S": "x"}
    for _ in range(33):
        value = {"L": [value]}
    with pytest.raises(Refused, match="32"):
        value_size(value)


@pytest.mark.parametrize(
    ("expression", "held"),
    [
        ("#h = :b", "abc"),
        ("#h=:b AND r < :b", "a"),
        ("#h = :b and r <= :b", "ab"),
        ("(#h = :b) AND (r > :b)", "c"),
        ("r >= :b AND #h = :b", "bc"),
        ("#h = :b AND r BETWEEN :a AND :b", "ab"),
        ("#h = :b AND begins_with(r, :b)", "b"),
        ("#h = :b OR r = :b", None),
        ("#h = :b AND size(r) > :b", None),
        ("#h = :nope", None),
    ],
)
def test_key_conditions_are_understood_or_said_not_to_be(expression: str, held: str | None) -> None:
    conditions = key_conditions(
        {
            "KeyConditionExpression": expression,
            "ExpressionAttributeNames": {"#h": "h"},
            "ExpressionAttributeValues": {":a": {"S": "a"}, ":b": {"S": "b"}},
        }
    )
    if held is None:
        assert conditions is None
        return
    assert conditions is not None
    items = [{"h": {"S": "b"}, "r": {"S": r}} for r in "abc"]
    assert "".join(each["r"]["S"] for each in items if all(term.holds(each) for term in conditions)) == held


def test_importing_it_imports_no_client_of_aws() -> None:
    code = "import sys, dynalayer.testing.dynamodb; print(*{'boto3', 'botocore', 'moto'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "")


def test_a_killed_test_run_leaves_no_server_behind(tmp_path: Path) -> None:
    told = tmp_path / "told"
    child = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    run = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {servers.WATCHER!r}, sys.executable, '-c', {child!r}], "
        "stdin=subprocess.PIPE)\n"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", run])
    try:
        until = time.monotonic() + 60
        while not (told.exists() and re.fullmatch(r"\d+", told.read_text())) and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    pid = int(told.read_text())
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
