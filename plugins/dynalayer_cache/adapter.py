"""The wrapper: what may be answered from this machine's disk, and what must come from the store."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from dynalayer import (
    Adapter,
    ConfigurationError,
    LayerError,
    Segment,
    WrappedAdapter,
    current_operation,
    hookimpl,
)
from dynalayer_cache.shelf import LEAST_BYTES, MOST_BYTES, Shelf

__all__ = ["Cache", "CachedAdapter"]

# As the engine makes them up: with the random part of one no two segments have the same.
_FRESH = re.compile(r"[0-9]{20}-(base|delta)-[0-9a-z]+-[0-9a-f]{16}")
_CHECKING = "verify"


class Cache:
    """A wrapper that keeps what was read and stored in a folder of this machine, and answers from there.

    Any number of processes may share a folder. Whatever goes wrong with it, no call fails: then the store answers.

    Args:
        folder: The folder; made when it is needed, readable by its owner alone.
        max_bytes: How much it may hold. What was used least recently goes first.

    Raises:
        ConfigurationError: A setting is out of bounds.
    """

    name = "cache"

    def __init__(self, folder: Path | str, *, max_bytes: int = 1024 * 1024 * 1024) -> None:
        _check_bytes(max_bytes)
        if not str(folder) or "\0" in str(folder):
            raise ConfigurationError("cache: folder is the path of a folder")
        # As in a URL: cache:///var/cache and cache:/var/cache are the same.
        self._folder = Path(re.sub("^//+", "/", str(folder))).absolute()
        if self._folder.is_file():
            raise ConfigurationError(f"cache: {self._folder} is a file, and no folder")
        self._max_bytes = max_bytes

    def around(self, inner: Adapter) -> CachedAdapter:
        """Put it around an adapter.

        Raises:
            ConfigurationError: What it would keep may change, or it keeps in the same folder already.
        """
        if not inner.capabilities.immutable:
            raise ConfigurationError(
                f"storage: cache stands in front of {inner.name}, where what was read may change: only what never does "
                "can be kept"
            )
        shelf = Shelf(self._folder, self._max_bytes)
        within: object = inner
        while within is not None:
            if isinstance(within, CachedAdapter) and within.shelf.folder == shelf.folder:
                raise ConfigurationError(f"storage: two caches keep in {self._folder}; leave one out")
            within = getattr(within, "inner", None)
        return CachedAdapter(inner, shelf)


def _check_bytes(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not LEAST_BYTES <= value <= MOST_BYTES:
        raise ConfigurationError(
            f"cache: max_bytes is a whole number of {LEAST_BYTES} to {MOST_BYTES} bytes, not {value!r:.50}"
        )


class CachedAdapter(WrappedAdapter):
    """An adapter whose segments are also kept on this machine; see `Cache`.

    Kept is only what cannot be taken for something else: a segment whose name, which no other has, is in its ref.

    Args:
        inner: The adapter.
        shelf: Where they are kept.

    Attributes:
        shelf: Likewise.
    """

    def __init__(self, inner: Adapter, shelf: Shelf) -> None:
        super().__init__(inner)
        self.shelf = shelf
        self._stack = _stack(inner)

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        """Store a segment, and keep it."""
        ref = super().layer_setter(partition, segment)
        self._keep(partition, ref, segment)
        return ref

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        """Load a segment, from the store if it is not kept, or if the store is what is asked about."""
        if current_operation() == _CHECKING:
            return super().layer_getter(partition, ref)
        kept = self._kept(partition, ref)
        if kept is not None:
            return kept
        segment = super().layer_getter(partition, ref)
        self._keep(partition, ref, segment)
        return segment

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        """Remove a segment, and then what is kept of it."""
        removed = super().layer_discard(partition, ref)
        self.shelf.drop(self._name(partition, ref))
        return removed

    def _kept(self, partition: str, ref: str) -> Segment | None:
        name = self._name(partition, ref)
        data = self.shelf.get(name)
        if data is None:
            return None
        try:
            segment = Segment.from_bytes(data, source=name)
        except LayerError:
            segment = None
        if segment is not None and _is_certain(partition, ref, segment):
            return segment
        self.shelf.drop(name)  # torn or rotten
        return None

    def _keep(self, partition: str, ref: object, segment: object) -> None:
        # An adapter that gives something else is the layer's to tell.
        if isinstance(segment, Segment) and isinstance(ref, str) and _is_certain(partition, ref, segment):
            self.shelf.put(self._name(partition, ref), segment.to_bytes)

    def _name(self, partition: str, ref: str) -> str:
        digest = hashlib.blake2b(digest_size=24)
        for part in (self._stack, partition, ref):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()


def _is_certain(partition: str, ref: str, segment: Segment) -> bool:
    return segment.partition == partition and _FRESH.fullmatch(segment.name) is not None and segment.name in ref


def _stack(adapter: Adapter) -> str:
    """What stands inside: around an encryption the same ref is another content than within it."""
    kinds: list[str] = []
    within: object = adapter
    while within is not None:
        kinds.append(f"{type(within).__module__}.{type(within).__qualname__}")
        within = getattr(within, "inner", None)
    return " ".join(kinds)
