"""The runner that runs syncs within the `set()` that led to them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dynalayer import Job, Layer, Segment, hookimpl, open_adapter


def test_inline_syncs_in_the_callers_thread_before_the_set_returns(tmp_path: Path) -> None:
    threads: list[int] = []

    class Watching:
        @hookimpl
        def layer_synced(self) -> None:
            threads.append(threading.get_ident())

    with Layer(
        table="users",
        get_item_unique_identifier="id",
        events="memory:",
        storage=f"local:{tmp_path}/snapshots",
        sync_strategy="count:1",
        background_runner="inline",
        plugins=[Watching()],
    ) as layer:
        layer.set([{"type": "PUT", "item": {"id": 1}}])
        assert layer.meta().unsynced_total == 0
    assert threads == [threading.get_ident()]


def test_inline_overrules_the_runner_of_a_plugin(tmp_path: Path) -> None:
    class Never:
        @hookimpl
        def layer_runner(self, job: Job) -> bool:
            raise AssertionError

    with Layer(
        table="users",
        get_item_unique_identifier="id",
        events="memory:",
        storage=f"local:{tmp_path}/snapshots",
        sync_strategy="count:1",
        background_runner="inline",
        plugins=[Never()],
    ) as layer:
        layer.set([{"type": "PUT", "item": {"id": 1}}])
        assert (layer.meta().unsynced_total, layer.meta().error) == (0, None)


@pytest.mark.parametrize("runner", ["inline", "thread"])
def test_a_sync_that_fails_on_a_runner_is_told_and_the_next_one_makes_up_for_it(tmp_path: Path, runner: str) -> None:
    store = open_adapter(f"local:{tmp_path}/snapshots", "users")
    told = threading.Semaphore(0)

    class Failing:
        name, capabilities, fails = "failing", store.capabilities, True
        layer_getter, layer_discard, layer_list = store.layer_getter, store.layer_discard, store.layer_list

        @hookimpl
        def layer_setter(self, partition: str, segment: Segment) -> str:
            if self.fails:
                raise OSError("full")
            return store.layer_setter(partition=partition, segment=segment)

        @hookimpl
        def layer_failed(self, operation: str, error: Exception) -> None:
            failures.append(operation)
            told.release()

        @hookimpl
        def layer_synced(self) -> None:
            told.release()

    failures: list[str] = []
    failing = Failing()
    with Layer(
        table="users",
        get_item_unique_identifier="id",
        events="memory:",
        storage=failing,
        sync_strategy="count:1",
        background_runner=runner,
    ) as layer:
        layer.set([{"type": "PUT", "item": {"id": 1}}])
        assert told.acquire(timeout=30)
        assert failures == ["sync"]
        assert "OSError: full" in (layer.meta().error or "")
        failing.fails = False
        layer.set([{"type": "PUT", "item": {"id": 2}}])
        assert told.acquire(timeout=30)
        layer.sync()
        assert layer.meta().unsynced_total == 0
        assert failures == ["sync"]
