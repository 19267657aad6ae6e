"""The search: every state that can be reached, the nearest first, so that a trace that is found is a shortest one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dynalayer.bulk import paused_collector
from dynalayer.testing.model.world import FIRST, Actor, State, wrong

__all__ = ["Found", "Problem", "Scene", "search"]


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a search begins, and who acts.

    Attributes:
        world: The state without the actors.
        actors: Who acts.
        alike: Positions of actors that differ in nothing, two by two: which of them is where makes no difference.
        resets: Whether there are resets.
    """

    world: State
    actors: Sequence[Actor]
    alike: tuple[tuple[int, int], ...] = ()
    resets: bool = False

    @property
    def start(self) -> State:
        """The first state."""
        return (*self.world, *(actor.start for actor in self.actors))

    def canonical(self, state: State) -> State:
        """The one state that stands for all that differ in nothing that matters."""
        for first, second in self.alike:
            one, other = state[FIRST + first], state[FIRST + second]
            if one != other and hash(one) > hash(other):
                parts = list(state)
                parts[FIRST + first], parts[FIRST + second] = other, one
                state = tuple(parts)
        return state


@dataclass(frozen=True, slots=True)
class Problem:
    """What was found wrong.

    Attributes:
        what: What is wrong.
        path: The states that lead there, from the first.
    """

    what: str
    path: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        states: States that were reached.
        steps: Steps that were taken.
        seconds: How long it took.
        complete: Whether there are no more.
        problem: The nearest thing that is wrong; None where there is nothing.
    """

    states: int
    steps: int
    seconds: float
    complete: bool
    problem: Problem | None


def search(scene: Scene, *, states: int | None = None, deadline: Callable[[], bool] = lambda: False) -> Found:
    """Search all that can be reached.

    Args:
        scene: Where to begin.
        states: States after which to stop.
        deadline: Asked now and then; true stops.
    """
    with paused_collector():  # it would walk through all states again and again, which hold no cycle
        return _search(scene, states, deadline)


def _search(scene: Scene, states: int | None, deadline: Callable[[], bool]) -> Found:
    begun = time.perf_counter()
    start = scene.canonical(scene.start)
    before: dict[State, State | None] = {start: None}
    taken, layer = 0, [start]
    actors = tuple(enumerate(scene.actors, FIRST))

    def found(*, complete: bool, problem: Problem | None = None) -> Found:
        return Found(len(before), taken, time.perf_counter() - begun, complete, problem)

    while layer:
        following: list[State] = []
        for state in layer:
            for at, actor in actors:
                for _, reached, told in actor.steps(state, at):
                    taken += 1
                    after = scene.canonical(reached)
                    if told is None and after in before:
                        continue
                    problem = told or wrong(after, resets=scene.resets)
                    if problem is not None:
                        return found(complete=False, problem=Problem(problem, (*_path(before, state), after)))
                    before[after] = state
                    following.append(after)
            if states is not None and len(before) >= states:
                return found(complete=False)
        if deadline():
            return found(complete=False)
        layer = following
    return found(complete=True)


def _path(before: dict[State, State | None], last: State) -> tuple[State, ...]:
    path, state = [], last
    at: State | None = state
    while at is not None:
        path.append(at)
        at = before[at]
    return tuple(reversed(path))
