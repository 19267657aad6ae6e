"""A feed: what `Layer.follow` gives, to iterate over, to stop and to close."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from dynalayer.errors import ClosedError, LayerError
from dynalayer.events import Event
from dynalayer.following.handing_out import HandingOut
from dynalayer.logs import log_failure

__all__ = ["Feed"]


class Feed(Iterator[Event]):
    """Events as a consumer is given them. It ends when it is stopped, or all is read and it does not wait.

    An event counts as handled when the next one is asked for. What is handled is saved every 1,000 events, every
    second, before it waits, and when it ends. It is one thread's at a time; `stop` and `close` may be called by any.

    Args:
        consumer: The consumer's name.
        events: What is handed out.

    Attributes:
        consumer: The consumer's name.
    """

    def __init__(self, consumer: str, events: HandingOut) -> None:
        self.consumer = consumer
        self._stop = events.stop
        self._events = events.events()
        self._turn = threading.RLock()
        self._asking = False
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"Feed(consumer={self.consumer!r})"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """The next event; the one before it is handled now.

        Raises:
            StopIteration: It was stopped or closed, or does not wait and all is read.
            PositionExpiredError: The next events of a partition have expired; all others were handed out.
            ConsumerTakenError: Another process follows under the name.
            LayerError: The log failed.
        """
        if os.getpid() != self._process:
            raise ClosedError("a feed does not cross a fork; call follow() in the new process")
        with self._turn:
            self._asking = True
            try:
                return next(self._events)
            finally:
                self._asking = False

    def stop(self) -> None:
        """Let it end, with all saved, when the next event is asked for; wake it where it waits for one."""
        self._stop.set()

    def close(self) -> None:
        """End it and save what is handled; the event that was handed out last is not.

        Where another thread is asking for the next event, that one is waited for; it ends soon.

        Raises:
            LayerError: What was handled could not be saved, and will be given again.
        """
        self._stop.set()
        if os.getpid() != self._process:
            return
        with self._turn:
            if not self._asking:  # else a signal's handler has interrupted it: it ends by itself
                self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Left by `break`, or by an exception: there is nobody to tell that the rest is given again.
        if getattr(self, "_events", None) is None or os.getpid() != self._process:
            return
        try:
            self._events.close()
        except LayerError as error:
            text = "how far consumer %r has come could not be saved; the rest is given again: %s"
            log_failure(text, self.consumer, error, error=error, consumer=self.consumer)
