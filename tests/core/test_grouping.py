"""Threads that set to one partition at once share a record: in order, and none waits forever or works for the others.

The log's appends wait until the test lets them go on, so that who comes before whom is the test's to say.
"""

from __future__ import annotations

import gc
import itertools
import linecache
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from dynalayer import AppendError, ClosedError, Event, InvalidEventError, Layer, MemoryEventLog
from dynalayer import grouping as module
from dynalayer.errors import Outcome
from dynalayer.eventlog.base import Appended, Draft, Record
from dynalayer.events import Change, pack, unpack
from dynalayer_local import LocalAdapter
from fakes import DAY

PATIENCE = 30.0  # seconds, for what takes none
NOON = 1_800_000_000_000_000

Put = tuple[str, str]
"""A partition, and the identifier of the item that is put there."""


# The log


@dataclass(eq=False)
class Call:
    """One append that has arrived at the log, and waits there.

    Attributes:
        drafts: What is to be appended.
        thread: Whose call it is.
    """

    drafts: tuple[Draft, ...]
    thread: threading.Thread
    _gate: threading.Event = field(default_factory=threading.Event)
    _error: BaseException | None = None

    def passes(self) -> None:
        """Let it succeed."""
        self._gate.set()

    def fails(self, error: BaseException) -> None:
        """Let it fail; what an `AppendError` says is written is."""
        self._error = error
        self._gate.set()

    def wait(self) -> BaseException | None:
        assert self._gate.wait(PATIENCE), "the test never let this append go on"
        return self._error

    @property
    def ids(self) -> dict[str, list[str]]:
        """Partition to the identifiers of its items, in order."""
        return {draft.partition: ids_of(draft.payload) for draft in self.drafts}


class Gated(MemoryEventLog):
    """A log in memory whose appends wait for the test, until it lets all of them go on."""

    def __init__(self, group_limit: int = 100_000) -> None:
        super().__init__("items")
        self.group_limit = group_limit
        self.calls: list[Call] = []
        self.free = False
        self._arrived: queue.Queue[Call] = queue.Queue()

    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        call = Call(tuple(drafts), threading.current_thread())
        self.calls.append(call)
        self._arrived.put(call)
        if self.free:
            call.passes()
        error = call.wait()
        if isinstance(error, AppendError):
            super().append([draft for draft in drafts if error.outcomes[draft.partition] == "written"])
        if error is not None:
            raise error
        return super().append(drafts)

    def next(self) -> Call:
        """The next append that arrives."""
        return self._arrived.get(timeout=PATIENCE)

    def let_go(self) -> None:
        """Let all appends succeed from now on, and those that wait."""
        self.free = True
        for call in list(self.calls):
            call.passes()

    def records(self, partition: str = "eu") -> tuple[Record, ...]:
        return self.read(partition, 0).records

    def stored(self, partition: str = "eu") -> list[list[str]]:
        """The identifiers in each of a partition's records."""
        return [ids_of(record.payload) for record in self.records(partition)]


def ids_of(payload: bytes) -> list[str]:
    return [change.id for change in unpack(payload, 1 << 20)]


# Callers


class Caller(threading.Thread):
    """A thread that sets, and what came of it.

    Attributes:
        moment: When it sets, by the layer's clock.
    """

    def __init__(self, call: Callable[[], list[Event]], moment: int = NOON) -> None:
        super().__init__(daemon=True)
        self.moment = moment
        self._call = call
        self._answer: list[Event] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._answer = self._call()
        except BaseException as error:  # noqa: BLE001 -- the test is told
            self._error = error

    def waits(self) -> bool:
        return stands_in_line(self)

    def ended(self) -> bool:
        return not self.is_alive()

    def events(self) -> list[Event]:
        """The events that it was given back."""
        error = self.error()
        assert error is None, f"{type(error).__name__}: {error}"
        return self._answer

    def error(self) -> BaseException | None:
        """What it ended with; None where all went well."""
        self.join(PATIENCE)
        assert self.ended(), "it waits forever"
        return self._error

    def failed(self) -> AppendError:
        error = self.error()
        assert isinstance(error, AppendError)
        return error

    def version(self) -> int:
        (version,) = {event.version for event in self.events()}
        return version


def stands_in_line(thread: threading.Thread) -> bool:
    """Whether a thread waits behind others: in a `wait` that was called by the module under test."""
    frame = sys._current_frames().get(thread.ident or 0)
    waits = frame is not None and frame.f_code.co_name == "wait"
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        frame = frame.f_back
    return waits and frame is not None and frame.f_code.co_filename == module.__file__


def until(*conditions: Callable[[], bool]) -> None:
    """Wait until one of the conditions holds."""
    deadline = time.monotonic() + PATIENCE
    while not any(condition() for condition in conditions):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.0005)


def puts(*changes: Put, **item: Any) -> list[dict[str, Any]]:
    return [{"type": "PUT", "item": {"pk": partition, "id": name, **item}} for partition, name in changes]


class Crowd:
    """Callers of one layer, who come one after the other.

    Attributes:
        log: The layer's log.
        layer: The layer.
    """

    def __init__(self, folder: Path, group_limit: int = 100_000) -> None:
        self.log = Gated(group_limit)
        self.layer = Layer(
            table="items",
            get_item_unique_identifier="id",
            get_item_partition="pk",
            events=self.log,
            storage=LocalAdapter(folder),
            ttl=lambda item: float(item.get("ttl", DAY)),
            clock=lambda: getattr(threading.current_thread(), "moment", NOON),
        )
        self._callers: list[Caller] = []

    def come(
        self,
        *changes: Put,
        moment: int = NOON,
        trace: Callable[..., Any] | None = None,
        **item: Any,
    ) -> Caller:
        """A caller who sets; this returns once it waits in a line, has arrived at the log, or is gone."""

        def call() -> list[Event]:
            sys.settrace(trace)
            try:
                return self.layer.set(puts(*changes, **item))
            finally:
                sys.settrace(None)

        calls = len(self.log.calls)
        caller = Caller(call, moment)
        self._callers.append(caller)
        caller.start()
        until(caller.waits, caller.ended, lambda: any(each.thread is caller for each in self.log.calls[calls:]))
        return caller

    def line_up(self, *names: str, partition: str = "eu", **item: Any) -> list[Caller]:
        """Callers who come while another appends, each with a change of one item."""
        callers = [self.come((partition, name), **item) for name in names]
        assert all(caller.waits() for caller in callers)
        return callers

    def serve_all(self) -> None:
        """Let all appends go on, until nobody is left."""
        self.log.let_go()
        for caller in self._callers:
            caller.join(PATIENCE)
        left = sum(not caller.ended() for caller in self._callers)
        assert not left, f"{left} callers wait forever"

    def leave(self) -> None:
        self.serve_all()
        self.layer.close()


@pytest.fixture
def make_crowd(tmp_path: Path) -> Iterator[Callable[..., Crowd]]:
    crowds: list[Crowd] = []

    def make(group_limit: int = 100_000) -> Crowd:
        crowds.append(Crowd(tmp_path, group_limit))
        return crowds[-1]

    yield make
    for crowd in crowds:
        crowd.leave()


@pytest.fixture
def crowd(make_crowd: Callable[..., Crowd]) -> Crowd:
    return make_crowd()


def size_of(partition: str, name: str) -> int:
    """Bytes that a caller's change takes packed by itself."""
    return len(pack([Change("PUT", name, {"pk": partition, "id": name})]))


# What is grouped


def test_callers_that_come_while_one_appends_share_a_record_in_the_order_in_which_they_came(crowd: Crowd) -> None:
    first = crowd.come(("eu", "a"))
    call = crowd.log.next()
    others = crowd.line_up("b", "c", "d")
    call.passes()
    assert first.version() == 1
    group = crowd.log.next()
    assert group.ids == {"eu": ["b", "c", "d"]}
    assert not any(other.ended() for other in others)
    group.passes()
    assert [other.version() for other in others] == [2, 2, 2]
    assert crowd.log.stored() == [["a"], ["b", "c", "d"]]


def test_a_caller_that_comes_alone_appends_at_once(crowd: Crowd) -> None:
    for version, name in enumerate("abc", 1):
        caller = crowd.come(("eu", name))
        call = crowd.log.next()
        assert (call.thread, call.ids) == (caller, {"eu": [name]})
        call.passes()
        assert caller.version() == version


def test_each_is_given_its_own_events_back_in_the_order_in_which_it_gave_them(crowd: Crowd) -> None:
    first = crowd.come(("eu", "a"))
    b = crowd.come(("eu", "b1"), ("us", "b2"), ("eu", "b3"))
    c = crowd.come(("eu", "c1"), ("eu", "c2"))
    crowd.log.let_go()
    assert [(event.id, event.partition, event.version) for event in b.events()] == [
        ("b1", "eu", 2),
        ("b2", "us", 1),
        ("b3", "eu", 2),
    ]
    assert [(event.id, event.version, event.item) for event in c.events()] == [
        ("c1", 2, {"pk": "eu", "id": "c1"}),
        ("c2", 2, {"pk": "eu", "id": "c2"}),
    ]
    assert [event.id for event in first.events()] == ["a"]


def test_several_partitions_of_one_caller_are_appended_side_by_side(crowd: Crowd) -> None:
    caller = crowd.come(("eu", "a"), ("us", "b"), ("eu", "c"))
    call = crowd.log.next()
    assert call.ids == {"eu": ["a", "c"], "us": ["b"]}
    call.passes()
    assert [event.version for event in caller.events()] == [1, 1, 1]
    assert len(crowd.log.calls) == 1


def test_partitions_do_not_wait_for_each_other(crowd: Crowd) -> None:
    held = [crowd.come(("eu", "a")), *crowd.line_up("b")]
    other = crowd.come(("us", "c"))
    crowd.log.next()
    crowd.log.next().passes()
    assert other.version() == 1
    both = crowd.come(("eu", "d"), ("us", "e"))
    call = crowd.log.next()
    assert (call.thread, call.ids) == (both, {"us": ["e"]}), "its line in one partition kept it from the other"
    call.passes()
    assert not any(caller.ended() for caller in [*held, both])
    crowd.log.let_go()
    assert [caller.version() for caller in held] == [1, 2]
    assert [(event.partition, event.version) for event in both.events()] == [("eu", 2), ("us", 2)]


def test_the_moment_of_a_group_is_the_latest_its_retention_the_longest_its_count_the_sum(crowd: Crowd) -> None:
    crowd.come(("eu", "a"), moment=NOON)
    times = [(NOON + 30, 2 * DAY), (NOON + 50, 9 * DAY), (NOON + 40, DAY)]
    others = [
        crowd.come(("eu", f"{number}-1"), ("eu", f"{number}-2"), moment=moment, ttl=ttl)
        for number, (moment, ttl) in enumerate(times)
    ]
    crowd.log.let_go()
    assert [other.version() for other in others] == [2, 2, 2]
    first, group = crowd.log.records()
    assert (first.at, first.retention, first.count) == (NOON, DAY, 1)
    assert (group.at, group.retention, group.count, group.events_total) == (NOON + 50, 9 * DAY, 6, 7)
    assert {event.at.microsecond for other in others for event in other.events()} == {50}


def test_a_log_without_a_limit_is_not_grouped(make_crowd: Callable[..., Crowd]) -> None:
    crowd = make_crowd(0)
    callers = [crowd.come(("eu", name)) for name in "abc"]
    calls = [crowd.log.next() for _ in callers]
    assert [(call.thread, call.ids) for call in calls] == [
        (caller, {"eu": [name]}) for caller, name in zip(callers, "abc", strict=True)
    ]
    crowd.log.let_go()
    assert sorted(caller.version() for caller in callers) == [1, 2, 3]


def test_what_is_refused_stands_in_no_line(crowd: Crowd) -> None:
    crowd.come(("eu", "a"))
    with pytest.raises(InvalidEventError):
        crowd.layer.set([{"type": "PUT", "item": {"pk": "eu"}}])
    crowd.line_up("b")
    crowd.serve_all()
    assert crowd.log.stored() == [["a"], ["b"]]


def test_history_and_reads_show_grouped_events_in_order_before_and_after_a_sync(crowd: Crowd) -> None:
    crowd.come(("eu", "a"), n=0)
    for number in range(1, 4):
        crowd.come(("eu", "x"), ("eu", f"b{number}"), n=number)
    crowd.serve_all()
    told = [(1, "a", 0), *((2, name, number) for number in (1, 2, 3) for name in ("x", f"b{number}"))]
    for synced in (False, True):
        if synced:
            assert crowd.layer.sync().count == 7
        assert [(event.version, event.id, event.item["n"]) for event in crowd.layer.history("eu")] == told
        assert [(event.version, event.item["n"]) for event in crowd.layer.history("eu", id="x")] == [
            (2, 1),
            (2, 2),
            (2, 3),
        ]
        assert {item["id"]: item["n"] for item in crowd.layer.get("eu")} == {"a": 0, "b1": 1, "b2": 2, "b3": 3, "x": 3}
        assert [item["id"] for item in crowd.layer.get("eu", at=1)] == ["a"]


# How much goes in a group


def test_a_group_stays_within_the_limit_and_the_rest_goes_in_the_next(make_crowd: Callable[..., Crowd]) -> None:
    one = size_of("eu", "0")
    crowd = make_crowd(3 * one)
    crowd.come(("eu", "0"))
    callers = crowd.line_up(*"1234567")
    crowd.log.let_go()
    assert [caller.version() for caller in callers] == [2, 2, 2, 3, 3, 3, 4]
    assert [list(call.ids.values()) for call in crowd.log.calls] == [[["0"]], [[*"123"]], [[*"456"]], [["7"]]]


def test_a_byte_more_than_the_limit_is_the_next_groups(make_crowd: Callable[..., Crowd]) -> None:
    crowd = make_crowd(3 * size_of("eu", "0") - 1)
    crowd.come(("eu", "0"))
    callers = crowd.line_up(*"1234")
    crowd.log.let_go()
    assert [caller.version() for caller in callers] == [2, 2, 3, 3]


def test_what_is_larger_than_a_group_goes_alone_and_is_not_overtaken(make_crowd: Callable[..., Crowd]) -> None:
    crowd = make_crowd(3 * size_of("eu", "0"))
    crowd.come(("eu", "0"))
    crowd.line_up("1")
    crowd.come(("eu", "large"), text=random.Random(0).randbytes(2000).hex())
    crowd.line_up("2", "3")
    crowd.serve_all()
    assert crowd.log.stored() == [["0"], ["1"], ["large"], ["2", "3"]]


def test_a_line_in_one_partition_does_not_count_for_the_group_of_another(make_crowd: Callable[..., Crowd]) -> None:
    crowd = make_crowd(2 * size_of("eu", "0"))
    crowd.come(("eu", "0"), ("us", "0"))
    for number in "12":
        crowd.come(("eu", number), ("us", number))
    crowd.serve_all()
    assert crowd.log.stored("eu") == crowd.log.stored("us") == [["0"], ["1", "2"]]


# Whose turn it is


def test_a_caller_is_done_with_its_own_append_whoever_waits(make_crowd: Callable[..., Crowd]) -> None:
    crowd = make_crowd(2 * size_of("eu", "a"))
    callers = [crowd.come(("eu", "a")), *crowd.line_up(*"bcdef")]
    for leader, group in ((0, "a"), (1, "bc"), (3, "de"), (5, "f")):
        call = crowd.log.next()
        assert (call.thread, call.ids) == (callers[leader], {"eu": [*group]})
        call.passes()
        for caller in callers[leader : leader + len(group)]:
            caller.events()  # while the next append waits at the log
        assert not any(caller.ended() for caller in callers[leader + len(group) :])
    assert [call.thread for call in crowd.log.calls] == [callers[0], callers[1], callers[3], callers[5]]


def test_who_comes_again_and_again_does_not_get_in_front_of_who_waits(make_crowd: Callable[..., Crowd]) -> None:
    crowd = make_crowd(1)  # each in a record of its own
    crowd.come(("eu", "a"))
    crowd.line_up("b", "c")
    crowd.log.next().passes()
    crowd.log.next()
    crowd.line_up("a again")
    crowd.serve_all()
    assert crowd.log.stored() == [["a"], ["b"], ["c"], ["a again"]]


def test_the_collector_runs_while_callers_wait(crowd: Crowd) -> None:
    """Where sets overlap all day it would else never run."""
    assert gc.isenabled()
    crowd.come(("eu", "a"))
    crowd.line_up("b")
    assert gc.isenabled()


# Several partitions


@pytest.mark.parametrize("orders", list(itertools.product(itertools.permutations(("eu", "us", "")), repeat=2)))
def test_callers_of_the_same_partitions_in_any_order_do_not_wait_for_each_other(
    crowd: Crowd, orders: tuple[tuple[str, ...], ...]
) -> None:
    held = [crowd.come((partition, "held")) for partition in ("eu", "us")]
    callers = [crowd.come(*((partition, str(number)) for partition in order)) for number, order in enumerate(orders)]
    # What each of them waits for is given to it while others wait for what it has been given.
    crowd.log.let_go()
    for caller in (*held, *callers):
        caller.events()
    for partition in ("eu", "us"):
        assert crowd.log.stored(partition) == [["held"], ["0", "1"]]
    assert sorted(itertools.chain(*crowd.log.stored(""))) == ["0", "1"]


def test_many_callers_of_overlapping_partitions_come_to_an_end(make_crowd: Callable[..., Crowd]) -> None:
    crowd = make_crowd(1)  # nothing is shared: everybody waits for everybody
    crowd.log.free = True
    partitions = ["eu", "us", "ap", "sa"]

    def work(seed: int) -> list[Event]:
        rng = random.Random(seed)
        for number in range(50):
            chosen = rng.sample(partitions, rng.randint(2, 4))
            crowd.layer.set(puts(*((partition, f"{seed}-{number}") for partition in chosen)))
        return []

    callers = [Caller(partial(work, seed)) for seed in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.events()


# What goes wrong


def failure(outcomes: Mapping[str, Outcome], *, retryable: bool = False) -> AppendError:
    return AppendError("the table is on fire", outcomes=outcomes, retryable=retryable)


@pytest.mark.parametrize("outcome", ["written", "not written", "unknown"])
def test_each_caller_is_told_what_came_of_its_own_partitions_and_of_no_others(crowd: Crowd, outcome: Outcome) -> None:
    first = crowd.come(("eu", "a"))
    call = crowd.log.next()
    b = crowd.come(("eu", "b"), ("us", "b"))
    crowd.log.next().passes()
    until(b.waits)
    c = crowd.come(("ap", "c"), ("eu", "c"))
    crowd.log.next().fails(failure({"ap": "not written"}))
    until(c.waits)
    (d,) = crowd.line_up("d")
    call.passes()
    assert first.version() == 1
    group = crowd.log.next()
    assert group.ids == {"eu": ["b", "c", "d"]}
    later = crowd.line_up("e")
    group.fails(failure({"eu": outcome}, retryable=True))
    assert b.failed().outcomes == {"eu": outcome, "us": "written"}
    assert c.failed().outcomes == {"ap": "not written", "eu": outcome}
    assert d.failed().outcomes == {"eu": outcome}
    for each in (b, c, d):
        assert each.failed().message == "the table is on fire"
        assert each.failed().operation == "set"
        assert isinstance(each.failed().__cause__, AppendError)
    assert len({id(each.failed()) for each in (b, c, d)}) == 3, "each thread has an error of its own to add to"
    # Setting it all again doubles nothing only where nothing of it is, or may be, written.
    assert not b.failed().retryable
    assert not c.failed().retryable, "what failed first, where it was alone, does not go away"
    assert d.failed().retryable == (outcome == "not written")
    crowd.log.let_go()
    assert later[0].version() == (3 if outcome == "written" else 2)


def test_what_fails_in_one_of_ones_own_partitions_is_not_told_of_the_others(crowd: Crowd) -> None:
    caller = crowd.come(("eu", "a"), ("us", "a"), ("ap", "a"))
    (behind,) = crowd.line_up("b", partition="us")
    outcomes: dict[str, Outcome] = {"eu": "written", "us": "unknown", "ap": "not written"}
    crowd.log.next().fails(failure(outcomes, retryable=True))
    assert caller.failed().outcomes == outcomes
    assert not caller.failed().retryable
    crowd.log.let_go()
    assert behind.version() == 1


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a fault of ours"), KeyboardInterrupt(), SystemExit(3)],
    ids=repr,
)
def test_what_nobody_expected_reaches_who_appended_and_the_others_are_told_that_it_is_unknown(
    crowd: Crowd, error: BaseException
) -> None:
    crowd.come(("eu", "a"))
    b = crowd.come(("eu", "b"), ("us", "b"))
    call = crowd.log.next(), crowd.log.next()
    call[1].passes()
    until(b.waits)
    c, d = crowd.come(("eu", "c")), crowd.come(("eu", "d"))
    call[0].passes()
    group = crowd.log.next()
    assert (group.thread, group.ids) == (b, {"eu": ["b", "c", "d"]})
    (later,) = crowd.line_up("e")
    group.fails(error)
    assert b.error() is error
    for other in (c, d):
        assert other.failed().outcomes == {"eu": "unknown"}
        assert other.failed().__cause__ is error
        assert not other.failed().retryable
        told = f"with its own was broken off ({type(error).__name__}{f': {error}' if str(error) else ''}); see in"
        assert told in other.failed().message
    crowd.log.let_go()
    assert later.version() == 2
    assert crowd.log.stored() == [["a"], ["e"]]


def test_a_log_that_was_closed_wrote_nothing_and_each_caller_is_told_so(crowd: Crowd) -> None:
    crowd.come(("eu", "a"))
    b = crowd.come(("eu", "b"), ("us", "b"))
    call = crowd.log.next(), crowd.log.next()
    call[1].passes()
    until(b.waits)
    c, d = crowd.come(("eu", "c")), crowd.come(("eu", "d"))
    call[0].passes()
    group = crowd.log.next()
    (later,) = crowd.line_up("e")
    closed = ClosedError("the event log was closed")
    group.fails(closed)
    assert b.failed().outcomes == {"eu": "not written", "us": "written"}
    for other in (c, d):
        error = other.error()
        assert isinstance(error, ClosedError)
        assert (error.message, error.operation, error.__cause__) == (closed.message, "set", closed)
    assert c.error() is not d.error(), "each thread has an error of its own to add to"
    crowd.log.let_go()
    assert later.version() == 2
    assert crowd.log.stored() == [["a"], ["e"]]


def test_who_appends_alone_to_a_log_that_was_closed_is_told_so(crowd: Crowd) -> None:
    caller = crowd.come(("eu", "a"))
    crowd.log.next().fails(ClosedError("the event log was closed"))
    assert isinstance(caller.error(), ClosedError)


def test_who_failed_with_what_nobody_expected_leaves_its_other_lines(crowd: Crowd) -> None:
    crowd.come(("us", "a"))
    call = crowd.log.next()
    b = crowd.come(("eu", "b"), ("us", "b"))
    (c,) = crowd.line_up("c", partition="us")
    crowd.log.next().fails(MemoryError())
    assert isinstance(b.error(), MemoryError)
    call.passes()
    group = crowd.log.next()
    assert (group.thread, group.ids) == (c, {"us": ["c"]})
    group.passes()
    assert c.version() == 2


class Interrupted(BaseException):
    """What is raised in the midst of anything, as by Ctrl-C."""


@contextmanager
def interruption() -> Iterator[Callable[[], None]]:
    """A function by which another thread interrupts this one, which must be the process's main thread."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread is interrupted by a signal")

    def interrupt(*_: object) -> None:
        raise Interrupted

    main = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield lambda: signal.pthread_kill(main, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signals to threads")
def test_who_is_interrupted_while_it_waits_leaves_the_line_and_holds_nobody_up(crowd: Crowd) -> None:
    first = crowd.come(("eu", "a"))
    call = crowd.log.next()
    before = crowd.line_up("b")
    behind: list[Caller] = []
    with interruption() as interrupt:
        this = threading.main_thread()

        def others() -> list[Event]:
            until(lambda: stands_in_line(this))
            behind.extend(crowd.line_up("d", "e"))
            interrupt()
            return []

        helper = Caller(others)
        helper.start()
        with pytest.raises(Interrupted):
            crowd.layer.set(puts(("eu", "c")))
        helper.events()
    call.passes()
    assert first.version() == 1
    group = crowd.log.next()
    assert group.ids == {"eu": ["b", "d", "e"]}
    group.passes()
    assert [caller.version() for caller in (*before, *behind)] == [2, 2, 2]


# In the midst of an append of one's own


@contextmanager
def handler(handle: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """A function by which another thread has a signal's handler run on this one, which must be the main thread."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread handles signals")
    main = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, lambda *_: handle())
    try:
        yield lambda: signal.pthread_kill(main, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signals to threads")
def test_a_handler_that_sets_while_its_own_thread_appends_is_written_at_once(crowd: Crowd) -> None:
    told: list[Event] = []

    def last_words() -> None:
        crowd.log.free = True  # for what the handler appends
        told.extend(crowd.layer.set(puts(("eu", "last words"), ("us", "last words"))))

    with handler(last_words) as signals:

        def others() -> list[Event]:
            call = crowd.log.next()
            behind = crowd.line_up("b")
            signals()
            until(lambda: len(told) == 2)
            call.passes()
            return behind[0].events()

        helper = Caller(others)
        helper.start()
        (event,) = crowd.layer.set(puts(("eu", "a")))
        helper.events()
    assert [each.version for each in told] == [1, 1]
    assert event.version == 2
    assert crowd.log.stored() == [["last words"], ["a"], ["b"]]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signals to threads")
def test_a_handler_that_sets_while_its_own_thread_waits_in_line_is_written_at_once(crowd: Crowd) -> None:
    first = crowd.come(("eu", "a"))
    call = crowd.log.next()
    told: list[Event] = []

    def last_words() -> None:
        crowd.log.free = True
        told.extend(crowd.layer.set(puts(("eu", "last words"))))

    with handler(last_words) as signals:
        this = threading.main_thread()

        def others() -> list[Event]:
            until(lambda: stands_in_line(this))
            signals()
            until(lambda: bool(told))
            call.passes()
            return []

        helper = Caller(others)
        helper.start()
        (event,) = crowd.layer.set(puts(("eu", "b")))
        helper.events()
    assert (told[0].version, first.version(), event.version) == (1, 2, 3)


class Again:
    """Sets once more, on the same thread, at the n-th line of the module that it comes to; its own `trace`."""

    def __init__(self, step: int, again: Callable[[], object]) -> None:
        self._left = step
        self._again = again
        self.reached = False

    def __call__(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line" and not self.reached:
            self._left -= 1
            if self._left == 0:
                self.reached = True
                self._again()
        return self


def test_wherever_a_caller_sets_again_in_the_midst_of_its_append_nobody_waits_forever(
    make_crowd: Callable[..., Crowd],
) -> None:
    """As a finalizer does, which runs on any thread; within the locks too."""
    for step in range(1, STEPS):
        crowd = make_crowd()
        crowd.log.free = True
        again = Again(step, partial(crowd.layer.set, puts(("eu", "again"))))
        caller = crowd.come(("eu", "a"), ("us", "a"), trace=again)
        assert caller.error() is None
        stored = sorted(itertools.chain(*crowd.log.stored()))
        assert stored == (["a", "again"] if again.reached else ["a"])
        crowd.leave()
        if not again.reached:
            assert step > 10
            return
    raise AssertionError("it never came to an end")


class Stops:
    """Stops a thread, once it is told to, at the next line of the module, and interrupts it there; its own `trace`."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.stopped = threading.Event()
        self.goes_on = threading.Event()

    def __call__(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line" and self.told.is_set() and not self.stopped.is_set():
            self.stopped.set()
            assert self.goes_on.wait(PATIENCE)
            raise Interrupted
        return self


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signals to threads")
def test_two_who_are_interrupted_one_behind_the_other_hold_nobody_up(crowd: Crowd) -> None:
    """The first has been given its turn, for the second too, and has not begun."""
    stops = Stops()
    crowd.come(("eu", "a"))
    call = crowd.log.next()
    first = crowd.come(("eu", "b"), trace=stops)
    behind: list[Caller] = []
    with interruption() as interrupt:
        this = threading.main_thread()

        def others() -> list[Event]:
            until(lambda: stands_in_line(this))
            behind.extend(crowd.line_up("d"))
            stops.told.set()
            call.passes()
            assert stops.stopped.wait(PATIENCE)
            interrupt()
            return []

        helper = Caller(others)
        helper.start()
        with pytest.raises(Interrupted):
            crowd.layer.set(puts(("eu", "c")))
        helper.events()
    stops.goes_on.set()
    assert isinstance(first.error(), Interrupted)
    crowd.log.let_go()
    assert behind[0].version() == 2
    assert crowd.come(("eu", "e")).version() == 3
    assert crowd.log.stored() == [["a"], ["d"], ["e"]]


class Interrupts:
    """Interrupts a thread at the n-th line of the module that it comes to; its own `trace`.

    Attributes:
        reached: Whether there were as many.
    """

    def __init__(self, step: int) -> None:
        self._left = step
        self.reached = False
        self.where = ""

    def __call__(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != module.__file__:
            return None
        # Leaving a `with` passes its line again: there a trace can raise what a signal's handler cannot.
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not self.reached and not line.strip().startswith("with "):
            self._left -= 1
            if self._left == 0:
                self.reached = True
                self.where = f"{frame.f_code.co_name}, line {frame.f_lineno}"
                raise Interrupted
        return self


STEPS = 400  # more than there are lines to be interrupted at


def test_wherever_a_caller_is_interrupted_nobody_waits_forever(make_crowd: Callable[..., Crowd]) -> None:
    """It leads one partition and stands in the line of another, with others behind it in both."""
    for step in range(1, STEPS):
        interrupts = Interrupts(step)
        crowd = make_crowd()
        first = crowd.come(("eu", "a"))
        caller = crowd.come(("eu", "b"), ("us", "b"), trace=interrupts)
        others = [crowd.come((partition, name)) for name in "cd" for partition in ("eu", "us")]
        crowd.log.let_go()
        until(first.ended)
        crowd.come(("eu", "e"), ("us", "e")).events()  # who comes afterwards is not held up either
        error = caller.error()
        assert interrupts.reached == isinstance(error, Interrupted), interrupts.where
        check_told(crowd, "us", {"c": others[1], "d": others[3]}, interrupts.where)
        check_told(crowd, "eu", {"a": first, "c": others[0], "d": others[2]}, interrupts.where)
        crowd.leave()
        if not interrupts.reached:
            assert step > 20
            return
    raise AssertionError("it never came to an end")


def check_told(crowd: Crowd, partition: str, callers: Mapping[str, Caller], where: str) -> None:
    """Everybody was told the truth: at worst that it is unknown, of what an interrupted one had taken on."""
    errors = {
        name: caller.error() for name, caller in callers.items()
    }  # waits for them: what is stored is looked at last
    stored = Counter(itertools.chain(*crowd.log.stored(partition)))
    assert set(stored.values()) <= {1}, where
    for name, error in errors.items():
        if error is None:
            assert stored[name] == 1, where
        else:
            assert isinstance(error, AppendError), where
            assert error.outcomes == {partition: "unknown"}, where
    assert stored["e"] == 1, where


# Forks


FORKING = """
import os, signal, sys, threading
from dynalayer import Layer, MemoryEventLog
from dynalayer import grouping

class Slow(MemoryEventLog):
    group_limit = 100_000
    parent = os.getpid()
    arrived, gate = threading.Event(), threading.Event()

    def append(self, drafts):
        if os.getpid() == self.parent:
            self.arrived.set()
            assert self.gate.wait(30)
        return super().append(drafts)

def change(name):
    return [{"type": "PUT", "id": name, "partition": "eu", "item": {}}]

layer = Layer(table="items", events=Slow("items"), storage="local:snapshots")
threads = [threading.Thread(target=layer.set, args=(change(name),)) for name in "ab"]
threads[0].start()
assert Slow.arrived.wait(30)
threads[1].start()

def forked():
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(30)  # a child that hangs is a child that fails
    status = 1
    try:
        versions = [layer.set(change(name))[0].version for name in "cd"]
        status = 0 if versions == [1, 2] else 2
    finally:
        os._exit(status)

told = [forked()]
with layer._appender._groups._lines.lock:  # as if a thread held it at that moment
    told.append(forked())
Slow.gate.set()
for thread in threads:
    thread.join(30)
print(told, sorted(event.id for event in layer.history("eu")))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system knows no fork")
def test_a_forked_child_does_not_stand_behind_its_parents_threads(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[0, 0] ['a', 'b']"), done.stderr


# All at once


class Flaky(MemoryEventLog):
    """A log in memory that takes a moment for each append, as a round trip does, and fails some of them."""

    def __init__(self, group_limit: int) -> None:
        super().__init__("items")
        self.group_limit = group_limit
        self.appends = 0
        self._random = random.Random(1)
        self._turn = threading.Lock()

    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        time.sleep(0.0005)
        with self._turn:
            self.appends += 1
            outcomes: dict[str, Outcome] = {draft.partition: "written" for draft in drafts}
            if self._random.random() < 0.1:
                outcomes |= {draft.partition: self._random.choice(("not written", "unknown")) for draft in drafts}
            there = [
                draft for draft in drafts if outcomes[draft.partition] == "written" or self._arrives(draft, outcomes)
            ]
        placed = super().append(there)
        if set(outcomes.values()) != {"written"}:
            raise failure(outcomes)
        return placed

    def _arrives(self, draft: Draft, outcomes: Mapping[str, Outcome]) -> bool:
        return outcomes[draft.partition] == "unknown" and self._random.random() < 0.5


@dataclass
class Told:
    """What one thread was told, by partition: names that it set, with the versions that they got."""

    written: dict[str, list[tuple[str, int | None]]] = field(default_factory=dict)
    not_written: set[Put] = field(default_factory=set)

    def take(self, changes: Sequence[Put], told: Mapping[str, Outcome], versions: Mapping[str, int]) -> None:
        assert set(told) == {partition for partition, _ in changes}
        for partition, name in changes:
            if told[partition] == "written":
                self.written.setdefault(partition, []).append((name, versions.get(partition)))
            elif told[partition] == "not written":
                self.not_written.add((partition, name))


@pytest.mark.parametrize("group_limit", [1, 300, 100_000])
def test_whatever_many_threads_set_is_there_once_in_each_ones_own_order(tmp_path: Path, group_limit: int) -> None:
    log, threads, sets = Flaky(group_limit), 8, 40
    partitions = ("eu", "us", "ap")

    def work(seed: int, told: Told) -> list[Event]:
        rng = random.Random(seed)
        for number in range(sets):
            chosen = rng.sample(partitions, rng.choice((1, 1, 2, 3)))
            changes = [(partition, f"{seed}-{number}-{n}") for partition in chosen for n in range(rng.randint(1, 3))]
            try:
                events = layer.set(puts(*changes))
            except AppendError as error:
                told.take(changes, error.outcomes, {})
            else:
                assert [(event.partition, event.id) for event in events] == changes
                told.take(changes, dict.fromkeys(chosen, "written"), {e.partition: e.version for e in events})
        return []

    with Layer(
        table="items",
        get_item_unique_identifier="id",
        get_item_partition="pk",
        events=log,
        storage=LocalAdapter(tmp_path),
    ) as layer:
        told = [Told() for _ in range(threads)]
        callers = [Caller(partial(work, seed, told[seed])) for seed in range(threads)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.events()
        for partition in partitions:
            history = layer.history(partition)
            places = {event.id: (place, event.version) for place, event in enumerate(history)}
            assert len(places) == len(history), "something is there twice"
            for each in told:
                own = each.written[partition]
                assert [place for place, _ in sorted(places[name] for name, _ in own)] == [
                    places[name][0] for name, _ in own
                ], "a thread's order is lost"
                assert all(version in (None, places[name][1]) for name, version in own)
                assert not places.keys() & {name for where, name in each.not_written if where == partition}
            assert {item["id"] for item in layer.get(partition)} == set(places)
    if group_limit > 300:
        assert log.appends < threads * sets, "nothing was shared, so that nothing was tried here"
