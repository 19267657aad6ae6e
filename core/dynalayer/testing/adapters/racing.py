"""Promises about many at once: threads on one object, and layers that read, sync and vacuum side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from dynalayer.errors import ConflictError
from dynalayer.layer import Layer
from dynalayer.testing.adapters.places import Place
from dynalayer.testing.adapters.promises import Promises, came_back, segment
from dynalayer.testing.adapters.world import LEASE, World

__all__ = ["RacePromises"]

T = TypeVar("T")


def _at_once(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Run each task in a thread of its own, begun together; what they return, or the first error."""
    barrier = threading.Barrier(len(tasks), timeout=60)

    def begin(task: Callable[[], T]) -> T:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(begin, task) for task in tasks]]


class RacePromises(Promises):
    """Hooks may be called from several threads at once, and by several processes."""

    def test_one_object_serves_many_threads(self, place: Place) -> None:
        """From its first call on: puts, gets, listings and discards, of one partition and of several."""
        adapter = place.adapter()
        listing = adapter.capabilities.listing

        def work(number: int) -> list[str]:
            left = []
            for round_ in range(self.rounds):
                partition = "eu" if round_ % 2 else f"own-{number}"
                stored = segment(place, {"one": {"by": number, "round": round_}}, partition=partition)
                ref = adapter.layer_setter(partition, stored)
                came_back(adapter, ref, stored, "hooks may be called from several threads at once")
                if not listing:
                    continue
                assert ref in adapter.layer_list(partition), "a listing tells what was stored, whatever others do"
                if round_ % 3:
                    left += [ref] if round_ % 2 else []
                else:
                    adapter.layer_discard(partition, ref)
            return left

        refs = _at_once([partial(work, number) for number in range(self.racers)])
        if listing:
            listed, expected = sorted(adapter.layer_list("eu")), sorted(ref for each in refs for ref in each)
            assert listed == expected, f"of many threads' puts and discards there are {len(listed)} of {len(expected)}"

    def test_syncs_that_race_lose_and_double_nothing(self, place: Place) -> None:
        """Each believes that it may: its lease has no length; but where one mutable place is safe by a lease alone."""
        with World(place) as world:
            lease = 0.000001 if place.adapter().capabilities.immutable else LEASE
            layers = [world.layer(lease=lease) for _ in range(self.racers)]

            def work(number: int) -> None:
                for round_ in range(self.rounds):
                    world.put(layers[number], "eu", shared=100 * number + round_, **{f"by{number}": round_})
                    _sync(layers[number])

            _at_once([partial(work, number) for number in range(self.racers)])
            _sync(layers[0])
            world.check_folded(world.layer(), "syncs of several processes may overlap, and the head decides")

    def test_readers_beside_syncs_and_vacuums_see_all_that_was_acknowledged(self, place: Place) -> None:
        """Each read is at least what was acknowledged before it began."""
        with World(place) as world:
            writer = world.layer()
            world.put(writer, "eu", newest=0)
            writer.sync()
            readers = [world.layer(cache_bytes=0) for _ in range(2)]
            listing = place.adapter().capabilities.listing
            acknowledged = [0]
            done = threading.Event()

            def write() -> None:
                try:
                    for number in range(1, 3 * self.rounds + 1):
                        world.put(writer, "eu", newest=number)
                        acknowledged[0] = number
                        writer.sync()
                        if listing and number % 4 == 0:
                            writer.vacuum(dry_run=False)
                finally:
                    done.set()

            def read(layer: Layer) -> None:
                while not done.is_set():
                    before = acknowledged[0]
                    found = {item["id"]: item["value"] for item in layer.get("eu")}.get("newest", 0)
                    assert found >= before, f"a read shows {found}, and {before} was acknowledged before it began"

            tasks: list[Callable[[], None]] = [write, *(partial(read, layer) for layer in readers)]
            _at_once(tasks)
            world.check_folded(world.layer(), "reads beside syncs change nothing")


def _sync(layer: Layer) -> None:
    """Sync; who loses at every one of its tries has lost nothing, and does it again, within bounds."""
    for _ in range(20):
        try:
            layer.sync()
        except ConflictError:
            continue
        return
    layer.sync()
