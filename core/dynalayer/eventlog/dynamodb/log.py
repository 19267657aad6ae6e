"""The event log in a DynamoDB table: the production log.

Several processes and machines use it at once. The index says where to look, never what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from dynalayer.clock import INITIAL
from dynalayer.costs import Usage
from dynalayer.errors import AppendError, ClosedError, EventLogError, InvalidInputError, Outcome
from dynalayer.eventlog.base import (
    Appended,
    Draft,
    EventLog,
    Head,
    HeadMove,
    LayerState,
    LogCosts,
    Mark,
    OldSegment,
    PartitionState,
    Record,
    Run,
    Unmarked,
)
from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.arguments import check_shards
from dynalayer.eventlog.dynamodb.checkpoints import Checkpoints
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.counts import Counts
from dynalayer.eventlog.dynamodb.estimates import estimate
from dynalayer.eventlog.dynamodb.failures import FailedCallError
from dynalayer.eventlog.dynamodb.index import Index
from dynalayer.eventlog.dynamodb.layers import opened_layer
from dynalayer.eventlog.dynamodb.leases import Leases
from dynalayer.eventlog.dynamodb.marks import Marks
from dynalayer.eventlog.dynamodb.moves import Moves
from dynalayer.eventlog.dynamodb.retired import Retired
from dynalayer.eventlog.dynamodb.rows import DamagedRowError, Row
from dynalayer.eventlog.dynamodb.shards import Shards
from dynalayer.eventlog.dynamodb.slots import NotAppendedError, Slots
from dynalayer.eventlog.dynamodb.table import check_table
from dynalayer.eventlog.dynamodb.together import Action, Refusal, Together
from dynalayer.eventlog.dynamodb.watching import IndexWatch
from dynalayer.eventlog.watching import Reached, Watch
from dynalayer.events import check_table as check_table_name
from dynalayer.side_by_side import side_by_side

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["DynamoDBEventLog"]

_PARTS = 10  # rows of a record in one transaction, whose items may have 4 MB together


class DynamoDBEventLog(EventLog):
    """An event log in a DynamoDB table that `create_table` made.

    Args:
        name: The DynamoDB table's name. Layers of several tables may share one.
        table: The layer's table.
        client: A low-level boto3 client of one's own; its own retries play no part in appends. Left out, one is made;
            credentials come from boto3's own chain in any case.
        region: Of the client that is made.
        endpoint_url: Likewise.
        pending_shards: Keys of the index over which pending records are spread, 1 to 64: one takes about a thousand
            records a second.
        create: Whether the layer may be made; else one that is not there is an error. The table is never made here.

    Raises:
        ConfigurationError: An argument is wrong, or the region is not known.
        LayoutError: The table is something else; says how to mend it.
        EventLogError: It cannot be reached.
    """

    group_limit = rows.PART_BYTES * 3 // 4  # packed together they may take a little more than packed alone

    def __init__(
        self,
        name: str,
        table: str,
        *,
        client: DynamoDBClient | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        pending_shards: int = 1,
        create: bool = True,
    ) -> None:
        check_shards(pending_shards)
        self.table = check_table_name(table)
        self._connection = Connection(name, client=client, region=region, endpoint_url=endpoint_url)
        self.location = self._connection.location
        self.record_limit = _PARTS * rows.PART_BYTES
        self._layer_pk = rows.layer_key(table)
        self._meta_key = rows.key_of(self._layer_pk, rows.META_KEY)
        self._slots = Slots(self._connection, table, pending_shards)
        self._moves = Moves(self._connection, table)
        self._marks = Marks(self._connection)
        self._retired = Retired(self._connection)
        self._leases = Leases(self._connection)
        self._checkpoints = Checkpoints(self._connection, table)
        self._together = Together(self._connection, table, self._slots, pending_shards)
        try:
            check_table(self._connection)
            with self._undamaged():
                meta = opened_layer(self._connection, table, create=create)
                self._origin = rows.text(meta, "origin")
                self._shards = Shards(self._connection, table, pending_shards, meta)
        except BaseException:
            self._connection.close()
            raise
        self._index = Index(self._connection, table, self._shards)
        self._counts = Counts(self._connection, table, self._slots)

    def __repr__(self) -> str:
        return f"DynamoDBEventLog({self._connection.name!r}, table={self.table!r})"

    @property
    def url(self) -> str:
        """The table with the region and the endpoint that are asked."""
        return self._connection.url

    @property
    def origin(self) -> str:
        """See `EventLog`."""
        return self._origin

    # Appending and reading

    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        """See `EventLog`; partitions are written side by side, each for itself."""
        nothing: dict[str, Outcome] = {draft.partition: "not written" for draft in drafts}
        for draft in drafts:
            if len(draft.payload) > self.record_limit:
                raise AppendError(
                    f"a record of {len(draft.payload)} bytes; {self.location} takes {self.record_limit}",
                    outcomes=nothing,
                )
        try:
            self._shards.note()
        except EventLogError as error:
            raise AppendError(error.message, outcomes=nothing, retryable=error.retryable) from error
        results = side_by_side(self._append, drafts)
        failed = [result for result in results if isinstance(result, NotAppendedError)]
        if failed:
            cause = failed[0].cause
            outcomes = {
                draft.partition: result.outcome if isinstance(result, NotAppendedError) else "written"
                for draft, result in zip(drafts, results, strict=True)
            }
            not_written = set(outcomes.values()) == {"not written"}
            if not_written and isinstance(cause, ClosedError):
                raise cause
            # What is written, or may be, would be there twice.
            raise AppendError(cause.message, outcomes=outcomes, retryable=cause.retryable and not_written) from cause
        return tuple(result for result in results if isinstance(result, Appended))

    def _append(self, draft: Draft) -> Appended | NotAppendedError:
        try:
            appended = self._slots.append(draft)
        except NotAppendedError as error:
            return error
        except Exception as error:  # noqa: BLE001 -- told with what came of the other partitions, which must not be lost
            failure = EventLogError(f"{self.location}: {type(error).__name__}: {error}")
            failure.__cause__ = error
            return NotAppendedError("unknown", failure)
        self._counts.appended(draft, appended)
        return appended

    def tail(self, partition: str) -> int:
        """See `EventLog`."""
        with self._undamaged(partition):
            return self._slots.known(partition).tail.version

    def append_after(
        self, drafts: Sequence[Draft], tails: Mapping[str, int], *, checkpoints: Sequence[CheckpointMove] = ()
    ) -> tuple[Appended, ...] | None:
        """See `EventLog`."""
        result = self.append_beside(drafts, tails, (), checkpoints=checkpoints)
        return None if isinstance(result, Refusal) else result

    def append_beside(
        self,
        drafts: Sequence[Draft],
        tails: Mapping[str, int],
        actions: Sequence[Action],
        *,
        checkpoints: Sequence[CheckpointMove] = (),
    ) -> tuple[Appended, ...] | Refusal:
        """As `append_after`, with actions on other tables in the same transaction: all of it is done, or nothing.

        Args:
            drafts: What to append; each partition at most once.
            tails: Each partition's newest version, as `tail` told it.
            actions: Of `TransactWriteItems`, as the low-level client takes them.
            checkpoints: Moves that belong to them.

        Returns:
            Where the records came to stand; or why nothing was written.

        Raises:
            AppendError: It failed; says what is certain.
            TooMuchError: It is more than one transaction takes; nothing was sent.
        """
        if not drafts:
            raise InvalidInputError("there is no record to append")
        with self._undamaged():
            self._shards.note()
            result = self._together.append(drafts, tails, checkpoints, actions)
        if not isinstance(result, Refusal):
            for draft, place in zip(drafts, result, strict=True):
                self._counts.appended(draft, place)
        return result

    def row_beside(self, table: str, key: Row) -> Row | None:
        """The item of another table under a key, read strongly; None where there is none."""
        return self._connection.get(key, TableName=table)

    def write_beside(self, action: Action) -> None:
        """Make a write to another table by itself, which may run twice; one whose condition does not hold is raised.

        Raises:
            TakenError: Its condition did not hold.
            FailedCallError: It failed.
        """
        ((kind, arguments),) = action.items()
        self._connection.call(f"{kind.lower()}_item", **arguments)

    def described_beside(self, table: str) -> Mapping[str, Any] | None:
        """What the service says of another table where this log's is; None where there is none of that name."""
        try:
            return self._connection.described(table)
        except FailedCallError as error:
            if error.code == "ResourceNotFoundException":
                return None
            raise

    def read(self, partition: str, after: int, *, max_bytes: int | None = None) -> Run:
        """See `EventLog`; one strong query in pages, or, where `max_bytes` cuts it short, the head after it."""
        head: Row | None = None

        def found() -> Iterator[Row]:
            nonlocal head
            for row in self._rows(partition, rows.past(after)):
                if rows.text(row, "sk") == rows.HEAD_KEY:
                    head = row
                else:
                    yield row

        records: list[Record] = []
        size = 0
        with self._undamaged(partition):
            for record in rows.records_of(found()):
                if records and max_bytes is not None and size >= max_bytes:
                    return Run(tuple(records), self.head(partition), complete=False)
                records.append(record)
                size += len(record.payload)
            return Run(tuple(records), self._seen(partition, rows.head_of(head)))

    def _rows(self, partition: str, above: str, **arguments: Any) -> Iterator[Row]:
        return self._connection.query(
            KeyConditionExpression="pk = :pk AND sk > :above",
            ExpressionAttributeValues={":pk": {"S": self._pk(partition)}, ":above": {"S": above}},
            **arguments,
        )

    def _pk(self, partition: str) -> str:
        return rows.partition_key(self.table, partition)

    def _head_key(self, partition: str) -> dict[str, Any]:
        return rows.key_of(self._pk(partition), rows.HEAD_KEY)

    @contextmanager
    def _undamaged(self, partition: str | None = None) -> Iterator[None]:
        try:
            yield
        except DamagedRowError as error:
            raise EventLogError(
                f"what is stored in {self.location} is damaged: {error}; restore it from a copy",
                partition=error.partition if partition is None else partition,
            ) from error

    # Heads

    def head(self, partition: str) -> Head:
        """See `EventLog`."""
        with self._undamaged(partition):
            return self._seen(partition, rows.head_of(self._connection.get(self._head_key(partition))))

    def _seen(self, partition: str, head: Head) -> Head:
        self._counts.seen(partition, head)
        return head

    def move_head(self, partition: str, move: HeadMove) -> bool:
        """See `EventLog`; a transaction only where it retires segments or is the first under its cursor."""
        if not self._moves.make(partition, move):
            return False
        self._counts.moved(partition, move)
        return True

    # Marks

    def unmarked(self, partition: str, through: int, limit: int) -> tuple[Unmarked, ...]:
        """See `EventLog`; as far as the index shows them, and the next time the rest."""
        pk = self._pk(partition)
        keys = [rows.key_of(pk, sk) for sk in sorted(self._index.slots(pk, through))]
        found: list[Unmarked] = []
        with self._undamaged(partition):
            # Cut after looking: what the index shows and is marked already must not hide what is not.
            for start in range(0, len(keys), limit):
                found += self._marks.unmarked(keys[start : start + limit])
                if len(found) >= limit:
                    break
        return tuple(found[:limit])

    def mark(self, partition: str, marks: Sequence[Mark]) -> None:
        """See `EventLog`; each record is marked by itself, side by side with others."""
        with self._undamaged(partition):
            side_by_side(partial(self._marks.mark, self._pk(partition)), marks)

    # Lists

    def pending(self) -> tuple[str, ...]:
        """See `EventLog`; as the index shows them, and those that this process appended to."""
        with self._undamaged():
            self._shards.look()
        return tuple(sorted(self._index.pending() | self._counts.own_pending()))

    def partitions(self) -> tuple[str, ...]:
        """See `EventLog`; as the index shows them, and those that this process appended to or folded."""
        return tuple(sorted(self._folded() | set(self.pending())))

    def _folded(self) -> set[str]:
        heads = self._index.heads()
        return heads | self._counts.own_folded(heads)

    def survey(self) -> Mapping[str, Reached]:
        """See `EventLog`; the heads are read in batches, after the index has shown what is pending."""
        with self._undamaged():
            self._shards.look()
            versions = self._index.versions(rows.pending_cursors(self._shards.noted))
            for partition, version in self._counts.own_versions().items():
                versions[partition] = max(version, versions.get(partition, 0))
            found = {partition: Reached(version) for partition, version in versions.items()}
            for row in self._connection.batch_get(
                [self._head_key(each) for each in sorted(self._folded() | set(found))]
            ):
                partition = rows.partition_of(rows.text(row, "pk"))
                head = rows.head_of(row)
                version = max(head.version, versions.get(partition, 0))
                if version:  # else it is the head of a lease alone
                    found[partition] = Reached(version, head.reset)
        return found

    def watch(self) -> Watch:
        """See `EventLog`; late where the index is, and where a sync goes on for minutes."""
        return IndexWatch(self._connection, self.table, self._index, self._shards, self._counts, self.last_cursor)

    # Leases

    def lease(self, partition: str, owner: str, now: int, until: int) -> bool:
        """See `EventLog`; a conditional update of the head's row, which leaves its revision alone."""
        return self._leases.take(self._head_key(partition), owner, now, until)

    def release(self, partition: str, owner: str) -> None:
        """See `EventLog`."""
        self._leases.release(self._head_key(partition), owner)

    # Old segments

    def old_segments(self, partition: str) -> tuple[OldSegment, ...]:
        """See `EventLog`."""
        with self._undamaged(partition):
            return self._retired.listed(self._pk(partition))

    def forget_old_segments(self, partition: str, refs: Sequence[str]) -> None:
        """See `EventLog`."""
        with self._undamaged(partition):
            self._retired.forget(self._pk(partition), frozenset(refs))

    # Checkpoints

    def checkpoint(self, scope: str, name: str) -> Checkpoint | None:
        """See `EventLog`."""
        with self._undamaged():
            return self._checkpoints.get(scope, name)

    def checkpoints(self, scope: str, *, from_name: str = "") -> tuple[Checkpoint, ...]:
        """See `EventLog`."""
        with self._undamaged():
            return self._checkpoints.listed(scope, from_name)

    def move_checkpoint(self, move: CheckpointMove) -> bool:
        """See `EventLog`."""
        return self._checkpoints.move(move)

    def expire(self, now: int, limit: int, syncs_before: str) -> int:  # noqa: ARG002 -- the service does it by ttl
        """See `EventLog`; the service's own TTL deletes, so that nothing is requested here."""
        self._connection.check_open()
        return 0

    # Counts

    def knows_cursor(self, cursor: str) -> bool:
        """See `EventLog`."""
        key = rows.key_of(self._layer_pk, f"{rows.SYNC}{cursor}")
        return self._connection.get(key, ProjectionExpression="sk") is not None or (
            cursor != INITIAL and cursor == self.last_cursor()
        )

    def last_cursor(self) -> str:
        """See `EventLog`."""
        newest = self._connection.query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sync)",
            ExpressionAttributeValues={":pk": {"S": self._layer_pk}, ":sync": {"S": rows.SYNC}},
            ScanIndexForward=False,
            limit=1,
        )
        for row in newest:
            return rows.text(row, "sk").removeprefix(rows.SYNC)
        meta = self._connection.get(self._meta_key) or {}
        with self._undamaged():
            return rows.text(meta, "last_sync") if "last_sync" in meta else INITIAL

    def partition_state(self, partition: str, *, lag: float = 0) -> PartitionState:
        """See `EventLog`."""
        with self._undamaged(partition):
            return self._counts.partition(partition, lag)

    def layer_state(self, *, lag: float = 0) -> LayerState:
        """See `EventLog`; summed over all partitions, since no row is written by every append.

        With a lag it is summed anew after as many seconds, or twenty times as long as the summing took.
        """
        with self._undamaged():
            return self._counts.layer(lag, self._sum)

    def _sum(self) -> LayerState:
        pending = self.pending()
        meta = self._connection.get(self._meta_key)
        return self._counts.sum(self._folded(), pending, self.last_cursor(), rows.synced_times(meta))

    def costs(self, partition: str) -> LogCosts:
        """See `EventLog`; by the service's documented rules, see `dynalayer.units`."""
        with self._undamaged(partition):
            return estimate(self._connection, self.table, partition, self._shards)

    def usage(self) -> dict[str, Usage]:
        """See `EventLog`."""
        return self._connection.counter.sums()

    def close(self) -> None:
        """See `EventLog`; a client of the user's own stays open."""
        self._connection.close()
