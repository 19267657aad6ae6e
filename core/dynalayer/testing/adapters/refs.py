"""Promises about refs: what they are, what they name, and that nobody else touches it."""

from __future__ import annotations

from functools import partial

from dynalayer.errors import StorageError
from dynalayer.eventlog.base import MAX_REF_BYTES
from dynalayer.segments import Segment
from dynalayer.testing.adapters.catalogue import ODD_NAMES
from dynalayer.testing.adapters.places import Place
from dynalayer.testing.adapters.promises import Promises, came_back, need_immutable, refused, segment

__all__ = ["RefPromises"]


class RefPromises(Promises):
    """A ref names one segment, for good."""

    def test_a_ref_is_text_of_at_most_256_bytes(self, place: Place) -> None:
        """However long the partition's name: it has to fit in the head."""
        adapter = place.adapter()
        for partition in ("", "eu", "x" * 512, "é" * 256):
            ref: object = adapter.layer_setter(partition, segment(place, partition=partition))
            fits = isinstance(ref, str) and 0 < len(ref.encode()) <= MAX_REF_BYTES
            assert fits, (
                f"a ref is text of 1 to {MAX_REF_BYTES} bytes, and of a partition of {len(partition)} characters it is "
                f"{ref!r:.400}; Segment.name is a short name that no other segment has"
            )

    def test_segments_of_the_same_content_get_refs_of_their_own(self, place: Place) -> None:
        """Each put is a segment of its own, which may be discarded by itself."""
        adapter = place.adapter()
        need_immutable(adapter)
        items = {"one": {"n": 1}}
        stored = [segment(place, items) for _ in range(3)]
        refs = [adapter.layer_setter("eu", each) for each in stored]
        assert len(set(refs)) == len(refs), (
            f"segments of other names get refs of their own, also where table, partition, versions and items are the "
            f"same, and these got {refs}: build the ref of Segment.name"
        )
        for ref, each in zip(refs, stored, strict=True):
            came_back(adapter, ref, each, "each of them stays what it was")

    def test_a_segment_put_twice_is_there_under_either_ref(self, place: Place) -> None:
        """As after an answer that was lost; one ref or two, both good."""
        adapter = place.adapter()
        stored = segment(place)
        first, second = (adapter.layer_setter("eu", stored) for _ in range(2))
        for ref in (first, second):
            came_back(adapter, ref, stored, "a put that is done again changes nothing for whoever has the first ref")

    def test_setting_a_segment_leaves_what_other_refs_name(self, place: Place) -> None:
        """Older and newer ones, bases and deltas, of this partition and others."""
        adapter = place.adapter()
        abilities = adapter.capabilities
        kept: list[tuple[str, Segment]] = []
        for version in (3, 1, 2, 3) if abilities.immutable else (1,):
            for deleted in (None, ["gone"]) if abilities.deltas else (None,):
                for partition in ("eu", "us"):
                    items = {"one": {"version": version, "number": len(kept)}}
                    stored = segment(place, items, partition=partition, deleted=deleted, version=version)
                    kept.append((adapter.layer_setter(partition, stored), stored))
        for ref, stored in kept:
            came_back(adapter, ref, stored, "what any other ref names stays as it is: never write over what was stored")

    def test_a_new_adapter_object_reads_what_another_stored(self, place: Place) -> None:
        """As another process does, begun before or after, while the first is still open."""
        early, adapter = place.adapter(), place.adapter()
        stored = segment(place)
        ref = adapter.layer_setter("eu", stored)
        promise = (
            "what a setter has returned a ref for is durable, and found by the ref alone: keep nothing in the object "
            "that a reader in another process would need"
        )
        for other in (place.adapter(), early):
            came_back(other, ref, stored, promise)

    def test_partitions_of_odd_names_keep_their_own_segments(self, place: Place) -> None:
        """Whatever the name, and however alike two of them are."""
        adapter = place.adapter()
        stored = [segment(place, partition=name) for name in ODD_NAMES]
        refs = [adapter.layer_setter(each.partition, each) for each in stored]
        for ref, each in zip(refs, stored, strict=True):
            promise = f"partition {each.partition!r:.80} keeps its segments; dynalayer.safe_name makes file names"
            came_back(adapter, ref, each, promise)

    def test_a_ref_that_was_never_given_is_an_error(self, place: Place) -> None:
        """A StorageError, whatever the ref looks like; never an answer."""
        adapter = place.adapter()
        stored = segment(place)
        given = adapter.layer_setter("eu", stored)
        need_immutable(adapter)
        other = segment(place)
        for ref in ("nothing", "", "..", "../eu", "/", given + "x", given[:-1], given.replace(stored.name, other.name)):
            if ref == given:  # it was not built of the name
                continue
            promise = f"a getter of {ref!r}, which no setter gave, raises an error of dynalayer's, SegmentMissingError"
            refused((StorageError,), partial(adapter.layer_getter, "eu", ref), promise)
