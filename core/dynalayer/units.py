"""What requests to DynamoDB take: sizes, and read and write units. Arithmetic alone; nothing is asked of anyone.

The rules are those of the Amazon DynamoDB Developer Guide; each docstring names the page. Where the guide is silent or
says "approximately", the rule is the one that fits what was measured on the service and published:
github.com/paritysuite/dynamodb-conformance (issues 124 and 149, `src/item-size.ts`) and github.com/nubo-db/dynoxide
(pull requests 177 and 188).

All sizes are in bytes; a KB is 1,024 of them. The 100 bytes that DynamoDB adds to each item and to each index entry
count for what is stored, not for requests (page "DynamoDB item sizes and formats"), so that they stand nowhere here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from dynalayer.errors import InvalidInputError
from dynalayer.quoting import quoted

__all__ = ["get_units", "index_writes", "item_size", "plain_size", "read_units", "write_units"]

_READ_STEP = 4096
_WRITE_STEP = 1024
_CONTAINER = 3  # bytes of a list or map, whatever it holds
_ELEMENT = 1  # bytes of each element of a list or map, on top of what it holds
_LONGEST_NUMBER = 21


# Sizes


def item_size(item: Mapping[str, Any]) -> int:
    """Bytes of an item, or of an index entry, as DynamoDB counts them for units and for the limit of 400 KB.

    Source: the page "DynamoDB item sizes and formats". It says nothing of sets; their size is the sum of their
    elements', as DynamoDB Local counts it too. It gives the size of numbers "approximately"; see `_number_size`.

    Args:
        item: Attribute names to values as boto3's client takes and gives them: `{"pk": {"S": "a"}, "n": {"N": "1"}}`.

    Raises:
        InvalidInputError: A value is none that DynamoDB knows.
    """
    return sum(_text_size(name) + _value_size(value) for name, value in item.items())


def plain_size(item: Mapping[str, Any]) -> int:
    """Bytes of a plain item once boto3's resource has stored it: what a write to a table of one's own is counted by.

    The same rules as `item_size`. A float, which boto3 refuses, counts as the shortest decimal that says it. A set
    counts as its elements, also an empty one, which DynamoDB does not take.

    Args:
        item: Attribute names to None, bool, int, float, Decimal, str, bytes, and lists, tuples, sets and mappings of
            those.

    Raises:
        InvalidInputError: A value is of another type, or a number that is not finite.
    """
    return sum(_text_size(name) + _plain_value_size(value) for name, value in item.items())


def _text_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _flag_size(_: object) -> int:
    return 1


def _number_size(number: Decimal) -> int:
    """Bytes of a number.

    The guide says about a byte for two significant digits, and one more. What is exact: the digits are taken in pairs
    that are counted from the decimal point, and pairs of zeros at both ends are left out; a byte for each pair, one
    more, and one more below zero, yet never more than 21 in all. So `12` takes 2 bytes, and `1.2`, of two pairs, 3.
    This gives each of the 23 numbers that `src/item-size.ts` has measured on the service (module docstring).
    """
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise InvalidInputError(f"{number} is no number that DynamoDB can keep")
    if not number:
        return 1
    text = "".join(map(str, digits))
    last = exponent + len(text) - len(text.rstrip("0"))
    pairs = number.adjusted() // 2 - last // 2 + 1
    return min(1 + pairs + sign, _LONGEST_NUMBER)


def _number_text_size(text: str) -> int:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise InvalidInputError(f"{text!r:.50} is no number") from None
    return _number_size(number)


def _list_size(sizes: Iterable[int]) -> int:
    return _CONTAINER + sum(size + _ELEMENT for size in sizes)


_SIZES: dict[str, Callable[[Any], int]] = {
    "S": _text_size,
    "N": _number_text_size,
    "B": len,
    "BOOL": _flag_size,
    "NULL": _flag_size,
    "SS": lambda texts: sum(map(_text_size, texts)),
    "NS": lambda numbers: sum(map(_number_text_size, numbers)),
    "BS": lambda chunks: sum(map(len, chunks)),
    "L": lambda values: _list_size(map(_value_size, values)),
    "M": lambda values: _list_size(_text_size(name) + _value_size(value) for name, value in values.items()),
}


def _value_size(value: Any) -> int:
    kind = next(iter(value)) if isinstance(value, Mapping) and len(value) == 1 else None
    if kind not in _SIZES:
        raise InvalidInputError(f"{quoted(value)} is no attribute value: its one key is one of {', '.join(_SIZES)}")
    return _SIZES[kind](value[kind])


def _plain_value_size(value: object) -> int:
    match value:
        case None | bool():
            return _flag_size(value)
        case str():
            return _text_size(value)
        case int() | Decimal():
            return _number_size(Decimal(value))
        case float():
            return _number_size(Decimal(repr(value)))
        case bytes() | bytearray():
            return len(value)
        case list() | tuple():
            return _list_size(map(_plain_value_size, value))
        case set() | frozenset():
            return sum(map(_plain_value_size, value))
        case Mapping():
            return _list_size(_text_size(name) + _plain_value_size(inner) for name, inner in value.items())
    raise InvalidInputError(f"DynamoDB keeps no value of type {type(value).__qualname__}")


# Units


def read_units(sizes_sum: int, *, consistent: bool) -> float:
    """Read units of one page of a Query or Scan: sizes are added up first, then rounded up to 4 KB.

    Sources: the page "DynamoDB read and write operations"; that a query which finds nothing costs the minimum, 1 or
    0.5: API Reference, Query.

    Args:
        sizes_sum: Sizes of all items, or index entries, that the key condition let through, added up; what a filter or
            a projection then leaves out is read all the same.
        consistent: Whether it reads strongly consistently; eventually consistent reads, the only ones that a global
            secondary index has, cost half.
    """
    steps = max(1, _steps(sizes_sum, _READ_STEP))
    return steps * (1.0 if consistent else 0.5)


def get_units(*sizes: int, consistent: bool) -> float:
    """Read units of a GetItem or BatchGetItem: each item is rounded up to 4 KB for itself.

    Source: the page "DynamoDB read and write operations".

    Args:
        sizes: The size of each item that was asked for; 0 for one that is not there, which costs the minimum, 1 or 0.5.
        consistent: Whether it reads strongly consistently; eventually consistent reads cost half.
    """
    return sum((read_units(size, consistent=consistent) for size in sizes), 0.0)


def write_units(size: int, *, before: int = 0, transactional: bool = False) -> int:
    """Write units that a put, update or delete of one item costs in its table, indexes apart.

    It is counted by the larger of the item before and after, rounded up to 1 KB, at least 1, and double in a
    transaction. A write whose condition fails is counted by the item that is there: give that as `before`, and 0 as
    `size`. A condition check in a transaction is counted as a write of the item that it looks at. What a cancelled
    transaction costs is documented nowhere and told by no answer; count it like one that goes through.

    Sources: the pages "DynamoDB read and write operations", "Working with items and attributes" (failed conditions) and
    "Amazon DynamoDB Transactions: How it works". An earlier version of the second page counted a failed condition by
    the larger of the item that is there and the one that was to be written.

    Args:
        size: The whole item's size after the write; 0 for a delete.
        before: Its size before; 0 where it was not there.
        transactional: Whether it is part of a TransactWriteItems.
    """
    units = max(1, _steps(max(size, before), _WRITE_STEP))
    return units * 2 if transactional else units


def index_writes(
    old_key: object, new_key: object, *, old_size: int = 0, new_size: int = 0, changed: bool = False
) -> int:
    """Write units that a write to a table costs in one of its secondary indexes.

    An entry that comes or goes is one write, one that moves under another key is two, a delete and a put; an entry that
    stays as it is costs nothing. Each of those writes is rounded up to 1 KB for itself.

    In a transaction it is the same: only the table's own part is doubled. That is certain as far as measuring goes (on
    the service in eu-west-2, published in August 2026, see the module docstring), and documented nowhere: the guide's
    "two underlying writes of every item" does not speak of indexes.

    Source: the page "Using Global Secondary Indexes in DynamoDB", write capacity units. The guide gives the number of
    writes; that an entry which changes in place is rounded by the larger of before and after was measured.

    Args:
        old_key: The index's key of the item before: the values of its partition and sort key, in anything that can be
            compared; None where the item was not in the index.
        new_key: Likewise after.
        old_size: The entry's size before: `item_size` of what is projected, the keys of the table and of the index
            among it. May be left out where entries are known to be no larger than 1 KB.
        new_size: Likewise after.
        changed: Whether a projected attribute that is part of no key changes. With KEYS_ONLY there is none.
    """
    delete = 0 if old_key is None else write_units(old_size)
    put = 0 if new_key is None else write_units(new_size)
    if old_key != new_key:
        return delete + put
    return max(delete, put) if changed else 0


def _steps(size: int, step: int) -> int:
    return -(-size // step)
