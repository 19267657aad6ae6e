"""The handler for AWS Lambda: what it answers, what it raises, and what it never acknowledges."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from dynalayer import (
    ClosedError,
    ConfigurationError,
    EventLogError,
    InvalidInputError,
    Item,
    Layer,
    MemoryEventLog,
    Operation,
    hookimpl,
)
from dynalayer.streams import DeadLetter, handler
from dynalayer.testing.faults import WrappedLog

from .stream_fakes import Fake, expected, had, lambda_event

P = ParamSpec("P")
T = TypeVar("T")


def identifier(item: Item) -> object:
    if "bad" in item:
        raise ValueError("a bad one")
    return item["sk"]


def layer_on(log: MemoryEventLog | WrappedLog, id: Any = identifier, **options: Any) -> Layer:
    given: dict[str, Any] = {} if "storage" in options else {"getter": lambda _: [], "setter": lambda *_: None}
    return Layer(table="users", get_item_unique_identifier=id, get_item_partition="pk", events=log, **given, **options)


def delivered(fake: Fake, begin: int = 0, end: int | None = None) -> Any:
    return lambda_event(fake.records[begin:end], fake.arn)


def number(fake: Fake, position: int) -> str:
    return str(fake.records[position]["dynamodb"]["SequenceNumber"])


def failed_at(fake: Fake, position: int) -> Any:
    return {"batchItemFailures": [{"itemIdentifier": number(fake, position)}]}


ALL: Any = {"batchItemFailures": []}


@pytest.fixture
def fake() -> Fake:
    """Three good records, a bad one, two good ones."""
    fake = Fake()
    for sk in "123":
        fake.put({"pk": "eu", "sk": sk})
    fake.put({"pk": "eu", "sk": "4", "bad": True})
    fake.put({"pk": "eu", "sk": "3", "again": True})
    fake.delete("eu", "2")
    return fake


def test_what_is_refused_is_answered_with_all_before_it_durable_and_nothing_after(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    layer = layer_on(MemoryEventLog("users"))
    handle = handler(layer)
    for _ in range(2):
        assert handle(delivered(fake), None) == failed_at(fake, 3)
        assert [event.id for event in layer.history("eu")] == ["1", "2", "3"]
    told = f"record {number(fake, 3)} of the stream of 'users', item {{'pk': 'eu', 'sk': '4'}}"
    assert f"{told}: the function for an item's identifier raised ValueError: a bad one" in caplog.text
    # As Lambda goes on, once the function was mended.
    assert handler(layer_on(layer._log, "sk"))(delivered(fake, 3), None) == ALL  # type: ignore[arg-type] # it is in memory
    assert had(layer) == expected(fake.records)


def test_what_is_refused_is_set_aside_on_request_and_passed_over(fake: Fake) -> None:
    layer = layer_on(MemoryEventLog("users"))
    letters: list[DeadLetter] = []
    assert handler(layer, dead_letters=letters.append)(delivered(fake), None) == ALL
    assert had(layer) == expected(fake.records[:3] + fake.records[4:])
    (letter,) = letters
    assert letter.item == {"pk": "eu", "sk": "4", "bad": True}
    assert "ValueError: a bad one" in letter.reason
    assert letter.source == "the stream of users"
    assert letter.details == {"event": "INSERT", "sequence_number": number(fake, 3), "stream": fake.arn}


def test_what_is_set_aside_in_a_file_is_there_when_the_handler_returns(fake: Fake, tmp_path: Path) -> None:
    handle = handler(layer_on(MemoryEventLog("users")), dead_letters=tmp_path / "dead.jsonl")
    assert handle(delivered(fake, 0, 3), None) == ALL
    assert not (tmp_path / "dead.jsonl").exists()
    assert handle(delivered(fake, 3), None) == ALL
    (line,) = (tmp_path / "dead.jsonl").read_text().splitlines()
    assert json.loads(line)["item"] == {"pk": "eu", "sk": "4", "bad": True}
    assert json.loads(line)["sequence_number"] == number(fake, 3)
    assert (tmp_path / "dead.jsonl").stat().st_mode & 0o077 == 0  # it holds items


def test_what_quotes_no_unicode_text_is_set_aside_in_a_file_too(tmp_path: Path) -> None:
    def refuse(item: Item) -> str:
        raise ValueError(item["sk"] + "\ud800")

    fake = Fake()
    fake.put({"pk": "eu", "sk": "1"})
    handle = handler(layer_on(MemoryEventLog("users"), refuse), dead_letters=tmp_path / "dead.jsonl")
    assert handle(delivered(fake), None) == ALL
    assert json.loads((tmp_path / "dead.jsonl").read_text())["reason"].endswith("ValueError: 1\\ud800")


def test_a_dead_letter_that_cannot_be_set_aside_is_a_failure_at_its_record(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: DeadLetter) -> None:
        raise OSError("no space")

    layer = layer_on(MemoryEventLog("users"))
    assert handler(layer, dead_letters=full)(delivered(fake), None) == failed_at(fake, 3)
    assert [event.id for event in layer.history("eu")] == ["1", "2", "3"]
    assert "the function for dead letters raised OSError: no space" in caplog.text


def test_an_asynchronous_function_for_dead_letters_sets_nothing_aside_and_says_so(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    async def set_aside(letter: DeadLetter) -> None:
        raise AssertionError(letter.reason)

    layer = layer_on(MemoryEventLog("users"))
    assert handler(layer, dead_letters=set_aside)(delivered(fake), None) == failed_at(fake, 3)
    assert "the function for dead letters is an async function" in caplog.text


def test_an_item_whose_new_state_is_set_aside_has_left_the_layer_as_a_reset_would_have_it() -> None:
    fake, layer = Fake(), layer_on(MemoryEventLog("users"))
    fake.put({"pk": "eu", "sk": "1"})
    fake.put({"pk": "eu", "sk": "1", "bad": True})
    letters: list[DeadLetter] = []
    handle = handler(layer, dead_letters=letters.append)
    assert handle(delivered(fake), None) == ALL
    assert [event.type for event in layer.history("eu")] == ["PUT", "DELETE"]
    fake.put({"pk": "eu", "sk": "1", "mended": True})
    assert handle(delivered(fake), None) == ALL
    assert [event.type for event in layer.history("eu")] == ["PUT", "DELETE", "UPDATE"]
    assert len(letters) == 2  # it came twice


def test_what_the_function_for_ttl_refuses_is_refused_by_name_too(caplog: pytest.LogCaptureFixture) -> None:
    fake, log = Fake(), MemoryEventLog("users")
    fake.put({"pk": "eu", "sk": "1", "days": 5})
    fake.put({"pk": "eu", "sk": "2"})
    handle = handler(layer_on(log, "sk", ttl=lambda item: int(item["days"]) * 86400))
    assert handle(delivered(fake), None) == failed_at(fake, 1)
    assert "the function for ttl raised KeyError" in caplog.text
    assert len(log.read("eu", 0).records) == 1


@pytest.mark.parametrize(("partition", "id"), [("pk", "sk"), ("country", lambda item: item["pk"] + item["sk"])])
def test_no_deletion_fails_for_a_ttl_that_needs_more_than_the_key_tells(partition: str, id: Any) -> None:
    fake, letters = Fake(), list[DeadLetter]()
    for item in ({"days": 5, "country": "fr"}, {"country": "de"}, {"days": 5, "country": "it"}):
        fake.put({"pk": "eu", "sk": "1", **item})
    fake.delete("eu", "1")
    layer = Layer(
        table="users",
        get_item_unique_identifier=id,
        get_item_partition=partition,
        events=MemoryEventLog("users"),
        getter=lambda _: [],
        setter=lambda *_: None,
        ttl=lambda item: int(item["days"]) * 86400,
    )
    handle = handler(layer, dead_letters=letters.append)
    for position in range(4):
        assert handle(delivered(fake, position, position + 1), None) == ALL
        assert sum(len(layer.get(each)) for each in layer.partitions()) == [1, 0, 1, 0][position]
    assert [letter.details and letter.details["event"] for letter in letters] == ["MODIFY"]


class Failing(WrappedLog):
    """A log that takes nothing for one partition."""

    partition: str | None = "us"

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if method == "tail" and self.partition in args:
            raise EventLogError("the disk is full", retryable=True)
        return call(*args, **kwargs)


def test_where_the_log_fails_the_first_record_that_is_not_durable_is_answered() -> None:
    fake, log = Fake(), Failing(MemoryEventLog("users"))
    log.group_limit = 1000  # partition by partition
    for sk, pk in enumerate(["eu", "us", "eu", "us"]):
        fake.put({"pk": pk, "sk": str(sk)})
    fake.put({"pk": "af", "sk": "9", "bad": True})
    layer = layer_on(log)
    assert handler(layer)(delivered(fake), None) == failed_at(fake, 1)
    assert [event.id for event in layer.history("eu")] == ["0", "2"]
    log.partition = None
    assert handler(layer)(delivered(fake, 1), None) == failed_at(fake, 4)
    assert had(layer) == expected(fake.records[:4])


def test_a_stream_of_another_table_raises_and_nothing_is_written() -> None:
    fake, log = Fake("orders"), MemoryEventLog("users")
    fake.put({"pk": "eu", "sk": "1"})
    with pytest.raises(ConfigurationError, match="of table 'orders', and the layer of table 'users'"):
        handler(layer_on(log))(delivered(fake), None)
    assert log.partitions() == ()


def test_a_missing_image_raises_and_nothing_of_the_batch_is_written() -> None:
    fake, log = Fake(), MemoryEventLog("users")
    fake.put({"pk": "eu", "sk": "1"})
    fake.view = "NEW_IMAGE"
    fake.delete("eu", "1")
    with pytest.raises(ConfigurationError, match=r"has no OldImage.*NEW_IMAGE.*NEW_AND_OLD_IMAGES"):
        handler(layer_on(log))(delivered(fake), None)
    assert log.partitions() == ()
    assert handler(layer_on(log, "sk"))(delivered(fake), None) == ALL


def test_a_malformed_event_raises_and_nothing_of_it_is_written(fake: Fake) -> None:
    log = MemoryEventLog("users")
    event = delivered(fake)
    del event["Records"][2]["dynamodb"]["SequenceNumber"]
    with pytest.raises(InvalidInputError, match=r"Records\[2\].dynamodb.SequenceNumber is None"):
        handler(layer_on(log))(event, None)
    assert log.partitions() == ()


def test_records_of_two_streams_in_one_event_raise(fake: Fake) -> None:
    event = delivered(fake, 0, 3)
    event["Records"][1]["eventSourceARN"] += "9"
    with pytest.raises(InvalidInputError, match="several streams"):
        handler(layer_on(MemoryEventLog("users")))(event, None)


def test_a_deletion_by_the_tables_ttl_is_one_as_any() -> None:
    fake, layer = Fake(), layer_on(MemoryEventLog("users"))
    fake.put({"pk": "eu", "sk": "1"})
    fake.delete("eu", "1", identity={"type": "Service", "principalId": "dynamodb.amazonaws.com"})
    assert handler(layer)(delivered(fake), None) == ALL
    assert layer.get("eu") == []
    assert [event.type for event in layer.history("eu")] == ["PUT", "DELETE"]


def test_an_empty_event_is_acknowledged() -> None:
    assert handler(layer_on(MemoryEventLog("users")))({"Records": []}, None) == ALL


def test_a_closed_layer_raises_so_that_nothing_is_acknowledged(fake: Fake) -> None:
    layer = layer_on(MemoryEventLog("users"))
    handle = handler(layer)
    layer.close()
    with pytest.raises(ClosedError):
        handle(delivered(fake), None)


@pytest.mark.parametrize(
    ("layer", "options", "told"),
    [
        ("users", {}, "into a Layer, not into 'users'"),
        (layer_on(MemoryEventLog("users")), {"dead_letters": 7}, "dead_letters is the path of a file, not 7"),
        (layer_on(MemoryEventLog("users")), {"dead_letters": "nowhere/at/all"}, "nowhere/at/all"),
        (Layer(table="users", events="memory:"), {}, "get_item_unique_identifier"),
    ],
)
def test_what_no_handler_can_be_made_of_is_refused(layer: Any, options: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        handler(layer, **options)


class Watching:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @hookimpl
    def layer_operation(self, operation: Operation) -> Any:
        @contextmanager
        def around() -> Any:
            self.seen.append(operation.name)
            yield

        return around()

    @hookimpl
    def layer_appended(self, events: Any) -> None:
        self.seen.append([event.id for event in events])

    @hookimpl
    def layer_failed(self, operation: str, error: Exception) -> None:
        self.seen.append((operation, type(error).__name__))


def test_observers_and_strategies_see_a_delivery_as_a_set_of_its_own_name(fake: Fake, tmp_path: Path) -> None:
    watching = Watching()
    layer = layer_on(
        MemoryEventLog("users"),
        plugins=[watching],
        storage=f"local://{tmp_path}",
        sync_strategy=lambda meta: meta.unsynced_total >= 3,
    )
    handle = handler(layer)
    handle(delivered(fake), None)
    assert watching.seen[:2] == ["stream", ["1", "2", "3"]]
    assert watching.seen[-1] == ("stream", "InvalidInputError")
    assert layer.meta().synced_total == 3
    watching.seen.clear()
    handle(delivered(fake, 0, 2), None)  # once more
    assert watching.seen == ["stream"]


def test_a_handler_needs_no_boto3() -> None:
    program = "import sys, dynalayer.streams; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
