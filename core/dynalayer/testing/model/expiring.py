"""Time and power: what expires, in any order and at any moment that is allowed, and what a power failure takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dynalayer.testing.model.world import CURRENT, FIRST, HEAD, KEPT, LATE, LOG, OLD, STORE, Actor, State, Step
from dynalayer.testing.model.writing import outdated

__all__ = ["Time"]


class Time(Actor):
    """Lets things expire.

    Args:
        name: As traces call it.
        off: Rules that are switched off.
        writers: Where in the state the writers' memories are.
        resetters: Where the resetters' are: one must commit within the floor.
        history: Whether the history's time passes for old segments.
        power: Whether the power may fail, which takes what is not durable.
    """

    def __init__(
        self, name: str, off: frozenset[str], *, writers: tuple[int, ...], history: bool = False, power: bool = False
    ) -> None:
        super().__init__(name, (0, 0))
        self._writers = writers
        self._history = history
        self._power = power
        self._floor = "floor" not in off
        self._pending_stays = "pending-stays" not in off
        self._head_stays = "head-stays" not in off

    def steps(self, state: State, at: int) -> Iterator[Step]:  # noqa: ARG002 -- time remembers nothing
        """See `Actor`."""
        for slot, cell in enumerate(state[LOG], 1):
            if cell & 1 or (cell and not self._pending_stays):
                yield ("record {} expires", slot), self._expired(state, slot), None
        if not self._head_stays and state[HEAD][0]:
            yield ("the head expires",), self._headless(state), None
        if self._history:
            for segment in state[KEPT]:
                yield ("the history's time passes for a segment through {}", segment[1]), _past(state, segment), None
        if self._power and state[STORE] and state[STORE][2]:
            there, gone, volatile = state[STORE]
            store: tuple[Any, ...] = (there - volatile, gone | volatile, frozenset())
            yield ("the power fails: what is not durable is gone",), (*state[:STORE], store, *state[STORE + 1 :]), None

    def _expired(self, state: State, slot: int) -> State:
        parts = list(state)
        log = state[LOG]
        parts[LOG] = (*log[: slot - 1], 0, *log[slot:])
        if self._floor:
            for writer in self._writers:
                parts[writer] = outdated(state[writer], slot)
        return tuple(parts)

    def _headless(self, state: State) -> State:
        parts = list(state)
        parts[HEAD] = (0, (), 0)
        for other in range(FIRST, len(parts)):
            local = parts[other]
            parts[other] = (local[0], local[1] & ~(CURRENT | LATE), *local[2:])
        return tuple(parts)


def _past(state: State, segment: tuple[object, ...]) -> State:
    old = tuple(sorted((other, 0 if other == segment else kept) for other, kept in state[OLD]))
    kept = tuple(other for other in state[KEPT] if other != segment)
    return (*state[:OLD], old, kept, *state[KEPT + 1 :])
