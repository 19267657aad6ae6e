"""What the simulation has found, each by itself: as a test of the engine, and as the seed that found it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dynalayer import ConflictError, Layer, MemoryEventLog
from dynalayer.testing.simulate import plan_of, run
from dynalayer_local import LocalAdapter
from fakes import DAY, Between, Ticking, put

Make = Callable[..., Layer]


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def inner() -> MemoryEventLog:
    return MemoryEventLog("users")


@pytest.fixture
def make(tmp_path: Path, clock: Ticking, inner: MemoryEventLog) -> Iterator[Make]:
    def make(**options: Any) -> Layer:
        given: dict[str, Any] = {"get_item_unique_identifier": "id", "clock": clock, "events": inner, "ttl": DAY}
        return Layer(table="users", **given | {"storage": LocalAdapter(tmp_path / "snapshots")} | options)

    yield make
    inner.close()


def test_a_takeover_whose_events_have_expired_meanwhile_says_so(
    make: Make, inner: MemoryEventLog, clock: Ticking
) -> None:
    log = Between(inner)
    slow, quick = make(events=log), make()

    def overtake() -> None:
        clock.advance(3600)  # past the lease
        quick.set([put("a")])
        quick.sync()
        clock.advance(2 * DAY)
        quick.sync()  # which deletes what has expired
        assert quick.history() == []

    log.then("before append", overtake)
    with pytest.raises(
        ConflictError, match="event records from 1 on were folded, and have expired, since it began"
    ) as e:
        slow.import_snapshot("", [{"id": "b"}])
    assert e.value.retryable
    assert quick.get() == [{"id": "a"}]


def test_verify_takes_no_offence_at_what_a_vacuum_discards_meanwhile(
    make: Make, inner: MemoryEventLog, clock: Ticking, tmp_path: Path
) -> None:
    log = Between(inner)
    slow, quick = make(events=log), make()
    for number in range(20):
        quick.set([put("a", n=number)])
        quick.sync()
    clock.advance(DAY - 60)

    def discard() -> None:
        clock.advance(2 * DAY)
        assert quick.vacuum(dry_run=False).discarded

    log.then("after old_segments", discard)
    assert slow.verify().findings == ()
    for path in tmp_path.rglob("*.segment"):
        path.unlink()
    assert {finding.subject for finding in slow.verify().findings} >= {
        segment.ref for segment in inner.head("").segments
    }


def test_two_syncs_that_overlap_give_a_partition_cursors_of_their_own(make: Make, inner: MemoryEventLog) -> None:
    class Behind:
        def __call__(self) -> int:
            return 1_700_000_000_000_000

    log = Between(inner)
    make().set([put("a", n=0)])
    make().sync()
    slow, quick = make(events=log, clock=Behind()), make(clock=Behind())
    cursors: list[str | None] = []

    slow.set([put("a", n=1)])

    def overtake() -> None:
        cursors.append(quick.sync().cursor)
        quick.set([put("a", n=2)])

    log.then("after last_cursor", overtake)
    cursors.append(slow.sync().cursor)
    assert None not in cursors
    assert len(set(cursors)) == 2
    assert make().get(at=cursors[0]) == [{"id": "a", "n": 1}]


SEEDS = {
    261: "a takeover that took a day told of a damaged log",
    392: "verify took what a vacuum had discarded meanwhile for lost",
    844: "two syncs that overlapped shared a cursor within a partition",
}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_that_found_something_finds_it_no_more(seed: int) -> None:
    logging.disable(logging.CRITICAL)
    try:
        assert run(plan_of(seed)).failure is None, SEEDS[seed]
    finally:
        logging.disable(logging.NOTSET)
