"""A vacuum: it lists, raises the head's revision, and discards what it had listed and nothing names."""

from __future__ import annotations

from collections.abc import Iterator

from dynalayer.testing.model.world import (
    CURRENT,
    HEAD,
    LATE,
    OLD,
    STORE,
    UNFENCED,
    Actor,
    Local,
    State,
    Step,
    moved,
    remembered,
)

__all__ = ["Vacuum"]

IDLE, HEADS, RAISING, OLDS, DISCARDING, FORGETTING = range(6)


class Vacuum(Actor):
    """Discards segments that neither the head nor the history names.

    Args:
        name: As traces call it.
        off: Rules that are switched off.
        rounds: How often it runs.
    """

    # What it remembers: where it is, flags, what was listed, the head's segments as it raised it, old segments (each
    # with whether it is within the history's time), what to discard, rounds left.

    def __init__(self, name: str, off: frozenset[str], *, rounds: int = 1) -> None:
        super().__init__(name, (IDLE, 0, (), (), (), (), rounds))
        self._fence = "fence" not in off
        self._counted = "vacuums" not in off
        self._list_first = "list-first" not in off
        self._old_last = "old-last" not in off
        self._history = "history-kept" not in off

    def steps(self, state: State, at: int) -> Iterator[Step]:
        """See `Actor`."""
        place, _, listed, named, old, doomed, rounds = state[at]
        if place == IDLE:
            if rounds:
                listed = self._listed(state) if self._list_first else ()
                old = state[OLD] if not self._old_last else ()
                yield ("lists the store",), remembered(state, at, (HEADS, 0, listed, (), old, (), rounds)), None
        elif place == HEADS:
            mine: Local = (RAISING, CURRENT, listed, state[HEAD][1], old, (), rounds)
            yield ("reads the head",), remembered(state, at, mine), None
        elif place == RAISING:
            yield self._raises(state, at)
        elif place == OLDS:
            listed = listed if self._list_first else self._listed(state)
            old = state[OLD] if self._old_last else old
            doomed = self._doomed(listed, named, old)
            mine = (DISCARDING, 0, (), named, old, doomed, rounds) if doomed else self._after(state[at], named, old)
            yield ("reads the list of old segments",), remembered(state, at, mine), None
        elif place == DISCARDING:
            yield self._discards(state, at)
        else:
            gone = self._expired(named, old)
            kept = tuple(each for each in state[OLD] if each[0] not in gone)
            after = (*state[:OLD], kept, *state[OLD + 1 :])
            yield ("takes what it discarded off the list",), remembered(after, at, self._done(state[at])), None

    def _raises(self, state: State, at: int) -> Step:
        _, flags, listed, named, old, _, rounds = state[at]
        mine: Local = (OLDS, 0, listed, named, old, (), rounds)
        if not self._fence:
            return ("does not raise the head's revision",), remembered(state, at, mine), None
        if not flags & CURRENT:
            mine = (HEADS, 0, listed, (), old, (), rounds)
            return ("does not raise the head: another moved it",), remembered(state, at, mine), None
        after = moved(state, at, state[HEAD], mine, CURRENT | LATE | UNFENCED)
        return ("raises the head's revision",), after, None

    def _listed(self, state: State) -> tuple[object, ...]:
        return tuple(sorted(state[STORE][0]))

    def _doomed(
        self, listed: tuple[object, ...], named: tuple[object, ...], old: tuple[tuple[object, int], ...]
    ) -> tuple[object, ...]:
        kept = {segment for segment, within in old if within} if self._history else set()
        return tuple(segment for segment in listed if segment not in named and segment not in kept)

    def _expired(self, named: tuple[object, ...], old: tuple[tuple[object, int], ...]) -> set[object]:
        return {segment for segment, within in old if not within and segment not in named}

    def _discards(self, state: State, at: int) -> Step:
        _, _, _, named, old, doomed, rounds = local = state[at]
        there, gone, volatile = state[STORE]
        segment = doomed[0]
        if segment in there:
            there, gone = there - {segment}, gone | {segment}
        after = (*state[:STORE], (there, gone, volatile), *state[STORE + 1 :])
        mine = (DISCARDING, 0, (), named, old, doomed[1:], rounds) if doomed[1:] else self._after(local, named, old)
        return ("discards a segment through version {}", segment[1]), remembered(after, at, mine), None

    def _after(self, local: Local, named: tuple[object, ...], old: tuple[tuple[object, int], ...]) -> Local:
        return (FORGETTING, 0, (), named, old, (), local[6]) if self._expired(named, old) else self._done(local)

    def _done(self, local: Local) -> Local:
        return (IDLE, 0, (), (), (), (), local[6] - 1)
