"""Promises about listing and discarding, which `vacuum` relies on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dynalayer.hookspecs import Adapter
from dynalayer.testing.adapters.catalogue import ODD_NAMES
from dynalayer.testing.adapters.places import Place
from dynalayer.testing.adapters.promises import (
    MISSING,
    Promises,
    came_back,
    need_listing,
    need_raw,
    refused,
    segment,
    stored_as,
)

__all__ = ["UpkeepPromises"]


def _listed(adapter: Adapter, partition: str = "eu") -> list[str]:
    found: Sequence[str] = adapter.layer_list(partition=partition)
    return sorted(found)


class UpkeepPromises(Promises):
    """What is listed is what is stored, and what is discarded is gone."""

    def test_a_listing_is_exactly_what_is_stored(self, place: Place) -> None:
        """Bases and deltas, after each put and each discard."""
        adapter = place.adapter()
        need_listing(adapter)
        refs: set[str] = set()
        for version in range(1, 5):
            deleted = ["gone"] if version % 2 == 0 and adapter.capabilities.deltas else None
            refs.add(adapter.layer_setter("eu", segment(place, version=version, deleted=deleted)))
            assert _listed(adapter) == sorted(refs), "a listing tells each segment stored, at once, and nothing else"
        for ref in sorted(refs)[1:3]:
            adapter.layer_discard("eu", ref)
            refs.discard(ref)
            assert _listed(adapter) == sorted(refs), "a listing tells no segment that was discarded"

    def test_a_listing_of_many_segments_is_whole(self, place: Place) -> None:
        """Also where a store gives it in pages."""
        adapter = place.adapter()
        need_listing(adapter)
        refs = [adapter.layer_setter("eu", segment(place)) for _ in range(self.many)]
        listed = _listed(adapter)
        assert len(listed) == len(refs), f"{len(listed)} of {len(refs)} are listed: ask the store for every page"
        assert listed == sorted(refs), "a listing gives the refs that the setter gave"

    def test_a_partition_never_heard_of_lists_nothing(self, place: Place) -> None:
        """No error either."""
        adapter = place.adapter()
        need_listing(adapter)
        adapter.layer_setter("eu", segment(place))
        for partition in ("nobody", "e/u"):
            assert _listed(adapter, partition) == [], f"partition {partition!r} has no segments, and lists none"

    def test_partitions_of_odd_names_list_their_own_alone(self, place: Place) -> None:
        """Whatever the name, and where one begins as another."""
        adapter = place.adapter()
        need_listing(adapter)
        refs = {name: adapter.layer_setter(name, segment(place, partition=name)) for name in ODD_NAMES}
        for name, ref in refs.items():
            assert _listed(adapter, name) == [ref], f"partition {name!r:.80} lists its own segments, and no other's"

    def test_a_discarded_segment_is_gone(self, place: Place) -> None:
        """Its ref is then one of a missing segment, in every process."""
        adapter = place.adapter()
        need_listing(adapter)
        ref, _ = (adapter.layer_setter("eu", segment(place)) for _ in range(2))
        adapter.layer_getter("eu", ref)
        answer: object = adapter.layer_discard("eu", ref)
        assert answer is True, f"layer_discard returns True when the segment is gone, and returned {answer!r}"
        for each in (adapter, place.adapter()):
            promise = "a getter of what was discarded says that it is missing"
            refused(MISSING, partial(each.layer_getter, "eu", ref), promise)

    def test_a_segment_may_be_discarded_twice(self, place: Place) -> None:
        """As after an answer that was lost."""
        adapter = place.adapter()
        need_listing(adapter)
        ref = adapter.layer_setter("eu", segment(place))
        adapter.layer_setter("eu", segment(place))
        answers: list[object] = [adapter.layer_discard("eu", ref) for _ in range(2)]
        assert answers[-1] is True, f"layer_discard returns True also where nothing is left; it gave {answers[-1]!r}"

    def test_discarding_where_nothing_was_ever_stored_is_no_error(self, place: Place) -> None:
        """In a partition never heard of."""
        adapter = place.adapter()
        need_listing(adapter)
        ref = adapter.layer_setter("eu", segment(place))
        adapter.layer_discard("eu", ref)
        answer: object = adapter.layer_discard("nobody", ref)
        assert answer is True, f"layer_discard returns True, whether there was something or not; it gave {answer!r}"

    def test_discarding_a_segment_leaves_the_others(self, place: Place) -> None:
        """Of the same version, of others, and of other partitions."""
        adapter = place.adapter()
        need_listing(adapter)
        ref = adapter.layer_setter("eu", segment(place))
        kept = [segment(place), segment(place, partition="us"), segment(place, version=2)]
        refs = [adapter.layer_setter(each.partition, each) for each in kept]
        adapter.layer_discard("eu", ref)
        for kept_ref, each in zip(refs, kept, strict=True):
            came_back(adapter, kept_ref, each, "a discard takes away the one segment that its ref names")

    def test_a_new_adapter_object_lists_and_discards_what_another_stored(self, place: Place) -> None:
        """A vacuum may run in a process that stored nothing."""
        adapter = place.adapter()
        need_listing(adapter)
        refs = sorted(adapter.layer_setter("eu", segment(place, version=n)) for n in (1, 2))
        other = place.adapter()
        assert _listed(other) == refs, "a listing tells what other objects stored: ask the store, not the object"
        other.layer_discard("eu", refs[0])
        assert _listed(adapter) == refs[1:], "a listing does not tell what other objects discarded"

    def test_foreign_contents_beside_segments_harm_nothing(self, place: Place) -> None:
        """What is no segment is not taken for one that this layer may discard."""
        adapter = place.adapter()
        need_listing(adapter)
        raw = need_raw(place)
        stored = segment(place)
        ref, names = stored_as(raw, lambda: adapter.layer_setter("eu", stored))
        folder = names[0].rpartition("/")[0]
        foreign = [f"{folder}/notes.txt" if folder else "notes.txt", f"{names[0]}.bak", f"{names[0]}~"]
        for name in foreign:
            raw.write(name, b"not a segment")
        assert ref in _listed(adapter), "a listing is whole whatever stands beside the segments"
        came_back(adapter, ref, stored, "what stands beside a segment changes nothing in it")
        adapter.layer_discard("eu", ref)
        left = set(raw.names())
        assert left >= set(foreign), f"a discard takes away one segment; gone too: {sorted(set(foreign) - left)}"
