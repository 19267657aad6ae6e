"""Segments are also kept on this machine's disk: `storage=["cache:/var/cache/users", …]`."""

from dynalayer_cache.adapter import Cache, CachedAdapter

__all__ = ["Cache", "CachedAdapter"]
