"""The layer: what users hold. It checks, delegates, and has no engine of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Self, Unpack, overload

from dynalayer import clock as clocks
from dynalayer.appending import DAY, TTL, Appender, check_ttl
from dynalayer.asof import At, Historian
from dynalayer.clock import Clock
from dynalayer.columnar import Scans
from dynalayer.comparing import Comparer
from dynalayer.config import LayerOptions, Sources
from dynalayer.costs import Prices, Usage, check_prices
from dynalayer.counting import UsageCounter
from dynalayer.errors import ClosedError, InvalidInputError
from dynalayer.eventlog.base import EventLog
from dynalayer.events import Event, EventReader, ItemFunction, check_partition, check_table, check_versions
from dynalayer.explaining import Explainer, Explanation
from dynalayer.following import Consumer, Feed, Followers
from dynalayer.keeping import HistoryKeeper
from dynalayer.metas import layer_meta, partition_meta
from dynalayer.observing import Observers
from dynalayer.opening import (
    DEFAULT_EVENTS,
    DEFAULT_STORAGE,
    StorageOption,
    need_capturing,
    open_event_log,
    open_storage,
)
from dynalayer.optional import need
from dynalayer.options import (
    HistoryOption,
    RunnerOption,
    StrategyOption,
    check_history,
    check_options,
    check_pair,
    register_plugins,
)
from dynalayer.pairs import Getter, PlainPair, Setter
from dynalayer.plugins import new_manager
from dynalayer.quoting import quoted
from dynalayer.reading import Reader
from dynalayer.recalling import Recaller
from dynalayer.resets import Progress, ResetOptions, Resets
from dynalayer.resetting import Resetter
from dynalayer.runs import SyncRuns
from dynalayer.snapshots import Snapshots
from dynalayer.sourcing.sources import SourceOption
from dynalayer.states import ImportResult, LayerMeta, PartitionMeta, ResetResult, SyncResult
from dynalayer.syncing import Syncer
from dynalayer.triggering import Trigger
from dynalayer.vacuuming import Vacuum, VacuumResult
from dynalayer.values import Item, identifier_text
from dynalayer.verifying import Verifier, VerifyResult
from dynalayer.writing import Writing

if TYPE_CHECKING:  # they are needed only by who asks for them
    from mypy_boto3_dynamodb.service_resource import Table
    from pyarrow import RecordBatchReader

    from dynalayer.capturing import CapturedTable

__all__ = ["Layer"]

_MAX_VERSION = 2**63 - 1  # what a log can compare with
_STRATEGY_LAG = 5.0  # seconds by which a strategy, asked after each set(), may not know what other processes did


class Layer(Scans):
    """Changes to the items of a table, cheap to read whole, none of them lost.

    Every change is appended to an event log; `sync()` folds pending events into snapshots that a storage adapter
    keeps; `get()` is snapshot + pending events, so that a reader sees its own writes at once.

    A layer may be used by many threads; several processes may have a layer of the same table over the same log.

    Args:
        table: The source table's name: 1 to 255 of `A-Z a-z 0-9 _ . -`.
        get_item_unique_identifier: What identifies an item within its partition: an attribute's name or a function of
            the item. Left out, every event says its `id`.
        get_item_partition: Which partition an item belongs to, likewise. Left out, the event's `partition`, or `""`.
        events: Where events are kept: a URL (`dynamodb://events?region=eu-west-1`, `sqlite:///events.db`, `memory:`) or
            an `EventLog`.
        storage: Where snapshots are kept: a URL (`local:snapshots`), an adapter, or a list of wrappers, outermost
            first, that ends with one of these. A wrapper is an object or named with its settings: `"retry:5"`, or
            `{"use": "retry", "attempts": 5}`.
        getter: With `setter`, in place of `storage`: a function that takes a partition and returns its items.
        setter: A function that takes a partition and its items, and stores them in place of what was there.
        sync_strategy: A function of the layer's meta, or of that and the partition's, asked after each `set()`: True
            syncs all that is pending, `"partition"` that partition. Or what names a plugin (`"count:100"`), or a list
            of such; any may say yes.
        background_runner: Who runs a sync that a strategy asked for: None in line; what names a plugin (`"thread"`); a
            function that takes a job.
        ttl: How long events are kept after they were folded, for history and as-of reads, in seconds; or a function of
            the item that says so. At least a day.
        history: `"ttl"`: events are kept for their ttl, for history and as-of reads; `"forever"`: for ever, in storage.
        plugins: Names of installed plugins, with their settings as those of wrappers, or plugin objects.
        lease: How long a sync keeps others from double work on a partition, in seconds, up to an hour; renewed as it
            goes on. A plain getter and setter must be done within it.
        cache_bytes: How much of what was folded is remembered between reads, in bytes of JSON; 0 for nothing.
        clock: Tells the moment in microseconds since the epoch.

    Raises:
        ConfigurationError: An option is wrong, or two do not go together.
        EventLogError: The log cannot be opened, or is of another layout version.
        PluginError: A plugin or an adapter is not installed, cannot be loaded, or does not fit.
    """

    def __init__(
        self,
        *,
        table: str,
        get_item_unique_identifier: ItemFunction | None = None,
        get_item_partition: ItemFunction | None = None,
        events: str | EventLog | None = None,
        storage: StorageOption | Sequence[StorageOption] | None = None,
        getter: Getter | None = None,
        setter: Setter | None = None,
        sync_strategy: StrategyOption | Sequence[StrategyOption] = None,
        background_runner: RunnerOption = None,
        ttl: TTL = 5 * 24 * 3600,
        history: HistoryOption = "ttl",
        plugins: Iterable[object] = (),
        lease: float = 60,
        cache_bytes: int = 256 * 1024 * 1024,
        clock: Clock = clocks.now,
    ) -> None:
        self.table_name = check_table(table)
        check_options(
            lease=lease,
            cache_bytes=cache_bytes,
            clock=clock,
            get_item_unique_identifier=get_item_unique_identifier,
            get_item_partition=get_item_partition,
        )
        clock = clocks.checked(clock)
        clock()
        check_pair(getter, setter, storage, get_item_unique_identifier)
        self._closed = False
        self._manager = new_manager()
        self._observers = Observers(self._manager, table)
        self._reader = EventReader(table, get_item_unique_identifier, get_item_partition)
        register_plugins(self._manager, plugins, sync_strategy, background_runner, table)
        pair: StorageOption | None = None
        if getter is not None and setter is not None:
            pair = PlainPair(getter, setter, self._reader, table)
        given = pair or (DEFAULT_STORAGE if storage is None else storage)
        self._storage = open_storage(given, table, self._manager, self._observers)
        immutable = self._storage.capabilities.immutable
        forever = check_history(history, immutable=immutable, storage=self._storage.name)
        if not callable(ttl):
            ttl = check_ttl(ttl)
        # The log last, since opening it makes a file: what is refused leaves nothing behind.
        self._log = open_event_log(events if events is not None else DEFAULT_EVENTS, table)
        self._appender = Appender(self._log, self._reader, ttl, clock)
        snapshots = Snapshots(self._storage, table, cache_bytes)
        self._reading = Reader(self._log, snapshots)
        recaller = Recaller(self._log, self._storage)
        self._historian = Historian(self._log, snapshots, recaller, immutable=immutable)
        keeper = HistoryKeeper(self._log, self._storage, clock, forever=forever)
        syncer = Syncer(self._log, self._storage, snapshots, clock, lease, keeper)
        # A function of the item says nothing of a reset, which has none.
        resetter = Resetter(self._log, self._storage, clock, lease, DAY if callable(ttl) else ttl, keeper)
        self._sources = UsageCounter()
        self._comparer = Comparer(self._log, self._reader, self._reading.items, self._sources)
        self._resets = Resets(self._log, resetter, self._reader, clock, lease, self._sources)
        self._runs = SyncRuns(self._log, syncer, resetter, self._observers, _STRATEGY_LAG)
        self._vacuum = Vacuum(self._log, self._storage, clock)
        self._verifier = Verifier(self._log, self._storage, clock, forever=forever)
        self._followers = Followers(self._log, recaller, self._observers, clock)
        self._explainer = Explainer(self._log, self._storage, snapshots, self._reading, forever=forever)
        self._trigger = Trigger(self._manager, self._observers, self._runs.run)
        self._writing = Writing(table, self._log, self._reader, clock, self._appender, self._observers, self._written)

    @classmethod
    def from_config(
        cls, name: str | None = None, *, config: str | PathLike[str] | None = None, **options: Unpack[LayerOptions]
    ) -> Self:
        """The layer that files and the environment describe, setting by setting.

        Strongest first: the options given here; the environment (`DYNALAYER_USERS__TTL` before `DYNALAYER_TTL`);
        `dynalayer.toml`, then `[tool.dynalayer]` of `pyproject.toml`, both of the working directory. Where there is
        none of these it is the embedded layer of the table `items`.

        Args:
            name: The layer; left out, the one that `DYNALAYER_LAYER` selects, or the only one.
            config: The file to read in place of these; left out, the one that `DYNALAYER_CONFIG` names.
            options: As the constructor's.

        Raises:
            ConfigurationError: Something is wrong, with its source; there is no such layer, or several and none named.
            LayerError: As the constructor.
        """
        configuration = Sources.read(config).configuration(name, options)
        with configuration.told():
            return cls(**configuration.options())

    def __repr__(self) -> str:
        return f"Layer(table={self.table_name!r}, events={self._log.location!r}, storage={self._storage.name!r})"

    def set(self, events: Iterable[object]) -> list[Event]:
        """Append changes; they are durable, and seen by every read, when this returns.

        Atomic within a partition: of one call's events for a partition all are written or none. No events are no work.

        Args:
            events: Mappings with `type` (PUT, UPDATE or DELETE) and `item` (the full item after the change; for
                DELETE what identifies it). They may also say `partition`, `id` (or `sort`) and `table`.

        Returns:
            The events, in the order given, with version and cursor.

        Raises:
            InvalidEventError: One cannot be taken: its position and what is wrong; nothing was written.
            InvalidInputError: They are too large for one call; nothing was written.
            AppendError: Not all was written; says for each partition: written, not written, unknown.
        """
        self._check_open()
        if isinstance(events, str | bytes | dict) or not isinstance(events, Iterable):
            raise InvalidInputError(f"set() takes a list of events, not {type(events).__name__}", operation="set")
        return self._written("set", partial(self._appender.append, events))

    def _written(self, operation: str, write: Callable[[], list[Event]]) -> list[Event]:
        """Write as an operation, and tell observers and strategies of the events."""
        self._check_open()
        with self._observers.running(operation):
            appended = write()
            if appended:
                self._observers.appended(appended)
        if appended and self._trigger.asks:
            written = dict.fromkeys(event.partition for event in appended)
            with self._observers.running("strategy"):
                self._trigger.ask(
                    written,
                    partial(self._layer_meta, lag=_STRATEGY_LAG),
                    partial(self._partition_meta, lag=_STRATEGY_LAG),
                )
        return appended

    def table(self, table: Table) -> CapturedTable:
        """The source table, to be written together with its events: one transaction has both, or neither is there.

        The events must be in DynamoDB, in the table's region and account.

        Args:
            table: boto3's own: `boto3.resource("dynamodb").Table("users")`.

        Returns:
            What has `put_item`, `delete_item`, `update_item` and `batch_writer`, as boto3's `Table`; that one reads.

        Raises:
            ConfigurationError: It is not the layer's table, its key tells other items apart than the layer does, or no
                transaction spans it and the event log.
            SourceError: It is not there, or cannot be described.
        """
        self._check_open()
        with self._observers.running("table"):
            captured: CapturedTable = need_capturing().CapturedTable(
                table, self.table_name, self._log, self._reader, self._appender, self._written
            )
            return captured

    def get(self, partition: str = "", *, at: At | None = None, sorted: bool = True) -> list[Item]:
        """The items of a partition: now, or as they were.

        Args:
            partition: The partition; one never heard of has no items.
            at: An int is a version; an aware datetime a moment: the last record not after it; a str the cursor of a
                sync. Left out: now, everything acknowledged before the call included.
            sorted: Sort by identifier.

        Returns:
            The items, the caller's own to change.

        Raises:
            HistoryError: `at` is past the newest version, no sync's cursor, or reaches back past what is kept.
            StorageError: A segment is missing or corrupt, or the adapter failed. Never an answer around a hole.
            EventLogError: The log failed.
        """
        self._check_open()
        partition = check_partition(partition)
        with self._observers.running("get", partition):
            if at is None:
                return self._reading.get(partition, in_order=sorted)
            return self._historian.get(partition, at, in_order=sorted)

    def scan(
        self,
        partition: str = "",
        *,
        columns: Sequence[str] | None = None,
        filter: object = None,
    ) -> RecordBatchReader:
        """A partition as it is now, by columns: snapshot + pending events, batch by batch, in no order.

        Where the adapter keeps columns (`parquet`), only those asked for are read, and only what the filter may match;
        elsewhere all is read, and the answer is the same. A column an attribute, typed by its values: None and absent
        are both null, a mixture or a nested value is plain JSON; `$id` and `$item`, the exact item as JSON, may be
        asked for too.

        Args:
            partition: The partition; one without items has no rows.
            columns: Names of attributes; left out, all that have a column.
            filter: An expression of pyarrow's, `pc.field("age") > 30`, or a list of triples, `[("age", ">", 30)]`.

        Returns:
            A `pyarrow.RecordBatchReader`. Its batches are read when they are asked for, and may raise as this does.

        Raises:
            InvalidInputError: There is no such column, or the filter does not fit.
            ConfigurationError: pyarrow is not installed.
            LayerError: As `get`.
        """
        with self._scanning(partition, columns, filter) as reader:
            return reader

    @contextmanager
    def _scanning(self, partition: str, columns: Sequence[str] | None, filter: object) -> Iterator[RecordBatchReader]:
        self._check_open()
        partition = check_partition(partition)
        with self._observers.running("scan", partition):
            scanning = need("dynalayer.scanning", "scan()", packages=("pyarrow",), install="dynalayer[parquet]")
            yield scanning.Scanner(self._log, self._storage, self._reading.items).scan(partition, columns, filter)

    def history(
        self, partition: str = "", *, id: str | int | None = None, after: int = 0, through: int | None = None
    ) -> list[Event]:
        """The events of a partition that are still kept: all pending ones, and folded ones for their ttl, or for ever.

        Args:
            partition: The partition.
            id: Only this item's.
            after: Only those above this version.
            through: Only those up to this version; left out, all.

        Returns:
            Events in order: by version, within a version as they were given.

        Raises:
            HistoryError: Some were folded without `history="forever"` after others that were folded with it, and have
                expired: a gap, told with the calls that read what is before and behind it.
            StorageError: A history segment is missing or corrupt, or the adapter failed.
            EventLogError: The log failed.
        """
        self._check_open()
        partition = check_partition(partition)
        check_versions(after=after, through=0 if through is None else through)
        identifier = None if id is None else identifier_text(id)
        if id is not None and not identifier:
            raise InvalidInputError(f"id={quoted(id)} is no identifier: text or a whole number, never empty")
        with self._observers.running("history", partition):
            return self._historian.history(partition, identifier, min(max(after, 0), _MAX_VERSION), through)

    def follow(
        self,
        consumer: str,
        *,
        since: datetime | str | None = None,
        wait: bool = True,
        poll: float = 1.0,
        partitions: Iterable[str] | None = None,
        on_reset: Callable[[str, int], object] | None = None,
    ) -> Feed:
        """Every event of every partition, each at least once, a partition's in order; the log keeps how far it came.

        An event counts as handled when the next one is asked for: one that the loop was left at comes again.

        Args:
            consumer: The name under which the position is kept, up to 255 bytes. Who follows last under a name goes
                on; who did before is told.
            since: Where a consumer begins that is new: `"beginning"` (the default: with all that is kept), `"now"`, an
                aware moment, or the cursor of a sync. One that is not new goes on where it was.
            wait: Wait for what is still to come; else it ends when all that is there is read.
            poll: Seconds between two looks for something new.
            partitions: Only these.
            on_reset: A function of a partition and a version, called in the partition's order: up to that version its
                items have changed without events, by a reset, or because events before the beginning have expired.
                Read it whole, by `get`. Left out, a warning is logged once.

        Returns:
            An iterator, which has `stop()` and `close()`, and is a context manager.

        Raises:
            InvalidInputError: An argument is wrong.
            HistoryError: `since` is no sync's cursor.
            PositionExpiredError: When iterated: a consumer's next events have expired.
            ConsumerTakenError: When iterated: another process follows under the name.
            EventLogError: The log failed.
            StorageError: What stands in history segments alone cannot be read.
        """
        self._check_open()
        with self._observers.running("follow"):
            return self._followers.follow(
                consumer, since, wait=wait, poll=poll, partitions=partitions, on_reset=on_reset
            )

    def consumers(self) -> tuple[Consumer, ...]:
        """Who follows, or has followed, and how many events each is behind."""
        self._check_open()
        with self._observers.running("consumers"):
            return self._followers.consumers()

    def move_consumer(self, name: str, to: datetime | str | int, *, partition: str | None = None) -> None:
        """Let a consumer go on elsewhere. Who follows under its name is told, and has to follow again.

        Args:
            name: The consumer.
            to: `"beginning"`, `"now"`, an aware moment, the cursor of a sync, or a version: it goes on after that.
            partition: Only this one; left out, all. A version is one partition's.

        Raises:
            InvalidInputError: There is no such consumer, no event of the partition, or `to` is no place.
            HistoryError: There is no such version or cursor, or what follows the version has expired.
            ConsumerTakenError: Another began to follow meanwhile; stop it, and do it again.
            EventLogError: The log failed.
        """
        self._check_open()
        with self._observers.running("move", partition if isinstance(partition, str) else None):
            self._followers.move(name, to, partition)

    def forget_consumer(self, name: str) -> None:
        """Forget a consumer and its positions. Who follows under its name is told.

        Raises:
            InvalidInputError: There is no such consumer.
            ConsumerTakenError: Another began to follow meanwhile; stop it, and do it again.
            EventLogError: The log failed.
        """
        self._check_open()
        with self._observers.running("forget"):
            self._followers.forget(name)

    @overload
    def meta(self) -> LayerMeta: ...

    @overload
    def meta(self, partition: str) -> PartitionMeta: ...

    def meta(self, partition: str | None = None) -> LayerMeta | PartitionMeta:
        """The layer's counts, or one partition's, from what is stored."""
        self._check_open()
        partition = None if partition is None else check_partition(partition)
        with self._observers.running("meta", partition):
            return self._layer_meta() if partition is None else self._partition_meta(partition)

    def sync(self, partition: str | None = None) -> SyncResult:
        """Fold pending events into snapshots.

        What a partition's adapter fails to store stays pending, whole, and keeps no other partition from being folded.

        Args:
            partition: Only this one; left out, all that have pending events.

        Returns:
            `count` events folded, and `locked` if some partition was left to another sync's lease.

        Raises:
            StorageError: The adapter failed; that partition's events stay pending.
            EventLogError: The log failed.
            ConflictError: Others moved a head at every one of a bounded number of tries.
        """
        self._check_open()
        return self._runs.run(None if partition is None else check_partition(partition))

    def import_snapshot(self, partition: str, items: Iterable[object]) -> ImportResult:
        """Take over the items of a partition that another program kept, a cache of its, without a rebuild.

        They count as older than every event that this layer has of the partition: those are folded on top. As long as
        no event was folded, it may be done again, with newer items. Where it breaks off nothing of it is seen, and it
        is done again.

        Args:
            partition: The partition.
            items: All of its items.

        Returns:
            `count` items taken, `folded` events that were folded on top, the snapshot's `version` and `cursor`.

        Raises:
            InvalidEventError: One cannot be taken: its position, from 0, and what is wrong; nothing was written.
            InvalidInputError: The partition was synced already.
            ConflictError: A sync of the partition is at work, or others moved its head again and again; `retryable`.
            StorageError: The adapter failed.
            EventLogError: The log failed.
        """
        self._check_open()
        partition = check_partition(partition)
        if isinstance(items, str | bytes | dict) or not isinstance(items, Iterable):
            raise InvalidInputError(
                f"import_snapshot() takes a list of items, not {type(items).__name__}", operation="import"
            )
        return self._runs.take_over(partition, partial(self._reader.items_of, partition, items))

    def reset(
        self,
        source: SourceOption,
        partition: str | None = None,
        *,
        spool: str | PathLike[str] | None = None,
        dead_letters: str | PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> ResetResult:
        """Rebuild partitions from the source: its items, with every event on top that came since the reset began.

        Events that come meanwhile are never lost. A partition that the source no longer has becomes empty. Readers see
        each partition as it was, or as it is to be. Assumed: the application writes the source first, then the event.

        Args:
            source: A boto3 `Table` of the layer's table, which is scanned by several threads; an iterable of items; or
                a function that returns one. It is read from when the newest version of each partition was noted: what
                was read before, as a list, must hold what every event told.
            partition: Only this one: items of others are left out, and no other is touched.
            spool: A file that outlives the process: after a crash the same call goes on where it broke off, within a
                day. It is removed when all is done. Left out, what does not fit into memory is on disk meanwhile.
            dead_letters: A file to which items are added that cannot be taken; left out, the first ends the reset
                before anything is changed.
            progress: Called with a `ResetProgress` after each page that was read and each partition committed; what it
                raises ends the reset.

        Returns:
            `count` items taken; `locked` if another reset is at work, or a sync was on partitions that it names.

        Raises:
            InvalidInputError: The source is none, an item cannot be taken, or two are one; nothing was changed.
            ConfigurationError: The source is another table, or is keyed otherwise.
            SourceError: The source failed, or is not there.
            SpoolError: What was read could not be kept.
            ConflictError: Another reset took over since the lease had run out; or a partition took too long.
            StorageError: The adapter failed; partitions are what they were, or reset.
            EventLogError: The log failed; likewise.
        """
        self._check_open()
        partition = None if partition is None else check_partition(partition)
        return self._runs.reset(self._resets, source, partition, ResetOptions(spool, dead_letters, progress))

    def partitions(self) -> list[str]:
        """Every partition that has ever had an event, sorted."""
        self._check_open()
        with self._observers.running("partitions"):
            return list(self._log.partitions())

    def vacuum(self, partition: str | None = None, *, dry_run: bool = True) -> VacuumResult:
        """Discard segments that neither a head nor the history names.

        Args:
            partition: Only this one; left out, all.
            dry_run: Only tell what would be discarded.

        Raises:
            ConfigurationError: The adapter cannot list its segments.
        """
        self._check_open()
        partition = None if partition is None else check_partition(partition)
        with self._observers.running("vacuum", partition):
            return self._vacuum.run(partition, dry_run=dry_run)

    def verify(self, partition: str | None = None, *, against: SourceOption | None = None) -> VerifyResult:
        """Read and check every segment and record that is kept; changes nothing.

        Args:
            partition: Only this one; left out, all.
            against: A source as `reset` takes it, with which all items are compared then, pending events included.

        Raises:
            LayerError: The source is none, or failed, as in `reset`; what is wrong with the layer is in the result.
        """
        self._check_open()
        partition = None if partition is None else check_partition(partition)
        with self._observers.running("verify", partition):
            result = self._verifier.run(partition)
            return result if against is None else replace(result, against=self._comparer.run(against, partition))

    def explain(self, partition: str = "", *, prices: Prices | None = None) -> Explanation:
        """What a read, an append and a sync of a partition request and cost, beside a plain Query of its items.

        The partition is read for it.

        Args:
            partition: The partition.
            prices: What is paid; left out, on-demand prices in US East (N. Virginia).

        Raises:
            InvalidInputError: `prices` are none.
            LayerError: As `get`.
        """
        self._check_open()
        partition = check_partition(partition)
        prices = check_prices(Prices() if prices is None else prices)
        with self._observers.running("explain", partition):
            return self._explainer.explain(partition, prices)

    def usage(self) -> dict[str, Usage]:
        """What this object has requested so far, by operation: `"set"`, `"get"`, `"sync"`, `"strategy"` and so on.

        Requests and units are as the service told them, of the event log if it is paid by request; and calls of the
        storage adapter's hooks as requests to its store; and of the source table, by `reset` and `verify`.
        """
        sums = dict(self._log.usage())
        for counter in (self._storage.counter, self._sources):
            for name, usage in counter.sums().items():
                sums[name] = sums.get(name, Usage()) + usage
        return sums

    def close(self) -> None:
        """Let running syncs finish, those of other threads too, then close the event log.

        Closing twice is as closing once.
        """
        if not self._closed:
            with self._observers.running("close"):
                self._followers.close()
                self._trigger.close()
                self._observers.closing()
                self._closed = True
                try:
                    self._runs.end()
                except BaseException:
                    self._closed = False  # interrupted, and to be closed again: what is at work has all it needs
                    raise
                self._observers.closed()
                self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the layer of table {self.table_name!r} was closed")

    def _layer_meta(self, *, lag: float = 0) -> LayerMeta:
        state = self._log.layer_state(lag=lag)
        # What was taken over is there, though no event was appended.
        loaded = state.appended > 0 or bool(self._log.partitions())
        return layer_meta(state, self._trigger.error, loaded=loaded)

    def _partition_meta(self, partition: str, *, lag: float = 0) -> PartitionMeta:
        return partition_meta(self._log.partition_state(partition, lag=lag))
