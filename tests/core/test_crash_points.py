"""One process dies at each point of its work in turn; another, on the same log and folder, carries on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from dynalayer import (
    URL,
    Adapter,
    AppendError,
    Capabilities,
    ConfigurationError,
    Event,
    EventLog,
    EventLogError,
    Layer,
    MemoryEventLog,
    SQLiteEventLog,
    SyncResult,
)
from dynalayer.eventlog.base import HeadMove
from dynalayer.testing.faults import (
    RESET_POINTS,
    SET_POINTS,
    SYNC_POINTS,
    TAKEOVER_POINTS,
    VACUUM_POINTS,
    Crash,
    Crashed,
    CrashingStore,
    CrashPoints,
    WrappedLog,
)
from dynalayer.wrapping import WrappedAdapter
from dynalayer_local import LocalAdapter

P = ParamSpec("P")
T = TypeVar("T")

PARTITIONS = ("left", "right")
LEASE = 60
DAY = 24 * 3600
ARRIVALS = 40  # a sync here reaches no point more often


class Ticking:
    """A clock that the test moves; it also goes on by itself, so that no two moments are the same."""

    def __init__(self) -> None:
        self._now = 1_800_000_000_000_000

    def __call__(self) -> int:
        self._now += 1000
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += int(seconds * 1_000_000)


class World:
    """What outlives a process: a log, a folder, the time; and what was acknowledged so far."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder
        self.clock = Ticking()
        self.acknowledged: dict[str, list[tuple[int, str]]] = {partition: [] for partition in PARTITIONS}
        self._kind = kind
        self._memory = MemoryEventLog("users")
        self._opened: list[EventLog] = []
        self._token = 0

    def log(self) -> EventLog:
        """The log as a process that starts opens it."""
        if self._kind == "memory":
            return self._memory
        self._opened.append(SQLiteEventLog(self.folder / "events.db", "users"))
        return self._opened[-1]

    def layer(
        self,
        crash: Crash | None = None,
        log: EventLog | None = None,
        *,
        eager: bool = False,
        wrapper: object = None,
    ) -> Layer:
        """A layer as a process that starts makes it."""
        log = log or self.log()
        storage: list[object] = [wrapper] if wrapper is not None else []
        storage.append(f"local://{self.folder / 'snapshots'}")
        if crash is not None:
            log = CrashPoints(log, crash)
            storage.insert(0, CrashingStore(crash))
        return Layer(
            table="users",
            get_item_unique_identifier="sk",
            get_item_partition="pk",
            events=log,
            storage=storage,  # type: ignore[arg-type] # a list that grew
            sync_strategy=(lambda meta: True) if eager else None,
            clock=self.clock,
            lease=LEASE,
        )

    def events(self) -> list[dict[str, object]]:
        """A batch for both partitions: one id that is there each time, one that is new, one that goes."""
        self._token += 1
        token = f"token-{self._token}"
        batch: list[dict[str, object]] = []
        for partition in PARTITIONS:
            for change, name in (("UPDATE", "always"), ("PUT", token), ("DELETE", f"token-{self._token - 3}")):
                item = {"pk": partition, "sk": name, "token": f"{token}-{partition}-{change}"}
                batch.append({"type": change, "item": item})
        return batch

    def write(self, layer: Layer) -> None:
        """Set a batch, and remember it as acknowledged if it is."""
        self.acknowledge(layer.set(self.events()))

    def acknowledge(self, events: list[Event]) -> None:
        for event in events:
            self.acknowledged[event.partition].append((event.version, event.item["token"]))

    def acknowledge_written(self, events: list[dict[str, object]]) -> int:
        """Acknowledge what nobody was told of, but is there; tell how many."""
        items = [event["item"] for event in events]
        layer = self.layer()
        found = [event for partition in PARTITIONS for event in layer.history(partition) if event.item in items]
        self.acknowledge(found)
        return len(found)

    def total(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def files(self, partition: str) -> set[str]:
        return {path.name for path in (self.folder / "snapshots" / "users" / partition).iterdir()}

    def copy(self, folder: Path) -> World:
        """Another of the same past, of one that is closed and in SQLite."""
        shutil.copytree(self.folder, folder)
        other = World(self._kind, folder)
        other.clock = copy(self.clock)
        other.acknowledged = {partition: list(events) for partition, events in self.acknowledged.items()}
        other._token = self._token
        return other

    def close(self) -> None:
        for log in self._opened:
            log.close()
        self._memory.close()


def prepare(world: World) -> None:
    """Leave both partitions so that the next sync writes a delta and then compacts."""
    layer = world.layer()
    for _ in range(8):
        world.write(layer)
        assert layer.sync().count == 6
    for _ in range(2):
        world.write(layer)


@contextmanager
def closing(world: World) -> Iterator[World]:
    try:
        yield world
    finally:
        world.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A prepared SQLite world to copy, which is quicker than to prepare each."""
    with closing(World("sqlite", tmp_path_factory.mktemp("template"))) as world:
        prepare(world)
    return world


def prepared(kind: str, folder: Path, template: World) -> World:
    if kind == "sqlite":
        return template.copy(folder)
    world = World(kind, folder)
    prepare(world)
    return world


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(kind: str, tmp_path: Path, template: World) -> Iterator[World]:
    with closing(prepared(kind, tmp_path / "world", template)) as world:
        yield world


def folded(layer: Layer, partition: str) -> list[dict[str, object]]:
    """A partition's items, by the events of its history."""
    items: dict[str, dict[str, object]] = {}
    for event in layer.history(partition):
        if event.type == "DELETE":
            items.pop(event.id, None)
        else:
            items[event.id] = event.item
    return [items[identifier] for identifier in sorted(items)]


def check_everything_once(world: World, layer: Layer) -> None:
    """Every acknowledged event, and no other, is read exactly once, and counted exactly once."""
    cursors: list[str] = []
    synced = unsynced = 0
    for partition in PARTITIONS:
        history = layer.history(partition)
        assert [(event.version, event.item["token"]) for event in history] == world.acknowledged[partition]
        assert layer.get(partition) == folded(layer, partition)
        meta = layer.meta(partition)
        pending = sum(event.cursor == "__INITIAL__" for event in history)
        assert (meta.unsynced_total, meta.synced_total) == (pending, len(history) - pending)
        cursors += [event.cursor for event in history if event.cursor != "__INITIAL__"]
        synced, unsynced = synced + meta.synced_total, unsynced + meta.unsynced_total
    whole = layer.meta()
    assert (whole.synced_total, whole.unsynced_total) == (synced, unsynced)
    assert synced + unsynced == world.total()
    assert whole.synced_times == len(set(cursors))
    assert whole.cursor == max(cursors, default="__INITIAL__")
    assert whole.synced_last_total == cursors.count(whole.cursor)


def check_carries_on(world: World) -> None:
    """A process that starts now folds and marks what is left, and vacuums what was left lying about."""
    log = world.log()
    layer = world.layer(log=log)
    check_everything_once(world, layer)
    before = layer.meta()
    world.clock.advance(LEASE + 1)
    result = layer.sync()
    assert (result.count, result.locked) == (before.unsynced_total, False)
    assert log.pending() == ()
    check_all_folded(world, layer)

    layer.vacuum(dry_run=False)
    for partition in PARTITIONS:
        named = {each.ref for each in log.head(partition).segments}
        old = {each.segment.ref for each in log.old_segments(partition)}
        assert world.files(partition) == named | old
    check_all_folded(world, world.layer())

    world.clock.advance(6 * DAY)
    layer.vacuum(dry_run=False)
    for partition in PARTITIONS:
        assert world.files(partition) == {each.ref for each in log.head(partition).segments}
    check_all_folded(world, world.layer())

    world.write(layer)
    assert layer.sync().count == 6
    assert layer.verify().findings == ()


def check_all_folded(world: World, layer: Layer) -> None:
    check_everything_once(world, layer)
    assert layer.meta().unsynced_total == 0
    assert not any(event.cursor == "__INITIAL__" for each in PARTITIONS for event in layer.history(each))
    assert layer.verify().findings == ()
    assert layer.sync() == SyncResult(0, locked=False)


@pytest.mark.parametrize("point", SYNC_POINTS)
def test_a_sync_that_dies_at_any_point_loses_and_doubles_nothing(
    kind: str, point: str, tmp_path: Path, template: World
) -> None:
    for nth in range(1, ARRIVALS):
        with closing(prepared(kind, tmp_path / str(nth), template)) as world:
            crash = Crash(point, nth=nth, how="raise")
            layer = world.layer(crash)
            with suppress(Crashed):
                layer.sync()
            if crash.crashed is None:
                assert nth > 1, f"no sync gets {point}"
                return
            check_carries_on(world)
    pytest.fail(f"{point} is reached more than {ARRIVALS} times")


@pytest.mark.parametrize("point", SYNC_POINTS)
def test_nothing_expires_that_no_snapshot_holds_however_long_a_dead_sync_is_left(world: World, point: str) -> None:
    with pytest.raises(Crashed, match=point):
        world.layer(Crash(point, how="raise")).sync()
    log = world.log()
    before = world.layer(log=log)
    items, meta = {partition: before.get(partition) for partition in PARTITIONS}, before.meta()
    world.clock.advance(1000 * DAY)
    log.expire(world.clock(), 1_000_000, "")
    layer = world.layer(log=log)
    assert {partition: layer.get(partition) for partition in PARTITIONS} == items
    assert layer.meta() == meta
    assert layer.sync().count == meta.unsynced_total
    assert {partition: world.layer(log=log).get(partition) for partition in PARTITIONS} == items
    assert layer.meta().synced_total == world.total()
    assert layer.verify().findings == ()


@pytest.mark.parametrize("point", SYNC_POINTS)
def test_two_syncs_that_die_one_after_the_other_lose_and_double_nothing(world: World, point: str) -> None:
    for other in (point, "after move_head"):
        world.clock.advance(LEASE + 1)
        with pytest.raises(Crashed, match=other):
            world.layer(Crash(other, how="raise")).sync()
        world.write(world.layer())
    check_carries_on(world)


@pytest.mark.parametrize("point", SET_POINTS)
def test_a_set_that_dies_is_written_whole_or_not_at_all(world: World, point: str) -> None:
    unacknowledged = world.events()
    with pytest.raises(Crashed):
        world.layer(Crash(point, how="raise")).set(unacknowledged)
    assert world.acknowledge_written(unacknowledged) == (len(unacknowledged) if point == "after append" else 0)
    world.write(world.layer())
    check_carries_on(world)


@pytest.mark.parametrize("point", [point for point in SYNC_POINTS if point.endswith(("move_head", "mark", "setter"))])
def test_a_set_that_dies_in_the_sync_it_led_to_has_written_its_events(world: World, point: str) -> None:
    events = world.events()
    with pytest.raises(Crashed):
        world.layer(Crash(point, how="raise"), eager=True).set(events)
    assert world.acknowledge_written(events) == len(events)
    check_carries_on(world)


class Recorder:
    """Notes the crash points that are reached."""

    def __init__(self) -> None:
        self.points: set[str] = set()

    def around(self, inner: Adapter) -> Adapter:
        recorder = self

        class Recording(WrappedAdapter):
            def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
                return recorder.note(method, call, *args, **kwargs)

        return Recording(inner)

    def log(self, inner: EventLog) -> EventLog:
        recorder = self

        class Recording(WrappedLog):
            def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
                return recorder.note(method, call, *args, **kwargs)

        return Recording(inner)

    def note(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self.points |= {f"before {method}", f"after {method}"}
        return call(*args, **kwargs)


def test_the_lists_of_crash_points_name_all_that_a_set_and_a_sync_reach_and_nothing_else(world: World) -> None:
    recorder = Recorder()
    layer = Layer(
        table="users",
        get_item_unique_identifier="sk",
        get_item_partition="pk",
        events=recorder.log(world.log()),
        storage=[recorder, f"local://{world.folder / 'snapshots'}"],
        clock=world.clock,
    )
    world.write(layer)
    assert recorder.points == set(SET_POINTS)
    recorder.points.clear()
    layer.sync()
    assert recorder.points == set(SYNC_POINTS)
    world.clock.advance(6 * DAY)
    recorder.points.clear()
    layer.vacuum(dry_run=False)
    assert recorder.points == set(VACUUM_POINTS)


def test_the_list_of_a_takeovers_crash_points_names_all_that_it_reaches_and_nothing_else(tmp_path: Path) -> None:
    recorder = Recorder()
    log = MemoryEventLog("users")
    layer = Layer(
        table="users",
        get_item_unique_identifier="sk",
        events=recorder.log(log),
        storage=[recorder, f"local://{tmp_path}"],
    )
    layer.set([{"type": "PUT", "item": {"sk": "a"}}])
    recorder.points.clear()
    layer.import_snapshot("", [{"sk": "b"}])
    assert recorder.points == set(TAKEOVER_POINTS)


def test_the_list_of_a_resets_crash_points_names_all_that_it_reaches_and_nothing_else(tmp_path: Path) -> None:
    recorder = Recorder()
    log = MemoryEventLog("users")
    layer = Layer(
        table="users",
        get_item_unique_identifier="sk",
        events=recorder.log(log),
        storage=[recorder, f"local://{tmp_path}"],
    )
    layer.set([{"type": "PUT", "item": {"sk": "a"}}])
    recorder.points.clear()
    layer.reset([{"sk": "b"}])
    assert recorder.points == set(RESET_POINTS)


def test_what_has_crashed_reaches_neither_log_nor_storage_any_more(world: World) -> None:
    crash = Crash("after layer_setter", how="raise")
    layer = world.layer(crash)
    with pytest.raises(Crashed):
        layer.sync()
    for call in (lambda: layer.set(world.events()), layer.sync, layer.meta, lambda: layer.get("left")):
        with pytest.raises(Crashed, match="after layer_setter"):
            call()
    check_carries_on(world)


def test_a_crash_of_a_given_probability_comes_at_the_same_arrival_for_the_same_seed() -> None:
    def arrival(seed: int) -> int:
        crash = Crash("before mark", "after head", probability=0.1, seed=seed, how="raise")
        for count in range(1000):
            try:
                crash.around("mark", int)
            except Crashed:
                return count
        return -1

    assert [arrival(seed) for seed in range(20)] == [arrival(seed) for seed in range(20)]
    assert len({arrival(seed) for seed in range(20)}) > 3


def test_a_crash_is_told_before_it_comes() -> None:
    told: list[str] = []
    crash = Crash("after mark", nth=2, how="raise", tell=told.append)
    crash.around("mark", int)
    assert told == []
    with pytest.raises(Crashed):
        crash.around("mark", int)
    assert told == ["after mark"]


@pytest.mark.parametrize("options", [{"nth": 0}, {"probability": 1.5}, {"probability": -0.1}])
def test_a_crash_that_can_never_come_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="never comes"):
        Crash("after mark", **options)  # type: ignore[arg-type] # nth is whole


def test_a_crash_at_a_point_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no crash point 'after marking'"):
        Crash("after marking")


def test_wrappers_pass_on_name_and_capabilities(tmp_path: Path) -> None:
    inner = LocalAdapter.from_url(URL("local", str(tmp_path)), "users")
    outer = CrashingStore(Crash()).around(inner)
    assert (outer.name, outer.capabilities) == (inner.name, inner.capabilities)


class LostAnswers(WrappedLog):
    """Moves heads, but says otherwise where it is told to: by an error, or by a no."""

    def __init__(self, log: EventLog, lost: Callable[[HeadMove], bool], *, error: bool) -> None:
        super().__init__(log)
        self._lost = lost
        self._error = error
        self.times = 0

    def move_head(self, partition: str, move: HeadMove) -> bool:
        moved = super().move_head(partition, move)
        if not moved or not self._lost(move):
            return moved
        self.times += 1
        if self._error:
            raise EventLogError("the connection broke")
        return False


def of_a_fold(move: HeadMove) -> bool:
    return move.folded > 0


def of_a_compaction(move: HeadMove) -> bool:
    return move.folded == 0


@pytest.mark.parametrize("error", [True, False], ids=["error", "no"])
@pytest.mark.parametrize("lost", [of_a_fold, of_a_compaction])
def test_a_sync_recognises_the_head_it_moved_itself_and_counts_once(
    world: World, lost: Callable[[HeadMove], bool], error: bool
) -> None:
    log = LostAnswers(world.log(), lost, error=error)
    layer = world.layer(log=log)
    pending = layer.meta().unsynced_total
    assert layer.sync().count == pending == 12
    assert log.times == len(PARTITIONS)
    check_all_folded(world, layer)
    check_carries_on(world)


def test_a_move_that_failed_and_did_not_move_leaves_everything_pending(world: World) -> None:
    class Failing(WrappedLog):
        def move_head(self, partition: str, move: HeadMove) -> bool:
            raise EventLogError(f"no connection: {partition} {move.expected}")

    with pytest.raises(EventLogError, match="no connection: left") as raised:
        world.layer(log=Failing(world.log())).sync()
    assert "no connection: right" in str(raised.value.__notes__)
    assert world.layer().meta().unsynced_total == 12
    check_carries_on(world)


class BasesOnly:
    """A wrapper for a `storage` list: the store behind it keeps no deltas."""

    def around(self, inner: Adapter) -> Adapter:
        adapter = WrappedAdapter(inner)
        adapter.capabilities = Capabilities(deltas=False)
        return adapter


class Overtaken(WrappedLog):
    """The log of a sync so slow that its lease runs out: right before its move another sync of the partition begins.

    The move is made all the same, right before that other's n-th call to its log; then the slow one dies, and marks
    nothing.
    """

    def __init__(self, world: World, nth: int, wrapper: object) -> None:
        super().__init__(world.log())
        self._world = world
        self._nth = nth
        self._wrapper = wrapper
        self.reached = False

    def move_head(self, partition: str, move: HeadMove) -> bool:
        slow = self

        class Other(WrappedLog):
            calls = 0

            def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
                self.calls += 1
                if self.calls == slow._nth:
                    slow.reached = True
                    self._log.move_head(partition, move)
                return call(*args, **kwargs)

        self._world.clock.advance(LEASE + 1)
        self._world.write(self._world.layer())
        self._world.layer(log=Other(self._world.log()), wrapper=self._wrapper).sync(partition)
        raise Crashed("after move_head")


@pytest.mark.parametrize("wrapper", [None, BasesOnly()], ids=["deltas", "bases only"])
def test_a_sync_behind_whose_back_a_dying_one_moves_the_head_counts_and_marks_exactly(
    kind: str, tmp_path: Path, template: World, wrapper: object
) -> None:
    for nth in range(1, ARRIVALS):
        with closing(prepared(kind, tmp_path / str(nth), template)) as world:
            log = Overtaken(world, nth, wrapper)
            with pytest.raises(Crashed):
                world.layer(log=log, wrapper=wrapper).sync("left")
            if not log.reached:
                assert nth > 8
                return
            check_carries_on(world)
    pytest.fail(f"a sync makes more than {ARRIVALS} calls to its log")


def test_an_append_whose_answer_is_lost_is_an_error_that_says_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(World("sqlite", tmp_path)) as world:
        log = world.log()
        assert isinstance(log, SQLiteEventLog)
        writing = log._file.writing

        @contextmanager
        def broken() -> Iterator[object]:
            with writing() as connection:
                yield connection
            raise EventLogError("disk I/O error")

        layer = world.layer(log=log)
        world.write(layer)
        events = world.events()
        with monkeypatch.context() as patch:
            patch.setattr(log._file, "writing", broken)
            with pytest.raises(AppendError) as raised:
                layer.set(events)
        assert raised.value.outcomes == dict.fromkeys(PARTITIONS, "unknown")
        assert not raised.value.retryable
        assert world.acknowledge_written(events) == len(events)
        check_carries_on(world)


def test_an_append_that_failed_before_its_commit_says_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(World("sqlite", tmp_path)) as world:
        log = world.log()
        assert isinstance(log, SQLiteEventLog)

        @contextmanager
        def broken() -> Iterator[object]:
            raise EventLogError("no file")
            yield

        layer = world.layer(log=log)
        world.write(layer)
        with monkeypatch.context() as patch:
            patch.setattr(log._file, "writing", broken)
            with pytest.raises(AppendError) as raised:
                layer.set(world.events())
        assert raised.value.outcomes == dict.fromkeys(PARTITIONS, "not written")
        check_carries_on(world)
