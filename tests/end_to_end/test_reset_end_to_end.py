"""The acceptance test of resets: writers go on, who resets is killed again and again, and nothing is lost."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
import warm
from dynalayer import Item, Layer
from source_tables import fill, source_table

from .reset_workers import PARTITIONS, open_layer, partition_of

PROGRAM = Path(__file__).with_name("reset_workers.py")
ITEMS = int(os.environ.get("DYNALAYER_TEST_RESET_ITEMS", "1500"))
VANISHED = 200
DEATHS = (("scan", 1), ("scan", 1), ("after layer_setter", 2), ("after move_head", 2), ("before mark", 1))
PATIENCE = 240
MARK = "~generation"


def initial() -> Iterator[Item]:
    """What the source has; a mark in each partition says that it is this."""
    for number in range(ITEMS):
        yield {"pk": partition_of(number), "sk": f"item-{number:06}", "n": 1}
    for number in range(PARTITIONS):
        yield {"pk": partition_of(number), "sk": MARK, "n": 1}


def stale() -> Iterator[dict[str, Any]]:
    """What the layer has: other values, and items that the source lost without an event."""
    for number in range(0, ITEMS, 9):
        yield {"type": "PUT", "item": {"pk": partition_of(number), "sk": f"item-{number:06}", "n": 0}}
    for number in range(VANISHED):
        yield {"type": "PUT", "item": {"pk": partition_of(number), "sk": f"vanished-{number}"}}
    for number in range(PARTITIONS):
        yield {"type": "PUT", "item": {"pk": partition_of(number), "sk": MARK, "n": 0}}
    yield {"type": "PUT", "item": {"pk": "lost", "sk": "a"}}


def check_read(layer: Layer, partition: str) -> bool:
    """A reader sees the old or the new of a partition, never a mixture; True where it is the new."""
    items = {item["sk"]: item for item in layer.get(partition)}
    new = bool(items[MARK]["n"] == 1)
    others = [name for name in items if name.startswith(("item-", "vanished-"))]
    if new:
        assert not any(name.startswith("vanished-") for name in others)
        assert all(items[name]["n"] == 1 for name in others)
        assert len(others) == sum(1 for number in range(ITEMS) if partition_of(number) == partition)
    else:
        assert len([name for name in others if name.startswith("vanished-")]) == VANISHED // PARTITIONS
        assert all(items[name]["n"] == 0 for name in others if name.startswith("item-"))
    return new


def acknowledged(folder: Path) -> dict[tuple[str, str], Item | None]:
    """What each item of the writers' is, by what was acknowledged; the last one of each may be followed by another."""
    found: dict[tuple[str, str], Item | None] = {}
    for path in folder.glob("*.acknowledged"):
        for line in path.read_text().splitlines():
            change = json.loads(line)
            key = change["item"]["pk"], change["item"]["sk"]
            found[key] = change["item"] if change["type"] == "PUT" else None
    return found


@pytest.mark.timeout(PATIENCE * 10)
@pytest.mark.parametrize("log", ["dynamodb", "sqlite", "sqlite from an iterable"])
def test_nothing_is_lost_while_writers_go_on_and_the_resetting_process_is_killed(
    log: str, dynamodb_local: str, tmp_path: Path, record_property: Any
) -> None:
    client = servers.dynamodb_client(dynamodb_local)
    name = f"user-{secrets.token_hex(6)}"
    with servers.fresh_table(client) as events_table, source_table(dynamodb_local, name) as table:
        place = f"?region={servers.REGION}&endpoint_url={dynamodb_local}"
        events = f"sqlite:///{tmp_path}/events.db" if log.startswith("sqlite") else f"dynamodb://{events_table}{place}"
        if log.endswith("iterable"):
            (tmp_path / "iterable").touch()
        fill(table, initial())
        with open_layer(tmp_path, events, name) as layer, open_layer(tmp_path, events, f"{name}s") as neighbour:
            for each in (layer, neighbour):
                each.set(list(stale()))
                each.sync()
            before = {partition: neighbour.get(partition) for partition in neighbour.partitions()}
            source = f"dynamodb://{name}{place}"
            run(tmp_path, events, source, layer, record_property)
            check_whole(tmp_path, layer, table)
            assert {partition: neighbour.get(partition) for partition in neighbour.partitions()} == before
            assert neighbour.verify().ok
    client.close()


def run(folder: Path, events: str, source: str, layer: Layer, record_property: Any) -> None:
    """Writers, a reader, and a process that resets and is killed, until one has come to its end."""
    errors = folder / "stderr"
    writers = [
        warm.start(PROGRAM, ["writer", str(folder), events, source, f"writer-{number}"], errors=errors)
        for number in range(2)
    ]
    reads = 0
    try:
        begun = time.monotonic()
        for point, nth in (*DEATHS, ("none", 0)):
            process = warm.start(PROGRAM, ["reset", str(folder), events, source, point, str(nth)], errors=errors)
            while process.poll() is None:
                check_read(layer, partition_of(reads))
                reads += 1
                time.sleep(0.02)
                assert time.monotonic() < begun + 10 * PATIENCE
            expected = -signal.SIGKILL if point != "none" else 0
            assert process.wait(1) == expected, f"{point}: {errors.read_text()[-4000:]}"
            if point != "none":
                assert (folder / "spool").exists(), point
        record_property(f"reset of {ITEMS:,} items, killed {len(DEATHS)} times", f"{time.monotonic() - begun:.1f} s")
        (folder / "stop").touch()
        for each in writers:
            assert each.wait(60) == 0, errors.read_text()[-4000:]
    finally:
        for each in writers:
            each.kill()
    assert reads > 3
    assert not (folder / "spool").exists()
    count, locked, partitions, left = json.loads((folder / "result").read_text())
    assert (locked, left) == (False, [])
    assert count >= ITEMS
    assert partitions == ["lost", *(partition_of(number) for number in range(PARTITIONS))]


def check_whole(folder: Path, layer: Layer, table: Any) -> None:
    """The layer has what the source has, and what was acknowledged; nothing else."""
    written = acknowledged(folder)
    assert len(written) > 5
    for partition in (partition_of(number) for number in range(PARTITIONS)):
        assert check_read(layer, partition)
        items = {item["sk"]: item for item in layer.get(partition)}
        for (where, identifier), item in written.items():
            if where == partition:
                assert items.get(identifier) == item
    assert layer.get("lost") == []
    found = layer.verify(against=table)
    assert found.findings == ()
    assert found.against is not None
    assert found.against.ok, found.against
    layer.sync()
    assert layer.verify(against=table).ok
