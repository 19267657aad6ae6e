"""What stands between the engine and its log and store: turns, faults, and the witness of what really happened.

Each call waits for its turn, then may be lost (nothing happens), its answer may be lost (it happened), come late (it
happens after its caller was told that it failed) or be the last that its process makes. A store may serve wrong bytes,
and an index may lag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from dynalayer.errors import AppendError, ClosedError, EventLogError, StorageError
from dynalayer.eventlog.base import Appended, Draft, EventLog, Head, HeadMove, Run
from dynalayer.eventlog.checkpoints import CheckpointMove
from dynalayer.hookspecs import Adapter, hookimpl
from dynalayer.segments import Segment
from dynalayer.testing.faults import Crashed, WrappedLog
from dynalayer.testing.simulate.stores import Store
from dynalayer.testing.simulate.truth import Truth
from dynalayer.testing.simulate.world import Actor, Simulated, World
from dynalayer.wrapping import WrappedAdapter

__all__ = ["FAULTS", "Network", "Process", "SimulatedLog", "SimulatedStore", "WitnessedLog"]

P = ParamSpec("P")
T = TypeVar("T")

FAULTS = ("lost", "answer lost", "late", "crash before", "crash after", "wrong bytes", "lag")
"""Every kind of fault."""

_CHANGING = frozenset(
    {
        *("append", "append_after", "move_head", "mark", "lease", "release", "forget_old_segments", "expire"),
        *("move_checkpoint", "layer_setter"),
    }
)
_LONGEST = 120  # characters of an answer in the trace
_MOST_LATE = 24  # turns after which a late request has arrived


@dataclass(frozen=True, slots=True)
class _Late:
    """A request that is under way although its caller was told that it failed."""

    turn: int
    who: str
    method: str
    call: Callable[[], object]


class Network:
    """What is under way, and how often which fault comes.

    Args:
        world: The world.
        rate: How likely a fault is at a call.
        kinds: Which faults there are.
        only: Places at which there may be one; None: at all.
    """

    def __init__(
        self, world: World, *, rate: float, kinds: Sequence[str], only: frozenset[tuple[object, ...]] | None
    ) -> None:
        self._world = world
        self._rate = rate
        self._kinds = tuple(kinds)
        self._only = only
        self._turn = 0
        self._late: list[_Late] = []
        self.faults: list[tuple[object, ...]] = []

    def fault(self, actor: Actor, method: str) -> str | None:
        """Which fault a call meets, if any."""
        kinds = [kind for kind in self._kinds if _fits(kind, method)]
        place = (*actor.place, actor.steps)
        if not kinds or actor.chance("fault") >= self._rate or not (self._only is None or place in self._only):
            return None
        self.faults.append(place)
        return str(self._world.choose(kinds, *place, "kind"))

    def send_late(self, actor: Actor, method: str, call: Callable[[], object]) -> None:
        """Let a call happen some turns from now."""
        turn = self._turn + 1 + int(actor.chance("late") * _MOST_LATE)
        self._late.append(_Late(turn, actor.name, method, call))

    def turn(self) -> None:
        """A turn has passed: what is due arrives."""
        self._turn += 1
        self._arrive([late for late in self._late if late.turn <= self._turn])

    def arrive(self) -> None:
        """Let all arrive that is under way."""
        self._arrive(list(self._late))

    def _arrive(self, due: Sequence[_Late]) -> None:
        for late in due:
            self._late.remove(late)
            self._world.current = None
            try:
                answer = late.call()
            except (EventLogError, ClosedError) as error:  # whose process has closed the file sends nothing any more
                answer = error
            self._world.tell(f"{late.method} of {late.who} arrives late: {_short(answer)}")


def _fits(kind: str, method: str) -> bool:
    if kind == "late":
        return method in _CHANGING
    if kind == "wrong bytes":
        return method == "layer_getter"
    if kind == "lag":
        return method == "pending"
    return True


class Process:
    """One life of an actor: from its first call until it dies, or for good.

    Attributes:
        struck: Faults that it met since it was last asked.
        dead: Whether it has died: no call of its does anything any more.
    """

    def __init__(self, actor: Actor, network: Network) -> None:
        self.actor = actor
        self.struck = 0
        self.dead = False
        self._network = network

    def call(self, method: str, call: Callable[[], T], lost: Callable[[], Exception], other: Callable[[], T]) -> T:
        """Make a call of a log or a store, in its turn and with its fault.

        Args:
            method: Its name.
            call: Makes it.
            lost: The error of one that is not answered.
            other: Makes it where an index lags, or bytes are wrong.
        """
        self._live()
        self.actor.pause()
        fault = self._network.fault(self.actor, method)
        if fault is None:
            answer = call()
            self.actor.world.tell(f"{method}: {_short(answer)}")
            return answer
        self.struck += 1
        self.actor.world.tell(f"{method}: {fault}")
        return self._struck(fault, method, call, lost, other)

    def _struck(
        self, fault: str, method: str, call: Callable[[], T], lost: Callable[[], Exception], other: Callable[[], T]
    ) -> T:
        if fault == "crash before":
            self._die(method)
        if fault in ("lag", "wrong bytes"):
            return other()
        if fault == "late":
            self._network.send_late(self.actor, method, call)
        elif fault in ("answer lost", "crash after"):
            call()
        if fault == "crash after":
            self._die(method)
        raise lost()

    def _die(self, method: str) -> None:
        self.dead = True
        raise Crashed(method)

    def _live(self) -> None:
        if self.dead:
            raise Crashed("before this")


class WitnessedLog(WrappedLog):
    """A log that tells the truth what took effect.

    Args:
        log: The log.
        truth: Is told.
        world: The world.
        lasting: Whether the log outlives who closes it.
    """

    def __init__(self, log: EventLog, truth: Truth, world: World, *, lasting: bool) -> None:
        super().__init__(log)
        self._truth = truth
        self._world = world
        self._lasting = lasting

    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        """See `EventLog`."""
        places = super().append(drafts)
        for draft, place in zip(drafts, places, strict=True):
            self._truth.appended(draft, place)
        return places

    def append_after(
        self, drafts: Sequence[Draft], tails: Mapping[str, int], *, checkpoints: Sequence[CheckpointMove] = ()
    ) -> tuple[Appended, ...] | None:
        """See `EventLog`."""
        places = super().append_after(drafts, tails, checkpoints=checkpoints)
        for draft, place in zip(drafts, places or (), strict=places is not None):
            self._truth.appended(draft, place)
        return places

    def move_head(self, partition: str, move: HeadMove) -> bool:
        """See `EventLog`."""
        moved = super().move_head(partition, move)
        if moved:
            self._truth.moved(partition, move, self._world.now)
        return moved

    def close(self) -> None:
        """See `EventLog`."""
        if not self._lasting:
            super().close()


class SimulatedLog(WrappedLog):
    """A log as one process sees it.

    Args:
        log: The log.
        process: The process.
    """

    def __init__(self, log: EventLog, process: Process) -> None:
        super().__init__(log)
        self._process = process
        self._own: set[str] = set()

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call in its turn, with its fault."""
        if method in ("append", "append_after"):
            drafts: Any = args[0]
            self._own.update(draft.partition for draft in drafts)

        def lost() -> Exception:
            if method in ("append", "append_after"):
                unknown = {draft.partition: "unknown" for draft in drafts}
                return AppendError("the answer was lost", outcomes=unknown)  # type: ignore[arg-type] # a literal
            return EventLogError("the answer was lost")

        def lagging() -> T:
            found: Any = call(*args, **kwargs)
            # An index that lags may miss what others appended, never what this process did itself.
            return tuple(each for each in found if each in self._own)  # type: ignore[return-value] # of `pending` alone

        return self._process.call(method, lambda: call(*args, **kwargs), lost, lagging)


class SimulatedStore:
    """A wrapper for a `storage` list: the store as one process sees it.

    Args:
        process: The process.
        truth: Is told who stored what.
        store: Where it is stored.
    """

    name = "simulated"

    def __init__(self, process: Process, truth: Truth, store: Store) -> None:
        self._process = process
        self._truth = truth
        self._store = store

    def around(self, inner: Adapter) -> Adapter:
        """The adapter with its turns and faults."""
        return _SimulatedAdapter(inner, self._process, self._truth, self._store)


class _SimulatedAdapter(WrappedAdapter):
    def __init__(self, inner: Adapter, process: Process, truth: Truth, store: Store) -> None:
        super().__init__(inner)
        self._process = process
        self._truth = truth
        self._store = store

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        """See `HookSpecs`."""
        self._truth.stored(self._process.actor.name, segment)
        return super().layer_setter(partition=partition, segment=segment)

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def plain() -> T:
            return call(*args, **kwargs)

        def lost() -> Exception:
            return StorageError("the store did not answer")

        def spoiled() -> T:
            right = call(*args, **kwargs)
            with self._store.spoiled(str(kwargs["ref"]), self._process.actor.chance("byte")):
                answer = call(*args, **kwargs)
            if answer != right:
                raise Simulated(f"{kwargs['ref']} came with a wrong byte, and nobody noticed")
            return answer

        return self._process.call(method, plain, lost, spoiled)


def _short(answer: object) -> str:
    match answer:
        case Exception():
            text = type(answer).__name__  # its text may name files of this run
        case Run(records=records, head=head):
            read = ", ".join(f"{record.version} {record.kind.value}" for record in records)
            text = f"records [{read}], {_short(head)}"
        case Head():
            named = ", ".join(f"{each.kind} {each.from_version}-{each.to_version}" for each in answer.segments)
            text = f"head {answer.version}, revision {answer.revision}, reset {answer.reset}, [{named}]"
        case Segment():
            text = f"{answer.name}, {answer.entries} entries"
        case Appended(partition=partition, version=version):
            text = f"{partition!r} {version}"
        case tuple() if answer and all(isinstance(each, Appended) for each in answer):
            text = ", ".join(map(_short, answer))
        case _ if hasattr(answer, "status_code"):
            text = str(answer.status_code)
        case _:
            text = repr(answer)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
