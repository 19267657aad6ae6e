"""The log plugin: one record an operation, readable by people and machines, and none of it breaks an operation."""

from __future__ import annotations

import io
import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pythonjsonlogger.json import JsonFormatter

from dynalayer import (
    Adapter,
    ConfigurationError,
    HistoryError,
    InvalidEventError,
    Layer,
    Segment,
    StorageError,
    WrappedAdapter,
    hookimpl,
)
from dynalayer_local import LocalAdapter
from dynalayer_log import Log

PRIVATE = "4f6b-kept-to-itself"


class Failing(WrappedAdapter):
    def __init__(self, inner: Adapter) -> None:
        super().__init__(inner)
        self.failure: BaseException | None = None

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        if self.failure is not None:
            raise self.failure
        return super().layer_setter(partition=partition, segment=segment)


def put(identifier: str = "a", partition: str = "eu", **attributes: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": {"pk": partition, "sk": identifier, **attributes}}


Build = Callable[..., Layer]


@pytest.fixture
def store(tmp_path: Path) -> Failing:
    return Failing(LocalAdapter(tmp_path / "store"))


@pytest.fixture
def build(store: Failing) -> Iterator[Build]:
    layers: list[Layer] = []

    def built(*plugins: object, **options: Any) -> Layer:
        given = {"events": "memory:", "storage": store, "get_item_partition": "pk", **options}
        layers.append(Layer(table="users", get_item_unique_identifier="sk", plugins=plugins, **given))
        return layers[-1]

    yield built
    for layer in layers:
        layer.close()


class Kept(logging.Handler):
    """Keeps what was logged, and takes all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def fields(self) -> list[dict[str, Any]]:
        return [record.__dict__["dynalayer"] for record in self.records]

    def of(self, operation: str) -> dict[str, Any]:
        (found,) = [fields for fields in self.fields() if fields["operation"] == operation]
        return found


@pytest.fixture
def attach() -> Iterator[Callable[[logging.Handler], None]]:
    """Hands the logger's records to a handler for one test."""
    logger = logging.getLogger("dynalayer.operations")
    level, handlers = logger.level, list[logging.Handler]()
    logger.setLevel(logging.DEBUG)

    def attached(handler: logging.Handler) -> None:
        handlers.append(handler)
        logger.addHandler(handler)

    yield attached
    logger.setLevel(level)
    for handler in handlers:
        logger.removeHandler(handler)


@pytest.fixture
def kept(attach: Callable[[logging.Handler], None]) -> Kept:
    handler = Kept()
    attach(handler)
    return handler


def test_each_operation_is_one_record_at_its_end(build: Build, kept: Kept) -> None:
    layer = build("log")
    layer.set([put("a"), put("b")])
    layer.sync()
    layer.get("eu")
    told = kept.fields()
    assert all(isinstance(fields.pop("seconds"), float) for fields in told)
    assert told == [
        {"operation": "set", "table": "users", "outcome": "ok", "events": 2},
        {"operation": "sync", "table": "users", "outcome": "ok", "events": 2},
        {"operation": "get", "table": "users", "partition": "eu", "outcome": "ok"},
    ]
    assert {record.levelname for record in kept.records} == {"INFO"}
    assert {record.name for record in kept.records} == {"dynalayer.operations"}


def test_the_message_can_be_read_by_itself(build: Build, kept: Kept) -> None:
    build("log").get("eu west = 'x'")
    pairs = dict(pair.split("=", 1) for pair in shlex.split(kept.records[0].getMessage()))
    assert pairs == {
        "operation": "get",
        "table": "users",
        "partition": "eu west = 'x'",
        "outcome": "ok",
        "seconds": str(kept.fields()[0]["seconds"]),
    }


@pytest.mark.parametrize("form", ["logfmt", "json"])
@pytest.mark.parametrize(
    "partition", ['a"b', "line\nbreak", "a\r\x1b[31m", "\u2028", "100%s %d", "", "é", "\\", "a\tb"]
)
def test_whatever_a_partition_is_called_the_message_is_one_line_that_says_so(
    build: Build, kept: Kept, form: str, partition: str
) -> None:
    build(Log(format=form)).get(partition)  # type: ignore[arg-type] # one of the two
    message = kept.records[0].getMessage()
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    if form == "json":
        assert json.loads(message) == kept.fields()[0]
    else:
        told = message.partition(" partition=")[2].rpartition(" outcome=")[0]
        assert (json.loads(told) if told.startswith('"') else told) == partition


def test_an_error_is_told_with_its_class_message_and_adapter(build: Build, kept: Kept, store: Failing) -> None:
    store.failure = StorageError("the disk is full", retryable=True)
    layer = build("log")
    layer.set([put()])
    with pytest.raises(StorageError):
        layer.sync()
    fields = kept.of("sync")
    del fields["seconds"]
    assert fields == {
        "operation": "sync",
        "table": "users",
        "outcome": "error",
        "error": "StorageError",
        "message": "the disk is full",
        "retryable": True,
        "adapter": "local",
    }
    assert kept.records[-1].levelname == "ERROR"
    assert 'error=StorageError message="the disk is full" retryable=true adapter=local' in kept.records[-1].getMessage()


def test_calls_of_the_adapter_are_logged_where_that_is_asked_for(build: Build, kept: Kept, store: Failing) -> None:
    layer = build("log:?storage=true")
    layer.set([put()])
    layer.sync()
    fields = kept.of("storage.put")
    assert (fields["adapter"], fields["partition"], fields["outcome"]) == ("local", "eu", "ok")
    assert [each["operation"] for each in kept.fields()] == ["set", "storage.put", "sync"]


@pytest.mark.parametrize(
    ("level", "fast", "slow"),
    [("debug", "DEBUG", "WARNING"), ("info", "INFO", "WARNING"), ("error", "ERROR", "ERROR")],
)
def test_what_ends_well_has_the_level_that_was_asked_for_and_is_a_warning_when_slow(
    build: Build, kept: Kept, level: str, fast: str, slow: str
) -> None:
    build({"use": f"log:{level}", "slow": 3600}).partitions()
    build({"use": f"log:{level}", "slow": 0}).partitions()
    assert [record.levelname for record in kept.records] == [fast, slow]
    assert ["slow" in fields for fields in kept.fields()] == [False, True]


def test_partitions_and_what_may_name_them_are_left_out_where_that_is_asked_for(
    build: Build, kept: Kept, store: Failing
) -> None:
    store.failure = OSError("cannot write hidden/1")
    layer = build("log:?partitions=false&storage=true")
    layer.set([put(partition="hidden")])
    with pytest.raises(StorageError):
        layer.sync("hidden")
    layer.get("hidden")
    assert "hidden" not in str([record.__dict__ for record in kept.records])
    assert kept.of("sync")["error"] == "StorageError"


def test_what_is_in_items_is_never_logged(build: Build, kept: Kept, store: Failing) -> None:
    layer = build("log:debug?storage=true")
    layer.set([put(PRIVATE, state=PRIVATE)])
    layer.sync()
    layer.history("eu", id=PRIVATE)
    wrong: list[Any] = [
        {"type": PRIVATE, "item": {}},
        {"type": "PUT", "item": {"pk": "eu", "sk": "a", "x": {PRIVATE: float("nan")}}},
        {"type": "PUT", "item": {"pk": "eu", "sk": PRIVATE}, "id": "other"},
        PRIVATE,
    ]
    for event in wrong:
        with pytest.raises(InvalidEventError, match=r"."):
            layer.set([event])
    store.failure = ValueError(f"cannot take {PRIVATE}")
    layer.set([put("b")])
    with pytest.raises(StorageError, match=PRIVATE):
        layer.sync()
    assert len([fields for fields in kept.fields() if fields["outcome"] == "error"]) == 6
    assert PRIVATE not in str([record.__dict__ for record in kept.records])


def test_an_interruption_is_logged_and_passes(build: Build, kept: Kept, store: Failing) -> None:
    store.failure = KeyboardInterrupt()
    layer = build("log")
    layer.set([put()])
    with pytest.raises(KeyboardInterrupt):
        layer.sync()
    assert kept.of("sync")["error"] == "KeyboardInterrupt"


def test_a_handler_that_raises_breaks_no_operation(
    build: Build, attach: Callable[[logging.Handler], None], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the log's disk is full")

    attach(Broken())
    layer = build("log:?storage=true")
    assert len(layer.set([put()])) == 1
    assert layer.sync().count == 1
    with pytest.raises(HistoryError):
        layer.get("eu", at=9)
    reported = [record.getMessage() for record in caplog.records if record.name == "dynalayer"]
    assert reported == ["layer_operation failed in plugin Log: the log's disk is full"] * 4


def test_a_record_is_made_only_where_somebody_wants_it(build: Build, kept: Kept) -> None:
    logging.getLogger("dynalayer.operations").setLevel(logging.WARNING)
    layer = build("log:debug")
    layer.get("eu")
    with pytest.raises(HistoryError):
        layer.get("eu", at=9)
    assert [record.levelname for record in kept.records] == ["ERROR"]


def test_json_formatters_have_the_fields(build: Build, attach: Callable[[logging.Handler], None]) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter("%(levelname)s %(message)s"))
    attach(handler)
    build("log").get("eu")
    told = json.loads(out.getvalue())
    assert told["levelname"] == "INFO"
    assert told["dynalayer"]["operation"] == "get"
    assert told["dynalayer"]["partition"] == "eu"


def test_structlog_has_the_fields(build: Build, attach: Callable[[logging.Handler], None]) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    processors: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.JSONRenderer(),
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=processors, foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow={"dynalayer"})]
        )
    )
    attach(handler)
    build("log").get("eu")
    told = json.loads(out.getvalue())
    assert told["event"].startswith("operation=get table=users partition=eu outcome=ok seconds=")
    assert told["dynalayer"]["operation"] == "get"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("log:loud", "level is 'debug' or 'info' or 'warning' or 'error'"),
        ("log:?format=xml", "format is 'logfmt' or 'json'"),
        ("log:?slow=often", "slow is a number"),
        ("log:?slow=-1", "slow is a number of seconds"),
        ("log:?slow=nan", "slow is a number"),
        ("log:?partition=no", "has no setting 'partition'; did you mean 'partitions'"),
    ],
)
def test_a_wrong_setting_is_refused(build: Build, spec: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        build(spec)


PROGRAM = """
import logging
from dynalayer import Layer

def work(plugin):
    with Layer(table="users", get_item_unique_identifier="sk", events="memory:", plugins=[plugin]) as layer:
        layer.get()

work("log")  # nobody has configured logging: nothing is shown, and no handler made
assert not logging.getLogger("dynalayer").handlers and not logging.getLogger("dynalayer.operations").handlers
logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
work({"use": "log", "format": "json"})
"""


def test_the_program_alone_says_where_records_go(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = [line.partition(" ") for line in done.stderr.splitlines()]
    assert [(level, json.loads(message)["operation"]) for level, _, message in lines] == [
        ("INFO", "get"),
        ("INFO", "close"),
    ]
