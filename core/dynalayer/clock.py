"""Moments: whole microseconds since 1970-01-01 UTC inside, ISO 8601 and datetime outside.

Clocks decide nothing about order or visibility; versions do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from dynalayer.errors import ConfigurationError
from dynalayer.quoting import quoted

__all__ = ["INITIAL", "MICROSECONDS", "Clock", "checked", "from_iso", "now", "to_datetime", "to_iso", "to_microseconds"]

MICROSECONDS = 1_000_000
"""Microseconds in a second."""

INITIAL = "__INITIAL__"
"""The cursor of a pending record, and of a layer that has never been synced."""

Clock = Callable[[], int]
"""Tells the moment, in microseconds since the epoch."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


_FIRST, _LAST = 10**14, 25 * 10**16  # 1973 to 9892: seconds or nanoseconds in place of microseconds fall outside


def checked(clock: Clock) -> Clock:
    """A clock whose every answer is checked, so that a wrong unit never gets into what is stored.

    Raises:
        ConfigurationError: By the clock made: it told no moment in microseconds since the epoch.
    """

    def tell() -> int:
        try:
            moment = clock()
        except Exception as error:
            raise ConfigurationError(f"the clock raised {type(error).__name__}: {error}") from error
        if type(moment) is not int or not _FIRST <= moment <= _LAST:
            raise ConfigurationError(
                f"the clock told {quoted(moment, 50)}, which is no moment in whole microseconds since 1970; "
                "as in time.time_ns() // 1000"
            )
        return moment

    return tell


def now() -> int:
    """The wall clock's moment, in microseconds since the epoch."""
    return time.time_ns() // 1000


def to_datetime(moment: int) -> datetime:
    """A moment as an aware datetime in UTC, exactly (a float of seconds would round)."""
    return _EPOCH + moment * _MICROSECOND


def to_microseconds(moment: datetime) -> int:
    """An aware datetime as microseconds since the epoch, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def to_iso(moment: int) -> str:
    """A moment as ISO 8601 in UTC, always with six decimals, so that text order is time order."""
    return to_datetime(moment).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_iso(text: str) -> int:
    """What `to_iso` wrote, as microseconds since the epoch."""
    return to_microseconds(datetime.fromisoformat(text))
