"""dynalayer: a change log and snapshots over a table: cheap to read whole, no change lost, history told."""

from dynalayer.errors import (
    AppendError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    EventLogError,
    HistoryError,
    InvalidEventError,
    InvalidInputError,
    InvalidValueError,
    LayerError,
    LayoutError,
    PluginError,
    PluginLoadError,
    PluginNotFoundError,
    SegmentCorruptError,
    SegmentMissingError,
    StorageError,
)
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.eventlog.sqlite import SQLiteEventLog
from dynalayer.events import Event
from dynalayer.hookspecs import Adapter, Capabilities, Job, Wrapper, hookimpl
from dynalayer.layer import Layer
from dynalayer.segments import Segment
from dynalayer.states import LayerMeta, PartitionMeta, SyncResult
from dynalayer.urls import URL
from dynalayer.vacuuming import VacuumResult
from dynalayer.values import Item
from dynalayer.verifying import Finding, VerifyResult

__all__ = [
    "URL",
    "Adapter",
    "AppendError",
    "Capabilities",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "Event",
    "EventLog",
    "EventLogError",
    "Finding",
    "HistoryError",
    "InvalidEventError",
    "InvalidInputError",
    "InvalidValueError",
    "Item",
    "Job",
    "Layer",
    "LayerError",
    "LayerMeta",
    "LayoutError",
    "MemoryEventLog",
    "PartitionMeta",
    "PluginError",
    "PluginLoadError",
    "PluginNotFoundError",
    "SQLiteEventLog",
    "Segment",
    "SegmentCorruptError",
    "SegmentMissingError",
    "StorageError",
    "SyncResult",
    "VacuumResult",
    "VerifyResult",
    "Wrapper",
    "hookimpl",
]
