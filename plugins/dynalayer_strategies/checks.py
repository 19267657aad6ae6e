"""Settings are checked when a strategy is made: what is wrong is told by the layer's constructor, not by a `set()`."""

from __future__ import annotations

import math
from typing import Literal

from dynalayer import ConfigurationError

__all__ = ["Answer", "Per", "checked_limit", "checked_per", "checked_seconds"]

Per = Literal["layer", "partition"]
"""Whose counts and whose last sync: the layer's, whose answer is True, or the partition's, whose answer is that."""

Answer = Literal[True, "partition"] | None
"""What a strategy says."""


def checked_limit(strategy: str, limit: object) -> int:
    """A limit of things that are pending.

    Raises:
        ConfigurationError: It is no whole number above 0.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigurationError(f"the limit of strategy {strategy!r} is a whole number above 0")
    return limit


def checked_seconds(strategy: str, seconds: object) -> float:
    """A time in seconds.

    Raises:
        ConfigurationError: It is no positive number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ConfigurationError(f"the seconds of strategy {strategy!r} are a number above 0")
    return seconds


def checked_per(strategy: str, per: Per) -> Per:
    """Whose counts and whose last sync.

    Raises:
        ConfigurationError: It is neither.
    """
    if per not in ("layer", "partition"):
        raise ConfigurationError(f"strategy {strategy!r} is per 'layer' or per 'partition'")
    return per
