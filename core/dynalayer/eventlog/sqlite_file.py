"""The SQLite file under an event log: opening, layout, connections, transactions."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dynalayer.durable import DurableFiles
from dynalayer.errors import ClosedError, EventLogError, LayoutError

__all__ = ["LAYOUT_VERSION", "SQLiteFile", "nothing_was_done"]

LAYOUT_VERSION = 1
"""Version of the tables below, kept in the file as `user_version`."""

_APPLICATION_ID = 0x64796E61  # "dyna"
_BUSY_SECONDS = 30.0
_NOTHING_DONE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)  # told before a commit is in the file
_MAX_IDLE = 8  # connections kept for the next caller; more are closed when given back

_TABLES = """
CREATE TABLE layers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    origin TEXT NOT NULL,
    appended INTEGER NOT NULL DEFAULT 0,
    folded INTEGER NOT NULL DEFAULT 0,
    last_nonce TEXT NOT NULL DEFAULT '',
    cursor TEXT NOT NULL DEFAULT '__INITIAL__',
    synced_times INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    layer INTEGER NOT NULL REFERENCES layers (id),
    name TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 0,
    at INTEGER NOT NULL DEFAULT 0,
    events_total INTEGER NOT NULL DEFAULT 0,
    bytes_total INTEGER NOT NULL DEFAULT 0,
    last_count INTEGER NOT NULL DEFAULT 0,
    last_nonce TEXT NOT NULL DEFAULT '',
    revision INTEGER NOT NULL DEFAULT 0,
    head_version INTEGER NOT NULL DEFAULT 0,
    head TEXT,
    lease_owner TEXT NOT NULL DEFAULT '',
    lease_until INTEGER NOT NULL DEFAULT 0,
    UNIQUE (layer, name)
);
CREATE INDEX partitions_pending ON partitions (layer, last_nonce) WHERE version > head_version;
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL REFERENCES partitions (id),
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    nonce TEXT NOT NULL,
    at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    retention INTEGER NOT NULL,
    events_total INTEGER NOT NULL,
    bytes_total INTEGER NOT NULL,
    cursor TEXT NOT NULL DEFAULT '__INITIAL__',
    ttl INTEGER,
    payload BLOB NOT NULL,
    UNIQUE (partition, version)
);
CREATE INDEX records_pending ON records (partition, version) WHERE cursor = '__INITIAL__';
CREATE INDEX records_ttl ON records (ttl) WHERE ttl IS NOT NULL;
CREATE TABLE old_segments (
    partition INTEGER NOT NULL REFERENCES partitions (id),
    ref TEXT NOT NULL,
    segment TEXT NOT NULL,
    to_version INTEGER NOT NULL,
    retired_at INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    PRIMARY KEY (partition, ref)
) WITHOUT ROWID;
CREATE TABLE syncs (
    layer INTEGER NOT NULL REFERENCES layers (id),
    cursor TEXT NOT NULL,
    folded INTEGER NOT NULL,
    PRIMARY KEY (layer, cursor)
) WITHOUT ROWID;
"""

# Beside those: files of this layout may have been made before there were checkpoints.
_CHECKPOINTS = """
CREATE TABLE IF NOT EXISTS checkpoints (
    layer INTEGER NOT NULL REFERENCES layers (id),
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    value BLOB NOT NULL,
    ttl INTEGER,
    PRIMARY KEY (layer, scope, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS checkpoints_ttl ON checkpoints (ttl) WHERE ttl IS NOT NULL;
"""


def nothing_was_done(error: EventLogError) -> bool:
    """Whether an error of `SQLiteFile.failing` is certain to have come before a commit was in the file."""
    return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in _NOTHING_DONE


class SQLiteFile:
    """One database file, shared by threads of this process and by other processes.

    Connections are lent out one caller at a time. They do not cross a fork: a child opens its own.

    Args:
        path: The file.
        create: Whether it and its folder are made when they are not there.

    Raises:
        LayoutError: The file is something else, or of another layout version.
        EventLogError: It cannot be opened or made.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self._lock = threading.Condition(threading.Lock())
        self._lent = 1  # this thread's, until it is open
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False
        try:
            connection = self._open_first(create=create)
        except BaseException:
            self._count_back()
            raise
        self._give_back(connection)

    def _open_first(self, *, create: bool) -> sqlite3.Connection:
        with self.failing("opened"):
            new = not self.path.exists() or not self.path.stat().st_size
            if new and create:
                # SQLite flushes the folder that the file is in, but not what that folder is called: a power cut took
                # the folder away, with all that was acknowledged.
                DurableFiles(self.path.parent).make_folder(self.path.parent)
            elif new:
                raise EventLogError(f"there is no event log {self.path}; `dynalayer import` or a Layer makes one")
            _files.add(self)
            return self._connect()

    def close(self) -> None:
        """Close the idle connections; lent ones close when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection within one read transaction: all that is read in it is of one moment."""
        with self._transaction("BEGIN", "read") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection within one write transaction, committed durably at the end, rolled back on any error.

        It begins IMMEDIATE: a deferred transaction that reads and then writes fails as soon as another process wrote
        in between, and no patience helps it.
        """
        with self._transaction("BEGIN IMMEDIATE", "written") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str, what: str) -> Iterator[sqlite3.Connection]:
        connection = self._lend()
        try:
            with self.failing(what):
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
        except BaseException:
            # Whatever it was, this connection's state is not worth guessing at: closing it rolls back.
            self._take_out(connection)
            raise
        self._give_back(connection)

    @contextmanager
    def failing(self, what: str) -> Iterator[None]:
        """Turn what SQLite and the file system raise into an `EventLogError` that names the file."""
        try:
            yield
        except sqlite3.Error as error:
            extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            code = extended & 0xFF
            retryable = code in _NOTHING_DONE or extended == sqlite3.SQLITE_IOERR_SHMSIZE
            advices = {
                sqlite3.SQLITE_BUSY: f"; others held its lock for {_BUSY_SECONDS:.0f} seconds",
                sqlite3.SQLITE_FULL: "; the disk is full: make room and try again, nothing was written",
                sqlite3.SQLITE_READONLY: "; it or its folder cannot be written to",
                sqlite3.SQLITE_CANTOPEN: "; its folder must exist, be a folder, and be writable",
                sqlite3.SQLITE_NOTADB: "; it is no SQLite database, or is damaged",
                sqlite3.SQLITE_CORRUPT: "; it is damaged: restore it from a copy",
                # Of the file beside it that its processes share, which SQLite calls an I/O error like any other.
                sqlite3.SQLITE_IOERR_SHMSIZE: "; the disk is full: make room and try again",
            }
            advice = advices.get(extended) or advices.get(code, "")
            raise EventLogError(
                f"the event log {self.path} could not be {what}: {error}{advice}", retryable=retryable
            ) from error
        except OSError as error:
            raise EventLogError(f"the event log {self.path} could not be {what}: {error}") from error
        except (UnicodeDecodeError, OverflowError) as error:  # of SQLite's own message too, where it cites the file
            raise EventLogError(
                f"the event log {self.path} could not be {what}: it is damaged ({error}): restore it from a copy"
            ) from error

    def _lend(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise ClosedError(f"the event log {self.path} was closed")
            self._lent += 1
            if self._idle:
                return self._idle.pop()
        try:
            with self.failing("opened"):
                return self._connect()
        except BaseException:
            self._count_back()
            raise

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _MAX_IDLE:
                self._idle.append(connection)
                self._lent -= 1
                self._lock.notify_all()
                return
        self._take_out(connection)

    def _take_out(self, connection: sqlite3.Connection) -> None:
        try:
            connection.close()
        finally:
            self._count_back()

    def _count_back(self) -> None:
        with self._lock:
            self._lent -= 1
            self._lock.notify_all()

    def hold_for_fork(self) -> None:
        """Close every connection, once those lent are back, and lend none until `go_on_after_fork`.

        SQLite keeps its locks by process and thinks that it still has them in a child: a connection open at the fork
        makes the child write into a log that its parent has deleted, or wait for a lock that nobody holds.
        """
        self._lock.acquire()
        self._lock.wait_for(lambda: not self._lent, timeout=_BUSY_SECONDS)
        while self._idle:
            self._idle.pop().close()

    def go_on_after_fork(self) -> None:
        """Lend again, in parent and child."""
        self._lock.release()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._check_layout(connection)
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_layout(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # one moment: another process may be making the tables
        ours = self._is_ours(connection) and self._has_checkpoints(connection)
        connection.execute("COMMIT")
        if ours:
            return
        _to_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        if not self._is_ours(connection):  # another process may have made it meanwhile
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")
        for statement in _CHECKPOINTS.split(";"):
            connection.execute(statement)
        connection.execute("COMMIT")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """True for a log of this layout, False for an empty file; anything else is refused."""
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_NOTADB:
                raise
            raise LayoutError(f"{self.path} is no SQLite database, or is damaged: no dynalayer event log") from error
        if self.path.stat().st_size == 1:  # SQLite takes a file of one byte for an empty one
            raise LayoutError(f"{self.path} is no SQLite database, no dynalayer event log")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == _APPLICATION_ID:
            if version != LAYOUT_VERSION:
                raise LayoutError(
                    f"the event log {self.path} has layout version {version}; this release knows version "
                    f"{LAYOUT_VERSION}: use the release that wrote it, or a newer one"
                )
            return True
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables or application or version:
            raise LayoutError(f"{self.path} is a database of another program, no dynalayer event log")
        return False

    def _has_checkpoints(self, connection: sqlite3.Connection) -> bool:
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'checkpoints_ttl'").fetchone()
        return found is not None


def _to_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, which SQLite's own busy timeout does not wait for."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 -- jitter, no secret
        else:
            return


_files: weakref.WeakSet[SQLiteFile] = weakref.WeakSet()
_held: list[SQLiteFile] = []
_forking = threading.Lock()  # two threads may fork at once


def _before_fork() -> None:
    _forking.acquire()
    _held[:] = list(_files)
    for file in _held:
        file.hold_for_fork()


def _after_fork() -> None:
    while _held:
        _held.pop().go_on_after_fork()
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
