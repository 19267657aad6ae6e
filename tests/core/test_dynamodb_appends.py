"""An append to the DynamoDB log is one record or none, whatever the network, the service and the clocks do."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import NoCredentialsError, ReadTimeoutError

from dynalayer import AppendError, EventLogError, InvalidInputError, Layer
from dynalayer.eventlog.base import Appended, Mark
from dynalayer.eventlog.dynamodb import connection, moves, rows, slots
from dynalayer.testing.dynamodb import FaultyDynamoDB
from fakes import put

from .dynamodb_fakes import (
    TRIES,
    Clocks,
    Fate,
    Held,
    Table,
    after,
    append,
    cancels,
    draft,
    elsewhere,
    folds,
    fresh,
    lost_answer,
    lost_request,
    page,
    refuses,
    unreachable,
)

HOUR = 3600
BUSY = (
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionConflictException",
)
LARGE = bytes(range(256))  # in three parts, where a part is as small as `small_parts` makes it


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """The clocks that the log looks at, which stand; and nobody waits."""
    clocks = Clocks()
    for module in (connection, moves, slots):
        monkeypatch.setattr(module, "time", clocks)
    return clocks


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PART_BYTES", 100)


@pytest.fixture
def table(moto_server: str) -> Iterator[Table]:
    with fresh(moto_server) as table:
        yield table


@pytest.fixture(params=["moto_server", "dynamodb_local"])
def each(request: pytest.FixtureRequest) -> Iterator[Table]:
    """A table in each service: DynamoDB Local does not tell which row it was that a condition met."""
    with fresh(request.getfixturevalue(request.param)) as table:
        yield table


@pytest.fixture(params=["PutItem", "TransactWriteItems"])
def operation(request: pytest.FixtureRequest, small_parts: None) -> str:
    """By which a record is written: one row, or a transaction of parts."""
    operation: str = request.param
    return operation


def payload(operation: str) -> bytes:
    return b"events" if operation == "PutItem" else LARGE


def failed(log: Any, *drafts: Any) -> AppendError:
    with pytest.raises(AppendError) as caught:
        log.append(drafts)
    return caught.value


# Lost, late, taken


@pytest.mark.parametrize("fate", [lost_request, unreachable, refuses("InternalServerError", status=500)])
def test_a_lost_request_is_sent_again_and_makes_one_record(table: Table, operation: str, fate: Fate) -> None:
    log = table.open()
    table.wire.plan(operation, fate, fate)
    assert append(log, "a", payload=payload(operation)) == 1
    assert table.wire.operations()[-3:] == [operation] * 3
    (record,) = log.read("eu", 0).records
    assert (record.nonce, record.payload) == ("a", payload(operation))


def test_a_record_whose_answer_was_lost_is_known_by_its_nonce(each: Table, operation: str) -> None:
    log = each.open()
    append(log, "a")
    each.wire.plan(operation, lost_answer)
    (appended,) = log.append([draft("b", at=7, count=3, payload=payload(operation))])
    assert appended == Appended("eu", 2, 7)
    assert append(log, "c") == 3
    assert each.nonces() == ["a", "b", "c"]
    assert [record.events_total for record in log.read("eu", 0).records] == [1, 4, 5]


def test_a_record_is_known_also_where_answer_after_answer_is_lost(table: Table, operation: str) -> None:
    log = table.open()
    table.wire.plan(operation, *[lost_answer] * (TRIES - 1))
    assert append(log, "a", payload=payload(operation)) == 1
    assert table.nonces() == ["a"]


def test_a_late_request_that_arrives_after_the_retry_changes_nothing(each: Table, operation: str) -> None:
    log, held = each.open(), Held()
    each.wire.plan(operation, held)
    assert append(log, "a", payload=payload(operation)) == 1
    before = each.rows()
    assert held.arrive() == 400
    assert each.rows() == before
    assert append(log, "b") == 2


def test_a_late_request_that_arrives_before_the_retry_is_the_record(table: Table, operation: str) -> None:
    log, held = table.open(), Held()
    table.wire.plan(operation, held, after(held.arrive))
    assert append(log, "a", payload=payload(operation)) == 1
    assert table.nonces() == ["a"]


def test_a_slot_taken_by_another_leads_straight_to_the_next(each: Table, operation: str) -> None:
    log, other = each.open(), each.another()
    append(log, "a")
    assert [append(other, nonce) for nonce in "bc"] == [2, 3]
    each.wire.operations()
    assert append(log, "d", payload=payload(operation)) == 4
    sent = each.wire.operations()
    assert sent.count(operation) == 3
    assert set(sent) <= {operation, "GetItem"}  # which is needed where the service does not show the row
    assert each.nonces() == ["a", "b", "c", "d"]
    assert [record.events_total for record in log.read("eu", 0).records] == [1, 2, 3, 4]


def test_a_row_that_the_service_shows_is_not_asked_for(table: Table) -> None:
    log, other = table.open(), table.another()
    append(log, "a")
    append(other, "b")
    table.wire.operations()
    append(log, "c")
    assert table.wire.operations() == ["PutItem", "PutItem"]


def test_after_four_taken_slots_in_a_row_the_tail_is_looked_for_anew(table: Table) -> None:
    log, other = table.open(), table.another()
    append(log, "mine-1")
    for number in range(10):
        append(other, f"other-{number}")
    table.wire.operations()
    assert append(log, "mine-2") == 12
    assert table.wire.operations() == ["PutItem"] * 4 + ["Query", "PutItem"]


def test_an_append_gives_up_where_others_take_slot_after_slot(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_TAKEN", 6)
    log, other = table.open(), table.another()
    table.wire.plan("PutItem", *[after(lambda: append(other, secrets.token_hex(4)))] * 6)
    error = failed(log, draft("mine"))
    assert error.outcomes == {"eu": "not written"}
    assert error.retryable
    assert "6 slots in a row" in error.message
    assert append(log, "mine") == 7


def test_an_unknown_outcome_at_a_slot_that_is_anothers_goes_on_to_the_next(each: Table, operation: str) -> None:
    log, other, held = each.open(), each.another(), Held()
    each.wire.plan(operation, held, after(lambda: append(other, "b")))
    assert append(log, "a", payload=payload(operation)) == 2
    assert held.arrive() == 400
    assert each.nonces() == ["b", "a"]


def test_a_slot_whose_outcome_is_unknown_is_tried_until_it_is_known(table: Table) -> None:
    log, held = table.open(), Held()
    table.wire.plan("PutItem", held, *[refuses("ThrottlingException")] * 5)
    assert append(log, "a") == 1
    tried = [each.body["Item"]["sk"]["S"] for each in table.wire.sent if each.operation == "PutItem"]
    assert tried == [rows.slot(1)] * 7


def test_threads_with_stale_tails_write_one_record_each(table: Table) -> None:
    logs = [table.open(), table.another(), table.open()]
    with ThreadPoolExecutor(len(logs)) as pool:
        list(pool.map(lambda log: [append(log, secrets.token_hex(8)) for _ in range(8)], logs))
    assert len(set(table.nonces())) == 24


# What is certain at the end


def test_a_set_that_failed_says_of_each_partition_what_is_certain(table: Table) -> None:
    log = table.open()
    table.wire.plan("PutItem", *[lost_request] * TRIES, about="users#unknown")
    table.wire.plan("PutItem", refuses("AccessDeniedException"), about="users#refused")
    error = failed(log, *(draft("n", partition) for partition in ("written", "refused", "unknown")))
    assert error.outcomes == {"written": "written", "refused": "not written", "unknown": "unknown"}
    assert not error.retryable
    assert [table.nonces(partition) for partition in error.outcomes] == [["n"], [], []]


def unread(request: AWSPreparedRequest) -> None:
    raise ReadTimeoutError(endpoint_url=request.url)


def test_an_append_that_was_given_up_without_an_answer_is_unknown(table: Table, operation: str) -> None:
    log = table.open()
    table.wire.plan(operation, *[lost_request] * TRIES)
    error = failed(log, draft("n", payload=payload(operation)))
    assert error.outcomes == {"eu": "unknown"}
    assert not error.retryable
    assert table.wire.operations()[-TRIES - 1 :] == [*[operation] * TRIES, "GetItem"]
    assert table.nonces() == []


def test_before_an_append_is_called_unknown_its_slot_is_looked_at_once(each: Table, operation: str) -> None:
    log = each.open()
    each.wire.plan(operation, *[lost_answer] * TRIES)
    (appended,) = log.append([draft("a", at=7, payload=payload(operation))])
    assert appended == Appended("eu", 1, 7)
    each.wire.plan(operation, lost_answer, refuses("AccessDeniedException"))
    assert append(log, "b", payload=payload(operation)) == 2
    assert each.nonces() == ["a", "b"]


def test_a_slot_that_cannot_be_looked_at_leaves_the_outcome_unknown(table: Table, operation: str) -> None:
    log = table.open()
    table.wire.plan(operation, lost_answer, refuses("AccessDeniedException"))
    table.wire.plan("GetItem", unread)
    assert failed(log, draft("n", payload=payload(operation))).outcomes == {"eu": "unknown"}
    assert table.wire.operations()[-3:] == [operation, operation, "GetItem"]
    assert table.nonces() == ["n"]


def test_a_slot_that_another_took_in_the_end_tells_that_nothing_was_written(table: Table, operation: str) -> None:
    log, other = table.open(), table.another()
    table.wire.plan(operation, *[lost_request] * (TRIES - 1), after(lambda: append(other, "b"), lost_request))
    error = failed(log, draft("n", payload=payload(operation)))
    assert error.outcomes == {"eu": "not written"}
    assert error.retryable
    assert table.nonces() == ["b"]


def test_an_append_that_was_only_put_off_may_be_tried_again(table: Table, operation: str) -> None:
    log = table.open()
    for partition in ("eu", "us"):
        table.wire.plan(operation, *[refuses("ThrottlingException")] * TRIES, about=f"users#{partition}")
    drafts = [draft("n", partition, payload=payload(operation)) for partition in ("eu", "us")]
    error = failed(log, *drafts)
    assert error.outcomes == {"eu": "not written", "us": "not written"}
    assert error.retryable
    assert [each.version for each in log.append(drafts)] == [1, 1]


def test_what_is_written_in_part_must_not_be_set_again_as_a_whole(table: Table) -> None:
    log = table.open()
    table.wire.plan("PutItem", *[refuses("ThrottlingException")] * TRIES, about="users#eu")
    error = failed(log, draft("n", "eu"), draft("n", "us"))
    assert error.outcomes == {"eu": "not written", "us": "written"}
    assert not error.retryable


def test_what_was_refused_for_good_is_not_to_be_tried_again(table: Table) -> None:
    log = table.open()
    table.wire.plan("PutItem", refuses("ValidationException"))
    error = failed(log, draft("n"))
    assert error.outcomes == {"eu": "not written"}
    assert not error.retryable


def test_a_refusal_after_a_lost_request_leaves_the_outcome_unknown(table: Table, operation: str) -> None:
    log = table.open()
    table.wire.plan(operation, lost_request, refuses("AccessDeniedException"))
    error = failed(log, draft("n", payload=payload(operation)))
    assert error.outcomes == {"eu": "unknown"}
    assert table.nonces() == []


def test_an_unknown_outcome_is_known_once_another_has_the_slot(table: Table) -> None:
    log, other, held = table.open(), table.another(), Held()
    table.wire.plan("PutItem", held, after(lambda: append(other, "b")), refuses("AccessDeniedException"))
    assert failed(log, draft("n")).outcomes == {"eu": "not written"}
    assert held.arrive() == 400
    assert table.nonces() == ["b"]


def test_the_layers_error_tells_the_outcomes_too(table: Table, tmp_path: Path) -> None:
    layer = table.layer(tmp_path, get_item_partition="at")
    table.wire.plan("PutItem", *[lost_request] * TRIES, about="users#us")
    with pytest.raises(AppendError, match="'us': unknown") as caught:
        layer.set([put("a", at="eu"), put("b", at="us")])
    assert caught.value.outcomes == {"eu": "written", "us": "unknown"}
    assert caught.value.operation == "set"
    assert layer.get("eu") == [{"id": "a", "at": "eu"}]
    assert layer.get("us") == []


@pytest.mark.parametrize("code", BUSY)
def test_what_puts_an_append_off_is_waited_out(table: Table, operation: str, code: str, clocks: Clocks) -> None:
    log = table.open()
    clocks.waits.clear()
    table.wire.plan(operation, *[refuses(code)] * (TRIES - 1))
    assert append(log, "a", payload=payload(operation)) == 1
    assert len(clocks.waits) == TRIES - 1
    assert all(0 <= wait <= 2 for wait in clocks.waits)
    assert table.nonces() == ["a"]


@pytest.mark.parametrize(
    "reasons",
    [
        ("TransactionConflict", "None", "None", "None"),
        ("None", "ThrottlingError", "None", "None"),
        ("None", "None", "ProvisionedThroughputExceeded", "None"),
        ("ConditionalCheckFailed", "TransactionConflict", "None", "None"),  # by what a conflict undid, perhaps
    ],
)
def test_a_transaction_cancelled_by_a_conflict_is_tried_again(
    table: Table, small_parts: None, reasons: tuple[str, ...]
) -> None:
    log = table.open()
    table.wire.plan("TransactWriteItems", *[cancels(*reasons)] * 3)
    assert append(log, "a", payload=LARGE) == 1
    assert table.wire.operations().count("TransactWriteItems") == 4
    assert table.nonces() == ["a"]


@pytest.mark.parametrize("code", ["ConditionalCheckFailed", "TransactionConflict"])
def test_a_cancelled_transaction_is_counted_as_one_that_goes_through(
    table: Table, small_parts: None, code: str
) -> None:
    """Also where the service shows the row that was met, which is one of several."""
    log, other = table.open(), table.another()
    append(other, "b")
    row = {name: value for name, value in table.rows()[rows.slot(1)].items() if name != "events"}
    reasons = [{"Code": code, "Item": row}, *[{"Code": "None"}] * 3]
    cancelled = refuses("TransactionCanceledException", CancellationReasons=reasons)
    table.wire.plan("TransactWriteItems", cancelled, refuses("AccessDeniedException"))
    before = log.usage()["other"].write_units
    assert failed(log, draft("n", payload=LARGE)).outcomes == {"eu": "not written"}
    assert log.usage()["other"].write_units - before == 8  # a header and three parts, twice 1 KB each


def test_a_transaction_cancelled_for_good_is_not_tried_again(table: Table, small_parts: None) -> None:
    log = table.open()
    table.wire.plan("TransactWriteItems", cancels("None", "ItemCollectionSizeLimitExceeded", "None", "None"))
    error = failed(log, draft("n", payload=LARGE))
    assert error.outcomes == {"eu": "not written"}
    assert not error.retryable
    assert table.wire.operations().count("TransactWriteItems") == 1


# Sent once


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
@pytest.mark.parametrize("fate", [lost_answer, lost_request, refuses("InternalServerError", status=500)])
def test_a_client_with_retries_of_its_own_sends_an_append_once_a_call(
    moto_server: str, operation: str, mode: str, fate: Fate, monkeypatch: pytest.MonkeyPatch, clocks: Clocks
) -> None:
    monkeypatch.setattr("botocore.endpoint.time", clocks)
    with fresh(moto_server, retries={"mode": mode, "total_max_attempts": 5}) as table:
        log = table.open()
        table.wire.plan(operation, fate, fate)
        assert append(log, "a", payload=payload(operation)) == 1
        sent = table.wire.operations().count(operation)
        assert sent == table.wire.calls[operation] == 3
        assert table.nonces() == ["a"]


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
@pytest.mark.parametrize("fate", [refuses("ProvisionedThroughputExceededException"), unreachable])
def test_what_the_service_said_first_counts_where_a_client_would_have_sent_it_again(
    moto_server: str, operation: str, mode: str, fate: Fate, monkeypatch: pytest.MonkeyPatch, clocks: Clocks
) -> None:
    monkeypatch.setattr("botocore.endpoint.time", clocks)
    # An adaptive client that was throttled lets itself send one request every two seconds.
    monkeypatch.setattr("botocore.retries.bucket.TokenBucket._sleep_amount", lambda bucket, amount: 0.0)
    with fresh(moto_server, retries={"mode": mode, "total_max_attempts": 5}) as table:
        log = table.open()
        table.wire.plan(operation, *[fate] * TRIES)
        error = failed(log, draft("n", payload=payload(operation)))
        assert error.outcomes == {"eu": "not written"}
        assert error.retryable
        assert table.wire.operations().count(operation) == TRIES


def test_what_may_run_twice_is_left_to_the_clients_own_retries(
    moto_server: str, monkeypatch: pytest.MonkeyPatch, clocks: Clocks
) -> None:
    monkeypatch.setattr("botocore.endpoint.time", clocks)
    with fresh(moto_server, retries={"mode": "standard", "total_max_attempts": 5}) as table:
        log = table.open()
        table.wire.plan("Query", lost_answer, lost_request)
        log.read("eu", 0)
        assert table.wire.operations().count("Query") == 3
        assert table.wire.calls["Query"] == 1


# Answers that are not DynamoDB's


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("status", [200, 204, 302, 403, 408, 502])
def test_a_page_of_something_between_is_neither_an_acknowledgement_nor_a_refusal(
    table: Table, operation: str, status: int, done: bool
) -> None:
    log = table.open()
    table.wire.plan(operation, page(status, done=done))
    assert append(log, "a", payload=payload(operation)) == 1
    assert table.nonces() == ["a"]
    assert [record.payload for record in log.read("eu", 0).records] == [payload(operation)]


@pytest.mark.parametrize("status", [200, 408])
def test_where_something_else_answers_for_good_the_error_says_where_to_look(table: Table, status: int) -> None:
    log = table.open()
    table.wire.plan("PutItem", *[page(status)] * TRIES)
    error = failed(log, draft("n"))
    assert error.outcomes == {"eu": "unknown"}
    assert "perhaps not DynamoDB" in error.message
    assert "endpoint_url" in error.message
    table.wire.plan("Query", page(status), page(status))
    assert log.read("eu", 0).records == ()
    table.wire.plan("Query", *[page(status)] * TRIES)
    with pytest.raises(EventLogError, match="perhaps not DynamoDB") as caught:
        log.read("eu", 0)
    assert caught.value.retryable


# An hour


def leap(clocks: Clocks, by: str, seconds: float) -> None:
    """A while passes as one clock has it; the other stands, or was set back."""
    match by:
        case "boot":  # a machine that slept with its wall clock stopped
            clocks.boot += seconds
        case "wall":  # a system without a clock that counts sleep
            clocks.wall += seconds
        case "boot, and the wall clock was set back":
            clocks.boot += seconds
            clocks.wall -= 10 * seconds


LEAPS = ("boot", "wall", "boot, and the wall clock was set back")


@pytest.mark.parametrize("by", LEAPS)
def test_a_tail_is_remembered_for_an_hour_by_the_larger_of_two_clocks(table: Table, clocks: Clocks, by: str) -> None:
    log = table.open()
    append(log, "a")
    table.wire.operations()
    leap(clocks, by, HOUR - 1)
    append(log, "b")
    assert table.wire.operations() == ["PutItem"]
    leap(clocks, by, HOUR + 1)
    append(log, "c")
    assert table.wire.operations() == ["Query", "PutItem"]


def test_a_wall_clock_that_was_set_back_alone_makes_no_tail_older(table: Table, clocks: Clocks) -> None:
    log = table.open()
    append(log, "a")
    table.wire.operations()
    clocks.wall -= 100 * HOUR
    append(log, "b")
    assert table.wire.operations() == ["PutItem"]


def fold_and_expire(log: Any, table: Table) -> None:
    """What happens while a process sleeps for days: all is folded, marked, and expires."""
    move = folds(log)
    assert log.move_head("eu", move)
    marks = [Mark(each.version, each.nonce, move.head.cursor, 1) for each in log.unmarked("eu", move.head.version, 100)]
    log.mark("eu", marks)
    assert all("ttl" in row for sk, row in table.rows().items() if sk != rows.HEAD_KEY)
    table.delete(*(sk for sk in table.rows() if sk[0].isdigit()))


@pytest.mark.parametrize("by", LEAPS)
def test_a_process_suspended_right_before_it_sends_looks_for_the_tail_anew(
    table: Table, operation: str, clocks: Clocks, by: str
) -> None:
    log, other = table.open(), table.another()
    append(log, "a")
    table.wire.operations()

    def sleep() -> None:
        append(other, "b")
        fold_and_expire(other, table)
        leap(clocks, by, HOUR + 1)

    def suspend(**_: Any) -> None:  # after the signing, before the sending
        if sleeps:
            elsewhere(sleeps.pop())

    sleeps = [sleep]
    table.client.meta.events.register_last(f"request-created.dynamodb.{operation}", suspend)
    (appended,) = log.append([draft("c", at=9, count=5, payload=payload(operation))])
    assert appended == Appended("eu", 3, 9)
    assert table.wire.operations() == ["Query", operation]
    (record,) = log.read("eu", 2).records
    assert record.events_total == 7


def test_a_retry_more_than_an_hour_after_the_tail_was_read_begins_anew(
    table: Table, operation: str, clocks: Clocks
) -> None:
    log, other = table.open(), table.another()
    append(log, "a")
    table.wire.operations()

    def meanwhile() -> None:
        append(other, "b")
        fold_and_expire(other, table)
        leap(clocks, "boot", HOUR + 1)

    table.wire.plan(operation, after(meanwhile, refuses("ThrottlingException")))
    assert append(log, "c", payload=payload(operation)) == 3
    assert table.wire.operations() == [operation, "Query", operation]


def test_slots_taken_by_others_do_not_prolong_the_hour(table: Table, clocks: Clocks) -> None:
    log, other = table.open(), table.another()
    append(log, "a")
    for nonce in "bc":
        append(other, nonce)
    table.wire.operations()
    clocks.advance(HOUR - 10)
    table.wire.plan("PutItem", after(lambda: clocks.advance(20)))
    assert append(log, "d") == 4
    assert table.wire.operations() == ["PutItem", "Query", "PutItem"]


def test_an_unknown_outcome_of_an_hour_ago_stays_unknown(table: Table, operation: str, clocks: Clocks) -> None:
    log, held = table.open(), Held()
    append(log, "a")
    table.wire.operations()

    def lose_and_sleep(request: AWSPreparedRequest) -> None:
        clocks.advance(HOUR + 1)
        held(request)

    table.wire.plan(operation, lose_and_sleep)
    error = failed(log, draft("b", payload=payload(operation)))
    assert error.outcomes == {"eu": "unknown"}
    assert not error.retryable
    assert table.wire.operations() == [operation, "GetItem"]


def test_a_record_that_arrived_more_than_an_hour_ago_is_a_success(table: Table, operation: str, clocks: Clocks) -> None:
    log = table.open()
    append(log, "a")

    def put_and_sleep(request: AWSPreparedRequest) -> None:
        clocks.advance(HOUR + 1)
        lost_answer(request)

    table.wire.plan(operation, put_and_sleep)
    assert append(log, "b", payload=payload(operation)) == 2
    assert append(log, "c") == 3
    assert table.nonces() == ["a", "b", "c"]


def test_a_record_recognised_late_vouches_no_longer_than_the_tail_before_it(table: Table, clocks: Clocks) -> None:
    log = table.open()
    append(log, "a")
    clocks.advance(HOUR / 2)
    table.wire.plan("PutItem", lost_answer)
    append(log, "b")
    table.wire.operations()
    clocks.advance(HOUR / 2 + 1)
    append(log, "c")
    assert table.wire.operations() == ["Query", "PutItem"]


# Remembered tails


def test_a_second_append_is_one_request(table: Table, operation: str) -> None:
    log = table.open()
    append(log, "a", payload=payload(operation))
    table.wire.operations()
    append(log, "b", payload=payload(operation))
    assert table.wire.operations() == [operation]


def test_a_second_set_of_a_layer_is_one_request_for_each_partition(table: Table, tmp_path: Path) -> None:
    layer = table.layer(tmp_path, get_item_partition="at")
    for _ in range(2):
        table.wire.operations()
        layer.set([put("a", at="eu"), put("b", at="us"), put("c", at="eu")])
    assert table.wire.operations() == ["PutItem", "PutItem"]


def test_no_more_tails_are_remembered_than_the_bound(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_REMEMBERED", 3)
    log = table.open()
    for partition in ("a", "b", "c", "a", "d"):
        append(log, "n", partition)
    asked = {}
    for partition in ("a", "c", "d", "b"):
        table.wire.operations()
        append(log, "n", partition)
        asked[partition] = table.wire.operations()
    once = ["PutItem"]
    assert asked == {"a": once, "c": once, "d": once, "b": ["Query", "PutItem"]}


def test_an_append_that_failed_leaves_no_tail_that_misleads_the_next(table: Table) -> None:
    log = table.open()
    table.wire.plan("PutItem", *[lost_answer] * TRIES)
    table.wire.plan("GetItem", unread)
    assert failed(log, draft("a")).outcomes == {"eu": "unknown"}
    assert append(log, "b") == 2
    assert table.nonces() == ["a", "b"]


# Parts


@pytest.mark.parametrize("size", [400_000, 400_001, 4_000_000])
def test_a_large_record_is_written_in_one_request_within_the_limits_and_comes_back_byte_for_byte(
    moto_server: str, size: int
) -> None:
    content = secrets.token_bytes(size)
    partition = "p" * 512
    with FaultyDynamoDB(moto_server) as proxy, fresh(proxy.url) as table:
        log = table.open()
        table.wire.operations()
        assert append(log, "a", partition, payload=content) == 1
        if size <= 400_000:
            assert table.wire.operations() == ["Query", "PutItem"]
        else:
            assert len(table.wire.sent[-1].body["TransactItems"]) == 1 + -(-size // 400_000)
            assert table.wire.operations() == ["Query", "TransactWriteItems"]
        assert append(log, "b", partition) == 2
        first, second = log.read(partition, 0).records
        assert first.payload == content
        assert second.bytes_total == size + 6
        assert "limit" not in proxy.told


def test_a_record_over_the_limit_is_refused_before_any_request(table: Table, tmp_path: Path) -> None:
    layer = table.layer(tmp_path)
    table.wire.operations()
    with pytest.raises(InvalidInputError, match="4000000"):
        layer.set([put("small"), put("large", content=secrets.token_bytes(4_100_000))])
    assert table.wire.operations() == []


def test_a_draft_over_the_limit_is_refused_before_any_of_its_set_is_written(table: Table) -> None:
    log = table.open()
    table.wire.operations()
    with pytest.raises(AppendError, match=r"4000001 bytes.*4000000") as caught:
        log.append([draft("n", "us"), draft("n", "eu", payload=bytes(4_000_001))])
    assert caught.value.outcomes == {"us": "not written", "eu": "not written"}
    assert table.wire.operations() == []


def big(identifier: str) -> dict[str, Any]:
    return put(identifier, content=secrets.token_bytes(250))


def parts_of(found: dict[str, Any], version: int) -> list[str]:
    return [sk for sk in found if sk.startswith(f"{rows.slot(version)}#")]


def layer_that_lacks_a_part(table: Table, folder: Path, position: int) -> Layer:
    layer = table.layer(folder)
    layer.set([put("a")])
    layer.set([big("b")])
    layer.set([put("c")])
    parts = parts_of(table.rows(""), 2)
    assert len(parts) >= 3
    table.delete(parts[position], partition="")
    return layer


@pytest.mark.parametrize("position", [0, 1, -1])
def test_a_record_that_lacks_a_part_is_missed_by_name_and_never_read_around(
    table: Table, tmp_path: Path, small_parts: None, position: int
) -> None:
    layer = layer_that_lacks_a_part(table, tmp_path, position)
    assert [record.version for record in table.open().read("", 0).records] == [1, 3]
    with pytest.raises(EventLogError, match=r"record 2 in .* is missing"):
        layer.get()


def test_a_record_that_lacks_a_part_is_never_folded_around(table: Table, tmp_path: Path, small_parts: None) -> None:
    layer = layer_that_lacks_a_part(table, tmp_path, 1)
    assert layer.sync().count == 1  # what comes before it
    with pytest.raises(EventLogError, match=r"record 2 in .* is missing"):
        layer.sync()
    assert [(each.subject, each.problem) for each in layer.verify().findings] == [
        ("record 2", "is missing: the next one kept is 3")
    ]


def test_parts_without_their_header_are_no_tail_to_build_on(table: Table, small_parts: None) -> None:
    append(table.open(), "a", payload=LARGE)
    table.delete(rows.slot(1))
    error = failed(table.open(), draft("b"))
    assert error.outcomes == {"eu": "not written"}
    assert "has parts and no header" in error.message


def test_the_newest_record_in_parts_is_found_by_a_log_that_begins(table: Table, small_parts: None) -> None:
    append(table.open(), "a", payload=LARGE, at=50, count=7)
    (appended,) = table.open().append([draft("b", at=3)])
    assert appended == Appended("eu", 2, 50)
    (record,) = table.open().read("eu", 1).records
    assert (record.events_total, record.bytes_total) == (8, len(LARGE) + 6)


# Expiry


def test_a_large_record_that_expires_while_it_is_looked_at_leaves_its_head_to_build_on(
    table: Table, small_parts: None
) -> None:
    log, other = table.open(), table.another()
    append(other, "a", payload=LARGE, count=3)
    # Between the parts and their header a process was suspended, for days.
    table.wire.plan("GetItem", after(lambda: fold_and_expire(other, table)), about=rows.slot(1))
    assert append(log, "b") == 2
    assert log.partition_state("eu").events_total == 4


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_folded_record_disturbs_nobody_in_whatever_order_its_rows_expire(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    monkeypatch.setattr(rows, "PART_BYTES", 200)
    warm = table.layer(tmp_path)
    warm.set([put("a")])
    warm.set([big("b")])
    expected = warm.get()
    warm.sync()
    found = table.rows("")
    large = [rows.slot(2), *parts_of(found, 2)]
    assert len(large) == 3
    assert all("ttl" in found[sk] for sk in large)
    table.delete(rows.slot(1), partition="")
    for step, position in enumerate(order):
        table.delete(large[position], partition="")
        cold = table.open()
        assert cold.read("", 0).records == ()
        assert cold.partition_state("").version == 2 + step
        layer = table.layer(tmp_path, cold)
        assert layer.get() == warm.get() == expected
        layer.set([put(f"c-{step}")])  # by a log that looks for the tail itself
        expected = [*expected, {"id": f"c-{step}"}]
        assert layer.get() == warm.get() == expected
        assert warm.sync().count == 1
        table.delete(rows.slot(3 + step), partition="")
    assert table.layer(tmp_path).get() == expected
    assert not warm.verify().findings


def test_versions_moments_and_totals_go_on_from_the_head_alone(table: Table, small_parts: None) -> None:
    log = table.open()
    append(log, "a", at=40, count=2)
    append(log, "b", at=50, count=3, payload=LARGE)
    fold_and_expire(log, table)
    assert list(table.rows()) == [rows.HEAD_KEY]
    assert table.open().append([draft("c", at=45)]) == (Appended("eu", 3, 50),)
    assert log.append([draft("d", at=45)]) == (Appended("eu", 4, 50),)
    state = table.open().partition_state("eu")
    assert (state.version, state.events_total, state.bytes_total) == (4, 7, 6 + len(LARGE) + 12)


def test_a_slot_that_was_taken_and_is_gone_at_the_second_look_is_no_slot_to_skip(table: Table) -> None:
    log = table.open()
    append(log, "a")
    table.wire.plan("PutItem", refuses("ConditionalCheckFailedException"))  # without the row, which is not there
    error = failed(log, draft("b"))
    assert error.outcomes == {"eu": "not written"}
    assert "record 2 was there" in error.message
    assert append(log, "b") == 2


# Credentials and rights


def without_credentials(request: AWSPreparedRequest) -> None:
    raise NoCredentialsError


DENIED = [
    (refuses("ExpiredTokenException", "The security token included in the request is expired"), "have run out"),
    (refuses("UnrecognizedClientException"), "credentials are wrong"),
    (refuses("InvalidSignatureException", "Signature expired"), "clock is off"),
    (refuses("AccessDeniedException", "User is not authorized"), "needs dynamodb:{right}"),
    (without_credentials, "in its own chain: environment, profile, role"),
    (refuses("ResourceNotFoundException", "Requested resource not found"), "`dynalayer create-table 'dynamodb://"),
]


@pytest.mark.parametrize(("fate", "advice"), DENIED)
@pytest.mark.parametrize("at", ["PutItem", "TransactWriteItems", "Query"])
def test_credentials_that_fail_in_the_middle_are_told_with_the_way_out(
    table: Table, small_parts: None, at: str, fate: Fate, advice: str
) -> None:
    log = table.open()
    if at != "Query":
        append(log, "a")
    table.wire.operations()
    table.wire.plan(at, fate)
    content = LARGE if at == "TransactWriteItems" else b"events"
    error = failed(log, draft("b", payload=content))
    right = "PutItem and dynamodb:UpdateItem" if at == "TransactWriteItems" else at
    assert advice.format(right=right) in error.message
    assert error.outcomes == {"eu": "not written"}
    assert not error.retryable
    assert table.wire.operations() == [at]
    append(log, "b", payload=content)
    assert table.nonces() == (["b"] if at == "Query" else ["a", "b"])


def test_what_is_no_error_of_the_network_reaches_the_caller_as_it_is(table: Table) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    log = table.open()
    append(log, "a")
    table.wire.plan("PutItem", after(interrupt))
    with pytest.raises(KeyboardInterrupt):
        append(log, "b")
    assert append(log, "c") == 2


def test_a_lost_answer_to_the_look_at_the_tail_is_asked_for_again(table: Table) -> None:
    log = table.open()
    table.wire.plan("Query", unread, unread)
    assert append(log, "a") == 1
    assert table.wire.operations()[-4:] == ["Query", "Query", "Query", "PutItem"]
