"""Writes to the source table and their events, together in one transaction: all of it is done, or nothing.

Each try looks for the ends of the partitions, then reads the items that matter, then writes all on condition that
neither has moved. Records of a partition stand in the order in which the table was written: of two transactions on one
item the later one finds the earlier one's slot taken.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from dynalayer.appending import Appender, Batch
from dynalayer.capturing.places import Placed
from dynalayer.capturing.writes import Plan, Write
from dynalayer.errors import (
    AppendError,
    ConditionFailedError,
    ConflictError,
    InvalidInputError,
    TransactionError,
    TransactionReason,
)
from dynalayer.eventlog.base import Appended, Draft
from dynalayer.eventlog.dynamodb.failures import FailedCallError, TakenError
from dynalayer.eventlog.dynamodb.together import MAX_ACTIONS, Refusal, Refused, TooMuchError
from dynalayer.events import Event
from dynalayer.forking import Lock
from dynalayer.quoting import quoted
from dynalayer.side_by_side import side_by_side
from dynalayer.sourcing.tables import SourceTable, plain

if TYPE_CHECKING:
    from dynalayer.eventlog.dynamodb.together import Action

__all__ = ["Besides", "Transactions"]

Row = Mapping[str, Any]

_TRIES = 64  # each lost to another who wrote to one of the partitions or items meanwhile
_LOOKS = 3  # in a row at items that are in other partitions than a moment before
_PATIENCE = 30.0  # seconds after which what others were before at is not tried again
_LOCKS = 64  # by which the threads of a process take turns at a partition
_FAILED = "ConditionalCheckFailed"


class Besides(Protocol):
    """What is needed of an event log whose transactions may span other tables."""

    location: str

    def tail(self, partition: str) -> int:
        """See `EventLog`."""

    def append_beside(
        self, drafts: Sequence[Draft], tails: Mapping[str, int], actions: Sequence[Action]
    ) -> tuple[Appended, ...] | Refusal:
        """See `DynamoDBEventLog`."""

    def write_beside(self, action: Action) -> None:
        """See `DynamoDBEventLog`."""

    def row_beside(self, table: str, key: Row) -> Row | None:
        """See `DynamoDBEventLog`."""


class Transactions:
    """Makes writes, with their events.

    Args:
        log: The layer's event log.
        source: The table.
        appender: Makes records of changes.
    """

    def __init__(self, log: Besides, source: SourceTable, appender: Appender) -> None:
        self._log = log
        self._source = source
        self._appender = appender
        self._locks = [Lock() for _ in range(_LOCKS)]

    def make(self, writes: Sequence[Write], limit: int = MAX_ACTIONS) -> list[Event]:
        """Make writes, all of them or none.

        Args:
            writes: Each to another item.
            limit: Actions that one transaction may have.

        Returns:
            Their events, in order.

        Raises:
            TooMuchError: It is more than one transaction takes; nothing was written.
            InvalidInputError: One cannot be done to the item that is there; nothing was written.
            TransactionError: DynamoDB cancelled it for good; nothing was written.
            ConflictError: Others were before at each of a bounded number of tries; nothing was written.
            AppendError: It failed; says what is certain.
        """
        known = {write.partition for write in writes if write.partition is not None}
        with self._in_turn(known):
            attempt = _Attempt(self._log, self._source, self._appender, writes, limit)
            return attempt.make(known)

    @contextmanager
    def _in_turn(self, partitions: Collection[str]) -> Iterator[None]:
        """Let one thread of this process after the other at a partition: they would only be before each other."""
        places = sorted({zlib.crc32(partition.encode()) % _LOCKS for partition in partitions})
        with ExitStack() as stack:
            for place in places:  # in order, so that two never wait for each other
                stack.enter_context(self._locks[place])
            yield


class _Attempt:
    """Writes on their way."""

    def __init__(
        self, log: Besides, source: SourceTable, appender: Appender, writes: Sequence[Write], limit: int
    ) -> None:
        self._log = log
        self._source = source
        self._appender = appender
        self._writes = writes
        self._limit = limit
        self._tails: dict[str, int] = {}

    def make(self, known: Collection[str]) -> list[Event]:
        begun = time.monotonic()
        refused: Mapping[int, Plan] = {}
        for tries in range(1, _TRIES + 1):
            plans = self._planned(known)
            if plans is not None:
                written = self._written(plans)
                if not isinstance(written, Refusal):
                    return written
                refused = self._judge(written, plans, refused)
            self._tails.clear()
            if time.monotonic() - begun > _PATIENCE:
                break
            time.sleep(random.uniform(0, min(0.2, 0.005 * tries)))  # noqa: S311 -- jitter, no secret
        raise ConflictError(
            f"others wrote to the same items or partitions at each of {tries} tries; nothing was written: try again, "
            "or spread what is written over more partitions",
            retryable=True,
        )

    # Planning

    def _planned(self, known: Collection[str]) -> list[Plan] | None:
        """The plans, made after the ends of their partitions were looked for; None where items move on between.

        An update writes an event of the whole item, and no condition can name the attributes that are not there: that
        nobody has added one is known only by the partition's end, looked for before the item was read.
        """
        self._look(known)
        for _ in range(_LOOKS):
            plans = self._plans()
            later = {partition for plan in plans for partition, _ in plan.changes} - self._tails.keys()
            self._look(later)
            if not later or not any(plan.guard is not None and plan.guard.whole for plan in plans):
                return plans
        return None

    def _look(self, partitions: Collection[str]) -> None:
        for partition in partitions:
            self._tails[partition] = self._log.tail(partition)

    def _plans(self) -> list[Plan]:
        reading = [write for write in self._writes if write.reads]
        rows = dict(zip(map(id, reading), side_by_side(self._read, reading), strict=True)) if reading else {}
        return [write.plan(rows.get(id(write))) for write in self._writes]

    def _read(self, write: Write) -> Row | None:
        return self._log.row_beside(self._source.name, write.key_row)

    # Writing

    def _written(self, plans: Sequence[Plan]) -> list[Event] | Refusal:
        changes: list[Placed] = [change for plan in plans for change in plan.changes]
        actions: list[Action] = []
        for plan in plans:
            if plan.action is not None:
                kind, arguments = plan.action
                told = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"} if "ConditionExpression" in arguments else {}
                actions.append({kind: {"TableName": self._source.name, **arguments, **told}})
        if not changes:
            return self._asked(actions)
        try:
            batch = self._appender.batch(changes)
        except InvalidInputError as error:
            if len(plans) == 1:
                raise
            raise TooMuchError(error.message) from error
        if len(actions) + len(batch.drafts) > self._limit:
            raise TooMuchError(
                f"{len(actions) + len(batch.drafts)} actions in one transaction; {self._limit} are possible"
            )
        tails = {draft.partition: self._tails[draft.partition] for draft in batch.drafts}
        placed = self._appended(batch, tails, actions)
        return placed if isinstance(placed, Refusal) else batch.events(placed)

    def _appended(
        self, batch: Batch, tails: Mapping[str, int], actions: Sequence[Action]
    ) -> tuple[Appended, ...] | Refusal:
        try:
            return self._log.append_beside(batch.drafts, tails, actions)
        except AppendError as error:
            invalid = _invalid(error.__cause__)
            if invalid is None or set(error.outcomes.values()) != {"not written"}:
                raise
            raise InvalidInputError(invalid) from error

    def _asked(self, actions: Sequence[Action]) -> list[Event] | Refusal:
        """Whether the conditions hold of writes that change nothing."""
        for position, action in enumerate(actions):
            try:
                self._log.write_beside(action)
            except TakenError as error:
                return Refusal(overtaken=False, actions=(_refused(position, error),), cause=error.__cause__)
            except FailedCallError as error:
                invalid = _invalid(error)
                if invalid is None:
                    raise
                raise InvalidInputError(invalid) from error
        return []

    # Refusals

    def _judge(self, refusal: Refusal, plans: Sequence[Plan], before: Mapping[int, Plan]) -> dict[int, Plan]:
        """Raise where it cannot help to look again.

        Args:
            refusal: Why nothing was written.
            plans: The plans.
            before: What was returned for the try before: a write that only the log refused then proves nothing.

        Returns:
            The plans of the writes that were refused for what their items are, by number.

        Raises:
            TransactionError: A caller's condition does not hold, or DynamoDB refuses it for another reason.
        """
        asked = [number for number, plan in enumerate(plans) if plan.action is not None]
        failed: list[TransactionReason] = []
        again: dict[int, Plan] = {}
        conditions = True
        for each in refusal.actions:
            number = asked[each.position]
            write, plan = self._writes[number], plans[number]
            if each.code != _FAILED:
                conditions = False
            elif plan.guard is not None and _may_help(write, plan, before.get(number), each.row):
                again[number] = plan
                continue
            row = None if each.row is None else plain(each.row)
            failed.append(TransactionReason(self._source.name, write.key, each.code, each.message, row))
        if not failed:
            return again
        listed = "; ".join(f"{quoted(reason.key)}: {reason.code} ({reason.message})" for reason in failed[:5])
        if conditions:
            raise ConditionFailedError(
                f"the condition does not hold, and nothing was written: {listed}", reasons=failed
            ) from refusal.cause
        raise TransactionError(
            f"DynamoDB cancelled the transaction, and nothing was written: {listed}", reasons=failed
        ) from refusal.cause


def _may_help(write: Write, plan: Plan, before: Plan | None, row: Row | None) -> bool:
    """Whether a write was refused because the item is not what was read, rather than by the caller's own condition."""
    if plan.guard is None or not write.own.text:
        return True
    if before is not None and before.guard is not None and not plan.guard.changed(before.guard.there):
        return False  # twice the same item, twice refused
    return plan.guard.changed(row)


def _refused(position: int, error: TakenError) -> Refused:
    return Refused(position, _FAILED, "The conditional request failed", error.row)


def _invalid(error: BaseException | None) -> str | None:
    """What DynamoDB says of a request that it does not understand, as of a wrong expression."""
    if isinstance(error, FailedCallError) and error.code == "ValidationException":
        return f"DynamoDB does not take this: {error.message}"
    return None
