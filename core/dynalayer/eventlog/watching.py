"""Finding partitions in which something has happened, without asking each of them each time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["UNTOLD", "Reached", "Watch", "WholeWatch"]

UNTOLD = 2**63 - 1
"""A version that stands for one that is not told: look there."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a partition is known to have come.

    Attributes:
        version: There is a record of this version; `UNTOLD` where only a look at the partition tells.
        reset: Version of the last committed reset; 0 where none is told.
    """

    version: int
    reset: int = 0


class Watch(ABC):
    """What somebody who follows a log looks through, again and again. It belongs to one thread at a time."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abstractmethod
    def look(self) -> Mapping[str, Reached]:
        """Partitions in which something may have happened since the last look, each with how far it has come.

        It may name others too, and what a service shows late it may name late, or not at all: `EventLog.survey`,
        asked from time to time, tells of the rest.
        """


class WholeWatch(Watch):
    """For a log that can cheaply tell of all its partitions: nothing is late, and nothing left out.

    Args:
        survey: The log's.
        token: What is another once something has been appended; None: all partitions are compared at each look.
    """

    def __init__(self, survey: Callable[[], Mapping[str, Reached]], token: Callable[[], object] | None = None) -> None:
        self._survey = survey
        self._token = token
        self._seen: Mapping[str, Reached] = {}
        self._seen_at: object = None

    def look(self) -> Mapping[str, Reached]:
        """See `Watch`."""
        now = self._token() if self._token is not None else None
        if now is not None and now == self._seen_at:
            return {}
        # The token was read before: what comes between is in what is reached, and told once more by the next look.
        reached = self._survey()
        changed = {partition: told for partition, told in reached.items() if self._seen.get(partition) != told}
        self._seen, self._seen_at = reached, now
        return changed
