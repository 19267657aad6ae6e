"""A caller's condition and what an item must still be go in one expression that DynamoDB takes."""

from __future__ import annotations

from typing import Any

import pytest

from dynalayer.capturing.conditions import Expression, Guard, guarded

ROW: dict[str, Any] = {
    "id": {"S": "1"},
    "n": {"N": "5"},
    "tags": {"SS": ["a", "b"]},
    "deep": {"L": [{"NS": ["1", "2"]}]},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = :v", "(a = :v) AND attribute_not_exists(#g0x)"),
        ("(a = :v)", "(a = :v) AND attribute_not_exists(#g0x)"),
        ("(a = :v) OR (b = :v)", "((a = :v) OR (b = :v)) AND attribute_not_exists(#g0x)"),
        (" (a = :v OR (b = :v)) ", "(a = :v OR (b = :v)) AND attribute_not_exists(#g0x)"),
        ("(a = :v) OR b = :v)", "((a = :v) OR b = :v)) AND attribute_not_exists(#g0x)"),  # for the service to refuse
    ],
)
def test_a_condition_is_in_one_pair_of_parentheses(text: str, expected: str) -> None:
    """DynamoDB refuses two pairs around the same."""
    assert guarded(Expression(text), Guard("id", None)).text == expected


def test_placeholders_of_the_callers_own_are_left_alone() -> None:
    own = Expression("#g0x1 = :g1x", {"#g0x1": "a"}, {":g1x": {"N": "1"}})
    both = guarded(own, Guard("id", ROW))
    assert {"#g0x1": "a", "#g2x": "id"}.items() <= both.names.items()
    assert both.values[":g1x"] == {"N": "1"}
    assert set(both.names.values()) == {"a", *ROW}
    assert len(both.values) == len(ROW)


def test_attributes_that_are_not_there_must_not_be_there() -> None:
    text = guarded(Expression(), Guard("id", ROW, ("absent", "n"), whole=False)).text
    assert text == "attribute_exists(#g0x) AND attribute_not_exists(#g0x0) AND #g0x1 = :g0x1"


@pytest.mark.parametrize("own", ["", "a = :v OR " * 100 + "a = :v", "f(a) AND " * 145 + "f(a)"])
def test_an_expression_keeps_to_the_services_bounds(own: str) -> None:
    row = {f"attribute-{number}": {"N": str(number)} for number in range(1000)}
    both = guarded(Expression(own), Guard("id", {"id": {"S": "1"}, **row}, ("attribute-999",)))
    assert len(both.text) <= 4096
    assert sum(map(both.text.count, (" AND ", " OR ", " = ", "f(", "exists("))) <= 300
    assert "attribute-999" in both.names.values()  # what counts comes first


@pytest.mark.parametrize(
    ("there", "changed"),
    [
        (ROW, False),
        ({**ROW, "tags": {"SS": ["b", "a"]}, "deep": {"L": [{"NS": ["2", "1"]}]}}, False),
        ({**ROW, "n": {"N": "6"}}, True),
        ({**ROW, "n": {"S": "5"}}, True),
        ({**ROW, "fresh": {"N": "6"}}, True),
        ({"id": {"S": "1"}}, True),
        (None, True),
    ],
)
def test_an_item_is_the_same_whatever_order_its_sets_are_told_in(there: Any, changed: bool) -> None:
    assert Guard("id", ROW).changed(there) == changed
    assert Guard("id", ROW, ("tags",), whole=False).changed(there) == (there is None or "tags" not in there)
    assert Guard("id", None).changed(there) == (there is not None)
