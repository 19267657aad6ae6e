"""The real engine, taken through the model's steps and compared with it after each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dynalayer import Layer, LayerError, MemoryEventLog
from dynalayer.clock import INITIAL
from dynalayer.compaction import Compactor
from dynalayer.eventlog.base import RecordKind, SegmentRef
from dynalayer.events import unpack
from dynalayer.keeping import HistoryKeeper
from dynalayer.resetting import Resetter
from dynalayer.syncing import Syncer
from dynalayer.testing.model import Move, Scene, compacting, discarding, folding, past, reading, resetting, writing
from dynalayer.testing.model.world import ACKED, HEAD, LOG, OLD, RESET, SOURCE, SOURCE_ITEM, STORE, State
from dynalayer.vacuuming import Vacuum
from fakes import DAY, Ticking

from .standing_still import Player, Shelf, StepLog, StepShelf, shown


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
        self._anew: set[int] = set()
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

    @property
    def source(self) -> int:
        """The items of the source table, as a set of bits."""
        items: int = self._state[SOURCE][0]
        return items

    def gone(self, slot: int) -> None:
        """Let a record expire."""
        kept = self.inner._partitions.get("")
        if kept is not None and kept.records.pop(slot, None) is not None:
            del kept.ttls[slot]  # what has no ttl never expires: an error here

    def _player(self, actor: Any) -> Player:
        log = StepLog(self.inner, self._slots, atomic=getattr(actor, "atomic", False))
        store = StepShelf(self.shelf, tracked=self._tracked)
        layer = self._layer(log, store)
        player = Player(lambda player: _work(actor, player, layer, self))
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
            points = _points(actor, what, tracked=self._tracked, version=player.version)
            for point in [] if self._over_again(move.at, what) else points:
                player.go(point)
            if what.startswith("has read the records above the tail") and player.point == "head":
                self._anew.add(move.at)
            self._told(move, player.answers[before:])
        self._state = move.after
        self.compare(move.after)

    def _over_again(self, at: int, what: str) -> bool:
        """Whether a reset has begun anew already, where the model's goes on to a move that fails.

        The engine reads what is pending up to the noted version too. Where that is gone by now the head has moved since
        it was read.
        """
        if at not in self._anew:
            return False
        assert what.startswith(("writes a base", "does not move the head", "does not find its base"))
        if what.startswith("does not find its base"):
            self._anew.remove(at)
        return True

    def _told(self, move: Move, answers: list[Any]) -> None:
        what = str(move.label[0])
        if "answers" in what:
            events: Any = move.label[-1]
            assert [tuple(sorted(events))] == answers
        elif "fails" in what or "is refused" in what:
            assert len(answers) == 1
            assert isinstance(answers[0], LayerError)
        elif isinstance(self.scene.actors[move.at], reading.Reader | past.Historian):
            assert not answers, f"the engine answers already: {answers}"
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


def _keeper(layer: Layer, clock: Ticking) -> HistoryKeeper:
    return HistoryKeeper(layer._log, layer._storage, clock, forever=False)


def _scanned(player: Player, engine: Engine) -> dict[str, Any]:
    """What a scan of the source in two pages gives."""
    seen = 0
    for page in (_FIRST_PAGE, ~_FIRST_PAGE):
        player.stand("scan")
        seen |= engine.source & page
    own = {str(SOURCE_ITEM): {"id": str(SOURCE_ITEM)}} if seen & 1 else {}
    return own | {str(event): put(event)["item"] for event in range(1, 10) if seen >> event & 1}


def _work(actor: Any, player: Player, layer: Layer, engine: Engine) -> None:
    """What an actor does, as often as the model's does it."""
    start, clock = actor.start, engine.clock
    match actor:
        case writing.Writer():
            for event in actor.events:
                player.answers += [each.version for each in layer._appender.append([put(event)])]
        case folding.Syncer():
            syncer = Syncer(layer._log, layer._storage, layer._reading._snapshots, clock, 60, _keeper(layer, clock))
            for _ in range(start[8]):
                player.answers.append(syncer.sync([""])[1])
        case reading.Reader():
            for _ in range(start[-1]):
                _answer(player, lambda: ids(layer._reading.get("", in_order=False)))
        case compacting.Compactor():
            compactor = Compactor(layer._log, layer._storage, layer._reading._snapshots, _keeper(layer, clock))
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
            resetter = Resetter(layer._log, layer._storage, clock, 60, 5 * DAY, _keeper(layer, clock))
            item = {"id": str(SOURCE_ITEM)}
            if actor._takeover:
                _answer(player, lambda: resetter.take_over("", {str(SOURCE_ITEM): item}))
                return
            player.stand("note")
            tail = layer._log.partition_state("").version
            items = _scanned(player, engine)
            _answer(player, lambda: resetter.reset("", lambda: items, above=tail))


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


_FIRST_PAGE = 0b1010101011  # of a scan, as the model's
_WITH_RECORDS = ("after the records", "finds records missing", "at last", "finds nothing to fold", "has read")
_COMMON = {
    "writes event": [],
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
        "notes the tail": ["note"],
        "scans a page": ["scan"],
        "reads the head, and takes": ["head"],
        "is refused": ["head"],
        "appends a record": ["append"],
        "has read": ["read"],
        "writes a base": ["layer_setter"],
    },
}
