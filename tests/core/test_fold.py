"""The fold: the last change of an id wins, and net changes say the same in fewer words."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dynalayer import Segment
from dynalayer.events import Change
from dynalayer.fold import NetChanges, apply_changes, apply_segment
from dynalayer.values import Item
from strategies import changes, exactly, identifiers, items, small_changes

Items = dict[str, Item]


def bases() -> st.SearchStrategy[Items]:
    return st.dictionaries(identifiers(), items(), max_size=5)


def runs() -> st.SearchStrategy[list[Change]]:
    return st.one_of(st.lists(changes(), max_size=6), st.lists(small_changes(), max_size=30))


def modelled(base: Items, run: list[Change]) -> Items:
    """For each id the last change alone, looked for from the end."""
    last = {change.id: change for change in run}
    untouched = {identifier: item for identifier, item in base.items() if identifier not in last}
    return untouched | {change.id: change.item for change in last.values() if change.type != "DELETE"}


def folded(base: Items, run: list[Change]) -> Items:
    result = dict(base)
    apply_changes(result, run)
    return result


def net_of(run: list[Change]) -> NetChanges:
    net = NetChanges()
    net.add_changes(run)
    return net


def as_delta(net: NetChanges, start: int = 0) -> Segment:
    return Segment("users", "", "log", "delta", start, start + 1, dict(net.items), frozenset(net.deleted), name="one")


def applied(base: Items, delta: Segment) -> Items:
    result = dict(base)
    apply_segment(result, delta)
    return result


def merged(*deltas: Segment) -> Segment:
    net = NetChanges()
    for delta in deltas:
        net.add_segment(delta)
    return as_delta(net)


@settings(deadline=None, max_examples=80)
@given(bases(), runs())
def test_the_fold_keeps_for_each_id_what_its_last_change_says(base: Items, run: list[Change]) -> None:
    assert exactly(folded(base, run)) == exactly(modelled(base, run))


@settings(deadline=None, max_examples=50)
@given(bases(), runs(), st.integers(0, 30))
def test_folding_in_two_parts_is_as_folding_at_once(base: Items, run: list[Change], cut: int) -> None:
    assert folded(folded(base, run[:cut]), run[cut:]) == folded(base, run)


@settings(deadline=None, max_examples=50)
@given(bases(), runs())
def test_folding_the_same_run_twice_is_as_folding_it_once(base: Items, run: list[Change]) -> None:
    assert folded(folded(base, run), run) == folded(base, run)


def test_put_and_update_set_the_whole_item() -> None:
    base: Items = {"a": {"x": 1, "y": 1}, "b": {"x": 1, "y": 1}}
    run = [Change("PUT", "a", {"x": 2}), Change("UPDATE", "b", {"x": 2}), Change("UPDATE", "c", {"x": 2})]
    assert folded(base, run) == {"a": {"x": 2}, "b": {"x": 2}, "c": {"x": 2}}


def test_a_delete_of_what_is_not_there_is_no_error() -> None:
    assert folded({"a": {}}, [Change("DELETE", "b", {}), Change("DELETE", "a", {}), Change("DELETE", "a", {})]) == {}


def test_the_order_of_a_deletion_and_a_put_decides() -> None:
    put, delete = Change("PUT", "a", {"x": 1}), Change("DELETE", "a", {})
    assert folded({}, [put, delete]) == {}
    assert folded({}, [delete, put]) == {"a": {"x": 1}}
    assert net_of([put, delete]).deleted == {"a"}
    assert net_of([delete, put]).deleted == set()


@settings(deadline=None, max_examples=80)
@given(bases(), runs())
def test_net_changes_on_any_base_are_as_all_the_changes(base: Items, run: list[Change]) -> None:
    assert exactly(applied(base, as_delta(net_of(run)))) == exactly(folded(base, run))


@settings(deadline=None, max_examples=50)
@given(runs())
def test_net_changes_speak_of_each_id_once(run: list[Change]) -> None:
    net = net_of(run)
    assert not net.items.keys() & net.deleted
    assert net.items.keys() | net.deleted == {change.id for change in run}


@settings(deadline=None, max_examples=50)
@given(bases(), runs(), runs())
def test_a_delta_and_then_changes_are_as_all_the_changes(base: Items, first: list[Change], then: list[Change]) -> None:
    net = NetChanges()
    net.add_segment(as_delta(net_of(first)))
    net.add_changes(then)
    assert applied(base, as_delta(net)) == folded(base, first + then)


@settings(deadline=None, max_examples=80)
@given(bases(), runs(), runs(), runs())
def test_merging_deltas_is_associative_and_changes_nothing(
    base: Items, first: list[Change], second: list[Change], third: list[Change]
) -> None:
    one, two, three = (as_delta(net_of(run)) for run in (first, second, third))
    at_once = merged(one, two, three)
    assert merged(merged(one, two), three) == at_once
    assert merged(one, merged(two, three)) == at_once
    in_turn = applied(applied(applied(base, one), two), three)
    assert applied(base, at_once) == in_turn
    assert exactly(in_turn) == exactly(folded(base, first + second + third))


@settings(deadline=None, max_examples=50)
@given(bases(), runs())
def test_what_is_folded_leaves_deltas_and_changes_as_they_were(base: Items, run: list[Change]) -> None:
    delta = as_delta(net_of(run))
    before = exactly(dict(delta.items)), delta.deleted, [exactly(change.item) for change in run]
    folded(applied(base, delta), run)
    merged(delta, as_delta(net_of(run)))
    assert (exactly(dict(delta.items)), delta.deleted, [exactly(change.item) for change in run]) == before
