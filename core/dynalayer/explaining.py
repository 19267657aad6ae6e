"""Explaining: what a read, an append and a sync of a partition request, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dynalayer.compaction import due
from dynalayer.costs import Cost, Prices, Request
from dynalayer.eventlog.base import EventLog, Head, LogCosts, SegmentRef
from dynalayer.reading import Reader
from dynalayer.snapshots import Snapshots
from dynalayer.storage import Storage
from dynalayer.units import plain_size, read_units

__all__ = ["Explainer", "Explanation"]

_PAGE = 1024 * 1024  # bytes that one request of a query reads at most


@dataclass(frozen=True, slots=True)
class Explanation:
    """What calls on a partition cost as it is now. Units are DynamoDB's, by its documented rules.

    Attributes:
        partition: The partition.
        items: Its items.
        item_bytes: What they would take in a DynamoDB table of their own.
        segments: Segments in its snapshot.
        pending: Records that are pending.
        first_read: `get()` in a process that has not read the partition before.
        read: A further `get()`, with nothing new since.
        first_append: The first `set()` of a process.
        append: A further one; its record is as large as the partition's are on average.
        sync: `sync(partition)`, with the marking of what it folds.
        plain_query: A strongly consistent Query of the same items in a table of their own, page after page.
        prices: What is paid for it.
    """

    partition: str
    items: int
    item_bytes: int
    segments: int
    pending: int
    first_read: Cost
    read: Cost
    first_append: Cost
    append: Cost
    sync: Cost
    plain_query: Cost
    prices: Prices

    def price(self, cost: Cost) -> float:
        """What one of these costs, in the currency of the prices."""
        return self.prices.dollars(cost.usage)


class Explainer:
    """Explains costs.

    Args:
        log: The layer's event log.
        storage: The layer's storage.
        snapshots: The layer's snapshots.
        reader: Reads the items that are there.
        forever: Whether history is kept for ever.
    """

    def __init__(
        self, log: EventLog, storage: Storage, snapshots: Snapshots, reader: Reader, *, forever: bool = False
    ) -> None:
        self._log = log
        self._storage = storage
        self._snapshots = snapshots
        self._reader = reader
        self._forever = forever

    def explain(self, partition: str, prices: Prices) -> Explanation:
        """Explain a partition. It is read for that, which costs what `first_read` or `read` says, once or twice.

        Raises:
            LayerError: The log or the storage failed.
        """
        items = self._reader.get(partition, in_order=False)
        sizes = [plain_size(item) for item in items]
        costs = self._log.costs(partition)
        if costs is None:
            costs = self._free(partition)
        head = costs.head
        loaded = self._reads(len(head.segments), "the segments that the head names")
        return Explanation(
            partition=partition,
            items=len(items),
            item_bytes=sum(sizes),
            segments=len(head.segments),
            pending=costs.pending,
            first_read=costs.first_read + loaded,
            read=costs.read if self._snapshots.remembers(partition) else costs.first_read + loaded,
            first_append=costs.first_append,
            append=costs.append,
            sync=self._sync(costs),
            plain_query=_plain_query(sizes),
            prices=prices,
        )

    def _free(self, partition: str) -> LogCosts:
        """Of a log that is not paid by request."""
        state = self._log.partition_state(partition)
        nothing = Cost()
        pending = state.version - state.head.version
        return LogCosts(state.head, pending, nothing, nothing, nothing, nothing, nothing, nothing, nothing)

    def _reads(self, count: int, why: str) -> Cost:
        return Cost((Request("layer_getter", count, 0, 0, why, "read"),) if count else ())

    def _sync(self, costs: LogCosts) -> Cost:
        head, cost = costs.head, costs.sync
        if not costs.pending:
            return cost
        capabilities = self._storage.capabilities
        if not capabilities.immutable:  # prolonged right before the one place is written
            cost += costs.lease
        if head.segments and not capabilities.deltas:
            cost += self._reads(len(head.segments), "what the new base begins with")
        cost += Cost((Request("layer_setter", 1, 0, 0, "the segment of what is folded", "write"),))
        if self._forever:
            cost += Cost((Request("layer_setter", 1, 0, 0, "the history of what is folded", "write"),)) + costs.listing
        if capabilities.publishing:
            if capabilities.deltas:
                cost += self._reads(len(head.segments), "what is published with the change")
            cost += Cost((Request("layer_publish", 1, 0, 0, "the partition, for other programs", "write"),))
        span = due(_folded(head, costs.pending)) if capabilities.deltas else None
        if span is None:
            return cost
        getter, setter = "layer_getter", "layer_setter"
        if capabilities.columns:
            getter, setter = "layer_columns", "layer_columns_setter"
        read = Request(getter, span[1] - span[0], 0, 0, "segments that are due to be merged", "read")
        written = Request(setter, 1, 0, 0, "the segment that they become", "write")
        return cost + Cost((read, written)) + costs.compaction


def _folded(head: Head, entries: int) -> tuple[SegmentRef, ...]:
    """The head's segments after a sync, its own taken to speak of as many identifiers as there are records."""
    if not head.segments:
        return ()
    last = head.segments[-1]
    return (*head.segments, replace(last, kind="delta", from_version=last.to_version, entries=entries))


def _plain_query(sizes: list[int]) -> Cost:
    pages = [0]
    for size in sizes:
        if pages[-1] and pages[-1] + size > _PAGE:
            pages.append(0)
        pages[-1] += size
    units = sum(read_units(page, consistent=True) for page in pages)
    return Cost((Request("Query", len(pages), units, 0, "the same items in a table of their own"),))
