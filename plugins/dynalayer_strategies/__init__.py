"""When to sync: `sync_strategy="count:100"`, `["bytes:1000000", "age:60"]`, and how such go together.

Each is a pure function of the layer's meta, the partition's meta and a clock, and costs no request of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynalayer import ConfigurationError
from dynalayer_strategies.combined import AllOfStrategy, AnyOfStrategy
from dynalayer_strategies.pending import BytesStrategy, CountStrategy
from dynalayer_strategies.timing import AgeStrategy, EveryStrategy

if TYPE_CHECKING:
    from dynalayer_strategies.schedule import ScheduleStrategy

__all__ = [
    "AgeStrategy",
    "AllOfStrategy",
    "AnyOfStrategy",
    "BytesStrategy",
    "CountStrategy",
    "EveryStrategy",
    "ScheduleStrategy",
]


def __getattr__(name: str) -> object:
    # It alone needs cronsim, which is an extra.
    if name != "ScheduleStrategy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from dynalayer_strategies.schedule import ScheduleStrategy  # noqa: PLC0415 -- see above
    except ModuleNotFoundError as error:
        if error.name != "cronsim":
            raise
        raise ConfigurationError("ScheduleStrategy needs cronsim; pip install 'dynalayer[strategies]'") from error
    return ScheduleStrategy
