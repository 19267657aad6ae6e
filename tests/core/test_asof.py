"""As-of answers are exact, or refused: by version, by moment, by cursor, before and after history has passed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynalayer import EventLog, HistoryError, InvalidInputError, Layer, MemoryEventLog, Segment, hookimpl
from dynalayer.clock import to_datetime
from dynalayer.eventlog.base import Draft, RecordKind, Unmarked
from dynalayer.events import pack
from dynalayer.testing.faults import Crash, Crashed, CrashPoints
from dynalayer.testing.wrapped_log import WrappedLog
from dynalayer_local import LocalAdapter
from fakes import DAY, Between, Ticking, delete, put


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def make(tmp_path: Path, clock: Ticking) -> Callable[..., Layer]:
    log = MemoryEventLog("users")

    def make(**options: Any) -> Layer:
        adapter = LocalAdapter(tmp_path / "snapshots")
        given: dict[str, Any] = {"storage": adapter, "clock": clock, "events": log, **options}
        return Layer(table="users", get_item_unique_identifier="id", **given)

    return make


def states(layer: Layer, steps: int) -> list[list[dict[str, Any]]]:
    return [layer.get(at=version) for version in range(steps + 1)]


def test_every_version_is_read_as_it_was_through_syncs_and_compactions(make: Callable[..., Layer]) -> None:
    layer = make()
    seen = [layer.get()]
    for step in range(120):
        layer.set([put(str(step % 7), step=step)] if step % 5 else [delete(str(step % 7))])
        seen.append(layer.get())
        if step % 3 == 0:
            layer.sync()
    assert len(layer._log.head("").segments) < 40
    assert states(layer, 120) == seen
    assert states(make(), 120) == seen


def test_a_moment_means_the_last_record_not_after_it(make: Callable[..., Layer]) -> None:
    layer = make()
    first = layer.set([put("a", n=1)])[0].at
    second = layer.set([put("a", n=2)])[0].at
    microsecond = timedelta(microseconds=1)
    assert layer.get(at=first - microsecond) == []
    assert layer.get(at=first) == [{"id": "a", "n": 1}]
    assert layer.get(at=second - microsecond) == [{"id": "a", "n": 1}]
    layer.sync()
    assert layer.get(at=first) == [{"id": "a", "n": 1}]
    assert layer.get(at=second) == layer.get(at=second + timedelta(days=99)) == [{"id": "a", "n": 2}]


def test_a_clock_that_runs_backward_keeps_moments_in_the_order_of_versions(
    make: Callable[..., Layer], clock: Ticking
) -> None:
    layer = make()
    first = layer.set([put("a", n=1)])[0].at
    clock.advance(-3600)
    second = layer.set([put("a", n=2)])[0].at
    assert second >= first
    layer.sync()
    clock.advance(-3600)
    layer.set([put("a", n=3)])
    earlier = layer.meta().cursor
    layer.sync()
    assert layer.meta().cursor > earlier
    assert layer.get(at=earlier) == [{"id": "a", "n": 2}]


def test_a_cursor_means_what_its_sync_left_in_every_partition(make: Callable[..., Layer]) -> None:
    layer = make()
    layer.set([{"partition": "x", **put("a", n=1)}, {"partition": "y", **put("a", n=1)}])
    both = layer.sync().cursor
    layer.set([{"partition": "x", **put("a", n=2)}])
    only_x = layer.sync().cursor
    layer.set([{"partition": "y", **put("a", n=3)}])
    assert both is not None
    assert only_x is not None
    for partition, at, expected in (("x", both, 1), ("y", both, 1), ("x", only_x, 2), ("y", only_x, 1)):
        assert [item["n"] for item in layer.get(partition, at=at)] == [expected]
    assert layer.get("nowhere", at=both) == []


def test_what_is_no_version_moment_or_cursor_is_refused_with_what_there_is(make: Callable[..., Layer]) -> None:
    layer = make()
    layer.set([put("a")])
    with pytest.raises(HistoryError, match="there is no version 2; the newest is 1"):
        layer.get(at=2)
    with pytest.raises(HistoryError, match="there is no version -1"):
        layer.get(at=-1)
    with pytest.raises(HistoryError, match="no sync had the cursor '__INITIAL__'"):
        layer.get(at="__INITIAL__")
    with pytest.raises(InvalidInputError, match="no time zone"):
        layer.get(at=datetime(2026, 1, 1))
    for odd in (True, 1.5, b"x", object()):
        with pytest.raises(InvalidInputError, match="no version"):
            layer.get(at=odd)  # type: ignore[arg-type] # that is what is refused


def test_past_the_kept_history_a_read_is_refused_and_names_what_is_kept(
    make: Callable[..., Layer], clock: Ticking
) -> None:
    layer = make(ttl=DAY)
    first = layer.set([put("a", n=1)])[0].at
    layer.set([put("a", n=2)])
    cursor = layer.sync().cursor
    assert cursor is not None
    clock.advance(2 * DAY)
    layer.set([put("a", n=3)])
    layer.sync()
    layer.vacuum(dry_run=False)
    assert [event.version for event in layer.history()] == [3]
    for at in (1, first):
        with pytest.raises(
            HistoryError, match=r"reaches back past what is kept: the oldest kept event is of .*version 3"
        ):
            layer.get(at=at)
    assert layer.get(at=2) == layer.get(at=cursor) == [{"id": "a", "n": 2}]
    assert layer.get(at=3) == [{"id": "a", "n": 3}]


def test_a_record_is_kept_as_long_as_the_longest_lived_of_its_events(
    make: Callable[..., Layer], clock: Ticking
) -> None:
    layer = make(ttl=lambda item: item["days"] * DAY)
    layer.set([put("a", days=1), put("b", days=3)])
    layer.set([put("a", days=1)])
    layer.sync()
    clock.advance(2 * DAY)
    layer.set([put("c", days=1)])
    layer.sync()
    assert [(event.version, event.id) for event in layer.history()] == [(1, "a"), (1, "b"), (3, "c")]
    clock.advance(2 * DAY)
    layer.set([put("c", days=1)])
    layer.sync()
    assert [(event.version, event.id) for event in layer.history()] == [(4, "c")]
    assert [item["id"] for item in layer.get()] == ["a", "b", "c"]


def test_pending_events_never_expire(make: Callable[..., Layer], clock: Ticking) -> None:
    layer = make(ttl=DAY)
    layer.set([{"partition": "x", **put("a")}])
    clock.advance(400 * DAY)
    layer.set([{"partition": "y", **put("a")}])
    layer.sync("y")
    assert [item["id"] for item in layer.get("x")] == ["a"]
    assert len(layer.history("x")) == 1


def test_history_can_be_cut_by_item_and_version(make: Callable[..., Layer]) -> None:
    layer = make()
    layer.set([put("1", n=1), put("2", n=1)])
    layer.set([put("1", n=2)])
    layer.sync()
    layer.set([delete("1")])
    assert [(event.version, event.type) for event in layer.history(id="1")] == [(1, "PUT"), (2, "PUT"), (3, "DELETE")]
    assert layer.history(id=1) == layer.history(id="1")
    assert [event.id for event in layer.history(after=1)] == ["1", "1"]
    assert [event.cursor == "__INITIAL__" for event in layer.history(id="1")] == [False, False, True]
    assert all(event.at.tzinfo is UTC for event in layer.history())


step = st.one_of(
    st.tuples(st.just("set"), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=3)),
    st.tuples(st.just("sync"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0, 3600, DAY, 2 * DAY, 6 * DAY])),
    st.tuples(st.just("vacuum"), st.none()),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, max_size=60))
def test_whatever_happens_an_as_of_read_is_exact_or_refused(tmp_path: Path, steps: list[tuple[str, Any]]) -> None:
    clock = Ticking()
    layer = Layer(
        table="users",
        get_item_unique_identifier="id",
        events="memory:",
        storage=LocalAdapter(tmp_path / f"{clock.now}-{id(steps)}"),
        ttl=DAY,
        clock=clock,
    )
    items: dict[str, dict[str, Any]] = {}
    versions: list[dict[str, dict[str, Any]]] = [{}]
    moments: list[tuple[datetime, int]] = []
    cursors: dict[str, int] = {}
    for what, value in steps:
        if what == "set":
            events = [put(key, n=len(versions)) if alive else delete(key) for key, alive in value]
            layer.set(events)
            for event in events:
                key = event["item"]["id"]
                items.pop(key, None)
                if event["type"] == "PUT":
                    items[key] = event["item"]
            versions.append(dict(items))
            moments.append((to_datetime(clock()), len(versions) - 1))
        elif what == "sync":
            cursor = layer.sync().cursor
            if cursor:
                cursors[cursor] = len(versions) - 1
        elif what == "wait":
            clock.advance(value)
        else:
            layer.vacuum(dry_run=False)
        assert layer.get() == [items[key] for key in sorted(items)]
    refused = 0
    places: list[tuple[Any, int]] = [*enumerate(range(len(versions))), *moments, *cursors.items()]
    for at, version in places:
        expected = [versions[version][key] for key in sorted(versions[version])]
        try:
            assert layer.get(at=at) == expected, at
        except HistoryError:
            refused += 1
    if not any(what == "wait" and value >= DAY for what, value in steps):
        assert not refused


def test_a_vacuum_that_did_not_finish_leaves_other_ways_to_the_past(tmp_path: Path) -> None:
    clock, inner = Ticking(), MemoryEventLog("users")
    log = Between(inner)

    def layer(events: EventLog) -> Layer:
        return Layer(
            table="users",
            get_item_unique_identifier="id",
            events=events,
            storage=LocalAdapter(tmp_path),
            ttl=DAY,
            clock=clock,
        )

    for number in range(12):
        layer(inner).set([put("a", n=number)])
        layer(inner).sync()
    clock.advance(1.1 * DAY)

    def crash() -> None:
        raise KeyboardInterrupt

    log.then("before forget_old_segments", crash)
    with pytest.raises(KeyboardInterrupt):
        layer(log).vacuum(dry_run=False)
    assert len(inner.old_segments("")) > 0
    for version in range(1, 13):
        assert layer(inner).get(at=version) == [{"id": "a", "n": version - 1}]


def test_a_reset_that_was_never_committed_hides_nothing_of_the_past(make: Callable[..., Layer]) -> None:
    layer = make()
    layer.set([put("a", n=1)])
    layer._log.append([Draft("", RecordKind.RESET, "nonce", 0, 0, 5 * DAY, pack([]))])
    layer.set([put("a", n=2)])
    layer.sync()
    assert [[item["n"] for item in items] for items in states(layer, 3)] == [[], [1], [1], [2]]


def test_a_read_that_was_held_up_past_the_ttl_is_refused_not_wrong(tmp_path: Path) -> None:
    clock, inner = Ticking(), MemoryEventLog("users")
    log = Between(inner)
    slow, other = (
        Layer(
            table="users",
            get_item_unique_identifier="id",
            events=events,
            storage=LocalAdapter(tmp_path),
            ttl=DAY,
            clock=clock,
        )
        for events in (log, inner)
    )
    moment = other.set([put("a")])[0].at
    other.set([put("b")])

    def held_up() -> None:
        other.sync()
        clock.advance(2 * DAY)
        other.set([put("c")])
        other.sync()

    log.then("after old_segments", held_up)
    with pytest.raises(HistoryError):
        slow.get(at=moment)


@pytest.mark.parametrize("by", ["version", "moment"])
def test_a_reader_held_up_while_records_are_folded_and_expire_finds_what_the_head_names_now(
    by: str, tmp_path: Path, clock: Ticking
) -> None:
    inner = MemoryEventLog("users")
    log = Between(inner)
    slow, other = (
        Layer(
            table="users",
            get_item_unique_identifier="id",
            events=events,
            storage=LocalAdapter(tmp_path),
            ttl=DAY,
            clock=clock,
        )
        for events in (log, inner)
    )
    other.set([put("a")])
    other.set([put("b")])
    moment = other.history()[-1].at

    def held_up() -> None:
        other.sync()
        clock.advance(2 * DAY)
        other.set([put("c")])
        other.sync()
        assert [event.version for event in other.history()] == [3]

    log.then("after old_segments", held_up)
    assert [item["id"] for item in slow.get(at=2 if by == "version" else moment)] == ["a", "b"]


def test_an_adapter_that_gives_what_it_keeps_keeps_it_from_callers(make: Callable[..., Layer], tmp_path: Path) -> None:
    class Same(LocalAdapter):
        def __init__(self) -> None:
            super().__init__(tmp_path)
            self.kept: dict[str, Segment] = {}

        @hookimpl
        def layer_getter(self, partition: str, ref: str) -> Segment:
            return self.kept.setdefault(ref, super().layer_getter(partition, ref))

    store = Same()
    make(storage=store).set([put("a", tags=["x"])])
    make(storage=store).sync()
    for cache_bytes in (0, 10**6):
        layer = make(storage=store, cache_bytes=cache_bytes)
        for at in (None, 1, None):
            (item,) = layer.get(at=at)
            assert item == {"id": "a", "tags": ["x"]}
            item["tags"].append("changed by a caller")


class HidesUnmarked(WrappedLog):
    """As an index that does not show what a killed sync has left."""

    def unmarked(self, partition: str, through: int, limit: int) -> tuple[Unmarked, ...]:
        del partition, through, limit
        return ()


def test_a_cursor_means_its_own_sync_though_its_marking_was_hidden_until_it_was_compacted(
    make: Callable[..., Layer], clock: Ticking
) -> None:
    log = MemoryEventLog("users")
    layer, hidden = make(events=log), make(events=HidesUnmarked(log))
    layer.set([put("0")])
    layer.sync()
    layer.set([put(name) for name in "12345"])
    with pytest.raises(Crashed):
        make(events=CrashPoints(log, Crash("after move_head", how="raise"))).sync()
    killed, folded = log.head("").cursor, layer.get()
    clock.advance(3600)  # the dead hold their lease until it runs out
    for number in range(10, 20):
        hidden.set([put(str(number))])
        hidden.sync()
    assert killed not in {named.cursor for named in log.head("").segments}, "it is compacted"
    assert [each.version for each in log.unmarked("", 99, 99)] == [2]
    for reader in (layer, hidden, make(events=log)):
        assert reader.get(at=killed) == folded
    layer.set([put("last")])
    layer.sync()
    assert log.unmarked("", 99, 99) == ()
    assert layer.get(at=killed) == folded
