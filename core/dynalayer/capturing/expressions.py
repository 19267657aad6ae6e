"""Update expressions: their text, taken apart, with names and values in place of placeholders.

Only what can be computed exactly as DynamoDB does it is taken; all else is refused by name, before any request. Grammar
and rules: the page "Using update expressions in DynamoDB" of its Developer Guide. What that leaves open (what may stand
in what, case, what is a name) is as `test/alternator/test_update_expression.py` of scylladb/scylladb found it on the
service.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dynalayer.errors import InvalidInputError
from dynalayer.values import join_path

__all__ = [
    "Add",
    "Appended",
    "Delete",
    "Operand",
    "Otherwise",
    "Path",
    "Remove",
    "Set",
    "Sum",
    "Update",
    "Value",
    "parse_update",
    "placeholders_in",
    "told",
]

Path = tuple[str | int, ...]
"""Where a value stands: an attribute's name, then names in maps and positions in lists."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value that was given: `:v`."""

    value: Any


@dataclass(frozen=True, slots=True)
class Otherwise:
    """`if_not_exists(path, otherwise)`."""

    path: Path
    otherwise: Operand


Operand = Path | Value | Otherwise
"""What stands for one value."""


@dataclass(frozen=True, slots=True)
class Appended:
    """`list_append(first, second)`."""

    first: Operand
    second: Operand


@dataclass(frozen=True, slots=True)
class Sum:
    """`first + second`, or `first - second`."""

    first: Operand
    sign: Literal["+", "-"]
    second: Operand


@dataclass(frozen=True, slots=True)
class Set:
    """`SET path = value`."""

    path: Path
    value: Operand | Appended | Sum


@dataclass(frozen=True, slots=True)
class Remove:
    """`REMOVE path`."""

    path: Path


@dataclass(frozen=True, slots=True)
class Add:
    """`ADD path :value`: to a number, or to a set."""

    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Delete:
    """`DELETE path :value`: elements of a set."""

    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Update:
    """A whole expression: what it does, all of it by the item as it was before.

    Attributes:
        actions: Each at a place of its own: none lies within another's.
        used: Attributes that are read or written.
    """

    actions: tuple[Set | Remove | Add | Delete, ...]
    used: tuple[str, ...]

    @property
    def creates(self) -> bool:
        """Whether it makes an item where there is none."""
        return any(isinstance(action, Set | Add) for action in self.actions)


_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z][A-Za-z0-9_]*|#[A-Za-z0-9_]+)|(?P<value>:[A-Za-z0-9_]+)|(?P<number>[0-9]+)"
    r"|(?P<sign>[-+=,.()\[\]])|(?P<other>\S))"
)
_PLACEHOLDER = re.compile(r"[#:][A-Za-z0-9_]+")
_CLAUSES = ("SET", "REMOVE", "ADD", "DELETE")
_WAY_OUT = "compute the item and give it to put_item(), or set() it after a write of your own"
_DEEPEST = 32  # functions in one another; DynamoDB's items go no deeper
_MOST_DIGITS = 9  # of a position; lists are much shorter


def told(path: Path) -> str:
    """A path as people write it."""
    return join_path(list(path))


def placeholders_in(text: str) -> set[str]:
    """The placeholders that an expression of any kind uses. It holds no text of its own that could look like one."""
    return set(_PLACEHOLDER.findall(text))


def parse_update(text: str, names: Mapping[str, str], values: Mapping[str, Any]) -> Update:
    """Take an update expression apart.

    Args:
        text: The expression.
        names: What its `#name`s stand for.
        values: What its `:value`s stand for.

    Raises:
        InvalidInputError: It is none, or does what cannot be computed here; says what.
    """
    parser = _Parser(text, names, values)
    actions = parser.update()
    _check_apart([action.path for action in actions])
    return Update(tuple(actions), tuple(dict.fromkeys(parser.used)))


def _check_apart(paths: list[Path]) -> None:
    """Refuse paths of which one lies within another, or that take one place for a map and for a list, as DynamoDB does.

    Raises:
        InvalidInputError: Two do.
    """
    for number, path in enumerate(paths):
        for other in paths[:number]:
            shared = min(len(path), len(other))
            same = next((place for place in range(shared) if path[place] != other[place]), shared)
            if same == shared or type(path[same]) is not type(other[same]):
                raise InvalidInputError(
                    f"the UpdateExpression changes {told(other)} and {told(path)}, which overlap; DynamoDB takes one "
                    "change of a place"
                )


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


class _Parser:
    """A recursive descent, one method a rule."""

    def __init__(self, text: str, names: Mapping[str, str], values: Mapping[str, Any]) -> None:
        self._text = text
        self._names = names
        self._values = values
        self._tokens = [_Token(match.lastgroup or "", match[match.lastgroup or 0]) for match in _TOKEN.finditer(text)]
        self._place = 0
        self.used: list[str] = []

    # Tokens

    def _next(self) -> _Token:
        return self._tokens[self._place] if self._place < len(self._tokens) else _Token("end", "")

    def _take(self) -> _Token:
        token = self._next()
        self._place += 1
        return token

    def _is(self, sign: str) -> bool:
        return self._next() == _Token("sign", sign)

    def _expect(self, sign: str) -> None:
        if not self._is(sign):
            raise self._unexpected(repr(sign))
        self._take()

    def _unexpected(self, wanted: str) -> InvalidInputError:
        token = self._next()
        found = f"{token.text!r:.50}" if token.kind != "end" else "its end"
        return InvalidInputError(f"the UpdateExpression {self._text!r:.200} has {found} where {wanted} is expected")

    def _clause(self) -> str | None:
        """The clause that begins here. A name that is one of these words DynamoDB does not take either."""
        token = self._next()
        return token.text.upper() if token.kind == "name" and token.text.upper() in _CLAUSES else None

    # Rules

    def update(self) -> list[Set | Remove | Add | Delete]:
        rules: dict[str, Callable[[], Set | Remove | Add | Delete]] = {
            "SET": self._set,
            "REMOVE": lambda: Remove(self._path()),
            "ADD": lambda: Add(*self._with_value("ADD")),
            "DELETE": lambda: Delete(*self._with_value("DELETE")),
        }
        actions: list[Set | Remove | Add | Delete] = []
        seen: set[str] = set()
        while self._next().kind != "end" or not seen:
            clause = self._clause()
            if clause is None:
                raise self._unexpected("SET, REMOVE, ADD or DELETE")
            if clause in seen:
                raise InvalidInputError(f"the UpdateExpression has {clause} twice; separate its actions by commas")
            seen.add(clause)
            self._take()
            actions.append(rules[clause]())
            while self._is(","):
                self._take()
                actions.append(rules[clause]())
        return actions

    def _set(self) -> Set:
        path = self._path()
        self._expect("=")
        if self._next().text == "list_append" and self._called():
            return Set(path, self._appended())
        first = self._operand()
        sign = self._next()
        if sign.kind != "sign" or sign.text not in ("+", "-"):
            return Set(path, first)
        self._take()
        return Set(path, Sum(first, "+" if sign.text == "+" else "-", self._operand()))

    def _appended(self) -> Appended:
        self._take()
        self._expect("(")
        first = self._operand()
        self._expect(",")
        second = self._operand()
        self._expect(")")
        return Appended(first, second)

    def _called(self) -> bool:
        after = self._tokens[self._place + 1 : self._place + 2]
        return after == [_Token("sign", "(")]

    def _operand(self, depth: int = 0) -> Operand:
        token = self._next()
        if token.kind == "value":
            return Value(self._value())
        if token.kind != "name":
            raise self._unexpected("a path, a :value or if_not_exists()")
        if not self._called():
            return self._path()
        if token.text != "if_not_exists" or depth == _DEEPEST:
            raise InvalidInputError(f"the UpdateExpression uses {token.text}() where it is not computed; {_WAY_OUT}")
        self._take()
        self._expect("(")
        path = self._path()
        self._expect(",")
        otherwise = self._operand(depth + 1)
        self._expect(")")
        return Otherwise(path, otherwise)

    def _with_value(self, clause: str) -> tuple[Path, Any]:
        path = self._path()
        if len(path) > 1:
            raise InvalidInputError(
                f"{clause} {told(path)}: within an attribute it is not computed, and DynamoDB documents it for whole "
                f"attributes alone; SET it, or {_WAY_OUT}"
            )
        if self._next().kind != "value":
            raise self._unexpected("a :value")
        return path, self._value()

    def _value(self) -> Any:
        placeholder = self._take().text
        if placeholder not in self._values:
            raise InvalidInputError(f"{placeholder!r:.100} is not in ExpressionAttributeValues")
        return self._values[placeholder]

    def _path(self) -> Path:
        first = self._name()
        self.used.append(first)
        path: list[str | int] = [first]
        while self._is(".") or self._is("["):
            if self._take().text == ".":
                path.append(self._name())
                continue
            number = self._next()
            if number.kind != "number" or len(number.text) > _MOST_DIGITS:
                raise self._unexpected("a position in a list")
            self._take()
            path.append(int(number.text))
            self._expect("]")
        return tuple(path)

    def _name(self) -> str:
        if self._next().kind != "name" or self._clause():
            raise self._unexpected("an attribute")
        name = self._take().text
        if name[0] != "#":
            return name
        if name not in self._names:
            raise InvalidInputError(f"{name!r:.100} is not in ExpressionAttributeNames")
        return self._names[name]
