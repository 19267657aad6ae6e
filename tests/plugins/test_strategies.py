"""Strategies: what each says, alone and together, whatever the clocks say; and that asking costs nothing."""

from __future__ import annotations

import dataclasses
import importlib
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dynalayer_strategies
from dynalayer import (
    ConfigurationError,
    EventLog,
    Layer,
    LayerError,
    LayerMeta,
    MemoryEventLog,
    PartitionMeta,
    SQLiteEventLog,
    hookimpl,
    load_strategy,
)
from dynalayer.testing.faults import WrappedLog
from dynalayer_strategies import (
    AgeStrategy,
    AllOfStrategy,
    AnyOfStrategy,
    BytesStrategy,
    CountStrategy,
    EveryStrategy,
    ScheduleStrategy,
    combined,
)
from servers import dynamodb_client, fresh_table
from strategies import texts

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
Answer = Literal[True, False, "partition"]


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def at(moment: datetime) -> Callable[[], int]:
    return lambda: microseconds(moment)


def iso(moment: datetime | None) -> str:
    return "__INITIAL__" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"


def metas(
    *,
    pending: int = 1,
    here: int | None = None,
    packed: int = 100,
    since: datetime | None = NOON,
    synced: datetime | None = None,
    synced_here: datetime | None = None,
) -> tuple[LayerMeta, PartitionMeta]:
    """What a strategy is given: events pending, also in the partition; since when; when the last syncs were."""
    here = pending if here is None else here
    layer = LayerMeta(iso(synced), loaded=True, **zeros(LayerMeta, unsynced_total=pending))
    counts = zeros(PartitionMeta, version=5, unsynced_total=here, unsynced_bytes=packed)
    oldest = since if here else None
    return layer, PartitionMeta("eu", cursor=iso(synced_here), unsynced_since=oldest, **counts)


def zeros(kind: type[Any], **others: int) -> dict[str, Any]:
    """All counts of a meta: 0 but for some."""
    return {field.name: 0 for field in dataclasses.fields(kind) if field.type == "int"} | others


def say(strategy: object, **given: Any) -> Answer:
    return load_strategy(strategy, table="users")(*metas(**given))


@dataclasses.dataclass
class Ticking:
    """A clock for a layer and its strategies, that goes when it is told to."""

    moment: datetime = NOON

    def __call__(self) -> int:
        return microseconds(self.moment)

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def put(identifier: str = "a", partition: str = "eu") -> dict[str, Any]:
    return {"type": "PUT", "item": {"pk": partition, "sk": identifier}}


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., Layer]]:
    layers: list[Layer] = []

    def built(*strategy: object, **options: Any) -> Layer:
        others: dict[str, Any] = {"events": "memory:", "storage": f"local:{tmp_path}/snapshots", **options}
        layers.append(
            Layer(
                table="users",
                get_item_unique_identifier="sk",
                get_item_partition="pk",
                sync_strategy=strategy,
                **others,
            )
        )
        return layers[-1]

    yield built
    for layer in layers:
        layer.close()


# How much is pending


@pytest.mark.parametrize(("pending", "said"), [(1, False), (99, False), (100, True), (101, True)])
def test_count_says_all_at_its_limit(pending: int, said: Answer) -> None:
    assert say("count:100", pending=pending, here=1) is said
    assert say(CountStrategy(100), pending=pending, here=1) is said


@pytest.mark.parametrize(("here", "said"), [(1, False), (99, False), (100, "partition"), (101, "partition")])
def test_count_per_partition_says_that_partition(here: int, said: Answer) -> None:
    assert say("count:100?per=partition", pending=1000, here=here) == said
    assert say(CountStrategy(100, per="partition"), pending=1000, here=here) == said


@pytest.mark.parametrize(("packed", "said"), [(0, False), (999, False), (1000, "partition"), (10**9, "partition")])
def test_bytes_says_the_partition_at_its_limit(packed: int, said: Answer) -> None:
    assert say("bytes:1000", packed=packed) == said


def test_bytes_are_those_that_the_log_keeps(build: Callable[..., Layer]) -> None:
    layer = build("bytes:1000")
    layer.set([put("a")])
    kept = layer.meta("eu").unsynced_bytes
    assert 0 < kept < 1000
    layer.set([{"type": "PUT", "item": {"pk": "eu", "sk": "b", "noise": secrets.token_hex(1000)}}, put("c", "us")])
    assert (layer.meta("eu").unsynced_bytes, layer.meta("us").unsynced_total) == (0, 1)


# How long ago


@pytest.mark.parametrize(("passed", "said"), [(0, False), (59.999999, False), (60, "partition"), (10**9, "partition")])
def test_age_says_the_partition_whose_oldest_pending_event_is_as_old(passed: float, said: Answer) -> None:
    assert say(AgeStrategy(60, clock=at(NOON + timedelta(seconds=passed)))) == said


def test_age_says_nothing_where_nothing_is_pending() -> None:
    assert say(AgeStrategy(60, clock=at(NOON)), pending=5, here=0) is False


@pytest.mark.parametrize(("passed", "said"), [(0, False), (59, False), (60, True), (10**9, True)])
def test_every_says_all_when_the_layers_last_sync_was_as_long_ago(passed: float, said: Answer) -> None:
    strategy = EveryStrategy(60, clock=at(NOON + timedelta(seconds=passed)))
    long_ago = NOON - timedelta(days=1)
    assert say(strategy, synced=NOON, since=long_ago, synced_here=long_ago) is said
    assert say(strategy, since=NOON) is said  # before the first sync


@pytest.mark.parametrize(("passed", "said"), [(0, False), (59, False), (60, "partition"), (10**9, "partition")])
def test_every_per_partition_says_that_partition(passed: float, said: Answer) -> None:
    strategy = EveryStrategy(60, per="partition", clock=at(NOON + timedelta(seconds=passed)))
    long_ago = NOON - timedelta(days=1)
    assert say(strategy, synced_here=NOON, since=long_ago, synced=long_ago) == said
    assert say(strategy, since=NOON, synced=long_ago) == said


@pytest.mark.parametrize(
    "strategy", [EveryStrategy(60), EveryStrategy(60, per="partition"), ScheduleStrategy("* * * * *")], ids=range(3)
)
def test_what_goes_by_the_last_sync_says_nothing_where_nothing_is_pending(strategy: object) -> None:
    assert say(strategy, pending=0, synced=NOON, synced_here=NOON) is False


@pytest.mark.parametrize(
    ("strategy", "given"),
    [
        (AgeStrategy, {}),
        (EveryStrategy, {"synced": NOON}),
        (lambda *args, **kwargs: EveryStrategy(*args, per="partition", **kwargs), {"synced_here": NOON}),
    ],
    ids=["age", "every", "every per partition"],
)
@pytest.mark.parametrize(
    ("behind", "pending", "yes"),
    [
        (0, 10**6, False),
        (60, 10**6, False),  # it comes 60 seconds late
        (61, 1, False),
        (61, 99, False),
        (61, 100, True),
        (10 * 365 * 86400, 99, False),
        (10 * 365 * 86400, 100, True),
    ],
)
def test_a_clock_that_is_far_behind_leaves_it_to_the_events(
    strategy: Callable[..., object], given: dict[str, Any], behind: float, pending: int, yes: bool
) -> None:
    clock = at(NOON - timedelta(seconds=behind))
    assert bool(say(strategy(60, clock=clock), pending=pending, **given)) is yes


@pytest.mark.parametrize("made", [AgeStrategy, EveryStrategy], ids=["age", "every"])
def test_after_a_clock_went_backward_there_is_a_sync_neither_at_every_set_nor_never(
    build: Callable[..., Layer], made: Callable[..., object]
) -> None:
    """Moments that are stored never run backward: all that comes stands at the moment that was too far ahead."""
    clock = Ticking(NOON + timedelta(days=3650))
    layer = build(made(60, clock=clock), clock=clock)
    layer.set([put()])
    layer.sync()
    clock.moment = NOON
    syncs = layer.meta().synced_times
    for number in range(250):
        layer.set([put(str(number))])
        clock.forward(1)
    assert layer.meta().synced_times - syncs == 2
    assert layer.meta().unsynced_total == 50
    clock.moment = NOON + timedelta(days=3651)  # there the others have reached it
    layer.set([put()])
    assert layer.meta().unsynced_total == 0


def test_a_clock_that_jumps_ahead_leads_to_one_sync_and_goes_on_from_there(build: Callable[..., Layer]) -> None:
    clock = Ticking()
    layer = build(AgeStrategy(60, clock=clock), clock=clock)
    layer.set([put()])
    clock.forward(10**8)
    for number in range(60):  # a minute from there
        layer.set([put(str(number))])
        clock.forward(1)
    assert layer.meta().synced_times == 1
    assert layer.meta().unsynced_total == 59
    clock.forward(1)
    layer.set([put()])
    assert (layer.meta().synced_times, layer.meta().unsynced_total) == (2, 0)


def test_age_waits_for_each_partition_and_every_for_the_layer(build: Callable[..., Layer]) -> None:
    clock = Ticking()
    aging, timed = (build(made(60, clock=clock), clock=clock) for made in (AgeStrategy, EveryStrategy))
    for layer in (aging, timed):
        layer.set([put("a", "eu")])
    clock.forward(30)
    for layer in (aging, timed):
        layer.set([put("a", "us")])
    clock.forward(30)
    for layer in (aging, timed):
        layer.set([put("b", "eu")])
    assert [aging.meta(each).unsynced_total for each in ("eu", "us")] == [0, 1]
    assert timed.meta().unsynced_total == 0
    clock.forward(59)
    timed.set([put("b", "us")])
    assert timed.meta().unsynced_total == 1
    clock.forward(1)
    timed.set([put("c", "us")])
    assert (timed.meta().unsynced_total, timed.meta().synced_times) == (0, 2)


# By the calendar


@pytest.mark.parametrize(
    ("expression", "zone", "since", "due"),
    [
        ("0 4 * * *", "UTC", "2026-03-10T03:59:59.999999+00:00", "2026-03-10T04:00:00+00:00"),
        ("0 4 * * *", "UTC", "2026-03-10T04:00:00+00:00", "2026-03-11T04:00:00+00:00"),
        ("0 4 * * *", "UTC", "2026-03-10T04:00:00.000001+00:00", "2026-03-11T04:00:00+00:00"),
        ("*/15 * * * *", "UTC", "2026-03-10T04:01:00+00:00", "2026-03-10T04:15:00+00:00"),
        ("0 4 * * MON-FRI", "UTC", "2026-03-13T05:00:00+00:00", "2026-03-16T04:00:00+00:00"),
        ("0 0 29 2 *", "UTC", "2026-03-10T00:00:00+00:00", "2028-02-29T00:00:00+00:00"),
        ("0 4 * * *", "Europe/Berlin", "2026-03-10T00:00:00+00:00", "2026-03-10T03:00:00+00:00"),
        ("0 4 * * *", "America/New_York", "2026-03-10T00:00:00+00:00", "2026-03-10T08:00:00+00:00"),
        # Clocks go forward there on 29 March at 2, and back on 25 October at 3.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+00:00", "2026-03-29T01:00:00+00:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+00:00", "2026-10-25T00:30:00+00:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"),
        ("0 * * * *", "Europe/Berlin", "2026-10-25T00:00:00+00:00", "2026-10-25T01:00:00+00:00"),
    ],
)
@pytest.mark.parametrize("per", ["layer", "partition"])
def test_schedule_is_due_from_the_first_moment_after_the_last_sync(
    expression: str, zone: str, since: str, due: str, per: Literal["layer", "partition"]
) -> None:
    last, moment = datetime.fromisoformat(since), datetime.fromisoformat(due)
    known: list[Mapping[str, Any]] = [{"since": last}, {"synced" if per == "layer" else "synced_here": last}]
    for each in known:
        for clock, said in [
            (last, False),
            (moment - timedelta(microseconds=1), False),
            (moment, "partition" if per == "partition" else True),
            (moment + timedelta(days=400), "partition" if per == "partition" else True),
        ]:
            assert say(ScheduleStrategy(expression, zone=zone, per=per, clock=at(clock)), **each) == said


@pytest.mark.parametrize(
    ("behind", "pending", "said"),
    [
        (timedelta(minutes=59), 10**6, False),  # the next moment is that after the last sync: it comes a little late
        (timedelta(minutes=61), 99, False),
        (timedelta(minutes=61), 100, True),
        (timedelta(days=3650), 99, False),
        (timedelta(days=3650), 100, True),
    ],
)
def test_schedule_with_a_clock_that_is_behind_by_a_whole_step_leaves_it_to_the_events(
    behind: timedelta, pending: int, said: Answer
) -> None:
    last = NOON + timedelta(minutes=59)
    strategy = ScheduleStrategy("0 * * * *", clock=at(last - behind))
    assert say(strategy, pending=pending, synced=last) is said


def test_a_schedule_syncs_once_a_moment(build: Callable[..., Layer]) -> None:
    clock = Ticking(NOON - timedelta(minutes=2, seconds=30))
    layer = build(ScheduleStrategy("0 * * * *", clock=clock), clock=clock)
    times = []
    for number in range(5):
        layer.set([put(str(number))])
        times.append(layer.meta().synced_times)
        clock.forward(60)
    assert times == [0, 0, 0, 1, 1]
    clock.forward(3600)
    layer.set([put()])
    assert layer.meta().synced_times == 2


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "has five fields"),
        ("0 4 * *", "has five fields"),
        ("0 0 4 * * *", "has five fields"),
        ("@daily", "has five fields"),
        ("60 * * * *", "Bad minute"),
        ("0 24 * * *", "Bad hour"),
        ("0 0 32 * *", "Bad day-of-month"),
        ("0 0 30 2 *", "Bad day-of-month"),
        ("* * */20 * 1L", "of no moment that ever comes"),
        ("* * * * 1L/2", "has five fields"),
        (f"{'1,' * 200}1 * * * *", "has five fields"),
        (f"{'9' * 150} * * * *", "Bad minute"),
    ],
    ids=range(12),
)
def test_an_expression_that_is_none_is_refused(build: Callable[..., Layer], expression: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        build(ScheduleStrategy(expression))
    with pytest.raises(ConfigurationError, match=words):
        build({"use": "schedule", "expression": expression})


@pytest.mark.parametrize("zone", ["", "Nowhere", "Europe", "/etc/passwd", "../UTC", "Europe/Berlin\0", "é", "\ud800"])
def test_a_zone_that_is_none_is_refused(build: Callable[..., Layer], zone: str) -> None:
    with pytest.raises(ConfigurationError, match="no time zone that is known here"):
        build({"use": "schedule:0 4 * * *", "zone": zone})


FIELDS = st.lists(st.sampled_from([*"0159*,-/#L", "W", "MON", "JAN", "²"]), max_size=4).map("".join)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        texts(),
        st.lists(
            st.lists(st.sampled_from([*"0159*,-/#L", "W", "MON", "JAN", "²"]), max_size=4).map("".join), max_size=6
        ).map(" ".join),
    )
)
def test_any_text_is_a_schedule_or_a_configuration_error(expression: str) -> None:
    try:
        strategy = ScheduleStrategy(expression, clock=at(NOON + timedelta(days=50 * 366)))
    except ConfigurationError:
        return
    assert say(strategy, since=NOON) is True


WITHOUT = """
import sys
sys.modules["cronsim"] = None
from dynalayer import ConfigurationError, PluginLoadError, load_plugin
import dynalayer_strategies
assert load_plugin("count:5", table="users")
try:
    load_plugin("schedule:0 4 * * *", table="users")
except PluginLoadError as error:
    assert "run: pip install 'dynalayer[strategies]'" in str(error), error
try:
    from dynalayer_strategies import ScheduleStrategy
except ConfigurationError as error:
    print(error)
"""


def test_without_cronsim_all_but_schedule_work_and_it_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (
        0,
        "ScheduleStrategy needs cronsim; pip install 'dynalayer[strategies]'",
    ), done.stderr


# Made of others


def always(said: object) -> Callable[[LayerMeta], object]:
    return lambda meta: said


@pytest.mark.parametrize(
    ("answers", "any_of", "all_of"),
    [
        ([True], True, True),
        ([None], False, False),
        (["partition"], "partition", "partition"),
        ([True, True], True, True),
        ([True, None], True, False),
        ([None, True], True, False),
        ([None, 0], False, False),
        ([True, "partition"], True, "partition"),
        (["partition", True], True, "partition"),
        (["partition", "partition"], "partition", "partition"),
        (["partition", False], "partition", False),
        ([False, "partition", True], True, False),
        (["yes", [1]], True, True),
    ],
)
def test_any_of_and_all_of_say_what_theirs_come_to(answers: list[object], any_of: Answer, all_of: Answer) -> None:
    strategies = [always(said) for said in answers]
    assert say(AnyOfStrategy(strategies)) == any_of
    assert say(AllOfStrategy(strategies)) == all_of


@pytest.mark.parametrize(
    "strategy",
    [
        "all-of:count:100;bytes:50",
        {"use": "all-of", "strategies": ["count:100", "bytes:50"]},
        {"use": "all-of", "strategies": [{"use": "count", "limit": 100}, {"use": "bytes:50"}]},
        {"use": "all-of", "strategies": "count:100; bytes:50"},
        AllOfStrategy(["count:100", BytesStrategy(50)]),
        AllOfStrategy((lambda meta: meta.unsynced_total >= 100, "bytes:50")),
        AnyOfStrategy([AllOfStrategy(["count:100", "bytes:50"])]),
        {"use": "any-of", "strategies": [{"use": "all-of", "strategies": ["count:100", "bytes:50"]}]},
    ],
    ids=range(8),
)
def test_all_of_is_written_as_text_as_a_table_and_as_an_object(strategy: object) -> None:
    assert say(strategy, pending=100, packed=50) == "partition"
    assert say(strategy, pending=99, packed=50) is False
    assert say(strategy, pending=100, packed=49) is False


def test_a_function_in_them_may_take_the_partitions_meta_and_a_plugin_leave_out_arguments() -> None:
    class Sparse:
        @hookimpl
        def layer_strategy(self, partition_meta: PartitionMeta) -> bool:
            return partition_meta.partition == "eu"

    assert say(AllOfStrategy([Sparse(), lambda meta, partition_meta: (meta, partition_meta) == metas()])) is True


def test_the_strategies_in_them_are_given_the_layers_table(
    build: Callable[..., Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def made(self: CountStrategy, limit: int, *, table: str) -> None:
        given.append(table)

    monkeypatch.setattr(CountStrategy, "__init__", made)
    build({"use": "any-of", "strategies": ["all-of:count:5"]})
    AnyOfStrategy(["count:5"], table="others")
    assert given == ["users", "others"]


def test_all_of_asks_no_further_than_the_first_that_says_no() -> None:
    def never(meta: LayerMeta) -> bool:
        raise AssertionError

    assert say(AllOfStrategy([always(None), never])) is False


@pytest.mark.parametrize("made", [AnyOfStrategy, AllOfStrategy])
@pytest.mark.parametrize(
    ("strategies", "words"),
    [
        ([], "is made of a list of strategies, one at least"),
        ("count:5", "is made of a list of strategies"),
        (5, "is made of a list of strategies"),
        ({"use": "count:5"}, "is made of a list of strategies"),
        ([5], "sync_strategy is a function of the layer's meta"),
        ([CountStrategy], "not the class CountStrategy"),
        (["thread"], "sync_strategy is a function of the layer's meta"),
        (["count:x"], "limit is a whole number"),
        (["cuont:5"], "there is no plugin 'cuont'"),
        (["count:5", ""], "'' is no name"),
    ],
    ids=range(10),
)
def test_what_is_no_list_of_strategies_is_refused(made: Callable[..., object], strategies: object, words: str) -> None:
    with pytest.raises(LayerError, match=words):
        made(strategies)


def nested(levels: int) -> dict[str, Any]:
    spec: dict[str, Any] = {"use": "count:1"}
    for _ in range(levels):
        spec = {"use": "any-of", "strategies": [spec]}
    return spec


def test_strategies_are_nested_eight_levels_deep_and_no_deeper(build: Callable[..., Layer]) -> None:
    assert say(nested(8)) is True
    around_itself: list[Any] = []
    around_itself.append({"use": "all-of", "strategies": around_itself})
    built: object = CountStrategy(1)
    for _ in range(8):
        built = AllOfStrategy([built])
    assert say(built) is True
    for deeper in (
        nested(9),
        {"use": "any-of", "strategies": around_itself},
        f"{'all-of:' * 2000}count:1",
        {"use": "any-of", "strategies": [built]},
    ):
        with pytest.raises(ConfigurationError, match="nested deeper than 8 levels or holds more than 100"):
            build(deeper)


def test_a_strategy_holds_a_bounded_number_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combined, "_STRATEGIES", 10)
    one = CountStrategy(1)
    assert say(AnyOfStrategy([one] * 10)) is True
    assert say(AnyOfStrategy([AnyOfStrategy([one] * 4)] * 2)) is True
    five = AnyOfStrategy([one] * 5)
    for more in ([one] * 11, [five] * 2, [{"use": "any-of", "strategies": [one] * 10}]):
        with pytest.raises(ConfigurationError, match="nested deeper than 8 levels or holds more than 10"):
            AllOfStrategy(more)


def test_a_strategy_that_failed_to_be_made_leaves_no_level_behind() -> None:
    for _ in range(20):
        with pytest.raises(ConfigurationError):
            AnyOfStrategy([{"use": "any-of", "strategies": ["count:x"]}])
    assert say(nested(8)) is True


# Settings, and what asking costs


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("count:0", "the limit of strategy 'count' is a whole number above 0"),
        ("count:-1", "the limit of strategy 'count' is a whole number above 0"),
        ("count", "needs a setting 'limit'"),
        ("count:5?per=table", "per is 'layer' or 'partition'"),
        ("bytes:0", "the limit of strategy 'bytes' is a whole number above 0"),
        ("bytes:5?per=layer", "has no setting 'per'"),
        ("age:0", "the seconds of strategy 'age' are a number above 0"),
        ("age:-1", "the seconds of strategy 'age' are a number above 0"),
        ("age:inf", "seconds is a number"),
        ("age:60?per=partition", "has no setting 'per'"),
        ("every:0", "the seconds of strategy 'every' are a number above 0"),
        ("every:60?clock=os:sep", "names something that is no function"),
        ("schedule", "needs a setting 'expression'"),
        ("any-of", "needs a setting 'strategies'"),
    ],
)
def test_wrong_settings_are_refused_when_the_layer_is_built(build: Callable[..., Layer], spec: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        build(spec)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CountStrategy("5"),  # type: ignore[arg-type] # that is the point, here and below
        lambda: CountStrategy(True),  # noqa: FBT003 -- likewise
        lambda: CountStrategy(5, per="table"),  # type: ignore[arg-type]
        lambda: BytesStrategy(1.5),  # type: ignore[arg-type]
        lambda: AgeStrategy("60"),  # type: ignore[arg-type]
        lambda: AgeStrategy(float("inf")),
        lambda: AgeStrategy(float("nan")),
        lambda: AgeStrategy(60, clock=5),  # type: ignore[arg-type]
        lambda: EveryStrategy(None),  # type: ignore[arg-type]
        lambda: ScheduleStrategy(5),  # type: ignore[arg-type]
        lambda: ScheduleStrategy("0 4 * * *", zone=5),  # type: ignore[arg-type]
    ],
    ids=range(11),
)
def test_wrong_arguments_are_refused_in_python_too(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()


@pytest.mark.parametrize("told", [1_700_000_000, 1.7e15, None, 10**30, -1])
def test_a_clock_of_another_unit_is_reported_and_the_set_is_done(build: Callable[..., Layer], told: Any) -> None:
    layer = build(AgeStrategy(60, clock=lambda: told))
    assert layer.set([put()])[0].version == 1
    assert "a strategy's clock tells whole microseconds since 1970" in (layer.meta().error or "")


def test_the_wall_clock_is_the_clock_where_none_is_given(build: Callable[..., Layer]) -> None:
    layer = build(AgeStrategy(3600), {"use": "every", "seconds": 3600}, "schedule:0 0 29 2 *")
    layer.set([put()])
    assert (layer.meta().unsynced_total, layer.meta().error) == (1, None)
    early = build(AgeStrategy(3600), clock=at(datetime.now(UTC) - timedelta(hours=2)))
    early.set([put()])
    assert (early.meta().unsynced_total, early.meta().error) == (0, None)


OURS = [
    "count:99",
    "count:99?per=partition",
    "bytes:99999",
    "age:9999",
    "every:9999",
    "every:9999?per=partition",
    "schedule:0 0 29 2 *",
    "schedule:0 0 29 2 *?per=partition",
    "any-of:count:99;age:9999",
    "all-of:count:99;age:9999",
]


class CountingLog(WrappedLog):
    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.calls: list[str] = []

    def through(self, method: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.calls.append(method)
        return call(*args, **kwargs)


def test_asking_ours_calls_the_log_no_more_than_asking_a_plain_function(build: Callable[..., Layer]) -> None:
    calls = []
    for strategies in ([lambda meta, partition_meta: False], OURS):
        log = CountingLog(MemoryEventLog("users"))
        layer = build(*strategies, events=log)
        log.calls.clear()
        layer.set([put("a", "eu"), put("b", "us")])
        calls.append(list(log.calls))
        assert layer.meta().error is None
    assert calls[0] == calls[1]
    assert "layer_state" in calls[0]


def test_answers_are_functions_of_what_is_given_alone() -> None:
    given = metas(pending=50, synced=NOON - timedelta(hours=1), synced_here=NOON - timedelta(hours=2))
    for spec in OURS:
        ask = load_strategy(spec, table="users")
        first = ask(*given)
        ask(*metas(pending=1000, since=NOON - timedelta(days=9)))
        ask(replace(given[0], cursor="__INITIAL__"), given[1])
        assert ask(*given) == first


# Over a log that several share


def test_counts_are_those_of_all_processes(build: Callable[..., Layer], tmp_path: Path) -> None:
    """Two logs over one file are two processes to it."""
    events = f"sqlite:///{tmp_path}/events.db"
    first, second = (build("count:4", "count:3?per=partition", events=events) for _ in range(2))
    first.set([put("a", "eu")])
    second.set([put("b", "eu"), put("a", "us")])
    assert first.meta().unsynced_total == 3
    first.set([put("b", "us")])
    assert second.meta().unsynced_total == 0
    for layer in (first, second, first):
        layer.set([put("c", "eu")])
    assert second.meta("eu").unsynced_total == 0


def test_a_sync_of_another_process_is_the_last_sync_too(build: Callable[..., Layer], tmp_path: Path) -> None:
    clock, events = Ticking(), f"sqlite:///{tmp_path}/events.db"
    first, second = (build(EveryStrategy(60, clock=clock), events=events, clock=clock) for _ in range(2))
    first.set([put()])
    clock.forward(60)
    first.set([put()])
    clock.forward(59)
    second.set([put()])
    assert second.meta().unsynced_total == 1
    clock.forward(1)
    second.set([put()])
    assert second.meta().unsynced_total == 0


def test_the_oldest_pending_event_may_be_another_processs(build: Callable[..., Layer], tmp_path: Path) -> None:
    clock, events = Ticking(), f"sqlite:///{tmp_path}/events.db"
    first, second = (build(AgeStrategy(60, clock=clock), events=events, clock=clock) for _ in range(2))
    first.set([put("a")])
    clock.forward(60)
    second.set([put("b")])
    assert first.meta().unsynced_total == 0


def test_an_old_log_is_opened_with_all_of_ours(build: Callable[..., Layer], tmp_path: Path) -> None:
    with closing(SQLiteEventLog(tmp_path / "events.db", "users")):
        pass
    layer = build(*OURS, events=f"sqlite:///{tmp_path}/events.db")
    layer.set([put()])
    assert layer.meta().error is None


# On DynamoDB, where the layer's counts may lag


@pytest.fixture
def dynamodb(dynamodb_local: str) -> Iterator[str]:
    with closing(dynamodb_client(dynamodb_local)) as client, fresh_table(client) as name:
        yield f"dynamodb://{name}?endpoint_url={quote(dynamodb_local, safe='')}"


def test_on_dynamodb_a_process_knows_its_own_last_sync_at_once(build: Callable[..., Layer], dynamodb: str) -> None:
    """Else it would sync at every set for as long as its counts may lag."""
    clock = Ticking()
    for strategy in (EveryStrategy(60, clock=clock), ScheduleStrategy("* * * * *", clock=clock)):
        layer = build(strategy, events=dynamodb, clock=clock)
        before = layer.meta().synced_times
        layer.set([put()])
        clock.forward(60)
        for number in range(5):
            layer.set([put(str(number))])
        assert layer.meta().error is None
        assert layer.meta().synced_times == before + 1


def test_on_dynamodb_asking_ours_requests_what_asking_a_plain_function_does(
    build: Callable[..., Layer], dynamodb: str
) -> None:
    usages = []
    for asked in (None, "ours", "a function"):  # the first finds no partitions yet, and has less to sum
        strategies: list[Any] = OURS if asked == "ours" else [lambda meta, partition_meta: False]
        layer = build(*strategies, events=dynamodb)
        for _ in range(3):
            layer.set([put("a", "eu"), put("b", "us")])
        assert (layer.meta().error, layer.meta().synced_times) == (None, 0)
        usages.append(layer.usage()["strategy"].requests)
    assert usages[1] == usages[2] > 0


# What is exported


def test_every_strategy_is_exported_by_its_name() -> None:
    assert sorted(dynalayer_strategies.__all__) == dynalayer_strategies.__all__
    for name in dynalayer_strategies.__all__:
        strategy: Any = getattr(dynalayer_strategies, name)
        assert strategy.__name__ == name
        assert f"{strategy.name}-strategy" == re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        importlib.import_module("dynalayer_strategies").Nothing  # noqa: B018 -- it is to raise
