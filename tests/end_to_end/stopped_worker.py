"""What `test_the_real_thing.py` runs: `stopped_worker.py TASK FOLDER [EVENTS]`: processes that stand still.

A child is stopped at one point of its work after the other; the parent's clock is then days ahead, past the child's
lease and past the history's time: it writes, syncs, compacts and discards. Then the child goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from dynalayer import EventLog, Item, Layer, SQLiteEventLog
from dynalayer.opening import open_event_log
from dynalayer.testing.faults import Crash, CrashingStore, CrashPoints
from forks import forked, go_on, stands_still
from lives import (
    BEGUN,
    DAY,
    LEASE,
    PARTITIONS,
    TABLE,
    Ticking,
    batch,
    check_goes_on,
    check_there,
    expected_items,
    layer_at,
)

SYNCS = 8  # each leaves a delta; with the next the snapshot is compacted
LATER = 6 * DAY * 1_000_000
SYNC_POINTS = [
    ("after read", 1),
    ("after layer_setter", 1),  # a delta that no head names yet
    ("after layer_getter", 1),  # a compaction that has read what it merges
    ("after layer_setter", 2),  # a base that no head names yet
    ("after move_head", 1),
    ("before mark", 1),
    ("before mark", 2),
    ("before expire", 1),
]
VACUUM_POINTS = [("after layer_list", 1), ("after head", 1), ("after move_head", 1), ("before layer_discard", 1)]
READ_POINTS = [("after head", 1), ("before layer_getter", 1), ("after layer_getter", 1), ("after read", 1)]
OpenLog = Callable[[], EventLog]


def prepare(folder: Path, open_log: OpenLog, *, synced: bool) -> list[int]:
    clock = Ticking()
    with closing(open_log()) as log, layer_at(folder, log, clock) as layer:
        for number in range(1, SYNCS + 1):
            layer.set(batch(number))
            layer.sync()
        layer.set(batch(SYNCS + 1))
        if synced:
            layer.sync()
            assert all(log.old_segments(partition) for partition in PARTITIONS)
    return list(range(1, SYNCS + 2))


def others(folder: Path, layer: Layer, log: EventLog, clock: Ticking, numbers: list[int]) -> list[int]:
    """Write, sync, compact and discard, so that nothing of what the stopped one knew is left; returns what is there."""
    known = {segment.ref for partition in PARTITIONS for segment in log.head(partition).segments}
    for number in range(numbers[-1] + 1, numbers[-1] + 10):
        layer.set(batch(number))
        assert not layer.sync().locked
        numbers = [*numbers, number]
    clock.now += LATER
    layer.vacuum(dry_run=False)
    clock.now += LATER
    layer.sync()
    for partition in PARTITIONS:
        left = segments_in(folder, partition)
        assert left == {segment.ref for segment in log.head(partition).segments}
        assert left.isdisjoint(known)
    return check_there(layer, numbers)


def segments_in(folder: Path, partition: str) -> set[str]:
    return {path.name for path in (folder / "data" / "snapshots" / TABLE / partition).iterdir()}


def stop(
    folder: Path,
    open_log: OpenLog,
    crash: Crash,
    act: Callable[[Layer], object],
    numbers: list[int],
) -> Any:
    """Stop a child at a point, let others do what they want, and let it go on; what it came to, as JSON has it."""
    result = folder / "result"

    def work() -> None:
        # A vacuum's clock is days ahead as the others' is: it has something to discard.
        clock = Ticking(BEGUN + LATER if act is vacuum else BEGUN)
        layer = layer_at(folder, CrashPoints(open_log(), crash), clock, wrappers=[CrashingStore(crash)])
        result.write_text(json.dumps(act(layer)))

    with forked(work) as pid:
        assert stands_still(pid), "it never comes there"
        clock = Ticking(BEGUN + LATER)
        with closing(open_log()) as log, layer_at(folder, log, clock) as layer:
            numbers = others(folder, layer, log, clock, numbers)
            assert not result.exists()
            assert go_on(pid) == 0
            check_there(layer, numbers)
            check_goes_on(layer, clock, numbers)
        with closing(open_log()) as log:
            for partition in PARTITIONS:
                named = {segment.ref for segment in log.head(partition).segments}
                assert named <= segments_in(folder, partition)
    return json.loads(result.read_text())


def sync(layer: Layer) -> int:
    return layer.sync().count


def vacuum(layer: Layer) -> int:
    return len(layer.vacuum(dry_run=False).discarded)


def read(layer: Layer) -> list[Item]:
    return layer.get(PARTITIONS[0])


# A plain getter and setter, over one file that is replaced as a whole


def pair_at(place: Path, log: EventLog, clock: Callable[[], int], *, stop: bool = False) -> Layer:
    def write(partition: str, items: list[Item]) -> None:
        if stop:
            os.kill(os.getpid(), signal.SIGSTOP)
        part = place.with_suffix(".part")
        part.write_text(json.dumps(items))
        part.replace(place)

    def read_items(partition: str) -> list[Item]:
        items: list[Item] = json.loads(place.read_text()) if place.exists() else []
        return items

    return Layer(table=TABLE, get_item_unique_identifier="id", events=log, getter=read_items, setter=write, clock=clock)


def pair(folder: Path, *, lease_over: bool) -> None:
    """A sync of a pair stands still right before it writes, and others sync what came later, if its lease lets them."""
    place, path = folder / "items.json", folder / "events.db"

    def change(name: str) -> dict[str, Any]:
        return {"type": "PUT", "item": {"id": name}}

    with closing(SQLiteEventLog(path, TABLE)) as log, pair_at(place, log, Ticking()) as layer:
        layer.set([change("early")])
    with forked(lambda: pair_at(place, SQLiteEventLog(path, TABLE), Ticking(), stop=True).sync()) as pid:
        assert stands_still(pid)
        clock = Ticking(BEGUN + (LEASE + 1) * 1_000_000 if lease_over else BEGUN)
        with closing(SQLiteEventLog(path, TABLE)) as log, pair_at(place, log, clock) as layer:
            layer.set([change("late")])
            assert layer.sync().locked is not lease_over
            assert layer.get() == [{"id": "early"}, {"id": "late"}]
            assert go_on(pid) == 0
            check_pair(layer, lost=lease_over)


def check_pair(layer: Layer, *, lost: bool) -> None:
    both = [{"id": "early"}, {"id": "late"}]
    layer.sync()
    assert layer.get() == ([{"id": "early"}] if lost else both)
    # What is lost there is in the history, for as long as that is kept: set again, it is there again.
    history = layer.history()
    assert [event.item for event in history] == both
    layer.set([{"type": event.type, "item": event.item} for event in history])
    assert layer.get() == both
    layer.sync()
    assert layer.get() == both


def stop_pairs(root: Path) -> None:
    for lease_over in (False, True):
        folder = root / str(lease_over)
        folder.mkdir()
        pair(folder, lease_over=lease_over)


def main(task: str, folder: str, events: str | None = None) -> None:
    root, done = Path(folder), []
    if task == "pair":
        stop_pairs(root)
        return
    points, act = {
        "sync": (SYNC_POINTS, sync),
        "vacuum": (VACUUM_POINTS, vacuum),
        "read": (READ_POINTS, read),
        "dynamodb": (SYNC_POINTS[1:2], sync),
    }[task]
    template, here = root / "template", root / "here"

    open_log = partial(open_event_log, events or f"sqlite:///{here / 'data' / 'events.db'}", TABLE)
    for point, nth in points:
        if not template.exists():
            numbers = prepare(here, open_log, synced=act is vacuum)
            shutil.copytree(here, template, dirs_exist_ok=True)
        else:
            shutil.copytree(template, here)
        try:
            came_to = stop(here, open_log, Crash(point, nth=nth, how="stop"), act, numbers)
            if act is read:
                # All that was there when it began, and more of what came meanwhile or nothing of it.
                every = [expected_items(range(1, last + 1), PARTITIONS[0]) for last in range(SYNCS + 1, SYNCS + 20)]
                assert came_to in every
        except BaseException as error:
            error.add_note(f"stopped {point}, at arrival {nth}")
            raise
        shutil.rmtree(here)
        done.append(f"{point} {nth}")
    print(f"{len(done)}: {', '.join(done)}")  # noqa: T201 -- what the test records


if __name__ == "__main__":
    main(*sys.argv[1:])
