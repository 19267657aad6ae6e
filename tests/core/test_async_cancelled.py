"""A call of `AsyncLayer` is cancelled at any moment, in each way that there is: nothing is lost, nothing doubled."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import pytest

from dynalayer import AsyncLayer, ClosedError, InvalidInputError, MemoryEventLog, SyncResult, hookimpl
from dynalayer.aio.calling import Calls, Steps
from dynalayer.aio.reading import AsyncFeed
from dynalayer.aio.workers import Workers
from dynalayer.testing.faults import WrappedLog
from fakes import put

from .async_calls import WAYS, Call, Gate, held_log, layer_over, some_turns, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    way: str = request.param
    return way


@pytest.fixture
def anyio_backend(way: str) -> str:
    return way.partition(",")[0]


@pytest.fixture
def natively(way: str) -> bool:
    return way.endswith("natively")


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


async def versions(layer: AsyncLayer) -> list[str]:
    return [event.id for event in await layer.history()]


async def test_what_has_no_thread_yet_is_dropped_and_leaves_the_line(gate: Gate, natively: bool) -> None:
    async with layer_over(held_log(before_head=gate), threads=1) as layer, anyio.create_task_group() as tasks:
        tasks.start_soon(layer.get)
        await gate.reached()
        call = Call(lambda: layer.set([put("a")]), natively=natively)
        tasks.start_soon(call.run)
        await until(lambda: len(layer._workers._line.waiting) == 1)
        call.cancel()
        assert await call.end() == ["cancelled"]
        assert not layer._workers._line.waiting
        gate.open.set()
        assert await versions(layer) == []


@pytest.mark.parametrize("point", ["before append", "after append"])
async def test_a_set_that_has_begun_is_acknowledged_and_the_cancellation_comes_next(
    point: str, gate: Gate, natively: bool
) -> None:
    log = held_log()
    log.then(point, gate)
    async with layer_over(log) as layer, anyio.create_task_group() as tasks:
        call = Call(lambda: layer.set([put("a")]), natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        await some_turns()
        assert call.seen == []
        call.cancel()  # whoever is impatient
        await some_turns()
        assert call.seen == []
        gate.open.set()
        assert await call.end() == ["answer", "cancelled"]
        assert [event.version for event in call.answer] == [1]
        assert await versions(layer) == ["a"]


async def test_what_a_cancelled_set_fails_with_is_told(gate: Gate, natively: bool) -> None:
    def broken() -> None:
        gate()
        raise InvalidInputError("refused")

    async with layer_over(held_log(before_append=broken)) as layer, anyio.create_task_group() as tasks:
        call = Call(lambda: layer.set([put("a")]), natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        await some_turns()
        gate.open.set()
        assert await call.end() == ["InvalidInputError"]


async def test_a_read_is_left_behind_at_once_and_its_thread_stays_counted(gate: Gate, natively: bool) -> None:
    log = held_log()
    log.then("before head", gate, times=2)
    async with layer_over(log, threads=2) as layer, anyio.create_task_group() as tasks:
        calls = [Call(partial(layer.get, name), natively=natively) for name in "ab"]
        for call in calls:
            tasks.start_soon(call.run)
        await until(lambda: log.calls.count("head") == 2)
        for call in calls:
            call.cancel()
            assert await call.end() == ["cancelled"]
        late = Call(lambda: layer.set([put("a")]))
        tasks.start_soon(late.run)
        await some_turns()
        assert late.seen == []
        assert len(layer._workers._line.waiting) == 1
        gate.open.set()
        assert await late.end() == ["answer", "went on"]


async def test_close_waits_for_what_was_left_behind_and_closes_though_it_is_cancelled(
    gate: Gate, natively: bool
) -> None:
    log = held_log(before_head=gate)
    layer = layer_over(log)
    async with anyio.create_task_group() as tasks:
        read = Call(layer.get, natively=natively)
        tasks.start_soon(read.run)
        await gate.reached()
        read.cancel()
        assert await read.end() == ["cancelled"]
        close = Call(layer.close, natively=natively)
        tasks.start_soon(close.run)
        await some_turns()
        close.cancel()
        with pytest.raises(ClosedError, match="the layer of table 'users' was closed"):
            await layer.get()
        await some_turns()
        assert close.seen == []
        gate.open.set()
        assert await close.end() == ["answer", "cancelled"]
    with pytest.raises(ClosedError):
        log.head("")


async def test_what_a_plugin_does_at_the_close_is_done_though_that_is_cancelled(gate: Gate, natively: bool) -> None:
    class SyncsAtTheEnd:
        @hookimpl
        def layer_closing(self) -> None:
            gate()
            folded.append(opened[0].sync().count)

    folded: list[int] = []
    layer = layer_over(plugins=[SyncsAtTheEnd()])
    await layer.set([put("a"), put("b")])
    opened = [layer._layer.get()]
    async with anyio.create_task_group() as tasks:
        call = Call(layer.close, natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        await some_turns()
        gate.open.set()
        assert await call.end() == ["answer", "cancelled"]
    assert folded == [2]


async def test_what_waits_for_a_thread_when_close_is_called_is_done(gate: Gate, natively: bool) -> None:
    log = held_log(before_append=gate)
    layer = layer_over(log, threads=1)
    async with anyio.create_task_group() as tasks:
        calls = [Call(partial(layer.set, [put(name)])) for name in "abc"]
        for call in calls:
            tasks.start_soon(call.run)
        await gate.reached()
        await until(lambda: len(layer._workers._line.waiting) == 2)
        tasks.start_soon(layer.close)
        await some_turns()
        gate.open.set()
        for call in calls:
            assert await call.end() == ["answer", "went on"]


async def test_while_the_layer_is_being_opened_a_cancelled_set_has_done_nothing(gate: Gate, natively: bool) -> None:
    layer = layer_over(clock=_Slow(gate))
    async with anyio.create_task_group() as tasks:
        call = Call(lambda: layer.set([put("a")]), natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        assert await call.end() == ["cancelled"]
        gate.open.set()
        assert await versions(layer) == []
        await layer.close()


async def test_what_a_cancelled_async_with_was_opening_is_closed(gate: Gate, natively: bool) -> None:
    log = MemoryEventLog("users")
    layer = layer_over(log, clock=_Slow(gate))
    async with anyio.create_task_group() as tasks:
        call = Call(layer.__aenter__, natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        assert await call.end() == ["cancelled"]
        gate.open.set()
        await layer.close()
    with pytest.raises(ClosedError):
        log.head("")


async def test_a_cancelled_sync_ends_after_the_partition_that_it_is_at(gate: Gate, natively: bool) -> None:
    log, watcher = held_log(before_move_head=gate), _Watcher()
    async with layer_over(log, plugins=[watcher]) as layer, anyio.create_task_group() as tasks:
        await layer.set([put(name, p=name) for name in "abcd"])
        call = Call(layer.sync, natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        await some_turns()
        assert call.seen == []
        gate.open.set()
        assert await call.end() == ["cancelled"]
        meta = await layer.meta()
        assert (meta.synced_total, meta.unsynced_total, meta.synced_times) == (1, 3, 1)
        assert [result.count for result in watcher.synced] == [1]
        assert (await layer.sync()).count == 3


async def test_a_sync_that_was_at_its_last_partition_when_it_was_cancelled_answers(gate: Gate, natively: bool) -> None:
    async with layer_over(held_log(after_expire=gate)) as layer, anyio.create_task_group() as tasks:
        await layer.set([put("a")])
        call = Call(layer.sync, natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        await some_turns()
        gate.open.set()
        assert await call.end() == ["answer", "cancelled"]
        assert call.answer.count == 1


async def test_an_inline_sync_ends_early_with_its_cancelled_set_and_is_no_failure(gate: Gate, natively: bool) -> None:
    log, watcher = held_log(before_move_head=gate), _Watcher()
    strategy: Any = lambda meta: meta.unsynced_total > 1  # noqa: E731 -- as users write it
    async with (
        layer_over(log, plugins=[watcher], sync_strategy=strategy) as layer,
        anyio.create_task_group() as tasks,
    ):
        call = Call(lambda: layer.set([put(name, p=name) for name in "abc"]), natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        await some_turns()
        gate.open.set()
        assert await call.end() == ["answer", "cancelled"]
        meta = await layer.meta()
        assert (meta.synced_total, meta.error) == (1, None)
        assert watcher.failed == []


async def test_a_cancelled_vacuum_ends_after_the_partition_that_it_is_at(gate: Gate, natively: bool) -> None:
    log = held_log()
    async with layer_over(log) as layer, anyio.create_task_group() as tasks:
        await layer.set([put(name, p=name) for name in "abc"])
        log.then("before old_segments", gate)
        log.calls.clear()
        call = Call(layer.vacuum, natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        await some_turns()
        gate.open.set()
        assert await call.end() == ["cancelled"]
        assert log.calls.count("old_segments") == 1


async def test_a_verify_that_is_left_behind_ends_soon(gate: Gate, natively: bool) -> None:
    log = held_log()
    async with layer_over(log) as layer, anyio.create_task_group() as tasks:
        await layer.set([put(name, p=name) for name in "abc"])
        log.then("before old_segments", gate)
        log.calls.clear()
        call = Call(layer.verify, natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        assert await call.end() == ["cancelled"]
        gate.open.set()
        await until(lambda: not layer._workers._line.busy)
        assert log.calls.count("old_segments") == 1


async def test_a_cancelled_reset_ends_after_the_partition_that_it_is_at(gate: Gate, natively: bool) -> None:
    log = held_log(before_move_head=gate)
    source = [{"id": name, "p": name} for name in "abc"]
    async with layer_over(log) as layer, anyio.create_task_group() as tasks:
        call = Call(lambda: layer.reset(source), natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        await some_turns()
        assert call.seen == []
        gate.open.set()
        assert await call.end() == ["cancelled"]
        assert [len(await layer.get(name)) for name in "abc"] == [1, 0, 0]
        assert (await layer.reset(source)).count == 3
        assert [len(await layer.get(name)) for name in "abc"] == [1, 1, 1]


async def test_a_reset_that_is_cancelled_while_it_reads_its_source_changes_nothing(natively: bool) -> None:
    begun = threading.Event()

    def endless() -> Iterator[dict[str, Any]]:
        number = 0
        while True:
            number += 1
            begun.set()
            yield {"id": str(number)}

    async with layer_over() as layer, anyio.create_task_group() as tasks:
        await layer.set([put("a")])
        call = Call(lambda: layer.reset(endless()), natively=natively)
        tasks.start_soon(call.run)
        await until(begun.is_set)
        call.cancel()
        assert await call.end() == ["cancelled"]
        assert await layer.get() == [{"id": "a"}]
        assert not (await layer.reset([{"id": "b"}])).locked


@pytest.mark.parametrize("method", ["set", "import_snapshot"])
async def test_an_endless_iterator_is_read_no_further_once_its_call_is_cancelled(method: str, natively: bool) -> None:
    begun = threading.Event()

    def endless() -> Iterator[dict[str, Any]]:
        number = 0
        while True:
            number += 1
            begun.set()
            time.sleep(0.001)
            yield put(str(number)) if method == "set" else {"id": str(number)}

    async with layer_over() as layer, anyio.create_task_group() as tasks:
        make = (lambda: layer.set(endless())) if method == "set" else (lambda: layer.import_snapshot("", endless()))
        call = Call(make, natively=natively)
        tasks.start_soon(call.run)
        await until(begun.is_set)
        call.cancel()
        assert await call.end() == ["cancelled"]
        assert await layer.partitions() == []


SYNC_POINTS = ["lease", "head", "unmarked", "read", "move_head", "mark", "expire", "release"]


@pytest.mark.parametrize("point", [f"{when} {method}" for method in SYNC_POINTS for when in ("before", "after")])
async def test_a_sync_cancelled_at_any_point_loses_and_doubles_nothing(point: str, gate: Gate, natively: bool) -> None:
    log = held_log()
    async with layer_over(log) as layer, anyio.create_task_group() as tasks:
        await layer.set([put("c")])
        await layer.sync()
        await layer.set([put("a"), put("b", p="other")])
        await layer.set([put("b"), put("a")])
        log.then(point, gate)
        call = Call(layer.sync, natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        await some_turns()
        gate.open.set()
        await call.end()
        assert await versions(layer) == ["c", "a", "b", "a"]
        first = (await layer.meta()).synced_total
        assert first + (await layer.sync()).count == 5
        assert [item["id"] for item in await layer.get()] == ["a", "b", "c"]
        assert (await layer.meta()).synced_total == 5
        assert (await layer.verify()).ok


class _Slowly(WrappedLog):
    """A log in which callers are grouped, and each append takes a moment."""

    def __init__(self, group_limit: int) -> None:
        super().__init__(MemoryEventLog("users"))
        self.group_limit = group_limit

    def append(self, drafts: Any) -> Any:
        time.sleep(0.0005)
        return super().append(drafts)


@pytest.mark.parametrize("group_limit", [0, 500, 100_000])
async def test_of_hundreds_of_tasks_cancelled_at_random_each_acknowledged_event_is_there_once(
    group_limit: int, natively: bool
) -> None:
    chance = random.Random(group_limit)
    log = _Slowly(group_limit)
    async with layer_over(log, threads=chance.choice([3, 32])) as layer:
        calls = [Call(partial(layer.set, [put(str(n), p="eu")]), natively=natively) for n in range(300)]
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(call.run)
                if chance.random() < 0.5:
                    await anyio.sleep(chance.choice([0, 0, 0.0002]))
                    chance.choice(calls[: calls.index(call) + 1]).cancel()
        there = Counter(event.id for event in await layer.history("eu"))
        acknowledged = {event.id for call in calls if "answer" in call.seen for event in call.answer}
        assert all(call.seen for call in calls)
        assert acknowledged <= set(there)
        assert set(there.values()) == {1}
        assert set(there) == acknowledged  # a cancelled one was dropped, or is waited for
        versions = {event.id: event.version for event in await layer.history("eu")}
        told = {event.id: event.version for call in calls if "answer" in call.seen for event in call.answer}
        assert told == versions


async def test_a_step_that_is_cancelled_is_the_next_ones_answer(gate: Gate, natively: bool) -> None:
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield 1
            gate()
            yield 2
            yield 3
        finally:
            closed.set()

    async with _steps(numbers()) as steps, anyio.create_task_group() as tasks:
        assert await anext(steps) == 1
        call = Call(lambda: anext(steps), natively=natively)
        tasks.start_soon(call.run)
        await gate.reached()
        call.cancel()
        assert await call.end() == ["cancelled"]
        gate.open.set()
        assert await anext(steps) == 2
        assert not closed.is_set()
        close = Call(steps.aclose, natively=natively)
        tasks.start_soon(close.run)
        await some_turns()
        close.cancel()
        await close.end()
        await until(closed.is_set)
        assert [number async for number in steps] == []


async def test_an_event_that_a_cancelled_follower_did_not_get_is_the_next_ones(natively: bool) -> None:
    async with layer_over(threads=1) as layer, anyio.create_task_group() as tasks:
        async with await layer.follow("index", poll=0.001) as feed:
            call = Call(lambda: anext(feed), natively=natively)
            tasks.start_soon(call.run)
            await until(lambda: feed._step is not None)
            call.cancel()
            assert await call.end() == ["cancelled"]
            await layer.set([put("a"), put("b")])  # by the one thread that the layer has
            assert (await anext(feed)).id == "a"
            assert (await anext(feed)).id == "b"
        async with await layer.follow("index", wait=False) as again:
            assert [event.id async for event in again] == ["b"]  # it was not handled


async def test_closing_the_layer_ends_followers_that_wait(natively: bool) -> None:
    layer = layer_over()
    await layer.set([put("a")])
    got: list[str] = []

    async def follow() -> None:
        got.extend([event.id async for event in await layer.follow("index", poll=60)])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await until(lambda: bool(layer._iterators))
        (feed,) = layer._open_iterators()
        await until(lambda: isinstance(feed, AsyncFeed) and feed._thread._line.busy == 1)
        await layer.close()
    assert got in ([], ["a"])


async def test_steps_end_with_what_their_iterator_raises(natively: bool) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise InvalidInputError("no two")

    async with _steps(numbers()) as steps:
        assert await anext(steps) == 1
        with pytest.raises(InvalidInputError, match="no two"):
            await anext(steps)
        assert [number async for number in steps] == []


async def test_tasks_that_share_steps_each_get_what_no_other_gets(natively: bool) -> None:
    got: list[int] = []

    async def take() -> None:
        got.extend([number async for number in steps])

    async with _steps(iter(range(50))) as steps, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(take)
    assert sorted(got) == list(range(50))


def _steps(iterator: Iterator[int]) -> Steps[int]:
    return Steps(Calls(Workers(2), lambda: ClosedError("closed")), iterator)


class _Slow:
    """A clock that stands still when it is first looked at, which is when a layer is opened."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __call__(self) -> int:
        if not self._gate.arrived.is_set():
            self._gate()
        return time.time_ns() // 1000


class _Watcher:
    def __init__(self) -> None:
        self.synced: list[SyncResult] = []
        self.failed: list[Exception] = []

    @hookimpl
    def layer_synced(self, result: SyncResult) -> None:
        self.synced.append(result)

    @hookimpl
    def layer_failed(self, error: Exception) -> None:
        self.failed.append(error)
