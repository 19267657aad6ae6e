"""Every setting: what is right for it, how its text is read from the environment, and what the layer is given.

The settings are the options of `Layer`, by the same names; a test holds this table to its signature.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from dynalayer.config.given import Source
from dynalayer.config.references import is_function, is_reference, is_unicode, resolved
from dynalayer.errors import ConfigurationError
from dynalayer.settings import Spec, imported

__all__ = ["LAYER_NAME", "SETTINGS", "Setting"]

LAYER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")
"""As a table's, since that is the default of `table`."""

_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting.

    Attributes:
        told: What is right for it.
        fits: Whether a value may be right; what only the layer can know is checked when it is built.
        optional: Whether `false` leaves it out, whatever weaker sources say.
        of_text: Its value from a text that is no list and no table.
        option: What the layer is given for a value without references.
    """

    told: str
    fits: Callable[[object], bool]
    optional: bool = False
    of_text: Callable[[str], object] = str
    option: Callable[[Any, Source], object] = lambda value, _: value

    def checked(self, value: object, source: Source) -> object:
        """A value, as it was written.

        Raises:
            ConfigurationError: It cannot be right. Names its source, and repeats nothing of it.
        """
        if _too_deep(value):
            raise ConfigurationError(f"{source} is nested deeper than {_DEEPEST} levels")
        if not (self.fits(value) or (self.optional and value is False)):
            raise ConfigurationError(f"{source} is {self.told}, and got {_told(value)}")
        return value

    def read(self, text: str, source: Source) -> object:
        """A value from the environment: a list or a table as TOML or JSON writes it, anything else as it stands.

        Raises:
            ConfigurationError: It is none.
        """
        if not is_unicode(text):
            raise ConfigurationError(f"{source} is not UTF-8")
        if not text.strip():
            raise ConfigurationError(f"{source} is empty; unset it, or say {self.told}")
        if text.lstrip()[0] in "[{":
            return self.checked(_literal(text, source), source)
        if self.optional and text.lower() == "false":
            return False
        try:
            value = self.of_text(text)
        except ValueError:
            raise ConfigurationError(f"{source} is {self.told}, and got a text that is none") from None
        return self.checked(value, source)

    def as_option(self, value: object, source: Source) -> object:
        """What the layer is given.

        Raises:
            ConfigurationError: What a reference or a function's path names is not there.
        """
        return None if value is False else self.option(resolved(value, source), source)


def _literal(text: str, source: Source) -> object:
    for parse in (_toml, json.loads):
        try:
            return parse(text)
        except (ValueError, RecursionError):
            continue
    raise ConfigurationError(f"{source} begins like a list or a table, and is neither TOML nor JSON of one")


def _toml(text: str) -> object:
    (value,) = tomllib.loads(f"value = {text}").values()  # of more than one: a ValueError
    return value


def _too_deep(value: object) -> bool:
    """Without recursion, since that is what too deep a value would end."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            each
            for outer in level
            if isinstance(outer, dict | list)
            for each in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _told(value: object) -> str:
    if isinstance(value, dict):
        return f"a table of {', '.join(repr(key)[:50] for key in list(value)[:5]) or 'nothing'}"
    if value == "":
        return "an empty text"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), f"a {type(value).__name__}")


def _is_text(value: object) -> bool:
    return (isinstance(value, str) and value != "") or is_reference(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_path(value: object) -> bool:
    return isinstance(value, str) or is_function(value)


def _is_spec(value: object) -> bool:
    return _is_text(value) or (isinstance(value, dict) and _is_text(value.get("use")))


def _are_specs(value: object) -> bool:
    return isinstance(value, list) and all(_is_spec(each) for each in value)


def _is_strategy(value: object) -> bool:
    return all(_is_spec(each) or is_function(each) for each in (value if isinstance(value, list) else [value]))


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _functions(value: object, source: Source) -> object:
    """A value with the function in place of each table that names one, at any depth."""
    if isinstance(value, list):
        return [_functions(each, source) for each in value]
    if not isinstance(value, dict):
        return value
    if is_function(value):
        return _imported(value["function"], source)
    return {key: _functions(each, source) for key, each in value.items()}


def _path(value: Any, source: Source) -> object:
    return _imported(value if isinstance(value, str) else value["function"], source)


def _imported(path: str, source: Source) -> object:
    found = imported(path, what=str(source))
    if not callable(found):
        raise ConfigurationError(f"{source}: {path!r:.100} is no function, but {type(found).__name__}")
    return found


def _url(value: object, source: Source) -> object:
    """A URL, of a table the one with the settings beside `use` as its options."""
    if not isinstance(value, dict):
        return value
    url = Spec.parse(value, what=str(source)).as_url(what=str(source))
    return f"{url.scheme}:{quote(url.location)}?{urlencode(url.options)}".removesuffix("?")


_ATTRIBUTE = Setting(
    "an attribute's name, or { function = 'module:attribute' }",
    lambda value: _is_text(value) or is_function(value),
    optional=True,
    option=_functions,
)
_FUNCTION = Setting("a function, written 'module:attribute'", _is_path, optional=True, option=_path)

SETTINGS = {
    "table": Setting("a table's name", _is_text),
    "get_item_unique_identifier": _ATTRIBUTE,
    "get_item_partition": _ATTRIBUTE,
    "events": Setting("a URL, or { use = URL, … } with its options", _is_spec, option=_url),
    "storage": Setting(
        "a URL, { use = URL, … } with its options, or a list of wrappers that ends with one of these",
        lambda value: _is_spec(value) or (_are_specs(value) and bool(value)),
        option=_functions,
    ),
    "getter": _FUNCTION,
    "setter": _FUNCTION,
    "sync_strategy": Setting(
        "a plugin's name, { use = NAME, … } with its settings, { function = 'module:attribute' }, or a list of these",
        _is_strategy,
        optional=True,
        option=_functions,
    ),
    "background_runner": Setting(
        "a plugin's name, { use = NAME, … } with its settings, or { function = 'module:attribute' }",
        lambda value: _is_spec(value) or is_function(value),
        optional=True,
        option=_functions,
    ),
    "ttl": Setting(
        "a number of seconds, or { function = 'module:attribute' }",
        lambda value: _is_number(value) or is_function(value),
        of_text=_number,
        option=_functions,
    ),
    "history": Setting("'ttl' or 'forever'", lambda value: isinstance(value, str) and value in ("ttl", "forever")),
    "plugins": Setting(
        "a list of names, or of { use = NAME, … }", _are_specs, of_text=lambda text: [text], option=_functions
    ),
    "lease": Setting("a number of seconds", _is_number, of_text=_number),
    "cache_bytes": Setting("a whole number of bytes", _is_whole, of_text=int),
    "clock": Setting("a function, written 'module:attribute'", _is_path, option=_path),
}
"""By name, in the order of `Layer`'s options."""
