"""Capture: the source table is written together with its events. Needs boto3: the extra `dynalayer[dynamodb]`."""

from dynalayer.capturing.table import CapturedTable

__all__ = ["CapturedTable"]
