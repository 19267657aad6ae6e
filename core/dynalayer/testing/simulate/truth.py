"""What really happened, seen at the log itself: the oracle that every answer is compared with.

It is told of each record that took effect and of each move of a head, whatever the actors were told of them, and folds
them in the plainest way there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dynalayer.eventlog.base import Appended, Draft, HeadMove, RecordKind
from dynalayer.events import Event, unpack
from dynalayer.segments import Segment
from dynalayer.testing.simulate.followed import Followed
from dynalayer.testing.simulate.world import Simulated
from dynalayer.values import Item

__all__ = ["Moment", "Truth"]

State = dict[str, Item]


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a partition had come when something began.

    Attributes:
        version: Its newest version.
        resets: How many resets were committed.
        folded: Its folded version.
    """

    version: int
    resets: int
    folded: int


@dataclass(frozen=True, slots=True)
class _Record:
    kind: RecordKind
    nonce: str
    at: int
    changes: tuple[tuple[str, str, Item], ...]


@dataclass(frozen=True, slots=True)
class _Fold:
    version: int
    cursor: str
    moment: int
    events: int


@dataclass(frozen=True, slots=True)
class _Taken:
    """Items that take the place of a snapshot.

    Attributes:
        items: The items.
        noted: The versions from the first to the last of which the tail may have been noted: what is above it is folded
            on top.
    """

    items: State
    noted: range


@dataclass(slots=True)
class _Partition:
    records: list[_Record] = field(default_factory=list)
    folds: list[_Fold] = field(default_factory=list)
    resets: list[tuple[int, _Taken]] = field(default_factory=list)
    folded: int = 0


class Truth:
    """All that took effect.

    Attributes:
        source: What the source table has, by partition.
        acknowledged: Events whose caller was told that they are written.
        checked: Answers that were compared.
        followed: What the one who follows was given.
    """

    def __init__(self) -> None:
        self._partitions: dict[str, _Partition] = {}
        self.followed = Followed(self)
        self._taking: dict[tuple[str, str], _Taken] = {}
        self._taken: dict[str, _Taken] = {}
        self.source: dict[str, State] = {}
        self.acknowledged = 0
        self.checked = 0

    # What takes effect.

    def appended(self, draft: Draft, place: Appended) -> None:
        """A record took effect."""
        kept = self._of(draft.partition)
        if place.version != len(kept.records) + 1:
            raise Simulated(
                f"{draft.partition!r}: a record was put at version {place.version}, where "
                f"{len(kept.records) + 1} was next"
            )
        changes = tuple((change.type, change.id, change.item) for change in unpack(draft.payload, 2**24))
        kept.records.append(_Record(draft.kind, draft.nonce, place.at, changes))

    def moved(self, partition: str, move: HeadMove, moment: int) -> None:
        """A head was moved."""
        kept = self._of(partition)
        version = move.head.version
        if version < kept.folded or version > len(kept.records):
            raise Simulated(
                f"{partition!r}: the head moved from version {kept.folded} to {version}; the newest is "
                f"{len(kept.records)}"
            )
        if version > kept.folded and kept.folds and move.head.cursor <= kept.folds[-1].cursor:
            raise Simulated(f"{partition!r}: the cursor fell from {kept.folds[-1].cursor} to {move.head.cursor}")
        if version > kept.folded or move.folded:
            kept.folds.append(_Fold(version, move.head.cursor, moment, move.folded))
        committed = kept.resets[-1][0] if kept.resets else 0
        if move.head.reset != committed:
            kept.resets.append((move.head.reset, self._taken[move.head.segments[0].name]))
        kept.folded = version

    def taking(self, who: str, partition: str, items: State, noted: range = range(1)) -> None:
        """An actor is about to let these items take the place of a partition's snapshot.

        Args:
            who: The actor.
            partition: The partition.
            items: They.
            noted: Where the tail may have been when it was noted; that of a takeover is 0.
        """
        self._taking[who, partition] = _Taken(items, noted)

    def stored(self, who: str, segment: Segment) -> None:
        """An actor stored a segment."""
        if (who, segment.partition) in self._taking:
            self._taken[segment.name] = self._taking[who, segment.partition]

    # What was true when.

    def moment(self, partition: str) -> Moment:
        """How far a partition has come."""
        kept = self._of(partition)
        return Moment(len(kept.records), len(kept.resets), kept.folded)

    def partitions(self) -> list[str]:
        """Those that have records."""
        return sorted(partition for partition, kept in self._partitions.items() if kept.records)

    def events(self, partition: str, version: int | None = None) -> int:
        """How many events a partition has had, up to a version or in all."""
        return sum(len(record.changes) for record in self._of(partition).records[:version])

    def states(self, partition: str, version: int, resets: int) -> Iterator[State]:
        """The items at a version, once so many resets were committed; for each tail that the last may have noted."""
        taken = _Taken({}, range(1))
        for committed, each in self._of(partition).resets[:resets]:
            if committed <= version:
                taken = each
        for noted in taken.noted:
            yield self._folded(partition, taken.items, noted, version)

    def _folded(self, partition: str, base: State, above: int, version: int) -> State:
        """The items that records between two versions make of others."""
        items = dict(base)
        for record in self._of(partition).records[above:version]:
            for kind, identifier, item in record.changes:
                if kind == "DELETE":
                    items.pop(identifier, None)
                else:
                    items[identifier] = item
        return items

    def version_at(self, partition: str, at: int) -> int:
        """The last version not after a moment, as records tell theirs."""
        return sum(record.at <= at for record in self._of(partition).records)

    def moments(self, partition: str) -> list[int]:
        """When the records were appended, as they tell."""
        return [record.at for record in self._of(partition).records]

    def cursors(self) -> list[str]:
        """Of all syncs that folded something."""
        return sorted({fold.cursor for kept in self._partitions.values() for fold in kept.folds if fold.events})

    def version_of_cursor(self, partition: str, cursor: str) -> int:
        """How far a partition was folded by the sync with a cursor and those before it."""
        return max((fold.version for fold in self._of(partition).folds if fold.cursor <= cursor), default=0)

    def passed(self, partition: str, version: int) -> int | None:
        """When the head first passed a version; None if it has not."""
        return next((fold.moment for fold in self._of(partition).folds if fold.version > version), None)

    def crosses_reset(self, partition: str, version: int) -> bool:
        """Whether there is a reset up to a version that a later one was committed after.

        Whether the earlier one was committed nobody remembers then, so that what it replaced cannot be read.
        """
        kept = self._of(partition)
        committed = kept.resets[-1][0] if kept.resets else 0
        marks = (number for number, record in enumerate(kept.records, 1) if record.kind is RecordKind.RESET)
        return any(number <= min(version, committed) for number in marks)

    # What was answered.

    def check_read(self, partition: str, items: Sequence[Item], since: Moment) -> None:
        """Of a read: it must be the state at some moment since it began."""
        self.checked += 1
        now = self.moment(partition)
        for resets in range(since.resets, now.resets + 1):
            for version in range(since.version, now.version + 1):
                if any(_listed(state) == list(items) for state in self.states(partition, version, resets)):
                    return
        expected = next(self.states(partition, since.version, since.resets))
        raise Simulated(
            f"a read of {partition!r} that began at version {since.version} is the state at none from there to "
            f"{now.version}: {_difference(expected, items)}"
        )

    def check_past(self, partition: str, versions: Sequence[int], items: Sequence[Item], since: Moment) -> None:
        """Of an as-of read: it must be the state at one of these versions."""
        self.checked += 1
        for resets in range(since.resets, self.moment(partition).resets + 1):
            for version in versions:
                if any(_listed(state) == list(items) for state in self.states(partition, version, resets)):
                    return
        expected = next(self.states(partition, versions[0], since.resets))
        raise Simulated(f"{partition!r} as of version {versions[0]} is another: {_difference(expected, items)}")

    def check_history(self, partition: str, events: Sequence[Event], since: Moment, kept_from: int) -> None:
        """Of a history: nothing doubled, changed or out of order, and all that must be kept.

        Args:
            partition: The partition.
            events: As they were told.
            since: When it began.
            kept_from: Versions from here on may not be missing.
        """
        self.checked += 1
        told = [(event.version, event.type, event.id, event.item) for event in events]
        happened = list(self._happened(partition))
        places = {entry: index for index, entry in enumerate(map(repr, happened))}
        positions = [places.get(repr(entry)) for entry in told]
        if None in positions:
            raise Simulated(f"the history of {partition!r} tells what never was: {told[positions.index(None)]}")
        if sorted(set(positions), key=lambda each: each or 0) != positions:
            raise Simulated(f"the history of {partition!r} is out of order or doubled: {[each[0] for each in told]}")
        versions = {entry[0] for entry in told}
        for entry in happened:
            if kept_from <= entry[0] <= since.version and entry[0] not in versions:
                raise Simulated(f"the history of {partition!r} misses version {entry[0]}; it has {sorted(versions)}")

    def check_followed(self, event: Event) -> None:
        """Of an event that was handed out to who follows."""
        self.checked += 1
        happened = list(map(repr, self._happened(event.partition)))
        entry = repr((event.version, event.type, event.id, event.item))
        if entry not in happened:
            raise Simulated(f"{event.partition!r}: what never was is handed out: {entry}")
        self.followed.take(event.partition, happened.index(entry))

    def check_appended(self, events: Sequence[Event]) -> None:
        """Of an acknowledged set: each event stands where it was told to stand."""
        self.checked += 1
        self.acknowledged += len(events)
        for event in events:
            if (event.version, event.type, event.id, event.item) not in list(self._happened(event.partition)):
                raise Simulated(f"{event.partition!r}: version {event.version} was acknowledged and is not in the log")

    def check_refused(self, partition: str, marker: object) -> None:
        """Of a set that was told to be not written."""
        self.checked += 1
        for version, _, _, item in self._happened(partition):
            if item.get("set") == marker:
                raise Simulated(f"{partition!r}: what was told to be not written is there, at version {version}")

    def check_once(self, partition: str) -> None:
        """At the end: no set's events for a partition are in two records."""
        places: dict[object, set[int]] = {}
        for version, _, _, item in self._happened(partition):
            places.setdefault(item.get("set"), set()).add(version)
        for marker, versions in places.items():
            if len(versions) > 1:
                raise Simulated(f"{partition!r}: the events of {marker} are there {len(versions)} times: {versions}")

    def kept_from(self, partition: str, moment: int, retention: int) -> int:
        """From which version on history must be whole, when what was folded that long ago may be gone."""
        version = 0
        for fold in self._of(partition).folds:
            if moment - fold.moment > retention:
                version = max(version, fold.version)
        return version + 1

    def summary(self) -> Mapping[str, int]:
        """Counts of what took effect."""
        kept = self._partitions.values()
        return {
            "records": sum(len(each.records) for each in kept),
            "folds": sum(len(each.folds) for each in kept),
            "resets": sum(len(each.resets) for each in kept),
        }

    def _of(self, partition: str) -> _Partition:
        return self._partitions.setdefault(partition, _Partition())

    def _happened(self, partition: str) -> Iterator[tuple[int, str, str, Item]]:
        for version, record in enumerate(self._of(partition).records, 1):
            for kind, identifier, item in record.changes:
                yield version, kind, identifier, item


def _listed(state: State) -> list[Item]:
    return [state[identifier] for identifier in sorted(state)]


def _difference(expected: State, items: Sequence[Item]) -> str:
    found = {str(item.get("id")): item for item in items}
    missing = sorted(expected.keys() - found.keys())
    more = sorted(found.keys() - expected.keys())
    other = sorted(key for key in expected.keys() & found.keys() if expected[key] != found[key])
    return f"missing {missing}, not expected {more}, other than expected {other}"
