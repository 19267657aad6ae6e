"""What the DynamoDB event log costs beside plain requests to a table, measured in the same run on DynamoDB Local.

Run with `make bench-dynamodb`. DynamoDB Local answers in its own time, so that ratios of times are those of requests
and bytes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

import servers
from dynalayer import Layer, Usage

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table

ITEMS = 2_000
BATCH = 100
THREADS = 16


def item(number: int) -> dict[str, Any]:
    """An item of about 300 bytes."""
    return {
        "pk": "users",
        "sk": f"user-{number:07d}",
        "state": "active",
        "name": "Some Name " * 8,
        "visits": number,
        "tags": ["a", "b", "c"],
        "address": {"street": "x" * 80, "zip": "12345"},
        "verified": True,
    }


def seconds(job: Callable[[], object]) -> float:
    """How long one run takes."""
    begun = time.perf_counter()
    job()
    return time.perf_counter() - begun


def report(what: str, took: float, baseline: str, reference: float) -> None:
    """Print one row."""
    print(f"{what:52} {took:8.2f} s   {took / reference:7.3f} x {baseline} ({reference:.2f} s)")


def plain_puts(table: Table, items: list[dict[str, Any]]) -> None:
    """Each item by a request of its own."""
    for each in items:
        table.put_item(Item=each)


def plain_batches(table: Table, items: list[dict[str, Any]]) -> None:
    """Items by boto3's batch writer, 25 a request."""
    with table.batch_writer() as batch:
        for each in items:
            batch.put_item(Item=each)


def plain_query(table: Table) -> list[dict[str, Any]]:
    """All of them by a strong Query, page after page."""
    found: list[dict[str, Any]] = []
    start: dict[str, Any] = {}
    while True:
        page = table.query(
            KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": "users"}, ConsistentRead=True, **start
        )
        found += page["Items"]
        if "LastEvaluatedKey" not in page:
            return found
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def measure(url: str, folder: Path, table: Table) -> None:
    """Measure and print."""
    items = [item(number) for number in range(ITEMS)]
    events = [{"type": "PUT", "item": each} for each in items]

    def opened() -> Layer:
        return Layer(
            table="users",
            get_item_unique_identifier="sk",
            get_item_partition="pk",
            events=url,
            storage=f"local:{folder}/snapshots",
        )

    with opened() as layer:
        one_by_one = seconds(lambda: plain_puts(table, items))
        batched = seconds(lambda: plain_batches(table, items))
        appended = seconds(lambda: [layer.set(events[at : at + BATCH]) for at in range(0, ITEMS, BATCH)])
        report(f"append {ITEMS:,} events, {BATCH} a set()", appended, "put_item, one by one", one_by_one)
        report("the same", appended, "batch_writer", batched)

        with ThreadPoolExecutor(THREADS) as pool:
            together = seconds(lambda: list(pool.map(lambda event: layer.set([event]), events)))
            threaded = seconds(lambda: list(pool.map(lambda each: table.put_item(Item=each), items)))
        report(f"append {ITEMS:,} events, one a set(), {THREADS} threads", together, "put_item by as many", threaded)

        queried = seconds(lambda: plain_query(table))
        layer.sync()

        def cold() -> None:
            with opened() as other:
                other.get("users")

        report(f"first get of {ITEMS:,} items in a process, opening included", seconds(cold), "a plain Query", queried)
        layer.get("users")
        report(f"further get of {ITEMS:,} items", seconds(lambda: layer.get("users")), "a plain Query", queried)

        explained = layer.explain("users")
        plain, read = explained.plain_query.usage, explained.read.usage
        used = layer.usage().get("set", Usage())
        print(f"read units: {read.read_units:g} for a further get, {plain.read_units:g} for a plain Query")
        print(f"write units of {2 * ITEMS:,} events: {used.write_units:,.0f} in {used.requests:,} requests")


def main() -> None:
    """Start DynamoDB Local and measure."""
    os.environ.update(servers.ENVIRONMENT)
    local = Path(os.environ.get("DYNALAYER_TEST_DYNAMODB_LOCAL") or Path(sys.prefix) / "dynamodb-local")
    with (
        servers.local_server(local) as endpoint,
        closing(servers.dynamodb_client(endpoint)) as client,
        servers.fresh_table(client) as events,
        servers.fresh_table(client) as plain,
        tempfile.TemporaryDirectory(prefix="dynalayer-bench-") as folder,
    ):
        resource = boto3.resource("dynamodb", endpoint_url=endpoint, region_name=servers.REGION)
        measure(f"dynamodb://{events}?endpoint_url={endpoint}", Path(folder), resource.Table(plain))


if __name__ == "__main__":
    main()
