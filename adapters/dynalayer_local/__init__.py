"""Snapshots in local files: `storage="local:snapshots"`."""

from dynalayer_local.adapter import LocalAdapter

__all__ = ["LocalAdapter"]
