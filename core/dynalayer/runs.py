"""Syncs and resets as they run, from whichever thread: known to `close()`, which waits for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dynalayer.bulk import paused_collector
from dynalayer.eventlog.base import EventLog
from dynalayer.leaving import LeftError
from dynalayer.observing import Observers
from dynalayer.resets import ResetOptions, Resets
from dynalayer.resetting import Resetter
from dynalayer.running import Running
from dynalayer.sourcing.sources import SourceOption
from dynalayer.states import ImportResult, ResetResult, SyncResult
from dynalayer.syncing import Syncer
from dynalayer.values import Item

__all__ = ["SyncRuns"]


class SyncRuns:
    """Runs a layer's syncs and resets.

    Args:
        log: The layer's event log.
        syncer: Folds.
        resetter: Puts items in place of snapshots.
        observers: Whom to tell.
        lag: Seconds by which what a sync of one partition knows beforehand may lag.
    """

    def __init__(self, log: EventLog, syncer: Syncer, resetter: Resetter, observers: Observers, lag: float) -> None:
        self._log = log
        self._syncer = syncer
        self._resetter = resetter
        self._observers = observers
        self._lag = lag
        self._syncing = Running()

    def end(self) -> None:
        """Wait until none runs but this thread's own, and let none begin.

        One that is cut off would hold leases until they run out.
        """
        self._syncing.end()

    def run(self, partition: str | None) -> SyncResult:
        """Sync a partition, or with None all that have pending events.

        Raises:
            LayerError: As `Layer.sync`.
        """
        with self._syncing.working(), self._observers.running("sync", partition):
            return self._run(partition)

    def take_over(self, partition: str, items: Callable[[], Mapping[str, Item]]) -> ImportResult:
        """Let items begin a partition, then sync it: that marks what was folded on top, and folds what has come since.

        Raises:
            LayerError: As `Layer.import_snapshot`. What fails after the items were taken is told as it is of a sync in
                the background.
        """
        with self._syncing.working(), self._observers.running("import", partition):
            with paused_collector():
                checked = items()
            taken = self._resetter.take_over(partition, checked)
            self._go_on(partition, taken)
            return taken

    def reset(self, resets: Resets, source: SourceOption, partition: str | None, options: ResetOptions) -> ResetResult:
        """Reset a partition, or with None all; each is synced once it was committed, as after a takeover.

        Raises:
            LayerError: As `Layer.reset`.
        """
        with self._syncing.working(), self._observers.running("reset", partition):
            return resets.run(source, partition, options, sync=self._run, committed=self._go_on)

    def _go_on(self, partition: str, taken: ImportResult) -> None:
        """Tell what was folded on top of items that were taken, and sync: mark it, and fold what has come since."""
        if taken.folded:
            self._observers.synced(SyncResult(taken.folded, locked=False, partitions=(partition,), cursor=taken.cursor))
        try:
            self._run(partition)
        except LeftError:
            return  # the next sync does the rest
        except Exception as error:  # noqa: BLE001 -- likewise
            self._observers.failed("sync", error)

    def _run(self, partition: str | None) -> SyncResult:
        if partition is None:
            pending = self._log.pending()
        else:  # one never heard of stays so
            state = self._log.partition_state(partition, lag=self._lag)
            pending = (partition,) if state.version else ()
        if not pending:
            self._syncer.expire()
            return SyncResult(0, locked=False)
        result, error = self._syncer.sync(pending)
        if result.count:
            self._observers.synced(result)
        if error is not None:
            raise error
        return result
