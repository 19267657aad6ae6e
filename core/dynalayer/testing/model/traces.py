"""Traces: how a path of states came about, step by step, to be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dynalayer.testing.model.search import Problem, Scene
from dynalayer.testing.model.world import (
    FIRST,
    GHOST,
    HEAD,
    KEPT,
    LOG,
    OLD,
    RESET,
    SOURCE,
    SOURCE_ITEM,
    STORE,
    WAS,
    Segment,
    State,
    named,
)

__all__ = ["Move", "describe", "moves", "steps_from", "tell"]

_WORDS = {WAS: "was", SOURCE_ITEM: "source"}


@dataclass(frozen=True, slots=True)
class Move:
    """A step of a trace.

    Attributes:
        at: Who takes it, counted as in the scene.
        actor: Its name.
        label: What happens, and what belongs into the text.
        after: The state after it, actors where they are in the scene.
    """

    at: int
    actor: str
    label: tuple[object, ...]
    after: State

    @property
    def text(self) -> str:
        """What happens, in words."""
        what, *values = self.label
        return str(what).format(*map(_shown, values))


def moves(scene: Scene, path: Sequence[State]) -> Iterator[Move]:
    """The steps of a path.

    A search takes actors that differ in nothing for each other. Here each stays who it was, so that one can follow it.

    Raises:
        ValueError: No step leads from one of the states to the next.
    """
    state = scene.start
    for canonical in path[1:]:
        for move in steps_from(scene, state):
            if scene.canonical(move.after) == canonical:
                yield move
                state = move.after
                break
        else:
            raise ValueError("no step leads from one state of the path to the next")


def steps_from(scene: Scene, state: State) -> Iterator[Move]:
    """All steps that may come next."""
    for at, actor in enumerate(scene.actors):
        for label, after, _ in actor.steps(state, at + FIRST):
            yield Move(at, actor.name, label, after)


def tell(scene: Scene, problem: Problem) -> Iterator[str]:
    """The lines of a trace: what each actor does, and the world whenever it is another."""
    shown = describe(scene.start)
    yield f"      {shown}"
    for number, move in enumerate(moves(scene, problem.path), 1):
        text = move.text
        between = "" if text.startswith("'") else " "
        yield f"{number:3}.  {move.actor}{between}{text}"
        now = describe(move.after)
        if now != shown:
            yield f"      {now}"
        shown = now
    yield f"Wrong: {problem.what}"


def describe(state: State) -> str:
    """The world of a state in one line."""
    version, segments, reset = state[HEAD]
    log = " ".join(f"{slot}:{_cell(cell)}" for slot, cell in enumerate(state[LOG], 1))
    parts = [f"log {log}", f"head {version} = " + (" + ".join(map(_segment, segments)) or "nothing")]
    if reset:
        parts.append(f"reset {reset}")
    if state[STORE]:
        others = state[STORE][0] - set(segments)
        parts.append("besides stored " + (", ".join(map(named, sorted(others))) or "nothing"))
    if state[OLD] or state[KEPT]:
        parts.append("old " + ", ".join(named(old) + ("" if within else " (past)") for old, within in state[OLD]))
    if state[SOURCE][0] > 1:
        parts.append("source " + ", ".join(str(bit) for bit in range(1, 10) if state[SOURCE][0] >> bit & 1))
    return " | ".join(parts)


def _cell(cell: int) -> str:
    if cell == 0:
        return "-"
    event, marked = cell >> 1, "*" * (cell & 1)
    return {GHOST: "?"}.get(event, _shown(event)) + marked


def _segment(segment: Segment) -> str:
    return f"{named(segment)} [{' '.join(map(_shown, segment[2]))}]"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value)) or "nothing"
    if isinstance(value, int):
        return "RESET" if value >= RESET else _WORDS.get(value, str(value))
    return str(value)
