"""A partition as it is now: what its head names, and the records that lead on from there, nothing missing between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from dynalayer.errors import ConflictError, SegmentMissingError
from dynalayer.eventlog.base import EventLog, Head, Record, Run
from dynalayer.snapshots import contiguous, following, missing_record

__all__ = ["read_current"]

_TRIES = 16  # each loses only to a head that moved while its segments were read


class _Folded(Protocol):
    """What was folded through a version, under a head's `reset`."""

    @property
    def version(self) -> int: ...

    @property
    def reset(self) -> int: ...


T = TypeVar("T", bound=_Folded)


def read_current(
    log: EventLog, partition: str, load: Callable[[Head], T], remembered: T | None = None
) -> tuple[T, tuple[Record, ...]]:
    """What is folded, and the records after it, which are pending or were folded since it was remembered.

    Together they are every event that was acknowledged before the call began, in order, each once.

    Args:
        log: The event log.
        partition: The partition.
        load: Loads what a head names.
        remembered: What was loaded, and folded on, before.

    Raises:
        StorageError: A segment that the head names is missing, or what `load` raises.
        EventLogError: The log failed, or a record is missing.
        ConflictError: The head moved away at every one of a bounded number of tries.
    """
    folded, head, hole = remembered, None, None
    for _ in range(_TRIES):
        if folded is None:
            head = head or log.head(partition)
            folded, head = _loaded(log, partition, head, load), None
        if folded is not None:
            run = log.read(partition, folded.version)
            records = following(run, folded.version, folded.reset)
            if records is not None:
                return folded, records
            hole = _hole(run, folded.version)
            folded, head = None, run.head
    if hole is not None:
        raise missing_record(log, partition, hole)
    raise ConflictError(
        f"the snapshot moved on at each of {_TRIES} tries to read it; try again",
        partition=partition,
        retryable=True,
    )


def _loaded(log: EventLog, partition: str, head: Head, load: Callable[[Head], T]) -> T | None:
    """What the head names; None if a segment is gone because the head has moved on."""
    try:
        return load(head)
    except SegmentMissingError as error:
        now = log.head(partition)
        if now.revision != head.revision:
            return None
        raise SegmentMissingError(
            f"the head at version {head.version} (revision {head.revision}) in {log.location} names a segment that is "
            f"gone: {error.message}; restore it from a copy, or rebuild the partition from the source table",
            partition=partition,
            adapter=error.adapter,
            distribution=error.distribution,
        ) from error


def _hole(run: Run, after: int) -> int | None:
    """The pending version that is not there, although later ones are; None if there is none such."""
    records = contiguous(run.records, after)
    end = records[-1].version if records else after
    return end + 1 if end >= run.head.version and len(records) < len(run.records) else None
