"""Processes that write the source table by the layer are killed at random: no item is without its event, nor any event
without its item, and nothing is counted twice."""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import servers
import warm
from captured import source_table
from dynalayer import Event, Item
from dynalayer.sourcing.tables import plain
from dynalayer.testing.dynamodb import Faults, FaultyDynamoDB

from .capturing_workers import COUNTERS, PARTITIONS, open_layer
from .test_killed_processes import drain, lines

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

WORKERS = {"writer-0": "writer", "writer-1": "writer", "writer-2": "writer", "syncer": "syncer"}
WRITES = int(os.environ.get("DYNALAYER_TEST_CAPTURED_WRITES", "60"))
KILLS = max(5, WRITES // 20)
PATIENCE = 200  # seconds
PROGRAM = Path(__file__).with_name("capturing_workers.py")
FAULTS = Faults(
    lost_request=0.02,
    late_request=0.02,
    throttle=0.02,
    server_error=0.02,
    lost_answer=0.03,
    late_answer=0.02,
    lateness=0.5,
)


@dataclass(frozen=True)
class World:
    """Where the processes write.

    Attributes:
        client: Of the service, by a way on which nothing goes wrong.
        quiet: The service.
        url: What the processes are given as that.
        events: The event log's table.
        table: The source table.
        proxy: What is between, where something is.
    """

    client: DynamoDBClient
    quiet: str
    url: str
    events: str
    table: str
    proxy: FaultyDynamoDB | None


@pytest.fixture(params=["DynamoDB Local", "moto through faults"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    quiet: str = request.getfixturevalue("moto_server" if "moto" in request.param else "dynamodb_local")
    with ExitStack() as stack:
        client = stack.enter_context(closing(servers.dynamodb_client(quiet)))
        events = stack.enter_context(servers.fresh_table(client))
        table = f"orders-{secrets.token_hex(8)}"
        stack.enter_context(source_table(client, table, {"partition": "S", "id": "S"}))
        proxy = None
        if "faults" in request.param:
            proxy = stack.enter_context(FaultyDynamoDB(quiet, seed=secrets.randbelow(2**32), faults=FAULTS))
        yield World(client, quiet, proxy.url if proxy else quiet, events, table, proxy)


def told(folder: Path) -> dict[str, list[str]]:
    """What became of writes, by what was told of them: `written`, `refused`, `unknown`; `begun` are all."""
    found: dict[str, list[str]] = {"begun": [], "written": [], "refused": [], "unknown": []}
    for name in WORKERS:
        for line in lines(folder / f"{name}.told"):
            outcome, _, rest = line.partition(" ")
            found[outcome].append(rest)
    return found


def run(folder: Path, world: World, seed: int) -> int:
    """Let processes write, and kill them, until it is enough; how many were killed."""
    rng, kills, running = random.Random(seed), 0, {}

    def start(name: str) -> None:
        arguments = [WORKERS[name], str(folder), world.url, world.events, world.table, name, str(seed)]
        running[name] = warm.start(PROGRAM, arguments, errors=folder / "stderr")

    end = time.monotonic() + PATIENCE
    try:
        for name in WORKERS:
            start(name)
        while len(told(folder)["written"]) < WRITES or kills < KILLS:
            assert time.monotonic() < end, f"{len(told(folder)['written'])} writes, {kills} kills: not enough yet"
            time.sleep(rng.uniform(0.1, 1.0 if kills < KILLS else 4.0))  # then they live longer, where all is slow
            name = rng.choice(tuple(WORKERS))
            running[name].kill()
            code = running[name].wait(10)
            assert code == -signal.SIGKILL, f"{name} ended with {code}: {(folder / 'stderr').read_text()[-4000:]}"
            kills += 1
            start(name)
    finally:
        for process in running.values():
            process.kill()
        for process in running.values():
            process.wait(10)
    return kills


def check_tokens(history: list[Event], outcomes: dict[str, list[str]]) -> None:
    """Each put and each count is there once if it was told to be, not if it was told not to be, at most once else."""
    there = Counter(event.item["token"] for event in history if event.type != "DELETE")
    assert max(there.values()) == 1
    for outcome in ("written", "refused"):
        for kind, token in (each.split() for each in outcomes[outcome]):
            tokens = [f"{token}/{number}" for number in range(4)] if kind == "batch" else [token]
            if kind != "delete":
                assert [there[each] for each in tokens] == [int(outcome == "written")] * len(tokens), (kind, token)


def check_counters(history: list[Event], source: dict[tuple[str, str], Item]) -> None:
    for partition in PARTITIONS:
        for counter in COUNTERS:
            counts = [event.item["n"] for event in history if (event.partition, event.id) == (partition, counter)]
            assert counts == list(range(1, len(counts) + 1))
            assert source.get((partition, counter), {}).get("n", 0) == len(counts)


@pytest.mark.timeout(300)
def test_the_table_and_the_layer_are_alike_whoever_is_killed(
    world: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("DYNALAYER_TEST_KILL_SEED", secrets.randbelow(2**32)))
    record_property("captured writes", f"DYNALAYER_TEST_KILL_SEED={seed}")
    begun = time.monotonic()
    kills = run(tmp_path, world, seed)
    if world.proxy is not None:
        world.proxy.settle()
    pages = world.client.get_paginator("scan").paginate(TableName=world.table, ConsistentRead=True)
    items = [plain(row) for page in pages for row in page["Items"]]
    source = {(item["partition"], item["id"]): item for item in items}
    outcomes = told(tmp_path)
    with open_layer(tmp_path, world.quiet, world.events, world.table) as layer:
        for again in range(2):
            got = {
                (partition, item["id"]): item
                for partition in layer.partitions()
                for item in layer.get(partition)
                if not item["id"].startswith("set/")
            }
            assert got == source
            history = [event for partition in layer.partitions() for event in layer.history(partition)]
            check_tokens(history, outcomes)
            check_counters(history, source)
            assert layer.verify().findings == ()
            if not again:
                drain(layer)
    record_property(
        "captured writes",
        f"{len(outcomes['written'])} written, {len(outcomes['refused'])} refused, {len(outcomes['unknown'])} unknown, "
        f"{kills} kills, {len(source)} items, {len(history)} events, {time.monotonic() - begun:.0f} seconds",
    )
