"""Stores to simulate over, and how to serve wrong bytes from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from dynalayer.errors import SegmentMissingError
from dynalayer.hookspecs import Adapter, Capabilities, hookimpl
from dynalayer.opening import open_adapter
from dynalayer.segments import Segment

__all__ = ["STORES", "TABLE", "Files", "Memory", "Shelf", "Store"]

TABLE = "simulated"


class Store(Protocol):
    """A place for segments."""

    def open(self) -> Adapter:
        """An adapter over it, as each process would make one."""
        ...

    def spoiled(self, ref: str, chosen: float) -> AbstractContextManager[None]:
        """A context manager in which what is stored under a ref has a wrong byte."""
        ...


class Shelf:
    """An adapter that keeps the bytes of segments in a dict.

    Args:
        kept: The dict, which other processes have too.
    """

    name = "shelf"
    capabilities = Capabilities()

    def __init__(self, kept: dict[str, tuple[str, bytes]]) -> None:
        self._kept = kept

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        """See `HookSpecs`."""
        self._kept[segment.name] = (partition, segment.to_bytes())
        return segment.name

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        """See `HookSpecs`."""
        kept = self._kept.get(ref)
        if kept is None or kept[0] != partition:
            raise SegmentMissingError(f"there is no {ref} on the shelf")
        return Segment.from_bytes(kept[1], source=ref)

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        """See `HookSpecs`."""
        del partition
        self._kept.pop(ref, None)
        return True

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        """See `HookSpecs`."""
        return [ref for ref, (kept, _) in self._kept.items() if kept == partition]


class Memory:
    """Segments in memory."""

    def __init__(self, _: Path) -> None:
        self._kept: dict[str, tuple[str, bytes]] = {}

    def open(self) -> Adapter:
        """See `Store`."""
        return Shelf(self._kept)

    @contextmanager
    def spoiled(self, ref: str, chosen: float) -> Iterator[None]:
        """See `Store`."""
        partition, data = self._kept.get(ref, ("", b""))
        if data:
            self._kept[ref] = (partition, wrong(data, chosen))
        try:
            yield
        finally:
            if data:
                self._kept[ref] = (partition, data)


class Files:
    """Segments in files, by an adapter that is installed.

    Args:
        folder: Where.
        scheme: Of the adapter's URL.
    """

    def __init__(self, folder: Path, scheme: str) -> None:
        self._folder = folder / "snapshots"
        self._scheme = scheme

    def open(self) -> Adapter:
        """See `Store`."""
        return open_adapter(f"{self._scheme}:{self._folder}", TABLE)

    @contextmanager
    def spoiled(self, ref: str, chosen: float) -> Iterator[None]:
        """See `Store`."""
        found = [(path, path.read_bytes()) for path in self._folder.rglob(ref)]
        for path, data in found:
            path.write_bytes(wrong(data, chosen))
        try:
            yield
        finally:
            for path, data in found:
                path.write_bytes(data)


def wrong(data: bytes, chosen: float) -> bytes:
    """Bytes of which one bit is another, or that end early."""
    position = int(chosen * len(data))
    if position % 5 == 0:
        return data[:position]
    changed = bytearray(data)
    changed[position] ^= 1 << (position % 8)
    return bytes(changed)


STORES: dict[str, Callable[[Path], Store]] = {
    "local": partial(Files, scheme="local"),
    "memory": Memory,
    "parquet": partial(Files, scheme="parquet+file"),
}
"""Stores by name."""
