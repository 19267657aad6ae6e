"""What a partition's world is made of, and what must hold in each state of it.

A state is one flat tuple, so that millions of them fit and are compared quickly: the log, the head, what was told to
the callers of appends, the store, the list of old segments, what history owes, the source table, and then what each
actor remembers. Counters that only grow are left out: where a revision is compared, each who has read the head
remembers whether it is still the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = [
    "ACKED",
    "BASE",
    "CURRENT",
    "FIRST",
    "GHOST",
    "HEAD",
    "KEPT",
    "LATE",
    "LOG",
    "LOOKED",
    "OLD",
    "RESET",
    "SOURCE",
    "SOURCE_ITEM",
    "STORE",
    "UNFENCED",
    "UNTRACKED",
    "WAS",
    "Actor",
    "Local",
    "Segment",
    "State",
    "Step",
    "content_of",
    "contiguous",
    "is_told",
    "missing",
    "moved",
    "named",
    "newest",
    "put",
    "remembered",
    "replaced",
    "stored",
    "wrong",
]

State = tuple[Any, ...]
Local = tuple[Any, ...]
"""What an actor remembers: where it is, flags, and the rest."""

Segment = tuple[int, int, tuple[int, ...], int]
"""From version (`BASE` for a base), to version, its events in order, and which of several with the same events."""

Step = tuple[tuple[Any, ...], State, str | None]
"""What happens (a text and what to put into it), the state after it, and what is wrong with it, if anything is."""

LOG, HEAD, ACKED, STORE, OLD, KEPT, SOURCE, FIRST = range(8)
"""The log: for each slot 0 where it is empty, else twice the event, and one more once it is marked.
The head: version, segments, version of the last committed reset.
Told: for each event the version that its writer was told, 0 for none, -1 where it was told that it is not written.
The store: segments that are there, those that are gone, those that a power failure would take; () where none ever goes.
Old: segments listed as old, each with whether it is within the history's time. Kept: those that should be listed so.
The source: items in the table, as a set of bits; and whether a reset was acknowledged."""

BASE = -1
GHOST = 0
"""The event of a row that a late mark made."""
RESET = 40
"""From here on numbers stand for records of kind RESET, not for events."""
WAS = 30
"""An item that the partition had and the source has no more."""
SOURCE_ITEM = 31
"""An item that only the source has."""
UNTRACKED: tuple[Any, ...] = ()

CURRENT, LATE, UNFENCED, LOOKED = 1, 2, 4, 8
"""Flags: the head is as it was read; as it was when the move that is still under way was sent; no vacuum has raised it
since it was read; what others left unmarked was marked."""


class Actor:
    """One who takes steps.

    Args:
        name: As traces call it.
        start: What it remembers at first.
    """

    def __init__(self, name: str, start: Local) -> None:
        self.name = name
        self.start = start

    def steps(self, state: State, at: int) -> Iterator[Step]:
        """The steps that it may take in a state; `at` is where in the state its memory is."""
        raise NotImplementedError(f"{type(self).__name__} takes no steps")


def remembered(state: State, at: int, mine: Local) -> State:
    """The state in which an actor remembers something else."""
    return (*state[:at], mine, *state[at + 1 :])


def put(state: State, field: int, value: object, at: int, mine: Local) -> State:
    """The state in which besides that one field is another."""
    parts = list(state)
    parts[field] = value
    parts[at] = mine
    return tuple(parts)


def moved(state: State, at: int, head: tuple[Any, ...], mine: Local, lost: int = CURRENT | LATE) -> State:
    """The state in which the head was moved: to all others it is not any more what it was.

    Args:
        state: The state.
        at: Who moved it.
        head: What it is.
        mine: What the mover remembers from now on.
        lost: Flags that the others lose.
    """
    parts = list(state)
    parts[HEAD] = head
    for other in range(FIRST, len(parts)):
        local = parts[other]
        if local[1] & lost:
            parts[other] = (local[0], local[1] & ~lost, *local[2:])
    parts[at] = mine
    return tuple(parts)


def replaced(
    state: State, at: int, head: tuple[Any, ...], mine: Local, *, listed: bool = True, lost: int = CURRENT | LATE
) -> State:
    """The state in which the head was moved, and what it names no more is listed as old."""
    return moved(_retired(state, head, listed=listed), at, head, mine, lost)


def _retired(state: State, head: tuple[Any, ...], *, listed: bool) -> State:
    retired = tuple(segment for segment in state[HEAD][1] if segment not in head[1])
    if not state[STORE] or not retired:
        return state
    old = tuple(sorted({*state[OLD], *((segment, 1) for segment in retired)})) if listed else state[OLD]
    return (*state[:OLD], old, tuple(sorted({*state[KEPT], *retired})), *state[KEPT + 1 :])


def stored(state: State, segment: Segment, *, fresh: bool = True, durable: bool = True) -> tuple[Segment, State]:
    """A segment under the name that it is given, and the state in which it is stored."""
    store = state[STORE]
    if store == UNTRACKED:
        return segment, state
    there, gone, volatile = store
    if fresh:
        alike = sum(1 for other in (*there, *gone) if other[:3] == segment[:3])
        segment = (*segment[:3], alike)
    else:
        gone -= {segment}
    store = (there | {segment}, gone, volatile if durable else volatile | {segment})
    return segment, (*state[:STORE], store, *state[STORE + 1 :])


def newest(log: tuple[int, ...]) -> int:
    """The newest record's version; 0 where there is none."""
    for version in range(len(log), 0, -1):
        if log[version - 1]:
            return version
    return 0


def contiguous(records: tuple[tuple[int, int], ...], after: int) -> tuple[tuple[int, int], ...]:
    """The records, version and event, that follow a version without a gap."""
    for count, (version, _) in enumerate(records):
        if version != after + count + 1:
            return records[:count]
    return records


def content_of(segments: tuple[Segment, ...]) -> tuple[int, ...]:
    """The events in segments, in order."""
    if len(segments) == 1:
        return segments[0][2]
    return tuple(event for segment in segments for event in segment[2])


def is_told(acked: tuple[int, ...], wanted: int, events: tuple[int, ...], *, resets: bool) -> str | None:
    """What is wrong with the events that a read gives.

    Args:
        acked: What the writers were told so far.
        wanted: The events that were acknowledged before it began, as a set of bits.
        events: What it gives, in order.
        resets: Whether there are resets: then versions do not tell places.
    """
    for number, version in enumerate(acked, 1):
        if version > 0:
            if resets:
                if wanted >> number & 1 and number not in events:
                    return f"event {number} is lost: acknowledged at version {version}, and not there"
            elif version > len(events):
                if wanted >> number & 1:
                    return f"event {number} is lost: acknowledged at version {version}, and not there"
            elif events[version - 1] != number:
                return (
                    f"event {number} is lost: acknowledged at version {version}, where event {events[version - 1]} is"
                )
        elif version < 0 and number in events:
            return f"event {number} is there, although its writer was told that it is not written"
    # A reset's scan may hold what the log has not yet: an item that is set again is the same.
    if not resets and len(set(events)) != len(events):
        double = next(event for event in events if events.count(event) > 1)
        return f"event {double} is doubled"
    return None


def wrong(state: State, *, resets: bool) -> str | None:
    """What is wrong with a state: a read that nobody disturbs must give what was acknowledged."""
    log, (version, segments, _), acked = state[LOG], state[HEAD], state[ACKED]
    if state[STORE]:
        gone = missing(state, segments)
        if gone is not None:
            return f"the head names a segment that is gone: {named(gone)}"
        gone = missing(state, state[KEPT])
        if gone is not None:
            return f"an old segment was discarded within the history's time: {named(gone)}"
    events = content_of(segments)
    run = log[version:]
    if 0 in run:
        end = run.index(0)
        if any(run[end:]):
            return f"record {version + end + 1} is missing: it is pending, and there are later ones"
        run = run[:end]
    if run:
        events += tuple(cell >> 1 for cell in run if not resets or cell >> 1 < RESET)
    wanted = sum(1 << number for number, told in enumerate(acked, 1) if told > 0)
    found = is_told(acked, wanted, events, resets=resets)
    if found is None and resets:
        found = _of_reset(state, events)
    return found


def _of_reset(state: State, events: tuple[int, ...]) -> str | None:
    items, done = state[SOURCE]
    if done and WAS in events:
        return "an item that the source has no more is there after a reset"
    if done and items & 1 and SOURCE_ITEM not in events:
        return "an item of the source is not there after a reset"
    return None


def missing(state: State, segments: tuple[Segment, ...]) -> Segment | None:
    """The first of the segments that is not in the store."""
    store = state[STORE]
    if store:
        for segment in segments:
            if segment not in store[0]:
                return segment
    return None


def named(segment: Segment) -> str:
    """A segment in words."""
    after, through, _, number = segment
    kind = f"base {through}" if after == BASE else f"delta {after}-{through}"
    return f"{kind}#{number}" if number else kind
