"""What is measured: every metric with its kind, unit and attributes, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["INSTRUMENTS", "Instrument"]

OPERATION = "dynalayer.operation.name"
TABLE = "dynalayer.table.name"
ADAPTER = "dynalayer.adapter.name"
EVENT_TYPE = "dynalayer.event.type"
ERROR = "error.type"

# Seconds. The lower ones are those of OpenTelemetry's database clients; a sync may take longer than a query.
_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
_SIZES = (1, 10, 100, 1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Instrument:
    """A metric.

    Attributes:
        name: Its name.
        kind: Counter or histogram.
        unit: Its unit, in the notation of OpenTelemetry.
        attributes: What its series are told apart by.
        description: What it measures.
        boundaries: Of a histogram the upper bounds of its buckets, unless the program's views say others.
    """

    name: str
    kind: Literal["counter", "histogram"]
    unit: str
    attributes: tuple[str, ...]
    description: str
    boundaries: tuple[float, ...] = ()


INSTRUMENTS = (
    Instrument(
        "dynalayer.operation.duration",
        "histogram",
        "s",
        (OPERATION, TABLE, ERROR),
        "How long operations of the layer took",
        _SECONDS,
    ),
    Instrument(
        "dynalayer.operation.failures",
        "counter",
        "{failure}",
        (OPERATION, TABLE, ERROR),
        "Operations of the layer that ended with an error",
    ),
    Instrument(
        "dynalayer.storage.call.duration",
        "histogram",
        "s",
        (OPERATION, TABLE, ADAPTER, ERROR),
        "How long calls of the storage adapter took",
        _SECONDS,
    ),
    Instrument(
        "dynalayer.storage.calls",
        "counter",
        "{call}",
        (OPERATION, TABLE, ADAPTER, ERROR),
        "Calls of the storage adapter",
    ),
    Instrument(
        "dynalayer.appended.events",
        "counter",
        "{event}",
        (TABLE, EVENT_TYPE),
        "Events that were appended",
    ),
    Instrument(
        "dynalayer.folded.events",
        "counter",
        "{event}",
        (TABLE,),
        "Events that were folded into snapshots",
    ),
    Instrument(
        "dynalayer.set.size",
        "histogram",
        "{event}",
        (TABLE,),
        "Events of one set()",
        _SIZES,
    ),
    Instrument(
        "dynalayer.sync.size",
        "histogram",
        "{event}",
        (TABLE,),
        "Events that one sync folded",
        _SIZES,
    ),
    Instrument(
        "dynalayer.background.failures",
        "counter",
        "{failure}",
        (OPERATION, TABLE, ERROR),
        "Failures that no caller was told of",
    ),
)
