"""What real machines do: processes that are killed or stand still, disks that are full, clocks that disagree.

`test_killed_processes.py` has writers and syncers that are killed at random, `test_power_cuts.py` power cuts.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import servers
from dynalayer import Event, HistoryError, Item, Layer
from dynalayer.opening import open_event_log
from lives import DAY, PARTITIONS, TABLE, layer_at, quick_folder
from s3_servers import S3

from .clocks_worker import skewed

Record = Callable[[str, object], None]
HERE = Path(__file__).parent
PATHS = {"PYTHONPATH": os.pathsep.join([str(HERE.parent), *filter(None, sys.path)])}
HOUR = 3600
HOUR_US = HOUR * 1_000_000


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as name:
        yield Path(name)


def run(
    program: str, *arguments: str, before: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
) -> str:
    """Run a program of this folder to its end; what it told."""
    command = [*before, sys.executable, str(HERE / program), *arguments]
    done = subprocess.run(
        command, env={**os.environ, **PATHS, **(environment or {})}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout.strip()


# Killed


@pytest.mark.parametrize("work", ["sync", "vacuum", "takeover"])
def test_what_is_killed_at_any_point_is_carried_on_by_another_process(
    work: str, folder: Path, record_property: Record
) -> None:
    record_property(f"killed in a {work}", run("killed_worker.py", work, str(folder)))


def test_what_is_killed_while_it_publishes_has_published_what_is_true(
    moto_s3: S3, folder: Path, record_property: Record
) -> None:
    told = run("killed_worker.py", "publishing", str(folder), moto_s3.url("PREFIX", publish="true"))
    record_property("killed while it published", told)


# Standing still


@pytest.mark.parametrize("work", ["sync", "vacuum", "read"])
def test_what_stands_still_past_its_lease_goes_on_and_loses_nothing(
    work: str, folder: Path, record_property: Record
) -> None:
    record_property(f"stood still in a {work}", run("stopped_worker.py", work, str(folder)))


def test_what_stands_still_past_its_lease_loses_nothing_on_dynamodb_either(
    dynamodb_local: str, folder: Path, record_property: Record
) -> None:
    with closing(servers.dynamodb_client(dynamodb_local)) as client, servers.fresh_table(client) as table:
        events = f"dynamodb://{table}?endpoint_url={dynamodb_local}"
        record_property("stood still on DynamoDB", run("stopped_worker.py", "dynamodb", str(folder), events))


def test_a_plain_pair_is_safe_within_its_lease_and_past_it_may_overwrite_what_came_later(folder: Path) -> None:
    """Not promised, and shown here: what is overwritten past a lease is missing from reads, and in the history."""
    run("stopped_worker.py", "pair", str(folder))


# Full


def test_a_full_disk_refuses_what_has_no_room_and_loses_nothing(folder: Path, record_property: Record) -> None:
    disk = folder / "disk"
    disk.mkdir()
    told = run("full_disk_worker.py", str(disk), before=small_disk(disk))
    for line in told.splitlines():
        record_property("a full disk", line)


def small_disk(folder: Path) -> tuple[str, ...]:
    """What to put before a command, so that it meets a file system of two megabytes, which is gone when it ends."""
    mount = 'mount -t tmpfs -o size=2m,mode=0777 tmpfs "$0" && exec "$@"'
    for flags in ("-m", "-rm"):
        before = ("unshare", flags, "sh", "-c", mount, str(folder))
        if shutil.which("unshare") and subprocess.run([*before, "true"], capture_output=True).returncode == 0:
            return before
    pytest.skip(
        "this system lets nobody mount a small disk; test_local.py and test_sqlite_log.py have what goes without"
    )


# Clocks an hour apart


@pytest.fixture(params=["sqlite", "DynamoDB Local"])
def events(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[str, int]]:
    """A log's URL, and how much each writer sets."""
    if request.param == "sqlite":
        yield f"sqlite:///{folder / 'events.db'}", 100
        return
    endpoint = request.getfixturevalue("dynamodb_local")
    with closing(servers.dynamodb_client(endpoint)) as client, servers.fresh_table(client) as table:
        yield f"dynamodb://{table}?endpoint_url={endpoint}", 25


def live_apart(folder: Path, events: str, sets: int) -> None:
    """Two writers and two syncers, of each one whose clock is an hour ahead, side by side to the writers' end."""
    names = {"writer-0": 0, "writer-1": HOUR, "syncer-0": 0, "syncer-1": HOUR}
    processes = {}
    try:
        for name, skew in names.items():
            arguments = [name.partition("-")[0], str(folder), events, name, str(skew), str(sets)]
            processes[name] = subprocess.Popen(
                [sys.executable, str(HERE / "clocks_worker.py"), *arguments], env={**os.environ, **PATHS}
            )
        wait_for(lambda: all((folder / f"{name}.ready").exists() for name in names))
        (folder / "go").touch()
        assert [processes[name].wait(90) for name in names if name.startswith("writer")] == [0, 0]
        (folder / "done").touch()
        assert [processes[name].wait(90) for name in names if name.startswith("syncer")] == [0, 0]
    finally:
        for process in processes.values():
            process.kill()
            process.wait(10)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it does not come")


def told(folder: Path, name: str) -> list[Any]:
    return [json.loads(line) for line in (folder / f"{name}.told").read_text().splitlines()]


def folded(events: list[Event]) -> list[Item]:
    items = {event.id: event.item for event in events}
    return [items[identifier] for identifier in sorted(items)]


def test_processes_whose_clocks_are_an_hour_apart_lose_nothing_and_agree_on_the_order(
    events: tuple[str, int], folder: Path, record_property: Record
) -> None:
    url, sets = events
    begun = skewed(0)()
    live_apart(folder, url, sets)
    sets_told = [each for name in ("writer-0", "writer-1") for each in told(folder, name)]
    assert len(sets_told) == 2 * sets
    syncs = {name: sum(count for count, _ in told(folder, name)) for name in ("syncer-0", "syncer-1")}
    assert all(syncs.values()), "one of the syncers has never had anything to fold"
    record_property("clocks an hour apart", f"{2 * sets} sets, folded by {syncs}")
    with layer_at(folder, open_event_log(url, TABLE), skewed(0), ttl=DAY) as layer:
        check_histories(layer, sets_told)
        # Nothing is left to anybody's lease: the living give theirs back.
        assert not layer.sync().locked
        check_histories(layer, sets_told)
        check_as_of(layer, begun, sets_told)
        assert layer.meta().unsynced_total == 0
        assert layer.verify().findings == ()
    check_nothing_expires(folder, url, sets_told)


def check_histories(layer: Layer, sets_told: list[Any]) -> None:
    """Everything is there once, at the version that was told; cursors and moments rise with the versions."""
    for partition in PARTITIONS:
        history = layer.history(partition)
        assert [event.version for event in history] == list(range(1, len(history) + 1))
        expected = sorted((version, token) for token, where, version, *_ in sets_told if where == partition)
        assert [(event.version, event.item["token"]) for event in history] == expected
        for rising in ([event.cursor for event in history], [event.at for event in history]):
            assert rising == sorted(rising)
        assert layer.get(partition) == folded(history)


def check_as_of(layer: Layer, begun: int, sets_told: list[Any]) -> None:
    """By version exact; by moment it is as good as the clocks."""
    rng = random.Random(begun)
    for partition in PARTITIONS:
        history = layer.history(partition)
        for version in rng.sample(range(1, len(history) + 1), 5):
            assert layer.get(partition, at=version) == folded(history[:version])
        for event in rng.sample(history, 5):
            assert layer.get(partition, at=event.at) == folded([each for each in history if each.at <= event.at])
        moments = {event.version: (event.at - EPOCH) // timedelta(microseconds=1) for event in history}
        for _, where, version, began, ended in sets_told:
            # Never before the set began, and no more than the hour after it was acknowledged.
            assert where != partition or began <= moments[version] <= ended + HOUR_US


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_nothing_expires(folder: Path, url: str, sets_told: list[Any]) -> None:
    """Within the floor by the clock that folded: a clock that is an hour ahead takes that hour of it, and no more."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(folder / "events.db")) as db:
            rows = db.execute("SELECT cursor, ttl FROM records").fetchall()
        assert len(rows) == len(sets_told)
        for cursor, ttl in rows:
            assert ttl >= datetime.fromisoformat(cursor).timestamp() + DAY
    latest = skewed(23 * HOUR - 600)  # by the true clock; the fast one's is an hour later
    for clock in (latest, lambda: latest() + HOUR_US):
        with layer_at(folder, open_event_log(url, TABLE), clock, ttl=DAY) as layer:
            layer.sync()
            check_histories(layer, sets_told)
    with layer_at(folder, open_event_log(url, TABLE), skewed(26 * HOUR), ttl=DAY) as layer:
        layer.set([{"type": "PUT", "item": {"partition": PARTITIONS[0], "id": "late", "token": "late"}}])
        layer.sync()
        left = layer.history(PARTITIONS[0])
        assert {"partition": PARTITIONS[0], "id": "late", "token": "late"} in layer.get(PARTITIONS[0])
        if url.startswith("sqlite"):
            assert [event.item["token"] for event in left] == ["late"]
            with pytest.raises(HistoryError):
                layer.get(PARTITIONS[0], at=1)
        assert layer.verify().findings == ()
