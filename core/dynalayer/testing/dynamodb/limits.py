"""The service's limits, which its emulators know in part: what is over one is refused as the service refuses it.

What cannot be judged from a request is left to the endpoint: how large an UpdateItem makes its item, and PartiQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dynalayer.testing.dynamodb.keys import IndexKeys, TableKeys, frozen, key_conditions
from dynalayer.testing.dynamodb.messages import Answer, Item

__all__ = [
    "MAX_ACTIONS",
    "MAX_BATCH_BYTES",
    "MAX_EXPRESSION_BYTES",
    "MAX_GETS",
    "MAX_HASH_BYTES",
    "MAX_ITEM_BYTES",
    "MAX_PAGE_BYTES",
    "MAX_RANGE_BYTES",
    "MAX_TRANSACTION_BYTES",
    "MAX_WRITES",
    "Refused",
    "check",
    "cut_batch",
    "item_size",
    "page_length",
    "value_size",
]

MAX_ITEM_BYTES = 400 * 1024
"""What an item may measure, names included."""
MAX_PAGE_BYTES = 1024 * 1024
"""What a page of Query or Scan may measure."""
MAX_BATCH_BYTES = 16 * 1024 * 1024
"""What a BatchWriteItem may be given, and what a BatchGetItem answers."""
MAX_TRANSACTION_BYTES = 4 * 1024 * 1024
"""What the items of a transaction may measure."""
MAX_ACTIONS = 100
"""Actions in a transaction."""
MAX_WRITES = 25
"""Writes in a BatchWriteItem."""
MAX_GETS = 100
"""Keys in a BatchGetItem."""
MAX_HASH_BYTES = 2048
"""What a partition key's value may measure."""
MAX_RANGE_BYTES = 1024
"""What a sort key's value may measure."""
MAX_EXPRESSION_BYTES = 4096
"""How long an expression may be, in bytes."""
MAX_VALUES_BYTES = 2 * 1024 * 1024
"""What an expression's names and values may measure."""
MAX_DEPTH = 32
"""How deep lists and maps may be nested."""

KeysOf = Callable[[object], TableKeys | None]
"""Tells a table's keys; None for a table that is not there."""

_EXPRESSIONS = (
    "ConditionExpression",
    "FilterExpression",
    "KeyConditionExpression",
    "ProjectionExpression",
    "UpdateExpression",
)
_INVALID = "One or more parameter values were invalid: "
_EMPTY = "One or more parameter values are not valid. "


class Refused(Exception):  # noqa: N818 -- it is an answer, and no error of the proxy
    """The service would refuse this.

    Args:
        message: As the service says it, with the limit.
        kind: The error's name.
        status: HTTP's.
    """

    def __init__(
        self, message: str, *, kind: str = "com.amazon.coral.validate#ValidationException", status: int = 400
    ) -> None:
        super().__init__(message)
        self.answer = Answer.error(kind, message, status)


def item_size(item: Item) -> int:
    """What an item measures by the service's rules, in bytes, names included.

    Not by `dynalayer.units`, on purpose: a checker that counts as the log does would share the log's mistakes.

    Raises:
        Refused: It is nested too deep.
    """
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(value: Mapping[str, Any], depth: int = 0) -> int:
    """What an attribute's value measures, in bytes.

    Text and binaries count what they hold; numbers a byte for two digits, one more, and one for the sign; lists and
    maps 3 bytes and one for each element.

    Raises:
        Refused: It is nested too deep.
    """
    if depth > MAX_DEPTH:
        raise Refused(f"Nesting Levels have exceeded supported limits (at most {MAX_DEPTH})")
    ((kind, content),) = value.items()
    if kind in _SCALARS:
        return _SCALARS[kind](content)
    if kind in _SETS:
        return sum(map(_SETS[kind], content))
    if kind == "L":
        return 3 + sum(1 + value_size(element, depth + 1) for element in content)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + value_size(part, depth + 1) for name, part in content.items())
    raise ValueError(kind)


def _text_size(content: str) -> int:
    return len(content.encode())


def _binary_size(content: str) -> int:
    return len(content) * 3 // 4 - content[-2:].count("=")


def _number_size(content: str) -> int:
    mantissa = content.lower().partition("e")[0]
    digits = mantissa.lstrip("+-").replace(".", "").strip("0")
    return (len(digits) + 1) // 2 + 1 + mantissa.startswith("-")


def _flag_size(_: object) -> int:
    return 1


_SCALARS: dict[str, Callable[[Any], int]] = {
    "S": _text_size,
    "N": _number_size,
    "B": _binary_size,
    "BOOL": _flag_size,
    "NULL": _flag_size,
}
_SETS = {kind + "S": _SCALARS[kind] for kind in ("S", "N", "B")}


def check(operation: str, body: Mapping[str, Any], keys_of: KeysOf) -> None:
    """Refuse what the service would refuse for its size or number.

    Args:
        operation: Such as `PutItem`.
        body: The request's.
        keys_of: Tells a table's keys.

    Raises:
        Refused: It is over a limit.
    """
    checker = _CHECKERS.get(operation)
    if checker is None:
        return
    try:
        checker(body, keys_of)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return  # it is malformed: the endpoint says how


def page_length(items: list[Item]) -> int:
    """How many of these items fit in one page; at least one, if there is one."""
    size = 0
    for length, item in enumerate(items):
        size += item_size(item)
        if size > MAX_PAGE_BYTES and length > 0:
            return length
    return len(items)


def cut_batch(answer: dict[str, Any], asked: Mapping[str, Any], keys_of: KeysOf) -> bool:
    """Make the answer of a BatchGetItem as large as it may be: the keys of the rest are unprocessed.

    Args:
        answer: Is changed.
        asked: The request's `RequestItems`.
        keys_of: Tells a table's keys.

    Returns:
        Whether anything was cut. Items without their keys are left: what was asked for cannot be told from them.
    """
    room, cut = MAX_BATCH_BYTES, False
    for table, items in answer["Responses"].items():
        given: list[Item] = []
        for item in items:
            room -= item_size(item)
            keys = keys_of(table)
            if room >= 0 or keys is None or not all(name in item for name in keys.names):
                given.append(item)
                continue
            cut = True
            rest = answer.setdefault("UnprocessedKeys", {}).setdefault(table, {**asked[table], "Keys": []})
            rest["Keys"].append(keys.key_of(item))
        answer["Responses"][table] = given
    return cut


def _check_put(body: Mapping[str, Any], keys_of: KeysOf) -> None:
    _check_expressions(body)
    _check_item(body["Item"], keys_of(body["TableName"]))


def _check_keyed(body: Mapping[str, Any], keys_of: KeysOf) -> None:
    _check_expressions(body)
    _check_key(body["Key"], keys_of(body["TableName"]))


def _check_update(body: Mapping[str, Any], keys_of: KeysOf) -> None:
    _check_keyed(body, keys_of)
    keys = keys_of(body["TableName"])
    for name, value in _assignments(body):
        for index_name, index in keys.indexes.items() if keys else ():
            _check_index_key(index_name, index, {name: value})


def _assignments(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    # What is set to a value as it stands: all that can be known without the item.
    names, values = body.get("ExpressionAttributeNames") or {}, body.get("ExpressionAttributeValues") or {}
    words = body.get("UpdateExpression", "").replace("=", " = ").replace(",", " , ").split()
    for name, sign, value, following in zip(words, words[1:], words[2:], [*words[3:], ","], strict=False):
        plain = following.upper() in (",", "SET", "REMOVE", "ADD", "DELETE")
        if sign == "=" and value in values and plain:
            yield names.get(name, name), values[value]


def _check_read(body: Mapping[str, Any], keys_of: KeysOf) -> None:
    _check_expressions(body)
    keys = keys_of(body["TableName"])
    index = keys.indexes.get(body.get("IndexName", "")) if keys else None
    if index is not None and index.lagging and body.get("ConsistentRead"):
        raise Refused("Consistent reads are not supported on global secondary indexes")
    if keys is not None and body.get("ExclusiveStartKey"):
        _check_key(body["ExclusiveStartKey"], keys)
    for condition in key_conditions(body) or ():
        if 0 in map(value_size, condition.values):
            raise _empty_key(condition.name)


def _check_batch_get(body: Mapping[str, Any], keys_of: KeysOf) -> None:
    asked = body["RequestItems"]
    number = sum(len(wanted["Keys"]) for wanted in asked.values())
    if number > MAX_GETS:
        raise Refused(f"Too many items requested for the BatchGetItem call: {number}, at most {MAX_GETS}")
    for table, wanted in asked.items():
        _check_expressions(wanted)
        for key in wanted["Keys"]:
            _check_key(key, keys_of(table))
        if len({frozen(key) for key in wanted["Keys"]}) < len(wanted["Keys"]):
            raise Refused("Provided list of item keys contains duplicates")


def _check_batch_write(body: Mapping[str, Any], keys_of: KeysOf) -> None:
    asked = body["RequestItems"]
    number = sum(map(len, asked.values()))
    if number > MAX_WRITES:
        raise Refused(f"Too many items requested for the BatchWriteItem call: {number}, at most {MAX_WRITES}")
    size = 0
    for table, writes in asked.items():
        keys = keys_of(table)
        seen: set[object] = set()
        for write in writes:
            if "PutRequest" in write:
                item = write["PutRequest"]["Item"]
                _check_item(item, keys)
                key = keys.key_of(item) if keys else item
            else:
                item = key = write["DeleteRequest"]["Key"]
                _check_key(key, keys)
            size += item_size(item)
            seen.add(frozen(key) if keys else id(key))
        if len(seen) < len(writes):
            raise Refused("Provided list of item keys contains duplicates")
    if size > MAX_BATCH_BYTES:
        raise Refused(f"Batch size has exceeded the maximum allowed size: {size} bytes, at most {MAX_BATCH_BYTES}")


_ACTIONS: dict[str, Callable[[Mapping[str, Any], KeysOf], None]] = {
    "Put": _check_put,
    "Update": _check_update,
    "Delete": _check_keyed,
    "ConditionCheck": _check_keyed,
    "Get": _check_keyed,
}


def _check_transaction(body: Mapping[str, Any], keys_of: KeysOf) -> None:
    actions = [(kind, action) for part in body["TransactItems"] for kind, action in part.items()]
    if len(actions) > MAX_ACTIONS:
        raise Refused(
            "1 validation error detected: Value at 'transactItems' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_ACTIONS}"
        )
    size = 0
    seen: set[object] = set()
    for kind, action in actions:
        _ACTIONS[kind](action, keys_of)
        values = (action.get("ExpressionAttributeValues") or {}).values()
        size += item_size(action.get("Item") or action["Key"]) + sum(map(value_size, values))
        keys = keys_of(action["TableName"])
        seen.add(
            (action["TableName"], frozen(action.get("Key") or keys.key_of(action["Item"])) if keys else id(action))
        )
    if len(seen) < len(actions):
        raise Refused("Transaction request cannot include multiple operations on one item")
    if size > MAX_TRANSACTION_BYTES:
        raise Refused(
            f"Transaction size has exceeded the maximum allowed size: {size} bytes, at most {MAX_TRANSACTION_BYTES}"
        )


_CHECKERS: dict[str, Callable[[Mapping[str, Any], KeysOf], None]] = {
    "BatchGetItem": _check_batch_get,
    "BatchWriteItem": _check_batch_write,
    "DeleteItem": _check_keyed,
    "GetItem": _check_keyed,
    "PutItem": _check_put,
    "Query": _check_read,
    "Scan": _check_read,
    "TransactGetItems": _check_transaction,
    "TransactWriteItems": _check_transaction,
    "UpdateItem": _check_update,
}


def _check_expressions(body: Mapping[str, Any]) -> None:
    for name in _EXPRESSIONS:
        size = len(body.get(name, "").encode())
        if size > MAX_EXPRESSION_BYTES:
            raise Refused(
                f"Invalid {name}: Expression size has exceeded the maximum allowed size; "
                f"expression size: {size}, at most {MAX_EXPRESSION_BYTES}"
            )
    names, values = body.get("ExpressionAttributeNames") or {}, body.get("ExpressionAttributeValues") or {}
    size = sum(len(part.encode()) for pair in names.items() for part in pair) + item_size(values)
    if size > MAX_VALUES_BYTES:
        raise Refused(
            f"Expression attribute names and values have exceeded the maximum allowed size: {size} bytes, "
            f"at most {MAX_VALUES_BYTES}"
        )


def _check_item(item: Item, keys: TableKeys | None) -> None:
    size = item_size(item)
    if size > MAX_ITEM_BYTES:
        raise Refused(f"Item size has exceeded the maximum allowed size: {size} bytes, at most {MAX_ITEM_BYTES}")
    if keys is not None:
        _check_key(keys.key_of(item), keys)
        for name, index in keys.indexes.items():
            _check_index_key(name, index, item)


def _check_key(key: Item, keys: TableKeys | None) -> None:
    if keys is None:
        return
    for name in keys.names:
        size = value_size(key[name])
        if size == 0:
            raise _empty_key(name)
        _check_key_size(size, is_hash=name == keys.hash)


def _empty_key(name: str) -> Refused:
    return Refused(f"{_EMPTY}The AttributeValue for a key attribute cannot contain an empty string value. Key: {name}")


def _check_index_key(index_name: str, index: IndexKeys, item: Item) -> None:
    for name in index.names:
        if name not in item:
            continue
        size = value_size(item[name])
        if size == 0:
            raise Refused(
                f"{_EMPTY}A value specified for a secondary index key is not supported. The AttributeValue for a key "
                f"attribute cannot contain an empty string value. IndexName: {index_name}, IndexKey: {name}"
            )
        _check_key_size(size, is_hash=name == index.hash)


def _check_key_size(size: int, *, is_hash: bool) -> None:
    if is_hash and size > MAX_HASH_BYTES:
        raise Refused(
            f"{_INVALID}Size of hashkey has exceeded the maximum size limit of {MAX_HASH_BYTES} bytes: {size}"
        )
    if not is_hash and size > MAX_RANGE_BYTES:
        raise Refused(
            f"{_INVALID}Aggregated size of all range keys has exceeded the size limit of {MAX_RANGE_BYTES} bytes: "
            f"{size}"
        )
