"""Writers: a tail read, then put-if-absent at the slot after it, with lost and late answers."""

from __future__ import annotations

from collections.abc import Iterator

from dynalayer.testing.model.world import ACKED, HEAD, LOG, SOURCE, Actor, Local, State, Step, newest, put, remembered

__all__ = ["IDLE", "PLACING", "Writer", "outdated"]

IDLE, TAIL, PLACING = range(3)
_SLOTS = 16  # more than any log here has


class Writer(Actor):
    """Appends events, one after the other.

    Time is what matters of it: what was read of the tail is outdated once a record that was not there yet has expired.

    Args:
        name: As traces call it.
        events: The events.
        off: Rules that are switched off.
        faults: Answers that may be lost or late.
        atomic: Read the tail and put in one step, as a log in one transaction does.
        source: Write each event's item to the source table first.
    """

    # What a writer remembers: where it is, flags (none), the event at hand, the slot, whether a try may have arrived,
    # event and slot of one that may still arrive, faults left, the tail of its last append.

    def __init__(
        self,
        name: str,
        events: tuple[int, ...],
        off: frozenset[str],
        *,
        faults: int = 0,
        atomic: bool = False,
        source: bool = False,
    ) -> None:
        super().__init__(name, (IDLE, 0, 0, 0, 0, 0, faults, 0))
        self.events = events
        self._atomic = atomic
        self._source = source
        self._tail = "tail" not in off
        self._if_absent = "if-absent" not in off
        self._nonce = "nonce" not in off
        self._stay = "stay" not in off
        self._unknown = "unknown" not in off

    def steps(self, state: State, at: int) -> Iterator[Step]:
        """See `Actor`."""
        place, _, number, slot, unknown, late, faults, last = state[at]
        if late:
            yield self._arrives(state, at, late)
        if place == IDLE and number < len(self.events):
            yield from self._begins(state, at)
        elif place == TAIL:
            slot = max(slot, newest(state[LOG])) + 1
            if slot <= len(state[LOG]):
                mine = (PLACING, 0, number, slot, unknown, late, faults, last)
                yield ("reads the newest record: slot {} is next", slot), remembered(state, at, mine), None
        elif place == PLACING:
            yield from self._places(state, at)

    def _begins(self, state: State, at: int) -> Iterator[Step]:
        _, _, number, _, unknown, late, faults, last = state[at]
        event = self.events[number]
        if self._source and not state[SOURCE][0] >> event & 1:
            items, done = state[SOURCE]
            yield (
                ("writes event {} to the source", event),
                put(state, SOURCE, (items | 1 << event, done), at, state[at]),
                None,
            )
            return
        if self._atomic:
            slot = max(newest(state[LOG]), state[HEAD][0]) + 1
            if slot <= len(state[LOG]):
                yield ("appends event {}", event), self._written(state, at, slot), None
            return
        version = state[HEAD][0] if self._tail else 0
        mine: Local = (TAIL, 0, number, version, unknown, late, faults, last)
        yield ("looks for the tail of event {}: the head", event), remembered(state, at, mine), None
        if last and last < len(state[LOG]):
            mine = (PLACING, 0, number, last + 1, unknown, late, faults, last)
            yield ("remembers the tail: slot {} is next", last + 1), remembered(state, at, mine), None

    def _places(self, state: State, at: int) -> Iterator[Step]:
        _, _, number, slot, unknown, late, faults, last = state[at]
        log, event = state[LOG], self.events[number]
        cell = log[slot - 1]
        if cell == 0 or not self._if_absent:
            yield ("puts event {} into slot {}", event, slot), self._written(state, at, slot), None
        elif cell >> 1 == event and self._nonce:
            yield ("finds its own event {} in slot {}", event, slot), self._told(state, at, slot), None
        else:
            if slot < len(log):
                mine: Local = (PLACING, 0, number, slot + 1, 0, late, faults, last)
                yield ("finds slot {} taken and tries the next", slot), remembered(state, at, mine), None
            mine = (IDLE, 0, number, 0, 0, late, faults, 0)
            yield ("finds slot {} taken and looks for the tail anew", slot), remembered(state, at, mine), None
        if faults:
            mine = (PLACING, 0, number, slot, 1, late, faults - 1, last)
            lost = remembered(state, at, mine) if cell else put(state, LOG, _filled(log, slot, event), at, mine)
            yield ("puts event {} into slot {}; the answer is lost", event, slot), lost, None
            if not late:
                mine = (PLACING, 0, number, slot, 1, event * _SLOTS + slot, faults - 1, last)
                yield ("sends event {} to slot {}; it is late", event, slot), remembered(state, at, mine), None
        if unknown:
            yield from self._gives_up(state, at)

    def _gives_up(self, state: State, at: int) -> Iterator[Step]:
        _, _, number, slot, unknown, late, faults, last = state[at]
        event, cell = self.events[number], state[LOG][slot - 1]
        after: Local = (IDLE, 0, number + 1, 0, 0, late, faults, 0)
        if cell == 0 and self._unknown:
            yield ("gives up event {}: unknown", event), remembered(state, at, after), None
        elif cell >> 1 != event or not self._unknown:
            told = _with(state[ACKED], event - 1, -1)
            yield ("gives up event {}: not written", event), put(state, ACKED, told, at, after), None
        if not self._stay:
            mine = (IDLE, 0, number, 0, unknown, late, faults, last)
            yield ("leaves slot {} and looks for the tail anew", slot), remembered(state, at, mine), None

    def _arrives(self, state: State, at: int, late: int) -> Step:
        """A try that was under way comes to its slot."""
        place, _, number, aim, unknown, _, faults, last = state[at]
        mine = (place, 0, number, aim, unknown, 0, faults, last)
        event, slot = divmod(late, _SLOTS)
        log = state[LOG]
        if log[slot - 1] and self._if_absent:
            return ("'s late try comes to slot {}, which is taken", slot), remembered(state, at, mine), None
        return (
            ("'s late try puts event {} into slot {}", event, slot),
            put(state, LOG, _filled(log, slot, event), at, mine),
            None,
        )

    def _written(self, state: State, at: int, slot: int) -> State:
        log = _filled(state[LOG], slot, self.events[state[at][2]])
        return self._told((*state[:LOG], log, *state[LOG + 1 :]), at, slot)

    def _told(self, state: State, at: int, slot: int) -> State:
        _, _, number, _, _, late, faults, _ = state[at]
        mine = (IDLE, 0, number + 1, 0, 0, late, faults, slot)
        return put(state, ACKED, _with(state[ACKED], self.events[number] - 1, slot), at, mine)


def outdated(local: Local, slot: int) -> Local:
    """What a writer remembers once a record is gone from a slot that it has not seen filled: a day has passed since.

    Nothing that it has sent may take effect any more, and what it knows of the tail is worth nothing.
    """
    place, _, number, aim, unknown, late, faults, last = local
    if late and late % _SLOTS <= slot:
        late = 0
    if last and last < slot:
        last = 0
    if place == PLACING and aim <= slot:
        # Where a try may have arrived it cannot be tried elsewhere: nobody knows any more.
        place, number, aim = IDLE, number + unknown, 0
        unknown = 0
    elif place == TAIL and aim < slot:
        place, aim = IDLE, 0
    return (place, 0, number, aim, unknown, late, faults, last)


def _filled(log: tuple[int, ...], slot: int, event: int) -> tuple[int, ...]:
    return _with(log, slot - 1, 2 * event)


def _with(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1 :])
