"""Metrics and traces of what a layer does, by OpenTelemetry's API: `plugins=["metrics"]`."""

from dynalayer_metrics.observer import Metrics

__all__ = ["Metrics"]
