"""Conditions of writes: the caller's own, as boto3 takes them, and what an item must still be, together in one text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from boto3.dynamodb.conditions import ConditionBase, ConditionExpressionBuilder
from boto3.exceptions import DynamoDBNeedsConditionError

from dynalayer.capturing.expressions import placeholders_in
from dynalayer.errors import InvalidInputError
from dynalayer.quoting import quoted
from dynalayer.sourcing.tables import typed
from dynalayer.values import copy_item, item_to_json

__all__ = ["Expression", "Guard", "checked_values", "condition_of", "guarded"]

Row = Mapping[str, Any]

_MAX_TEXT = 4096  # bytes of one expression
_MAX_OPERATORS = 300  # and functions, of one expression
_MAX_GUARDED = 120  # attributes, each with a comparison and an AND
# What may be an operator or a function; a few parentheses too many among them.
_OPERATOR = re.compile(r"[<>=]+|[(,]|\b(?:AND|OR|NOT|BETWEEN|IN)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression, or several that share placeholders.

    Attributes:
        text: The condition; empty for none.
        names: What `#name`s stand for.
        values: What `:value`s stand for, as the low-level client takes them.
    """

    text: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def alone(self) -> Expression:
        """The condition with what itself uses: DynamoDB refuses names and values that nothing uses."""
        used = placeholders_in(self.text)
        names = {each: name for each, name in self.names.items() if each in used}
        return Expression(self.text, names, {each: value for each, value in self.values.items() if each in used})

    def arguments(self) -> dict[str, Any]:
        """As an action of a transaction takes it, which takes nothing that is empty."""
        given = {
            "ConditionExpression": self.text,
            "ExpressionAttributeNames": dict(self.names),
            "ExpressionAttributeValues": dict(self.values),
        }
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True, slots=True)
class Guard:
    """What an item must still be when it is written.

    Attributes:
        key: The first attribute of the table's key.
        there: The item as it was read; None where there was none.
        first: Attributes that count before others, where not all can be named.
        whole: Whether all other attributes count too.
    """

    key: str
    there: Row | None
    first: Sequence[str] = ()
    whole: bool = True

    @property
    def attributes(self) -> tuple[str, ...]:
        """What is compared, in the order in which it counts."""
        others = self.there if self.whole and self.there is not None else ()
        return tuple(name for name in dict.fromkeys((*self.first, *others)) if name != self.key)

    def changed(self, there: Row | None) -> bool:
        """Whether an item that is there now is not what was read, as far as it counts."""
        if self.there is None or there is None:
            return (self.there is None) != (there is None)
        if self.whole:
            return bool(_comparable({"M": self.there}) != _comparable({"M": there}))
        return any(
            _comparable(self.there.get(name)) != _comparable(there.get(name)) for name in (self.key, *self.first)
        )


def _comparable(value: Any) -> Any:
    """A value as DynamoDB compares it: sets have no order. Numbers are as the service wrote them, both times."""
    if not isinstance(value, Mapping):
        return value
    ((kind, inner),) = value.items()
    if kind == "M":
        return kind, {name: _comparable(each) for name, each in inner.items()}
    if kind == "L":
        return kind, [_comparable(each) for each in inner]
    return kind, frozenset(inner) if kind in ("SS", "NS", "BS") else inner


def condition_of(
    condition: object, names: object, values: object, *, update: str = ""
) -> tuple[Expression, dict[str, Any]]:
    """A caller's condition, as boto3's resource takes it.

    Args:
        condition: A text, or one of boto3's conditions, as `Attr("a").exists()`; None for none.
        names: `ExpressionAttributeNames`.
        values: `ExpressionAttributeValues`, plain.
        update: An update expression that shares names and values.

    Returns:
        The condition, with names and values for both, and the plain values.

    Raises:
        InvalidInputError: One of them is none, or a name or value is used and not given, or given and not used.
    """
    names = _names(names)
    given = checked_values(values)
    text = ""
    if condition is not None:
        text, names, given = _built(condition, names, given)
    used = placeholders_in(text) | placeholders_in(update)
    for what, placeholders in (("Names", names), ("Values", given)):
        unused = sorted(placeholders.keys() - used)
        if unused:
            raise InvalidInputError(f"ExpressionAttribute{what}: no expression uses {', '.join(unused)[:200]}")
    missing = sorted(used - names.keys() - given.keys())
    if missing:
        raise InvalidInputError(f"expressions use {', '.join(missing)[:200]}, and nothing says what that stands for")
    return Expression(text, names, typed(given)), given


def _names(names: object) -> dict[str, str]:
    if names is None:
        return {}
    if not isinstance(names, Mapping) or not all(
        isinstance(each, str) and isinstance(name, str) for each, name in names.items()
    ):
        raise InvalidInputError(f"ExpressionAttributeNames maps #placeholders to attributes, unlike {quoted(names)}")
    return dict(names)


def checked_values(values: object) -> dict[str, Any]:
    """Values that are kept as they are, by their placeholders; nothing mutable is shared.

    Raises:
        InvalidValueError: One cannot be kept.
        InvalidInputError: It is no mapping.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InvalidInputError(f"ExpressionAttributeValues maps :placeholders to values, unlike {quoted(values)}")
    given = dict(values)
    item_to_json(given)
    return copy_item(given)


def _built(
    condition: object, names: dict[str, str], values: dict[str, Any]
) -> tuple[str, dict[str, str], dict[str, Any]]:
    if isinstance(condition, str):
        if not condition.strip():
            raise InvalidInputError("ConditionExpression is empty; leave it out")
        return condition, names, values
    if not isinstance(condition, ConditionBase):
        raise InvalidInputError(
            f"ConditionExpression is a text or a condition of boto3's, as Attr('a').exists(), not {quoted(condition)}"
        )
    try:
        built = ConditionExpressionBuilder().build_expression(condition)
    except (DynamoDBNeedsConditionError, ValueError, TypeError) as error:
        raise InvalidInputError(f"ConditionExpression cannot be built: {error}") from error
    taken = names.keys() & built.attribute_name_placeholders.keys()
    taken |= values.keys() & built.attribute_value_placeholders.keys()
    if taken:  # boto3 would overwrite one with the other
        raise InvalidInputError(f"{', '.join(sorted(taken))}: boto3's conditions use these placeholders; name yours #a")
    return (
        built.condition_expression,
        names | built.attribute_name_placeholders,
        values | checked_values(built.attribute_value_placeholders),
    )


def guarded(own: Expression, guard: Guard) -> Expression:
    """A caller's condition and a guard in one.

    DynamoDB bounds an expression's length and its operators: of an item of more attributes only some are named. That
    others have changed is then seen by the partition's end alone.
    """
    names, values = dict(own.names), dict(own.values)
    taken = names.keys() | values.keys()
    letter = next(f"g{number}x" for number in range(len(taken) + 1) if _free(f"g{number}x", taken))
    names[f"#{letter}"] = guard.key
    parts = [f"attribute_not_exists(#{letter})" if guard.there is None else f"attribute_exists(#{letter})"]
    most = min(_MAX_GUARDED, (_MAX_OPERATORS - 2 - len(_OPERATOR.findall(own.text))) // 2)
    room = _MAX_TEXT - len(own.text.encode()) - len(parts[0]) - len("() AND ")
    for number, name in enumerate(guard.attributes if guard.there is not None else ()):
        value = guard.there.get(name) if guard.there is not None else None
        placeholder = f"{letter}{number}"
        absent = f" AND attribute_not_exists(#{placeholder})"
        part = absent if value is None else f" AND #{placeholder} = :{placeholder}"
        room -= len(part)
        if room < 0 or number >= most:
            break
        parts.append(part)
        names[f"#{placeholder}"] = name
        if value is not None:
            values[f":{placeholder}"] = value
    text = "".join(parts)
    return Expression(f"{_in_parentheses(own.text)} AND {text}" if own.text else text, names, values)


def _in_parentheses(text: str) -> str:
    """A condition as a part of another; DynamoDB refuses two pairs of parentheses around the same."""
    text = text.strip()
    depth, closed = 0, 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth <= 0:
            closed = place
            break
    return text if text[0] == "(" and closed == len(text) - 1 else f"({text})"


def _free(letter: str, taken: set[str]) -> bool:
    return not any(each[1:].startswith(letter) for each in taken)
