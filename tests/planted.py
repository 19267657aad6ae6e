"""Faults on purpose: each breaks one rule of the protocol in the engine, for as long as a test lets it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dynalayer import (
    asof,
    compaction,
    current,
    keeping,
    moving,
    resets,
    resetting,
    segments,
    snapshots,
    syncing,
    vacuuming,
)
from dynalayer.clock import to_iso
from dynalayer.errors import EventLogError
from dynalayer.eventlog.base import Head, HeadMove, Mark, Record, Run, SegmentRef
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.events import Event
from dynalayer.fold import NetChanges
from dynalayer.following.handing_out import HandingOut
from dynalayer.following.positions import Position
from dynalayer.sourcing.spools import Waiting

Plant = Callable[[pytest.MonkeyPatch], None]


def the_head_moves_whatever_its_revision(patch: pytest.MonkeyPatch) -> None:
    moved = MemoryEventLog.move_head

    def move_head(self: MemoryEventLog, partition: str, move: HeadMove) -> bool:
        return moved(self, partition, replace(move, expected=self.head(partition).revision))

    patch.setattr(MemoryEventLog, "move_head", move_head)


def records_expire_as_soon_as_they_are_appended(patch: pytest.MonkeyPatch) -> None:
    append = MemoryEventLog._append

    def appended(self: MemoryEventLog, draft: Any) -> Any:
        place = append(self, draft)
        self._partitions[draft.partition].ttls[place.version] = 0
        return place

    patch.setattr(MemoryEventLog, "_append", appended)


def records_expire_as_soon_as_they_are_marked(patch: pytest.MonkeyPatch) -> None:
    mark = MemoryEventLog.mark
    patch.setattr(
        MemoryEventLog, "mark", lambda self, partition, marks: mark(self, partition, [replace(m, ttl=0) for m in marks])
    )


def records_are_marked_before_the_head_has_moved(patch: pytest.MonkeyPatch) -> None:
    move = syncing.Syncer._move

    def moved(self: Any, sync: Any, partition: str, head: Head, records: Sequence[Record]) -> Head | None:
        cursor = to_iso(sync.moment)
        marks = [Mark(each.version, each.nonce, cursor, 0) for each in records]
        self._log.mark(partition, marks)
        return move(self, sync, partition, head, records)

    patch.setattr(syncing.Syncer, "_move", moved)


def a_reader_does_not_look_at_the_head_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(current, "following", lambda run, version, reset: snapshots.contiguous(run.records, version))


def a_reader_does_not_mind_a_reset(patch: pytest.MonkeyPatch) -> None:
    def following(run: Run, version: int, reset: int) -> tuple[Record, ...] | None:
        records = snapshots.contiguous(run.records, version)
        end = records[-1].version if records else version
        return records if end >= run.head.version else None

    patch.setattr(current, "following", following)


def a_lost_answer_counts_as_a_move_that_failed(patch: pytest.MonkeyPatch) -> None:
    def has_moved(log: Any, partition: str, move: HeadMove, named: SegmentRef) -> bool:
        try:
            return bool(log.move_head(partition, move))
        except EventLogError:
            # It goes on from the head that it sees now, as if another had moved it there with its own events pending.
            head = log.head(partition)
            again = HeadMove(head.revision, replace(move.head, revision=head.revision + 1), move.retired, move.folded)
            return bool(log.move_head(partition, again))

    patch.setattr(syncing, "has_moved", has_moved)


def a_compaction_replaces_whatever_the_head_names_by_now(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(compaction, "_find", lambda named, wanted: max(0, len(named) - len(wanted)) if named else None)


def a_compaction_does_not_count_vacuums(patch: pytest.MonkeyPatch) -> None:
    class Blind(int):
        def __ne__(self, other: object) -> bool:
            return False

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    replaced = compaction.Compactor._replace

    def replacing(self: Any, partition: str, head: Head, *rest: Any) -> Any:
        return replaced(self, partition, replace(head, vacuums=Blind(head.vacuums)), *rest)

    patch.setattr(compaction.Compactor, "_replace", replacing)


def a_vacuum_does_not_raise_the_revision(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vacuuming.Vacuum, "_fence", vacuuming.Vacuum._named)


def a_vacuum_lists_after_it_has_raised_the_revision(patch: pytest.MonkeyPatch) -> None:
    vacuum = vacuuming.Vacuum._vacuum

    def vacuumed(self: Any, partition: str, *rest: Any, dry_run: bool) -> None:
        named = self._named(partition) if dry_run else self._fence(partition)
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(self, "_fence", lambda _: named)
            inside.setattr(self, "_named", lambda _: named)
            vacuum(self, partition, *rest, dry_run=dry_run)

    patch.setattr(vacuuming.Vacuum, "_vacuum", vacuumed)


def a_vacuum_discards_what_history_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(keeping, "retire", lambda replaced, now, retention: ())


def what_a_sync_folds_is_not_listed_as_history(patch: pytest.MonkeyPatch) -> None:
    recorded = keeping.HistoryKeeper.recorded

    def unlisted(self: Any, partition: str, head: Head, *rest: Any, committed: int = 0) -> Any:
        named = recorded(self, partition, head, *rest, committed=committed)
        return named if committed else ()

    patch.setattr(keeping.HistoryKeeper, "recorded", unlisted)


def what_a_takeover_folds_is_not_listed_as_history(patch: pytest.MonkeyPatch) -> None:
    recorded = keeping.HistoryKeeper.recorded

    def unlisted(self: Any, partition: str, head: Head, *rest: Any, committed: int = 0) -> Any:
        named = recorded(self, partition, head, *rest, committed=committed)
        return () if committed else named

    patch.setattr(keeping.HistoryKeeper, "recorded", unlisted)


def history_is_listed_after_the_head_has_moved(patch: pytest.MonkeyPatch) -> None:
    """Within the floor: records are marked between, and may expire before it is."""
    recorded = keeping.HistoryKeeper.recorded
    waiting: dict[str, Any] = {}

    def later(self: Any, partition: str, head: Head, *rest: Any, committed: int = 0) -> Any:
        given = (partition, head, *rest)
        listed = waiting.pop(partition, ())
        waiting[partition] = recorded(self, *given, committed=committed)
        return listed

    patch.setattr(keeping.HistoryKeeper, "recorded", later)


def a_merge_names_what_a_vacuum_may_have_discarded(patch: pytest.MonkeyPatch) -> None:
    def listing(self: Any, partition: str, _head: Head, listed: Any) -> Head | None:
        for _ in range(9):
            now: Head = self._log.head(partition)
            moved = replace(now, revision=now.revision + 1)
            if self._log.move_head(partition, HeadMove(now.revision, moved, (listed,))):
                return moved
        return None

    patch.setattr(keeping.HistoryKeeper, "_list", listing)


def a_base_that_a_reset_made_is_kept_no_longer_than_others(patch: pytest.MonkeyPatch) -> None:
    wanted = keeping._wanted
    patch.setattr(
        keeping,
        "_wanted",
        lambda replaced, listed, head, apart: wanted(replaced, listed, replace(head, reset=0), apart),
    )


def a_takeover_forgets_what_was_appended_meanwhile(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(resetting, "apply_changes", lambda items, changes: None)


def a_reset_notes_the_tail_when_the_source_was_read(patch: pytest.MonkeyPatch) -> None:
    taken = resets._Reset._taken

    def late(self: Any, waiting: Waiting) -> Any:
        return taken(self, replace(waiting, tail=self._resetter._log.partition_state(waiting.partition).version))

    patch.setattr(resets._Reset, "_taken", late)


def a_reset_folds_what_is_older_over_what_it_read(patch: pytest.MonkeyPatch) -> None:
    taken = resets._Reset._taken
    patch.setattr(resets._Reset, "_taken", lambda self, waiting: taken(self, replace(waiting, tail=0)))


def a_delta_forgets_what_was_deleted(patch: pytest.MonkeyPatch) -> None:
    add = NetChanges.add_changes

    def added(self: NetChanges, changes: Iterable[Any]) -> None:
        add(self, changes)
        self.deleted.clear()

    patch.setattr(NetChanges, "add_changes", added)


def wrong_bytes_are_not_noticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(segments, "_hash", lambda header, body: "the same")


def a_sync_forgets_the_last_record_that_it_read(patch: pytest.MonkeyPatch) -> None:
    changes_of = snapshots.changes_of
    patch.setattr(syncing, "changes_of", lambda log, partition, record: changes_of(log, partition, record)[:-1] or [])


def an_as_of_read_ignores_gaps(patch: pytest.MonkeyPatch) -> None:
    def way(self: Any, partition: str, past: Any, gone: frozenset[str], version: int) -> Any:
        path = asof._path((named for named in past.segments if named.ref not in gone), version)
        reached = path[-1].to_version if path else 0
        runs = self._runs(partition, past, reached)
        return path, [record for run in runs for record in run.records if record.version <= version]

    patch.setattr(asof.Historian, "_way", way)


def cursors_follow_the_clock_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(syncing, "rising", lambda moment, head, again: moment)
    patch.setattr(syncing, "new_moment", lambda log, clock: clock())


def segments_of_two_moves_count_twice(patch: pytest.MonkeyPatch) -> None:
    after = moving.head_after

    def head_after(head: Head, records: Any, *rest: Any, **options: Any) -> Head:
        moved = after(head, records, *rest, **options)
        return replace(moved, events_total=moved.events_total + (1 if head.segments else 0))

    patch.setattr(syncing, "head_after", head_after)


def an_event_counts_as_handled_once_it_is_handed_out(patch: pytest.MonkeyPatch) -> None:
    record = HandingOut._record

    def handed_out(self: Any, partition: str, each: Record, head: Head) -> Iterator[Event]:
        for event in record(self, partition, each, head):
            position = self._positions.at(partition)
            self._positions.reach(partition, replace(position, index=position.index + 1, events=position.events + 1))
            yield event
            self._positions.reach(partition, position)

    patch.setattr(HandingOut, "_record", handed_out)


def a_follower_passes_over_what_has_expired(patch: pytest.MonkeyPatch) -> None:
    def passed(self: Any, partition: str, run: Run) -> bool:
        position = self._positions.at(partition)
        if position.version < run.head.version:
            self._positions.reach(partition, Position(run.head.version, 0, run.head.events_total, position.reset))
        return False

    patch.setattr(HandingOut, "_is_torn", passed)


PLANTS: dict[str, Plant] = {
    name: plant
    for name, plant in list(globals().items())
    if callable(plant) and name[0] != "_" and getattr(plant, "__module__", "") == __name__
}
