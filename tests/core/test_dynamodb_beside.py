"""Records and other tables' items go in one transaction: all of it is there or nothing, whatever the network does."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from captured import source_table
from dynalayer import AppendError, DynamoDBEventLog, EventLogError, LayerError
from dynalayer.eventlog.base import Appended
from dynalayer.eventlog.checkpoints import CheckpointMove
from dynalayer.eventlog.dynamodb import connection, slots, together
from dynalayer.eventlog.dynamodb.together import Refusal, TooMuchError
from dynalayer.testing.dynamodb import Faults, FaultyDynamoDB

from .dynamodb_fakes import (
    Clocks,
    Fate,
    Held,
    Table,
    after,
    append,
    cancels,
    draft,
    fresh,
    lost_answer,
    lost_request,
    refuses,
    unreachable,
)

SOURCE = "users"


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """The clocks that the log looks at, which stand; and nobody waits."""
    clocks = Clocks()
    for module in (connection, slots, together):
        monkeypatch.setattr(module, "time", clocks)
    return clocks


@pytest.fixture
def source() -> str:
    return f"users-{secrets.token_hex(8)}"


@pytest.fixture
def table(moto_server: str, source: str) -> Iterator[Table]:
    with fresh(moto_server) as table, source_table(table.direct, source, {"id": "S"}):
        yield table


def put(source: str, identifier: str = "ann", **condition: Any) -> dict[str, Any]:
    told = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"} if condition else {}
    return {"Put": {"TableName": source, "Item": {"id": {"S": identifier}}, **condition, **told}}


def fresh_only(source: str) -> dict[str, Any]:
    return put(source, ConditionExpression="attribute_not_exists(id)")


def there(table: Table, source: str) -> list[str]:
    return sorted(row["id"]["S"] for row in table.direct.scan(TableName=source, ConsistentRead=True)["Items"])


def beside(log: DynamoDBEventLog, *actions: Any, nonce: str = "a", **more: Any) -> Any:
    return log.append_beside([draft(nonce, **more)], {"eu": log.tail("eu")}, actions)


def test_a_record_and_an_item_are_written_together(table: Table, source: str) -> None:
    log = table.open()
    assert beside(log, put(source)) == (Appended("eu", 1, 1),)
    assert (table.nonces(), there(table, source)) == (["a"], ["ann"])
    assert table.wire.operations().count("TransactWriteItems") == 1
    assert log.tail("eu") == 1
    assert table.wire.operations() == []  # it is remembered


def test_an_action_that_is_refused_is_told_and_nothing_is_written(table: Table, source: str) -> None:
    log = table.open()
    beside(log, put(source))
    table.wire.operations()
    move = CheckpointMove("reader", "", 0, b"1")
    refusal = log.append_beside([draft("b")], {"eu": 1}, [put(source, "bob"), fresh_only(source)], checkpoints=[move])
    assert isinstance(refusal, Refusal)
    assert not refusal.overtaken
    (refused,) = refusal.actions
    assert (refused.position, refused.code, refused.row) == (1, "ConditionalCheckFailed", {"id": {"S": "ann"}})
    assert isinstance(refusal.cause, ClientError)
    assert (table.nonces(), there(table, source)) == (["a"], ["ann"])
    assert log.checkpoint("reader", "") is None
    table.wire.operations()
    assert log.tail("eu") == 1
    assert table.wire.operations() == []  # nobody was before: the tail is known still


def test_one_who_was_overtaken_looks_anew(table: Table, source: str) -> None:
    log, other = table.open(), table.another()
    assert log.tail("eu") == 0
    append(other, "other")
    refusal = log.append_beside([draft("a")], {"eu": 0}, [put(source)])
    assert refusal.overtaken  # type: ignore[union-attr] # it is no tuple
    assert there(table, source) == []
    assert log.tail("eu") == 1
    assert beside(log, put(source))[0].version == 2


@pytest.mark.parametrize("fate", [lost_request, unreachable, refuses("InternalServerError", status=500)])
def test_a_lost_request_is_sent_again(table: Table, source: str, fate: Fate) -> None:
    table.wire.plan("TransactWriteItems", fate, fate)
    assert beside(table.open(), fresh_only(source)) == (Appended("eu", 1, 1),)
    assert (table.nonces(), there(table, source)) == (["a"], ["ann"])


def test_a_transaction_whose_answer_was_lost_is_known_by_its_nonce(table: Table, source: str) -> None:
    """Also where its own item is what a later try's condition meets."""
    table.wire.plan("TransactWriteItems", lost_answer)
    assert beside(table.open(), fresh_only(source)) == (Appended("eu", 1, 1),)
    assert (table.nonces(), there(table, source)) == (["a"], ["ann"])


def test_a_late_try_can_do_nothing_once_another_has_its_slot(table: Table, source: str) -> None:
    log, other, held = table.open(), table.another(), Held()
    table.wire.plan("TransactWriteItems", held, after(lambda: append(other, "other")))
    refusal = beside(log, put(source))
    assert refusal.overtaken
    assert held.arrive() == 400
    assert (table.nonces(), there(table, source)) == (["other"], [])


def test_a_late_try_that_was_followed_by_another_is_one(table: Table, source: str) -> None:
    log, held = table.open(), Held()
    table.wire.plan("TransactWriteItems", held)
    assert beside(log, put(source)) == (Appended("eu", 1, 1),)
    assert held.arrive() == 400
    assert (table.nonces(), there(table, source)) == (["a"], ["ann"])


def test_a_try_that_may_still_arrive_leaves_it_unknown(table: Table, source: str) -> None:
    """The item was in the way of a later try; it may be gone again when the first arrives."""
    log, held = table.open(), Held()
    row = {"id": {"S": "ann"}}
    block = after(lambda: table.direct.put_item(TableName=source, Item=row))
    table.wire.plan("TransactWriteItems", held, block)
    with pytest.raises(AppendError, match="an earlier try may still arrive") as caught:
        beside(log, fresh_only(source))
    assert caught.value.outcomes == {"eu": "unknown"}
    assert not caught.value.retryable
    table.direct.delete_item(TableName=source, Key=row)
    assert held.arrive() == 200
    assert (table.nonces(), there(table, source)) == (["a"], ["ann"])
    assert log.tail("eu") == 1


def test_what_the_slot_tells_settles_what_was_unknown(table: Table, source: str) -> None:
    log = table.open()
    table.wire.plan("TransactWriteItems", lost_answer, *[lost_request] * 11)
    assert beside(log, put(source)) == (Appended("eu", 1, 1),)
    table.wire.plan("TransactWriteItems", *[lost_request] * 12)
    with pytest.raises(AppendError) as caught:
        beside(log, put(source, "bob"), nonce="b")
    assert caught.value.outcomes == {"eu": "unknown"}


@pytest.mark.parametrize(
    "fate",
    [
        cancels("None", "TransactionConflict"),
        cancels("ThrottlingError", "None"),
        cancels("ConditionalCheckFailed", "TransactionConflict"),
        refuses("TransactionInProgressException"),
    ],
)
def test_what_the_service_puts_off_is_tried_again(table: Table, source: str, fate: Fate) -> None:
    table.wire.plan("TransactWriteItems", fate)
    assert beside(table.open(), put(source)) == (Appended("eu", 1, 1),)


def test_a_row_of_the_logs_own_that_is_refused_is_no_sign_that_others_were_before(table: Table, source: str) -> None:
    table.wire.plan("TransactWriteItems", cancels("ValidationError", "None"))
    with pytest.raises(AppendError, match="cancelled a transaction for its own rows: ValidationError") as caught:
        beside(table.open(), put(source))
    assert caught.value.outcomes == {"eu": "not written"}


def test_a_tail_that_was_read_too_long_ago_is_not_built_on(table: Table, source: str, clocks: Clocks) -> None:
    log = table.open()

    def sleep() -> None:
        clocks.wall += 3601  # the machine, which no other clock shows

    table.wire.plan("TransactWriteItems", after(sleep, refuses("ThrottlingException")))
    assert beside(log, put(source)).overtaken
    assert (table.nonces(), there(table, source)) == ([], [])


def test_more_than_a_transaction_takes_is_refused_before_it_is_sent(table: Table, source: str) -> None:
    log = table.open()
    log.tail("eu")
    table.wire.operations()
    with pytest.raises(TooMuchError, match="101 rows in one transaction"):
        beside(log, *[put(source, str(number)) for number in range(100)])
    large = {"Put": {"TableName": source, "Item": {"id": {"S": "a"}, "raw": {"B": bytes(390_000)}}}}
    with pytest.raises(TooMuchError, match="bytes in one transaction"):
        beside(log, *[large] * 11)
    assert "TransactWriteItems" not in table.wire.operations()


@pytest.mark.parametrize("seed", range(2))
def test_through_faults_the_items_are_those_of_the_records(moto_server: str, source: str, seed: int) -> None:
    faults = Faults(lost_request=0.1, late_request=0.1, lost_answer=0.1, late_answer=0.05, throttle=0.1, lateness=0.3)
    with (
        FaultyDynamoDB(moto_server, seed=seed, faults=faults) as proxy,
        fresh(proxy.url, behind=moto_server) as table,
        source_table(table.direct, source, {"id": "S"}),
    ):
        log, told = _patient(table), {}
        for number in range(20):
            nonce = f"n{number}"
            try:
                result = beside(log, put(source, nonce), nonce=nonce)
                told[nonce] = "not written" if isinstance(result, Refusal) else "written"
            except AppendError as error:
                told[nonce] = error.outcomes["eu"]
            except LayerError:
                told[nonce] = "not written"  # the tail could not be read
        proxy.settle()
        written = table.nonces()
        assert there(table, source) == sorted(written)
        assert len(set(written)) == len(written)
        assert {nonce for nonce, outcome in told.items() if outcome == "written"} <= set(written)
        assert not {nonce for nonce, outcome in told.items() if outcome == "not written"} & set(written)


def _patient(table: Table) -> DynamoDBEventLog:
    for _ in range(20):
        try:
            return table.open()
        except EventLogError:
            continue
    raise TimeoutError("the log cannot be opened")
