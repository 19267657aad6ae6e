"""The spool: what was read of a source, sorted by partition, on disk where it does not fit into memory.

A SQLite database with one user. Without a path it is a temporary one: SQLite keeps it in memory up to its page cache,
puts the rest into a file without a name, and it is gone with the process. With a path it is a file that also says how
far the work has come, written in one transaction with what was read: whoever opens it again goes on from there.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

import orjson

from dynalayer.bulk import paused_collector
from dynalayer.errors import InvalidInputError, SpoolError
from dynalayer.events import Placed
from dynalayer.quoting import quoted
from dynalayer.values import Item, item_from_json, item_to_json

__all__ = ["Clash", "Spool", "Waiting", "check_spool"]

_APPLICATION = 0x64796C73
_VERSION = 1
_CACHE_KIB = 16 * 1024
_AT_ONCE = 1000
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE segments (number INTEGER PRIMARY KEY, position BLOB, ended INTEGER NOT NULL);
CREATE TABLE items (partition BLOB, id BLOB, item BLOB NOT NULL, PRIMARY KEY (partition, id)) WITHOUT ROWID;
CREATE TABLE partitions (name BLOB PRIMARY KEY, tail INTEGER NOT NULL, taken INTEGER) WITHOUT ROWID;
CREATE TABLE letters (number INTEGER PRIMARY KEY, line BLOB NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A partition that is still to be done.

    Attributes:
        partition: The partition.
        tail: The tail that was noted before anything was read; 0 where none was.
    """

    partition: str
    tail: int


@dataclass(frozen=True, slots=True)
class Clash:
    """Two different items that are one by partition and identifier.

    Attributes:
        placed: The later one.
        item: The earlier one.
    """

    placed: Placed
    item: Item


def check_spool(spool: object) -> Path | None:
    """Where a spool is to be; None for a temporary one.

    Raises:
        InvalidInputError: It is no path of a file in a folder that is there.
    """
    if spool is None:
        return None
    if not isinstance(spool, str | PathLike) or isinstance(os.fspath(spool), bytes):
        raise InvalidInputError(f"spool is the path of a file, not {quoted(spool)}")
    text = os.fspath(spool)
    if not text or "\0" in text:
        raise InvalidInputError(f"spool={text!r:.100} is no path")
    path = Path(text).absolute()
    if not path.parent.is_dir() or path.is_dir():
        raise InvalidInputError(f"spool={text!r} is a folder, or a file in one that is not there")
    return path


class Spool:
    """What was read of a source. For one thread, and one process.

    Args:
        path: Where it is; None for a temporary one.

    Attributes:
        path: Likewise.
        found: Whether it was there and says how far somebody has come.

    Raises:
        InvalidInputError: The file is something else.
        SpoolError: It cannot be opened, or another process is at work with it.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        with self._told():
            if path is not None:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # items may be nobody else's business
            self._connection = sqlite3.connect("" if path is None else path, timeout=0, isolation_level=None)
        try:
            with self._told():
                self.found = self._opened()
        except BaseException:
            self._connection.close()
            raise

    def _opened(self) -> bool:
        run = self._connection.execute
        run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if self.path is None:
            run("PRAGMA synchronous = OFF")
            run("PRAGMA journal_mode = MEMORY")  # what fails is rolled back, and told
        else:
            run("PRAGMA locking_mode = EXCLUSIVE")
            (version,) = run("PRAGMA user_version").fetchone()
            (application,) = run("PRAGMA application_id").fetchone()
            (tables,) = run("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and (application, version) != (_APPLICATION, _VERSION):
                raise InvalidInputError(
                    f"{self.path} is no spool, or one of another release; name a file that is not there yet"
                )
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = NORMAL")  # a power cut may take the last steps away, never a part of one
        run("BEGIN IMMEDIATE")
        (tables,) = run("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in _SCHEMA.split(";"):
                run(statement)
            run(f"PRAGMA application_id = {_APPLICATION}")
            run(f"PRAGMA user_version = {_VERSION}")
        run("COMMIT")
        return bool(tables) and self.fact("purpose") is not None

    def __repr__(self) -> str:
        return f"Spool({'temporary' if self.path is None else str(self.path)})"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Let what SQLite and the system raise come to an error that names the file."""
        where = "the temporary spool" if self.path is None else f"spool {self.path}"
        try:
            yield
        except sqlite3.DatabaseError as error:
            told = str(error)
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise SpoolError(f"{where}: another process is at work with it", retryable=True) from error
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
                raise InvalidInputError(f"{where} is no spool; name a file that is not there yet") from error
            raise SpoolError(f"{where}: {told}; look for room, and for the right to write there") from error
        except OSError as error:
            raise SpoolError(f"{where}: {error.strerror or error}") from error

    @contextmanager
    def _together(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    # What it is of

    def fact(self, name: str) -> Any:
        """Something that was written down; None where it was not."""
        with self._told():
            row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def write_down(self, **facts: str | int) -> None:
        """Write facts down, in place of what was said under their names."""
        with self._together() as connection:
            connection.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())

    # What is read

    def begin(self, tails: Iterable[tuple[str, int]], segments: int, **facts: str | int) -> None:
        """Begin anew: with the tails noted, and nothing read.

        Args:
            tails: Partitions with their tails.
            segments: How many the source is read in.
            facts: What is to be remembered with it.
        """
        with self._together() as connection:
            for table in ("facts", "segments", "items", "partitions", "letters"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 -- our own words
            connection.executemany(
                "INSERT INTO partitions VALUES (?, ?, NULL)", ((name.encode(), tail) for name, tail in tails)
            )
            connection.executemany(
                "INSERT INTO segments VALUES (?, NULL, 0)", ((number,) for number in range(segments))
            )
            connection.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())

    def segments(self) -> tuple[dict[int, dict[str, Any] | None], int]:
        """The segments that are still to be read, each with the position to go on at; and how many there are."""
        with self._told():
            rows = self._connection.execute("SELECT number, position FROM segments WHERE NOT ended").fetchall()
            (of,) = self._connection.execute("SELECT count(*) FROM segments").fetchone()
        return {
            number: None if position is None else item_from_json(orjson.loads(position)) for number, position in rows
        }, of

    def add(
        self,
        segment: int,
        position: Mapping[str, Any] | None,
        *,
        ended: bool,
        placed: Sequence[Placed],
        letters: Sequence[bytes] = (),
    ) -> Clash | None:
        """Keep what was read of a segment, and how far that is.

        Args:
            segment: The segment.
            position: Where it goes on; None for what cannot be gone on with.
            ended: Whether it has ended.
            placed: Items.
            letters: Lines for the dead letters.

        Returns:
            None; or two items that are one here and differ: nothing was kept.
        """
        rows = [
            (each.partition.encode(), each.id.encode(), orjson.dumps(each.encoded, option=orjson.OPT_SORT_KEYS))
            for each in placed
        ]
        where = None if position is None else orjson.dumps(item_to_json(dict(position)))
        try:
            with self._together() as connection:
                before = connection.total_changes
                connection.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?)", rows)
                if connection.total_changes - before < len(rows):
                    self._compare(placed, rows)
                connection.executemany("INSERT INTO letters (line) VALUES (?)", ((line,) for line in letters))
                connection.execute(
                    "UPDATE segments SET position = ?, ended = ? WHERE number = ?", (where, ended, segment)
                )
        except _ClashError as error:
            return error.clash
        return None

    def _compare(self, placed: Sequence[Placed], rows: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        for each, (partition, identifier, item) in zip(placed, rows, strict=True):
            (kept,) = self._connection.execute(
                "SELECT item FROM items WHERE partition = ? AND id = ?", (partition, identifier)
            ).fetchone()
            if kept != item:
                raise _ClashError(Clash(each, item_from_json(orjson.loads(kept))))

    def end_reading(self) -> None:
        """All was read: the partitions that only the source told are to be done too."""
        with self._together() as connection:
            connection.execute("INSERT OR IGNORE INTO partitions SELECT DISTINCT partition, 0, NULL FROM items")
            connection.execute("REPLACE INTO facts VALUES ('read', 1)")

    def letters(self) -> Iterator[bytes]:
        """The lines for the dead letters, in the order in which they were read."""
        with self._told():
            for (line,) in self._connection.execute("SELECT line FROM letters ORDER BY number"):
                yield line

    # What is done

    def waiting(self) -> Iterator[Waiting]:
        """The partitions that are still to be done, in order; some may be done meanwhile."""
        after: bytes | None = None
        while True:
            with self._told():
                rows = self._connection.execute(
                    "SELECT name, tail FROM partitions WHERE taken IS NULL AND (? IS NULL OR name > ?) "
                    "ORDER BY name LIMIT ?",
                    (after, after, _AT_ONCE),
                ).fetchall()
            for name, tail in rows:
                yield Waiting(name.decode(), tail)
            if len(rows) < _AT_ONCE:
                return
            after = rows[-1][0]

    def has(self, partition: str) -> bool:
        """Whether a partition has items."""
        with self._told():
            return (
                self._connection.execute(
                    "SELECT 1 FROM items WHERE partition = ? LIMIT 1", (partition.encode(),)
                ).fetchone()
                is not None
            )

    def items(self, partition: str) -> dict[str, Item]:
        """A partition's items by identifier."""
        with self._told(), paused_collector():
            rows = self._connection.execute("SELECT id, item FROM items WHERE partition = ?", (partition.encode(),))
            return {identifier.decode(): item_from_json(orjson.loads(item)) for identifier, item in rows}

    def done(self, partition: str, taken: int) -> None:
        """A partition is done, with so many items; -1 where nothing was to be done."""
        with self._together() as connection:
            connection.execute("UPDATE partitions SET taken = ? WHERE name = ?", (taken, partition.encode()))

    def count(self, what: str) -> int:
        """How many `items` were kept, `letters`, `partitions`, or partitions that are `left`."""
        table, condition = ("partitions", "taken IS NULL") if what == "left" else (what, "1")
        with self._told():
            (count,) = self._connection.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchone()  # noqa: S608 -- our own words
        return int(count)

    def taken(self) -> tuple[int, tuple[str, ...]]:
        """How many items of how many partitions are done."""
        with self._told():
            rows = self._connection.execute("SELECT name, taken FROM partitions WHERE taken >= 0 ORDER BY name")
            found = [(name.decode(), taken) for name, taken in rows]
        return sum(taken for _, taken in found), tuple(name for name, _ in found)

    def close(self, *, remove: bool = False) -> None:
        """Close it.

        Args:
            remove: Whether the file goes.
        """
        with self._told():
            self._connection.close()
            if remove and self.path is not None:
                for suffix in ("", "-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _ClashError(Exception):
    """Ends the transaction."""

    def __init__(self, clash: Clash) -> None:
        super().__init__("two items are one")
        self.clash = clash
