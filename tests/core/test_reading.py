"""A read sees every acknowledged event exactly once, whatever happens between its steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dynalayer import ConflictError, Layer, MemoryEventLog, Segment, SegmentMissingError, SQLiteEventLog
from dynalayer.eventlog.base import Draft, HeadMove, RecordKind, SegmentRef
from dynalayer.events import pack
from dynalayer_local import LocalAdapter
from fakes import DAY, Between, Ticking, delete, put

Make = Callable[..., Layer]


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def inner() -> MemoryEventLog:
    return MemoryEventLog("users")


@pytest.fixture
def log(inner: MemoryEventLog) -> Between:
    return Between(inner)


@pytest.fixture
def make(tmp_path: Path, clock: Ticking) -> Make:
    def make(log: Any, **options: Any) -> Layer:
        adapter = LocalAdapter(tmp_path / "snapshots")
        return Layer(
            table="users", get_item_unique_identifier="id", events=log, storage=adapter, clock=clock, **options
        )

    return make


def test_a_reader_sees_its_own_writes_before_and_after_a_sync(make: Make, inner: MemoryEventLog) -> None:
    layer = make(inner)
    layer.set([put("b", n=1), put("a", n=1)])
    assert layer.get() == [{"id": "a", "n": 1}, {"id": "b", "n": 1}]
    layer.sync()
    layer.set([delete("a"), put("c", n=1)])
    assert layer.get() == [{"id": "b", "n": 1}, {"id": "c", "n": 1}]


def test_the_last_event_of_an_id_wins_within_one_batch(make: Make, inner: MemoryEventLog) -> None:
    layer = make(inner)
    layer.set([put("a", n=1), delete("a"), put("a", n=2), put("b"), delete("b")])
    assert layer.get() == [{"id": "a", "n": 2}]
    layer.sync()
    assert layer.get() == [{"id": "a", "n": 2}]


def test_a_partition_never_heard_of_is_empty(make: Make, inner: MemoryEventLog) -> None:
    assert make(inner).get("nowhere") == []
    assert inner.partitions() == ()


def test_unsorted_gives_the_same_items(make: Make, inner: MemoryEventLog) -> None:
    layer = make(inner)
    layer.set([put(str(number)) for number in range(50)])
    unsorted = layer.get(sorted=False)
    assert sorted(unsorted, key=lambda item: str(item["id"])) == layer.get()


def test_what_a_caller_does_to_items_reaches_nobody_else(make: Make, inner: MemoryEventLog) -> None:
    layer = make(inner)
    given = put("a", tags=["x"], deep={"set": {1}})
    returned = layer.set([given])
    given["item"]["tags"].append("changed by the caller")
    returned[0].item["tags"].append("changed by the writer")
    for _ in range(2):
        (item,) = layer.get()
        assert item == {"id": "a", "tags": ["x"], "deep": {"set": {1}}}
        item["tags"].append("changed by a reader")
        item["deep"]["set"].add(2)
        layer.sync()


@pytest.mark.parametrize("warm", [False, True])
def test_a_head_that_moves_while_its_segments_are_read_is_read_again(
    make: Make, log: Between, inner: MemoryEventLog, clock: Ticking, *, warm: bool
) -> None:
    reader, other = make(log), make(inner)
    other.set([put("a", n=1)])
    other.sync()
    if warm:
        reader.get()

    def move_on() -> None:
        other.set([put("a", n=2), put("b", n=2)])
        other.sync()
        clock.advance(6 * DAY)  # what was folded expires, so that the run ends below the head
        other.set([put("c", n=3)])
        other.sync()

    log.then("before read", move_on)
    assert reader.get() == [{"id": "a", "n": 2}, {"id": "b", "n": 2}, {"id": "c", "n": 3}]
    assert not [record.version for record in inner.read("", 0).records if record.version == 2]


def test_a_segment_discarded_because_the_head_moved_is_no_error(
    make: Make, log: Between, inner: MemoryEventLog, clock: Ticking
) -> None:
    reader, other = make(log), make(inner)
    other.set([put(str(number)) for number in range(4)])
    other.sync()

    def move_on() -> None:
        for number in range(40):
            other.set([put(str(number % 4), n=number)])
            other.sync()
        clock.advance(6 * DAY)
        assert other.vacuum(dry_run=False).discarded

    log.then("after head", move_on)
    assert [item["n"] for item in reader.get()] == [36, 37, 38, 39]


def test_a_segment_that_is_gone_under_an_unchanged_head_names_both(
    make: Make, inner: MemoryEventLog, tmp_path: Path
) -> None:
    layer = make(inner)
    layer.set([put("a")])
    layer.sync()
    (segment,) = (tmp_path / "snapshots").glob("*/*.segment")
    segment.unlink()
    with pytest.raises(SegmentMissingError) as caught:
        layer.get()
    assert "the head at version 1" in str(caught.value)
    assert str(segment) in str(caught.value)
    assert caught.value.adapter == "local"
    assert "restore it from a copy, or rebuild the partition" in str(caught.value)


def test_a_head_that_never_stands_still_ends_in_an_error_that_says_to_try_again(
    make: Make, log: Between, inner: MemoryEventLog, clock: Ticking
) -> None:
    reader, other = make(log), make(inner)

    def move_on() -> None:
        for _ in range(2):
            other.set([put("a")])
            other.sync()
            clock.advance(6 * DAY)
        other.set([put("a")])
        other.sync()

    move_on()
    log.then("before read", move_on, times=1000)
    with pytest.raises(ConflictError) as caught:
        reader.get()
    assert caught.value.retryable
    assert log.calls.count("read") < 100


def test_a_reset_is_seen_by_a_reader_that_had_folded_past_it(make: Make, inner: MemoryEventLog, tmp_path: Path) -> None:
    """Resets come with a later release; readers must know them from the first."""
    layer = make(inner)
    layer.set([put("gone"), put("kept", n=1)])
    layer.sync()
    inner.append([Draft("", RecordKind.RESET, "nonce", 0, 0, DAY, pack([]))])
    layer.set([put("new")])
    assert [item["id"] for item in layer.get()] == ["gone", "kept", "new"], "an uncommitted reset changes nothing"
    segment = Segment("users", "", inner.origin, "base", 0, 2, {"kept": {"id": "kept", "n": 1}})
    ref = LocalAdapter(tmp_path / "snapshots").layer_setter("", segment)
    head = inner.head("")
    named = SegmentRef(ref, "base", 0, 2, 1, segment.name, "2026", 0)
    moved = replace(head, version=2, revision=head.revision + 1, segments=(named,), reset=2)
    assert inner.move_head("", HeadMove(head.revision, moved))
    assert [item["id"] for item in layer.get()] == ["kept", "new"], "a committed one replaces what came before"
    assert [item["id"] for item in make(inner).get()] == ["kept", "new"]


def test_a_damaged_record_is_named_and_nothing_is_half_folded(make: Make, inner: MemoryEventLog) -> None:
    layer = make(inner)
    layer.set([put("a", n=1)])
    layer.get()
    layer.set([put("a", n=2)])
    inner.append([Draft("", RecordKind.CHANGES, "nonce", 0, 1, DAY, b"Znonsense")])
    for _ in range(2):
        with pytest.raises(Exception, match="record 3 in memory: is damaged"):
            layer.get()
    assert layer.get(at=2) == [{"id": "a", "n": 2}]


def test_what_is_remembered_is_bounded_and_forgetting_changes_no_answer(make: Make, inner: MemoryEventLog) -> None:
    writer = make(inner)
    events = [{"partition": str(part), **put("a", text="x" * 1000, part=part)} for part in range(30)]
    writer.set(events)
    for size in (0, 1, 5000, 10**6):
        layer = make(inner, cache_bytes=size)
        for _ in range(2):
            for part in range(30):
                assert [item["part"] for item in layer.get(str(part))] == [part]
        assert layer._reading._snapshots._total <= size


def test_threads_that_read_and_write_and_sync_one_layer_miss_nothing(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    with Layer(
        table="users",
        get_item_unique_identifier="id",
        events=SQLiteEventLog(tmp_path / "events.db", "users"),
        storage=LocalAdapter(tmp_path / "snapshots"),
    ) as layer:

        def write(writer: int) -> None:
            for number in range(40):
                layer.set([put(f"{writer}-{number:03}", tags=[number])])
                mine = [item for item in layer.get() if item["id"].startswith(f"{writer}-")]
                assert [item["tags"] for item in mine] == [[each] for each in range(number + 1)]

        def sync() -> None:
            for _ in range(30):
                layer.sync()

        def run(job: Callable[[], None]) -> None:
            try:
                job()
            except BaseException as error:  # noqa: BLE001 -- whatever it is, the test fails with it
                failures.append(error)

        jobs = [*(partial(write, writer) for writer in range(3)), sync, sync]
        threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert len(layer.get()) == 120
        layer.sync()
        assert len(layer.get()) == 120
