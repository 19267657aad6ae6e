"""Reading a partition on from a version: from the log, and from history segments where the log has it no more."""

from __future__ import annotations

import math

from dynalayer.eventlog.base import EventLog, Run
from dynalayer.recalling import Recaller

__all__ = ["Pages"]


class Pages:
    """Reads records page by page.

    Args:
        log: The layer's event log.
        recaller: Finds what the log has no more.

    Attributes:
        log: The layer's event log.
    """

    def __init__(self, log: EventLog, recaller: Recaller) -> None:
        self.log = log
        self._recaller = recaller

    def read(self, partition: str, after: int, max_bytes: int) -> Run:
        """What comes after a version, as far as it is kept; and the head as it is after that.

        Records that are recalled bear no nonce and no totals, and nobody knows whether they are all.

        Raises:
            EventLogError: The log failed.
            StorageError: A history segment is missing or corrupt, or the adapter failed.
        """
        run = self.log.read(partition, after, max_bytes=max_bytes)
        if after >= run.head.version or _leads_on(run, after):
            return run
        recalled = next(self._recaller.runs(partition, after))
        return recalled if _first(recalled) <= _first(run) else run

    def gone(self, partition: str, version: int) -> bool:
        """Whether the record after a version, which a head was seen to have passed, is kept nowhere.

        A read that was under way while it was appended and folded may show what comes after it, and not it: so it is
        looked for once more.

        Raises:
            LayerError: As `read`.
        """
        return not _leads_on(self.read(partition, version, 1), version)

    def events_through(self, partition: str, version: int) -> int:
        """Events in all records through one that is folded or the newest, where what follows it is kept.

        Raises:
            LayerError: As `read`.
        """
        counted, reached = 0, version
        while True:
            run = self.read(partition, reached, 1024 * 1024)
            for record in run.records:
                counted += record.count
                reached = record.version
                if record.nonce:
                    return record.events_total - counted
            if reached >= run.head.version or not run.records:
                return run.head.events_total - counted


def _leads_on(run: Run, after: int) -> bool:
    return _first(run) == after + 1


def _first(run: Run) -> float:
    return run.records[0].version if run.records else math.inf
