"""By how long ago something was.

The moments that are stored are those of other processes' clocks, and never run backward: after one clock was far ahead
all that comes later stands at its moment, until the others have reached it. So a clock may be behind what is stored,
by so much that moments tell nothing for years. Then events decide: see `due`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from dynalayer import ConfigurationError, LayerMeta, PartitionMeta, hookimpl
from dynalayer_strategies.checks import Answer, Per, checked_per, checked_seconds

__all__ = ["BLIND", "AgeStrategy", "Clock", "EveryStrategy", "checked_clock", "now", "pending_since", "reading"]

Clock = Callable[[], int]
"""Tells the moment, in microseconds since the epoch, as the layer's `clock` does."""

BLIND = 100
"""Events that are let wait where the clock is so far behind what is stored that moments tell nothing."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = 10**14, 25 * 10**16  # 1973 to 9892: seconds or nanoseconds in place of microseconds fall outside


def now() -> int:
    """The wall clock's moment, in microseconds since the epoch."""
    return time.time_ns() // 1000


def checked_clock(strategy: str, clock: Clock) -> Clock:
    """A clock.

    Raises:
        ConfigurationError: It is no function.
    """
    if not callable(clock):
        raise ConfigurationError(f"the clock of strategy {strategy!r} is a function that tells microseconds")
    return clock


def reading(clock: Clock) -> datetime:
    """What a clock tells.

    Raises:
        ConfigurationError: No moment in microseconds since the epoch.
    """
    moment = clock()
    if type(moment) is not int or not _FIRST <= moment <= _LAST:
        raise ConfigurationError("a strategy's clock tells whole microseconds since 1970, as time.time_ns() // 1000")
    return _EPOCH + timedelta(microseconds=moment)


def pending_since(meta: LayerMeta, partition_meta: PartitionMeta, per: Per) -> tuple[datetime | None, int]:
    """When the last sync was, or before the first one the oldest pending event, and how many are pending."""
    counts = meta if per == "layer" else partition_meta
    if not counts.unsynced_total:
        return None, 0
    if counts.cursor == "__INITIAL__":
        return partition_meta.unsynced_since, counts.unsynced_total
    return datetime.fromisoformat(counts.cursor), counts.unsynced_total


def due(since: datetime | None, moment: datetime, seconds: float, pending: int) -> bool:
    """Whether so many seconds have passed.

    A clock that is behind by no more than these seconds makes it that much later, and no more. One that is further
    behind says nothing: then it is every `BLIND` events, so that it is neither every `set()` nor never.
    """
    if since is None:
        return False
    passed = (moment - since).total_seconds()
    return passed >= seconds if passed >= -seconds else pending >= BLIND


class AgeStrategy:
    """Syncs the partition that was written when its oldest pending event was appended so many seconds ago.

    Args:
        seconds: How many, above 0.
        clock: Tells the moment in microseconds since the epoch.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    name = "age"

    def __init__(self, seconds: float, *, clock: Clock = now) -> None:
        self._seconds = checked_seconds(self.name, seconds)
        self._clock = checked_clock(self.name, clock)

    @hookimpl
    def layer_strategy(self, partition_meta: PartitionMeta) -> Answer:
        """See `HookSpecs.layer_strategy`."""
        since, pending = partition_meta.unsynced_since, partition_meta.unsynced_total
        return "partition" if due(since, reading(self._clock), self._seconds, pending) else None


class EveryStrategy:
    """Syncs when the last sync was so many seconds ago; before the first one, when the oldest pending event was.

    The last sync of the layer, whichever partitions it folded: then all that is pending is synced. `per="partition"`:
    the last one of the partition that was written, which is then synced alone.

    Args:
        seconds: How many, above 0.
        per: Whose last sync.
        clock: Tells the moment in microseconds since the epoch.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    name = "every"

    def __init__(self, seconds: float, *, per: Per = "layer", clock: Clock = now) -> None:
        self._seconds = checked_seconds(self.name, seconds)
        self._per = checked_per(self.name, per)
        self._clock = checked_clock(self.name, clock)

    @hookimpl
    def layer_strategy(self, meta: LayerMeta, partition_meta: PartitionMeta) -> Answer:
        """See `HookSpecs.layer_strategy`."""
        since, pending = pending_since(meta, partition_meta, self._per)
        if not due(since, reading(self._clock), self._seconds, pending):
            return None
        return "partition" if self._per == "partition" else True
