"""The handler for AWS Lambda: a function of an event, that says from which record on it is to be delivered again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynalayer.errors import ClosedError
from dynalayer.layer import Layer
from dynalayer.streams.intake import DeadLetterOption, Intake
from dynalayer.streams.records import records_of_lambda

__all__ = ["LambdaHandler", "handler"]

LambdaHandler = Callable[[Any, Any], dict[str, list[dict[str, str]]]]
"""What AWS Lambda calls with an event and a context."""


def handler(layer: Layer, *, dead_letters: DeadLetterOption = None) -> LambdaHandler:
    """A handler for AWS Lambda that takes the stream of the layer's table into the layer.

    Each record becomes an event, exactly once, however often it is delivered, and also while another invocation is at
    work on the same records; of one item in the stream's order. The event source mapping must have
    `ReportBatchItemFailures`: what is not durable when the handler returns is named in its answer, and delivered again.

    Args:
        layer: The layer, made outside of the handler, so that invocations share it.
        dead_letters: Where records are set aside whose item the layer's functions refuse, and which are then passed
            over: a function that is given a `DeadLetter`, and has made it durable when it returns; or the path of a
            file, where that outlives the function. Left out, such a record is a failure, and holds up what follows it.

    Returns:
        The handler. It returns `{"batchItemFailures": [{"itemIdentifier": sequence number}]}`: the first record that is
        not durable, all before it are; observers and the log are told why. It raises, so that all is delivered again:

        - `InvalidInputError`: The event is none of a DynamoDB stream's.
        - `ConfigurationError`: The stream is another table's, or lacks an image that is needed.
        - `ClosedError`: The layer was closed.

    Raises:
        ConfigurationError: The layer has nothing that tells an item's identifier.
        InvalidInputError: `dead_letters` is nothing that could be written to.
    """
    intake = Intake(layer, dead_letters)

    def handle(event: Any, context: Any = None) -> dict[str, list[dict[str, str]]]:  # noqa: ARG001 -- Lambda gives both
        records = records_of_lambda(event)
        delivered = intake.take(records)
        if delivered.error is None:
            return {"batchItemFailures": []}
        if isinstance(delivered.error, ClosedError):
            raise delivered.error
        intake.failed(delivered.error)
        return {"batchItemFailures": [{"itemIdentifier": records[delivered.durable].number}]}

    return handle
