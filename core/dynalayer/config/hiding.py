"""What may be shown of a value. What looks like a secret, by its name or by itself, is not."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from dynalayer.config.references import is_function, is_reference
from dynalayer.errors import PluginError
from dynalayer.plugins import ADAPTERS, PLUGINS, load
from dynalayer.settings import settings_of

__all__ = ["HIDDEN", "hidden_texts", "shown"]

HIDDEN = "***"

_NAME = re.compile(r"pass|pwd|secret|token|key|cred|auth|sign|salt|private|cert|sas|dsn|cookie", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9+=_]{10,}")
_LONG = 16
_BEGINNINGS = re.compile(r"(AKIA|ASIA|gh[a-z]_|github_pat_|glpat-|xox[a-z]-|sk-|sk_|eyJ|Bearer |-----BEGIN)")
_PLACES = {"_env": re.compile(r"[A-Z_][A-Z0-9_]*"), "_file": re.compile(r"[^\s?@:]+")}
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*)(:|(?=[?]))(.*)", re.DOTALL)


def shown(value: object, setting: str, *, name: str = "") -> Any:
    """A value as it may be shown, of plain data: secrets hidden, references as they are written.

    Args:
        value: The value, as it was written.
        setting: The layer's setting that it belongs to.
        name: The name that it stands under within it.
    """
    if is_reference(value):
        return value
    if isinstance(value, dict):
        return {
            str(key): HIDDEN if _is_secret(key, each) else shown(each, setting, name=key) for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [shown(each, setting, name=name) for each in value]
    if isinstance(value, str):
        return _text(value, setting, name)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value) if type(value).__module__ == "datetime" else f"<{type(value).__name__}>"


def hidden_texts(value: object, setting: str, *, name: str = "") -> Iterator[str]:
    """The texts of a value that `shown` does not show."""
    if isinstance(value, dict):
        for key, each in value.items():
            if _is_secret(key, each):
                yield from _texts(each)
            else:
                yield from hidden_texts(each, setting, name=str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from hidden_texts(each, setting, name=name)
    elif isinstance(value, str) and _text(value, setting, name) != value:
        yield value
        for part in re.split(r"[:?&=@/]", value):
            if _looks_secret(part) or part not in _text(value, setting, name):
                yield from {part, unquote(part)}


def _is_secret(key: str, value: object) -> bool:
    """Whether a value may be a secret by its name; what says where one is found is none."""
    return bool(_NAME.search(key)) and not (is_reference(value) or is_function(value) or _says_where(key, value))


def _says_where(key: str, value: object) -> bool:
    """Whether a value names a variable or a file, as `key_env` and `key_file` do, and is not the secret itself."""
    place = next((pattern for end, pattern in _PLACES.items() if key.endswith(end)), None)
    return place is not None and isinstance(value, str) and bool(place.fullmatch(value)) and not _looks_secret(value)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    else:
        yield str(value)


def _text(text: str, setting: str, name: str) -> str:
    """A text as it may be shown."""
    if name == "function" or setting in ("getter", "setter", "clock"):
        return text if _FUNCTION.fullmatch(text) else HIDDEN
    match = _URL.fullmatch(text)
    if match is None:
        return HIDDEN if _looks_secret(text) or re.search("[?@]", text) else text
    scheme, colon, rest = match.groups()
    location, question, query = rest.partition("?")
    if _is_secret_location(scheme, unquote(location), setting):
        location = HIDDEN
    pairs = [
        (key, HIDDEN if _is_secret(key, value) or _looks_secret(value) else value)
        for key, value in parse_qsl(query, keep_blank_values=True)
    ]
    if any("=" not in part for part in query.split("&") if part):  # a value without a name, which may be anything
        return f"{scheme}{colon}{location}?{HIDDEN}"
    if all(value != HIDDEN for _, value in pairs):
        return f"{scheme}{colon}{location}{question}{query}"
    return f"{scheme}{colon}{location}?{urlencode(pairs, safe='*:/', quote_via=quote)}"


def _looks_secret(text: str) -> bool:
    if _BEGINNINGS.match(text):
        return True
    return any(_is_random(word) for word in _WORD.findall(text))


def _is_random(word: str) -> bool:
    """Whether digits and letters are mixed as nobody names things: in small and capital ones, or at length."""
    digits, small, capital = (
        sum(test(character) for character in word) for test in (str.isdigit, str.islower, str.isupper)
    )
    return digits > 1 and (min(small, capital) > 1 or (small + capital > 1 and len(word) >= _LONG))


def _is_secret_location(scheme: str, location: str, setting: str) -> bool:
    """Whether what follows a name may be a secret: credentials, or a plugin's or wrapper's setting of a secret's name.

    A host, a bucket or a table, and a path, are none: their names are often made by machines. Of what does not load
    nobody knows, and what takes no setting was given something else: then only a number or a place is shown.
    """
    if "@" in location or any(_BEGINNINGS.match(part) for part in location.split("/")):
        return True
    if location.startswith("//") or not location:
        return False
    if _looks_secret(location) and not location.startswith(("/", "./", "~")):
        return True
    if setting not in ("storage", "sync_strategy", "background_runner", "plugins"):
        return False
    first = None
    with contextlib.suppress(PluginError, TypeError, ValueError):
        made = load(ADAPTERS if setting == "storage" else PLUGINS, scheme.partition("+")[0].lower()).value
        if hasattr(made, "from_url"):
            return False
        first = next(iter(settings_of(made)), None) if inspect.isclass(made) else None
    if first is None:
        return not re.fullmatch(r"[0-9._]+|[./~].*", location, re.DOTALL)
    return bool(_NAME.search(first))
