"""The layer for asyncio and trio: what users of both hold. Each method is `Layer`'s, worked by a thread."""

from __future__ import annotations

import inspect
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, overload

from dynalayer.aio.calling import Calls, Steps
from dynalayer.aio.once import Once
from dynalayer.aio.reading import AsyncFeed, RecordBatches
from dynalayer.aio.tables import AsyncCapturedTable
from dynalayer.aio.workers import Work, Workers
from dynalayer.asof import At
from dynalayer.config import LayerOptions
from dynalayer.costs import Prices, Usage
from dynalayer.errors import ClosedError, ConfigurationError
from dynalayer.events import Event
from dynalayer.explaining import Explanation
from dynalayer.following import Consumer
from dynalayer.forking import Lock
from dynalayer.layer import Layer
from dynalayer.leaving import LeftError, until_left, working_for
from dynalayer.quoting import quoted
from dynalayer.resets import Progress
from dynalayer.sourcing.sources import SourceOption
from dynalayer.states import ImportResult, LayerMeta, PartitionMeta, ResetResult, SyncResult
from dynalayer.vacuuming import VacuumResult
from dynalayer.values import Item
from dynalayer.verifying import VerifyResult

if TYPE_CHECKING:  # they are needed only by who asks for them
    from mypy_boto3_dynamodb.service_resource import Table
    from pandas import DataFrame
    from polars import DataFrame as PolarsFrame
    from pyarrow import Table as ArrowTable

__all__ = ["AsyncLayer"]

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 32  # as many as the connections of the DynamoDB log; three times those of a client of boto3's
_MOST_THREADS = 1024


class AsyncLayer:
    """A `Layer` whose methods are coroutines, for asyncio and trio. `docs/async.md` says what runs where.

    Nothing is opened before `async with` or the first call, which does it in a thread; then what `Layer` would raise is
    raised there. It may be used by any number of tasks, and by one event loop after another.

    A call that is cancelled before its turn did nothing. One that only reads is left behind at once, and its thread
    ends by itself. One that writes is waited for until what it has begun is settled: its answer is never lost, and the
    cancellation comes at the next `await`. Long work (`sync`, `vacuum`) ends between two of its steps instead.

    Args:
        threads: How many threads work for this layer at once, 1 to 1,024; further calls wait for one.
        options: As `Layer`'s.

    Raises:
        TypeError: There is no such option, or `table` is missing.
        ConfigurationError: `threads` is out of bounds.
    """

    def __init__(self, *, threads: int = THREADS, **options: Unpack[LayerOptions]) -> None:
        inspect.signature(Layer).bind(**options)
        self._begin(partial(Layer, **options), f"of table {quoted(options['table'])}", threads)

    @classmethod
    def from_config(
        cls,
        name: str | None = None,
        *,
        config: str | PathLike[str] | None = None,
        threads: int = THREADS,
        **options: Unpack[LayerOptions],
    ) -> Self:
        """As `Layer.from_config`; the files are read when the layer is opened."""
        layer = cls.__new__(cls)
        told = "of the configuration" if name is None else f"{quoted(name)} of the configuration"
        layer._begin(partial(Layer.from_config, name, config=config, **options), told, threads)  # noqa: SLF001 -- its own
        return layer

    def _begin(self, make: Callable[[], Layer], told: str, threads: object) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS:
            raise ConfigurationError(f"threads={quoted(threads)} is no whole number from 1 to {_MOST_THREADS}")
        self._layer = Once(make)
        self._told = told
        self._lock = Lock()
        self._closing: Work[None] | None = None
        self._closer = 0  # the process that closes it
        self._workers = Workers(threads)
        self._calls = Calls(self._workers, self._closed)
        self._iterators: weakref.WeakSet[Steps[Any]] = weakref.WeakSet()

    def __repr__(self) -> str:
        layer = self._layer.made
        return f"<AsyncLayer {self._told}, not open>" if layer is None else f"Async{layer!r}"

    async def __aenter__(self) -> Self:
        try:
            await self._read(lambda _: None)
        except BaseException:
            self._start_closing()  # nobody else will
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def set(self, events: Iterable[object]) -> list[Event]:
        """As `Layer.set`; an iterator of events is read in a thread."""
        return await self._write(Layer.set, until_left(events))

    async def table(self, table: Table) -> AsyncCapturedTable:
        """As `Layer.table`; the writes of what is returned are coroutines."""
        return AsyncCapturedTable(self._calls, await self._read(Layer.table, table))

    async def get(self, partition: str = "", *, at: At | None = None, sorted: bool = True) -> list[Item]:
        """As `Layer.get`."""
        return await self._read(Layer.get, partition, at=at, sorted=sorted)

    async def scan(
        self,
        partition: str = "",
        *,
        columns: Sequence[str] | None = None,
        filter: object = None,
    ) -> RecordBatches:
        """As `Layer.scan`, but an asynchronous iterator: `async for batch in await layer.scan("eu")`."""
        return await self._read(self._scan, partition, columns, filter)

    async def to_arrow(
        self, partition: str = "", *, columns: Sequence[str] | None = None, filter: object = None
    ) -> ArrowTable:
        """As `Layer.to_arrow`."""
        return await self._read(Layer.to_arrow, partition, columns=columns, filter=filter)

    async def to_pandas(
        self, partition: str = "", *, columns: Sequence[str] | None = None, filter: object = None
    ) -> DataFrame:
        """As `Layer.to_pandas`."""
        return await self._read(Layer.to_pandas, partition, columns=columns, filter=filter)

    async def to_polars(
        self, partition: str = "", *, columns: Sequence[str] | None = None, filter: object = None
    ) -> PolarsFrame:
        """As `Layer.to_polars`."""
        return await self._read(Layer.to_polars, partition, columns=columns, filter=filter)

    async def history(
        self, partition: str = "", *, id: str | int | None = None, after: int = 0, through: int | None = None
    ) -> list[Event]:
        """As `Layer.history`."""
        return await self._read(Layer.history, partition, id=id, after=after, through=through)

    async def follow(
        self,
        consumer: str,
        *,
        since: datetime | str | None = None,
        wait: bool = True,
        poll: float = 1.0,
        partitions: Iterable[str] | None = None,
        on_reset: Callable[[str, int], object] | None = None,
    ) -> AsyncFeed:
        """As `Layer.follow`, but an asynchronous iterator: `async for event in await layer.follow("search-index")`."""

        def opened(layer: Layer) -> AsyncFeed:
            feed = layer.follow(consumer, since=since, wait=wait, poll=poll, partitions=partitions, on_reset=on_reset)
            following = AsyncFeed(feed, self._closed)
            self._opened(following)
            return following

        return await self._write(opened)

    async def consumers(self) -> tuple[Consumer, ...]:
        """As `Layer.consumers`."""
        return await self._read(Layer.consumers)

    async def move_consumer(self, name: str, to: datetime | str | int, *, partition: str | None = None) -> None:
        """As `Layer.move_consumer`."""
        await self._write(Layer.move_consumer, name, to, partition=partition)

    async def forget_consumer(self, name: str) -> None:
        """As `Layer.forget_consumer`."""
        await self._write(Layer.forget_consumer, name)

    @overload
    async def meta(self) -> LayerMeta: ...

    @overload
    async def meta(self, partition: str) -> PartitionMeta: ...

    async def meta(self, partition: str | None = None) -> LayerMeta | PartitionMeta:
        """As `Layer.meta`."""
        return await self._read(lambda layer: layer.meta() if partition is None else layer.meta(partition))

    async def sync(self, partition: str | None = None) -> SyncResult:
        """As `Layer.sync`; cancelled, it ends once what it is folding is folded, and the rest stays pending."""
        return await self._write(Layer.sync, partition)

    async def import_snapshot(self, partition: str, items: Iterable[object]) -> ImportResult:
        """As `Layer.import_snapshot`; an iterator of items is read in a thread."""
        return await self._write(Layer.import_snapshot, partition, until_left(items))

    async def reset(
        self,
        source: SourceOption,
        partition: str | None = None,
        *,
        spool: str | PathLike[str] | None = None,
        dead_letters: str | PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> ResetResult:
        """As `Layer.reset`; cancelled, it ends after the page or partition it is at; with a `spool` it can go on."""
        return await self._write(
            Layer.reset, source, partition, spool=spool, dead_letters=dead_letters, progress=progress
        )

    async def partitions(self) -> list[str]:
        """As `Layer.partitions`."""
        return await self._read(Layer.partitions)

    async def vacuum(self, partition: str | None = None, *, dry_run: bool = True) -> VacuumResult:
        """As `Layer.vacuum`; cancelled, it ends after the partition that it is at."""
        return await self._write(Layer.vacuum, partition, dry_run=dry_run)

    async def verify(self, partition: str | None = None, *, against: SourceOption | None = None) -> VerifyResult:
        """As `Layer.verify`; cancelled, it is left behind, and its thread ends after the segment or page it is at."""
        return await self._read(Layer.verify, partition, against=against)

    async def explain(self, partition: str = "", *, prices: Prices | None = None) -> Explanation:
        """As `Layer.explain`."""
        return await self._read(Layer.explain, partition, prices=prices)

    async def usage(self) -> dict[str, Usage]:
        """As `Layer.usage`."""
        return await self._read(Layer.usage)

    async def close(self) -> None:
        """As `Layer.close`, once the calls have ended that were made before; cancelled, it closes all the same."""
        closing = self._start_closing()
        if not closing.done:
            await self._calls.answer(closing, leave=False)

    async def aclose(self) -> None:
        """As `close`, under the name that `contextlib.aclosing` knows."""
        await self.close()

    def _scan(self, layer: Layer, partition: str, columns: Sequence[str] | None, filter: object) -> RecordBatches:
        # In the thread: once it is open it is known to `close`, and nothing but itself holds what it reads from.
        scan = RecordBatches(self._calls, layer.scan(partition, columns=columns, filter=filter))
        self._opened(scan)
        return scan

    def _opened(self, iterator: Steps[Any]) -> None:
        with self._lock:
            self._iterators.add(iterator)

    def _open_iterators(self) -> tuple[Steps[Any], ...]:
        with self._lock:
            return tuple(self._iterators)

    async def _read(self, call: Callable[Concatenate[Layer, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._make_call(lambda layer: call(layer, *args, **kwargs), leave=True)

    async def _write(self, call: Callable[Concatenate[Layer, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._make_call(lambda layer: call(layer, *args, **kwargs), leave=False)

    async def _make_call(self, call: Callable[[Layer], T], *, leave: bool) -> T:
        def made(work: Work[T]) -> T:
            layer = self._layer.get()
            if not work.begin():
                raise LeftError  # while the layer was being opened: nothing has happened
            return call(layer)

        return await self._calls.answer(self._calls.start(Work(made)), leave=leave)

    def _closed(self) -> ClosedError:
        return ClosedError(f"the layer {self._told} was closed")

    def _start_closing(self) -> Work[None]:
        with self._lock:
            if self._closing is None or not (self._closing.done or self._closer == os.getpid()):
                closing: Work[None] = Work(self._close, kept=True)
                self._workers.close()
                try:
                    # A thread that is none of the workers: it waits for all of them.
                    threading.Thread(target=closing.do, name="dynalayer-close", daemon=False).start()
                except BaseException:
                    self._workers.open()
                    raise
                self._closing, self._closer = closing, os.getpid()
            return self._closing

    def _close(self, _: Work[None]) -> None:
        for iterator in self._open_iterators():
            iterator.end()
        self._workers.wait()
        try:
            for iterator in self._open_iterators():
                iterator.end()  # it may have been opened since
                iterator.close(self._closed())
        finally:
            self._workers.end()
            layer = self._layer.made
            if layer is not None:
                with working_for(lambda: False):  # what a plugin does at the end it does whoever waits for it
                    layer.close()
