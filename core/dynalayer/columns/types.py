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

__all__ = ["array_of", "cast", "common_field", "field_of", "is_same"]

_KEY = b"dynalayer"  # of a field's metadata: the kind, where the type does not tell it
_INT64 = range(-(2**63), 2**63)
_INT64_DIGITS = 19
_NUMBERS = frozenset({int, float, Decimal})


def field_of(name: str, values: Sequence[Any]) -> pa.Field:
    """The field that holds an attribute's values; None among them stands for None and for absent."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return _marked(name, "none")
    if kinds == {bool}:
        return pa.field(name, pa.bool_())
    if kinds == {str}:
        return pa.field(name, pa.string())
    if kinds == {bytes}:
        return pa.field(name, pa.binary())
    if kinds <= _NUMBERS:
        return pa.field(name, _number_type(kinds, [value for value in values if value is not None]))
    return _marked(name, "json")


def _marked(name: str, kind: str) -> pa.Field:
    return pa.field(name, pa.string(), metadata={_KEY: kind.encode()})


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
        return pa.array([None if value is None else plain_json(value).decode() for value in values], pa.string())
    if pa.types.is_floating(field.type):
        return pa.array([None if value is None else float(value) for value in values], field.type)
    return pa.array(values, field.type)


def _kind(field: pa.Field) -> str:
    """The kind that is told, or an empty text where the type says enough."""
    metadata: dict[bytes, bytes] = field.metadata or {}
    return metadata.get(_KEY, b"").decode()


def common_field(fields: Sequence[pa.Field]) -> pa.Field:
    """The field that holds what several of one name hold."""
    return reduce(_common, fields)


def _common(one: pa.Field, other: pa.Field) -> pa.Field:
    kinds = _kind(one), _kind(other)
    if "none" in kinds:
        return other if kinds[0] == "none" else one
    if is_same(one, other):
        return one
    if "json" in kinds or not (_is_number(one.type) and _is_number(other.type)):
        return _marked(one.name, "json")
    if pa.types.is_floating(one.type) or pa.types.is_floating(other.type):
        return pa.field(one.name, pa.float64())
    (whole, scale), (other_whole, other_scale) = _room(one.type), _room(other.type)
    return pa.field(one.name, _decimal_type(max(whole, other_whole), max(scale, other_scale)))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _room(kind: pa.DataType) -> tuple[int, int]:
    """How many digits a type has room for before and after the point."""
    return (kind.precision - kind.scale, kind.scale) if pa.types.is_decimal(kind) else (_INT64_DIGITS, 0)


def is_same(one: pa.Field, other: pa.Field) -> bool:
    """Whether two fields hold values in the same way."""
    return bool(one.type == other.type) and _kind(one) == _kind(other)


def cast(array: pa.Array, field: pa.Field, target: pa.Field) -> pa.Array:
    """An array of one field as one of another that `common_field` gave."""
    if _kind(target) == "json" and _kind(field) != "json":
        return array_of(target, array.to_pylist())
    if field.type == target.type:
        return array
    if _kind(field) == "none":
        return pa.nulls(len(array), target.type)
    return array.cast(target.type, safe=not pa.types.is_floating(target.type))
