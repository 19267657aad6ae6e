"""Sending once: a client of the user's own may try again by itself, and whoever appends has to know of each try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["guard", "sent_freely", "sent_once"]

_GUARDED = ("PutItem", "UpdateItem", "TransactWriteItems")


class _SentAgainError(Exception):
    """A client wanted to send a request a second time."""


class _Sending:
    """One call that is sent once.

    Attributes:
        first: What came of its sending; as long as nothing has, an error that says no more.
    """

    def __init__(self, allowed: Callable[[], None]) -> None:
        self.first: ClientError | BotoCoreError = BotoCoreError()
        self._allowed = allowed
        self._sent = False

    def before(self) -> None:
        if self._sent:
            raise _SentAgainError
        self._allowed()
        self._sent = True

    def after(self, operation: str, answer: Mapping[str, Any] | None, error: Exception | None) -> None:
        if isinstance(error, BotoCoreError):
            self.first = error
        elif answer is not None and "Error" in answer:
            told: Any = answer
            self.first = ClientError(told, operation)


_sending: ContextVar[_Sending | None] = ContextVar("dynalayer-sending", default=None)


def _before_send(**_: object) -> None:
    sending = _sending.get()
    if sending is not None:
        sending.before()


def _response_received(
    event_name: str, parsed_response: Mapping[str, Any] | None, exception: Exception | None, **_: object
) -> None:
    sending = _sending.get()
    if sending is not None:
        sending.after(event_name.rpartition(".")[2], parsed_response, exception)


def guard(client: DynamoDBClient) -> None:
    """Look at each sending of a client."""
    events = client.meta.events
    for action in _GUARDED:
        events.register(f"before-send.dynamodb.{action}", _before_send, unique_id=f"dynalayer-before-{action}")
        events.register(
            f"response-received.dynamodb.{action}", _response_received, unique_id=f"dynalayer-after-{action}"
        )


@contextmanager
def sent_once(allowed: Callable[[], None]) -> Iterator[None]:
    """What a guarded client writes inside is sent once; where it wants to send it again, the first answer counts.

    Args:
        allowed: Called right before it is sent; what it raises is raised in place of the sending.

    Raises:
        ClientError: The first answer, an error.
        BotoCoreError: There was none.
    """
    sending = _Sending(allowed)
    token = _sending.set(sending)
    try:
        yield
    except _SentAgainError as error:
        raise sending.first from error
    finally:
        _sending.reset(token)


@contextmanager
def sent_freely() -> Iterator[None]:
    """What is sent inside is no part of a call that is sent once, be it made in its midst, as by a signal's handler."""
    token = _sending.set(None)
    try:
        yield
    finally:
        _sending.reset(token)
