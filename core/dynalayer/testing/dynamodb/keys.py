"""The keys of tables and indexes, their order, and the conditions on them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from dynalayer.testing.dynamodb.messages import Item

__all__ = ["Condition", "IndexKeys", "TableKeys", "comparable", "frozen", "key_conditions", "projected_names"]

_TERM = re.compile(
    r"(begins_with)\s*\(\s*(#?\w+)\s*,\s*(:\w+)\s*\)"
    r"|(#?\w+)\s+(BETWEEN)\s+(:\w+)\s+AND\s+(:\w+)"
    r"|(#?\w+)\s*(=|<=|<|>=|>)\s*(:\w+)",
    re.IGNORECASE,
)
_AROUND = re.compile(r"[\s()]*(AND[\s()]*)?", re.IGNORECASE)  # what two terms leave


@dataclass(frozen=True, slots=True)
class IndexKeys:
    """The keys of an index.

    Attributes:
        hash: The partition key's name.
        range: The sort key's name, or None.
        lagging: Whether it follows its table after a while, as global indexes do.
        projected: The attributes that its entries have; None for all.
    """

    hash: str
    range: str | None
    lagging: bool
    projected: frozenset[str] | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its keys."""
        return (self.hash,) if self.range is None else (self.hash, self.range)


@dataclass(frozen=True, slots=True)
class TableKeys:
    """The keys of a table and of its indexes.

    Attributes:
        hash: The partition key's name.
        range: The sort key's name, or None.
        indexes: By name.
    """

    hash: str
    range: str | None
    indexes: Mapping[str, IndexKeys] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its keys."""
        return (self.hash,) if self.range is None else (self.hash, self.range)

    @property
    def lagging(self) -> bool:
        """Whether any of its indexes follows it after a while."""
        return any(index.lagging for index in self.indexes.values())

    def key_of(self, item: Item) -> Item:
        """The item's key.

        Raises:
            KeyError: It is not whole.
        """
        return {name: item[name] for name in self.names}

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> TableKeys:
        """From what DescribeTable tells."""
        hash_key, range_key = _schema(description)
        indexes = {}
        for kind in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes"):
            for index in description.get(kind) or ():
                of_index = _schema(index)
                projection = index.get("Projection") or {}
                own = {name for name in (hash_key, range_key, *of_index) if name is not None}
                whole = projection.get("ProjectionType") == "ALL"
                projected = None if whole else frozenset(own.union(projection.get("NonKeyAttributes") or ()))
                lagging = kind == "GlobalSecondaryIndexes"
                indexes[index["IndexName"]] = IndexKeys(*of_index, lagging=lagging, projected=projected)
        return cls(hash_key, range_key, indexes)


def _schema(described: Mapping[str, Any]) -> tuple[str, str | None]:
    names = {part["KeyType"]: part["AttributeName"] for part in described["KeySchema"]}
    return names["HASH"], names.get("RANGE")


def frozen(key: Item) -> tuple[tuple[str, Any], ...]:
    """A key as something that can be looked up."""
    return tuple(sorted((name, comparable(value)) for name, value in key.items()))


def comparable(value: Mapping[str, Any]) -> Any:
    """A key's value in the service's order: text by its bytes, numbers by their worth."""
    ((kind, content),) = value.items()
    if kind == "N":
        return Decimal(content)
    return base64.b64decode(content) if kind == "B" else content.encode()


@dataclass(frozen=True, slots=True)
class Condition:
    """One term of a KeyConditionExpression.

    Attributes:
        name: The attribute's name.
        comparison: `=`, `<`, `<=`, `>`, `>=`, `BETWEEN` or `BEGINS_WITH`.
        values: What it is compared with.
    """

    name: str
    comparison: str
    values: tuple[Mapping[str, Any], ...]

    def holds(self, item: Item) -> bool:
        """Whether an item that has the attribute satisfies it."""
        value, *given = (comparable(each) for each in (item[self.name], *self.values))
        match self.comparison:
            case "=":
                holds = value == given[0]
            case "<" | "<=":
                holds = value < given[0] or (self.comparison == "<=" and value == given[0])
            case ">" | ">=":
                holds = value > given[0] or (self.comparison == ">=" and value == given[0])
            case "BETWEEN":
                holds = given[0] <= value <= given[1]
            case _:
                holds = value.startswith(given[0])
        return bool(holds)


def key_conditions(body: Mapping[str, Any]) -> tuple[Condition, ...] | None:
    """The terms of a Query's KeyConditionExpression; None where it has none, or one that is not understood."""
    expression = body.get("KeyConditionExpression")
    if not isinstance(expression, str):
        return None
    names, values = body.get("ExpressionAttributeNames") or {}, body.get("ExpressionAttributeValues") or {}
    conditions = []
    for term in _TERM.finditer(expression):
        name, comparison, *given = (str(part) for part in term.groups() if part is not None)
        if name.upper() == "BEGINS_WITH":
            name, comparison = comparison, name
        if any(value not in values for value in given):
            return None
        conditions.append(Condition(names.get(name, name), comparison.upper(), tuple(values[value] for value in given)))
    understood = _AROUND.fullmatch(_TERM.sub("", expression))
    return tuple(conditions) if understood and conditions else None


def projected_names(body: Mapping[str, Any]) -> frozenset[str] | None:
    """The paths that a ProjectionExpression asks for, those of top-level attributes as names; None for everything."""
    expression = body.get("ProjectionExpression")
    if not isinstance(expression, str):
        return None
    names = body.get("ExpressionAttributeNames") or {}
    return frozenset(names.get(path.strip(), path.strip()) for path in expression.split(","))
