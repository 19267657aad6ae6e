"""The parts of the search: who acts together, since all at once would be more states than fit.

Each has two sizes: the whole one, and a small one, in which the traces of rules that are switched off are found.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dynalayer.testing.model.compacting import Compactor
from dynalayer.testing.model.discarding import Vacuum
from dynalayer.testing.model.expiring import Time
from dynalayer.testing.model.folding import Syncer
from dynalayer.testing.model.past import Historian
from dynalayer.testing.model.reading import Reader
from dynalayer.testing.model.resetting import Resetter
from dynalayer.testing.model.search import Scene
from dynalayer.testing.model.world import BASE, FIRST, RESET, SOURCE_ITEM, UNTRACKED, WAS, Actor, Segment, State
from dynalayer.testing.model.writing import Writer

__all__ = ["PARTS", "Part"]

Rules = frozenset[str]


@dataclass(frozen=True, slots=True)
class Part:
    """One search.

    Attributes:
        name: Its name.
        what: Who acts in it.
        make: Makes its scene, of the rules that are switched off and whether it is the whole one.
    """

    name: str
    what: str
    make: Callable[[Rules, bool], Scene]

    def scene(self, off: Rules = frozenset(), *, full: bool = True) -> Scene:
        """Where the search begins, and who acts.

        Args:
            off: Names of rules that are switched off.
            full: The whole size; else the small one.
        """
        return self.make(off, full)


def _world(slots: int, events: int, segments: Sequence[Segment] = (), *, tracked: bool = False, kept: int = 1) -> State:
    """A world whose first events are in segments.

    Args:
        slots: Slots of the log.
        events: Events that writers may be told of.
        segments: The head's.
        tracked: Whether segments may go.
        kept: Whether the records of folded events are kept still.
    """
    version = segments[-1][1] if segments else 0
    log = tuple((2 * slot + 1) * kept if slot <= version else 0 for slot in range(1, slots + 1))
    told = tuple(number if number <= version else 0 for number in range(1, events + 1))
    store = (frozenset(segments), frozenset(), frozenset()) if tracked else UNTRACKED
    return (log, (version, tuple(segments), 0), told, store, (), (), (0, 0))


def _segments(*bounds: int) -> tuple[Segment, ...]:
    """A base through the first version, and deltas."""
    base = (BASE, bounds[0], tuple(range(1, bounds[0] + 1)), 0)
    deltas = ((after, to, tuple(range(after + 1, to + 1)), 0) for after, to in itertools.pairwise(bounds))
    return (base, *deltas)


def _writers(actors: Sequence[Actor]) -> tuple[int, ...]:
    return tuple(at for at, actor in enumerate(actors, FIRST) if isinstance(actor, Writer))


def _scene(
    world: State,
    off: Rules,
    *actors: Actor,
    alike: tuple[tuple[int, int], ...] = (),
    resets: bool = False,
    history: bool = False,
    power: bool = False,
) -> Scene:
    time = Time("time", off, writers=_writers(actors), history=history, power=power)
    return Scene(world, (*actors, time), alike, resets)


def _append(off: Rules, full: bool) -> Scene:
    if not full:
        return _scene(
            _world(2, 2),
            off,
            Writer("writer 1", (1,), off, faults=1),
            Writer("writer 2", (2,), off),
            Syncer("syncer", off),
        )
    return _scene(
        _world(3, 3),
        off,
        Writer("writer 1", (1, 2), off, faults=2),
        Writer("writer 2", (3,), off, faults=1),
        Syncer("syncer", off, rounds=2, atomic=True),
    )


def _sync(off: Rules, full: bool) -> Scene:
    if not full:
        return _scene(
            _world(2, 2),
            off,
            Writer("writer", (1, 2), off, atomic=True),
            Syncer("syncer 1", off),
            Syncer("syncer 2", off),
            alike=((1, 2),),
        )
    return _scene(
        _world(3, 3),
        off,
        Writer("writer 1", (1, 2), off),
        Writer("writer 2", (3,), off, atomic=True),
        Syncer("syncer 1", off, rounds=2),
        Syncer("syncer 2", off, rounds=2),
        alike=((2, 3),),
    )


def _answers(off: Rules, full: bool) -> Scene:
    if not full:
        return _scene(
            _world(2, 2),
            off,
            Writer("writer", (1, 2), off, atomic=True),
            Syncer("syncer", off, rounds=2, faults=1, own=True),
        )
    return _scene(
        _world(3, 3),
        off,
        Writer("writer", (1, 2, 3), off, atomic=True),
        Syncer("syncer 1", off, rounds=2, faults=2, own=True),
        Syncer("syncer 2", off, faults=1, own=True, deltas=False, atomic=True),
    )


def _read(off: Rules, full: bool) -> Scene:
    if not full:
        return _scene(
            _world(2, 2),
            off,
            Writer("writer", (1, 2), off, atomic=True),
            Syncer("syncer 1", off),
            Syncer("syncer 2", off),
            Reader("reader", off),
            alike=((1, 2),),
        )
    return _scene(
        _world(3, 3),
        off,
        Writer("writer", (1, 2, 3), off, atomic=True),
        Syncer("syncer", off, rounds=2),
        Reader("reader", off, rounds=2),
    )


def _compact(off: Rules, full: bool) -> Scene:
    if not full:
        return _scene(
            _world(3, 3, _segments(1, 2)),
            off,
            Writer("writer", (3,), off, atomic=True),
            Syncer("syncer", off),
            Compactor("compactor", off),
        )
    return _scene(
        _world(4, 4, _segments(1, 2)),
        off,
        Writer("writer", (3, 4), off, atomic=True),
        Syncer("syncer", off, rounds=2),
        Compactor("compactor", off, rounds=2, faults=1),
        Reader("reader", off, atomic=True),
    )


def _vacuum(off: Rules, full: bool) -> Scene:
    world = _world(2 + full, 2 + full, _segments(1, 2), tracked=True, kept=0)
    if not full:
        actors = (Compactor("compactor", off), Vacuum("vacuum", off), Reader("reader", off, atomic=True))
        return _scene(world, off, *actors, history=True)
    return _scene(
        world,
        off,
        Writer("writer", (3,), off, atomic=True),
        Syncer("syncer", off, atomic=True),
        Compactor("compactor", off, faults=1),
        Vacuum("vacuum", off),
        Reader("reader", off, atomic=True),
        history=True,
    )


def _names(off: Rules, full: bool) -> Scene:
    """Where two syncers write segments with the same events, and the power may fail."""
    return _scene(
        _world(3, 3, _segments(2), tracked=True, kept=0),
        off,
        Writer("writer", (3,), off, atomic=True),
        Syncer("syncer 1", off, atomic=not full, faults=int(full)),
        Syncer("syncer 2", off, atomic=not full),
        Vacuum("vacuum", off, rounds=1 + full),
        power=True,
    )


def _asof(off: Rules, full: bool) -> Scene:
    return _scene(
        _world(2 + full, 2 + full, _segments(1, 2), tracked=True, kept=int(not full)),
        off,
        *([Writer("writer", (3,), off, atomic=True), Syncer("syncer", off, atomic=True)] if full else []),
        Compactor("compactor", off),
        Vacuum("vacuum", off),
        Historian("as-of reader", off, versions=(1, 3) if full else (1,)),
        history=True,
    )


def _asof_records(off: Rules, full: bool) -> Scene:
    return _scene(
        _world(2 + full, 2 + full, _segments(1), tracked=True),
        off,
        Writer("writer", (2, 3) if full else (2,), off, atomic=True),
        Syncer("syncer", off, rounds=1 + full, atomic=not full),
        *([Compactor("compactor", off)] if full else []),
        Historian("as-of reader", off, versions=(1, 2, 3) if full else (2,), rounds=1 + full),
        history=full,
    )


def _before_reset(slots: int, events: int, *, tracked: bool = False) -> State:
    """A world in which the partition has an item that the source has no more, and the source has one of its own."""
    base: Segment = (BASE, 1, (WAS,), 0)
    store = (frozenset({base}), frozenset(), frozenset()) if tracked else UNTRACKED
    return ((0,) * slots, (1, (base,), 0), (0,) * events, store, (), (), (1, 0))


def _reset(off: Rules, full: bool) -> Scene:
    if not full:
        return _scene(
            _before_reset(3, 1),
            off,
            Writer("writer", (1,), off, atomic=True, source=True),
            Syncer("syncer", off, resets=True, atomic=True),
            Resetter("reset", off, atomic=True),
            resets=True,
        )
    return _scene(
        _before_reset(4, 2),
        off,
        Writer("writer", (1, 2), off, atomic=True, source=True),
        Syncer("syncer", off, resets=True, rounds=2),
        Resetter("reset", off, faults=2),
        resets=True,
    )


def _reset_read(off: Rules, full: bool) -> Scene:
    return _scene(
        _before_reset(3, 1),
        off,
        Writer("writer", (1,), off, atomic=True, source=True),
        Syncer("syncer", off, resets=True, rounds=1 + full, atomic=not full),
        Resetter("reset", off, atomic=True, faults=int(full)),
        Reader("reader", off, rounds=2, resets=True, atomic=not full),
        resets=True,
    )


def _takeover(off: Rules, full: bool) -> Scene:
    world: State = ((0,) * (3 + full), (0, (), 0), (0,), UNTRACKED, (), (), (1, 0))
    return _scene(
        world,
        off,
        Writer("writer", (1,), off, atomic=True),
        Syncer("syncer", off, resets=True, rounds=1 + full, atomic=True),
        Resetter("takeover 1", off, takeover=True, atomic=not full),
        *([Resetter("takeover 2", off, takeover=True, atomic=True, number=1)] if full else []),
        resets=True,
    )


def _reset_past(off: Rules, full: bool) -> Scene:
    """Where a reset was committed, its base is compacted away, and what was before it is within the history's time."""
    was: Segment = (BASE, 1, (WAS,), 0)
    segments: tuple[Segment, ...] = ((BASE, 2, (SOURCE_ITEM,), 0), (2, 3, (1,), 0))
    store: tuple[frozenset[Segment], ...] = (frozenset({was, *segments}), frozenset(), frozenset())
    log = (0, 2 * RESET + 1, 3)
    world: State = (log, (3, segments, 2), (3,), store, ((was, 1),), (was,), (1, 1))
    return _scene(
        world,
        off,
        Compactor("compactor", off),
        Vacuum("vacuum", off),
        Historian("as-of reader", off, versions=(1, 2, 3) if full else (2,), resets=True),
        resets=True,
        history=True,
    )


PARTS = {
    part.name: part
    for part in (
        Part("append", "writers with stale tails, lost and late answers; a syncer; expiry", _append),
        Part("sync", "writers; two syncers; expiry", _sync),
        Part("answers", "a writer; syncers whose moves are answered late or never; expiry", _answers),
        Part("read", "a writer; syncers; a reader that remembers; expiry", _read),
        Part("compact", "a writer; a syncer; compactors, answered late or never; a reader; expiry", _compact),
        Part("vacuum", "a writer; a syncer; a compactor; a vacuum; a reader; the history's time passes", _vacuum),
        Part("names", "a writer; syncers that write the same; a vacuum; the power fails", _names),
        Part("asof", "a writer; a syncer; a compactor; a vacuum; an as-of reader; the history's time passes", _asof),
        Part("asof-records", "a writer; a syncer; a compactor; an as-of reader; all expires", _asof_records),
        Part("reset", "a writer that writes the source first; a syncer; resets; expiry", _reset),
        Part("reset-read", "a writer; a syncer; a reset; a reader that remembers; expiry", _reset_read),
        Part("takeover", "a writer; a syncer; takeovers; expiry", _takeover),
        Part("reset-past", "a committed reset; a compactor; a vacuum; an as-of reader; all expires", _reset_past),
    )
}
