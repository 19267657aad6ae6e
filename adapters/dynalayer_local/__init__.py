"""Snapshots in local files: `storage="local:snapshots"`."""

from dynalayer_local.adapter import LocalAdapter
from dynalayer_local.names import safe_name

__all__ = ["LocalAdapter", "safe_name"]
