"""What the processes of `test_reset_end_to_end.py` run.

`reset_workers.py writer FOLDER EVENTS SOURCE NAME`: writes items of its own, the source table first and then the event,
until the file `stop` is there. `reset_workers.py reset FOLDER EVENTS SOURCE POINT NTH`: resets the layer with a spool,
and kills itself at the n-th arrival at a crash point, or at the n-th page (`scan`); with `none` it lives.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynalayer import EventLog, Item, Layer, LayerError, ResetProgress
from dynalayer.opening import open_event_log
from dynalayer.sourcing.tables import open_table
from dynalayer.testing.faults import Crash, CrashingStore, CrashPoints

LEASE = 1.0  # short, so that what the dead hold stalls nobody
PARTITIONS = 5
LIFETIME = 300


def open_layer(folder: Path, events: str, table: str, crash: Crash | None = None) -> Layer:
    log: EventLog = open_event_log(events, table)
    storage: Any = f"local://{folder / 'snapshots'}"
    if crash is not None:
        log, storage = CrashPoints(log, crash), [CrashingStore(crash), storage]
    return Layer(
        table=table,
        get_item_unique_identifier="sk",
        get_item_partition="pk",
        events=log,
        storage=storage,
        lease=LEASE,
    )


def partition_of(number: int) -> str:
    return f"p{number % PARTITIONS}"


def write(folder: Path, events: str, source: str, name: str) -> None:
    """Items of its own come, change and go; what was acknowledged is told in a file."""
    rng = random.Random(name)
    table = open_table(source)
    told = os.open(folder / f"{name}.acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    end = time.monotonic() + LIFETIME
    with open_layer(folder, events, table.name) as layer:
        number = 0
        while not (folder / "stop").exists() and time.monotonic() < end:
            number += 1
            key = {"pk": partition_of(rng.randrange(PARTITIONS)), "sk": f"{name}-{rng.randrange(40)}"}
            if rng.random() < 0.3:
                table.delete_item(Key=key)
                change: dict[str, Any] = {"type": "DELETE", "item": key}
            else:
                item = {**key, "n": number}
                table.put_item(Item=item)
                change = {"type": "PUT", "item": item}
            set_until_it_is(layer, change)
            os.write(told, json.dumps(change).encode() + b"\n")


def set_until_it_is(layer: Layer, change: dict[str, Item]) -> None:
    """Once more is the same: a change says the whole item, and nobody else writes it."""
    for _ in range(20):
        try:
            layer.set([change])
        except LayerError as error:
            if not error.retryable:
                raise
        else:
            return
    raise TimeoutError("the log takes nothing")


def reset(folder: Path, events: str, source: str, point: str, nth: str) -> None:
    """Reset, or die."""
    crash = Crash(point, nth=int(nth)) if point not in ("scan", "none") else None
    pages = iter(range(1, 1_000_000))

    def progress(each: ResetProgress) -> None:
        if point == each.phase == "scan" and next(pages) == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)

    table = open_table(source)
    with open_layer(folder, events, table.name, crash) as layer:
        result = layer.reset(
            pages_of(table) if (folder / "iterable").exists() else table, spool=folder / "spool", progress=progress
        )
        (folder / "result").write_text(json.dumps([result.count, result.locked, result.partitions, result.left]))


def pages_of(table: Any) -> Any:
    """The same table as a function that gives its items, as a user may write it."""

    def items() -> Iterator[Item]:
        arguments: dict[str, Any] = {"ConsistentRead": True}
        while True:
            page = table.scan(**arguments)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    return items


def main(kind: str, folder: str, *arguments: str) -> None:
    (write if kind == "writer" else reset)(Path(folder), *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
