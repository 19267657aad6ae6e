"""From what a user writes to name a plugin, an adapter or a wrapper to its object.

A *spec* is a name (`"thread"`), a name with its first setting and others (`"count:100"`, `"retry:5?longest=2"`), or a
mapping of such a text under `use` with settings beside it, as a table of a configuration file gives it:
`{"use": "retry", "attempts": 5}`. The settings of a thing are the arguments of its class, checked and turned into what
they are annotated as. An argument `table` is no setting: it is given the layer's table.
"""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from dynalayer.conversion import converted, imported, kind_of
from dynalayer.errors import ConfigurationError
from dynalayer.urls import URL

__all__ = ["Spec", "imported", "nearest", "settings_of"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*")
_HARMLESS = re.compile(r"[\w ./-]{0,100}")  # what follows a colon or a question mark is a setting, and may be a secret
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


@dataclass(frozen=True, slots=True, repr=False)
class Spec:
    """What was written to name a thing.

    Attributes:
        url: The text taken apart: name, first setting, and settings after `?`.
        settings: All settings but the first, those beside `use` included.
    """

    url: URL
    settings: Mapping[str, object] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Spec({self.name!r})"  # any setting may be a secret

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
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"{what}: a name or a table of settings is wanted, not {kind_of(given)}")
        beside = dict(given)
        use = beside.pop("use", None)
        if not isinstance(use, str):
            raise ConfigurationError(
                f"{what}: a table of settings says under 'use' what they are for, as in {{use = 'retry', attempts = 5}}"
            )
        url = _parsed(use, what)
        if not all(isinstance(key, str) for key in beside):
            raise ConfigurationError(f"{what}: {url.name} is given a setting whose name is no text")
        twice = sorted(beside.keys() & url.options.keys())
        if twice:
            raise ConfigurationError(f"{what}: {url.name} is given its setting {twice[0]!r:.100} twice")
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
                    f"{what}: {self.name}: {key:.100} is a text, a number, true or false, not {kind_of(value)}"
                )
        return URL(self.url.scheme, self.url.location, options)

    def make(self, factory: Callable[..., Any], *, what: str, table: str | None = None) -> Any:
        """The object that a class makes with these settings.

        Args:
            factory: The class. One with `**kwargs` takes settings of any name.
            what: What it is and where it is from, for errors: `plugin 'count' of dynalayer 0.1.0`.
            table: The layer's table.

        Raises:
            ConfigurationError: A setting is not known (the nearest is told), missing, or of the wrong kind.
        """
        parameters = _parameters(factory)
        known = _settings(parameters)
        others = [each for each in parameters.values() if each.kind is inspect.Parameter.VAR_KEYWORD]
        given = self._named(known, what)
        arguments: dict[str, object] = {}
        for key, value in given.items():
            if (key not in known and not others) or key == "table":
                raise ConfigurationError(f"{what} has no setting {key!r:.100}{nearest(key, known)}")
            arguments[key] = converted(value, known.get(key, *others).annotation, f"{what}: {key:.100}")
        for name, setting in known.items():
            if setting.default is inspect.Parameter.empty and name not in given:
                raise ConfigurationError(f"{what} needs a setting {name!r}")
        if table is not None and "table" in parameters:
            arguments["table"] = table
        return factory(**arguments)

    def _named(self, known: Mapping[str, inspect.Parameter], what: str) -> dict[str, object]:
        """All settings by name, the first one too."""
        given = dict(self.settings)
        if self.url.location:
            first = next(iter(known.values()), None)
            if first is None or first.kind is inspect.Parameter.KEYWORD_ONLY:
                raise ConfigurationError(f"{what} takes nothing after its name")
            if first.name in given:
                raise ConfigurationError(f"{what} is given its setting {first.name!r} twice")
            given[first.name] = self.url.location
        return given


def _parsed(text: str, what: str) -> URL:
    name = re.split("[:?]", text, maxsplit=1)[0]
    if not _NAME.fullmatch(name):
        shown = f"{text!r} is no name" if _HARMLESS.fullmatch(text) else "a text does not begin with a name"
        raise ConfigurationError(
            f"{what}: {shown}; write the name of what is installed, and after a colon its settings, as in 'count:100'"
        )
    rest = text.removeprefix(name)
    # A name alone is a URL without a location. In schemes of URLs there is no underscore, in Python's names there is.
    url = URL.parse(f"{name.replace('_', '-')}{rest if rest.startswith(':') else f':{rest}'}", what=what)
    return URL(name.lower(), url.location, url.options)


def settings_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The settings of a class, by name, in order, with what they are annotated as.

    An annotation that cannot be evaluated, since it is there for type checkers alone, stays a text.
    """
    return _settings(_parameters(factory))


def _settings(parameters: Mapping[str, inspect.Parameter]) -> dict[str, inspect.Parameter]:
    return {name: each for name, each in parameters.items() if each.kind not in _VARIABLE and name != "table"}


def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some classes that are written in C tell none
        return {}
    names = _names(factory)
    return {name: each.replace(annotation=_evaluated(each.annotation, names)) for name, each in parameters.items()}


def _names(factory: Callable[..., Any]) -> dict[str, Any]:
    """What the names in a class's annotations stand for."""
    functions = (factory.__init__, factory.__new__) if inspect.isclass(factory) else (factory,)
    for function in functions:
        found: dict[str, Any] | None = getattr(inspect.unwrap(function), "__globals__", None)
        if found is not None:
            return found
    return {}


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    # One at a time: what one of them names may be imported for type checkers only.
    try:
        holder = SimpleNamespace(__annotations__={"setting": annotation})
        return typing.get_type_hints(holder, names)["setting"]
    except Exception:  # noqa: BLE001 -- evaluating what somebody wrote can raise anything
        return annotation


def nearest(key: str, known: Iterable[str]) -> str:
    """For an error's end: the nearest right name, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(key[:100], names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names) or 'none'}"
