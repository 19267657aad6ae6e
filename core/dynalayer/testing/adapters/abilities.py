"""Promises about capabilities: what is declared works, what is not is done without or refused before any call."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from dynalayer.errors import ConfigurationError, HistoryError
from dynalayer.hookspecs import Capabilities
from dynalayer.testing.adapters.places import Place
from dynalayer.testing.adapters.promises import Promises, came_back, need_raw, refused, segment
from dynalayer.testing.adapters.world import DAY, Around, World

__all__ = ["AbilityPromises"]

_CREDENTIALS = re.compile(r"//[^/@\s]+:[^/@\s]+@")
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class AbilityPromises(Promises):
    """Capabilities are what the layer goes by."""

    def test_name_and_capabilities_are_the_same_each_time(self, place: Place) -> None:
        """Of every object, before and after it was used."""
        adapter = place.adapter()
        name, declared = adapter.name, adapter.capabilities
        assert name, "an adapter has a name, by which errors call it"
        assert isinstance(declared, Capabilities), f"capabilities are a Capabilities, not {declared!r:.100}"
        adapter.layer_setter("eu", segment(place))
        for each in (adapter, place.adapter()):
            told = each.name, each.capabilities
            assert told == (name, declared), f"an adapter says the same of itself each time: {told}, {(name, declared)}"

    def test_deltas_are_given_where_declared_and_bases_alone_where_not(self, place: Place) -> None:
        """And items are those of all segments together."""
        around = Around()
        with World(place) as world:
            layer = world.layer(around)
            deltas = place.adapter().capabilities.deltas
            world.put(layer, one=1, two=2, three=3, four=4)
            layer.sync()
            world.put(layer, one=None, two=None, three=None, four=5)
            layer.sync()
            kinds = [call["segment"].kind for call in around.named("layer_setter")]
            assert kinds == ["base", "delta" if deltas else "base"], f"deltas={deltas}, and {kinds} were given"
            promise = f"deltas={deltas}, and a layer reads what its syncs stored; declare deltas only if both stay"
            world.check_folded(world.layer(), promise)

    def test_old_snapshots_are_read_where_segments_are_immutable_and_refused_where_not(self, place: Place) -> None:
        """Each version of the past, through compactions; and what is immutable is read once, the rest anew."""
        around = Around()
        with World(place) as world:
            layer = world.layer()
            immutable = place.adapter().capabilities.immutable
            for version in range(1, 20):
                world.put(layer, one=version, **{f"n{version % 3}": version})
                layer.sync()
            fresh = world.layer(around)
            world.check(fresh)
            first = len(around.named("layer_getter"))
            world.check(fresh)
            again = len(around.named("layer_getter")) - first
            assert again == (0 if immutable else first), f"immutable={immutable}; reads {first} times, then {again}"
            promise = f"immutable={immutable}, and what old snapshots are made of stays: only a discard takes it away"
            world.check_folded(fresh, promise)
            world.clock.advance(9 * DAY)
            if not immutable:
                world.put(layer, one=0)
                layer.sync()  # what was folded long ago has expired, and with it what the log could tell
                promise = "immutable=False, and an as-of read that needs an old snapshot is refused"
                refused((HistoryError,), lambda: fresh.get("eu", at=1), promise)
                return
            for version in (1, 2, 8, 9, 19):
                found = fresh.get("eu", at=version)
                assert found == world.items("eu", version), (
                    f"immutable=True, and version {version} was {found!r:.200}: only a discard takes a segment away"
                )

    def test_a_vacuum_works_where_listing_is_declared_and_is_refused_where_not(self, place: Place) -> None:
        """Refused before any call reaches the adapter."""
        around = Around()
        with World(place) as world:
            layer = world.layer(around, ttl=DAY)
            for number in range(10):
                world.put(layer, one=number)
                layer.sync()
            world.clock.advance(3 * DAY)
            adapter = place.adapter()
            if not adapter.capabilities.listing:
                around.calls.clear()
                promise = "listing=False, and a vacuum is refused"
                refused((ConfigurationError,), lambda: layer.vacuum(dry_run=False), promise)
                assert around.calls == [], f"listing=False, and a vacuum called {around.calls} before it was refused"
                return
            layer.vacuum(dry_run=False)
            listed = sorted(adapter.layer_list("eu"))
            named = sorted(each.ref for each in world.log.head("eu").segments)
            assert listed == named, (
                f"after a vacuum there is what the head names, {named}, and the listing tells {listed}"
            )
            world.check_folded(world.layer(), "a vacuum takes nothing that is named")

    def test_each_sync_publishes_where_that_is_declared_and_none_does_where_not(self, place: Place) -> None:
        """All items, with the version that they are of; doing it again is no error."""
        answers: list[object] = []

        def noting(hook: str, call: Callable[[], Any]) -> Any:
            answer = call()
            if hook == "layer_publish":
                answers.append(answer)
            return answer

        around = Around(noting)
        with World(place) as world:
            layer = world.layer(around)
            publishing = place.adapter().capabilities.publishing
            for number in (1, 2):
                world.put(layer, one=number, **{f"n{number}": number})
                layer.sync()
            told = [(call["version"], sorted(call["items"])) for call in around.named("layer_publish")]
            expected = [(1, ["n1", "one"]), (2, ["n1", "n2", "one"])] if publishing else []
            assert told == expected, f"publishing={publishing}, and {told} was handed over to be published"
            assert all(answer is True for answer in answers), f"layer_publish returns True when it is done: {answers}"
            world.check_folded(world.layer(), "publishing leaves the segments alone")

    def test_an_older_version_published_late_does_not_replace_a_newer_one(self, place: Place) -> None:
        """Of one event log; the same one again is no error."""
        adapter = place.adapter()
        if not adapter.capabilities.publishing:
            pytest.skip("capabilities say publishing=False")
        raw = need_raw(place)
        publish = getattr(adapter, "layer_publish")  # noqa: B009 -- a hook that not every adapter has
        before = set(raw.names())
        items = {version: {"one": {"id": "one", "version": version}} for version in (1, 2)}
        publish(partition="eu", origin="log", version=2, items=items[2])
        newest = {name: raw.read(name) for name in raw.names() if name not in before}
        assert newest, "what is published is in the store when layer_publish returns"
        for version in (1, 2):
            publish(partition="eu", origin="log", version=version, items=items[version])
            left = {name: raw.read(name) for name in newest}
            assert left == newest, f"version {version} came late and replaced version 2: syncs overlap, and it may not"

    def test_closing_an_object_leaves_the_others_and_what_is_stored(self, place: Place) -> None:
        """Each gives back what is its own."""
        adapter = place.adapter()
        stored = segment(place)
        ref = adapter.layer_setter("eu", stored)
        other = place.adapter()
        came_back(other, ref, stored, "a second object reads what the first stored")
        for hook in ("layer_closing", "layer_closed"):
            told = getattr(adapter, hook, None)
            if told is not None:
                told()
        came_back(other, ref, stored, "closing an adapter object closes no other one's connections")
        came_back(place.adapter(), ref, stored, "what is stored outlives the object that stored it")

    def test_no_secret_is_in_a_repr_or_an_error(self, place: Place) -> None:
        """Neither those that the place names, nor AWS's in the environment, nor a URL with a password."""
        adapter = place.adapter()
        ref = adapter.layer_setter("eu", segment(place))
        texts = [repr(adapter), str(adapter)]
        try:
            adapter.layer_getter("nobody", f"{ref}x")
        except Exception as error:  # noqa: BLE001 -- whatever it is, its text is looked at
            texts += [str(error), repr(error)]
        secrets = [*place.secrets, *(os.environ.get(name, "") for name in _SECRETS)]
        for text in texts:
            told = [secret for secret in secrets if secret and secret in text]
            assert not told, "a secret is shown by a repr or an error of the adapter: leave it out"
            assert not _CREDENTIALS.search(text), (
                "a repr or an error shows a URL with credentials in it: leave them out"
            )
