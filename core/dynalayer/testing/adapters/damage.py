"""Promises about damage: what is in the store and is not what was stored is an error, and never an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from dynalayer.errors import LayerError, StorageError
from dynalayer.hookspecs import Adapter
from dynalayer.segments import Segment
from dynalayer.testing.adapters.catalogue import difference
from dynalayer.testing.adapters.places import Place, Raw
from dynalayer.testing.adapters.promises import (
    DAMAGED,
    MISSING,
    Promises,
    came_back,
    need_immutable,
    need_raw,
    segment,
    stored_as,
)
from dynalayer.testing.adapters.world import World
from dynalayer.values import Item

__all__ = ["DamagePromises", "flips"]

_ADVICE = "check what was read against a hash, as Segment.from_bytes does"
_FOREIGN = (b"hello", b"{}\n", b"[]", b'{"hello": "world"}\n', bytes(range(256)), b"\x89PNG\r\n\x1a\n" + bytes(99))


class DamagePromises(Promises):
    """Wrong bytes end in an error that says so, whatever they are; the right ones, put back, are read again."""

    def test_an_emptied_segment_is_an_error(self, place: Place) -> None:
        """It is no segment without entries."""
        self._told(place, lambda _: [b""], "emptied")

    def test_a_truncated_segment_is_an_error_or_its_end_was_nothing(self, place: Place) -> None:
        """Wherever it ends; never some of the items."""
        self._harmless(place, _cuts, "truncated")

    def test_a_foreign_content_in_a_segments_place_is_an_error(self, place: Place) -> None:
        """Also where it is JSON, or much like a segment."""
        self._told(place, lambda data: [each for each in _FOREIGN if each != data], "foreign")

    def test_a_flipped_byte_is_an_error_or_changes_nothing(self, place: Place) -> None:
        """Wherever it is."""
        self._harmless(place, flips, "with a byte flipped")

    def test_bytes_after_the_end_are_an_error_or_change_nothing(self, place: Place) -> None:
        """Also where they look like more of the same."""
        self._harmless(place, lambda data: [data + b"\n", data + b"\n{}\n", data + data[-40:], data * 2], "grown")

    def test_a_segment_removed_behind_the_adapter_is_missing(self, place: Place) -> None:
        """In a process that had not read it before."""
        raw = need_raw(place)
        stored = segment(place)
        ref, names = stored_as(raw, lambda: place.adapter().layer_setter("eu", stored))
        contents = {name: raw.read(name) for name in names}
        for name in names:
            raw.remove(name)
        problem = _answer(place.adapter(), ref, stored, MISSING)
        right = place.copies and problem == _RIGHT
        assert right or not problem, f"a getter of what is no longer in the store raises SegmentMissingError; {problem}"
        for name, data in contents.items():
            raw.write(name, data)
        came_back(place.adapter(), ref, stored, "what was put back is read again")

    def test_a_read_that_failed_is_right_once_the_store_is(self, place: Place) -> None:
        """By the same object: what failed is not remembered."""
        raw = need_raw(place)
        stored = segment(place)
        ref, names = stored_as(raw, partial(place.adapter().layer_setter, "eu", stored))
        adapter = place.adapter()
        contents = {name: raw.read(name) for name in names}
        for name in names:
            raw.write(name, b"")
        with suppress(StorageError):
            adapter.layer_getter("eu", ref)
        for name, data in contents.items():
            raw.write(name, data)
        came_back(adapter, ref, stored, "a read that failed is right when it is done again and the store is mended")

    def test_another_segment_in_a_segments_place_is_an_error_of_the_layer(self, place: Place) -> None:
        """Of another partition, of other versions, or of the same and another name: none is taken for it."""
        raw = need_raw(place)
        need_immutable(place.adapter())
        with World(place) as world:
            layer = world.layer()
            stored: list[tuple[str, ...]] = []
            for partition, value in (("us", 1), ("eu", 2)):
                world.put(layer, partition, one=value)
                stored.append(stored_as(raw, lambda: str(layer.sync().count))[1])
            twin = self._twin(world, place, raw)
            for others in (stored[0], twin):
                self._swapped(world, raw, stored[1], others)

    @staticmethod
    def _twin(world: World, place: Place, raw: Raw) -> tuple[str, ...]:
        """A segment that says the same of itself, but for its name, and holds something else."""
        (named,) = world.log.head("eu").segments
        items: dict[str, Item] = {"one": {"pk": "eu", "id": "one", "value": "of another segment"}}
        twin = Segment(place.table, "eu", world.log.origin, named.kind, named.from_version, named.to_version, items)
        return stored_as(raw, lambda: place.adapter().layer_setter("eu", twin))[1]

    @staticmethod
    def _swapped(world: World, raw: Raw, names: tuple[str, ...], others: tuple[str, ...]) -> None:
        contents = {name: raw.read(name) for name in names}
        for name, other in zip(sorted(names), sorted(others), strict=False):
            raw.write(name, raw.read(other))
        layer = world.layer()
        try:
            items = layer.get("eu")
        except LayerError:
            assert layer.verify("eu").findings, "verify tells of a segment that a read refuses"
        else:
            assert items == world.items("eu"), (
                "another segment's bytes in a segment's place are an error, or the right items are got all the same; "
                f"got {items!r:.300}: a segment says of itself what it is, so store and return that (header and name)"
            )
        for name, data in contents.items():
            raw.write(name, data)
        world.check(world.layer())

    def test_a_layer_over_a_damaged_segment_raises_and_loses_nothing(self, place: Place) -> None:
        """Reads fail and name it, verify finds it, writes go on; once it is put back all is there."""
        raw = need_raw(place)
        with World(place) as world:
            layer = world.layer()
            world.put(layer, "eu", one=1, two=2)
            _, names = stored_as(raw, lambda: str(layer.sync().count))
            contents = {name: raw.read(name) for name in names}
            for name, data in contents.items():
                raw.write(name, data[: len(data) // 2])
            fresh = world.layer()
            for at in (None, 1):
                try:
                    items = fresh.get("eu", at=at)
                except DAMAGED:
                    continue
                # What was then may be told by the log, without the segment.
                right = (place.copies or at) and items == world.items("eu")
                assert right, f"a read over a damaged segment raises SegmentCorruptError; it answered {items!r:.300}"
            found = fresh.verify().findings
            assert found or place.copies, "verify finds a damaged segment"
            world.put(fresh, "eu", three=3)
            for name, data in contents.items():
                raw.write(name, data)
            world.check(world.layer())
            world.layer().sync()
            world.check(world.layer())

    def _told(self, place: Place, damages: Callable[[bytes], Sequence[bytes]], how: str) -> None:
        self._damaged(place, damages, how, harmless=False)

    def _harmless(self, place: Place, damages: Callable[[bytes], Sequence[bytes]], how: str) -> None:
        self._damaged(place, damages, how, harmless=True)

    def _damaged(self, place: Place, damages: Callable[[bytes], Sequence[bytes]], how: str, *, harmless: bool) -> None:
        """Each damage, to a small segment and a larger one, is told; where it may be harmless, or changes nothing.

        Where the store keeps a segment in several places, one that tells is enough; none may change an item.
        """
        raw = need_raw(place)
        for count in (1, 100):
            items: dict[str, Item] = {f"item-{n}": {"id": f"item-{n}", "n": n} for n in range(count)}
            stored = segment(place, items, deleted=["gone"] if place.adapter().capabilities.deltas else None)
            ref, names = stored_as(raw, partial(place.adapter().layer_setter, "eu", stored))
            told, reader = False, place.adapter()
            for name in names:
                whole = raw.read(name)
                for data in damages(whole):
                    raw.write(name, data)
                    problem = _answer(reader, ref, stored, DAMAGED)
                    told = told or not problem
                    right = problem == _RIGHT and (harmless or place.copies or len(names) > 1)
                    assert not problem or right, (
                        f"a segment that was {how} is an error, SegmentCorruptError: {_ADVICE}; "
                        f"of {data[:60]!r} ({len(data)} bytes in place of {len(whole)}): {problem}"
                    )
                raw.write(name, whole)
            assert told or harmless or place.copies, f"no part of a segment that was {how} was an error: {_ADVICE}"
            came_back(place.adapter(), ref, stored, "what was put back is read again")


_RIGHT = "the getter gave what was stored, as if nothing were wrong"


def _answer(reader: Adapter, ref: str, stored: Segment, errors: tuple[type[LayerError], ...]) -> str:
    """What an adapter object makes of a damaged segment: nothing if it raises one of the errors."""
    try:
        found: object = reader.layer_getter("eu", ref)
    except errors:
        return ""
    except Exception as error:  # noqa: BLE001 -- told, as what is wrong
        return f"the getter raised {type(error).__name__}: {error}"
    differs = difference(found, stored)
    return f"the getter answered: {differs}" if differs else _RIGHT


def _cuts(data: bytes) -> list[bytes]:
    """Beginnings of some data: of about every length, and what ends at a line."""
    lengths = {1, len(data) // 3, len(data) // 2, len(data) - 8, len(data) - 1, data.find(b"\n") + 1, data.rfind(b"\n")}
    return [data[:length] for length in sorted(lengths) if 0 < length < len(data)]


def flips(data: bytes) -> list[bytes]:
    """Some data with one byte flipped, at several places."""
    step = max(1, len(data) // 23)
    places = {0, 8, *range(step, len(data), step), len(data) - 9, len(data) - 1}
    flipped = []
    for number, place in enumerate(sorted(place for place in places if 0 <= place < len(data))):
        damaged = bytearray(data)
        damaged[place] ^= (0x01, 0xFF, 0x04)[number % 3]
        flipped.append(bytes(damaged))
    return flipped
