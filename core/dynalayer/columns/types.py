"""Types of columns: which one holds an attribute's values, and which one holds those of several columns.

========  ========================  ================================================================
kind      Arrow                     holds
========  ========================  ================================================================
none      string, all null          nothing but None
bool      bool                      bool
int       int64                     whole numbers of 64 bits
decimal   decimal128                Decimals and whole numbers, up to 38 digits before and after the point
float     double                    numbers with a float among them, or too far apart for a decimal: to the nearest
text      string                    text
bytes     binary                    bytes
json      string                    all else, and a mixture: each value as plain JSON
========  ========================  ================================================================

A column is a view for those who read by columns: None and absent look alike, and a number may be rounded. What brings
an item back exactly is the column `ITEM`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import reduce
from typing import Any

import pyarrow as pa

from dynalayer.plain import plain_json
from dynalayer.values import MAX_DIGITS

__all__ = ["array_of", "cast", "casts", "common_field", "field_of", "is_same", "items_with"]

_KIND, _ITEMS = b"dynalayer", b"dynalayer.items"  # of a field's metadata
_INT64 = range(-(2**63), 2**63)
_INT64_DIGITS = 19
_NUMBERS = frozenset({int, float, Decimal})


def field_of(name: str, values: Sequence[Any], *, items: int = 0) -> pa.Field:
    """The field that holds an attribute's values; None among them stands for None and for absent.

    Args:
        name: The attribute.
        values: Its values.
        items: How many items have it, for `items_with`.
    """
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return _field(name, pa.string(), "none", items)
    if kinds == {bool}:
        return _field(name, pa.bool_(), "bool", items)
    if kinds == {str}:
        return _field(name, pa.string(), "text", items)
    if kinds == {bytes}:
        return _field(name, pa.binary(), "bytes", items)
    if kinds <= _NUMBERS:
        return _number_field(name, _number_type(kinds, [value for value in values if value is not None]), items)
    return _field(name, pa.string(), "json", items)


def _field(name: str, form: pa.DataType, kind: str, items: int) -> pa.Field:
    return pa.field(name, form, metadata={_KIND: kind.encode(), _ITEMS: str(items).encode()})


def _number_field(name: str, form: pa.DataType, items: int) -> pa.Field:
    kind = "int" if pa.types.is_integer(form) else "decimal" if pa.types.is_decimal(form) else "float"
    return _field(name, form, kind, items)


def _number_type(kinds: set[type], numbers: Sequence[Any]) -> pa.DataType:
    if float in kinds:
        return pa.float64()
    if kinds == {int} and min(numbers) in _INT64 and max(numbers) in _INT64:
        return pa.int64()
    digits = [_digits(number) for number in numbers]
    return _decimal_type(max(whole for whole, _ in digits), max(scale for _, scale in digits))


def _digits(number: int | Decimal) -> tuple[int, int]:
    """How many digits it has before and after the point."""
    _, digits, exponent = Decimal(number).as_tuple()
    places = int(exponent)
    return max(len(digits) + places, 0), max(-places, 0)


def _decimal_type(whole: int, scale: int) -> pa.DataType:
    """The decimal of so many digits before and after the point; a float where there is no such one."""
    return pa.decimal128(whole + scale, scale) if whole + scale <= MAX_DIGITS else pa.float64()


def array_of(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    """Values as an array of a field that holds them, by `field_of` or `common_field`."""
    if _kind(field) == "json":
        return pa.array(
            [None if value is None else plain_json(value, in_order=True).decode() for value in values], pa.string()
        )
    if pa.types.is_floating(field.type):
        return pa.array([None if value is None else float(value) for value in values], field.type)
    return pa.array(values, field.type)


def _kind(field: pa.Field) -> str:
    metadata: dict[bytes, bytes] = field.metadata or {}
    return metadata.get(_KIND, b"").decode()


def items_with(field: pa.Field) -> int:
    """How many items have the attribute: at most, where some of them were deleted since."""
    metadata: dict[bytes, bytes] = field.metadata or {}
    return int(metadata.get(_ITEMS, b"0"))


def common_field(fields: Sequence[pa.Field]) -> pa.Field:
    """The field that holds what several of one name hold."""
    return reduce(_common, fields)


def _common(one: pa.Field, other: pa.Field) -> pa.Field:
    kinds, items = {_kind(one), _kind(other)}, items_with(one) + items_with(other)
    if len(kinds - {"none"}) <= 1 and kinds != {"decimal"}:
        first = other if _kind(one) == "none" else one
        return _field(one.name, first.type, _kind(first), items)
    if not kinds <= {"none", "int", "decimal", "float"}:
        return _field(one.name, pa.string(), "json", items)
    if "float" in kinds:
        return _number_field(one.name, pa.float64(), items)
    (whole, scale), (other_whole, other_scale) = _room(one.type), _room(other.type)
    return _number_field(one.name, _decimal_type(max(whole, other_whole), max(scale, other_scale)), items)


def _room(form: pa.DataType) -> tuple[int, int]:
    """How many digits a type has room for before and after the point."""
    if pa.types.is_decimal(form):
        return form.precision - form.scale, form.scale
    return (_INT64_DIGITS, 0) if pa.types.is_integer(form) else (0, 0)


def is_same(one: pa.Field, other: pa.Field) -> bool:
    """Whether two fields hold values in the same way."""
    return bool(one.type == other.type) and _kind(one) == _kind(other)


def casts(field: pa.Field, target: pa.Field) -> bool:
    """Whether an array of one field says enough to be one of another that `common_field` gave.

    Where not, what it says is rounded or written otherwise already, and the values themselves are needed.
    """
    return (
        is_same(field, target)
        or _kind(field) == "none"
        or (_kind(field) in ("int", "decimal") and _kind(target) == "decimal")
    )


def cast(array: pa.Array, field: pa.Field, target: pa.Field) -> pa.Array:
    """An array of one field as one of another into which it `casts`."""
    if _kind(field) == "none":
        return pa.nulls(len(array), target.type)
    return array if field.type == target.type else array.cast(target.type)
