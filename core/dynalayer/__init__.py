"""dynalayer: a change log and snapshots over a table: cheap to read whole, no change lost, history told."""

import importlib
import typing

from dynalayer.costs import Cost, Prices, Request, Usage
from dynalayer.counting import current_operation
from dynalayer.durable import DurableFiles, file_failure
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
from dynalayer.explaining import Explanation
from dynalayer.facts import ErrorFacts
from dynalayer.hookspecs import Adapter, Capabilities, Job, Wrapper, hookimpl
from dynalayer.layer import Layer
from dynalayer.names import safe_name
from dynalayer.opening import need_dynamodb as _need_dynamodb
from dynalayer.opening import open_adapter
from dynalayer.options import load_strategy
from dynalayer.passing import may_pass
from dynalayer.plain import plain_json
from dynalayer.plugins import load_plugin
from dynalayer.s3 import s3_refusal
from dynalayer.s3_options import checked_s3_access, checked_s3_prefix, checked_s3_writing
from dynalayer.segments import Segment, SegmentHeader
from dynalayer.states import ImportResult, LayerMeta, Operation, PartitionMeta, SyncResult
from dynalayer.urls import URL
from dynalayer.vacuuming import VacuumResult
from dynalayer.values import Item
from dynalayer.verifying import Finding, VerifyResult
from dynalayer.wrapping import WrappedAdapter

if typing.TYPE_CHECKING:
    from dynalayer.aio import AsyncLayer
    from dynalayer.eventlog.dynamodb import DynamoDBEventLog, TableMade, create_table

__all__ = [
    "URL",
    "Adapter",
    "AppendError",
    "AsyncLayer",
    "Capabilities",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "Cost",
    "DurableFiles",
    "DynamoDBEventLog",
    "ErrorFacts",
    "Event",
    "EventLog",
    "EventLogError",
    "Explanation",
    "Finding",
    "HistoryError",
    "ImportResult",
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
    "Operation",
    "PartitionMeta",
    "PluginError",
    "PluginLoadError",
    "PluginNotFoundError",
    "Prices",
    "Request",
    "SQLiteEventLog",
    "Segment",
    "SegmentCorruptError",
    "SegmentHeader",
    "SegmentMissingError",
    "StorageError",
    "SyncResult",
    "TableMade",
    "Usage",
    "VacuumResult",
    "VerifyResult",
    "WrappedAdapter",
    "Wrapper",
    "checked_s3_access",
    "checked_s3_prefix",
    "checked_s3_writing",
    "create_table",
    "current_operation",
    "file_failure",
    "hookimpl",
    "load_plugin",
    "load_strategy",
    "may_pass",
    "open_adapter",
    "plain_json",
    "s3_refusal",
    "safe_name",
]

# What needs boto3, which is an extra and takes a while to import, is imported when it is first asked for.
_OF_DYNAMODB = frozenset({"DynamoDBEventLog", "TableMade", "create_table"})


def __getattr__(name: str) -> object:
    if name == "AsyncLayer":  # anyio takes a while too, and only who runs an event loop needs it
        return importlib.import_module("dynalayer.aio").AsyncLayer
    if name not in _OF_DYNAMODB:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_need_dynamodb(), name)
