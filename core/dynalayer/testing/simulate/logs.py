"""Logs to simulate over: each as a process sees it, with turns and faults at its calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.eventlog.sqlite import SQLiteEventLog
from dynalayer.optional import need
from dynalayer.testing.simulate.faults import Process, SimulatedLog, WitnessedLog
from dynalayer.testing.simulate.stores import TABLE
from dynalayer.testing.simulate.truth import Truth
from dynalayer.testing.simulate.world import SECOND, World

__all__ = ["LOGS", "Logs", "logs_of"]


class Logs(Protocol):
    """Opens the one log, as each process would."""

    def open(self, process: Process | None) -> EventLog:
        """The log as a process sees it; None: as it is, without turns and faults."""
        ...

    def expire(self, moment: int, chosen: float) -> None:
        """Let one expired record go, as a service does when it likes; nothing where the syncs do it."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class _ByCalls(ABC):
    """Logs whose calls are done whole or not at all: turns and faults are at each call."""

    lasting: bool

    def __init__(self, world: World, truth: Truth) -> None:
        self._world = world
        self._truth = truth

    @abstractmethod
    def _opened(self) -> EventLog: ...

    def open(self, process: Process | None) -> EventLog:
        """See `Logs`."""
        log = WitnessedLog(self._opened(), self._truth, self._world, lasting=self.lasting)
        return log if process is None else SimulatedLog(log, process)

    def expire(self, moment: int, chosen: float) -> None:  # noqa: B027 -- syncs do it
        """See `Logs`."""

    def close(self) -> None:  # noqa: B027 -- nothing is held
        """See `Logs`."""


class _ServedLog(MemoryEventLog):
    """A log whose records are expired by a service: one at a time, in no order."""

    def expire(self, now: int, limit: int, syncs_before: str) -> int:
        """See `EventLog`; records are left to the service."""
        del now
        super().expire(0, limit, syncs_before)
        return 0

    def expire_one(self, moment: int, chosen: float) -> None:
        """Delete one of the records whose ttl has passed."""
        due = [
            (kept, version)
            for _, kept in sorted(self._partitions.items())
            for version, ttl in sorted(kept.ttls.items())
            if ttl * SECOND <= moment
        ]
        if due:
            kept, version = due[int(chosen * len(due))]
            del kept.ttls[version], kept.records[version]


class _MemoryLogs(_ByCalls):
    """The log in memory, one object for all processes, with the expiry of a service."""

    lasting = True

    def __init__(self, world: World, truth: Truth, _: Path) -> None:
        super().__init__(world, truth)
        self._log = _ServedLog(TABLE)

    def _opened(self) -> EventLog:
        return self._log

    def expire(self, moment: int, chosen: float) -> None:
        """See `Logs`."""
        self._log.expire_one(moment, chosen)


class _SQLiteLogs(_ByCalls):
    """The log in a SQLite file, opened anew by each process."""

    lasting = False

    def __init__(self, world: World, truth: Truth, folder: Path) -> None:
        super().__init__(world, truth)
        self._path = folder / "events.db"

    def _opened(self) -> EventLog:
        return SQLiteEventLog(str(self._path), TABLE)


def logs_of(name: str) -> Callable[[World, Truth, Path], Logs]:
    """What opens the logs of a name; its modules are imported by then.

    Raises:
        ConfigurationError: A package is missing.
    """
    if name != "dynamodb":
        return _LOGS[name]
    module = need(
        "dynalayer.testing.simulate.dynamodb",
        "the simulation of the DynamoDB log",
        packages=("boto3", "botocore", "moto"),
        install="dynalayer[dynamodb]' 'moto[dynamodb]",
    )

    def opened(world: World, truth: Truth, _: Path) -> Logs:
        logs: Logs = module.DynamoDBLogs(world, truth)
        return logs

    return opened


_LOGS: dict[str, Callable[[World, Truth, Path], Logs]] = {"memory": _MemoryLogs, "sqlite": _SQLiteLogs}

LOGS = ("dynamodb", *_LOGS)
"""Names of logs."""
