"""The acceptance test: processes that write and sync are killed at random moments, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dynalayer import Event, Item, Layer

from .workers import DEADLY, LEASE, PARTITIONS, open_layer, open_log

WORKERS = {f"writer-{number}": "writer" for number in range(4)} | {f"syncer-{number}": "syncer" for number in range(2)}
EVENTS = 20_000
KILLS = 80
CRASHES = 12  # between the move of a head and the marking of what was folded
PATIENCE = 150  # seconds
PROGRAM = Path(__file__).with_name("workers.py")


@dataclass
class Fleet:
    """The processes, each started again whenever it was killed."""

    folder: Path
    seed: int
    kills: int = 0
    incarnations: Counter[str] = field(default_factory=Counter)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        incarnation = self.incarnations[name] = self.incarnations[name] + 1
        arguments = [WORKERS[name], str(self.folder), name, str(incarnation), str(self.seed)]
        with (self.folder / "stderr").open("ab") as errors:
            self.running[name] = subprocess.Popen([sys.executable, str(PROGRAM), *arguments], stderr=errors)

    def reap(self, name: str, *, kill: bool) -> bool:
        """Wait for a process that has died or is killed now; nothing but SIGKILL may have ended it."""
        process = self.running[name]
        if process.poll() is None:
            if not kill:
                return False
            process.kill()
        code = process.wait(10)
        assert code == -signal.SIGKILL, f"{name} ended with {code}: {(self.folder / 'stderr').read_text()[-4000:]}"
        self.kills += 1
        return True

    def turn(self, rng: random.Random) -> None:
        """Kill one, and start again what is dead."""
        victim = rng.choice(tuple(WORKERS))
        for name in WORKERS:
            if self.reap(name, kill=name == victim):
                self.start(name)

    def acknowledged(self) -> dict[str, list[str]]:
        """What each writer has had acknowledged."""
        return {
            name: [token for line in lines(self.folder / f"{name}.acknowledged") for token in line.split()]
            for name, kind in WORKERS.items()
            if kind == "writer"
        }

    def crashes(self) -> Counter[str]:
        return Counter(lines(self.folder / "crashes"))

    def syncs(self) -> int:
        return sum(len(lines(self.folder / f"{name}.syncs")) for name, kind in WORKERS.items() if kind == "syncer")


def lines(path: Path) -> list[str]:
    """The whole lines of a file; none where there is no file yet."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


@contextmanager
def fleet_of(folder: Path, seed: int) -> Iterator[Fleet]:
    fleet = Fleet(folder, seed)
    try:
        for name in WORKERS:
            fleet.start(name)
        yield fleet
    finally:
        for process in fleet.running.values():
            process.kill()
        for process in fleet.running.values():
            process.wait(10)


def run_until_enough(fleet: Fleet) -> None:
    rng = random.Random(fleet.seed)
    end = time.monotonic() + PATIENCE
    while (
        sum(map(len, fleet.acknowledged().values())) < EVENTS
        or fleet.kills < KILLS
        or fleet.crashes()["before mark"] < CRASHES
    ):
        assert time.monotonic() < end, f"{fleet.kills} kills, {fleet.crashes()}, and not enough yet"
        time.sleep(rng.uniform(0.05, 0.6))
        fleet.turn(rng)


def drain(layer: Layer) -> None:
    """Sync until no dead one's lease is in the way."""
    for _ in range(20):
        if not layer.sync().locked:
            return
        time.sleep(LEASE)
    pytest.fail("a lease of the dead does not run out")


def folded(events: list[Event]) -> list[Item]:
    items: dict[str, Item] = {}
    for event in events:
        if event.type == "DELETE":
            items.pop(event.id, None)
        else:
            items[event.id] = event.item
    return [items[identifier] for identifier in sorted(items)]


def check_history(history: dict[str, list[Event]], acknowledged: dict[str, list[str]]) -> None:
    """Every acknowledged event is there once, any other at most once, each writer's in its own order."""
    count = Counter(event.item["token"] for events in history.values() for event in events)
    assert not [token for tokens in acknowledged.values() for token in tokens if count[token] != 1]
    assert max(count.values()) == 1
    for events in history.values():
        last: dict[str, tuple[int, int]] = {}
        for event in events:
            writer, incarnation, sequence = event.item["token"].split("/")
            assert last.get(writer, (0, 0)) < (int(incarnation), int(sequence))
            last[writer] = (int(incarnation), int(sequence))
        versions = [event.version for event in events]
        assert versions == sorted(versions)
        assert set(versions) == set(range(1, versions[-1] + 1))


def check_counts(layer: Layer, history: dict[str, list[Event]]) -> None:
    metas = [layer.meta(partition) for partition in PARTITIONS]
    for meta in metas:
        assert meta.synced_total + meta.unsynced_total == len(history[meta.partition])
        assert meta.version == history[meta.partition][-1].version
    whole = layer.meta()
    assert whole.synced_total == sum(meta.synced_total for meta in metas)
    assert whole.unsynced_total == sum(meta.unsynced_total for meta in metas)
    synced = Counter(event.cursor for events in history.values() for event in events if event.cursor != "__INITIAL__")
    assert whole.synced_total == synced.total()
    assert whole.cursor == max(synced)
    assert whole.synced_last_total == synced[whole.cursor]


def check_what_is_left(folder: Path, acknowledged: dict[str, list[str]]) -> None:
    log = open_log(folder)
    with open_layer(folder, log) as layer, closing(open_log(folder)) as other:
        assert set(layer.partitions()) == set(PARTITIONS)
        history = {partition: layer.history(partition) for partition in PARTITIONS}
        check_history(history, acknowledged)
        check_counts(layer, history)
        items = {partition: layer.get(partition) for partition in PARTITIONS}
        assert items == {partition: folded(events) for partition, events in history.items()}
        assert layer.verify().findings == ()

        drain(layer)
        assert items == {partition: layer.get(partition) for partition in PARTITIONS}
        assert items == {partition: open_layer(folder, other).get(partition) for partition in PARTITIONS}
        assert log.pending() == ()
        assert not any(log.unmarked(each, log.head(each).version, 1) for each in PARTITIONS)
        history = {partition: layer.history(partition) for partition in PARTITIONS}
        assert not any(event.cursor == "__INITIAL__" for events in history.values() for event in events)
        check_history(history, acknowledged)
        check_counts(layer, history)
        assert layer.meta().unsynced_total == 0
        assert layer.verify().findings == ()

        layer.vacuum(dry_run=False)
        assert layer.verify().findings == ()
        assert items == {partition: open_layer(folder, other).get(partition) for partition in PARTITIONS}


@pytest.mark.timeout(240)
def test_no_event_is_lost_or_doubled_when_writers_and_syncers_are_killed_at_random(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("DYNALAYER_KILL_SEED", secrets.randbelow(2**32)))
    record_property("kill test", f"DYNALAYER_KILL_SEED={seed}")
    begun = time.monotonic()
    with fleet_of(tmp_path, seed) as fleet:
        run_until_enough(fleet)
    lived = time.monotonic() - begun
    acknowledged = fleet.acknowledged()
    check_what_is_left(tmp_path, acknowledged)
    events, crashes = sum(map(len, acknowledged.values())), fleet.crashes()
    by_point = ", ".join(f"{crashes[point]} {point}" for point in DEADLY)
    record_property(
        "kill test",
        f"{events:,} events acknowledged, {fleet.kills} kills, of them {crashes.total()} by a crash point "
        f"({by_point}), {fleet.syncs()} syncs, {lived:.0f} seconds running, "
        f"{time.monotonic() - begun - lived:.0f} checking",
    )
    assert events >= EVENTS
    assert fleet.kills >= KILLS
    assert crashes["before mark"] >= CRASHES
