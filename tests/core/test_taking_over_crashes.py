"""Taking over a snapshot where processes die, answers are lost, and others write and sync meanwhile."""

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
    InvalidInputError,
    Item,
    Layer,
    MemoryEventLog,
    SQLiteEventLog,
)
from dynalayer.eventlog.base import HeadMove
from dynalayer.testing.faults import TAKEOVER_POINTS, Crash, Crashed, CrashingStore, CrashPoints, WrappedLog
from dynalayer_local import LocalAdapter
from fakes import Between, Ticking, delete, put

OpenLog = Callable[[], EventLog]
LEASE = 60
CACHE: list[Item] = [{"id": f"old-{number}", "n": number} for number in range(5)]
EVENTS = [put("old-1", n=100), delete("old-2"), put("new", n=1)]
PENDING: list[Item] = [{"id": "new", "n": 1}, {"id": "old-1", "n": 100}]
WHOLE: list[Item] = [PENDING[0], CACHE[0], PENDING[1], *CACHE[3:]]


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture(params=["memory", "sqlite"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLog]:
    """Opens the log as a process that starts does."""
    memory, opened = MemoryEventLog("users"), list[EventLog]()

    def sqlite() -> EventLog:
        opened.append(SQLiteEventLog(tmp_path / "events.db", "users"))
        return opened[-1]

    yield sqlite if request.param == "sqlite" else lambda: memory
    for log in opened:
        log.close()


def layer_of(log: EventLog, folder: Path, clock: Callable[[], int], crash: Crash | None = None) -> Layer:
    storage: Any = LocalAdapter(folder / "snapshots")
    if crash is not None:
        log, storage = CrashPoints(log, crash), [CrashingStore(crash), storage]
    return Layer(table="users", get_item_unique_identifier="id", events=log, storage=storage, clock=clock, lease=LEASE)


def check_dies_and_repeats(open_log: OpenLog, folder: Path, clock: Ticking, point: str, nth: int) -> bool:
    """Die at an arrival at a point, and do it all again; False if the point is not reached so often."""
    layer_of(open_log(), folder, clock).set(EVENTS)
    crash = Crash(point, nth=nth, how="raise")
    with suppress(Crashed):
        layer_of(open_log(), folder, clock, crash).import_snapshot("", CACHE)
    after = layer_of(open_log(), folder, clock)
    read = after.get()
    assert read in (PENDING, WHOLE)
    assert after.verify().findings == ()
    clock.advance(LEASE + 1)
    if read == PENDING:
        taken = after.import_snapshot("", CACHE)
        assert (taken.count, taken.folded) == (5, 3)
    else:
        with pytest.raises(InvalidInputError, match="taken over"):
            after.import_snapshot("", CACHE)
        after.sync()
    check_whole(open_log(), folder, clock, events=3)
    return crash.crashed is not None


def check_whole(log: EventLog, folder: Path, clock: Callable[[], int], events: int) -> None:
    """What was taken over and every event are there, counted and marked once, and it goes on."""
    layer = layer_of(log, folder, clock)
    assert layer.get() == WHOLE
    assert log.pending() == ()
    history, meta = layer.history(), layer.meta()
    assert len(history) == meta.synced_total == events
    assert meta.unsynced_total == 0
    cursors = [event.cursor for event in history]
    assert cursors == sorted(cursors)
    assert meta.synced_times == len(set(cursors))
    assert layer.meta("").synced_last_total == cursors.count(layer.meta("").cursor)
    assert layer.verify().findings == ()
    layer.vacuum(dry_run=False)
    named = {each.ref for each in log.head("").segments} | {each.segment.ref for each in log.old_segments("")}
    assert {path.name for path in (folder / "snapshots").rglob("*.segment")} == named
    layer.set([put("later")])
    assert layer.sync().count == 1
    assert layer_of(log, folder, clock).get() == sorted([*WHOLE, {"id": "later"}], key=lambda item: str(item["id"]))
    assert layer.verify().findings == ()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("point", TAKEOVER_POINTS)
def test_one_that_dies_anywhere_is_seen_whole_or_not_at_all_and_can_be_done_again(
    point: str, kind: str, tmp_path: Path
) -> None:
    for nth in range(1, 20):
        folder, clock = tmp_path / str(nth), Ticking()
        folder.mkdir()
        memory = MemoryEventLog("users")
        open_log: OpenLog = lambda: memory  # noqa: E731, B023 -- each round has its own
        if kind == "sqlite":
            path = folder / "events.db"
            open_log = lambda: SQLiteEventLog(path, "users")  # noqa: E731, B023 -- likewise
        if not check_dies_and_repeats(open_log, folder, clock, point, nth):
            assert nth > 1, f"it never gets {point}"
            return
    pytest.fail(f"{point} is reached too often")


@pytest.mark.parametrize("point", ["after append", "after layer_setter", "after move_head", "before mark"])
def test_on_dynamodb_too(moto_server: str, tmp_path: Path, clock: Ticking, point: str) -> None:
    client = servers.dynamodb_client(moto_server)
    with servers.fresh_table(client) as name:

        def open_log() -> EventLog:
            return DynamoDBEventLog(name, "users", client=client)

        assert check_dies_and_repeats(open_log, tmp_path, clock, point, 1)
    client.close()


@pytest.mark.parametrize("error", [True, False], ids=["error", "no"])
def test_a_move_whose_answer_is_lost_is_recognised_as_its_own(
    open_log: OpenLog, tmp_path: Path, clock: Ticking, error: bool
) -> None:
    class LostAnswer(WrappedLog):
        def move_head(self, partition: str, move: HeadMove) -> bool:
            super().move_head(partition, move)
            if error:
                raise EventLogError("the connection broke")
            return False

    layer = layer_of(LostAnswer(open_log()), tmp_path, clock)
    layer.set(EVENTS)
    taken = layer.import_snapshot("", CACHE)
    assert (taken.folded, taken.version) == (3, 2)
    check_whole(open_log(), tmp_path, clock, events=3)


def test_a_move_that_failed_leaves_the_partition_as_it_was(open_log: OpenLog, tmp_path: Path, clock: Ticking) -> None:
    class Failing(WrappedLog):
        def move_head(self, partition: str, move: HeadMove) -> bool:
            raise EventLogError("no connection")

    layer = layer_of(Failing(open_log()), tmp_path, clock)
    layer.set(EVENTS)
    with pytest.raises(EventLogError, match="no connection"):
        layer.import_snapshot("", CACHE)
    assert layer.get() == PENDING
    assert layer_of(open_log(), tmp_path, clock).import_snapshot("", CACHE).folded == 3
    check_whole(open_log(), tmp_path, clock, events=3)


class NoLeases(WrappedLog):
    """A log whose leases keep nobody from anything, as those that have run out."""

    def lease(self, partition: str, owner: str, now: int, until: int) -> bool:
        return True


@pytest.mark.parametrize("point", ["after head", "after append", "after read", "before move_head"])
def test_a_sync_that_comes_between_makes_it_start_over_and_lose_nothing(
    open_log: OpenLog, tmp_path: Path, clock: Ticking, point: str
) -> None:
    log = Between(NoLeases(open_log()))
    ahead = Ticking()
    ahead.advance(3600)
    layer, other = layer_of(log, tmp_path, clock), layer_of(NoLeases(open_log()), tmp_path, ahead)
    other.set(EVENTS[:1])
    pending = iter(EVENTS[1:])

    def overtake() -> None:
        # The first look at the head is the one that says that nothing was folded; all later ones lose.
        other.set([next(pending)])
        other.sync()

    if point == "after head":
        log.then(point, lambda: log.then(point, overtake, times=2))
    else:
        log.then(point, overtake, times=2)
    taken = layer.import_snapshot("", CACHE)
    assert taken.count == 5
    for event in pending:
        other.set([event])
        other.sync()
    assert other.get() == WHOLE
    check_whole(open_log(), tmp_path, clock, events=3)


def test_who_has_read_past_the_mark_before_it_counted_sees_what_is_taken_over(
    open_log: OpenLog, tmp_path: Path, clock: Ticking
) -> None:
    log = Between(open_log())
    layer, reader = layer_of(log, tmp_path, clock), layer_of(open_log(), tmp_path, clock)
    layer.set(EVENTS[:1])
    seen: list[list[Item]] = []

    def read() -> None:
        reader.set(EVENTS[1:])
        seen.append(reader.get())

    log.then("before move_head", read)
    layer.import_snapshot("", CACHE)
    assert seen == [PENDING]
    assert reader.get() == WHOLE


def test_one_that_loses_every_time_says_so_after_a_bounded_number_of_tries(
    open_log: OpenLog, tmp_path: Path, clock: Ticking
) -> None:
    log = Between(NoLeases(open_log()))
    layer, other = layer_of(log, tmp_path, clock), layer_of(NoLeases(open_log()), tmp_path, clock)

    def overtake() -> None:
        other.set([put("x")])
        other.sync()

    log.then("before move_head", overtake, times=1000)
    with pytest.raises(ConflictError, match="at each of 32 tries to reset") as caught:
        layer.import_snapshot("", CACHE)
    assert caught.value.retryable
    assert other.get() == [{"id": "x"}]
    assert other.verify().findings == ()


def test_a_vacuum_that_comes_between_takes_nothing_that_is_named(
    open_log: OpenLog, tmp_path: Path, clock: Ticking
) -> None:
    log = Between(open_log())
    layer, other = layer_of(log, tmp_path, clock), layer_of(open_log(), tmp_path, clock)
    layer.set(EVENTS)
    log.then("before move_head", lambda: other.vacuum(dry_run=False), times=2)
    assert layer.import_snapshot("", CACHE).count == 5
    check_whole(open_log(), tmp_path, clock, events=3)


@pytest.mark.parametrize("leases", [True, False], ids=["leases", "none"])
def test_writers_and_syncers_at_the_same_time_lose_nothing_and_double_nothing(
    open_log: OpenLog, tmp_path: Path, leases: bool
) -> None:
    moments = Ticking()

    def made() -> Layer:
        return layer_of(open_log() if leases else NoLeases(open_log()), tmp_path, moments)

    acknowledged: dict[str, int] = {}
    failures: list[BaseException] = []
    begun, stop = threading.Barrier(5), threading.Event()

    def write(writer: int, layer: Layer) -> None:
        for number in range(40):
            layer.set([put(f"writer-{writer}-{number}", n=number), put(f"old-{writer}", n=number + 1000)])
            acknowledged[f"old-{writer}"] = number + 1000
            acknowledged[f"writer-{writer}-{number}"] = number
            assert {"id": f"writer-{writer}-{number}", "n": number} in layer.get()

    def sync(layer: Layer) -> None:
        while not stop.is_set():
            with suppress(ConflictError):
                layer.sync()
            stop.wait(random.uniform(0, 0.01))

    def guarded(do: Callable[[], None]) -> None:
        try:
            begun.wait(30)
            do()
        except BaseException as error:  # noqa: BLE001 -- told by the test
            failures.append(error)

    writers = [threading.Thread(target=guarded, args=(partial(write, w, made()),)) for w in range(3)]
    syncer = threading.Thread(target=guarded, args=(partial(sync, made()),))
    layer = made()
    for thread in (*writers, syncer):
        thread.start()
    begun.wait(30)
    taken = False
    for _ in range(200):
        try:
            layer.import_snapshot("", CACHE)
            taken = True
        except ConflictError:
            continue
        except InvalidInputError:  # a sync came first
            pass
        break
    for thread in writers:
        thread.join(60)
    stop.set()
    syncer.join(60)
    assert failures == []
    layer.sync()
    expected = {str(item["id"]): item["n"] for item in CACHE} if taken else {}
    expected |= acknowledged
    for reader in (layer, made()):
        assert {str(item["id"]): item["n"] for item in reader.get()} == expected
    assert len(layer.history()) == 240 == layer.meta().synced_total
    assert layer.verify().findings == ()
