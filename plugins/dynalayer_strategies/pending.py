"""By how much is pending."""

from __future__ import annotations

from dynalayer import LayerMeta, PartitionMeta, hookimpl
from dynalayer_strategies.checks import Answer, Per, checked_limit, checked_per

__all__ = ["BytesStrategy", "CountStrategy"]


class CountStrategy:
    """Syncs when so many events are pending.

    Of the layer: then all that is pending is synced. `per="partition"`: of the partition that was written, which is
    then synced alone. Counts come from the log, so that the events of all processes count; on DynamoDB the layer's
    may lag by what others appended in the last seconds, the partition's likewise.

    Args:
        limit: How many, at least 1.
        per: Whose events count.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    name = "count"

    def __init__(self, limit: int, *, per: Per = "layer") -> None:
        self._limit = checked_limit(self.name, limit)
        self._per = checked_per(self.name, per)

    @hookimpl
    def layer_strategy(self, meta: LayerMeta, partition_meta: PartitionMeta) -> Answer:
        """See `HookSpecs.layer_strategy`."""
        if self._per == "partition":
            return "partition" if partition_meta.unsynced_total >= self._limit else None
        return True if meta.unsynced_total >= self._limit else None


class BytesStrategy:
    """Syncs the partition that was written when so many bytes of it are pending, as packed in the log.

    Of the partition, since that is what each of its reads has to fetch; of the layer no log keeps such a count.

    Args:
        limit: How many, at least 1.

    Raises:
        ConfigurationError: It is no such number.
    """

    name = "bytes"

    def __init__(self, limit: int) -> None:
        self._limit = checked_limit(self.name, limit)

    @hookimpl
    def layer_strategy(self, partition_meta: PartitionMeta) -> Answer:
        """See `HookSpecs.layer_strategy`."""
        return "partition" if partition_meta.unsynced_bytes >= self._limit else None
