"""Following over a DynamoDB log: nothing is missed where the index lags, and a look is cheap."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dynalayer import Layer, LayerError
from dynalayer.eventlog.dynamodb import watching
from dynalayer.following import handing_out
from dynalayer.testing.dynamodb import Faults, FaultyDynamoDB

from .dynamodb_fakes import Table, fresh


@pytest.fixture
def table(moto_server: str) -> Iterator[Table]:
    with fresh(moto_server) as table:
        yield table


def put(at: str, identifier: str = "a", **item: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": {"at": at, "id": identifier, **item}}


def layer_of(table: Table, folder: Path) -> Layer:
    return table.layer(folder, get_item_partition="at")


def follow_requests(layer: Layer) -> float:
    return layer.usage()["follow"].requests


def test_a_look_that_finds_nothing_costs_three_requests_however_many_partitions_are_pending(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = layer_of(table, tmp_path)
    layer.set([put(f"p{number}") for number in range(20)])
    waits: list[float] = []
    feed = layer.follow("index", poll=5)
    stop = feed._stop

    def wait(seconds: float) -> None:
        waits.append(follow_requests(layer))
        if len(waits) == 4:
            stop.set()

    monkeypatch.setattr(stop, "wait", wait)
    assert len(list(feed)) == 20
    assert [after - before for before, after in itertools.pairwise(waits)] == [3, 3, 3]
    units = layer.usage()["follow"]
    list(layer.follow("index", wait=False))
    assert layer.usage()["follow"].write_units - units.write_units <= 2  # it takes the consumer, and saves nothing
    layer.close()


def test_what_others_append_to_ones_own_partitions_comes_at_once(table: Table, tmp_path: Path) -> None:
    mine, theirs = layer_of(table, tmp_path), layer_of(table, tmp_path)
    mine.set([put("eu")])
    assert [event.version for event in mine.follow("index", wait=False)] == [1]
    theirs.set([put("eu")])
    assert [event.version for event in mine.follow("index", wait=False)] == [2]


def test_what_an_index_hides_while_it_is_folded_is_found_under_its_sync_once_it_is_shown(
    moto_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_800_000_000.0]
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with (
        FaultyDynamoDB(moto_server, faults=Faults(index_lag=60), clock=lambda: now[0]) as proxy,
        fresh(proxy.url, behind=moto_server) as table,
    ):
        mine, theirs = layer_of(table, tmp_path), layer_of(table, tmp_path)
        watch = mine._log.watch()
        theirs.set([put("us")])
        theirs.sync()
        theirs.set([put("eu")])
        theirs.sync()
        assert watch.look() == {}
        assert proxy.told["index_hidden"] > 0
        found: dict[str, int] = {}
        for _ in range(130):
            now[0] += 1
            found |= {partition: told.version for partition, told in watch.look().items()}
        assert found == {"us": 1, "eu": 1}
        requests = sum(proxy.requests.values())
        for _ in range(10):
            now[0] += 100
            watch.look()
        assert sum(proxy.requests.values()) - requests <= 10 * 3 + 2 * 4  # each cursor is asked for ever more seldom
        mine.close()
        theirs.close()


def test_what_the_watch_leaves_out_is_found_in_the_heads(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching.IndexWatch, "look", lambda _: {})
    monkeypatch.setattr(handing_out, "_SURVEY_SECONDS", 0.05)
    monkeypatch.setattr(handing_out, "_SURVEY_SHARE", 0)
    mine, theirs = layer_of(table, tmp_path), layer_of(table, tmp_path)
    feed = mine.follow("index", poll=0.01)
    threading.Timer(0.2, theirs.set, [[put("eu"), put("us")]]).start()
    assert {next(feed).partition, next(feed).partition} == {"eu", "us"}
    feed.close()
    mine.close()
    theirs.close()


def test_a_reset_that_was_committed_late_is_found_in_the_heads(table: Table, tmp_path: Path) -> None:
    layer = layer_of(table, tmp_path)
    told: list[tuple[str, int]] = []
    assert list(layer.follow("index", wait=False, on_reset=lambda *where: told.append(where))) == []
    layer.import_snapshot("eu", [{"at": "eu", "id": "a"}])
    assert list(layer.follow("index", wait=False, on_reset=lambda *where: told.append(where))) == []
    assert told == [("eu", 1)]
    layer.close()


def test_while_an_index_lags_and_syncs_go_on_a_follower_misses_nothing(moto_server: str, tmp_path: Path) -> None:
    with (
        FaultyDynamoDB(moto_server, seed=4, faults=Faults(index_lag=0.4, lost_answer=0.02)) as proxy,
        fresh(proxy.url, behind=moto_server) as table,
    ):
        mine, theirs, syncing = (layer_of(table, tmp_path) for _ in range(3))
        feed = mine.follow("index", poll=0.05)
        got: list[tuple[str, int]] = []
        thread = threading.Thread(target=lambda: got.extend((event.partition, event.version) for event in feed))
        thread.start()
        written: set[tuple[str, int]] = set()
        for number in range(20):
            try:
                written |= {(each.partition, each.version) for each in theirs.set([put(f"p{number % 7}", str(number))])}
            except LayerError:
                continue
            if number % 3 == 0:
                syncing.sync()
        deadline = time.monotonic() + 40
        while not written <= set(got) and time.monotonic() < deadline:
            time.sleep(0.05)
        feed.close()
        thread.join(30)
        assert written <= set(got)
        assert proxy.told["index_hidden"] > 0
        for partition in {each for each, _ in got}:
            versions = [version for each, version in got if each == partition]
            assert list(dict.fromkeys(versions)) == list(range(1, max(versions) + 1))
        for layer in (mine, theirs, syncing):
            layer.close()
