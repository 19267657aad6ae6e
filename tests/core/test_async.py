"""`AsyncLayer` is `Layer` in threads: the same methods and answers, opened once, under asyncio and trio."""

from __future__ import annotations

import contextlib
import inspect
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import boto3
import pytest

from dynalayer import (
    AsyncCapturedTable,
    AsyncLayer,
    CapturedTable,
    ClosedError,
    ConfigurationError,
    InvalidInputError,
    Layer,
    Operation,
    PluginNotFoundError,
    ResetProgress,
    current_operation,
    hookimpl,
)
from dynalayer.columns import SegmentColumns
from fakes import put
from shelf import Board, Pillar, Shelf

from .async_calls import PATIENCE, Call, Gate, layer_over, until
from .dynamodb_fakes import fresh

BACKENDS = ("asyncio", "trio")
anywhere = pytest.mark.anyio


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


def public(kind: type) -> dict[str, Any]:
    return {name: each for name, each in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"}


def test_it_has_the_methods_of_layer_and_one_more() -> None:
    assert set(public(AsyncLayer)) - set(public(Layer)) == {"aclose"}
    assert set(public(Layer)) <= set(public(AsyncLayer))


@pytest.mark.parametrize("name", sorted(public(Layer)))
def test_a_method_takes_and_answers_what_layers_does(name: str) -> None:
    one, other = public(AsyncLayer)[name], public(Layer)[name]
    assert inspect.iscoroutinefunction(one)
    assert inspect.signature(one).parameters == inspect.signature(other).parameters
    answers = {
        "follow": "AsyncFeed",
        "scan": "RecordBatches",
        "table": "AsyncCapturedTable",
    }  # of these each answer is waited for
    assert inspect.signature(one).return_annotation == answers.get(name, inspect.signature(other).return_annotation)


@pytest.mark.parametrize("name", sorted(set(public(CapturedTable)) - {"batch_writer"}))
def test_a_captured_tables_write_takes_and_answers_what_the_plain_ones_does(name: str) -> None:
    one, other = public(AsyncCapturedTable)[name], public(CapturedTable)[name]
    assert inspect.iscoroutinefunction(one)
    assert inspect.signature(one) == inspect.signature(other)


def test_from_config_takes_what_layers_does_and_the_number_of_threads() -> None:
    one = dict(inspect.signature(AsyncLayer.from_config).parameters)
    assert one.pop("threads").default == inspect.signature(AsyncLayer).parameters["threads"].default
    assert one == dict(inspect.signature(Layer.from_config).parameters)


def test_importing_the_package_imports_no_anyio() -> None:
    code = "import sys, dynalayer; print('anyio' in sys.modules); dynalayer.AsyncLayer; print('anyio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "True"]


def in_folder(folder: Path) -> dict[str, Any]:
    return {
        "table": "users",
        "get_item_unique_identifier": "id",
        "get_item_partition": "p",
        "events": f"sqlite:///{folder}/events.db",
        "storage": f"parquet+file://{folder}/snapshots",
    }


@anywhere
async def test_each_method_answers_as_layers_does(tmp_path: Path) -> None:
    async with AsyncLayer(**in_folder(tmp_path)) as asynchronous:
        with Layer(**in_folder(tmp_path)) as layer:
            events = await asynchronous.set([put("a", p="eu", n=1), put("b", p="eu", n=2), put("a", p="us", n=3)])
            assert events == [*layer.history("eu"), *layer.history("us")]
            assert (await asynchronous.sync("us")).partitions == ("us",)
            assert (await asynchronous.sync()).count == 2
            await asynchronous.set([put("b", p="eu", n=4)])
            taken = await asynchronous.import_snapshot("old", iter([{"id": "c", "p": "old", "n": 5}]))
            assert taken.count == 1
            assert (
                await asynchronous.get("eu")
                == layer.get("eu")
                == [{"id": "a", "p": "eu", "n": 1}, {"id": "b", "p": "eu", "n": 4}]
            )
            assert await asynchronous.get("eu", at=1, sorted=False) == layer.get("eu", at=1)
            assert await asynchronous.history("eu", id="b", after=1) == layer.history("eu", id="b", after=1)
            assert await asynchronous.meta() == layer.meta()
            assert await asynchronous.meta("eu") == layer.meta("eu")
            assert await asynchronous.partitions() == ["eu", "old", "us"]
            assert await asynchronous.vacuum() == layer.vacuum()
            assert await asynchronous.verify() == layer.verify()
            assert (await asynchronous.explain("eu")).items == 2
            assert await asynchronous.to_arrow("eu", columns=["n"]) == layer.to_arrow("eu", columns=["n"])
            assert (await asynchronous.to_pandas("eu")).equals(layer.to_pandas("eu"))
            assert (await asynchronous.to_polars("eu")).equals(layer.to_polars("eu"))
            scan = await asynchronous.scan("eu", columns=["id"], filter=[("n", ">", 1)])
            assert scan.schema == layer.scan("eu", columns=["id"]).schema
            assert [row for batch in [batch async for batch in scan] for row in batch.to_pylist()] == [{"id": "b"}]
            assert set(await asynchronous.usage()) >= {"sync", "get", "scan"}


@anywhere
async def test_errors_are_layers(tmp_path: Path) -> None:
    async with AsyncLayer(**in_folder(tmp_path)) as layer:
        with pytest.raises(InvalidInputError, match="takes a list of events, not dict"):
            await layer.set(put("a"))
        with pytest.raises(InvalidInputError, match=r"import_snapshot\(\) takes a list of items, not NoneType"):
            await layer.import_snapshot("eu", None)  # type: ignore[arg-type] # as a user may
        with pytest.raises(InvalidInputError, match="after='1' is no version"):
            await layer.history("eu", after="1")  # type: ignore[arg-type] # as a user may


@anywhere
async def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    layer = AsyncLayer(**in_folder(tmp_path))
    assert repr(layer) == "<AsyncLayer of table 'users', not open>"
    assert list(tmp_path.iterdir()) == []
    await layer.set([put("a", p="eu")])
    assert (tmp_path / "events.db").exists()
    assert repr(layer).startswith("AsyncLayer(table='users', events=")
    await layer.close()


@anywhere
async def test_first_calls_at_once_open_one_layer() -> None:
    layer, opened = layer_over(), []
    opening = layer._layer._make

    def slowly() -> Layer:
        opened.append(1)
        time.sleep(0.01)
        return opening()

    layer._layer._make = slowly
    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(layer.set, [put(str(number))])
    assert opened == [1]
    assert len(await layer.get()) == 40
    await layer.close()


@anywhere
async def test_an_opening_that_fails_is_told_to_all_who_wait_for_it_and_tried_again_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"another program's file" * 100)
    layer, gate, begun = AsyncLayer(**in_folder(tmp_path)), Gate(), []
    opening = layer._layer._make

    def held_up() -> Layer:
        begun.append(1)
        gate()
        return opening()

    layer._layer._make = held_up
    calls = [Call(layer.get) for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call.run)
        await gate.reached()
        making: Any = layer._layer._making
        await until(lambda: len(making.done._cond._waiters) == 2)
        gate.open.set()
    assert [call.seen for call in calls] == [["LayoutError"]] * 3
    assert repr(layer) == "<AsyncLayer of table 'users', not open>"
    (tmp_path / "events.db").unlink()
    assert await layer.get("eu") == []
    assert begun == [1, 1]
    await layer.close()


@anywhere
async def test_an_async_with_that_cannot_open_says_why_and_is_closed(tmp_path: Path) -> None:
    layer = AsyncLayer(**{**in_folder(tmp_path), "storage": "nowhere:else"})
    with pytest.raises(PluginNotFoundError, match="nowhere"):
        await layer.__aenter__()
    with pytest.raises(ClosedError):
        await layer.get()
    await layer.close()


@anywhere
async def test_closing_twice_is_as_closing_once_and_one_that_was_never_opened_closes_too(tmp_path: Path) -> None:
    layer = AsyncLayer(**in_folder(tmp_path))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(layer.close)
        tasks.start_soon(layer.aclose)
    await layer.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ClosedError, match="the layer of table 'users' was closed"):
        await layer.set([put("a")])


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("dynalayer")}


@anywhere
async def test_no_thread_outlives_a_closed_layer() -> None:
    before = ours()
    async with layer_over(threads=3) as layer, anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(layer.set, [put(str(number))])
    await until(lambda: ours() <= before)


@anywhere
async def test_no_more_threads_are_at_work_than_it_was_given() -> None:
    at_work, most = [], []

    def identify(item: Any) -> str:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.002)
        at_work.pop()
        return str(item["id"])

    async with layer_over(threads=4, get_item_unique_identifier=identify) as layer, anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(layer.set, [put(str(number))])
    assert max(most) <= 4


@pytest.mark.parametrize("threads", [0, 1025, True, "4", 1.0])
def test_a_number_of_threads_that_cannot_be_is_refused(threads: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"threads={threads!r} is no whole number from 1 to 1024"):
        AsyncLayer(table="users", threads=threads)


def test_an_option_that_there_is_not_is_refused_before_anything_is_opened() -> None:
    unknown: Any = {"tabel": "users"}
    with pytest.raises(TypeError, match="table"):
        AsyncLayer(**unknown)
    with pytest.raises(TypeError, match="tabel"):
        AsyncLayer(table="users", **unknown)


@anywhere
async def test_from_config_reads_the_files_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layer = AsyncLayer.from_config("users", get_item_unique_identifier="id", threads=2)
    assert repr(layer) == "<AsyncLayer 'users' of the configuration, not open>"
    Path("dynalayer.toml").write_text('[layers.users]\nevents = "memory:"\nstorage = "local:here"\n')
    async with layer:
        await layer.set([put("a")])
        await layer.sync()
        assert await layer.get() == [{"id": "a"}]
    assert Path("here").is_dir()


@anywhere
async def test_a_reset_reads_its_source_in_a_thread_and_verify_compares_with_it(tmp_path: Path) -> None:
    told: list[ResetProgress] = []
    items = [{"id": name, "p": "eu"} for name in "abc"]
    async with AsyncLayer(**in_folder(tmp_path)) as layer:
        await layer.set([put("z", p="eu")])
        result = await layer.reset(lambda: iter(items), progress=told.append)
        assert (result.count, result.locked) == (3, False)
        assert told[-1].partitions == 1
        assert await layer.get("eu") == items
        compared = (await layer.verify(against=items)).against
        assert compared is not None
        assert compared.ok
        assert not (await layer.verify("eu", against=items[1:])).ok


@anywhere
async def test_the_source_table_and_its_events_are_written_together(moto_server: str) -> None:
    with fresh(moto_server) as log:
        resource: Any = boto3.resource("dynamodb", endpoint_url=moto_server)
        users = resource.create_table(
            TableName=log.name + "-users",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        layer = AsyncLayer(
            table=users.name,
            get_item_unique_identifier="id",
            events=f"dynamodb://{log.name}?endpoint_url={moto_server}",
            storage=Shelf(Board(), users.name),
        )
        async with layer:
            table = await layer.table(users)
            assert repr(table) == f"AsyncCapturedTable({users.name!r})"
            (event,) = await table.put_item(Item={"id": "a", "n": 1})
            assert event.version == 1
            names: Any = {"UpdateExpression": "ADD n :one", "ExpressionAttributeValues": {":one": 1}}
            (event,) = await table.update_item(Key={"id": "a"}, **names)
            assert event.item == {"id": "a", "n": 2}
            with pytest.raises(InvalidInputError, match="ReturnValues"):
                await table.put_item(Item={"id": "b"}, ReturnValues="ALL_OLD")
            async with table.batch_writer() as batch, anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(batch.put_item, {"id": f"b{number}"})
                tasks.start_soon(batch.delete_item, {"id": "none"})
            assert batch.written == 31
            await table.delete_item(Key={"id": "a"})
            assert await layer.get() == sorted(users.scan()["Items"], key=lambda item: str(item["id"]))
            assert len(await layer.get()) == 30


@anywhere
async def test_followers_are_given_each_event_and_kept_as_layers_are() -> None:
    async with layer_over() as layer:
        await layer.set([put(str(number)) for number in range(3)])
        async with await layer.follow("index", wait=False) as feed:
            assert repr(feed) == "AsyncFeed(consumer='index')"
            assert [event.id async for event in feed] == ["0", "1", "2"]
        (consumer,) = await layer.consumers()
        assert (consumer.name, consumer.behind) == ("index", 0)
        await layer.move_consumer("index", "beginning")
        feed = await layer.follow("index")
        assert (await anext(feed)).id == "0"
        feed.stop()
        assert [event async for event in feed] == []
        await layer.forget_consumer("index")
        assert await layer.consumers() == ()


_who: ContextVar[str] = ContextVar("_who", default="nobody")


@anywhere
async def test_your_functions_run_in_threads_with_the_callers_context() -> None:
    seen: list[tuple[str, str, bool]] = []
    loops = threading.current_thread()

    async def asks() -> str:
        await anyio.sleep(0)
        return "a"

    def identify(item: Any) -> str:
        seen.append((_who.get(), current_operation(), threading.current_thread() is loops))
        _who.set("changed")
        return anyio.run(asks)  # an event loop of its own: none runs in this thread

    async with layer_over(get_item_unique_identifier=identify) as layer:
        _who.set("caller")
        await layer.set([{"type": "PUT", "item": {"n": 1}}])
        assert _who.get() == "caller"
    assert seen == [("caller", "set", False)]


@anywhere
async def test_observers_see_the_operations_of_each_call_nested_as_they_are() -> None:
    seen: list[tuple[str, str]] = []

    class Watcher:
        @hookimpl
        @contextlib.contextmanager
        def layer_operation(self, operation: Operation) -> Iterator[None]:
            seen.append(("begin", operation.name))
            yield
            seen.append(("end", operation.name))

    async with layer_over(plugins=[Watcher()]) as layer:
        await layer.set([put("a")])
        await layer.get()
    assert seen == [(when, name) for name in ("set", "get", "close") for when in ("begin", "end")]


class _Watched(Pillar):
    """Reads by columns, and knows how many readings are open."""

    def __init__(self) -> None:
        super().__init__(Board(), "users")
        self.open = 0

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> SegmentColumns:
        shelf = self

        class Columns(SegmentColumns):
            def batches(self, *arguments: Any, **named: Any) -> Any:
                shelf.open += 1
                try:
                    yield from super().batches(*arguments, **named)
                finally:
                    shelf.open -= 1

        return Columns(self.layer_getter(partition, ref))


@anywhere
@pytest.mark.parametrize("how", ["async with", "aclose", "the layer's close", "read to its end"])
async def test_what_a_scan_reads_from_is_closed(how: str) -> None:
    shelf = _Watched()
    async with layer_over(storage=shelf) as layer:
        await layer.set([put(str(number)) for number in range(10)])
        await layer.sync()
        scan = await layer.scan()
        assert (await anext(scan)).num_rows == 10
        assert shelf.open == 1
        if how == "async with":
            async with scan:
                pass
        elif how == "aclose":
            await scan.aclose()
            await scan.aclose()
        elif how == "read to its end":
            assert [batch async for batch in scan if batch.num_rows] == []
        if how != "the layer's close":
            assert shelf.open == 0
            assert [batch async for batch in scan] == []
    assert shelf.open == 0
    if how != "the layer's close":
        assert [batch async for batch in scan] == []
    await scan.aclose()


@anywhere
async def test_a_scan_that_the_layers_close_cuts_off_is_no_whole_one() -> None:
    layer = layer_over()
    await layer.set([put(str(number)) for number in range(10)])
    scan = await layer.scan()
    assert (await anext(scan)).num_rows == 10
    await layer.close()
    for _ in range(2):
        with pytest.raises(ClosedError):
            await anext(scan)
    await scan.aclose()


@anywhere
async def test_a_thread_that_cannot_be_had_is_told_and_the_layer_closes_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith("dynalayer-worker"):
            monkeypatch.setattr(threading.Thread, "start", begin)
            raise RuntimeError("can't start new thread")
        begin(thread)

    layer = layer_over(threads=2)
    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError, match="new thread"):
        await layer.get()
    assert await layer.get() == []
    with anyio.fail_after(PATIENCE):
        await until(lambda: layer._workers._line.busy == 0)
        await layer.close()


def test_one_event_loop_after_another_may_use_it() -> None:
    layer = layer_over()
    for number, backend in enumerate([*BACKENDS, *BACKENDS]):
        anyio.run(partial(layer.set, [put(str(number))]), backend=backend)
    assert [item["id"] for item in anyio.run(layer.get)] == ["0", "1", "2", "3"]
    anyio.run(layer.close)


def program(folder: Path, script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-P", "-c", script, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORKED = """
import anyio, os, signal, sys, threading
from dynalayer import AsyncLayer

def fork_and_go_on(backend):
    layer = AsyncLayer(
        table="users", get_item_unique_identifier="id", events=f"sqlite:///{backend}.db", storage=f"local:{backend}"
    )

    async def put(name):
        await layer.set([{"type": "PUT", "item": {"id": name}}])

    async def many():
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(put, f"many-{number}")

    anyio.run(many, backend=backend)
    with layer._workers._line.changed:      # a thread is in the midst of something
        child = os.fork()
    if not child:
        signal.alarm(20)
        status = 1
        try:
            anyio.run(put, "child", backend=backend)
            anyio.run(layer.close, backend=backend)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    anyio.run(put, "parent", backend=backend)
    print(len(anyio.run(layer.get, backend=backend)))

for backend in sys.argv[1:]:
    fork_and_go_on(backend)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system knows no fork")
def test_a_forked_child_goes_on_with_threads_of_its_own(tmp_path: Path) -> None:
    assert program(tmp_path, FORKED, *BACKENDS).split() == ["22", "22"]


INTERRUPTED = """
import anyio, os, signal, sys, time
from dynalayer import AsyncLayer, Layer

def identify(item):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    return item["id"]

def interrupt(backend):
    options = dict(table="users", events=f"sqlite:///{backend}.db", storage=f"local:{backend}")

    async def main():
        async with AsyncLayer(get_item_unique_identifier=identify, **options) as layer:
            await layer.set([{"type": "PUT", "item": {"id": "a"}}])
            await anyio.sleep(60)

    try:
        anyio.run(main, backend=backend)
    except KeyboardInterrupt:
        print("interrupted")
    with Layer(**options) as layer:
        print(len(layer.history()), layer.verify().ok)

for backend in sys.argv[1:]:
    interrupt(backend)
"""


def test_a_keyboard_interrupt_ends_the_program_once_what_was_begun_is_settled(tmp_path: Path) -> None:
    assert program(tmp_path, INTERRUPTED, *BACKENDS).split() == ["interrupted", "1", "True"] * 2
