"""Promises that hold when something fails: a process that dies, a store that fails, an answer that is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dynalayer.errors import LayerError, StorageError
from dynalayer.hookspecs import Adapter
from dynalayer.testing.adapters.places import Place
from dynalayer.testing.adapters.promises import Promises, need_listing
from dynalayer.testing.adapters.world import DAY, LEASE, Around, World
from dynalayer.testing.faults import Crash, Crashed, CrashingStore, CrashPoints

__all__ = ["FaultPromises"]

_COLUMNS = ("before layer_columns", "after layer_columns", "before layer_columns_setter", "after layer_columns_setter")
_PUBLISH = ("before layer_publish", "after layer_publish")
_PUTS = ("layer_setter", "layer_columns_setter", "layer_publish")


class _Sometimes:
    """Lets a hook's calls fail, the n-th of them: before the work, or after it, when the answer is lost."""

    def __init__(self, hooks: tuple[str, ...], nth: int, *, done: bool) -> None:
        self._hooks = hooks
        self._nth = nth
        self._done = done
        self.failed = 0

    def __call__(self, hook: str, call: Callable[[], Any]) -> Any:
        if hook in self._hooks:
            self._nth -= 1
            if self._nth == 0:
                self.failed += 1
                if self._done:
                    call()
                raise StorageError("the connection broke, on purpose", retryable=True)
        return call()


def _prepared(world: World) -> None:
    """Leave two partitions so that the next sync folds both and compacts one."""
    layer = world.layer()
    world.put(layer, "us", one=1)
    for number in range(8):
        world.put(layer, "eu", one=number, **{f"n{number}": number, f"n{number - 2}": None})
        layer.sync()
    world.put(layer, "eu", one=100, n9=9)
    world.put(layer, "us", one=100, two=2)


class FaultPromises(Promises):
    """Whatever fails, nothing acknowledged is lost and nothing is doubled; the next sync carries on."""

    def test_a_sync_that_dies_between_two_steps_loses_and_doubles_nothing(self, place: Place) -> None:
        """At each point in turn; then another process, with a new adapter object, carries on and tidies up."""
        died: set[str] = set()
        with World(place) as world:
            _prepared(world)
            points = self._points(place.adapter())
            for point in points:
                with world.branch() as branch:
                    crash = Crash(point, how="raise")
                    layer = branch.layer(CrashingStore(crash), log=CrashPoints(branch.log, crash))
                    with suppress(Crashed):
                        layer.sync()
                    if crash.crashed is not None:
                        died.add(point)
                    _carries_on(branch, f"a sync died {point}, and the next one carries on")
        missed = {"before layer_setter", "after layer_setter"} & set(points) - died
        assert not missed, f"a sync stores what it folds through layer_setter, and was never {sorted(missed)}"

    def _points(self, adapter: Adapter) -> tuple[str, ...]:
        abilities = adapter.capabilities
        more = (*(_COLUMNS if abilities.columns else ()), *(_PUBLISH if abilities.publishing else ()))
        return (*self.crash_points, *more)

    def test_a_put_that_fails_or_whose_answer_is_lost_is_made_up_for_by_the_next_sync(self, place: Place) -> None:
        """Whether it was done or not, everything stays readable, and the same process carries on."""
        with World(place) as world:
            _prepared(world)
            for nth, done in ((1, False), (1, True), (2, True), (3, True)):
                with world.branch() as branch:
                    _failing(branch, nth, done=done)

    def test_a_discard_whose_answer_is_lost_is_made_up_for_by_the_next_vacuum(self, place: Place) -> None:
        """And nothing that is named goes."""
        need_listing(place.adapter())
        for done in (True, False):
            with World(place) as world:
                _prepared(world)
                world.layer(ttl=DAY).sync()
                world.clock.advance(9 * DAY)
                layer = world.layer(Around(_Sometimes(("layer_discard",), 2, done=done)))
                with suppress(StorageError):
                    layer.vacuum(dry_run=False)
                promise = "a vacuum broke off, and the next one carries on"
                layer.vacuum(dry_run=False)
                listed = sorted(place.adapter().layer_list("eu"))
                named = sorted(each.ref for each in world.log.head("eu").segments)
                assert set(listed) >= set(named), f"{promise}; the head names {named}, and there are {listed}"
                left = [ref for ref in listed if ref not in named and world.log.origin in ref]
                assert not left, f"{promise}; it left {left}"
                world.check_folded(world.layer(), promise)


def _failing(world: World, nth: int, *, done: bool) -> None:
    """Let one of a sync's puts fail."""
    sometimes = _Sometimes(_PUTS, nth, done=done)
    layer = world.layer(Around(sometimes))
    with suppress(LayerError):
        layer.sync()
    if not sometimes.failed:
        return
    how = "was done and its answer lost" if done else "failed before its work"
    promise = f"put {nth} of a sync {how}, and the next sync of the same process carries on"
    world.check(layer, promise)
    layer.sync()
    world.check_folded(layer, promise)
    world.check_folded(world.layer(), promise)


def _carries_on(world: World, promise: str) -> None:
    layer = world.layer()
    world.check(layer, promise)
    world.clock.advance(LEASE + 1)
    layer.sync()
    world.check_folded(world.layer(), promise)
    abilities = world.place.adapter().capabilities
    if not abilities.listing:
        return
    layer.vacuum(dry_run=False)
    listed = sorted(world.place.adapter().layer_list("eu"))
    named = {each.ref for each in world.log.head("eu").segments}
    named |= {each.segment.ref for each in world.log.old_segments("eu")}
    missing = sorted(named - set(listed))
    assert not missing, f"{promise}; named by the log and not in the listing: {missing}"
    orphans = [ref for ref in listed if ref not in named and world.log.origin in ref]
    assert not orphans, f"{promise}, and a vacuum discards what the dead one left; it left {orphans}"
    world.put(layer, "eu", later=1)
    layer.sync()
    world.check_folded(world.layer(), f"{promise}, also after a vacuum")
