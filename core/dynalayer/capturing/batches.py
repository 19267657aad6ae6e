"""Many writes to the source table, in as few transactions as they fit in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from dynalayer.capturing.conditions import Expression
from dynalayer.capturing.places import Places
from dynalayer.capturing.writes import Deleting, Putting, Write
from dynalayer.errors import AppendError, BatchError, InvalidInputError, LayerError
from dynalayer.eventlog.dynamodb.together import TooMuchError
from dynalayer.events import Event
from dynalayer.quoting import quoted
from dynalayer.values import Item

__all__ = ["BatchWriter"]

_UNCONDITIONAL = Expression()


class BatchWriter:
    """Buffers writes, and makes them with their events, as `CapturedTable.batch_writer` says. For one thread at a time.

    Attributes:
        written: Writes that are made so far.
    """

    def __init__(
        self, places: Places, make: Callable[[Sequence[Write]], list[Event]], pkeys: Sequence[str] | None, actions: int
    ) -> None:
        self.written = 0
        self._places = places
        self._make = make
        self._pkeys = pkeys
        self._actions = actions
        self._buffer: list[Write] = []
        self._broken = False
        self._ended = False

    def put_item(self, Item: Item) -> None:  # noqa: N803 -- boto3's name
        """Put an item; it may be written later, at the end of the `with` at the latest.

        Raises:
            InvalidInputError: It cannot be taken; the buffer is as it was.
            BatchError: What had to be written before it was not written whole.
        """
        self._add(Putting(self._places, Item, _UNCONDITIONAL))

    def delete_item(self, Key: Item) -> None:  # noqa: N803 -- boto3's name
        """Delete an item, likewise."""
        self._add(Deleting(self._places, Key, _UNCONDITIONAL))

    def __enter__(self) -> Self:
        self._ended = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        # What was put before an exception is written, as boto3's own writer does, unless it was this writer's own.
        if not self._broken:
            self._flush()

    def _add(self, write: Write) -> None:
        if self._broken:
            raise InvalidInputError("an earlier batch of this writer failed; what it left out goes into a new one")
        if self._ended:  # nobody would ever write it
            raise InvalidInputError("the `with` of this writer has ended: what comes later goes into a new one")
        same = next((each for each in self._buffer if each.key == write.key), None)
        if same is not None and self._pkeys is None:
            self._flush()  # in order, since a transaction has one write of an item
        elif same is not None:
            self._buffer.remove(same)
        self._buffer.append(write)
        if self._size() >= self._actions:
            self._flush()

    def _size(self) -> int:
        """Actions of the buffer: a write, and a record for each partition; where only the items tell, one for each."""
        known = {write.partition for write in self._buffer if write.partition is not None}
        unknown = sum(write.partition is None for write in self._buffer)
        # As many again as may come with the next write, so that it still fits.
        return len(self._buffer) + len(known) + unknown + 2

    def _flush(self) -> None:
        writes, self._buffer = self._buffer, []
        if not writes:
            return
        done = 0
        parts = [writes]
        while parts:
            part = parts.pop()
            try:
                self._make(part)
            except TooMuchError as error:
                if len(part) == 1:
                    raise self._failed(writes, done, 0, error) from error
                half = len(part) // 2
                parts += [part[half:], part[:half]]
            except LayerError as error:
                raise self._failed(writes, done, len(part), error) from error
            except BaseException:
                self._broken = True
                raise
            else:
                done += len(part)
                self.written += len(part)

    def _failed(self, writes: Sequence[Write], done: int, tried: int, error: LayerError) -> BatchError:
        self._broken = True
        unknown = isinstance(error, AppendError) and "unknown" in error.outcomes.values()
        keys: list[Any] = [write.key for write in writes]
        doubt = done + tried if unknown else done
        return BatchError(
            f"a batch of {len(keys)} writes was not written whole, from {quoted(keys[done])} on: {error.message}",
            written=keys[:done],
            unknown=keys[done:doubt],
            not_written=keys[doubt:],
            retryable=error.retryable and not unknown,
        ).within(operation=error.operation)
