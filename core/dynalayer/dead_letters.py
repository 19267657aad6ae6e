"""Dead letters: what could not be taken, set aside in a file, a JSON object a line, for somebody to mend.

`DeadLetters(path).add(letters)` is durable when it returns: only then may whoever set something aside go on without it.
What is done again after a crash may be in the file twice; nothing is ever missing. Several processes may add to one
file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import orjson

from dynalayer.errors import InvalidInputError, InvalidValueError, SpoolError
from dynalayer.quoting import quoted
from dynalayer.values import item_to_json

__all__ = ["DeadLetter", "DeadLetters"]

_LONGEST = 10_000  # characters of what cannot be said in JSON


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something that was set aside.

    Attributes:
        source: What it is from: a table, a stream.
        reason: Why it could not be taken.
        item: The item, or whatever it was.
        details: What else tells where it was: a stream's sequence number. Plain JSON.
    """

    source: str
    reason: str
    item: object
    details: dict[str, Any] | None = None

    def line(self) -> bytes:
        """It as a line: the item in the exact JSON of segments, or what it looked like where that cannot say it."""
        told: dict[str, Any] = {
            "source": _unicode(self.source),
            "reason": _unicode(self.reason),
            **(self.details or {}),
        }
        try:
            told["item"] = item_to_json(self.item)
        except InvalidValueError:
            told["shown"] = _unicode(quoted(self.item, _LONGEST))
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


class DeadLetters:
    """A file of them, made with the first.

    Args:
        path: Where it is.

    Raises:
        InvalidInputError: It is no path, or its folder is not there.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        try:
            self.path = Path(path).absolute()
        except TypeError:
            raise InvalidInputError(f"dead_letters is the path of a file, not {quoted(path)}") from None
        if "\0" in str(self.path) or not self.path.parent.is_dir() or self.path.is_dir():
            raise InvalidInputError(f"dead_letters={str(self.path)!r} is a folder, or a file in one that is not there")

    def add(self, letters: Iterable[DeadLetter]) -> int:
        """Add to the file; durable when this returns.

        Returns:
            How many.

        Raises:
            SpoolError: It cannot be written.
        """
        lines = [letter.line() for letter in letters]
        if lines:
            self.add_lines(lines)
        return len(lines)

    def add_lines(self, lines: Iterable[bytes]) -> None:
        """Add lines that `DeadLetter.line` made; likewise."""
        try:
            was_there = self.path.exists()
            with open(self.path, "ab", opener=_for_its_owner) as file:
                file.write(b"\n" if _is_cut(self.path) else b"")
                file.writelines(lines)  # one after the other: there may be more than memory holds
                file.flush()
                os.fsync(file.fileno())
            if not was_there:
                _flush(self.path.parent)
        except OSError as error:
            raise SpoolError(
                f"dead letters could not be written: {error}; nothing that they hold was left out"
            ) from error


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # it holds items


def _unicode(text: str) -> str:
    """A text that can be written; a function's own error may quote a lone surrogate of its item."""
    return text.encode(errors="backslashreplace").decode()


def _is_cut(path: Path) -> bool:
    """Whether the last line has no end, as one that was being written when the process died."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
