"""Plain pairs: a user's own getter and setter in place of storage."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynalayer import (
    ConfigurationError,
    EventLog,
    Layer,
    MemoryEventLog,
    SegmentCorruptError,
    StorageError,
)
from strategies import exactly, items

Items = list[dict[str, Any]]


class Place:
    """The one mutable place of a pair: lists of items, and what was handed over."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.handed: list[tuple[str, Items]] = []
        self.read: list[str] = []
        self.failure: Exception | None = None

    def getter(self, partition: str) -> Any:
        self.read.append(partition)
        if self.failure:
            raise self.failure
        return self.kept.get(partition)

    def setter(self, partition: str, items: Items) -> None:
        if self.failure:
            raise self.failure
        self.handed.append((partition, items))
        self.kept[partition] = items


class Reached(MemoryEventLog):
    """A log that notes what it was asked."""

    def __init__(self, table: str) -> None:
        super().__init__(table)
        self.asked: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in EventLog.__abstractmethods__:
            self.asked.append(name)
        return super().__getattribute__(name)


def put(partition: str = "eu", identifier: Any = "a", **attributes: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": {"pk": partition, "sk": identifier, **attributes}}


def delete(partition: str = "eu", identifier: Any = "a") -> dict[str, Any]:
    return {"type": "DELETE", "item": {"pk": partition, "sk": identifier}}


def layer_of(place: Place, log: EventLog | None = None, **options: Any) -> Layer:
    given: dict[str, Any] = {"getter": place.getter, "setter": place.setter, **options}
    return Layer(
        table="users",
        get_item_unique_identifier="sk",
        get_item_partition="pk",
        events=log or MemoryEventLog("users"),
        **given,
    )


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def layer(place: Place) -> Iterator[Layer]:
    with layer_of(place) as made:
        yield made


# Set, sync, get


def test_what_is_set_is_read_before_and_after_a_sync(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "b", n=1), put("eu", "a", n=Decimal("1.50")), put("us", "c")])
    expected = [{"pk": "eu", "sk": "a", "n": Decimal("1.50")}, {"pk": "eu", "sk": "b", "n": 1}]
    assert exactly(layer.get("eu")) == exactly(expected)
    assert place.kept == {}
    result = layer.sync()
    assert (result.count, result.partitions) == (3, ("eu", "us"))
    assert exactly(layer.get("eu")) == exactly(expected)
    assert place.kept == {"eu": expected, "us": [{"pk": "us", "sk": "c"}]}


def test_later_events_are_folded_onto_what_the_getter_gives(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a", n=1), put("eu", "b", n=1)])
    layer.sync()
    layer.set([put("eu", "b", n=2), put("eu", "c", n=2), delete("eu", "a")])
    expected = [{"pk": "eu", "sk": "b", "n": 2}, {"pk": "eu", "sk": "c", "n": 2}]
    assert layer.get("eu") == expected
    assert layer.sync().count == 3
    assert layer.get("eu") == expected
    assert place.kept["eu"] == expected


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), items()), st.booleans()), max_size=12))
def test_a_pair_gives_what_a_dict_would(steps: list[tuple[str, dict[str, Any] | None, bool]]) -> None:
    model: dict[str, dict[str, Any]] = {}
    with layer_of(Place()) as layer:
        for identifier, attributes, syncing in steps:
            if attributes is None:
                model.pop(identifier, None)
                layer.set([delete("eu", identifier)])
            else:
                model[identifier] = {**attributes, "pk": "eu", "sk": identifier}
                layer.set([{"type": "PUT", "item": model[identifier]}])
            if syncing:
                layer.sync()
            assert exactly(layer.get("eu")) == exactly([model[key] for key in sorted(model)])


def test_every_sync_hands_over_all_items_of_a_changed_partition_and_of_no_other(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a"), put("us", "b")])
    layer.sync()
    place.handed.clear()
    layer.set([put("eu", "c")])
    layer.sync()
    assert [(partition, [item["sk"] for item in items]) for partition, items in place.handed] == [("eu", ["a", "c"])]


def test_a_sync_without_pending_events_hands_over_nothing(place: Place, layer: Layer) -> None:
    layer.set([put()])
    layer.sync()
    place.handed.clear()
    assert layer.sync().count == 0
    assert place.handed == []


def test_items_are_handed_over_sorted_by_identifier(place: Place, layer: Layer) -> None:
    identifiers = ["b", "a", "é", "Z", 10, 9, "aa", "😀", "~"]
    layer.set([put("eu", identifier) for identifier in identifiers])
    layer.sync()
    ((_, handed),) = place.handed
    assert [str(item["sk"]) for item in handed] == sorted(map(str, identifiers))


def test_what_was_handed_over_is_the_setters_own(place: Place) -> None:
    def meddling(partition: str, items: Items) -> None:
        place.kept[partition] = copy.deepcopy(items)
        for item in items:
            item["l"].append("meddled")
            item["meddled"] = True
        items.clear()

    given = put("eu", "a", l=[1], d={"s": {1}})
    before = copy.deepcopy(given)
    with layer_of(place, setter=meddling) as layer:
        (event,) = layer.set([given])
        layer.sync()
        assert layer.get("eu") == [before["item"]]
        assert event.item == given["item"] == before["item"]
        assert layer.history("eu")[0].item == before["item"]
        layer.set([put("eu", "b", l=[2])])
        layer.sync()
        assert layer.get("eu") == [before["item"], put("eu", "b", l=[2])["item"]]


def test_what_is_read_is_the_readers_own(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a", l=[1], s={1})])
    layer.sync()
    before = copy.deepcopy(place.kept)
    (item,) = layer.get("eu")
    item["l"].append(2)
    item["s"].add(2)
    item["new"] = True
    assert place.kept == before
    assert layer.get("eu") == before["eu"]


def test_reading_and_syncing_leave_what_the_getter_gave_as_it_was(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a", l=[1]), put("eu", "b")])
    layer.sync()
    given = place.kept["eu"]
    before = copy.deepcopy(given)
    layer.set([put("eu", "a", l=[2]), delete("eu", "b"), put("eu", "c")])
    layer.get("eu")
    layer.sync()
    assert given == before


def test_what_the_getter_says_is_read_anew_each_time(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a", n=1)])
    layer.sync()
    assert layer.get("eu")[0]["n"] == 1
    place.kept["eu"] = [{"pk": "eu", "sk": "a", "n": 2}]
    assert layer.get("eu")[0]["n"] == 2


def test_the_getter_may_give_any_iterable_in_any_order(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a"), put("eu", "b")])
    layer.sync()
    item_a, item_b = place.kept["eu"]
    for answer in ([item_b, item_a], (item_b, item_a), iter([item_b, item_a]), (item for item in (item_b, item_a))):
        place.kept["eu"] = answer
        assert layer.get("eu") == [item_a, item_b]


def test_the_getter_is_not_asked_about_a_partition_that_was_never_synced(place: Place, layer: Layer) -> None:
    layer.set([put()])
    assert layer.get("eu") == [put()["item"]]
    assert layer.get("mars") == []
    assert place.read == []


@pytest.mark.parametrize("answer", [None, [], (), iter(())], ids=["None", "list", "tuple", "iterator"])
def test_a_partition_whose_items_were_all_deleted_is_empty_and_no_error(
    place: Place, layer: Layer, answer: object
) -> None:
    layer.set([put(), put("eu", "b")])
    layer.sync()
    layer.set([delete(), delete("eu", "b")])
    layer.sync()
    assert place.handed[-1] == ("eu", [])
    place.kept["eu"] = answer
    assert layer.get("eu") == []
    layer.set([put(n=2)])
    assert layer.sync().count == 1
    assert layer.get("eu") == [put(n=2)["item"]]


def test_a_pair_is_one_segment_and_leaves_no_old_ones(place: Place) -> None:
    log = MemoryEventLog("users")
    with layer_of(place, log) as layer:
        for number in range(40):
            layer.set([put("eu", str(number))])
            layer.sync()
        assert layer.meta("eu").segments == 1
        assert log.old_segments("eu") == ()
        assert layer.verify().ok
        assert len(layer.get("eu")) == 40


def test_versions_that_are_still_in_the_log_are_read_from_it(place: Place, layer: Layer) -> None:
    for number in range(3):
        layer.set([put("eu", "a", n=number)])
        layer.sync()
    layer.set([put("eu", "a", n=3)])
    assert [layer.get("eu", at=version) for version in range(5)] == [
        [],
        *([put("eu", "a", n=number)["item"]] for number in range(4)),
    ]


# An answer that cannot be


@pytest.mark.parametrize("answer", [None, [], (), iter(()), {}, ""], ids=range(6))
def test_an_empty_answer_where_the_head_counts_items_is_an_error_and_no_wiped_partition(
    place: Place, layer: Layer, answer: object
) -> None:
    layer.set([put("eu", "a"), put("eu", "b")])
    layer.sync()
    whole = place.kept["eu"]
    place.kept["eu"] = answer
    with pytest.raises(StorageError, match="the getter gave nothing for a partition that has 2 items") as caught:
        layer.get("eu")
    error = caught.value
    assert (error.operation, error.partition, error.adapter) == ("get", "eu", "plain pair")
    place.kept["eu"] = whole
    assert len(layer.get("eu")) == 2


def test_an_empty_answer_during_a_sync_loses_nothing(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a"), put("eu", "b")])
    layer.sync()
    layer.set([put("eu", "c"), put("us", "d")])
    whole = place.kept.pop("eu")
    place.handed.clear()
    with pytest.raises(StorageError, match="the getter gave nothing for a partition that has 2 items") as caught:
        layer.sync()
    assert (caught.value.operation, caught.value.partition) == ("sync", "eu")
    assert [partition for partition, _ in place.handed] == ["us"]
    assert layer.meta("eu").unsynced_total == 1
    assert layer.meta("eu").synced_version == 1
    place.kept["eu"] = whole
    assert [item["sk"] for item in layer.get("eu")] == ["a", "b", "c"]
    assert layer.sync().count == 1
    assert [item["sk"] for item in place.kept["eu"]] == ["a", "b", "c"]


def test_deleting_everything_does_not_hide_an_empty_answer(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a")])
    layer.sync()
    layer.set([delete("eu", "a")])
    place.kept.clear()
    with pytest.raises(StorageError, match="the getter gave nothing"):
        layer.get("eu")
    with pytest.raises(StorageError, match="the getter gave nothing"):
        layer.sync()


def test_verify_finds_an_empty_answer(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a")])
    layer.sync()
    place.kept.clear()
    (finding,) = layer.verify().findings
    assert finding.partition == "eu"
    assert "the getter gave nothing" in finding.problem


def test_a_getter_that_raises_is_told_with_its_cause_and_nothing_is_lost(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a")])
    layer.sync()
    layer.set([put("eu", "b")])
    place.failure = ConnectionError("unplugged")
    for call, operation in ((lambda: layer.get("eu"), "get"), (layer.sync, "sync")):
        with pytest.raises(StorageError, match="ConnectionError: unplugged") as caught:
            call()
        error = caught.value
        assert (error.operation, error.partition, error.adapter) == (operation, "eu", "plain pair")
        assert error.__cause__ is place.failure
    place.failure = None
    assert len(layer.get("eu")) == 2
    assert layer.sync().count == 1


def test_a_getter_that_fails_half_way_is_an_error_and_no_half_partition(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a"), put("eu", "b")])
    layer.sync()
    first = place.kept["eu"][0]

    def half() -> Iterator[dict[str, Any]]:
        yield first
        raise ConnectionError("unplugged")

    place.kept["eu"] = half()
    with pytest.raises(StorageError, match="ConnectionError: unplugged"):
        layer.get("eu")


def test_a_getter_that_gives_another_partitions_items_is_an_error(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a"), put("us", "b")])
    layer.sync()
    place.kept["eu"] = [{"pk": "eu", "sk": "a"}, {"pk": "us", "sk": "b"}]
    with pytest.raises(SegmentCorruptError, match="item 1: it belongs to partition 'us', not to 'eu'"):
        layer.get("eu")


def test_an_identifier_given_twice_is_an_error(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a"), put("eu", 1)])
    layer.sync()
    for twice in ({"sk": "a"}, {"sk": "1"}, {"sk": Decimal(1)}):
        place.kept["eu"] = [{"pk": "eu", **item} for item in ({"sk": "a"}, {"sk": 1}, twice)]
        with pytest.raises(SegmentCorruptError, match=r"item 2: its identifier, '(a|1)', is that of item [01] too"):
            layer.get("eu")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (["a"], "an item is a dict of attributes, not str"),
        ({"sk": "a"}, "an item is a dict of attributes, not str"),
        ("items", "an item is a dict of attributes, not str"),
        ([None], "an item is a dict of attributes, not NoneType"),
        ([{"pk": "eu"}], "no attribute 'sk'"),
        ([{"sk": ""}], "is empty"),
        ([{"sk": True}], "identifier is bool"),
        ([{"sk": "a", "deep": [{"x": (1,)}]}], "attribute deep[0].x: a value of type tuple"),
        ([{"sk": "a", "n": float("nan")}], "attribute n: nan"),
    ],
    ids=range(9),
)
def test_what_is_no_item_is_an_error_that_names_it(place: Place, layer: Layer, answer: object, words: str) -> None:
    layer.set([put("eu", "a")])
    layer.sync()
    place.kept["eu"] = answer
    with pytest.raises(SegmentCorruptError, match="the getter gave what is no item of this partition") as caught:
        layer.get("eu")
    assert words in str(caught.value)
    assert caught.value.partition == "eu"


@pytest.mark.parametrize("answer", [5, True, object()], ids=["int", "bool", "object"])
def test_an_answer_that_is_no_list_is_an_error(place: Place, layer: Layer, answer: object) -> None:
    layer.set([put("eu", "a")])
    layer.sync()
    place.kept["eu"] = answer
    with pytest.raises(StorageError, match="not iterable"):
        layer.get("eu")


# A setter that fails


def test_a_setter_that_fails_reaches_the_caller_and_leaves_everything_pending(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a")])
    layer.sync()
    layer.set([put("eu", "b"), delete("eu", "a")])
    before = layer.meta("eu")
    failure = OSError("disk full")

    def failing(partition: str, items: Items) -> None:
        raise failure

    with layer_of(place, layer._log, setter=failing) as broken:
        with pytest.raises(StorageError, match="OSError: disk full") as caught:
            broken.sync()
        error = caught.value
        assert (error.operation, error.partition, error.adapter) == ("sync", "eu", "plain pair")
        assert error.__cause__ is failure
        assert broken.meta("eu") == before
        assert broken.get("eu") == [put("eu", "b")["item"]]
        assert broken.meta().unsynced_total == 2


def test_a_setter_that_failed_once_is_called_again_by_the_next_sync(place: Place, layer: Layer) -> None:
    layer.set([put("eu", "a")])
    place.failure = OSError("disk full")
    with pytest.raises(StorageError):
        layer.sync()
    assert layer.meta("eu").synced_version == 0
    place.failure = None
    assert layer.sync().count == 1
    assert place.kept["eu"] == [put("eu", "a")["item"]]


def test_a_setter_that_fails_keeps_no_other_partition_from_being_folded(place: Place) -> None:
    def picky(partition: str, items: Items) -> None:
        if partition == "eu":
            raise OSError("no room for eu")
        place.setter(partition, items)

    with layer_of(place, setter=picky) as layer:
        layer.set([put("asia"), put("eu"), put("us")])
        with pytest.raises(StorageError, match="no room for eu"):
            layer.sync()
        assert sorted(place.kept) == ["asia", "us"]
        assert layer.meta().unsynced_total == 1


def test_a_setter_that_stores_and_then_fails_doubles_and_loses_nothing(place: Place) -> None:
    lost = [True]

    def forgetful(partition: str, items: Items) -> None:
        place.setter(partition, items)
        if lost[0]:
            raise TimeoutError("no answer")

    with layer_of(place, setter=forgetful) as layer:
        lost[0] = False
        layer.set([put("eu", "a", n=1), put("eu", "b")])
        layer.sync()
        lost[0] = True
        layer.set([put("eu", "a", n=2), delete("eu", "b"), put("eu", "c")])
        with pytest.raises(StorageError, match="TimeoutError: no answer"):
            layer.sync()
        expected = [put("eu", "a", n=2)["item"], put("eu", "c")["item"]]
        assert layer.get("eu") == expected
        lost[0] = False
        assert layer.sync().count == 3
        assert layer.get("eu") == place.kept["eu"] == expected


def test_what_the_setter_returns_is_of_no_interest(place: Place) -> None:
    def chatty(partition: str, items: Items) -> str:
        place.setter(partition, items)
        return "9:9"

    with layer_of(place, setter=chatty) as layer:
        layer.set([put()])
        assert layer.sync().count == 1
        assert layer.get("eu") == [put()["item"]]


def test_while_one_sync_hands_over_another_leaves_the_partition_to_it(place: Place) -> None:
    log = MemoryEventLog("users")
    other_place = Place()
    results = []
    with layer_of(other_place, log) as other:

        def setter(partition: str, items: Items) -> None:
            results.append(other.sync())
            place.setter(partition, items)

        layer = layer_of(place, log, setter=setter)
        layer.set([put()])
        assert layer.sync().count == 1
        (result,) = results
        assert (result.count, result.locked) == (0, True)
        assert other_place.handed == []


# What a pair cannot do


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("partition", [None, "eu"])
def test_a_vacuum_is_refused_before_anything_is_read(place: Place, *, partition: str | None, dry_run: bool) -> None:
    log = Reached("users")
    with layer_of(place, log) as layer:
        layer.set([put()])
        layer.sync()
        log.asked.clear()
        place.read.clear()
        with pytest.raises(ConfigurationError, match="plain pair cannot") as caught:
            layer.vacuum(partition, dry_run=dry_run)
        assert caught.value.operation == "vacuum"
        assert place.read == []
        assert log.asked == []


def test_a_pair_that_shares_no_log_with_its_place_counts_nothing(place: Place) -> None:
    place.kept["eu"] = [{"pk": "eu", "sk": "old"}]
    with layer_of(place) as layer:
        assert layer.get("eu") == []
        layer.set([put("eu", "new")])
        assert layer.get("eu") == [put("eu", "new")["item"]]


@pytest.mark.parametrize("lacking", ["getter", "setter"])
def test_a_getter_and_a_setter_go_together(place: Place, lacking: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{lacking} is missing"):
        layer_of(place, **{lacking: None})


def test_a_pair_stands_in_place_of_storage(place: Place) -> None:
    with pytest.raises(ConfigurationError, match="in place of storage; leave one out"):
        layer_of(place, storage="local:unused")


def test_a_pair_needs_to_know_identifiers(place: Place) -> None:
    refused: Callable[[], Layer] = lambda: Layer(  # noqa: E731 -- named only to be called in the block below
        table="users", events="memory:", getter=place.getter, setter=place.setter
    )
    with pytest.raises(ConfigurationError, match="needs get_item_unique_identifier"):
        refused()
