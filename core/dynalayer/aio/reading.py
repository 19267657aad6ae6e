"""What asynchronous layers give to iterate over: the batches of a scan, and the events that a consumer follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dynalayer.aio.calling import Calls, Steps
from dynalayer.aio.workers import Workers
from dynalayer.errors import ClosedError
from dynalayer.events import Event
from dynalayer.following import Feed

if TYPE_CHECKING:  # it is needed only by who scans
    from pyarrow import RecordBatch, RecordBatchReader, Schema

__all__ = ["AsyncFeed", "RecordBatches"]


class RecordBatches(Steps["RecordBatch"]):
    """The batches of a scan, each read in a thread when it is asked for.

    Leave it early by `async with`, or by `aclose`, and what it reads from is closed. Where the layer is closed before
    its end, the next batch is a `ClosedError`: what was read is not all.

    Attributes:
        schema: Of all batches.
    """

    def __init__(self, calls: Calls, reader: RecordBatchReader) -> None:
        self.schema: Schema = reader.schema
        super().__init__(calls, _each(reader))


def _each(reader: RecordBatchReader) -> Iterator[RecordBatch]:
    try:
        yield from reader
    finally:
        reader.close()


class AsyncFeed(Steps[Event]):
    """A `Feed` as an asynchronous iterator. It waits in a thread of its own, which takes none of the layer's.

    An event that a cancelled task did not get is the next one's; when the feed is closed it is not handled, and comes
    again to who follows next.

    Attributes:
        consumer: The consumer's name.
    """

    def __init__(self, feed: Feed, closed: Callable[[], ClosedError]) -> None:
        self.consumer = feed.consumer
        self._feed = feed
        self._thread = Workers(1)
        super().__init__(Calls(self._thread, closed), feed)

    def __repr__(self) -> str:
        return f"Async{self._feed!r}"

    def stop(self) -> None:
        """As `Feed.stop`: it ends, with all saved, when the next event is asked for, and wakes who waits for one."""
        self._feed.stop()

    def end(self) -> None:
        """Let a step that is under way end as soon as it can."""
        self.stop()
        super().end()

    def close(self, cut: Exception | None = None) -> None:  # noqa: ARG002 -- as `Feed`, it ends; its position says where
        """Close it, in this thread."""
        try:
            super().close()
        finally:
            self._thread.close()
            self._thread.end()
