"""Promises about what a segment holds: it comes back exactly as it was set."""

from __future__ import annotations

import copy
import itertools
import secrets

from dynalayer.chronicle import history_segment, records_of
from dynalayer.eventlog.base import Draft, RecordKind
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.events import Change, pack, unpack
from dynalayer.segments import Segment
from dynalayer.testing.adapters.catalogue import (
    ODD_ATTRIBUTES,
    ODD_IDS,
    ORIGIN,
    VALUES,
    difference,
    exactly,
    nested,
)
from dynalayer.testing.adapters.places import Place
from dynalayer.testing.adapters.promises import Promises, came_back, comes_back, need_deltas, need_immutable, segment
from dynalayer.values import Item

__all__ = ["ContentPromises"]

_EXACT = "what was set is what is got, type for type and digit for digit; Segment.to_bytes() keeps every value"


class ContentPromises(Promises):
    """What was set is what is got."""

    def test_values_of_every_kind_come_back_exactly(self, place: Place) -> None:
        """Type for type and digit for digit."""
        adapter = place.adapter()
        items = {name: {"id": name, name: value} for name, value in VALUES.items()}
        kinds = (None, ["gone"]) if adapter.capabilities.deltas else (None,)
        for deleted in kinds:
            stored = segment(place, items, deleted=deleted)
            whole = copy.deepcopy(stored)
            came_back(adapter, adapter.layer_setter("eu", stored), whole, _EXACT)

    def test_items_as_deep_as_can_be_come_back(self, place: Place) -> None:
        """32 containers in one another."""
        adapter = place.adapter()
        stored = segment(place, {"deep": nested("leaf"), "deep too": nested(None)})
        comes_back(adapter, stored, "items of 32 levels are kept whole")

    def test_attributes_of_any_name_come_back(self, place: Place) -> None:
        """Also those that differ in capitals alone, or look like a codec's own."""
        adapter = place.adapter()
        stored = segment(place, {"odd": {name: number for number, name in enumerate(ODD_ATTRIBUTES)}, "none": {}})
        comes_back(adapter, stored, "an attribute's name may be any text")

    def test_an_attribute_may_hold_another_type_in_each_item(self, place: Place) -> None:
        """And be there in some only; null is not absent."""
        adapter = place.adapter()
        values = ["text", 1, 1.5, None, b"bytes", [1], {"a": 1}, {"set"}, True, 10**37]
        items: dict[str, Item] = {f"item-{n}": {"mixed": value, f"own-{n}": n} for n, value in enumerate(values)}
        stored = segment(place, items | {"without": {}})
        comes_back(adapter, stored, "items of one segment need not look alike")

    def test_identifiers_of_any_text_come_back(self, place: Place) -> None:
        """None is taken for another."""
        adapter = place.adapter()
        stored = segment(place, {name: {"number": number} for number, name in enumerate(ODD_IDS)})
        comes_back(adapter, stored, "an identifier may be any text")

    def test_a_delta_comes_back_with_what_it_deletes(self, place: Place) -> None:
        """Beside what it sets."""
        adapter = place.adapter()
        need_deltas(adapter)
        stored = segment(place, {"kept": {"n": 1}}, deleted=["gone", *ODD_IDS], version=7)
        comes_back(adapter, stored, "a delta keeps the identifiers that it deletes")

    def test_a_delta_that_only_deletes_comes_back(self, place: Place) -> None:
        """It has no items, and is not empty."""
        adapter = place.adapter()
        need_deltas(adapter)
        stored = segment(place, {}, deleted=["gone"], version=7)
        comes_back(adapter, stored, "a delta may delete and set nothing")

    def test_a_history_segment_comes_back_as_it_was(self, place: Place) -> None:
        """Events as flat items of text and whole numbers, from which every record is read again."""
        adapter = place.adapter()
        need_immutable(adapter)
        log = MemoryEventLog(place.table)
        changes = [Change("PUT", name, {"id": name, name: value}) for name, value in VALUES.items()]
        sets = [changes, [Change("DELETE", name, nested(name)) for name in ODD_IDS], []]
        for number, each in enumerate(sets):
            kind = RecordKind.CHANGES if each else RecordKind.RESET
            log.append([Draft("eu", kind, f"set-{number}", 10**15 + number, len(each), 86_400, pack(each))])
        records = log.read("eu", 0).records
        stored = history_segment(log, "eu", 0, records, "2026-01-01T00:00:00.000000Z", committed=(3,))
        promise = "a history segment is stored as any other: its kind, and every event, come back"
        read = records_of(adapter.layer_getter("eu", comes_back(adapter, stored, promise)))
        assert [(each.version, each.kind, each.at) for each in read] == [
            (each.version, each.kind, each.at) for each in records
        ], promise
        found = [change for record in read for change in unpack(record.payload, 2**24)]
        assert exactly([[each.type, each.id, each.item] for each in found]) == exactly(
            [[each.type, each.id, each.item] for each in itertools.chain.from_iterable(sets)]
        ), promise

    def test_a_segment_without_entries_comes_back(self, place: Place) -> None:
        """An empty base says that nothing is there, and an empty delta that nothing changed."""
        adapter = place.adapter()
        deltas = (segment(place, {}, deleted=[], version=2),) if adapter.capabilities.deltas else ()
        for stored in (segment(place, {}), *deltas):
            comes_back(adapter, stored, "an empty segment is stored as any other")

    def test_a_segment_keeps_what_it_says_of_itself(self, place: Place) -> None:
        """Table, partition, origin, kind, versions and name; a layer takes no other for it."""
        adapter = place.adapter()
        need_immutable(adapter)
        versions = 2**53 + 1, 10**18 - 1
        items = {"one": {"n": 1}}
        for stored in (
            *((Segment(place.table, "eu", ORIGIN, "delta", *versions, items),) if adapter.capabilities.deltas else ()),
            Segment(place.table, "eu", "another", "base", 0, versions[1], items),
            Segment(place.table, "eu", ORIGIN, "base", 0, 1, items, name="00000000000000000001-base-named-by-hand"),
        ):
            ref = adapter.layer_setter("eu", stored)
            came_back(
                adapter, ref, stored, "table, partition, origin, kind, versions and name come back with the items"
            )

    def test_a_segment_of_some_megabytes_comes_back_whole(self, place: Place) -> None:
        """Of what does not compress."""
        adapter = place.adapter()
        count = 8
        items: dict[str, Item] = {
            str(n): {"blob": secrets.token_bytes(self.large_bytes // count)} for n in range(count)
        }
        stored = segment(place, items)
        comes_back(adapter, stored, "a segment may be of some megabytes")

    def test_a_segment_of_many_items_comes_back_whole(self, place: Place) -> None:
        """Each of them once."""
        adapter = place.adapter()
        stored = segment(place, {f"item-{n:05}": {"id": f"item-{n:05}", "n": n} for n in range(20 * self.many)})
        comes_back(adapter, stored, "a segment may have many items")

    def test_changing_what_was_read_changes_nothing_stored(self, place: Place) -> None:
        """Whoever reads may do with the items what he likes."""
        adapter = place.adapter()
        stored = segment(place, {"one": {"list": [1], "dict": {"a": [1]}}})
        whole = copy.deepcopy(stored)
        ref = adapter.layer_setter("eu", stored)
        read = adapter.layer_getter("eu", ref)
        read.items["one"]["list"].append("changed")
        read.items["one"]["dict"]["a"].clear()
        promise = "what a getter gave is the caller's own: give each caller items of its own"
        came_back(adapter, ref, whole, promise)

    def test_changing_what_was_set_changes_nothing_stored(self, place: Place) -> None:
        """Whoever sets may go on with the items."""
        adapter = place.adapter()
        items: dict[str, Item] = {"one": {"list": [1], "dict": {"a": [1]}}}
        stored = segment(place, items)
        whole = copy.deepcopy(stored)
        ref = adapter.layer_setter("eu", stored)
        items["one"]["list"].append("changed")
        items["one"]["dict"]["a"].clear()
        promise = "a segment is stored, whole, when its setter returns: keep a copy, not the caller's items"
        came_back(adapter, ref, whole, promise)

    def test_setting_a_segment_leaves_it_as_it_is(self, place: Place) -> None:
        """The layer goes on with what it gave."""
        adapter = place.adapter()
        items = {name: {"id": name, "value": value} for name, value in VALUES.items()}
        stored = segment(place, items, deleted=["gone"] if adapter.capabilities.deltas else None)
        whole = copy.deepcopy(stored)
        adapter.layer_setter("eu", stored)
        changed = difference(stored, whole)
        assert not changed, f"a setter changes nothing in what it is given; {changed}"
