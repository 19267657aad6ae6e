"""As-of readers: the head, the list of old segments, records that are kept, and a way through them to a version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dynalayer.testing.model.world import (
    ACKED,
    BASE,
    CURRENT,
    HEAD,
    KEPT,
    LOG,
    OLD,
    RESET,
    SOURCE,
    SOURCE_ITEM,
    WAS,
    Actor,
    Local,
    Segment,
    State,
    Step,
    content_of,
    missing,
    newest,
    remembered,
)

__all__ = ["Historian", "way"]

IDLE, OLDS, READING, CHECKING, LOADING, GONE = range(6)


def way(segments: Iterable[Segment], version: int) -> tuple[Segment, ...]:
    """The base and the deltas that lead to the newest state not above a version; the fewest."""
    ways: dict[int, tuple[Segment, ...]] = {0: ()}
    for segment in sorted(segments, key=lambda each: (each[1], each[0])):
        after, through = segment[:2]
        if through > version:
            break
        before = () if after == BASE else ways.get(after)
        if before is not None and (through not in ways or len(before) + 1 < len(ways[through])):
            ways[through] = (*before, segment)
    return ways[max(ways)]


class Historian(Actor):
    """Reads the partition as it was at a version.

    Args:
        name: As traces call it.
        off: Rules that are switched off.
        versions: The versions that it may ask for.
        rounds: How often it reads.
        resets: Whether there are resets.
    """

    # What it remembers: where it is, flags, the version asked for, whether a reset was acknowledged before, the head as
    # read, the segments known, those found gone, the slot to read next, records read, segments to load, rounds left.

    def __init__(
        self, name: str, off: frozenset[str], *, versions: tuple[int, ...], rounds: int = 1, resets: bool = False
    ) -> None:
        super().__init__(name, (IDLE, 0, 0, 0, (), (), (), 0, (), (), rounds))
        self._versions = versions
        self._resets = resets
        self._head_first = "asof-head-first" not in off
        self._looks_again = "asof-again" not in off
        self._contiguous = "asof-contiguous" not in off
        self._crossed = "asof-crossed" not in off
        self._anew = "asof-moved" not in off

    def steps(self, state: State, at: int) -> Iterator[Step]:
        """See `Actor`."""
        place, rounds = state[at][0], state[at][-1]
        if place == IDLE:
            for version in self._versions if rounds else ():
                if version <= max(newest(state[LOG]), state[HEAD][0]):
                    yield from self._begins(state, at, version)
        else:
            yield _STEPS[place](self, state, at)

    def _looks(self, state: State, at: int) -> Step:
        """A segment is gone: a vacuum came between, and without what it discarded there may be another way."""
        _, _, version, done, _, _, gone, _, _, path, rounds = state[at]
        named_now = state[HEAD][1]
        missed = tuple(segment for segment in path if segment not in named_now and segment not in gone)
        if not missed:
            problem = "an as-of read fails: a segment that the head names is gone"
            return ("fails",), remembered(state, at, self.start), problem
        if not self._looks_again:
            return ("fails",), remembered(state, at, self.start), self._owed(state, version)
        mine = self._first(state, version, done, rounds, (*gone, *missed))
        return ("leaves out what is gone, and looks again",), remembered(state, at, mine), None

    def _begins(self, state: State, at: int, version: int) -> Iterator[Step]:
        done = state[SOURCE][1] if self._resets else 0
        what = "begins for version {}: reads the " + ("head" if self._head_first else "old list")
        mine = self._first(state, version, done, state[at][-1], ())
        yield (what, version), remembered(state, at, mine), None

    def _first(self, state: State, version: int, done: int, rounds: int, gone: tuple[Segment, ...]) -> Local:
        head = state[HEAD] if self._head_first else ()
        old = () if self._head_first else tuple(segment for segment, _ in state[OLD])
        return (OLDS, CURRENT, version, done, head, old, gone, 0, (), (), rounds)

    def _reads_second(self, state: State, at: int) -> Step:
        _, flags, version, done, head, old, gone, _, _, _, rounds = state[at]
        if self._head_first:
            old = tuple(segment for segment, _ in state[OLD])
        else:
            head, flags = state[HEAD], CURRENT
        segments = tuple(sorted({*old, *head[1]}))
        path = way((segment for segment in segments if segment not in gone), version)
        reached = path[-1][1] if path else 0
        mine: Local = (READING, flags, version, done, head, segments, gone, reached + 1, (), path, rounds)
        what = "reads the list of old segments" if self._head_first else "reads the head"
        return (what,), remembered(state, at, mine), None

    def _reads(self, state: State, at: int) -> Step:
        _, flags, version, done, head, segments, gone, slot, records, path, rounds = state[at]
        if slot <= version:
            cell = state[LOG][slot - 1]
            records = (*records, (slot, cell >> 1)) if cell else records
            mine: Local = (READING, flags, version, done, head, segments, gone, slot + 1, records, path, rounds)
            return ("reads slot {}", slot), remembered(state, at, mine), None
        reached = path[-1][1] if path else 0
        hole = len(records) != version - reached
        crossed = any(event >= RESET and there <= head[2] for there, event in records)
        if (hole and self._contiguous) or (crossed and self._crossed):
            mine = (CHECKING, flags, version, done, head, segments, gone, 0, records, path, rounds)
            return ("finds no way to version {}", version), remembered(state, at, mine), None
        mine = (LOADING, flags, version, done, head, segments, gone, 0, records, path, rounds)
        if not path:
            return self._answers(state, at, mine)
        return ("knows a way to version {}", version), remembered(state, at, mine), None

    def _checks(self, state: State, at: int) -> Step:
        _, flags, version, done, _, _, gone, *_, rounds = state[at]
        if self._anew and not flags & CURRENT:
            # What was not folded when the head was read has been since, and has expired.
            mine = self._first(state, version, done, rounds, gone)
            return ("reads the head: it has moved, over again",), remembered(state, at, mine), None
        what = ("reads the head, and fails: version {} is not kept", version)
        return what, remembered(state, at, self._done(rounds)), self._owed(state, version)

    def _loads(self, state: State, at: int) -> Step:
        local = state[at]
        path = local[9]
        # Which of them are loaded stands in the slot.
        if missing(state, path[local[7] : local[7] + 1]):
            return ("finds a segment gone",), remembered(state, at, (GONE, *local[1:])), None
        if local[7] + 1 < len(path):
            return ("loads a segment",), remembered(state, at, (*local[:7], local[7] + 1, *local[8:])), None
        return self._answers(state, at, local)

    def _answers(self, state: State, at: int, local: Local) -> Step:
        _, _, version, done, _, _, _, _, records, path, rounds = local
        events = content_of(path) + tuple(event for _, event in records if not self._resets or event < RESET)
        after = remembered(state, at, self._done(rounds))
        return ("answers for version {}: {}", version, events), after, self._wrong(state, version, done, events)

    def _done(self, rounds: int) -> Local:
        return (IDLE, 0, 0, 0, (), (), (), 0, (), (), rounds - 1)

    def _wrong(self, state: State, version: int, done: int, events: tuple[int, ...]) -> str | None:
        if self._resets:
            if done and version >= state[HEAD][2] and (WAS in events or SOURCE_ITEM not in events):
                return "an as-of read after a reset gives what the reset replaced"
            if WAS in events and SOURCE_ITEM in events:
                return "an as-of read gives part of what was before a reset and part of what is after it"
            return None
        for number, told in enumerate(state[ACKED], 1):
            if 0 < told <= version and (len(events) < told or events[told - 1] != number):
                return f"an as-of read of version {version} misses event {number}, acknowledged at version {told}"
        if len(events) != version:
            return f"an as-of read of version {version} gives {len(events)} events"
        return None

    def _owed(self, state: State, version: int) -> str | None:
        """What is wrong with telling that a version is not kept: what the history names still leads there."""
        path = way({*state[KEPT], *state[HEAD][1]}, version)
        reached = path[-1][1] if path else 0
        kept = all(
            state[LOG][slot - 1] and state[LOG][slot - 1] >> 1 < RESET for slot in range(reached + 1, version + 1)
        )
        return f"an as-of read of version {version} fails, though it is within the history's time" if kept else None


_STEPS: dict[int, Callable[[Historian, State, int], Step]] = {
    OLDS: Historian._reads_second,  # noqa: SLF001 -- its own
    READING: Historian._reads,  # noqa: SLF001
    CHECKING: Historian._checks,  # noqa: SLF001
    LOADING: Historian._loads,  # noqa: SLF001
    GONE: Historian._looks,  # noqa: SLF001
}
