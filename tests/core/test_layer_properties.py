"""Whatever is done to a layer, it reads as a dict would, value for value and type for type."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dynalayer import Layer, MemoryEventLog, SQLiteEventLog
from dynalayer_local import LocalAdapter
from fakes import DAY, Ticking
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


class LayerMachine(RuleBasedStateMachine):
    """A layer beside a dict, through syncs, vacuums, expiry and layers that know nothing yet."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="dynalayer-test-"))
        self.clock = Ticking()
        self.log = SQLiteEventLog(self.folder / "events.db", "t")
        self.layer = self.opened()
        self.model: dict[str, dict[str, Any]] = {}
        self.set_events = 0
        self.folded = 0

    def opened(self) -> Layer:
        return Layer(
            table="t", events=self.log, storage=LocalAdapter(self.folder / "snapshots"), ttl=DAY, clock=self.clock
        )

    @rule(
        partition=st.sampled_from("xy"),
        changes=st.lists(
            st.tuples(st.sampled_from(["PUT", "UPDATE", "DELETE"]), st.sampled_from("abc"), st.integers(0, 9)),
            min_size=1,
            max_size=4,
        ),
    )
    def write(self, partition: str, changes: list[tuple[str, str, int]]) -> None:
        self.layer.set(
            [{"type": kind, "partition": partition, "id": key, "item": {"n": n}} for kind, key, n in changes]
        )
        kept = self.model.setdefault(partition, {})
        for kind, key, n in changes:
            kept.pop(key, None)
            if kind != "DELETE":
                kept[key] = {"n": n}
        self.set_events += len(changes)

    @rule()
    def sync(self) -> None:
        self.folded += self.layer.sync().count
        assert self.folded == self.set_events

    @rule()
    def wait(self) -> None:
        self.clock.advance(1.5 * DAY)

    @rule()
    def open_anew(self) -> None:
        self.layer = self.opened()

    @precondition(lambda self: self.model)
    @rule()
    def vacuum(self) -> None:
        self.layer.vacuum(dry_run=False)

    @invariant()
    def reads_as_the_dict_would(self) -> None:
        for partition, kept in self.model.items():
            assert self.layer.get(partition) == [kept[key] for key in sorted(kept)]
        meta = self.layer.meta()
        assert (meta.synced_total, meta.unsynced_total) == (self.folded, self.set_events - self.folded)

    def teardown(self) -> None:
        assert self.layer.verify().ok
        self.log.close()
        shutil.rmtree(self.folder)


TestLayerMachine = LayerMachine.TestCase
TestLayerMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
