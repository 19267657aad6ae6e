"""What one who follows was given: at least once, and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynalayer.testing.simulate.world import Simulated

if TYPE_CHECKING:
    from dynalayer.testing.simulate.truth import Truth

__all__ = ["Followed"]


class Followed:
    """How far a consumer has handled events, as he himself knows.

    Args:
        truth: What really happened.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._reached: dict[str, int] = {}
        self._next: dict[str, int] = {}

    def begin(self) -> None:
        """He follows anew: what he has handled may come again."""
        self._next = {}

    def reset(self, partition: str, version: int) -> None:
        """He was told to read a partition whole: what is in it up to a version he has."""
        handled = self._truth.events(partition, version)
        if handled >= self._reached.get(partition, 0):  # else it was committed late, and he goes on where he is
            self._reached[partition] = self._next[partition] = handled

    def take(self, partition: str, place: int) -> None:
        """He handles an event, by its number in the partition, from 0."""
        reached, expected = self._reached.get(partition, 0), self._next.get(partition)
        if place > reached:
            raise Simulated(f"{partition!r}: event {place} is handed out, and event {reached} never was")
        if expected is not None and place != expected:
            raise Simulated(f"{partition!r}: event {place} is handed out where event {expected} comes next")
        self._reached[partition] = max(reached, place + 1)
        self._next[partition] = place + 1

    def check_whole(self, partition: str) -> None:
        """At the end: nothing is left."""
        events, reached = self._truth.events(partition), self._reached.get(partition, 0)
        if reached != events:
            raise Simulated(f"{partition!r}: of {events} events {reached} were handed out")
