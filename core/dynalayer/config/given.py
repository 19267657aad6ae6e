"""What a source says: values, and where each of them stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Said", "Source", "Value"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value is from.

    Attributes:
        kind: What sort of source it is.
        name: The option's, the environment variable's or the file's name.
        key: Where it stands in the file: `layers.users.ttl`.
    """

    kind: Literal["option", "environment", "file", "default"]
    name: str = ""
    key: str = ""

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.name}: {self.key}" if self.key else self.name
        return f"option {self.name}" if self.kind == "option" else self.name or self.kind


@dataclass(frozen=True, slots=True)
class Value:
    """What is said for a setting, as it was written, and where."""

    given: object
    source: Source


@dataclass(frozen=True, slots=True)
class Said:
    """All that one source says.

    Attributes:
        name: What the source is called.
        common: Settings of whichever layer is used.
        layers: Settings of one layer.
    """

    name: str
    common: Mapping[str, Value] = field(default_factory=dict)
    layers: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
