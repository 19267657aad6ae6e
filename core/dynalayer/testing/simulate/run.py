"""One run: the actors of a seed, their layers and lives, and what must be so at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynalayer import compaction, keeping, syncing
from dynalayer.compaction import POLICY, Policy
from dynalayer.errors import LayerError, PositionExpiredError
from dynalayer.eventlog.base import EventLog, SegmentRef
from dynalayer.keeping import HistoryPolicy
from dynalayer.layer import Layer
from dynalayer.options import HistoryOption
from dynalayer.testing.faults import Crashed
from dynalayer.testing.simulate.actors import CONSUMER, OPERATIONS, PARTITIONS, RETENTION, Operation, allowed
from dynalayer.testing.simulate.faults import FAULTS, Network, Process, SimulatedStore
from dynalayer.testing.simulate.logs import Logs, logs_of
from dynalayer.testing.simulate.stores import STORES, TABLE, Store
from dynalayer.testing.simulate.truth import Truth
from dynalayer.testing.simulate.world import HOUR, SECOND, Actor, Simulated, World

__all__ = ["Life", "Outcome", "Plan", "plan_of", "run"]

# Who acts: a name, what it does by turns, and how many operations it has at most.
_ROLES: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("writer-1", ("set",), 40),
    ("writer-2", ("set", "set", "get"), 40),
    ("syncer-1", ("sync",), 30),
    ("syncer-2", ("sync", "sync", "vacuum"), 30),
    ("reader-1", ("get", "get", "history", "meta"), 20),
    ("reader-2", ("as-of", "as-of", "get", "verify"), 20),
    ("taker", ("take over", "sync"), 3),
    ("resetter", ("reset", "sync"), 6),
    ("vacuum", ("vacuum",), 20),
    ("follower", ("follow",), 20),
)
_SKEW = 2 * HOUR  # how far a clock may be off
_LAST_SYNCS = 100
_FOREVER = 0.3  # of the seeds
_FOLLOWED = 0.3  # of the seeds: where nobody follows there is more of the rest in each run
_EAGER = Policy(base_from=2, base_share=0.5, merge_from=2, merge_least=2)
_EAGER_HISTORY = HistoryPolicy(every=2, least=2, apart=3)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made of.

    Attributes:
        seed: Of all choices.
        log: Name of the log.
        store: Name of the store.
        operations: Who does what, in order for each actor.
        rate: How likely a call meets a fault.
        faults: Kinds of faults.
        only: Places at which faults may come; None: at all.
        policy: When to compact.
        wrappers: What stands around the store, outermost first, as `storage` takes it.
        history: How long history is kept.
    """

    seed: int
    log: str
    store: str
    operations: tuple[Operation, ...]
    rate: float
    faults: tuple[str, ...] = FAULTS
    only: frozenset[tuple[object, ...]] | None = None
    policy: Policy = POLICY
    wrappers: tuple[str, ...] = ()
    history: HistoryOption = "ttl"


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        plan: What it was made of.
        failure: What was wrong; None if nothing was.
        trace: What happened, a line a step.
        faults: Places of the faults that came.
        counts: How much took effect and was checked.
    """

    plan: Plan
    failure: str | None = None
    trace: list[str] = field(default_factory=list)
    faults: tuple[tuple[object, ...], ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


def plan_of(seed: int, *, log: str | None = None, store: str | None = None) -> Plan:
    """The plan of a seed; log and store are the seed's choice unless they are given."""
    world = World(seed)
    operations = [
        Operation(world.choose(kinds, name, number, "kind"), (name, number))
        for name, kinds, most in _ROLES
        if name != "follower" or world.chance("followed") < _FOLLOWED
        for number in range(int(world.chance(name, "many") * (most + 1)))
    ]
    # Files take a hundred times longer: some seeds are enough for them.
    chosen_log = log or ("sqlite" if world.chance("log") < 0.1 else "memory")
    chosen_store = store or ("local" if world.chance("store") < 0.1 else "memory")
    rate = float(world.choose((0.0, 0.01, 0.03, 0.1), "rate"))
    # With so few changes the real policy compacts in few runs only.
    policy = POLICY if world.chance("policy") < 0.3 else _EAGER
    history: HistoryOption = "forever" if world.chance("history") < _FOREVER else "ttl"
    return Plan(seed, chosen_log, chosen_store, tuple(operations), rate, policy=policy, history=history)


class Life:
    """An actor's lives: one layer after another, each as a process of its own.

    Args:
        actor: The actor.
        scene: What all share.
    """

    def __init__(self, actor: Actor, scene: Scene) -> None:
        self.name = actor.name
        self.operation = Operation("", ("", 0))
        self._actor = actor
        self._scene = scene
        self._process = Process(actor, scene.network)
        self._layer: Layer | None = None

    @property
    def now(self) -> int:
        """The true moment."""
        return self._scene.world.now

    @property
    def forever(self) -> bool:
        """Whether history is kept for ever."""
        return self._scene.plan.history == "forever"

    @property
    def faults(self) -> int:
        """Faults that this process met."""
        return self._process.struck

    def chance(self, *what: object) -> float:
        """A number from 0 to 1 for the operation at hand."""
        return self._scene.world.chance(*self.operation.place, *what)

    def choose(self, options: Sequence[Any], *what: object) -> Any:
        """One of several for the operation at hand."""
        return self._scene.world.choose(options, *self.operation.place, *what)

    def partition(self, *what: object) -> str:
        """The partition for the operation at hand; some seeds have but one, in which more happens."""
        few = self._scene.world.chance("partitions") < 0.6
        return str(self.choose(PARTITIONS[-1:] if few else PARTITIONS, "partition", *what))

    def pause(self) -> None:
        """Let others act."""
        self._actor.pause()

    def live(self, operations: Sequence[Operation]) -> None:
        """Do one operation after another; one that dies is followed by another process."""
        for operation in operations:
            self.operation = operation
            self._actor.begin(operation.place[1])
            self._actor.progress = operation.place[1] / (1 + operations[-1].place[1])
            self._actor.skew = self._skew()
            try:
                self._do(operation)
            except Crashed:
                self._scene.world.tell("is dead")
                self._layer = None  # never closed: nobody was there to do it
                self._process = Process(self._actor, self._scene.network)
        if self._layer is not None:
            self._layer.close()

    def _skew(self) -> int:
        """How far its clock is off: a little, and now and then a lot."""
        most = _SKEW if self.chance("jump") < 0.2 else SECOND // 20
        return int((2 * self.chance("skew") - 1) * most)

    def _do(self, operation: Operation) -> None:
        self._scene.world.tell(f"begins: {operation.kind}")
        before = self._process.struck
        try:
            if self._layer is None:
                self._layer = self._scene.layer(self._actor, self._process, remember=self.chance("memory") < 0.5)
            OPERATIONS[operation.kind](self, self._layer, self._scene.truth)
        except LayerError as error:
            if not allowed(error, self._process.struck - before):
                raise Simulated(f"{operation.kind} failed without a fault: {type(error).__name__}: {error}") from error
            self._scene.world.tell(f"ends: {type(error).__name__}")
        else:
            self._scene.world.tell("ends")


class Scene:
    """What all actors share.

    Args:
        plan: What the run is made of.
        world: Time, chance and turns.
        folder: For files.
        logs: Opens the logs.
    """

    def __init__(self, plan: Plan, world: World, folder: Path, logs: Callable[[World, Truth, Path], Logs]) -> None:
        self.world = world
        self.truth = Truth()
        self.network = Network(self.world, rate=plan.rate, kinds=plan.faults, only=plan.only)
        self.plan = plan
        self._logs = logs(world, self.truth, folder)
        self.store: Store = STORES[plan.store](folder)

    def layer(self, actor: Actor, process: Process, *, remember: bool) -> Layer:
        """An actor's layer."""
        return self._layer(
            self._logs.open(process),
            [SimulatedStore(process, self.truth, self.store)],
            clock=actor.clock,
            cache_bytes=2**20 if remember else 0,
        )

    def quiet_layer(self) -> Layer:
        """A layer without faults, as another process has it."""
        return self._layer(self._logs.open(None), [], clock=lambda: self.world.now)

    def _layer(self, log: EventLog, around: list[Any], **options: Any) -> Layer:
        return Layer(
            table=TABLE,
            get_item_unique_identifier="id",
            events=log,
            storage=[*self.plan.wrappers, *around, self.store.open()],
            ttl=RETENTION // SECOND,
            history=self.plan.history,
            **options,
        )

    def close(self) -> None:
        """Give back what it holds."""
        self._logs.close()

    def expire_all(self) -> None:
        """What may expire is gone."""
        for _ in range(2 * sum(self.truth.summary().values())):  # records, and rows that tell of syncs
            self._logs.expire(self.world.now, 0.0)

    def between(self) -> None:
        """Before each turn: requests arrive late, records expire."""
        self.network.turn()
        if self.world.chance(self.world.now, "expire") < 0.2:
            self._logs.expire(self.world.now, self.world.chance(self.world.now, "expired"))


def run(plan: Plan) -> Outcome:
    """Run a plan.

    The same plan gives the same run, byte for byte.
    """
    outcome = Outcome(plan)
    with tempfile.TemporaryDirectory(prefix="dynalayer-simulated-") as folder:
        world, logs = World(plan.seed), logs_of(plan.log)
        with world.installed(), _compacting(plan.policy), closing(Scene(plan, world, Path(folder), logs)) as scene:
            try:
                _act(scene)
                _end(scene)
            except Simulated as error:
                outcome.failure = str(error)
            except Exception as error:  # noqa: BLE001 -- whatever is raised is what the run is looking for
                outcome.failure = f"{type(error).__name__}: {error}"
    outcome.trace = world.trace
    outcome.faults = tuple(scene.network.faults)
    outcome.counts = {
        **scene.truth.summary(),
        "acknowledged": scene.truth.acknowledged,
        "checked": scene.truth.checked,
        "faults": len(scene.network.faults),
    }
    return outcome


@contextmanager
def _compacting(policy: Policy) -> Iterator[None]:
    """Compact by another policy, inside."""
    kept, keeping_policy = compaction.due, keeping.POLICY

    def due(segments: Sequence[SegmentRef]) -> tuple[int, int] | None:
        return kept(segments, policy)

    try:
        for module in (compaction, syncing):
            vars(module)["due"] = due
        vars(keeping)["POLICY"] = _EAGER_HISTORY if policy is _EAGER else keeping_policy
        yield
    finally:
        for module in (compaction, syncing):
            vars(module)["due"] = kept
        vars(keeping)["POLICY"] = keeping_policy


def _act(scene: Scene) -> None:
    actors = []
    for name in dict.fromkeys(operation.place[0] for operation in scene.plan.operations):
        operations = [each for each in scene.plan.operations if each.place[0] == name]

        def body(actor: Actor, operations: Sequence[Operation] = operations) -> None:
            Life(actor, scene).live(operations)

        actors.append(Actor(scene.world, name, body))
    scene.world.run(actors, scene.between)
    scene.network.arrive()


def _end(scene: Scene) -> None:
    """All is quiet: what is pending is folded, and everything must be there."""
    scene.world.now += 3 * _SKEW  # leases of the dead run out, whatever their clocks said
    scene.world.tell("all are done")
    with _open(scene) as layer:
        for _ in range(_LAST_SYNCS):
            if not layer.sync().count:
                break
        _check(scene, layer, "after the last sync")
        _follow_to_the_end(scene, layer)
        scene.world.now += 4 * RETENTION
        scene.expire_all()
        layer.sync()
        layer.vacuum(dry_run=False)
        _check(scene, layer, "after the last vacuum")
        if scene.plan.history == "forever":
            _check_past(scene.truth, layer)
    with _open(scene) as layer:
        _check(scene, layer, "for another process")


def _follow_to_the_end(scene: Scene, layer: Layer) -> None:
    """Follow once more, and again where something has expired: then nothing may be left."""
    for _ in PARTITIONS + PARTITIONS:
        scene.truth.followed.begin()
        try:
            for event in layer.follow(CONSUMER, wait=False, on_reset=scene.truth.followed.reset):
                scene.truth.check_followed(event)
            break
        except PositionExpiredError as error:
            layer.move_consumer(CONSUMER, "beginning", partition=error.partition)
    for partition in PARTITIONS:
        scene.truth.followed.check_whole(partition)
    if list(layer.follow(CONSUMER, wait=False)):
        raise Simulated("what was handled is handed out again, though nobody has died")


@contextmanager
def _open(scene: Scene) -> Iterator[Layer]:
    layer = scene.quiet_layer()
    try:
        yield layer
    finally:
        layer.close()


def _check(scene: Scene, layer: Layer, when: str) -> None:
    truth = scene.truth
    for partition in PARTITIONS:
        truth.check_read(partition, layer.get(partition), truth.moment(partition))
        truth.check_once(partition)
        events, meta = truth.events(partition), layer.meta(partition)
        if (meta.synced_total, meta.unsynced_total) != (events, 0):
            raise Simulated(f"{when} {partition!r} counts {meta}, and has had {events} events")
    total = sum(truth.events(partition) for partition in PARTITIONS)
    counts = layer.meta()
    if (counts.synced_total, counts.unsynced_total) != (total, 0):
        raise Simulated(f"{when} the layer counts {counts}, and has had {total} events")
    if scene.plan.history == "forever":
        for partition in PARTITIONS:
            truth.check_history(partition, layer.history(partition), truth.moment(partition), 1)
    result = layer.verify()
    if not result.ok:
        raise Simulated(f"{when} verify finds {result.findings[0]}")


def _check_past(truth: Truth, layer: Layer) -> None:
    """Every state that ever was is read, from storage alone."""
    for partition in PARTITIONS:
        since = truth.moment(partition)
        for version in range(since.version + 1):
            truth.check_past(partition, [version], layer.get(partition, at=version), since)
