"""Calls of an asynchronous layer that are held up at a point of one's choice, and cancelled there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from dynalayer import AsyncLayer, EventLog, LayerError, MemoryEventLog
from fakes import Between
from shelf import Board, Shelf

PATIENCE = 30.0  # seconds for what takes milliseconds
WAYS = ("asyncio", "asyncio, natively", "trio")  # event loops, and how a task is cancelled


class Gate:
    """Where a thread stands still until it is let through."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> None:
        self.arrived.set()
        assert self.open.wait(PATIENCE)

    async def reached(self) -> None:
        await until(self.arrived.is_set)


class Call:
    """A task that makes one call, and then waits at the next occasion; `seen` is what came of it."""

    def __init__(self, make: Callable[[], Awaitable[Any]], *, natively: bool = False) -> None:
        self._make = make
        self._natively = natively
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[Any] | None = None
        self.answer: Any = None
        self.seen: list[str] = []
        self.ended = False

    async def run(self) -> None:
        self._task = asyncio.current_task() if self._natively else None
        try:
            with self._scope:
                try:
                    self.answer = await self._make()
                    self.seen.append("answer")
                    await anyio.sleep(0)
                    self.seen.append("went on")
                except anyio.get_cancelled_exc_class():
                    self.seen.append("cancelled")
                    if self._task is None:
                        raise
                except LayerError as error:
                    self.answer = error
                    self.seen.append(type(error).__name__)
        finally:
            self.ended = True

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self._scope.cancel()

    async def end(self) -> list[str]:
        await until(lambda: self.ended)
        return self.seen


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not true():
            await anyio.sleep(0.001)


async def some_turns() -> None:
    """Time for whatever is ready to run; nothing that these tests claim depends on how long it is."""
    for _ in range(20):
        await anyio.sleep(0)


def layer_over(log: EventLog | None = None, **options: Any) -> AsyncLayer:
    return AsyncLayer(
        table="users",
        events=MemoryEventLog("users") if log is None else log,
        **{
            "get_item_unique_identifier": "id",
            "get_item_partition": lambda item: item.get("p", ""),
            "storage": Shelf(Board(), "users"),
            **options,
        },
    )


def held_log(**points: Callable[[], object]) -> Between:
    """A log that does something at points, as `before_append=gate`."""
    log = Between(MemoryEventLog("users"))
    for point, do in points.items():
        log.then(point.replace("_", " ", 1), do)
    return log
