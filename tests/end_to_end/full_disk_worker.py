"""What `test_the_real_thing.py` runs on a small file system: `full_disk_worker.py FOLDER`.

Everything that writes is done with no room left, with some pages of room, with more, and so on until there is enough.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dynalayer import Layer, LayerError
from lives import BEGUN, DAY, PARTITIONS, Ticking, batch, check_goes_on, check_there, layer_at, log_at

PAGE = 4096
ROOMS = {True: range(0, 96, 3), False: range(1, 96, 3)}  # pages, where the layer is opened before, and after
SIZE = 1500  # bytes of noise in an item
LATER = 6 * DAY * 1_000_000


@dataclass(frozen=True)
class Work:
    """What is done on a full disk.

    Attributes:
        syncs: How many batches are set and synced before it.
        pending: How many are set and not synced.
        act: What is done.
        adds: The batch that it writes, if it does.
        later: Microseconds that its clock is after the preparation's.
    """

    syncs: int
    pending: int
    act: Callable[[Layer], object]
    adds: int | None = None
    later: int = 0


WORKS = {
    "set": Work(1, 0, lambda layer: layer.set(batch(2, SIZE)), adds=2),
    "sync and compaction": Work(8, 1, Layer.sync),
    "vacuum": Work(9, 0, partial(Layer.vacuum, dry_run=False), later=LATER),
    "expiry": Work(9, 0, Layer.sync, later=LATER),
}


@dataclass
class Seen:
    """What came of it.

    Attributes:
        refused: How often it failed, by where it did.
        done: How often it went well.
    """

    refused: Counter[str] = field(default_factory=Counter)
    done: int = 0


def prepare(folder: Path, work: Work) -> list[int]:
    numbers = list(range(1, work.syncs + work.pending + 1))
    with closing(log_at(folder)) as log, layer_at(folder, log, Ticking()) as layer:
        for number in numbers:
            layer.set(batch(number, SIZE))
            if number <= work.syncs:
                layer.sync()
    return numbers


def fill(disk: Path, room: int) -> Path:
    filler = disk / "filler"
    free = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_bsize - room * PAGE))
    return filler


def check_refusal(error: LayerError, folder: Path) -> None:
    """It says what is wrong, where, and what to do."""
    assert "make room" in error.message, error
    assert str(folder) in error.message, error
    assert error.retryable, error


def act_with_room(disk: Path, work: Work, numbers: list[int], room: int, seen: Seen, *, opened: bool) -> bool:
    """Do it with that much room, before or after the layer is opened; whether it went well."""
    folder, clock = disk / "here", Ticking(BEGUN + work.later)
    failed = None
    if not opened:
        filler = fill(disk, room)
    try:
        with closing(log_at(folder)) as log, layer_at(folder, log, clock) as layer:
            if opened:
                layer.get(PARTITIONS[0])
                filler = fill(disk, room)
            try:
                work.act(layer)
            finally:
                if opened:  # a full disk keeps nobody from reading
                    check_there(layer, numbers, maybe=work.adds, size=SIZE)
    except LayerError as error:
        failed = error
        check_refusal(error, folder)
        seen.refused[type(error).__name__] += 1
    else:
        seen.done += 1
    filler.unlink()
    with closing(log_at(folder)) as log, layer_at(folder, log, clock) as layer:
        if work.adds is None:
            check_there(layer, numbers, size=SIZE)
            check_goes_on(layer, clock, numbers, size=SIZE)
        else:
            found = check_there(layer, numbers if failed else [*numbers, work.adds], size=SIZE)
            check_goes_on(layer, clock, found, size=SIZE)
    assert not list(folder.rglob("*.part"))
    return failed is None


def main(disk: Path) -> None:
    for name, work in WORKS.items():
        template, seen = disk.parent / f"{name}-template", Seen()
        numbers = prepare(template, work)
        for opened in (True, False):
            good = 0
            for room in ROOMS[opened]:
                shutil.copytree(template, disk / "here")
                try:
                    good += act_with_room(disk, work, numbers, room, seen, opened=opened)
                except BaseException as error:
                    error.add_note(f"{name} with {room} pages of room, {'opened before' if opened else 'not opened'}")
                    raise
                shutil.rmtree(disk / "here")
                if good >= 2:
                    break
            assert good, f"{name}: there is never enough room"
        assert seen.refused
        refused = ", ".join(f"{count} {error}" for error, count in sorted(seen.refused.items()))
        print(f"{name}: refused {refused or 'never'}; done {seen.done}")  # noqa: T201 -- what the test records


if __name__ == "__main__":
    main(Path(sys.argv[1]))
