"""What `test_power_cuts.py` records: `power_worker.py FOLDER LIVES FIRST NOW`, lives of a layer in files.

They come one after the other, six days apart. The first batch has the number FIRST; the clock begins at NOW.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from functools import partial
from pathlib import Path
from typing import Any

from lives import DAY, Ticking, batch, layer_at, log_at

SETS = 14  # in each life


class OftenCheckpointed(sqlite3.Connection):
    """Moves its log into its file after each few pages, where it would after each thousand: so that cuts meet it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.execute("PRAGMA wal_autocheckpoint = 24")


def live(folder: Path, tell: int, first: int, clock: Ticking) -> None:
    log = log_at(folder)
    with layer_at(folder, log, clock) as layer:
        for number in range(first, first + SETS):
            layer.set(batch(number))
            os.write(tell, f"set {number} {clock.now}\n".encode())
            if number % 3 != 1:
                layer.sync()
                os.write(tell, f"synced {number} {clock.now}\n".encode())
            if number % 10 == 0:
                layer.vacuum(dry_run=False)
    log.close()


def main(folder: Path, lives: int, first: int, now: int) -> None:
    sqlite3.connect = partial(sqlite3.connect, factory=OftenCheckpointed)  # type: ignore[assignment] # as it is called
    tell = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for life in range(lives):
        live(folder, tell, first + life * SETS, Ticking(now + life * 6 * DAY * 1_000_000))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
