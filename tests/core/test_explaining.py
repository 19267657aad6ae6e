"""What `explain` says before is what is counted after, request by request and unit by unit.

What is counted is what DynamoDB Local tells, corrected where it is known to tell otherwise than the service: `Meter`.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import servers
from dynalayer import (
    Capabilities,
    ConfigurationError,
    Cost,
    DynamoDBEventLog,
    Item,
    Layer,
    Prices,
    Usage,
    hookimpl,
)
from dynalayer.explaining import Explanation
from dynalayer.units import item_size, write_units
from dynalayer.wrapping import WrappedAdapter
from dynalayer_local import LocalAdapter
from fakes import Ticking

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Event = dict[str, Any]

# A head with many segments is compressed, and so is the list of those that it retires, with names that are random: each
# may take a step of 1 KB more or less than was said. That is 2 units in the move's transaction, 1 more when the lease
# in the head's row is given back, and 2 for the list.
STEP = 5

NONE_FOUND = {True: 1.0, False: 0.5}  # read units of a query that finds nothing, strongly consistent or not


# What Local tells


class Meter:
    """What a client requests, by name; and what the service would tell that it consumed, where Local tells otherwise.

    DynamoDB Local, the build of 2020, differs from the service in three things, all else is the same:

    * In a transaction it tells four times what each action takes alone, in the table and in indexes; the service tells
      twice that in the table, and in indexes just that.
    * Of the actions of a transaction that take the same it counts one.
    * A query that finds nothing costs 0; with the service it costs the minimum, 1, or 0.5 where it is eventually
      consistent, as all of an index are.

    So each write is done again, action by action, in a copy of the table: there Local tells what each of them takes
    alone, and a transaction is made of that.

    Args:
        client: The client to look at. It is told what the service would have told it.
        direct: Another, for the copy.
        copy: A table as empty as the first; None where nobody looks at units.
    """

    def __init__(self, client: DynamoDBClient, direct: DynamoDBClient, copy: str | None) -> None:
        self.names: list[str] = []
        self._direct = direct
        self._copy = copy
        self._lock = threading.Lock()
        client.meta.events.register("before-parameter-build.dynamodb", self._asked)
        if copy is not None:
            client.meta.events.register("after-call.dynamodb", self._answered)

    def taken(self) -> Counter[str]:
        """Names of the requests since the last time."""
        with self._lock:
            names, self.names = self.names, []
        return Counter(names)

    def _asked(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: object) -> None:
        with self._lock:
            self.names.append(model.name)
        if "ReturnConsumedCapacity" in params:
            params["ReturnConsumedCapacity"] = "INDEXES"
        context["asked"] = params

    def _answered(
        self, http_response: Any, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: object
    ) -> None:
        if http_response.status_code != 200 or "ConsumedCapacity" not in parsed:
            return
        asked = context["asked"]
        if model.name == "Query" and not parsed["ScannedCount"]:
            parsed["ConsumedCapacity"]["CapacityUnits"] = NONE_FOUND[asked.get("ConsistentRead", False)]
        elif model.name in ("PutItem", "UpdateItem"):
            assert sum(self._again(model.name, asked)) == parsed["ConsumedCapacity"]["CapacityUnits"], (
                "the copy is none any more"
            )
        elif model.name == "TransactWriteItems":
            alone = [
                self._again(f"{kind}Item", arguments)
                for action in asked["TransactItems"]
                for kind, arguments in action.items()
            ]
            (told,) = parsed["ConsumedCapacity"]
            assert told["CapacityUnits"] == 4 * sum(sum(each) for each in set(alone)), "Local has changed"
            told["CapacityUnits"] = sum(2 * in_table + in_index for in_table, in_index in alone)

    def _again(self, name: str, arguments: Mapping[str, Any]) -> tuple[float, float]:
        """Do a write alone, in the copy; what it takes in the table and in the index."""
        calls: dict[str, Callable[..., Any]] = {
            "PutItem": self._direct.put_item,
            "UpdateItem": self._direct.update_item,
        }
        given = {**arguments, "TableName": self._copy, "ReturnConsumedCapacity": "INDEXES"}
        told = calls[name](**given)["ConsumedCapacity"]
        index = sum(each["CapacityUnits"] for each in told.get("GlobalSecondaryIndexes", {}).values())
        return told["Table"]["CapacityUnits"], index


# A table, and layers over it


class Table:
    """A table of a service, and layers that each are as a process of its own: nothing is remembered.

    Attributes:
        name: The table's name.
        url: The service.
        client: What they request with.
        direct: A client that nobody looks at.
        meter: Looks at the first.
        clock: Theirs.
    """

    def __init__(
        self, url: str, name: str, client: DynamoDBClient, direct: DynamoDBClient, meter: Meter, folder: Path
    ) -> None:
        self.name = name
        self.url = url
        self.client = client
        self.direct = direct
        self.meter = meter
        self.clock = Ticking()
        self._folder = folder

    @contextmanager
    def layer(self, *, pending_shards: int = 1, **options: Any) -> Iterator[Layer]:
        log = DynamoDBEventLog(self.name, "users", client=self.client, pending_shards=pending_shards)
        given: dict[str, Any] = {
            "table": "users",
            "get_item_unique_identifier": "sk",
            "get_item_partition": "pk",
            "events": log,
            "clock": self.clock,
            **options,
        }
        if "getter" not in given:
            given["storage"] = f"local://{self._folder}"
        with Layer(**given) as layer:
            self.meter.taken()
            yield layer

    def set(self, *batches: list[Event], **options: Any) -> None:
        with self.layer(**options) as layer:
            for batch in batches:
                layer.set(batch)

    def sync(self, **options: Any) -> None:
        with self.layer(**options) as layer:
            layer.sync()

    def explain(self, **options: Any) -> Explanation:
        with self.layer(**options) as layer:
            return layer.explain("eu")


@contextmanager
def tables(url: str, folder: Path, *, units: bool) -> Iterator[Table]:
    with ExitStack() as stack:
        client, direct = (stack.enter_context(closing(servers.dynamodb_client(url))) for _ in range(2))
        name = stack.enter_context(servers.fresh_table(direct))
        copy = stack.enter_context(servers.fresh_table(direct)) if units else None
        yield Table(url, name, client, direct, Meter(client, direct, copy), folder / "snapshots")


@pytest.fixture
def table(dynamodb_local: str, tmp_path: Path) -> Iterator[Table]:
    with tables(dynamodb_local, tmp_path, units=True) as table:
        yield table


@pytest.fixture
def moto(moto_server: str, tmp_path: Path) -> Iterator[Table]:
    """Where units do not matter."""
    with tables(moto_server, tmp_path, units=False) as table:
        yield table


def noise(size: int, seed: object) -> str:
    """Text that takes about three quarters as many bytes packed."""
    return b64encode(random.Random(f"{seed}").randbytes(size)).decode()[:size]


def put(number: int, size: int = 50) -> Event:
    return {"type": "PUT", "item": {"pk": "eu", "sk": f"user-{number:05d}", "body": noise(size, number)}}


def alone(*sizes: int, first: int = 0) -> list[list[Event]]:
    """A batch for each event."""
    return [[put(first + number, size)] for number, size in enumerate(sizes)]


def fold(table: Table, *batches: list[Event]) -> None:
    """A segment for each batch."""
    with table.layer() as layer:
        for batch in batches:
            layer.set(batch)
            layer.sync("eu")


# Comparing


def difference(before: Usage, after: Usage) -> Usage:
    return Usage(
        after.requests - before.requests,
        after.read_units - before.read_units,
        after.write_units - before.write_units,
        after.storage_reads - before.storage_reads,
        after.storage_writes - before.storage_writes,
    )


def counted(layer: Layer, operation: str, call: Callable[[], object]) -> Usage:
    """What a call makes the layer request, under the name of the operation and under no other."""
    before = layer.usage()
    call()
    after = layer.usage()
    assert {name for name, usage in after.items() if usage != before.get(name, Usage())} <= {operation}
    return difference(before.get(operation, Usage()), after.get(operation, Usage()))


def names(cost: Cost) -> Counter[str]:
    """Requests of the service by name; counted as often as they are made."""
    return Counter({request.name: 0 for request in cost.requests if request.storage is None}) + sum(
        (Counter({request.name: request.count}) for request in cost.requests if request.storage is None), Counter()
    )


def check(
    table: Table, operation: str, layer: Layer, call: Callable[[], object], cost: Cost, within: float = 0
) -> None:
    """Make a call, and compare what it requests with what was said.

    Args:
        table: The table.
        operation: Under which it is counted.
        layer: The layer.
        call: The call.
        cost: What was said.
        within: Write units by which it may differ.
    """
    table.meter.taken()
    done = counted(layer, operation, call)
    assert table.meter.taken() == names(cost)
    said = cost.usage
    assert (done.requests, done.storage_reads, done.storage_writes) == (
        said.requests,
        said.storage_reads,
        said.storage_writes,
    )
    assert done.read_units == said.read_units
    assert abs(done.write_units - said.write_units) <= within, (done, cost)


def check_reads(table: Table, **options: Any) -> Explanation:
    explained = table.explain(**options)
    with table.layer(**options) as layer:
        check(table, "get", layer, lambda: layer.get("eu"), explained.first_read)
        for _ in range(2):
            check(table, "get", layer, lambda: layer.get("eu"), explained.read)
    return explained


def check_sync(table: Table, *, within: float = 0, **options: Any) -> Explanation:
    explained = table.explain(**options)
    with table.layer(**options) as layer:
        check(table, "sync", layer, lambda: layer.sync("eu"), explained.sync, within)
    return explained


def check_appends(table: Table, batch: list[Event], **options: Any) -> Explanation:
    """With a batch that is as large as those that are there are on average."""
    explained = table.explain(**options)
    with table.layer(**options) as layer:
        check(table, "set", layer, lambda: layer.set(batch), explained.first_append)
        for _ in range(2):
            check(table, "set", layer, lambda: layer.set(batch), explained.append)
    return explained


def check_all(table: Table, batch: list[Event], **options: Any) -> None:
    """Read, append and sync; and again when it is folded, and once more when something is pending then."""
    for _ in range(2):
        check_reads(table, **options)
        check_appends(table, batch, **options)
        check_reads(table, **options)
        assert check_sync(table, **options).pending
        check_reads(table, **options)
        assert not check_sync(table, **options).pending


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


# What Local tells, once more


def test_local_tells_of_transactions_and_empty_queries_what_the_meter_corrects(table: Table) -> None:
    def row(sk: str, size: int = 1, **more: Any) -> dict[str, Any]:
        return {"pk": {"S": "p"}, "sk": {"S": sk}, "v": {"S": "v" * size}, **more}

    def transaction(*rows: dict[str, Any]) -> tuple[float, float]:
        actions: Any = [{"Put": {"TableName": table.name, "Item": each}} for each in rows]
        answer = table.direct.transact_write_items(TransactItems=actions, ReturnConsumedCapacity="INDEXES")
        (told,) = answer["ConsumedCapacity"]
        index = told.get("GlobalSecondaryIndexes", {}).get("cursor-index", {}).get("CapacityUnits", 0)
        return told["Table"]["CapacityUnits"], index

    assert transaction(row("a", 3000)) == (12, 0)
    assert transaction(row("b", cursor={"S": "c"})) == (4, 4)
    assert transaction(row("c", 1), row("d", 1)) == (4, 0)
    assert transaction(row("e", 1), row("f", 3000), row("g", 8000)) == (48, 0)
    for index, consistent in (({}, True), ({}, False), ({"IndexName": "cursor-index"}, False)):
        answer = table.direct.query(
            TableName=table.name,
            KeyConditionExpression="#key = :key",
            ExpressionAttributeNames={"#key": "cursor" if index else "pk"},
            ExpressionAttributeValues={":key": {"S": "nobody"}},
            ConsistentRead=consistent,
            ReturnConsumedCapacity="TOTAL",
            **index,  # type: ignore[arg-type] # the stubs want each option by its own type
        )
        assert answer["ConsumedCapacity"]["CapacityUnits"] == 0


# Reads, appends and syncs


def test_a_partition_that_nobody_has_heard_of_costs_what_was_explained(table: Table) -> None:
    explained = check_reads(table)
    assert (explained.items, explained.pending, explained.segments) == (0, 0, 0)
    assert explained.sync.usage == Usage(requests=1, read_units=1)
    check_sync(table)
    check_appends(table, [put(0, 10)])


def test_one_pending_record_costs_what_was_explained(table: Table) -> None:
    table.set([put(0)])
    check_all(table, [put(0)])


@pytest.mark.parametrize("sizes", [(950, 1200), (4900, 5400)], ids=str)
def test_pending_records_of_every_size_around_a_step_cost_what_was_explained(
    table: Table, sizes: tuple[int, int]
) -> None:
    """A record here takes more or less than 1 KB, and than 4 KB, by every few bytes."""
    table.set(*alone(*range(*sizes, 5)))
    items = [item for item in table.direct.query(**everything(table))["Items"] if "events" in item]
    step = 1024 if sizes[1] < 4096 else 4096
    found = [item_size(item) - step for item in items]
    assert min(found) < -40
    assert max(found) > 40
    check_reads(table)
    check_sync(table)
    check_reads(table)


@pytest.mark.parametrize("seed", range(4))
def test_pending_records_of_odd_sizes_cost_what_was_explained(table: Table, seed: int) -> None:
    rng = random.Random(seed)
    for first in (0, 100):
        table.set(*alone(*(int(2 ** rng.uniform(3, 15)) for _ in range(rng.randint(2, 25))), first=first))
        check_reads(table)
        assert check_sync(table).pending > 1
        check_reads(table)


@pytest.mark.parametrize("size", [10, 1000, 3000, 30_000, 300_000])
def test_appends_of_the_average_size_cost_what_was_explained(table: Table, size: int) -> None:
    """Three times the same, so that they are the average to the byte."""
    table.set(*3 * [[put(0, size)]])
    check_appends(table, [put(0, size)])
    table.sync()
    check_appends(table, [put(0, size)])


def test_a_folded_partition_costs_what_was_explained_whatever_is_kept_of_it(table: Table) -> None:
    """What is folded is kept for its ttl, and the newest of it is read by who looks for the end of the partition."""
    table.set(*alone(40_000, 20_000))
    table.sync()
    explained = check_reads(table)
    assert (explained.segments, explained.pending) == (1, 0)
    assert [request.read_units for request in explained.first_append.requests if request.read_units] > [2]
    check_sync(table)
    check_appends(
        table,
        [put(0, 30_000)],
    )


def test_several_deltas_cost_what_was_explained(table: Table) -> None:
    table.set([put(number) for number in range(50)])
    for number in range(1, 6):
        check_sync(table)
        assert check_reads(table).segments == number
        table.set([put(number)], [put(number + 1, 500)])
        assert check_reads(table).pending == 2


def test_a_compaction_that_is_due_costs_what_was_explained(table: Table) -> None:
    """But for `STEP`."""
    fold(table, *([put(number)] for number in range(7)))
    bases = 0
    for number in range(7, 18):
        table.set([put(number)])
        explained = check_sync(table, within=STEP)
        bases += explained.sync.usage.storage_reads > 0
        check_reads(table)
    assert bases


def test_deltas_that_are_due_to_be_merged_cost_what_was_explained(table: Table) -> None:
    """But for `STEP`; that the base is not among what is retired is not known to the log."""
    fold(table, [put(number) for number in range(200)], *([put(number)] for number in range(21)))
    merged = 0
    for number in range(21, 27):
        table.set([put(number)])
        explained = check_sync(table, within=STEP)
        merged += explained.sync.usage.storage_reads > 0
        check_reads(table)
    assert merged == 1


def everything(table: Table) -> dict[str, Any]:
    return {
        "TableName": table.name,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "users#eu"}},
    }


# Records in parts


@pytest.mark.parametrize("sizes", [(900_000,), (700_000, 50), (50, 700_000), (1_200_000, 600_000)], ids=str)
def test_records_in_parts_cost_what_was_explained(table: Table, sizes: tuple[int, ...]) -> None:
    for first in (0, 10):
        table.set(*alone(*sizes, first=first))
        check_reads(table)
        check_sync(table)
        check_reads(table)


def test_an_append_in_parts_is_a_transaction_that_costs_what_was_explained(table: Table) -> None:
    table.set([put(0, 900_000)])
    explained = check_appends(table, [put(0, 900_000)])
    (append,) = explained.append.requests
    assert append.name == "TransactWriteItems"
    assert append.write_units > 2 * 0.7 * 900_000 / 1024


@pytest.mark.parametrize("size", [10_000, 250_000, 390_000])
def test_more_than_a_page_that_is_pending_is_read_in_as_many_requests_as_were_explained(
    table: Table, size: int
) -> None:
    """A page of Local's ends with the record that makes it a megabyte, one of the service before it: a unit a page."""
    table.set(*alone(*(size * 4 // 3 for _ in range(2_600_000 // size))))
    explained = table.explain()
    with table.layer() as layer:
        table.meter.taken()
        done = counted(layer, "get", lambda: layer.get("eu"))
        requests = table.meter.taken()
    said = names(explained.first_read)
    assert said["Query"] >= 3
    assert abs(requests["Query"] - said["Query"]) <= (size > 10_000)
    assert abs(done.read_units - explained.first_read.usage.read_units) <= said["Query"]


# Shards


@pytest.mark.parametrize("pending_shards", [2, 5, 64])
def test_pending_records_spread_over_shards_cost_what_was_explained(table: Table, pending_shards: int) -> None:
    table.set([put(0)])
    check_all(table, [put(0)], pending_shards=pending_shards)  # its first append notes the number


@pytest.mark.parametrize("count", [81, 82])
def test_many_entries_of_the_index_cost_what_was_explained(table: Table, count: int) -> None:
    """So many that they take more than one step of 4 KB, in one shard of those that its writers have used."""
    for pending_shards in (1, 5):
        table.set([put(0)], pending_shards=pending_shards)
        table.sync(pending_shards=pending_shards)
    table.set(*count * [[put(0)]], pending_shards=5)
    check_sync(table, pending_shards=5)


# Requests alone, everywhere


def test_the_requests_are_those_explained_on_moto_too(moto: Table) -> None:
    def check_names(operation: str, cost: Callable[[Explanation], Cost], call: Callable[[Layer], object]) -> None:
        explained = moto.explain()
        with moto.layer() as layer:
            done = counted(layer, operation, lambda: call(layer))
            assert moto.meter.taken() == names(cost(explained))
            assert done.requests == cost(explained).usage.requests
            assert done.storage_reads == cost(explained).usage.storage_reads
            assert done.storage_writes == cost(explained).usage.storage_writes

    for number in range(3):
        check_names("get", lambda explained: explained.first_read, lambda layer: layer.get("eu"))
        if number == 2:
            fold(moto, *([put(more)] for more in range(10, 16)))
        with moto.layer() as layer:
            layer.set([put(number, 900_000 if number == 1 else 50)])
        check_names("get", lambda explained: explained.first_read, lambda layer: layer.get("eu"))
        check_names("sync", lambda explained: explained.sync, lambda layer: layer.sync("eu"))
        check_names("sync", lambda explained: explained.sync, lambda layer: layer.sync("eu"))


def test_a_getter_and_setter_of_ones_own_cost_what_was_explained(table: Table) -> None:
    """There is one place, which is read each time, written whole, and held by a lease taken anew before."""
    kept: dict[str, list[Item]] = {}
    pair: dict[str, Any] = {"getter": lambda partition: kept.get(partition, []), "setter": kept.__setitem__}
    for number in range(3):
        table.set([put(number)], **pair)
        check_reads(table, **pair)
        check_sync(table, **pair)
        check_reads(table, **pair)
        check_sync(table, **pair)


def test_reads_that_remember_nothing_cost_what_was_explained(table: Table) -> None:
    table.set(*alone(50, 3000))
    check_reads(table, cache_bytes=0)
    table.sync()
    check_reads(table, cache_bytes=0)


def test_a_read_that_is_too_large_to_be_remembered_costs_what_was_explained(table: Table) -> None:
    table.set(*alone(50, 30_000))
    table.sync()
    check_reads(table, cache_bytes=10_000)


def test_what_is_explained_counts_under_its_own_name_and_changes_nothing(table: Table) -> None:
    table.set(*alone(50, 3000))
    before = table.direct.scan(TableName=table.name)["Items"]
    with table.layer() as layer:
        counted(layer, "explain", lambda: layer.explain("eu"))
        assert set(table.meter.taken()) <= {"GetItem", "Query"}
    assert table.direct.scan(TableName=table.name)["Items"] == before


# What it costs in money


def test_prices_are_the_users_own(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        'currency = "EUR"\nread_million = 2.0\nwrite_million = 3.0\nstorage_read = 0.5\nstorage_write = 7.0\n'
    )
    prices = Prices.from_toml(path)
    table.set(*alone(50, 3000))
    table.sync()
    table.set(*alone(50, 3000))
    with table.layer() as layer:
        explained = layer.explain("eu", prices=prices)
        assert layer.explain("eu").prices == Prices()
    assert explained.prices == prices
    for cost in (
        explained.first_read,
        explained.read,
        explained.first_append,
        explained.append,
        explained.sync,
        explained.plain_query,
    ):
        usage = cost.usage
        expected = (usage.read_units * 2 + usage.write_units * 3) / 1_000_000
        expected += usage.storage_reads * 0.5 + usage.storage_writes * 7
        assert explained.price(cost) == pytest.approx(expected, abs=1e-15)
    assert explained.first_read.usage.storage_reads == explained.sync.usage.storage_writes == 1
    with pytest.raises(ConfigurationError, match="read_milion"):
        Prices.from_mapping({"read_milion": 1})


@contextmanager
def own_table(url: str) -> Iterator[Any]:
    """A table of one's own, as boto3's resource has it."""
    boto3 = pytest.importorskip("boto3")
    with closing(servers.dynamodb_client(url)) as client:
        name = f"test-{secrets.token_hex(8)}"
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        try:
            yield boto3.resource("dynamodb", endpoint_url=url, region_name=servers.REGION).Table(name)
        finally:
            client.delete_table(TableName=name)


def plain_query(url: str, items: list[Item]) -> Usage:
    """What Local tells of a Query of items, page after page."""
    with own_table(url) as own:
        with own.batch_writer() as batch:
            for item in items:
                batch.put_item(Item=item)
        usage, start = Usage(), dict[str, Any]()
        while True:
            answer = own.query(
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": "eu"},
                ConsistentRead=True,
                ReturnConsumedCapacity="TOTAL",
                **start,
            )
            usage += Usage(1, answer["ConsumedCapacity"]["CapacityUnits"])
            if "LastEvaluatedKey" not in answer:
                return usage
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


ITEMS: dict[str, Callable[[int], Item]] = {
    "texts": lambda number: {"name": "n" * (number + 1), "city": "São Paulo", "tags": {"a", "b"}},
    "numbers": lambda number: {"n": number * 37, "price": Decimal(number) / 8, "big": 10**37 + number, "set": {1, -2}},
    "others": lambda number: {"none": None, "yes": True, "raw": b"\0" * (number + 1), "raws": {b"a", b"bc"}},
    "nested": lambda number: {"list": [1, "a", [None, {"é": number}]], "map": {"a": {"b": {"c": "d" * (number + 1)}}}},
}


@pytest.mark.parametrize("kind", ITEMS)
@pytest.mark.parametrize("count", [1, 37, 400])
def test_a_plain_query_costs_what_a_table_of_ones_own_tells(table: Table, kind: str, count: int) -> None:
    items = [{"pk": "eu", "sk": f"user-{number:05d}", **ITEMS[kind](number)} for number in range(count)]
    table.set([{"type": "PUT", "item": item} for item in items])
    for _ in ("pending", "folded"):
        explained = table.explain()
        assert explained.items == count
        assert explained.plain_query.usage == plain_query(table.url, items)
        table.sync()


def test_a_plain_query_of_several_pages_costs_what_a_table_of_ones_own_tells(table: Table) -> None:
    """By a unit a page: a page of Local's ends with the item that makes it a megabyte, one of the service before it."""
    items = [{"pk": "eu", "sk": f"user-{number:05d}", "body": noise(9000, number)} for number in range(300)]
    table.set([{"type": "PUT", "item": item} for item in items])
    explained, told = table.explain().plain_query.usage, plain_query(table.url, items)
    assert explained.requests == told.requests == 3
    assert abs(explained.read_units - told.read_units) <= 3


# Logs that are not paid by request


@pytest.mark.parametrize("events", ["memory:", "sqlite"])
def test_a_log_that_is_not_paid_by_request_costs_only_what_the_storage_does(tmp_path: Path, events: str) -> None:
    with Layer(
        table="users",
        get_item_unique_identifier="sk",
        get_item_partition="pk",
        events=f"sqlite:///{tmp_path}/events.db" if events == "sqlite" else events,
        storage=f"local://{tmp_path}/snapshots",
    ) as layer:
        nothing = layer.explain("eu")
        assert nothing.first_read == nothing.sync == nothing.first_append == Cost()
        syncs = []
        for number in range(20):
            layer.set([put(number)])
            explained = layer.explain("eu")
            assert (explained.pending, explained.items) == (1, number + 1)
            assert explained.append == explained.first_append == explained.read == Cost()
            syncs.append(explained.sync.usage)
            assert counted(layer, "sync", lambda: layer.sync("eu")) == explained.sync.usage
            explained = layer.explain("eu")
            assert explained.first_read.usage == Usage(storage_reads=explained.segments)
            assert explained.sync == Cost()
        assert syncs[0] == Usage(storage_writes=1)
        assert max(usage.storage_reads for usage in syncs) > 1, "nothing was compacted"


# What is counted


class Publishing(WrappedAdapter):
    """An adapter that publishes, to nobody."""

    def __init__(self, folder: Path) -> None:
        super().__init__(LocalAdapter(folder))
        self.capabilities = Capabilities(publishing=True)

    @hookimpl
    def layer_publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> bool:
        return True


@pytest.mark.parametrize("kind", ["local", "publishing", "parquet"])
def test_a_sync_asks_of_every_kind_of_storage_what_was_explained(tmp_path: Path, kind: str) -> None:
    storage: Any = {"local": f"local:{tmp_path}", "parquet": f"parquet+file:{tmp_path}"}.get(kind) or Publishing(
        tmp_path
    )
    compactions = 0
    with Layer(table="users", get_item_unique_identifier="sk", events="memory:", storage=storage) as layer:
        for number in range(20):
            layer.set([{"type": "PUT", "item": {"sk": f"i{number % 4}", "n": number}}])
            told = layer.explain().sync
            done = counted(layer, "sync", layer.sync)
            assert (told.usage.storage_reads, told.usage.storage_writes) == (done.storage_reads, done.storage_writes)
            compactions += any("merged" in request.why for request in told.requests)
            published = [request.count for request in told.requests if request.name == "layer_publish"]
            assert published == ([1] if kind == "publishing" else [])
    assert compactions > 1


def test_a_sync_that_keeps_history_for_ever_asks_what_was_explained(table: Table) -> None:
    with table.layer(history="forever") as layer:
        for number in range(2):
            layer.set([put(number)])
            layer.sync()
        layer.set([put(2)])
    explained = check_sync(table, history="forever")
    assert sum("history" in request.why for request in explained.sync.requests) == 2
    with table.layer() as layer:
        layer.set([put(3)])
    assert not any("history" in request.why for request in check_sync(table).sync.requests)


def test_storage_calls_are_counted_under_the_operation_that_makes_them(table: Table) -> None:
    with table.layer() as layer:
        layer.set([put(0)])
        layer.sync()
        layer.set([put(1)])
        layer.sync()
        usage = layer.usage()["sync"]
        assert (usage.storage_reads, usage.storage_writes) == (0, 2)
    with table.layer() as layer:
        for operation, call, reads in (
            ("get", partial(layer.get, "eu"), 2),
            ("get", partial(layer.get, "eu"), 0),
            ("verify", layer.verify, 2),
            ("vacuum", layer.vacuum, 1),  # a listing
        ):
            assert counted(layer, operation, call).storage_reads == reads


def test_every_operation_is_counted_under_its_own_name(table: Table) -> None:
    with table.layer() as layer:
        assert set(layer.usage()) == {"other"}, "opening is nobody's"
        layer.set([put(0)])
        version = layer.history("eu")[0].version
        calls: dict[str, Callable[[], object]] = {
            "set": lambda: layer.set([put(1)]),
            "get": lambda: layer.get("eu", at=version),
            "history": lambda: layer.history("eu"),
            "meta": layer.meta,
            "sync": layer.sync,
            "partitions": layer.partitions,
            "verify": layer.verify,
            "explain": lambda: layer.explain("eu"),
            "vacuum": lambda: layer.vacuum(dry_run=False),
        }
        for name, call in calls.items():
            assert counted(layer, name, call).requests, name
            assert sum(table.meter.taken().values()), name
        assert set(layer.usage()) == {"other", *calls}
        total = sum(layer.usage().values(), Usage())
        assert total.requests > 20
        assert total.read_units
        assert total.write_units


@pytest.mark.parametrize("runner", [None, "thread"])
def test_a_sync_that_a_strategy_asks_for_is_counted_as_a_sync(table: Table, runner: str | None) -> None:
    with table.layer(sync_strategy=lambda meta: meta.unsynced_total >= 2, background_runner=runner) as layer:
        layer.set([put(0)])
        assert set(layer.usage()) == {"other", "set", "strategy"}
        layer.set([put(1)])
    usage = layer.usage()
    assert set(usage) == {"other", "set", "strategy", "sync"}
    assert usage["sync"].storage_writes == 1
    assert usage["sync"].write_units > 6
    assert usage["set"] == Usage(requests=3, read_units=1, write_units=4)
    assert not usage["strategy"].write_units


def test_a_strategy_does_not_cost_requests_after_each_set(table: Table) -> None:
    with table.layer(sync_strategy=lambda meta, partition_meta: False) as layer:
        layer.set([put(0)])
        first = layer.usage()["strategy"].requests
        for number in range(1, 20):
            layer.set([put(number)])
        # Asked twenty times; what it is told was looked up again at most every five seconds.
        assert layer.usage()["strategy"].requests <= 3 * first


def test_an_idle_layer_requests_nothing(table: Table) -> None:
    asked: list[int] = []

    def strategy(meta: Any) -> bool:
        asked.append(meta.unsynced_total)
        return asked[-1] > 2

    with table.layer(sync_strategy=strategy, background_runner="thread", lease=0.2) as layer:
        for number in range(4):
            layer.set([put(number)])
        layer.get("eu")
        until(lambda: all(thread.name != "dynalayer-sync" for thread in threading.enumerate()))
        before = layer.usage()
        assert before["sync"].requests
        table.meter.taken()
        time.sleep(1)
        assert layer.usage() == before
        assert not table.meter.taken()
    assert len(asked) == 4


def test_a_write_whose_condition_fails_is_paid_for(table: Table) -> None:
    """By the row that was in the way where the service tells which it was; this Local does not: by one's own."""
    with table.layer() as one, table.layer() as other:
        one.set([put(0, 10)])
        other.set([put(1, 10)])
        table.meter.taken()
        usage = counted(one, "set", lambda: one.set([put(2, 5000)]))
        assert table.meter.taken() == Counter(PutItem=2, GetItem=1)
    row = table.direct.get_item(
        TableName=table.name, Key={"pk": {"S": "users#eu"}, "sk": {"S": f"{3:020d}"}}, ConsistentRead=True
    )["Item"]
    own = write_units(item_size(row))
    assert own > 3
    assert usage == Usage(requests=3, read_units=1, write_units=own + own + 1)


def test_a_write_whose_condition_fails_is_paid_by_the_row_that_was_there_where_it_is_told(moto: Table) -> None:
    with moto.layer() as one, moto.layer() as other:
        one.set([put(0, 10)])
        other.set([put(1, 5000)])
        moto.meter.taken()
        usage = counted(one, "set", lambda: one.set([put(2, 10)]))
        assert moto.meter.taken() == Counter(PutItem=2)
    row = moto.direct.get_item(TableName=moto.name, Key={"pk": {"S": "users#eu"}, "sk": {"S": f"{2:020d}"}})["Item"]
    assert usage.write_units >= write_units(item_size(row)) > 3


def test_a_lease_that_another_holds_is_paid_for(table: Table) -> None:
    with table.layer() as one, table.layer() as other:
        one.set([put(0)])
        log = DynamoDBEventLog(table.name, "users", client=table.client)
        assert log.lease("eu", "somebody", table.clock(), table.clock() + 10**7)
        table.meter.taken()
        usage = counted(other, "sync", lambda: other.sync("eu"))
        requests = table.meter.taken()
        log.close()
    assert requests["UpdateItem"] == 1
    assert usage.write_units == 1
