"""A layer's world in the kit: its log, its place, the time, and what was acknowledged; layers come and go."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from dynalayer.errors import LayerError
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.events import Event
from dynalayer.hookspecs import Adapter
from dynalayer.layer import Layer
from dynalayer.opening import StorageOption
from dynalayer.testing.adapters.catalogue import items_differ
from dynalayer.testing.adapters.places import Place
from dynalayer.testing.faults import WrappedLog
from dynalayer.values import Item
from dynalayer.wrapping import WrappedAdapter

__all__ = ["DAY", "LEASE", "Around", "Ticking", "World"]

P = ParamSpec("P")
T = TypeVar("T")

DAY = 24 * 3600
LEASE = 60
"""Seconds that a sync's lease lasts in a world."""


class Ticking:
    """A clock that the kit moves; it also goes on by a millisecond at each look, so that no two moments are one."""

    def __init__(self, now: int = 1_800_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        """The moment."""
        self.now += 1000
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += int(seconds * 1_000_000)


class Around:
    """A wrapper that notes every call of the adapter, and does something around it where it is told to.

    Args:
        around: Given a hook's name and the call, makes it and returns its answer, or something else.

    Attributes:
        calls: The hooks called so far, with their arguments, in order.
    """

    name = "the kit's"

    def __init__(self, around: Callable[[str, Callable[[], Any]], Any] | None = None) -> None:
        self._around = around
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def around(self, inner: Adapter) -> Adapter:
        """The adapter, watched; capabilities are those of `inner`."""
        return _Watched(inner, self)

    def named(self, hook: str) -> list[dict[str, Any]]:
        """The arguments of a hook's calls."""
        return [arguments for name, arguments in self.calls if name == hook]

    def made(self, hook: str, arguments: dict[str, Any], call: Callable[[], Any]) -> Any:
        """Note a call, and make it."""
        self.calls.append((hook, arguments))
        return call() if self._around is None else self._around(hook, call)


class _Watched(WrappedAdapter):
    def __init__(self, inner: Adapter, around: Around) -> None:
        super().__init__(inner)
        self._watching = around

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        answer: T = self._watching.made(method, dict(kwargs), lambda: call(*args, **kwargs))
        return answer


class _Shared(WrappedLog):
    """A log that stays open when a layer is closed."""

    def close(self) -> None:
        """The world closes it."""


class World:
    """What outlives a process: a log, a place, the time; and what was acknowledged so far.

    Args:
        place: Where snapshots are kept.
        log: The events; left out, one in memory, which is closed with this.
        table: The layers' table; left out, the place's.
    """

    def __init__(self, place: Place, log: EventLog | None = None, *, table: str | None = None) -> None:
        self.place = place
        self.table = place.table if table is None else table
        self.log = MemoryEventLog(self.table) if log is None else log
        self.clock = Ticking()
        self.events: dict[str, list[Event]] = {}
        self._layers: list[Layer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer in self._layers:
            layer.close()
        self.log.close()

    def branch(self) -> World:
        """Another world of the same past, which goes its own way; of one with a log in memory."""
        assert isinstance(self.log, MemoryEventLog)
        other = World(self.place, self.log.copy(), table=self.table)
        other.clock = Ticking(self.clock.now)
        other.events = {partition: list(events) for partition, events in self.events.items()}
        return other

    def layer(self, *wrappers: StorageOption, log: EventLog | None = None, **options: Any) -> Layer:
        """A layer as a process that starts makes it, with wrappers around all that the place has."""
        given: dict[str, Any] = {"lease": LEASE, "clock": self.clock} | options
        layer = Layer(
            table=self.table,
            get_item_unique_identifier="id",
            get_item_partition="pk",
            events=_Shared(self.log if log is None else log),
            storage=[*wrappers, *self.place.storage(self.table)],
            **given,
        )
        self._layers.append(layer)
        return layer

    def put(self, layer: Layer, partition: str = "eu", /, **values: Any) -> None:
        """Set items by identifier, each with one value; None deletes it."""
        self.set(
            layer, partition, {name: None if value is None else {"value": value} for name, value in values.items()}
        )

    def set(self, layer: Layer, partition: str, items: dict[str, Item | None]) -> None:
        """Set items by identifier, and remember them as acknowledged; None deletes one."""
        events = [
            {"type": "DELETE", "item": {"pk": partition, "id": name}}
            if item is None
            else {"type": "PUT", "item": {**item, "pk": partition, "id": name}}
            for name, item in items.items()
        ]
        for event in layer.set(events):
            self.events.setdefault(event.partition, []).append(event)

    def items(self, partition: str, version: int | None = None) -> list[Item]:
        """A partition's items, by the events that were acknowledged through a version."""
        found: dict[str, Item] = {}
        for event in sorted(self.events.get(partition, ()), key=lambda event: event.version):
            if version is not None and event.version > version:
                break
            if event.type == "DELETE":
                found.pop(event.id, None)
            else:
                found[event.id] = event.item
        return [found[name] for name in sorted(found)]

    def check(self, layer: Layer, promise: str = "every acknowledged event is read, exactly once") -> None:
        """Every acknowledged event, and no other, is read exactly once, and counted exactly once."""
        for partition, events in self.events.items():
            wanted = {item["id"]: item for item in self.items(partition)}
            try:
                found = {item["id"]: item for item in layer.get(partition)}
            except LayerError as error:
                raise AssertionError(f"{promise}; a read raised {type(error).__name__}: {error}") from error
            differs = items_differ(found, wanted)
            assert not differs, f"{promise}; partition {partition!r:.60}: {differs}"
            meta = layer.meta(partition)
            counted = meta.synced_total + meta.unsynced_total
            assert counted == len(events), (
                f"{promise}, and counted so; partition {partition!r:.60} counts {counted} events, of {len(events)}"
            )

    def check_folded(self, layer: Layer, promise: str) -> None:
        """As `check`, nothing is pending, and what is stored fits together."""
        self.check(layer, promise)
        pending = layer.meta().unsynced_total
        assert pending == 0, f"{promise}; {pending} events are still pending after a sync that had nothing to stop it"
        findings = layer.verify().findings
        assert findings == (), f"{promise}; verify found: {findings[0]}"
