"""The layer beside its source: which items are missing on either side, or differ.

Both are read while others write. So what differs is read again, on both sides, a bounded number of times: whoever
writes the source first and then the event makes it equal. Where a source cannot be asked for single items, what an
event has changed since it was read is counted apart: nobody can tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from dynalayer.counting import UsageCounter
from dynalayer.errors import InvalidInputError
from dynalayer.eventlog.base import EventLog
from dynalayer.events import EventReader
from dynalayer.leaving import go_on
from dynalayer.snapshots import changes_of
from dynalayer.sourcing.gathering import gather, tails_of
from dynalayer.sourcing.sources import Source, SourceOption, open_source
from dynalayer.sourcing.spools import Spool, Waiting
from dynalayer.values import Item

__all__ = ["Comparer", "Comparison", "Difference"]

Kind = Literal["missing here", "missing there", "different"]

_TOLD = 100  # differences that are told one by one
_ATTRIBUTES = 20  # attributes that are told of one item
_LOOKS = (0.0, 0.05, 0.2, 0.5, 1.0)  # seconds before each look at what differed at the one before; one more tells


@dataclass(frozen=True, slots=True)
class Difference:
    """An item that is not the same in the layer and in its source.

    Attributes:
        partition: Its partition.
        id: Its identifier.
        kind: `"missing here"`: the source has it, and the layer has not; `"missing there"`: the other way round; or
            `"different"`.
        attributes: Names of attributes that differ, sorted, 20 at most; empty where it is missing.
    """

    partition: str
    id: str
    kind: Kind
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing a layer with its source found.

    Attributes:
        source: What was compared with.
        items: Items that the source has.
        missing_here: How many of them the layer has not.
        missing_there: How many items of the layer the source has not.
        different: How many items differ.
        refused: How many items of the source could not be taken, as `reset` would refuse them.
        changing: How many items could not be compared: events changed them since the source was read, and it cannot be
            asked again.
        differences: The first hundred of those that are missing or differ, by partition and identifier.
    """

    source: str
    items: int
    missing_here: int
    missing_there: int
    different: int
    refused: int
    changing: int
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, different or refused."""
        return not (self.missing_here or self.missing_there or self.different or self.refused)


class Comparer:
    """Compares a layer with its source. Changes nothing.

    Args:
        log: The layer's event log.
        reader: Tells where items belong.
        items: Gives a partition's items by identifier as they are now.
        counter: Where requests to the source are counted.
    """

    def __init__(
        self, log: EventLog, reader: EventReader, items: Callable[[str], Mapping[str, Item]], counter: UsageCounter
    ) -> None:
        self._log = log
        self._reader = reader
        self._items = items
        self._counter = counter

    def run(self, given: SourceOption, partition: str | None) -> Comparison:
        """Compare all partitions, or one.

        Raises:
            LayerError: As `Layer.verify`.
        """
        source = open_source(given, self._reader, self._log.table, self._counter)
        source.prepare(partition)
        tails = tails_of(self._log, self._reader, partition)
        with Spool(None) as spool:
            spool.begin(tails, source.segments(partition))
            gather(source, spool, self._reader, partition, set_aside=True, told=lambda _: go_on())
            for wait in _LOOKS:
                time.sleep(wait if spool.count("left") else 0)
                for each in spool.waiting():
                    go_on()
                    if not self._differing(source, spool, each.partition)[0]:
                        spool.done(each.partition, 0)
            found = _Found()
            for each in spool.waiting():
                go_on()
                self._tell(source, spool, each, found)
            return found.told(source.location, items=spool.count("items"), refused=spool.count("letters"))

    def _differing(
        self, source: Source, spool: Spool, partition: str
    ) -> tuple[dict[str, tuple[Item | None, Item | None]], bool]:
        """What differs in a partition, here and there; and whether the source was asked again for it."""
        there: Mapping[str, Item] = spool.items(partition)
        here = self._items(partition)
        names = _differing(here, there, {*here, *there})
        # By either's key: where functions identify, another item of the source may be that one by now.
        looked = [(name, item) for name in names for item in (there.get(name), here.get(name)) if item is not None]
        again = source.again([item for _, item in looked]) if names else []
        if again:
            # There first, then here: whoever wrote there before that look may have told of it here by now.
            kept = [(name, self._kept(partition, name, item)) for (name, _), item in zip(looked, again, strict=True)]
            there = {name: item for name, item in kept if item is not None}
            here = self._items(partition)
            names = _differing(here, there, names)
        return {name: (here.get(name), there.get(name)) for name in names}, again is not None

    def _tell(self, source: Source, spool: Spool, waiting: Waiting, found: _Found) -> None:
        """Look a last time at a partition, and tell what differs."""
        differing, asked = self._differing(source, spool, waiting.partition)
        moved = set() if asked or not differing else self._moved(waiting.partition, waiting.tail)
        for name in sorted(differing):
            if name in moved:
                found.changing += 1
            else:
                found.add(waiting.partition, name, *differing[name])

    def _kept(self, partition: str, name: str, item: Item | None) -> Item | None:
        """An item that was read again, if it still is that item of that partition."""
        if item is None:
            return None
        try:
            placed = self._reader.place(item, partition)
        except InvalidInputError:
            return None
        return item if (placed.partition, placed.id) == (partition, name) else None

    def _moved(self, partition: str, tail: int) -> set[str]:
        """The items that events have changed since the source was read."""
        records = self._log.read(partition, tail).records
        return {change.id for record in records for change in changes_of(self._log, partition, record)}


@dataclass(slots=True)
class _Found:
    """What was found so far."""

    changing: int = 0
    _counts: dict[Kind, int] = field(default_factory=dict)
    _differences: list[Difference] = field(default_factory=list)

    def add(self, partition: str, name: str, here: Item | None, there: Item | None) -> None:
        """Count an item that differs, and tell of it as long as there is room."""
        kind: Kind = "missing here" if here is None else "missing there" if there is None else "different"
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if len(self._differences) < _TOLD:
            attributes: tuple[str, ...] = ()
            if here is not None and there is not None:
                attributes = tuple(sorted(name for name in here.keys() | there.keys() if _differ(name, here, there)))
            self._differences.append(Difference(partition, name, kind, attributes[:_ATTRIBUTES]))

    def told(self, source: str, *, items: int, refused: int) -> Comparison:
        """All of it."""
        return Comparison(
            source=source,
            items=items,
            missing_here=self._counts.get("missing here", 0),
            missing_there=self._counts.get("missing there", 0),
            different=self._counts.get("different", 0),
            refused=refused,
            changing=self.changing,
            differences=tuple(self._differences),
        )


def _differing(here: Mapping[str, Item], there: Mapping[str, Item], names: Any) -> list[str]:
    return [name for name in names if not _same(here.get(name), there.get(name))]


def _differ(name: str, here: Item, there: Item) -> bool:
    return not (name in here and name in there and _same(here[name], there[name]))


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same: numbers by value, since an event may say 1 where the source has Decimal("1")."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return _kind(one) == _kind(other) and bool(one == other)


def _kind(value: Any) -> type:
    return Decimal if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
