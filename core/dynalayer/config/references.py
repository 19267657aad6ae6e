"""Secrets by reference: `{ env = "NAME" }` or `{ file = "path" }` stands for a text kept elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from dynalayer.config.given import Source
from dynalayer.errors import ConfigurationError

__all__ = ["is_function", "is_reference", "is_unicode", "resolved"]

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LARGEST = 64 * 1024  # bytes; a key or a URL is far below


def is_reference(value: object) -> bool:
    """Whether a value is a table that says where a text is found."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((key, place),) = value.items()
    return key in ("env", "file") and isinstance(place, str) and bool(place)


def is_function(value: object) -> bool:
    """Whether a value is a table that names a function."""
    return isinstance(value, dict) and value.keys() == {"function"} and isinstance(value["function"], str)


def is_unicode(text: str) -> bool:
    """Whether a text came from the environment as UTF-8; bytes that are none arrive as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def resolved(value: object, source: Source) -> Any:
    """A value with the text in place of each reference, at any depth.

    Args:
        value: The value.
        source: Where it is from, for errors.

    Raises:
        ConfigurationError: What a reference names is not there, empty, or no text. Says the place, never what is there.
    """
    if isinstance(value, dict):
        if not is_reference(value):
            return {key: resolved(each, source) for key, each in value.items()}
        ((kind, place),) = value.items()
        return _of_environment(place, source) if kind == "env" else _of_file(place, source)
    if isinstance(value, list):
        return [resolved(each, source) for each in value]
    return value


def _of_environment(name: str, source: Source) -> str:
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise ConfigurationError(
            f"{source}: what stands under env is no name of an environment variable: letters, digits and _"
        )
    text = os.environ.get(name, "")
    if not text:
        raise ConfigurationError(f"{source}: the environment variable {name} that it refers to is not set, or empty")
    if not is_unicode(text):
        raise ConfigurationError(f"{source}: the environment variable {name} that it refers to is not UTF-8")
    return text


def _of_file(path: str, source: Source) -> str:
    what = f"{source}: the file {path!r} that it refers to"
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (OSError, RuntimeError, ValueError) as error:  # no home to expand; a null byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{what} cannot be read: {reason}") from error
    if len(data) > _LARGEST:
        raise ConfigurationError(f"{what} is larger than {_LARGEST:,} bytes, and no text of a setting")
    try:
        text = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        # Without the cause, which holds the bytes.
        raise ConfigurationError(f"{what} is not UTF-8") from None
    if not text:
        raise ConfigurationError(f"{what} is empty")
    return text
