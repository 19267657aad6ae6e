"""Readers: the head, its segments, the records slot by slot, and the head again at last."""

from __future__ import annotations

from collections.abc import Iterator

from dynalayer.testing.model.world import (
    ACKED,
    GHOST,
    HEAD,
    LOG,
    RESET,
    SOURCE,
    SOURCE_ITEM,
    STORE,
    WAS,
    Actor,
    Local,
    State,
    Step,
    content_of,
    contiguous,
    is_told,
    missing,
    remembered,
)

__all__ = ["Reader"]

IDLE, LOADING, GONE, AGAIN, READING = range(5)
_UNKNOWN: tuple[int, ...] = ()


class Reader(Actor):
    """Reads the partition as it is now, and remembers what it folded.

    Args:
        name: As traces call it.
        off: Rules that are switched off.
        rounds: How often it reads.
        atomic: Read the records and the head in one step.
        resets: Whether there are resets.
    """

    # What it remembers: where it is, flags, what was acknowledged when it began (events as a set of bits, and whether a
    # reset was), the head as read, what was folded (version, reset, events), segments to load, the slot to read next,
    # records read, rounds left.

    def __init__(
        self, name: str, off: frozenset[str], *, rounds: int = 1, atomic: bool = False, resets: bool = False
    ) -> None:
        super().__init__(name, (IDLE, 0, (), _UNKNOWN, _UNKNOWN, (), 0, (), rounds))
        self.atomic = atomic
        self._resets = resets
        self._head_last = "head-last" not in off
        self._restart = "restart" not in off
        self._contiguous = "read-contiguous" not in off
        self._reset_restart = "reset-restart" not in off
        self._head_reset = "head-reset" not in off and self._reset_restart
        self._gone_restart = "gone-restart" not in off

    def steps(self, state: State, at: int) -> Iterator[Step]:
        """See `Actor`."""
        place, _, wanted, head, folded, *_, rounds = state[at]
        if place == IDLE:
            if not rounds:
                return
            wanted = (self._acknowledged(state), state[SOURCE][1] if self._resets else 0)
            if folded:
                mine: Local = (READING, 0, wanted, state[HEAD], folded, (), folded[0] + 1, (), rounds)
                step = self._reads(remembered(state, at, mine), at)
                yield (("begins with what it remembers, and " + step[0][0], *step[0][1:]), *step[1:])
            else:
                yield ("begins: reads the head",), self._loads(state, at, wanted, state[HEAD]), None
        elif place == LOADING:
            yield self._loaded(state, at)
        elif place == GONE:
            if state[HEAD] == head or not self._gone_restart:
                problem = "a segment that the head named is gone"
                problem += (
                    ", and the head has not moved" if state[HEAD] == head else ": an error, though the head has moved"
                )
                yield ("fails",), remembered(state, at, self.start), problem
            else:
                mine = (AGAIN, 0, wanted, head, _UNKNOWN, (), 0, (), rounds)
                yield ("reads the head: it has moved",), remembered(state, at, mine), None
        elif place == AGAIN:
            yield ("reads the head again",), self._loads(state, at, wanted, state[HEAD]), None
        else:
            yield self._reads(state, at)

    def _acknowledged(self, state: State) -> int:
        return sum(1 << number for number, version in enumerate(state[ACKED], 1) if version > 0)

    def _loads(self, state: State, at: int, wanted: tuple[int, ...], head: tuple[object, ...]) -> State:
        rounds = state[at][-1]
        version, segments, reset = head
        if state[STORE] and segments:
            return remembered(state, at, (LOADING, 0, wanted, head, _UNKNOWN, segments, 0, (), rounds))
        folded = (version, reset, content_of(segments))  # type: ignore[arg-type]
        return remembered(state, at, (READING, 0, wanted, head, folded, (), version + 1, (), rounds))  # type: ignore[operator]

    def _loaded(self, state: State, at: int) -> Step:
        _, _, wanted, head, _, segments, *_, rounds = state[at]
        if missing(state, segments[:1]):
            gone = (GONE, 0, wanted, head, _UNKNOWN, (), 0, (), rounds)
            return ("finds a segment gone",), remembered(state, at, gone), None
        if segments[1:]:
            mine: Local = (LOADING, 0, wanted, head, _UNKNOWN, segments[1:], 0, (), rounds)
        else:
            mine = (READING, 0, wanted, head, (head[0], head[2], content_of(head[1])), (), head[0] + 1, (), rounds)
        return ("loads a segment",), remembered(state, at, mine), None

    def _reads(self, state: State, at: int) -> Step:
        mine: Local
        place, _, wanted, head, folded, _, slot, records, rounds = state[at]
        log = state[LOG]
        if self.atomic:
            records = tuple(
                (version, log[version - 1] >> 1) for version in range(slot, len(log) + 1) if log[version - 1]
            )
        elif slot <= len(log):
            cell = log[slot - 1]
            if cell:
                records = (*records, (slot, cell >> 1))
            mine = (place, 0, wanted, head, folded, (), slot + 1, records, rounds)
            return ("reads slot {}: {}", slot, _shown(cell)), remembered(state, at, mine), None
        last = state[HEAD] if self._head_last else head
        if self._is_over(folded, records, last):
            return ("reads the head at last: over again",), self._loads(state, at, wanted, last), None
        run = contiguous(records, folded[0]) if self._contiguous else records
        events = folded[2] + tuple(event for _, event in run if not self._resets or event < RESET)
        version = run[-1][0] if run else folded[0]
        mine = (IDLE, 0, (), _UNKNOWN, (version, folded[1], events) if rounds > 1 else _UNKNOWN, (), 0, (), rounds - 1)
        return (
            ("reads the head at last, and answers {}", events),
            remembered(state, at, mine),
            self._wrong(state, wanted, events),
        )

    def _is_over(self, folded: tuple[int, ...], records: tuple[tuple[int, int], ...], last: tuple[int, ...]) -> bool:
        """Whether it must start over, with that head."""
        run = contiguous(records, folded[0])
        end = run[-1][0] if run else folded[0]
        if end < last[0] and self._restart:
            return True
        if self._head_reset and folded[1] != last[2]:
            return True
        if self._reset_restart and any(event >= RESET and version <= last[0] for version, event in run):
            return True
        return self._contiguous and len(run) < len(records)

    def _wrong(self, state: State, wanted: tuple[int, int], events: tuple[int, ...]) -> str | None:
        if GHOST in events:
            return "a row without events is read: damaged, says the reader"
        found = is_told(state[ACKED], wanted[0], events, resets=self._resets)
        if found is None and self._resets:
            old, new = WAS in events, SOURCE_ITEM in events
            if wanted[1] and (old or not new):
                return "what a reset replaced is read after it was acknowledged"
            if old and new:
                return "a read gives part of what was before a reset and part of what is after it"
        return found


def _shown(cell: int) -> object:
    if cell == 0:
        return "nothing"
    if cell == 2 * GHOST + 1:
        return "a row without events"
    return "RESET" if cell >> 1 >= RESET else cell >> 1
