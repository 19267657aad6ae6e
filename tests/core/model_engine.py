"""The real engine, taken through the model's steps: one thread an actor, and only one of them goes on at a time.

Each call of the log and of the adapter is a point at which an actor stands still until the model takes its next step.
A read gives a record at each step and the head at the last, as a log does that is read page by page; a marking marks one
record at a step. What the model leaves out passes without a stop: leases, counts, cursors.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from dynalayer import (
    Capabilities,
    EventLogError,
    Layer,
    LayerError,
    MemoryEventLog,
    Segment,
    SegmentMissingError,
    WrappedAdapter,
    hookimpl,
)
from dynalayer.clock import INITIAL
from dynalayer.compaction import Compactor
from dynalayer.eventlog.base import HeadMove, Mark, RecordKind, Run, SegmentRef
from dynalayer.events import unpack
from dynalayer.resetting import Resetter
from dynalayer.syncing import Syncer
from dynalayer.testing.faults import WrappedLog
from dynalayer.testing.model import Move, Scene
from dynalayer.testing.model import compacting, discarding, folding, past, reading, resetting, writing
from dynalayer.testing.model.world import ACKED, BASE, HEAD, LOG, OLD, RESET, SOURCE_ITEM, STORE, State
from dynalayer.vacuuming import Vacuum
from fakes import DAY, Ticking

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = 60  # seconds; an actor's step takes microseconds
_FREE = {"lease", "release", "last_cursor", "partition_state", "expire", "pending"}


class Stopped(BaseException):
    """The trace is over. No `Exception`: what handles errors must not go on."""


class Shelf:
    """A store in memory that lists what it has in the model's order."""

    name = "shelf"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.kept: dict[str, Segment] = {}
        self.ever: dict[str, Segment] = {}

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self.kept[segment.name] = self.ever[segment.name] = segment
        return segment.name

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        if ref not in self.kept:
            raise SegmentMissingError(f"{ref} is not on the shelf")
        return self.kept[ref]

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        return self.kept.pop(ref, None) is not None

    @hookimpl
    def layer_list(self, partition: str) -> list[str]:
        return sorted(self.kept, key=lambda ref: shown(self.kept[ref]))


def shown(segment: Segment) -> tuple[int, int, tuple[int, ...]]:
    """A segment as the model has it, its events sorted."""
    after = BASE if segment.kind == "base" else segment.from_version
    return after, segment.to_version, tuple(sorted(int(each) for each in segment.items))


class Player:
    """One actor: a thread that stands still before each call until it is told to go on.

    Attributes:
        point: The call that it stands before; None once it has done all.
        answers: What its work came to, in order.
        fault: What happens to the move that it makes next: `"lost"` or `"late"`.
        late: Moves that are under way.
    """

    def __init__(self, work: Callable[[Player], None]) -> None:
        self.point: str | None = None
        self.answers: list[Any] = []
        self.fault: str | None = None
        self.late: list[HeadMove] = []
        self.version = 0
        self._go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._stop = False
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._wait()

    def _run(self, work: Callable[[Player], None]) -> None:
        try:
            work(self)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 -- told in the test's own thread
            self._failed = error
        self.point = None
        self._stands.release()

    def stand(self, point: str) -> None:
        """Stand still before a call."""
        if threading.current_thread() is not self._thread:
            return
        self.point = point
        self._stands.release()
        self._go.acquire()
        if self._stop:
            raise Stopped

    def go(self, point: str) -> None:
        """Let it make the call that it stands before, and go on to the next."""
        assert self.point == point, f"the engine is at {self.point}, the model at {point}"
        self._go.release()
        self._wait()

    def _wait(self) -> None:
        assert self._stands.acquire(timeout=_PATIENCE), f"stuck after {self.point}"
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        self._stop = True
        self._go.release()
        self._thread.join(_PATIENCE)


class StepLog(WrappedLog):
    """The log as one actor sees it."""

    def __init__(self, log: MemoryEventLog, slots: int, *, atomic: bool) -> None:
        super().__init__(log)
        self.player: Player | None = None
        self._slots = slots
        self._atomic = atomic

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        player = self.player
        if player is None:
            return call(*args, **kwargs)
        if method in ("lease", "release", "expire"):  # absent in the model, where each takes the partition at any time
            answer: Any = {"lease": True, "release": None, "expire": 0}[method]
            return answer
        if method not in _FREE:
            player.stand(method)
        if method == "move_head" and player.fault:
            fault, player.fault = player.fault, None
            move: Any = args[1]
            if fault == "late":
                player.late.append(move)
            else:
                call(*args, **kwargs)
            raise EventLogError("the answer is lost", retryable=True)
        return call(*args, **kwargs)

    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        player = self.player
        if player is None or self._atomic:
            return super().read(partition, after, max_bytes=max_bytes)
        records = []
        # An as-of reader looks no further than the version asked for; what is above cannot matter to it.
        last = player.version or self._slots
        for slot in range(after + 1, self._slots + 1):
            if slot <= last:
                player.stand("slot")
            records += [record for record in self._log.read(partition, slot - 1).records if record.version == slot]
        if not player.version:
            player.stand("head")
        return Run(tuple(records), self._log.head(partition))

    def mark(self, partition: str, marks: Sequence[Mark]) -> None:
        for each in marks:
            if self.player is not None:
                self.player.stand("mark")
            self._log.mark(partition, [each])


class StepShelf(WrappedAdapter):
    """The store as one actor sees it."""

    def __init__(self, inner: Shelf, *, tracked: bool) -> None:
        super().__init__(inner)
        self.player: Player | None = None
        self._tracked = tracked

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self.player is not None and (self._tracked or method != "layer_getter"):
            self.player.stand(method)
        return call(*args, **kwargs)


class Engine:
    """The engine's actors for a scene of the model, in the scene's first state."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.inner = MemoryEventLog("users")
        self.shelf = Shelf()
        self.clock = Ticking()
        self._state = scene.start
        self._slots = len(self._state[LOG])
        self._tracked = bool(self._state[STORE])
        self._begin()
        self.players = [self._player(actor) for actor in scene.actors]
        for player in self.players:
            player.start()

    def _layer(self, log: Any, store: Any) -> Layer:
        return Layer(
            table="users", get_item_unique_identifier="id", events=log, storage=store, clock=self.clock, ttl=5 * DAY
        )

    def _begin(self) -> None:
        """Bring the log and the store to the scene's first state, by the engine itself."""
        layer = self._layer(self.inner, self.shelf)
        for _, _, events, _ in self._state[HEAD][1]:
            for event in events:
                layer.set([put(event)])
            layer.sync()
        for slot, cell in enumerate(self._state[LOG], 1):
            if not cell:
                self.gone(slot)
        self.compare(self._state)

    def gone(self, slot: int) -> None:
        """Let a record expire."""
        kept = self.inner._partitions.get("")
        if kept is not None and kept.records.pop(slot, None) is not None:
            del kept.ttls[slot]  # what has no ttl never expires: an error here

    def _player(self, actor: Any) -> Player:
        log = StepLog(self.inner, self._slots, atomic=getattr(actor, "atomic", False))
        store = StepShelf(self.shelf, tracked=self._tracked)
        layer = self._layer(log, store)
        player = Player(lambda player: _work(actor, player, layer, self.clock))
        log.player = store.player = player
        return player

    def take(self, move: Move) -> None:
        """Take the model's step, and compare what is there after it."""
        player = self.players[move.at]
        what = str(move.label[0])
        actor = self.scene.actors[move.at]
        if what.startswith("record {} expires"):
            self.gone(int(str(move.label[1])))
        elif what.startswith("the history's time passes"):
            self._past(move.after)
        elif what.startswith("'s late move"):
            moved = self.inner.move_head("", player.late.pop(0))
            assert moved == ("too late" not in what)
        else:
            if what.startswith("begins for version"):
                player.version = int(str(move.label[1]))
            if "answer is lost" in what or "that is late" in what:
                player.fault = "late" if "that is late" in what else "lost"
            before = len(player.answers)
            for point in _points(actor, what, tracked=self._tracked, version=player.version):
                player.go(point)
            self._told(move, player.answers[before:])
        self._state = move.after
        self.compare(move.after)

    def _told(self, move: Move, answers: list[Any]) -> None:
        what = str(move.label[0])
        if "answers" in what:
            assert [tuple(sorted(move.label[-1]))] == answers  # type: ignore[arg-type]
        elif "fails" in what or "is refused" in what:
            assert len(answers) == 1
            assert isinstance(answers[0], LayerError)
        elif what.startswith("appends event"):
            event = int(str(move.label[1]))
            assert [move.after[ACKED][event - 1]] == answers

    def _past(self, after: State) -> None:
        within = Counter(
            (segment[0], segment[1], tuple(sorted(segment[2]))) for segment, is_within in after[OLD] if is_within
        )
        old = self.inner._partitions[""].old
        for ref, each in old.items():
            key = self._named(each.segment)
            if not within[key]:
                old[ref] = replace(each, keep_until=0)
            within[key] -= 1

    def _named(self, named: SegmentRef) -> tuple[int, int, tuple[int, ...]]:
        return shown(self.shelf.ever[named.ref])

    def compare(self, state: State) -> None:
        """Compare records, marks, head, segments and the list of old ones with the model's."""
        kept = self.inner._partitions.get("")
        records = kept.records if kept is not None else {}
        log = tuple(self._cell(records.get(slot)) for slot in range(1, self._slots + 1))
        assert log == tuple(min(cell, 2 * RESET + (cell & 1)) for cell in state[LOG])
        head = self.inner.head("")
        version, segments, reset = state[HEAD]
        assert (head.version, head.reset) == (version, reset)
        assert [self._named(each) for each in head.segments] == [_plain(each) for each in segments]
        if self._tracked:
            assert Counter(map(shown, self.shelf.kept.values())) == Counter(map(_plain, state[STORE][0]))
            old = Counter(
                (self._named(each.segment), each.keep_until > self.clock.now) for each in self.inner.old_segments("")
            )
            assert old == Counter((_plain(segment), bool(within)) for segment, within in state[OLD])

    @staticmethod
    def _cell(record: Any) -> int:
        if record is None:
            return 0
        marked = int(record.cursor != INITIAL)
        if record.kind is RecordKind.RESET:
            return 2 * RESET + marked
        (change,) = unpack(record.payload, 1 << 20)
        return 2 * int(change.id) + marked

    def stop(self) -> None:
        for player in self.players:
            player.stop()


def put(event: int) -> dict[str, Any]:
    """An event of the model's: it sets an item of its own."""
    return {"type": "PUT", "item": {"id": str(event), "event": event}}


def ids(items: Sequence[Any]) -> tuple[int, ...]:
    return tuple(sorted(int(item["id"]) for item in items))


def _plain(segment: Any) -> tuple[int, int, tuple[int, ...]]:
    return segment[0], segment[1], tuple(sorted(segment[2]))


def _work(actor: Any, player: Player, layer: Layer, clock: Ticking) -> None:
    """What an actor does, as often as the model's does it."""
    start = actor.start
    match actor:
        case writing.Writer():
            for event in actor.events:
                player.answers += [each.version for each in layer._appender.append([put(event)])]
        case folding.Syncer():
            syncer = Syncer(layer._log, layer._storage, layer._reading._snapshots, clock, 60)
            for _ in range(start[8]):
                player.answers.append(syncer.sync([""])[1])
        case reading.Reader():
            for _ in range(start[-1]):
                _answer(player, lambda: ids(layer._reading.get("", in_order=False)))
        case compacting.Compactor():
            compactor = Compactor(layer._log, layer._storage, layer._reading._snapshots, clock)
            for _ in range(start[7]):
                _answer(player, lambda: compactor.compact("", layer._log.head("")))
        case discarding.Vacuum():
            vacuum = Vacuum(layer._log, layer._storage, clock)
            for _ in range(start[-1]):
                _answer(player, lambda: vacuum.run("", dry_run=False))
        case past.Historian():
            for _ in range(start[-1]):
                player.stand("choose")
                _answer(player, lambda: ids(layer._historian.get("", player.version, in_order=False)))
        case resetting.Resetter():
            resetter = Resetter(layer._log, layer._storage, clock, 60, 5 * DAY)
            item = {"id": str(SOURCE_ITEM)}
            _answer(player, lambda: resetter.take_over("", {str(SOURCE_ITEM): item}))


def _answer(player: Player, call: Callable[[], object]) -> None:
    try:
        player.answers.append(call())
    except LayerError as error:
        player.answers.append(error)


def _points(actor: Any, what: str, *, tracked: bool, version: int) -> list[str]:
    """The calls that are one step of the model's."""
    if getattr(actor, "atomic", False) and any(part in what for part in _WITH_RECORDS):
        return ["read"]
    for start, points in _SPECIAL.get(type(actor), {}).items():
        if what.startswith(start):
            return (
                points
                if tracked or "layer_getter" not in points
                else [each for each in points if each != "layer_getter"]
            )
    for start, points in _COMMON.items():
        if what.startswith(start):
            return points
    raise AssertionError(f"no call is known for: {what}")


_WITH_RECORDS = ("after the records", "at last", "finds nothing to fold", "has read")
_COMMON = {
    "appends event": ["append"],
    "reads the head": ["head"],
    "reads slot": ["slot"],
    "looks for folded": ["unmarked"],
    "marks record": ["mark"],
    "finds record": ["mark"],
    "writes a segment": ["layer_setter"],
    "moves the head": ["move_head"],
    "does not move the head": ["move_head"],
    "asks for the head": ["move_head"],
    "finds its own": ["head"],
    "finds its base": ["head"],
    "does not find": ["head"],
    "finds a segment gone": ["layer_getter"],
    "loads a segment": ["layer_getter"],
}
_SPECIAL: dict[type, dict[str, list[str]]] = {
    folding.Syncer: {"finds nothing to fold": ["head"]},
    reading.Reader: {"begins with what it remembers, and reads slot": ["slot"], "begins": ["head"]},
    compacting.Compactor: {"writes one base": ["layer_getter", "layer_setter"]},
    discarding.Vacuum: {
        "lists the store": ["layer_list"],
        "raises the head": ["move_head"],
        "does not raise": ["move_head"],
        "reads the list": ["old_segments"],
        "discards": ["layer_discard"],
        "takes what": ["forget_old_segments"],
    },
    past.Historian: {
        "begins for version": ["choose", "head"],
        "reads the list": ["old_segments"],
        "reads the head: it has moved": ["head", "head"],
        "reads the head, and fails": ["head"],
        "leaves out": ["head", "head"],
        "knows a way": [],
        "finds no way": [],
        "answers": ["layer_getter"],
    },
    resetting.Resetter: {
        "reads the head, and takes": ["head"],
        "is refused": ["head"],
        "appends a record": ["append"],
        "has read": ["read"],
        "writes a base": ["layer_setter"],
    },
}
