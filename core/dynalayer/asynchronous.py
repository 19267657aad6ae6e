"""Functions that users give are called, never awaited: one that is asynchronous would do nothing, in silence."""

from __future__ import annotations

import inspect
from typing import TypeVar

from dynalayer.errors import ConfigurationError

__all__ = ["not_coroutine"]

T = TypeVar("T")


def not_coroutine(answer: T, what: str) -> T:
    """The answer of a function that a user gave.

    By the answer, since of a lambda or an object with `__call__` nothing tells it beforehand.

    Args:
        answer: What it returned.
        what: The function, for the error.

    Raises:
        ConfigurationError: It is a coroutine, so that nothing has been done.
    """
    if inspect.iscoroutine(answer):
        answer.close()  # else Python warns, some time later, that it was never awaited
        raise ConfigurationError(
            f"{what} is an async function, which is called and never awaited here, so that it does nothing: "
            "give a plain one; it may run a coroutine to its end by asyncio.run()"
        )
    return answer
