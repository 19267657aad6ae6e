"""Each record of a stream is in the log exactly once, each item's in order, whatever is delivered how often."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from dynalayer import AppendError, ConflictError, EventLog, EventLogError, Layer, MemoryEventLog, SQLiteEventLog
from dynalayer.eventlog.checkpoints import CheckpointMove
from dynalayer.streams import handler
from dynalayer.streams.journal import MAX_MARKS, Journal, Mark
from dynalayer.testing.dynamodb import Faults, FaultyDynamoDB
from dynalayer.testing.faults import Crash, Crashed, CrashPoints, WrappedLog

from .dynamodb_fakes import Table, fresh
from .stream_fakes import Fake, expected, had, lambda_event

P = ParamSpec("P")
T = TypeVar("T")

SCOPE = "stream/label/eu"
POINTS = [f"{when} {what}" for what in ("tail", "checkpoints", "append_after") for when in ("before", "after")]


class Unreliable(WrappedLog):
    """A log that loses answers: an append that was made, or was not, is told as unknown."""

    def __init__(self, log: EventLog, seed: int) -> None:
        super().__init__(log)
        self._random = random.Random(seed)

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if method != "append_after":
            return call(*args, **kwargs)
        chance = self._random.random()
        if chance < 0.15:
            raise AppendError("lost before", outcomes={})
        answer = call(*args, **kwargs)
        if chance < 0.3:
            raise AppendError("lost after", outcomes={})
        return answer


def layer_on(log: EventLog, partition: str = "pk") -> Layer:
    return Layer(
        table="users",
        get_item_unique_identifier="sk",
        get_item_partition=partition,
        events=log,
        getter=lambda _: [],  # nothing is synced here
        setter=lambda *_: None,
    )


def changes(fake: Fake, seed: int, count: int, partitions: int = 3) -> None:
    """Random changes of a table, of items that also move between teams."""
    rng = random.Random(seed)
    for number in range(count):
        pk, sk = f"p{rng.randrange(partitions)}", f"i{rng.randrange(5)}"
        if rng.random() < 0.25:
            fake.delete(pk, sk)
        else:
            fake.put({"pk": pk, "sk": sk, "team": f"t{rng.randrange(3)}", "number": number})


class Lambda:
    """AWS Lambda with one shard: batches in order, delivered again where they fail, and now and then where they do not.

    An invocation that takes too long is given up while it still runs, and its batch is delivered again.
    """

    def __init__(self, fake: Fake, records: Sequence[Any], invoke: Callable[[Any], Any], seed: int) -> None:
        self._fake = fake
        self._records = records
        self._invoke = invoke
        self._random = random.Random(seed)
        self._late: list[threading.Thread] = []
        self.deliveries = 0

    def run(self) -> None:
        place = 0
        while place < len(self._records):
            batch = self._records[place : place + self._random.randint(1, 9)]
            if self._random.random() < 0.25:  # timed out, and at work all the same
                self._late.append(threading.Thread(target=self._delivered, args=(batch,)))
                self._late[-1].start()
                continue
            if self._random.random() < 0.2 and place:  # bisected, or another function's doing: from further back
                self._delivered(self._records[max(0, place - 5) : place + 3])
            done = self._delivered(batch)
            place += done
            assert self.deliveries < 100 * len(self._records)
        for thread in self._late:
            thread.join()

    def _delivered(self, batch: Sequence[Any]) -> int:
        """How many of a batch are acknowledged."""
        self.deliveries += 1
        try:
            answer = self._invoke(lambda_event(batch, self._fake.arn))
        except (Crashed, EventLogError, ConflictError):
            return 0
        failures = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
        numbers = [each["dynamodb"]["SequenceNumber"] for each in batch]
        assert failures <= set(numbers)
        return min((numbers.index(each) for each in failures), default=len(batch))


def deliver(fake: Fake, open_log: Callable[[], EventLog], seed: int, partition: str) -> None:
    """Deliver all of a table's stream, each shard by a Lambda of its own, to processes that die."""

    def shard(number: int, records: Sequence[Any]) -> None:
        rng = random.Random(f"{seed} {number}")
        lock = threading.Lock()
        process: list[Any] = []

        def invoke(event: Any) -> Any:
            with lock:
                if not process or rng.random() < 0.1:
                    crash = Crash(*POINTS, probability=0.04, seed=rng.randrange(10**6), how="raise")
                    log = Unreliable(CrashPoints(open_log(), crash), rng.randrange(10**6))
                    process[:] = [handler(layer_on(log, partition))]
                handle = process[0]
            try:
                return handle(event, None)
            except Crashed:
                with lock:
                    process[:] = []
                raise

        Lambda(fake, records, invoke, rng.randrange(10**6)).run()

    failures: list[BaseException] = []

    def watched(number: int, records: Sequence[Any]) -> None:
        try:
            shard(number, records)
        except BaseException as error:  # noqa: BLE001 -- told to the test
            failures.append(error)

    shards = [each.records for each in fake.shards if each.records]
    threads = [threading.Thread(target=watched, args=given) for given in enumerate(shards)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "dynalayer")  # what fails here is meant to


def three_shards(keys: Sequence[str], seed: int, count: int) -> Fake:
    fake = Fake(keys=keys, seed=seed)
    fake.split_one()
    fake.split_one()
    changes(fake, seed, count)
    return fake


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("seed", range(4))
def test_in_memory_every_record_is_there_once_and_in_order(seed: int) -> None:
    fake, log = three_shards(("pk", "sk"), seed, 150), MemoryEventLog("users")
    deliver(fake, lambda: log, seed, "pk")
    assert had(layer_on(log)) == expected(fake.records)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("seed", range(2))
def test_items_that_move_between_partitions_are_so_too(seed: int) -> None:
    """Each shard feeds all partitions: they come in each other's way on purpose."""
    fake, log = Fake(keys=("sk",), seed=seed), MemoryEventLog("users")
    fake.split_one()
    rng = random.Random(seed)
    for number in range(150):
        if rng.random() < 0.2:
            fake.delete(f"i{rng.randrange(8)}")
        else:
            fake.put({"sk": f"i{rng.randrange(8)}", "team": f"t{rng.randrange(3)}", "number": number})
    deliver(fake, lambda: log, seed, "team")
    assert had(layer_on(log, "team")) == expected(fake.records, "team")


@pytest.mark.usefixtures("quiet")
def test_on_sqlite_with_a_connection_for_each_process(tmp_path: Path) -> None:
    fake = three_shards(("pk", "sk"), 7, 80)
    with ExitStack() as stack:
        deliver(fake, lambda: stack.enter_context(SQLiteEventLog(tmp_path / "events.db", "users")), 7, "pk")
        assert had(layer_on(SQLiteEventLog(tmp_path / "events.db", "users"))) == expected(fake.records)


@pytest.fixture
def table(moto_server: str) -> Iterator[Table]:
    with fresh(moto_server) as table:
        yield table


@pytest.mark.usefixtures("quiet")
def test_on_dynamodb_whose_answers_are_lost(moto_server: str) -> None:
    fake = three_shards(("pk", "sk"), 11, 60)
    faults = Faults(
        lost_request=0.02, late_request=0.03, lost_answer=0.05, throttle=0.03, server_error=0.03, lateness=0.05
    )
    with (
        FaultyDynamoDB(moto_server, seed=11, faults=faults) as proxy,
        fresh(proxy.url, behind=moto_server) as table,
    ):
        table.open()  # which makes the layer
        deliver(fake, table.open, 11, "pk")
        proxy.faults = Faults()
        assert had(layer_on(table.open())) == expected(fake.records)


# One step at a time


def events_of(fake: Fake) -> Any:
    return lambda_event(fake.records, fake.arn)


def numbered(fake: Fake, count: int, pk: str = "eu") -> None:
    for number in range(count):
        fake.put({"pk": pk, "sk": f"i{number}", "n": number})


class Counted(WrappedLog):
    """A log whose calls are counted, and in whose midst something else may happen."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.calls: list[str] = []
        self.when = "before append_after"
        self.between: Callable[[], object] = lambda: None

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self.calls.append(method)
        self._reach(f"before {method}")
        answer = call(*args, **kwargs)
        self._reach(f"after {method}")
        return answer

    def _reach(self, point: str) -> None:
        if point == self.when:
            between, self.between = self.between, lambda: None
            between()


def test_a_second_delivery_adds_nothing_to_the_first() -> None:
    fake, log = Fake(), MemoryEventLog("users")
    numbered(fake, 5)
    for _ in range(2):
        for handle in (handler(layer_on(log)), handler(layer_on(log))):
            assert handle(events_of(fake), None) == {"batchItemFailures": []}
    assert had(layer_on(log)) == expected(fake.records)
    assert [record.version for record in log.read("eu", 0).records] == [1]


@pytest.mark.parametrize("when", POINTS)
def test_an_invocation_that_another_of_the_same_batch_overtakes_anywhere_writes_nothing(when: str) -> None:
    fake, log = Fake(), MemoryEventLog("users")
    numbered(fake, 3)
    slow = Counted(log)
    slow.when, slow.between = when, lambda: handler(layer_on(log))(events_of(fake), None)
    assert handler(layer_on(slow))(events_of(fake), None) == {"batchItemFailures": []}
    assert had(layer_on(log)) == expected(fake.records)


def test_an_invocation_that_others_sets_overtake_appends_after_them() -> None:
    fake, log = Fake(), MemoryEventLog("users")
    numbered(fake, 3)
    slow, other = Counted(log), layer_on(log)
    slow.between = lambda: other.set([{"type": "PUT", "item": {"pk": "eu", "sk": "other"}}])
    assert handler(layer_on(slow))(events_of(fake), None) == {"batchItemFailures": []}
    assert [event.id for event in other.history("eu")] == ["other", "i0", "i1", "i2"]


def test_who_is_always_overtaken_gives_up_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake, log = Fake(), MemoryEventLog("users")
    numbered(fake, 1)
    monkeypatch.setattr("time.sleep", lambda _: None)
    slow, other = Counted(log), layer_on(log)

    def overtake() -> None:
        other.set([{"type": "PUT", "item": {"pk": "eu", "sk": "other"}}])
        slow.between = overtake

    slow.between = overtake
    number = fake.records[0]["dynamodb"]["SequenceNumber"]
    assert handler(layer_on(slow))(events_of(fake), None) == {"batchItemFailures": [{"itemIdentifier": number}]}
    assert "before each of 100 tries" in caplog.text
    assert slow.calls.count("append_after") == 100


def test_a_warm_process_reads_the_journal_once() -> None:
    fake, log = Fake(), Counted(MemoryEventLog("users"))
    handle = handler(layer_on(log))
    for number in range(5):
        fake.put({"pk": "eu", "sk": "1", "n": number})
        handle(lambda_event(fake.records[-1:], fake.arn), None)
    assert log.calls.count("checkpoints") == 1
    assert log.calls.count("append_after") == 5


def test_an_old_batch_that_comes_to_a_warm_process_again_is_known_all_the_same() -> None:
    fake, log = Fake(), MemoryEventLog("users")
    numbered(fake, 6)
    handler(layer_on(log))(lambda_event(fake.records[:3], fake.arn), None)
    warm = handler(layer_on(log))
    warm(lambda_event(fake.records[3:], fake.arn), None)
    warm(lambda_event(fake.records[:4], fake.arn), None)
    assert had(layer_on(log)) == expected(fake.records)


def test_the_same_sequence_number_of_two_items_is_two_records() -> None:
    """AWS does not say that the shards of a stream use different ones."""
    fake, log = Fake(), MemoryEventLog("users")
    numbered(fake, 2)
    for record in fake.records:
        record["dynamodb"]["SequenceNumber"] = "300"
    for delivered in ([fake.records[0]], [fake.records[1]], fake.records):
        handler(layer_on(log))(lambda_event(delivered, fake.arn), None)
    assert had(layer_on(log)) == expected(fake.records)


def test_a_table_that_got_another_stream_has_other_records_under_the_same_numbers() -> None:
    log = MemoryEventLog("users")
    streams = [Fake(), Fake()]
    streams[1].label = "2026-05-05T00:00:00.000"
    for number, fake in enumerate(streams):
        fake.put({"pk": "eu", "sk": "1", "n": number})
        fake.records[0]["dynamodb"]["SequenceNumber"] = "300"
        handler(layer_on(log))(events_of(fake), None)
    assert [event.item["n"] for event in layer_on(log).history("eu")] == [0, 1]


def test_a_record_twice_in_one_delivery_is_appended_once() -> None:
    fake, log = Fake(), MemoryEventLog("users")
    numbered(fake, 3)
    handler(layer_on(log))(lambda_event([*fake.records, *fake.records[1:]], fake.arn), None)
    assert had(layer_on(log)) == expected(fake.records)


def test_a_delivery_that_one_record_of_the_log_does_not_take_goes_in_several() -> None:
    fake, log = Fake(), MemoryEventLog("users")
    rng = random.Random(1)
    for number in range(20):
        fake.put({"pk": "eu", "sk": f"i{number}", "noise": rng.randbytes(500).hex()})
    log.record_limit = 5000
    assert handler(layer_on(log))(events_of(fake), None) == {"batchItemFailures": []}
    assert len(log.read("eu", 0).records) > 2
    assert had(layer_on(log)) == expected(fake.records)


def test_what_one_record_of_the_log_can_never_take_is_told_and_holds_up_its_own_partition_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake, log = Fake(), MemoryEventLog("users")
    numbered(fake, 2, "us")
    fake.put({"pk": "eu", "sk": "1", "noise": random.Random(1).randbytes(5000).hex()})
    numbered(fake, 2, "af")
    log.record_limit = 2000
    number = fake.records[2]["dynamodb"]["SequenceNumber"]
    assert handler(layer_on(log))(events_of(fake), None) == {"batchItemFailures": [{"itemIdentifier": number}]}
    assert "an event is never split" in caplog.text
    assert set(log.partitions()) == {"us", "af"}


# The journal


def marks(numbers: Sequence[int]) -> set[Mark]:
    return {(number, number.to_bytes(32, "big")[-8:]) for number in numbers}


@pytest.mark.parametrize("step", [1, 10**37 // MAX_MARKS])
def test_the_marks_of_the_largest_append_go_in_a_checkpoint_and_come_back(step: int) -> None:
    log = MemoryEventLog("users")
    all_of_them = marks(range(0, step * MAX_MARKS, step))
    assert log.move_checkpoint(Journal(log).move(SCOPE, all_of_them, 0))
    assert Journal(log).appended(SCOPE, 0, all_of_them) == all_of_them
    assert Journal(log).appended(SCOPE, 0, marks([step * MAX_MARKS])) == set()


def test_what_a_journal_remembers_is_bounded_and_what_it_dropped_is_read_again() -> None:
    log = MemoryEventLog("users")
    journal = Journal(log)
    for version in range(12):
        each = marks(range(version * MAX_MARKS, (version + 1) * MAX_MARKS))
        assert journal.appended(SCOPE, version, each) == set()
        log.move_checkpoint(journal.move(SCOPE, each, 0))
        journal.note(SCOPE, version, version + 1, each)
        ((known),) = journal._known.values()
        assert len(known.marks) <= 5 * MAX_MARKS
    everything = marks(range(12 * MAX_MARKS))
    assert journal.appended(SCOPE, 12, everything) == everything


def test_what_a_journal_remembers_of_all_partitions_is_bounded_and_what_it_forgot_is_read_again() -> None:
    log = Counted(MemoryEventLog("users"))
    journal = Journal(log)
    each = marks(range(MAX_MARKS))
    scopes = [f"{SCOPE}{number}" for number in range(120)]
    for scope in scopes:
        journal.appended(scope, 0, each)
        log.move_checkpoint(journal.move(scope, each, 0))
        journal.note(scope, 0, 1, each)
    assert sum(1 + len(known.marks) for known in journal._known.values()) == journal._count <= 50 * MAX_MARKS
    log.calls.clear()
    assert all(journal.appended(scope, 1, each) == each for scope in (scopes[-1], scopes[0]))
    assert log.calls == ["checkpoints"]


def test_of_more_marks_than_are_remembered_those_of_the_batch_alone_are_kept() -> None:
    log = MemoryEventLog("users")
    others = Journal(log)
    for number in range(9):
        each = marks(range(number * MAX_MARKS, (number + 1) * MAX_MARKS))
        log.move_checkpoint(others.move(SCOPE, each, 0))
    journal = Journal(log)
    for wanted in ({1, 9000}, {1, 17_999}):
        assert journal.appended(SCOPE, 9, marks([*wanted, 18_000])) == marks([*wanted])
        assert journal._count <= 1 + 4 * MAX_MARKS
    assert journal.appended(SCOPE, 9, marks([17_000, 18_000])) == marks([17_000])
    assert journal._count == 1 + MAX_MARKS


@pytest.mark.parametrize("value", [b"", b"J", b"J\0\0\0\0\x81", b"Jrot and rot"])
def test_a_rotten_journal_is_told_and_never_taken_for_an_empty_one(value: bytes) -> None:
    log = MemoryEventLog("users")
    log.move_checkpoint(CheckpointMove(SCOPE, "9" * 40, 0, value))
    with pytest.raises(EventLogError, match=r"damaged.*9999"):
        Journal(log).appended(SCOPE, 0, marks([1]))


def test_a_journals_row_expires_after_twice_a_streams_life() -> None:
    move = Journal(MemoryEventLog("users")).move(SCOPE, marks([1]), 1_000_000 * 10)
    assert move.ttl == 10 + 48 * 3600
