"""A forked child goes on with a layer, whatever the other threads of its parent were in the midst of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from dynalayer.forking import Lock
from dynalayer.values import copy_item
from fakes import delete, put

from .dynamodb_fakes import Table, fresh

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system knows no fork")

FORKED = """
import os, signal, sys, threading, traceback
from dynalayer import Layer, MemoryEventLog

def forked(work):
    "What a child did: 0 where all went well."
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(20)  # a child that hangs is a child that fails
    status = 1
    try:
        work()
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)

class Midst:
    "Another thread, in the midst of a block."

    def __init__(self, block):
        self.arrived, self.goes_on = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, args=(block,))

    def run(self, block):
        with block:
            self.arrived.set()
            self.goes_on.wait(60)

    def __enter__(self):
        self.thread.start()
        assert self.arrived.wait(30)

    def __exit__(self, *_):
        self.goes_on.set()
        self.thread.join(30)

def put(name, partition="eu"):
    return [{"type": "PUT", "id": name, "partition": partition, "item": {"n": 1}}]
"""


def run(script: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-P", "-c", FORKED + script, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "AWS_DEFAULT_REGION": servers.REGION},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def table(moto_server: str) -> Iterator[Table]:
    with fresh(moto_server) as table:
        yield table


LOCKS = """
import json
import dynalayer.bulk

name, endpoint = sys.argv[1:]
layer = Layer(
    table="users",
    events=f"dynamodb://{name}?endpoint_url={endpoint}",
    storage="local:snapshots",
    sync_strategy=lambda meta: meta.unsynced_total > 1,
)
layer.set(put("a") + put("a", "us"))
layer.get("eu")
log, snapshots = layer._log, layer._reading._snapshots
locks = {
    "collector": dynalayer.bulk._lock,
    "connection": log._connection._lock,
    "counts": log._counts._lock,
    "slot": snapshots._slots["eu"].lock,
    "snapshots": snapshots._lock,
    "tails": log._slots._lock,
    "trigger": layer._trigger._lock,
    "usage": log._connection.counter._lock,
}

def work():
    layer.set(put("b") + put("b", "us"))
    assert len(layer.get("eu")) == 2
    assert layer.meta().unsynced_total == 0
    layer.close()

told = {}
for name, lock in locks.items():
    with Midst(lock):
        told[name] = forked(work)
print(json.dumps(told))
"""


def test_a_lock_that_another_thread_held_is_free_in_the_child(table: Table, tmp_path: Path) -> None:
    told = json.loads(run(LOCKS, tmp_path, table.name, table.url))
    assert len(told) == 8
    assert set(told.values()) == {0}, told


SYNCING = """
layer = Layer(table="users", events=MemoryEventLog("users"), storage="local:snapshots")
with Midst(layer._runs._syncing.working()):
    print(forked(layer.close))
    with layer._runs._syncing.working():
        print(forked(layer.close))
"""


def test_a_child_that_closes_its_layer_does_not_wait_for_its_parents_syncs(tmp_path: Path) -> None:
    assert run(SYNCING, tmp_path) == "0\n0"


WAITING = """
jobs = []

class Runner:
    def layer_runner(self, job):
        jobs.append(job)
        return True

from dynalayer import hookimpl
Runner.layer_runner = hookimpl(Runner.layer_runner)
layer = Layer(
    table="users", events=MemoryEventLog("users"), storage="local:snapshots", sync_strategy=lambda meta: True,
    background_runner=None, plugins=[Runner()],
)
layer.set(put("a"))
assert len(jobs) == 1

def work():
    jobs.clear()
    layer.set(put("b"))
    assert len(jobs) == 1, jobs

print(forked(work))
layer.set(put("c"))
assert len(jobs) == 1
"""


def test_a_child_starts_syncs_of_its_own_though_one_waits_in_its_parent(tmp_path: Path) -> None:
    assert run(WAITING, tmp_path) == "0"


COLLECTOR = """
import gc
from dynalayer.bulk import paused_collector

def runs():
    assert gc.isenabled()

def rests():
    assert not gc.isenabled()

with Midst(paused_collector()):
    assert not gc.isenabled()
    print(forked(runs))
    with paused_collector():
        print(forked(rests))
gc.disable()
print(forked(rests))
with Midst(paused_collector()):
    print(forked(rests))
"""


def test_the_collector_runs_in_a_child_though_another_thread_paused_it(tmp_path: Path) -> None:
    assert run(COLLECTOR, tmp_path).split() == ["0"] * 4


def test_a_lock_may_be_taken_again_by_who_holds_it_and_by_nobody_else() -> None:
    lock, taken = Lock(), threading.Event()

    def take() -> None:
        with lock:
            taken.set()

    other = threading.Thread(target=take)
    with lock:
        with lock:
            other.start()
        assert not taken.wait(0.05)
    other.join(30)
    assert taken.is_set()


def test_a_read_in_the_midst_of_a_read_disturbs_neither(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a signal's handler, which comes on the thread that reads already."""
    layer = table.layer(tmp_path)
    layer.set([put("a"), put("b")])
    inner: list[Any] = []

    def interrupted(item: Any) -> Any:
        if not inner:
            inner.append(None)
            layer.set([delete("b"), put("c")])
            inner.append(layer.get())
        return copy_item(item)

    layer.get()
    monkeypatch.setattr("dynalayer.reading.copy_item", interrupted)
    assert layer.get() == [{"id": "a"}, {"id": "b"}]
    assert inner[1] == layer.get() == [{"id": "a"}, {"id": "c"}]
