"""Following a stream by a process: shards in their order, positions that outlive it, and gaps that are told."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

import servers
from dynalayer import (
    AppendError,
    ConfigurationError,
    EventLog,
    EventLogError,
    InvalidInputError,
    Layer,
    MemoryEventLog,
    create_table,
)
from dynalayer.errors import SourceError
from dynalayer.eventlog.checkpoints import CheckpointMove
from dynalayer.streams import Followed, follow, handler
from dynalayer.streams import walking as walks
from dynalayer.streams.positions import Position
from dynalayer.streams.shards import Shard, readable
from dynalayer.testing.faults import Crash, Crashed, CrashPoints

from .stream_fakes import Fake, expected, had, lambda_event, plain, refusal

HOUR = 3_600_000_000
NOW = 1_800_000_000_000_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between pages; what is empty may be so many times in a row."""
    monkeypatch.setattr(walks, "_PACE", 0.0)
    monkeypatch.setattr(walks, "_AT_END", 12)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


def layer_on(log: EventLog, clock: Callable[[], int] | None = None, **options: Any) -> Layer:
    given: dict[str, Any] = {"getter": lambda _: [], "setter": lambda *_: None, **options}
    if clock is not None:
        given["clock"] = clock
    return Layer(
        table="users",
        get_item_unique_identifier="sk",
        get_item_partition="pk",
        events=log,
        **given,
    )


def took(fake: Fake, layer: Layer, **options: Any) -> Followed:
    return follow(layer, **{"client": fake, "once": True, "start": "trim-horizon", "poll": 0, **options})


def change(fake: Fake, rng: random.Random, count: int) -> None:
    for _ in range(count):
        pk, sk = f"p{rng.randrange(4)}", f"i{rng.randrange(6)}"
        if rng.random() < 0.2:
            fake.delete(pk, sk)
        else:
            fake.put({"pk": pk, "sk": sk, "n": rng.random().hex()})


def table_of(fake: Fake) -> list[Any]:
    return sorted(fake.items.values(), key=lambda item: (item["pk"], item["sk"]))


def layers_items(layer: Layer) -> list[Any]:
    return [item for partition in layer.partitions() for item in layer.get(partition)]


# Shards


@pytest.mark.parametrize("seed", range(3))
def test_through_splits_of_splits_every_record_is_taken_once_and_in_order(seed: int) -> None:
    fake, rng, layer = Fake(seed=seed), random.Random(seed), layer_on(MemoryEventLog("users"))
    for _ in range(6):
        change(fake, rng, 20)
        fake.split_one()
        if rng.random() < 0.4:
            took(fake, layer)
    change(fake, rng, 20)
    took(fake, layer)
    assert had(layer) == expected(fake.records)
    assert layers_items(layer) == table_of(fake)


def test_a_shard_that_splits_while_it_is_followed_is_gone_on_with_in_its_children() -> None:
    fake, rng, layer = Fake(), random.Random(1), layer_on(MemoryEventLog("users"))
    rounds = 0
    stop = threading.Event()

    def go_on(_: Followed) -> None:
        nonlocal rounds
        rounds += 1
        if rounds < 8:
            change(fake, rng, 5)
            if rounds % 2:
                fake.split_one()
        if had(layer) == expected(fake.records):
            stop.set()

    done = took(fake, layer, once=False, stop=stop, progress=go_on)
    assert had(layer) == expected(fake.records)
    assert done.events == done.records == len(fake.records)
    assert done.known == 0


def test_no_shard_is_read_before_its_parent_was_read_to_its_end() -> None:
    fake = Fake()
    parent = fake.shards[0]
    for n in range(7):
        fake.put({"pk": "p", "sk": "1", "n": n})
    fake.split(parent)
    fake.put({"pk": "p", "sk": "1", "n": 7})
    took(fake, layer_on(MemoryEventLog("users")))
    reads = [shard for call, shard in fake.calls if call == "get_records"]
    last_of_parent = max(place for place, shard in enumerate(reads) if shard == parent.name)
    assert {parent.name} == set(reads[: last_of_parent + 1])
    assert len(set(reads)) == 3


def shard(name: str, parent: str | None = None) -> Shard:
    return Shard(name, parent, open=True)


@pytest.mark.parametrize(
    ("shards", "positions", "names"),
    [
        ([shard("a"), shard("b")], {}, ["a", "b"]),
        ([shard("b", "a"), shard("a")], {}, ["a"]),
        ([shard("b", "gone")], {}, ["b"]),
        ([shard("b", "a"), shard("a")], {"a": Position(closed=True)}, ["b"]),
        ([shard("b", "a")], {"a": Position(closed=True)}, ["b"]),
        ([shard("b", "a")], {"a": Position("5")}, []),
        ([shard("c", "b"), shard("b", "a"), shard("a")], {"a": Position(closed=True)}, ["b"]),
        ([shard("a", "a")], {}, ["a"]),
        ([shard("a")], {"a": Position(closed=True)}, []),
    ],
)
def test_a_shard_is_readable_when_nothing_before_it_is_left(shards: Any, positions: Any, names: list[str]) -> None:
    assert [each.name for each in readable(shards, positions)] == names


# Positions


def test_a_follower_that_is_started_again_goes_on_where_the_last_one_was() -> None:
    fake, rng, log = Fake(), random.Random(1), MemoryEventLog("users")
    change(fake, rng, 10)
    assert took(fake, layer_on(log)).first
    count = len(fake.records)
    change(fake, rng, 10)
    fake.calls.clear()
    done = took(fake, layer_on(log), start="latest")  # which counts the first time alone
    assert not done.first
    assert done.records == done.events == len(fake.records) - count
    assert ("AFTER_SEQUENCE_NUMBER", fake.shards[0].name) in fake.calls
    assert had(layer_on(log)) == expected(fake.records)


POINTS = [
    f"{when} {what}"
    for what in ("checkpoint", "checkpoints", "tail", "append_after", "move_checkpoint")
    for when in ("before", "after")
]


@pytest.mark.parametrize("point", POINTS)
def test_a_follower_that_dies_anywhere_leaves_nothing_undone_and_nothing_doubled(point: str) -> None:
    fake, rng, log = Fake(), random.Random(2), MemoryEventLog("users")
    change(fake, rng, 12)
    fake.split_one()
    deaths = 0
    for nth in range(1, 40):
        change(fake, rng, 2)
        crashing = CrashPoints(log, Crash(point, nth=nth, how="raise"))
        try:
            took(fake, layer_on(crashing))
        except Crashed:
            deaths += 1
        else:
            break
    took(fake, layer_on(log))
    assert deaths
    assert had(layer_on(log)) == expected(fake.records)


def test_two_followers_at_once_and_a_lambda_function_are_right_together() -> None:
    fake, rng, log = Fake(), random.Random(3), MemoryEventLog("users")
    lock = threading.RLock()  # the fake is no service
    for name in ("describe_stream", "get_shard_iterator", "get_records"):
        setattr(fake, name, locked(lock, getattr(fake, name)))
    for _ in range(3):
        change(fake, rng, 20)
        fake.split_one()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            took(fake, layer_on(log))
        except BaseException as error:  # noqa: BLE001 -- told to the test
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    handle = handler(layer_on(log))
    for each in fake.shards:
        for begin in range(0, len(each.records), 4):
            answer = handle(lambda_event(each.records[begin : begin + 4], fake.arn), None)
            assert answer == {"batchItemFailures": []}
    for thread in threads:
        thread.join()
    assert failures == []
    assert had(layer_on(log)) == expected(fake.records)


def locked(lock: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    def made(**arguments: Any) -> Any:
        with lock:
            return call(**arguments)

    return made


def test_positions_of_finished_shards_expire_and_others_stay() -> None:
    fake, log, clock = Fake(), MemoryEventLog("users"), Clock()
    fake.put({"pk": "p", "sk": "1"})
    fake.split_one()
    fake.put({"pk": "p", "sk": "1", "n": 1})
    took(fake, layer_on(log, clock))
    scope = f"stream-shards/{fake.label}"
    assert fake.shards[0].name in {each.name for each in log.checkpoints(scope)}
    log.expire(NOW + 49 * HOUR, 100, "")
    left = {each.name for each in log.checkpoints(scope)}
    assert left
    assert left <= {each.name for each in fake.shards[1:]}


# Where it begins


def test_latest_begins_with_what_changes_once_it_follows() -> None:
    fake, layer = Fake(), layer_on(MemoryEventLog("users"))
    fake.put({"pk": "p", "sk": "old"})
    fake.split_one()
    fake.put({"pk": "p", "sk": "older"})

    def change_it(followed: Followed) -> None:
        if followed.records == 0:
            fake.put({"pk": "p", "sk": "new"})

    took(fake, layer, start="latest", progress=change_it)
    assert [event.id for event in layer.history("p")] == ["new"]


def test_what_came_between_its_first_start_and_a_second_is_taken_though_no_record_had_come_before() -> None:
    fake, log, clock = Fake(), MemoryEventLog("users"), Clock()
    fake.put({"pk": "p", "sk": "long before"})
    fake.records[0]["dynamodb"]["ApproximateCreationDateTime"] = (NOW - HOUR) // 1_000_000
    took(fake, layer_on(log, clock), start="latest")
    fake.put({"pk": "p", "sk": "meanwhile"})
    fake.split_one()
    fake.put({"pk": "p", "sk": "meanwhile, too"})
    for each in fake.records[1:]:
        each["dynamodb"]["ApproximateCreationDateTime"] = NOW // 1_000_000
    clock.now += HOUR
    took(fake, layer_on(log, clock), start="latest")
    assert [event.id for event in layer_on(log).history("p")] == ["meanwhile", "meanwhile, too"]


def test_an_iterator_at_the_end_that_runs_out_loses_nothing() -> None:
    fake, layer = Fake(), layer_on(MemoryEventLog("users"))

    def run_out(followed: Followed) -> None:
        if followed.records == 0:
            fake._iterators.clear()  # what was asked for is not known any more
            fake.get_records = expired_once(fake.get_records)  # type: ignore[method-assign] # the fake's own
            fake.put({"pk": "p", "sk": "1"})

    took(fake, layer, start="latest", progress=run_out)
    assert [event.id for event in layer.history("p")] == ["1"]


def expired_once(call: Callable[..., Any]) -> Callable[..., Any]:
    left = [refusal("ExpiredIteratorException", "GetRecords")]

    def made(**arguments: Any) -> Any:
        if left:
            raise left.pop()
        return call(**arguments)

    return made


def test_iterators_that_run_out_again_and_again_are_asked_for_behind_the_last_record() -> None:
    fake, rng, layer = Fake(seed=5), random.Random(5), layer_on(MemoryEventLog("users"))
    fake.expire = 0.2
    change(fake, rng, 40)
    fake.split_one()
    change(fake, rng, 20)
    took(fake, layer)
    assert had(layer) == expected(fake.records)


def test_iterators_that_never_work_end_it() -> None:
    fake, layer = Fake(), layer_on(MemoryEventLog("users"))
    fake.expire = 1.0
    with pytest.raises(SourceError, match="had run out before it was used"):
        took(fake, layer)


@pytest.mark.parametrize("seed", range(4))
def test_who_follows_first_and_resets_then_misses_nothing_of_a_table_that_had_items(seed: int, tmp_path: Path) -> None:
    fake, rng, log = Fake(seed=seed), random.Random(seed), MemoryEventLog("users")
    change(fake, rng, 30)
    fake.created -= timedelta(days=3)
    for record in fake.records:  # long forgotten
        record["dynamodb"]["ApproximateCreationDateTime"] = fake.created
    fake.created = datetime.now(UTC)
    layer = layer_on(log, getter=None, setter=None, storage=f"local://{tmp_path}")
    took(fake, layer, start="latest")

    def scanned() -> Iterator[Any]:
        """As a scan reads: each item at a moment of its own, while others write, and a follower takes."""
        for key in sorted(fake.items):
            change(fake, rng, 2)
            if rng.random() < 0.2:
                took(fake, layer_on(log, getter=None, setter=None, storage=f"local://{tmp_path}"))
            if key in fake.items:
                yield dict(fake.items[key])

    layer.reset(scanned)
    change(fake, rng, 10)
    took(fake, layer)
    assert layers_items(layer) == table_of(fake)


# Gaps


def followed_once(log: EventLog, clock: Clock) -> Fake:
    fake = Fake()
    for n in range(3):
        fake.put({"pk": "p", "sk": "1", "n": n})
    took(fake, layer_on(log, clock))
    return fake


def test_a_position_that_the_stream_has_forgotten_is_told_with_the_way_out() -> None:
    log, clock = MemoryEventLog("users"), Clock()
    fake = followed_once(log, clock)
    for n in range(3, 8):
        fake.put({"pk": "p", "sk": "1", "n": n})
    fake.shards[0].trimmed = 5
    with pytest.raises(
        SourceError, match=r"has forgotten what came after record \d+ of shard.*--anew.*reset"
    ) as raised:
        took(fake, layer_on(log, clock))
    assert not raised.value.retryable
    assert took(fake, layer_on(log, clock), anew=True).first
    assert [event.item["n"] for event in layer_on(log).history("p")] == [0, 1, 2, 5, 6, 7]


def test_a_shard_that_vanished_before_it_was_read_to_its_end_is_told() -> None:
    log, clock = MemoryEventLog("users"), Clock()
    fake = followed_once(log, clock)
    fake.split_one()
    fake.shards[0].gone = True
    with pytest.raises(SourceError, match="has forgotten what came after record"):
        took(fake, layer_on(log, clock))


def test_a_stream_that_nobody_followed_for_longer_than_it_keeps_is_told() -> None:
    log, clock = MemoryEventLog("users"), Clock()
    fake = followed_once(log, clock)
    clock.now += 25 * HOUR
    with pytest.raises(SourceError, match=r"for 25 hours nobody has taken all of .*'users'.*missing.*--anew"):
        took(fake, layer_on(log, clock))
    took(fake, layer_on(log, clock), anew=True)
    took(fake, layer_on(log, clock))


def test_a_first_record_that_held_up_its_shard_until_the_stream_forgot_it_is_told() -> None:
    """Its position is the shard's beginning still, which is wherever the stream begins by now."""
    log, clock, fake = MemoryEventLog("users"), Clock(), Fake()
    took(fake, layer_on(log, clock))
    for sk in ("", "2"):
        fake.put({"pk": "p", "sk": sk})
    for _ in range(25):
        with pytest.raises(InvalidInputError, match="an identifier is never empty"):
            took(fake, layer_on(log, clock))
        clock.now += HOUR
    fake.shards[0].trimmed = 1
    with pytest.raises(SourceError, match="for 25 hours nobody has taken all"):
        took(fake, layer_on(log, clock))
    assert layer_on(log).history("p") == []


def test_shards_that_split_faster_than_each_is_seen_to_be_empty_are_no_sign_that_nothing_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walks, "_AT_END", 10**6)
    monkeypatch.setattr(walks, "_LOOK", 0.0)
    log, clock, fake, stop = MemoryEventLog("users"), Clock(), Fake(), threading.Event()
    rounds: list[int] = []

    def go_on(_: Followed) -> None:
        rounds.append(clock.now)
        if len(rounds) == 30:
            stop.set()
        fake.created = datetime.fromtimestamp(clock.now / 1e6, UTC)
        fake.put({"pk": "p", "sk": "1"})
        fake.split_one()
        clock.now += HOUR

    took(fake, layer_on(log, clock), once=False, stop=stop, progress=go_on)
    assert len(rounds) == 30
    took(fake, layer_on(log, clock), once=False, stop=stop)


def test_a_follower_that_slept_for_longer_than_the_stream_keeps_its_records_is_told() -> None:
    log, clock, fake = MemoryEventLog("users"), Clock(), Fake()

    def sleep(followed: Followed) -> None:
        if followed.records:
            return
        for sk in "12":
            fake.put({"pk": "p", "sk": sk})
        fake.shards[0].trimmed = 1
        fake.expire = 1.0
        clock.now += 25 * HOUR

    def woken(**arguments: Any) -> Any:
        fake.expire = 0.0
        return iterator(**arguments)

    iterator, fake.get_shard_iterator = fake.get_shard_iterator, woken  # type: ignore[method-assign] # of this one
    with pytest.raises(SourceError, match="for 25 hours nobody has taken all"):
        took(fake, layer_on(log, clock), start="latest", progress=sleep)


def test_a_follower_that_is_at_work_says_so_now_and_then() -> None:
    log, clock = MemoryEventLog("users"), Clock()
    fake = followed_once(log, clock)

    def a_day_passes(_: Followed) -> None:
        if clock.now == NOW:
            clock.now += 23 * HOUR
            fake.split_one()

    took(fake, layer_on(log, clock), progress=a_day_passes)
    clock.now += 2 * HOUR
    assert not took(fake, layer_on(log, clock)).first


def test_a_table_that_got_another_stream_is_told() -> None:
    log, clock = MemoryEventLog("users"), Clock()
    fake = followed_once(log, clock)
    fake.label = "2026-09-09T00:00:00.000"
    with pytest.raises(ConfigurationError, match=r"the stream is now .*2026-09-09.*may be missing"):
        took(fake, layer_on(log, clock))
    took(fake, layer_on(log, clock), anew=True)
    assert log.checkpoints("stream-shards/2026-01-02T03:04:05.678") == ()


def test_a_stream_that_is_switched_off_ends_once_it_was_read() -> None:
    fake, layer = Fake(), layer_on(MemoryEventLog("users"))
    fake.put({"pk": "p", "sk": "1"})
    fake.shards[0].ends = 1
    fake.status = "DISABLED"
    with pytest.raises(SourceError, match="switched off, and was read to its end"):
        took(fake, layer, once=False)
    assert had(layer) == expected(fake.records)


# Failures


def test_a_service_that_is_busy_is_asked_again_and_one_that_stays_so_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, layer, rng = Fake(), layer_on(MemoryEventLog("users")), random.Random(1)
    change(fake, rng, 10)
    given = fake.get_records
    errors: list[Any] = [
        refusal("ProvisionedThroughputExceededException", "GetRecords"),
        refusal("LimitExceededException", "GetRecords"),
        refusal("InternalServerError", "GetRecords", 500),
        EndpointConnectionError(endpoint_url="https://streams.dynamodb"),
    ]

    def busy(**arguments: Any) -> Any:
        if errors:
            raise errors.pop(0)
        return given(**arguments)

    monkeypatch.setattr("dynalayer.streams.client.backoff", lambda _: 0)
    fake.get_records = busy  # type: ignore[method-assign] # the fake's own
    took(fake, layer)
    assert had(layer) == expected(fake.records)
    errors.extend([refusal("LimitExceededException", "GetRecords")] * 12)
    with pytest.raises(SourceError, match="refused get_records: LimitExceededException") as raised:
        took(fake, layer)
    assert raised.value.retryable


def test_a_refusal_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    calls: list[Any] = []

    def denied(**arguments: Any) -> Any:
        calls.append(arguments)
        raise refusal("AccessDeniedException", "DescribeStream")

    monkeypatch.setattr(fake, "describe_stream", denied)
    with pytest.raises(SourceError, match=r"refused describe_stream.*dynamodb:DescribeStream"):
        took(fake, layer_on(MemoryEventLog("users")))
    assert len(calls) == 1


def test_what_is_refused_ends_it_with_all_before_it_taken_and_is_the_first_thing_next_time(tmp_path: Path) -> None:
    fake, log = Fake(), MemoryEventLog("users")
    for sk in ("1", "2", "", "3"):
        fake.put({"pk": "p", "sk": sk})
    fake.page = 100
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="an identifier is never empty"):
            took(fake, layer_on(log))
        assert [event.id for event in layer_on(log).history("p")] == ["1", "2"]
    done = took(fake, layer_on(log), dead_letters=tmp_path / "dead.jsonl")
    assert (done.records, done.events, done.set_aside) == (2, 1, 1)
    assert len((tmp_path / "dead.jsonl").read_text().splitlines()) == 1
    assert [event.id for event in layer_on(log).history("p")] == ["1", "2", "3"]


def test_what_is_refused_at_a_shards_end_keeps_it_from_being_done_with(tmp_path: Path) -> None:
    fake, log = Fake(), MemoryEventLog("users")
    for sk in ("1", ""):
        fake.put({"pk": "p", "sk": sk})
    fake.split_one()
    fake.put({"pk": "p", "sk": "1", "n": 1})
    fake.page = 100
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="an identifier is never empty"):
            took(fake, layer_on(log))
    assert took(fake, layer_on(log), dead_letters=tmp_path / "dead.jsonl").set_aside == 1
    assert [event.type for event in layer_on(log).history("p")] == ["PUT", "UPDATE"]


def test_a_log_that_fails_ends_it_and_what_was_taken_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, log = Fake(), MemoryEventLog("users")
    fake.put({"pk": "p", "sk": "1"})
    layer = layer_on(log)

    def fail(*_: Any, **__: Any) -> Any:
        raise AppendError("the disk is full", outcomes={"p": "not written"})

    with monkeypatch.context() as patch:
        patch.setattr(log, "append_after", fail)
        with pytest.raises(AppendError, match="the disk is full") as raised:
            took(fake, layer)
    assert raised.value.operation == "stream"
    took(fake, layer)
    assert had(layer) == expected(fake.records)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"start": "now"}, "start='now' is neither"),
        ({"poll": -1}, "poll=-1 is no number"),
        ({"poll": True}, "poll=True"),
        ({"poll": float("nan")}, "poll=nan"),
        ({"region": "eu-west-1"}, "a client of your own"),
        ({"stream_arn": "users"}, "stream_arn is 'users'"),
        ({"stream_arn": "arn:aws:dynamodb:eu-west-1:1:table/orders/stream/x"}, "of table 'orders'"),
        ({"client": None, "endpoint_url": "http://key:secret@here"}, "credentials"),
        ({"client": None, "endpoint_url": "here"}, "endpoint_url is a URL"),
    ],
)
def test_arguments_that_are_wrong_are_told_before_anything_is_asked(options: Any, told: str) -> None:
    fake = Fake()
    with pytest.raises(ConfigurationError, match=told) as raised:
        took(fake, layer_on(MemoryEventLog("users")), **options)
    assert "secret" not in str(raised.value)
    assert fake.calls == []


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, ("eu-west-1", None)),
        ({"region": "us-east-1"}, ("us-east-1", None)),
        ({"endpoint_url": "http://127.0.0.1:1"}, (None, "http://127.0.0.1:1")),
    ],
)
def test_a_stream_is_looked_for_in_the_region_that_its_name_tells(
    monkeypatch: pytest.MonkeyPatch, options: Any, asked: Any
) -> None:
    fake, clients = Fake(), list[Any]()

    def made(*place: Any) -> Fake:
        clients.append(place)
        return fake

    monkeypatch.setattr(walks, "made_client", made)
    took(fake, layer_on(MemoryEventLog("users")), client=None, stream_arn=fake.arn, **options)
    assert clients == [asked]


def test_a_table_without_a_stream_and_a_stream_that_is_none_are_told() -> None:
    fake = Fake("orders")
    with pytest.raises(ConfigurationError, match="table 'users' has no stream where it was looked for"):
        took(fake, layer_on(MemoryEventLog("users")))
    fake = Fake()
    with pytest.raises(SourceError, match="is not there"):
        took(fake, layer_on(MemoryEventLog("users")), stream_arn=fake.arn.replace("2026", "2025"))


@pytest.mark.parametrize(("view", "keys"), [("KEYS_ONLY", ("pk", "sk")), ("NEW_AND_OLD_IMAGES", ("pk", "sk", "x"))])
def test_a_stream_that_does_not_fit_is_refused_before_a_record_is_read(view: str, keys: Any) -> None:
    fake, log = Fake(keys=keys[:2] if len(keys) == 2 else ("pk", "x")), MemoryEventLog("users")
    fake.view = view
    with pytest.raises(ConfigurationError, match=r"StreamViewType is KEYS_ONLY|would be one"):
        took(fake, layer_on(log))
    assert log.checkpoints("stream") == ()


def test_a_position_that_is_damaged_is_told() -> None:
    log, clock = MemoryEventLog("users"), Clock()
    fake = followed_once(log, clock)
    (found,) = log.checkpoints(f"stream-shards/{fake.label}")
    log.move_checkpoint(CheckpointMove(found.scope, found.name, found.revision, b'{"after": 7, "closed": false}'))
    with pytest.raises(EventLogError, match="damaged: checkpoint 'shardId"):
        took(fake, layer_on(log, clock))


# Real services


class Source:
    """A real table with a stream."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.client = servers.dynamodb_client(url)
        self.client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )

    def change(self, rng: random.Random, count: int) -> None:
        for _ in range(count):
            key = {"pk": {"S": f"p{rng.randrange(3)}"}, "sk": {"S": f"i{rng.randrange(8)}"}}
            if rng.random() < 0.25:
                self.client.delete_item(TableName=self.name, Key=key)
            else:
                more: Any = {"n": {"N": str(rng.random())}, "b": {"B": rng.randbytes(3)}, "s": {"NS": ["1", "2.5"]}}
                self.client.put_item(TableName=self.name, Item={**key, **more})

    def items(self) -> list[Any]:
        found = [plain(row) for row in self.client.scan(TableName=self.name, ConsistentRead=True)["Items"]]
        return sorted(found, key=lambda item: (item["pk"], item["sk"]))


@pytest.fixture(params=["moto_server", "dynamodb_local"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    monkeypatch.setattr(walks, "_AT_END", 2)  # these have no empty pages before others
    source = Source(str(request.getfixturevalue(request.param)), f"users-{random.Random().getrandbits(40):x}")
    yield source
    source.client.delete_table(TableName=source.name)
    source.client.close()


@pytest.mark.parametrize(
    ("source", "events"),
    [("moto_server", "sqlite"), ("dynamodb_local", "sqlite"), ("dynamodb_local", "dynamodb")],
    indirect=["source"],
)
def test_the_layer_comes_to_be_what_a_real_table_is(source: Source, events: str, tmp_path: Path) -> None:
    rng = random.Random(4)
    log = f"sqlite:///{tmp_path}/events.db"
    if events == "dynamodb":
        log = f"dynamodb://{source.name}-events?region={servers.REGION}&endpoint_url={source.url}"
        create_table(log)

    def opened() -> Layer:
        return Layer(
            table=source.name,
            get_item_unique_identifier="sk",
            get_item_partition="pk",
            events=log,
            storage=f"local://{tmp_path}/snapshots",
        )

    options: Any = {"region": servers.REGION, "endpoint_url": source.url, "once": True, "poll": 0}
    with opened() as layer:
        follow(layer, **options, progress=lambda told: source.change(rng, 25) if not told.records else None)
    source.change(rng, 25)
    with opened() as layer:
        done = follow(layer, **options)
        assert done.known == 0
        assert layers_items(layer) == source.items()
        layer.sync()
        source.change(rng, 10)
        done = follow(layer, **options)
        assert done.records == done.events
        assert layers_items(layer) == source.items()
        if events == "dynamodb":
            assert layer.usage()["stream"].requests > 0
    if events == "dynamodb":
        source.client.delete_table(TableName=f"{source.name}-events")
