"""Observers: they see every operation begin and end, in its thread, and whatever they do, they break none."""

from __future__ import annotations

import inspect
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import boto3
import pytest

from dynalayer import (
    Adapter,
    ConfigurationError,
    Event,
    HistoryError,
    InvalidEventError,
    Item,
    Layer,
    Operation,
    PluginError,
    Segment,
    StorageError,
    SyncResult,
    WrappedAdapter,
    hookimpl,
    observing,
)
from dynalayer_local import LocalAdapter
from dynalayer_parquet import ParquetAdapter
from fakes import Ticking


class Publishing(WrappedAdapter):
    """Publishes to nowhere, and fails where it is told to."""

    def __init__(self, inner: Adapter) -> None:
        super().__init__(inner)
        self.capabilities = replace(inner.capabilities, publishing=True)
        self.failure: BaseException | None = None

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        if self.failure is not None:
            raise self.failure
        return super().layer_setter(partition=partition, segment=segment)

    @hookimpl
    def layer_publish(self, partition: str, origin: str, version: int, items: Any) -> bool:
        return True


@dataclass
class Seen:
    step: str
    name: str
    thread: str
    error: BaseException | None = None


@dataclass  # which makes it unhashable: observers may be
class Watching:
    """Sees everything."""

    name: str = "watching"
    seen: list[Seen] = field(default_factory=list)
    told: list[tuple[str, object]] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    @hookimpl
    def layer_operation(self, operation: Operation) -> AbstractContextManager[None]:
        return self._watch(operation)

    @contextmanager
    def _watch(self, operation: Operation) -> Iterator[None]:
        here = threading.current_thread().name
        self.operations.append(operation)
        self.seen.append(Seen("enter", operation.name, here))
        try:
            yield
        except BaseException as error:
            self.seen.append(Seen("leave", operation.name, threading.current_thread().name, error))
            raise
        self.seen.append(Seen("leave", operation.name, threading.current_thread().name))

    @hookimpl
    def layer_appended(self, events: Sequence[Event]) -> None:
        self.told.append(("appended", len(events)))

    @hookimpl
    def layer_synced(self, result: SyncResult) -> None:
        self.told.append(("synced", result.count))

    @hookimpl
    def layer_failed(self, operation: str, error: Exception) -> None:
        self.told.append((operation, error))

    def steps(self) -> list[tuple[str, str]]:
        return [(each.step, each.name) for each in self.seen]

    def names(self) -> list[str]:
        return [each.name for each in self.operations]

    def failures(self, operation: str) -> list[object]:
        return [what for name, what in self.told if name == operation]


def put(identifier: str, partition: str = "eu", **attributes: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": {"pk": partition, "sk": identifier, **attributes}}


Build = Callable[..., Layer]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    layers: list[Layer] = []

    def built(*plugins: object, **options: Any) -> Layer:
        given = {"events": "memory:", "storage": LocalAdapter(tmp_path / str(len(layers))), **options}
        layers.append(
            Layer(
                table="users",
                get_item_unique_identifier="sk",
                get_item_partition="pk",
                plugins=plugins,
                clock=Ticking(),
                **given,
            )
        )
        return layers[-1]

    yield built
    for layer in layers:
        layer.close()


# What is seen


def test_a_context_is_entered_before_and_left_after_what_is_inside(build: Build) -> None:
    watching = Watching()
    layer = build(watching)
    layer.set([put("a")])
    layer.sync()
    assert watching.steps() == [
        ("enter", "set"),
        ("leave", "set"),
        ("enter", "sync"),
        ("enter", "storage.put"),
        ("leave", "storage.put"),
        ("leave", "sync"),
    ]
    assert watching.operations == [
        Operation("set", "users", None, None),
        Operation("sync", "users", None, None),
        Operation("storage.put", "users", "eu", "local"),
    ]


def test_of_several_observers_the_last_of_the_list_is_the_outermost(build: Build) -> None:
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        @hookimpl
        def layer_operation(self, operation: Operation) -> AbstractContextManager[None]:
            return self._watch()

        @contextmanager
        def _watch(self) -> Iterator[None]:
            order.append(f"enter {self.name}")
            yield
            order.append(f"leave {self.name}")

    build(Named("first"), Named("last")).partitions()
    assert order == ["enter last", "enter first", "leave first", "leave last"]


def test_an_operation_is_seen_in_the_thread_that_does_it(build: Build) -> None:
    watching = Watching()
    layer = build(watching, sync_strategy=lambda meta: True, background_runner="thread")
    layer.set([put("a")])
    layer.close()
    here = threading.current_thread().name
    threads = {(each.name, each.thread) for each in watching.seen}
    assert threads == {
        ("set", here),
        ("strategy", here),
        ("sync", "dynalayer-sync"),
        ("storage.put", "dynalayer-sync"),
        ("close", here),
    }
    of_sync = [(each.step, each.name) for each in watching.seen if each.thread == "dynalayer-sync"]
    assert of_sync == [("enter", "sync"), ("enter", "storage.put"), ("leave", "storage.put"), ("leave", "sync")]


def test_the_strategy_is_an_operation_only_where_there_is_one(build: Build) -> None:
    with_strategy, without = Watching(), Watching()
    build(with_strategy, sync_strategy=lambda meta: False).set([put("a")])
    build(without).set([put("a")])
    assert with_strategy.names() == ["set", "strategy"]
    assert without.names() == ["set"]


def test_what_was_appended_and_folded_is_told_within_the_operation(build: Build) -> None:
    inside: list[tuple[str, list[str]]] = []

    class Asking(Watching):
        @hookimpl
        def layer_appended(self, events: Sequence[Event]) -> None:
            inside.append(("appended", self.open()))

        @hookimpl
        def layer_synced(self, result: SyncResult) -> None:
            inside.append(("synced", self.open()))

        def open(self) -> list[str]:
            names: list[str] = []
            for step, name in self.steps():
                if step == "enter":
                    names.append(name)
                else:
                    names.remove(name)
            return names

    layer = build(Asking())
    layer.set([put("a")])
    layer.sync()
    layer.set([put("b", "us")])
    layer.import_snapshot("us", [{"pk": "us", "sk": "c"}])
    assert inside == [("appended", ["set"]), ("synced", ["sync"]), ("appended", ["set"]), ("synced", ["import"])]


def refused_table(layer: Layer) -> None:
    with pytest.raises(ConfigurationError, match="DynamoDB"):  # its log is none there
        layer.table(boto3.resource("dynamodb", region_name="eu-west-1").Table("users"))


# Every public method, with what it is seen as. usage() does nothing: it tells what was counted.
METHODS: dict[str, tuple[Callable[[Layer], object], list[str]]] = {
    "set": (lambda layer: layer.set([put("z")]), ["set"]),
    "get": (lambda layer: layer.get("eu"), ["get"]),
    "scan": (lambda layer: layer.scan("eu"), ["scan"]),
    "to_arrow": (lambda layer: layer.to_arrow("eu"), ["scan"]),
    "to_pandas": (lambda layer: layer.to_pandas("eu"), ["scan"]),
    "to_polars": (lambda layer: layer.to_polars("eu"), ["scan"]),
    "history": (lambda layer: layer.history("eu"), ["history"]),
    "meta": (lambda layer: layer.meta("eu"), ["meta"]),
    "sync": (lambda layer: layer.sync("eu"), ["sync"]),
    "import_snapshot": (lambda layer: layer.import_snapshot("new", [{"pk": "new", "sk": "a"}]), ["import"]),
    "reset": (lambda layer: layer.reset([{"pk": "eu", "sk": "a"}], "eu"), ["reset"]),
    "follow": (lambda layer: layer.follow("index", wait=False), ["follow"]),
    "consumers": (lambda layer: layer.consumers(), ["consumers"]),
    "move_consumer": (lambda layer: layer.move_consumer("known", "now", partition="eu"), ["move"]),
    "forget_consumer": (lambda layer: layer.forget_consumer("known"), ["forget"]),
    "table": (refused_table, ["table"]),
    "partitions": (lambda layer: layer.partitions(), ["partitions"]),
    "vacuum": (lambda layer: layer.vacuum("eu"), ["vacuum"]),
    "verify": (lambda layer: layer.verify("eu"), ["verify"]),
    "explain": (lambda layer: layer.explain("eu"), ["explain"]),
    "usage": (lambda layer: layer.usage(), []),
    "close": (lambda layer: layer.close(), ["close"]),
}


def test_every_public_method_is_an_operation(build: Build, tmp_path: Path) -> None:
    assert set(METHODS) == {name for name, _ in inspect.getmembers(Layer, inspect.isfunction) if name[0] != "_"}
    for name, (call, expected) in METHODS.items():
        watching = Watching()
        layer = build(watching, storage=f"parquet+file://{tmp_path}/{name}")
        layer.set([put("a")])
        layer.sync()
        list(layer.follow("known", wait=False))
        watching.operations.clear()
        call(layer)
        seen = [each for each in watching.operations if each.adapter is None]
        assert [each.name for each in seen] == expected
        takes_one = "partition" in inspect.signature(getattr(Layer, name)).parameters
        assert all((each.partition is not None) == takes_one for each in seen), name
        assert {each.table for each in watching.operations} <= {"users"}


def test_a_table_is_read_within_the_operation_and_a_scans_batches_after_it(build: Build, tmp_path: Path) -> None:
    watching = Watching()
    layer = build(watching, storage=f"parquet+file://{tmp_path}/columns")
    layer.set([put("a")])
    layer.sync()
    for whole in (True, False):
        watching.seen.clear()
        table = layer.to_arrow("eu") if whole else layer.scan("eu").read_all()
        assert table.num_rows == 1
        steps = watching.steps()
        assert steps[0] == ("enter", "scan")
        within = steps.index(("enter", "storage.batch")) < steps.index(("leave", "scan"))
        assert within == whole


def test_every_call_of_the_adapter_is_seen(build: Build, tmp_path: Path) -> None:
    """Of the names that stand in the code none is left out here."""
    watching = Watching()
    layer = build(
        watching, storage=Publishing(ParquetAdapter(f"file://{tmp_path}/columns", table="users")), cache_bytes=0
    )
    drive(layer)
    code = Path(inspect.getfile(observing)).with_name("storage.py").read_text()
    named = {f"storage.{name}" for name in re.findall(r'self\._call\(\s*"(\w+)"', code)}
    assert len(named) >= 7
    assert {name for name in watching.names() if name.startswith("storage.")} == named


def drive(layer: Layer) -> list[object]:
    """Everything that a layer does, and what came of it."""
    adapter = layer._storage
    done: list[object] = []
    for number in range(2):
        done.append(layer.set([put(f"a{number}"), put(f"b{number}", "us")]))
        done.append(layer.sync("eu"))
    done.append(layer.sync())
    done.append([layer.get("eu"), layer.get("eu", at=2), layer.history("eu"), layer.partitions()])
    done.append([layer.meta(), layer.meta("eu")])
    done.append([layer.scan("eu").read_all().num_rows, layer.to_arrow("eu").num_rows])
    done.append([layer.import_snapshot("new", [{"pk": "new", "sk": "n"}]), layer.get("new")])
    # A segment that no head names, so that there is something to discard.
    stray = Segment("users", "eu", layer._log.origin, "base", 0, 1, {"x": {"pk": "eu", "sk": "x"}})
    adapter.put(stray, cursor="2020-01-01T00:00:00.000000Z", at=0)
    done.append([len(layer.vacuum().discarded), len(layer.vacuum(dry_run=False).discarded)])
    done.append([layer.verify().ok, layer.explain("eu").items])
    with pytest.raises(HistoryError) as refused:
        layer.get("eu", at=99)
    done.append(str(refused.value))
    with pytest.raises(InvalidEventError) as invalid:
        layer.set([{"type": "PUT"}])
    done.append(str(invalid.value))
    return done


# The error


def test_an_error_is_seen_as_the_caller_gets_it(build: Build) -> None:
    watching = Watching()
    layer = build(watching)
    with pytest.raises(HistoryError) as caught:
        layer.get("eu", at=7)
    (left,) = [each for each in watching.seen if each.step == "leave"]
    assert left.error is caught.value
    assert (caught.value.operation, caught.value.partition) == ("get", "eu")


def test_an_error_of_the_adapter_is_seen_named_in_the_call_and_in_the_operation(build: Build, tmp_path: Path) -> None:
    watching, store = Watching(), Publishing(LocalAdapter(tmp_path / "x"))
    store.failure = OSError("full")
    layer = build(watching, storage=store)
    layer.set([put("a")])
    with pytest.raises(StorageError) as caught:
        layer.sync()
    left = [each for each in watching.seen if each.step == "leave" and each.error is not None]
    assert [each.name for each in left] == ["storage.put", "sync"]
    assert all(each.error is caught.value for each in left)
    assert (caught.value.adapter, caught.value.operation, caught.value.partition) == ("local", "sync", "eu")


class Swallowing:
    def __init__(self) -> None:
        self.swallowed: list[BaseException | None] = []

    @hookimpl
    def layer_operation(self, operation: Operation) -> AbstractContextManager[None]:
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self.swallowed.append(error)
        return True


class Replacing:
    @hookimpl
    def layer_operation(self, operation: Operation) -> AbstractContextManager[None]:
        return self._watch()

    @contextmanager
    def _watch(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise ValueError("another error") from error


def test_an_error_cannot_be_swallowed_or_replaced(build: Build) -> None:
    swallowing, watching = Swallowing(), Watching()
    layer = build(watching, swallowing, Replacing())
    with pytest.raises(HistoryError):
        layer.get("eu", at=7)
    assert isinstance(swallowing.swallowed[0], HistoryError)
    (reported,) = watching.failures("layer_operation")
    assert (type(reported), str(reported)) == (ValueError, "another error")


def test_one_that_raises_the_error_on_is_not_reported(build: Build) -> None:
    class Passing(Swallowing):
        def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
            if error is not None:
                raise error
            return True

    watching = Watching()
    layer = build(watching, Passing())
    with pytest.raises(HistoryError):
        layer.get("eu", at=7)
    assert not watching.told


# Observers that break


def fail(*_: object) -> NoReturn:
    raise RuntimeError("broken observer")


class OnCall:
    @hookimpl
    def layer_operation(self, operation: Operation) -> None:
        fail()


class OnEnter(Swallowing):
    def __enter__(self) -> None:
        fail()


class OnExit(Swallowing):
    def __exit__(self, kind: object, error: object, traceback: object) -> bool:
        fail()


class Returning:
    """Returns what is no context manager."""

    def __init__(self, what: object) -> None:
        self.what = what

    @hookimpl
    def layer_operation(self, operation: Operation) -> object:
        return self.what


class Asynchronous(AbstractAsyncContextManager[None]):
    async def __aexit__(self, *_: object) -> None: ...


class HalfOne:
    def __enter__(self) -> None: ...


def nothing() -> None: ...


def named(plugin: Any, name: str) -> object:
    """The plugin, under a name that lets it stand beside another of its class."""
    plugin.name = name
    return plugin


@dataclass(eq=False)
class Around:
    """Wrappers around the hooks of observers, of pluggy's new kind."""

    before: Callable[[], object]
    yields: int
    after: Callable[[], object]

    def go(self) -> Iterator[None]:
        self.before()
        for _ in range(self.yields):
            yield
        self.after()

    @hookimpl(wrapper=True)
    def layer_operation(self, operation: Operation) -> Iterator[None]:
        yield from self.go()

    @hookimpl(wrapper=True)
    def layer_appended(self, events: object) -> Iterator[None]:
        yield from self.go()

    @hookimpl(wrapper=True)
    def layer_synced(self, result: object) -> Iterator[None]:
        yield from self.go()

    @hookimpl(wrapper=True)
    def layer_closing(self) -> Iterator[None]:
        yield from self.go()

    @hookimpl(wrapper=True)
    def layer_closed(self) -> Iterator[None]:
        yield from self.go()


class AroundOld(Around):
    """Likewise of the old kind."""

    @hookimpl(hookwrapper=True)
    def layer_operation(self, operation: Operation) -> Iterator[None]:
        yield from self.go()

    @hookimpl(hookwrapper=True)
    def layer_appended(self, events: object) -> Iterator[None]:
        yield from self.go()

    @hookimpl(hookwrapper=True)
    def layer_synced(self, result: object) -> Iterator[None]:
        yield from self.go()

    @hookimpl(hookwrapper=True)
    def layer_closing(self) -> Iterator[None]:
        yield from self.go()

    @hookimpl(hookwrapper=True)
    def layer_closed(self) -> Iterator[None]:
        yield from self.go()


class OnTelling:
    @hookimpl
    def layer_appended(self, events: object) -> None:
        fail()

    @hookimpl
    def layer_synced(self, result: object) -> None:
        fail()

    @hookimpl
    def layer_closing(self) -> None:
        fail()

    @hookimpl
    def layer_closed(self) -> None:
        fail()


BROKEN: dict[str, tuple[Callable[[], object], set[str]]] = {
    "on call": (OnCall, {"layer_operation"}),
    "on enter": (OnEnter, {"layer_operation"}),
    "on exit": (OnExit, {"layer_operation"}),
    "swallowing": (Swallowing, set()),
    "replacing": (Replacing, {"layer_operation"}),
    "a number": (lambda: Returning(5), {"layer_operation"}),
    "a class": (lambda: Returning(Swallowing), {"layer_operation"}),
    "half a context manager": (lambda: Returning(HalfOne()), {"layer_operation"}),
    "an asynchronous one": (lambda: Returning(Asynchronous()), {"layer_operation"}),
    "an empty text": (lambda: Returning(""), {"layer_operation"}),
    "on telling": (OnTelling, {"layer_appended", "layer_synced", "layer_closing", "layer_closed"}),
}
WRAPPED = {"layer_operation", "layer_appended", "layer_synced", "layer_closing", "layer_closed"}
for _name, _kind in {"wrapper": Around, "hookwrapper": AroundOld}.items():
    BROKEN[f"{_name} raising before"] = (partial(_kind, fail, 1, nothing), WRAPPED)
    BROKEN[f"{_name} raising after"] = (partial(_kind, nothing, 1, fail), WRAPPED)
    BROKEN[f"{_name} yielding twice"] = (partial(_kind, nothing, 2, nothing), WRAPPED)
    BROKEN[f"{_name} never yielding"] = (partial(_kind, nothing, 0, nothing), WRAPPED)


Run = Callable[..., list[object]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Does everything with a layer that syncs in line as well, watched by these plugins."""

    def ran(*plugins: object) -> list[object]:
        folder = tmp_path_factory.mktemp("columns")
        with Layer(
            table="users",
            get_item_unique_identifier="sk",
            get_item_partition="pk",
            events="memory:",
            storage=Publishing(ParquetAdapter(f"file://{folder}", table="users")),
            sync_strategy=lambda meta, of: "partition" if of.unsynced_total > 1 else None,
            plugins=plugins,
            clock=Ticking(),
        ) as layer:
            return drive(layer)

    return ran


@pytest.fixture(scope="module")
def undisturbed(run: Run) -> tuple[Watching, list[object]]:
    """What an observer sees where there is no other, and what was done."""
    watching = Watching()
    return watching, run(watching)


@pytest.mark.parametrize("kind", BROKEN)
def test_whatever_an_observer_does_wrong_all_works_and_the_others_are_told(
    kind: str, run: Run, undisturbed: tuple[Watching, list[object]], caplog: pytest.LogCaptureFixture
) -> None:
    make, hooks = BROKEN[kind]
    seen, done = undisturbed
    watching = Watching()
    caplog.clear()
    assert run(named(make(), "inner"), watching, named(make(), "outer")) == done
    assert watching.steps() == seen.steps()
    reported = [(name, error) for name, error in watching.told if name.startswith("layer_")]
    assert {name for name, _ in reported} == hooks
    assert [each for each in watching.told if each not in reported] == seen.told
    logged = {str(record.getMessage()).split()[0] for record in caplog.records if record.name == "dynalayer"}
    assert logged == hooks


def test_what_is_no_context_manager_is_reported_as_what_it_is(build: Build) -> None:
    watching = Watching()
    build(Returning(5), watching).partitions()
    (error,) = watching.failures("layer_operation")
    assert isinstance(error, PluginError)
    assert str(error) == "layer_operation returns a context manager or None, not int"


@pytest.mark.parametrize("kind", ["on call", "on exit", "wrapper raising after"])
def test_a_background_sync_is_broken_by_no_observer(build: Build, kind: str) -> None:
    watching = Watching()
    inner, outer = (named(BROKEN[kind][0](), name) for name in ("inner", "outer"))
    layer = build(inner, watching, outer, sync_strategy=lambda meta: True, background_runner="thread")
    for number in range(5):
        layer.set([put(str(number))])
    layer.close()
    assert sum(count for name, count in watching.told if name == "synced" and isinstance(count, int)) == 5
    assert not watching.failures("sync")


def test_one_that_raises_when_told_of_a_failure_is_logged_and_not_told_again(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    class Failing:
        @hookimpl
        def layer_failed(self, operation: str, error: Exception) -> None:
            calls.append(operation)
            raise RuntimeError("even here")

    layer = build(Failing(), OnCall())
    layer.partitions()
    assert calls == ["layer_operation"]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "layer_operation failed in plugin OnCall: broken observer",
        "layer_failed failed in plugin Failing: even here",
    ]


def test_what_is_logged_has_fields_for_machines_and_no_settings(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    layer = build(OnCall(), sync_strategy=fail)
    layer.set([put("a")])
    fields = [record.dynalayer for record in caplog.records if hasattr(record, "dynalayer")]
    common = {
        "table": "users",
        "outcome": "error",
        "error": "RuntimeError",
        "message": "broken observer",
        "retryable": False,
    }
    assert {"operation": "layer_operation", "plugin": "OnCall", **common} in fields
    assert {"operation": "layer_strategy", **common} in fields


def test_a_logging_handler_that_raises_breaks_no_operation(
    build: Build, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the log's disk is full")

    store = Publishing(LocalAdapter(tmp_path / "x"))
    store.failure = OSError("the store's too")
    handler = Broken()
    logging.getLogger("dynalayer").addHandler(handler)
    try:
        layer = build(OnCall(), storage=store, sync_strategy=lambda meta: True)
        assert len(layer.set([put("a")])) == 1
        assert layer.get("eu") == [{"pk": "eu", "sk": "a"}]
    finally:
        logging.getLogger("dynalayer").removeHandler(handler)
    assert "OSError: the log's disk is full" in capsys.readouterr().err


# No end to it


def test_what_an_observer_does_with_the_layer_is_told_to_no_observer(build: Build) -> None:
    """Else it would be told of its own calls, and of those that it made then."""

    class Curious(Watching):
        layer: Layer

        @hookimpl
        def layer_operation(self, operation: Operation) -> AbstractContextManager[None]:
            self.layer.meta()
            return super().layer_operation(operation)

        @hookimpl
        def layer_failed(self, operation: str, error: Exception) -> None:
            super().layer_failed(operation, error)
            self.layer.set([put("alert")])

    curious = Curious()
    curious.layer = layer = build(curious, OnCall(), sync_strategy=fail)
    layer.partitions()
    assert curious.names() == ["partitions"]
    assert [name for name, _ in curious.told if name.startswith("layer_")] == ["layer_operation"]
    assert layer.get("eu") == [{"pk": "eu", "sk": "alert"}]
    assert curious.names() == ["partitions", "get"]


# What ends the program


def test_an_interruption_is_seen_and_passes(build: Build, tmp_path: Path) -> None:
    watching, store = Watching(), Publishing(LocalAdapter(tmp_path / "x"))
    store.failure = KeyboardInterrupt()
    layer = build(watching, Swallowing(), storage=store)
    layer.set([put("a")])
    with pytest.raises(KeyboardInterrupt):
        layer.sync()
    left = [each for each in watching.seen if each.step == "leave" and each.error is not None]
    assert [(each.name, each.error is store.failure) for each in left] == [("storage.put", True), ("sync", True)]
    store.failure = None
    assert layer.sync().count == 1


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_an_interruption_in_an_observer_passes_and_who_was_entered_is_left(
    build: Build, ending: type[BaseException]
) -> None:
    class Interrupted(Swallowing):
        times = 1

        def __enter__(self) -> None:
            if self.times:
                self.times = 0
                raise ending

    watching = Watching()
    layer = build(Interrupted(), watching)
    with pytest.raises(ending):
        layer.partitions()
    assert watching.steps() == [("enter", "partitions"), ("leave", "partitions")]
    assert isinstance(watching.seen[1].error, ending)
    assert not watching.told


# pluggy's ways


def test_a_wrapper_is_called_once_a_call_and_shown_what_was_answered(build: Build) -> None:
    shown: list[object] = []

    class Wrapper:
        @hookimpl(wrapper=True)
        def layer_operation(self, operation: Operation) -> Iterator[None]:
            answers = yield
            shown.append((operation.name, len(answers)))  # type: ignore[arg-type] # a list
            return answers

        @hookimpl(hookwrapper=True)
        def layer_appended(self, events: object) -> Iterator[None]:
            outcome: Any = yield
            shown.append(("appended", outcome.get_result()))

    build(Wrapper(), Watching("one"), Watching("other")).set([put("a")])
    assert shown == [("set", 2), ("appended", [])]
    shown.clear()
    build(Wrapper()).set([put("a")])
    assert shown == [("set", 0), ("appended", [])]


def test_two_methods_of_one_plugin_may_stand_for_one_hook(build: Build) -> None:
    calls: list[str] = []

    class Twice:
        @hookimpl
        def layer_appended(self, events: object) -> None:
            calls.append("one")

        @hookimpl(specname="layer_appended")
        def also(self) -> None:
            calls.append("two")

    build(Twice()).set([put("a")])
    assert sorted(calls) == ["one", "two"]


def test_tryfirst_and_trylast_hold(build: Build) -> None:
    calls: list[str] = []

    class First:
        @hookimpl(tryfirst=True)
        def layer_appended(self) -> None:
            calls.append("first")

    class Middle:
        @hookimpl
        def layer_appended(self) -> None:
            calls.append("middle")

    class Last:
        @hookimpl(trylast=True)
        def layer_appended(self) -> None:
            calls.append("last")

    build(First(), Last(), Middle()).set([put("a")])
    assert calls == ["first", "middle", "last"]


# What it costs


def test_without_observers_nothing_is_made_or_called(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build()

    def made(*_: object) -> NoReturn:
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(observing, "Operation", made)
    monkeypatch.setattr(layer._observers, "ask", made)
    layer.set([put("a")])
    layer.sync()
    assert layer.get("eu") == [{"pk": "eu", "sk": "a"}]
    assert layer._observers.watched("get") is layer._observers.watched("set"), "one and the same for all"


def test_observers_are_asked_once_an_operation_whatever_its_size(build: Build) -> None:
    asked: list[int] = []
    for size in (1, 1000):
        watching = Watching()
        layer = build(watching)
        layer.set([put(str(number)) for number in range(size)])
        layer.sync()
        layer.get("eu")
        assert watching.names() == ["set", "sync", "storage.put", "get", "storage.get"]
        asked.append(len(watching.operations) + len(watching.told))
    assert asked == [7, 7]


def test_usage_counts_under_the_same_names_with_an_observer(build: Build, tmp_path: Path) -> None:
    names = []
    for plugins in ((), (Watching("one"), OnCall())):
        store = Publishing(ParquetAdapter(f"file://{tmp_path}/{len(plugins)}", table="users"))
        layer = build(*plugins, storage=store, cache_bytes=0)
        drive(layer)
        names.append(layer.usage())
    assert names[0] == names[1]
    assert {"sync", "get", "scan", "verify", "vacuum", "import", "explain"} <= set(names[0])


def test_items_stay_the_callers(build: Build) -> None:
    """An observer is told of events, not given the items that the layer keeps."""

    class Changing:
        @hookimpl
        def layer_appended(self, events: Sequence[Event]) -> None:
            for event in events:
                item: Item = event.item
                item["changed"] = True

    layer = build(Changing())
    layer.set([put("a")])
    assert layer.get("eu") == [{"pk": "eu", "sk": "a"}]
