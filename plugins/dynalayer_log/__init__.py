"""A log record for every operation of a layer, by the standard library's `logging`: `plugins=["log"]`."""

from dynalayer_log.observer import Log

__all__ = ["Log"]
