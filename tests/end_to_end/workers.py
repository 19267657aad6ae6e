"""What the processes of `test_killed_processes.py` run: `workers.py writer|syncer FOLDER NAME INCARNATION SEED`.

They end only by being killed, or when whoever started them is gone. What they find wrong ends them with an error.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from dynalayer import EventLog, Item, Layer, SQLiteEventLog
from dynalayer.testing.faults import Crash, CrashPoints

TABLE = "orders"
PARTITIONS = ("north", "south", "east", "west", "")
LEASE = 0.5  # short, so that what the dead hold stalls nobody
DEADLY = ("after move_head", "before mark")
LIFETIME = 300


def open_log(folder: Path) -> SQLiteEventLog:
    return SQLiteEventLog(folder / "events.db", TABLE)


def open_layer(folder: Path, log: EventLog) -> Layer:
    return Layer(
        table=TABLE,
        get_item_unique_identifier="id",
        get_item_partition="partition",
        events=log,
        storage=f"local://{folder / 'snapshots'}",
        lease=LEASE,
    )


class Lines:
    """A file that lines are added to, each by one write: one that is there was told before the process died."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(self, text: str) -> None:
        os.write(self._descriptor, f"{text}\n".encode())


class Writer:
    """Sets batches of its own items: new ones, changes to earlier ones, deletions of earlier ones."""

    def __init__(self, folder: Path, name: str, incarnation: int, rng: random.Random) -> None:
        self._layer = open_layer(folder, open_log(folder))
        self._name = name
        self._incarnation = incarnation
        self._random = rng
        self._acknowledged = Lines(folder / f"{name}.acknowledged")
        self._sequence = 0
        self._own = {partition: self._read(partition) for partition in PARTITIONS}

    def turn(self) -> None:
        """One batch, acknowledged in the file once `set()` has returned."""
        partitions = self._random.sample(PARTITIONS, self._random.choice((1, 1, 1, 2)))
        own = {partition: dict(self._own[partition]) for partition in partitions}
        events = [
            self._event(partition, own[partition])
            for partition in partitions
            for _ in range(self._random.randint(3, 8))
        ]
        self._layer.set(events)
        self._acknowledged.add(" ".join(event["item"]["token"] for event in events))
        self._own.update(own)
        if self._random.random() < 0.1:
            self._check(self._random.choice(PARTITIONS))
        time.sleep(self._random.uniform(0, 0.01))

    def _event(self, partition: str, own: dict[str, Item]) -> dict[str, Item]:
        self._sequence += 1
        token = f"{self._name}/{self._incarnation}/{self._sequence}"
        change = self._random.choices(("PUT", "UPDATE", "DELETE"), (6, 3, 2))[0] if own else "PUT"
        identifier = token if change == "PUT" else self._random.choice(tuple(own))
        item = {"partition": partition, "id": identifier, "writer": self._name, "token": token}
        if change == "DELETE":
            del own[identifier]
        else:
            own[identifier] = item
        return {"type": change, "item": item}  # type: ignore[dict-item] # a mapping as callers write it

    def _read(self, partition: str) -> dict[str, Item]:
        return {item["id"]: item for item in self._layer.get(partition) if item["writer"] == self._name}

    def _check(self, partition: str) -> None:
        if self._read(partition) != self._own[partition]:
            sys.exit(f"{self._name}/{self._incarnation} does not see its own writes in {partition!r}")


class Syncer:
    """Syncs, and now and then vacuums; dies by itself between moving a head and marking what was folded."""

    def __init__(self, folder: Path, name: str, incarnation: int, rng: random.Random) -> None:
        crashes, self._syncs = Lines(folder / "crashes"), Lines(folder / f"{name}.syncs")
        crash = Crash(*DEADLY, probability=0.04, seed=rng.randrange(2**32), tell=crashes.add)
        self._layer = open_layer(folder, CrashPoints(open_log(folder), crash))
        self._random = rng
        self._where = f"{name}/{incarnation}"

    def turn(self) -> None:
        result = self._layer.sync(self._random.choice((None, None, None, *PARTITIONS)))
        self._syncs.add(f"{self._where} {result.count}")
        if self._random.random() < 0.05:
            self._layer.vacuum(dry_run=False)
        time.sleep(self._random.uniform(0, 0.05))


def main(kind: str, folder: str, name: str, incarnation: str, seed: str) -> None:
    rng = random.Random(f"{seed} {name} {incarnation}")
    worker = (Writer if kind == "writer" else Syncer)(Path(folder), name, int(incarnation), rng)
    parent, end = os.getppid(), time.monotonic() + LIFETIME
    while os.getppid() == parent and time.monotonic() < end:
        worker.turn()


if __name__ == "__main__":
    main(*sys.argv[1:])
