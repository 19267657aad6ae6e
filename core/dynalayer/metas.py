"""From the counts that a log keeps to those that users are told."""

from __future__ import annotations

from dynalayer.clock import to_datetime
from dynalayer.eventlog.base import LayerState, PartitionState
from dynalayer.states import LayerMeta, PartitionMeta

__all__ = ["layer_meta", "partition_meta"]


def layer_meta(state: LayerState, error: str | None, *, loaded: bool) -> LayerMeta:
    """A layer's counts.

    Args:
        state: As the log counts.
        error: What failed last in a sync that a strategy asked for.
        loaded: Whether anything was ever stored.
    """
    return LayerMeta(
        cursor=state.cursor,
        loaded=loaded,
        synced_last_total=state.synced_last_total,
        synced_times=state.synced_times,
        synced_total=state.folded,
        unsynced_last_total=state.last_pending,
        # A sum that lags may have missed what others appended and this process folded.
        unsynced_total=max(0, state.appended - state.folded),
        error=error,
    )


def partition_meta(state: PartitionState) -> PartitionMeta:
    """A partition's counts."""
    head = state.head
    return PartitionMeta(
        partition=state.partition,
        version=state.version,
        synced_version=head.version,
        cursor=head.cursor,
        synced_last_total=head.synced_last_total,
        synced_times=head.synced_times,
        synced_total=head.events_total,
        unsynced_last_total=state.last_count,
        unsynced_total=state.events_total - head.events_total,
        unsynced_bytes=state.bytes_total - head.bytes_total,
        unsynced_since=None if state.pending_since is None else to_datetime(state.pending_since),
        segments=len(head.segments),
    )
