"""The acceptance test: processes that write and sync are killed at random moments, and nothing acknowledged is lost."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import servers
import warm
from dynalayer import Event, Item, Layer
from dynalayer.cli.options import event_line
from dynalayer.testing.dynamodb import Faults, FaultyDynamoDB

from .workers import CONSUMER, DEADLY, FOLLOWED, LEASE, PARTITIONS, open_layer, open_log

WORKERS = {f"writer-{number}": "writer" for number in range(4)} | {f"syncer-{number}": "syncer" for number in range(2)}
WORKERS["follower"] = "follower"
EVENTS = 20_000
PATIENCE = 240  # seconds
FAULTS = Faults(
    lost_request=0.02,
    late_request=0.02,
    throttle=0.03,
    server_error=0.02,
    lost_answer=0.03,
    late_answer=0.02,
    lateness=1.0,
    unprocessed=0.2,
    short_page=0.1,
    index_lag=2.0,
)
PROGRAM = Path(__file__).with_name("workers.py")


@dataclass(frozen=True)
class World:
    """Where the processes keep their events, and how much they have to go through.

    Attributes:
        name: What it is called.
        events: The event log's URL, as the processes are given it.
        quiet: The same log, for looking at what is left, by a way on which nothing goes wrong.
        kills: How many are killed at least.
        crashes: How many of them between the move of a head and the marking of what was folded.
        pace: Seconds between two kills at most: where a process takes long to begin, it should live longer too.
        proxy: What makes it faulty, if something does.
    """

    name: str
    events: str
    quiet: str
    kills: int
    crashes: int
    pace: float
    proxy: FaultyDynamoDB | None = None


@dataclass
class Fleet:
    """The processes, each started again whenever it was killed."""

    folder: Path
    world: World
    seed: int
    kills: int = 0
    incarnations: Counter[str] = field(default_factory=Counter)
    running: dict[str, warm.Started] = field(default_factory=dict)

    def start(self, name: str) -> None:
        incarnation = self.incarnations[name] = self.incarnations[name] + 1
        arguments = [WORKERS[name], str(self.folder), self.world.events, name, str(incarnation), str(self.seed)]
        self.running[name] = warm.start(PROGRAM, arguments, errors=self.folder / "stderr")

    def reap(self, name: str, *, kill: bool) -> bool:
        """Wait for a process that has died or is killed now; nothing but SIGKILL may have ended it."""
        process = self.running[name]
        if process.poll() is None:
            if not kill:
                return False
            process.kill()
        code = process.wait(10)
        assert code == -signal.SIGKILL, f"{name} ended with {code}: {(self.folder / 'stderr').read_text()[-4000:]}"
        self.kills += 1
        return True

    def turn(self, rng: random.Random) -> None:
        """Kill one, and start again what is dead."""
        victim = rng.choice(tuple(WORKERS))
        for name in WORKERS:
            if self.reap(name, kill=name == victim):
                self.start(name)

    def acknowledged(self) -> dict[str, list[str]]:
        """What each writer has had acknowledged."""
        return self._tokens("acknowledged")

    def refused(self) -> dict[str, list[str]]:
        """What each writer was told is not written."""
        return self._tokens("refused")

    def _tokens(self, what: str) -> dict[str, list[str]]:
        return {
            name: [token for line in lines(self.folder / f"{name}.{what}") for token in line.split()]
            for name, kind in WORKERS.items()
            if kind == "writer"
        }

    def crashes(self) -> Counter[str]:
        return Counter(lines(self.folder / "crashes"))

    def syncs(self) -> int:
        return sum(len(lines(self.folder / f"{name}.syncs")) for name, kind in WORKERS.items() if kind == "syncer")


def lines(path: Path) -> list[str]:
    """The whole lines of a file; none where there is no file yet."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


@contextmanager
def fleet_of(folder: Path, world: World, seed: int) -> Iterator[Fleet]:
    fleet = Fleet(folder, world, seed)
    try:
        for name in WORKERS:
            fleet.start(name)
        yield fleet
    finally:
        for process in fleet.running.values():
            process.kill()
        for process in fleet.running.values():
            process.wait(10)


def run_until_enough(fleet: Fleet) -> None:
    rng = random.Random(fleet.seed)
    end = time.monotonic() + PATIENCE
    while (
        sum(map(len, fleet.acknowledged().values())) < EVENTS
        or fleet.kills < fleet.world.kills
        or fleet.crashes()["before mark"] < fleet.world.crashes
    ):
        told = sum(map(len, fleet.acknowledged().values()))
        assert time.monotonic() < end, f"{told} events, {fleet.kills} kills, {fleet.crashes()}: not enough yet"
        time.sleep(rng.uniform(0.05, fleet.world.pace))
        fleet.turn(rng)


def drain(layer: Layer) -> None:
    """Sync until no dead one's lease is in the way."""
    for _ in range(20):
        if not layer.sync().locked:
            return
        time.sleep(LEASE)
    pytest.fail("a lease of the dead does not run out")


def folded(events: list[Event]) -> list[Item]:
    items: dict[str, Item] = {}
    for event in events:
        if event.type == "DELETE":
            items.pop(event.id, None)
        else:
            items[event.id] = event.item
    return [items[identifier] for identifier in sorted(items)]


def check_history(history: dict[str, list[Event]], acknowledged: dict[str, list[str]]) -> None:
    """Every acknowledged event is there once, any other at most once, each writer's in its own order."""
    count = Counter(event.item["token"] for events in history.values() for event in events)
    assert not [token for tokens in acknowledged.values() for token in tokens if count[token] != 1]
    assert max(count.values()) == 1
    for events in history.values():
        last: dict[str, tuple[int, int]] = {}
        for event in events:
            writer, incarnation, sequence = event.item["token"].split("/")
            assert last.get(writer, (0, 0)) < (int(incarnation), int(sequence))
            last[writer] = (int(incarnation), int(sequence))
        versions = [event.version for event in events]
        assert versions == sorted(versions)
        assert set(versions) == set(range(1, versions[-1] + 1))


def check_counts(layer: Layer, history: dict[str, list[Event]]) -> None:
    metas = [layer.meta(partition) for partition in PARTITIONS]
    for meta in metas:
        assert meta.synced_total + meta.unsynced_total == len(history[meta.partition])
        assert meta.version == history[meta.partition][-1].version
    whole = layer.meta()
    assert whole.synced_total == sum(meta.synced_total for meta in metas)
    assert whole.unsynced_total == sum(meta.unsynced_total for meta in metas)
    synced = Counter(event.cursor for events in history.values() for event in events if event.cursor != "__INITIAL__")
    assert whole.synced_total == synced.total()
    assert whole.cursor == max(synced)
    assert whole.synced_last_total == synced[whole.cursor]


def check_followed(fleet: Fleet, layer: Layer, history: dict[str, list[Event]]) -> None:
    """Who followed was given every event, in order when first; and what they made of it is the layer."""
    told = [json.loads(line) for line in lines(fleet.folder / FOLLOWED)]
    given = len(told)
    with layer.follow(CONSUMER, wait=False) as feed:
        told += [json.loads(event_line(event)) for event in feed]
    assert list(layer.follow(CONSUMER, wait=False)) == []
    assert [consumer.behind for consumer in layer.consumers()] == [0]
    first: dict[str, dict[str, None]] = {partition: {} for partition in PARTITIONS}
    index: dict[str, dict[str, Item]] = {partition: {} for partition in PARTITIONS}
    for event in told:
        first[event["partition"]][event["item"]["token"]] = None
        index[event["partition"]].pop(event["id"], None)
        if event["type"] != "DELETE":
            index[event["partition"]][event["id"]] = event["item"]
    for partition, events in history.items():
        assert list(first[partition]) == [event.item["token"] for event in events]
        assert [index[partition][each] for each in sorted(index[partition])] == layer.get(partition)
    assert given > 1000  # else it proves little


def check_what_is_left(fleet: Fleet, acknowledged: dict[str, list[str]]) -> None:
    folder, events = fleet.folder, fleet.world.quiet
    log = open_log(events)
    with open_layer(folder, log) as layer, closing(open_log(events)) as other:
        assert set(layer.partitions()) == set(PARTITIONS)
        history = {partition: layer.history(partition) for partition in PARTITIONS}
        check_history(history, acknowledged)
        there = {event.item["token"] for events in history.values() for event in events}
        assert there.isdisjoint(token for tokens in fleet.refused().values() for token in tokens)
        check_counts(layer, history)
        items = {partition: layer.get(partition) for partition in PARTITIONS}
        assert items == {partition: folded(events) for partition, events in history.items()}
        assert layer.verify().findings == ()
        check_followed(fleet, layer, history)

        drain(layer)
        assert items == {partition: layer.get(partition) for partition in PARTITIONS}
        assert items == {partition: open_layer(folder, other).get(partition) for partition in PARTITIONS}
        assert log.pending() == ()
        assert not any(log.unmarked(each, log.head(each).version, 1) for each in PARTITIONS)
        history = {partition: layer.history(partition) for partition in PARTITIONS}
        assert not any(event.cursor == "__INITIAL__" for events in history.values() for event in events)
        check_history(history, acknowledged)
        check_counts(layer, history)
        assert layer.meta().unsynced_total == 0
        assert layer.verify().findings == ()

        layer.vacuum(dry_run=False)
        assert layer.verify().findings == ()
        assert items == {partition: open_layer(folder, other).get(partition) for partition in PARTITIONS}


@pytest.fixture(params=["sqlite", "DynamoDB Local", "DynamoDB Local through faults"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "sqlite":
        events = f"sqlite:///{tmp_path / 'events.db'}"
        yield World(request.param, events, events, kills=80, crashes=12, pace=0.6)
        return
    endpoint = request.getfixturevalue("dynamodb_local")
    with closing(servers.dynamodb_client(endpoint)) as client, servers.fresh_table(client) as table:
        quiet = f"dynamodb://{table}?endpoint_url={endpoint}"
        if request.param == "DynamoDB Local":
            yield World(request.param, quiet, quiet, kills=30, crashes=4, pace=1.0)
            return
        with FaultyDynamoDB(endpoint, seed=secrets.randbelow(2**32), faults=FAULTS) as proxy:
            faulty = f"dynamodb://{table}?endpoint_url={proxy.url}"
            yield World(request.param, faulty, quiet, kills=30, crashes=4, pace=1.0, proxy=proxy)


@pytest.mark.timeout(400)
def test_no_event_is_lost_or_doubled_when_writers_and_syncers_are_killed_at_random(
    world: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("DYNALAYER_TEST_KILL_SEED", secrets.randbelow(2**32)))
    record_property(f"kill test on {world.name}", f"DYNALAYER_TEST_KILL_SEED={seed}")
    begun = time.monotonic()
    with fleet_of(tmp_path, world, seed) as fleet:
        run_until_enough(fleet)
    lived = time.monotonic() - begun
    if world.proxy is not None:
        world.proxy.settle()
        told = ", ".join(f"{count:,} {fault}" for fault, count in sorted(world.proxy.told.items()))
        record_property(f"kill test on {world.name}", told)
    acknowledged = fleet.acknowledged()
    check_what_is_left(fleet, acknowledged)
    events, crashes = sum(map(len, acknowledged.values())), fleet.crashes()
    by_point = ", ".join(f"{crashes[point]} {point}" for point in DEADLY)
    record_property(
        f"kill test on {world.name}",
        f"{events:,} events acknowledged, {fleet.kills} kills, of them {crashes.total()} by a crash point "
        f"({by_point}), {fleet.syncs()} syncs, {lived:.0f} seconds running, "
        f"{time.monotonic() - begun - lived:.0f} checking",
    )
    assert events >= EVENTS
    assert fleet.kills >= world.kills
    assert crashes["before mark"] >= world.crashes
