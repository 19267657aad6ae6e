"""Which failures may pass by themselves."""

from __future__ import annotations

import errno
import socket

from dynalayer.errors import LayerError

__all__ = ["may_pass"]

_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN",
        "EBUSY",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "EINTR",
        "EMFILE",  # files that other threads will close
        "ENETDOWN",
        "ENETRESET",
        "ENETUNREACH",
        "ENFILE",
        "ENOBUFS",
        "ESTALE",  # a file server came back
        "ETIME",
    )
    if hasattr(errno, name)
)


def may_pass(error: BaseException) -> bool:
    """Whether doing the same again can help without anything being mended.

    An error of dynalayer's tree says so itself (`retryable`). One of the system is judged by its kind and number: a
    connection that failed, a timeout, what is busy or used up for the moment. Anything else does not pass.
    """
    if isinstance(error, LayerError):
        return error.retryable
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, socket.gaierror):  # its numbers are not errno's
        return error.errno == socket.EAI_AGAIN
    return isinstance(error, OSError) and error.errno in _PASSING
