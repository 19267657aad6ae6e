"""A sync that keeps history for ever dies at each point of its work; every event is told once all the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import pytest

from dynalayer import EventLog, EventLogError, Layer, MemoryEventLog
from dynalayer.chronicle import history_of
from dynalayer.eventlog.base import HeadMove
from dynalayer.testing.faults import (
    HISTORY_POINTS,
    SYNC_POINTS,
    TAKEOVER_POINTS,
    VACUUM_POINTS,
    Crash,
    Crashed,
    CrashingStore,
    CrashPoints,
    WrappedLog,
)
from fakes import DAY, Ticking, delete, put
from shelf import Board, Shelf

LEASE = 60
ARRIVALS = 40


@dataclass
class World:
    """What outlives a process."""

    log: MemoryEventLog = field(default_factory=lambda: MemoryEventLog("users"))
    board: Board = field(default_factory=Board)
    clock: Ticking = field(default_factory=Ticking)
    told: list[tuple[int, str, Any]] = field(default_factory=list)
    seen: list[list[dict[str, Any]]] = field(default_factory=lambda: [[]])

    def copy(self) -> World:
        board = Board(dict(self.board.kept))
        return World(self.log.copy(), board, copy(self.clock), list(self.told), list(self.seen))

    def layer(self, crash: Crash | None = None, log: EventLog | None = None) -> Layer:
        log = log or self.log
        storage: list[Any] = [Shelf(self.board, "users")]
        if crash is not None:
            log, storage = CrashPoints(log, crash), [CrashingStore(crash), *storage]
        return Layer(
            table="users",
            get_item_unique_identifier="id",
            events=log,
            storage=storage,
            clock=self.clock,
            lease=LEASE,
            ttl=DAY,
            history="forever",
        )

    def write(self, layer: Layer) -> None:
        step = len(self.seen)
        events = layer.set([put(str(step % 3), step=step), delete(str((step + 1) % 3)), put("always", step=step)])
        self.told += [(event.version, event.type, event.item) for event in events]
        self.seen.append(layer.get())

    def expire(self) -> None:
        self.clock.advance(10 * DAY)
        self.log.expire(self.clock(), 1_000_000, "9")

    def check(self, layer: Layer) -> None:
        assert [(event.version, event.type, event.item) for event in layer.history()] == self.told
        for version in {*range(0, len(self.seen), 4), len(self.seen) - 1}:
            assert layer.get(at=version) == self.seen[version]
        assert layer.verify().findings == ()

    def check_carries_on(self) -> None:
        """Whole now, and when all has expired; and what nobody names is discarded, and nothing else."""
        self.check(self.layer())
        self.expire()
        self.check(self.layer())
        layer = self.layer()
        for _ in range(9):
            self.write(layer)
            layer.sync()
        self.expire()
        layer.vacuum(dry_run=False)
        self.check(self.layer())
        named = {each.ref for each in self.log.head("").segments}
        listed = {each.segment.ref for each in self.log.old_segments("")}
        assert set(layer._storage.list("")) == named | listed
        assert self.log.pending() == ()


@pytest.fixture(scope="module")
def template() -> World:
    """The next sync writes a delta and its history, compacts, brings over what another folded, and merges."""
    world = World()
    layer = world.layer()
    for step in range(15):
        world.write(layer)
        world.write(layer)
        if step != 5:
            layer.sync()
            continue
        plain = Layer(
            table="users",
            get_item_unique_identifier="id",
            events=world.log,
            storage=Shelf(world.board, "users"),
            clock=world.clock,
            ttl=DAY,
        )
        plain.sync()
    while world.log.head("").synced_times % 8:
        world.write(layer)
        layer.sync()
    world.write(layer)
    return world


@pytest.mark.parametrize("point", [*SYNC_POINTS, *HISTORY_POINTS])
def test_a_sync_that_dies_anywhere_leaves_all_history_whole(template: World, point: str) -> None:
    for nth in range(1, ARRIVALS, 5 if "getter" in point else 1):  # a merge reads many
        world = template.copy()
        crash = Crash(point, nth=nth, how="raise")
        with suppress(Crashed):
            world.layer(crash).sync()
        if crash.crashed is None:
            assert nth > 1, f"no sync gets {point}"
            return
        world.clock.advance(LEASE + 1)
        world.check_carries_on()
    pytest.fail(f"{point} is reached more than {ARRIVALS} times")


@pytest.mark.parametrize("point", TAKEOVER_POINTS)
def test_a_takeover_that_dies_anywhere_leaves_all_history_whole(point: str) -> None:
    for nth in range(1, ARRIVALS):
        world = World()
        world.write(world.layer())
        crash = Crash(point, nth=nth, how="raise")
        with suppress(Crashed):
            world.layer(crash).import_snapshot("", [{"id": "taken"}])
        world.clock.advance(LEASE + 1)
        layer = world.layer()
        if layer._log.head("").version == 0:
            layer.import_snapshot("", [{"id": "taken"}])
        layer.sync()
        while len(world.seen) < layer._log.head("").reset:  # what was not committed changed nothing
            world.seen.append(world.seen[-1])
        world.seen.append(layer.get())
        world.check_carries_on()
        if crash.crashed is None:
            assert nth > 1, f"no takeover gets {point}"
            return
    pytest.fail(f"{point} is reached more than {ARRIVALS} times")


@pytest.mark.parametrize("point", VACUUM_POINTS)
def test_a_vacuum_that_dies_anywhere_takes_no_history_with_it(template: World, point: str) -> None:
    for nth in range(1, 2 * ARRIVALS, 8):
        world = template.copy()
        world.layer().sync()
        world.expire()
        crash = Crash(point, nth=nth, how="raise")
        with suppress(Crashed):
            world.layer(crash).vacuum(dry_run=False)
        if crash.crashed is None:
            assert nth > 1, f"no vacuum gets {point}"
            return
        world.check_carries_on()
    pytest.fail(f"{point} is reached too often")


def test_the_lists_name_all_points_that_such_a_sync_reaches(template: World) -> None:
    reached: set[str] = set()
    crash = Crash()
    around = crash.around

    def noted(method: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        reached.update({f"before {method}", f"after {method}"})
        return around(method, call, *args, **kwargs)

    crash.around = noted  # type: ignore[method-assign] # to see where it is asked
    template.copy().layer(crash).sync()
    assert reached == {*SYNC_POINTS, *HISTORY_POINTS}


@pytest.mark.parametrize("error", [True, False], ids=["error", "no"])
def test_a_merge_whose_answer_is_lost_is_known_again_or_made_anew(template: World, error: bool) -> None:
    class LostAnswers(WrappedLog):
        def move_head(self, partition: str, move: HeadMove) -> bool:
            moved = super().move_head(partition, move)
            if error:
                raise EventLogError("the connection broke")
            return moved and bool(move.folded)

    world = template.copy()
    world.layer(log=LostAnswers(world.log)).sync()
    assert world.layer().meta().unsynced_total == 0
    world.check_carries_on()


def test_the_template_is_what_it_says(template: World) -> None:
    world = template.copy()
    before, refs = len(history_of(world.log.old_segments(""))), set(world.board.kept)
    world.layer().sync()
    after = history_of(world.log.old_segments(""))
    assert before == 8
    assert len(after) == 1, "all of them, what was brought over, and the newest"
    new = set(world.board.kept) - refs
    assert len(new) >= 4, "a delta or base, its history, what was brought over, and merged ones"
