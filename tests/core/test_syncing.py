"""What a sync does, leaves and tells."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynalayer import (
    Capabilities,
    ConfigurationError,
    EventLogError,
    Layer,
    LayerMeta,
    MemoryEventLog,
    PartitionMeta,
    Segment,
    SegmentMissingError,
    StorageError,
    SyncResult,
    hookimpl,
)
from dynalayer.clock import to_iso
from dynalayer.eventlog.base import Head, HeadMove
from dynalayer_local import LocalAdapter
from fakes import DAY, Between, Ticking, delete, put


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def inner() -> MemoryEventLog:
    return MemoryEventLog("users")


@pytest.fixture
def make(tmp_path: Path, clock: Ticking, inner: MemoryEventLog) -> Callable[..., Layer]:
    def make(**options: Any) -> Layer:
        adapter = LocalAdapter(tmp_path / "snapshots")
        given: dict[str, Any] = {"storage": adapter, "clock": clock, "events": inner, **options}
        return Layer(table="users", get_item_unique_identifier="id", **given)

    return make


class Failing(LocalAdapter):
    """A store that fails for some partitions."""

    def __init__(self, root: Path, *partitions: str) -> None:
        super().__init__(root)
        self.partitions = set(partitions)

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        if partition in self.partitions:
            raise OSError(f"no place for {partition}")
        return super().layer_setter(partition, segment)


class Shelf:
    """A stranger's adapter: in memory, without deltas."""

    name = "shelf"
    capabilities = Capabilities(deltas=False, listing=False)

    def __init__(self) -> None:
        self.kept: dict[str, Segment] = {}

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self.kept[segment.name] = segment
        return segment.name

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        if ref not in self.kept:
            raise SegmentMissingError(f"{ref} is not on the shelf")
        return self.kept[ref]

    def layer_discard(self, partition: str, ref: str) -> bool:
        raise NotImplementedError(ref)

    def layer_list(self, partition: str) -> list[str]:
        raise NotImplementedError(partition)


def test_a_sync_with_nothing_pending_says_so_and_counts_as_none(make: Callable[..., Layer]) -> None:
    layer = make()
    assert layer.sync() == SyncResult(0, locked=False)
    assert layer.meta() == LayerMeta("__INITIAL__", *(False, 0, 0, 0, 0, 0))


COUNTS = ("synced_last_total", "synced_times", "synced_total", "unsynced_last_total", "unsynced_total")


def counts(meta: LayerMeta | PartitionMeta) -> tuple[int, ...]:
    return tuple(getattr(meta, name) for name in COUNTS)


def test_meta_counts_events_of_the_layer_and_of_each_partition(make: Callable[..., Layer]) -> None:
    layer = make()
    layer.set([{"partition": "x", **put("a")}, {"partition": "x", **put("b")}, {"partition": "y", **put("a")}])
    layer.set([{"partition": "x", **put("c")}])
    assert counts(layer.meta()) == (0, 0, 0, 1, 4)
    assert counts(layer.meta("x")) == (0, 0, 0, 1, 3)
    first = layer.sync("x")
    assert first == SyncResult(3, locked=False, partitions=("x",), cursor=layer.meta().cursor)
    assert counts(layer.meta()) == (3, 1, 3, 0, 1), "nothing of the last set() is pending"
    layer.set([{"partition": "x", **put("d")}, {"partition": "y", **put("d")}])
    second = layer.sync()
    assert (second.count, second.partitions) == (3, ("x", "y"))
    assert counts(layer.meta()) == (3, 2, 6, 0, 0)
    assert counts(layer.meta("x")) == (1, 2, 4, 0, 0)
    assert layer.meta("x").cursor == layer.meta("y").cursor == layer.meta().cursor == second.cursor
    assert layer.meta("nowhere").version == 0
    assert make().meta() == layer.meta()


def test_a_sync_leaves_a_partition_whose_lease_another_holds(
    make: Callable[..., Layer], inner: MemoryEventLog, clock: Ticking
) -> None:
    layer = make(lease=30)
    layer.set([{"partition": "x", **put("a")}, {"partition": "y", **put("a")}])
    assert inner.lease("x", "another", clock(), clock() + 30_000_000)
    assert layer.sync("x") == SyncResult(0, locked=True)
    result = layer.sync()
    assert (result.count, result.locked, result.partitions) == (1, True, ("y",))
    clock.advance(31)
    result = layer.sync()
    assert (result.count, result.locked) == (1, False)


def test_a_sync_within_a_sync_finds_the_lease_taken(make: Callable[..., Layer], inner: MemoryEventLog) -> None:
    log = Between(inner)
    layer, other = make(events=log), make()
    layer.set([put("a")])
    seen: list[SyncResult] = []
    log.then("before move_head", lambda: seen.append(other.sync()))
    assert layer.sync().count == 1
    assert seen == [SyncResult(0, locked=True)]


def test_a_lease_is_given_back_also_by_a_sync_that_failed(make: Callable[..., Layer], tmp_path: Path) -> None:
    store = Failing(tmp_path / "snapshots", "")
    layer = make(storage=store)
    layer.set([put("a")])
    with pytest.raises(StorageError):
        layer.sync()
    store.partitions.clear()
    assert layer.sync() == SyncResult(1, locked=False, partitions=("",), cursor=layer.meta().cursor)


def test_an_adapters_failure_reaches_the_caller_and_leaves_everything_pending(
    make: Callable[..., Layer], tmp_path: Path
) -> None:
    layer = make(storage=Failing(tmp_path / "snapshots", "y", "z"))
    layer.set([{"partition": name, **put("a")} for name in "xyz"])
    with pytest.raises(StorageError) as caught:
        layer.sync()
    error = caught.value
    assert (error.operation, error.partition, error.adapter) == ("sync", "y", "local")
    assert isinstance(error.__cause__, OSError)
    assert "no place for y" in str(error)
    assert any("no place for z" in note for note in error.__notes__)
    assert [layer.meta(name).unsynced_total for name in "xyz"] == [0, 1, 1], (
        "a failure keeps no other from being folded"
    )
    assert [layer.get(name) for name in "xyz"] == [[{"id": "a"}]] * 3


def test_a_syncer_that_loses_the_compare_and_set_folds_what_is_left(
    make: Callable[..., Layer], inner: MemoryEventLog, clock: Ticking
) -> None:
    log = Between(inner)
    slow, quick = make(events=log, lease=1), make()
    slow.set([put("a", n=1)])

    def overtake() -> None:
        clock.advance(5)
        quick.set([put("b", n=1)])
        assert quick.sync().count == 2
        quick.set([put("c", n=1)])

    log.then("before move_head", overtake)
    assert slow.sync().count == 1
    assert [item["id"] for item in make().get()] == ["a", "b", "c"]
    assert (make().meta().synced_total, make().meta().unsynced_total) == (3, 0)
    assert make().verify().ok


def test_cursors_rise_with_the_versions_whatever_the_clocks_say(make: Callable[..., Layer], clock: Ticking) -> None:
    layer = make()
    cursors = []
    for back in (0, 7200, 0, 10, 0):
        clock.advance(-back)
        layer.set([put("a")])
        cursors.append(layer.sync().cursor)
    assert cursors == sorted(set(filter(None, cursors)))
    marked = [event.cursor for event in layer.history()]
    assert marked == cursors


def test_the_cursor_is_the_time_of_the_sync(make: Callable[..., Layer], clock: Ticking) -> None:
    layer = make()
    layer.set([put("a")])
    before = to_iso(clock())
    cursor = layer.sync().cursor
    assert cursor is not None
    assert before < cursor < to_iso(clock())
    assert cursor.endswith("Z")


def test_a_backlog_larger_than_one_segment_takes_is_folded_in_one_sync(
    make: Callable[..., Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynalayer.syncing._FOLD_BYTES", 200)
    layer = make()
    for number in range(100):
        layer.set([put(str(number % 10), n=number)])
    result = layer.sync()
    assert result.count == 100
    assert counts(layer.meta()) == (100, 1, 100, 0, 0)
    assert [item["n"] for item in make().get()] == list(range(90, 100))
    assert make().verify().ok
    assert {event.cursor for event in layer.history()} == {result.cursor}


def test_an_adapter_without_deltas_is_given_bases_only(make: Callable[..., Layer]) -> None:
    shelf = Shelf()
    layer = make(storage=shelf)
    for number in range(5):
        layer.set([put("a", n=number), put(str(number))])
        layer.sync()
    assert {segment.kind for segment in shelf.kept.values()} == {"base"}
    assert len(make(storage=shelf).get()) == 6
    assert [layer.get(at=version)[-1]["n"] for version in range(1, 6)] == [0, 1, 2, 3, 4]
    with pytest.raises(ConfigurationError, match="can list and discard"):
        layer.vacuum()


def test_an_adapter_that_returns_no_ref_is_told_and_nothing_is_folded(make: Callable[..., Layer]) -> None:
    class Silent(Shelf):
        @hookimpl
        def layer_setter(self, partition: str, segment: Segment) -> str:
            return "x" * 257

    layer = make(storage=Silent())
    layer.set([put("a")])
    with pytest.raises(StorageError, match="no ref of 1 to 256 bytes"):
        layer.sync()
    assert layer.meta().unsynced_total == 1


def test_a_delta_keeps_the_deletion_of_what_lies_below(make: Callable[..., Layer]) -> None:
    layer = make()
    layer.set([put("a"), put("b")])
    layer.sync()
    layer.set([put("a", n=1), delete("a"), put("c"), delete("c")])
    layer.sync()
    assert make().get() == [{"id": "b"}]


def test_expired_records_are_deleted_in_bounded_portions(
    make: Callable[..., Layer], clock: Ticking, inner: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynalayer.syncing._EXPIRED_AT_ONCE", 10)
    layer = make(ttl=DAY)
    for number in range(25):
        layer.set([put("a", n=number)])
    layer.sync()
    clock.advance(2 * DAY)
    kept = []
    for _ in range(4):
        layer.set([put("a")])
        layer.sync()
        kept.append(len(inner.read("", 0).records))
    assert kept == [16, 7, 3, 4]


def test_vacuum_tells_first_and_discards_only_what_nothing_names(
    make: Callable[..., Layer], clock: Ticking, tmp_path: Path
) -> None:
    layer = make(ttl=DAY)
    for number in range(60):
        layer.set([put(str(number % 3), n=number)])
        layer.sync()
    assert layer.vacuum().discarded == (), "what history may need is kept"
    files = set((tmp_path / "snapshots").rglob("*.segment"))
    clock.advance(2 * DAY)
    told = layer.vacuum()
    assert told.dry_run
    assert told.discarded
    assert set((tmp_path / "snapshots").rglob("*.segment")) == files
    done = layer.vacuum(dry_run=False)
    assert done.discarded == told.discarded
    assert {path.name for path in files} - {path.name for path in (tmp_path / "snapshots").rglob("*.segment")} == {
        ref for _, ref in done.discarded
    }
    assert layer.vacuum().discarded == ()
    assert [item["n"] for item in make().get()] == [57, 58, 59]
    assert layer.verify().ok


def test_verify_counts_what_it_read_and_finds_nothing_where_all_is_well(make: Callable[..., Layer]) -> None:
    layer = make()
    layer.set([{"partition": "x", **put("a")}, {"partition": "y", **put("a")}])
    layer.sync("x")
    result = layer.verify()
    assert (result.partitions, result.segments, result.records, result.findings) == (2, 1, 2, ())
    assert layer.verify("y").segments == 0


def test_the_cursor_told_is_that_of_everything_folded_also_where_syncs_overlap(
    make: Callable[..., Layer], inner: MemoryEventLog
) -> None:
    log = Between(inner)
    slow, quick = make(events=log), make()
    slow.set([{"partition": "p1", **put("x", n=1)}, {"partition": "p2", **put("x", n=1)}])

    def overtake() -> None:
        quick.set([{"partition": "p2", **put("x", n=2)}])
        assert quick.sync("p2").count == 2
        quick.set([{"partition": "p2", **put("x", n=3)}])

    # p1 is leased, folded and given back before p2 is looked at.
    log.then("after release", overtake)
    result = slow.sync()
    assert (result.count, result.partitions) == (2, ("p1", "p2"))
    assert result.cursor is not None
    assert [item["n"] for name in ("p1", "p2") for item in slow.get(name, at=result.cursor)] == [1, 3]
    assert slow.meta().synced_times == 2


def test_a_sync_that_failed_somewhere_still_tells_observers_what_it_folded(
    make: Callable[..., Layer], tmp_path: Path
) -> None:
    class Observer:
        def __init__(self) -> None:
            self.told: list[SyncResult] = []

        @hookimpl
        def layer_synced(self, result: SyncResult) -> None:
            self.told.append(result)

    observer = Observer()
    layer = make(storage=Failing(tmp_path / "snapshots", "bad"), plugins=[observer])
    layer.set([{"partition": "bad", **put("a")}, {"partition": "good", **put("a")}])
    with pytest.raises(StorageError):
        layer.sync()
    assert [result.partitions for result in observer.told] == [("good",)]


def test_housekeeping_that_fails_does_not_hide_that_a_sync_succeeded(
    make: Callable[..., Layer], inner: MemoryEventLog
) -> None:
    def fail() -> None:
        raise EventLogError("cannot delete")

    log = Between(inner)
    log.then("before expire", fail)
    layer = make(events=log)
    layer.set([put("a")])
    assert layer.sync().count == 1


def test_a_fault_of_ours_in_one_partition_stops_no_other(make: Callable[..., Layer], inner: MemoryEventLog) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    log = Between(inner)
    log.then("before unmarked", fail)
    layer = make(events=log)
    for name in ("x", "y"):
        layer.set([{"partition": name, **put("a")}])
        inner.move_head(name, HeadMove(0, Head(revision=1)))
    log.then("before move_head", fail)
    with pytest.raises(ZeroDivisionError):
        layer.sync()
    assert [layer.meta(name).unsynced_total for name in ("x", "y")] == [1, 0]


def test_expiry_keeps_up_with_what_is_folded(
    make: Callable[..., Layer], clock: Ticking, inner: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynalayer.syncing._EXPIRED_AT_ONCE", 10)
    layer = make(ttl=DAY)
    kept = []
    for _ in range(4):
        for number in range(25):
            layer.set([put("a", n=number)])
        layer.sync()
        kept.append(len(inner.read("", 0).records))
        clock.advance(2 * DAY)
    assert max(kept) <= 50
    for _ in range(3):
        layer.sync()
    assert inner.read("", 0).records == (), "a sync with nothing pending deletes too"


def test_a_lease_taken_by_a_clock_far_ahead_does_not_lock_everybody_out(
    make: Callable[..., Layer], clock: Ticking, inner: MemoryEventLog
) -> None:
    layer = make()
    layer.set([put("a")])
    assert inner.lease("", "from the future", clock() + 365 * DAY * 10**6, clock() + 366 * DAY * 10**6)
    assert layer.sync().count == 1


def test_a_syncer_whose_clock_is_behind_lets_nothing_expire_early(
    make: Callable[..., Layer], clock: Ticking, inner: MemoryEventLog
) -> None:
    behind = Ticking()
    behind.advance(-10 * DAY)
    good, bad = make(ttl=DAY, storage=(shelf := Shelf())), make(ttl=DAY, storage=shelf, clock=behind)
    for number, layer in enumerate((good, bad, good)):
        good.set([put("a", n=number)])
        assert layer.sync().count == 1
    assert [event.version for event in good.history()] == [1, 2, 3]
    assert all(old.keep_until > clock() + DAY * 10**6 // 2 for old in inner.old_segments(""))


def test_what_is_pending_of_the_last_set_is_counted_and_nothing_of_earlier_ones(make: Callable[..., Layer]) -> None:
    layer = make()
    layer.set([{"partition": "p1", **put(str(number))} for number in range(3)])
    layer.set([{"partition": "p2", **put(str(number))} for number in range(5)])
    assert layer.meta().unsynced_last_total == 5
    layer.sync("p2")
    assert (layer.meta().unsynced_last_total, layer.meta().unsynced_total) == (0, 3)


def test_a_pending_record_that_is_gone_is_an_error_of_reads_and_syncs_alike(
    make: Callable[..., Layer], inner: MemoryEventLog
) -> None:
    layer = make()
    moments = [layer.set([put(str(number))])[0].at for number in range(4)]
    del inner._partitions[""].records[2]
    with pytest.raises(EventLogError, match="record 2 in memory: is missing"):
        layer.get()
    with pytest.raises(EventLogError, match="record 2 in memory: is missing"):
        layer.get(at=moments[3])
    assert layer.get(at=1) == [{"id": "0"}]
    assert layer.sync().count == 1, "what stands before it is folded"
    with pytest.raises(EventLogError, match="record 2 in memory: is missing"):
        layer.sync()
    assert any("is missing" in finding.problem for finding in layer.verify().findings)


def test_an_error_shows_until_a_sync_succeeds_and_not_until_one_was_locked_out(
    make: Callable[..., Layer], inner: MemoryEventLog, clock: Ticking, tmp_path: Path
) -> None:
    store = Failing(tmp_path / "snapshots", "")
    layer = make(storage=store, sync_strategy=lambda meta: True)
    layer.set([put("a")])
    assert "no place for" in str(layer.meta().error)
    store.partitions.clear()
    inner.lease("", "another", clock(), clock() + 60 * 10**6)
    layer.set([put("b")])
    assert layer.meta().error
    inner.release("", "another")
    layer.set([put("c")])
    assert (layer.meta().error, layer.meta().unsynced_total) == (None, 0)


def test_of_one_partition_one_job_waits_however_many_sets_ask_for_it(make: Callable[..., Layer]) -> None:
    jobs: list[Callable[[], None]] = []
    layer = make(sync_strategy=lambda meta: True, background_runner=jobs.append)
    for number in range(10):
        layer.set([put(str(number))])
    assert len(jobs) == 1
    jobs.pop()()
    assert layer.meta().unsynced_total == 0
    layer.set([put("more")])
    assert len(jobs) == 1


def test_a_vacuum_of_a_partition_never_heard_of_finds_nothing_and_makes_none(make: Callable[..., Layer]) -> None:
    layer = make()
    assert layer.vacuum("nowhere", dry_run=False).discarded == ()
    assert layer.partitions() == []


def test_a_fresh_lease_of_an_hour_is_not_taken_by_a_clock_that_is_a_little_behind(
    make: Callable[..., Layer], inner: MemoryEventLog
) -> None:
    make(lease=3600).set([put("a")])
    now = 1_800_000_000_000_000
    assert inner.lease("", "first", now, now + 3600 * 10**6)
    assert not inner.lease("", "second", now - 1000, now + 3600 * 10**6)


def test_a_sync_of_several_passes_that_is_overtaken_between_them_gives_rising_cursors(
    make: Callable[..., Layer], inner: MemoryEventLog, clock: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynalayer.syncing._FOLD_BYTES", 1)
    log = Between(inner)
    slow, quick = make(events=log, lease=3600), make()
    for number in range(3):
        slow.set([put("a", n=number)])

    def overtake() -> None:
        inner.release("", str(inner._partitions[""].lease_owner))
        quick.sync()
        quick.set([put("a", n=3)])

    log.then("after mark", overtake)
    slow.sync()
    cursors = [event.cursor for event in slow.history()]
    assert cursors == sorted(cursors)
    assert "__INITIAL__" not in cursors
    for cursor in set(cursors):
        assert slow.get(at=cursor) == [{"id": "a", "n": max(n for n, each in enumerate(cursors) if each <= cursor)}]


def test_a_reader_beside_a_sync_that_empties_a_plain_pair_sees_it_empty(inner: MemoryEventLog, clock: Ticking) -> None:
    shelf: dict[str, list[dict[str, Any]]] = {}

    def layer(events: Any) -> Layer:
        return Layer(
            table="users",
            get_item_unique_identifier="id",
            events=events,
            getter=shelf.get,
            setter=shelf.__setitem__,
            clock=clock,
        )

    writer = layer(inner)
    writer.set([put("a")])
    writer.sync()
    writer.set([delete("a")])
    log = Between(inner)
    log.then("after head", writer.sync)
    assert layer(log).get() == []


def test_more_segments_than_tries_that_a_vacuum_discarded_leave_the_records(
    make: Callable[..., Layer], clock: Ticking, tmp_path: Path
) -> None:
    shelf = Shelf()
    layer = make(storage=shelf, ttl=DAY)
    for number in range(25):
        layer.set([put("a", n=number)])
        layer.sync()
    named = {segment.ref for segment in layer._log.head("").segments}
    for ref in set(shelf.kept) - named:
        del shelf.kept[ref]
    assert [layer.get(at=version)[0]["n"] for version in range(1, 26)] == list(range(25))


def test_closing_waits_for_the_sync_of_another_thread(tmp_path: Path) -> None:
    entered, gate = threading.Event(), threading.Event()

    class Slow(LocalAdapter):
        @hookimpl
        def layer_setter(self, partition: str, segment: Segment) -> str:
            entered.set()
            assert gate.wait(30)
            return super().layer_setter(partition, segment)

    def layer(storage: LocalAdapter) -> Layer:
        events = f"sqlite:///{tmp_path}/events.db"
        return Layer(table="users", get_item_unique_identifier="id", events=events, storage=storage)

    slow = layer(Slow(tmp_path))
    slow.set([put("a")])
    results: list[SyncResult] = []
    syncing = threading.Thread(target=lambda: results.append(slow.sync()))
    syncing.start()
    assert entered.wait(30)
    closing = threading.Thread(target=slow.close)
    closing.start()
    gate.set()
    syncing.join()
    closing.join()
    assert [result.count for result in results] == [1]
    with layer(LocalAdapter(tmp_path)) as again:
        assert again.sync() == SyncResult(0, locked=False)
