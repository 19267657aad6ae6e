"""By the calendar: a cron expression, read as Debian's cron reads it.

The library is cronsim: it has no dependencies, is typed, knows zoneinfo's time zones and what cron does when clocks are
set forward or back, and is kept by the author of a service that watches cron jobs. croniter, the better known, was once
given up by its author, and takes much that cron does not.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import lru_cache, partial
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from dynalayer import ConfigurationError, LayerMeta, PartitionMeta, hookimpl
from dynalayer_strategies.checks import Answer, Per, checked_per
from dynalayer_strategies.timing import BLIND, Clock, checked_clock, now, pending_since, reading

__all__ = ["ScheduleStrategy"]

_LONGEST = 200  # characters of an expression
_REMEMBERED = 1024  # partitions: the moment after their last sync stays what it is until the next


class ScheduleStrategy:
    """Syncs when a moment of a schedule has come since the last sync; before the first one, since the oldest event.

    The last sync of the layer, whichever partitions it folded: then all that is pending is synced. `per="partition"`:
    the last one of the partition that was written, which is then synced alone.

    Args:
        expression: Five fields of cron: minute, hour, day of the month, month, day of the week; `"0 4 * * *"`.
        zone: The time zone that they are meant in, by its name in the IANA's database: `"Europe/Berlin"`.
        per: Whose last sync.
        clock: Tells the moment in microseconds since the epoch.

    Raises:
        ConfigurationError: A setting is wrong, or no moment of the schedule ever comes.
    """

    name = "schedule"

    def __init__(self, expression: str, *, zone: str = "UTC", per: Per = "layer", clock: Clock = now) -> None:
        _check(expression)
        self._after = lru_cache(_REMEMBERED)(partial(_moment_after, expression, _zone(zone)))
        self._per = checked_per(self.name, per)
        self._clock = checked_clock(self.name, clock)

    @hookimpl
    def layer_strategy(self, meta: LayerMeta, partition_meta: PartitionMeta) -> Answer:
        """See `HookSpecs.layer_strategy`."""
        since, pending = pending_since(meta, partition_meta, self._per)
        if since is None or not self._due(since, reading(self._clock), pending):
            return None
        return "partition" if self._per == "partition" else True

    def _due(self, since: datetime, moment: datetime, pending: int) -> bool:
        if since <= moment:
            return self._after(since) <= moment
        # A clock that is behind what is stored by a whole step of the schedule says nothing: see `timing`.
        return self._after(moment) <= since and pending >= BLIND


def _check(expression: object) -> None:
    wanted = "the expression of strategy 'schedule' has five fields, as in '0 4 * * *'"
    if not isinstance(expression, str) or len(expression) > _LONGEST or len(expression.split()) != len("mhdMw"):
        raise ConfigurationError(wanted)
    try:
        # From a fixed moment: what comes at all comes within 50 years of any, since 40 lie between two Mondays of 29
        # February at most.
        _moment_after(expression, UTC, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ConfigurationError(f"{wanted}: {error}") from error
    except (AssertionError, TypeError, ValueError) as error:  # so cronsim takes some that are no expression
        raise ConfigurationError(wanted) from error
    except LookupError as error:
        raise ConfigurationError("the expression of strategy 'schedule' is of no moment that ever comes") from error


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, TypeError, ValueError) as error:
        raise ConfigurationError(
            "the zone of strategy 'schedule' is no time zone that is known here, as 'Europe/Berlin' is; "
            "where the system has no database of them: pip install tzdata"
        ) from error


def _moment_after(expression: str, zone: tzinfo, moment: datetime) -> datetime:
    """The first moment of a schedule after another.

    Raises:
        LookupError: There is none within 50 years.
    """
    for found in CronSim(expression, moment.astimezone(zone)):
        return found.astimezone(UTC)
    raise LookupError
