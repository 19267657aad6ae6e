"""What an update expression makes of an item: computed as DynamoDB does it, to the last digit, or refused.

All values are read from the item as it was before; positions in lists are those that it had. Source: as `expressions`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from typing import Any

from dynalayer.capturing.expressions import (
    Add,
    Appended,
    Delete,
    Operand,
    Otherwise,
    Path,
    Remove,
    Set,
    Sum,
    Update,
    Value,
    told,
)
from dynalayer.errors import InvalidInputError
from dynalayer.values import MAX_DIGITS, Item, copy_item

__all__ = ["changed"]

_EXACT = Context(prec=MAX_DIGITS, traps=[Inexact, InvalidOperation, Overflow])
_LARGEST = Decimal("9.9999999999999999999999999999999999999E+125")
_SMALLEST = Decimal("1E-130")
_ABSENT = object()


def changed(item: Item, update: Update) -> Item:
    """The item after an update; the one given is left as it is.

    Args:
        item: As it is; of an item that is not there its key alone.
        update: What is done.

    Raises:
        InvalidInputError: It cannot be done to this item, or not without rounding; DynamoDB would refuse it too.
    """
    written = [_written(item, action) for action in update.actions]
    after = copy_item(item)
    removed: dict[Path, list[int]] = defaultdict(list)
    added: dict[Path, list[tuple[int, Any]]] = defaultdict(list)
    for path, value in written:
        if len(path) == 1:
            _put(after, path[0], value)
            continue
        holder, last = _holder(after, path), path[-1]
        if isinstance(last, str):
            _put(holder, last, value)
        elif value is _ABSENT:
            removed[path[:-1]].append(last)
        elif last < len(holder):
            holder[last] = value
        else:
            added[path[:-1]].append((last, value))
    # Lists at last, the deepest first: what is removed or comes at the end moves no position that another path names.
    for path in sorted({*removed, *added}, key=len, reverse=True):
        _resize(_at(after, path), removed[path], added[path])
    return after


def _put(holder: Any, name: str | int, value: Any) -> None:
    if value is _ABSENT:
        holder.pop(name, None)
    else:
        holder[name] = value


def _resize(listed: list[Any], removed: list[int], added: list[tuple[int, Any]]) -> None:
    size = len(listed)
    listed.extend(value for _, value in sorted(added, key=lambda each: each[0]))
    for place in sorted(removed, reverse=True):
        if place < size:
            del listed[place]


def _written(item: Item, action: Set | Remove | Add | Delete) -> tuple[Path, Any]:
    """Where something is written, and what; `_ABSENT` removes it."""
    if isinstance(action, Set):
        return action.path, _copy(_result(item, action.value))
    if isinstance(action, Remove):
        return action.path, _ABSENT
    before = _at(item, action.path)
    if isinstance(action, Add):
        return action.path, _added(before, action)
    return action.path, _deleted(before, action)


def _result(item: Item, value: Operand | Appended | Sum) -> Any:
    if isinstance(value, Appended):
        first, second = _operand(item, value.first), _operand(item, value.second)
        for each in (first, second):
            if type(each) is not list:
                raise InvalidInputError(f"list_append() is given {_kind(each)}; it takes two lists")
        return first + second
    if isinstance(value, Sum):
        first, second = _operand(item, value.first), _operand(item, value.second)
        for each in (first, second):
            if _kind(each) != "a number":
                raise InvalidInputError(f"{value.sign} is given {_kind(each)}; it takes two numbers")
        return _computed(_EXACT.add if value.sign == "+" else _EXACT.subtract, first, second)
    return _operand(item, value)


def _operand(item: Item, operand: Operand) -> Any:
    if isinstance(operand, Value):
        return operand.value
    if isinstance(operand, Otherwise):
        there = _at(item, operand.path)
        return _operand(item, operand.otherwise) if there is _ABSENT else there
    there = _at(item, operand)
    if there is _ABSENT:
        raise InvalidInputError(
            f"the UpdateExpression reads {told(operand)}, which the item does not have; if_not_exists({told(operand)}, "
            ":value) says what to take then"
        )
    return there


def _added(before: Any, action: Add) -> Any:
    kind = _kind(action.value)
    if kind not in ("a number", *_SETS):
        raise InvalidInputError(f"ADD {told(action.path)}: it takes a number or a set, not {kind}")
    if before is _ABSENT:
        return _copy(action.value)
    if _kind(before) != kind:
        raise InvalidInputError(f"ADD {told(action.path)}: {kind} cannot be added to {_kind(before)}")
    return _computed(_EXACT.add, before, action.value) if kind == "a number" else before | action.value


def _deleted(before: Any, action: Delete) -> Any:
    kind = _kind(action.value)
    if kind not in _SETS:
        raise InvalidInputError(f"DELETE {told(action.path)}: it takes a set, not {kind}")
    if before is _ABSENT:
        return _ABSENT
    if _kind(before) != kind:
        raise InvalidInputError(f"DELETE {told(action.path)}: {kind} cannot be deleted from {_kind(before)}")
    return (before - action.value) or _ABSENT  # DynamoDB has no empty sets


def _computed(operation: Callable[[Any, Any], Decimal], first: Any, second: Any) -> Decimal:
    try:
        result = operation(Decimal(first), Decimal(second))
    except DecimalException:
        raise InvalidInputError(
            f"{first} and {second} come to a number of more than {MAX_DIGITS} digits, or out of DynamoDB's range"
        ) from None
    if result and not _SMALLEST <= abs(result) <= _LARGEST:
        raise InvalidInputError(f"{first} and {second} come to a number out of DynamoDB's range, 1E-130 to 9.9E+125")
    return result


# Places


def _at(item: Any, path: Path) -> Any:
    """What stands at a path; `_ABSENT` where nothing does."""
    for step in path:
        if isinstance(step, str):
            item = item.get(step, _ABSENT) if type(item) is dict else _ABSENT
        else:
            item = item[step] if type(item) is list and step < len(item) else _ABSENT
    return item


def _holder(item: Item, path: Path) -> Any:
    """The map or list that a path's last step is in."""
    holder = _at(item, path[:-1])
    if type(holder) is not (dict if isinstance(path[-1], str) else list):
        wanted = "a map" if isinstance(path[-1], str) else "a list"
        raise InvalidInputError(
            f"the UpdateExpression changes {told(path)}, and {told(path[:-1])} is {_kind(holder)}, not {wanted}"
        )
    return holder


# Kinds

_SETS = ("a set of text", "a set of numbers", "a set of bytes")
_KINDS = {str: "text", bytes: "bytes", bool: "a truth value", type(None): "null", list: "a list", dict: "a map"}


def _kind(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    if type(value) is set:
        element = next(iter(value), None)
        return _SETS[0] if type(element) is str else _SETS[2] if type(element) is bytes else _SETS[1]
    return _KINDS.get(type(value), "a number")


def _copy(value: Any) -> Any:
    return copy_item({"value": value})["value"]
