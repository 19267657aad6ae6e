"""Resets where processes die, answers are lost, and others write and sync meanwhile."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import servers
from dynalayer import (
    ConflictError,
    DynamoDBEventLog,
    EventLog,
    EventLogError,
    Item,
    Layer,
    MemoryEventLog,
    SQLiteEventLog,
)
from dynalayer.eventlog.base import HeadMove
from dynalayer.eventlog.checkpoints import CheckpointMove
from dynalayer.testing.faults import RESET_POINTS, Crash, Crashed, CrashingStore, CrashPoints, WrappedLog
from dynalayer_local import LocalAdapter
from fakes import Between, Ticking

OpenLog = Callable[[], EventLog]
LEASE = 60


def item(partition: str, identifier: str, n: int = 0) -> Item:
    return {"pk": partition, "sk": identifier, "n": n}


def put(partition: str, identifier: str, n: int = 0) -> dict[str, Any]:
    return {"type": "PUT", "item": item(partition, identifier, n)}


BEFORE = [put("a", "kept"), put("a", "gone"), put("lost", "x")]
SOURCE = [item("a", "kept", 1), item("a", "late", 1), item("new", "x", 1)]
MEANWHILE = [put("a", "late", 2), put("b", "x", 2)]
WHOLE = {
    "a": [item("a", "kept", 1), item("a", "late", 2)],
    "b": [item("b", "x", 2)],
    "lost": [],
    "new": [item("new", "x", 1)],
}


def layer_of(log: EventLog, folder: Path, clock: Callable[[], int], crash: Crash | None = None) -> Layer:
    storage: Any = LocalAdapter(folder / "snapshots")
    if crash is not None:
        log, storage = CrashPoints(log, crash), [CrashingStore(crash), storage]
    return Layer(
        table="users",
        get_item_unique_identifier="sk",
        get_item_partition="pk",
        events=log,
        storage=storage,
        clock=clock,
        lease=LEASE,
    )


def sourced(layer: Layer) -> Callable[[], Iterator[Item]]:
    """A source during whose first reading others write: the source first, then the event."""
    events = list(MEANWHILE)
    table = {(each["pk"], each["sk"]): each for each in SOURCE}

    def source() -> Iterator[Item]:
        yield from list(table.values())
        while events:
            event = events.pop()
            table[event["item"]["pk"], event["item"]["sk"]] = event["item"]
            layer.set([event])

    return source


def check_dies_and_goes_on(open_log: OpenLog, folder: Path, clock: Ticking, point: str, nth: int) -> bool:
    """Die at an arrival at a point, and do it again; False if the point is not reached so often."""
    layer = layer_of(open_log(), folder, clock)
    layer.set(BEFORE[:2])
    layer.sync()
    layer.set(BEFORE[2:])
    old = {name: layer.get(name) for name in WHOLE}
    crash = Crash(point, nth=nth, how="raise")
    spool, source = folder / "spool", sourced(layer)
    with suppress(Crashed):
        layer_of(open_log(), folder, clock, crash).reset(source, spool=spool)
    after = layer_of(open_log(), folder, clock)
    for name, items in WHOLE.items():
        read = after.get(name)
        assert read in (old[name], items) or (name == "a" and read == [item("a", "gone"), item("a", "kept"), items[1]])
    assert after.verify().findings == ()
    clock.advance(LEASE + 1)
    result = after.reset(source, spool=spool)
    assert not result.locked
    assert not spool.exists()
    check_whole(open_log(), folder, clock)
    return crash.crashed is not None


def check_whole(log: EventLog, folder: Path, clock: Callable[[], int]) -> None:
    """All is as the source and the events say, counted and marked once, and it goes on."""
    layer = layer_of(log, folder, clock)
    layer.sync()
    assert {name: layer.get(name) for name in layer.partitions()} == WHOLE
    assert log.pending() == ()
    assert log.checkpoints("reset") == ()
    meta = layer.meta()
    assert meta.synced_total == sum(len(layer.history(name)) for name in WHOLE) == len(BEFORE) + len(MEANWHILE)
    assert meta.unsynced_total == 0
    for name in WHOLE:
        cursors = [event.cursor for event in layer.history(name)]
        assert cursors == sorted(cursors)
    assert layer.verify(against=[each for items in WHOLE.values() for each in items]).ok
    layer.vacuum(dry_run=False)
    layer.set([put("a", "later")])
    assert layer.sync().count == 1
    assert layer_of(log, folder, clock).get("a") == sorted(
        [*WHOLE["a"], item("a", "later")], key=lambda i: str(i["sk"])
    )
    assert layer.verify().findings == ()


@pytest.mark.parametrize("point", RESET_POINTS)
def test_one_that_dies_anywhere_leaves_each_partition_old_or_new_and_goes_on(point: str, tmp_path: Path) -> None:
    for nth in (1, 3, 9, 40):
        folder, memory = tmp_path / str(nth), MemoryEventLog("users")
        folder.mkdir()
        if not check_dies_and_goes_on(lambda: memory, folder, Ticking(), point, nth):  # noqa: B023 -- called in this round
            assert nth > 1, f"it never gets {point}"
            return
    pytest.fail(f"{point} is reached too often")


@pytest.mark.parametrize("point", ["after checkpoint", "before append", "after move_head", "before mark"])
def test_on_sqlite_too(tmp_path: Path, point: str) -> None:
    assert check_dies_and_goes_on(
        lambda: SQLiteEventLog(tmp_path / "events.db", "users"), tmp_path, Ticking(), point, 2
    )


@pytest.mark.parametrize("point", ["after move_checkpoint", "after move_head"])
def test_on_dynamodb_too(moto_server: str, tmp_path: Path, point: str) -> None:
    client = servers.dynamodb_client(moto_server)
    with servers.fresh_table(client) as name:
        assert check_dies_and_goes_on(
            lambda: DynamoDBEventLog(name, "users", client=client), tmp_path, Ticking(), point, 1
        )
    client.close()


@pytest.mark.parametrize("error", [True, False], ids=["error", "no"])
def test_a_move_whose_answer_is_lost_is_recognised_as_its_own(tmp_path: Path, error: bool) -> None:
    class LostAnswer(WrappedLog):
        def move_head(self, partition: str, move: HeadMove) -> bool:
            super().move_head(partition, move)
            if error:
                raise EventLogError("the connection broke")
            return False

    log, clock = MemoryEventLog("users"), Ticking()
    layer = layer_of(log, tmp_path, clock)
    layer.set(BEFORE)
    layer_of(LostAnswer(log), tmp_path, clock).reset(sourced(layer))
    check_whole(log, tmp_path, clock)


def test_a_lease_whose_giving_back_fails_runs_out(tmp_path: Path) -> None:
    class Failing(WrappedLog):
        def move_checkpoint(self, move: CheckpointMove) -> bool:
            if move.value is None:
                raise EventLogError("no connection")
            return super().move_checkpoint(move)

    log, clock = MemoryEventLog("users"), Ticking()
    layer = layer_of(log, tmp_path, clock)
    layer.set(BEFORE)
    source = sourced(layer)
    assert not layer_of(Failing(log), tmp_path, clock).reset(source).locked
    assert layer.reset(source).locked
    clock.advance(LEASE + 1)
    assert not layer.reset(source).locked
    check_whole(log, tmp_path, clock)


class NoLeases(WrappedLog):
    """A log whose leases keep nobody from anything, as those that have run out."""

    def lease(self, partition: str, owner: str, now: int, until: int) -> bool:
        return True


@pytest.mark.parametrize("point", ["after append", "after read", "before move_head", "after partition_state"])
def test_a_sync_that_comes_between_makes_it_start_over_and_lose_nothing(tmp_path: Path, point: str) -> None:
    log, clock, ahead = MemoryEventLog("users"), Ticking(), Ticking()
    ahead.advance(3600)
    between = Between(NoLeases(log))
    layer, other = layer_of(between, tmp_path, clock), layer_of(NoLeases(log), tmp_path, ahead)
    other.set(BEFORE)
    pending = list(MEANWHILE)

    def overtake() -> None:
        if pending:
            other.set([pending.pop()])
        other.sync()

    between.then(point, overtake, times=4)
    layer.reset(SOURCE)
    for event in pending:
        other.set([event])
    check_whole(log, tmp_path, clock)


def test_a_vacuum_that_comes_between_takes_nothing_that_is_named(tmp_path: Path) -> None:
    log, clock = MemoryEventLog("users"), Ticking()
    between = Between(log)
    layer, other = layer_of(between, tmp_path, clock), layer_of(log, tmp_path, clock)
    layer.set(BEFORE)
    between.then("before move_head", lambda: other.vacuum(dry_run=False), times=6)
    layer.reset(sourced(other))
    check_whole(log, tmp_path, clock)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "no leases"])
def test_writers_and_syncers_at_the_same_time_lose_nothing(tmp_path: Path, kind: str) -> None:
    """Writers write the source first, then the event; some items of the source change without an event."""
    memory, clock = MemoryEventLog("users"), Ticking()

    def made() -> Layer:
        if kind == "sqlite":
            return layer_of(SQLiteEventLog(tmp_path / "events.db", "users"), tmp_path, clock)
        return layer_of(memory if kind == "memory" else NoLeases(memory), tmp_path, clock)

    partitions = ("a", "b", "c")
    table: dict[tuple[str, str], Item] = {(name, "gone"): item(name, "gone") for name in partitions}
    table |= {(name, "drifted"): item(name, "drifted", 1) for name in partitions}
    made().set([put(name, identifier) for name, identifier in table])
    for name in partitions:
        del table[name, "gone"]
    failures: list[BaseException] = []
    stop = threading.Event()

    def write(writer: int, layer: Layer) -> None:
        rng = random.Random(writer)
        for number in range(60):
            partition, identifier = rng.choice(partitions), f"{writer}-{rng.randrange(8)}"
            if rng.random() < 0.3:
                table.pop((partition, identifier), None)
                layer.set([{"type": "DELETE", "item": {"pk": partition, "sk": identifier}}])
            else:
                table[partition, identifier] = item(partition, identifier, number)
                layer.set([put(partition, identifier, number)])

    def sync(layer: Layer) -> None:
        while not stop.is_set():
            with suppress(ConflictError):
                layer.sync()
            stop.wait(random.uniform(0, 0.01))

    def scan() -> list[Item]:
        return list(table.values())

    def guarded(do: Callable[[], None]) -> None:
        try:
            do()
        except BaseException as error:  # noqa: BLE001 -- told by the test
            failures.append(error)

    writers = [threading.Thread(target=guarded, args=(partial(write, w, made()),)) for w in range(3)]
    syncer = threading.Thread(target=guarded, args=(partial(sync, made()),))
    for thread in (*writers, syncer):
        thread.start()
    layer, resets = made(), 0
    while any(thread.is_alive() for thread in writers) or not resets:
        with suppress(ConflictError):
            resets += not layer.reset(scan).locked
    for thread in writers:
        thread.join(60)
    stop.set()
    syncer.join(60)
    assert failures == []
    for reader in (layer, made()):
        assert {(name, str(each["sk"])): each for name in partitions for each in reader.get(name)} == table
    assert layer.verify(against=scan).ok
