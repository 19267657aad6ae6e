"""URLs that name an event log or a storage adapter.

The part of the scheme before `+` is the name that is looked up; the rest of the URL is the named thing's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from dynalayer.errors import ConfigurationError

__all__ = ["URL"]

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>.*)", re.DOTALL)
# All that may stand between // and the path: a host, and a port. Whatever else is there may be a secret, also one that
# holds what should have been escaped.
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[^:@\[\]]*)(:[0-9]*)?")
_HARMLESS = re.compile(r"[\w ./-]{0,100}")


@dataclass(frozen=True, slots=True)
class URL:
    """A URL taken apart.

    Attributes:
        scheme: All before the first colon, lower case: `parquet+s3`.
        location: What stands between the colon and `?`, percent-decoded: `//bucket/prefix`, `snapshots`.
        options: What follows `?`, percent-decoded; each key at most once.
    """

    scheme: str
    location: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The scheme's part before `+`: the name of an adapter or an event log."""
        return self.scheme.partition("+")[0]

    @property
    def inner(self) -> str:
        """The scheme's part after `+`, or an empty string."""
        return self.scheme.partition("+")[2]

    @classmethod
    def parse(cls, text: str, *, what: str) -> URL:
        """Take a URL apart.

        Args:
            text: The URL.
            what: What it is for, for the error's text: `storage`, `events`.

        Raises:
            ConfigurationError: It has no scheme, credentials, or an option twice.
        """
        match = _URL.fullmatch(text)
        if match is None:
            # What may hold a secret is not repeated.
            shown = f"{what}={text!r}" if _HARMLESS.fullmatch(text) else what
            raise ConfigurationError(
                f"{shown} is no URL: it has no scheme, as in 'sqlite:///events.db' or 'local:snapshots'"
            )
        location, _, query = match["rest"].partition("?")
        authority = re.split("[/?]", unquote(location)[2:], maxsplit=1)[0] if location.startswith("//") else ""
        if match["scheme"].lower() == "arn" or authority.startswith("arn:"):
            raise ConfigurationError(
                f"{what} is given an ARN, and takes a URL with a plain name; for a DynamoDB table write "
                "dynamodb://TABLE?region=REGION"
            )
        if not _AUTHORITY.fullmatch(authority):
            raise ConfigurationError(
                f"what stands after // in the URL given as {what} is no host and port; if it holds credentials leave "
                "them out and give them where the store's own client looks for them"
            )
        pairs = parse_qsl(query, keep_blank_values=True)
        options = dict(pairs)
        if len(options) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ConfigurationError(f"the URL given as {what} gives an option twice: {twice!r:.50}")
        return cls(match["scheme"].lower(), unquote(location), options)

    def path(self, *, what: str) -> str:
        """The location as a path on this machine: `name:path`, or `name:///absolute/path`.

        Raises:
            ConfigurationError: There is no path, or a host in front of it.
        """
        self.refuse_null_byte(what=what)
        path = self.location
        if path.startswith("//"):
            path = path[2:]
            if not path.startswith("/"):
                raise ConfigurationError(
                    f"{what} names a host in {self.scheme}:{self.location!r}; write {self.scheme}:relative/path or "
                    f"{self.scheme}:///absolute/path"
                )
        if not path.strip("/"):
            raise ConfigurationError(f"{what} names no path; write {self.scheme}:relative/path")
        return path

    def refuse_null_byte(self, *, what: str) -> None:
        """Refuse a location that can be no path.

        Raises:
            ConfigurationError: It holds a null byte.
        """
        if "\0" in self.location:
            raise ConfigurationError(f"{what}: the path in {self.scheme}:{self.location!r:.100} holds a null byte")

    def refuse_options(self, known: frozenset[str] = frozenset()) -> None:
        """Refuse every option that is not known.

        Raises:
            ConfigurationError: An option that is not known; what is known is listed.
        """
        for key in self.options:
            if key not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise ConfigurationError(f"{self.scheme}: knows no option {key!r}; known options: {listed}")
