"""Our event logs keep the contract, and the kit notices logs that do not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dynalayer.eventlog.base import Appended, Draft, EventLog, HeadMove, Mark, Run
from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.eventlog.sqlite import SQLiteEventLog
from dynalayer.testing.eventlog import EventLogConformance, OpenLog

pytest_plugins = ["pytester"]


class TestMemoryEventLog(EventLogConformance):
    shared = False

    @pytest.fixture
    def make_log(self) -> OpenLog:
        return MemoryEventLog


class TestSQLiteEventLog(EventLogConformance):
    @pytest.fixture
    def make_log(self, tmp_path: Path) -> OpenLog:
        return lambda table: SQLiteEventLog(tmp_path / "events.db", table)


# Each of these breaks one promise.


class SkipsVersions(MemoryEventLog):
    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        places = super().append(drafts)
        for draft in drafts:
            self._partitions[draft.partition].version += 1
        return places


class TellsPlacesSorted(MemoryEventLog):
    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        return tuple(sorted(super().append(drafts), key=lambda place: place.partition))


class FollowsTheClockBack(MemoryEventLog):
    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        for draft in drafts:
            self._of(draft.partition).at = 0
        return super().append(drafts)


class RacesItself(MemoryEventLog):
    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        tails = {draft.partition: self.partition_state(draft.partition).version for draft in drafts}
        time.sleep(0.001)
        with self._lock:
            for partition, tail in tails.items():
                self._of(partition).version = tail
            return super().append(drafts)


class StripsNames(MemoryEventLog):
    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        return super().append([replace(draft, partition=draft.partition.strip()) for draft in drafts])


class ReadsLate(MemoryEventLog):
    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        run = super().read(partition, after, max_bytes=max_bytes)
        return replace(run, records=run.records[:-1])


class CutsInSilence(MemoryEventLog):
    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        return replace(super().read(partition, after, max_bytes=max_bytes), complete=True)


class MovesFromAnyRevision(MemoryEventLog):
    def move_head(self, partition: str, move: HeadMove) -> bool:
        with self._lock:
            return super().move_head(partition, replace(move, expected=self.head(partition).revision))


class LosesOldSegments(MemoryEventLog):
    def move_head(self, partition: str, move: HeadMove) -> bool:
        return super().move_head(partition, replace(move, retired=()))


class CountsEachMoveAsASync(MemoryEventLog):
    def move_head(self, partition: str, move: HeadMove) -> bool:
        return super().move_head(partition, replace(move, first=True))


class MarksWhateverTheNonce(MemoryEventLog):
    def mark(self, partition: str, marks: Sequence[Mark]) -> None:
        nonces = {record.version: record.nonce for record in self.read(partition, 0).records}
        super().mark(partition, [replace(mark, nonce=nonces[mark.version]) for mark in marks])


class MarksAgain(MemoryEventLog):
    def mark(self, partition: str, marks: Sequence[Mark]) -> None:
        super().mark(partition, marks)
        for mark in marks:
            records = self._of(partition).records
            records[mark.version] = replace(records[mark.version], cursor=mark.cursor)


class ExpiresWhatIsPending(MemoryEventLog):
    def expire(self, now: int, limit: int, syncs_before: str) -> int:
        for kept in self._partitions.values():
            kept.ttls = dict.fromkeys(kept.records, 0)
        return super().expire(now, limit, syncs_before)


class ExpiresWithoutLimit(MemoryEventLog):
    def expire(self, now: int, limit: int, syncs_before: str) -> int:
        return super().expire(now, 1_000_000, syncs_before)


class LeasesToAnybody(MemoryEventLog):
    def lease(self, partition: str, owner: str, now: int, until: int) -> bool:
        return super().lease(partition, owner, now, until) or True


class TakesLeasesBackFromAnybody(MemoryEventLog):
    def release(self, partition: str, owner: str) -> None:
        super().release(partition, self._of(partition).lease_owner)


class RaisesTheRevisionByALease(MemoryEventLog):
    def lease(self, partition: str, owner: str, now: int, until: int) -> bool:
        kept = self._of(partition)
        kept.head = replace(kept.head, revision=kept.head.revision + 1)
        return super().lease(partition, owner, now, until)


class ListsPendingPartitionsOnly(MemoryEventLog):
    def partitions(self) -> tuple[str, ...]:
        return self.pending()


class CallsFoldedRecordsPending(MemoryEventLog):
    def pending(self) -> tuple[str, ...]:
        return self.partitions()


class AppendsAfterAnyTail(MemoryEventLog):
    def append_after(
        self, drafts: Sequence[Draft], tails: Mapping[str, int], *, checkpoints: Sequence[CheckpointMove] = ()
    ) -> tuple[Appended, ...] | None:
        return super().append_after(drafts, {name: self.tail(name) for name in tails}, checkpoints=checkpoints)


class MovesCheckpointsFirst(MemoryEventLog):
    def append_after(
        self, drafts: Sequence[Draft], tails: Mapping[str, int], *, checkpoints: Sequence[CheckpointMove] = ()
    ) -> tuple[Appended, ...] | None:
        moved = [self.move_checkpoint(move) for move in checkpoints]
        return super().append_after(drafts, tails) if all(moved) else None


class MovesCheckpointsFromAnyRevision(MemoryEventLog):
    def move_checkpoint(self, move: CheckpointMove) -> bool:
        found = self.checkpoint(move.scope, move.name)
        return super().move_checkpoint(replace(move, expected=found.revision if found else 0))


class ListsScopesThatBeginAlike(MemoryEventLog):
    def checkpoints(self, scope: str, *, from_name: str = "") -> tuple[Checkpoint, ...]:
        scopes = {each for each, _ in self._checkpoints if each.startswith(scope)}
        return tuple(found for each in sorted(scopes) for found in super(type(self), self).checkpoints(each))


class KeepsCheckpoints(MemoryEventLog):
    def move_checkpoint(self, move: CheckpointMove) -> bool:
        return super().move_checkpoint(replace(move, ttl=None))


Kit = EventLogConformance
Promise = Callable[[EventLogConformance, EventLog], None]

BROKEN: list[tuple[type[MemoryEventLog], Promise]] = [
    (SkipsVersions, Kit.test_versions_of_a_partition_are_dense_from_one),
    (TellsPlacesSorted, Kit.test_places_are_told_in_the_order_of_the_drafts),
    (FollowsTheClockBack, Kit.test_a_record_is_never_dated_before_the_one_before_it),
    (RacesItself, Kit.test_appends_of_many_threads_are_dense_and_each_thread_stays_in_order),
    (StripsNames, Kit.test_odd_partition_names_are_kept_apart),
    (ReadsLate, Kit.test_versions_of_a_partition_are_dense_from_one),
    (CutsInSilence, Kit.test_pages_of_a_read_add_up_to_the_whole),
    (CutsInSilence, Kit.test_a_read_is_complete_unless_records_are_left),
    (MovesFromAnyRevision, Kit.test_a_head_of_another_revision_stays),
    (MovesFromAnyRevision, Kit.test_of_moves_from_one_revision_exactly_one_wins),
    (LosesOldSegments, Kit.test_what_a_move_retires_is_listed_oldest_first),
    (CountsEachMoveAsASync, Kit.test_moves_of_one_sync_count_as_one_sync),
    (MarksWhateverTheNonce, Kit.test_a_mark_with_another_nonce_is_ignored),
    (MarksAgain, Kit.test_a_marked_record_is_not_marked_again),
    (ExpiresWhatIsPending, Kit.test_nothing_expires_that_was_not_marked),
    (ExpiresWithoutLimit, Kit.test_no_more_expires_at_once_than_the_limit),
    (LeasesToAnybody, Kit.test_a_lease_is_refused_while_anothers_lasts),
    (TakesLeasesBackFromAnybody, Kit.test_only_its_owner_gives_a_lease_back),
    (RaisesTheRevisionByALease, Kit.test_a_lease_leaves_the_head_and_its_revision_alone),
    (ListsPendingPartitionsOnly, Kit.test_every_partition_that_had_a_record_is_listed),
    (AppendsAfterAnyTail, Kit.test_nothing_is_appended_after_a_tail_that_is_none_any_more),
    (AppendsAfterAnyTail, Kit.test_of_appends_after_one_tail_exactly_one_is_made),
    (MovesCheckpointsFirst, Kit.test_checkpoints_move_with_the_records_or_not_at_all),
    (MovesCheckpointsFromAnyRevision, Kit.test_a_checkpoint_moves_from_the_revision_expected),
    (MovesCheckpointsFromAnyRevision, Kit.test_of_moves_of_a_checkpoint_exactly_one_wins),
    (ListsScopesThatBeginAlike, Kit.test_a_scopes_checkpoints_are_listed_by_name_from_one_on),
    (KeepsCheckpoints, Kit.test_a_checkpoint_stays_until_its_ttl),
    (CallsFoldedRecordsPending, Kit.test_a_partition_is_pending_until_its_records_are_marked),
]


@pytest.mark.parametrize(("broken", "promise"), BROKEN, ids=lambda each: each.__name__)
def test_the_kit_notices_a_broken_promise(broken: type[MemoryEventLog], promise: Promise) -> None:
    promise(Kit(), MemoryEventLog("users"))
    with pytest.raises(AssertionError):
        promise(Kit(), broken("users"))


def test_the_kit_says_what_to_override(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from dynalayer.testing.eventlog import EventLogConformance

        class TestMyLog(EventLogConformance):
            pass
        """
    )
    result = pytester.runpytest("-p", "no:randomly", "-k", "test_running_totals_are_exact")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("*TestMyLog must override the fixture make_log*")
