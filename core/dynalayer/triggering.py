"""When to sync, and who runs it: asks the strategies after each `set()`, hands the job to the runner."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pluggy

from dynalayer.errors import ClosedError
from dynalayer.forking import Lock, renew_in_child
from dynalayer.leaving import LeftError
from dynalayer.observing import Observers
from dynalayer.plugins import agreed
from dynalayer.states import LayerMeta, PartitionMeta, SyncResult

__all__ = ["Trigger"]


class Trigger:
    """Starts syncs. The `set()` that leads to one has succeeded: nothing that fails here may reach its caller.

    Args:
        manager: The layer's plugin manager: its strategies and its runner.
        observers: Whom to tell what failed.
        sync: Runs a sync of one partition, or with None of all.
    """

    def __init__(
        self, manager: pluggy.PluginManager, observers: Observers, sync: Callable[[str | None], SyncResult]
    ) -> None:
        self._hook = manager.hook
        self._observers = observers
        self._sync = sync
        self.error: str | None = None
        self._lock = Lock()
        self._waiting: set[str | None] = set()
        self._closing = False
        renew_in_child(self)

    def close(self) -> None:
        """Ask no more strategies: the layer is closing, and what that cuts off is no failure."""
        self._closing = True

    def renew(self) -> None:
        """Forget the jobs that wait: a forked child has no part in those of its parent."""
        self._waiting.clear()

    @property
    def asks(self) -> bool:
        """Whether there is a strategy to ask."""
        return not self._closing and bool(self._hook.layer_strategy.get_hookimpls())

    def ask(
        self,
        partitions: Iterable[str],
        meta: Callable[[], LayerMeta],
        partition_meta: Callable[[str], PartitionMeta],
    ) -> None:
        """Ask the strategies about the partitions just written, and start what they say."""
        if not self.asks:
            return
        try:
            wanted = self._wanted(partitions, meta, partition_meta)
        except Exception as error:  # noqa: BLE001 -- see the class
            self._fail("layer_strategy", error)
            return
        for partition in wanted:
            self._start(partition)

    def _wanted(
        self,
        partitions: Iterable[str],
        meta: Callable[[], LayerMeta],
        partition_meta: Callable[[str], PartitionMeta],
    ) -> list[str | None]:
        """The partitions to sync; None alone stands for all."""
        layer = meta()
        wanted: list[str | None] = []
        for partition in partitions:
            answer = agreed(self._hook.layer_strategy(meta=layer, partition_meta=partition_meta(partition)))
            if answer is True:
                return [None]
            if answer == "partition":
                wanted.append(partition)
        return wanted

    def _start(self, partition: str | None) -> None:
        def job() -> None:
            with self._lock:
                self._waiting.discard(partition)
            try:
                result = self._sync(partition)
            except LeftError:
                return  # in line, for one who was cancelled: what it did not come to is pending still
            except Exception as error:  # noqa: BLE001 -- see the class
                self._fail("sync", error)
            else:
                if not result.locked:  # what another sync was left with may fail there as it did here
                    self.error = None

        with self._lock:
            if partition in self._waiting:  # the job that is about to begin will see these events too
                return
            self._waiting.add(partition)

        try:
            taken = self._hook.layer_runner(job=job)
        except BaseException as error:
            with self._lock:  # else no later job would be started, though nobody may have this one
                self._waiting.discard(partition)
            if not isinstance(error, Exception):  # KeyboardInterrupt, in a session that goes on after it
                raise
            self._fail("layer_runner", error)
            return
        if not taken:
            job()

    def _fail(self, operation: str, error: Exception) -> None:
        if self._closing and isinstance(error, ClosedError):
            return  # what it would have folded is pending still
        self.error = f"{operation}: {error}"
        self._observers.failed(operation, error)
