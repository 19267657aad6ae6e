"""A layer is closed in an order in which an adapter can let go for good, once nothing that writes is at work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynalayer import (
    ClosedError,
    Job,
    Layer,
    MemoryEventLog,
    Segment,
    StorageError,
    SyncResult,
    WrappedAdapter,
    hookimpl,
)
from dynalayer.running import Running
from dynalayer_cache import Cache
from dynalayer_encryption import Encryption
from fakes import put
from shelf import Board, Shelf

PATIENCE = 30.0


class Finite(Shelf):
    """Once it is closed it is closed. Its setter stands still until it is let through."""

    def __init__(self, *, held: bool = True) -> None:
        super().__init__(Board(), "users")
        self.told: list[str] = []
        self.arrived, self.open, self.closing = threading.Event(), threading.Event(), threading.Event()
        if not held:
            self.open.set()

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self.arrived.set()
        assert self.open.wait(PATIENCE)
        if "closed" in self.told:
            raise StorageError("it is closed, and has no connection any more")
        self.told.append("stored")
        return super().layer_setter(partition, segment)

    @hookimpl
    def layer_closing(self) -> None:
        self.told.append("closing")
        self.closing.set()

    @hookimpl
    def layer_closed(self) -> None:
        self.told.append("closed")


@pytest.fixture
def finite() -> Iterator[Finite]:
    finite = Finite()
    yield finite
    finite.open.set()


def layer_of(storage: Any, **options: Any) -> Layer:
    options = {"events": MemoryEventLog("users"), "get_item_unique_identifier": "id", **options}
    return Layer(table="users", storage=storage, **options)


def in_thread(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("work", ["sync", "import_snapshot", "reset"])
def test_what_is_at_work_when_a_layer_is_closed_has_its_adapter_to_the_end(finite: Finite, work: str) -> None:
    layer, done = layer_of(finite), []
    if work == "sync":
        layer.set([put("a")])
    calls = {
        "sync": lambda: layer.sync().count,
        "import_snapshot": lambda: layer.import_snapshot("", [{"id": "a"}]).count,
        "reset": lambda: layer.reset([{"id": "a"}]).count,
    }
    at_work = in_thread(lambda: done.append(calls[work]()))
    assert finite.arrived.wait(PATIENCE)
    closing = in_thread(layer.close)
    assert finite.closing.wait(PATIENCE)
    assert closing.is_alive()
    finite.open.set()
    for thread in (at_work, closing):
        thread.join(PATIENCE)
    assert finite.told == ["closing", "stored", "closed"]
    assert done == [1]


def test_what_a_runner_has_taken_has_its_adapter_to_the_end(finite: Finite) -> None:
    layer = layer_of(finite, sync_strategy=lambda meta: True, background_runner="thread")
    layer.set([put("a")])
    assert finite.arrived.wait(PATIENCE)
    layer.set([put("b")])
    finite.open.set()
    layer.close()
    assert finite.told[-1] == "closed"
    assert finite.told.count("stored") == 2


def test_a_job_that_a_runner_hands_out_after_the_close_does_nothing() -> None:
    jobs: list[Job] = []
    failed: list[Exception] = []

    class Watcher:
        @hookimpl
        def layer_failed(self, error: Exception) -> None:
            failed.append(error)

    finite = Finite(held=False)
    layer = layer_of(finite, sync_strategy=lambda meta: True, background_runner=jobs.append, plugins=[Watcher()])
    layer.set([put("a")])
    layer.close()
    for job in jobs:
        job()
    assert len(jobs) == 1
    assert (finite.told, failed) == (["closing", "closed"], [])


def test_a_runner_that_is_interrupted_is_given_the_next_job_all_the_same() -> None:
    jobs: list[Job] = []

    def runner(job: Job) -> None:
        jobs.append(job)
        if len(jobs) == 1:
            raise KeyboardInterrupt

    with layer_of(Finite(held=False), sync_strategy=lambda meta: True, background_runner=runner) as layer:
        with pytest.raises(KeyboardInterrupt):
            layer.set([put("a")])
        layer.set([put("b")])
        assert len(jobs) == 2
        jobs[1]()
        assert layer.meta().unsynced_total == 0


def test_a_close_that_is_interrupted_while_it_waits_can_be_made_again(
    finite: Finite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    layer = layer_of(finite)
    layer.set([put("a")])
    thread = in_thread(layer.sync)
    assert finite.arrived.wait(PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr(Running, "end", interrupted)  # as Ctrl-C in its wait
        with pytest.raises(KeyboardInterrupt):
            layer.close()
    assert "closed" not in finite.told
    finite.open.set()
    layer.close()
    thread.join()
    assert finite.told[-2:] == ["stored", "closed"]
    with pytest.raises(ClosedError):
        layer.get()


def test_what_is_tried_again_ends_its_wait_at_the_close(finite: Finite) -> None:
    class Away(Finite):
        @hookimpl
        def layer_setter(self, partition: str, segment: Segment) -> str:
            self.arrived.set()
            raise StorageError("away", retryable=True)

    away, raised = Away(), []
    slow = {"use": "retry", "attempts": 100, "seconds": 3600, "first": 3600, "longest": 3600}
    layer = layer_of([slow, away])
    layer.set([put("a")])

    def sync() -> None:
        with pytest.raises(StorageError, match="away") as error:
            layer.sync()
        raised.append(error.value)

    at_work = in_thread(sync)
    assert away.arrived.wait(PATIENCE)
    layer.close()
    at_work.join(PATIENCE)
    assert len(raised) == 1
    assert away.told == ["closing", "closed"]


class Plain:
    name = "plain"

    def around(self, inner: Any) -> WrappedAdapter:
        return WrappedAdapter(inner)


def test_wrappers_pass_on_both_that_a_layer_is_closing_and_that_it_is_closed(tmp_path: Path) -> None:
    finite = Finite(held=False)
    layer_of([Plain(), "retry:3", Cache(tmp_path), Encryption(lambda _: ("one", bytes(32))), finite]).close()
    assert finite.told == ["closing", "closed"]


def test_an_observer_may_use_the_layer_while_it_is_closing() -> None:
    seen: list[object] = []

    class Curious:
        layer: Layer

        @hookimpl
        def layer_closing(self) -> None:
            seen.append(self.layer.sync())

    curious = Curious()
    curious.layer = layer = layer_of(Finite(held=False), plugins=[curious])
    layer.set([put("a")])
    layer.close()
    assert isinstance(seen[0], SyncResult)
    assert seen[0].count == 1
