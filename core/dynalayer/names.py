"""File names for any text."""

from __future__ import annotations

import hashlib

__all__ = ["safe_name"]

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-.")
_LONGEST = 200  # bytes; file systems take 255, and other names are built from these
_EMPTY = "~empty"


def safe_name(text: str) -> str:
    """A name for a file or folder that no other text gets.

    Lower-case ASCII letters, digits, `_`, `-` and `.` stay as they are; every other byte of the text's UTF-8 becomes
    `%` and two hexadecimal digits, capitals and a leading dot too: file systems may fold case or compose accents, and
    `.` and `..` are folders. What is too long keeps its beginning, and a digest of the whole after `~`.
    """
    if not text:
        return _EMPTY
    name = "".join(
        character if character in _PLAIN else "".join(f"%{byte:02x}" for byte in character.encode())
        for character in text
    )
    if name.startswith("."):
        name = "%2e" + name[1:]
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
    return f"{name[: _LONGEST - 41]}~{digest}"
