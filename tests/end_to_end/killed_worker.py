"""What `test_the_real_thing.py` runs: `killed_worker.py sync|vacuum|takeover|publishing FOLDER [STORAGE]`.

A child is killed at one point of its work after the other; the parent is the other process that carries on.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dynalayer import URL, InvalidInputError, Item, Layer
from dynalayer.testing.faults import TAKEOVER_POINTS, VACUUM_POINTS, Crash, CrashingStore, CrashPoints
from forks import end_of, forked
from lives import (
    BEGUN,
    DAY,
    LEASE,
    PARTITIONS,
    Ticking,
    batch,
    check_goes_on,
    check_there,
    expected_items,
    layer_at,
    log_at,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LATER = 6 * DAY * 1_000_000


@dataclass(frozen=True)
class Work:
    """What a process is killed in.

    Attributes:
        points: Where.
        prepare: Makes what it begins with, in a folder; returns the batches that are there.
        act: What it does.
        carry_on: What another process finds, checks and does after it.
        later: Microseconds that its clock, and the other's, are after the preparation's.
        arrivals: At how many arrivals at each point, at most: the second is mostly in the other partition.
    """

    points: Sequence[str]
    prepare: Callable[[Path], list[int]]
    act: Callable[[Layer], object]
    carry_on: Callable[[Layer, Ticking, list[int]], object]
    later: int = 0
    arrivals: int = 1


def prepare_synced(folder: Path, *, syncs: int = 8) -> list[int]:
    """Leave both partitions so that the next sync writes a delta and then compacts."""
    clock = Ticking()
    with closing(log_at(folder)) as log, layer_at(folder, log, clock) as layer:
        for number in range(1, syncs + 1):
            layer.set(batch(number))
            layer.sync()
        for number in (syncs + 1, syncs + 2):
            layer.set(batch(number))
    return list(range(1, syncs + 3))


def prepare_compacted(folder: Path) -> list[int]:
    """Leave both partitions with old segments, which are past their time a few days later."""
    numbers = prepare_synced(folder)
    clock = Ticking()
    with closing(log_at(folder)) as log, layer_at(folder, log, clock) as layer:
        layer.sync()
        assert all(len(log.old_segments(partition)) > 3 for partition in PARTITIONS)
    return numbers


def prepare_pending(folder: Path) -> list[int]:
    with closing(log_at(folder)) as log, layer_at(folder, log, Ticking()) as layer:
        for number in (1, 2):
            layer.set(batch(number))
    return [1, 2]


def carry_on(layer: Layer, clock: Ticking, numbers: list[int]) -> None:
    check_there(layer, numbers)
    clock.now += LATER
    check_goes_on(layer, clock, numbers)


# Taking over what another program kept


def cached_items(partition: str) -> list[Item]:
    return [{"partition": partition, "id": f"cached-{n}", "n": n} for n in range(5)]


def take_over(layer: Layer) -> None:
    for partition in PARTITIONS:
        layer.import_snapshot(partition, cached_items(partition))


def carry_on_taking_over(layer: Layer, clock: Ticking, numbers: list[int]) -> None:
    """A partition is taken over or is not; what is not, is."""
    clock.now += (LEASE + 1) * 1_000_000
    assert layer.verify().findings == ()
    for partition in PARTITIONS:
        pending = expected_items(numbers, partition)
        whole = sorted([*cached_items(partition), *pending], key=lambda item: str(item["id"]))
        read = layer.get(partition)
        assert read in (pending, whole)
        if read == pending:
            assert layer.import_snapshot(partition, cached_items(partition)).count == 5
        else:
            check_refused(partial(layer.import_snapshot, partition, cached_items(partition)))
        assert layer.get(partition) == whole
    layer.sync()
    layer.set(batch(numbers[-1] + 1))
    assert layer.sync().count == 6
    layer.vacuum(dry_run=False)
    for partition in PARTITIONS:
        written = [event.item["token"] for event in layer.history(partition)]
        assert written == [each["item"]["token"] for n in (*numbers, numbers[-1] + 1) for each in batch(n)[:3]]
        now = [*cached_items(partition), *expected_items([*numbers, numbers[-1] + 1], partition)]
        assert layer.get(partition) == sorted(now, key=lambda item: str(item["id"]))
    assert layer.verify().findings == ()


def check_refused(call: Callable[[], object]) -> None:
    try:
        call()
    except InvalidInputError as error:
        assert "taken over" in error.message  # noqa: PT017 -- a program without pytest
    else:
        raise AssertionError("taken over twice")


# Publishing what other programs read


def published(store: str, partition: str) -> list[Item]:
    """What other programs read at that moment."""
    url = URL.parse(store, what="storage")
    bucket, _, prefix = url.location.removeprefix("//").partition("/")
    client = s3_client(url.options["endpoint_url"])
    items: list[Item] = json.loads(client.get_object(Bucket=bucket, Key=f"{prefix}/{partition}.json")["Body"].read())
    return items


@cache
def s3_client(endpoint_url: str) -> S3Client:
    import boto3  # noqa: PLC0415 -- heavy, and of no use to the others

    return boto3.client("s3", endpoint_url=endpoint_url)


def prepare_published(folder: Path, store: str) -> list[int]:
    clock = Ticking()
    with closing(log_at(folder)) as log, layer_at(folder, log, clock, store=store) as layer:
        layer.set(batch(1))
        layer.sync()
        layer.set(batch(2))
    return [1, 2]


def carry_on_publishing(layer: Layer, clock: Ticking, numbers: list[int], store: str) -> None:
    """What is published is as it was before, or as it is now; the next sync publishes it."""
    for partition in PARTITIONS:
        assert published(store, partition) in (expected_items([1], partition), expected_items(numbers, partition))
    check_there(layer, numbers)
    numbers = check_goes_on(layer, clock, numbers)
    for partition in PARTITIONS:
        assert published(store, partition) == layer.get(partition) == expected_items(numbers, partition)


COMPACTION_POINTS = [
    f"{when} {method}"
    for method in ("unmarked", "layer_getter", "layer_setter", "move_head", "mark")
    for when in ("before", "after")
]
PUBLISHING_POINTS = ["before layer_publish", "after layer_publish", "before move_head"]
WORKS = {
    "sync": Work(COMPACTION_POINTS, prepare_synced, Layer.sync, carry_on, arrivals=2),
    "vacuum": Work(VACUUM_POINTS, prepare_compacted, partial(Layer.vacuum, dry_run=False), carry_on, LATER, arrivals=2),
    "takeover": Work(TAKEOVER_POINTS, prepare_pending, take_over, carry_on_taking_over),
}


def act(work: Work, folder: Path, store: str | None, crash: Crash) -> None:
    clock, log = Ticking(BEGUN + work.later), CrashPoints(log_at(folder), crash)
    work.act(layer_at(folder, log, clock, wrappers=[CrashingStore(crash)], store=store))


def kill(work: Work, folder: Path, numbers: list[int], crash: Crash, store: str | None = None) -> bool:
    """Kill one in its work, and let another carry on; False if it was done before it came to where it should die."""
    with forked(partial(act, work, folder, store, crash)) as pid:
        code = end_of(pid)
    assert code in (0, -signal.SIGKILL), f"ended with {code}"
    clock = Ticking(BEGUN + work.later)
    with closing(log_at(folder)) as log, layer_at(folder, log, clock, store=store) as layer:
        work.carry_on(layer, clock, list(numbers))
    return code != 0


def kill_everywhere(work: Work, folder: Path, store: str | None) -> int:
    """Kill at each arrival at each point; how many were killed."""
    kills = 0
    template = folder / "template"
    numbers = [] if store else work.prepare(template)
    for point in work.points:
        for nth in range(1, work.arrivals + 1):
            here = folder / "here"
            try:
                if store is None:
                    shutil.copytree(template, here)
                    killed = kill(work, here, numbers, Crash(point, nth=nth))
                else:
                    place = store.replace("PREFIX", f"{point}-{nth}".replace(" ", "-"))
                    publishing = replace(work, carry_on=partial(carry_on_publishing, store=place))
                    killed = kill(publishing, here, prepare_published(here, place), Crash(point, nth=nth), place)
                assert killed or nth > 1, "it never comes there"
            except BaseException as error:
                error.add_note(f"killed {point}, at arrival {nth}")
                raise
            shutil.rmtree(here)
            if not killed:
                break
            kills += 1
    return kills


def main(name: str, folder: str, store: str | None = None) -> None:
    work = WORKS[name] if store is None else Work(PUBLISHING_POINTS, prepare_synced, Layer.sync, carry_on)
    kills = kill_everywhere(work, Path(folder), store)
    print(f"{kills} kills at {len(work.points)} points")  # noqa: T201 -- what the test records


if __name__ == "__main__":
    main(*sys.argv[1:])
