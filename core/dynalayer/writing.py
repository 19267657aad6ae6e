"""What stands beside the layer and appends to it in a way of its own is given this, and nothing else of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dynalayer.appending import Appender
from dynalayer.clock import Clock
from dynalayer.eventlog.base import EventLog
from dynalayer.events import Event, EventReader
from dynalayer.observing import Observers

__all__ = ["Writing"]


@dataclass(frozen=True, slots=True)
class Writing:
    """A layer's parts for whoever writes to it.

    Attributes:
        table: The layer's table.
        log: Its log.
        reader: Tells where items belong.
        clock: Tells the moment.
        appender: Turns changes into drafts.
        observers: Whom to tell what reaches no caller.
        written: Runs, as an operation under a name, a function that appends and returns the events that it appended:
            observers are told of these, and strategies asked. Raises `ClosedError` where the layer was closed.
    """

    table: str
    log: EventLog
    reader: EventReader
    clock: Clock
    appender: Appender
    observers: Observers
    written: Callable[[str, Callable[[], list[Event]]], list[Event]]
