"""Resets: the tail noted, the source scanned, a RESET record, and a base at its version with later events on top."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dynalayer.testing.model.world import (
    BASE,
    CURRENT,
    HEAD,
    LATE,
    LOG,
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
    newest,
    put,
    remembered,
    replaced,
    stored,
)

__all__ = ["Resetter"]

IDLE, SCANNING, SCANNED, NOTING, HEADS, APPENDING, READING, WRITING, MOVING, UNSURE = range(10)
_NO_HEAD: tuple[int, ...] = ()
_ODD = 0b1010101010  # what the first page of a scan holds, the source's own item aside


class Resetter(Actor):
    """Puts what the source table holds, or what another program kept, in place of the snapshot.

    Args:
        name: As traces call it.
        off: Rules that are switched off.
        number: Tells its records from others'.
        faults: Answers of its compare-and-set that may be lost or late.
        takeover: Take over items that are older than all events, in place of a scan.
        atomic: Read the run in one step.
    """

    # What it remembers: where it is, flags, the noted tail, the items scanned, the version of its record, the head as
    # read, the slot to read next, records read, what it makes of the head, the same of a move that is still under way,
    # faults left, whether it was not answered, records appended.

    def __init__(
        self,
        name: str,
        off: frozenset[str],
        *,
        number: int = 0,
        faults: int = 0,
        takeover: bool = False,
        atomic: bool = False,
    ) -> None:
        super().__init__(name, (IDLE, 0, 0, 0, 0, _NO_HEAD, 0, (), _NO_HEAD, _NO_HEAD, faults, 0, 0))
        self._number = number
        self._takeover = takeover
        self.atomic = atomic
        self._cas = "cas" not in off
        self._tail_first = "reset-tail-first" not in off
        self._strong = "reset-strong" not in off
        self._refold = "reset-refold" not in off
        self._again = "reset-again" not in off
        self._whole = "reset-floor" not in off
        self._first = "takeover-first" not in off
        self._listed = "old-listed" not in off

    def steps(self, state: State, at: int) -> Iterator[Step]:
        """See `Actor`."""
        local = state[at]
        place = local[0]
        if local[9]:
            yield self._arrives(state, at)
        if place == IDLE:
            if not local[12]:
                yield from self._begins(state, at)
        elif place in _SEVERAL:
            yield from _SEVERAL[place](self, state, at)
        else:
            yield _ONE[place](self, state, at)

    def _begins(self, state: State, at: int) -> Iterator[Step]:
        local = state[at]
        if not self._takeover:
            if self._tail_first:
                yield self._notes(state, at)
            else:
                yield from self._scans(state, at)
            return
        version, segments, _ = state[HEAD]
        if self._first and any(event < WAS for event in content_of(segments)):
            yield ("is refused: events were folded",), remembered(state, at, self._ended(local)), None
            return
        mine: Local = (HEADS, 0, version, 1, *local[4:])
        yield ("reads the head, and takes items that are older than all events",), remembered(state, at, mine), None

    def _notes(self, state: State, at: int) -> Step:
        local = state[at]
        then = SCANNING if self._tail_first else HEADS
        tail = max(newest(state[LOG]), state[HEAD][0])
        return ("notes the tail: {}", tail), remembered(state, at, (then, 0, tail, *local[3:])), None

    def _scans(self, state: State, at: int) -> Iterator[Step]:
        """Scan the source in two pages."""
        local = state[at]
        items, _ = state[SOURCE]
        second = local[0] == SCANNED
        page = items & ~(_ODD | 1) if second else items & (_ODD | 1)
        then = SCANNED
        if second:
            then = HEADS if self._tail_first else NOTING
        stale = [page] if self._strong else [page, *(page & ~(1 << bit) for bit in range(1, 10) if page >> bit & 1)]
        for seen in stale:
            mine: Local = (then, 0, local[2], local[3] | seen, *local[4:])
            yield ("scans a page of the source: {}", _bits(seen)), remembered(state, at, mine), None

    def _reads_head(self, state: State, at: int) -> Step:
        local = state[at]
        head, version = state[HEAD], local[4]
        then = READING
        if not version or (self._again and version <= head[0]):
            then = APPENDING
        mine = (
            then,
            local[1] & LATE | CURRENT,
            local[2],
            local[3],
            version,
            head,
            local[2] + 1,
            (),
            _NO_HEAD,
            *local[9:],
        )
        return ("reads the head",), remembered(state, at, mine), None

    def _appends(self, state: State, at: int) -> Iterator[Step]:
        local = state[at]
        log = state[LOG]
        version = max(newest(log), state[HEAD][0]) + 1
        if version > len(log):
            return
        event = RESET + 4 * self._number + local[12]
        log = (*log[: version - 1], 2 * event, *log[version:])
        mine = (READING, *local[1:4], version, *local[5:12], local[12] + 1)
        yield ("appends a record RESET: slot {}", version), put(state, LOG, log, at, mine), None

    def _reads(self, state: State, at: int) -> Step:
        local = state[at]
        above, version, slot, records = local[2], local[4], local[6], local[7]
        log = state[LOG]
        if self.atomic:
            records = tuple((each, log[each - 1] >> 1) for each in range(above + 1, version + 1) if log[each - 1])
        elif slot <= version:
            cell = log[slot - 1]
            records = (*records, (slot, cell >> 1)) if cell else records
            mine = (*local[:6], slot + 1, records, *local[8:])
            return ("reads slot {}", slot), remembered(state, at, mine), None
        if self._whole and len(records) != version - above:
            # What is gone does not come again: it tries a bounded number of times, and fails.
            return ("finds records missing: fails",), remembered(state, at, self._ended(local)), None
        return (
            ("has read the records above the tail",),
            remembered(state, at, (WRITING, *local[1:6], 0, records, *local[8:])),
            None,
        )

    def _writes(self, state: State, at: int) -> Step:
        local = state[at]
        items, version, records = local[3], local[4], local[7]
        events = tuple(event for _, event in records if event < RESET) if self._refold else ()
        scanned = tuple(bit for bit in _bits(items) if bit not in events)
        first = (SOURCE_ITEM,) if items & 1 else ()
        segment: Segment = (BASE, version, (*first, *scanned, *events), 0)
        named, state = stored(state, segment)
        mine = (MOVING, *local[1:6], 0, (), (version, (named,), version), *local[9:])
        return ("writes a base at version {}: {}", version, named[2]), remembered(state, at, mine), None

    def _moves(self, state: State, at: int) -> Iterator[Step]:
        local = state[at]
        flags, new, late, faults = local[1], local[8], local[9], local[10]
        wins = flags & CURRENT or not self._cas
        if wins:
            yield ("moves the head to its base at version {}", new[0]), self._done(state, at, new), None
        else:
            mine: Local = (UNSURE, *local[1:11], 0, local[12])
            yield ("does not move the head: another has",), remembered(state, at, mine), None
        if faults:
            mine = (UNSURE, 0 if wins else flags, *local[2:10], faults - 1, 1, local[12])
            if wins:
                after = replaced(state, at, new, mine, listed=self._listed)
                yield ("moves the head to its base at version {}; the answer is lost", new[0]), after, None
            else:
                yield ("does not move the head; the answer is lost",), remembered(state, at, mine), None
            if not late:
                mine = (UNSURE, (flags & CURRENT) and LATE, *local[2:9], new, faults - 1, 1, local[12])
                yield ("asks for the head to move to its base; that is late",), remembered(state, at, mine), None

    def _done(self, state: State, at: int, new: tuple[object, ...]) -> State:
        local = state[at]
        ended = self._ended((MOVING, local[1] & ~LATE, *local[2:]))
        after = replaced(state, at, new, ended, listed=self._listed)
        return (*after[:SOURCE], (after[SOURCE][0], 1), *after[SOURCE + 1 :])

    def _is_sure(self, state: State, at: int) -> Step:
        local = state[at]
        new = local[8]
        if new[1][0] in state[HEAD][1]:
            after = remembered(state, at, self._ended(local))
            after = (*after[:SOURCE], (after[SOURCE][0], 1), *after[SOURCE + 1 :])
            return ("finds its base in the head",), after, None
        if local[11]:
            return ("does not find its base in the head: fails",), remembered(state, at, self._ended(local)), None
        mine = (HEADS, local[1] & LATE, *local[2:8], _NO_HEAD, *local[9:])
        return ("does not find its base in the head: over again",), remembered(state, at, mine), None

    def _ended(self, local: Local) -> Local:
        return (IDLE, local[1] & LATE, 0, 0, 0, _NO_HEAD, 0, (), _NO_HEAD, local[9], local[10], 0, max(1, local[12]))

    def _arrives(self, state: State, at: int) -> Step:
        local = state[at]
        late = local[9]
        mine = (local[0], local[1] & ~(CURRENT | LATE), *local[2:9], _NO_HEAD, *local[10:])
        if local[1] & LATE or not self._cas:
            return (
                ("'s late move moves the head to its base",),
                replaced(state, at, late, mine, listed=self._listed),
                None,
            )
        return ("'s late move comes too late",), remembered(state, at, (*local[:9], _NO_HEAD, *local[10:])), None


def _bits(items: int) -> tuple[int, ...]:
    return tuple(bit for bit in range(1, 10) if items >> bit & 1)


_SEVERAL: dict[int, Callable[[Resetter, State, int], Iterator[Step]]] = {
    SCANNING: Resetter._scans,  # noqa: SLF001 -- its own
    SCANNED: Resetter._scans,  # noqa: SLF001
    APPENDING: Resetter._appends,  # noqa: SLF001
    MOVING: Resetter._moves,  # noqa: SLF001
}
_ONE: dict[int, Callable[[Resetter, State, int], Step]] = {
    NOTING: Resetter._notes,  # noqa: SLF001
    HEADS: Resetter._reads_head,  # noqa: SLF001
    READING: Resetter._reads,  # noqa: SLF001
    WRITING: Resetter._writes,  # noqa: SLF001
    UNSURE: Resetter._is_sure,  # noqa: SLF001
}
