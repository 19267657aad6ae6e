"""Items as DynamoDB's streams write them: each value under its type, `{"N": "1.5"}`.

Two forms of the same: boto3 gives binary as bytes, AWS Lambda's events as base64 text.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, Inexact
from typing import Any

from dynalayer.errors import InvalidInputError
from dynalayer.quoting import quoted
from dynalayer.values import MAX_DEPTH, MAX_DIGITS, Item, join_path

__all__ = ["image"]

_NUMBER = re.compile(r"[+-]?[0-9]{1,130}(\.[0-9]{1,130})?([eE][+-]?[0-9]{1,3})?")

# The service writes 1E+100 with all its zeros; these are no digits of the number.
_EXACT = Context(prec=MAX_DIGITS, traps=[Inexact])


class _MalformedError(Exception):
    """A value that no stream writes; collects its path on the way out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str | int] = []


def image(typed: object, what: str) -> Item:
    """An item, its values typed as boto3's resource types them, binary as plain bytes.

    Args:
        typed: The item as the stream has it.
        what: What it is, for the error.

    Raises:
        InvalidInputError: It is none; names the attribute.
    """
    try:
        return _mapped(typed, 0)
    except _MalformedError as error:
        path = join_path(error.path[::-1])
        raise InvalidInputError(f"{what}{f', attribute {path}' if path else ''}: {error}") from None


def _mapped(typed: object, depth: int) -> dict[str, Any]:
    if not isinstance(typed, Mapping):
        raise _MalformedError(f"typed attributes are a mapping, not {quoted(typed)}")
    found = {}
    for name, value in typed.items():
        if type(name) is not str:
            raise _MalformedError(f"an attribute's name is text, not {quoted(name)}")
        found[name] = _under(name, value, depth + 1)
    return found


def _under(step: str | int, typed: object, depth: int) -> Any:
    """A value, and its place in the path of what fails there."""
    try:
        return _value(typed, depth)
    except _MalformedError as error:
        error.path.append(step)
        raise


def _value(typed: object, depth: int) -> Any:
    if not isinstance(typed, Mapping) or len(typed) != 1:
        raise _MalformedError(f"{quoted(typed)} is no value under its type, as in {{'S': 'text'}}")
    ((kind, value),) = typed.items()
    if kind in _PLAIN:
        return _PLAIN[kind](value)
    if kind in _SETS:
        return _set(value, _SETS[kind])
    if kind not in ("L", "M"):
        raise _MalformedError(f"{quoted(kind)} is no type of DynamoDB's")
    if depth > MAX_DEPTH:
        raise _MalformedError(f"containers stand more than {MAX_DEPTH} deep in one another")
    if kind == "M":
        return _mapped(value, depth)
    return [_under(position, each, depth + 1) for position, each in enumerate(_listed(value))]


def _listed(value: object) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _MalformedError(f"{quoted(value)} is no list")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise _MalformedError(f"{quoted(value)} is no text")
    return value


def _number(value: object) -> Decimal:
    if type(value) is not str or not _NUMBER.fullmatch(value):
        raise _MalformedError(f"{quoted(value)} is no number as text")
    try:
        return _EXACT.create_decimal(value)
    except Inexact:
        return Decimal(value)  # to be refused as what it is


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    try:
        return b64decode(_text(value), validate=True)
    except (binascii.Error, ValueError):
        raise _MalformedError(f"{quoted(value)} is neither bytes nor base64") from None


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise _MalformedError(f"{quoted(value)} is neither true nor false")
    return value


def _null(value: object) -> None:
    if value is not True:
        raise _MalformedError(f"NULL is written as true, not {quoted(value)}")


def _set(value: object, element: Callable[[object], Any]) -> set[Any]:
    elements = [element(each) for each in _listed(value)]
    found = set(elements)
    if len(found) != len(elements):
        raise _MalformedError("a set holds an element twice")
    return found


_PLAIN: Mapping[object, Callable[[object], Any]] = {
    "S": _text,
    "N": _number,
    "B": _bytes,
    "BOOL": _bool,
    "NULL": _null,
}
_SETS: Mapping[object, Callable[[object], Any]] = {"SS": _text, "NS": _number, "BS": _bytes}
