"""What `test_the_real_thing.py` runs: `clocks_worker.py writer|syncer FOLDER EVENTS NAME SKEW SETS`.

Its clock is SKEW seconds off. A writer tells of each set between which moments of the true clock it was.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from dynalayer import Layer
from dynalayer.opening import open_event_log
from lives import DAY, PARTITIONS, TABLE, layer_at


def true_time() -> int:
    return time.time_ns() // 1000


def skewed(seconds: int) -> Callable[[], int]:
    return lambda: true_time() + seconds * 1_000_000


def write(layer: Layer, folder: Path, name: str, sets: int) -> None:
    with (folder / f"{name}.told").open("w") as told:
        for number in range(sets):
            token, partition = f"{name}/{number}", PARTITIONS[number % 2]
            item = {"partition": partition, "id": f"{name}-{number % 20}", "token": token}
            began = true_time()
            (event,) = layer.set([{"type": "PUT", "item": item}])
            told.write(json.dumps([token, partition, event.version, began, true_time()]) + "\n")


def sync(layer: Layer, folder: Path, name: str) -> None:
    """Until all writers are done."""
    with (folder / f"{name}.told").open("w") as told:
        while not (folder / "done").exists():
            result = layer.sync()
            told.write(json.dumps([result.count, result.locked]) + "\n")
            told.flush()
            time.sleep(0.005)


def main(kind: str, folder: str, events: str, name: str, skew: str, sets: str) -> None:
    place = Path(folder)
    with (
        closing(open_event_log(events, TABLE)) as log,
        layer_at(place, log, skewed(int(skew)), ttl=DAY) as layer,
    ):
        (place / f"{name}.ready").touch()
        while not (place / "go").exists():
            time.sleep(0.002)
        if kind == "writer":
            write(layer, place, name, int(sets))
        else:
            sync(layer, place, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
