"""Power cuts: what a layer in files wrote is recorded, and left as a cut at any moment could have left it.

`DYNALAYER_TEST_POWER_SEED` makes the cuts of a run again, `DYNALAYER_TEST_POWER_CUTS` says how many.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from dynalayer import ConfigurationError, LayerError
from dynalayer.testing.power import STYLES, Disk, Operation, Recorder, Recording, Style
from lives import (
    BEGUN,
    LEASE,
    Ticking,
    Told,
    check_database,
    check_goes_on,
    check_there,
    layer_at,
    log_at,
    quick_folder,
)

CUTS = int(os.environ.get("DYNALAYER_TEST_POWER_CUTS", "120"))
TWICE, CUTS_EACH = 2, 15  # layers that meet a second cut while they recover from the first, and how many each
WORKER = Path(__file__).with_name("power_worker.py")
PATHS = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])}


@dataclass(frozen=True)
class Cut:
    """One power cut: after how many operations, what is left, and the seed of what is left to chance."""

    after: int
    style: Style
    seed: int


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    try:
        return Recorder(tmp_path_factory.mktemp("recorder"))
    except ConfigurationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with quick_folder() as name:
        yield Path(name)


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_folder() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def recording(recorder: Recorder, folder: Path) -> Recording:
    return record(recorder, folder, lives=3, first=1, now=BEGUN)


def record(recorder: Recorder, folder: Path, *, lives: int, first: int, now: int) -> Recording:
    command = [sys.executable, str(WORKER), str(folder), str(lives), str(first), str(now)]
    return recorder.run(command, folder, environment=PATHS)


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("DYNALAYER_TEST_POWER_SEED", secrets.randbelow(2**32)))


def drawn(recording: Recording, rng: random.Random, count: int) -> list[Cut]:
    """Cuts in the order of their moments, a third of them right after something was told."""
    first, last = recording.before, len(recording.operations)
    tellings = [number for number, each in enumerate(recording.operations, 1) if number > first and is_telling(each)]
    moments = [rng.choice(tellings) for _ in range(count // 3)]
    moments += [rng.randint(first, last) for _ in range(count - len(moments))]
    return [Cut(moment, rng.choice(STYLES), rng.randrange(2**32)) for moment in sorted(moments)]


def is_telling(operation: Operation) -> bool:
    return operation.path == "told" and operation.kind == "write"


def played(
    recording: Recording, cuts: Iterable[Cut], into: Path, *, without: Callable[[Operation], bool] = lambda _: False
) -> Iterator[tuple[Cut, Path, Told]]:
    """What each cut leaves, in a folder that is there until the next; and what was told before it."""
    disk, done = Disk(recording), 0
    for cut in cuts:
        for operation in recording.operations[done : cut.after]:
            if not without(operation):
                disk.apply(operation)
        done = cut.after
        folder = into / "left"
        disk.cut(folder, cut.style, random.Random(cut.seed))
        yield cut, folder, Told.read(disk.now("told"))
        shutil.rmtree(folder)


def check_left(folder: Path, told: Told) -> list[int]:
    """All that was told is there, once and in order, nothing but what was being written besides, and it goes on.

    Returns:
        The batches that are there then.
    """
    clock = Ticking(told.now)
    with closing(log_at(folder)) as log, layer_at(folder, log, clock) as layer:
        numbers = check_there(layer, told.sets, maybe=max(told.sets, default=0) + 1)
        for partition in ("left", "right"):
            assert log.head(partition).version >= told.synced
        numbers = check_goes_on(layer, clock, numbers)
    check_database(folder / "data" / "events.db")
    return numbers


def test_what_is_recorded_is_all_that_was_written(recording: Recording, folder: Path) -> None:
    disk = Disk(recording)
    for operation in recording.operations:
        disk.apply(operation)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert disk.names() == sorted(str(path.relative_to(folder)) for path in files)
    for path in files:
        assert disk.now(str(path.relative_to(folder))) == path.read_bytes()


def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(
    recording: Recording, place: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("power cuts", f"DYNALAYER_TEST_POWER_SEED={seed}")
    rng = random.Random(seed)
    cuts = drawn(recording, rng, CUTS)
    check_cuts(recording, cuts, place, seed)
    styles = ", ".join(f"{count} {style}" for style, count in sorted(Counter(cut.style for cut in cuts).items()))
    record_property("power cuts", f"{len(cuts)} among {len(recording.operations)} operations: left {styles}")


def test_a_power_cut_after_a_power_cut_loses_nothing_either(
    recorder: Recorder, recording: Recording, place: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("power cuts after power cuts", f"DYNALAYER_TEST_POWER_SEED={seed}")
    rng = random.Random(seed)
    done = 0
    for _, left, told in played(recording, drawn(recording, rng, TWICE), place):
        again = place / "again"
        shutil.copytree(left, again)
        numbers = check_left(left, told)[:-1]  # without the one that it went on with
        with (again / "told").open("w") as file:
            file.writelines(f"set {number} {told.now}\n" for number in numbers)
        first, now = max(numbers, default=0) + 1, told.now + LEASE * 1_000_000
        more = record(recorder, again, lives=1, first=first, now=now)
        (place / "second").mkdir()
        check_cuts(more, drawn(more, rng, CUTS_EACH), place / "second", seed)
        for folder in (again, place / "second"):
            shutil.rmtree(folder)
        done += CUTS_EACH
    record_property("power cuts after power cuts", done)


def check_cuts(
    recording: Recording,
    cuts: list[Cut],
    into: Path,
    seed: int,
    *,
    without: Callable[[Operation], bool] = lambda _: False,
) -> None:
    for cut, left, told in played(recording, cuts, into, without=without):
        try:
            check_left(left, told)
        except Exception as error:
            where = recording.operations[cut.after - 1] if cut.after else "the beginning"
            error.add_note(f"DYNALAYER_TEST_POWER_SEED={seed}: {cut}, after: {where}")
            raise


# A disk that forgets what it was told to flush is found out: so the cuts above would find a flush that is missing.


def flushes(begin: str, end: str) -> Callable[[Operation], bool]:
    return lambda each: each.kind == "flush" and each.path.startswith(begin) and each.path.endswith(end)


@pytest.mark.parametrize(
    "left_out",
    [
        pytest.param(flushes("data/events.db-wal", ""), id="of the log's new records"),
        pytest.param(flushes("data/events.db", ".db"), id="of the log's file, once they are moved there"),
        pytest.param(flushes("data/snapshots", ".part"), id="of segments"),
        pytest.param(flushes("data/snapshots", "t"), id="of the folders that segments are in"),
        pytest.param(flushes("data", "data"), id="of the folder that the log is in"),
        pytest.param(flushes("", "shots/orders"), id="of the folder that the partitions' folders are in"),
        pytest.param(lambda each: each.kind == "flush" and not each.path, id="of the folder above all"),
    ],
)
def test_a_flush_that_is_left_out_is_found(
    recording: Recording, place: Path, left_out: Callable[[Operation], bool]
) -> None:
    assert any(map(left_out, recording.operations))
    rng = random.Random(7)
    cuts = [Cut(each.after, rng.choice(("nothing", "some")), each.seed) for each in drawn(recording, rng, 100)]
    with pytest.raises((AssertionError, LayerError)):
        check_cuts(recording, cuts, place, 7, without=left_out)
