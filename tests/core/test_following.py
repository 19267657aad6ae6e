"""Following a layer: every event at least once, a partition's in order, whatever happens to who follows."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from dynalayer import (
    ClosedError,
    ConsumerTakenError,
    Event,
    EventLog,
    EventLogError,
    HistoryError,
    InvalidInputError,
    Item,
    Layer,
    LayerError,
    MemoryEventLog,
    PositionExpiredError,
    SQLiteEventLog,
)
from dynalayer.eventlog.base import Draft, RecordKind, Run
from dynalayer.eventlog.checkpoints import CheckpointMove
from dynalayer.events import pack
from dynalayer.following import handing_out
from dynalayer.testing.faults import FOLLOW_POINTS, Crash, Crashed, CrashPoints, WrappedLog
from fakes import DAY, Between, Ticking

P = ParamSpec("P")
T = TypeVar("T")
OpenLog = Callable[[], EventLog]
SEEDS = int(os.environ.get("DYNALAYER_TEST_FOLLOW_SEEDS", "4"))
LayerOn = Callable[..., Layer]


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


@pytest.fixture
def log(open_log: OpenLog) -> EventLog:
    return open_log()


@pytest.fixture
def layer_on(tmp_path: Path, clock: Ticking) -> LayerOn:
    def layer_on(log: EventLog, **options: Any) -> Layer:
        given: dict[str, Any] = {"storage": f"local:{tmp_path / 'snapshots'}", "clock": clock, "ttl": DAY, **options}
        return Layer(table="users", get_item_unique_identifier="id", get_item_partition="at", events=log, **given)

    return layer_on


@pytest.fixture
def layer(log: EventLog, layer_on: LayerOn) -> Layer:
    return layer_on(log)


def put(at: str, identifier: str = "a", **item: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": {"at": at, "id": identifier, **item}}


def rest(layer: Layer, consumer: str = "index", **options: Any) -> list[tuple[str, int, str]]:
    return [(event.partition, event.version, event.id) for event in layer.follow(consumer, wait=False, **options)]


def versions(layer: Layer, consumer: str = "index", **options: Any) -> list[int]:
    return [version for _, version, _ in rest(layer, consumer, **options)]


class Sink:
    """An index that somebody keeps by following: what he is given again does no harm."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Item]] = defaultdict(dict)
        self.seen: dict[str, list[tuple[int, str]]] = defaultdict(list)

    def take(self, event: Event) -> None:
        kept = self.items[event.partition]
        if event.type == "DELETE":
            kept.pop(event.id, None)
        else:
            kept[event.id] = event.item
        place = (event.version, event.id)
        if place not in self.seen[event.partition]:
            self.seen[event.partition].append(place)

    def take_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self.take(event)

    def rebuild(self, layer: Layer) -> Callable[[str, int], None]:
        def rebuild(partition: str, _version: int) -> None:
            self.items[partition] = {str(item["id"]): item for item in layer.get(partition)}

        return rebuild

    def check_all(self, layer: Layer, expected: dict[str, list[tuple[int, str]]]) -> None:
        """First deliveries were everything, in order."""
        assert {name: seen for name, seen in self.seen.items() if seen} == expected
        self.check_items(layer)

    def check_items(self, layer: Layer) -> None:
        for partition in layer.partitions():
            assert sorted(self.items[partition].values(), key=lambda item: str(item["id"])) == layer.get(partition)


# Each once, in order


def test_each_event_comes_once_over_any_number_of_runs(open_log: OpenLog, layer_on: LayerOn) -> None:
    layer = layer_on(open_log())
    layer.set([put("eu", "a"), put("us", "b"), put("eu", "c")])
    layer.set([put("eu", "d")])
    assert rest(layer) == [("eu", 1, "a"), ("eu", 1, "c"), ("eu", 2, "d"), ("us", 1, "b")]
    assert rest(layer) == []
    layer.sync()
    assert rest(layer) == []
    layer.set([put("us", "e")])
    layer.sync()
    again = layer_on(open_log())
    assert rest(again) == [("us", 2, "e")]
    assert rest(layer, "other") == [
        ("eu", 1, "a"), ("eu", 1, "c"), ("eu", 2, "d"), ("us", 1, "b"), ("us", 2, "e"),
    ]  # fmt: skip


def test_events_are_those_of_history(layer: Layer) -> None:
    layer.set([put("eu", "a", n=1), {"type": "DELETE", "item": {"at": "eu", "id": "b"}}])
    layer.sync()
    layer.set([put("eu", "c")])
    assert list(layer.follow("index", wait=False)) == layer.history("eu")


def test_the_event_at_which_a_loop_is_left_comes_again_and_those_before_it_do_not(layer: Layer) -> None:
    layer.set([put("eu", name) for name in "abcd"])
    for event in layer.follow("index", wait=False):
        if event.id == "b":
            break
    assert rest(layer) == [("eu", 1, "b"), ("eu", 1, "c"), ("eu", 1, "d")]
    layer.set([put("eu", name) for name in "efg"])

    def fail() -> None:
        with layer.follow("index", wait=False) as feed:
            for event in feed:
                if event.id == "f":
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert rest(layer) == [("eu", 2, "f"), ("eu", 2, "g")]


def test_a_feed_that_is_dropped_saves_at_once_and_needs_no_collector(layer: Layer) -> None:
    layer.set([put("eu", name) for name in "abc"])
    gc.disable()
    try:
        feed = layer.follow("index", wait=False)
        assert (next(feed).id, next(feed).id) == ("a", "b")
        del feed
        assert rest(layer) == [("eu", 1, "b"), ("eu", 1, "c")]
    finally:
        gc.enable()


def test_a_feed_that_the_collector_finds_asks_nothing_of_the_log_that_may_be_at_work(
    open_log: OpenLog, layer_on: LayerOn
) -> None:
    between = Between(open_log())
    layer = layer_on(between)
    layer.set([put("eu", name) for name in "ab"])
    knot: list[Any] = [layer.follow("index")]
    knot.append(knot)
    assert [next(knot[0]).id, next(knot[0]).id] == ["a", "b"]
    del knot
    calls = len(between.calls)
    gc.collect()
    assert between.calls[calls:] == []
    assert [event.id for event in layer.follow("index", wait=False)] == ["a", "b"]


def test_only_the_partitions_asked_for_come_and_the_others_later(layer: Layer) -> None:
    layer.set([put("eu"), put("us"), put("de")])
    assert rest(layer, partitions=["us", "nowhere"]) == [("us", 1, "a")]
    assert rest(layer) == [("de", 1, "a"), ("eu", 1, "a")]


def test_no_partition_waits_for_the_whole_of_another(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_out, "_PAGE_BYTES", 200)
    for number in range(40):
        layer.set([put("a", str(number))])
    layer.set([put("b")])
    order = [partition for partition, _, _ in rest(layer)]
    assert order.count("a") == 40
    assert order.index("b") < 20


def test_who_is_far_behind_in_one_partition_is_given_what_comes_in_others_meanwhile(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing_out, "_PAGE_BYTES", 1)
    for number in range(20):
        layer.set([put("eu", f"{number}")])
    seen = []
    with layer.follow("index", poll=1e-9) as feed:
        for event in feed:
            seen.append(event.partition)
            if len(seen) == 3:
                layer.set([put("us")])
            if len(seen) == 21:
                break
    assert seen.count("us") == 1
    assert "us" in seen[3:7]


def test_positions_are_saved_in_batches(log: EventLog, layer_on: LayerOn) -> None:
    counted = Between(log)
    layer = layer_on(counted)
    for number in range(300):
        layer.set([put("eu", str(number)), put("us", str(number))])
    list(layer.follow("index", wait=False))
    # The consumer is made, taken and made ready; each partition is saved once, and once a second on a slow machine.
    assert counted.calls.count("move_checkpoint") < 50


# Where a consumer begins


def test_now_means_what_is_appended_from_the_call_on(layer: Layer) -> None:
    layer.set([put("eu"), put("us")])
    layer.sync()
    layer.set([put("eu", "b")])
    feed = layer.follow("index", since="now", wait=False)
    layer.set([put("eu", "c"), put("new", "d")])
    assert [event.id for event in feed] == ["c", "d"]


def test_a_moment_means_what_was_appended_after_it(layer: Layer) -> None:
    first = layer.set([put("eu"), put("us")])[0].at
    layer.sync()
    second = layer.set([put("eu", "b")])[0].at
    layer.set([put("eu", "c")])
    assert versions(layer, "one", since=first) == [2, 3]
    assert versions(layer, "two", since=first - timedelta(microseconds=1)) == [1, 2, 3, 1]
    assert versions(layer, "three", since=second) == [3]
    assert versions(layer, "four", since=datetime(2100, 1, 1, tzinfo=UTC)) == []


def test_a_cursor_means_what_its_sync_did_not_fold(layer: Layer) -> None:
    layer.set([put("eu"), put("us")])
    first = layer.sync().cursor
    layer.set([put("eu", "b")])
    second = layer.sync().cursor
    layer.set([put("us", "c")])
    assert rest(layer, "one", since=first) == [("eu", 2, "b"), ("us", 2, "c")]
    assert rest(layer, "two", since=second) == [("us", 2, "c")]
    with pytest.raises(HistoryError, match="no sync had the cursor"):
        layer.follow("three", since="2026-01-01T00:00:00.000000Z")
    assert [consumer.name for consumer in layer.consumers()] == ["one", "two"]


def test_a_beginning_is_that_of_a_new_consumer_alone(layer: Layer) -> None:
    layer.set([put("eu")])
    assert versions(layer) == [1]
    layer.set([put("eu")])
    assert versions(layer, since="now") == [2]
    (consumer,) = layer.consumers()
    assert consumer.since == "beginning"


def test_a_new_consumer_is_told_where_events_before_its_beginning_have_expired(layer: Layer, clock: Ticking) -> None:
    layer.set([put("eu", "a"), put("us", "b")])
    layer.set([put("eu", "c")])
    layer.sync()
    clock.advance(2 * DAY)
    layer.sync()
    layer.set([put("eu", "d")])
    sink = Sink()
    told: list[tuple[str, int, int]] = []

    def on_reset(partition: str, version: int) -> None:
        told.append((partition, version, len(sink.seen[partition])))
        sink.rebuild(layer)(partition, version)

    for event in layer.follow("index", wait=False, on_reset=on_reset):
        sink.take(event)
    assert told == [("eu", 2, 0), ("us", 1, 0)]
    assert sink.seen["eu"] == [(3, "d")]
    sink.check_items(layer)
    assert rest(layer, on_reset=pytest.fail) == []


def test_a_new_consumer_begins_after_the_last_record_that_is_missing_where_they_expire_in_no_order(
    layer_on: LayerOn, clock: Ticking
) -> None:
    log = MemoryEventLog("users")
    layer = layer_on(log, ttl=9 * DAY)
    for name in "abcde":
        layer.set([put("eu", name)])
    layer.sync()
    clock.advance(2 * DAY)
    for gone in (1, 3):
        del log._partitions["eu"].records[gone]
    told: list[tuple[str, int]] = []
    assert versions(layer, on_reset=lambda *where: told.append(where)) == [4, 5]
    assert told == [("eu", 3)]


def test_a_consumer_made_half_is_made_whole_by_who_follows_next(open_log: OpenLog, layer_on: LayerOn) -> None:
    layer = layer_on(open_log())
    for partition in "abc":
        layer.set([put(partition)])
    crash = Crash("after move_checkpoint", nth=3, how="raise")
    with pytest.raises(Crashed):
        layer_on(CrashPoints(open_log(), crash)).follow("index", since="now")
    assert rest(layer) == []
    layer.set([put("b")])
    assert rest(layer) == [("b", 2, "a")]


# What changes without events


def test_a_reset_is_told_between_the_events_where_it_stands(layer: Layer) -> None:
    layer.set([put("eu", "before")])
    layer.import_snapshot("eu", [{"at": "eu", "id": "taken"}])
    layer.set([put("eu", "after")])
    order: list[object] = []
    feed = layer.follow("index", wait=False, on_reset=lambda *where: order.append(where))
    order.extend(event.id for event in feed)
    assert order == ["before", ("eu", 2), "after"]


def test_a_reset_that_is_committed_after_its_place_was_passed_is_told_before_what_follows(
    log: EventLog, layer: Layer
) -> None:
    layer.set([put("eu", "a")])
    log.append([Draft("eu", RecordKind.RESET, "n", 1, 0, DAY, pack([]))])  # by one who died before he committed
    layer.set([put("eu", "b")])
    assert versions(layer, on_reset=pytest.fail) == [1, 3]
    layer.import_snapshot("eu", [{"at": "eu", "id": "taken"}])
    layer.set([put("eu", "c")])
    order: list[object] = []
    feed = layer.follow("index", wait=False, on_reset=lambda *where: order.append(where))
    order.extend(event.id for event in feed)
    assert order == [("eu", 4), "c"]


def test_a_reset_is_told_again_until_what_it_calls_succeeds(layer: Layer) -> None:
    layer.import_snapshot("eu", [{"at": "eu", "id": "taken"}])

    def fail(_partition: str, _version: int) -> None:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            list(layer.follow("index", wait=False, on_reset=fail))
    told: list[tuple[str, int]] = []
    list(layer.follow("index", wait=False, on_reset=lambda *where: told.append(where)))
    assert told == [("eu", 1)]


def test_a_reset_that_nobody_asked_to_be_told_of_is_logged_once(layer: Layer, caplog: pytest.LogCaptureFixture) -> None:
    for partition in ("eu", "us"):
        layer.import_snapshot(partition, [{"at": partition, "id": "taken"}])
    assert rest(layer) == []
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "'eu'" in record.getMessage()


# What has expired


def test_a_position_that_has_expired_is_told_after_all_else_is_handed_out_and_can_be_mended(
    layer: Layer, clock: Ticking
) -> None:
    layer.set([put("a"), put("b")])
    sink = Sink()
    sink.take_all(layer.follow("index", wait=False))
    for name in "xyz":
        layer.set([put("a", name)])
    layer.sync()
    clock.advance(2 * DAY)
    layer.sync()
    layer.set([put("a", "w"), put("b", "v")])
    for _ in range(2):
        feed = layer.follow("index", wait=False, on_reset=sink.rebuild(layer))
        with pytest.raises(PositionExpiredError) as told:
            sink.take_all(feed)
        assert (told.value.consumer, told.value.partition) == ("index", "a")
        assert (told.value.first, told.value.last) == (2, 4)
        assert "versions 2 to 4 have expired" in str(told.value)
    assert sink.seen["b"] == [(1, "a"), (2, "v")]
    layer.move_consumer("index", "beginning", partition="a")
    for event in layer.follow("index", wait=False, on_reset=sink.rebuild(layer)):
        sink.take(event)
    assert sink.seen["a"] == [(1, "a"), (5, "w")]
    sink.check_items(layer)


def test_where_history_is_kept_for_ever_no_position_expires(log: EventLog, layer_on: LayerOn, clock: Ticking) -> None:
    layer = layer_on(log, history="forever")
    layer.set([put("eu", "a"), put("us", "b")])
    moment = clock()
    layer.set([put("eu", "c"), put("eu", "d")])
    feed = layer.follow("index")
    assert next(feed).id == "a"
    feed.close()
    for step in range(3):
        layer.set([put("eu", f"{step}")])
        layer.sync()
    clock.advance(2 * DAY)
    layer.sync()
    layer.set([put("eu", "e")])
    assert [record.version for record in log.read("eu", 0).records] == [6]
    expected = [("eu", 1, "a"), ("eu", 2, "c"), ("eu", 2, "d"), ("eu", 3, "0"), ("eu", 4, "1"), ("eu", 5, "2")]
    expected += [("eu", 6, "e"), ("us", 1, "b")]
    assert sorted(rest(layer, on_reset=pytest.fail)) == expected
    assert sorted(rest(layer, "new", on_reset=pytest.fail)) == expected
    assert sorted(rest(layer, "later", since=clock_time(moment), on_reset=pytest.fail)) == expected[1:-1]
    layer.move_consumer("later", 3, partition="eu")
    assert [consumer.behind for consumer in layer.consumers()] == [0, 3, 0]
    assert versions(layer, "later") == [4, 5, 6]


def test_history_that_is_kept_for_ever_from_later_on_begins_there(
    log: EventLog, layer_on: LayerOn, clock: Ticking
) -> None:
    layer = layer_on(log)
    layer.set([put("eu", "a"), put("eu", "b")])
    layer.sync()
    clock.advance(2 * DAY)
    layer.sync()
    layer = layer_on(log, history="forever")
    for name in "cd":
        layer.set([put("eu", name)])
    layer.sync()
    clock.advance(2 * DAY)
    layer.sync()
    told: list[tuple[str, int]] = []
    assert versions(layer, on_reset=lambda *where: told.append(where)) == [2, 3]
    assert told == [("eu", 1)]
    layer.set([put("eu")])
    assert layer.consumers()[0].behind == 1


def clock_time(moment: int) -> datetime:
    return datetime.fromtimestamp(moment / 1_000_000, UTC)


class Torn(WrappedLog):
    """A log whose next read was under way while a record was appended, and folded: it shows the one after it."""

    hidden: int | None = None

    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        run = super().read(partition, after, max_bytes=max_bytes)
        hidden, self.hidden = self.hidden, None
        return Run(tuple(each for each in run.records if each.version != hidden), run.head, run.complete)


def test_a_record_that_came_during_a_read_is_not_taken_for_one_that_has_expired(
    log: EventLog, layer_on: LayerOn
) -> None:
    torn = Torn(log)
    layer = layer_on(torn)
    assert rest(layer) == []
    for name in "abc":
        layer.set([put("eu", name)])
    layer.sync()
    torn.hidden = 2
    assert versions(layer) == [1, 2, 3]
    torn.hidden = 1
    assert versions(layer, "from a moment", since=datetime(2020, 1, 1, tzinfo=UTC)) == [1, 2, 3]


def test_pending_records_beyond_a_hole_wait_until_it_is_filled(log: EventLog, layer_on: LayerOn) -> None:
    torn = Torn(log)
    layer = layer_on(torn)
    for name in "abc":
        layer.set([put("eu", name)])
    torn.hidden = 2
    feed = layer.follow("index", poll=0.01)
    assert [next(feed).version for _ in range(3)] == [1, 2, 3]
    feed.close()


class Holed(WrappedLog):
    """A log in which a pending record is missing, with more after it than a page takes."""

    hole: int | None = None
    reads = 0

    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        run = super().read(partition, after, max_bytes=None if self.hole else max_bytes)
        self.reads += 1
        assert self.reads < 100, "it reads without an end"
        return Run(tuple(each for each in run.records if each.version != self.hole), run.head, complete=not self.hole)


def test_a_beginning_is_found_before_a_hole_with_more_than_a_page_after_it(
    log: EventLog, layer_on: LayerOn, clock: Ticking
) -> None:
    holed = Holed(log)
    layer = layer_on(holed)
    for name in "abcd":
        layer.set([put("eu", name)])
    holed.hole = 2
    feed = layer.follow("index", since=datetime.fromtimestamp(clock() / 1_000_000 + 1, UTC), wait=False)
    holed.hole = None
    assert [event.version for event in feed] == [2, 3, 4]


# Several who follow


def test_who_follows_last_under_a_name_goes_on_and_who_did_before_is_told(open_log: OpenLog, layer_on: LayerOn) -> None:
    one, two = layer_on(open_log()), layer_on(open_log())
    one.set([put("eu", name) for name in "abc"])
    first = one.follow("index", wait=False)
    assert next(first).id == "a"
    second = two.follow("index", wait=False)
    with pytest.raises(ConsumerTakenError, match="another process follows as consumer 'index'"):
        list(first)
    assert [event.id for event in second] == ["a", "b", "c"]
    assert rest(one) == []


def test_what_the_one_before_saved_last_is_no_reason_to_stop(log: EventLog, layer_on: LayerOn) -> None:
    for name in "abc":
        layer_on(log).set([put("eu", name)])
    between = Between(log)
    first, second = layer_on(between).follow("index", wait=False), None

    def take() -> None:
        nonlocal second
        second = layer_on(log).follow("index", wait=False)

    assert next(first).version == 1
    assert next(first).version == 2
    between.then("before move_checkpoint", take)  # after it had looked whose the consumer is
    first.close()
    assert second is not None
    assert [event.version for event in second] == [1, 2, 3]
    assert versions(layer_on(log)) == []


def test_what_is_saved_late_for_a_forgotten_consumer_is_nothing_to_a_new_one_of_its_name(
    log: EventLog, layer_on: LayerOn
) -> None:
    layer = layer_on(log)
    layer.set([put("eu", "a"), put("eu", "b")])
    between = Between(log)
    feed = layer_on(between).follow("index", wait=False)
    assert [next(feed).id, next(feed).id] == ["a", "b"]
    between.then("before move_checkpoint", lambda: layer.forget_consumer("index"))  # its owner was looked at before
    feed.close()
    assert [event.id for event in layer.follow("index", wait=False)] == ["a", "b"]
    assert rest(layer) == []
    (found,) = layer.consumers()
    assert found.behind == 0


def test_a_consumer_whose_removal_was_tried_again_is_forgotten(log: EventLog, layer_on: LayerOn) -> None:
    layer = layer_on(log)
    layer.follow("index").close()
    between = Between(log)

    def remove() -> None:  # an earlier try, whose answer was lost
        (row,) = log.checkpoints("consumers")
        log.move_checkpoint(CheckpointMove(row.scope, row.name, row.revision, None))

    between.then("after move_checkpoint", lambda: between.then("before move_checkpoint", remove))
    layer_on(between).forget_consumer("index")
    assert layer.consumers() == ()


def test_consumers_do_not_disturb_one_another(layer: Layer) -> None:
    names = ["index", "Index", "index/", "a/b", "é", "x" * 255, " "]
    layer.set([put("eu"), put("us")])
    for name in names:
        assert len(rest(layer, name)) == 2
    layer.forget_consumer("index")
    for name in names[1:]:
        assert rest(layer, name) == []
    assert len(rest(layer, "index")) == 2


def test_what_consumers_are_behind_is_exact(layer: Layer, clock: Ticking) -> None:
    layer.set([put("eu", name) for name in "abc"])
    layer.set([put("us")])
    feed = layer.follow("index", since="beginning")
    assert [next(feed).id for _ in range(3)] == ["a", "b", "c"]
    feed.close()
    list(layer.follow("now", since="now", wait=False))
    layer.set([put("us"), put("new")])
    layer.sync()
    one, two = layer.consumers()
    assert (one.name, one.since, one.behind) == ("index", "beginning", 1 + 2 + 1)
    assert [(each.partition, each.version, each.behind) for each in one.partitions] == [
        ("eu", 0, 1),
        ("new", 0, 1),
        ("us", 0, 2),
    ]
    assert (two.name, two.since, two.behind) == ("now", "now", 2)
    assert abs(one.made_at.timestamp() - clock.now / 1_000_000) < 10
    for name in ("index", "now"):
        rest(layer, name)
    assert [consumer.behind for consumer in layer.consumers()] == [0, 0]


def test_a_consumer_goes_on_where_it_is_moved(layer: Layer) -> None:
    for name in "abc":
        layer.set([put("eu", name), put("us", name)])
    cursor = layer.sync().cursor
    layer.set([put("eu", "d")])
    assert len(rest(layer)) == 7
    layer.move_consumer("index", 1, partition="eu")
    assert rest(layer) == [("eu", 2, "b"), ("eu", 3, "c"), ("eu", 4, "d")]
    assert cursor is not None
    layer.move_consumer("index", cursor)
    assert rest(layer) == [("eu", 4, "d")]
    layer.move_consumer("index", "beginning")
    assert len(rest(layer)) == 7
    layer.move_consumer("index", "beginning")
    layer.move_consumer("index", "now", partition="us")
    assert {partition for partition, _, _ in rest(layer)} == {"eu"}
    layer.move_consumer("index", 0, partition="us")
    layer.move_consumer("index", layer.history("us")[1].at)
    assert rest(layer) == [("eu", 3, "c"), ("eu", 4, "d"), ("us", 3, "c")]
    assert layer.consumers()[0].behind == 0


def test_who_follows_is_told_that_the_consumer_was_moved_and_saves_nothing(layer: Layer) -> None:
    layer.set([put("eu", name) for name in "abc"])
    changes: list[Callable[[], None]] = [
        lambda: layer.move_consumer("index", "beginning"),
        lambda: layer.forget_consumer("index"),
    ]
    for change in changes:
        feed = layer.follow("index", wait=False)
        next(feed)
        next(feed)
        change()
        with pytest.raises(ConsumerTakenError):
            feed.close()
        assert len(rest(layer)) == 3
        layer.move_consumer("index", "beginning")


def test_a_version_whose_next_event_has_expired_is_no_place_to_go_on(layer: Layer, clock: Ticking) -> None:
    for name in "abc":
        layer.set([put("eu", name)])
    rest(layer)
    layer.sync()
    clock.advance(2 * DAY)
    layer.sync()
    with pytest.raises(HistoryError, match="expired"):
        layer.move_consumer("index", 1, partition="eu")
    with pytest.raises(HistoryError, match="no version 4; the newest is 3"):
        layer.move_consumer("index", 4, partition="eu")
    layer.move_consumer("index", 3, partition="eu")
    assert rest(layer) == []


# Waiting and ending


def test_what_is_set_while_a_feed_waits_comes_soon(layer: Layer) -> None:
    got: list[Event] = []
    feed = layer.follow("index", poll=0.01)
    thread = threading.Thread(target=lambda: got.extend(feed))
    thread.start()
    for name in "abc":
        layer.set([put("eu", name)])
    until(lambda: len(got) == 3)
    layer.sync()
    layer.set([put("new", "d")])
    until(lambda: len(got) == 4)
    feed.close()
    thread.join(30)
    assert not thread.is_alive()
    assert [event.id for event in got] == ["a", "b", "c", "d"]


def until(reached: Callable[[], bool]) -> None:
    """Wait within bounds for what others do."""
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("end", ["close", "stop", "layer"])
def test_a_feed_that_waits_long_is_ended_by_another_thread_with_what_was_handled_saved(
    end: str, open_log: OpenLog, layer_on: LayerOn
) -> None:
    layer = layer_on(open_log())
    layer.set([put("eu")])
    feed = layer.follow("index", poll=3600)
    got: list[Event] = []
    thread = threading.Thread(target=lambda: got.extend(feed))
    thread.start()
    until(lambda: bool(got))
    {"close": feed.close, "stop": feed.stop, "layer": layer.close}[end]()
    thread.join(30)
    assert not thread.is_alive()
    assert list(feed) == []
    if not isinstance(layer._log, MemoryEventLog):
        assert rest(layer_on(open_log())) == []


def test_closing_the_layer_saves_what_was_handled_and_not_the_event_at_hand(tmp_path: Path, layer_on: LayerOn) -> None:
    layer = layer_on(SQLiteEventLog(tmp_path / "e.db", "users"))
    layer.set([put("eu", name) for name in "abc"])
    feed = layer.follow("index")
    assert [next(feed).id, next(feed).id] == ["a", "b"]
    layer.close()
    assert list(feed) == []
    with pytest.raises(ClosedError):
        layer.follow("index")
    with layer_on(SQLiteEventLog(tmp_path / "e.db", "users")) as again:
        assert rest(again) == [("eu", 1, "b"), ("eu", 1, "c")]


def test_a_feed_stopped_from_within_ends_after_the_event_at_hand(layer: Layer) -> None:
    layer.set([put("eu", name) for name in "abc"])
    feed = layer.follow("index")
    for event in feed:
        if event.id == "b":
            feed.stop()
    assert rest(layer) == [("eu", 1, "c")]


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"consumer": ""}, "1 to 255"),
        ({"consumer": "x" * 256}, "1 to 255"),
        ({"consumer": 1}, "is text, not int"),
        ({"consumer": "\ud800"}, "lone surrogate"),
        ({"since": "yesterday"}, "no beginning"),
        ({"since": 5}, "no beginning"),
        ({"since": datetime(2026, 1, 1)}, "no time zone"),
        ({"poll": 0}, "poll=0"),
        ({"poll": float("nan")}, "poll=nan"),
        ({"poll": True}, "poll=True"),
        ({"poll": "1"}, "poll='1'"),
        ({"wait": 1}, "wait=1"),
        ({"partitions": "eu"}, "partitions='eu'"),
        ({"partitions": [1]}, "a partition is text"),
        ({"on_reset": "print"}, "on_reset='print'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    arguments: dict[str, Any], told: str, layer: Layer
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        layer.follow(**{"consumer": "index", **arguments})
    assert layer.consumers() == ()


def test_a_consumer_that_is_not_there_is_neither_moved_nor_forgotten(layer: Layer) -> None:
    layer.set([put("eu")])
    changes: list[Callable[[], None]] = [
        lambda: layer.move_consumer("index", "now"),
        lambda: layer.move_consumer("index", 1, partition="eu"),
        lambda: layer.forget_consumer("index"),
    ]
    for change in changes:
        with pytest.raises(InvalidInputError, match="no consumer 'index'"):
            change()
    rest(layer)
    with pytest.raises(InvalidInputError, match="partition=… names it"):
        layer.move_consumer("index", 1)
    with pytest.raises(InvalidInputError, match="no event of partition 'ue'"):
        layer.move_consumer("index", "beginning", partition="ue")
    with pytest.raises(InvalidInputError, match="to=True"):
        layer.move_consumer("index", to=True)


def test_damaged_rows_are_told_and_can_be_written_anew(layer: Layer, log: EventLog) -> None:
    layer.set([put("eu")])
    rest(layer)
    for damage in (b"", b"{}x", b'{"version": -1}', b'{"version": "1"}', b'{"what": 1}'):
        row = log.checkpoint("follow/index", "eu")
        assert row is not None
        assert log.move_checkpoint(CheckpointMove(row.scope, row.name, row.revision, damage))
        for call in (lambda: layer.follow("index"), layer.consumers):
            with pytest.raises(EventLogError, match="position of consumer 'index'"):
                call()
        layer.move_consumer("index", "beginning")
        assert len(rest(layer)) == 1
    row = log.checkpoint("consumers", "index")
    assert row is not None
    assert log.move_checkpoint(CheckpointMove(row.scope, row.name, row.revision, b"{"))
    with pytest.raises(EventLogError, match="forget_consumer"):
        layer.follow("index")
    layer.forget_consumer("index")
    assert len(rest(layer)) == 1


# Whatever happens to who follows


def expected_of(layer: Layer) -> dict[str, list[tuple[int, str]]]:
    return {
        partition: [(event.version, event.id) for event in layer.history(partition)] for partition in layer.partitions()
    }


@pytest.mark.parametrize("point", FOLLOW_POINTS)
def test_one_that_dies_anywhere_is_followed_by_one_that_misses_nothing(point: str, layer_on: LayerOn) -> None:
    log = MemoryEventLog("users")
    layer, sink, crashed = layer_on(log), Sink(), 0
    for nth in range(1, 6):
        layer.set([put("eu", f"{nth}"), put("us", f"{nth}"), put("eu", f"{nth}+")])
        if nth % 2:
            layer.sync()
        crash = Crash(point, nth=nth, how="raise")
        dying = layer_on(CrashPoints(log, crash))
        with suppress(Crashed):
            dying.follow(f"another {nth}", since="now").close()
            with dying.follow("index", since=datetime(2020, 1, 1, tzinfo=UTC), poll=0.001) as feed:
                for event in feed:
                    sink.take(event)
                    if event.id == f"{nth}":
                        feed.stop()
        crashed += crash.crashed is not None
    with suppress(Crashed):  # one that waits, since none but that looks again
        crash = Crash(point if "look" in point else "after look", how="raise")
        sink.take_all(layer_on(CrashPoints(log, crash)).follow("index", poll=0.001))
    assert crashed or crash.crashed == point
    sink.take_all(layer.follow("index", wait=False))
    sink.check_all(layer, expected_of(layer))
    assert rest(layer) == []


class Losing(WrappedLog):
    """A log whose answers to moves of checkpoints are lost now and then, done or not."""

    def __init__(self, log: EventLog, chance: random.Random, likely: float) -> None:
        super().__init__(log)
        self._chance = chance
        self._likely = likely

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if method != "move_checkpoint" or self._chance.random() >= self._likely:
            return call(*args, **kwargs)
        if self._chance.random() < 0.5:
            call(*args, **kwargs)
        raise EventLogError("the answer was lost", retryable=True)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_every_event_comes_at_least_once_in_order_and_after_a_clean_run_none_again(
    seed: int, open_log: OpenLog, layer_on: LayerOn
) -> None:
    chance = random.Random(seed)
    layer, sink = layer_on(open_log()), Sink()
    for step in range(60):
        deed = chance.random()
        if deed < 0.4:
            layer.set([put(chance.choice("abc"), f"{step}-{index}") for index in range(chance.randint(1, 4))])
        elif deed < 0.55:
            layer.sync(chance.choice([None, "a", "b"]))
        elif deed < 0.6:
            layer.vacuum(dry_run=False)
        else:
            follow_somehow(layer_on, open_log, chance, sink)
    sink.take_all(layer.follow("index", wait=False))
    sink.check_all(layer, expected_of(layer))
    assert rest(layer) == []
    assert [consumer.behind for consumer in layer.consumers()] == [0]


def follow_somehow(layer_on: LayerOn, open_log: OpenLog, chance: random.Random, sink: Sink) -> None:
    """Follow for a while, die, be left, or lose answers."""
    crash = Crash(*FOLLOW_POINTS, probability=chance.choice([0, 0.02, 0.1]), seed=chance.randrange(10**6), how="raise")
    layer = layer_on(Losing(CrashPoints(open_log(), crash), chance, chance.choice([0, 0.2])))
    left = chance.choice([1, 3, 1000])
    with suppress(Crashed, LayerError), layer.follow("index", wait=False) as feed:
        for event in feed:
            sink.take(event)
            left -= 1
            if not left:
                break


@pytest.mark.parametrize("seed", range(SEEDS))
def test_an_index_kept_by_following_is_the_layer_although_events_expire_and_partitions_are_taken_over(
    seed: int, open_log: OpenLog, layer_on: LayerOn, clock: Ticking
) -> None:
    chance = random.Random(seed)
    layer, sink = layer_on(open_log()), Sink()
    for step in range(50):
        deed = chance.random()
        if deed < 0.4:
            kind = chance.choice(["PUT", "DELETE"])
            item = {"at": chance.choice("abc"), "id": chance.choice("xyz"), "step": step}
            layer.set([{"type": kind, "item": item}])
        elif deed < 0.5:
            layer.sync()
        elif deed < 0.6:
            clock.advance(chance.choice([1, DAY // 2, 2 * DAY]))
        elif deed < 0.65:
            with suppress(InvalidInputError):
                layer.import_snapshot(chance.choice("abcd"), [{"id": "taken", "step": step}])
        else:
            mend_and_follow(layer_on, open_log, chance, sink)
    mend_and_follow(layer_on, open_log, None, sink)
    sink.check_items(layer)
    assert rest(layer, on_reset=pytest.fail) == []


def mend_and_follow(layer_on: LayerOn, open_log: OpenLog, chance: random.Random | None, sink: Sink) -> None:
    likely = 0.0 if chance is None else chance.choice([0, 0.05])
    seed = 0 if chance is None else chance.randrange(10**6)
    crash = Crash(*FOLLOW_POINTS, probability=likely, seed=seed, how="raise")
    layer = layer_on(CrashPoints(open_log(), crash))
    for _ in range(10):
        try:
            for event in layer.follow("index", wait=False, on_reset=sink.rebuild(layer)):
                sink.take(event)
        except PositionExpiredError as error:
            with suppress(Crashed):
                layer.move_consumer("index", "beginning", partition=error.partition)
        except Crashed:
            return
        else:
            return
    pytest.fail("it was moved on ten times, and never got on")
