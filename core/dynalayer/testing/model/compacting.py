"""Compactors: they make one segment of several, which takes their place in the head if they still begin it."""

from __future__ import annotations

from collections.abc import Iterator

from dynalayer.testing.model.world import (
    BASE,
    CURRENT,
    HEAD,
    LATE,
    STORE,
    UNFENCED,
    Actor,
    Local,
    Segment,
    State,
    Step,
    content_of,
    missing,
    remembered,
    replaced,
    stored,
)

__all__ = ["Compactor"]

IDLE, LOADING, GONE, MOVING, UNSURE = range(5)
_NO_HEAD: tuple[int, ...] = ()


class Compactor(Actor):
    """Makes a new base of a base and its deltas.

    Args:
        name: As traces call it.
        off: Rules that are switched off.
        rounds: How often it compacts.
        faults: Answers of its compare-and-set that may be lost or late.
    """

    # What it remembers: where it is, flags, the head as read, segments to load, those to be replaced, what replaces
    # them, the same of a move that is still under way, rounds left, faults left, whether it was not answered.

    def __init__(self, name: str, off: frozenset[str], *, rounds: int = 1, faults: int = 0) -> None:
        super().__init__(name, (IDLE, 0, _NO_HEAD, (), (), (), (), rounds, faults, 0))
        self._cas = "cas" not in off
        self._begins = "compaction-begins" not in off
        self._vacuums = "vacuums" not in off
        self._listed = "old-listed" not in off
        self._fresh = "fresh-name" not in off

    def steps(self, state: State, at: int) -> Iterator[Step]:
        """See `Actor`."""
        local = state[at]
        place = local[0]
        if local[6]:
            yield self._arrives(state, at)
        if place == IDLE:
            if local[7] and len(state[HEAD][1]) > 1:
                yield ("reads the head",), remembered(state, at, self._begun(state, local)), None
        elif place == LOADING:
            yield self._loads(state, at)
        elif place == GONE:
            problem = None
            if local[1] & CURRENT:
                problem = "a segment that the head named is gone, and the head has not moved"
            mine = self._begun(state, local) if len(state[HEAD][1]) > 1 else self._ended(local)
            yield ("reads the head: it has moved, over again",), remembered(state, at, mine), problem
        elif place == MOVING:
            yield from self._moves(state, at)
        else:
            yield self._is_sure(state, at)

    def _begun(self, state: State, local: Local) -> Local:
        head = state[HEAD]
        return (LOADING, local[1] & LATE | CURRENT | UNFENCED, head, head[1], (), (), *local[6:])

    def _ended(self, local: Local) -> Local:
        return (IDLE, local[1] & LATE, _NO_HEAD, (), (), (), local[6], local[7] - 1, local[8], 0)

    def _loads(self, state: State, at: int) -> Step:
        _, flags, head, left, *rest = state[at]
        if missing(state, left[:1]):
            return ("finds a segment gone",), remembered(state, at, (GONE, flags, head, (), *rest)), None
        if len(left) > 1 and state[STORE]:
            return ("loads a segment",), remembered(state, at, (LOADING, flags, head, left[1:], *rest)), None
        segments = head[1]
        through = segments[-1][1]
        merged: Segment = (BASE, through, content_of(segments), 0)
        named, state = stored(state, merged, fresh=self._fresh)
        mine = (MOVING, flags, head, (), segments, named, *rest[2:])
        return ("writes one base through version {}", through), remembered(state, at, mine), None

    def _head(self, local: Local) -> tuple[object, ...]:
        """What the head becomes."""
        version, segments, reset = local[2]
        merging, merged = local[4:6]
        if not self._begins:
            return (version, (merged,), reset)
        return (version, (merged, *segments[len(merging) :]), reset)

    def _still_fits(self, segments: tuple[Segment, ...], local: Local) -> bool:
        """Whether what it merged still begins the head's list, and what it wrote cannot be gone."""
        merging = local[4]
        begins = segments[: len(merging)] == merging or not self._begins
        return begins and bool(local[1] & UNFENCED or not self._vacuums)

    def _moves(self, state: State, at: int) -> Iterator[Step]:
        local = state[at]
        _, flags, head, _, merging, merged, late, rounds, faults, _ = local
        new = self._head(local)
        wins = flags & CURRENT or not self._cas
        if wins:
            ended = self._ended((MOVING, flags & ~LATE, *local[2:]))
            after = replaced(state, at, new, ended, listed=self._listed)
            yield ("moves the head to the new base",), after, None
        else:
            mine: Local = (UNSURE, flags, *local[2:])
            yield ("does not move the head: another has",), remembered(state, at, mine), None
        if faults:
            mine = (UNSURE, flags, head, (), merging, merged, late, rounds, faults - 1, 1)
            what = (
                "moves the head to the new base; the answer is lost"
                if wins
                else "does not move the head; the answer is lost"
            )
            if wins:
                mine = (UNSURE, flags & UNFENCED, *mine[2:])
                yield (what,), replaced(state, at, new, mine, listed=self._listed), None
            else:
                yield (what,), remembered(state, at, mine), None
            if not late:
                flags = (flags & ~LATE) | ((flags & CURRENT) and LATE)
                mine = (UNSURE, flags, head, (), merging, merged, new, rounds, faults - 1, 1)
                yield ("asks for the head to move to the new base; that is late",), remembered(state, at, mine), None

    def _is_sure(self, state: State, at: int) -> Step:
        local = state[at]
        _, flags, _, _, merging, merged, late, *rest = local
        if merged in state[HEAD][1]:
            return ("finds its base in the head",), remembered(state, at, self._ended(local)), None
        if local[9]:
            return ("does not find its base in the head: fails",), remembered(state, at, self._ended(local)), None
        if not self._still_fits(state[HEAD][1], local):
            again = len(state[HEAD][1]) > 1
            mine = self._begun(state, local) if again else self._ended(local)
            return ("reads the head: others were there",), remembered(state, at, mine), None
        mine = (MOVING, flags | CURRENT, state[HEAD], (), merging, merged, late, *rest)
        return ("reads the head, to try again with the base that it wrote",), remembered(state, at, mine), None

    def _arrives(self, state: State, at: int) -> Step:
        """A move that was under way comes to the head."""
        local = state[at]
        new = local[6]
        mine = (*local[:6], (), *local[7:])
        if local[1] & LATE or not self._cas:
            mine = (local[0], local[1] & ~(CURRENT | LATE), *mine[2:])
            return (
                ("'s late move moves the head to its base",),
                replaced(state, at, new, mine, listed=self._listed),
                None,
            )
        return ("'s late move comes too late",), remembered(state, at, mine), None
