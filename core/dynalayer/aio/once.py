"""What is made when it is first asked for, and once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

from dynalayer.forking import Lock, renew_in_child

__all__ = ["Once"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Making(Generic[T]):
    """One try: what came of it, once it is done."""

    done: threading.Event = field(default_factory=threading.Event)
    answer: list[T] = field(default_factory=list)
    error: BaseException | None = None
    trace: TracebackType | None = None

    def make(self, make: Callable[[], T]) -> None:
        try:
            self.answer.append(make())
        except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
            self.error, self.trace = error, error.__traceback__

    def result(self) -> T:
        self.done.wait()
        if self.error is not None:
            # By the trace of the making alone: each who raises it would add its own to those of the others.
            raise self.error.with_traceback(self.trace)
        return self.answer[0]


class Once(Generic[T]):
    """Makes something for many threads. Of those that come first one makes it, and the others wait.

    What the making fails with is raised for all who waited for it; who comes later tries again.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._making: _Making[T] | None = None
        renew_in_child(self)

    def renew(self) -> None:
        """Forget what another thread of the parent was making."""
        if self.made is None:
            self._making = None

    @property
    def made(self) -> T | None:
        """It, if it is there."""
        making = self._making
        return making.answer[0] if making is not None and making.answer else None

    def get(self) -> T:
        """It, made if need be.

        Raises:
            BaseException: What the making raised.
        """
        with self._lock:
            making, mine = self._making, self._making is None
            if making is None:
                making = self._making = _Making()
        if mine:
            making.make(self._make)
            if making.error is not None:
                self._making = None
            making.done.set()
        return making.result()
