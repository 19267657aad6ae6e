"""Compaction: which segments become one, what that costs, and who else may be at work meanwhile."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynalayer import EventLog, EventLogError, HistoryError, Item, Layer, MemoryEventLog, Segment, SQLiteEventLog
from dynalayer.clock import now
from dynalayer.compaction import POLICY, Compactor, due
from dynalayer.errors import ConflictError
from dynalayer.eventlog.base import MAX_DELTAS, Head, HeadMove, SegmentRef
from dynalayer.keeping import HistoryKeeper
from dynalayer.observing import Observers
from dynalayer.opening import open_storage
from dynalayer.plugins import new_manager
from dynalayer.snapshots import Snapshots
from dynalayer.storage import Storage
from dynalayer.testing.faults import WrappedLog
from dynalayer_local import LocalAdapter

MOST = MAX_DELTAS + 1
FAR_FUTURE = 4_000_000_000_000_000  # microseconds


def named(kind: str, from_version: int, to_version: int, entries: int) -> SegmentRef:
    name = f"{kind}-{from_version}-{to_version}"
    return SegmentRef(name, "base" if kind == "base" else "delta", from_version, to_version, entries, name, "", 0)


def snapshot_of(base: int, deltas: Sequence[int]) -> list[SegmentRef]:
    """A head's segments, by their numbers of entries."""
    return [named("base", 0, 1, base), *(named("delta", 1 + n, 2 + n, size) for n, size in enumerate(deltas))]


def after(segments: list[SegmentRef]) -> tuple[list[SegmentRef], int]:
    """What a compaction, if one is due, makes of segments whose entries are all different; the entries it writes."""
    span = due(segments)
    if span is None:
        return segments, 0
    replaced = segments[slice(*span)]
    entries = sum(each.entries for each in replaced)
    made = named(replaced[0].kind, replaced[0].from_version, replaced[-1].to_version, entries)
    return [*segments[: span[0]], made, *segments[span[1] :]], entries


sizes = st.integers(1, 100_000) | st.integers(1, 3)


# Which


@given(sizes, st.lists(sizes, max_size=MAX_DELTAS))
def test_what_is_due_is_a_run_up_to_the_newest_that_is_worth_it(base: int, deltas: list[int]) -> None:
    span = due(snapshot_of(base, deltas))
    if span is None:
        return
    start, end = span
    assert end == len(deltas) + 1
    if start == 0:
        assert len(deltas) >= POLICY.base_from
        assert sum(deltas) > base * POLICY.base_share
    else:
        assert len(deltas) >= POLICY.merge_from
        assert end - start >= POLICY.merge_least


@given(sizes, st.lists(sizes, max_size=MAX_DELTAS))
def test_a_snapshot_that_can_take_no_other_delta_is_always_due(base: int, deltas: list[int]) -> None:
    segments = snapshot_of(base, deltas)
    assert due(segments) is not None or len(segments) < MOST


@given(st.lists(sizes, max_size=1), st.booleans())
def test_a_snapshot_without_deltas_is_never_due(bases: list[int], empty: bool) -> None:
    assert due([] if empty or not bases else snapshot_of(bases[0], [])) is None


@given(sizes, st.lists(sizes, min_size=1, max_size=400))
@settings(deadline=None)
def test_a_series_of_syncs_of_any_sizes_never_has_more_segments_than_a_head_may_name(
    base: int, deltas: list[int]
) -> None:
    segments = snapshot_of(base, [])
    for version, size in enumerate(deltas, 1):
        segments, _ = after([*segments, named("delta", version, version + 1, size)])
        assert len(segments) <= POLICY.merge_from
        assert [each.from_version for each in segments[1:]] == [each.to_version for each in segments[:-1]]
        assert (segments[0].kind, segments[-1].to_version) == ("base", version + 1)


def rewritten(base: int, syncs: int, *, growing: bool) -> int:
    """Entries that compactions write in a series of syncs of one change each."""
    segments, total = snapshot_of(base, []), 0
    for version in range(1, syncs + 1):
        segments, entries = after([*segments, named("delta", version, version + 1, 1)])
        total += entries
        if not growing:  # the changes are to items that are there
            segments[0] = named("base", 0, segments[0].to_version, base)
    return total


@pytest.mark.parametrize("growing", [True, False], ids=["new items", "same items"])
@pytest.mark.parametrize("base", [1, 1000, 1_000_000])
def test_entries_rewritten_grow_like_n_log_n(base: int, growing: bool) -> None:
    few, many = 2_000, 32_000
    costs = {syncs: rewritten(base, syncs, growing=growing) / syncs for syncs in (few, many)}
    small = (
        base == 1 and not growing
    )  # a base of one item is rewritten with every eighth change, as a whole, which is one
    bound = POLICY.base_from * 2 if small else 2 * math.log2(many)
    assert costs[many] <= bound
    assert costs[many] <= costs[few] * 2 * math.log2(many) / math.log2(few)


# What it makes


class World:
    """A log, a folder, and a model of what was set."""

    def __init__(self, folder: Path, log: EventLog) -> None:
        self.folder = folder / "snapshots"
        self.log = log
        self.layer = self.open(log)
        self.model: dict[str, Item] = {}
        self.past: dict[int, dict[str, Item]] = {0: {}}

    def open(self, log: EventLog) -> Layer:
        return Layer(table="users", get_item_unique_identifier="sk", events=log, storage=self.adapter())

    def adapter(self) -> LocalAdapter:
        return LocalAdapter(self.folder)

    def compactor(self, log: EventLog) -> Compactor:
        manager = new_manager()
        storage: Storage = open_storage(self.adapter(), "users", manager, Observers(manager, "users"))
        return Compactor(log, storage, Snapshots(storage, "users", 0), HistoryKeeper(log, storage, now, forever=False))

    def set(self, *changes: tuple[str, int | None]) -> None:
        """Set items; None deletes."""
        events = [
            {"type": "DELETE" if value is None else "PUT", "item": {"sk": identifier, "value": value}}
            for identifier, value in changes
        ]
        for event in self.layer.set(events):
            if event.type == "DELETE":
                self.model.pop(event.id, None)
            else:
                self.model[event.id] = event.item
            self.past[event.version] = dict(self.model)

    def fold(self, *changes: tuple[str, int | None]) -> None:
        self.set(*changes)
        assert self.layer.sync().count == len(changes)

    def head(self) -> Head:
        return self.log.head("")

    def check(self) -> None:
        """A new reader sees the model, and all that the head and the history name is there."""
        layer = self.open(self.log)
        assert layer.get() == listed(self.model)
        assert layer.verify().findings == ()
        files = {path.name for path in self.folder.rglob("*.segment")}
        assert {each.ref for each in self.head().segments} <= files
        assert len(self.head().segments) <= MOST


def listed(items: dict[str, Item]) -> list[Item]:
    return [items[identifier] for identifier in sorted(items)]


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    log = MemoryEventLog("users") if request.param == "memory" else SQLiteEventLog(tmp_path / "events.db", "users")
    with log:
        yield World(tmp_path, log)


def grow(world: World, *, merging: bool) -> None:
    """Leave a snapshot for which a compaction is due that nobody has begun: one sync's fold without the rest of it."""
    base, deltas, big = (200, POLICY.merge_from, 1) if merging else (50, POLICY.base_from, 50)
    world.fold(*((f"base-{number}", number) for number in range(base)))
    for delta in range(deltas):
        world.set((f"base-{delta}", None), *((f"new-{delta}-{number}", number) for number in range(big)))
        if delta < deltas - 1:
            world.layer.sync()
    with pytest.raises(ConflictError, match="compaction is not for now"):
        world.open(NoCompaction(world.log)).sync()
    assert len(world.head().segments) == deltas + 1
    span = due(world.head().segments)
    assert span is not None
    assert (span[0] > 0) == merging


class NoCompaction(WrappedLog):
    """A log that takes folds only."""

    def move_head(self, partition: str, move: HeadMove) -> bool:
        if not move.folded:
            raise ConflictError("compaction is not for now")
        return super().move_head(partition, move)


class Meanwhile(WrappedLog):
    """A log where something happens right before a head is moved, so many times."""

    def __init__(self, log: EventLog, happens: Callable[[], object], times: int = 1) -> None:
        super().__init__(log)
        self._happens = happens
        self.left = times
        self.moves: list[bool] = []

    def move_head(self, partition: str, move: HeadMove) -> bool:
        if self.left:
            self.left -= 1
            self._happens()
        self.moves.append(super().move_head(partition, move))
        return self.moves[-1]


@pytest.mark.parametrize("seed", range(2))
def test_a_long_series_of_small_syncs_stays_short_and_equals_the_model_now_and_then(world: World, seed: int) -> None:
    rng = random.Random(seed)
    identifiers = [f"item-{number}" for number in range(200)]
    world.fold(*((identifier, 0) for identifier in identifiers[: rng.choice((5, 150))]))
    folded = [world.head().version]
    shapes: set[str] = set()
    for _ in range(90):
        before = world.head().segments
        for _ in range(rng.randint(1, 2)):
            world.set(
                *((rng.choice(identifiers), rng.choice((None, rng.randrange(100)))) for _ in range(rng.randint(1, 4)))
            )
        world.layer.sync()
        segments = world.head().segments
        folded.append(world.head().version)
        assert len(segments) <= MOST
        if len(segments) <= len(before):
            shapes.add("base" if len(segments) == 1 else "merge")
        if rng.random() < 0.1:
            world.check()
    assert shapes
    world.check()
    for version, items in world.past.items():
        assert world.layer.get(at=version) == listed(items)

    # Without the records there are only segments to answer from.
    world.log.expire(FAR_FUTURE, 1_000_000, "")
    layer = world.open(world.log)
    assert layer.history() == []
    assert layer.get() == listed(world.model)
    for version in folded:
        assert layer.get(at=version) == listed(world.past[version])
    for version in world.past.keys() - set(folded) - {0}:
        with pytest.raises(HistoryError):
            layer.get(at=version)


@pytest.mark.parametrize("merging", [True, False], ids=["merge", "base"])
def test_a_compaction_changes_no_item_and_keeps_what_it_replaced_for_the_past(world: World, merging: bool) -> None:
    grow(world, merging=merging)
    before = world.head()
    world.compactor(world.log).compact("", world.log.head(""))
    head = world.head()
    assert len(head.segments) < len(before.segments)
    assert (head.segments[0].kind, head.segments[-1].to_version) == ("base", before.version)
    old = {each.segment.ref for each in world.log.old_segments("")}
    assert {each.ref for each in before.segments} <= old | {each.ref for each in head.segments}
    assert (head.version, head.events_total, head.bytes_total, head.cursor, head.synced_times) == (
        before.version,
        before.events_total,
        before.bytes_total,
        before.cursor,
        before.synced_times,
    )
    world.check()
    for version, items in world.past.items():
        assert world.layer.get(at=version) == listed(items)
    world.compactor(world.log).compact("", world.log.head(""))
    assert world.head() == head


def test_a_merged_delta_still_removes_what_the_base_holds(world: World) -> None:
    grow(world, merging=True)
    world.compactor(world.log).compact("", world.log.head(""))
    merged = world.head().segments[-1]
    segment = world.adapter().layer_getter("", merged.ref)
    assert (segment.kind, merged.entries, segment.entries) == ("delta", merged.entries, merged.entries)
    assert "base-0" in segment.deleted
    assert "base-0" not in world.model
    world.check()


@pytest.mark.parametrize("merging", [True, False], ids=["merge", "base"])
def test_of_two_compactors_at_once_one_wins_and_the_other_changes_nothing(world: World, merging: bool) -> None:
    grow(world, merging=merging)
    heads: list[Head] = []

    def compact() -> None:
        world.compactor(world.log).compact("", world.log.head(""))
        heads.append(world.head())

    log = Meanwhile(world.log, compact)
    world.compactor(log).compact("", world.log.head(""))
    assert log.moves == [False]
    assert heads == [world.head()]
    assert world.head().segments[-1].to_version == world.head().version
    world.check()


@pytest.mark.parametrize("merging", [True, False], ids=["merge", "base"])
def test_a_fold_in_between_is_kept_behind_what_is_compacted(world: World, merging: bool) -> None:
    grow(world, merging=merging)
    before = world.head()
    folds = world.open(NoCompaction(world.log))

    def fold() -> None:
        world.set(("late", 1), ("base-1", None))
        with pytest.raises(ConflictError, match="not for now"):
            folds.sync()

    log = Meanwhile(world.log, fold)
    world.compactor(log).compact("", world.log.head(""))
    assert log.moves == [False, True]
    head = world.head()
    assert head.version == before.version + 1
    assert [(each.from_version, each.entries) for each in head.segments[-1:]] == [(before.version, 2)]
    assert head.segments[-2].to_version == before.version
    assert len(head.segments) < len(before.segments)
    world.check()


@pytest.mark.parametrize("merging", [True, False], ids=["merge", "base"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_vacuum_between_put_and_move_makes_the_compactor_write_anew(world: World, merging: bool, times: int) -> None:
    grow(world, merging=merging)
    before = world.head()
    discarded: list[str] = []

    def vacuum() -> None:
        found = world.layer.vacuum(dry_run=False).discarded
        discarded.extend(ref for _, ref in found)

    log = Meanwhile(world.log, vacuum, times)
    world.compactor(log).compact("", world.log.head(""))
    assert log.moves == [False] * times + [True]
    assert len(discarded) == times + 1  # also what the sync that was not to compact had put
    head = world.head()
    assert len(head.segments) < len(before.segments)
    assert not {each.ref for each in head.segments} & set(discarded)
    world.check()


def test_a_vacuum_between_put_and_move_makes_a_sync_write_anew(world: World) -> None:
    world.fold(("one", 1))
    discarded: list[str] = []
    log = Meanwhile(world.log, lambda: discarded.extend(ref for _, ref in world.layer.vacuum(dry_run=False).discarded))
    world.set(("two", 2))
    assert world.open(log).sync().count == 1
    assert log.moves == [False, True]
    assert len(discarded) == 1
    assert not {each.ref for each in world.head().segments} & set(discarded)
    world.check()


@pytest.mark.parametrize("merging", [True, False], ids=["merge", "base"])
def test_a_vacuum_and_a_fold_between_put_and_move_make_the_compactor_write_anew(world: World, merging: bool) -> None:
    grow(world, merging=merging)
    folds = world.open(NoCompaction(world.log))
    discarded: list[str] = []

    def both() -> None:
        discarded.extend(ref for _, ref in world.layer.vacuum(dry_run=False).discarded)
        world.set(("late", 1))
        with pytest.raises(ConflictError, match="not for now"):
            folds.sync()

    world.compactor(Meanwhile(world.log, both)).compact("", world.log.head(""))
    assert not {each.ref for each in world.head().segments} & set(discarded)
    world.check()


def test_a_compactor_that_never_comes_to_its_turn_gives_up_and_leaves_what_is_right(world: World) -> None:
    grow(world, merging=True)
    log = Meanwhile(world.log, lambda: world.layer.vacuum(dry_run=False), times=1000)
    before = world.head().segments
    world.compactor(log).compact("", world.log.head(""))
    assert 0 < len(log.moves) < 100
    assert not any(log.moves)
    assert world.head().segments == before
    world.check()


def test_a_head_that_can_take_no_other_delta_and_cannot_be_compacted_is_an_error(world: World) -> None:
    world.fold(*((f"base-{number}", number) for number in range(2000)))
    layer = world.open(NoCompaction(world.log))
    for number in range(MAX_DELTAS):
        world.set((f"new-{number}", number))
        try:
            layer.sync()
        except ConflictError:
            assert number >= POLICY.merge_from - 1
    assert len(world.head().segments) == MOST
    world.set(("late", 1))
    pending = world.layer.meta().unsynced_total
    for _ in range(2):
        with pytest.raises(ConflictError, match="not for now"):
            layer.sync()
    assert len(world.head().segments) == MOST
    assert world.layer.meta().unsynced_total == pending == 1
    world.check()
    assert world.layer.sync().count == 1
    assert len(world.head().segments) < MOST
    world.check()


@pytest.mark.parametrize("answer", ["no", "error"])
def test_a_compactor_whose_move_was_made_and_whose_answer_was_lost_recognises_it(world: World, answer: str) -> None:
    class Lost(WrappedLog):
        lost = False

        def move_head(self, partition: str, move: HeadMove) -> bool:
            moved = super().move_head(partition, move)
            if self.lost:
                return moved
            self.lost = True
            if answer == "error":
                raise EventLogError("the connection broke")
            return False

    grow(world, merging=True)
    before = world.head()
    world.compactor(Lost(world.log)).compact("", world.log.head(""))
    assert world.head().revision == before.revision + 1
    assert len(world.head().segments) < len(before.segments)
    world.check()


def test_entries_really_rewritten_by_a_layer_grow_like_n_log_n(tmp_path: Path) -> None:
    def cost(syncs: int) -> int:
        with MemoryEventLog("users") as log:
            world = World(tmp_path / str(syncs), log)
            world.fold(*((f"base-{number}", number) for number in range(500)))
            for number in range(syncs):
                world.fold((f"new-{number}", number))
            written = [Segment.from_bytes(path.read_bytes(), source="") for path in world.folder.rglob("*.segment")]
            return sum(segment.entries for segment in written) - 500 - syncs

    few, many = cost(50), cost(400)
    assert few < 50 * 2 * math.log2(50)
    assert many < 400 * 2 * math.log2(400)
