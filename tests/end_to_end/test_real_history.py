"""A real project's whole history, replayed: git itself says what must come out."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dynalayer import Layer, SQLiteEventLog
from dynalayer.clock import to_datetime
from fakes import Ticking
from program import InProcess, Program
from s3_servers import S3

CUT = Path(__file__).parents[1] / "data"
WHOLE = os.environ.get("DYNALAYER_TEST_GIT_EVENTS")
TABLE = "files"
BATCH = 400

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Replay:
    """File changes in order, and after how many of them git lists which tree."""

    name: str
    lines: tuple[bytes, ...]
    events: tuple[dict[str, Any], ...]
    states: tuple[tuple[int, dict[str, str]], ...]


@cache
def load(name: str) -> Replay:
    if name == "whole":
        assert WHOLE is not None
        folder, events, states = Path(WHOLE), "pytest.events.jsonl.gz", "pytest.states.jsonl.gz"
    else:
        folder, events, states = CUT, "git-events.cut.jsonl.gz", "git-states.cut.jsonl.gz"
    with gzip.open(folder / events) as file:
        lines = tuple(file)
    with gzip.open(folder / states) as file:
        trees = [json.loads(line) for line in file]
    parsed = [json.loads(line) for line in lines]
    return Replay(
        name,
        lines,
        tuple({"type": event["type"], "item": event["item"]} for event in parsed),
        tuple((state["events"], state["tree"]) for state in trees),
    )


@pytest.fixture(params=["cut", "whole"] if WHOLE else ["cut"])
def replay(request: pytest.FixtureRequest) -> Replay:
    return load(request.param)


def cuts(replay: Replay) -> Iterator[tuple[int, int, dict[str, str]]]:
    """From which event to which, and the tree after them."""
    begin = 0
    for end, tree in replay.states:
        yield begin, end, tree
        begin = end


def tree_of(items: list[dict[str, Any]]) -> dict[str, str]:
    assert len({item["path"] for item in items}) == len(items)
    return {item["path"]: f"{item['mode']} {item['sha']}" for item in items}


def read_tree(layer: Layer, at: dict[str, Any] | None = None) -> dict[str, str]:
    tree: dict[str, str] = {}
    for partition in layer.partitions() if at is None else at:
        tree.update(tree_of(layer.get(partition, at=None if at is None else at[partition])))
    return tree


@pytest.fixture(params=["local", "s3-json", "parquet+file", "parquet+s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL for a layer's `storage`, for each adapter that is in the box."""
    if "s3" in request.param:
        s3: S3 = request.getfixturevalue("moto_s3")
        return s3.url(scheme=request.param)
    return f"{request.param}:{tmp_path}/snapshots"


def test_the_api_gives_gits_tree_at_every_point_then_and_afterwards(
    replay: Replay, storage: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    options: dict[str, Any] = {
        "table": TABLE,
        "get_item_unique_identifier": "path",
        "get_item_partition": "dir",
        "events": f"sqlite:///{tmp_path}/events.db",
        "storage": storage,
    }
    # Where reading costs requests and there is much to read, every third tree is read cold, each tree's past in one of
    # the three ways, which lead to the same segments, and each segment verified once: the adapter is asked the same,
    # and what only the engine could get wrong is found on the others.
    few = replay.name == "whole" and "s3" in storage
    remembered: list[tuple[dict[str, str], dict[str, dict[str, Any]]]] = []
    with Layer(**options) as layer:
        for number, (begin, end, tree) in enumerate(cuts(replay)):
            for start in range(begin, end, BATCH):
                layer.set(replay.events[start : min(start + BATCH, end)])
                if start // BATCH % 3 == 0:
                    layer.sync()
            assert read_tree(layer) == tree, "with events pending"
            layer.sync()
            assert read_tree(layer) == tree, "all of it folded"
            if not few or number % 3 == 0:
                with Layer(**options) as cold:
                    assert read_tree(cold) == tree, "from the files alone"
            moment, cursor = datetime.now(UTC), layer.meta().cursor
            known = layer.partitions()
            places = {partition: layer.meta(partition).version for partition in known}
            remembered.append(
                (
                    tree,
                    {
                        "version": dict(places),
                        "moment": dict.fromkeys(known, moment),
                        "cursor": dict.fromkeys(known, cursor),
                    },
                )
            )
    with Layer(**options) as later:
        for number, (tree, ways) in enumerate(remembered):
            for way in [list(ways)[number % len(ways)]] if few else ways:
                assert read_tree(later, ways[way]) == tree, f"as of {way}"
        assert_history(later, replay)
        meta = later.meta()
        assert (meta.synced_total, meta.unsynced_total) == (len(replay.events), 0)
        if not few:
            verified = later.verify()
            assert verified.ok, verified.findings
        later.vacuum(dry_run=False)
        verified = later.verify()
        assert verified.ok, verified.findings
        assert read_tree(later) == replay.states[-1][1]
        record_property(
            f"real history, {replay.name}, {storage.partition(':')[0]}",
            f"{len(replay.events):,} changes of {len(later.partitions())} partitions replayed, "
            f"{meta.synced_times} syncs, {len(replay.states)} of git's trees read with events pending, folded, cold, "
            "and as of version, moment and cursor",
        )


@pytest.mark.parametrize("scheme", ["local", "parquet+file"])
def test_kept_for_ever_gits_trees_are_read_long_after_the_log_has_let_go_of_all(
    replay: Replay, scheme: str, tmp_path: Path
) -> None:
    clock = Ticking()
    options: dict[str, Any] = {
        "table": TABLE,
        "get_item_unique_identifier": "path",
        "get_item_partition": "dir",
        "events": f"sqlite:///{tmp_path}/events.db",
        "storage": f"{scheme}:{tmp_path}/snapshots",
        "history": "forever",
        "ttl": 24 * 3600,
        "clock": clock,
    }
    remembered: list[tuple[dict[str, str], dict[str, int], datetime]] = []
    with Layer(**options) as layer:
        for begin, end, tree in cuts(replay):
            for start in range(begin, end, BATCH):
                layer.set(replay.events[start : min(start + BATCH, end)])
                layer.sync()
            places = {partition: layer.meta(partition).version for partition in layer.partitions()}
            remembered.append((tree, places, to_datetime(clock.now)))
            clock.advance(3600)
        clock.advance(100 * 24 * 3600)
        layer.set([{"type": "PUT", "item": {"path": "new", "dir": "new"}}])
        layer.sync()  # lets go of what has expired
        layer.vacuum(dry_run=False)
    with SQLiteEventLog(tmp_path / "events.db", TABLE) as log:
        assert [record for partition in places for record in log.read(partition, 0).records] == []
    with Layer(**options) as later:
        for tree, places, moment in remembered:
            assert read_tree(later, dict(places)) == tree
            assert read_tree(later, dict.fromkeys(places, moment)) == tree
        told: dict[str, list[tuple[str, int]]] = {
            partition: [(event.type, event.item["revision"]) for event in later.history(partition)]
            for partition in places
        }
        assert sum(map(len, told.values())) == len(replay.events)
        assert told == happened(replay)
        assert later.verify().findings == ()


def assert_history(layer: Layer, replay: Replay) -> None:
    """Each change exactly once, in each partition in the order in which it happened."""
    told: dict[str, list[tuple[str, int]]] = {}
    for partition in layer.partitions():
        events = layer.history(partition)
        told[partition] = [(event.type, event.item["revision"]) for event in events]
        versions = [event.version for event in events]
        assert versions == sorted(versions)
        some = Counter(event.id for event in events).most_common(1)[0][0]
        assert layer.history(partition, id=some) == [event for event in events if event.id == some]
    assert told == happened(replay)


def happened(replay: Replay) -> dict[str, list[tuple[str, int]]]:
    """The changes of each partition, in order."""
    expected: dict[str, list[tuple[str, int]]] = {}
    for event in replay.events:
        expected.setdefault(event["item"]["dir"], []).append((event["type"], event["item"]["revision"]))
    return expected


def test_the_command_line_gives_gits_tree_at_every_point_then_and_afterwards(replay: Replay, tmp_path: Path) -> None:
    # The whole takes some hundreds of commands: they are run in this process, those of the cut as a user does.
    program = InProcess(tmp_path) if replay.name == "whole" else Program(tmp_path)
    attributes = ("--id-attribute", "path", "--partition-attribute", "dir", "--ignore", "commit")
    trees: list[tuple[dict[str, str], dict[str, int], str]] = []
    for begin, end, tree in cuts(replay):
        part = tmp_path / "part.jsonl.gz"
        part.write_bytes(gzip.compress(b"".join(replay.lines[begin:end]), 1))
        said = lines_of(program, "import", part.name, "--table", TABLE, *attributes)
        assert said[0].startswith(f"{end - begin:,} events taken")
        versions = partitions_by_command(program)
        assert tree_by_command(program, dict.fromkeys(versions, "")) == tree, "with events pending"
        lines_of(program, "sync", "--table", TABLE)
        trees.append((tree, versions, datetime.now(UTC).isoformat()))
    for tree, versions, moment in (trees[0], trees[-1]):
        assert (
            tree_by_command(program, {name: str(version) for name, version in versions.items()}, "--at-version") == tree
        )
        assert tree_by_command(program, dict.fromkeys(versions, moment), "--at-moment") == tree
    told = 0
    for partition in versions:
        told += len(lines_of(program, "history", partition, "--table", TABLE))
    assert told == len(replay.lines)
    lines_of(program, "verify", "--table", TABLE)


def lines_of(program: Program, *arguments: str) -> list[str]:
    return program.good(*arguments).splitlines()


def partitions_by_command(program: Program) -> dict[str, int]:
    head, *rows = lines_of(program, "status", "--table", TABLE)[2:]
    assert head.startswith("PARTITION")
    names = (row.split() for row in rows)
    return {("" if name[0] == "''" else name[0]): int(name[1].replace(",", "")) for name in names}


def tree_by_command(program: Program, places: dict[str, str], option: str = "") -> dict[str, str]:
    tree: dict[str, str] = {}
    for partition, place in places.items():
        how = (option, place) if option else ()
        lines = lines_of(program, "get", partition, "--table", TABLE, *how)
        tree.update(tree_of([json.loads(line) for line in lines]))
    return tree


def test_the_whole_history_is_replayed_where_it_is() -> None:
    """The environment may name the whole; what it names must be there and be read, not passed over."""
    if WHOLE is None:
        assert load("cut").events
    else:
        assert len(load("whole").events) == 36_294
        assert len(load("whole").states) == 13
