"""From a text of a URL or a value of TOML to what a setting is annotated as.

Where it does not fit the error says what would; the value itself may be a secret and is repeated only if it is a number
or a truth value.
"""

from __future__ import annotations

import importlib
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dynalayer.errors import ConfigurationError

__all__ = ["converted", "imported", "kind_of"]

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NAMES = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_ATTRIBUTE = re.compile(rf"({_NAMES}):({_NAMES})")
_LONGEST = 10**20  # numbers that are longer are not repeated; Python refuses to write the longest at all


class _MisfitError(Exception):
    """The value is not of this kind; it may be of another of the union."""


def converted(value: object, wanted: Any, what: str) -> object:
    """A value as what it is annotated as.

    A text becomes a bool, int, float, `Path`, one of a `Literal`, a function named as `module:attribute`, or a list or
    tuple, split at `;`. Of a union the first that fits is taken, `str` after all others; `none` is None where that is
    among them and `str` is not. A kind that has no rule here takes the value as it is: its class judges.

    Args:
        value: As it was given.
        wanted: The annotation, evaluated.
        what: What it is, for errors.

    Raises:
        ConfigurationError: It does not fit; the value is not repeated.
    """
    try:
        return _fitted(value, wanted, what)
    except _MisfitError:
        told = " or ".join(dict.fromkeys(_told(kind) for kind in _kinds(wanted) if kind is not type(None)))
        raise ConfigurationError(f"{what} is {told or 'nothing'}, and was given {kind_of(value)}") from None


def imported(path: str, *, what: str) -> Any:
    """What `module:attribute` names.

    Raises:
        ConfigurationError: It is not of this form, or cannot be imported; the cause says why.
    """
    match = _ATTRIBUTE.fullmatch(path)
    if match is None:  # perhaps the secret itself, where a function that tells it was asked for
        raise ConfigurationError(f"{what} is named as 'module:attribute', and was given another text")
    try:
        found: Any = importlib.import_module(match[1])
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"{what}: cannot import the module {match[1]!r:.100}: {type(error).__name__}: {error}"
        ) from error
    for part in match[2].split("."):
        try:
            found = getattr(found, part)
        except Exception as error:
            raise ConfigurationError(
                f"{what}: there is no {match[2]!r:.100} in {match[1]!r:.100}: {type(error).__name__}: {error}"
            ) from error
    return found


def kind_of(value: object) -> str:
    """A value as it may be shown: a number or a truth value as it is, of anything else its kind alone."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < _LONGEST):
        return repr(value)
    if isinstance(value, str):
        return "a text" if value else "an empty text"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a value of type {type(value).__name__}"


def _fitted(value: object, wanted: Any, what: str) -> object:
    for kind in _kinds(wanted):
        try:
            return _as(value, kind, what)
        except _MisfitError:
            continue
    raise _MisfitError


def _kinds(wanted: Any) -> list[Any]:
    """The kinds of a union, in the order in which they are tried; else the one kind."""
    while True:
        if typing.get_origin(wanted) is typing.Annotated:
            wanted = typing.get_args(wanted)[0]
        elif isinstance(wanted, typing.NewType):
            wanted = wanted.__supertype__
        elif type(wanted).__name__ == "TypeAliasType":  # of the statement `type`, which Python 3.11 does not have
            wanted = wanted.__value__
        else:
            break
    if typing.get_origin(wanted) not in (typing.Union, types.UnionType):
        return [wanted]
    kinds = [kind for each in typing.get_args(wanted) for kind in _kinds(each)]
    # "5" for int | str is the number, "none" for str | None the text; what takes everything comes last.
    return sorted(kinds, key=lambda kind: 3 if not _has_rule(kind) else (kind is str) + 2 * (kind is type(None)))


def _origin(kind: Any) -> Any:
    origin = typing.get_origin(kind) or kind
    try:
        hash(origin)
    except TypeError:  # an annotation can be anything
        return object
    return origin


def _has_rule(kind: Any) -> bool:
    origin = _origin(kind)
    return origin in _SIMPLE or origin in _LISTS or origin in (typing.Literal, Callable, dict, Mapping, tuple)


def _as(value: object, kind: Any, what: str) -> object:
    origin = _origin(kind)
    if origin is typing.Literal:
        return _literal(value, typing.get_args(kind))
    if origin in _SIMPLE:
        return _SIMPLE[origin](value)
    if origin is Callable:
        return _callable(value, what)
    if origin in _LISTS:
        inner = (*typing.get_args(kind), object)[0]
        return [_fitted(each, inner, what) for each in _elements(value)]
    if origin is tuple:
        return _tuple(value, typing.get_args(kind), what)
    if origin in (dict, Mapping) and not isinstance(value, Mapping):
        raise _MisfitError
    return value


def _literal(value: object, options: tuple[Any, ...]) -> object:
    for option in options:
        if type(option) is type(value) and option == value:  # True is no 1
            return option
    for option in options if isinstance(value, str) else ():
        rule = _SIMPLE.get(type(option))
        try:
            if rule is not None and rule(value) == option:
                return option
        except _MisfitError:
            continue
    raise _MisfitError


def _callable(value: object, what: str) -> object:
    if isinstance(value, str):
        if not _ATTRIBUTE.fullmatch(value):
            raise _MisfitError
        value = imported(value, what=what)
        if not callable(value):
            raise ConfigurationError(f"{what} names something that is no function")
    if not callable(value):
        raise _MisfitError
    return value


def _elements(value: object) -> list[object]:
    if isinstance(value, str):
        return [each.strip() for each in value.split(";")] if value.strip() else []
    if isinstance(value, list | tuple):
        return list(value)
    raise _MisfitError


def _tuple(value: object, kinds: tuple[Any, ...], what: str) -> tuple[object, ...]:
    elements = _elements(value)
    if not kinds or kinds[1:] == (...,):
        kinds = (kinds or (object,))[:1] * len(elements)
    if len(kinds) != len(elements):
        raise _MisfitError
    return tuple(_fitted(each, kind, what) for each, kind in zip(elements, kinds, strict=True))


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    raise _MisfitError


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _MisfitError
    try:
        return int(value)
    except ValueError:
        raise _MisfitError from None


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _MisfitError
    try:
        number = float(value)
    except (OverflowError, ValueError):
        raise _MisfitError from None
    if not math.isfinite(number):  # nan passes every check of bounds, and nothing here is without one
        raise _MisfitError
    return number


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise _MisfitError
    return value


def _path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise _MisfitError
    try:
        return Path(value).expanduser()
    except (OSError, RuntimeError, ValueError):  # a ~ that stands for nobody's home
        raise _MisfitError from None


def _none(value: object) -> None:
    if value is not None and not (isinstance(value, str) and value.lower() == "none"):
        raise _MisfitError


_SIMPLE: dict[Any, Callable[[object], object]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    Path: _path,
    type(None): _none,
}
_LISTS = (list, Sequence, Iterable, Collection)

_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    type(None): "nothing",
    Callable: "a function, named as 'module:attribute'",
    dict: "a table",
    Mapping: "a table",
    tuple: "a list",
} | dict.fromkeys(_LISTS, "a list")


def _told(kind: Any) -> str:
    origin = _origin(kind)
    if origin is typing.Literal:
        return " or ".join(repr(each) for each in typing.get_args(kind))
    if origin in _LISTS and typing.get_args(kind):
        (inner,) = typing.get_args(kind)
        return f"a list, each {' or '.join(map(_told, _kinds(inner)))}"
    return _KINDS.get(origin) or str(getattr(kind, "__name__", kind))
