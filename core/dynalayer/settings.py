"""From what a user writes to name a plugin, an adapter or a wrapper to its object.

A *spec* is a name (`"thread"`), a name with its first setting and others (`"count:100"`, `"retry:5?longest=2"`), or a
mapping of such a text under `use` with settings beside it, as a table of a configuration file gives it:
`{"use": "retry", "attempts": 5}`. The settings of a thing are the arguments of its class, checked and turned into what
they are annotated as. An argument `table` is no setting: it is given the layer's table.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynalayer.errors import ConfigurationError
from dynalayer.urls import URL

__all__ = ["Spec", "imported", "nearest", "settings_of"]

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Spec:
    """What was written to name a thing.

    Attributes:
        url: The text taken apart: name, first setting, and settings after `?`.
        settings: All settings but the first, those beside `use` included.
    """

    url: URL
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name that is looked up."""
        return self.url.name

    @classmethod
    def parse(cls, given: str | Mapping[str, object], *, what: str) -> Spec:
        """Take a spec apart.

        Args:
            given: As the user wrote it.
            what: What it is for, for errors: `storage`, `plugins`.

        Raises:
            ConfigurationError: It names nothing, or gives a setting twice.
        """
        if isinstance(given, str):
            url = _parsed(given, what)
            return cls(url, dict(url.options))
        beside = dict(given)
        use = beside.pop("use", None)
        if not isinstance(use, str):
            raise ConfigurationError(
                f"{what}: a table of settings says under 'use' what they are for, as in {{use = 'retry', attempts = 5}}"
            )
        url = _parsed(use, what)
        twice = sorted(beside.keys() & url.options.keys())
        if twice:
            raise ConfigurationError(f"{what}: {url.name} is given its setting {twice[0]!r} twice")
        return cls(url, {**url.options, **beside})

    def as_url(self, *, what: str) -> URL:
        """The spec as a URL, with the settings beside it as options.

        Raises:
            ConfigurationError: A setting is no text, number or truth value.
        """
        options: dict[str, str] = {}
        for key, value in self.settings.items():
            if isinstance(value, bool):
                options[key] = "true" if value else "false"
            elif isinstance(value, str | int | float):
                options[key] = str(value)
            else:
                raise ConfigurationError(
                    f"{what}: {self.name}: {key} is a text, a number, true or false, not {value!r:.100}"
                )
        return URL(self.url.scheme, self.url.location, options)

    def make(self, factory: Callable[..., Any], *, what: str, table: str | None = None) -> Any:
        """The object that a class makes with these settings.

        Args:
            factory: The class.
            what: What it is and where it is from, for errors: `plugin 'count' of dynalayer 0.1.0`.
            table: The layer's table.

        Raises:
            ConfigurationError: A setting is not known (the nearest is told), missing, or of the wrong kind.
        """
        known = settings_of(factory)
        given = dict(self.settings)
        location = self.url.location
        if location:
            first = next(iter(known.values()), None)
            if first is None or first.kind is inspect.Parameter.KEYWORD_ONLY:
                raise ConfigurationError(f"{what} takes nothing after its name, and got {location!r:.100}")
            if first.name in given:
                raise ConfigurationError(f"{what} is given its setting {first.name!r} twice")
            given[first.name] = location
        for key in given:
            if key not in known:
                raise ConfigurationError(f"{what} has no setting {key!r}{nearest(key, known)}")
        for name, setting in known.items():
            if setting.default is inspect.Parameter.empty and name not in given:
                raise ConfigurationError(f"{what} needs a setting {name!r}")
        converted = {key: _converted(value, known[key].annotation, f"{what}: {key}") for key, value in given.items()}
        if table is not None and "table" in inspect.signature(factory).parameters:
            converted["table"] = table
        return factory(**converted)


def _parsed(text: str, what: str) -> URL:
    # A name alone is a URL without a location.
    return URL.parse(text if ":" in text else f"{text}:", what=what)


def settings_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The settings of a class, by name, in order, with what they are annotated as."""
    try:
        parameters = inspect.signature(factory, eval_str=True).parameters
    except (NameError, TypeError, ValueError):  # annotations that are there for type checkers alone
        parameters = inspect.signature(factory).parameters
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    return {name: each for name, each in parameters.items() if each.kind not in variable and name != "table"}


def nearest(key: str, known: Iterable[str]) -> str:
    """For an error's end: the nearest right name, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(key, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names) or 'none'}"


def imported(path: str, *, what: str) -> Any:
    """What `module:attribute` names.

    Raises:
        ConfigurationError: It cannot be imported; the cause says why.
    """
    module, colon, attribute = path.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        # What was put in its place may be a secret, and is not repeated.
        raise ConfigurationError(f"{what} names Python's things as 'module:attribute', and got a text that is none")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ConfigurationError(f"{what}: cannot import {path!r:.100}: {type(error).__name__}: {error}") from error
    return found


def _converted(value: object, wanted: Any, what: str) -> object:
    """A value as what it is annotated as; what has no rule here is passed on for the class to judge.

    Raises:
        ConfigurationError: It is none.
    """
    choices = _choices(wanted)
    for choice in choices:
        try:
            return _as(value, choice, what)
        except (TypeError, ValueError) as error:
            if isinstance(error, ConfigurationError):
                raise
    told = " or ".join(_told(choice) for choice in choices if choice is not type(None))
    # What may be a secret is not repeated.
    raise ConfigurationError(f"{what} is {told}, and got {type(value).__name__} that is none")


def _choices(wanted: Any) -> tuple[Any, ...]:
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        # Text fits last: "5" for int | str is the number.
        return tuple(sorted(typing.get_args(wanted), key=lambda each: each is str))
    return (wanted,)


def _as(value: object, wanted: Any, what: str) -> object:
    origin = typing.get_origin(wanted) or wanted
    if origin is typing.Literal:
        if value not in typing.get_args(wanted):
            raise TypeError
        return value
    if origin in _SIMPLE:
        return _SIMPLE[origin](value)
    if origin is Callable and isinstance(value, str):
        return imported(value, what=what)
    if origin in (list, tuple, Sequence):
        return _list(value, wanted, what)
    return value


def _list(value: object, wanted: Any, what: str) -> list[object]:
    inner = (*typing.get_args(wanted), object)[0]
    if isinstance(value, str):
        value = value.split(";")
    if not isinstance(value, list | tuple):
        raise TypeError
    return [_converted(each, inner, what) for each in value]


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    raise TypeError


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return int(value)


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _path(value: object) -> Path:
    return Path(_str(value)).expanduser()


def _none(value: object) -> None:
    if value is not None:
        raise TypeError


_SIMPLE: dict[Any, Callable[[object], object]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    Path: _path,
    type(None): _none,
}


def _told(wanted: Any) -> str:
    if typing.get_origin(wanted) is typing.Literal:
        return " or ".join(repr(each) for each in typing.get_args(wanted))
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    return words.get(wanted, getattr(wanted, "__name__", str(wanted)))
