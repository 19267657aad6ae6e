"""Appending together with something else: records, checkpoints and other tables' items in one transaction.

What holds for every append holds here too: the records carry one nonce through all tries, the tail's reading is within
an hour of each, and a slot found taken is looked at before anything is said of it. Unlike an append by itself it does
not go on to the next slot: what was written beside the record may depend on what stands before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynalayer.errors import AppendError, ClosedError, EventLogError, InvalidInputError, LayerError, Outcome
from dynalayer.eventlog.base import Appended, Draft
from dynalayer.eventlog.checkpoints import CheckpointMove, check_move
from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.checkpoints import checkpoint_action
from dynalayer.eventlog.dynamodb.connection import PATIENCE, Connection, backoff
from dynalayer.eventlog.dynamodb.failures import FailedCallError, TakenError
from dynalayer.eventlog.dynamodb.rows import Row
from dynalayer.eventlog.dynamodb.slots import Known, Slots, StaleError
from dynalayer.units import item_size, write_units

__all__ = ["MAX_ACTIONS", "Action", "Refusal", "Refused", "Together", "TooMuchError"]

Action = Mapping[str, Any]
"""One action of a transaction, as the low-level client takes it: `{"Put": {"TableName": …, "Item": …}}`."""

MAX_ACTIONS = 100
"""Rows that one transaction may write."""

_MAX_BYTES = 4 * 1024 * 1024
_TRIES = 12  # that the service put off or did not answer
_MOVED_ON = "ConditionalCheckFailed"


@dataclass(frozen=True, slots=True)
class Refused:
    """An action that the service did not do, for which the whole transaction was cancelled.

    Attributes:
        position: Which of the actions given, from 0.
        code: The service's name for the reason, as `"ConditionalCheckFailed"`.
        message: What it says of it.
        row: The item that was there, where it tells; as the low-level client gives it.
    """

    position: int
    code: str
    message: str
    row: Row | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was written.

    Attributes:
        overtaken: Whether another appended to one of the partitions or moved one of the checkpoints: look again.
        actions: The actions that were refused.
        cause: What boto3 raised; None where nothing was sent.
    """

    overtaken: bool
    actions: tuple[Refused, ...] = ()
    cause: BaseException | None = None


class TooMuchError(InvalidInputError):
    """More than one transaction takes; nothing was sent."""


class Together:
    """Writes records and what belongs to them.

    Args:
        connection: The table.
        table: The layer's table.
        slots: Remembers tails.
        shards: Keys of the index over which pending records are spread.
    """

    def __init__(self, connection: Connection, table: str, slots: Slots, shards: int) -> None:
        self._connection = connection
        self._table = table
        self._slots = slots
        self._shards = shards

    def append(
        self,
        drafts: Sequence[Draft],
        tails: Mapping[str, int],
        checkpoints: Sequence[CheckpointMove],
        actions: Sequence[Action],
    ) -> tuple[Appended, ...] | Refusal:
        """Write all of it in one transaction, or nothing.

        Raises:
            AppendError: It failed; says what is certain.
            TooMuchError: It is more than one transaction takes; nothing was sent.
            EventLogError: The tails cannot be read.
            DamagedRowError: A row does not say what it should.
        """
        known = {draft.partition: self._known(draft.partition, tails[draft.partition]) for draft in drafts}
        if any(known[draft.partition].tail.version != tails[draft.partition] for draft in drafts):
            return Refusal(overtaken=True)
        attempt = _Attempt(self._connection, self._written(drafts, known, checkpoints, actions))
        sent = Known.moment()
        moved_on = True  # whatever comes: the next one looks for the tail anew, unless it is known then
        try:
            refusal = attempt.make([each.check for each in known.values()])
            moved_on = refusal is not None and refusal.overtaken
        except LayerError as error:
            if isinstance(error, ClosedError) and attempt.outcome == "not written":
                raise
            outcomes = dict.fromkeys((draft.partition for draft in drafts), attempt.outcome)
            not_written = attempt.outcome == "not written"
            retryable = error.retryable and not_written
            raise AppendError(error.message, outcomes=outcomes, retryable=retryable, operation=None) from error
        finally:
            for draft in drafts if moved_on else ():
                self._slots.forget(draft.partition)
        if refusal is not None:
            return refusal
        tails_now = {draft.partition: attempt.written.tail(draft.partition) for draft in drafts}
        for partition, tail in tails_now.items():
            self._slots.remember(partition, Known(tail, sent))
        return tuple(Appended(partition, tail.version, tail.at) for partition, tail in tails_now.items())

    def _known(self, partition: str, told: int) -> Known:
        """A partition's tail; looked for anew where the caller knows a newer one."""
        known = self._slots.known(partition)
        if known.tail.version < told:
            self._slots.forget(partition)
            known = self._slots.known(partition)
        return known

    def _written(
        self,
        drafts: Sequence[Draft],
        known: Mapping[str, Known],
        checkpoints: Sequence[CheckpointMove],
        actions: Sequence[Action],
    ) -> _Written:
        name = self._connection.name
        free = {"ConditionExpression": "attribute_not_exists(pk)", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        slots: dict[str, Row] = {}
        records: list[Action] = []
        parts: list[Action] = []
        for draft in drafts:
            pk = rows.partition_key(self._table, draft.partition)
            cursor = rows.pending_cursor(pk, self._shards)
            first, *others = rows.record_rows(pk, draft, known[draft.partition].tail, cursor)
            slots[draft.partition] = first
            records.append({"Put": {"TableName": name, "Item": first, **free}})
            parts += ({"Put": {"TableName": name, "Item": row}} for row in others)
        for move in checkpoints:
            check_move(move)
        moves = [checkpoint_action(name, self._table, move, drafts[0].nonce) for move in checkpoints]
        return _Written(slots, (*records, *moves, *parts, *actions), len(moves), len(actions))


@dataclass(frozen=True, slots=True)
class _Written:
    """What one transaction writes.

    Attributes:
        slots: The row of each partition's record, in the order of their actions, which come first.
        actions: All of it.
        moves: How many moves of checkpoints come after the records.
        given: How many actions of the caller's stand at the end.
    """

    slots: Mapping[str, Row]
    actions: tuple[Action, ...]
    moves: int
    given: int

    def __post_init__(self) -> None:
        if len(self.actions) > MAX_ACTIONS:
            raise TooMuchError(
                f"{len(self.actions)} rows in one transaction; DynamoDB takes {MAX_ACTIONS}: write less at once"
            )
        size = sum(map(_size_of, self.actions))
        if size > _MAX_BYTES:
            raise TooMuchError(f"{size} bytes in one transaction; DynamoDB takes {_MAX_BYTES}: write less at once")

    def tail(self, partition: str) -> rows.Tail:
        """The tail that a partition has with its record."""
        return rows.tail_of_record(self.slots[partition])

    @property
    def units(self) -> int:
        """Write units of all of it."""
        return sum(write_units(_size_of(action), transactional=True) for action in self.actions)


class _Attempt:
    """One transaction on its way, and what its tries may have done.

    Args:
        connection: The table.
        written: What it writes.

    Attributes:
        written: Likewise.
        outcome: What is certain where it fails.
    """

    def __init__(self, connection: Connection, written: _Written) -> None:
        self._connection = connection
        self.written = written
        self.outcome: Outcome = "not written"

    def make(self, checks: Sequence[Callable[[], None]]) -> Refusal | None:
        """Try until it is done, refused, or failed for good.

        Args:
            checks: Called before each sending; raise where a tail is too old to build on.

        Returns:
            Why nothing was written; None where all of it was.

        Raises:
            LayerError: It failed; `outcome` says what is certain.
        """

        def allowed() -> None:
            for check in checks:
                check()

        begun = time.monotonic()
        for tries in range(1, _TRIES + 1):
            try:
                self._connection.once(
                    "transact_write_items",
                    allowed=allowed,
                    failed_units=self.written.units,
                    TransactItems=self.written.actions,
                )
            except StaleError:
                return self._refused((), None)
            except TakenError as error:
                return self._refused(error.reasons, error.__cause__)
            except FailedCallError as error:
                if error.reasons and not error.retryable:
                    return self._refused(error.reasons, error.__cause__)
                last = tries == _TRIES or time.monotonic() - begun > PATIENCE
                if self._done_after(error, last=last):
                    return None
                time.sleep(backoff(tries))
            else:
                return None
        raise AssertionError("the last try returns or raises")

    def _done_after(self, error: FailedCallError, *, last: bool) -> bool:
        """Whether it was done although a try failed; False where it is to be tried again.

        Raises:
            FailedCallError: That cannot help, or was the last.
        """
        if error.certainty == "unknown":
            self.outcome = "unknown"
        if error.retryable and not last:
            return False
        if self.outcome == "unknown" and self._settled() == "written":
            return True
        raise error

    def _refused(self, reasons: Sequence[Mapping[str, Any]], cause: BaseException | None) -> Refusal | None:
        """What a transaction comes to that the service cancelled, or that was not sent any more."""
        codes = [str(reason.get("Code") or "None") for reason in reasons]
        slots = len(self.written.slots)
        slot_refused = any(code == _MOVED_ON for code in codes[:slots])
        if self.outcome == "unknown" or slot_refused:
            # By another's record, or by this very one: an earlier try whose answer was lost.
            settled = self._settled()
            if settled == "written":
                return None
            if settled == "unknown":
                raise EventLogError(
                    f"a transaction of {self._connection.location} was refused, of which an earlier try may still "
                    "arrive"
                )
        given = len(codes) - self.written.given
        refused = tuple(
            Refused(position - given, code, str(reasons[position].get("Message") or ""), reasons[position].get("Item"))
            for position, code in enumerate(codes)
            if position >= given and code != "None"
        )
        overtaken = not codes or _MOVED_ON in codes[:given]
        if not overtaken and not refused:  # a row of the log's own, for another reason than that others were before
            listed = ", ".join(sorted({code for code in codes if code != "None"}))
            raise EventLogError(f"{self._connection.location} cancelled a transaction for its own rows: {listed}")
        return Refusal(overtaken, refused, cause)

    def _settled(self) -> Outcome:
        """What is certain, by what stands in the slots where a try may have arrived or been refused."""
        for row in self.written.slots.values():
            try:
                key = rows.key_of(rows.text(row, "pk"), rows.text(row, "sk"))
                there = self._connection.once("get_item", Key=key, ConsistentRead=True).get("Item")
            except LayerError:
                return self.outcome
            if there is not None:
                self.outcome = "written" if there.get("nonce") == row["nonce"] else "not written"
                return self.outcome
        return self.outcome


def _size_of(action: Action) -> int:
    ((_, told),) = action.items()
    return item_size(told.get("Item") or {**told.get("Key", {}), **told.get("ExpressionAttributeValues", {})})
