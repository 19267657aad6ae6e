"""Where keys come from. Nothing here ever repeats one."""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

from dynalayer import ConfigurationError, LayerError, StorageError, file_failure, may_pass

__all__ = ["KEY_BYTES", "Key", "Keys", "key_from_environment", "key_from_file"]

Key = Callable[[str | None], tuple[str, bytes]]
"""Takes a key's id, or None for the current key; returns the id and 32 bytes, or raises `KeyError` for one unknown."""

KEY_BYTES = 32
_LONGEST_ID = 128
_LONGEST_FILE = 1024 * 1024


class Keys:
    """Asks for keys, and checks what it is given.

    Args:
        key: Knows them.
    """

    def __init__(self, key: Key) -> None:
        self._key = key

    def current(self) -> tuple[str, bytes]:
        """The key that is encrypted with, and its id.

        Raises:
            StorageError: There is none.
        """
        try:
            answer = self._key(None)
        except LayerError:
            raise
        except Exception as error:
            raise StorageError(
                f"encryption: the current key cannot be had: {type(error).__name__}", retryable=may_pass(error)
            ) from error
        return _checked(answer)

    def by_id(self, key_id: str) -> bytes:
        """The key of an id.

        Raises:
            StorageError: It is not known; names the id.
        """
        try:
            answer = self._key(key_id)
        except LayerError:
            raise
        except LookupError as error:
            raise _unknown(key_id) from error
        except Exception as error:
            raise StorageError(
                f"encryption: key {key_id!r} cannot be had: {type(error).__name__}", retryable=may_pass(error)
            ) from error
        if answer is None:
            raise _unknown(key_id)
        found, key = _checked(answer)
        if found != key_id:
            raise StorageError(f"encryption: asked for key {key_id!r} the key function gave {found!r}")
        return key


def _unknown(key_id: str) -> StorageError:
    return StorageError(
        f"encryption: key {key_id!r} is not known, and what was encrypted with it cannot be read without; keep old "
        "keys beside the current one for as long as segments need them"
    )


def _checked(answer: object) -> tuple[str, bytes]:
    """An id and a key; what is wrong is told without either, where they may have been mistaken for one another."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise StorageError(f"encryption: the key function returns an id and 32 bytes, not {type(answer).__name__}")
    key_id, key = answer
    if not isinstance(key_id, str) or not 1 <= len(key_id) <= _LONGEST_ID or not key_id.isprintable():
        raise StorageError(f"encryption: a key's id is a printable text of 1 to {_LONGEST_ID} characters")
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise StorageError(f"encryption: a key is {KEY_BYTES} bytes, and the one given for {key_id!r} is not")
    return key_id, key


def key_from_environment(variable: str) -> Key:
    """Keys from a variable of the environment, as it is now: `id:base64`, separated by commas, the current one first.

    Raises:
        ConfigurationError: It is not set, or holds no keys.
    """
    text = os.environ.get(variable)
    if text is None:
        raise ConfigurationError(f"encryption: the environment has no variable {variable!r}, which key_env names")
    keys = _parsed(text, f"the variable {variable}")
    return lambda key_id: _of(keys, key_id)


def key_from_file(path: Path) -> Key:
    """Keys from a file, written likewise, or one on a line; it is read again each time, so that keys can be changed.

    Raises:
        ConfigurationError: It cannot be read, or holds no keys.
    """
    path = path.absolute()

    def keys() -> dict[str, bytes]:
        with path.open("rb") as file:
            data = file.read(_LONGEST_FILE + 1)
        return _parsed(data.decode("utf-8", "replace"), str(path))

    try:
        keys()
    except OSError as error:
        raise ConfigurationError(f"encryption: {file_failure('read', path, error).message}") from error

    def key(key_id: str | None) -> tuple[str, bytes]:
        try:
            return _of(keys(), key_id)
        except OSError as error:
            raise file_failure("read", path, error) from error

    return key


def _of(keys: dict[str, bytes], key_id: str | None) -> tuple[str, bytes]:
    wanted = next(iter(keys)) if key_id is None else key_id
    return wanted, keys[wanted]


def _parsed(text: str, source: str) -> dict[str, bytes]:
    """Keys by id, the current one first.

    Raises:
        ConfigurationError: There are none, or one is no key; says which by its place.
    """
    found: dict[str, bytes] = {}
    written = [part.strip() for part in text.replace("\n", ",").split(",")]
    for place, part in enumerate([part for part in written if part], 1):
        key_id, colon, encoded = part.partition(":")
        try:
            key = b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)  # either alphabet
        except (binascii.Error, ValueError):
            key = b""
        if not colon or not 1 <= len(key_id) <= _LONGEST_ID or not key_id.isprintable() or len(key) != KEY_BYTES:
            # Not even the part before the colon is repeated: it may be a key without its id.
            raise ConfigurationError(
                f"encryption: key {place} in {source} is not written as id:base64 of {KEY_BYTES} bytes"
            )
        if key_id in found:
            raise ConfigurationError(f"encryption: {source} has two keys with the id of key {place}")
        found[key_id] = key
    if not found:
        raise ConfigurationError(f"encryption: {source} has no keys; write id:base64, the current one first")
    return found
