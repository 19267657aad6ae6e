"""What a call costs grows with the change, not with the partition; what is known already costs nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from dynalayer import Adapter, EventLog, Item, Layer, MemoryEventLog, Segment, SQLiteEventLog
from dynalayer.eventlog.base import Head, HeadMove, SegmentRef
from dynalayer.testing.faults import WrappedLog
from dynalayer.wrapping import WrappedAdapter
from dynalayer_local import LocalAdapter

P = ParamSpec("P")
T = TypeVar("T")

HUGE = 1_000_000
DIGITS = 64  # bytes by which the numbers in a call may be longer, where they count a million


@dataclass
class Calls:
    """Calls that went by, in order, and the bytes that they took and gave, as text."""

    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def pass_on(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        answer = call(*args, **kwargs)
        self.names.append(method)
        self.sizes.append(len(repr((args, kwargs, answer))))
        self.segments += [value for value in kwargs.values() if isinstance(value, Segment)]
        return answer

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc] # as new


class CountingLog(WrappedLog):
    def __init__(self, log: EventLog, calls: Calls) -> None:
        super().__init__(log)
        self._calls = calls

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._calls.pass_on(method, call, *args, **kwargs)


class CountingAdapter(WrappedAdapter):
    def __init__(self, inner: Adapter, calls: Calls) -> None:
        super().__init__(inner)
        self._calls = calls

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._calls.pass_on(method, call, *args, **kwargs)


class Counting:
    """A wrapper for a `storage` list."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def around(self, inner: Adapter) -> Adapter:
        return CountingAdapter(inner, self._calls)


@dataclass
class Measured:
    """A layer, and what it asks of its log and its storage."""

    layer: Layer
    log: EventLog
    folder: Path
    logged: Calls
    stored: Calls

    def clear(self) -> None:
        self.logged.clear()
        self.stored.clear()

    def put(self, identifier: str) -> None:
        self.layer.set([{"type": "PUT", "item": {"sk": identifier, "n": -1}}])


@contextmanager
def measured(folder: Path, *, memory: bool = False) -> Iterator[Measured]:
    log = MemoryEventLog("users") if memory else SQLiteEventLog(folder / "events.db", "users")
    logged, stored = Calls(), Calls()
    with Layer(
        table="users",
        get_item_unique_identifier="sk",
        events=CountingLog(log, logged),
        storage=[Counting(stored), f"local://{folder / 'snapshots'}"],
    ) as layer:
        yield Measured(layer, log, folder / "snapshots" / "users", logged, stored)


class Numbered(Mapping[str, Item]):
    """Very many small items that take no room."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return (f"{number:07d}" for number in range(self._count))

    def __getitem__(self, identifier: str) -> Item:
        return {"sk": identifier, "n": int(identifier)}


def fill(world: Measured, count: int) -> None:
    """Make a partition of many items as a sync would leave it, but for the million events that led to it."""
    world.put("0000000")
    (record,) = world.log.read("", 0).records
    segment = Segment("users", "", world.log.origin, "base", 0, 1, Numbered(count))
    ref = LocalAdapter(world.folder).layer_setter("", segment)
    cursor = "2026-01-01T00:00:00.000000Z"
    head = Head(
        version=1,
        revision=1,
        segments=(SegmentRef(ref, "base", 0, 1, count, segment.name, cursor, record.at),),
        events_total=record.events_total,
        bytes_total=record.bytes_total,
        at=record.at,
        cursor=cursor,
        synced_times=1,
        synced_last_total=1,
        retention=record.retention,
    )
    assert world.log.move_head("", HeadMove(0, head, folded=1, first=True))
    world.layer.sync("")
    world.clear()


def change_one(folder: Path, count: int) -> tuple[Calls, int]:
    """Set and sync one change in a partition of so many items; the log's calls, and the bytes of the file written."""
    folder.mkdir()
    with measured(folder) as world:
        fill(world, count)
        before = set(world.folder.rglob("*.segment"))
        world.put("0000005")
        assert world.layer.sync().count == 1
        assert world.stored.names == ["layer_setter"]
        (delta,) = world.stored.segments
        assert (delta.kind, delta.entries, dict(delta.items)) == ("delta", 1, {"0000005": {"sk": "0000005", "n": -1}})
        (written,) = set(world.folder.rglob("*.segment")) - before
        return world.logged, written.stat().st_size


@pytest.mark.timeout(120)
def test_one_change_costs_the_same_in_a_partition_of_ten_items_and_of_a_million(tmp_path: Path) -> None:
    few, few_bytes = change_one(tmp_path / "ten", 10)
    many, many_bytes = change_one(tmp_path / "million", HUGE)
    assert many_bytes == few_bytes < 1024
    assert many.names == few.names
    assert max(more - less for more, less in zip(many.sizes, few.sizes, strict=True)) <= DIGITS


def test_one_change_in_a_large_partition_is_read_back_with_all_the_rest(tmp_path: Path) -> None:
    with measured(tmp_path) as world:
        fill(world, 5000)
        world.put("0000005")
        world.layer.sync()
        expected = [{"sk": f"{number:07d}", "n": -1 if number == 5 else number} for number in range(5000)]
        assert world.layer.get() == expected
        assert world.layer.verify().findings == ()


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])
def test_a_layer_with_nothing_pending_calls_no_hook_of_storage(tmp_path: Path, memory: bool) -> None:
    with measured(tmp_path, memory=memory) as world:
        assert (world.layer.sync().count, world.layer.sync("").count) == (0, 0)
        world.put("one")
        assert world.layer.sync().count == 1
        world.clear()
        assert (world.layer.sync().count, world.layer.sync("").count) == (0, 0)
        world.layer.meta()
        world.layer.meta("")
        world.layer.partitions()
        world.layer.history()
        assert world.stored.names == []


def test_an_idle_sync_only_looks_for_what_is_pending_and_what_has_expired(tmp_path: Path) -> None:
    with measured(tmp_path) as world:
        world.put("one")
        world.layer.sync()
        world.clear()
        world.layer.sync()
        assert world.logged.names == ["pending", "expire"]


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])
def test_a_warm_get_makes_one_call_to_the_log_and_none_to_storage(tmp_path: Path, memory: bool) -> None:
    with measured(tmp_path, memory=memory) as world:
        fill(world, 100)
        world.layer.get()
        world.clear()
        assert len(world.layer.get()) == 100
        assert (world.logged.names, world.stored.names) == (["read"], [])
        world.put("pending")
        world.clear()
        assert len(world.layer.get()) == 101
        assert (world.logged.names, world.stored.names) == (["read"], [])
        world.layer.sync()
        world.clear()
        assert len(world.layer.get()) == 101
        assert (world.logged.names, world.stored.names) == (["read"], [])


def test_a_warm_get_reads_only_the_records_that_are_new(tmp_path: Path) -> None:
    with measured(tmp_path) as world:
        for number in range(50):
            world.put(f"{number}")
        world.layer.get()
        world.put("new")
        world.clear()
        world.layer.get()
        (size,) = world.logged.sizes
        assert size < 1024


def test_a_cold_get_reads_each_segment_once(tmp_path: Path) -> None:
    with measured(tmp_path) as world:
        for number in range(5):
            world.put(f"{number}")
            world.layer.sync()
        world.clear()
        world.layer.get()
        assert world.stored.names == ["layer_getter"] * 5
        assert world.logged.names == ["head", "read"]


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])
def test_an_empty_set_makes_no_call_at_all(tmp_path: Path, memory: bool) -> None:
    with measured(tmp_path, memory=memory) as world:
        assert world.layer.set([]) == []
        assert world.layer.set(iter(())) == []
        assert (world.logged.names, world.stored.names) == ([], [])


def test_a_set_makes_one_call_to_the_log_however_many_events_and_partitions_it_has(tmp_path: Path) -> None:
    with measured(tmp_path) as world:
        world.layer.set(
            [{"type": "PUT", "partition": f"{number % 7}", "item": {"sk": f"{number}"}} for number in range(100)]
        )
        assert (world.logged.names, world.stored.names) == (["append"], [])


def test_a_sync_that_deletes_one_item_of_many_writes_one_entry(tmp_path: Path) -> None:
    with measured(tmp_path) as world:
        fill(world, 1000)
        world.layer.set([{"type": "DELETE", "item": {"sk": "0000007"}}])
        world.layer.sync()
        (delta,) = world.stored.segments
        assert (delta.kind, delta.entries, set(delta.deleted)) == ("delta", 1, {"0000007"})
        assert len(world.layer.get()) == 999


ENCODING = """
import resource
from dynalayer import Segment
items = {str(number): {"n": number} for number in range(100_000)}
resource.setrlimit(resource.RLIMIT_DATA, (160_000_000, resource.getrlimit(resource.RLIMIT_DATA)[1]))
assert len(Segment("users", "", "origin", "base", 0, 1, items).to_bytes()) > 100_000
"""


def test_encoding_a_segment_of_small_items_takes_less_than_a_kilobyte_of_memory_an_item() -> None:
    done = subprocess.run([sys.executable, "-c", ENCODING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
