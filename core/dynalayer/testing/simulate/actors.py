"""What the actors do: each operation is a call of a layer's, and what its answer must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynalayer.clock import to_datetime
from dynalayer.errors import (
    AppendError,
    ConflictError,
    HistoryError,
    InvalidInputError,
    LayerError,
    PositionExpiredError,
)
from dynalayer.layer import Layer
from dynalayer.testing.simulate.truth import Truth
from dynalayer.testing.simulate.world import HOUR, Simulated
from dynalayer.values import Item

if TYPE_CHECKING:
    from dynalayer.testing.simulate.run import Life

__all__ = ["CONSUMER", "OPERATIONS", "PARTITIONS", "RETENTION", "Operation", "allowed"]

PARTITIONS = ("user", "users")
RETENTION = 24 * HOUR
"""How long records are kept after their fold, in microseconds; as short as may be."""

CONSUMER = "index"
"""Who follows."""

_IDS = ("a", "b", "c", "d", "e")
_IN_SOURCE = 0.8  # of the sets; the others are such as the source never had
_SKEW_BOUND = 5 * HOUR  # how far the clocks of two actors may be apart, with what a step takes


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that an actor does.

    Attributes:
        kind: What, a key of `OPERATIONS`.
        place: Where it falls: the actor's name and its number there.
    """

    kind: str
    place: tuple[str, int]


def _set(life: Life, layer: Layer, truth: Truth) -> None:
    marker = "/".join(map(str, life.operation.place))
    events = [_event(life, marker, index) for index in range(1 + int(life.chance("events") * 3))]
    if life.chance("source") < _IN_SOURCE:  # first, as an application should
        for event in events:
            _write(truth.source.setdefault(event["partition"], {}), event)
    try:
        appended = layer.set(events)
    except AppendError as error:
        for partition, outcome in error.outcomes.items():
            if outcome == "not written":
                truth.check_refused(partition, marker)
        raise
    truth.check_appended(appended)


def _write(source: dict[str, Item], event: dict[str, Any]) -> None:
    if event["type"] == "DELETE":
        source.pop(event["item"]["id"], None)
    else:
        source[event["item"]["id"]] = event["item"]


def _event(life: Life, marker: str, index: int) -> dict[str, Any]:
    identifier = life.choose(_IDS, index, "id")
    kind = life.choose(("PUT", "UPDATE", "PUT", "DELETE"), index, "kind")
    partition = life.partition(index)
    return {"type": kind, "partition": partition, "item": {"id": identifier, "set": marker, "n": index}}


def _get(life: Life, layer: Layer, truth: Truth) -> None:
    partition = life.partition()
    since = truth.moment(partition)
    truth.check_read(partition, layer.get(partition), since)


def _as_of(life: Life, layer: Layer, truth: Truth) -> None:
    partition = life.partition()
    since = truth.moment(partition)
    at, means = _past(life, truth, partition, since.version)
    first, began = means(), life.now
    try:
        items = layer.get(partition, at=at)
    except HistoryError:
        passed = truth.passed(partition, first)
        # What was pending when a read began may be folded, and gone, where it took a day.
        gone = life.now - (began if passed is None else min(began, passed)) >= RETENTION - _SKEW_BOUND
        if life.forever or (not gone and not truth.crosses_reset(partition, first)):
            raise Simulated(f"{partition!r} as of version {first} was refused, though it is kept") from None
        return
    # Records, and folds, that came meanwhile may bear the same moment, or cursor.
    truth.check_past(partition, range(first, means() + 1), items, since)


def _past(life: Life, truth: Truth, partition: str, newest: int) -> tuple[Any, Callable[[], int]]:
    """A moment of the past, in one of its three forms, and which version it means as things stand."""
    form = life.choose(("version", "moment", "cursor"), "form")
    cursors = truth.cursors()
    moments = truth.moments(partition)
    if form == "cursor" and cursors:
        chosen = life.choose(cursors, "cursor")
        return chosen, lambda: truth.version_of_cursor(partition, chosen)
    if form == "moment" and moments:
        chosen = life.choose(moments, "moment")
        return to_datetime(chosen), lambda: truth.version_at(partition, chosen)
    version = int(life.chance("version") * (newest + 1))
    return version, lambda: version


def _history(life: Life, layer: Layer, truth: Truth) -> None:
    partition = life.partition()
    since = truth.moment(partition)
    events = layer.history(partition)
    kept_from = 1 if life.forever else truth.kept_from(partition, life.now, RETENTION - _SKEW_BOUND)
    truth.check_history(partition, events, since, kept_from)


def _sync(life: Life, layer: Layer, truth: Truth) -> None:
    del truth
    layer.sync(None if life.chance("all") < 0.5 else life.partition())


def _vacuum(life: Life, layer: Layer, truth: Truth) -> None:
    del truth
    layer.vacuum(life.partition(), dry_run=life.chance("dry") < 0.1)


def _take_over(life: Life, layer: Layer, truth: Truth) -> None:
    partition = life.partition()
    marker = "/".join(map(str, life.operation.place))
    items: list[Item] = [
        {"id": each, "set": f"taken {marker}", "n": 0} for each in _IDS if life.chance(each, "taken") < 0.6
    ]
    truth.taking(life.name, partition, {str(item["id"]): item for item in items})
    try:
        layer.import_snapshot(partition, items)
    except InvalidInputError:  # synced already
        if not truth.moment(partition).folded:
            raise


def _follow(life: Life, layer: Layer, truth: Truth) -> None:
    """Follow, as one who now and then fails at an event, and leaves it."""
    left = int(life.chance("events") * 12)
    feed = layer.follow(CONSUMER, wait=False, on_reset=truth.followed.reset)
    truth.followed.begin()
    try:
        with feed:
            for event in feed:
                if not left:
                    break
                truth.check_followed(event)
                left -= 1
    except PositionExpiredError as error:
        gone = truth.kept_from(str(error.partition), life.now, RETENTION - _SKEW_BOUND)
        if life.forever or error.last >= gone:
            raise Simulated(f"{error.partition!r}: version {error.last} is said to have expired, and is kept") from None
        layer.move_consumer(CONSUMER, "beginning", partition=error.partition)


def _reset(life: Life, layer: Layer, truth: Truth) -> None:
    """From the source table, whose items come one by one while others write."""
    partition = life.partition()
    begun = truth.moment(partition).version

    def source() -> Iterator[Item]:
        table = truth.source.setdefault(partition, {})
        table["hand"] = {"id": "hand", "set": f"by hand {life.operation.place[1]}", "n": 0}  # of which no event tells
        noted, scanned = range(begun, truth.moment(partition).version + 1), dict[str, Item]()
        for identifier in (*_IDS, "hand"):
            life.pause()
            if identifier in table:
                scanned[identifier] = table[identifier]
                yield scanned[identifier]
        truth.taking(life.name, partition, scanned, noted)

    layer.reset(source, partition)


def _meta(life: Life, layer: Layer, truth: Truth) -> None:
    partition = life.partition()
    since = truth.events(partition)
    told = layer.meta(partition)
    if not since <= told.synced_total + told.unsynced_total <= truth.events(partition):
        raise Simulated(f"{partition!r} counts {told}, and had {since} events before")


def _verify(life: Life, layer: Layer, truth: Truth) -> None:
    del truth
    before = life.faults
    result = layer.verify()
    if not result.ok and life.faults == before:
        raise Simulated(f"verify found {result.findings[0]}")


OPERATIONS: dict[str, Callable[[Life, Layer, Truth], None]] = {
    "set": _set,
    "get": _get,
    "as-of": _as_of,
    "history": _history,
    "sync": _sync,
    "vacuum": _vacuum,
    "take over": _take_over,
    "follow": _follow,
    "reset": _reset,
    "meta": _meta,
    "verify": _verify,
}
"""What can be done, by its name."""


def allowed(error: LayerError, faults: int) -> bool:
    """Whether an operation may fail so: it met a fault, or others were quicker again and again."""
    return faults > 0 or (isinstance(error, ConflictError) and error.retryable)
