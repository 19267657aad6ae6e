"""Layers that go through what real machines do to them: what is written there, and what must be there afterwards.

A *life* writes numbered batches; from the numbers that were acknowledged follows what a layer must say, whatever
happened meanwhile.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dynalayer import EventLog, Item, Layer, SQLiteEventLog

TABLE = "orders"
PARTITIONS = ("left", "right")
LEASE = 60
DAY = 24 * 3600
BEGUN = 1_800_000_000_000_000


def quick_folder() -> AbstractContextManager[str]:
    """A folder in memory, where there is one: a killed process needs no disk, and its flushes would take long."""
    shared = Path("/dev/shm")  # noqa: S108 -- the folder made there has a name of its own, and is nobody else's
    return TemporaryDirectory(prefix="dynalayer-", dir=shared if os.access(shared, os.W_OK) else None)


class Ticking:
    """A clock that begins at a moment, and goes on by a millisecond at each look."""

    def __init__(self, now: int = BEGUN) -> None:
        self.now = now

    def __call__(self) -> int:
        self.now += 1000
        return self.now


def log_at(folder: Path) -> SQLiteEventLog:
    return SQLiteEventLog(folder / "data" / "events.db", TABLE)


def layer_at(
    folder: Path,
    log: EventLog,
    clock: Callable[[], int],
    *,
    wrappers: Sequence[object] = (),
    store: str | None = None,
    **options: Any,
) -> Layer:
    """A layer with everything below one folder: the log that was opened, and segments in files or another store."""
    storage: list[Any] = [*wrappers, store or f"local://{folder / 'data' / 'snapshots'}"]
    return Layer(
        table=TABLE,
        get_item_unique_identifier="id",
        get_item_partition="partition",
        events=log,
        storage=storage,
        clock=clock,
        **options,
    )


@cache
def batch(number: int, size: int = 200) -> tuple[dict[str, Any], ...]:
    """Events for both partitions: one id that is there each time, one that is new, one that goes.

    Args:
        number: The batch's.
        size: Bytes of noise in each item.
    """
    noise = random.Random(number).randbytes(size // 2).hex()
    events: list[dict[str, Any]] = []
    for partition in PARTITIONS:
        for change, name in (("UPDATE", "always"), ("PUT", f"new-{number}"), ("DELETE", f"new-{number - 40}")):
            item = {"partition": partition, "id": name, "token": f"{number}-{change}"}
            events.append({"type": change, "item": item if change == "DELETE" else {**item, "noise": noise}})
    return tuple(events)


def expected_items(numbers: Sequence[int], partition: str, size: int = 200) -> list[Item]:
    """A partition after these batches."""
    items: dict[str, Item] = {}
    for number in numbers:
        for event in batch(number, size):
            if event["item"]["partition"] == partition:
                items.pop(event["item"]["id"], None)
                if event["type"] != "DELETE":
                    items[event["item"]["id"]] = event["item"]
    return [items[identifier] for identifier in sorted(items)]


def check_there(layer: Layer, numbers: Sequence[int], *, maybe: int | None = None, size: int = 200) -> list[int]:
    """Both partitions hold these batches whole, in this order, each once, and everything fits together.

    What was folded may have expired: then the newest of them are in the history.

    Args:
        layer: Where.
        numbers: Of the batches.
        maybe: Of one more, of which nobody was told: it is there, in both partitions, or in none.
        size: Of the batches.

    Returns:
        What is there.
    """
    histories = {partition: layer.history(partition) for partition in PARTITIONS}
    tokens = {partition: [event.item["token"] for event in histories[partition]] for partition in PARTITIONS}
    numbers = list(numbers)
    if maybe is not None and f"{maybe}-PUT" in tokens[PARTITIONS[0]]:
        numbers.append(maybe)
    all_tokens = [event["item"]["token"] for number in numbers for event in batch(number, size)[:3]]
    for partition, history in histories.items():
        assert tokens[partition] == all_tokens[len(all_tokens) - len(history) :], "the history"
        versions = [event.version for event in history]
        assert versions == [1 + index // 3 for index in range(len(all_tokens) - len(history), len(all_tokens))]
        cursors = [event.cursor for event in history]
        assert cursors == sorted(cursors), "the cursors"  # that of a pending event sorts last
        assert layer.get(partition) == expected_items(numbers, partition, size), "the items"
        meta = layer.meta(partition)
        assert meta.synced_total + meta.unsynced_total == len(all_tokens), "the counts"
    assert layer.verify().findings == ()
    return numbers


def check_goes_on(layer: Layer, clock: Ticking, numbers: Sequence[int], *, size: int = 200) -> list[int]:
    """Once the leases of the dead have run out it can be written, synced and vacuumed; returns what is there then."""
    clock.now += (LEASE + 1) * 1_000_000
    number = max(numbers, default=0) + 1000
    layer.set(batch(number, size))
    assert not layer.sync().locked
    layer.vacuum(dry_run=False)
    assert layer.meta().unsynced_total == 0
    return check_there(layer, [*numbers, number], size=size)


def check_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@dataclass
class Told:
    """What a program told that it had done, a line each: `set NUMBER NOW`, `synced NUMBER NOW`.

    Attributes:
        sets: Numbers of the batches that were acknowledged.
        synced: How many of them were folded by a sync that returned.
        now: The clock when it told last.
    """

    sets: list[int]
    synced: int
    now: int

    @classmethod
    def read(cls, text: bytes) -> Told:
        told = cls([], 0, BEGUN)
        for what, number, now in lines(text):
            told.now = now
            if what == "set":
                told.sets.append(number)
            else:
                told.synced = number
        return told


def lines(text: bytes) -> Iterator[tuple[str, int, int]]:
    for line in text.decode().splitlines():
        what, number, now = line.split()
        yield what, int(number), int(now)
