"""Whatever is done to a layer, it reads as a dict would, value for value and type for type."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from dynalayer import EventLog, HistoryError, Layer, MemoryEventLog, SQLiteEventLog, compaction, syncing
from dynalayer.clock import to_datetime
from dynalayer.compaction import Policy
from dynalayer_local import LocalAdapter
from fakes import DAY, Ticking
from servers import REGION, dynamodb_client, fresh_table
from strategies import exactly, identifiers, items, texts

partitions = st.one_of(st.sampled_from(["", "a", "A", "a/b", "..", "~empty"]), texts(max_size=12))


@pytest.mark.parametrize("log", ["memory", "sqlite"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(first=st.dictionaries(identifiers(), items(), min_size=1, max_size=4), last=items(), partition=partitions)
def test_values_come_back_as_they_went_in_before_and_after_a_sync_and_a_compaction(
    log: str, first: dict[str, Any], last: dict[str, Any], partition: str
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="dynalayer-test-"))
    try:
        events = MemoryEventLog("t") if log == "memory" else SQLiteEventLog(folder / "events.db", "t")

        def layer() -> Layer:
            return Layer(table="t", events=events, storage=LocalAdapter(folder / "snapshots"))

        def check(expected: dict[str, Any], *, bases: int) -> None:
            for read in (writer, layer()):
                found = read.get(partition)
                assert [exactly(item) for item in found] == [exactly(expected[key]) for key in sorted(expected)]
            segments = events.head(partition).segments
            assert sum(segment.kind == "base" for segment in segments) == bases

        writer = layer()
        expected = dict(first)
        writer.set([{"type": "PUT", "partition": partition, "id": key, "item": item} for key, item in first.items()])
        check(expected, bases=0)
        writer.sync()
        check(expected, bases=1)
        before = events.head(partition).segments[0]
        for number in range(8 + len(first)):
            key = "new" if number % 2 else min(first)
            expected[key] = last
            writer.set([{"type": "UPDATE", "partition": partition, "id": key, "item": last}])
            writer.sync()
        assert events.head(partition).segments[0] != before, "a compaction has written a new base"
        check(expected, bases=1)
        history = writer.history(partition)
        assert [exactly(event.item) for event in history[: len(first)]] == [exactly(item) for item in first.values()]
        events.close()
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Place:
    """Where a machine's layers keep what they are given.

    Attributes:
        log: Opens the event log of a table, in a folder.
        storage: What `storage` is given for a table, below a folder.
    """

    log: Callable[[str, Path], EventLog]
    storage: Callable[[str, Path], Any]


LOGS = ["memory", "sqlite", "dynamodb"]
STORES = ["local", "parquet", "s3-json", "stack"]


def log_of(name: str, request: pytest.FixtureRequest) -> Callable[[str, Path], EventLog]:
    if name == "memory":
        return lambda table, folder: MemoryEventLog(table)
    if name == "sqlite":
        return lambda table, folder: SQLiteEventLog(folder / "events.db", table)
    from dynalayer.eventlog.dynamodb import DynamoDBEventLog  # noqa: PLC0415 -- heavy, and few tests need it

    table_of_all, client = request.getfixturevalue("events_table")
    return lambda table, folder: DynamoDBEventLog(table_of_all, table, client=client)


def storage_of(name: str, request: pytest.FixtureRequest) -> Callable[[str, Path], Any]:
    if name == "local":
        return lambda table, folder: LocalAdapter(folder / "snapshots")
    if name == "parquet":
        return lambda table, folder: f"parquet+file:{folder}/snapshots"
    s3 = request.getfixturevalue("moto_s3")
    url = f"s3-json://{s3.bucket}/p?endpoint_url={s3.endpoint_url}&region={REGION}"
    if name == "s3-json":
        return lambda table, folder: url
    return lambda table, folder: ["retry:3", f"cache:{folder}/cache", {"use": "encryption", "key": key_of}, url]


def key_of(identifier: str | None) -> tuple[str, bytes]:
    return "one", b"k" * 32


@pytest.fixture
def events_table(moto_server: str) -> Iterator[tuple[str, Any]]:
    """One DynamoDB table for all layers of a test: each has a table's name of its own."""
    with contextlib.closing(dynamodb_client(moto_server)) as client, fresh_table(client) as name:
        yield name, client


KEYS = st.sampled_from("abcd")


class LayerMachine(RuleBasedStateMachine):
    """A layer beside a dict, through syncs, vacuums, expiry and layers that know nothing yet."""

    numbers = itertools.count()

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.table = f"t{next(self.numbers)}"
        self.folder = Path(tempfile.mkdtemp(prefix="dynalayer-test-"))
        self.place = place
        self.clock = Ticking()
        self.log = place.log(self.table, self.folder)
        self.layers: list[Layer] = []
        self.layer = self.opened()
        self.model: dict[str, dict[str, Any]] = {}
        self.past: dict[str, list[dict[str, Any]]] = {}
        self.events: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
        self.moments: dict[str, list[dt.datetime]] = {}
        self.resets: dict[str, int] = {}
        self.waited = False
        self.set_events = 0
        self.folded = 0

    def opened(self) -> Layer:
        storage = self.place.storage(self.table, self.folder)
        self.layers.append(
            Layer(
                table=self.table,
                get_item_unique_identifier="id",
                events=self.log,
                storage=storage,
                ttl=DAY,
                clock=self.clock,
            )
        )
        return self.layers[-1]

    @rule(
        partition=st.sampled_from("xy"),
        changes=st.lists(
            st.tuples(st.sampled_from(["PUT", "UPDATE", "DELETE"]), st.sampled_from("abc"), st.integers(0, 9)),
            min_size=1,
            max_size=4,
        ),
    )
    def write(self, partition: str, changes: list[tuple[str, str, int]]) -> None:
        told = [(kind, key, {"id": key, "n": n, "big": "x" * n}) for kind, key, n in changes]
        given = [{"type": kind, "partition": partition, "id": key, "item": item} for kind, key, item in told]
        moment = self.layer.set(given)[0].at
        kept = self.model.setdefault(partition, {})
        for kind, key, item in told:
            kept.pop(key, None)
            if kind != "DELETE":
                kept[key] = item
        self.past.setdefault(partition, [{}]).append(dict(kept))
        self.moments.setdefault(partition, []).append(moment)
        self.events.setdefault(partition, []).extend(told)
        self.set_events += len(changes)

    @rule()
    def sync(self) -> None:
        self.folded += self.layer.sync().count
        assert self.folded == self.set_events

    @rule(
        partition=st.sampled_from("xy"), drifted=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9) | st.none())
    )
    def reset(self, partition: str, drifted: dict[str, int | None]) -> None:
        """From a source that is what the dict is, but for what somebody changed, or removed, by hand."""
        source = self.model.get(partition, {}) | {key: {"id": key, "n": n} for key, n in drifted.items()}
        source = {key: item for key, item in source.items() if item["n"] is not None}
        before = self.layer.meta(partition)
        result = self.layer.reset(iter(source.values()) if source else [], partition)
        version = self.layer.meta(partition).version
        assert (result.count, result.locked) == (len(source), False)
        assert result.partitions == ((partition,) if version > before.version else ())
        if version > before.version:
            self.folded += before.unsynced_total
            self.resets[partition] = self.resets.get(partition, 0) + 1
            self.model[partition] = source
            self.events.setdefault(partition, [])
            self.past.setdefault(partition, [{}]).append(dict(source))
            self.moments.setdefault(partition, []).append(to_datetime(self.clock.now))
            assert version == len(self.past[partition]) - 1

    @rule()
    def wait(self) -> None:
        self.clock.advance(1.5 * DAY)
        self.waited = True

    @rule()
    def open_anew(self) -> None:
        self.layer = self.opened()

    @precondition(lambda self: self.model)
    @rule()
    def vacuum(self) -> None:
        self.layer.vacuum(dry_run=False)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), by_moment=st.booleans())
    def read_as_it_was(self, data: st.DataObject, by_moment: bool) -> None:
        partition = data.draw(st.sampled_from(sorted(self.past)))
        version = data.draw(st.integers(0, len(self.past[partition]) - 1))
        kept = self.past[partition][version]
        at = self.moments[partition][version - 1] if by_moment and version else version
        try:
            assert self.layer.get(partition, at=at) == [kept[key] for key in sorted(kept)]
        except HistoryError:
            assert self.waited or self.resets.get(partition, 0) > 1, "nothing has expired"

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        partition = data.draw(st.sampled_from(sorted(self.events)))
        told = [(each.type, each.id, each.item) for each in self.layer.history(partition)]
        whole = self.events[partition]
        assert told == whole[len(whole) - len(told) :]
        pending = self.layer.meta(partition).unsynced_total
        assert len(told) >= (pending if self.waited else len(whole))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def read_by_columns(self, data: st.DataObject) -> None:
        partition = data.draw(st.sampled_from(sorted(self.model)))
        kept = self.model[partition]
        rows = self.layer.scan(partition, columns=["$id", "$item"] if kept else None).read_all().to_pylist()
        assert {row["$id"]: json.loads(row["$item"]) for row in rows} == kept
        assert len(rows) == len(kept)

    @precondition(lambda self: self.model)
    @rule()
    def verify(self) -> None:
        assert self.layer.verify().ok

    @invariant()
    def reads_as_the_dict_would(self) -> None:
        for partition, kept in self.model.items():
            assert self.layer.get(partition) == [kept[key] for key in sorted(kept)]
        meta = self.layer.meta()
        assert (meta.synced_total, meta.unsynced_total) == (self.folded, self.set_events - self.folded)

    def teardown(self) -> None:
        try:
            assert self.layer.verify().ok
        finally:
            for layer in self.layers:
                layer.close()
            self.log.close()
            shutil.rmtree(self.folder)


# Every log and every store at least once; many examples where nothing is asked of a server.
PLACES = [
    ("sqlite", "local", 25, 30),
    ("memory", "parquet", 10, 30),
    ("dynamodb", "local", 2, 20),
    ("memory", "s3-json", 3, 20),
    ("dynamodb", "parquet", 1, 20),
    ("sqlite", "stack", 3, 20),
]


@pytest.mark.parametrize(("log", "store", "examples", "steps"), PLACES, ids=[f"{p[0]} {p[1]}" for p in PLACES])
def test_a_layer_reads_as_a_dict_would(
    log: str, store: str, examples: int, steps: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In so few steps the real policy hardly ever compacts.
    eager = Policy(base_from=2, base_share=0.5, merge_from=2, merge_least=2)
    for module in (compaction, syncing):
        monkeypatch.setattr(module, "due", partial(compaction.due, policy=eager))
    place = Place(log_of(log, request), storage_of(store, request))
    run_state_machine_as_test(
        partial(LayerMachine, place),  # type: ignore[arg-type] # what makes a machine will do
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_no_log_and_no_store_is_left_out() -> None:
    assert {log for log, *_ in PLACES} == set(LOGS)
    assert {store for _, store, *_ in PLACES} == set(STORES)
