"""Plain JSON: items as other programs expect them, where they need not come back exactly.

A Decimal is a number, with all its digits; bytes are base64 text; a set is a sorted list.
"""

from __future__ import annotations

from base64 import b64encode
from decimal import Decimal
from typing import Any

import orjson

__all__ = ["plain_json"]


def plain_json(value: object, *, in_order: bool = False) -> bytes:
    """A value, an item or a list of items of the value domain as plain JSON.

    What types JSON has no word for are lost: `Decimal("1.50")` is `1.50`, `b"hi"` is `"aGk="`, `{2, 1}` is `[1, 2]`.

    Args:
        value: The value.
        in_order: Sort the names in each object; else they stand as they are in the value.
    """
    option = orjson.OPT_SORT_KEYS if in_order else 0
    try:
        return orjson.dumps(value, default=_plain, option=option)
    except TypeError:  # a whole number outside 64 bits, which is not asked about
        return orjson.dumps(_with_large_numbers(value), default=_plain, option=option)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    if isinstance(value, set):
        return sorted(value)
    return b64encode(bytes(value)).decode()


def _with_large_numbers(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return orjson.Fragment(str(value))
    if isinstance(value, dict):
        return {key: _with_large_numbers(element) for key, element in value.items()}
    if isinstance(value, list):
        return [_with_large_numbers(element) for element in value]
    return [_with_large_numbers(element) for element in sorted(value)] if isinstance(value, set) else value
