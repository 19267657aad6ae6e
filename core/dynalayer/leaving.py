"""Whether the one whom a thread works for has left: long work asks between its steps, and ends there.

It is a matter of the thread, not of its context: what is handed on to another thread has been taken by that one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["LeftError", "go_on", "has_left", "until_left", "working_for"]

T = TypeVar("T")

_thread = threading.local()


class LeftError(Exception):
    """Work ended between two of its steps, since nobody waits for it any more."""

    def __init__(self) -> None:
        super().__init__("whoever asked for it was cancelled; it ended between two of its steps")


@contextmanager
def working_for(left: Callable[[], bool]) -> Iterator[None]:
    """This thread works inside for one who may leave.

    Args:
        left: Whether that has happened; quick, since it is asked often.
    """
    outer: Callable[[], bool] | None = getattr(_thread, "left", None)
    _thread.left = left
    try:
        yield
    finally:
        _thread.left = outer


def has_left() -> bool:
    """Whether nobody waits any more for what this thread does."""
    left: Callable[[], bool] | None = getattr(_thread, "left", None)
    return left is not None and left()


def go_on() -> None:
    """Stand between two steps of long work.

    Raises:
        LeftError: Nobody waits for the rest.
    """
    if has_left():
        raise LeftError


def until_left(given: Iterable[T]) -> Iterable[T]:
    """What is read one by one, and may take long or have no end, ends when nobody waits for it any more.

    What is there already stays as it is, and so does what is no iterable: whoever reads it says what is wrong with it.
    """
    if isinstance(given, Sized) or not isinstance(given, Iterable):
        return given
    return _asking(given)


def _asking(given: Iterable[T]) -> Iterator[T]:
    for each in given:
        go_on()
        yield each
