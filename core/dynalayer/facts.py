"""What may be told of an error to those who watch: little enough that metrics, traces and logs can keep it."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass

from dynalayer import errors
from dynalayer.errors import LayerError

__all__ = ["ErrorFacts"]

# What is wrong with a value is told with the value, and values are items' contents.
_OF_VALUES = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What observers may pass on of an error.

    Attributes:
        kind: Name of its class; of a class that is neither dynalayer's nor Python's the nearest above it that is. So
            there are no more kinds than those, whatever adapters and functions raise.
        message: What is wrong, without operation and partition. None where it may quote what is in an item: of errors
            about values, and of errors that they caused. An adapter's message may name places in its store.
        retryable: Whether trying again can help.
        adapter: Name of the storage adapter concerned, or None.
        distribution: Name and version of what the adapter came with, or None.
    """

    kind: str
    message: str | None
    retryable: bool
    adapter: str | None
    distribution: str | None

    @classmethod
    def of(cls, error: BaseException) -> ErrorFacts:
        """The facts of an error."""
        quotes = any(isinstance(each, _OF_VALUES) for each in _causes(error))
        if not isinstance(error, LayerError):
            return cls(_kind(error), None if quotes else str(error), retryable=False, adapter=None, distribution=None)
        return cls(
            _kind(error),
            None if quotes else error.message,
            retryable=error.retryable,
            adapter=error.adapter,
            distribution=error.distribution,
        )

    def fields(self) -> dict[str, object]:
        """The facts as fields of a log record: `error`, `message`, `retryable`, `adapter`, `distribution`, if known."""
        named = {
            "error": self.kind,
            "message": self.message,
            "retryable": self.retryable,
            "adapter": self.adapter,
            "distribution": self.distribution,
        }
        return {key: value for key, value in named.items() if value is not None}


def _kind(error: BaseException) -> str:
    return next(each.__name__ for each in type(error).__mro__ if _is_known(each))


def _is_known(kind: type) -> bool:
    return kind in (getattr(errors, kind.__name__, None), getattr(builtins, kind.__name__, None))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from; a chain may be a ring."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__
