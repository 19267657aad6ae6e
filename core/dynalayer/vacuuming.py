"""Vacuum: the only one that ever discards a segment."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dynalayer.clock import Clock
from dynalayer.errors import ConflictError, LayerError
from dynalayer.eventlog.base import EventLog, HeadMove
from dynalayer.leaving import go_on
from dynalayer.storage import Storage

__all__ = ["Vacuum", "VacuumResult"]

_TRIES = 32


@dataclass(frozen=True, slots=True)
class VacuumResult:
    """What a vacuum discarded, or would discard.

    Attributes:
        dry_run: Whether nothing was really discarded.
        discarded: Partition and ref of each segment discarded.
        left: Partition, ref and reason of each segment that nothing names and that was left all the same.
    """

    dry_run: bool
    discarded: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, str, str], ...]


class Vacuum:
    """Discards segments that neither a head nor the history names.

    A segment that is being written when it looks is listed, but named by no head yet. Raising the head's revision
    before discarding makes the compare-and-set of that writer fail: what is discarded can no longer be named.

    Args:
        log: The layer's event log.
        storage: The layer's storage.
        clock: Tells which old segments are still in the history's time.
    """

    def __init__(self, log: EventLog, storage: Storage, clock: Clock) -> None:
        self._log = log
        self._storage = storage
        self._clock = clock

    def run(self, partition: str | None, *, dry_run: bool) -> VacuumResult:
        """Vacuum a partition, or with None all.

        Raises:
            ConfigurationError: The adapter cannot list.
            ConflictError: A head moved at every one of a bounded number of tries.
        """
        self._storage.need_listing("vacuum")
        discarded: list[tuple[str, str]] = []
        left: list[tuple[str, str, str]] = []
        for each in self._log.partitions() if partition is None else (partition,):
            go_on()
            self._vacuum(each, discarded, left, dry_run=dry_run)
        return VacuumResult(dry_run, tuple(discarded), tuple(left))

    def _vacuum(
        self,
        partition: str,
        discarded: list[tuple[str, str]],
        left: list[tuple[str, str, str]],
        *,
        dry_run: bool,
    ) -> None:
        listed = self._storage.list(partition)
        named = self._named(partition) if dry_run else self._fence(partition)
        now = self._clock()
        old = {each.segment.ref: each for each in self._log.old_segments(partition)}
        expired = {ref for ref, each in old.items() if each.keep_until <= now and ref not in named}
        for ref in listed:
            if ref in named or (ref in old and ref not in expired):
                continue
            reason = None if ref in expired else self._not_ours(partition, ref)
            if reason:
                left.append((partition, ref, reason))
                continue
            if not dry_run:
                self._storage.discard(partition, ref)
            discarded.append((partition, ref))
        if expired and not dry_run:
            # After the discarding: what a crash leaves undone is still listed, and discarded the next time.
            self._log.forget_old_segments(partition, sorted(expired))

    def _named(self, partition: str) -> frozenset[str]:
        return frozenset(segment.ref for segment in self._log.head(partition).segments)

    def _fence(self, partition: str) -> frozenset[str]:
        """Raise the head's revision; the refs that it names from then on, until somebody reads it anew."""
        for _ in range(_TRIES):
            head = self._log.head(partition)
            raised = replace(head, revision=head.revision + 1, vacuums=head.vacuums + 1)
            if self._log.move_head(partition, HeadMove(head.revision, raised)):
                return frozenset(segment.ref for segment in raised.segments)
        raise ConflictError(
            f"the head moved on at each of {_TRIES} tries to raise it; vacuum again",
            operation="vacuum",
            partition=partition,
            retryable=True,
        )

    def _not_ours(self, partition: str, ref: str) -> str | None:
        """Why an orphan is no business of this layer: two layers, or two logs, may share one place."""
        if self._log.origin in ref:  # the name of a segment, which most adapters take for the ref, holds it
            return None
        try:
            segment = self._storage.fetch(partition, ref)
        except LayerError as error:
            return f"cannot be read: {error.message}"
        if segment.origin != self._log.origin:
            return f"written by another event log's layer of table {segment.table!r}"
        return None
