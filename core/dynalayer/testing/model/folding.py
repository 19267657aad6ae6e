"""Syncers: they read the run, write a segment, move the head and mark what they folded; any may stop anywhere."""

from __future__ import annotations

from collections.abc import Iterator

from dynalayer.testing.model.world import (
    BASE,
    CURRENT,
    GHOST,
    HEAD,
    LATE,
    LOG,
    LOOKED,
    RESET,
    Actor,
    Local,
    Segment,
    State,
    Step,
    content_of,
    contiguous,
    moved,
    put,
    remembered,
    replaced,
    stored,
)

__all__ = ["Syncer", "marked"]

IDLE, LOOKING, READING, WRITING, MOVING, UNSURE, AGAIN, MARKING, HALF = range(9)

_NO_HEAD: tuple[int, ...] = ()


class Syncer(Actor):
    """Folds what is pending.

    Args:
        name: As traces call it.
        off: Rules that are switched off.
        rounds: How often it syncs.
        faults: Answers of its compare-and-set that may be lost or late.
        deltas: Whether it writes deltas on a base; else a base each time.
        atomic: Read the run and the head in one step.
        resets: Whether there are records of kind RESET, which alone are not folded.
        own: Tell its segments from other syncers' with the same events, where the store does not.
    """

    # What it remembers: where it is, flags, the head as read, the slot to read next, records read, slots to mark, what
    # it makes of the head, the same of a move that is still under way, rounds left, faults left, whether it was not
    # answered (1: and moved the head).

    def __init__(
        self,
        name: str,
        off: frozenset[str],
        *,
        rounds: int = 1,
        faults: int = 0,
        deltas: bool = True,
        atomic: bool = False,
        resets: bool = False,
        own: bool = False,
    ) -> None:
        super().__init__(name, (IDLE, 0, _NO_HEAD, 0, (), (), _NO_HEAD, _NO_HEAD, rounds, faults, 0))
        self._deltas = deltas
        self.atomic = atomic
        self._resets = resets
        self._own = own
        self._cas = "cas" not in off
        self._one_write = "one-write" not in off
        self._marks_after = "marks-after-move" not in off
        self._condition = "mark-condition" not in off
        self._contiguous = "sync-contiguous" not in off
        self._own_move = "own-move" not in off
        self._fresh = "fresh-name" not in off
        self._durable = "durable" not in off
        self._raises = CURRENT | LATE if "revision" not in off else 0
        self._retires = "old-listed" not in off

    def steps(self, state: State, at: int) -> Iterator[Step]:
        """See `Actor`."""
        local = state[at]
        place = local[0]
        if local[7]:
            yield self._arrives(state, at)
        if place == IDLE:
            if local[8]:
                yield ("reads the head",), remembered(state, at, self._begun(state, local, LOOKING)), None
        elif place == READING:
            yield self._reads(state, at)
        elif place == MOVING:
            yield from self._moves(state, at)
        elif place == MARKING:
            yield self._marks(state, at)
        else:
            yield self._goes_on(state, at)

    def _goes_on(self, state: State, at: int) -> Step:
        local = state[at]
        place = local[0]
        if place == LOOKING:
            return self._looks(state, at)
        if place == WRITING:
            return self._writes(state, at)
        if place == UNSURE:
            return self._is_sure(state, at)
        if place == HALF:
            return self._moves_refs(state, at)
        # What was left unmarked is looked for once it is known that there is something to fold.
        return ("reads the head again",), remembered(state, at, self._begun(state, local, READING)), None

    def _begun(self, state: State, local: Local, place: int) -> Local:
        head = state[HEAD]
        place = place if head[0] else READING
        return (place, (local[1] & LATE) | CURRENT, head, head[0] + 1, (), (), _NO_HEAD, *local[7:])

    def _looks(self, state: State, at: int) -> Step:
        """Find what others folded and did not come to mark."""
        local = state[at]
        left = tuple(
            slot for slot in range(1, local[2][0] + 1) if state[LOG][slot - 1] and not state[LOG][slot - 1] & 1
        )
        after = WRITING if local[4] else READING
        mine = (MARKING if left else after, local[1] | LOOKED, *local[2:5], left, *local[6:])
        return ("looks for folded records that are not marked: {}", left or "none"), remembered(state, at, mine), None

    def _reads(self, state: State, at: int) -> Step:
        """Read a slot, and after the last one the head."""
        place, flags, head, slot, records, *rest = state[at]
        log = state[LOG]
        if self.atomic:
            records = tuple(
                (version, log[version - 1] >> 1) for version in range(slot, len(log) + 1) if log[version - 1]
            )
            slot = len(log) + 1
        elif slot <= len(log):
            cell = log[slot - 1]
            if cell:
                records = (*records, (slot, cell >> 1))
            mine: Local = (place, flags, head, slot + 1, records, *rest)
            return ("reads slot {}: {}", slot, _shown(cell)), remembered(state, at, mine), None
        if not flags & CURRENT:
            head = state[HEAD]
            mine = (READING, flags & LATE | CURRENT, head, head[0] + 1, (), *rest)
            return ("reads the head after the records: it has moved, over again",), remembered(state, at, mine), None
        run = contiguous(records, head[0]) if self._contiguous else records
        if records and not run:
            # Records were put while it passed: what is missing is there by now.
            mine = (READING, flags, head, head[0] + 1, (), *rest)
            return ("reads the head after the records: a hole, over again",), remembered(state, at, mine), None
        if not any(event < RESET for _, event in run):
            return ("finds nothing to fold",), remembered(state, at, self._ended(state[at])), None
        place = WRITING if flags & LOOKED or not head[0] else LOOKING
        mine = (place, flags, head, 0, run, *rest)
        return ("reads the head after the records: as it was",), remembered(state, at, mine), None

    def _writes(self, state: State, at: int) -> Step:
        _, flags, head, _, run, _, _, *rest = state[at]
        version, segments, reset = head
        tag = at * 4 + rest[1] if self._own else 0
        last = run[-1][0]
        events = tuple(event for _, event in run if not self._resets or event < RESET)
        if segments and self._deltas:
            segment: Segment = (version, last, events, tag)
        else:
            segment = (BASE, last, content_of(segments) + events, tag)
            segments = ()
        named, state = stored(state, segment, fresh=self._fresh, durable=self._durable)
        new = (last, (*segments, named), reset)
        slots = tuple(slot for slot, _ in run)
        place = MOVING if self._marks_after else MARKING
        mine = (place, flags, head, 0, (), slots, new, *rest)
        return ("writes a segment through version {}", last), remembered(state, at, mine), None

    def _moves(self, state: State, at: int) -> Iterator[Step]:
        _, flags, head, _, _, slots, new, late, rounds, faults, _ = state[at]
        wins = flags & CURRENT or not self._cas
        if wins:
            mine: Local = (MARKING, CURRENT, new, 0, (), slots, new, late, rounds, faults, 0)
            if not self._marks_after:
                mine = self._ended(state[at])
            if self._one_write:
                yield ("moves the head to version {}", new[0]), self._moved(state, at, new, mine), None
            else:
                half = (new[0], state[HEAD][1], new[2])
                mine = (HALF, *mine[1:])
                yield ("moves the head's version to {}", new[0]), moved(state, at, half, mine), None
        else:
            mine = (UNSURE, flags & LATE, head, 0, (), slots, new, late, rounds, faults, 0)
            yield ("does not move the head: another has",), remembered(state, at, mine), None
        if faults:
            mine = (
                UNSURE,
                0 if wins else flags & LATE,
                head,
                0,
                (),
                slots,
                new,
                late,
                rounds,
                faults - 1,
                1 if wins else 2,
            )
            after = self._moved(state, at, new, mine) if wins else remembered(state, at, mine)
            what = (
                "moves the head to version {}; the answer is lost"
                if wins
                else "does not move the head; the answer is lost"
            )
            yield (what, new[0]), after, None
            if not late:
                flags = (flags & CURRENT) and LATE
                mine = (UNSURE, flags, head, 0, (), slots, new, new, rounds, faults - 1, 2)
                yield (
                    ("asks for the head to move to version {}; that is late", new[0]),
                    remembered(state, at, mine),
                    None,
                )

    def _moved(self, state: State, at: int, new: tuple[object, ...], mine: Local) -> State:
        return replaced(state, at, new, mine, listed=self._retires, lost=self._raises)

    def _moves_refs(self, state: State, at: int) -> Step:
        _, _, _, _, _, slots, new, late, rounds, faults, _ = state[at]
        mine = (MARKING, CURRENT, new, 0, (), slots, new, late, rounds, faults, 0)
        return ("moves the head's segments",), moved(state, at, (state[HEAD][0], *new[1:]), mine), None

    def _is_sure(self, state: State, at: int) -> Step:
        """Read the head: is the segment named there, it was this move that moved it."""
        local = state[at]
        new = local[6]
        if not self._own_move:
            problem = "events were folded, and the sync that did so tells that it failed" if local[10] == 1 else None
            return ("takes the move for one that failed",), remembered(state, at, self._ended(local)), problem
        if local[10] and new[1][-1] in state[HEAD][1]:
            mine = (MARKING, local[1], new, 0, (), local[5], new, *local[7:10], 0)
            return ("finds its own segment in the head",), remembered(state, at, mine), None
        if local[10]:  # unanswered, and not moved so far: the sync fails, though the move may still come
            return ("does not find its segment in the head: fails",), remembered(state, at, self._ended(local)), None
        mine = (AGAIN, local[1] & LATE, *local[2:5], (), _NO_HEAD, *local[7:])
        return ("does not find its segment in the head",), remembered(state, at, mine), None

    def _marks(self, state: State, at: int) -> Step:
        place, flags, head, slot, run, slots, new, late, rounds, faults, untold = local = state[at]
        marks, slots = slots[0], slots[1:]
        log = marked(state[LOG], marks, condition=self._condition)
        if slots:
            mine: Local = (place, flags, head, slot, run, slots, new, late, rounds, faults, untold)
        elif not new:
            mine = (WRITING if run else READING, *local[1:5], (), *local[6:])
        elif not self._marks_after:
            every = tuple(version for version in range(head[0] + 1, new[0] + 1))
            mine = (MOVING, flags, head, slot, run, every, new, late, rounds, faults, untold)
        else:
            mine = self._ended(local)
        what = "marks record {}" if log != state[LOG] else "finds record {} marked or gone"
        return (what, marks), put(state, LOG, log, at, mine), None

    def _ended(self, local: Local) -> Local:
        return (IDLE, local[1] & LATE, _NO_HEAD, 0, (), (), _NO_HEAD, local[7], local[8] - 1, local[9], 0)

    def _arrives(self, state: State, at: int) -> Step:
        """A move that was under way comes to the head."""
        local = state[at]
        late = local[7]
        if local[1] & LATE or not self._cas:
            mine = (local[0], local[1] & ~(CURRENT | LATE), *local[2:7], _NO_HEAD, *local[8:])
            return ("'s late move moves the head to version {}", late[0]), self._moved(state, at, late, mine), None
        mine = (*local[:7], _NO_HEAD, *local[8:])
        return ("'s late move comes too late",), remembered(state, at, mine), None


def marked(log: tuple[int, ...], slot: int, *, condition: bool) -> tuple[int, ...]:
    """The log once a record is marked; without the condition of its being there as pending a row comes up anew."""
    cell = log[slot - 1]
    if cell == 0 and not condition:
        return (*log[: slot - 1], 2 * GHOST + 1, *log[slot:])
    return (*log[: slot - 1], cell | 1, *log[slot:]) if cell else log


def _shown(cell: int) -> object:
    if cell == 0:
        return "nothing"
    if cell == 2 * GHOST + 1:
        return "a row without events"
    return "RESET" if cell >> 1 >= RESET else cell >> 1
