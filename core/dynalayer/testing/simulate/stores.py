"""Logs and stores to simulate over, and how to serve wrong bytes from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from dynalayer.errors import SegmentMissingError
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.eventlog.sqlite import SQLiteEventLog
from dynalayer.hookspecs import Adapter, Capabilities, hookimpl
from dynalayer.opening import open_adapter
from dynalayer.segments import Segment
from dynalayer.testing.simulate.world import SECOND

__all__ = ["LOGS", "STORES", "TABLE", "Files", "Logs", "Memory", "MemoryLogs", "SQLiteLogs", "Shelf", "Store"]

TABLE = "simulated"


class Logs(Protocol):
    """Opens the one log, as each process would."""

    lasting: bool
    """Whether one object serves all processes."""

    def open(self) -> EventLog:
        """The log."""
        ...

    def expire(self, moment: int, chosen: float) -> int:
        """Let one expired record go, as a service does when it likes; 0 where the syncs do it."""
        ...


class _ServedLog(MemoryEventLog):
    """A log whose records are expired by a service: one at a time, in no order."""

    def expire(self, now: int, limit: int, syncs_before: str) -> int:
        """See `EventLog`; records are left to the service."""
        del now
        super().expire(0, limit, syncs_before)
        return 0

    def expire_one(self, moment: int, chosen: float) -> int:
        """Delete one of the records whose ttl has passed."""
        due = [
            (kept, version)
            for _, kept in sorted(self._partitions.items())
            for version, ttl in sorted(kept.ttls.items())
            if ttl * SECOND <= moment
        ]
        if not due:
            return 0
        kept, version = due[int(chosen * len(due))]
        del kept.ttls[version], kept.records[version]
        return 1


class MemoryLogs:
    """The log in memory, with the expiry of a service."""

    lasting = True

    def __init__(self, _: Path) -> None:
        self._log = _ServedLog(TABLE)

    def open(self) -> EventLog:
        """The one log."""
        return self._log

    def expire(self, moment: int, chosen: float) -> int:
        """See `Logs`."""
        return self._log.expire_one(moment, chosen)


class SQLiteLogs:
    """The log in a SQLite file, opened anew by each process."""

    lasting = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / "events.db"

    def open(self) -> EventLog:
        """The log, as another process opens it."""
        return SQLiteEventLog(str(self._path), TABLE)

    def expire(self, moment: int, chosen: float) -> int:
        """See `Logs`: syncs do it."""
        del moment, chosen
        return 0


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
    """Segments in files, by the adapter `local`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "snapshots"

    def open(self) -> Adapter:
        """See `Store`."""
        return open_adapter(f"local:{self._folder}", TABLE)

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


LOGS: dict[str, Callable[[Path], Logs]] = {"memory": MemoryLogs, "sqlite": SQLiteLogs}
"""Logs by name."""

STORES: dict[str, Callable[[Path], Store]] = {"memory": Memory, "local": Files}
"""Stores by name."""
