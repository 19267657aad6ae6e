"""What the library itself logs: what failed and reaches no caller, under one logger, with fields beside the text."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback

from dynalayer.facts import ErrorFacts

__all__ = ["log_failure"]

_logger = logging.getLogger("dynalayer")


def log_failure(
    text: str, *arguments: object, error: Exception, level: int = logging.WARNING, **fields: object
) -> None:
    """Log something that failed. A handler or filter that raises is shown as `logging` shows one, and breaks nothing.

    Args:
        text: A template, as `logging` takes it.
        arguments: What it is filled with.
        error: What was raised; from the level ERROR on with its traceback.
        level: One of `logging`.
        fields: What a machine reads, with the facts of the error in the record's attribute `dynalayer`.
    """
    told = {**fields, "outcome": "error", **ErrorFacts.of(error).fields()}
    trace = error if level >= logging.ERROR else None
    try:
        _logger.log(level, text, *arguments, exc_info=trace, extra={"dynalayer": told}, stacklevel=2)
    except Exception:  # noqa: BLE001 -- there is nobody left to tell but standard error
        if logging.raiseExceptions:
            with contextlib.suppress(OSError, ValueError):  # it may be closed
                traceback.print_exc(file=sys.stderr)
