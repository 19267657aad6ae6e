"""A strategy: some partitions are synced early, the others when somebody does."""

from __future__ import annotations

from typing import Literal

from dynalayer import ConfigurationError, LayerMeta, PartitionMeta, hookimpl

__all__ = ["Chosen"]


class Chosen:
    """Syncs a chosen partition when it has enough pending events: `sync_strategy="chosen:eu;us?count=100"`.

    Args:
        partitions: The partitions.
        count: How many pending events are enough.
    """

    name = "chosen"

    def __init__(self, partitions: list[str], count: int = 1) -> None:
        if count < 1:
            raise ConfigurationError(f"chosen: count is at least 1, not {count}")
        self._partitions = frozenset(partitions)
        self._count = count

    @hookimpl
    def layer_strategy(self, meta: LayerMeta, partition_meta: PartitionMeta) -> Literal["partition"] | None:
        """Say yes for a chosen partition, and to that one alone."""
        if partition_meta.partition in self._partitions and partition_meta.unsynced_total >= self._count:
            return "partition"
        return None
