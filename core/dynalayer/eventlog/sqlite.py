"""The event log in one SQLite file: the embedded default.

Several processes use it at once. Tail and put are one transaction, so that an append can meet no taken slot; all
partitions of one `set()` are written together or not at all.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import orjson

from dynalayer.clock import INITIAL, MICROSECONDS
from dynalayer.errors import AppendError, EventLogError, Outcome
from dynalayer.eventlog.base import (
    MAX_LEASE,
    Appended,
    Draft,
    EventLog,
    Head,
    HeadMove,
    LayerState,
    Mark,
    OldSegment,
    PartitionState,
    Record,
    RecordKind,
    Run,
    Unmarked,
    segment_ref,
)
from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove, check_move
from dynalayer.eventlog.sqlite_file import SQLiteFile, nothing_was_done
from dynalayer.eventlog.watching import Reached, Watch, WholeWatch
from dynalayer.values import UNDECODABLE

__all__ = ["SQLiteEventLog"]

_RECORD = "version, kind, nonce, at, count, retention, payload, events_total, bytes_total, cursor"


class SQLiteEventLog(EventLog):
    """An event log in a SQLite file, write-ahead logged and fully synchronous.

    Args:
        path: The file; made, with its folder, when it is not there.
        table: The layer's table. Layers of several tables may share one file.
        create: Whether file and layer may be made; else what is not there is an error.

    Raises:
        LayoutError: The file is something else, or of another layout version.
        EventLogError: It cannot be opened or made.
    """

    def __init__(self, path: str | Path, table: str, *, create: bool = True) -> None:
        self.table = table
        self.location = f"sqlite:{path}"
        self.record_limit = 64 * 1024 * 1024
        # Absolute, so that the process may change its folder afterwards.
        self._file = SQLiteFile(Path(path).absolute(), create=create)
        try:
            if not create:
                self._need_layer()
            with self._file.writing() as db:
                db.execute(
                    "INSERT INTO layers (name, origin) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (table, secrets.token_hex(8)),
                )
                self._layer, self._origin = db.execute(
                    "SELECT id, origin FROM layers WHERE name = ?", (table,)
                ).fetchone()
        except BaseException:
            self._file.close()
            raise

    def _need_layer(self) -> None:
        with self._file.reading() as db:
            tables = [name for (name,) in db.execute("SELECT name FROM layers ORDER BY name")]
        if self.table not in tables:
            raise EventLogError(f"{self.location} has no layer of table {self.table!r}; it has: {', '.join(tables)}")

    def __repr__(self) -> str:
        return f"SQLiteEventLog({str(self._file.path)!r}, table={self.table!r})"

    @property
    def origin(self) -> str:
        """See `EventLog`."""
        return str(self._origin)

    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        """See `EventLog`; here the partitions of one call are written together or not at all."""
        with self._appending(drafts) as db:
            return self._put(db, drafts)

    def append_after(
        self, drafts: Sequence[Draft], tails: Mapping[str, int], *, checkpoints: Sequence[CheckpointMove] = ()
    ) -> tuple[Appended, ...] | None:
        """See `EventLog`."""
        for move in checkpoints:
            check_move(move)
        with self._appending(drafts) as db:
            if any(self._version(db, draft.partition) != tails[draft.partition] for draft in drafts):
                return None
            if any(self._revision(db, move) != move.expected for move in checkpoints):
                return None
            for move in checkpoints:
                self._move_checkpoint(db, move)
            return self._put(db, drafts)

    @contextmanager
    def _appending(self, drafts: Sequence[Draft]) -> Iterator[sqlite3.Connection]:
        committing = False
        try:
            with self._file.writing() as db:
                yield db
                committing = True
        except EventLogError as error:
            # An error that hits the commit's own write may have come after the fact.
            outcome: Outcome = "unknown" if committing and not nothing_was_done(error) else "not written"
            raise AppendError(
                error.message,
                outcomes=dict.fromkeys((draft.partition for draft in drafts), outcome),
                retryable=error.retryable and outcome == "not written",
            ) from error

    def _put(self, db: sqlite3.Connection, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        appended = tuple(self._append(db, draft) for draft in drafts)
        count = sum(draft.count for draft in drafts)
        db.execute(
            "UPDATE layers SET appended = appended + ?, last_nonce = ? WHERE id = ?",
            (count, drafts[-1].nonce if drafts else "", self._layer),
        )
        return appended

    def _version(self, db: sqlite3.Connection, partition: str) -> int:
        found = db.execute(
            "SELECT version FROM partitions WHERE layer = ? AND name = ?", (self._layer, partition)
        ).fetchone()
        return int(found[0]) if found else 0

    def _append(self, db: sqlite3.Connection, draft: Draft) -> Appended:
        self._make_row(db, draft.partition)
        row = db.execute(
            "UPDATE partitions SET version = version + 1, at = max(at, ?), events_total = events_total + ?, "
            "bytes_total = bytes_total + ?, last_count = ?, last_nonce = ? WHERE layer = ? AND name = ? "
            "RETURNING id, version, at, events_total, bytes_total",
            (
                draft.at,
                draft.count,
                len(draft.payload),
                draft.count,
                draft.nonce,
                self._layer,
                draft.partition,
            ),
        ).fetchone()
        partition, version, at, events_total, bytes_total = row
        db.execute(
            f"INSERT INTO records (partition, {_RECORD}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 -- a constant
            (
                partition,
                version,
                draft.kind,
                draft.nonce,
                at,
                draft.count,
                draft.retention,
                draft.payload,
                events_total,
                bytes_total,
                INITIAL,
            ),
        )
        return Appended(draft.partition, version, at)

    def _make_row(self, db: sqlite3.Connection, partition: str) -> None:
        db.execute(
            "INSERT INTO partitions (layer, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (self._layer, partition)
        )

    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        """See `EventLog`; the records and the head are of one moment."""
        with self._file.reading() as db:
            row = self._row(db, partition)
            if row is None:
                return Run((), Head())
            key, head = row
            records: list[Record] = []
            size = 0
            query = f"SELECT {_RECORD} FROM records WHERE partition = ? AND version > ? ORDER BY version"  # noqa: S608 -- a constant
            # Closed before the commit: left half read, it would keep the next borrower of this connection in the past.
            with closing(db.execute(query, (key, after))) as found, self._undamaged(partition):
                for version, kind, *rest in found:
                    if records and max_bytes is not None and size >= max_bytes:
                        return Run(tuple(records), head, complete=False)
                    record = Record(version, RecordKind(kind), *rest)
                    records.append(record)
                    size += len(record.payload)
            return Run(tuple(records), head)

    @contextmanager
    def _undamaged(self, partition: str | None = None) -> Iterator[None]:
        try:
            yield
        except UNDECODABLE as error:
            raise EventLogError(
                f"what is stored in {self.location} is damaged ({error!r}); restore the log from a copy",
                partition=partition,
            ) from error

    def _row(self, db: sqlite3.Connection, partition: str) -> tuple[int, Head] | None:
        row = db.execute(
            "SELECT id, head FROM partitions WHERE layer = ? AND name = ?", (self._layer, partition)
        ).fetchone()
        if row is None:
            return None
        key, head = row
        return key, self._head_from(head, partition)

    def _head_from(self, head: str | None, partition: str) -> Head:
        if head is None:
            return Head()
        try:
            return Head.from_json(head)
        except ValueError as error:
            raise EventLogError(
                f"the head in {self.location} is damaged: {error}; restore the log from a copy",
                partition=partition,
            ) from error

    def head(self, partition: str) -> Head:
        """See `EventLog`."""
        with self._file.reading() as db:
            row = self._row(db, partition)
        return row[1] if row else Head()

    def move_head(self, partition: str, move: HeadMove) -> bool:
        """See `EventLog`."""
        with self._file.writing() as db:
            if not move.expected:
                self._make_row(db, partition)
            row = db.execute(
                "UPDATE partitions SET revision = ?, head_version = ?, head = ? "
                "WHERE layer = ? AND name = ? AND revision = ? RETURNING id",
                (
                    move.head.revision,
                    move.head.version,
                    move.head.to_json().decode(),
                    self._layer,
                    partition,
                    move.expected,
                ),
            ).fetchone()
            if row is None:
                return False
            db.executemany(
                "INSERT OR REPLACE INTO old_segments (partition, ref, segment, to_version, retired_at, keep_until) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        row[0],
                        old.segment.ref,
                        orjson.dumps(old.segment).decode(),
                        old.segment.to_version,
                        old.retired_at,
                        old.keep_until,
                    )
                    for old in move.retired
                ],
            )
            if move.folded:
                self._count_sync(db, move)
            return True

    def _count_sync(self, db: sqlite3.Connection, move: HeadMove) -> None:
        db.execute(
            "INSERT INTO syncs (layer, cursor, folded) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET folded = folded + excluded.folded",
            (self._layer, move.head.cursor, move.folded),
        )
        db.execute(
            "UPDATE layers SET folded = folded + ?, synced_times = synced_times + ?, "
            "cursor = (SELECT max(cursor) FROM syncs WHERE layer = layers.id) WHERE id = ?",
            (move.folded, move.first, self._layer),
        )

    def unmarked(self, partition: str, through: int, limit: int) -> tuple[Unmarked, ...]:
        """See `EventLog`."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT r.version, r.nonce, r.retention FROM records r JOIN partitions p ON p.id = r.partition "
                "WHERE p.layer = ? AND p.name = ? AND r.cursor = '__INITIAL__' AND r.version <= ? "
                "ORDER BY r.version LIMIT ?",
                (self._layer, partition, through, limit),
            )
            return tuple(Unmarked(*row) for row in found)

    def mark(self, partition: str, marks: Sequence[Mark]) -> None:
        """See `EventLog`."""
        with self._file.writing() as db:
            row = self._row(db, partition)
            if row is None:
                return
            db.executemany(
                "UPDATE records SET cursor = ?, ttl = ? "
                "WHERE partition = ? AND version = ? AND nonce = ? AND cursor = '__INITIAL__'",
                [(mark.cursor, mark.ttl, row[0], mark.version, mark.nonce) for mark in marks],
            )

    def pending(self) -> tuple[str, ...]:
        """See `EventLog`."""
        return self._names(
            "SELECT name FROM partitions p WHERE layer = ? AND EXISTS "
            "(SELECT 1 FROM records WHERE partition = p.id AND cursor = '__INITIAL__')"
        )

    def partitions(self) -> tuple[str, ...]:
        """See `EventLog`."""
        return self._names("SELECT name FROM partitions WHERE layer = ? AND version > 0")

    def survey(self) -> Mapping[str, Reached]:
        """See `EventLog`."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT name, version, json_extract(head, '$.reset') FROM partitions WHERE layer = ? AND version > 0",
                (self._layer,),
            )
            with self._undamaged():
                return {name: Reached(version, int(reset or 0)) for name, version, reset in found}

    def watch(self) -> Watch:
        """See `EventLog`; all partitions are compared only where the layer's own row is another.

        A reset that folded no event leaves that row alone: it shows with the next append or sync, or in `survey`.
        """
        return WholeWatch(self.survey, self._token)

    def _token(self) -> object:
        with self._file.reading() as db:
            told = "SELECT appended, folded, last_nonce, cursor FROM layers WHERE id = ?"
            return db.execute(told, (self._layer,)).fetchone()

    def _names(self, query: str) -> tuple[str, ...]:
        with self._file.reading() as db:
            return tuple(sorted(name for (name,) in db.execute(query, (self._layer,))))

    def lease(self, partition: str, owner: str, now: int, until: int) -> bool:
        """See `EventLog`."""
        with self._file.writing() as db:
            self._make_row(db, partition)
            taken = db.execute(
                "UPDATE partitions SET lease_owner = ?, lease_until = ? WHERE layer = ? AND name = ? "
                "AND (lease_owner IN ('', ?) OR lease_until NOT BETWEEN ? AND ?)",
                (owner, until, self._layer, partition, owner, now + 1, now + MAX_LEASE),
            ).rowcount
            return taken > 0

    def release(self, partition: str, owner: str) -> None:
        """See `EventLog`."""
        with self._file.writing() as db:
            db.execute(
                "UPDATE partitions SET lease_owner = '' WHERE layer = ? AND name = ? AND lease_owner = ?",
                (self._layer, partition, owner),
            )

    def old_segments(self, partition: str) -> tuple[OldSegment, ...]:
        """See `EventLog`."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT o.segment, o.retired_at, o.keep_until FROM old_segments o "
                "JOIN partitions p ON p.id = o.partition WHERE p.layer = ? AND p.name = ? ORDER BY o.to_version",
                (self._layer, partition),
            )
            with self._undamaged(partition):
                return tuple(
                    OldSegment(segment_ref(orjson.loads(segment)), retired_at, keep_until)
                    for segment, retired_at, keep_until in found
                )

    def forget_old_segments(self, partition: str, refs: Sequence[str]) -> None:
        """See `EventLog`."""
        with self._file.writing() as db:
            row = self._row(db, partition)
            if row is not None:
                db.executemany(
                    "DELETE FROM old_segments WHERE partition = ? AND ref = ?",
                    [(row[0], ref) for ref in refs],
                )

    def checkpoint(self, scope: str, name: str) -> Checkpoint | None:
        """See `EventLog`."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT value, revision FROM checkpoints WHERE layer = ? AND scope = ? AND name = ?",
                (self._layer, scope, name),
            ).fetchone()
            return Checkpoint(scope, name, *found) if found else None

    def checkpoints(self, scope: str, *, from_name: str = "") -> tuple[Checkpoint, ...]:
        """See `EventLog`."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT name, value, revision FROM checkpoints WHERE layer = ? AND scope = ? AND name >= ? "
                "ORDER BY name",
                (self._layer, scope, from_name),
            )
            return tuple(Checkpoint(scope, *row) for row in found)

    def move_checkpoint(self, move: CheckpointMove) -> bool:
        """See `EventLog`."""
        check_move(move)
        with self._file.writing() as db:
            if self._revision(db, move) != move.expected:
                return False
            self._move_checkpoint(db, move)
            return True

    def _revision(self, db: sqlite3.Connection, move: CheckpointMove) -> int:
        found = db.execute(
            "SELECT revision FROM checkpoints WHERE layer = ? AND scope = ? AND name = ?",
            (self._layer, move.scope, move.name),
        ).fetchone()
        return int(found[0]) if found else 0

    def _move_checkpoint(self, db: sqlite3.Connection, move: CheckpointMove) -> None:
        key = (self._layer, move.scope, move.name)
        if move.value is None:
            db.execute("DELETE FROM checkpoints WHERE layer = ? AND scope = ? AND name = ?", key)
            return
        db.execute(
            "INSERT OR REPLACE INTO checkpoints (layer, scope, name, revision, value, ttl) VALUES (?, ?, ?, ?, ?, ?)",
            (*key, move.expected + 1, move.value, move.ttl),
        )

    def expire(self, now: int, limit: int, syncs_before: str) -> int:
        """See `EventLog`; records of every layer in the file are looked at."""
        due = "SELECT id FROM records WHERE ttl <= ? ORDER BY ttl LIMIT ?"
        # Before the last one's, which is not forgotten.
        forgotten = (
            "SELECT cursor FROM syncs WHERE layer = ? AND cursor < min(?, (SELECT cursor FROM layers l "
            "WHERE l.id = syncs.layer)) ORDER BY cursor LIMIT ?"
        )
        past = "SELECT layer, scope, name FROM checkpoints WHERE ttl <= ? LIMIT ?"
        seconds = now // MICROSECONDS
        with self._file.reading() as db:
            found = (
                db.execute(due, (seconds, 1)).fetchone()
                or db.execute(forgotten, (self._layer, syncs_before, 1)).fetchone()
                or db.execute(past, (seconds, 1)).fetchone()
            )
        if found is None:
            return 0
        with self._file.writing() as db:
            db.execute(
                f"DELETE FROM syncs WHERE layer = ? AND cursor IN ({forgotten})",  # noqa: S608 -- a constant
                (self._layer, self._layer, syncs_before, limit),
            )
            db.execute(f"DELETE FROM checkpoints WHERE (layer, scope, name) IN ({past})", (seconds, limit))  # noqa: S608 -- as above
            return db.execute(f"DELETE FROM records WHERE id IN ({due})", (seconds, limit)).rowcount  # noqa: S608 -- as above

    def knows_cursor(self, cursor: str) -> bool:
        """See `EventLog`."""
        with self._file.reading() as db:
            found = db.execute("SELECT 1 FROM syncs WHERE layer = ? AND cursor = ?", (self._layer, cursor)).fetchone()
            return found is not None

    def last_cursor(self) -> str:
        """See `EventLog`."""
        with self._file.reading() as db:
            (cursor,) = db.execute("SELECT cursor FROM layers WHERE id = ?", (self._layer,)).fetchone()
            return str(cursor)

    def partition_state(self, partition: str, *, lag: float = 0) -> PartitionState:  # noqa: ARG002 -- it costs little
        """See `EventLog`."""
        with self._file.reading() as db:
            row = db.execute(
                "SELECT id, head, version, events_total, bytes_total, last_count "
                "FROM partitions WHERE layer = ? AND name = ?",
                (self._layer, partition),
            ).fetchone()
            if row is None:
                return PartitionState(partition, Head(), 0, 0, 0, 0, None)
            key, packed, version, events_total, bytes_total, last_count = row
            head = self._head_from(packed, partition)
            oldest = db.execute(
                "SELECT at FROM records WHERE partition = ? AND version = ?", (key, head.version + 1)
            ).fetchone()
            return PartitionState(
                partition=partition,
                head=head,
                version=version,
                events_total=events_total,
                bytes_total=bytes_total,
                last_count=last_count if version > head.version else 0,
                pending_since=oldest[0] if oldest else None,
            )

    def layer_state(self, *, lag: float = 0) -> LayerState:  # noqa: ARG002 -- as above
        """See `EventLog`."""
        with self._file.reading() as db:
            row = db.execute(
                "SELECT appended, folded, (SELECT coalesce(sum(last_count), 0) FROM partitions "
                "WHERE layer = l.id AND last_nonce = l.last_nonce AND version > head_version), "
                "cursor, synced_times, "
                "coalesce((SELECT folded FROM syncs s WHERE s.layer = l.id AND s.cursor = l.cursor), 0) "
                "FROM layers l WHERE id = ?",
                (self._layer,),
            ).fetchone()
            with self._undamaged():
                return LayerState(*row)

    def close(self) -> None:
        """See `EventLog`."""
        self._file.close()
