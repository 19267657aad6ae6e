"""The observer: a histogram's value and a span for every operation and every call of the adapter."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import INVALID_SPAN, Span, Status, StatusCode, TracerProvider

from dynalayer import ErrorFacts, Event, Operation, SyncResult, hookimpl
from dynalayer_metrics.instruments import ADAPTER, ERROR, EVENT_TYPE, INSTRUMENTS, OPERATION, TABLE

__all__ = ["Metrics"]

PARTITION = "dynalayer.partition.name"

_current: ContextVar[_Running | None] = ContextVar("dynalayer-metrics-operation", default=None)


@dataclass(slots=True)
class _Running:
    """An operation that has begun, and the events that it has to do with as far as they are known."""

    operation: Operation
    span: Span
    sizes: dict[str, int] = field(default_factory=dict)


class Metrics:
    """Measures and traces a layer's operations.

    Attributes of metrics come from small, bounded sets: names of operations, adapters, tables, event types and classes
    of errors. Partitions stand in spans alone; identifiers, versions, refs and contents of items nowhere. Nothing is
    requested of the log or the store to measure it.

    Args:
        tracer_provider: Whose tracer makes the spans, or a function that tells it; None for the global one.
        meter_provider: Whose meter makes the metrics, likewise.
        spans: Whether there are spans.
        partitions_in_spans: Whether spans name the partition. Without, they have no messages of errors either, since
            those may name it.
        table: The layer's table.
    """

    name = "metrics"

    def __init__(
        self,
        *,
        tracer_provider: Callable[[], TracerProvider] | TracerProvider | None = None,
        meter_provider: Callable[[], MeterProvider] | MeterProvider | None = None,
        spans: bool = True,
        partitions_in_spans: bool = True,
        table: str | None = None,
    ) -> None:
        self._spans = spans
        self._partitions = partitions_in_spans
        self._table = table
        release = _release()
        # Those of the global providers turn to whatever provider the program sets later.
        tracers = tracer_provider() if callable(tracer_provider) else tracer_provider
        self._tracer = trace.get_tracer("dynalayer", release, tracer_provider=tracers)
        meters = meter_provider() if callable(meter_provider) else meter_provider
        self._record = _recorders(metrics.get_meter("dynalayer", release, meter_provider=meters))

    @hookimpl
    def layer_operation(self, operation: Operation) -> AbstractContextManager[None]:
        """See `HookSpecs.layer_operation`."""
        return self._watched(operation)

    @contextmanager
    def _watched(self, operation: Operation) -> Iterator[None]:
        error: BaseException | None = None
        begun = time.perf_counter()
        with self._span(operation) as span:
            running = _Running(operation, span)
            token = _current.set(running)
            try:
                yield
            except BaseException as raised:
                error = raised
                raise
            finally:
                _current.reset(token)
                self._ended(running, time.perf_counter() - begun, error)

    @contextmanager
    def _span(self, operation: Operation) -> Iterator[Span]:
        if not self._spans:
            yield INVALID_SPAN
            return
        attributes = _attributes(operation)
        if self._partitions and operation.partition is not None:
            attributes[PARTITION] = operation.partition
        # Not its own record of exceptions: that has the message, which may quote an item, and the traceback.
        with self._tracer.start_as_current_span(
            f"dynalayer.{operation.name}", attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            yield span

    def _ended(self, running: _Running, seconds: float, error: BaseException | None) -> None:
        operation, attributes = running.operation, _attributes(running.operation)
        running.span.set_attributes(running.sizes)
        if error is not None:
            facts = ErrorFacts.of(error)
            attributes[ERROR] = facts.kind
            running.span.set_attribute(ERROR, facts.kind)
            running.span.set_status(Status(StatusCode.ERROR, facts.message if self._partitions else None))
        if operation.adapter is not None:
            self._record["dynalayer.storage.call.duration"](seconds, attributes)
            self._record["dynalayer.storage.calls"](1, attributes)
            return
        self._record["dynalayer.operation.duration"](seconds, attributes)
        if error is not None:
            self._record["dynalayer.operation.failures"](1, attributes)

    @hookimpl
    def layer_appended(self, events: Sequence[Event]) -> None:
        """See `HookSpecs.layer_appended`."""
        for kind, count in Counter(event.type for event in events).items():
            self._record["dynalayer.appended.events"](count, {**self._of_table(), EVENT_TYPE: kind})
        self._size("dynalayer.set.size", len(events))

    @hookimpl
    def layer_synced(self, result: SyncResult) -> None:
        """See `HookSpecs.layer_synced`."""
        self._record["dynalayer.folded.events"](result.count, self._of_table())
        self._size("dynalayer.sync.size", result.count)

    @hookimpl
    def layer_failed(self, operation: str, error: Exception) -> None:
        """See `HookSpecs.layer_failed`."""
        told = {**self._of_table(), OPERATION: operation, ERROR: ErrorFacts.of(error).kind}
        self._record["dynalayer.background.failures"](1, told)

    def _size(self, name: str, count: int) -> None:
        self._record[name](count, self._of_table())
        running = _current.get()
        if running is not None:
            running.sizes[name] = running.sizes.get(name, 0) + count

    def _of_table(self) -> dict[str, str]:
        """The table: that of the operation at work, since one object may watch several layers."""
        running = _current.get()
        table = self._table if running is None else running.operation.table
        return {} if table is None else {TABLE: table}


_Record = Callable[[float, Mapping[str, str]], None]


def _recorders(meter: metrics.Meter) -> dict[str, _Record]:
    """What records a value, by the name of the metric."""
    recorders: dict[str, _Record] = {}
    for each in INSTRUMENTS:
        if each.kind == "counter":
            recorders[each.name] = meter.create_counter(each.name, each.unit, each.description).add
        else:
            recorders[each.name] = meter.create_histogram(
                each.name, each.unit, each.description, explicit_bucket_boundaries_advisory=each.boundaries
            ).record
    return recorders


def _attributes(operation: Operation) -> dict[str, str]:
    attributes = {OPERATION: operation.name, TABLE: operation.table}
    if operation.adapter is not None:
        attributes[ADAPTER] = operation.adapter
    return attributes


def _release() -> str:
    try:
        return version("dynalayer")
    except PackageNotFoundError:  # run from a folder that nobody installed
        return ""
