"""dynalayer: a change log and snapshots over a table: cheap to read whole, no change lost, history told."""

import importlib
import typing

from dynalayer.comparing import Comparison, Difference
from dynalayer.costs import Cost, Prices, Request, Usage
from dynalayer.counting import current_operation
from dynalayer.durable import DurableFiles, file_failure
from dynalayer.errors import (
    AppendError,
    BatchError,
    ClosedError,
    ConditionFailedError,
    ConfigurationError,
    ConflictError,
    ConsumerTakenError,
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
    PositionExpiredError,
    SegmentCorruptError,
    SegmentMissingError,
    SourceError,
    SpoolError,
    StorageError,
    TransactionError,
    TransactionReason,
)
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.eventlog.sqlite import SQLiteEventLog
from dynalayer.events import Event
from dynalayer.explaining import Explanation
from dynalayer.facts import ErrorFacts
from dynalayer.following import Consumer, ConsumerPosition, Feed
from dynalayer.hookspecs import Adapter, Capabilities, Job, Wrapper, hookimpl
from dynalayer.layer import Layer
from dynalayer.names import safe_name
from dynalayer.opening import need_capturing as _need_capturing
from dynalayer.opening import need_dynamodb as _need_dynamodb
from dynalayer.opening import open_adapter
from dynalayer.options import load_strategy
from dynalayer.passing import may_pass
from dynalayer.plain import plain_json
from dynalayer.plugins import load_plugin
from dynalayer.s3 import s3_refusal
from dynalayer.s3_options import checked_s3_access, checked_s3_prefix, checked_s3_writing
from dynalayer.segments import Segment, SegmentHeader
from dynalayer.states import (
    ImportResult,
    LayerMeta,
    Operation,
    PartitionMeta,
    ResetProgress,
    ResetResult,
    SyncResult,
)
from dynalayer.urls import URL
from dynalayer.vacuuming import VacuumResult
from dynalayer.values import Item
from dynalayer.verifying import Finding, VerifyResult
from dynalayer.wrapping import WrappedAdapter

if typing.TYPE_CHECKING:
    from dynalayer.aio.layers import AsyncLayer
    from dynalayer.aio.reading import AsyncFeed
    from dynalayer.aio.tables import AsyncCapturedTable
    from dynalayer.capturing import CapturedTable
    from dynalayer.eventlog.dynamodb import DynamoDBEventLog, TableMade, create_table

__all__ = [
    "URL",
    "Adapter",
    "AppendError",
    "AsyncCapturedTable",
    "AsyncFeed",
    "AsyncLayer",
    "BatchError",
    "Capabilities",
    "CapturedTable",
    "ClosedError",
    "Comparison",
    "ConditionFailedError",
    "ConfigurationError",
    "ConflictError",
    "Consumer",
    "ConsumerPosition",
    "ConsumerTakenError",
    "Cost",
    "Difference",
    "DurableFiles",
    "DynamoDBEventLog",
    "ErrorFacts",
    "Event",
    "EventLog",
    "EventLogError",
    "Explanation",
    "Feed",
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
    "PositionExpiredError",
    "Prices",
    "Request",
    "ResetProgress",
    "ResetResult",
    "SQLiteEventLog",
    "Segment",
    "SegmentCorruptError",
    "SegmentHeader",
    "SegmentMissingError",
    "SourceError",
    "SpoolError",
    "StorageError",
    "SyncResult",
    "TableMade",
    "TransactionError",
    "TransactionReason",
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

# Likewise what needs anyio, which only who runs an event loop has a use for.
_OF_ANYIO = {
    "AsyncFeed": "dynalayer.aio.reading",
    "AsyncCapturedTable": "dynalayer.aio.tables",
    "AsyncLayer": "dynalayer.aio.layers",
}


def __getattr__(name: str) -> object:
    if name in _OF_ANYIO:
        return getattr(importlib.import_module(_OF_ANYIO[name]), name)
    if name == "CapturedTable":
        return _need_capturing().CapturedTable
    if name not in _OF_DYNAMODB:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_need_dynamodb(), name)
