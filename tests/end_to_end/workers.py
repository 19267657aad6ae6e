"""What the processes of `test_killed_processes.py` run: `workers.py KIND FOLDER EVENTS NAME INCARNATION SEED`.

They end only by being killed, or when whoever started them is gone. What they find wrong ends them with an error; what
a service put off, they do again.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dynalayer import AppendError, EventLog, Item, Layer, LayerError
from dynalayer.cli.options import event_line
from dynalayer.opening import open_event_log
from dynalayer.testing.faults import Crash, CrashPoints

TABLE = "orders"
PARTITIONS = ("north", "south", "east", "west", "")
LEASE = 1.0  # short, so that what the dead hold stalls nobody
DEADLY = ("after move_head", "before mark")
LIFETIME = 300
CONSUMER = "search-index"
FOLLOWED = "followed"  # the file of what it was given


def open_log(events: str) -> EventLog:
    for _ in range(20):
        try:
            return open_event_log(events, TABLE)
        except LayerError as error:
            if not error.retryable:
                raise
    raise TimeoutError("the log cannot be opened")


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

    def __init__(self, folder: Path, events: str, name: str, incarnation: int, rng: random.Random) -> None:
        self._layer = open_layer(folder, open_log(events))
        self._name = name
        self._incarnation = incarnation
        self._random = rng
        self._acknowledged = Lines(folder / f"{name}.acknowledged")
        self._refused = Lines(folder / f"{name}.refused")
        self._largest = 8 if events.startswith("sqlite") else 80
        self._sequence = 0
        self._own: dict[str, dict[str, Item]] = {}
        self._look(PARTITIONS)

    def turn(self) -> None:
        """One batch, acknowledged in the file once `set()` has returned."""
        partitions = self._random.sample(PARTITIONS, self._random.choice((1, 1, 1, 2)))
        own = {partition: dict(self._own[partition]) for partition in partitions}
        events = [
            self._event(partition, own[partition])
            for partition in partitions
            for _ in range(self._random.randint(3, self._largest))
        ]
        try:
            self._layer.set(events)
        except AppendError as error:
            self._told(events, error)
            self._settle(error)
        else:
            self._acknowledged.add(" ".join(event["item"]["token"] for event in events))
            self._own.update(own)
        if self._random.random() < 0.1:
            self._check(self._random.choice(PARTITIONS))
        time.sleep(self._random.uniform(0, 0.01))

    def _told(self, events: list[dict[str, Item]], error: AppendError) -> None:
        """Take the error at its word: what it calls written must be there in the end, what it does not must not."""
        for outcome, told in (("written", self._acknowledged), ("not written", self._refused)):
            tokens = [each["item"]["token"] for each in events if error.outcomes[each["item"]["partition"]] == outcome]
            if tokens:
                told.add(" ".join(tokens))

    def _settle(self, error: AppendError) -> None:
        """Set something more where an outcome is unknown: from then on nothing that is late can arrive there."""
        for partition in error.outcomes:
            for _ in range(20):
                event = self._event(partition, {})
                try:
                    self._layer.set([event])
                except AppendError as again:
                    self._told([event], again)
                    continue
                self._acknowledged.add(event["item"]["token"])
                break
        self._look(tuple(error.outcomes))

    def _look(self, partitions: tuple[str, ...]) -> None:
        self._own.update({partition: self._read(partition) for partition in partitions})

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
        for _ in range(20):
            try:
                return {item["id"]: item for item in self._layer.get(partition) if item["writer"] == self._name}
            except LayerError as error:
                if not error.retryable:
                    raise
        raise TimeoutError(f"{partition!r} cannot be read")

    def _check(self, partition: str) -> None:
        if self._read(partition) != self._own[partition]:
            sys.exit(f"{self._name}/{self._incarnation} does not see its own writes in {partition!r}")


class Syncer:
    """Syncs, and now and then vacuums; dies by itself between moving a head and marking what was folded."""

    def __init__(self, folder: Path, events: str, name: str, incarnation: int, rng: random.Random) -> None:
        crashes, self._syncs = Lines(folder / "crashes"), Lines(folder / f"{name}.syncs")
        self._put_off = Lines(folder / "put_off")
        # Where a sync takes long there are few of them, and each dies more often.
        probability = 0.06 if events.startswith("sqlite") else 0.15
        crash = Crash(*DEADLY, probability=probability, seed=rng.randrange(2**32), tell=crashes.add)
        self._layer = open_layer(folder, CrashPoints(open_log(events), crash))
        self._random = rng
        self._where = f"{name}/{incarnation}"

    def turn(self) -> None:
        try:
            result = self._layer.sync(self._random.choice((None, None, None, *PARTITIONS)))
            self._syncs.add(f"{self._where} {result.count}")
            if self._random.random() < 0.05:
                self._layer.vacuum(dry_run=False)
        except LayerError as error:
            if not error.retryable:
                raise
            self._put_off.add(str(error))
        time.sleep(self._random.uniform(0, 0.05))


class Follower:
    """Follows, and writes down what it is given; for a while at a time, so that it sees when it is alone."""

    def __init__(self, folder: Path, events: str, _name: str, _incarnation: int, rng: random.Random) -> None:
        self._layer = open_layer(folder, open_log(events))
        self._given, self._put_off = Lines(folder / FOLLOWED), Lines(folder / "put_off")
        self._random = rng

    def turn(self) -> None:
        try:
            with self._layer.follow(CONSUMER, poll=0.3) as feed:
                ends = threading.Timer(self._random.uniform(1, 6), feed.stop)
                ends.daemon = True
                ends.start()
                for event in feed:
                    self._given.add(event_line(event).decode().rstrip())
        except LayerError as error:
            if not error.retryable:
                raise
            self._put_off.add(str(error))


def main(kind: str, folder: str, events: str, name: str, incarnation: str, seed: str) -> None:
    rng = random.Random(f"{seed} {name} {incarnation}")
    workers: dict[str, Callable[..., Writer | Syncer | Follower]]
    workers = {"writer": Writer, "syncer": Syncer, "follower": Follower}
    worker = workers[kind](Path(folder), events, name, int(incarnation), rng)
    parent, end = os.getppid(), time.monotonic() + LIFETIME
    while os.getppid() == parent and time.monotonic() < end:
        worker.turn()


if __name__ == "__main__":
    main(*sys.argv[1:])
