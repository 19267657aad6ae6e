"""A record's fields as text: one line, whatever stands in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal

__all__ = ["Format", "as_text"]

Format = Literal["logfmt", "json"]

_BARE = re.compile(r"""[^\s"'=\\]+""")


def as_text(fields: Mapping[str, object], how: Format) -> str:
    """Fields as `key=value` pairs, what is no plain word quoted as in JSON; or as one JSON object."""
    if how == "json":
        return json.dumps(fields)
    return " ".join(f"{key}={_value(value)}" for key, value in fields.items())


def _value(value: object) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    return value if _BARE.fullmatch(value) and value.isprintable() else json.dumps(value)
