"""Recalling: the records that are kept, in the log, and in history segments where the log has them no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dynalayer.bulk import paused_collector
from dynalayer.chronicle import covering, history_of, records_of
from dynalayer.errors import ConflictError, LayerError, SegmentMissingError
from dynalayer.eventlog.base import EventLog, Record, RecordKind, Run, SegmentRef
from dynalayer.storage import Storage

__all__ = ["Recaller", "recalled"]

_PAGE_BYTES = 16 * 1024 * 1024
_TRIES = 16


class Recaller:
    """Reads a partition's records, each once, in order.

    Args:
        log: The layer's event log.
        storage: The layer's storage.
    """

    def __init__(self, log: EventLog, storage: Storage) -> None:
        self._log = log
        self._storage = storage

    def runs(self, partition: str, after: int, history: tuple[SegmentRef, ...] | None = None) -> Iterator[Run]:
        """The kept records above a version, part by part, each with the head as it was when the log was read.

        A part has no gap within it; that it follows on the one before it is the reader's to check. The last one is
        complete, and empty.

        Args:
            partition: The partition.
            after: The version.
            history: The history segments, where they are known; else they are listed where a version is missing.
        """
        # Of what stands in a segment, and most likely nowhere else, no more is read from the log than tells so.
        size = 1 if history and covering(history, after) else _PAGE_BYTES
        while True:
            run = self._log.read(partition, after, max_bytes=size)
            size = _PAGE_BYTES
            for part in _unbroken(run.records):
                for records in self._recalled(partition, history, after, min(part[0].version - 1, run.head.version)):
                    yield Run(records, run.head, complete=False)
                yield Run(part, run.head, complete=False)
                after = part[-1].version
            if run.complete or not run.records:
                for records in self._recalled(partition, history, after, run.head.version):
                    yield Run(records, run.head, complete=False)
                yield Run((), run.head)
                return

    def begun(self, partition: str) -> int | None:
        """The version after which history was kept for ever, as far as is known; None where it never was."""
        return min((named.from_version for named in self._history(partition)), default=None)

    def passed(self, partition: str, version: int, history: tuple[SegmentRef, ...]) -> bool:
        """Whether history segments know of a folded reset that it was never committed: the log tells of none."""
        told = next(self._recalled(partition, history, version - 1, version), ())
        return any(record.kind is not RecordKind.RESET for record in told)

    def _history(self, partition: str) -> tuple[SegmentRef, ...]:
        if not self._storage.capabilities.immutable:
            return ()
        return history_of(self._log.old_segments(partition))

    def _recalled(
        self, partition: str, history: tuple[SegmentRef, ...] | None, after: int, through: int
    ) -> Iterator[tuple[Record, ...]]:
        """What history segments have of the versions after one, up to another."""
        if after >= through:
            return
        tries = 0
        if history is None:
            history = self._history(partition)
        while after < through:
            named = covering(history, after)
            if named is None:
                after = min((each.from_version for each in history if each.from_version > after), default=through)
                continue
            try:
                records = recalled(self._storage, partition, named, table=self._log.table)
            except SegmentMissingError as error:
                # Merged since it was listed, and discarded by a vacuum; or it is really gone.
                history, tries = self._history(partition), tries + 1
                if named in history:
                    raise
                if tries == _TRIES:
                    raise ConflictError(
                        "history segments were discarded at each of a bounded number of tries to read them; try again",
                        partition=partition,
                        retryable=True,
                    ) from error
                continue
            yield tuple(record for record in records if after < record.version <= through)
            after = named.to_version


def recalled(storage: Storage, partition: str, named: SegmentRef, *, table: str) -> list[Record]:
    """The records of a history segment; errors as `Storage.get`."""
    segment = storage.get(partition, named, table=table)
    try:
        with paused_collector():
            return records_of(segment)
    except LayerError as error:
        raise error.within(  # noqa: B904 -- the same error, with what it could not know
            partition=partition, adapter=storage.name, distribution=storage.distribution
        )


def _unbroken(records: Sequence[Record]) -> Iterable[tuple[Record, ...]]:
    start = 0
    for position in range(1, len(records) + 1):
        if position == len(records) or records[position].version != records[position - 1].version + 1:
            yield tuple(records[start:position])
            start = position
