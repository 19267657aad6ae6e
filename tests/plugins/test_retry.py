"""Retry: what may pass is tried again, within bounds, and nothing is lost, doubled or waited for in vain."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import servers
from dynalayer import (
    Capabilities,
    ConfigurationError,
    Layer,
    LayerError,
    MemoryEventLog,
    PluginError,
    Segment,
    SegmentCorruptError,
    SegmentMissingError,
    StorageError,
    hookimpl,
    may_pass,
    open_adapter,
)
from dynalayer.columns import ID, ITEM, Columns, SegmentColumns, segment_of
from dynalayer_local import LocalAdapter
from dynalayer_parquet import ParquetAdapter
from dynalayer_retry import Retry
from dynalayer_s3_json import connection
from s3_servers import S3, Answer, Asked, S3Proxy

ORIGIN = "0123456789abcdef"
PATIENCE = 30.0


def quick(attempts: int = 5, seconds: float = 30.0) -> Retry:
    return Retry(attempts, seconds, first=0.001, longest=0.002)


def segment(count: int = 1, version: int = 1) -> Segment:
    return Segment(
        "users", "eu", ORIGIN, "base", 0, version, {f"{n:05}": {"id": f"{n:05}", "n": n} for n in range(count)}
    )


class Failing(LocalAdapter):
    """Local files; calls fail first, as planned, before or after they did their work."""

    def __init__(self, root: Path, *failures: BaseException, done: bool = False) -> None:
        super().__init__(root)
        self.failures = list(failures)
        self.done = done
        self.calls: list[str] = []
        self.failed: Callable[[], object] = lambda: None

    def _made(self, name: str, call: Callable[[], Any]) -> Any:
        self.calls.append(name)
        answer = call() if self.done or not self.failures else None
        if self.failures:
            self.failed()
            raise self.failures.pop(0)
        return answer

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        return self._made("set", lambda: LocalAdapter.layer_setter(self, partition, segment))  # type: ignore[no-any-return] # it is the hook's

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        return self._made("get", lambda: LocalAdapter.layer_getter(self, partition, ref))  # type: ignore[no-any-return] # likewise

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        return self._made("discard", lambda: LocalAdapter.layer_discard(self, partition, ref))  # type: ignore[no-any-return] # likewise

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        return self._made("list", lambda: LocalAdapter.layer_list(self, partition))  # type: ignore[no-any-return] # likewise


def passing() -> StorageError:
    return StorageError("the network is away", retryable=True)


# What is tried again


@pytest.mark.parametrize(
    "error",
    [
        passing(),
        SegmentCorruptError("damaged on the way", retryable=True),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.EHOSTUNREACH, "no route"),
        OSError(errno.ESTALE, "stale"),
        socket.gaierror(socket.EAI_AGAIN, "try again"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("done", [False, True], ids=["not done", "answer lost"])
def test_every_hook_is_tried_again_when_its_failure_may_pass(tmp_path: Path, error: BaseException, done: bool) -> None:
    inner = Failing(tmp_path, done=done)
    adapter = quick().around(inner)
    stored = segment()
    inner.failures = [error, error]
    ref = adapter.layer_setter("eu", stored)
    for call, wanted in (
        (lambda: adapter.layer_getter("eu", ref), stored),
        (lambda: list(adapter.layer_list("eu")), [ref]),
        (lambda: adapter.layer_discard("eu", ref), True),
    ):
        inner.failures = [error, error]
        assert call() == wanted
    assert inner.calls == [name for name in ("set", "get", "list", "discard") for _ in range(3)]
    assert adapter.layer_list("eu") == [], "a put that was tried three times was one segment"


@pytest.mark.parametrize(
    "error",
    [
        StorageError("refused"),
        SegmentMissingError("gone"),
        SegmentCorruptError("rotten"),
        ConfigurationError("wrong"),
        FileNotFoundError(),
        PermissionError(errno.EACCES, "denied"),
        OSError(errno.EIO, "broken"),
        socket.gaierror(socket.EAI_NONAME, "no such host"),
        ValueError("a bug"),
        KeyboardInterrupt(),
        SystemExit(),
    ],
    ids=repr,
)
def test_what_does_not_pass_is_raised_at_once_as_it_is(tmp_path: Path, error: BaseException) -> None:
    inner = Failing(tmp_path, error)
    with pytest.raises(type(error)) as raised:
        quick().around(inner).layer_getter("eu", "x.segment")
    assert raised.value is error
    assert inner.calls == ["get"]
    assert not getattr(error, "__notes__", [])


def test_the_last_error_is_raised_as_it_was_and_says_how_often_it_was_tried(tmp_path: Path) -> None:
    errors = [passing() for _ in range(10)]
    inner = Failing(tmp_path, *errors)
    with pytest.raises(StorageError) as raised:
        quick(4).around(inner).layer_getter("eu", "x.segment")
    assert raised.value is errors[3]
    assert len(inner.calls) == 4
    (note,) = raised.value.__notes__
    assert note.startswith("tried 4 times within ")


def test_an_error_that_passes_into_one_that_does_not_ends_the_tries(tmp_path: Path) -> None:
    gone = SegmentMissingError("gone")
    inner = Failing(tmp_path, passing(), gone, passing())
    with pytest.raises(SegmentMissingError) as raised:
        quick().around(inner).layer_getter("eu", "x.segment")
    assert raised.value is gone
    assert len(inner.calls) == 2


def test_no_try_begins_after_the_seconds_are_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    inner = Failing(tmp_path, *[passing() for _ in range(50)])

    def pass_time() -> None:
        now[0] += 4.0

    inner.failed = pass_time
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    with pytest.raises(StorageError):
        Retry(100, 10.0, first=0.5, longest=0.5).around(inner).layer_getter("eu", "x.segment")
    assert len(inner.calls) == 3


def test_waits_grow_to_a_bound_and_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import random  # noqa: PLC0415 -- its function is replaced

    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    inner = Failing(tmp_path, *[passing() for _ in range(6)])
    with suppress(StorageError):
        Retry(7, first=0.1, longest=1.0).around(inner).layer_getter("eu", "x.segment")
    assert drawn == [(0, bound) for bound in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0)]


def test_a_mutable_place_is_set_once_since_a_late_try_could_take_a_newer_ones_place(tmp_path: Path) -> None:
    class Mutable(Failing):
        capabilities = Capabilities(immutable=False, deltas=False)

    inner = Mutable(tmp_path, passing())
    adapter = quick().around(inner)
    with pytest.raises(StorageError):
        adapter.layer_setter("eu", segment())
    assert inner.calls == ["set"]
    ref = adapter.layer_setter("eu", segment())
    inner.failures = [passing()]
    assert adapter.layer_getter("eu", ref).entries == 1


# Closing


def test_closing_the_layer_ends_a_wait_with_the_error_that_led_to_it(tmp_path: Path) -> None:
    inner, waits = Failing(tmp_path, *[passing() for _ in range(9)]), threading.Event()
    inner.failed = waits.set
    raised: list[BaseException] = []
    adapter = Retry(9, 3600, first=3600, longest=3600).around(inner)

    def read() -> None:
        try:
            adapter.layer_getter("eu", "x.segment")
        except StorageError as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert waits.wait(PATIENCE)
    adapter.layer_closing()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    (error,) = raised
    if len(inner.calls) > 1:  # the wait was drawn that short
        assert "tried" in error.__notes__[0]
    assert len(inner.calls) + len(inner.failures) == 9


def test_close_of_a_layer_does_not_wait_for_the_tries_of_a_background_sync(tmp_path: Path) -> None:
    inner, waits = Failing(tmp_path, *[passing() for _ in range(9)]), threading.Event()
    inner.failed = waits.set
    with Layer(
        table="users",
        get_item_unique_identifier="id",
        events="memory:",
        storage=[Retry(9, 3600, first=3600, longest=3600), inner],
        sync_strategy=lambda meta: True,
        background_runner="thread",
    ) as layer:
        layer.set([{"type": "PUT", "item": {"id": "a"}}])
        assert waits.wait(PATIENCE)
    assert inner.failures, "it was not waited for"


# Columns


class Rows:
    """A store of one segment by columns, which fails as planned while it is read."""

    name = "rows"
    capabilities = Capabilities(columns=True)

    def __init__(self, stored: Segment, *, batch: int = 7) -> None:
        self.stored = stored
        self.batch = batch
        self.opened = self.given = 0
        self.fail_after: list[int] = []
        self.taken: list[int] = []
        self.failures: list[Exception] = []

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        raise NotImplementedError

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        raise NotImplementedError

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        raise NotImplementedError

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        raise NotImplementedError

    @hookimpl
    def layer_columns_setter(self, partition: str, columns: Columns) -> str:
        self.opened += 1
        if self.failures and not self.taken:
            raise self.failures.pop(0)
        for batch in columns.batches():
            self.taken.append(len(batch))
            if self.failures:
                raise self.failures.pop(0)
        return "ref"

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns:
        self.opened += 1
        if self.failures:
            raise self.failures.pop(0)
        return Breaking(self, SegmentColumns(self.stored))


class Breaking:
    """Columns in batches of another size each time, that break off where it was planned."""

    def __init__(self, rows: Rows, columns: SegmentColumns) -> None:
        self._rows = rows
        self._columns = columns
        self.header, self.schema, self.entries = columns.header, columns.schema, columns.entries

    def batches(
        self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None
    ) -> Iterator[pa.RecordBatch]:
        limit = self._rows.fail_after.pop(0) if self._rows.fail_after else None
        size = self._rows.batch + self._rows.opened
        table = pa.Table.from_batches(self._columns.batches(columns))
        for start in range(0, len(table), size):
            if limit is not None and start >= limit:
                raise ConnectionResetError
            yield from table.slice(start, size).combine_chunks().to_batches()


@pytest.mark.parametrize("columns", [None, [ID, ITEM], ["n"], ["n", ID]], ids=str)
def test_a_segment_read_by_columns_goes_on_behind_the_last_row_given(columns: list[str] | None) -> None:
    stored = segment(100)
    rows = Rows(stored)
    rows.fail_after = [0, 40, 60, 10]
    opened = quick(9).around(rows).layer_columns("eu", "ref")
    assert opened is not None
    table = pa.Table.from_batches(opened.batches(columns))
    assert rows.opened == 5
    assert table.column_names == (columns or opened.schema.names)
    key = {"n": list(range(100)), ID: sorted(stored.items)}
    for name in table.column_names:
        if name in key:
            assert table.column(name).to_pylist() == key[name]
    if columns is None:
        assert segment_of(opened.header, table.to_batches()) == stored


def test_a_reading_is_taken_up_again_a_bounded_number_of_times_in_all() -> None:
    rows = Rows(segment(1000), batch=1)
    rows.fail_after = list(range(5, 1000, 5))
    opened = quick(4).around(rows).layer_columns("eu", "ref")
    assert opened is not None
    with pytest.raises(ConnectionResetError):
        list(opened.batches())
    assert rows.opened == 4


def test_another_segment_in_its_place_is_not_read_on() -> None:
    rows = Rows(segment(100))
    rows.fail_after = [50]
    opened = quick().around(rows).layer_columns("eu", "ref")
    assert opened is not None
    rows.stored = segment(100, version=2)
    with pytest.raises(SegmentCorruptError, match="another segment"):
        list(opened.batches())


def test_opening_by_columns_is_tried_again() -> None:
    rows = Rows(segment(10))
    rows.failures = [passing(), TimeoutError()]
    opened = quick().around(rows).layer_columns("eu", "ref")
    assert opened is not None
    assert segment_of(opened.header, opened.batches()) == rows.stored


def test_batches_that_can_be_read_once_are_stored_again_only_before_one_was_taken() -> None:
    rows = Rows(segment(10))
    rows.failures = [passing()]
    assert quick().around(rows).layer_columns_setter("eu", SegmentColumns(rows.stored)) == "ref"
    assert (rows.opened, rows.taken) == (2, [10])
    rows.taken, rows.opened = [0], 0
    rows.failures = [passing()]
    with pytest.raises(StorageError):
        quick().around(rows).layer_columns_setter("eu", SegmentColumns(rows.stored))
    assert (rows.opened, rows.taken) == (1, [0, 10])


# Settings and orders


@pytest.mark.parametrize(
    "settings",
    [
        {"attempts": 0},
        {"attempts": 101},
        {"attempts": True},
        {"attempts": 1.5},
        {"seconds": 0},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"first": 0},
        {"first": 2, "longest": 1},
        {"longest": 3601},
        {"longest": "5"},
    ],
    ids=str,
)
def test_a_setting_out_of_bounds_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="retry: "):
        Retry(**settings)


def test_a_retry_within_a_retry_is_refused_whatever_stands_between(tmp_path: Path) -> None:
    for between in ([], ["cache:" + str(tmp_path / "cache")]):
        with pytest.raises(ConfigurationError, match="multiply"):
            Layer(
                table="users",
                get_item_unique_identifier="id",
                events="memory:",
                storage=["retry:3", *between, "retry", f"local:{tmp_path / 'store'}"],
            )
    assert not (tmp_path / "store").exists()


def test_it_is_named_with_its_settings(tmp_path: Path) -> None:
    for spec in ("retry", "retry:3", "retry:3?seconds=1.5&longest=2", {"use": "retry", "attempts": 3, "first": 0.5}):
        with Layer(
            table="users", get_item_unique_identifier="id", events="memory:", storage=[spec, f"local:{tmp_path}"]
        ) as layer:
            layer.set([{"type": "PUT", "item": {"id": "a"}}])
            assert layer.sync().count == 1
    with pytest.raises((ConfigurationError, PluginError), match="did you mean 'attempts'"):
        Layer(
            table="users",
            get_item_unique_identifier="id",
            events="memory:",
            storage=[{"use": "retry", "atempts": 3}, f"local:{tmp_path}"],
        )


# S3, whose answers are lost and late


@pytest.fixture
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore tries once, so that what is tried again is tried by retry."""
    monkeypatch.setattr(connection, "_TRIES", 1)


def lost(times: int, method: str, status: int = 0) -> Callable[[Asked], Answer | None]:
    """Answers of a method that are lost, or told as a server's failure, so many times."""
    left = [times]

    def rule(asked: Asked) -> Answer | None:
        if asked.method != method or not left[0]:
            return None
        left[0] -= 1
        return Answer.error(status, "InternalError") if status else Answer(0)

    return rule


@pytest.mark.parametrize("status", [0, 503])
def test_puts_whose_answers_s3_loses_are_neither_doubled_nor_lost(
    moto_s3: S3, proxy: S3Proxy, one_try: None, status: int
) -> None:
    with (
        MemoryEventLog("users") as log,
        Layer(
            table="users",
            get_item_unique_identifier="id",
            events=log,
            storage=[quick(), moto_s3.behind(proxy).url("kept")],
        ) as layer,
    ):
        for number in range(2):
            proxy.after = lost(2, "PUT", status)  # the server has done it by then
            layer.set([{"type": "PUT", "item": {"id": "a", "n": number}}])
            assert layer.sync().count == 1
            proxy.after = lost(2, "GET", status)
            assert layer.verify().ok
        assert layer.get() == [{"id": "a", "n": 1}]
        stored = [key for key in moto_s3.listed() if key.endswith(".segment")]
        named = {segment.ref for segment in log.head("").segments}
        assert len(stored) == 2
        assert named <= {key.rpartition("/")[2] for key in stored}
        assert proxy.count("PUT") == 6


def test_a_put_that_arrives_late_changes_nothing(moto_s3: S3, proxy: S3Proxy, one_try: None) -> None:
    """The first try was given up, the second stored it, and then the first arrives all the same."""
    late: list[Asked] = []

    def hold(asked: Asked) -> Answer | None:
        if asked.method != "PUT" or late:
            return None
        late.append(asked)
        return Answer.error(503, "SlowDown")

    proxy.rule = hold
    adapter = quick().around(open_adapter(moto_s3.behind(proxy).url(), "users"))
    stored = segment(50)
    ref = adapter.layer_setter("eu", stored)
    moto_s3.write(late[0].key, late[0].body)
    assert adapter.layer_getter("eu", ref) == stored
    assert adapter.layer_list("eu") == [ref]
    adapter.layer_closed()


def test_a_refusal_of_s3_is_not_tried_again(moto_s3: S3, proxy: S3Proxy, one_try: None) -> None:
    proxy.rule = lambda asked: Answer.error(403, "AccessDenied")
    adapter = quick().around(open_adapter(moto_s3.behind(proxy).url(), "users"))
    with pytest.raises(StorageError, match="AccessDenied"):
        adapter.layer_setter("eu", segment())
    assert len(proxy.asked) == 1
    adapter.layer_closed()


# What our adapters say of themselves


@pytest.mark.parametrize("scheme", ["s3-json", "parquet+s3"])
def test_our_adapters_tell_of_a_network_that_is_away_that_it_may_pass(
    aws_environment: None, one_try: None, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    if scheme == "parquet+s3":
        import s3fs  # noqa: PLC0415 -- heavy, and few tests need it

        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    adapter = open_adapter(
        f"{scheme}://bucket/p?region=us-east-1&endpoint_url=http://127.0.0.1:{servers.free_port()}", "u"
    )
    ref = "x.parquet" if scheme == "parquet+s3" else "x.segment"
    calls: list[Callable[[], object]] = [
        lambda: adapter.layer_getter("eu", ref),
        lambda: adapter.layer_setter("eu", segment()),
        lambda: adapter.layer_list("eu"),
    ]
    for call in calls:
        with pytest.raises(LayerError) as raised:
            call()
        assert may_pass(raised.value), raised.value
    adapter.layer_closed()  # type: ignore[attr-defined] # both have it


def test_our_local_adapter_tells_which_failures_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for code, passes in ((errno.ESTALE, True), (errno.EMFILE, True), (errno.EIO, False), (errno.EACCES, False)):

        def fail(_: Path, code: int = code) -> bytes:
            raise OSError(code, "so it is")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", fail)
            with pytest.raises(StorageError) as raised:
                LocalAdapter(tmp_path).layer_getter("eu", "x.segment")
        assert raised.value.retryable is passes


def test_a_parquet_stack_reads_on_through_a_network_that_breaks(
    moto_s3: S3, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """s3fs tries again by itself: it gives up first, then retry goes on."""
    import s3fs  # noqa: PLC0415 -- heavy, and few tests need it

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    url = moto_s3.behind(proxy).url(scheme="parquet+s3")
    inner = open_adapter(url, "users")
    assert isinstance(inner, ParquetAdapter)
    adapter = quick(9).around(inner)
    stored = segment(2000)
    ref = adapter.layer_setter("eu", stored)
    opened = adapter.layer_columns("eu", ref)
    assert opened is not None
    broken = 0

    def rule(asked: Asked) -> Answer | None:
        nonlocal broken
        if asked.method != "GET" or broken >= 2:
            return None
        broken += 1
        return Answer.error(400, "RequestTimeout")

    proxy.rule = rule
    assert segment_of(opened.header, opened.batches()) == stored
    assert broken == 2
    adapter.layer_closed()
