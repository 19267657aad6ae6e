"""What `test_killed_strategies.py` runs: `strategy_workers.py FOLDER NAME INCARNATION`, a writer that syncs by itself.

It ends only by being killed, or when whoever started it is gone.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from dynalayer import Layer

STRATEGIES = ["count:60", {"use": "all-of", "strategies": ["count:15?per=partition", "bytes:100"]}, "age:1"]
PARTITIONS = ("north", "south")
LIFETIME = 120


def open_layer(folder: Path) -> Layer:
    return Layer(
        table="orders",
        get_item_unique_identifier="id",
        get_item_partition="partition",
        events=f"sqlite:///{folder / 'events.db'}",
        storage=f"local://{folder / 'snapshots'}",
        sync_strategy=STRATEGIES,
        background_runner="thread",
        lease=0.3,  # short, so that what the dead hold stalls nobody
    )


def main(folder: str, name: str, incarnation: str) -> None:
    layer = open_layer(Path(folder))
    told = os.open(Path(folder) / f"{name}.told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    parent, end = os.getppid(), time.monotonic() + LIFETIME
    number = 0
    while os.getppid() == parent and time.monotonic() < end:
        number += 1
        item = {"partition": PARTITIONS[number % 2], "id": f"{name}/{incarnation}/{number}"}
        layer.set([{"type": "PUT", "item": item}])
        os.write(told, f"{item['id']}\n".encode())  # one that stands here was acknowledged
        error = layer.meta().error
        if error is not None:
            sys.exit(f"a sync failed: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
