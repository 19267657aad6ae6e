"""The observer: one record at the end of each operation."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from dynalayer import ConfigurationError, ErrorFacts, Event, Operation, SyncResult, hookimpl
from dynalayer_log.text import Format, as_text

__all__ = ["Level", "Log"]

Level = Literal["debug", "info", "warning", "error"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

logger = logging.getLogger("dynalayer.operations")

_current: ContextVar[_Running | None] = ContextVar("dynalayer-log-operation", default=None)


@dataclass(slots=True)
class _Running:
    """An operation that has begun, and how many events it has to do with, where that is known."""

    operation: Operation
    events: int | None = None


class Log:
    """Logs a layer's operations to the logger `dynalayer.operations`; what is done with them is for the program to say.

    A record has its fields in the attribute `dynalayer`, a dict, and as text in its message. Contents of items stand
    in neither.

    Args:
        level: Of operations that end well.
        slow: Seconds from which on an operation is a warning, though it ended well; None for never.
        storage: Whether calls of the adapter are logged too.
        partitions: Whether records name the partition. Without, they have no messages of errors either, since those
            may name it.
        format: Of the message: `key=value` pairs, or one JSON object.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    name = "log"

    def __init__(
        self,
        level: Level = "info",
        *,
        slow: float | None = None,
        storage: bool = False,
        partitions: bool = True,
        format: Format = "logfmt",  # noqa: A002 -- the setting's name
    ) -> None:
        if level not in _LEVELS:
            raise ConfigurationError(f"log: level is one of {', '.join(_LEVELS)}, not {level!r:.100}")
        if format not in ("logfmt", "json"):
            raise ConfigurationError(f"log: format is logfmt or json, not {format!r:.100}")
        if slow is not None and not 0 <= slow < math.inf:
            raise ConfigurationError(f"log: slow is a number of seconds, not {slow!r:.100}")
        self._level = _LEVELS[level]
        self._slow = math.inf if slow is None else slow
        self._storage = storage
        self._partitions = partitions
        self._format: Format = format

    @hookimpl
    def layer_operation(self, operation: Operation) -> AbstractContextManager[None] | None:
        """See `HookSpecs.layer_operation`."""
        if operation.adapter is not None and not self._storage:
            return None
        return self._watched(operation)

    @contextmanager
    def _watched(self, operation: Operation) -> Iterator[None]:
        running = _Running(operation)
        error: BaseException | None = None
        token = _current.set(running)
        begun = time.perf_counter()
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = time.perf_counter() - begun
            _current.reset(token)
            self._log(running, seconds, error)

    def _log(self, running: _Running, seconds: float, error: BaseException | None) -> None:
        level = self._level
        if error is not None:
            level = logging.ERROR
        elif seconds >= self._slow:
            level = max(level, logging.WARNING)
        if logger.isEnabledFor(level):
            fields = self._fields(running, seconds, error)
            logger.log(level, "%s", as_text(fields, self._format), extra={"dynalayer": fields})

    def _fields(self, running: _Running, seconds: float, error: BaseException | None) -> dict[str, object]:
        operation = running.operation
        fields: dict[str, object] = {"operation": operation.name, "table": operation.table}
        if self._partitions and operation.partition is not None:
            fields["partition"] = operation.partition
        if operation.adapter is not None:
            fields["adapter"] = operation.adapter
        fields["outcome"] = "ok" if error is None else "error"
        fields["seconds"] = round(seconds, 6)
        if seconds >= self._slow:
            fields["slow"] = True
        if running.events is not None:
            fields["events"] = running.events
        if error is not None:
            fields |= ErrorFacts.of(error).fields()
            if not self._partitions:
                fields.pop("message", None)
        return fields

    @hookimpl
    def layer_appended(self, events: Sequence[Event]) -> None:
        """See `HookSpecs.layer_appended`."""
        self._count(len(events))

    @hookimpl
    def layer_synced(self, result: SyncResult) -> None:
        """See `HookSpecs.layer_synced`."""
        self._count(result.count)

    def _count(self, events: int) -> None:
        running = _current.get()
        if running is not None:
            running.events = (running.events or 0) + events
