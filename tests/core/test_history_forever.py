"""With `history="forever"` every event stays readable, exactly once, and so does every state that there was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import servers
from dynalayer import (
    ConfigurationError,
    DynamoDBEventLog,
    EventLog,
    HistoryError,
    InvalidInputError,
    Layer,
    MemoryEventLog,
    SegmentCorruptError,
    SegmentMissingError,
    SQLiteEventLog,
    hookimpl,
)
from dynalayer.chronicle import (
    FOREVER,
    FULL,
    due_history,
    history_of,
    history_segment,
    records_of,
    size_of,
    stretches,
    superseded,
)
from dynalayer.eventlog.base import Head, HeadMove, OldSegment, SegmentRef
from dynalayer.keeping import POLICY
from dynalayer_local import LocalAdapter
from fakes import DAY, Ticking, delete, put

Make = Callable[..., Layer]


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> EventLog:
    return MemoryEventLog("users") if request.param == "memory" else SQLiteEventLog(tmp_path / "events.db", "users")


@pytest.fixture
def make(tmp_path: Path, clock: Ticking, log: EventLog) -> Make:
    def make(**options: Any) -> Layer:
        given: dict[str, Any] = {
            "storage": LocalAdapter(tmp_path / "snapshots"),
            "clock": clock,
            "events": log,
            "history": "forever",
            "ttl": DAY,
            **options,
        }
        return Layer(table="users", get_item_unique_identifier="id", **given)

    return make


def expire(layer: Layer, clock: Ticking, days: float = 3) -> None:
    """Let time pass, and what may go be gone."""
    clock.advance(days * DAY)
    layer._log.expire(clock(), 1_000_000, "9")
    layer.vacuum(dry_run=False)


def live(layer: Layer, steps: int, start: int = 0, every: int = 3) -> list[list[dict[str, Any]]]:
    """Change things, with syncs between; the state after each step."""
    seen = []
    for step in range(start, start + steps):
        layer.set(
            [put(str(step % 7), step=step), put("deep", at=[{"in": {1.5, 2}}, None])]
            if step % 5
            else [delete(str(step % 7))]
        )
        seen.append(layer.get())
        if step % every == 0:
            layer.sync()
    return seen


def kept_versions(log: EventLog) -> list[int]:
    return [record.version for record in log.read("", 0).records]


def test_long_after_its_ttl_all_history_is_told_exactly_and_every_version_is_read_as_it_was(
    make: Make, clock: Ticking, log: EventLog
) -> None:
    layer = make()
    seen = [[], *live(layer, 60)]
    layer.sync()
    told = layer.history()
    assert len({(event.version, event.id) for event in told}) == len(told) > 100
    moments = {event.version: event.at for event in told}
    cursors = {event.version: event.cursor for event in told}
    expire(layer, clock, 500)
    assert kept_versions(log) == []
    later = make()
    assert later.history() == told
    assert later.history(id="3") == [event for event in told if event.id == "3"]
    assert later.history(after=50, through=55) == [event for event in told if 50 < event.version <= 55]
    assert [later.get(at=version) for version in range(61)] == seen
    for version in range(1, 61, 4):
        assert later.get(at=moments[version]) == seen[version]
        through = max(each for each, cursor in cursors.items() if cursor == cursors[version])
        assert later.get(at=cursors[version]) == seen[through], "a cursor means what its sync left"
    assert later.verify().findings == ()


def test_new_events_join_the_old_ones_whether_pending_folded_or_expired(
    make: Make, clock: Ticking, log: EventLog
) -> None:
    layer = make()
    seen = [[], *live(layer, 40)]
    expire(layer, clock)
    seen += live(layer, 20, 40)
    pending = kept_versions(log)
    assert 0 < len(pending) < 30
    assert [event.version for event in layer.history()] == [e.version for e in make().history(after=0, through=10**9)]
    assert sorted({event.version for event in layer.history()}) == list(range(1, 61))
    assert [layer.get(at=version) for version in range(61)] == seen


def test_without_it_nothing_is_stored_besides_snapshots_and_history_passes(
    make: Make, clock: Ticking, log: EventLog
) -> None:
    layer = make(history="ttl")
    live(layer, 20)
    layer.sync()
    assert history_of(log.old_segments("")) == ()
    expire(layer, clock)
    assert layer.history() == []
    with pytest.raises(HistoryError, match="history='forever' all"):
        layer.get(at=3)


def test_records_expire_only_that_a_listed_history_segment_holds(make: Make, clock: Ticking, tmp_path: Path) -> None:
    class Unable(LocalAdapter):
        able = True

        @hookimpl
        def layer_setter(self, partition: str, segment: Any) -> str:
            if segment.kind == "history" and not self.able:
                raise OSError("no room")
            return super().layer_setter(partition, segment)

    adapter = Unable(tmp_path / "unable")
    layer = make(storage=adapter)
    live(layer, 10)
    layer.sync()
    told = layer.history()
    adapter.able = False
    layer.set([put("later")])
    with pytest.raises(Exception, match="no room"):
        layer.sync()
    assert layer.meta("").unsynced_total == 1
    expire(layer, clock, 30)
    assert [event.id for event in layer.history()] == [*(event.id for event in told), "later"]
    adapter.able = True
    assert layer.sync().count == 1
    expire(layer, clock, 30)
    assert len(layer.history()) == len(told) + 1


def test_switched_on_later_it_reaches_back_to_what_the_log_still_has(make: Make, clock: Ticking, log: EventLog) -> None:
    before = make(history="ttl")
    live(before, 10)
    before.sync()
    expire(before, clock)  # the first ten are gone for good
    seen = live(before, 10, 10)
    before.sync()
    layer = make()
    seen += live(layer, 20, 20)
    layer.sync()
    told = layer.history()
    assert told[0].version == 11
    expire(layer, clock, 50)
    assert kept_versions(log) == []
    assert layer.history() == told
    assert [layer.get(at=version) for version in range(22, 41)] == seen[11:]
    with pytest.raises(HistoryError, match="reaches back past what is kept"):
        layer.get(at=3)
    assert layer.verify().findings == ()


def test_switched_off_later_a_gap_is_told_with_what_reads_around_it_and_never_passed_over(
    make: Make, clock: Ticking
) -> None:
    layer = make()
    seen = [[], *live(layer, 10)]
    layer.sync()
    told = layer.history()
    expire(layer, clock)
    off = make(history="ttl")
    live(off, 10, 10)
    off.sync()
    assert [event.version for event in off.history()][-1] == 20, "what the log has is no gap"
    expire(off, clock)
    with pytest.raises(HistoryError, match=r"versions 11 to 20 are kept nowhere.*history\(through=10\).*after=20"):
        off.history()
    with pytest.raises(HistoryError, match="versions 16 to 20"):
        off.history(after=15)
    assert off.history(through=10) == told
    assert off.history(after=20) == []
    assert [off.get(at=version) for version in range(11)] == seen
    with pytest.raises(HistoryError, match="reaches back past what is kept"):
        off.get(at=15)
    on = make()
    now = live(on, 10, 20)
    on.sync()
    expire(on, clock)
    assert next(event.version for event in on.history(after=20)) == 21
    with pytest.raises(HistoryError, match="versions 11 to 20"):
        on.history()
    assert [on.get(at=version) for version in range(22, 31)] == now[1:]
    assert [finding.problem for finding in on.verify().findings] == [
        "has no versions 11 to 20: somebody syncs without history='forever'"
    ]


def test_what_another_process_folds_without_it_is_brought_over_while_the_log_has_it(
    make: Make, clock: Ticking, log: EventLog
) -> None:
    on, off = make(), make(history="ttl")
    for step in range(40):
        on.set([put(str(step))])
        (off if step % 4 == 1 else on).sync()
    on.sync()
    while on.meta("").synced_times % 8 != 1:
        on.set([put("more")])
        on.sync()
    newest = on.meta("").version
    expire(on, clock)
    assert [event.version for event in on.history()] == list(range(1, newest + 1))
    assert len(stretches(history_of(log.old_segments("")))) == 1


def test_a_takeover_is_a_part_of_it_and_what_was_before_stays_readable(make: Make, clock: Ticking) -> None:
    layer = make()
    layer.set([put("a", n=1)])
    layer.import_snapshot("", [{"id": "taken"}])
    after = layer.get()
    layer.set([put("b", n=1)])
    layer.sync()
    expire(layer, clock)
    for step in range(30):
        layer.set([put(str(step % 3), step=step)])
        layer.sync()
    expire(layer, clock, 30)
    assert layer.get(at=0) == []
    assert layer.get(at=1) == [{"id": "a", "n": 1}]
    assert layer.get(at=2) == after == [{"id": "a", "n": 1}, {"id": "taken"}]
    assert [event.version for event in layer.history()][:3] == [1, 3, 4]
    assert len(layer.get(at=33)) == 6
    assert layer.verify().findings == ()


@pytest.mark.parametrize("deltas", [True, False])
def test_what_is_listed_stays_short_and_is_what_is_stored(
    make: Make, clock: Ticking, log: EventLog, tmp_path: Path, deltas: bool
) -> None:
    class Adapter(LocalAdapter):
        capabilities = replace(LocalAdapter.capabilities, deltas=deltas)

    layer = make(storage=Adapter(tmp_path / "some"))
    for step in range(60):
        layer.set([put(str(step % 5), step=step)])
        layer.sync()
    expire(layer, clock)
    listed = log.old_segments("")
    assert len(listed) <= 10
    assert {each.segment.ref for each in listed} | {each.ref for each in log.head("").segments} == set(
        layer._storage.list("")
    )
    assert sorted({event.version for event in layer.history()}) == list(range(1, 61))


def test_a_reader_whose_segments_are_merged_and_discarded_under_it_finds_the_merged_ones(
    make: Make, log: EventLog
) -> None:
    layer = make()
    other = make()
    for step in range(8):
        layer.set([put(str(step))])
        layer.sync()
    log.expire(2**62, 1000, "")
    runs = other._historian._recaller.runs("", 0)
    first = next(runs).records
    assert [record.version for record in first] == [1]
    layer.set([put("8")])
    layer.sync()
    layer.vacuum(dry_run=False)
    assert [record.version for run in runs for record in run.records] == list(range(2, 9))


def test_an_option_that_cannot_be_kept_is_refused_before_anything_is_opened(make: Make, tmp_path: Path) -> None:
    events = tmp_path / "none.db"
    with pytest.raises(ConfigurationError, match="history='for ever' is neither 'ttl' nor 'forever'"):
        make(history="for ever", events=f"sqlite:///{events}")
    with pytest.raises(ConfigurationError, match="has one place a partition"):
        Layer(
            table="users",
            get_item_unique_identifier="id",
            events=f"sqlite:///{events}",
            getter=lambda partition: [],
            setter=lambda partition, items: None,
            history="forever",
        )
    assert not events.exists()
    with pytest.raises(InvalidInputError, match="through='x' is no version"):
        make().history(through="x")  # type: ignore[arg-type] # that is what is refused


def named(after: int, through: int, size: int = 1000, ref: str = "") -> SegmentRef:
    name = f"{through:020d}-h{size.bit_length():02d}-origin-{ref}"
    return SegmentRef(ref or f"{after}-{through}", "history", after, through, 1, name, "2026-01-01T00:00:00.000000Z", 0)


def test_of_a_sync_a_minute_for_a_year_few_segments_are_listed_and_each_byte_is_rewritten_few_times() -> None:
    for kilobytes, days in ((1, 365), (100, 4)):
        sizes: list[int] = []
        written = longest = 0
        for _ in range(days * 24 * 60 // POLICY.every):
            sizes += [1024 * kilobytes] * POLICY.every
            while span := due_history(sizes, POLICY.least):
                merged = sum(sizes[slice(*span)])
                assert merged <= FULL
                sizes[slice(*span)] = [merged]
                written += merged
            longest = max(longest, len(sizes))
        assert longest <= sum(sizes) // (FULL // 2) + 20
        assert written < 15 * sum(sizes)


def test_what_merges_that_failed_left_behind_full_segments_is_merged_too() -> None:
    sizes = [FULL, 1000, 2000, FULL, *[1000] * 3]
    assert due_history(sizes, 8) == (1, 3)
    assert due_history([FULL, 3000, FULL, *[1000] * 3], 8) is None
    assert due_history([FULL // 2] * 3 + [1000] * 8, 8) == (3, 11) or due_history([FULL // 2] * 3, 8)


def test_the_longest_segments_are_read_and_what_they_hold_needs_no_other() -> None:
    history = [named(0, 1), named(1, 2), named(0, 2), named(2, 5), named(3, 8), named(20, 21)]
    found = stretches(history)
    assert [(each.after, each.through) for each in found] == [(0, 8), (20, 21)]
    assert [each.ref for each in found[0].segments] == ["0-2", "2-5", "3-8"]
    assert superseded(history) == ["0-1", "1-2"]
    assert size_of(history[0]) == 1024
    assert size_of(replace(history[0], name="another's")) == FULL
    assert stretches([]) == []


def test_a_history_segment_with_a_hole_or_an_odd_entry_is_corrupt(log: EventLog, make: Make) -> None:
    layer = make()
    for step in range(3):
        layer.set([put("a", step=step), put("b", step=step)])
    segment = history_segment(log, "", 0, log.read("", 0).records, "2026-01-01T00:00:00.000000Z")
    assert [record.count for record in records_of(segment)] == [2, 2, 2]
    assert len(segment.name) <= 60
    first, *_ = items = sorted(segment.items)

    def without(*gone: str, **other: Any) -> Any:
        return replace(segment, items={key: segment.items[key] for key in items if key not in gone}, **other)

    odd = {**segment.items, first: {**segment.items[first], "at": "noon"}}
    for damaged, what in (
        (without(items[0], items[1]), "has version 2 after 0"),
        (without(items[2], items[3]), "has version 3 after 1"),
        (without(items[4], items[5]), "ends before version 3"),
        (without(items[1 - 1]), "event 0 is missing"),
        (without(to_version=2), "has version 3 after 2"),
        (replace(segment, items={**segment.items, "x": {}}), "'x' is no version and place"),
        (replace(segment, items=odd), "no moment, cursor or total"),
        (replace(segment, items={first: {"id": "a"}}), "no event"),
    ):
        with pytest.raises(SegmentCorruptError, match=what):
            records_of(damaged)


def test_verify_finds_a_history_segment_that_is_gone_or_rotten(make: Make, log: EventLog, tmp_path: Path) -> None:
    layer = make()
    live(layer, 12)
    layer.sync()
    (path, *_) = tmp_path.rglob("*-h*.segment")
    data = path.read_bytes()
    path.write_bytes(data[:-20] + b"x" * 20)
    (finding,) = layer.verify().findings
    assert "-h" in finding.subject
    path.unlink()
    (finding,) = make().verify().findings
    assert "-h" in finding.subject
    log.expire(2**62, 1000, "9")
    with pytest.raises(SegmentMissingError):
        layer.history()


@pytest.mark.parametrize(
    "stack",
    [
        lambda folder: ["retry:3", f"cache:{folder}/cache", f"local:{folder}/x"],
        lambda folder: [{"use": "encryption", "key": lambda _=None: ("one", b"k" * 32)}, f"local:{folder}/x"],
        lambda folder: f"parquet+file:{folder}/x",
    ],
    ids=["retry, cache", "encryption", "parquet"],
)
def test_every_wrapper_and_store_keeps_it(clock: Ticking, tmp_path: Path, stack: Any) -> None:
    log = MemoryEventLog("users")

    def make() -> Layer:
        return Layer(
            table="users",
            get_item_unique_identifier="id",
            events=log,
            storage=stack(tmp_path),
            clock=clock,
            ttl=DAY,
            history="forever",
        )

    layer = make()
    seen = [[], *live(layer, 40, every=2)]
    layer.sync()
    told = layer.history()
    expire(layer, clock)
    later = make()
    assert later.history() == told
    assert [later.get(at=version) for version in range(0, 41, 8)] == seen[::8]
    assert later.verify().findings == ()


def test_on_dynamodb_few_rows_list_what_many_syncs_left(moto_server: str, tmp_path: Path, clock: Ticking) -> None:
    client = servers.dynamodb_client(moto_server)
    with servers.fresh_table(client) as table:
        log = DynamoDBEventLog(table, "users", client=client)
        layer = Layer(
            table="users",
            get_item_unique_identifier="id",
            events=log,
            storage=f"local:{tmp_path}",
            clock=clock,
            ttl=DAY,
            history="forever",
        )
        seen = [[], *live(layer, 20, every=1)]
        told = layer.history()
        for record in log.read("", 0).records:
            key = {"pk": {"S": "users#"}, "sk": {"S": f"{record.version:020d}"}}
            client.delete_item(TableName=table, Key=key)
        assert log.read("", 0).records == ()
        assert layer.history() == told
        assert [layer.get(at=version) for version in range(0, 21, 7)] == seen[::7]
        clock.advance(3 * DAY)
        layer.vacuum(dry_run=False)
        found = client.query(
            TableName=table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :old)",
            ExpressionAttributeValues={":pk": {"S": "users#"}, ":old": {"S": "!old#"}},
        )
        assert len(found["Items"]) <= 6
        assert layer.history() == told
        layer.close()
    client.close()


def test_two_that_shorten_one_list_bring_nothing_back(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = servers.dynamodb_client(moto_server)
    with servers.fresh_table(client) as table:
        log, other = (DynamoDBEventLog(table, "users", client=client) for _ in range(2))
        move = HeadMove(0, Head(revision=1), tuple(OldSegment(named(n, n + 1), 0, FOREVER) for n in range(3)))
        assert log.move_head("", move)
        shortened = log._retired._shortened

        def overtaken(*arguments: Any) -> bool:
            monkeypatch.undo()
            other.forget_old_segments("", ["0-1"])
            return shortened(*arguments)

        monkeypatch.setattr(log._retired, "_shortened", overtaken)
        log.forget_old_segments("", ["1-2"])
        assert [old.segment.ref for old in log.old_segments("")] == ["2-3"]
    client.close()
