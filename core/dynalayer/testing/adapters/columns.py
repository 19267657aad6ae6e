"""Promises of adapters that read and write segments by columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dynalayer.errors import LayerError
from dynalayer.segments import Segment, SegmentHeader
from dynalayer.testing.adapters.catalogue import VALUES, difference
from dynalayer.testing.adapters.damage import flips
from dynalayer.testing.adapters.places import Place
from dynalayer.testing.adapters.promises import (
    DAMAGED,
    MISSING,
    Promises,
    came_back,
    need_columns,
    need_raw,
    refused,
    segment,
    stored_as,
)
from dynalayer.testing.adapters.world import Around, World

if TYPE_CHECKING:  # it needs pyarrow, which whoever has columns has
    from dynalayer.columns import Columns

__all__ = ["ColumnPromises"]


def _read(opened: Columns) -> Segment:
    """All of what was opened, as a segment of items."""
    from dynalayer.columns import segment_of  # noqa: PLC0415 -- needs pyarrow

    return segment_of(opened.header, opened.batches())


class ColumnPromises(Promises):
    """By columns or by items, a segment says the same; not tested where `columns` is not declared."""

    def test_a_segment_set_by_items_is_read_by_columns(self, place: Place) -> None:
        """Header, number of entries, and each item exactly."""
        adapter = need_columns(place.adapter())
        items = {name: {"id": name, "value": value} for name, value in VALUES.items()}
        for stored in (segment(place, items), segment(place, {"a": {"n": 1}}, deleted=["b"]), segment(place, {})):
            opened = adapter.layer_columns("eu", adapter.layer_setter("eu", stored))
            assert opened.entries == stored.entries, f"{stored.entries} entries, of which columns tell {opened.entries}"
            differs = difference(_read(opened), stored)
            assert not differs, f"a segment by columns says what it says by items; {differs}"

    def test_a_segment_set_by_columns_is_read_by_items(self, place: Place) -> None:
        """Under a ref like any other."""
        adapter = need_columns(place.adapter())
        from dynalayer.columns import SegmentColumns  # noqa: PLC0415 -- needs pyarrow

        items = {name: {"id": name, "value": value} for name, value in VALUES.items()}
        for stored in (segment(place, items), segment(place, {"a": {"n": 1}}, deleted=["b"])):
            ref = adapter.layer_columns_setter("eu", SegmentColumns(stored))
            came_back(adapter, ref, stored, "a segment that was set by columns says so by items")

    def test_only_the_columns_asked_for_are_given_in_their_order(self, place: Place) -> None:
        """`$id` and `$item` are columns as others."""
        adapter = need_columns(place.adapter())
        stored = segment(place, {f"{n}": {"a": n, "b": str(n), "c": [n]} for n in range(5)})
        ref = adapter.layer_setter("eu", stored)
        for names in (["b", "$id"], ["$id"], ["a", "b"], ["$item", "c"]):
            batches = list(adapter.layer_columns("eu", ref).batches(names))
            told = [batch.schema.names for batch in batches]
            assert all(each == names for each in told), f"asked for {names}, and given {told}"
            rows = sum(batch.num_rows for batch in batches)
            assert rows == stored.entries, f"asked for {names}, {rows} rows of {stored.entries} are given"

    def test_a_filter_leaves_out_no_row_that_matches(self, place: Place) -> None:
        """Others it may give all the same."""
        adapter = need_columns(place.adapter())
        import pyarrow.compute as pc  # noqa: PLC0415 -- an extra

        stored = segment(place, {f"{n:03}": {"n": n, "text": f"t{n % 7}"} for n in range(200)})
        opened = adapter.layer_columns("eu", adapter.layer_setter("eu", stored))
        for filter, expected in (
            (pc.field("n") >= 190, {f"{n:03}" for n in range(190, 200)}),
            (pc.field("text") == "t3", {f"{n:03}" for n in range(3, 200, 7)}),
            (pc.field("n").is_null(), set()),
        ):
            found = {each for batch in opened.batches(["$id", "n"], filter) for each in batch.column(0).to_pylist()}
            missing = sorted(expected - found)
            assert not missing, f"with the filter {filter} rows are left out that match it: {missing[:5]}"

    def test_columns_of_a_missing_segment_are_missing(self, place: Place) -> None:
        """When they are opened, or when they are read."""
        adapter = need_columns(place.adapter())
        stored, other = segment(place), segment(place)
        ref = adapter.layer_setter("eu", stored)
        if adapter.capabilities.listing:
            adapter.layer_discard("eu", ref)
        else:
            ref = ref.replace(stored.name, other.name)
        promise = "columns of what is not there are missing"
        refused(MISSING, lambda: _read(adapter.layer_columns("eu", ref)), promise)

    def test_columns_of_a_damaged_segment_are_an_error(self, place: Place) -> None:
        """When they are opened, or when they are read; never other items."""
        need_columns(place.adapter())
        raw = need_raw(place)
        stored = segment(place, {f"item-{n}": {"id": f"item-{n}", "n": n} for n in range(100)})
        ref, names = stored_as(raw, lambda: str(place.adapter().layer_setter("eu", stored)))
        for name in names:
            whole = raw.read(name)
            for data in (b"", whole[: len(whole) // 2], b"hello", *flips(whole)):
                raw.write(name, data)
                adapter = need_columns(place.adapter())
                try:
                    differs = difference(_read(adapter.layer_columns("eu", ref)), stored)
                except DAMAGED:
                    continue
                assert not differs, f"columns of a damaged segment are an error, and were given: {differs}"
            raw.write(name, whole)

    def test_a_put_by_columns_that_breaks_off_stores_nothing(self, place: Place) -> None:
        """What reads the columns failed half-way: its error comes through."""
        adapter = need_columns(place.adapter())
        from dynalayer.columns import SegmentColumns  # noqa: PLC0415 -- needs pyarrow

        before = sorted(adapter.layer_list("eu")) if adapter.capabilities.listing else []
        broken = _BreaksOff(SegmentColumns(segment(place)))
        promise = "a setter by columns lets the error of what it reads through"
        refused((_BrokenOffError,), lambda: adapter.layer_columns_setter("eu", broken), promise)
        if adapter.capabilities.listing:
            left = sorted(adapter.layer_list("eu"))
            assert left == before, f"a put by columns that broke off leaves nothing under a ref; it left {left}"

    def test_a_layer_scans_compacts_and_reads_the_same_by_columns_and_by_items(self, place: Place) -> None:
        """Where columns are not declared it does without."""
        around = Around()
        with World(place) as world:
            layer = world.layer(around)
            declared = place.adapter().capabilities.columns
            for number in range(12):
                world.set(
                    layer,
                    "eu",
                    {f"n{number % 5}": {"n": number, "mixed": [number, "x", None][number % 3] if declared else number}},
                )
                world.put(layer, **{f"gone{number}": number})
                world.put(layer, **{f"gone{number}": None})
                layer.sync()
            world.put(layer, late=1)
            world.check(world.layer())
            called = {name for name, _ in around.calls if "columns" in name}
            if not declared:
                assert not called, f"columns=False, and {sorted(called)} was called"
                return
            expected = {"layer_columns", "layer_columns_setter"} if place.adapter().capabilities.deltas else set()
            assert called >= expected, f"columns=True, and compactions called {sorted(called)} alone"
            rows = world.layer().to_arrow("eu", columns=["id", "n", "value"]).to_pylist()
            items = [{"id": item["id"], "n": item.get("n"), "value": item.get("value")} for item in world.items("eu")]
            found = sorted(rows, key=lambda row: str(row["id"]))
            assert found == items, f"a scan gives what a read gives; {found!r:.300} in place of {items!r:.300}"
            world.check_folded(_synced(world), "a layer compacts by columns and loses nothing")


def _synced(world: World) -> Any:
    layer = world.layer()
    layer.sync()
    return layer


class _BrokenOffError(LayerError):
    """What reads the columns failed."""


class _BreaksOff:
    """Columns that break off after their first batch."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.header: SegmentHeader = columns.header
        self.schema = columns.schema
        self.entries = columns.entries

    def batches(self, columns: Any = None, filter: Any = None) -> Iterator[Any]:
        yield from self._columns.batches(columns, filter)
        raise _BrokenOffError("the columns break off here, on purpose")
