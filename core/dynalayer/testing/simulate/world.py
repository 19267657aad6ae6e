"""A world in which everything that happens follows from a seed: time, chance, and who acts when.

The engine runs in it as it is. Each actor has a thread, so that what the engine keeps by thread is right, and there is
one baton: only who holds it runs, and it is passed on at each call of a log or a store, and nowhere else. Time stands
still but for what the world adds. What the engine asks of `time`, `random` and `secrets` is answered by the world.

Every choice is made by the place where it falls, not by what was chosen before: leaving out one actor's operation
leaves the choices of all others as they are. That is what lets a failing run be shortened.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["HOUR", "MINUTE", "SECOND", "Aborted", "Actor", "Simulated", "World"]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_BEGIN = 1_767_225_600 * SECOND  # 2026-01-01 UTC
_MOST_STEPS = 50_000
_STUCK_SECONDS = 60.0  # of real time, for one step: an actor that waits for another would wait for ever

# How far time goes on in a step: a share of all steps, and the most that one of them takes; a seed has one of these.
_PACES: tuple[tuple[tuple[float, int], ...], ...] = (
    ((0.80, 5_000), (0.95, 2 * SECOND), (0.99, 2 * MINUTE), (1.00, 20 * HOUR)),
    ((0.50, 5_000), (0.70, 2 * SECOND), (1.00, 2 * MINUTE)),
    ((0.99, 5_000), (1.00, 2 * SECOND)),
)
_ABREAST = 4  # how strongly actors are kept abreast: a set is one call and a sync ten
_STOPS = (0.0, 0.02, 0.1)  # how likely an actor is stopped at a step, while others go on; likewise
_LONGEST_STOP = 60  # steps
_STICKINESS = (0.0, 0.5, 0.9)  # how likely whoever acted last acts again; likewise


def _baton() -> threading.Lock:
    """A lock that one thread releases for another: twice as quick as a semaphore."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Aborted(BaseException):
    """The run is over: a thread that still waits for its turn ends."""


class Simulated(BaseException):
    """What a run found to be wrong. No `Exception`: what handles errors must not hide it."""


class Actor:
    """Whoever acts: a process that may die and come again.

    Args:
        world: The world.
        name: Its name, unlike any other.
        body: What it does; called once, in its own thread.

    Attributes:
        progress: How much of what it has to do is done, from 0 to 1: who is behind acts more often.
        skew: By how much its clock is ahead, in microseconds.
    """

    def __init__(self, world: World, name: str, body: Callable[[Actor], None]) -> None:
        self.world = world
        self.name = name
        self.place: tuple[object, ...] = (name,)
        self.steps = self.tokens = 0
        self.asleep_until = 0
        self.stopped_until = 0
        self.skew = 0
        self.progress = 0.0
        self.done = False
        self.error: BaseException | None = None
        self._body = body
        self._go = _baton()
        self._thread = threading.Thread(target=self._run, name=f"simulated-{name}", daemon=True)

    def begin(self, *place: object) -> None:
        """Say where it is in what it does: the choices that follow depend on this and on nothing before."""
        self.place = (self.name, *place)
        self.steps = self.tokens = 0

    def clock(self) -> int:
        """The moment as its own clock tells it, in microseconds."""
        return self.world.now + self.skew

    def pause(self) -> None:
        """Let whoever is next act.

        Raises:
            Aborted: The run is over.
        """
        self.steps += 1
        self.stopped_until = self.world.stopped_until(self)
        self.world.baton.release()
        self._wait()

    def sleep(self, seconds: float) -> None:
        """Let others act for some time."""
        self.asleep_until = self.world.now + int(seconds * SECOND)
        self.pause()

    def chance(self, *what: object) -> float:
        """A number from 0 to 1 for this place and step."""
        return self.world.chance(*self.place, self.steps, *what)

    def start(self) -> None:
        """Make its thread, which waits for its turn."""
        self._thread.start()

    def resume(self) -> None:
        """Give it the baton, and wait until it gives it back."""
        self._go.release()
        if not self.world.baton.acquire(timeout=_STUCK_SECONDS):
            raise Simulated(f"{self.name} waits for somebody who cannot act, at {self.place}")

    def end(self) -> None:
        """Wait for its thread, once the run is over."""
        while self._thread.is_alive():
            if self._go.locked():
                self._go.release()
            self._thread.join(0.01)

    def _wait(self) -> None:
        self._go.acquire()
        if self.world.over:
            raise Aborted
        self.world.current = self

    def _run(self) -> None:
        try:
            self._wait()
            self._body(self)
        except Aborted:
            pass
        except BaseException as error:  # noqa: BLE001 -- it is raised by who runs the world
            self.error = error
        self.done = True
        if not self.world.over:
            self.world.baton.release()


class World:
    """Time, chance and turns.

    Args:
        seed: All follows from it.

    Attributes:
        now: The true moment, in microseconds since the epoch.
        trace: What happened, a line a step.
        current: Who has the baton.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = _BEGIN
        self.trace: list[str] = []
        self.current: Actor | None = None
        self.baton = _baton()
        self.over = False
        self._steps = 0
        self._last: Actor | None = None
        self.place: tuple[object, ...] = ("world",)
        self.tokens = 0
        self._seed = str(seed).encode()
        self._pace = self.choose(_PACES, "pace")
        self._stickiness = self.choose(_STICKINESS, "stickiness")
        self._stops = self.choose(_STOPS, "stops")

    def chance(self, *what: object) -> float:
        """A number from 0 to 1, always the same for the same place."""
        digest = hashlib.blake2b(repr(what).encode(), key=self._seed, digest_size=8).digest()
        return int.from_bytes(digest) / 2**64

    def choose(self, options: Sequence[Any], *what: object) -> Any:
        """One of several, always the same for the same place."""
        return options[int(self.chance(*what) * len(options))]

    def tell(self, text: str) -> None:
        """Add a line to the trace."""
        who = self.current.name if self.current else "world"
        days, rest = divmod((self.now - _BEGIN) // 1000, 86_400_000)
        self.trace.append(f"{self._steps:5} {days:3}d {rest / 1000:9.3f}s {who:10} {text}")

    def run(self, actors: Sequence[Actor], between: Callable[[], None]) -> None:
        """Let actors act until all are done.

        Args:
            actors: Who acts.
            between: Called before each turn.

        Raises:
            Simulated: The run does not end.
            BaseException: What an actor's body raised.
        """
        for actor in actors:
            actor.start()
        try:
            while waiting := [actor for actor in actors if not actor.done]:
                self._steps += 1
                if self._steps > _MOST_STEPS:
                    raise Simulated(f"the run did not end within {_MOST_STEPS:,} steps")
                between()
                actor = self._next(waiting)
                actor.resume()
                if actor.error is not None:
                    raise actor.error
        finally:
            self.over = True
            for actor in actors:
                actor.end()
            self.over = False
            self.current = None

    def _next(self, waiting: Sequence[Actor]) -> Actor:
        awake = [actor for actor in waiting if actor.asleep_until <= self.now]
        if not awake:
            self.now = min(actor.asleep_until for actor in waiting)
            awake = [actor for actor in waiting if actor.asleep_until <= self.now]
        awake = [actor for actor in awake if actor.stopped_until <= self._steps] or awake
        actor = self._last
        if actor is None or actor not in awake or actor.chance("again") >= self._stickiness:
            actor = min(awake, key=lambda each: (each.chance("turn") + _ABREAST * each.progress, each.name))
        self._last = actor
        pace = actor.chance("pace")
        most = next(most for share, most in self._pace if pace < share)
        self.now += 1 + int(actor.chance("time") * most)
        return actor

    def stopped_until(self, actor: Actor) -> int:
        """The step at which an actor acts next at the earliest: now and then it is stopped in the midst of its work."""
        if actor.chance("stopped") >= self._stops:
            return 0
        return self._steps + int(actor.chance("stopped for") * _LONGEST_STOP)

    def token(self, size: int = 32) -> str:
        """Hexadecimal digits as `secrets.token_hex` gives them, from the world's chance."""
        who = self.current or self
        who.tokens += 1
        place = (*who.place, who.tokens, "token")
        return hashlib.blake2b(repr(place).encode(), key=self._seed, digest_size=size).hexdigest()

    def uniform(self, low: float, high: float) -> float:
        """As `random.uniform`."""
        who = self.current
        return low + (high - low) * (who.chance("uniform") if who else self.chance("uniform"))

    def sleep(self, seconds: float) -> None:
        """As `time.sleep`."""
        if self.current is None:
            self.now += int(seconds * SECOND)
        else:
            self.current.sleep(seconds)

    def seconds(self) -> float:
        """As `time.time`, by the clock of who asks."""
        moment = self.current.clock() if self.current else self.now
        return moment / SECOND

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Answer what the engine asks of `time`, `random` and `secrets`, inside."""
        stand_ins: dict[ModuleType, object] = {
            time: _Time(self),
            random: _Random(self),
            secrets: _Secrets(self),
        }
        changed: list[tuple[ModuleType, str, ModuleType]] = []
        try:
            for name, module in sorted(sys.modules.items()):
                if not name.startswith("dynalayer") or name.startswith(__package__):
                    continue
                for attribute in ("time", "random", "secrets"):
                    asked = vars(module).get(attribute)
                    if isinstance(asked, ModuleType) and asked in stand_ins:
                        setattr(module, attribute, stand_ins[asked])
                        changed.append((module, attribute, asked))
            yield
        finally:
            for module, attribute, asked in changed:
                setattr(module, attribute, asked)


class _Time:
    """What the engine uses of `time`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sleep = world.sleep
        self.time = world.seconds

    def time_ns(self) -> int:
        return int(self._world.seconds() * SECOND) * 1000

    def monotonic(self) -> float:
        return (self._world.now - _BEGIN) / SECOND

    def clock_gettime(self, _: int) -> float:
        return self.monotonic()


class _Random:
    """What the engine uses of `random`."""

    def __init__(self, world: World) -> None:
        self.uniform = world.uniform


class _Secrets:
    """What the engine uses of `secrets`."""

    def __init__(self, world: World) -> None:
        self.token_hex = world.token
