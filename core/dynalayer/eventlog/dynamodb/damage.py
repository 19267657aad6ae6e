"""What is found damaged: rows that do not say what they should."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DamagedRowError", "damage_in"]


class DamagedRowError(ValueError):
    """A row that does not say what it should.

    Attributes:
        partition: Whose row it is, where only the place that read it knows.
    """

    partition: str | None = None


@contextmanager
def damage_in(partition: str) -> Iterator[None]:
    """What is found damaged inside is told with its partition."""
    try:
        yield
    except DamagedRowError as error:
        error.partition = partition
        raise
