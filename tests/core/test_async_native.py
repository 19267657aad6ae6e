"""What asyncio alone has: its own ways to cancel, which no shield of anyio's stops, and one loop after another."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest

from dynalayer import AsyncLayer, Event
from dynalayer.aio.workers import Work
from fakes import put

from .async_calls import Gate, held_log, layer_over, some_turns, until


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def with_set_held_up(gate: Gate, during: Callable[[AsyncLayer], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with layer_over(held_log(before_append=gate)) as layer:
            await during(layer)
            assert [event.id for event in await layer.history()] == ["a"]

    asyncio.run(run())


def let_time_out(gate: Gate) -> asyncio.Task[None]:
    """Once the gate is reached a minute passes in the event loop, and after that the gate opens."""
    loop, ahead = asyncio.get_running_loop(), [0.0]
    real = loop.time
    loop.time = lambda: real() + ahead[0]  # type: ignore[method-assign] # what all timers go by

    async def pass_time() -> None:
        await gate.reached()
        ahead[0] = 60.0
        await some_turns()
        gate.open.set()

    return asyncio.create_task(pass_time())


def test_a_task_of_one_set_that_is_cancelled_has_the_events(gate: Gate) -> None:
    async def during(layer: AsyncLayer) -> None:
        task = asyncio.create_task(layer.set([put("a")]))
        await gate.reached()
        task.cancel()
        await some_turns()
        assert not task.done()
        gate.open.set()
        assert [event.id for event in await task] == ["a"]

    with_set_held_up(gate, during)


@pytest.mark.parametrize("scoped", [False, True])
def test_a_cancellation_outlives_sets_that_follow_each_other_at_once(gate: Gate, *, scoped: bool) -> None:
    seen: list[str] = []

    async def run() -> None:
        async with layer_over(held_log(before_append=gate)) as layer:
            start = layer._calls.start

            def started(work: Work[Any]) -> Work[Any]:
                start(work)
                while work._state == "waiting":  # its thread is quicker than this loop's next turn
                    time.sleep(0.001)
                return work

            async def work() -> None:
                with scope:
                    for name in "abc":
                        await layer.set([put(name)])
                        seen.append(name)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                seen.append("went on")

            scope = anyio.CancelScope()
            task = asyncio.create_task(work())
            await gate.reached()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(layer._calls, "start", started)
                task.cancel()
                await some_turns()
                if scoped:
                    scope.cancel()
                gate.open.set()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert [event.id for event in await layer.history()] == seen

    asyncio.run(run())


def test_a_set_that_wait_for_gave_up_has_the_events(gate: Gate) -> None:
    async def during(layer: AsyncLayer) -> None:
        opens = let_time_out(gate)
        events = await asyncio.wait_for(layer.set([put("a")]), 50)
        assert [event.id for event in events] == ["a"]
        await opens

    with_set_held_up(gate, during)


def test_a_timeout_at_whose_end_the_set_is_settled_cancels_nothing_after_it(gate: Gate) -> None:
    async def during(layer: AsyncLayer) -> None:
        events: list[Event] = []
        opens = let_time_out(gate)
        async with asyncio.timeout(50):
            events = await layer.set([put("a")])
        await some_turns()
        assert [event.id for event in events] == ["a"]
        await opens

    with_set_held_up(gate, during)


def test_a_timeout_that_ran_out_during_a_set_ends_what_comes_after_it(gate: Gate) -> None:
    async def during(layer: AsyncLayer) -> None:
        opens = let_time_out(gate)
        events: list[Event] = []
        with pytest.raises(TimeoutError):  # noqa: PT012 -- the timeout's end is what raises
            async with asyncio.timeout(50):
                events = await layer.set([put("a")])
                await asyncio.sleep(600)
        assert [event.id for event in events] == ["a"]
        await opens

    with_set_held_up(gate, during)


def test_the_sets_of_a_task_group_that_failed_are_settled_before_it_ends(gate: Gate) -> None:
    async def during(layer: AsyncLayer) -> None:
        opens = let_time_out(gate)

        async def fails() -> None:
            await gate.reached()
            raise ZeroDivisionError

        with pytest.raises(ExceptionGroup):  # noqa: PT012 -- the group's end is what raises
            async with asyncio.TaskGroup() as group:
                kept = group.create_task(layer.set([put("a")]))
                group.create_task(fails())
        assert [event.id for event in kept.result()] == ["a"]
        await opens

    with_set_held_up(gate, during)


def test_a_native_cancellation_outlives_the_scope_in_which_it_came(gate: Gate) -> None:
    async def during(layer: AsyncLayer) -> None:
        seen: list[str] = []

        async def work() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await layer.set([put("a")])
                seen.append("set")
            seen.append("left the scope")
            await asyncio.sleep(60)

        scopes: list[anyio.CancelScope] = []
        task = asyncio.create_task(work())
        await gate.reached()
        scopes[0].cancel()
        await some_turns()
        task.cancel()
        await some_turns()
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["set", "left the scope"]

    with_set_held_up(gate, during)


def test_a_loop_that_ended_while_a_thread_was_reading_for_it_does_not_matter_to_the_next(gate: Gate) -> None:
    layer = layer_over(held_log(before_head=gate), threads=1)

    async def leave() -> None:
        await layer.set([put("a")])
        read = asyncio.create_task(layer.get())
        await gate.reached()
        read.cancel()

    async def go_on() -> None:
        assert await layer.get() == [{"id": "a"}]
        await layer.close()

    asyncio.run(leave())
    gate.open.set()
    asyncio.run(go_on())


def test_a_set_whose_loop_was_closed_under_it_comes_to_its_end(gate: Gate) -> None:
    layer = layer_over(held_log(before_append=gate))
    loop = asyncio.new_event_loop()
    task = loop.create_task(layer.set([put("a")]))
    loop.run_until_complete(gate.reached())
    task._log_destroy_pending = False  # type: ignore[attr-defined] # asyncio says rightly that this is no way to end
    loop.close()
    del task
    gc.collect()
    gate.open.set()

    async def ids() -> list[str]:
        async with layer:
            await until(lambda: not layer._workers._line.busy)
            return [event.id for event in await layer.history()]

    assert asyncio.run(ids()) == ["a"]
