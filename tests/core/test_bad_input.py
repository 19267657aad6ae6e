"""Bad input through the layer: the right error, the thing named, and nothing written."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import shutil
import sqlite3
import types
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dynalayer import (
    ClosedError,
    ConfigurationError,
    EventLogError,
    HistoryError,
    InvalidEventError,
    InvalidInputError,
    InvalidValueError,
    Layer,
    LayerError,
    MemoryEventLog,
    PluginError,
)

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)


def put(partition: str = "eu", identifier: Any = "a", **attributes: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": {"pk": partition, "sk": identifier, **attributes}}


class World:
    """A layer with something in it, and all that it keeps on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "events.db"
        self.layer = self.open()

    def open(self, **options: Any) -> Layer:
        given: dict[str, Any] = {
            "get_item_unique_identifier": "sk",
            "get_item_partition": "pk",
            "events": f"sqlite:///{self.database}",
            "storage": f"local:{self.folder}/snapshots",
            **options,
        }
        return Layer(table="users", **given)

    def kept(self) -> object:
        """Every row of the log and every byte of the snapshots, read round the layer."""
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            rows = list(db.iterdump())
        files = {path: path.read_bytes() for path in (self.folder / "snapshots").rglob("*") if path.is_file()}
        return rows, files


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a world to copy: to fill each anew would wait for the disk again and again."""
    made = World(tmp_path_factory.mktemp("filled"))
    made.layer.set([put("eu", "a", n=1), put("us", "b")])
    made.layer.sync()
    made.layer.set([put("eu", "c")])
    made.layer.close()
    return made.folder


@pytest.fixture
def world(tmp_path: Path, filled: Path) -> Iterator[World]:
    made = World(shutil.copytree(filled, tmp_path, dirs_exist_ok=True))
    yield made
    made.layer.close()


def refusal(world: World, call: Callable[[], object], kind: type[LayerError]) -> LayerError:
    """The error of a call that must have written nothing."""
    before = world.kept()
    with pytest.raises(kind) as caught:
        call()
    assert world.kept() == before
    str(caught.value).encode()
    return caught.value


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


# Events

BAD_EVENTS: list[tuple[str, object, type[LayerError], str]] = [
    ("no mapping", "PUT", InvalidEventError, "an event is a mapping with 'type' and 'item', not str"),
    ("none", None, InvalidEventError, "not NoneType"),
    ("unknown key", {**put(), "version": 1}, InvalidEventError, "unknown key 'version'"),
    ("unknown type", {**put(), "type": "INSERT"}, InvalidEventError, "type 'INSERT' is none of PUT, UPDATE, DELETE"),
    ("missing type", {"item": {"pk": "eu", "sk": "a"}}, InvalidEventError, "type None is none of"),
    ("missing item", {"type": "PUT"}, InvalidEventError, "it has no 'item'"),
    ("no dict", {"type": "PUT", "item": [1]}, InvalidValueError, "an item is a dict of attributes, not list"),
    ("another table", {**put(), "table": "user"}, InvalidEventError, "for table 'user'; this layer's is 'users'"),
    (
        "missing id",
        {"type": "PUT", "item": {"pk": "eu"}},
        InvalidEventError,
        "no attribute 'sk', which is its identifier",
    ),
    ("empty id", put(identifier=""), InvalidEventError, "identifier is empty"),
    ("bool as id", put(identifier=True), InvalidEventError, "identifier is bool (True)"),
    ("float as id", put(identifier=1.5), InvalidEventError, "identifier is float (1.5)"),
    ("none as id", put(identifier=None), InvalidEventError, "identifier is NoneType"),
    ("broken Decimal as id", put(identifier=Decimal("1.5")), InvalidEventError, "identifier is Decimal"),
    ("another id", {**put(), "id": "b"}, InvalidEventError, "it says id 'b', its item is 'a'"),
    ("another sort", {**put(), "sort": "b"}, InvalidEventError, "it says id 'b', its item is 'a'"),
    ("another partition", {**put(), "partition": "us"}, InvalidEventError, "partition 'us', its item belongs to 'eu'"),
    ("missing partition", {"type": "PUT", "item": {"sk": "a"}}, InvalidEventError, "no attribute 'pk'"),
    ("partition no text", put(partition=5), InvalidEventError, "a partition is text, not int"),  # type: ignore[arg-type] # bad
    ("partition too long", put(partition="é" * 257), InvalidEventError, "514 bytes of UTF-8; at most 512"),
    ("tuple", put(deep=[{"odd key": (1,)}]), InvalidValueError, "attribute deep[0]['odd key']: a value of type tuple"),
    ("nan", put(n=float("nan")), InvalidValueError, "attribute n: nan is no number"),
    ("infinity", put(n=Decimal("Infinity")), InvalidValueError, "attribute n: Decimal Infinity"),
    ("39 digits", put(n=10**38), InvalidValueError, "attribute n: a whole number of more than 38 digits"),
    ("mixed set", put(s={1, "a"}), InvalidValueError, "attribute s: a set is of text, of numbers or of bytes"),
    ("datetime", put(at=NOON), InvalidValueError, "attribute at: a value of type datetime cannot be kept; use text"),
    ("surrogate", put(x="\ud800"), InvalidValueError, "attribute x: holds a lone surrogate"),
    ("key no text", put(m={1: 2}), InvalidValueError, "attribute m: an attribute's name is text, not int (1)"),
    ("too deep", put(x=nested(33)), InvalidValueError, "more than 32 deep in one another"),
]


@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize(
    ("bad", "kind", "words"), [each[1:] for each in BAD_EVENTS], ids=[each[0] for each in BAD_EVENTS]
)
def test_a_bad_event_is_refused_by_name_and_nothing_of_its_batch_is_written(
    world: World, bad: object, kind: type[LayerError], words: str, position: int
) -> None:
    batch: list[object] = [put("eu", "x"), put("asia", "y"), put("us", "z")]
    batch.insert(position, bad)
    error = refusal(world, lambda: world.layer.set(batch), kind)
    assert isinstance(error, InvalidEventError)
    assert error.index == position
    assert f"event {position}: " in str(error)
    assert words in str(error)
    assert error.operation == "set"
    assert world.layer.partitions() == ["eu", "us"]


@pytest.mark.parametrize("which", ["identifier", "partition"])
def test_a_function_that_raises_is_told_and_nothing_is_written(world: World, which: str) -> None:
    def broken(item: dict[str, Any]) -> str:
        raise KeyError("shoe size")

    option = "get_item_unique_identifier" if which == "identifier" else "get_item_partition"
    with world.open(**{option: broken}) as layer:
        error = refusal(world, lambda: layer.set([put()]), InvalidEventError)
    assert f"the function for an item's {which} raised KeyError: 'shoe size'" in str(error)


def test_without_a_function_an_event_must_say_its_id(world: World) -> None:
    with world.open(get_item_unique_identifier=None) as layer:
        error = refusal(world, lambda: layer.set([put()]), InvalidEventError)
    assert "it has no 'id', and the layer was given no get_item_unique_identifier to ask" in str(error)


@pytest.mark.parametrize(
    "events",
    ["text", b"bytes", put(), {}, 5, None, 1.5, object()],
    ids=["str", "bytes", "an event", "dict", "int", "None", "float", "object"],
)
def test_what_is_no_list_of_events_is_refused(world: World, events: Any) -> None:
    error = refusal(world, lambda: world.layer.set(events), InvalidInputError)
    assert "set() takes a list of events" in str(error)
    assert type(events).__name__ in str(error)


@pytest.mark.parametrize("events", [types.MappingProxyType(put()), bytearray(b"x"), ["PUT"], [[]]], ids=range(4))
def test_a_list_of_what_are_no_events_is_refused(world: World, events: Any) -> None:
    assert "event 0: " in str(refusal(world, lambda: world.layer.set(events), InvalidEventError))


def test_events_that_stop_coming_write_nothing(world: World) -> None:
    def coming() -> Iterator[dict[str, Any]]:
        yield put("eu", "x")
        raise RuntimeError("the line went dead")

    before = world.kept()
    with pytest.raises(RuntimeError, match="the line went dead"):
        world.layer.set(coming())
    assert world.kept() == before


def test_no_events_are_no_work(world: World) -> None:
    before = world.kept()
    assert world.layer.set([]) == []
    assert world.layer.set(iter(())) == []
    assert world.kept() == before


def test_events_too_large_for_one_set_are_refused_before_anything_is_written() -> None:
    log = MemoryEventLog("users")
    log.record_limit = 1000
    with Layer(
        table="users", get_item_unique_identifier="sk", get_item_partition="pk", events=log, storage="local:unused"
    ) as layer:
        large = [put("us", f"user-{number}", x=f"{number * 7919:x}") for number in range(200)]
        with pytest.raises(InvalidInputError, match="the 200 events for one partition take") as caught:
            layer.set([put("eu"), *large])
        assert "1000: give them in several" in str(caught.value)
        assert (caught.value.operation, caught.value.partition) == ("set", "us")
        noise = random.Random(1).randbytes(2000)
        with pytest.raises(InvalidInputError, match=r"the one event for a partition takes .* an event is never split"):
            layer.set([put("eu"), put("us", x=noise)])
        assert layer.partitions() == []
        assert layer.meta().loaded is False


# Times to live


@pytest.mark.parametrize(
    ("ttl", "words"),
    [
        (24 * 3600 - 1, "ttl=86399 seconds is less than a day; at least 86400 are needed"),
        (86399.9, "less than a day"),
        (0, "less than a day"),
        (-1, "less than a day"),
        (float("nan"), "ttl is a number of seconds or a function of the item, not nan"),
        (float("inf"), "not inf"),
        (True, "not True"),
        ("86400", "not '86400'"),
        (None, "not None"),
        (dt.timedelta(days=5), "not datetime.timedelta"),
    ],
    ids=range(10),
)
def test_a_bad_ttl_is_refused_when_the_layer_is_built_and_when_a_function_tells_it(
    world: World, ttl: Any, words: str
) -> None:
    assert words in str(refusal(world, lambda: world.open(ttl=ttl), ConfigurationError))
    with world.open(ttl=lambda item: ttl if item["sk"] == "z" else 10**6) as layer:
        error = refusal(world, lambda: layer.set([put("eu", "x"), put("us", "z")]), ConfigurationError)
        assert words in str(error)
        assert error.operation == "set"


def test_a_ttl_function_that_raises_is_told_and_nothing_is_written(world: World) -> None:
    def broken(item: dict[str, Any]) -> float:
        raise KeyError("lifetime")

    with world.open(ttl=broken) as layer:
        error = refusal(world, lambda: layer.set([put()]), InvalidInputError)
    assert "ttl" in str(error)
    assert "KeyError: 'lifetime'" in str(error)


def test_a_ttl_of_exactly_a_day_is_taken(world: World) -> None:
    with world.open(ttl=24 * 3600) as layer:
        layer.set([put("eu", "x")])


# Options


def nothing(*_: object) -> None:
    return None


BAD_OPTIONS: list[tuple[str, dict[str, Any], type[LayerError], str]] = [
    ("table with a slash", {"table": "a/b"}, ConfigurationError, "table='a/b' is no table name"),
    ("empty table", {"table": ""}, ConfigurationError, "table='' is no table name"),
    ("long table", {"table": "x" * 256}, ConfigurationError, "1 to 255 of A-Z a-z 0-9 _ . -"),
    ("table no text", {"table": None}, ConfigurationError, "table=None is no table name"),
    ("lease 0", {"lease": 0}, ConfigurationError, "lease=0"),
    ("negative lease", {"lease": -1}, ConfigurationError, "lease=-1"),
    ("lease nan", {"lease": float("nan")}, ConfigurationError, "lease=nan"),
    ("lease infinite", {"lease": float("inf")}, ConfigurationError, "lease=inf"),
    ("lease no number", {"lease": "60"}, ConfigurationError, "lease='60'"),
    ("cache_bytes no number", {"cache_bytes": "1 MB"}, ConfigurationError, "cache_bytes='1 MB'"),
    ("negative cache_bytes", {"cache_bytes": -1}, ConfigurationError, "cache_bytes=-1"),
    ("clock no function", {"clock": 5}, ConfigurationError, "clock"),
    ("ttl below a day", {"ttl": 60}, ConfigurationError, "ttl=60 seconds is less than a day"),
    ("history neither", {"history": "always"}, ConfigurationError, "history='always' is neither 'ttl' nor 'forever'"),
    ("history no text", {"history": True}, ConfigurationError, "history=True is neither"),
    ("ttl nan", {"ttl": float("nan")}, ConfigurationError, "ttl is a number of seconds"),
    ("getter alone", {"getter": nothing, "storage": None}, ConfigurationError, "go together; setter is missing"),
    ("setter alone", {"setter": nothing, "storage": None}, ConfigurationError, "go together; getter is missing"),
    (
        "a pair and storage",
        {"getter": nothing, "setter": nothing},
        ConfigurationError,
        "in place of storage; leave one out",
    ),
    (
        "a pair without identifier",
        {"getter": nothing, "setter": nothing, "storage": None, "get_item_unique_identifier": None},
        ConfigurationError,
        "needs get_item_unique_identifier",
    ),
    ("getter no function", {"getter": 5, "setter": nothing, "storage": None}, ConfigurationError, "getter"),
    ("setter no function", {"getter": nothing, "setter": "x", "storage": None}, ConfigurationError, "setter"),
    ("identifier no function", {"get_item_unique_identifier": 5}, ConfigurationError, "get_item_unique_identifier"),
    ("partition no function", {"get_item_partition": ["pk"]}, ConfigurationError, "get_item_partition"),
    ("plugins a str", {"plugins": "thread"}, ConfigurationError, "write plugins=['thread']"),
    ("plugins no list", {"plugins": 5}, ConfigurationError, "plugins"),
    ("plugins none", {"plugins": None}, ConfigurationError, "plugins"),
    ("unknown plugin", {"plugins": ["nosuch"]}, PluginError, "there is no plugin 'nosuch'"),
    ("unknown runner", {"background_runner": "nosuch"}, PluginError, "there is no plugin 'nosuch'"),
    (
        "strategy no function",
        {"sync_strategy": 100},
        ConfigurationError,
        "sync_strategy is a function of the layer's meta",
    ),
    ("unknown adapter", {"storage": "nosuch:x"}, PluginError, "there is no adapter 'nosuch'"),
    ("storage no URL", {"storage": "snapshots"}, ConfigurationError, "storage='snapshots' is no URL"),
    ("storage a Path", {"storage": Path("snapshots")}, PluginError, "is no adapter"),
    ("empty storage", {"storage": []}, ConfigurationError, "storage is an empty list"),
    ("storage without a path", {"storage": "local:"}, ConfigurationError, "storage names no path"),
    ("storage on a host", {"storage": "local://host/x"}, ConfigurationError, "names a host"),
    ("unknown option", {"storage": "local:x?mode=ro"}, ConfigurationError, "knows no option 'mode'"),
    ("a null byte in storage", {"storage": "local:a%00b"}, LayerError, "storage"),
    ("events no URL", {"events": "events.db"}, ConfigurationError, "events='events.db' is no URL"),
    ("events relative", {"events": "sqlite:events.db"}, ConfigurationError, "write sqlite:///relative/path.db"),
    ("events on a host", {"events": "sqlite://events.db"}, ConfigurationError, "with three or four slashes"),
    ("events without a path", {"events": "sqlite:///"}, ConfigurationError, "write sqlite:///relative/path.db"),
    ("events with an option", {"events": "sqlite:///e.db?mode=ro"}, ConfigurationError, "knows no option 'mode'"),
    ("memory with a path", {"events": "memory:x"}, ConfigurationError, "memory: takes no path"),
    ("unknown log", {"events": "nosuch:x"}, ConfigurationError, "there is no event log 'nosuch'"),
    ("a store as events", {"events": "local:x"}, ConfigurationError, "it keeps snapshots: give it as storage"),
    ("a log as storage", {"storage": "sqlite:///e.db"}, ConfigurationError, "sqlite keeps events, no snapshots"),
    ("events a Path", {"events": Path("events.db")}, ConfigurationError, "events is a URL or an EventLog, not"),
    ("another table's log", {"events": MemoryEventLog("others")}, ConfigurationError, "is for table 'others'"),
    ("a null byte in events", {"events": "sqlite:///a%00b.db"}, LayerError, "events"),
    ("credentials", {"storage": "local://me:secret@host/x"}, ConfigurationError, "holds credentials"),
]


@pytest.mark.parametrize(
    ("options", "kind", "words"), [each[1:] for each in BAD_OPTIONS], ids=[each[0] for each in BAD_OPTIONS]
)
def test_a_bad_option_is_refused_by_name_when_the_layer_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], kind: type[LayerError], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {
        "table": "users",
        "get_item_unique_identifier": "sk",
        "events": "memory:",
        "storage": "local:snapshots",
        **options,
    }
    with pytest.raises(kind) as caught:
        Layer(**given).close()
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"table": "a/b"},
        {"lease": 0},
        {"ttl": 60},
        {"storage": "nosuch:x"},
        {"storage": "local:"},
        {"storage": []},
        {"storage": object()},
        {"plugins": ["nosuch"]},
        {"sync_strategy": 100},
        {"getter": nothing},
    ],
    ids=range(10),
)
def test_a_layer_that_is_refused_leaves_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"table": "users", "get_item_unique_identifier": "sk", **options}
    with pytest.raises(LayerError):
        Layer(**given)
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_was_given_stays_open_when_the_layer_is_refused() -> None:
    log = MemoryEventLog("users")
    with pytest.raises(ConfigurationError):
        Layer(table="users", events=log, storage="local:unused", ttl=60)
    assert log.partitions() == ()


def test_a_log_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "foreign.db").write_bytes(b"this is no database, whatever its name may say" * 20)
    (tmp_path / "folder.db").mkdir()
    for name in ("foreign.db", "folder.db", "foreign.db/events.db"):
        with pytest.raises(EventLogError, match=name):
            Layer(table="users", events=f"sqlite:///{tmp_path}/{name}", storage=f"local:{tmp_path}/snapshots")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.db", "foreign.db"]


def test_a_layer_built_with_arguments_in_order_is_refused() -> None:
    with pytest.raises(TypeError, match="positional"):
        Layer("users", "sk")  # type: ignore[call-arg] # that is the point


# Reading

NOT_TEXT: list[Any] = [5, True, b"eu", ["eu"], 1.5]


@pytest.mark.parametrize("partition", [*NOT_TEXT, None], ids=str)
def test_a_partition_that_is_no_text_cannot_be_read(world: World, partition: Any) -> None:
    for call in (lambda: world.layer.get(partition), lambda: world.layer.history(partition)):
        error = refusal(world, call, InvalidInputError)
        assert f"a partition is text, not {type(partition).__name__}" in str(error)


@pytest.mark.parametrize("partition", NOT_TEXT, ids=str)
def test_a_partition_that_is_no_text_cannot_be_worked_on(world: World, partition: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: world.layer.meta(partition),
        lambda: world.layer.sync(partition),
        lambda: world.layer.vacuum(partition, dry_run=False),
        lambda: world.layer.verify(partition),
    ]
    for call in calls:
        assert "a partition is text" in str(refusal(world, call, InvalidInputError))


@pytest.mark.parametrize("prices", [{"currency": "EUR"}, {}, "prices.toml", 0.125], ids=str)
def test_prices_that_are_none_are_refused_with_the_ways_to_make_them(world: World, prices: Any) -> None:
    error = refusal(world, lambda: world.layer.explain("eu", prices=prices), InvalidInputError)
    assert f"prices={prices!r} is no Prices; Prices.from_toml(path)" in str(error)


def test_a_partition_that_is_too_long_is_refused_everywhere(world: World) -> None:
    long = "x" * 513
    calls: list[Callable[[], object]] = [
        lambda: world.layer.get(long),
        lambda: world.layer.history(long),
        lambda: world.layer.meta(long),
        lambda: world.layer.sync(long),
        lambda: world.layer.verify(long),
        lambda: world.layer.vacuum(long),
    ]
    for call in calls:
        assert "513 bytes of UTF-8; at most 512" in str(refusal(world, call, InvalidInputError))


@pytest.mark.parametrize(
    ("at", "kind", "words"),
    [
        (-1, HistoryError, "there is no version -1; the newest is 2"),
        (3, HistoryError, "there is no version 3; the newest is 2"),
        (2**70, HistoryError, "there is no version"),
        (True, InvalidInputError, "at=True is no version, moment or cursor"),
        (1.0, InvalidInputError, "at=1.0 is no version (int), moment (datetime) or cursor (str)"),
        (b"x", InvalidInputError, "is no version (int)"),
        (NOON.date(), InvalidInputError, "is no version (int)"),
        (NOON.replace(tzinfo=None), InvalidInputError, "has no time zone"),
        ("", HistoryError, "no sync had the cursor ''"),
        ("yesterday", HistoryError, "no sync had the cursor 'yesterday'"),
        ("2024-01-01T00:00:00.000000Z", HistoryError, "no sync had the cursor"),
        ("__INITIAL__", HistoryError, "no sync had the cursor '__INITIAL__'"),
        (Decimal(1), InvalidInputError, "is no version (int)"),
        ("\ud800", HistoryError, "no sync had the cursor"),
    ],
    ids=range(14),
)
def test_a_past_that_is_none_is_refused(world: World, at: Any, kind: type[LayerError], words: str) -> None:
    error = refusal(world, lambda: world.layer.get("eu", at=at), kind)
    assert words in str(error)
    assert (error.operation, error.partition) == ("get", "eu")


@pytest.mark.parametrize("identifier", ["", True, False, 1.5, b"a", ["a"], Decimal("1.5"), 10**38], ids=str)
def test_an_id_that_is_none_has_no_history(world: World, identifier: Any) -> None:
    error = refusal(world, lambda: world.layer.history("eu", id=identifier), InvalidInputError)
    assert "is no identifier: text or a whole number, never empty" in str(error)


@pytest.mark.parametrize("after", ["1", 1.5, None, True, b"1", [1]], ids=str)
def test_a_version_that_is_no_whole_number_is_no_place_to_begin_a_history(world: World, after: Any) -> None:
    error = refusal(world, lambda: world.layer.history("eu", after=after), InvalidInputError)
    assert "after" in str(error)


@pytest.mark.parametrize("after", [2, 3, 2**62, 2**70])
def test_there_is_no_history_after_the_newest_version(world: World, after: int) -> None:
    assert world.layer.history("eu", after=after) == []


def test_a_history_after_a_negative_version_is_all_of_it(world: World) -> None:
    assert len(world.layer.history("eu", after=-1)) == 2


def test_a_partition_never_heard_of_is_empty_and_stays_unheard_of(world: World) -> None:
    before = world.kept()
    assert world.layer.get("mars") == []
    assert world.layer.get("mars", at=0) == []
    assert world.layer.history("mars") == []
    assert world.layer.meta("mars").version == 0
    assert world.layer.sync("mars").count == 0
    assert world.layer.verify("mars").ok
    assert world.layer.vacuum("mars").discarded == ()
    assert world.layer.partitions() == ["eu", "us"]
    assert world.kept() == before


# Closed


def test_a_closed_layer_does_nothing_and_says_so(world: World) -> None:
    layer = world.layer
    layer.close()
    layer.close()
    calls: list[Callable[[], object]] = [
        lambda: layer.set([put()]),
        lambda: layer.set([]),
        lambda: layer.get("eu"),
        lambda: layer.get("eu", at=1),
        lambda: layer.history("eu"),
        layer.meta,
        lambda: layer.meta("eu"),
        layer.sync,
        lambda: layer.sync("eu"),
        layer.partitions,
        layer.vacuum,
        lambda: layer.vacuum(dry_run=False),
        layer.verify,
    ]
    for call in calls:
        assert "the layer of table 'users' was closed" in str(refusal(world, call, ClosedError))


def test_a_layer_closes_at_the_end_of_its_block_also_when_that_fails(world: World) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), world.open() as layer:
        raise RuntimeError("on purpose")
    with pytest.raises(ClosedError):
        layer.get("eu")


def test_what_is_refused_asks_no_strategy_and_starts_no_sync(world: World) -> None:
    asked: list[object] = []
    with world.open(sync_strategy=asked.append) as layer:
        with pytest.raises(InvalidEventError):
            layer.set([put("eu", "x"), {"type": "PUT"}])
        assert asked == []
        assert layer.meta().unsynced_total == 1


@pytest.mark.parametrize(
    "clock", [lambda: 1_800_000_000, lambda: 10**18, lambda: 1.5e15, lambda: "x", lambda: None, lambda: 1 // 0]
)
def test_a_clock_of_another_unit_is_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Callable[[], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="the clock"):
        Layer(table="users", get_item_unique_identifier="sk", clock=clock)
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_breaks_later_writes_nothing(tmp_path: Path) -> None:
    moments = [1_800_000_000_000_000]
    layer = Layer(
        table="users",
        get_item_unique_identifier="sk",
        events="memory:",
        storage=f"local:{tmp_path}",
        clock=lambda: moments[-1],
    )
    moments.append(10**18)
    with pytest.raises(ConfigurationError, match="the clock told 1000000000000000000"):
        layer.set([{"type": "PUT", "item": {"sk": "a"}}])
    assert layer.get() == []
