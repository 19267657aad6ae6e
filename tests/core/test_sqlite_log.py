"""What is the SQLite log's own: the file, its layout and its pool, other processes, forks, full and broken disks.

What a test needs another process for is a task at the end of this file, which that process runs as a program.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dynalayer import durable
from dynalayer.errors import AppendError, EventLogError, LayoutError
from dynalayer.eventlog import sqlite_file
from dynalayer.eventlog.base import Draft, Head, HeadMove, Mark, OldSegment, RecordKind, SegmentRef
from dynalayer.eventlog.sqlite import SQLiteEventLog
from dynalayer.eventlog.sqlite_file import LAYOUT_VERSION, SQLiteFile

PROCESSES = 6


def draft(nonce: str, partition: str = "eu", payload: bytes = b"events") -> Draft:
    return Draft(partition, RecordKind.CHANGES, nonce, 1, 1, 86_400, payload)


def nonces(log: SQLiteEventLog, partition: str = "eu") -> list[str]:
    """The nonces of a partition's records, which must be dense."""
    records = log.read(partition, 0).records
    assert [record.version for record in records] == list(range(1, len(records) + 1))
    return [record.nonce for record in records]


def stored(path: Path) -> list[str]:
    """The same, as a log opened anew tells it."""
    with SQLiteEventLog(path, "users") as log:
        return nonces(log)


def make(path: Path, *told: str) -> None:
    with SQLiteEventLog(path, "users") as log:
        for nonce in told:
            log.append([draft(nonce)])


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that goes round the code under test; what is done on it is committed."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture(name="log")
def opened_log(path: Path) -> Iterator[SQLiteEventLog]:
    with SQLiteEventLog(path, "users") as opened:
        yield opened


def command(task: str, *arguments: object) -> list[str]:
    """The command that runs a task in a fresh interpreter."""
    return [sys.executable, "-P", __file__, task, *map(str, arguments)]


def run_task(task: str, *arguments: object, before: tuple[str, ...] = ()) -> None:
    done = subprocess.run(
        [*before, *command(task, *arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def waiting(task: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that is ready to begin a task, and begins at `go`."""
    with subprocess.Popen(
        command(task, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run_at_once(task: str, *arguments: object) -> list[list[str]]:
    """Run a task in several processes that begin together; the lines that each wrote."""
    with ExitStack() as stack:
        processes = [stack.enter_context(waiting(task, *arguments, number)) for number in range(PROCESSES)]
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate(timeout=120)[0].splitlines() for process in processes]
        assert [process.returncode for process in processes] == [0] * PROCESSES
        return told


# What the file is


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "one" / "two" / "events.db"
    make(path, "a")
    assert stored(path) == ["a"]


def test_new_folders_are_flushed_into_those_above_before_a_log_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []

    def flush(folder: Path) -> None:
        assert not (tmp_path / "new" / "newer" / "events.db").exists()
        flushed.append(folder)

    monkeypatch.setattr(durable, "_flush", flush)
    SQLiteEventLog(tmp_path / "new" / "newer" / "events.db", "users").close()
    assert flushed == [tmp_path, tmp_path / "new"]
    flushed.clear()
    SQLiteEventLog(tmp_path / "new" / "newer" / "events.db", "users").close()
    assert flushed == []  # whoever made the log has done it


def test_a_folder_of_others_that_may_not_be_listed_keeps_nobody_from_making_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(durable, "_flush", refused)
    SQLiteEventLog(tmp_path / "events.db", "users").close()
    with pytest.raises(EventLogError, match="Permission denied"):
        SQLiteEventLog(tmp_path / "new" / "events.db", "users")


def test_an_empty_file_becomes_a_log(path: Path) -> None:
    path.touch()
    make(path, "a")
    assert stored(path) == ["a"]


def test_a_closed_log_leaves_one_file(path: Path) -> None:
    make(path, "a")
    assert [each.name for each in path.parent.iterdir()] == ["events.db"]


def test_opening_without_create_makes_neither_file_nor_layer(tmp_path: Path) -> None:
    missing, there = tmp_path / "missing" / "events.db", tmp_path / "events.db"
    with pytest.raises(EventLogError, match="there is no event log") as refused:
        SQLiteEventLog(missing, "users", create=False)
    assert str(missing) in refused.value.message
    assert not missing.parent.exists()
    make(there, "a")
    before = there.read_bytes()
    with pytest.raises(EventLogError, match="'user'; it has: users"):
        SQLiteEventLog(there, "user", create=False)
    assert there.read_bytes() == before
    with SQLiteEventLog(there, "users", create=False) as log:
        assert nonces(log) == ["a"]


def test_opening_an_empty_file_without_create_leaves_it_empty(path: Path) -> None:
    path.touch()
    with pytest.raises(EventLogError):
        SQLiteEventLog(path, "users", create=False)
    assert path.read_bytes() == b""


def test_a_relative_path_means_the_same_file_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    with SQLiteEventLog("below/events.db", "users") as log:
        log.append([draft("a")])
        monkeypatch.chdir(elsewhere)
        with log._file.reading():  # the pool's one connection is lent, so that the append opens another
            log.append([draft("b")])
        assert nonces(log) == ["a", "b"]
    assert stored(tmp_path / "below" / "events.db") == ["a", "b"]
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("version", [0, LAYOUT_VERSION + 1, 4711])
def test_another_layout_version_is_refused_by_an_error_that_names_both(path: Path, version: int) -> None:
    make(path, "a")
    with raw(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(LayoutError) as refused:
        SQLiteEventLog(path, "users")
    assert str(path) in refused.value.message
    assert f"layout version {version}" in refused.value.message
    assert f"version {LAYOUT_VERSION}:" in refused.value.message
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE records (id INTEGER)",
        "CREATE VIEW one AS SELECT 1",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 1",
        "PRAGMA journal_mode = WAL; CREATE TABLE layers (id INTEGER)",
    ],
)
def test_a_database_of_another_program_is_refused_and_left_as_it_was(path: Path, statement: str) -> None:
    with raw(path) as db:
        db.executescript(statement)
    before = path.read_bytes()
    with pytest.raises(LayoutError, match="another program") as refused:
        SQLiteEventLog(path, "users")
    assert str(path) in refused.value.message
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_log_that_another_makes_meanwhile_is_not_taken_for_another_programs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    class Overtaken(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA user_version" and not made:
                made.append(path)
                with suppress(EventLogError):  # where this one's look at the file keeps the other waiting
                    make(path)
            return super().execute(sql, *args)

    monkeypatch.setattr(sqlite_file, "_BUSY_SECONDS", 0.05)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Overtaken))
    make(path, "a")
    assert made
    assert stored(path) == ["a"]


NO_DATABASES = {
    "text": b"state,id\nactive,1\n" * 100,
    "short text": b"hello\n",
    "one byte": b"x",
    "noise": os.urandom(100_000),
    "zeros": bytes(8192),
    "half a header": b"SQLite format 3\0" + b"x" * 30,
}


@pytest.mark.parametrize("content", NO_DATABASES.values(), ids=NO_DATABASES)
def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(EventLogError) as refused:
        SQLiteEventLog(path, "users")
    assert str(path) in refused.value.message
    assert not refused.value.retryable
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_no_database_is_refused_as_no_log_of_ours(path: Path) -> None:
    path.write_bytes(NO_DATABASES["text"])
    with pytest.raises(LayoutError):
        SQLiteEventLog(path, "users")


@pytest.mark.parametrize("below", ["events.db", "folder/events.db"])
def test_a_path_below_a_file_is_an_error_that_names_it(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / below
    with pytest.raises(EventLogError) as refused:
        SQLiteEventLog(path, "users")
    assert str(path) in refused.value.message
    assert isinstance(refused.value.__cause__, OSError | sqlite3.Error)
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_path_that_is_a_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(EventLogError) as refused:
        SQLiteEventLog(tmp_path, "users")
    assert str(tmp_path) in refused.value.message


def own_mounts(folder: Path) -> tuple[str, ...]:
    """What to put before a command that mounts: its mounts then are its own, and go when it ends."""
    for flags in ("-rm", "-m"):
        before = ("unshare", flags)
        if shutil.which("unshare"):
            tried = subprocess.run([*before, "mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True)
            if tried.returncode == 0:
                return before
    pytest.skip("this system lets nobody mount a small disk; the tests with a page limit and below a file have run")


def test_a_file_on_a_read_only_disk_is_an_error_that_names_it(tmp_path: Path) -> None:
    run_task("read_only", tmp_path, before=own_mounts(tmp_path))


# Full disks


def test_a_full_disk_refuses_the_append_and_keeps_all_before_it(tmp_path: Path) -> None:
    run_task("full_disk", tmp_path, before=own_mounts(tmp_path))


def test_a_full_database_refuses_the_append_and_keeps_all_before_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1_000_000

    class Limited(sqlite3.Connection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.execute(f"PRAGMA max_page_count = {limit}")

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Limited))

    def pages() -> int:
        with log._file.reading() as db:
            return int(db.execute("PRAGMA page_count").fetchone()[0])

    def limit_to(count: int) -> None:
        nonlocal limit
        limit = count
        for connection in log._file._idle:
            connection.execute(f"PRAGMA max_page_count = {limit}")

    with SQLiteEventLog(path, "users") as log:
        check_full_disk(log, fill=lambda: limit_to(pages()), make_room=lambda: limit_to(1_000_000))
    with SQLiteEventLog(path, "users") as log:
        check_full_disk(log, fill=lambda: limit_to(pages() + 20), make_room=lambda: limit_to(1_000_000))


def check_full_disk(log: SQLiteEventLog, *, fill: Callable[[], None], make_room: Callable[[], None]) -> None:
    written = nonces(log)
    written += [f"{len(written)}-{number}" for number in range(5)]
    for nonce in written[-5:]:
        log.append([draft(nonce), draft(nonce, "us")])
    fill()
    failed = None
    for number in range(1000):
        nonce = f"full-{len(written)}-{number}"
        try:
            log.append([draft(nonce, payload=os.urandom(20_000)), draft(nonce, "us", payload=os.urandom(20_000))])
            written.append(nonce)
        except AppendError as error:
            failed = error
            break
    assert failed
    assert failed.outcomes == {"eu": "not written", "us": "not written"}
    assert failed.retryable
    assert "full" in failed.message
    assert str(log._file.path) in failed.message
    assert nonces(log) == nonces(log, "us") == written
    make_room()
    assert nonces(log) == nonces(log, "us") == written
    log.append([draft(f"after-{len(written)}"), draft(f"after-{len(written)}", "us")])
    assert nonces(log) == nonces(log, "us") == [*written, f"after-{len(written)}"]
    assert log.layer_state().appended == 2 * len(nonces(log))


# Writes that fail otherwise


def test_a_set_that_fails_in_its_second_partition_writes_nothing_in_the_first(log: SQLiteEventLog) -> None:
    broken = draft(None, "us")  # type: ignore[arg-type] # what the table refuses
    with pytest.raises(AppendError) as refused:
        log.append([draft("a"), broken])
    assert refused.value.outcomes == {"eu": "not written", "us": "not written"}
    assert log.partitions() == ()
    assert log.layer_state().appended == 0
    assert log.append([draft("b")])[0].version == 1


# The second is told when a commit is in the file already, and no room is left in the one that processes share.
@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_SHMSIZE])
@pytest.mark.parametrize("arrives", [True, False])
def test_a_commit_that_the_disk_breaks_off_is_told_as_unknown(
    log: SQLiteEventLog, path: Path, monkeypatch: pytest.MonkeyPatch, code: int, *, arrives: bool
) -> None:
    class Breaking(sqlite3.Connection):
        appending = False

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            self.appending = self.appending or sql.startswith("INSERT INTO records")
            if sql != "COMMIT" or not self.appending:
                return super().execute(sql, *args)
            if arrives:
                super().execute(sql)
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            raise error

    log.append([draft("a")])
    with monkeypatch.context() as broken, log._file.reading():  # the pool's one connection is lent
        broken.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Breaking))
        with pytest.raises(AppendError) as refused:
            log.append([draft("b"), draft("b", "us")])
    assert refused.value.outcomes == {"eu": "unknown", "us": "unknown"}
    assert not refused.value.retryable
    assert nonces(log) == stored(path) == (["a", "b"] if arrives else ["a"])


def test_a_lock_held_for_too_long_is_told_as_not_written_and_worth_another_try(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_BUSY_SECONDS", 0.05)
    with SQLiteEventLog(path, "users") as log, raw(path) as db:
        log.append([draft("a")])
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(AppendError) as refused:
            log.append([draft("b"), draft("b", "us")])
        assert refused.value.outcomes == {"eu": "not written", "us": "not written"}
        assert refused.value.retryable
        assert str(path) in refused.value.message
        writes: list[Callable[[], object]] = [
            lambda: log.move_head("eu", HeadMove(0, Head(revision=1))),
            lambda: log.mark("eu", [Mark(1, "a", "cursor", 1)]),
            lambda: log.lease("eu", "ann", 100, 200),
            lambda: log.release("eu", "ann"),
            lambda: log.forget_old_segments("eu", ["ref"]),
            lambda: SQLiteEventLog(path, "others"),
        ]
        for write in writes:
            with pytest.raises(EventLogError) as locked:
                write()
            assert locked.value.retryable
        assert nonces(log) == ["a"]  # reading needs no lock
        db.execute("ROLLBACK")
        log.append([draft("b")])
        assert nonces(log) == ["a", "b"]


def test_a_writer_waits_for_a_lock_that_is_given_back(log: SQLiteEventLog, path: Path) -> None:
    with raw(path) as db:
        db.execute("BEGIN IMMEDIATE")
        writer = threading.Thread(target=log.append, args=([draft("a")],))
        writer.start()
        assert nonces(log) == []
        db.execute("COMMIT")
        writer.join()
    assert nonces(log) == ["a"]


# Damage


@pytest.mark.parametrize("keep", [100, 4096, 6000, 20_000])
@pytest.mark.parametrize("tail", [b"", b"\xff" * 200_000], ids=["truncated", "overwritten"])
def test_a_damaged_file_is_an_error_that_names_it(path: Path, keep: int, tail: bytes) -> None:
    make(path, *(f"{number}" * 1000 for number in range(40)))
    path.write_bytes(path.read_bytes()[:keep] + tail)
    with pytest.raises(EventLogError) as refused:
        stored(path)
    assert str(path) in str(refused.value)
    assert not refused.value.retryable


@pytest.mark.parametrize(
    "head", ["", "{", "null", "[]", "{}", '{"segments":7}', '{"segments":[{}]}', '{"segments":[],"x":1}']
)
def test_a_damaged_head_is_an_error_that_names_file_and_partition(log: SQLiteEventLog, path: Path, head: str) -> None:
    log.append([draft("a"), draft("a", "us")])
    with raw(path) as db:
        db.execute("UPDATE partitions SET head = ? WHERE name = 'eu'", (head,))
    looks: list[Callable[[], object]] = [
        lambda: log.head("eu"),
        lambda: log.read("eu", 0),
        lambda: log.partition_state("eu"),
    ]
    for look in looks:
        with pytest.raises(EventLogError) as refused:
            look()
        assert refused.value.partition == "eu"
        assert str(path) in refused.value.message
    assert nonces(log, "us") == ["a"]


DAMAGES: dict[str, Callable[[SQLiteEventLog], object]] = {
    "UPDATE records SET kind = 'nonsense'": lambda log: log.read("eu", 0),
    "UPDATE old_segments SET segment = '{'": lambda log: log.old_segments("eu"),
    "UPDATE old_segments SET segment = '{}'": lambda log: log.old_segments("eu"),
    "DELETE FROM layers": lambda log: log.layer_state(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_rows_are_an_error_of_the_log(log: SQLiteEventLog, path: Path, damage: str) -> None:
    segment = SegmentRef("ref", "base", 0, 1, 1, "name", "cursor", 1)
    log.append([draft("a")])
    assert log.move_head("eu", HeadMove(0, Head(revision=1), (OldSegment(segment, 1, 2),)))
    with raw(path) as db:
        db.execute(damage)
    with pytest.raises(EventLogError):
        DAMAGES[damage](log)


# The pool


def test_every_connection_is_write_ahead_logged_and_fully_synchronous(path: Path, flushed: None) -> None:
    make(path, "a")
    with SQLiteEventLog(path, "users") as log, ExitStack() as stack:
        connections = [stack.enter_context(log._file.reading()) for _ in range(12)]
        assert len({id(connection) for connection in connections}) == 12
        for connection in connections:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_connection_given_back_holds_on_to_no_old_moment(
    log: SQLiteEventLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nonce in "abc":
        log.append([draft(nonce)])
    give_back = SQLiteFile._give_back
    seen: list[int] = []

    def look(file: SQLiteFile, connection: sqlite3.Connection) -> None:
        if file is log._file:
            # From here on another thread may be lent this connection: it must see what is appended now.
            make(path, f"late-{len(seen)}")
            seen.append(connection.execute("SELECT count(*) FROM records").fetchone()[0])
        give_back(file, connection)

    monkeypatch.setattr(SQLiteFile, "_give_back", look)
    log.read("eu", 0)
    log.read("eu", 0, max_bytes=1)
    assert seen == [4, 5]


# Other processes


def test_processes_that_open_a_fresh_file_at_once_all_succeed(tmp_path: Path) -> None:
    rounds = 8
    told = run_at_once("open", tmp_path, rounds)
    assert told == [["done"]] * PROCESSES
    for number in range(rounds):
        assert sorted(stored(tmp_path / f"{number}.db")) == sorted(str(process) for process in range(PROCESSES))


def test_appends_of_processes_at_once_are_dense_and_each_is_there_once(path: Path) -> None:
    told = run_at_once("append", path, 60)
    acknowledged = [nonce for lines in told for nonce in lines]
    assert len(acknowledged) == PROCESSES * 60
    found = stored(path)
    assert sorted(found) == sorted(acknowledged)
    for number, lines in enumerate(told):
        assert [nonce for nonce in found if nonce.startswith(f"{number}-")] == lines


def test_a_killed_writer_leaves_all_that_it_acknowledged(path: Path) -> None:
    acknowledged: list[str] = []
    for number in range(3):
        with waiting("append", path, 1_000_000, number) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ready\n"
            acknowledged += [process.stdout.readline().strip() for _ in range(30)]
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split("\n")
            acknowledged += rest[:-1]  # the last has no line's end: it is cut short
            assert process.wait() == -signal.SIGKILL
        found = stored(path)
        # The one record more that may stand there was being acknowledged.
        assert set(acknowledged) <= set(found)
        assert len(found) <= len(acknowledged) + number + 1
    make(path, "after")
    assert stored(path)[-1] == "after"


def test_a_forked_child_uses_the_log_and_the_parents_keeps_working(path: Path) -> None:
    run_task("fork", path)
    assert stored(path) == ["parent-1", "child", "parent-2"]


def test_what_a_forked_child_appends_outlives_its_parents_close(path: Path) -> None:
    run_task("fork_and_close", path)
    assert stored(path) == ["parent", "child-1", "child-2"]


def test_a_child_forked_while_another_thread_writes_can_write(path: Path) -> None:
    run_task("fork_while_writing", path)
    assert stored(path) == ["parent-1", "child", "parent-2"]


# Tasks of other processes


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def wait_for_go() -> None:
    tell("ready")
    sys.stdin.readline()


def task_open(folder: str, rounds: str, nonce: str) -> None:
    wait_for_go()
    for number in range(int(rounds)):
        make(Path(folder) / f"{number}.db", nonce)
    tell("done")


def task_append(path: str, times: str, writer: str) -> None:
    with SQLiteEventLog(path, "users") as log:
        wait_for_go()
        for number in range(int(times)):
            nonce = f"{writer}-{number}"
            log.append([draft(nonce)])
            tell(nonce)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def task_full_disk(folder: str) -> None:
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", folder)
    filler = Path(folder) / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass

    for _ in range(2):
        with SQLiteEventLog(Path(folder) / "events.db", "users") as log:
            check_full_disk(log, fill=fill, make_room=filler.unlink)


def task_read_only(folder: str) -> None:
    mount("-t", "tmpfs", "tmpfs", folder)
    path = Path(folder) / "events.db"
    make(path, "a")
    before = path.read_bytes()
    mount("-o", "remount,ro", folder)
    for refused in (path, Path(folder) / "new.db", Path(folder) / "new" / "events.db"):
        with pytest.raises(EventLogError) as error:
            SQLiteEventLog(refused, "users")
        assert str(refused) in error.value.message
        assert not error.value.retryable
    assert path.read_bytes() == before


def forked(child: Callable[[], None]) -> int:
    """Do something in a forked child, which ends with it; its process id."""
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(30)  # a child that hangs is a child that fails
    status = 1
    try:
        child()
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def succeed(pid: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed"


def task_fork(path: str) -> None:
    def work() -> None:
        assert nonces(log) == ["parent-1"]
        log.append([draft("child")])
        assert nonces(log) == ["parent-1", "child"]
        log.close()

    with SQLiteEventLog(path, "users") as log:
        log.append([draft("parent-1")])
        succeed(forked(work))
        assert nonces(log) == ["parent-1", "child"]
        log.append([draft("parent-2")])
        assert nonces(log) == ["parent-1", "child", "parent-2"]


def task_fork_and_close(path: str) -> None:
    from_parent, to_child = os.pipe()
    from_child, to_parent = os.pipe()

    def work() -> None:
        log.append([draft("child-1")])
        os.write(to_parent, b"!")
        os.read(from_parent, 1)
        log.append([draft("child-2")])

    with SQLiteEventLog(path, "users") as log:
        log.append([draft("parent")])
        child = forked(work)
        os.read(from_child, 1)
    os.write(to_child, b"!")
    succeed(child)


def task_fork_while_writing(path: str) -> None:
    sqlite_file._BUSY_SECONDS = 2.0
    from_parent, to_child = os.pipe()
    inside = threading.Event()

    def write() -> None:
        with log._file.writing() as db:
            log._append(db, draft("parent-1"))
            inside.set()
            time.sleep(0.3)

    def work() -> None:
        os.read(from_parent, 1)
        log.append([draft("child")])

    with SQLiteEventLog(path, "users") as log:
        writer = threading.Thread(target=write)
        writer.start()
        inside.wait()
        child = forked(work)
        writer.join()
        os.write(to_child, b"!")
        succeed(child)
        log.append([draft("parent-2")])


if __name__ == "__main__":
    globals()[f"task_{sys.argv[1]}"](*sys.argv[2:])
