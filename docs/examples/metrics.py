"""Metrics and spans of a layer, printed by OpenTelemetry's own console exporters. Run it: `python metrics.py`.

It needs `pip install 'dynalayer[metrics]' opentelemetry-sdk`. Another exporter, for a collector or Prometheus, stands
in the same two places.
"""

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from dynalayer import Layer

resource = Resource.create({"service.name": "users"})
tracers = TracerProvider(resource=resource)
tracers.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(tracers)
meters = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())], resource=resource)
metrics.set_meter_provider(meters)

with Layer(table="users", get_item_unique_identifier="sk", get_item_partition="pk", plugins=["metrics"]) as layer:
    layer.set(
        [
            {"type": "PUT", "item": {"pk": "eu", "sk": "ada", "state": "active"}},
            {"type": "PUT", "item": {"pk": "us", "sk": "alan", "state": "active"}},
        ]
    )
    layer.sync()
    layer.get("eu")

tracers.shutdown()
meters.shutdown()
