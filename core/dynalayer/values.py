"""The value domain: what an item may hold, how it is written in JSON, and what its identifier is.

Plain values stay plain in JSON, so that others can read them. What JSON has no word for stands in an object with
one key that begins with `$`:

=============  =========================================  ==========================================
value          in JSON                                    note
=============  =========================================  ==========================================
Decimal        `{"$decimal": "1.50"}`                     its text, trailing zeros included
int            `123`, `{"$int": "99999999999999999999"}`  tagged where 64 bits do not hold it
bytes          `{"$bytes": "aGk="}`                       base64
set            `{"$set": [1, 2]}`                         of text, of numbers or of bytes; sorted
dict           `{"$dict": {"$x": 1}}`                     only where it could be taken for one of these
=============  =========================================  ==========================================
"""

from __future__ import annotations

import binascii
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from dynalayer.errors import InvalidValueError
from dynalayer.quoting import quoted

__all__ = [
    "MAX_DEPTH",
    "MAX_DIGITS",
    "UNDECODABLE",
    "Item",
    "copy_item",
    "identifier_text",
    "item_decoder",
    "item_from_json",
    "item_to_json",
    "join_path",
]

Item = dict[str, Any]
"""One item: attribute names to values. `Any`, because the domain is recursive and checked at run time."""

MAX_DIGITS = 38
"""Decimal digits that a number may have (DynamoDB's limit)."""

MAX_DEPTH = 32
"""Containers that may stand in one another inside an item (DynamoDB's limit)."""

_MAX_INT = 10**MAX_DIGITS
_JSON_INTS = range(-(2**63), 2**64)  # what orjson reads back as an int
_MIN_EXPONENT, _MAX_EXPONENT = -130, 125  # DynamoDB's range of magnitudes
_CONTAINERS = frozenset({dict, list, set})
_ATOMS = frozenset({str, int, float, bool, type(None), Decimal, bytes})
_ADVICE = {
    "tuple": "use a list",
    "frozenset": "use a set",
    "bytearray": "use bytes",
    "memoryview": "use bytes",
    "datetime": "use text, as in value.isoformat()",
    "date": "use text, as in value.isoformat()",
    "UUID": "use text, as in str(value)",
}

UNDECODABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
"""What taking apart text that nobody checked can raise; callers turn it into an error that names the text."""


class _RefusedError(Exception):
    """A value that cannot be kept; collects its path on the way out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str | int] = []


def join_path(steps: list[str | int]) -> str:
    """A path as people write it: `address.lines[2]`."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if step.isidentifier() else f"[{step!r}]"
            text += f".{name}" if text and name == step else name
    return text


def item_to_json(item: object) -> dict[str, Any]:
    """An item as what JSON can say; every value is checked.

    Args:
        item: The item. It is read, never changed; what is returned shares its plain parts.

    Raises:
        InvalidValueError: Something that could not come back as it is; names its path.
    """
    try:
        return _pairs_to_json(item, 0)
    except _RefusedError as refusal:
        path = join_path(refusal.path[::-1])
        where = f"attribute {path}: " if path else ""
        raise InvalidValueError(f"{where}{refusal.reason}", path=path) from None


def _pairs_to_json(mapping: object, depth: int) -> dict[str, Any]:
    """The pairs of a dict; adds each key to the path of what fails under it."""
    if type(mapping) is not dict:
        raise _RefusedError(f"an item is a dict of attributes, not {type(mapping).__name__}")
    encoded = {}
    for key, value in mapping.items():
        if type(key) is not str:
            raise _RefusedError(f"an attribute's name is text, not {type(key).__name__} ({quoted(key, 50)})")
        try:
            if not key.isascii():
                _check_text(key)
            # Most values are ASCII text: that they cost no call halves the time of a whole item.
            encoded[key] = value if type(value) is str and value.isascii() else _to_json(value, depth + 1)
        except _RefusedError as refusal:
            refusal.path.append(key)
            raise
    return encoded


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _RefusedError("holds a lone surrogate, which is no Unicode text") from None


def _to_json(value: object, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        if not value.isascii():  # type: ignore[attr-defined] # `kind` says so; isinstance would let subclasses in
            _check_text(value)  # type: ignore[arg-type] # as above
        return value
    if kind is bool or value is None:
        return value
    if kind is int:
        return _int_to_json(value)  # type: ignore[arg-type] # as above
    if kind is float:
        return _check_float(value)  # type: ignore[arg-type] # as above
    if kind in _CONTAINERS:
        return _container_to_json(value, kind, depth)
    if kind is Decimal:
        return {"$decimal": _check_decimal(value)}  # type: ignore[arg-type] # as above
    if kind is bytes:
        return {"$bytes": b64encode(value).decode()}  # type: ignore[arg-type] # as above
    if _is_binary(kind):
        return {"$bytes": b64encode(value.value).decode()}  # type: ignore[attr-defined] # boto3 is no dependency
    raise _RefusedError(_unkept(value))


def _is_binary(kind: type) -> bool:
    """Whether this is the wrapper in which boto3 gives bytes; it equals the plain bytes, which are what is kept."""
    return kind.__name__ == "Binary" and kind.__module__ == "boto3.dynamodb.types"


def _container_to_json(value: Any, kind: type, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _RefusedError(f"containers stand more than {MAX_DEPTH} deep in one another")
    if kind is set:
        return {"$set": _set_to_json(value)}
    if kind is dict:
        mapped = _pairs_to_json(value, depth)
        ambiguous = len(mapped) == 1 and next(iter(mapped)).startswith("$")
        return {"$dict": mapped} if ambiguous else mapped
    listed = []
    for position, element in enumerate(value):
        try:
            listed.append(_to_json(element, depth + 1))
        except _RefusedError as refusal:
            refusal.path.append(position)
            raise
    return listed


def _int_to_json(value: int) -> Any:
    if value in _JSON_INTS:
        return value
    if -_MAX_INT < value < _MAX_INT:
        return {"$int": str(value)}
    raise _RefusedError(f"a whole number of more than {MAX_DIGITS} digits")


def _check_float(value: float) -> float:
    if not math.isfinite(value):
        raise _RefusedError(f"{value} is no number that can be kept")
    return value


def _check_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise _RefusedError(f"Decimal {value} is no number that can be kept")
    _, digits, _ = value.as_tuple()
    if len(digits) > MAX_DIGITS:
        raise _RefusedError(f"a Decimal of more than {MAX_DIGITS} digits")
    if not _MIN_EXPONENT <= value.adjusted() <= _MAX_EXPONENT:
        raise _RefusedError(f"a Decimal outside 1E{_MIN_EXPONENT} to 9.9E+{_MAX_EXPONENT}")
    return str(value)


_SET_KINDS = {str: "text", bytes: "bytes", int: "numbers", float: "numbers", Decimal: "numbers"}


def _set_to_json(value: set[Any]) -> list[Any]:
    value = _copy(value)
    kinds = {_SET_KINDS.get(type(element), type(element).__name__) for element in value}
    if len(kinds) > 1 or not kinds <= {"text", "bytes", "numbers"}:
        raise _RefusedError(f"a set is of text, of numbers or of bytes; this one holds {', '.join(sorted(kinds))}")
    return sorted((_to_json(element, MAX_DEPTH) for element in value), key=orjson.dumps)


def _unkept(value: object) -> str:
    kind = type(value)
    for base in kind.__mro__[1:]:
        if base in {str, int, float, bytes, dict, list, set, Decimal}:
            return (
                f"{kind.__qualname__} is a subclass of {base.__name__} and would come back as {base.__name__}; "
                f"convert it first"
            )
    advice = _ADVICE.get(kind.__name__)
    return f"a value of type {kind.__qualname__} cannot be kept" + (f"; {advice}" if advice else "")


def item_from_json(data: Any) -> Item:
    """What `item_to_json` wrote, as the item it was.

    Args:
        data: Parsed JSON. It is taken over: containers are changed in place.

    Raises:
        ValueError: It is not an item; `UNDECODABLE` lists what else odd input can raise.
    """
    if type(data) is not dict:
        raise ValueError(f"an item is a JSON object, not {type(data).__name__}")
    for key, value in data.items():
        kind = type(value)
        if kind is dict or kind is list:
            data[key] = _from_json(value, 1)
    return data


def item_decoder(body: bytes) -> Callable[[Any], Item]:
    """What makes items of the parsed JSON of a body that orjson wrote and whose bytes are known to be whole.

    Where no object begins with a tag there is nothing to decode: the bytes `{"$` stand nowhere else, since text has
    its quotes escaped.
    """
    return item_from_json if b'{"$' in body else _plain_item


def _plain_item(data: Any) -> Item:
    if type(data) is not dict:
        raise ValueError(f"an item is a JSON object, not {type(data).__name__}")
    return data


def _from_json(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is not dict and kind is not list:
        return value
    if kind is dict and len(value) == 1:
        (key,) = value
        if key.startswith("$"):
            return _tagged_from_json(key, value[key], depth)
    _check_depth(depth)
    if kind is dict:
        for key, element in value.items():
            value[key] = _from_json(element, depth + 1)
        return value
    return [_from_json(element, depth + 1) for element in value]


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"containers stand more than {MAX_DEPTH} deep in one another")


def _tagged_from_json(tag: str, value: Any, depth: int) -> Any:
    try:
        return _DECODERS[tag](value, depth)
    except KeyError:
        raise ValueError(f"unknown tag {tag!r}; an object with this one key is written {{'$dict': …}}") from None
    except InvalidOperation:
        raise ValueError(f"{tag}: {value!r:.50} is no number") from None
    except (_RefusedError, binascii.Error) as error:
        raise ValueError(f"{tag}: {error}") from None


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"a tagged value is text, not {type(value).__name__}")
    return value


def _decimal(value: Any, _depth: int) -> Decimal:
    decoded = Decimal(_text(value))
    _check_decimal(decoded)
    return decoded


def _int(value: Any, _depth: int) -> int:
    decoded = int(value) if len(_text(value)) <= MAX_DIGITS + 1 else _MAX_INT
    if not -_MAX_INT < decoded < _MAX_INT:
        raise ValueError(f"a whole number of more than {MAX_DIGITS} digits")
    return decoded


def _bytes(value: Any, _depth: int) -> bytes:
    return b64decode(_text(value), validate=True)


def _set(value: Any, depth: int) -> set[Any]:
    if type(value) is not list:
        raise ValueError(f"$set holds a list, not {type(value).__name__}")
    _check_depth(depth)
    elements = [_from_json(element, depth + 1) for element in value]
    if any(type(element) in _CONTAINERS for element in elements):
        raise ValueError("$set holds a container")
    decoded = set(elements)
    if len(decoded) != len(elements):
        raise ValueError("$set holds an element twice")
    _set_to_json(decoded)
    return decoded


def _dict(value: Any, depth: int) -> dict[str, Any]:
    if type(value) is not dict:
        raise ValueError(f"$dict holds an object, not {type(value).__name__}")
    _check_depth(depth)
    return {key: _from_json(element, depth + 1) for key, element in value.items()}


_DECODERS: Mapping[str, Any] = {
    "$decimal": _decimal,
    "$int": _int,
    "$bytes": _bytes,
    "$set": _set,
    "$dict": _dict,
}


def copy_item(item: Item) -> Item:
    """A copy that shares nothing mutable with the item; what boto3 wraps comes out as the bytes that it is."""
    copied = item.copy()
    for key, value in item.items():
        if type(value) not in _ATOMS:
            copied[key] = _copy(value)
    return copied


def _copy(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return copy_item(value)
    if kind is list:
        return [_copy(element) for element in value]
    if kind is set:
        return {_copy(element) for element in value}
    return bytes(value.value) if _is_binary(kind) else value


def identifier_text(value: object) -> str | None:
    """The text that a value is as an identifier: text itself, or a whole number's digits; None for all else.

    A bool is no number here, and a whole Decimal (as boto3 gives numbers) counts as its digits.
    """
    if isinstance(value, str):
        return str.__str__(value)  # of an enumeration's member the text, not its name
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value)) if -_MAX_INT < value < _MAX_INT else None
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < MAX_DIGITS:
        whole = int(value)
        return str(whole) if whole == value else None
    return None
