"""Promises of the whole: layers that live over the adapter, from their first set to their last vacuum."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.eventlog.sqlite import SQLiteEventLog
from dynalayer.segments import Segment
from dynalayer.testing.adapters.catalogue import ODD_NAMES, VALUES
from dynalayer.testing.adapters.places import Place
from dynalayer.testing.adapters.promises import Promises, need_immutable
from dynalayer.testing.adapters.world import DAY, World
from dynalayer.values import Item

__all__ = ["LayerPromises"]

_ODD = (" ", *(name for name in ODD_NAMES[::5] if len(name) < 100))  # a ref may hold a short name


class LayerPromises(Promises):
    """A layer over the adapter keeps every acknowledged event."""

    def test_a_layer_lives_from_its_first_set_to_its_last_vacuum(self, place: Place) -> None:
        """Sets, deletes, syncs, compactions, looks back, history, verify, vacuum; with a log in SQLite."""
        with (
            tempfile.TemporaryDirectory() as folder,
            World(place, SQLiteEventLog(Path(folder) / "events.db", place.table)) as world,
        ):
            layer = world.layer(ttl=DAY)
            abilities = place.adapter().capabilities
            cursors: dict[str, int] = {}
            for number in range(1, 16):
                world.put(layer, **{f"n{number}": number, "one": number, f"n{number - 3}": None})
                result = layer.sync()
                assert result.count == 3, f"a sync folded {result.count} events of 3"
                assert result.cursor is not None
                cursors[result.cursor] = layer.meta("eu").version
            fresh = world.layer(ttl=DAY)
            world.check_folded(fresh, "a layer opened anew reads what another one's syncs stored")
            if abilities.immutable:
                for cursor, version in list(cursors.items())[::4]:
                    found = fresh.get("eu", at=cursor)
                    assert found == world.items("eu", version), f"as of sync {cursor}: {found!r:.200}"
            events = [(each.version, each.type, each.id) for each in fresh.history("eu")]
            assert events == [(each.version, each.type, each.id) for each in world.events["eu"]], "history tells all"
            world.clock.advance(3 * DAY)
            if abilities.listing:
                layer.vacuum(dry_run=False)
                again = world.layer().vacuum(dry_run=False)
                assert again.discarded == (), f"a second vacuum finds {again.discarded[:3]}, which the first discarded"
            world.put(layer, late=1)
            layer.sync()
            world.check_folded(world.layer(), "after a vacuum a layer lives on")

    def test_values_of_every_kind_come_back_through_folds_and_compactions(self, place: Place) -> None:
        """By a layer, exactly."""
        items: dict[str, Item | None] = {name: {name: value} for name, value in VALUES.items()}
        with World(place) as world:
            layer = world.layer()
            names = list(items)
            for number in range(9):
                world.set(layer, "eu", {name: items[name] for name in names[number::9]})
                layer.sync()
            world.set(layer, "eu", dict.fromkeys(names[::45]) | {"last": {"n": 1}})
            layer.sync()
            world.check_folded(world.layer(), "what is set is what is got, before and after a sync")

    def test_partitions_of_odd_names_live_side_by_side(self, place: Place) -> None:
        """In one layer, through a sync and a vacuum."""
        with World(place) as world:
            layer = world.layer()
            for value in (1, 2):
                for number, name in enumerate(_ODD):
                    world.put(layer, name, one=number, two=value)
                layer.sync()
            if place.adapter().capabilities.listing:
                layer.vacuum(dry_run=False)
            world.check_folded(world.layer(), "partitions are kept apart")

    def test_layers_of_two_tables_leave_each_other_alone(self, place: Place) -> None:
        """Also where one table's name begins with the other's, and both vacuum."""
        other_table = f"{place.table}2"
        with World(place) as one, World(place, table=other_table) as other:
            layers = [(world, world.layer()) for world in (one, other)]
            for number in range(3):
                for world, layer in layers:
                    world.put(layer, one=id(world), **{f"n{number}": number})
                    layer.sync()
            if place.adapter().capabilities.immutable:
                self._orphans(place, *(world for world, _ in layers))
            self._check_apart(place, *layers)

    def test_layers_of_two_logs_of_one_table_leave_each_other_alone(self, place: Place) -> None:
        """A log that was made anew begins at version 1 again, and knows nothing of what the old one's layer stored."""
        need_immutable(place.adapter())
        with World(place) as one, World(place, MemoryEventLog(place.table)) as other:
            layers = [(world, world.layer()) for world in (one, other)]
            for number in range(3):
                for world, layer in layers:
                    world.put(layer, one=id(world), **{f"n{number}": number})
                    layer.sync()
            self._check_apart(place, *layers)

    @staticmethod
    def _orphans(place: Place, *worlds: World) -> None:
        """Leave behind what a sync that died did: a segment that no head names."""
        for world in worlds:
            stored = Segment(world.table, "eu", world.log.origin, "base", 0, 4, {"orphan": {"id": "orphan"}})
            place.adapter(world.table).layer_setter("eu", stored)

    @staticmethod
    def _check_apart(place: Place, *layers: tuple[World, object]) -> None:
        for _ in range(2):
            for world, _layer in layers:
                if place.adapter().capabilities.listing:
                    world.layer().vacuum(dry_run=False)
            for world, _layer in layers:
                promise = "layers that share a place leave each other's segments alone: keep tables apart in the store"
                world.check_folded(world.layer(), promise)
