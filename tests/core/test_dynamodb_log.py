"""The DynamoDB log beside its appends: where to look, what a move and a mark do, what is counted, what is damaged."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import servers
from dynalayer import (
    AppendError,
    ClosedError,
    DynamoDBEventLog,
    EventLogError,
    HistoryError,
    Layer,
    LayerError,
    LayerMeta,
)
from dynalayer.clock import INITIAL, MICROSECONDS
from dynalayer.eventlog.base import EventLog, Head, HeadMove, Mark
from dynalayer.eventlog.dynamodb import connection, counts, moves, rows, slots
from dynalayer.testing.dynamodb import Faults, FaultyDynamoDB
from fakes import DAY, Ticking, delete, put

from .dynamodb_fakes import (
    TRIES,
    Clocks,
    Fate,
    Held,
    Row,
    Table,
    after,
    answers,
    append,
    cancels,
    client_of,
    cursor,
    draft,
    folds,
    fresh,
    lost_answer,
    lost_request,
    refuses,
)

LARGE = bytes(range(256))  # in three parts, where a part is as small as `small_parts` makes it
DENIED = refuses("AccessDeniedException")


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """The clocks that the log looks at, which stand; and nobody waits."""
    clocks = Clocks()
    for module in (connection, counts, moves, slots):
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
    with fresh(request.getfixturevalue(request.param)) as table:
        yield table


def fold(log: EventLog, partition: str = "eu", **more: Any) -> Head:
    move = folds(log, partition, **more)
    assert log.move_head(partition, move)
    return move.head


def mark(log: EventLog, head: Head, partition: str = "eu") -> None:
    left = log.unmarked(partition, head.version, 1000)
    log.mark(partition, [Mark(each.version, each.nonce, head.cursor, 2_000_000_000) for each in left])


def crash(table: Table, layer: Layer, *fates: Fate, partition: str | None = None) -> None:
    """A sync whose marks fail: what is folded stays unmarked."""
    table.wire.plan("UpdateItem", *fates, about="begins_with(#cursor")
    with pytest.raises(EventLogError):
        layer.sync(partition)


# The index only says where to look


def test_a_lagging_index_hides_nothing_of_ones_own_and_nothing_for_long(moto_server: str, tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    with (
        FaultyDynamoDB(moto_server, seed=3, faults=Faults(index_lag=600), clock=lambda: now[0]) as proxy,
        fresh(proxy.url, behind=moto_server) as table,
    ):
        mine = table.layer(tmp_path, get_item_partition="at")
        theirs = table.layer(tmp_path, get_item_partition="at")
        mine.set([put("a", at="eu")])
        theirs.set([put("b", at="us")])
        assert mine.partitions() == ["eu"]
        assert mine.sync().partitions == ("eu",)
        assert mine.partitions() == ["eu"]
        assert mine.sync().count == 0
        assert mine.get("us") == [{"id": "b", "at": "us"}]  # what is there is never asked of the index
        now[0] += 601
        assert mine.partitions() == ["eu", "us"]
        assert mine.sync().partitions == ("us",)
        assert proxy.told["index_hidden"] > 0
        assert mine.get("us") == theirs.get("us") == [{"id": "b", "at": "us"}]


def test_an_index_that_shows_what_is_done_long_ago_leads_to_nothing(moto_server: str, tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    with (
        FaultyDynamoDB(moto_server, seed=5, faults=Faults(index_lag=600), clock=lambda: now[0]) as proxy,
        fresh(proxy.url, behind=moto_server) as table,
    ):
        layer = table.layer(tmp_path, get_item_partition="at")
        layer.set([put("a", at="eu")])
        layer.set([put("b", at="eu")])
        now[0] += 601
        assert layer.sync().count == 2
        before = table.rows()
        log = table.open()
        assert log.pending() == ("eu",)  # still listed
        assert log.unmarked("eu", 2, 10) == ()
        other = table.layer(tmp_path, log, get_item_partition="at")
        assert other.sync().count == 0
        assert proxy.told["index_kept"] > 0
        assert table.rows() == before
        table.delete(rows.slot(1))  # expired, and still listed
        assert other.sync().count == 0
        log.mark("eu", [Mark(1, "gone", cursor(9), 1)])
        assert list(table.rows()) == [rows.slot(2), rows.HEAD_KEY]
        assert other.get("eu") == [{"id": "a", "at": "eu"}, {"id": "b", "at": "eu"}]
        now[0] += 601
        assert log.pending() == ()


def test_records_that_the_index_does_not_show_are_marked_once_it_does(moto_server: str, tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    with (
        FaultyDynamoDB(moto_server, faults=Faults(index_lag=600), clock=lambda: now[0]) as proxy,
        fresh(proxy.url, behind=moto_server) as table,
    ):
        layer = table.layer(tmp_path)
        layer.set([put("a")])
        crash(table, layer, DENIED)
        assert layer.sync().count == 0
        assert "ttl" not in table.rows("")[rows.slot(1)]
        now[0] += 601
        assert layer.sync().count == 0
        assert "ttl" in table.rows("")[rows.slot(1)]


def short_index_pages(table: Table, length: int) -> None:
    def limit(params: dict[str, Any], **_: Any) -> None:
        if "IndexName" in params:
            params["Limit"] = length

    table.client.meta.events.register("provide-client-params.dynamodb.Query", limit)


def test_a_partition_with_many_pending_records_costs_one_page_of_the_index(table: Table) -> None:
    log, other = table.open(), table.another()
    for partition in ("a", "z"):
        append(other, "n", partition)
    for _ in range(30):
        append(other, secrets.token_hex(8), "eu")
    short_index_pages(table, 4)
    table.wire.operations()
    assert log.pending() == ("a", "eu", "z")
    # One that ends within eu's entries, one that begins after them.
    assert table.wire.operations() == ["GetItem", "Query", "Query"]


def test_names_that_follow_each_other_closely_are_all_found_page_by_page(table: Table) -> None:
    log, other = table.open(), table.another()
    names = ["", "\0", "a", "a\0", "a\0\0", "a\0b", "a#", "aa", "\uffff", "\U0001f642"]
    for name in names:
        for _ in range(2):
            append(other, secrets.token_hex(8), name)
    short_index_pages(table, 1)
    assert set(log.pending()) == set(names)


def test_an_empty_page_of_the_index_hides_nothing_that_comes_after_it(table: Table) -> None:
    log, other = table.open(), table.another()
    for nonce in "ab":
        append(other, nonce)
    last = {**rows.key_of("users#eu", rows.slot(1)), "cursor": {"S": INITIAL}}
    table.wire.plan("Query", answers({"Items": [], "Count": 0, "ScannedCount": 0, "LastEvaluatedKey": last}))
    assert log.pending() == ("eu",)


def test_pending_records_are_spread_over_the_shards_a_partition_in_one(table: Table) -> None:
    log = table.open(pending_shards=8)
    partitions = [f"p{number}" for number in range(24)]
    log.append([draft("a", partition) for partition in partitions])
    log.append([draft("b", partition) for partition in partitions])
    shards = {}
    for partition in partitions:
        under = {row["cursor"]["S"] for row in table.rows(partition).values()}
        assert len(under) == 1
        shards[partition] = under.pop()
    assert set(shards.values()) == {INITIAL, *(f"{INITIAL}#{number}" for number in range(1, 8))}
    assert max(Counter(shards.values()).values()) < 12
    assert log.pending() == tuple(sorted(partitions))
    assert {record.cursor for record in log.read("p1", 0).records} == {INITIAL}


def test_a_number_of_shards_is_noted_once_before_the_first_record_and_never_by_who_only_reads(table: Table) -> None:
    append(table.another(), "a")
    before = table.rows(None)
    reader = table.open(pending_shards=64)
    assert len(reader.read("eu", 0).records) == 1
    assert reader.partitions() == reader.pending() == ("eu",)
    assert reader.layer_state().appended == 1
    assert "UpdateItem" not in table.wire.operations()
    assert table.rows(None) == before
    log = table.open(pending_shards=16)
    table.wire.operations()
    for nonce in "bc":
        append(log, nonce)
    assert table.wire.operations() == ["UpdateItem", "Query", "PutItem", "PutItem"]
    assert table.rows(None)[rows.META_KEY]["shards"] == {"NS": ["16"]}
    append(table.open(pending_shards=16), "d")
    assert "UpdateItem" not in table.wire.operations()


def test_where_the_number_of_shards_cannot_be_noted_no_record_is_put_and_the_next_set_notes_it(table: Table) -> None:
    log = table.open(pending_shards=4)
    table.wire.operations()
    table.wire.plan("UpdateItem", DENIED)
    with pytest.raises(AppendError, match="needs dynamodb:UpdateItem") as caught:
        log.append([draft("a", "eu"), draft("a", "us")])
    assert caught.value.outcomes == {"eu": "not written", "us": "not written"}
    assert table.wire.operations() == ["UpdateItem"]
    table.wire.plan("UpdateItem", lost_answer)
    assert append(log, "a") == 1
    assert table.rows(None)[rows.META_KEY]["shards"] == {"NS": ["4"]}


def test_layers_with_different_numbers_of_shards_see_each_others_pending_partitions(table: Table) -> None:
    before = table.open(pending_shards=1)
    several = table.open(pending_shards=16)
    few = table.open(pending_shards=3)
    partitions = [f"p{number}" for number in range(9)]
    for number, log in enumerate((before, several, few)):
        log.append([draft("n", partition) for partition in partitions[number::3]])
    for log in (before, several, few, table.open()):
        assert log.pending() == tuple(partitions)
        assert log.partitions() == tuple(partitions)
        assert log.layer_state().appended == 9
    for log, theirs in ((before, "p1"), (several, "p3")):
        assert rows.pending_cursor(f"users#{theirs}", 16) != INITIAL
        head = fold(log, theirs)
        assert [each.version for each in log.unmarked(theirs, 1, 10)] == [1]
        mark(log, head, theirs)
    for log in (few, table.open()):
        assert log.pending() == tuple(each for each in partitions if each not in ("p1", "p3"))


def test_what_another_number_of_shards_left_unmarked_is_found_by_a_layer_opened_before(
    table: Table, tmp_path: Path
) -> None:
    early = table.layer(tmp_path, table.open(), get_item_partition="at")
    spread = table.layer(tmp_path, table.open(pending_shards=16), get_item_partition="at")
    assert rows.pending_cursor("users#p1", 16) != INITIAL
    spread.set([put("b", at="p1")])
    crash(table, spread, DENIED)
    assert early.sync().count == 0
    assert all("ttl" in row for sk, row in table.rows("p1").items() if sk != rows.HEAD_KEY)


def test_tables_whose_names_begin_alike_do_not_meet(table: Table, tmp_path: Path) -> None:
    names = ("user", "users", "users-1")
    layers = {name: table.layer(tmp_path / name, table.open(name), table=name) for name in names}
    for number, layer in enumerate(layers.values(), 1):
        layer.set([{**put(f"i{number}"), "partition": f"p{number}"}] * number)
        layer.set([{**put("both"), "partition": "#x"}])
    for number, (name, layer) in enumerate(layers.items(), 1):
        assert layer.partitions() == sorted(["#x", f"p{number}"])
        assert layer.meta().unsynced_total == number + 1
        assert layer.sync().count == number + 1
        assert table.open(name).pending() == ()
        assert layer.meta().synced_times == 1
        assert [other.meta().synced_total for other in layers.values()][number:] == [0] * (len(names) - number)


# Batches and pages


def test_what_a_batch_leaves_unprocessed_is_asked_for_again(moto_server: str) -> None:
    with FaultyDynamoDB(moto_server) as proxy, fresh(proxy.url, behind=moto_server) as table:
        log = table.open()
        partitions = [f"p{number}" for number in range(12)]
        log.append([draft("n", partition, count=2) for partition in partitions])
        for partition in partitions:
            mark(log, fold(log, partition, first=False), partition)
        append(log, "n", "q")
        records = [append(log, secrets.token_hex(8), "q") for _ in range(11)]
        proxy.faults = Faults(unprocessed=1)
        assert log.layer_state().folded == 24
        assert proxy.told["unprocessed"] > 1
        assert [each.version for each in log.unmarked("q", 99, 99)] == [1, *records]


def old_segments(log: DynamoDBEventLog, number: int) -> list[str]:
    """Moves that each retire a segment; the refs."""
    for sync in range(1, number + 1):
        append(log, secrets.token_hex(8))
        fold(log, sync=sync, retires=True)
    assert len(log.old_segments("eu")) == number
    return [each.segment.ref for each in log.old_segments("eu")]


def test_what_a_batch_leaves_unwritten_is_written_again(moto_server: str) -> None:
    with FaultyDynamoDB(moto_server) as proxy, fresh(proxy.url, behind=moto_server) as table:
        log = table.open()
        refs = old_segments(log, 8)
        proxy.faults = Faults(unprocessed=1)
        log.forget_old_segments("eu", refs[1:])
        assert proxy.told["unprocessed"] > 1
        assert [each.segment.ref for each in log.old_segments("eu")] == refs[:1]


def test_more_than_a_batch_holds_is_asked_for_in_several(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_BATCH_KEYS", 3)
    monkeypatch.setattr(connection, "_BATCH_WRITES", 3)
    log = table.open()
    refs = old_segments(log, 8)
    table.wire.operations()
    assert [each.version for each in log.unmarked("eu", 8, 7)] == [1, 2, 3, 4, 5, 6, 7]
    assert table.wire.operations() == ["Query", "BatchGetItem", "BatchGetItem", "BatchGetItem"]
    log.forget_old_segments("eu", refs)
    assert table.wire.operations() == ["Query", "BatchWriteItem", "BatchWriteItem", "BatchWriteItem"]
    assert log.old_segments("eu") == ()


def test_no_batch_is_larger_than_the_service_takes(moto_server: str) -> None:
    with FaultyDynamoDB(moto_server) as proxy, fresh(proxy.url, behind=moto_server) as table:
        log = table.open()
        keys = [rows.key_of("users#eu", rows.slot(number)) for number in range(1, 102)]
        assert list(log._connection.batch_get(keys)) == []
        log._connection.batch_write([{"DeleteRequest": {"Key": key}} for key in keys])
        assert "limit" not in proxy.told
        sent = Counter(table.wire.operations())
        assert (sent["BatchGetItem"], sent["BatchWriteItem"]) == (2, 5)


def test_a_batch_that_is_never_processed_fails_in_the_end(table: Table, clocks: Clocks) -> None:
    log = table.open()
    refs = old_segments(log, 2)
    mark(log, log.head("eu"))
    keys = [rows.key_of("users#eu", rows.HEAD_KEY)]
    unread = answers({"Responses": {}, "UnprocessedKeys": {table.name: {"Keys": keys}}})
    unwritten = answers({"UnprocessedItems": {table.name: [{"DeleteRequest": {"Key": keys[0]}}] * len(refs)}})
    calls: list[tuple[str, Fate, Callable[[], object]]] = [
        ("BatchGetItem", unread, log.layer_state),
        ("BatchWriteItem", unwritten, lambda: log.forget_old_segments("eu", refs)),
    ]
    for operation, fate, call in calls:
        table.wire.plan(operation, *[fate] * (TRIES + 5))
        table.wire.operations()
        clocks.waits.clear()
        with pytest.raises(EventLogError, match=f"unprocessed {TRIES} times in a row") as caught:
            call()
        assert caught.value.retryable
        assert table.wire.operations().count(operation) == TRIES
        assert len(clocks.waits) == TRIES - 1


def test_a_batch_of_which_a_little_is_processed_each_time_is_done_in_the_end(table: Table) -> None:
    log = table.open()
    keys = [rows.key_of("users#eu", rows.slot(number)) for number in range(1, 26)]
    unread = [{"Responses": {}, "UnprocessedKeys": {table.name: {"Keys": keys[left:]}}} for left in range(1, 25)]
    table.wire.plan("BatchGetItem", *map(answers, unread))
    assert list(log._connection.batch_get(keys)) == []
    deletes = [{"DeleteRequest": {"Key": key}} for key in keys]
    table.wire.plan(
        "BatchWriteItem", *(answers({"UnprocessedItems": {table.name: deletes[left:]}}) for left in range(1, 25))
    )
    log._connection.batch_write(deletes)
    sent = Counter(table.wire.operations())
    assert (sent["BatchGetItem"], sent["BatchWriteItem"]) == (25, 25)


@pytest.mark.parametrize("at", [0, 1, 13, 24])
def test_a_batch_that_stops_being_processed_fails_in_the_end(table: Table, at: int) -> None:
    log = table.open()
    keys = [rows.key_of("users#eu", rows.slot(number)) for number in range(1, 26)]
    left = [*range(1, at + 1), *[at] * TRIES]
    unread = [{"Responses": {}, "UnprocessedKeys": {table.name: {"Keys": keys[each:]}}} for each in left]
    table.wire.plan("BatchGetItem", *map(answers, unread))
    with pytest.raises(EventLogError, match="unprocessed"):
        list(log._connection.batch_get(keys))
    assert table.wire.operations().count("BatchGetItem") == at + TRIES


def answers_of(log: EventLog, layer: Layer) -> dict[str, Any]:
    """What every method that reads says."""
    told: dict[str, Any] = {
        "pending": log.pending(),
        "partitions": log.partitions(),
        "last_cursor": log.last_cursor(),
        "knows_cursor": log.knows_cursor(log.last_cursor()),
        "layer_state": log.layer_state(),
        "meta": layer.meta(),
    }
    for partition in log.partitions():
        newest = log.partition_state(partition).version
        told[partition] = {
            "head": log.head(partition),
            "read": log.read(partition, 0),
            "read after": log.read(partition, newest - 1),
            "read in part": log.read(partition, 0, max_bytes=300),
            "unmarked": log.unmarked(partition, newest, 100),
            "unmarked in part": log.unmarked(partition, newest, 2),
            "old_segments": log.old_segments(partition),
            "partition_state": log.partition_state(partition),
            "costs": log.costs(partition),
            "get": layer.get(partition),
            "as of": [layer.get(partition, at=version) for version in (newest // 2, newest - 1)],
            "history": layer.history(partition),
        }
    return told


def test_short_pages_change_no_answer_of_any_method(
    moto_server: str, table: Table, tmp_path: Path, small_parts: None
) -> None:
    log = table.open(pending_shards=4)
    layer = table.layer(tmp_path, log, get_item_partition="at")
    layer.set([put("x", at="us")])
    for number in range(9):  # more deltas than the snapshot takes: a new base, and old segments
        layer.set([put(f"{number}", at="eu")])
        layer.sync("eu")
    layer.set([put("large", at="eu", content=secrets.token_bytes(300))])
    layer.set([put("x", at="us"), put("x", at="eu")])
    crash(table, layer, *[DENIED] * 30)
    layer.set([put("pending", at="eu", content=secrets.token_bytes(300)), put("y", at="asia")])
    quiet = answers_of(log, layer)
    assert quiet["eu"]["old_segments"]
    assert quiet["eu"]["unmarked"]
    assert any("#" in sk for sk in table.rows())
    with (
        FaultyDynamoDB(moto_server, seed=11, faults=Faults(short_page=1)) as proxy,
        closing(client_of(proxy.url)) as client,
        DynamoDBEventLog(table.name, "users", client=client, pending_shards=4) as faulty,
    ):
        reader = table.layer(tmp_path, faulty, get_item_partition="at")
        assert answers_of(faulty, reader) == quiet
        assert proxy.told["short_page"] > 50


# Moves of the head


@pytest.fixture(params=["UpdateItem", "TransactWriteItems"])
def move_operation(request: pytest.FixtureRequest) -> str:
    """By which a head is moved: alone, or in a transaction with what belongs to the move."""
    operation: str = request.param
    return operation


def plain(move: HeadMove, operation: str) -> HeadMove:
    """The move, so that it is made by an operation: one that folds nothing writes the head alone."""
    if operation == "UpdateItem":
        return HeadMove(move.expected, move.head)
    return move


@pytest.mark.parametrize("fates", [[lost_answer], [lost_request], [lost_answer] * 5, [refuses("ThrottlingException")]])
def test_a_move_whose_answer_is_lost_is_made_and_counted_once(
    each: Table, move_operation: str, fates: list[Fate]
) -> None:
    log = each.open()
    append(log, "a")
    move = plain(folds(log, retires=True), move_operation)
    each.wire.plan(move_operation, *fates)
    assert log.move_head("eu", move)
    assert log.head("eu") == move.head
    state = each.open().layer_state()
    if move_operation == "TransactWriteItems":
        assert (state.synced_times, state.folded, state.cursor) == (1, 1, cursor(1))
        assert len(log.old_segments("eu")) == 1
    append(log, "b")
    assert log.move_head("eu", plain(folds(log, sync=2, retires=True), move_operation))
    if move_operation == "TransactWriteItems":
        assert each.open().layer_state().synced_times == 2


def test_a_client_with_retries_of_its_own_sends_a_move_once_a_call(
    moto_server: str, move_operation: str, monkeypatch: pytest.MonkeyPatch, clocks: Clocks
) -> None:
    monkeypatch.setattr("botocore.endpoint.time", clocks)
    with fresh(moto_server, retries={"mode": "standard", "total_max_attempts": 5}) as table:
        log = table.open()
        append(log, "a")
        move = plain(folds(log), move_operation)
        before = table.wire.calls[move_operation]
        table.wire.operations()
        table.wire.plan(move_operation, lost_answer, lost_request)
        assert log.move_head("eu", move)
        assert table.wire.operations().count(move_operation) == table.wire.calls[move_operation] - before == 3


@pytest.mark.parametrize(
    "fate",
    [
        cancels("TransactionConflict", "None", "None", "None"),
        cancels("None", "TransactionConflict", "None", "None"),
        cancels("None", "None", "ThrottlingError", "None"),
        cancels("ConditionalCheckFailed", "TransactionConflict", "None", "None"),
        refuses("TransactionInProgressException"),
    ],
)
def test_a_move_cancelled_by_a_conflict_is_tried_again(table: Table, fate: Fate) -> None:
    log = table.open()
    append(log, "a")
    move = folds(log, retires=True)
    table.wire.plan("TransactWriteItems", *[fate] * (TRIES - 1))
    assert log.move_head("eu", move)
    assert table.wire.operations().count("TransactWriteItems") == TRIES
    assert log.layer_state().synced_times == 1


@pytest.mark.parametrize(
    ("fate", "sent"), [(lost_request, TRIES), (refuses("ThrottlingException"), TRIES), (DENIED, 1)]
)
def test_a_move_that_fails_for_good_names_its_partition(
    table: Table, move_operation: str, fate: Fate, sent: int
) -> None:
    log = table.open()
    append(log, "a")
    move = plain(folds(log), move_operation)
    table.wire.operations()
    table.wire.plan(move_operation, *[fate] * sent)
    with pytest.raises(EventLogError) as caught:
        log.move_head("eu", move)
    assert caught.value.partition == "eu"
    assert table.wire.operations().count(move_operation) == sent
    assert log.move_head("eu", move)


def test_a_move_that_loses_leaves_nothing_behind(each: Table) -> None:
    log, other = each.open(), each.another()
    append(log, "a")
    late = folds(log, retires=True)
    won = folds(other, sync=2)
    assert other.move_head("eu", won)
    before = each.rows(), each.rows(None)
    assert not log.move_head("eu", late)
    assert (each.rows(), each.rows(None)) == before
    assert log.old_segments("eu") == ()
    assert not log.knows_cursor(cursor(1))
    assert log.last_cursor() == cursor(2)
    assert log.layer_state().synced_times == 1


def test_a_late_move_that_arrives_after_its_retry_changes_nothing(table: Table, move_operation: str) -> None:
    log, held = table.open(), Held()
    append(log, "a")
    move = plain(folds(log, retires=True), move_operation)
    table.wire.plan(move_operation, held)
    assert log.move_head("eu", move)
    before = table.rows(), table.rows(None)
    assert held.arrive() == 400
    assert (table.rows(), table.rows(None)) == before


def test_a_move_whose_answer_was_lost_and_that_another_has_built_upon_is_known_by_its_segment(
    table: Table, tmp_path: Path
) -> None:
    layer, other = table.layer(tmp_path), table.another()
    layer.set([put("a")])

    def build_upon() -> None:
        head = other.head("")
        raised = Head(**{**{name: getattr(head, name) for name in Head.__slots__}, "revision": head.revision + 1})
        assert other.move_head("", HeadMove(head.revision, raised))

    table.wire.plan("TransactWriteItems", lost_answer, after(build_upon))
    assert layer.sync().count == 1
    assert layer.get() == table.layer(tmp_path).get() == [{"id": "a"}]
    meta = layer.meta()
    assert (meta.synced_times, meta.synced_total, meta.unsynced_total) == (1, 1, 0)
    assert other.pending() == ()


@pytest.mark.parametrize(
    ("fate", "sent"),
    [
        (cancels("ConditionalCheckFailed", "None", "None", "None"), 1),
        (cancels("TransactionConflict", "None", "None", "None"), TRIES),
    ],
)
def test_a_cancelled_move_is_counted_as_one_that_goes_through(table: Table, fate: Fate, sent: int) -> None:
    log = table.open()
    append(log, "a")
    move = folds(log, retires=True)
    table.wire.plan("TransactWriteItems", *[fate] * sent)
    before = log.usage()["other"].write_units
    with suppress(EventLogError):
        assert not log.move_head("eu", move)
    # The head, the old segments, the journal and the layer's own row, twice 1 KB each.
    assert log.usage()["other"].write_units - before == 8 * sent


def test_a_sync_writes_the_layers_row_once_whatever_it_folds(table: Table, tmp_path: Path) -> None:
    layer = table.layer(tmp_path, get_item_partition="at")
    for sync in (1, 2):
        layer.set([put("a", at=f"p{number}", n=sync) for number in range(5)])
        table.wire.operations()
        assert layer.sync().count == 5
        wrote = [
            each.operation
            for each in table.wire.sent
            if each.operation.startswith(("Put", "Update", "Transact")) and "__users__" in str(each.body)
        ]
        assert wrote == ["TransactWriteItems"]
        assert table.wire.operations().count("TransactWriteItems") == 1
        assert layer.meta().synced_times == sync


# Marks


def updates_of(table: Table) -> list[str]:
    """Sort keys of the rows updated since the last time, in order."""
    told = [each.body["Key"]["sk"]["S"] for each in table.wire.sent if each.operation == "UpdateItem"]
    table.wire.operations()
    return told


def test_the_parts_of_a_record_are_marked_before_its_header(table: Table, small_parts: None) -> None:
    log = table.open()
    append(log, "a", payload=LARGE)
    head = fold(log)
    table.wire.operations()
    mark(log, head)
    slot = rows.slot(1)
    parts = [rows.part_key(1, part) for part in (1, 2, 3)]
    # Tried as a record without parts, then the parts, then the header.
    assert updates_of(table) == [slot, *parts, slot]
    found = table.rows()
    assert {found[sk]["ttl"]["N"] for sk in (slot, *parts)} == {"2000000000"}
    assert found[slot]["cursor"] == {"S": cursor(1)}
    mark(log, head)
    assert updates_of(table) == []


@pytest.mark.parametrize("nth", range(5))
def test_a_sync_that_dies_while_it_marks_is_carried_on_by_the_next(
    table: Table, tmp_path: Path, small_parts: None, nth: int
) -> None:
    layer = table.layer(tmp_path)
    layer.set([put("a", content=secrets.token_bytes(200))])
    layer.set([put("b", content=secrets.token_bytes(1))])
    marks = [sk for sk in table.rows("") if sk.startswith(rows.slot(1))]
    assert len(marks) >= 4
    target = [*marks, rows.slot(2)][nth]
    table.wire.plan("UpdateItem", DENIED, about=f'"{target}"')
    with pytest.raises(EventLogError):
        layer.sync()
    found = table.rows("")
    if "ttl" in found[marks[0]]:
        assert all("ttl" in found[sk] for sk in marks)
    assert layer.sync().count == 0
    found = table.rows("")
    assert all("ttl" in found[sk] for sk in (*marks, rows.slot(2)))
    assert found[rows.slot(1)]["cursor"] == found[rows.slot(2)]["cursor"] == {"S": layer.meta().cursor}
    assert table.open().pending() == ()
    assert layer.meta().synced_times == 1


@pytest.mark.parametrize("gone", [(1,), (2, 3), (1, 2, 3)])
def test_a_part_that_has_expired_is_no_error_of_a_mark(table: Table, small_parts: None, gone: tuple[int, ...]) -> None:
    log = table.open()
    append(log, "a", payload=LARGE)
    head = fold(log)
    table.delete(*(rows.part_key(1, part) for part in gone))
    mark(log, head)
    found = table.rows()
    assert set(found) == {rows.slot(1), rows.HEAD_KEY, *(rows.part_key(1, part) for part in {1, 2, 3} - set(gone))}
    assert all("ttl" in row for sk, row in found.items() if sk != rows.HEAD_KEY)
    assert log.pending() == ()


def test_a_part_that_expires_between_the_look_and_its_mark_does_not_come_back(table: Table, small_parts: None) -> None:
    log = table.open()
    append(log, "a", payload=LARGE)
    head = fold(log)
    part = rows.part_key(1, 2)
    table.wire.plan("UpdateItem", after(lambda: table.delete(part)), about=part)
    mark(log, head)
    assert part not in table.rows()
    assert log.pending() == ()


def test_a_mark_of_another_nonce_touches_neither_header_nor_parts(table: Table, small_parts: None) -> None:
    log = table.open()
    append(log, "a", payload=LARGE)
    append(log, "b")
    before = table.rows()
    log.mark("eu", [Mark(1, "other", cursor(1), 1), Mark(2, "other", cursor(1), 1), Mark(3, "other", cursor(1), 1)])
    assert table.rows() == before


def test_a_marked_record_keeps_its_cursor_and_ttl(table: Table, small_parts: None) -> None:
    log = table.open()
    append(log, "a", payload=LARGE)
    append(log, "b")
    mark(log, fold(log))
    before = table.rows()
    log.mark("eu", [Mark(1, "a", cursor(5), 7), Mark(2, "b", cursor(5), 7)])
    assert table.rows() == before


def test_a_mark_whose_answer_is_lost_is_made_all_the_same(table: Table, small_parts: None) -> None:
    log = table.open()
    append(log, "a", payload=LARGE)
    append(log, "b")
    head = fold(log)
    for about in (rows.slot(1), rows.part_key(1, 2), rows.slot(2)):
        table.wire.plan("UpdateItem", lost_answer, about=f'"{about}"')
    mark(log, head)
    assert all("ttl" in row for sk, row in table.rows().items() if sk != rows.HEAD_KEY)
    assert log.pending() == ()


# Leases

NOW = 1_800_000_000_000_000
MINUTE = 60 * MICROSECONDS


def test_a_lease_is_one_conditional_update_of_the_head(each: Table) -> None:
    log, other = each.open(), each.another()
    append(log, "a")
    head = fold(log)
    each.wire.operations()
    assert log.lease("eu", "one", NOW, NOW + MINUTE)
    assert each.wire.operations() == ["UpdateItem"]
    assert not other.lease("eu", "two", NOW + MINUTE - 1, NOW + 2 * MINUTE)
    other.release("eu", "two")
    row = each.rows()[rows.HEAD_KEY]
    assert (row["lease_owner"], row["lease_until"]) == ({"S": "one"}, {"N": str(NOW + MINUTE)})
    assert row["revision"] == {"N": str(head.revision)}
    assert other.head("eu") == head
    assert other.lease("eu", "two", NOW + MINUTE, NOW + 2 * MINUTE)
    log.release("eu", "one")  # another's by now
    assert not log.lease("eu", "one", NOW + MINUTE, NOW + 2 * MINUTE)
    other.release("eu", "two")
    assert "lease_owner" not in each.rows()[rows.HEAD_KEY]


def test_a_lease_outlasts_a_move_of_the_head_and_stops_none(table: Table) -> None:
    log, other = table.open(), table.another()
    append(log, "a")
    assert log.lease("eu", "one", NOW, NOW + MINUTE)
    fold(other)
    assert not other.lease("eu", "two", NOW, NOW + MINUTE)
    assert log.head("eu").version == 1


def test_a_lease_whose_answer_was_lost_is_held_and_given_back_once(table: Table) -> None:
    log, other = table.open(), table.another()
    table.wire.plan("UpdateItem", lost_answer)
    assert log.lease("eu", "one", NOW, NOW + MINUTE)
    assert not other.lease("eu", "two", NOW, NOW + MINUTE)
    table.wire.plan("UpdateItem", lost_answer, after(lambda: other.lease("eu", "two", NOW, NOW + MINUTE)))
    log.release("eu", "one")
    assert not log.lease("eu", "one", NOW, NOW + MINUTE)


def test_a_lease_alone_is_no_partition(table: Table) -> None:
    log = table.open()
    assert log.lease("eu", "one", NOW, NOW + MINUTE)
    assert log.head("eu") == Head()
    assert log.partitions() == log.pending() == table.open().partitions() == ()
    log.release("eu", "one")
    assert log.head("eu") == Head()
    assert append(log, "a") == 1
    fold(log)


# Cursors


def test_the_last_cursor_is_known_when_the_rows_of_all_syncs_have_expired(table: Table, tmp_path: Path) -> None:
    layer = table.layer(tmp_path)
    told = []
    for number in range(2):
        layer.set([put(f"{number}")])
        told.append(layer.sync().cursor)
    log = table.open()
    assert [log.knows_cursor(each or "") for each in told] == [True, True]
    syncs = [sk for sk in table.rows(None) if sk.startswith(rows.SYNC)]
    assert len(syncs) == 2
    assert all("ttl" in table.rows(None)[sk] for sk in syncs)
    table.delete(*syncs, partition=None)
    for opened in (log, table.open()):
        assert opened.last_cursor() == told[1]
        assert [opened.knows_cursor(each or "") for each in told] == [False, True]
        assert not opened.knows_cursor(INITIAL)
    assert layer.meta().cursor == told[1]
    layer.set([put("3")])
    later = layer.sync().cursor
    assert later is not None
    assert told[1] is not None
    assert later > told[1]
    assert layer.get(at=later) == layer.get()


def test_no_cursor_is_known_before_the_first_sync(table: Table) -> None:
    log = table.open()
    assert log.last_cursor() == INITIAL
    assert not log.knows_cursor(INITIAL)
    assert not log.knows_cursor(cursor(1))


# Counts


def test_counts_are_exact_without_a_lag_whoever_did_what(each: Table) -> None:
    log, other = each.open(), each.another()
    for number, opened in enumerate((log, other, log), 1):
        append(opened, f"{number}", count=number)
        assert log.layer_state() == other.layer_state()
        assert log.partition_state("eu") == other.partition_state("eu")
    state = log.layer_state()
    assert (state.appended, state.folded, state.last_pending) == (6, 0, 3)
    mark(other, fold(other))
    append(other, "4", "us", count=10)
    state = log.layer_state()
    assert (state.appended, state.folded, state.last_pending, state.synced_times) == (16, 6, 10, 1)
    assert (state.cursor, state.synced_last_total) == (cursor(1), 6)


def test_with_a_lag_nothing_is_asked_until_it_has_passed_and_ones_own_is_counted(table: Table, clocks: Clocks) -> None:
    log, other = table.open(), table.another()
    append(log, "a", count=2)
    log.layer_state(lag=5)
    log.partition_state("eu", lag=5)
    append(other, "b", "us", count=100)
    append(log, "c", count=3)
    fold(log)
    append(log, "d", count=4)
    log.partition_state("eu", lag=5)
    append(log, "e", count=5)
    table.wire.operations()
    clocks.advance(4.9)
    state, of_partition = log.layer_state(lag=5), log.partition_state("eu", lag=5)
    assert (state.appended, state.folded, state.last_pending) == (14, 5, 5)
    assert (state.cursor, state.synced_times, state.synced_last_total) == (cursor(1), 1, 5)
    assert (of_partition.version, of_partition.events_total, of_partition.last_count) == (4, 14, 5)
    assert of_partition.head == log.head("eu")
    assert table.wire.operations() == ["GetItem"]  # the test's own look at the head
    clocks.advance(0.2)
    assert log.layer_state(lag=5).appended == 114
    assert log.layer_state(lag=5) == log.layer_state()
    assert log.partition_state("eu", lag=5) == of_partition == other.partition_state("eu")


def test_a_sum_that_took_long_is_good_for_longer(table: Table, clocks: Clocks) -> None:
    log, other = table.open(), table.another()
    append(other, "a")
    table.wire.plan("GetItem", after(lambda: clocks.advance(2)))
    log.layer_state(lag=5)
    append(other, "b")
    clocks.advance(37)
    assert log.layer_state(lag=5).appended == 1
    clocks.advance(2)
    assert log.layer_state(lag=5).appended == 2


def test_a_sum_that_took_long_answers_nobody_who_wants_it_exact(table: Table, clocks: Clocks) -> None:
    log, other = table.open(), table.another()
    append(other, "a")
    table.wire.plan("GetItem", after(lambda: clocks.advance(2)))
    assert log.layer_state().appended == 1
    append(other, "b")
    assert log.layer_state().appended == 2


def test_a_strategy_over_many_sets_asks_as_often_as_over_one(table: Table, tmp_path: Path) -> None:
    asked: list[LayerMeta] = []

    def never(meta: LayerMeta) -> bool:
        asked.append(meta)
        return False

    layer = table.layer(tmp_path, get_item_partition="at", sync_strategy=never)
    requests = []
    for number in range(20):
        layer.set([put(f"{number}", at="eu"), put(f"{number}", at="us")])
        requests.append(layer.usage()["strategy"].requests)
    assert [meta.unsynced_total for meta in asked[::2]] == [2 * number for number in range(1, 21)]
    assert len(set(requests)) == 1
    assert requests[0] <= 10
    assert layer.usage()["set"].requests == 42


def test_a_strategy_that_syncs_asks_a_few_times_more_a_sync(table: Table, tmp_path: Path) -> None:
    layer = table.layer(tmp_path, sync_strategy=lambda meta: meta.unsynced_total >= 5)
    for number in range(20):
        layer.set([put(f"{number}")])
    assert layer.meta().synced_times == 4
    assert layer.usage()["strategy"].requests <= 8 + 4 * 2


def test_an_idle_layer_asks_for_nothing_and_has_nobody_who_could(table: Table, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    layer = table.layer(
        tmp_path,
        get_item_partition="at",
        sync_strategy=lambda meta: meta.unsynced_total > 2,
        background_runner="thread",
    )
    layer.set([put("a", at="eu"), put("b", at="us"), put("c", at="asia")])
    layer.close()
    layer = table.layer(tmp_path, get_item_partition="at")
    layer.set([put("a", at="eu"), put("b", at="us")])
    layer.sync()
    layer.get("eu")
    log = table.open()
    begun = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert [name for name in begun if "process_request" not in name] == []  # which are the server's
    table.wire.operations()
    log.close()
    layer.close()
    assert table.wire.operations() == []


# Forks and closing

FORKING = """
import os, signal, sys, traceback
import boto3
from dynalayer import DynamoDBEventLog, EventLogError
from dynalayer.eventlog.base import Draft, RecordKind
from dynalayer.opening import open_event_log

name, endpoint = sys.argv[1:]
client = boto3.client("dynamodb", endpoint_url=endpoint)
made = open_event_log(f"dynamodb://{name}?endpoint_url={endpoint}", "users")
given = DynamoDBEventLog(name, "users", client=client)

def append(log, nonce):
    log.append([Draft(each, RecordKind.CHANGES, nonce, 1, 1, 86400, b"events") for each in ("eu", "us")])

def nonces(log):
    return [record.nonce for record in log.read("eu", 0).records]

def child():
    for call in (lambda: append(given, "never"), lambda: nonces(given)):
        try:
            call()
        except EventLogError as error:
            assert "made in another process" in str(error), error
            assert "after the fork" in str(error), error
        else:
            raise AssertionError("a client was used in another process")
    assert nonces(made) == ["parent-1", "parent-2"]
    append(made, "child")
    assert nonces(made) == ["parent-1", "parent-2", "child"]
    assert made.pending() == ("eu", "us")
    made.close()

append(made, "parent-1")
append(given, "parent-2")
pid = os.fork()
if not pid:
    signal.alarm(60)  # a child that hangs is a child that fails
    status = 1
    try:
        child()
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed"
for log, nonce in ((made, "parent-3"), (given, "parent-4")):
    append(log, nonce)
assert nonces(given) == nonces(made) == ["parent-1", "parent-2", "child", "parent-3", "parent-4"]
made.close()
given.close()
client.close()
"""


def test_a_forked_child_goes_on_with_a_log_that_made_its_client_and_is_refused_anothers(table: Table) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", FORKING, table.name, table.url],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "AWS_DEFAULT_REGION": servers.REGION},
    )
    assert done.returncode == 0, done.stderr


def test_a_closed_log_refuses_every_call_and_leaves_the_users_client_open(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = table.open()
    closed: list[str] = []
    append(log, "a")
    with monkeypatch.context() as patch:
        patch.setattr(table.client, "close", lambda: closed.append("closed"))
        log.close()
        log.close()
    assert closed == []
    table.wire.operations()
    calls: list[Callable[[], object]] = [
        lambda: log.append([draft("b")]),
        lambda: log.append([draft("b"), draft("b", "us")]),
        lambda: log.read("eu", 0),
        lambda: log.head("eu"),
        lambda: log.move_head("eu", HeadMove(0, Head(revision=1))),
        lambda: log.unmarked("eu", 1, 1),
        lambda: log.mark("eu", [Mark(1, "a", cursor(1), 1)]),
        log.pending,
        log.partitions,
        lambda: log.lease("eu", "one", 1, 2),
        lambda: log.release("eu", "one"),
        lambda: log.old_segments("eu"),
        lambda: log.forget_old_segments("eu", ["ref"]),
        lambda: log.expire(1, 1, ""),
        lambda: log.knows_cursor(cursor(1)),
        log.last_cursor,
        lambda: log.partition_state("eu"),
        log.layer_state,
        lambda: log.costs("eu"),
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            call()
    assert table.wire.operations() == []
    assert log.usage()["other"].requests > 0
    assert append(table.open(), "b") == 2  # by the same client


def test_a_log_that_made_its_client_closes_it(table: Table) -> None:
    log = table.open(client=None)
    append(log, "a")
    with pytest.MonkeyPatch.context() as patch:
        closed: list[str] = []
        patch.setattr(log._connection._client, "close", lambda: closed.append("closed"))
        log.close()
        log.close()
    assert closed == ["closed"]


# Damage

Damage = Callable[[Row], Row]


def without(name: str) -> Damage:
    return lambda row: {each: value for each, value in row.items() if each != name}


def instead(name: str, value: dict[str, Any]) -> Damage:
    return lambda row: {**row, name: value}


RECORDS: Mapping[str, Damage] = {
    "no nonce": without("nonce"),
    "no moment": without("at"),
    "no count": without("count"),
    "no retention": without("keep"),
    "no total": without("events_total"),
    "no bytes": without("bytes_total"),
    "no cursor": without("cursor"),
    "a moment as text": instead("at", {"S": "1"}),
    "half an event": instead("count", {"N": "1.5"}),
    "a total as a list": instead("events_total", {"L": []}),
    "a nonce as a number": instead("nonce", {"N": "1"}),
    "events as text": instead("events", {"S": "events"}),
    "an unknown kind": instead("kind", {"S": "WISH"}),
    "a kind as a number": instead("kind", {"N": "1"}),
    "no key of a record": instead("sk", {"S": "1x"}),
}
HEADS: Mapping[str, Damage] = {
    "rotten": lambda row: {**row, "head": {"B": row["head"]["B"][:-1] + b"?"}},
    "truncated": lambda row: {**row, "head": {"B": row["head"]["B"][:20]}},
    "empty": instead("head", {"B": b""}),
    "text": instead("head", {"S": "head"}),
    "missing": without("head"),
}
LAYERS: Mapping[str, Damage] = {
    "no layout": without("format"),
    "a layout as text": instead("format", {"S": "1"}),
    "half a layout": instead("format", {"N": "1.5"}),
    "an origin as a number": instead("origin", {"N": "1"}),
    "shards as text": instead("shards", {"S": "1"}),
    "half a shard": instead("shards", {"NS": ["1.5"]}),
    "a cursor as a number": instead("last_sync", {"N": "1"}),
    "syncs as text": instead("synced_times", {"S": "many"}),
}


def methods(log: DynamoDBEventLog) -> dict[str, Callable[[], object]]:
    return {
        "read": lambda: log.read("eu", 0),
        "read in part": lambda: log.read("eu", 0, max_bytes=1),
        "head": lambda: log.head("eu"),
        "unmarked": lambda: log.unmarked("eu", 9, 9),
        "pending": log.pending,
        "partitions": log.partitions,
        "old_segments": lambda: log.old_segments("eu"),
        "forget_old_segments": lambda: log.forget_old_segments("eu", ["ref"]),
        "partition_state": lambda: log.partition_state("eu"),
        "layer_state": log.layer_state,
        "costs": lambda: log.costs("eu"),
        "mark": lambda: log.mark("eu", [Mark(version, "n", cursor(1), 1) for version in (1, 2)]),
        "append": lambda: log.append([draft("b")]),  # last: it is the first that the log appends
    }


def failing(table: Table) -> dict[str, EventLogError]:
    """The errors of all methods of a log that begins."""
    errors = {}
    for name, call in methods(table.open()).items():
        try:
            call()
        except EventLogError as error:
            errors[name] = error
    return errors


def named(errors: Mapping[str, EventLogError]) -> None:
    for name, error in errors.items():
        assert error.partition == "eu" or "'eu'" in str(error), f"{name} names no partition: {error}"
        assert "damaged" in error.message, name
        assert not error.retryable


@pytest.mark.parametrize("what", RECORDS)
def test_a_damaged_record_is_an_error_that_names_its_partition(table: Table, tmp_path: Path, what: str) -> None:
    append(table.open(), "n")
    (row,) = table.rows().values()
    table.delete(rows.slot(1))
    table.put(RECORDS[what](row))
    errors = failing(table)
    assert {"read", "read in part"} <= set(errors)
    assert table.rows().keys() <= {rows.slot(1), rows.slot(2), "1x"}
    named(errors)
    layer = table.layer(tmp_path)
    for call in (layer.get, layer.history, layer.sync):
        try:
            call("eu")
        except LayerError as error:
            assert error.partition == "eu", call  # noqa: PT017 -- some succeed


@pytest.mark.parametrize("what", HEADS)
def test_a_damaged_head_is_an_error_that_names_its_partition(table: Table, what: str) -> None:
    log = table.open()
    append(log, "n")
    mark(log, fold(log))
    append(log, "m")
    table.put(HEADS[what](table.rows()[rows.HEAD_KEY]))
    errors = failing(table)
    assert {"read", "read in part", "head", "partition_state", "layer_state", "costs", "append"} <= set(errors)
    named(errors)


def test_a_damaged_list_of_old_segments_is_an_error_that_names_its_partition(table: Table) -> None:
    log = table.open()
    old_segments(log, 1)
    (row,) = (row for sk, row in table.rows().items() if sk.startswith(rows.OLD))
    damages = [instead("segments", {"B": b"J1234rotten"}), without("segments"), instead("segments", {"S": "x"})]
    for damage in damages:
        table.put(damage(row))
        errors = failing(table)
        assert set(errors) == {"old_segments", "forget_old_segments"}
        named(errors)


@pytest.mark.parametrize("part", [1, 2, 3])
@pytest.mark.parametrize("damage", [instead("events", {"S": "x"}), instead("events", {"B": b"?"}), without("events")])
def test_a_damaged_part_is_an_error_that_names_its_partition(
    table: Table, tmp_path: Path, small_parts: None, part: int, damage: Damage
) -> None:
    layer = table.layer(tmp_path)
    layer.set([put("a", content=secrets.token_bytes(200))])
    table.put(damage(table.rows("")[rows.part_key(1, part)]))
    for call in (layer.get, layer.history, layer.sync):
        with pytest.raises(EventLogError, match="damaged") as caught:
            call("")
        assert caught.value.partition == ""


@pytest.mark.parametrize("what", LAYERS)
def test_a_damaged_row_of_the_layer_is_an_error_and_no_traceback(table: Table, what: str) -> None:
    log = table.open()
    append(log, "n")
    mark(log, fold(log))
    table.delete(*(sk for sk in table.rows(None) if sk.startswith(rows.SYNC)), partition=None)
    table.put(LAYERS[what](table.rows(None)[rows.META_KEY]))
    errors: list[EventLogError] = []
    calls: list[Callable[[], object]] = [
        table.open,
        log.pending,
        log.partitions,
        log.last_cursor,
        lambda: log.knows_cursor(cursor(5)),
        log.layer_state,
        lambda: log.costs("eu"),
    ]
    for call in calls:
        try:
            call()
        except EventLogError as error:
            errors.append(error)
    assert errors
    assert all("damaged" in error.message and table.name in error.message for error in errors)


def test_a_row_of_somebody_else_in_a_partition_is_an_error_and_no_record(table: Table) -> None:
    log = table.open()
    append(log, "n")
    table.put({**rows.key_of("users#eu", "note"), "text": {"S": "hello"}})
    errors = failing(table)
    assert "read" in errors
    named(errors)


# Expiry


class Past:
    """What a partition was at each version, by the test's own account."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = [{}]
        self.events: list[tuple[int, str, str]] = []

    def set(self, layer: Layer, events: list[dict[str, Any]]) -> None:
        state = dict(self.states[-1])
        version = len(self.states)
        for event in layer.set(events):
            assert event.version == version
            if event.type == "DELETE":
                state.pop(event.id, None)
            else:
                state[event.id] = event.item
            self.events.append((version, event.type, event.id))
        self.states.append(state)

    def items(self, version: int = -1) -> list[Any]:
        return [item for _, item in sorted(self.states[version].items())]


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_expires_a_read_is_right_or_refused_and_never_wrong(
    moto_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(rows, "PART_BYTES", 300)
    clock, rng, past = Ticking(), random.Random(seed), Past()
    refused: Counter[str] = Counter()
    with (
        FaultyDynamoDB(moto_server, seed=seed, clock=lambda: clock.now / MICROSECONDS) as proxy,
        fresh(proxy.url, behind=moto_server) as table,
    ):
        warm = table.layer(tmp_path, ttl=DAY, clock=clock)
        for _ in range(12):
            events = [
                delete(f"{rng.randrange(5)}")
                if rng.random() < 0.2
                else put(f"{rng.randrange(5)}", content=rng.randbytes(rng.choice((1, 1, 800))))
                for _ in range(rng.randint(1, 3))
            ]
            past.set(warm, events)
            if rng.random() < 0.5:
                warm.sync()
            clock.advance(rng.uniform(0, 0.6 * DAY))
            proxy.expire_some(rng.choice((1, 2, 5, None)))
            found = table.rows("")
            other = table.another()
            head = other.head("")
            assert all("ttl" not in row for sk, row in found.items() if not sk[0].isdigit())
            pending = {sk for sk in found if sk[0].isdigit() and (rows.version_of(found[sk]) or 0) > head.version}
            assert not [sk for sk in pending if "ttl" in found[sk]]
            cold = table.layer(tmp_path, other, ttl=DAY, clock=clock)
            newest = len(past.states) - 1
            for layer in (warm, cold):
                assert layer.get() == past.items()
            layer = rng.choice((warm, cold))
            for version in (newest, rng.randint(0, newest), rng.randint(0, newest)):
                try:
                    assert layer.get(at=version) == past.items(version)
                except HistoryError:
                    refused["as of"] += 1
                    assert version < newest
            history = [(event.version, event.type, event.id) for event in layer.history()]
            kept = {version for version, _, _ in history}
            assert history == [event for event in past.events if event[0] in kept]
            assert set(range(head.version + 1, newest + 1)) <= kept
            refused["history"] += len(history) < len(past.events)
        assert proxy.told["expired"] > 5
        assert set(refused) == {"as of", "history"}
        assert warm.verify().ok


def test_a_warm_reader_that_was_away_while_all_expired_starts_over(moto_server: str, tmp_path: Path) -> None:
    clock = Ticking()
    with (
        FaultyDynamoDB(moto_server, clock=lambda: clock.now / MICROSECONDS) as proxy,
        fresh(proxy.url, behind=moto_server) as table,
    ):
        away, busy = (table.layer(tmp_path, ttl=DAY, clock=clock) for _ in range(2))
        away.set([put("a")])
        assert away.get() == [{"id": "a"}]
        busy.set([put("b")])
        busy.set([delete("a")])
        busy.sync()
        clock.advance(DAY + 1)
        assert proxy.expire_some() == 3
        assert away.get() == [{"id": "b"}]
        assert away.history() == []
        with pytest.raises(HistoryError):
            away.get(at=1)


def test_nothing_expires_of_a_fold_that_was_not_marked(moto_server: str, tmp_path: Path) -> None:
    clock = Ticking()
    with (
        FaultyDynamoDB(moto_server, clock=lambda: clock.now / MICROSECONDS) as proxy,
        fresh(proxy.url, behind=moto_server) as table,
    ):
        layer = table.layer(tmp_path, ttl=DAY, clock=clock)
        layer.set([put("a")])
        crash(table, layer, DENIED)
        clock.advance(100 * DAY)
        assert proxy.expire_some() == 0
        assert layer.sync().count == 0
        (marked,) = (row for sk, row in table.rows("").items() if sk[0].isdigit())
        # By the clock at the marking: the floor counts from there.
        assert int(marked["ttl"]["N"]) >= clock.now // MICROSECONDS + DAY - 1
        assert proxy.expire_some() == 0
