"""Checkpoints: small durable rows of a layer beside its partitions, moved by compare-and-set.

They say how far somebody has come: a consumer of events, the reader of a stream, a reset.
"""

from __future__ import annotations

from dataclasses import dataclass

from dynalayer.errors import InvalidInputError
from dynalayer.quoting import quoted

__all__ = ["MAX_CHECKPOINT_BYTES", "MAX_NAME_BYTES", "Checkpoint", "CheckpointMove", "check_move"]

MAX_NAME_BYTES = 1000
"""How long a checkpoint's scope, and its name, may be, in bytes of UTF-8: what a sort key of DynamoDB takes."""

MAX_CHECKPOINT_BYTES = 64 * 1024
"""How long a checkpoint's value may be."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far somebody has come.

    Attributes:
        scope: Who keeps it; never empty.
        name: What it is of, within the scope; may be empty.
        value: What it says, as whoever keeps it writes it.
        revision: From 1; raised by every move.
    """

    scope: str
    name: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class CheckpointMove:
    """A compare-and-set of a checkpoint.

    Attributes:
        scope: Who keeps it.
        name: What it is of.
        expected: The revision that it must have; 0: there is none.
        value: What it says from then on; None removes it.
        ttl: Seconds since the epoch from which on it may expire; None: it stays.
    """

    scope: str
    name: str
    expected: int
    value: bytes | None
    ttl: int | None = None


def check_move(move: CheckpointMove) -> None:
    """Refuse a move that not every log could make.

    Raises:
        InvalidInputError: A name or the value is too long, or there is no scope.
    """
    for what, text in (("scope", move.scope), ("name", move.name)):
        size = len(text.encode())
        if size > MAX_NAME_BYTES or not (size or what == "name"):
            raise InvalidInputError(
                f"the {what} of a checkpoint, {quoted(text)}, is {size} bytes of UTF-8; at most {MAX_NAME_BYTES} are "
                "possible, and a scope has one at least"
            )
    if move.value is not None and len(move.value) > MAX_CHECKPOINT_BYTES:
        raise InvalidInputError(
            f"checkpoint {quoted(move.name)} of {quoted(move.scope)} takes {len(move.value)} bytes; at most "
            f"{MAX_CHECKPOINT_BYTES} are possible"
        )
