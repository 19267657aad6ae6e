"""Source tables in DynamoDB: what is read of them, what is refused, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.types import Binary
from botocore.exceptions import ClientError, EndpointConnectionError

import servers
from dynalayer import (
    ConfigurationError,
    InvalidEventError,
    InvalidInputError,
    Layer,
    ResetProgress,
    SourceError,
    Usage,
    comparing,
)
from dynalayer.sourcing.tables import SourceTable, TablePage, open_table, plain, typed
from dynalayer.testing.dynamodb import Faults, FaultyDynamoDB
from source_tables import fill, resource, source_table
from strategies import exactly

Make = Callable[..., Layer]
EXACT = {
    "pk": "eu",
    "sk": "exact",
    "none": None,
    "yes": True,
    "n": Decimal("1.50"),
    "raw": b"\0\xff",
    "texts": {"a", "b"},
    "numbers": {Decimal(1), Decimal("2.5")},
    "raws": {b"x"},
    "list": [{"deep": [Decimal(3)]}],
}


@pytest.fixture
def table(moto_server: str) -> Iterator[Any]:
    with source_table(moto_server) as table:
        yield table


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Layer] = []

    def make(table: Any, **options: Any) -> Layer:
        given: dict[str, Any] = {
            "get_item_unique_identifier": "sk",
            "get_item_partition": "pk",
            "events": "memory:",
            "storage": f"local://{tmp_path}/snapshots",
        }
        made.append(Layer(table=table.name, **given | options))
        return made[-1]

    yield make
    for layer in made:
        layer.close()


def in_small_pages(table: Any) -> None:
    """Moto has no pages of a megabyte."""

    def limit(params: dict[str, Any], **_: object) -> None:
        params["Limit"] = 20

    table.meta.client.meta.events.register("provide-client-params.dynamodb.Scan", limit)


def items(partitions: int, each: int) -> Iterator[dict[str, Any]]:
    return ({"pk": f"p{p}", "sk": f"i{number}", "n": number} for p in range(partitions) for number in range(each))


def test_a_table_is_read_whole_value_for_value(table: Any, make: Make) -> None:
    fill(table, [EXACT, *items(3, 40)])
    layer = make(table)
    seen: list[ResetProgress] = []
    result = layer.reset(table, progress=seen.append)
    assert (result.count, result.partitions) == (121, ("eu", "p0", "p1", "p2"))
    assert exactly(layer.get("eu")) == exactly([EXACT])
    assert [len(layer.get(f"p{each}")) for each in range(3)] == [40] * 3
    assert seen[0].of == 121
    assert layer.usage()["reset"].requests >= 3
    assert layer.verify(against=table).ok


def test_large_tables_are_read_in_several_pages_by_several_threads(
    table: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(table, items(5, 60))
    read: list[tuple[int, str]] = []
    scan = SourceTable.scan

    def noted(self: SourceTable, segment: int, of: int, position: Any = None) -> Iterator[TablePage]:
        for page in scan(self, segment, of, position):
            read.append((segment, threading.current_thread().name))
            yield page

    monkeypatch.setattr(SourceTable, "scan", noted)
    in_small_pages(table)
    layer = make(table)
    assert layer.reset(table).count == 300
    assert {segment for segment, _ in read} == {0, 1}
    assert {name for _, name in read} == {"dynalayer-source"}
    assert len(read) > 10
    assert layer.verify(against=table).ok
    assert not [each for each in threading.enumerate() if each.name == "dynalayer-source"]


def test_one_partition_is_queried_where_its_attribute_is_the_hash_key(
    table: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(table, items(5, 40))
    layer = make(table)
    layer.set([{"type": "PUT", "item": {"pk": each, "sk": "old"}} for each in ("p1", "p2")])
    assert layer.reset(table, "p1").count == 40
    used = layer.usage()["reset"]
    assert used.read_units <= 3
    assert len(layer.get("p1")) == 40
    assert layer.get("p2") == [{"pk": "p2", "sk": "old"}]
    assert layer.reset(table, "").count == 0
    assert layer.verify("p1", against=table).ok
    monkeypatch.setattr(comparing, "_LOOKS", (0.0,))
    assert not layer.verify(against=table).ok


def test_one_partition_is_picked_out_of_a_scan_where_a_function_tells_it(table: Any, make: Make) -> None:
    fill(table, items(4, 10))
    layer = make(
        table,
        get_item_partition=lambda item: "even" if int(item["pk"][1:]) % 2 == 0 else "odd",
        get_item_unique_identifier=lambda item: f"{item['pk']}/{item['sk']}",
    )
    assert layer.reset(table, "even").count == 20
    assert layer.partitions() == ["even"]
    assert layer.verify("even", against=table).ok


def test_a_table_without_a_sort_key_is_one_partition(moto_server: str, make: Make) -> None:
    with source_table(moto_server, keys=[("id", "N")]) as table:
        fill(table, ({"id": number} for number in range(30)))
        layer = make(table, get_item_partition=None, get_item_unique_identifier="id")
        assert layer.reset(table).count == 30
        assert layer.verify(against=table).ok
        with pytest.raises(ConfigurationError, match="no get_item_partition: nothing tells which items"):
            layer.reset(table, "eu")


def test_another_table_one_that_is_missing_and_one_keyed_otherwise_are_refused_before_a_scan(
    table: Any, make: Make, moto_server: str
) -> None:
    layer = make(table)
    layer.set([{"type": "PUT", "item": {"pk": "eu", "sk": "a"}}])
    with pytest.raises(ConfigurationError, match=r"the source is table 'others', .*give an iterable of them"):
        layer.reset(resource(moto_server).Table("others"))
    with pytest.raises(ConfigurationError, match=r"'arn:aws:dynamodb:.*give its plain name"):
        layer.reset(resource(moto_server).Table(f"arn:aws:dynamodb:us-east-1:123456789012:table/{table.name}"))
    missing = make(type("Named", (), {"name": "missing"}))
    with pytest.raises(SourceError, match="there is no table 'missing' where the source was looked for") as caught:
        missing.reset(resource(moto_server).Table("missing"))
    assert (caught.value.operation, caught.value.retryable) == ("reset", False)
    for options, beside in (
        ({"get_item_unique_identifier": "name"}, "'sk'"),
        ({"get_item_partition": "tenant"}, "'pk'"),
        ({"get_item_partition": None}, "'pk'"),
        ({"get_item_partition": "tenant", "get_item_unique_identifier": "name"}, "'pk' and 'sk'"),
    ):
        with pytest.raises(ConfigurationError, match=f"two items that differ in {beside} alone would be one"):
            make(table, **options).reset(table)
        with pytest.raises(ConfigurationError, match=f"two items that differ in {beside} alone would be one"):
            make(table, **options).verify(against=table)
    assert layer.get("eu") == [{"pk": "eu", "sk": "a"}]


def test_items_that_a_function_makes_one_are_named_by_their_keys(table: Any, make: Make) -> None:
    fill(table, [{"pk": "eu", "sk": "a"}, {"pk": "eu", "sk": "b"}, {"pk": "eu", "sk": "c", "no": 1}])
    layer = make(table, get_item_unique_identifier=lambda _: "same")
    with pytest.raises(InvalidInputError) as caught:
        layer.reset(table)
    assert "{'pk': 'eu', 'sk': 'a'} and {'pk': 'eu', 'sk': 'b'}; nothing was changed" in str(caught.value)
    with pytest.raises(InvalidEventError) as refused:
        make(table, get_item_unique_identifier=lambda item: 1 / ("no" not in item)).reset(table)
    assert "item {'pk': 'eu', 'sk': 'a'} of dynamodb://" in str(refused.value)


def test_a_scan_that_broke_off_goes_on_where_it_was_with_the_tails_noted_then(
    table: Any, make: Make, tmp_path: Path
) -> None:
    fill(table, items(4, 30))
    in_small_pages(table)
    layer = make(table, events=f"sqlite:///{tmp_path}/events.db")
    pages = count(1)

    def stop(progress: ResetProgress) -> None:
        if next(pages) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layer.reset(table, spool=tmp_path / "spool", progress=stop)
    assert layer.partitions() == []
    # What the first pages held is changed only now: the event is what tells.
    for partition in ("p0", "p1", "p2", "p3"):
        table.put_item(Item={"pk": partition, "sk": "i0", "n": 100})
        layer.set([{"type": "PUT", "item": {"pk": partition, "sk": "i0", "n": 100}}])
    seen: list[ResetProgress] = []
    result = layer.reset(table, spool=tmp_path / "spool", progress=seen.append)
    assert result.count == 120
    assert 0 < max(each.items for each in seen if each.phase == "scan") < 120
    assert layer.verify(against=table).ok
    assert list(tmp_path.glob("spool*")) == []


def test_one_that_broke_off_after_the_last_page_of_its_query_goes_on(table: Any, make: Make, tmp_path: Path) -> None:
    fill(table, items(1, 3))
    layer = make(table)

    def stop(_: ResetProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layer.reset(table, "p0", spool=tmp_path / "spool", progress=stop)
    assert layer.reset(table, "p0", spool=tmp_path / "spool").count == 3


def test_what_the_service_puts_off_is_tried_again_and_what_it_refuses_is_told(
    table: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(table, items(2, 10))
    layer = make(table)
    failures: list[Exception] = []
    call = table.meta.client._make_api_call

    def failing(operation: str, arguments: Any) -> Any:
        if operation == "Scan" and failures:
            raise failures.pop()
        return call(operation, arguments)

    def told(code: str) -> ClientError:
        error: Any = {"Error": {"Code": code, "Message": "slow down"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        return ClientError(error, "Scan")

    monkeypatch.setattr(table.meta.client, "_make_api_call", failing)
    failures += [told("ProvisionedThroughputExceededException"), EndpointConnectionError(endpoint_url="http://x")]
    assert layer.reset(table).count == 20
    assert failures == []
    failures.append(told("AccessDeniedException"))
    with pytest.raises(SourceError, match=r"refused scan: AccessDeniedException.*needs dynamodb:Scan") as caught:
        layer.reset(table)
    assert not caught.value.retryable


def test_a_table_is_read_whole_through_a_network_that_loses_delays_and_throttles(
    table: Any, make: Make, moto_server: str
) -> None:
    fill(table, items(4, 60))
    faults = Faults(
        throttle=0.2, server_error=0.1, lost_request=0.05, lost_answer=0.05, unprocessed=0.5, short_page=0.5
    )
    with FaultyDynamoDB(moto_server, seed=7, faults=faults) as proxy:
        faulty = resource(proxy.url).Table(table.name)
        layer = make(table)
        assert layer.reset(faulty).count == 240
        for number in range(60):
            layer.set([{"type": "PUT", "item": {"pk": "p0", "sk": f"i{number}", "n": -1}}])
            table.put_item(Item={"pk": "p0", "sk": f"i{number}", "n": -1})
        assert layer.verify(against=faulty).ok
        faulty.meta.client.close()


def test_a_table_on_dynamodb_local_is_read_whole(dynamodb_local: str, make: Make) -> None:
    with source_table(dynamodb_local) as table:
        fill(table, ({"pk": f"p{n % 3}", "sk": f"{n}", "text": "x" * 4000} for n in range(600)))
        layer = make(table)
        assert layer.reset(table).count == 600
        assert layer.usage()["reset"].read_units >= 500
        assert layer.verify(against=table).ok


def test_usage_counts_what_was_read(table: Any) -> None:
    fill(table, items(1, 3))
    source = SourceTable(table)
    assert source.get({"pk": "p0", "sk": "i1"}) == {"pk": "p0", "sk": "i1", "n": 1}
    assert source.get({"pk": "p0", "sk": "none"}) is None
    many = [{"pk": "p0", "sk": each} for each in ("i2", "none", "i0", "i2")]
    found = source.get_many(many)
    assert [each and each["sk"] for each in found] == ["i2", None, "i0", "i2"]
    assert repr(source) == f"SourceTable('dynamodb://{table.name}')"
    assert source.keys.names == ("pk", "sk")
    assert source.keys.of({"pk": "a", "sk": 1}) is None
    assert source.keys.of({"pk": "a"}) is None
    assert source.keys.of({"pk": "a", "sk": "b", "c": 1}) == {"pk": "a", "sk": "b"}
    assert Usage() != source.usage


def test_items_go_to_the_low_level_client_and_come_back() -> None:
    assert exactly(plain(typed(EXACT))) == exactly(EXACT)
    assert typed({"raw": Binary(b"x")}) == {"raw": {"B": b"x"}}
    with pytest.raises(InvalidInputError, match="attribute 'n' cannot be kept in DynamoDB: Float types"):
        typed({"n": 1.5})
    rows: list[dict[str, Any]] = [{"n": {"X": 1}}, {"n": 1}, {"n": {}}]
    for wrong in rows:
        with pytest.raises(InvalidInputError, match="is no item as DynamoDB gives one"):
            plain(wrong)


def test_a_url_names_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_table("dynamodb://users?endpoint_url=http://127.0.0.1:1", region=servers.REGION)
    assert (table.name, table.meta.client.meta.region_name) == ("users", servers.REGION)
    assert table.meta.client.meta.endpoint_url == "http://127.0.0.1:1"
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for url, reason in (
        ("users", "source='users' is no URL"),
        ("sqlite:///users", "a table is dynamodb://TABLE"),
        ("dynamodb:users", "write dynamodb://TABLE"),
        ("dynamodb://a", "a table's name of 3 characters"),
        ("dynamodb://users?pending_shards=2", "knows no option 'pending_shards'"),
        ("dynamodb://key:secret@users", "credentials"),
        ("dynamodb://users", "the region of dynamodb://users is not known; add"),
        ("dynamodb://users?region=us-east-1&endpoint_url=nowhere", "no client for dynamodb://users can be made"),
    ):
        with pytest.raises(ConfigurationError, match=reason) as caught:
            open_table(url)
        assert "secret" not in str(caught.value)
