"""Processes that sync by strategies on a thread are killed in the midst of it: nothing acknowledged is lost."""

from __future__ import annotations

import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .strategy_workers import PARTITIONS, open_layer

PROGRAM = Path(__file__).with_name("strategy_workers.py")
KILLS = 6
SYNCS = 6
PATIENCE = 200.0  # seconds, on a machine that has much else to do


def told(folder: Path) -> list[str]:
    return [line for path in folder.glob("*.told") for line in path.read_text().split("\n")[:-1]]


def test_nothing_is_lost_where_those_who_sync_in_the_background_are_killed(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = secrets.randbelow(2**32)
    rng = random.Random(seed)

    def start(name: str, incarnation: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, PROGRAM, tmp_path, name, str(incarnation)], stderr=subprocess.PIPE)

    running = {name: start(name, 0) for name in ("one", "two")}
    watching = open_layer(tmp_path)
    try:
        begun, kills = time.monotonic(), 0
        while kills < KILLS or watching.meta().synced_times < SYNCS:
            assert time.monotonic() - begun < PATIENCE, f"{kills} kills, {watching.meta()}, seed {seed}"
            name = rng.choice(sorted(running))
            enough = len(told(tmp_path)) + rng.randint(1, 120)
            while len(told(tmp_path)) < enough and time.monotonic() - begun < PATIENCE:
                time.sleep(0.01)
            process = running[name]
            process.kill()
            _, stderr = process.communicate()
            assert (process.returncode, stderr) == (-signal.SIGKILL, b"")
            kills += 1
            running[name] = start(name, kills)
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
    syncs = watching.meta().synced_times
    acknowledged = told(tmp_path)
    found = [item["id"] for partition in PARTITIONS for item in watching.get(partition)]
    watching.sync()
    assert sorted(found) == sorted(item["id"] for partition in PARTITIONS for item in watching.get(partition))
    assert len(set(found)) == len(found)
    assert set(acknowledged) <= set(found)
    # Of what was not acknowledged there is at most the last of each that was killed.
    assert len(found) - len(acknowledged) <= kills + len(running)
    assert watching.verify().ok
    watching.close()
    record_property("killed strategies", f"{len(acknowledged):,} events, {kills} kills, {syncs} syncs, seed {seed}")
