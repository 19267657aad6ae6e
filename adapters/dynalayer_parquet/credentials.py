"""What of a file system's options is secret: it does not belong in a URL, and no error repeats it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dynalayer import ConfigurationError

__all__ = ["Mask", "refuse_credentials", "refuse_secrets"]

# Each file system of fsspec's has its own names for them, and more come: better one too many.
_WORDS = (
    r"secret|key|token|pass|pwd|credential|conn(?:ection)?_?str|(?<![a-z])sas(?![a-z])|signature|(?<![a-z])sig(?![a-z])"
    r"|user|login|auth|acct|(?<![a-z])pat(?![a-z])|cookie|header"
)
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_GIVEN = re.compile(rf"(?:{_WORDS})[\w -]*=", re.IGNORECASE)  # also within a value, as in AccountKey=…;
_AUTHORITY = re.compile(r"//[^/\s]*@")  # of a URL
_HIDDEN = "…"


def refuse_secrets(options: Mapping[str, str]) -> None:
    """Refuse a URL's options that hold credentials, or may.

    Raises:
        ConfigurationError: One does; its value is not repeated.
    """
    for key, value in options.items():
        if _SECRET.search(key) or _GIVEN.search(value) or _AUTHORITY.search(value):
            raise ConfigurationError(
                f"storage: {key!r:.50} does not belong in a URL, since it may hold credentials; leave it to the file "
                "system's own configuration, or make a ParquetAdapter with storage_options"
            )


def refuse_credentials(root: str, options: Mapping[str, Any]) -> None:
    """Refuse credentials within URLs, which are told in errors and logs: those of the root and of endpoints.

    Raises:
        ConfigurationError: There are some; they are not repeated.
    """
    if re.match(r"[^/]*//[^/]*:[^/]*@", root):
        raise ConfigurationError("storage: root holds credentials; leave them out and give them in storage_options")
    for name, value in _texts(options):
        if name.endswith("endpoint_url") and _AUTHORITY.search(value):
            raise ConfigurationError(
                "storage: endpoint_url holds credentials; leave them out and give them where the file system's own "
                "client looks for them"
            )


class Mask:
    """Takes secrets out of what a file system says, and makes it one line.

    Args:
        options: The file system's.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        secret = {value for name, value in _texts(options) if _SECRET.search(name)}
        self._secrets = sorted(filter(None, secret), key=len, reverse=True)
        self._values = sorted({value for _, value in _texts(options) if value}, key=len, reverse=True)

    def __call__(self, said: str) -> str:
        """What was said, without credentials."""
        for value in self._secrets:
            said = said.replace(value, _HIDDEN)
        return " ".join(_AUTHORITY.sub("//", said).split())

    def all(self, said: str) -> str:
        """What was said, without the value of any option: one may have been put in another's place."""
        for value in self._values:
            said = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", _HIDDEN, said)
        return self(said)

    def cause(self, error: Exception) -> Exception | None:
        """An error to name as a cause, which a traceback shows as it is; None where it says what is secret."""
        return error if self(str(error)) == " ".join(str(error).split()) else None


def _texts(options: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """All text among options and those within them, each with its name and those that it is within."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{within}{name}.")
        elif isinstance(value, str):
            yield f"{within}{name}", value
