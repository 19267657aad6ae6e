"""Metrics and spans, read back from OpenTelemetry's own SDK."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, get_current_span

from dynalayer import (
    Adapter,
    ConfigurationError,
    HistoryError,
    InvalidEventError,
    Layer,
    LayerError,
    Segment,
    StorageError,
    WrappedAdapter,
    hookimpl,
)
from dynalayer_local import LocalAdapter
from dynalayer_metrics import Metrics
from dynalayer_metrics.instruments import INSTRUMENTS

ROOT = Path(__file__).parents[2]
PRIVATE = "4f6b-kept-to-itself"


class Failing(WrappedAdapter):
    """Fails to store, where it is told to."""

    def __init__(self, inner: Adapter) -> None:
        super().__init__(inner)
        self.failure: BaseException | None = None

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        if self.failure is not None:
            raise self.failure
        return super().layer_setter(partition=partition, segment=segment)


def put(identifier: str = "a", partition: str = "eu", **attributes: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": {"pk": partition, "sk": identifier, **attributes}}


@dataclass
class Point:
    """One series of a metric."""

    attributes: dict[str, Any]
    value: float
    count: int


class Telemetry:
    """A program's providers, and what they were given."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def plugin(self, **settings: Any) -> Metrics:
        return Metrics(tracer_provider=self.tracers, meter_provider=self.meters, **settings)

    def raw(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        assert {scope.scope.name for scope in scopes} <= {"dynalayer"}
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name: str) -> list[Point]:
        metric = self.raw().get(name)
        if metric is None:
            return []
        return [
            Point(
                dict(point.attributes),
                point.sum if hasattr(point, "sum") else point.value,
                getattr(point, "count", 1),
            )
            for point in metric.data.data_points
        ]

    def value(self, name: str, **attributes: str) -> float:
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return sum(point.value for point in self.points(name) if wanted.items() <= point.attributes.items())

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans() if span.name == name]
        return found

    def everything(self) -> str:
        """All that left, as text."""
        data = self.reader.get_metrics_data()
        return "".join([str(span.to_json()) for span in self.spans()] + [str(data.to_json()) if data else ""])


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.meters.shutdown()
    made.tracers.shutdown()


Build = Callable[..., Layer]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    layers: list[Layer] = []

    def built(*plugins: object, **options: Any) -> Layer:
        given = {"events": "memory:", "storage": LocalAdapter(tmp_path / str(len(layers))), **options}
        arguments = {"table": "users", "get_item_unique_identifier": "sk", "get_item_partition": "pk", **given}
        layers.append(Layer(plugins=plugins, **arguments))
        return layers[-1]

    yield built
    for layer in layers:
        layer.close()


# Metrics


def test_events_are_counted_by_type_and_as_they_are_folded(build: Build, telemetry: Telemetry) -> None:
    layer = build(telemetry.plugin())
    layer.set([put("a"), put("b"), {"type": "DELETE", "item": {"pk": "eu", "sk": "a"}}])
    layer.set([put("c", "us")])
    assert telemetry.value("dynalayer.folded.events") == 0
    layer.sync("eu")
    appended = "dynalayer.appended.events"
    assert telemetry.value(appended, dynalayer__event__type="PUT") == 3
    assert telemetry.value(appended, dynalayer__event__type="DELETE") == 1
    assert telemetry.value("dynalayer.folded.events", dynalayer__table__name="users") == 3
    assert [(point.value, point.count) for point in telemetry.points("dynalayer.set.size")] == [(4, 2)]
    assert [(point.value, point.count) for point in telemetry.points("dynalayer.sync.size")] == [(3, 1)]


def test_operations_are_timed_in_seconds_by_name_and_outcome(build: Build, telemetry: Telemetry) -> None:
    layer = build(telemetry.plugin())
    layer.get("eu")
    layer.get("eu")
    with pytest.raises(HistoryError):
        layer.get("eu", at=5)
    told = {
        point.attributes.get("error.type"): point
        for point in telemetry.points("dynalayer.operation.duration")
        if point.attributes["dynalayer.operation.name"] == "get"
    }
    assert (told[None].count, told["HistoryError"].count) == (2, 1)
    assert all(0 < point.value < 60 for point in told.values())
    assert telemetry.raw()["dynalayer.operation.duration"].unit == "s"
    failures = telemetry.points("dynalayer.operation.failures")
    assert [(each.attributes["error.type"], each.value) for each in failures] == [("HistoryError", 1)]


def test_calls_of_the_adapter_are_counted_and_timed_apart(build: Build, telemetry: Telemetry, tmp_path: Path) -> None:
    store = Failing(LocalAdapter(tmp_path / "x"))
    layer = build(telemetry.plugin(), storage=store)
    layer.set([put()])
    layer.sync()
    store.failure = OSError("full")
    layer.set([put("b")])
    with pytest.raises(StorageError):
        layer.sync()
    common = {
        "dynalayer.operation.name": "storage.put",
        "dynalayer.table.name": "users",
        "dynalayer.adapter.name": "local",
    }
    for name in ("dynalayer.storage.calls", "dynalayer.storage.call.duration"):
        attributes = [point.attributes for point in telemetry.points(name)]
        assert sorted(attributes, key=len) == [common, {**common, "error.type": "StorageError"}]
    operations = telemetry.points("dynalayer.operation.duration")
    assert not [each for each in operations if each.attributes["dynalayer.operation.name"].startswith("storage")]
    failed = telemetry.points("dynalayer.operation.failures")
    assert [each.attributes["dynalayer.operation.name"] for each in failed] == ["sync"]


def test_what_no_caller_is_told_of_is_counted_in_every_thread(
    build: Build, telemetry: Telemetry, tmp_path: Path
) -> None:
    store = Failing(LocalAdapter(tmp_path / "x"))
    store.failure = OSError("full")
    layer = build(
        telemetry.plugin(table="users"),
        storage=store,
        sync_strategy=lambda meta: True,
        background_runner="thread",
    )
    layer.set([put()])
    layer.close()
    (point,) = telemetry.points("dynalayer.background.failures")
    assert point.value == 1
    assert point.attributes == {
        "dynalayer.operation.name": "sync",
        "dynalayer.table.name": "users",
        "error.type": "StorageError",
    }


def test_one_object_may_watch_layers_of_several_tables(build: Build, telemetry: Telemetry) -> None:
    plugin = telemetry.plugin()
    one, other = build(plugin), build(plugin, table="orders")
    one.set([put()])
    other.set([put(), put("b")])
    other.sync()
    for table, count in (("users", 1), ("orders", 2)):
        assert telemetry.value("dynalayer.appended.events", dynalayer__table__name=table) == count
    assert telemetry.value("dynalayer.folded.events", dynalayer__table__name="orders") == 2


def test_several_layers_of_a_program_share_its_metrics(
    build: Build, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        build(telemetry.plugin()).set([put()])
    assert telemetry.value("dynalayer.appended.events") == 2
    assert not caplog.records, "a metric made twice is no conflict"


def test_every_metric_is_made_as_the_table_says_and_told_apart_by_no_other_attribute(
    build: Build, telemetry: Telemetry, tmp_path: Path
) -> None:
    store = Failing(LocalAdapter(tmp_path / "x"))
    layer = build(telemetry.plugin(), storage=store, sync_strategy=lambda meta: meta.unsynced_total > 1)
    layer.set([put()])
    layer.sync()
    store.failure = OSError("full")
    layer.set([put(), put("b")])
    with pytest.raises(StorageError):
        layer.sync()
    raw = telemetry.raw()
    assert set(raw) == {each.name for each in INSTRUMENTS}
    for each in INSTRUMENTS:
        metric = raw[each.name]
        assert (metric.unit, metric.description) == (each.unit, each.description)
        seen = {key for point in metric.data.data_points for key in point.attributes}
        assert seen == set(each.attributes), each.name
        bounds = {tuple(getattr(point, "explicit_bounds", ())) for point in metric.data.data_points}
        assert bounds == {each.boundaries}
        assert metric.data.is_monotonic if each.kind == "counter" else not hasattr(metric.data, "is_monotonic")


class OddError(LayerError):
    """A stranger's error."""


def test_neither_partitions_nor_errors_make_more_series(build: Build, telemetry: Telemetry) -> None:
    kept: dict[str, list[Any]] = {}
    failures: list[Exception] = []

    def store(partition: str, items: list[Any]) -> None:
        if failures:
            raise failures.pop()
        kept[partition] = items

    layer = build(
        telemetry.plugin(spans=False),
        storage=None,
        getter=lambda partition: kept.get(partition, []),
        setter=store,
        sync_strategy=lambda meta, of: "partition" if of.partition[-1] in "05" else None,
    )

    def work(start: int, stop: int) -> None:
        for number in range(start, stop):
            partition = f"p{number}"
            if number % 10 == 0:
                kind = type(f"Odd{number}Error", ((RuntimeError, OddError, OSError)[number % 3],), {})
                failures.append(kind(f"text {number}"))
            layer.set([put(f"id{number}", partition)])
            layer.get(partition)
            with pytest.raises(HistoryError):
                layer.get(partition, at=number + 2)

    def series() -> int:
        return sum(len(metric.data.data_points) for metric in telemetry.raw().values())

    work(0, 40)
    before = series()
    work(40, 1000)
    assert series() == before < 40
    text = telemetry.everything()
    assert "p777" not in text
    assert "id777" not in text
    assert "text 770" not in text
    kinds = {point.attributes["error.type"] for point in telemetry.points("dynalayer.background.failures")}
    assert kinds == {"StorageError", "LayerError"}


def test_nothing_is_requested_to_measure_it(build: Build, telemetry: Telemetry) -> None:
    usage = []
    for plugins in ((), (telemetry.plugin(),)):
        layer = build(*plugins, cache_bytes=0)
        layer.set([put()])
        layer.sync()
        layer.get("eu")
        telemetry.raw()
        usage.append(layer.usage())
    assert usage[0] == usage[1]


# Spans


def test_spans_nest_as_operations_do(build: Build, telemetry: Telemetry) -> None:
    layer = build(telemetry.plugin(), sync_strategy=lambda meta: True)
    with telemetry.tracers.get_tracer("program").start_as_current_span("request") as request:
        layer.set([put()])
    strategy, sync, stored = (telemetry.span(f"dynalayer.{name}") for name in ("strategy", "sync", "storage.put"))
    parents = {span.name: span.parent.span_id for span in telemetry.spans() if span.parent is not None}
    contexts = {span.name: span.get_span_context() for span in telemetry.spans()}
    assert parents == {
        "dynalayer.set": request.get_span_context().span_id,
        "dynalayer.strategy": request.get_span_context().span_id,
        "dynalayer.sync": _id(strategy),
        "dynalayer.storage.put": _id(sync),
    }
    assert len({context.trace_id for context in contexts.values() if context is not None}) == 1
    assert stored.attributes == {
        "dynalayer.operation.name": "storage.put",
        "dynalayer.table.name": "users",
        "dynalayer.adapter.name": "local",
        "dynalayer.partition.name": "eu",
    }
    assert telemetry.span("dynalayer.set").attributes["dynalayer.set.size"] == 1  # type: ignore[index] # it has some
    assert sync.attributes["dynalayer.sync.size"] == 1  # type: ignore[index] # likewise
    assert {span.status.status_code for span in telemetry.spans()} == {StatusCode.UNSET}


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def test_a_sync_in_the_background_is_a_trace_of_its_own(build: Build, telemetry: Telemetry) -> None:
    layer = build(telemetry.plugin(), sync_strategy=lambda meta: True, background_runner="thread")
    with telemetry.tracers.get_tracer("program").start_as_current_span("request"):
        layer.set([put()])
    layer.close()
    assert telemetry.span("dynalayer.sync").parent is None
    assert telemetry.span("dynalayer.storage.put").parent is not None


def test_a_span_that_fails_says_so_and_keeps_no_traceback(build: Build, telemetry: Telemetry, tmp_path: Path) -> None:
    store = Failing(LocalAdapter(tmp_path / "x"))
    store.failure = OSError("full")
    layer = build(telemetry.plugin(), storage=store)
    layer.set([put()])
    with pytest.raises(StorageError):
        layer.sync()
    for name in ("dynalayer.storage.put", "dynalayer.sync"):
        span = telemetry.span(name)
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "could not store a segment: OSError: full"
        assert span.attributes is not None
        assert span.attributes["error.type"] == "StorageError"
        assert not span.events


@pytest.mark.parametrize("spans", [True, False])
def test_partitions_and_messages_are_left_out_of_spans_and_spans_altogether(
    build: Build, telemetry: Telemetry, tmp_path: Path, spans: bool
) -> None:
    store = Failing(LocalAdapter(tmp_path / "x"))
    store.failure = OSError("cannot write hidden-partition/1")
    layer = build(telemetry.plugin(spans=spans, partitions_in_spans=False), storage=store)
    layer.set([put(partition="hidden-partition")])
    with pytest.raises(StorageError):
        layer.sync()
    assert layer.get("hidden-partition")
    assert "hidden-partition" not in telemetry.everything()
    assert bool(telemetry.spans()) == spans
    assert telemetry.value("dynalayer.operation.failures") == 1


def test_what_is_in_items_never_leaves(build: Build, telemetry: Telemetry, tmp_path: Path) -> None:
    store = Failing(LocalAdapter(tmp_path / "x"))
    layer = build(telemetry.plugin(), storage=store)
    layer.set([put(PRIVATE, state=PRIVATE)])
    layer.sync()
    layer.get("eu")
    layer.history("eu", id=PRIVATE)
    wrong: list[Any] = [
        {"type": PRIVATE, "item": {}},
        {"type": "PUT", "item": {"pk": "eu", "sk": "a", "x": {PRIVATE: float("nan")}}},
        {"type": "PUT", "item": {"pk": "eu", "sk": PRIVATE}, "id": "other"},
        PRIVATE,
    ]
    for event in wrong:
        with pytest.raises(InvalidEventError, match=r"."):
            layer.set([event])
    store.failure = ValueError(f"cannot take {PRIVATE}")
    layer.set([put("b")])
    with pytest.raises(StorageError, match=PRIVATE):
        layer.sync()
    with pytest.raises(InvalidEventError, match=PRIVATE):
        layer.import_snapshot("new", [{"pk": "new", "sk": PRIVATE}, {"pk": "new", "sk": PRIVATE}])
    assert telemetry.value("dynalayer.operation.failures") == 6
    assert PRIVATE not in telemetry.everything()


def test_a_log_record_is_made_within_the_span_where_metrics_stand_after_the_log(
    build: Build, telemetry: Telemetry
) -> None:
    inside: list[int] = []

    class Tracing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            inside.append(get_current_span().get_span_context().span_id)

    logger, handler = logging.getLogger("dynalayer.operations"), Tracing()
    logger.addHandler(handler)
    try:
        with build("log:error", telemetry.plugin()) as layer:
            layer.get("eu")
    finally:
        logger.removeHandler(handler)
    assert inside == [_id(telemetry.span("dynalayer.get")), _id(telemetry.span("dynalayer.close"))]


def test_an_interruption_is_told_as_a_failure(build: Build, telemetry: Telemetry, tmp_path: Path) -> None:
    store = Failing(LocalAdapter(tmp_path / "x"))
    store.failure = KeyboardInterrupt()
    layer = build(telemetry.plugin(), storage=store)
    layer.set([put()])
    with pytest.raises(KeyboardInterrupt):
        layer.sync()
    assert telemetry.span("dynalayer.sync").status.status_code is StatusCode.ERROR
    assert telemetry.value("dynalayer.operation.failures", error__type="KeyboardInterrupt") == 1


# Switching on


PROVIDED: Telemetry | None = None


def tracers() -> TracerProvider:
    assert PROVIDED is not None
    return PROVIDED.tracers


def test_its_settings_may_be_named(build: Build, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PROVIDED", telemetry)
    monkeypatch.setitem(sys.modules, "a_program", sys.modules[__name__])
    spec = {"use": "metrics", "tracer_provider": "a_program:tracers", "partitions_in_spans": "false"}
    layer = build(spec)
    layer.get("eu")
    assert "dynalayer.partition.name" not in (telemetry.span("dynalayer.get").attributes or {})
    with pytest.raises(ConfigurationError, match="has no setting 'span'; did you mean 'spans'"):
        build("metrics:?span=true")
    with pytest.raises(ConfigurationError, match="spans is true or false"):
        build("metrics:?spans=perhaps")


GLOBAL = """
import sys, threading
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from dynalayer import Layer

layer = Layer(table="users", get_item_unique_identifier="sk", events="memory:", storage="local:x", plugins=["metrics"])
layer.partitions()  # nobody listens yet
reader, exporter, tracers = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider([reader]))
layer.get()
print(*(span.name for span in exporter.get_finished_spans()))
print(*(m.name for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics for m in s.metrics))
"""


def test_the_programs_global_providers_are_taken_also_where_they_come_later(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", GLOBAL], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["dynalayer.get", "dynalayer.operation.duration"]


def test_the_example_prints_metrics_and_spans(tmp_path: Path) -> None:
    example = ROOT / "docs" / "examples" / "metrics.py"
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    printed, decoder, text = [], json.JSONDecoder(), done.stdout.strip()
    while text:
        value, end = decoder.raw_decode(text)
        printed.append(value)
        text = text[end:].lstrip()
    spans = {each["name"]: each for each in printed if "context" in each}
    assert {"dynalayer.set", "dynalayer.sync", "dynalayer.storage.put", "dynalayer.get", "dynalayer.close"} <= set(
        spans
    )
    assert spans["dynalayer.get"]["attributes"]["dynalayer.partition.name"] == "eu"
    assert spans["dynalayer.get"]["resource"]["attributes"]["service.name"] == "users"
    (collected,) = [each for each in printed if "resource_metrics" in each]
    told = {
        metric["name"]: metric["data"]["data_points"]
        for resource in collected["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }
    assert [point["value"] for point in told["dynalayer.appended.events"]] == [2]
    assert [point["value"] for point in told["dynalayer.folded.events"]] == [2]
