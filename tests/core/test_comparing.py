"""Comparing a layer with its source: what is missing or differs, also while others write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dynalayer import (
    Comparison,
    ConfigurationError,
    Difference,
    InvalidInputError,
    Item,
    Layer,
    MemoryEventLog,
    comparing,
)
from fakes import Between
from source_tables import fill, source_table

Make = Callable[..., Layer]


def item(partition: str, identifier: str, **attributes: Any) -> Item:
    return {"pk": partition, "sk": identifier, **attributes}


def put(partition: str, identifier: str, **attributes: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": item(partition, identifier, **attributes)}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "_LOOKS", (0.0, 0.0, 0.0))


@pytest.fixture
def log() -> MemoryEventLog:
    return MemoryEventLog("users")


@pytest.fixture
def make(tmp_path: Path, log: MemoryEventLog) -> Make:
    def make(**options: Any) -> Layer:
        given: dict[str, Any] = {"get_item_unique_identifier": "sk", "get_item_partition": "pk", "table": "users"}
        return Layer(**given | {"events": log, "storage": f"local://{tmp_path}/snapshots"} | options)

    return make


def compared(layer: Layer, source: Any, partition: str | None = None) -> Comparison:
    result = layer.verify(partition, against=source)
    assert result.against is not None
    assert result.ok == result.against.ok
    return result.against


def test_what_is_missing_on_either_side_and_what_differs_is_told_with_its_attributes(make: Make) -> None:
    layer = make()
    layer.set([put("eu", "same", n=1), put("eu", "changed", n=1, gone=1, kept=[1]), put("eu", "here")])
    layer.sync()
    layer.set([put("us", "pending"), put("us", "same")])
    source = [
        item("eu", "same", n=1),
        item("eu", "changed", n=2, new=1, kept=[1]),
        item("eu", "there"),
        item("us", "same"),
    ]
    found = compared(layer, source)
    assert found == Comparison(
        source="an iterable (list)",
        items=4,
        missing_here=1,
        missing_there=2,
        different=1,
        refused=0,
        changing=0,
        differences=(
            Difference("eu", "changed", "different", ("gone", "n", "new")),
            Difference("eu", "here", "missing there"),
            Difference("eu", "there", "missing here"),
            Difference("us", "pending", "missing there"),
        ),
    )
    assert not found.ok
    assert [each.id for each in compared(layer, source, "us").differences] == ["pending"]
    layer.reset(source)
    assert compared(layer, source).ok
    assert layer.verify().against is None


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        (1, Decimal(1), True),
        (1.5, Decimal("1.5"), True),
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        (b"a", "a", False),
        ({1}, {Decimal(1)}, True),
        ({1}, [1], False),
        ([1, {"a": 1}], [Decimal(1), {"a": Decimal(1)}], True),
        ([1, {"a": 1}], [1, {"a": True}], False),
        ([1], [1, 2], False),
        ({"a": 1}, {"b": 1}, False),
        (None, None, True),
        (None, 0, False),
    ],
)
def test_numbers_are_the_same_by_value_and_all_else_by_kind_too(make: Make, here: Any, there: Any, same: bool) -> None:
    layer = make()
    layer.set([put("eu", "a", value=here)])
    found = compared(layer, [item("eu", "a", value=there)])
    assert found.ok is same
    assert [each.attributes for each in found.differences] == ([] if same else [("value",)])


def test_an_attribute_that_is_null_is_not_one_that_is_missing(make: Make) -> None:
    layer = make()
    layer.set([put("eu", "a", value=None)])
    assert compared(layer, [item("eu", "a")]).differences[0].attributes == ("value",)


def test_counts_are_exact_where_not_all_is_told(make: Make) -> None:
    layer = make()
    layer.set([put("eu", f"{number:03}", **{f"a{n:02}": 1 for n in range(30)}) for number in range(300)])
    found = compared(layer, [item("eu", f"{number:03}") for number in range(250)])
    assert (found.different, found.missing_there, found.missing_here) == (250, 50, 0)
    assert len(found.differences) == 100
    assert found.differences[99] == Difference("eu", "099", "different", tuple(f"a{n:02}" for n in range(20)))


def test_items_that_a_reset_would_refuse_are_counted(make: Make) -> None:
    found = compared(make(), [{"pk": "eu"}, item("eu", "")])
    assert (found.refused, found.items, found.ok) == (2, 0, False)


def test_partitions_that_only_events_told_are_compared_one_by_one(make: Make) -> None:
    layer = make(get_item_partition=None)
    layer.set([{"type": "PUT", "partition": "eu", "item": {"sk": "a"}}])
    with pytest.raises(ConfigurationError, match="such as 'eu': nothing tells which items of a source belong there"):
        layer.verify(against=[{"sk": "a"}])
    found = layer.verify("eu", against=[{"sk": "a"}]).against
    assert found is not None
    assert found.ok


def test_what_is_no_source_is_refused(make: Make) -> None:
    for source in (5, "users", {"sk": 1}, iter(())):
        with pytest.raises(InvalidInputError):
            make().verify(against=source)


def test_what_an_event_makes_equal_while_it_is_looked_at_is_no_difference(make: Make, log: MemoryEventLog) -> None:
    other = make()

    def source() -> Iterator[Item]:
        yield item("eu", "a", n=2)  # the source is written first
        other.set([put("eu", "a", n=2)])

    layer = make()
    layer.set([put("eu", "a", n=1)])
    assert compared(layer, source).ok


def test_what_an_event_changed_since_a_source_was_read_that_cannot_be_asked_again_is_counted_apart(make: Make) -> None:
    layer = make()
    layer.set([put("eu", "a", n=1), put("eu", "b", n=1)])

    def source() -> Iterator[Item]:
        yield from [item("eu", "a", n=1), item("eu", "b", n=2)]
        layer.set([put("eu", "a", n=3)])
        layer.sync()

    found = compared(layer, source)
    assert (found.changing, found.different, found.ok) == (1, 1, False)
    assert [each.id for each in found.differences] == ["b"]


def test_a_table_is_asked_again_for_what_differs(moto_server: str, make: Make, log: MemoryEventLog) -> None:
    with source_table(moto_server) as table:
        between = Between(MemoryEventLog(table.name))
        layer = make(table=table.name, events=between)
        fill(table, [item("eu", "a", n=1), item("eu", "b", n=1), item("eu", "moved")])
        layer.set([put("eu", "a", n=1), put("eu", "b", n=1), put("eu", "moved"), put("eu", "gone")])

        def written() -> None:
            table.put_item(Item=item("eu", "a", n=2))
            layer.set([put("eu", "a", n=2)])
            layer.set([{"type": "DELETE", "item": item("eu", "gone")}])

        # After the scan: it differs from what was read there, and is the same when both are looked at again.
        between.then("before read", written)
        layer.get("eu")
        between.then("before read", written)
        assert compared(layer, table).ok
        table.put_item(Item=item("eu", "a", n=9))
        table.put_item(Item=item("eu", "z"))
        table.delete_item(Key={"pk": "eu", "sk": "b"})
        found = compared(layer, table)
        assert found.differences == (
            Difference("eu", "a", "different", ("n",)),
            Difference("eu", "b", "missing there"),
            Difference("eu", "z", "missing here"),
        )


def test_another_item_that_takes_an_identifier_over_meanwhile_is_no_difference(moto_server: str, make: Make) -> None:
    with source_table(moto_server) as table:
        between = Between(MemoryEventLog(table.name))
        named = {"get_item_partition": lambda _: "", "get_item_unique_identifier": lambda item: item["mail"]}
        layer = make(table=table.name, events=between, **named)
        fill(table, [item("x", "a", mail="m")])
        layer.set([put("x", "a", mail="m")])

        def written() -> None:
            table.put_item(Item=item("x", "a", mail="n"))
            table.put_item(Item=item("x", "b", mail="m"))
            layer.set([put("x", "a", mail="n"), put("x", "b", mail="m")])

        layer.get()
        # The first read verifies; the second compares, after the scan.
        between.then("before read", lambda: between.then("before read", written))
        assert compared(layer, table).differences == ()


def test_an_item_that_belongs_to_another_partition_by_now_is_missing_in_the_first(moto_server: str, make: Make) -> None:
    with source_table(moto_server) as table:
        layer = make(
            table=table.name,
            events=MemoryEventLog(table.name),
            get_item_partition=lambda item: item["tenant"],
            get_item_unique_identifier=lambda item: f"{item['pk']}/{item['sk']}",
        )
        layer.set([put("x", "a", tenant="eu")])
        fill(table, [item("x", "a", tenant="us")])
        assert compared(layer, table).differences == (
            Difference("eu", "x/a", "missing there"),
            Difference("us", "x/a", "missing here"),
        )
