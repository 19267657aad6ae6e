"""Resets: what partitions are afterwards, what events that come meanwhile become, and what is refused."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dynalayer import (
    AppendError,
    Capabilities,
    ClosedError,
    ConfigurationError,
    ConflictError,
    InvalidEventError,
    InvalidInputError,
    Item,
    Layer,
    LayerError,
    MemoryEventLog,
    ResetProgress,
    ResetResult,
    SpoolError,
    StorageError,
    SyncResult,
    hookimpl,
)
from dynalayer.eventlog.base import Run
from dynalayer.eventlog.checkpoints import CheckpointMove
from dynalayer.sourcing import sources
from dynalayer_local import LocalAdapter
from fakes import DAY, Between, Ticking
from strategies import exactly

Make = Callable[..., Layer]


def item(partition: str, identifier: str, **attributes: Any) -> Item:
    return {"pk": partition, "sk": identifier, **attributes}


def put(partition: str, identifier: str, **attributes: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": item(partition, identifier, **attributes)}


def delete(partition: str, identifier: str) -> dict[str, Any]:
    return {"type": "DELETE", "item": item(partition, identifier)}


OLD = [put("eu", "a", n=1), put("eu", "gone", n=1), put("us", "a", n=1), put("lost", "a")]
SOURCE = [item("eu", "a", n=2), item("eu", "b"), item("us", "a", n=1), item("new", "a")]


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def log() -> MemoryEventLog:
    return MemoryEventLog("users")


@pytest.fixture
def make(tmp_path: Path, clock: Ticking, log: MemoryEventLog) -> Make:
    def make(**options: Any) -> Layer:
        given: dict[str, Any] = {"get_item_unique_identifier": "sk", "get_item_partition": "pk", "lease": 0.2}
        given |= {"events": log, "clock": clock}
        if "getter" not in options:
            given["storage"] = LocalAdapter(tmp_path / "snapshots")
        return Layer(table="users", **given | options)

    return make


@pytest.fixture
def layer(make: Make) -> Layer:
    layer = make()
    layer.set(OLD)
    layer.sync()
    return layer


def contents(layer: Layer) -> dict[str, list[Item]]:
    return {name: layer.get(name) for name in layer.partitions()}


NEW = {"eu": SOURCE[:2], "us": SOURCE[2:3], "new": SOURCE[3:], "lost": []}


def test_partitions_become_what_the_source_has_and_those_it_no_longer_has_become_empty(
    layer: Layer, make: Make
) -> None:
    result = layer.reset(SOURCE)
    assert result == ResetResult(4, locked=False, partitions=("eu", "lost", "new", "us"))
    assert exactly(contents(layer)) == exactly(contents(make())) == exactly(NEW)
    assert layer.verify().findings == ()
    assert len(layer.history("eu")) == 2, "a reset is no event"


@pytest.mark.parametrize("synced", [True, False])
def test_pending_events_that_are_older_than_the_source_are_not_folded_over_it(make: Make, synced: bool) -> None:
    layer = make()
    layer.set(OLD)
    if synced:
        layer.sync()
    layer.reset(SOURCE)
    assert contents(layer) == NEW
    layer.sync()
    assert contents(make()) == NEW
    assert (layer.meta().unsynced_total, layer.meta().synced_total) == (0, 4)
    folded = [0, 0, 0] if synced else [2, 1, 1]
    assert [layer.meta(name).synced_last_total for name in ("eu", "us", "lost")] == folded
    assert all(event.cursor != "__INITIAL__" for name in NEW for event in layer.history(name))


def test_a_layer_that_keeps_all_history_keeps_that_of_before_and_of_while_it_was_reset(
    make: Make, log: MemoryEventLog, clock: Ticking
) -> None:
    layer = make(history="forever")
    layer.set(OLD[:1])
    layer.sync()
    layer.set(OLD[1:])  # pending, and below the noted version

    def source() -> Iterator[Item]:
        yield from SOURCE
        layer.set([put("eu", "late")])

    layer.reset(source)
    before = {name: layer.history(name) for name in layer.partitions()}
    assert [len(before[name]) for name in ("eu", "us", "lost", "new")] == [3, 1, 1, 0]
    clock.advance(20 * DAY)
    log.expire(clock(), 1000, "")
    assert {name: layer.history(name) for name in layer.partitions()} == before
    assert layer.get("eu", at=2) == [item("eu", "a", n=1), item("eu", "gone", n=1)]
    assert layer.verify().ok


def test_events_that_come_while_the_source_is_read_are_folded_on_top_synced_or_not(layer: Layer, make: Make) -> None:
    other = make()

    def source() -> Iterator[Item]:
        yield SOURCE[0]
        other.set([put("eu", "a", n=3), delete("eu", "b"), put("us", "c"), put("lost", "again"), put("unheard", "x")])
        other.sync("eu")
        yield from SOURCE[1:]

    assert layer.reset(source).count == 4
    assert contents(layer) == {
        "eu": [item("eu", "a", n=3)],
        "us": [SOURCE[2], item("us", "c")],
        "lost": [item("lost", "again")],
        "new": SOURCE[3:],
        "unheard": [item("unheard", "x")],
    }
    assert contents(make()) == contents(layer)
    assert layer.verify().findings == ()


def test_a_partition_is_reset_alone_and_items_of_others_are_left_out(layer: Layer, log: MemoryEventLog) -> None:
    before = {name: log.head(name) for name in ("us", "lost", "new")}
    assert layer.reset(SOURCE, "eu") == ResetResult(2, locked=False, partitions=("eu",))
    assert contents(layer) == {"eu": NEW["eu"], "us": [SOURCE[2]], "lost": [item("lost", "a")]}
    assert {name: log.head(name) for name in before} == before


def test_a_partition_whose_name_begins_anothers_is_left_alone(make: Make) -> None:
    layer = make()
    layer.set([put("user", "a"), put("users", "a"), put("users/x", "a")])
    layer.reset([item("user", "b")], "user")
    assert contents(layer) == {
        "user": [item("user", "b")],
        "users": [item("users", "a")],
        "users/x": [item("users/x", "a")],
    }


def test_a_table_whose_name_begins_anothers_is_left_alone(tmp_path: Path) -> None:
    def opened(table: str) -> Layer:
        return Layer(
            table=table,
            get_item_unique_identifier="sk",
            get_item_partition="pk",
            events=f"sqlite:///{tmp_path}/events.db",
            storage=f"local://{tmp_path}/snapshots",
        )

    with opened("user") as user, opened("users") as users:
        for each in (user, users):
            each.set(OLD)
            each.sync()
        before = contents(users)
        user.reset([])
        assert contents(user) == {"eu": [], "lost": [], "us": []}
        assert contents(users) == before
        assert users.verify().ok


def test_readers_see_each_partition_as_it_was_or_as_it_is_to_be_at_every_step(make: Make, log: MemoryEventLog) -> None:
    between = Between(log)
    layer, reader = make(events=between), make()
    reader.set(OLD)
    reader.sync()
    seen: list[dict[str, list[Item]]] = []
    for method in ("append", "read", "lease", "move_head", "partition_state", "mark", "checkpoint"):
        for when in ("before", "after"):
            between.then(f"{when} {method}", lambda: seen.append(contents(reader) | contents(make())), times=100)
    old = contents(reader)
    layer.reset(SOURCE)
    assert len(seen) > 50
    for state in seen:
        for name, items in state.items():
            assert items in (old.get(name, []), NEW[name])
    assert seen[0] == old
    assert contents(reader) == NEW


def test_a_partition_that_is_empty_and_stays_so_is_left_as_it_is(layer: Layer, log: MemoryEventLog) -> None:
    layer.reset(SOURCE)
    head = log.head("lost")
    assert layer.reset(SOURCE).partitions == ("eu", "new", "us")
    assert log.head("lost") == head
    assert layer.reset([], "unheard") == ResetResult(0, locked=False)
    assert "unheard" not in layer.partitions()


def test_a_layer_without_partitions_is_reset_as_one(make: Make) -> None:
    layer = make(get_item_partition=None)
    layer.set([put("", "a"), put("", "b")])
    assert layer.reset([{"sk": 1}, {"sk": "x"}]).partitions == ("",)
    assert layer.get() == [{"sk": 1}, {"sk": "x"}]


def test_partitions_that_only_events_told_are_not_emptied_by_a_reset_of_all(make: Make) -> None:
    layer = make(get_item_partition=None)
    layer.set([{"type": "PUT", "partition": "eu", "item": {"sk": "a"}}])
    with pytest.raises(ConfigurationError, match="events told of partitions, such as 'eu'"):
        layer.reset([{"sk": "b"}])
    assert layer.get("eu") == [{"sk": "a"}]
    assert layer.reset([{"sk": "b"}], "eu").count == 1
    assert layer.get("eu") == [{"sk": "b"}]


def test_what_observers_are_told_and_usage_counts(make: Make) -> None:
    told: list[SyncResult] = []

    class Watching:
        @hookimpl
        def layer_synced(self, result: SyncResult) -> None:
            told.append(result)

    layer = make(plugins=[Watching()])

    def source() -> Iterator[Item]:
        layer.set([put("eu", "c")])
        yield from SOURCE

    layer.reset(source)
    assert [(each.count, each.partitions) for each in told] == [(1, ("eu",))]
    assert layer.usage()["reset"].storage_writes == 3


# Others at work


@pytest.mark.parametrize("history", ["ttl", "forever"])
def test_events_that_come_during_the_scan_are_read_page_by_page(
    make: Make, log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch, history: str
) -> None:
    monkeypatch.setattr("dynalayer.resetting._PAGE_BYTES", 1)
    real, pages = MemoryEventLog.read, []

    def read(self: MemoryEventLog, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        run = real(self, partition, after, max_bytes=max_bytes)
        if max_bytes == 1 and partition == "eu":
            pages.append(len(run.records))
        return run

    monkeypatch.setattr(MemoryEventLog, "read", read)
    layer, other = make(history=history), make(history=history)
    layer.set(OLD)

    def source() -> Iterator[Item]:
        yield from SOURCE
        for number in range(6):
            layer.set([put("eu", f"m{number}", n=number)])
            if number == 2:
                other.sync()  # what is folded meanwhile is later than the scan all the same

    assert not layer.reset(source).locked
    assert pages == [1] * 7, "the six events and the reset"
    later = [item("eu", f"m{number}", n=number) for number in range(6)]
    assert exactly(layer.get("eu")) == exactly([*SOURCE[:2], *later])
    assert [event.id for event in layer.history("eu")] == ["a", "gone", *(f"m{number}" for number in range(6))]
    assert layer.verify().findings == ()
    assert layer.meta().unsynced_total == 0


def test_a_second_reset_meanwhile_touches_nothing(layer: Layer, make: Make, log: MemoryEventLog) -> None:
    other = make()
    found: list[ResetResult] = []

    def source() -> Iterator[Item]:
        versions = {name: log.partition_state(name) for name in log.partitions()}
        found.append(other.reset(lambda: pytest.fail("it was read")))
        found.append(other.reset(lambda: pytest.fail("it was read"), "eu"))
        assert {name: log.partition_state(name) for name in log.partitions()} == versions
        yield from SOURCE

    assert not layer.reset(source).locked
    assert found == [ResetResult(0, locked=True)] * 2
    assert other.reset(SOURCE).locked is False
    assert log.checkpoints("reset") == ()


def test_the_lease_is_kept_while_the_tails_of_many_partitions_are_noted(
    make: Make, log: MemoryEventLog, clock: Ticking
) -> None:
    between = Between(log)
    layer, other = make(events=between), make()
    layer.set(OLD + [put(f"p{number}", "a") for number in range(5)])
    found: list[bool] = []

    def late() -> None:
        clock.advance(0.15)
        found.append(other.reset(SOURCE).locked)

    between.then("before partition_state", late, times=8)
    assert layer.reset(SOURCE).count == 4
    assert found == [True] * 8


def test_resets_of_two_partitions_do_not_lock_each_other(layer: Layer, make: Make) -> None:
    other = make()

    def source() -> Iterator[Item]:
        assert other.reset([item("us", "z")], "us").count == 1
        assert other.reset([item("eu", "z")], "eu").locked
        yield from SOURCE

    layer.reset(source, "eu")
    assert (layer.get("eu"), layer.get("us")) == (NEW["eu"], [item("us", "z")])


def test_the_lease_of_a_reset_that_died_runs_out(layer: Layer, log: MemoryEventLog, clock: Ticking) -> None:
    until = clock() + 3_600_000_000
    log.move_checkpoint(CheckpointMove("reset", "all", 0, json.dumps({"owner": "dead", "until": until}).encode()))
    assert layer.reset(SOURCE).locked
    clock.advance(3601)
    assert layer.reset(SOURCE).count == 4


@pytest.mark.parametrize("value", [b"", b"[]", b'{"owner": 1}', b'{"owner": "x", "until": 9e99}'])
def test_a_lease_that_says_nothing_keeps_nobody_out(layer: Layer, log: MemoryEventLog, value: bytes) -> None:
    log.move_checkpoint(CheckpointMove("reset", "all", 0, value))
    assert layer.reset(SOURCE).count == 4


def test_one_whose_lease_ran_out_ends_when_another_has_begun(make: Make, clock: Ticking) -> None:
    layer, other = make(), make()
    layer.set(OLD)

    def source() -> Iterator[Item]:
        yield from SOURCE
        clock.advance(10)
        other.reset([item("eu", "others")])

    with pytest.raises(ConflictError, match="had run out, and another has begun since") as caught:
        layer.reset(source)
    assert caught.value.retryable
    assert contents(layer)["eu"] == [item("eu", "others")]


def test_a_partition_that_a_sync_is_at_work_on_is_waited_for(layer: Layer, make: Make, log: MemoryEventLog) -> None:
    log.lease("eu", "sync", 0, 2**60)
    assert log.lease("eu", "other", 1_800_000_000_000_000, 1) is True, "that one counts as run out"
    now = 1_800_000_000_000_000
    log.lease("eu", "other", now, now + 3_600_000_000)
    seen: list[ResetProgress] = []

    def progress(each: ResetProgress) -> None:
        seen.append(each)
        if each.partitions == 3:
            log.release("eu", "other")

    assert layer.reset(SOURCE, progress=progress).partitions == ("eu", "lost", "new", "us")
    assert contents(layer) == NEW


def test_a_partition_that_a_sync_does_not_let_go_is_left_and_named(
    layer: Layer, log: MemoryEventLog, tmp_path: Path
) -> None:
    now = 1_800_000_000_000_000
    log.lease("eu", "other", now, now + 3_600_000_000)
    result = layer.reset(SOURCE, spool=tmp_path / "spool")
    assert result == ResetResult(2, locked=True, partitions=("lost", "new", "us"), left=("eu",))
    assert layer.get("eu") == [item("eu", "a", n=1), item("eu", "gone", n=1)]
    log.release("eu", "other")
    result = layer.reset(SOURCE, spool=tmp_path / "spool")
    assert result == ResetResult(4, locked=False, partitions=("eu", "lost", "new", "us"))
    assert contents(layer) == NEW
    assert list(tmp_path.glob("spool*")) == []


def test_a_partition_whose_lease_a_sync_takes_while_it_is_reset_is_tried_again(
    make: Make, log: MemoryEventLog, clock: Ticking
) -> None:
    between = Between(log)
    layer = make(events=between)
    layer.set(OLD)
    layer.sync()

    def late() -> None:
        clock.advance(1)
        log.lease("eu", "other", clock.now, clock.now + 3_600_000_000)
        between.then("before lease", lambda: between.then("before lease", lambda: log.release("eu", "other")))

    between.then("after append", late)
    assert layer.reset(SOURCE, "eu") == ResetResult(2, locked=False, partitions=("eu",))
    assert layer.get("eu") == NEW["eu"]


# What cannot be taken


def test_an_item_that_cannot_be_taken_is_named_with_the_count_and_nothing_was_changed(
    layer: Layer, log: MemoryEventLog
) -> None:
    before = contents(layer), {name: log.partition_state(name) for name in log.partitions()}
    for wrong, reason in (
        ({"pk": "eu"}, "{'pk': 'eu'} of an iterable (list) cannot be taken: the item has no attribute 'sk'"),
        ({"sk": "a"}, "the item has no attribute 'pk', which is its partition"),
        (item("eu", ""), "the item's identifier is empty"),
        ({"pk": 5, "sk": "a"}, "a partition is text, not int"),
        (item("eu", "c", n=float("nan")), "attribute n: nan is no number"),
        (item("eu", "c", n=(1, 2)), "attribute n: a value of type tuple"),
        ("eu", "an item is a dict of attributes, not str"),
    ):
        with pytest.raises(InvalidEventError) as caught:
            layer.reset([*SOURCE, wrong, *SOURCE])
        assert reason in str(caught.value)
        assert "4 items were read before it, and nothing was changed" in str(caught.value)
        assert caught.value.operation == "reset"
    assert (contents(layer), {name: log.partition_state(name) for name in log.partitions()}) == before
    assert log.checkpoints("reset") == ()


def test_what_cannot_be_taken_is_set_aside_counted_and_durable_before_anything_is_committed(
    make: Make, log: MemoryEventLog, tmp_path: Path
) -> None:
    path = tmp_path / "dead.jsonl"
    path.write_text('{"a line that was cut": ')
    between = Between(log)
    layer = make(events=between)
    at: list[int] = []
    between.then("before append", lambda: at.append(len(path.read_text().splitlines())))
    wrong: list[Any] = [{"pk": "eu", "big": 10**30}, {"pk": "eu", "sk": "x", "n": (1,)}, "no item"]
    result = layer.reset([*SOURCE[:2], *wrong, *SOURCE[2:]], dead_letters=path)
    assert (result.count, result.refused) == (4, 3)
    assert at == [4]
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert lines[0] == {
        "source": "an iterable (list)",
        "reason": "the item has no attribute 'sk', which is its identifier",
        "item": {"pk": "eu", "big": {"$int": "1" + 30 * "0"}},
    }
    assert lines[1]["shown"] == "{'pk': 'eu', 'sk': 'x', 'n': (1,)}"
    assert lines[2]["shown"] == "'no item'"
    assert contents(layer) == {name: items for name, items in NEW.items() if name != "lost"}


def test_two_items_that_are_one_in_the_layer_are_both_named_and_the_same_one_twice_is_none(
    layer: Layer, log: MemoryEventLog
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        layer.reset([*SOURCE, item("eu", "b", twice=True)])
    both = "{'pk': 'eu', 'sk': 'b'} and {'pk': 'eu', 'sk': 'b', 'twice': True}"
    assert f"identifier 'b' in partition 'eu': {both}" in str(caught.value)
    assert layer.get("us") == [item("us", "a", n=1)]
    assert layer.reset([*SOURCE, *SOURCE]).count == 4


def test_what_is_no_source_is_refused_before_anything_is_asked(make: Make, log: MemoryEventLog, tmp_path: Path) -> None:
    layer = make()
    layer.set(OLD)
    wrong: list[Any] = [None, 5, "users", b"users", {"sk": "a"}, lambda: 5, lambda: "text"]
    for source in wrong:
        with pytest.raises(InvalidInputError):
            layer.reset(source)
    cases: list[tuple[Mapping[str, Any], str]] = [
        ({"progress": 5}, "progress is a function, not 5"),
        ({"spool": 5}, "spool is the path of a file, not 5"),
        ({"spool": ""}, "is no path"),
        ({"spool": tmp_path}, "is a folder, or a file in one that is not there"),
        ({"spool": tmp_path / "no" / "spool"}, "is a folder, or a file in one that is not there"),
        ({"dead_letters": 5}, "dead_letters is the path of a file, not 5"),
        ({"dead_letters": tmp_path}, "is a folder, or a file in one that is not there"),
    ]
    for options, reason in cases:
        with pytest.raises(InvalidInputError, match=reason):
            layer.reset(SOURCE, **options)
    with pytest.raises(InvalidInputError, match="a partition is text"):
        layer.reset(SOURCE, 5)  # type: ignore[arg-type] # what a user may do
    with pytest.raises(ConfigurationError, match="no get_item_unique_identifier"):
        make(get_item_unique_identifier=None).reset(SOURCE)
    assert len(layer.get("eu")) == 2
    layer.close()
    with pytest.raises(ClosedError):
        layer.reset(SOURCE)


def test_an_iterator_that_was_gone_through_already_empties_nothing(layer: Layer) -> None:
    source = iter(SOURCE)
    assert layer.reset(source).count == 4
    with pytest.raises(InvalidInputError, match="gave no item; perhaps it was gone through already"):
        layer.reset(source)
    assert contents(layer) == NEW


def test_a_source_that_breaks_off_changes_nothing_and_its_error_is_what_is_raised(
    layer: Layer, log: MemoryEventLog
) -> None:
    before = contents(layer)

    def source() -> Iterator[Item]:
        yield from SOURCE
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        layer.reset(source)
    assert contents(layer) == before
    assert log.checkpoints("reset") == ()


# Progress


def test_progress_tells_what_was_read_and_then_what_was_committed(layer: Layer) -> None:
    seen: list[ResetProgress] = []
    layer.reset([item("eu", str(number)) for number in range(1200)], progress=seen.append)
    assert [(each.phase, each.items, each.partitions, each.of) for each in seen] == [
        ("scan", 500, 0, None),
        ("scan", 1000, 0, None),
        ("scan", 1200, 0, None),
        ("scan", 1200, 0, None),
        ("commit", 1200, 1, 3),
        ("commit", 1200, 2, 3),
        ("commit", 1200, 3, 3),
    ]


@pytest.mark.parametrize("phase", ["scan", "commit"])
def test_what_progress_raises_ends_it_cleanly_and_with_a_spool_it_goes_on(
    layer: Layer, log: MemoryEventLog, tmp_path: Path, phase: str
) -> None:
    threads = threading.active_count()

    def stop(progress: ResetProgress) -> None:
        if progress.phase == phase:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layer.reset(SOURCE, progress=stop, spool=tmp_path / "spool")
    assert threading.active_count() == threads
    assert log.checkpoints("reset") == ()
    assert (tmp_path / "spool").exists()
    left: list[ResetProgress] = []
    assert layer.reset(SOURCE, progress=left.append, spool=tmp_path / "spool").count == 4
    assert next(each.partitions for each in left if each.phase == "commit") == (1 if phase == "scan" else 2)
    assert contents(layer) == NEW
    assert list(tmp_path.glob("spool*")) == []


# Storage


class Broken:
    name = "broken"
    capabilities = Capabilities(listing=False)

    def __init__(self, inner: LocalAdapter, partition: str) -> None:
        self._inner = inner
        self._partition = partition

    @hookimpl
    def layer_setter(self, partition: str, segment: Any) -> str:
        if partition == self._partition:
            raise OSError("no room")
        return self._inner.layer_setter(partition, segment)

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Any:
        return self._inner.layer_getter(partition, ref)

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> None: ...

    @hookimpl
    def layer_list(self, partition: str) -> list[str]:
        return []


def test_a_partition_that_cannot_be_stored_is_told_the_others_are_reset_and_the_spool_goes_on_with_it(
    layer: Layer, make: Make, tmp_path: Path
) -> None:
    broken = make(storage=Broken(LocalAdapter(tmp_path / "snapshots"), "eu"))
    with pytest.raises(StorageError, match="no room") as caught:
        broken.reset(SOURCE, spool=tmp_path / "spool")
    assert (caught.value.operation, caught.value.partition) == ("reset", "eu")
    assert contents(layer) == NEW | {"eu": [item("eu", "a", n=1), item("eu", "gone", n=1)]}
    assert layer.reset(SOURCE, spool=tmp_path / "spool").count == 4
    assert contents(layer) == NEW


def test_a_store_that_is_away_is_not_asked_for_every_partition(make: Make, tmp_path: Path) -> None:
    asked: list[str] = []

    class Away(Broken):
        @hookimpl
        def layer_setter(self, partition: str, segment: Any) -> str:
            asked.append(partition)
            raise OSError("away")

    layer = make(storage=Away(LocalAdapter(tmp_path / "snapshots"), ""))
    with pytest.raises(StorageError, match="away"):
        layer.reset([item(str(number), "a") for number in range(100)])
    assert len(asked) == 16


class Publishing(Broken):
    capabilities = Capabilities(deltas=False, listing=False, publishing=True)

    def __init__(self, inner: LocalAdapter) -> None:
        super().__init__(inner, "no partition")
        self.published: dict[str, list[Item]] = {}

    @hookimpl
    def layer_publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> None:
        self.published[partition] = [items[name] for name in sorted(items)]


def test_an_adapter_that_publishes_and_keeps_no_deltas_publishes_what_was_reset(make: Make, tmp_path: Path) -> None:
    adapter = Publishing(LocalAdapter(tmp_path / "other"))
    layer = make(storage=adapter)
    layer.set(OLD)
    layer.sync()

    def source() -> Iterator[Item]:
        layer.set([put("eu", "c")])
        yield from SOURCE

    layer.reset(source)
    assert adapter.published == NEW | {"eu": [*NEW["eu"], item("eu", "c")]} == contents(layer)


class Place:
    def __init__(self) -> None:
        self.kept: dict[str, list[Item]] = {}

    def getter(self, partition: str) -> list[Item]:
        return self.kept.get(partition, [])

    def setter(self, partition: str, items: list[Item]) -> None:
        self.kept[partition] = items


@pytest.mark.parametrize("synced", [True, False])
def test_a_plain_pair_is_reset_and_readers_meanwhile_do_not_fold_older_events_over_it(
    make: Make, log: MemoryEventLog, synced: bool
) -> None:
    place = Place()
    pair: dict[str, Any] = {"getter": place.getter, "setter": place.setter}
    between = Between(log)
    layer, reader = make(events=between, **pair), make(**pair)
    layer.set(OLD)
    if synced:
        layer.sync()
    seen: list[list[Item]] = []
    between.then("before move_head", lambda: seen.append(reader.get("us")), times=100)
    reset = [item("us", "a", n=7), item("us", "b")]
    layer.reset([*reset, *SOURCE[:2]])
    assert contents(layer) == {"eu": NEW["eu"], "us": reset, "lost": []}
    assert {len(items) for items in seen} == {1, 2}
    assert all(items in ([item("us", "a", n=1)], reset) for items in seen)
    assert place.kept["lost"] == []
    assert contents(make(**pair)) == contents(layer)


def test_a_plain_pair_whose_reset_died_before_it_was_committed_is_reset_by_the_next(
    make: Make, log: MemoryEventLog
) -> None:
    place = Place()
    pair: dict[str, Any] = {"getter": place.getter, "setter": place.setter}
    between = Between(log)
    layer = make(events=between, **pair)
    layer.set(OLD)
    layer.sync()

    def die() -> None:
        raise KeyboardInterrupt

    between.then("after append", die)
    with pytest.raises(KeyboardInterrupt):
        layer.reset(SOURCE)
    assert layer.reset(SOURCE) == ResetResult(4, locked=False, partitions=("eu", "lost", "new", "us"))
    assert contents(layer) == NEW


# The spool


def test_a_spool_of_something_else_is_refused_with_the_way_out(
    layer: Layer, make: Make, tmp_path: Path, clock: Ticking
) -> None:
    spool = tmp_path / "spool"

    def stop(_: ResetProgress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        layer.reset(SOURCE, spool=spool, progress=stop)
    kept = spool.read_bytes()
    refusals: tuple[Callable[[], object], ...] = (
        lambda: layer.reset(SOURCE, "eu", spool=spool),
        lambda: layer.reset(tuple(SOURCE), spool=spool),
        lambda: make(events=MemoryEventLog("users")).reset(SOURCE, spool=spool),
    )
    for refused in refusals:
        with pytest.raises(InvalidInputError, match=r"is of another reset, .*; this one is .* name a file that is not"):
            refused()
    clock.advance(DAY)
    with pytest.raises(InvalidInputError, match=r"a day ago or more: events .* may have expired\. Remove"):
        layer.reset(SOURCE, spool=spool)
    assert spool.read_bytes() == kept
    foreign = tmp_path / "foreign"
    for content in (b"not a database at all, and long enough to be none" * 30, b"SQLite format 3\0" + bytes(2000)):
        foreign.write_bytes(content)
        with pytest.raises((InvalidInputError, SpoolError), match="foreign"):
            layer.reset(SOURCE, spool=foreign)
        assert foreign.read_bytes() == content
    assert layer.get("eu") == [item("eu", "a", n=1), item("eu", "gone", n=1)]


def test_the_layers_own_log_is_no_spool(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    with Layer(table="users", get_item_unique_identifier="sk", events=f"sqlite:///{path}", storage="local:x") as layer:
        layer.set([{"type": "PUT", "item": {"sk": "a"}}])
        with pytest.raises(LayerError, match=r"events\.db"):
            layer.reset([{"sk": "b"}], spool=path)
        assert layer.get() == [{"sk": "a"}]
        assert layer.verify().ok


def test_a_spool_that_is_in_use_is_refused(layer: Layer, make: Make, tmp_path: Path) -> None:
    other = make()

    def source() -> Iterator[Item]:
        with pytest.raises(SpoolError, match="another process is at work with it") as caught:
            other.reset(SOURCE, spool=tmp_path / "spool")
        assert caught.value.retryable
        yield from SOURCE

    assert layer.reset(source, spool=tmp_path / "spool").count == 4


def test_a_reset_that_another_locks_out_leaves_no_spool(layer: Layer, make: Make, tmp_path: Path) -> None:
    other = make()

    def source() -> Iterator[Item]:
        assert other.reset(SOURCE, spool=tmp_path / "others").locked
        yield from SOURCE

    layer.reset(source)
    assert list(tmp_path.glob("others*")) == []


def test_dead_letters_that_a_spool_holds_are_not_dropped_by_a_call_without_a_file(layer: Layer, tmp_path: Path) -> None:
    spool, dead = tmp_path / "spool", tmp_path / "dead"
    dead.symlink_to(tmp_path / "no" / "folder")
    source: list[Any] = [*SOURCE, {"pk": "eu"}]
    with pytest.raises(SpoolError, match="dead letters could not be written"):
        layer.reset(source, spool=spool, dead_letters=dead)
    with pytest.raises(InvalidInputError, match="holds 1 item that could not be taken, and there is no file for them"):
        layer.reset(source, spool=spool)
    dead.unlink()
    assert layer.reset(source, spool=spool, dead_letters=dead).refused == 1
    assert len(dead.read_text().splitlines()) == 1


def test_memory_is_bounded_by_a_partition_and_a_page_and_not_by_the_source(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_PAGE", 50)
    layer = make(cache_bytes=0)
    partitions, items = 40, 250

    def source() -> Iterator[Item]:
        for number in range(items):
            for partition in range(partitions):
                yield item(f"p{partition}", f"i{number}", text=f"{partition} {number} ".ljust(400, "x"))

    tracemalloc.start()
    try:
        all_of_it = sum(len(str(each)) for each in source())
        tracemalloc.reset_peak()
        assert layer.reset(source).count == partitions * items
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < all_of_it / 3, f"{peak:,} of {all_of_it:,} bytes"
    assert len(layer.get("p7")) == items


def test_dead_letters_are_written_one_after_the_other(
    layer: Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_PAGE", 20)
    path = tmp_path / "dead.jsonl"
    tracemalloc.start()
    try:
        source = ({"pk": "eu", "text": "x" * 4000} for _ in range(1000))
        assert layer.reset(source, "eu", dead_letters=path).refused == 1000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = path.stat().st_size
    assert len(path.read_bytes().splitlines()) == 1000
    assert peak < size / 2, f"{peak:,} for {size:,} bytes"


def test_a_partition_that_took_so_long_that_events_have_expired_is_told(
    make: Make, log: MemoryEventLog, clock: Ticking
) -> None:
    between = Between(log)
    layer, other = make(events=between), make()
    layer.set(OLD)

    def take_long() -> None:
        clock.advance(1)
        other.set([put("eu", "late")])
        other.sync()
        clock.advance(6 * DAY)
        log.expire(clock(), 1000, "")

    between.then("before append", take_long)
    with pytest.raises(ConflictError, match="event records from 2 on were folded, and have expired") as caught:
        layer.reset(SOURCE)
    assert (caught.value.partition, caught.value.retryable) == ("eu", True)
    assert item("eu", "late") in layer.get("eu")


def test_an_append_that_failed_is_told_with_its_partition(make: Make, log: MemoryEventLog) -> None:
    between = Between(log)

    def fail() -> None:
        raise AppendError("no connection", outcomes={"eu": "not written"})

    layer = make(events=between)
    layer.set(OLD)
    between.then("before append", fail)
    with pytest.raises(AppendError, match="no connection") as caught:
        layer.reset(SOURCE)
    assert caught.value.partition == "eu"
    assert layer.get("us") == [SOURCE[2]]
