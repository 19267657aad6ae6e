"""Taking over a snapshot that another program kept: what it gives, refuses and leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dynalayer import (
    Capabilities,
    ClosedError,
    ConflictError,
    EventLogError,
    HistoryError,
    ImportResult,
    InvalidEventError,
    InvalidInputError,
    InvalidValueError,
    Item,
    Layer,
    MemoryEventLog,
    StorageError,
    SyncResult,
    hookimpl,
)
from dynalayer.eventlog.base import Draft, RecordKind
from dynalayer.events import pack
from dynalayer_local import LocalAdapter
from fakes import DAY, Between, Ticking, delete, put
from strategies import exactly

Make = Callable[..., Layer]
CACHE: list[Item] = [{"id": "b", "price": Decimal("1.50")}, {"id": "a", "tags": ["x"]}, {"id": "c", "raw": b"hi"}]
SORTED = sorted(CACHE, key=lambda item: str(item["id"]))


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def inner() -> MemoryEventLog:
    return MemoryEventLog("users")


@pytest.fixture
def make(tmp_path: Path, clock: Ticking, inner: MemoryEventLog) -> Make:
    def make(**options: Any) -> Layer:
        given: dict[str, Any] = {"get_item_unique_identifier": "id", "clock": clock, "events": inner}
        return Layer(table="users", **given | {"storage": LocalAdapter(tmp_path / "snapshots")} | options)

    return make


@pytest.fixture
def layer(make: Make) -> Layer:
    return make()


def test_what_is_taken_over_is_read_at_once_and_by_others_without_an_event(layer: Layer, make: Make) -> None:
    taken = layer.import_snapshot("eu", iter(CACHE))
    assert (taken.count, taken.folded, taken.version) == (3, 0, 1)
    assert exactly(layer.get("eu")) == exactly(make().get("eu")) == exactly(SORTED)
    assert layer.get() == []
    assert layer.partitions() == ["eu"]
    assert layer.history("eu") == []
    assert layer.meta().loaded
    assert layer.meta("eu").synced_version == 1
    assert (layer.meta().synced_total, layer.meta().unsynced_total) == (0, 0)
    assert layer.get("eu", at=taken.cursor) == SORTED
    assert layer.verify().findings == ()


def test_a_layer_without_anything_is_not_loaded(layer: Layer) -> None:
    layer.get("eu")
    assert not layer.meta().loaded


def test_pending_events_are_later_than_what_is_taken_over_and_are_folded_on_top(layer: Layer, make: Make) -> None:
    layer.set([{"partition": "eu", **event} for event in (put("a", n=2), delete("b"), put("new"))])
    layer.set([{"partition": "us", **put("other")}])
    taken = layer.import_snapshot("eu", CACHE)
    assert taken == ImportResult(3, 3, 2, taken.cursor)
    expected = [{"id": "a", "n": 2}, SORTED[2], {"id": "new"}]
    assert layer.get("eu") == make().get("eu") == expected
    assert [event.cursor for event in layer.history("eu")] == [taken.cursor] * 3
    meta = layer.meta()
    assert (meta.synced_total, meta.unsynced_total, meta.synced_times, meta.cursor) == (3, 1, 1, taken.cursor)
    assert (layer.meta("eu").synced_times, layer.meta("eu").synced_last_total) == (1, 3)
    assert layer.sync().count == 1
    assert layer.verify().findings == ()


def test_what_comes_afterwards_is_folded_as_ever(layer: Layer, make: Make) -> None:
    layer.import_snapshot("", CACHE)
    layer.set([put("a", n=1), delete("c")])
    assert [item["id"] for item in layer.get()] == ["a", "b"]
    assert layer.sync().count == 2
    assert make().get() == layer.get() == [{"id": "a", "n": 1}, SORTED[1]]
    assert layer.verify().findings == ()


def test_who_remembers_what_was_there_before_sees_what_is_taken_over(layer: Layer, make: Make) -> None:
    other = make()
    other.set([put("x")])
    assert len(other.get()) == 1
    layer.import_snapshot("", CACHE)
    assert [item["id"] for item in other.get()] == ["a", "b", "c", "x"]


def test_the_past_before_it_is_what_it_was(layer: Layer) -> None:
    layer.set([put("x", n=1)])
    layer.set([put("x", n=2)])
    taken = layer.import_snapshot("", CACHE)
    layer.set([delete("a")])
    layer.sync()
    assert [layer.get(at=version) for version in (0, 1, 2)] == [[], [{"id": "x", "n": 1}], [{"id": "x", "n": 2}]]
    assert layer.get(at=taken.version) == layer.get(at=taken.cursor) == [*SORTED, {"id": "x", "n": 2}]
    assert [item["id"] for item in layer.get(at=4)] == ["b", "c", "x"]


def test_the_past_is_exact_or_refused_once_what_leads_to_it_has_gone(layer: Layer, clock: Ticking) -> None:
    layer.set([put("x", n=1)])
    taken = layer.import_snapshot("", CACHE)
    clock.advance(6 * DAY)
    for number in range(20):
        layer.set([put(f"y{number}"), put(f"z{number}")])
        layer.sync()
    clock.advance(6 * DAY)
    layer.set([put("x", n=3)])
    layer.sync()
    layer.vacuum(dry_run=False)
    for version in (1, taken.version):
        with pytest.raises(HistoryError, match="reaches back past what is kept"):
            layer.get(at=version)
    assert len(layer.get()) == 44
    assert layer.verify().findings == ()


def test_it_can_be_done_again_with_newer_items_as_long_as_no_event_was_folded(layer: Layer, clock: Ticking) -> None:
    first = layer.import_snapshot("", CACHE)
    clock.advance(30 * DAY)  # the first one's record has expired by the next
    layer.sync()
    layer.set([put("b", n=1)])
    second = layer.import_snapshot("", [{"id": "b"}, {"id": "d"}])
    assert (second.count, second.folded) == (2, 1)
    assert layer.get() == [{"id": "b", "n": 1}, {"id": "d"}]
    assert layer.get(at=first.version) == SORTED
    clock.advance(6 * DAY)
    layer.vacuum(dry_run=False)
    assert layer.get() == [{"id": "b", "n": 1}, {"id": "d"}]
    assert layer.verify().findings == ()


def test_a_partition_that_was_synced_is_refused_and_stays(layer: Layer) -> None:
    layer.set([put("x")])
    layer.sync()
    with pytest.raises(InvalidInputError, match=r"it was synced, already: its snapshot is of version 1") as caught:
        layer.import_snapshot("", CACHE)
    assert (caught.value.operation, caught.value.partition) == ("import", "")
    assert layer.get() == [{"id": "x"}]
    assert layer.meta("").version == 1
    layer.import_snapshot("eu", CACHE)
    layer.set([{"partition": "eu", **put("x")}])
    layer.sync()
    with pytest.raises(InvalidInputError, match=r"it was taken over at version 1, with events folded on top, already"):
        layer.import_snapshot("eu", CACHE)


def test_an_empty_snapshot_is_one_too(layer: Layer) -> None:
    layer.set([put("x"), delete("x")])
    assert layer.import_snapshot("", []).count == 0
    assert layer.get() == []
    assert layer.verify().findings == ()


@pytest.mark.parametrize(
    ("items", "kind", "words"),
    [
        ([*CACHE, {"n": 1}], InvalidEventError, "item 3: the item has no attribute 'id', which is its identifier"),
        ([*CACHE, {"id": ""}], InvalidEventError, "item 3: the item's identifier is empty"),
        ([{"id": 1.5}], InvalidEventError, "item 0: the item's identifier is float"),
        ([{"id": 1}, {"id": "1"}], InvalidEventError, "item 1: its identifier, '1', is that of item 0 too"),
        ([{"id": "a"}, "b"], InvalidValueError, "item 1: an item is a dict of attributes, not str"),
        ([{"id": "a", "n": [float("nan")]}], InvalidValueError, r"item 0: attribute n\[0\]: nan"),
        ([{"id": "a", "n": 10**38}], InvalidValueError, "item 0: attribute n: a whole number of more than 38 digits"),
        ({"id": "a"}, InvalidInputError, "takes a list of items, not dict"),
        ("[]", InvalidInputError, "takes a list of items, not str"),
        (None, InvalidInputError, "takes a list of items, not NoneType"),
    ],
    ids=range(10),
)
def test_what_cannot_be_taken_is_named_by_its_position_and_leaves_nothing(
    layer: Layer, tmp_path: Path, items: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        layer.import_snapshot("eu", items)
    assert isinstance(caught.value, InvalidInputError)
    assert (caught.value.operation, caught.value.retryable) == ("import", False)
    assert layer.partitions() == []
    assert not any(tmp_path.iterdir())


def test_an_item_of_another_partition_is_refused(make: Make) -> None:
    layer = make(get_item_partition="pk")
    with pytest.raises(InvalidEventError, match="item 1: it belongs to partition 'us', not to 'eu'") as caught:
        layer.import_snapshot("eu", [{"id": "a", "pk": "eu"}, {"id": "b", "pk": "us"}])
    assert caught.value.index == 1
    assert layer.partitions() == []


def test_items_are_the_layers_own_once_they_are_taken(layer: Layer) -> None:
    given = {"id": "a", "tags": ["x"]}
    layer.import_snapshot("", [given])
    given["tags"] = []
    assert layer.get() == [{"id": "a", "tags": ["x"]}]


def test_a_layer_that_knows_no_identifier_is_refused(make: Make) -> None:
    layer = make(get_item_unique_identifier=None)
    with pytest.raises(InvalidInputError, match="no get_item_unique_identifier to ask"):
        layer.import_snapshot("", CACHE)


def test_a_closed_layer_takes_nothing_over(layer: Layer) -> None:
    layer.close()
    with pytest.raises(ClosedError):
        layer.import_snapshot("", CACHE)


def test_while_a_sync_holds_the_lease_it_is_a_conflict_that_can_be_tried_again(
    layer: Layer, inner: MemoryEventLog, clock: Ticking
) -> None:
    inner.lease("eu", "somebody", clock(), clock() + 60_000_000)
    with pytest.raises(ConflictError, match="another sync is at work on it") as caught:
        layer.import_snapshot("eu", CACHE)
    assert caught.value.retryable
    assert layer.partitions() == []
    clock.advance(61)
    assert layer.import_snapshot("eu", CACHE).count == 3


def test_the_lease_is_given_back_whatever_happens(make: Make, inner: MemoryEventLog, clock: Ticking) -> None:
    log = Between(inner)
    layer = make(events=log)

    def fail() -> None:
        raise EventLogError("unplugged")

    log.then("before append", fail)
    with pytest.raises(EventLogError, match="unplugged"):
        layer.import_snapshot("", CACHE)
    assert inner.lease("", "somebody", clock(), clock() + 1)


def test_what_fails_in_the_sync_afterwards_is_told_and_what_was_taken_stands(make: Make, inner: MemoryEventLog) -> None:
    told: list[tuple[str, Any]] = []

    class Watcher:
        @hookimpl
        def layer_failed(self, operation: str, error: Exception) -> None:
            told.append((operation, str(error)))

        @hookimpl
        def layer_synced(self, result: SyncResult) -> None:
            told.append(("synced", result.count))

    log = Between(inner)
    layer = make(events=log, plugins=[Watcher()])

    def fail() -> None:
        raise EventLogError("unplugged")

    log.then("before mark", fail)
    layer.set([put("x")])
    taken = layer.import_snapshot("", CACHE)
    assert (taken.count, taken.folded) == (3, 1)
    assert told[0] == ("synced", 1)
    assert told[1][0] == "sync"
    assert "unplugged" in told[1][1]
    assert inner.pending() == ("",)
    assert len(layer.get()) == 4
    layer.sync()
    assert inner.pending() == ()
    assert [event.cursor for event in layer.history()] == [taken.cursor]


class Publishing(LocalAdapter):
    """A store that publishes."""

    capabilities = Capabilities(publishing=True)

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.published: dict[str, tuple[int, list[Item]]] = {}
        self.failure: Exception | None = None

    @hookimpl
    def layer_publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> bool:
        if self.failure:
            raise self.failure
        self.published[partition] = version, [items[identifier] for identifier in sorted(items)]
        return True


def test_what_is_taken_over_is_published_with_the_events_on_top(make: Make, tmp_path: Path) -> None:
    store = Publishing(tmp_path / "snapshots")
    layer = make(storage=store)
    layer.set([put("x")])
    store.failure = ConnectionError("unplugged")
    with pytest.raises(StorageError, match="unplugged"):
        layer.import_snapshot("", CACHE)
    assert layer.get() == [{"id": "x"}]
    store.failure = None
    taken = layer.import_snapshot("", CACHE)
    assert store.published[""] == (taken.version, [*SORTED, {"id": "x"}])
    assert layer.get() == [*SORTED, {"id": "x"}]


def test_a_reset_that_nobody_committed_changes_and_counts_nothing(layer: Layer, inner: MemoryEventLog) -> None:
    inner.append([Draft("a", RecordKind.RESET, "n", 0, 0, DAY, pack([]))])
    layer.set([{"partition": "b", **put("x")}])
    result = layer.sync()
    assert (result.count, result.partitions) == (1, ("b",))
    assert (layer.meta().synced_times, layer.meta("a").synced_times) == (1, 0)
    assert layer.sync() == SyncResult(0, locked=False)
    assert layer.import_snapshot("a", CACHE).version == 2
    assert inner.pending() == ()
    assert layer.get("a") == SORTED
    assert layer.verify().findings == ()


def test_a_reset_that_nobody_committed_is_folded_with_the_first_event_after_it(
    layer: Layer, inner: MemoryEventLog
) -> None:
    inner.append([Draft("", RecordKind.RESET, "n", 0, 0, DAY, pack([]))])
    layer.set([put("x")])
    assert layer.sync().count == 1
    assert inner.pending() == ()
    assert layer.get() == [{"id": "x"}]
    assert layer.meta("").synced_version == 2
    assert layer.verify().findings == ()


def test_a_scan_gives_what_was_taken_over_with_what_came_since(make: Make, tmp_path: Path) -> None:
    layer = make(storage=f"parquet+file:{tmp_path}/parquet")
    layer.import_snapshot("", [{"id": "a", "n": 1}, {"id": "b", "n": 2}])
    layer.set([put("b", n=3)])
    layer.sync()
    layer.set([put("c", n=4)])
    rows = layer.to_arrow(columns=["id", "n"]).sort_by("id").to_pylist()
    assert rows == [{"id": "a", "n": 1}, {"id": "b", "n": 3}, {"id": "c", "n": 4}]


# Plain pairs


@pytest.fixture
def shelf() -> dict[str, list[Item]]:
    return {"eu": [*CACHE]}


@pytest.fixture
def pair(make: Make, shelf: dict[str, list[Item]]) -> Layer:
    return make(storage=None, getter=shelf.get, setter=shelf.__setitem__)


def test_a_pair_whose_place_holds_the_cache_begins_with_it(pair: Layer, shelf: dict[str, list[Item]]) -> None:
    pair.set([{"partition": "eu", **put("x")}])
    taken = pair.import_snapshot("eu", shelf["eu"])
    assert (taken.count, taken.folded) == (3, 1)
    assert pair.get("eu") == shelf["eu"] == [*SORTED, {"id": "x"}]
    pair.set([{"partition": "eu", **delete("a")}])
    pair.sync()
    assert [item["id"] for item in shelf["eu"]] == ["b", "c", "x"]


def test_a_pair_takes_over_again_also_what_is_empty(pair: Layer, shelf: dict[str, list[Item]]) -> None:
    pair.import_snapshot("eu", shelf["eu"])
    pair.import_snapshot("eu", [])
    assert shelf["eu"] == pair.get("eu") == []
    pair.import_snapshot("eu", CACHE)
    assert pair.get("eu") == SORTED


def test_a_sync_after_one_that_broke_off_leaves_the_place_alone(
    make: Make, shelf: dict[str, list[Item]], inner: MemoryEventLog
) -> None:
    failing = Between(inner)
    pair = make(storage=None, getter=shelf.get, setter=shelf.__setitem__, events=failing)

    def fail() -> None:
        raise EventLogError("unplugged")

    failing.then("after append", fail)
    with pytest.raises(EventLogError, match="unplugged"):
        pair.import_snapshot("eu", shelf["eu"])
    pair.sync()
    assert shelf["eu"] == CACHE
    pair.import_snapshot("eu", shelf["eu"])
    assert pair.get("eu") == shelf["eu"] == SORTED


def test_a_place_that_was_emptied_for_a_move_that_failed_can_be_read(
    make: Make, shelf: dict[str, list[Item]], inner: MemoryEventLog
) -> None:
    failing = Between(inner)
    pair = make(storage=None, getter=shelf.get, setter=shelf.__setitem__, events=failing)
    pair.import_snapshot("eu", CACHE)

    def fail() -> None:
        raise EventLogError("unplugged")

    failing.then("after last_cursor", lambda: failing.then("before move_head", fail))
    with pytest.raises(EventLogError, match="unplugged"):
        pair.import_snapshot("eu", [])
    assert pair.get("eu") == shelf["eu"] == []
    pair.import_snapshot("eu", [])
    assert pair.verify().findings == ()
