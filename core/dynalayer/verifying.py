"""Verify: whether all that is stored fits together, and what does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dynalayer.chronicle import stretches
from dynalayer.clock import Clock
from dynalayer.comparing import Comparison
from dynalayer.errors import LayerError, SegmentMissingError
from dynalayer.eventlog.base import EventLog, Head, Record, Run, SegmentRef
from dynalayer.leaving import go_on
from dynalayer.recalling import recalled
from dynalayer.snapshots import changes_of
from dynalayer.storage import Storage

__all__ = ["Finding", "Verifier", "VerifyResult"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        partition: Where.
        subject: What: a segment's ref, a record's version, the head.
        problem: How it is wrong.
    """

    partition: str
    subject: str
    problem: str


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was looked at, and what was found.

    Attributes:
        partitions: Partitions looked at.
        segments: Segments read and checked.
        records: Records read and checked.
        findings: What is wrong; empty if all is well.
        against: How the items compare with their source; None where it was not compared.
    """

    partitions: int
    segments: int
    records: int
    findings: tuple[Finding, ...]
    against: Comparison | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings and (self.against is None or self.against.ok)


_PAGE_BYTES = 16 * 1024 * 1024


class Verifier:
    """Reads everything that heads and history name, and checks it.

    Args:
        log: The layer's event log.
        storage: The layer's storage.
        clock: Tells which old segments are still in the history's time.
        forever: Whether history is kept for ever.
    """

    def __init__(self, log: EventLog, storage: Storage, clock: Clock, *, forever: bool) -> None:
        self._log = log
        self._storage = storage
        self._clock = clock
        self._forever = forever

    def run(self, partition: str | None) -> VerifyResult:
        """Verify a partition, or with None all; nothing is changed."""
        partitions = self._log.partitions() if partition is None else (partition,)
        findings: list[Finding] = []
        segments = records = 0
        for each in partitions:
            head = self._log.head(each)
            named = self._segments(each, head)
            segments += len(named)
            findings.extend(self._check_segments(each, named))
            findings.extend(_check_head(each, head))
            if self._forever:
                findings.extend(_check_history(each, head, named))
            before = None
            for run in self._runs(each):
                records += len(run.records)
                for record in run.records:
                    findings.extend(self._check_record(each, record, run.head, before))
                    before = record
        return VerifyResult(len(partitions), segments, records, tuple(findings))

    def _runs(self, partition: str) -> Iterator[Run]:
        """All kept records, in pages."""
        after = 0
        while True:
            go_on()
            run = self._log.read(partition, after, max_bytes=_PAGE_BYTES)
            yield run
            if run.complete or not run.records:
                return
            after = run.records[-1].version

    def _segments(self, partition: str, head: Head) -> tuple[SegmentRef, ...]:
        now = self._clock()
        old = (each.segment for each in self._log.old_segments(partition) if each.keep_until > now)
        named = {segment.ref: segment for segment in (*old, *head.segments)}
        return tuple(named.values())

    def _check_segments(self, partition: str, named: tuple[SegmentRef, ...]) -> Iterator[Finding]:
        for segment in named:
            go_on()
            try:
                if segment.kind == "history":
                    recalled(self._storage, partition, segment, table=self._log.table)
                    continue
                self._storage.get(partition, segment, table=self._log.table)
                if self._storage.capabilities.columns:
                    for _ in self._storage.columns(partition, segment, table=self._log.table).batches():
                        pass
            except SegmentMissingError as error:
                # Unless a vacuum has discarded it meanwhile, as it may once the history's time is over.
                if segment in self._segments(partition, self._log.head(partition)):
                    yield Finding(partition, segment.ref, error.message)
            except LayerError as error:
                yield Finding(partition, segment.ref, error.message)

    def _check_record(self, partition: str, record: Record, head: Head, before: Record | None) -> Iterator[Finding]:
        """What is wrong with a record, by the head as it was after it and by the record kept before it."""
        subject = f"record {record.version}"
        try:
            count = len(changes_of(self._log, partition, record))
        except LayerError as error:
            yield Finding(partition, subject, error.message)
        else:
            if count != record.count:
                yield Finding(partition, subject, f"holds {count} events and counts {record.count}")
        if before is not None and before.version == record.version - 1:
            total = before.events_total
        elif head.version == record.version - 1:
            total = head.events_total
        elif head.version < record.version - 1:
            missing = max(head.version, before.version if before else 0) + 1
            yield Finding(partition, f"record {missing}", f"is missing: the next one kept is {record.version}")
            return
        else:  # what stood before it has been folded and has expired
            return
        if record.events_total != total + record.count:
            says = f"says {record.events_total} events in all, where there are {total + record.count}"
            yield Finding(partition, subject, says)


def _check_history(partition: str, head: Head, named: Sequence[SegmentRef]) -> Iterator[Finding]:
    """Gaps in what is kept for ever; what was folded before any of it was is none."""
    found = stretches(each for each in named if each.kind == "history")
    begins = [*(stretch.after for stretch in found[1:]), head.version]
    for stretch, begin in zip(found, begins, strict=False):
        if stretch.through < begin:
            problem = f"has no versions {stretch.through + 1} to {begin}: somebody syncs without history='forever'"
            yield Finding(partition, "history", problem)


def _check_head(partition: str, head: Head) -> Iterator[Finding]:
    reached = 0
    for position, segment in enumerate(head.segments):
        kind = "delta" if position else "base"
        if segment.kind != kind:
            yield Finding(partition, "head", f"names a {segment.kind} where a {kind} belongs: {segment.ref}")
        if segment.from_version != reached:
            yield Finding(partition, "head", f"{segment.ref} begins at {segment.from_version}, after one to {reached}")
        reached = segment.to_version
    if reached != head.version:
        yield Finding(partition, "head", f"is at version {head.version}, its snapshot at {reached}")
