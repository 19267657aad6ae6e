"""Plugins: found by name, refused where they do not fit, and unable to harm what does not ask for them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynalayer import (
    URL,
    Adapter,
    Capabilities,
    ClosedError,
    ConfigurationError,
    Event,
    EventLog,
    Item,
    Job,
    Layer,
    LayerError,
    LayerMeta,
    MemoryEventLog,
    PartitionMeta,
    PluginError,
    PluginLoadError,
    PluginNotFoundError,
    Segment,
    SegmentMissingError,
    StorageError,
    SyncResult,
    Wrapper,
    hookimpl,
)
from dynalayer.plugins import ADAPTERS, PLUGINS, Installed, installed, load
from dynalayer.wrapping import WrappedAdapter
from dynalayer_thread import ThreadRunner
from strangers import Install
from strategies import texts

PARTS = ("name", "capabilities", "layer_setter", "layer_getter", "layer_discard", "layer_list")

PATIENCE = 30.0
"""Seconds after which a test gives up waiting for what should have happened long ago."""


class Shelf:
    """The plainest adapter: segments in a dict."""

    name = "shelf"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Segment] = {}
        self.failure: Exception | None = None
        self.ref: Any = None

    def versions(self) -> list[int]:
        return sorted(segment.to_version for segment in self.kept.values())

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        if self.failure:
            raise self.failure
        if self.ref is not None:
            return self.ref  # type: ignore[no-any-return] # a wrong one, to see what the layer says
        self.kept[partition, segment.name] = segment
        return segment.name

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        if (partition, ref) not in self.kept:
            raise SegmentMissingError(f"there is no {ref}")
        return self.kept[partition, ref]

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        self.kept.pop((partition, ref), None)
        return True

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        return [ref for owner, ref in self.kept if owner == partition]


class Watched:
    """A wrapper that notes every call before it passes it on."""

    def __init__(self, label: str, calls: list[str]) -> None:
        self.label = label
        self.calls = calls

    def around(self, inner: Adapter) -> Adapter:
        return WatchedAdapter(self.label, self.calls, inner)


class WatchedAdapter:
    def __init__(self, label: str, calls: list[str], inner: Adapter) -> None:
        self.name = f"{label}({inner.name})"
        self.capabilities = inner.capabilities
        self.label, self.calls, self.inner = label, calls, inner

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self.calls.append(f"{self.label} set")
        return self.inner.layer_setter(partition, segment)

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        self.calls.append(f"{self.label} get")
        return self.inner.layer_getter(partition, ref)

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        self.calls.append(f"{self.label} discard")
        return self.inner.layer_discard(partition, ref)

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        self.calls.append(f"{self.label} list")
        return self.inner.layer_list(partition)


class Watcher:
    """An observer that keeps what it was told, and raises where it is told to."""

    def __init__(self, name: str = "watcher", *, raises: bool = False) -> None:
        self.name = name
        self.raises = raises
        self.told: list[tuple[str, Any]] = []

    def _tell(self, hook: str, what: object) -> None:
        self.told.append((hook, what))
        if self.raises:
            raise RuntimeError(f"{self.name} broke")

    def of(self, hook: str) -> list[Any]:
        return [what for told, what in self.told if told == hook]

    @hookimpl
    def layer_appended(self, events: Sequence[Event]) -> None:
        self._tell("appended", list(events))

    @hookimpl
    def layer_synced(self, result: SyncResult) -> None:
        self._tell("synced", result)

    @hookimpl
    def layer_failed(self, operation: str, error: Exception) -> None:
        self._tell("failed", (operation, error))

    @hookimpl
    def layer_closed(self) -> None:
        self._tell("closed", None)


def put(partition: str = "eu", identifier: str = "a", **attributes: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": {"pk": partition, "sk": identifier, **attributes}}


@pytest.fixture
def build() -> Iterator[Callable[..., Layer]]:
    """Builds layers in memory, and closes them in the end."""
    layers: list[Layer] = []

    def built(**options: Any) -> Layer:
        given = {"events": "memory:", "storage": Shelf(), **options}
        layers.append(Layer(table="users", get_item_unique_identifier="sk", get_item_partition="pk", **given))
        return layers[-1]

    yield built
    for layer in layers:
        layer.close()


SHELF = """
    from dynalayer import Capabilities, SegmentMissingError, hookimpl

    OPENED = []

    class Shelf:
        name = "shelf"
        capabilities = Capabilities()

        def __init__(self, location):
            self.location = location
            self.kept = {}

        @classmethod
        def from_url(cls, url, table):
            url.refuse_options(frozenset({"boards"}))
            OPENED.append((url, table))
            return cls(url.location)

        @hookimpl
        def layer_setter(self, partition, segment):
            if self.location == "broken":
                raise OSError("the board fell down")
            self.kept[partition, segment.name] = segment.to_bytes()
            return segment.name

        @hookimpl
        def layer_getter(self, partition, ref):
            from dynalayer import Segment
            if (partition, ref) not in self.kept:
                raise SegmentMissingError(f"there is no {ref}")
            return Segment.from_bytes(self.kept[partition, ref], source=ref)

        @hookimpl
        def layer_discard(self, partition, ref):
            self.kept.pop((partition, ref), None)
            return True

        @hookimpl
        def layer_list(self, partition):
            return [ref for owner, ref in self.kept if owner == partition]
"""


# Finding


def test_an_unknown_adapter_is_refused_with_those_that_are_installed(build: Callable[..., Layer]) -> None:
    with pytest.raises(PluginNotFoundError, match=r"there is no adapter 'nosuch'; installed: .*local"):
        build(storage="nosuch:somewhere")


def test_an_unknown_adapter_of_a_compound_scheme_is_looked_up_by_its_first_part(build: Callable[..., Layer]) -> None:
    with pytest.raises(PluginNotFoundError, match="there is no adapter 'nosuch'"):
        build(storage="nosuch+local:somewhere")


def test_an_unknown_plugin_is_refused_with_those_that_are_installed(build: Callable[..., Layer]) -> None:
    with pytest.raises(PluginNotFoundError, match=r"there is no plugin 'nosuch'; installed: .*thread"):
        build(plugins=["nosuch"])
    with pytest.raises(PluginNotFoundError, match=r"there is no plugin 'nosuch'; installed: .*thread"):
        build(background_runner="nosuch")


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ({"storage": ["retri:5", "local:x"]}, "retry"),
        ({"storage": "Locl:x"}, "local"),
        ({"background_runner": "threads"}, "thread"),
        ({"sync_strategy": "cuont:5"}, "count"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(
    build: Callable[..., Layer], options: dict[str, Any], meant: str
) -> None:
    with pytest.raises(PluginNotFoundError, match=rf"installed: .*; did you mean '{meant}'\?"):
        build(**options)


def test_a_wrapper_without_a_store_is_refused_with_how_a_list_ends(build: Callable[..., Layer]) -> None:
    for storage in ("retry:5", ["retry:5"], ["local:x", "retry:5"]):
        with pytest.raises(PluginError, match=r"^storage: retry is a wrapper, and stands in front of a store") as told:
            build(storage=storage)
        assert "layer_setter" not in str(told.value)


def test_an_adapter_is_no_plugin_and_a_plugin_no_adapter(build: Callable[..., Layer]) -> None:
    with pytest.raises(PluginNotFoundError, match="there is no plugin 'local'"):
        build(plugins=["local"])
    with pytest.raises(PluginNotFoundError, match="there is no adapter 'thread'"):
        build(storage="thread:")


def test_an_unknown_event_log_is_refused_with_those_that_there_are(build: Callable[..., Layer]) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no event log 'nosuch'; there are: .*memory.*sqlite"):
        build(events="nosuch:somewhere")


def test_our_own_plugins_come_by_entry_points_as_a_strangers_do() -> None:
    assert "local" in {each.name for each in installed(ADAPTERS)}
    assert "thread" in {each.name for each in installed(PLUGINS)}
    ours = next(each for each in installed(ADAPTERS) if each.name == "local")
    assert ours.distribution.startswith("dynalayer ")
    assert ours.value == "dynalayer_local:LocalAdapter"


def test_a_strangers_adapter_is_used_by_its_url(build: Callable[..., Layer], install: Install) -> None:
    module = install("stranger-shelf", SHELF, adapters={"shelf": "Shelf"})
    layer = build(storage="shelf:living%20room?boards=3")
    layer.set([put(n=1)])
    assert layer.sync().count == 1
    layer.set([put(identifier="b")])
    layer.sync()
    assert layer.get("eu") == [{"pk": "eu", "sk": "a", "n": 1}, {"pk": "eu", "sk": "b"}]
    (opened,) = sys.modules[module].OPENED
    assert opened == (URL("shelf", "living room", {"boards": "3"}), "users")


def test_a_strangers_adapter_gets_the_whole_of_a_compound_scheme(build: Callable[..., Layer], install: Install) -> None:
    module = install("stranger-shelf", SHELF, adapters={"shelf": "Shelf"})
    build(storage="SHELF+oak:x")
    ((url, _),) = sys.modules[module].OPENED
    assert (url.name, url.inner) == ("shelf", "oak")


def test_what_is_installed_is_listed_without_importing_it(install: Install) -> None:
    module = install("stranger-shelf", SHELF, adapters={"shelf": "Shelf"})
    assert Installed("shelf", ADAPTERS, "stranger-shelf 1.2", f"{module}:Shelf") in installed(ADAPTERS)
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("metadata", "points", "shown"),
    [
        (b"Name: bad\nVersion: 1\n", b"[dynalayer.adapters]\nno equals sign\n", ("bad", "bad 1")),
        (b"Name: bad\nVersion: 1\n", b"[dynalayer.adapters]\nbad = !!!\n", ("bad", "bad 1")),
        (b"\xff", b"[dynalayer.adapters]\nbad = \xff:X\n", ("?", "a distribution whose metadata cannot be read")),
        (None, b"[dynalayer.adapters]\nbad = bad:X\n", ("bad", "a distribution whose metadata cannot be read")),
        (b"Name: bad\nVersion: 1\n", b"[somebody.else]\nno equals sign\n", None),
    ],
)
def test_a_distribution_with_bad_metadata_harms_nobody_and_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    metadata: bytes | None,
    points: bytes,
    shown: tuple[str, str] | None,
) -> None:
    info = tmp_path / "bad-1.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_bytes(points)
    if metadata is not None:
        (info / "METADATA").write_bytes(metadata)
    before = {(each.name, each.distribution) for each in installed(ADAPTERS)}
    monkeypatch.syspath_prepend(tmp_path)
    after = {(each.name, each.distribution) for each in installed(ADAPTERS)}
    assert after - before == ({shown} if shown else set())
    assert before <= after
    assert load(ADAPTERS, "local").distribution.startswith("dynalayer ")
    if shown:
        with pytest.raises(PluginLoadError, match=f"{shown[1]} cannot be"):
            load(ADAPTERS, shown[0])


def test_an_adapter_is_imported_only_when_it_is_asked_for(build: Callable[..., Layer], install: Install) -> None:
    module = install("stranger-shelf", SHELF, adapters={"shelf": "Shelf"}, plugins={"shelfish": "Shelf"})
    build(storage="local:never-written", plugins=["thread"])
    assert module not in sys.modules


def test_a_plugin_is_not_switched_on_by_being_installed(build: Callable[..., Layer], install: Install) -> None:
    module = install("stranger-watcher", WATCHER, plugins={"watching": "Watching"})
    layer = build()
    layer.set([put()])
    layer.sync()
    assert module not in sys.modules


WATCHER = """
    from dynalayer import hookimpl

    TOLD = []

    class Watching:
        @hookimpl
        def layer_appended(self, events):
            TOLD.append(len(events))
"""


def test_a_strangers_plugin_is_switched_on_by_its_name(build: Callable[..., Layer], install: Install) -> None:
    module = install("stranger-watcher", WATCHER, plugins={"watching": "Watching"})
    layer = build(plugins=["watching"])
    layer.set([put(), put(identifier="b")])
    assert sys.modules[module].TOLD == [2]


def test_an_entry_point_may_stand_for_an_object(build: Callable[..., Layer], install: Install) -> None:
    source = textwrap.dedent(WATCHER) + "\nwatching = Watching()\n"
    module = install("stranger-watcher", source, plugins={"watching": "watching"})
    build(plugins=["watching"]).set([put()])
    assert sys.modules[module].TOLD == [1]


def test_a_missing_module_is_told_with_the_extra_that_brings_it(build: Callable[..., Layer], install: Install) -> None:
    install(
        "stranger-shelf",
        "import No_Such_Oak.boards",
        requires=["no-such-elm; extra == 'elm'", 'no_such.oak[fast]>=2 ; python_version > "3" and extra == "wood"'],
        adapters={"shelf": "Shelf"},
    )
    with pytest.raises(PluginLoadError, match=r"pip install 'stranger-shelf\[wood\]'") as caught:
        build(storage="shelf:x")
    assert "adapter 'shelf' of stranger-shelf 1.2 cannot be loaded: ModuleNotFoundError" in str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_of_several_extras_that_bring_a_missing_module_the_one_is_told_that_the_plugin_is_named_after(
    build: Callable[..., Layer], install: Install
) -> None:
    install(
        "stranger-shelf",
        "import no_such_oak",
        requires=["no-such-oak; extra == 'table'", "no-such-oak; extra == 'shelf'", "no-such-oak; extra == 'dev'"],
        adapters={"shelf-oak": "Shelf"},
    )
    with pytest.raises(PluginLoadError, match=r"pip install 'stranger-shelf\[shelf\]'"):
        build(storage="shelf-oak:x")


def test_a_missing_module_of_another_name_is_told_with_the_extra_that_the_plugin_is_named_after(
    build: Callable[..., Layer], install: Install
) -> None:
    install("stranger-shelf", "import no_such_oak", requires=["oak-api; extra == 'shelf'"], adapters={"shelf": "Shelf"})
    with pytest.raises(PluginLoadError, match=r"pip install 'stranger-shelf\[shelf\]'"):
        build(storage="shelf:x")


def test_a_missing_module_that_no_extra_brings_is_named(build: Callable[..., Layer], install: Install) -> None:
    install("stranger-shelf", "import no_such_oak", adapters={"shelf": "Shelf"})
    with pytest.raises(PluginLoadError, match="No module named 'no_such_oak'"):
        build(storage="shelf:x")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('sawdust')", "RuntimeError: sawdust"),
        ("this is no Python", "SyntaxError"),
        ("Other = 1", "AttributeError"),
        ("1 / 0", "ZeroDivisionError"),
        ("import dynalayer.nothing_like_this", "ModuleNotFoundError"),
    ],
)
def test_a_broken_plugin_is_told_with_its_distribution_and_cause(
    build: Callable[..., Layer], install: Install, source: str, words: str
) -> None:
    install("stranger-shelf", source, adapters={"shelf": "Shelf"}, plugins={"watching": "Watching"})
    with pytest.raises(PluginLoadError, match=f"adapter 'shelf' of stranger-shelf 1.2 cannot be loaded: {words}"):
        build(storage="shelf:x")
    with pytest.raises(PluginLoadError, match=f"plugin 'watching' of stranger-shelf 1.2 cannot be loaded: {words}"):
        build(plugins=["watching"])


def test_a_broken_plugin_harms_nobody_else(build: Callable[..., Layer], install: Install, tmp_path: Path) -> None:
    install("stranger-saw", "raise RuntimeError('sawdust')", adapters={"saw": "Saw"}, plugins={"sawing": "Saw"})
    install("stranger-shelf", SHELF, adapters={"shelf": "Shelf"})
    assert {"saw", "shelf", "local"} <= {each.name for each in installed(ADAPTERS)}
    for storage in ("shelf:x", f"local:{tmp_path}/snapshots"):
        layer = build(storage=storage, plugins=["thread"])
        layer.set([put()])
        layer.sync()
        assert layer.get("eu") == [put()["item"]]


def test_a_name_that_two_distributions_claim_is_refused_with_both(
    build: Callable[..., Layer], install: Install
) -> None:
    install("stranger-shelf", SHELF, adapters={"shelf": "Shelf"}, plugins={"watching": "Shelf"})
    install("another-shelf", SHELF, adapters={"shelf": "Shelf"}, plugins={"watching": "Shelf"})
    both = "is claimed by another-shelf 1.2 and stranger-shelf 1.2; uninstall one"
    with pytest.raises(PluginError, match=f"adapter 'shelf' {both}"):
        build(storage="shelf:x")
    with pytest.raises(PluginError, match=f"plugin 'watching' {both}"):
        build(plugins=["watching"])


def test_a_stranger_cannot_take_the_name_of_one_of_ours_unnoticed(
    build: Callable[..., Layer], install: Install
) -> None:
    install("stranger-shelf", SHELF, adapters={"local": "Shelf"})
    with pytest.raises(PluginError, match=r"adapter 'local' is claimed by dynalayer .* and stranger-shelf 1.2"):
        build(storage="local:x")


def test_loading_tells_where_a_plugin_is_from(install: Install) -> None:
    module = install("stranger-shelf", SHELF, adapters={"shelf": "Shelf"})
    loaded = load(ADAPTERS, "shelf")
    assert loaded.distribution == "stranger-shelf 1.2"
    assert loaded.value is sys.modules[module].Shelf


def test_an_adapter_that_cannot_be_opened_by_a_url_is_refused(build: Callable[..., Layer], install: Install) -> None:
    install("stranger-shelf", "class Shelf: pass", adapters={"shelf": "Shelf"})
    with pytest.raises(PluginError, match=r"adapter 'shelf' of stranger-shelf 1.2 .* it has no from_url\(\)"):
        build(storage="shelf:x")


def test_an_adapter_that_raises_when_it_is_opened_is_told_with_its_cause(
    build: Callable[..., Layer], install: Install
) -> None:
    source = """
        class Shelf:
            @classmethod
            def from_url(cls, url, table):
                raise OSError("no wall to hang it on")
    """
    install("stranger-shelf", source, adapters={"shelf": "Shelf"})
    with pytest.raises(PluginError, match="adapter 'shelf' could not be opened: OSError: no wall") as caught:
        build(storage="shelf:x")
    assert (caught.value.adapter, caught.value.distribution) == ("shelf", "stranger-shelf 1.2")
    assert isinstance(caught.value.__cause__, OSError)


def test_an_adapters_own_refusal_of_its_url_names_the_adapter(build: Callable[..., Layer], install: Install) -> None:
    install("stranger-shelf", SHELF, adapters={"shelf": "Shelf"})
    with pytest.raises(ConfigurationError, match="knows no option 'planks'; known options: boards") as caught:
        build(storage="shelf:x?planks=3")
    assert (caught.value.adapter, caught.value.distribution) == ("shelf", "stranger-shelf 1.2")


def test_what_a_strangers_adapter_raises_names_it_and_its_distribution(
    build: Callable[..., Layer], install: Install
) -> None:
    install("stranger-shelf", SHELF, adapters={"shelf": "Shelf"})
    layer = build(storage="shelf:broken")
    layer.set([put()])
    with pytest.raises(StorageError, match="OSError: the board fell down") as caught:
        layer.sync()
    error = caught.value
    assert (error.operation, error.partition) == ("sync", "eu")
    assert (error.adapter, error.distribution) == ("shelf", "stranger-shelf 1.2")
    assert isinstance(error.__cause__, OSError)
    assert layer.meta().unsynced_total == 1


def test_a_plugin_whose_constructor_raises_is_told_with_its_distribution(
    build: Callable[..., Layer], install: Install
) -> None:
    source = """
        class Watching:
            def __init__(self):
                raise OSError("no eyes")
    """
    install("stranger-watcher", source, plugins={"watching": "Watching"})
    with pytest.raises(PluginError, match=r"'watching'.*no eyes"):
        build(plugins=["watching"])


# Fitting


def test_a_plugin_without_hooks_is_refused(build: Callable[..., Layer]) -> None:
    class Unmarked:
        def layer_appended(self, events: object) -> None: ...

    with pytest.raises(PluginError, match=r"plugin 'Unmarked' marks no method with hookimpl; hooks: .*layer_appended"):
        build(plugins=[Unmarked()])


@pytest.mark.parametrize("plugin", [5, None, object(), [], {"thread": True}], ids=range(5))
def test_what_is_no_plugin_is_refused(build: Callable[..., Layer], plugin: object) -> None:
    with pytest.raises((PluginError, ConfigurationError)):
        build(plugins=[plugin])


def test_a_plugin_with_an_unknown_hook_is_refused_with_the_known_ones(build: Callable[..., Layer]) -> None:
    class Mistaken:
        @hookimpl
        def layer_apended(self, events: object) -> None: ...

    with pytest.raises(PluginError, match="plugin 'Mistaken' marks 'layer_apended', which is no hook") as caught:
        build(plugins=[Mistaken()])
    hooks = str(caught.value).partition("hooks: ")[2].split(", ")
    assert {"layer_appended", "layer_setter", "layer_strategy", "layer_closed"} <= set(hooks)
    assert "layer_apended" not in hooks


def test_a_plugin_with_an_unknown_argument_is_refused(build: Callable[..., Layer]) -> None:
    class Greedy:
        name = "greedy"

        @hookimpl
        def layer_appended(self, events: object, everything: object) -> None: ...

    with pytest.raises(PluginError, match=r"plugin 'greedy' does not fit: (.|\n)*everything"):
        build(plugins=[Greedy()])


def test_a_plugin_may_leave_out_arguments(build: Callable[..., Layer]) -> None:
    calls: list[str] = []

    class Sparse:
        @hookimpl
        def layer_appended(self) -> None:
            calls.append("appended")

        @hookimpl
        def layer_strategy(self, partition_meta: PartitionMeta) -> bool:
            return partition_meta.unsynced_total >= 2

    layer = build(plugins=[Sparse()])
    layer.set([put()])
    assert layer.meta().synced_total == 0
    layer.set([put()])
    assert layer.meta().synced_total == 2
    assert calls == ["appended", "appended"]


def test_the_same_plugin_twice_is_refused(build: Callable[..., Layer]) -> None:
    watcher = Watcher()
    with pytest.raises(PluginError, match="watcher"):
        build(plugins=[watcher, watcher])


def test_a_class_in_place_of_its_object_is_refused_or_works(build: Callable[..., Layer]) -> None:
    told: list[int] = []

    class Watching:
        @hookimpl
        def layer_appended(self, events: Sequence[Event]) -> None:
            told.append(len(events))

    try:
        layer = build(plugins=[Watching])
    except PluginError:
        return
    layer.set([put()])
    assert told == [1]


def test_plugins_of_one_layer_are_not_called_by_another(build: Callable[..., Layer]) -> None:
    watcher = Watcher()
    build(plugins=[watcher])
    other = build()
    other.set([put()])
    other.sync()
    assert watcher.told == []


@pytest.mark.parametrize("left_out", ["layer_setter", "layer_getter", "layer_discard", "layer_list"])
def test_an_adapter_that_leaves_a_method_unmarked_is_refused(build: Callable[..., Layer], left_out: str) -> None:
    unmarked = type("Unmarked", (Shelf,), {left_out: lambda self, partition, **_: None})()
    with pytest.raises(PluginError, match=f"adapter 'shelf' does not mark {left_out} with hookimpl") as caught:
        build(storage=unmarked)
    assert caught.value.adapter == "shelf"


def test_an_adapter_without_listing_need_not_mark_what_it_lacks(build: Callable[..., Layer]) -> None:
    class Unlisted(Shelf):
        capabilities = Capabilities(listing=False)

        def layer_discard(self, partition: str, ref: str) -> bool:
            raise AssertionError

        def layer_list(self, partition: str) -> Sequence[str]:
            raise AssertionError

    layer = build(storage=Unlisted())
    layer.set([put()])
    layer.sync()
    with pytest.raises(ConfigurationError, match="vacuum needs an adapter that can list and discard its segments"):
        layer.vacuum()


@pytest.mark.parametrize(
    "lacking", ["name", "capabilities", "layer_setter", "layer_getter", "layer_discard", "layer_list"]
)
def test_an_adapter_that_lacks_something_is_told_what_one_has(build: Callable[..., Layer], lacking: str) -> None:
    lacks = type("Lacks", (), {part: getattr(Shelf, part) for part in PARTS if part != lacking})()
    with pytest.raises(PluginError, match="is no adapter: one has a name, capabilities, layer_setter"):
        build(storage=lacks)


@pytest.mark.parametrize("storage", [5, object(), ["local:x", object()], Shelf], ids=["int", "object", "list", "class"])
def test_what_is_no_storage_is_refused(build: Callable[..., Layer], storage: object) -> None:
    with pytest.raises(PluginError, match="is no adapter"):
        build(storage=storage)


def test_capabilities_that_are_none_are_refused(build: Callable[..., Layer]) -> None:
    shelf = Shelf()
    shelf.capabilities = {"deltas": True}  # type: ignore[assignment] # that is the point
    with pytest.raises(PluginError, match="is no adapter"):
        build(storage=shelf)


@pytest.mark.parametrize("ref", ["", 5, b"x", ["x"], "x" * 257, "é" * 129], ids=range(6))
def test_a_ref_that_is_none_is_an_error_of_the_adapter_and_all_stays_pending(
    build: Callable[..., Layer], ref: object
) -> None:
    shelf = Shelf()
    shelf.ref = ref
    layer = build(storage=shelf)
    layer.set([put()])
    with pytest.raises(StorageError, match="returned no ref of 1 to 256 bytes") as caught:
        layer.sync()
    assert caught.value.adapter == "shelf"
    assert layer.meta().unsynced_total == 1


# Specs: names with settings

SETTINGS = """
    from typing import Literal

    from dynalayer import WrappedAdapter, hookimpl

    MADE = []

    class Watching:
        def __init__(self, size: int = 1, *, key: str = "", table: str) -> None:
            if size < 1:
                raise ValueError("nothing to watch")
            MADE.append((size, key, table))

        @hookimpl
        def layer_appended(self): ...

        def layer_runner(self, job): ...

    class Idle:
        def __init__(self, key: str) -> None: ...

    class Often:
        def __init__(self, limit: int, say: Literal["partition", "all"] = "all") -> None:
            self.limit, self.say = limit, say

        @hookimpl
        def layer_strategy(self, meta):
            return meta.unsynced_total >= self.limit and self.say

    def always(meta):
        return True

    class Wrap:
        def __init__(self, times: int, key: str = "", *, table: str) -> None:
            MADE.append((times, key, table))

        def around(self, inner):
            return WrappedAdapter(inner)
"""

SECRET = "wJalrXUtnFEMI"  # noqa: S105 -- it is looked for in errors


@pytest.fixture
def stranger(install: Install) -> Any:
    """The module of a stranger's plugins that have settings."""
    plugins = {"watch": "Watching", "Idle": "Idle", "of_ten": "Often", "always": "always", "here": "always"}
    module = install("stranger", SETTINGS, plugins=plugins, adapters={"wrap": "Wrap"})
    return importlib.import_module(module)


def test_a_plugin_is_named_with_its_settings(build: Callable[..., Layer], stranger: Any) -> None:
    build(plugins=["watch", "watch:2", "watch?key=a", {"use": "watch:3", "key": "b"}, {"use": "watch", "size": 4}])
    assert stranger.MADE == [(1, "", "users"), (2, "", "users"), (1, "a", "users"), (3, "b", "users"), (4, "", "users")]


def test_neither_case_nor_an_underscore_keeps_a_plugin_from_being_found(
    build: Callable[..., Layer], stranger: Any
) -> None:
    build(plugins=["WATCH:2", "of_ten:5"])
    with pytest.raises(PluginError, match="plugin 'idle' marks no method with hookimpl"):
        build(plugins=["Idle:x"])


@pytest.mark.parametrize(
    "options",
    [
        {"plugins": ["watch", "watch"]},
        {"plugins": ["watch", "watch:"]},
        {"plugins": ["watch:2", {"use": "watch:2"}]},
        {"sync_strategy": ["of_ten:5", {"use": "of_ten:5"}]},
        {"plugins": ["of_ten:5"], "sync_strategy": "of_ten:5"},
        {"plugins": ["thread"], "background_runner": "thread"},
    ],
    ids=range(6),
)
def test_what_is_named_twice_with_the_same_settings_is_refused(
    build: Callable[..., Layer], stranger: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="is named twice with the same settings"):
        build(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"plugins": ["watch:x"]}, "plugin 'watch' of stranger 1.2: size is a whole number, and was given a text"),
        ({"plugins": ["watch?keys=x"]}, "plugin 'watch' of stranger 1.2 has no setting 'keys'; did you mean 'key'?"),
        ({"plugins": [{"use": "watch", "table": "x"}]}, "plugin 'watch' of stranger 1.2 has no setting 'table'"),
        ({"plugins": ["watch:0"]}, "plugin 'watch' of stranger 1.2 could not be made: ValueError: nothing to watch"),
        ({"plugins": [{"size": 5}]}, "plugins: a table of settings says under 'use'"),
        ({"plugins": {"use": "watch"}}, "plugins is a list of names and objects"),
        ({"plugins": None}, "plugins is a list of names and objects"),
        ({"plugins": [""]}, "plugins: '' is no name"),
        ({"plugins": ["always:5"]}, "plugin 'always' of stranger 1.2 takes no settings"),
        ({"plugins": [{"use": "always", "a": 1}]}, "plugin 'always' of stranger 1.2 takes no settings"),
        ({"plugins": ["nosuch:5"]}, "there is no plugin 'nosuch'"),
        ({"sync_strategy": "of_ten"}, "plugin 'of_ten' of stranger 1.2 needs a setting 'limit'"),
        ({"sync_strategy": "of_ten:5?say=some"}, "say is 'partition' or 'all', and was given a text"),
        ({"sync_strategy": "watch:5"}, "sync_strategy is a function of the layer's meta, .* not 'watch'"),
        ({"sync_strategy": {"limit": 5}}, "sync_strategy: a table of settings says under 'use'"),
        ({"sync_strategy": ["of_ten:5", 5]}, "sync_strategy is a function of the layer's meta, .* not 5"),
        ({"sync_strategy": [["of_ten:5"]]}, "sync_strategy is a function of the layer's meta, .* not a list"),
        ({"sync_strategy": ""}, "sync_strategy: '' is no name"),
        ({"background_runner": "of_ten:5"}, "background_runner is a function that takes a job, .* not 'of_ten'"),
        ({"background_runner": "watch"}, "plugin 'watch' marks no method layer_runner with hookimpl"),
        ({"background_runner": "thread:5"}, "plugin 'thread' of dynalayer .* takes nothing after its name"),
        ({"background_runner": {"use": "thread", "jobs": 5}}, "plugin 'thread' of .* has no setting 'jobs'"),
        ({"background_runner": ["thread"]}, "background_runner is a function that takes a job, .* not a list"),
        ({"storage": ["wrap", "local:x"]}, "wrapper 'wrap' of stranger 1.2 needs a setting 'times'"),
        ({"storage": ["wrap:x", "local:x"]}, "wrapper 'wrap' of stranger 1.2: times is a whole number"),
        ({"storage": ["wrap:1?kay=x", "local:x"]}, "has no setting 'kay'; did you mean 'key'?"),
        ({"storage": [{"times": 1}, "local:x"]}, "storage: a table of settings says under 'use'"),
        ({"storage": ["", "local:x"]}, "storage: '' is no name"),
        ({"storage": ["wrap:1", ""]}, "storage='' is no URL"),
        ({"storage": ["wrap:1", "x"]}, "storage='x' is no URL"),
        ({"storage": ["wrap:1"]}, "[Ww]rap is a wrapper, and stands in front of a store"),
        ({"storage": {"use": "wrap:1"}}, "storage is a list that ends with one"),
        ({"storage": ["local:x", "local:y"]}, r"stands in front of local and cannot wrap it: it has no around\(\)"),
        ({"storage": {"use": "local:x", "colour": "red"}}, "knows no option 'colour'"),
        ({"storage": {"use": "local:x", "colour": ["red"]}}, "colour is a text, a number, true or false, not a list"),
    ],
    ids=range(35),
)
def test_a_wrong_spec_is_refused_where_it_is_wrong(
    build: Callable[..., Layer], stranger: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises((ConfigurationError, PluginError), match=words):
        build(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"plugins": f"watch:{SECRET}"},
        {"plugins": [f"watch:{SECRET}"]},
        {"plugins": [f"Idle:{SECRET}"]},
        {"plugins": [f"thread:{SECRET}"]},
        {"plugins": [f"always:{SECRET}"]},
        {"plugins": [{"use": "watch", "size": SECRET}]},
        {"plugins": [{"use": f"Idle:{SECRET}"}]},
        {"plugins": [{"use": "watch", "key": SECRET}] * 2},
        {"plugins": [{"key": SECRET}]},
        {"sync_strategy": f"watch?key={SECRET}"},
        {"sync_strategy": {"use": "watch", "key": SECRET}},
        {"sync_strategy": [[SECRET]]},
        {"background_runner": {"use": "watch", "key": SECRET}},
        {"storage": [f"wrap:{SECRET}", "local:x"]},
        {"storage": [{"use": "wrap:1", "key": [SECRET]}, "local:x"]},
        {"storage": [{"use": "wrap:1", "key": SECRET}]},
        {"storage": {"use": "local:x", "key": SECRET}},
        {"storage": {"use": "local:x", "key": {"a": SECRET}}},
    ],
    ids=range(18),
)
def test_no_setting_stands_in_the_error_about_it(
    build: Callable[..., Layer], stranger: Any, options: dict[str, Any]
) -> None:
    with pytest.raises((ConfigurationError, PluginError)) as caught:
        build(**options)
    assert SECRET not in str(caught.value)


def test_wrappers_are_named_with_their_settings(
    build: Callable[..., Layer], stranger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layer = build(storage=["wrap:1", {"use": "wrap", "times": 2, "key": "k"}, {"use": "local:snapshots"}])
    assert stranger.MADE == [(1, "", "users"), (2, "k", "users")]
    layer.set([put()])
    assert layer.sync().count == 1
    assert (tmp_path / "snapshots" / "users").is_dir()


def test_strategies_and_a_strangers_function_are_named_with_their_settings(
    build: Callable[..., Layer], stranger: Any
) -> None:
    layer = build(sync_strategy=[{"use": "of_ten", "limit": 3}, "of_ten:2?say=partition"])
    layer.set([put()])
    layer.set([put("us"), put("us", "b")])
    assert layer.meta().unsynced_total == 0
    layer.set([put()])
    layer.set([put("us")])
    assert (layer.meta("eu").unsynced_total, layer.meta("us").unsynced_total) == (1, 0)
    always = build(sync_strategy=["always", "here"])
    always.set([put()])
    assert always.meta().unsynced_total == 0


def test_two_objects_of_one_class_may_be_strategies_and_a_hook_goes_before_a_call(build: Callable[..., Layer]) -> None:
    class Asked:
        name = "asked"

        def __init__(self) -> None:
            self.times = 0

        def __call__(self, meta: LayerMeta) -> bool:
            raise AssertionError

        @hookimpl
        def layer_strategy(self) -> None:
            self.times += 1

    first, second = Asked(), Asked()
    build(sync_strategy=[first, second]).set([put()])
    assert (first.times, second.times) == (1, 1)
    with pytest.raises(PluginError, match="plugin 'asked' is given twice"):
        build(sync_strategy=[first, first])


def test_a_class_in_place_of_its_object_is_told_so(build: Callable[..., Layer], stranger: Any) -> None:
    with pytest.raises(ConfigurationError, match="not the class Often"):
        build(sync_strategy=stranger.Often)
    with pytest.raises(ConfigurationError, match="not the class ThreadRunner"):
        build(background_runner=ThreadRunner)
    with pytest.raises(PluginError, match="storage: Wrap is a class; give its object"):
        build(storage=[stranger.Wrap, Shelf()])


@given(
    st.sampled_from(["plugins", "sync_strategy", "background_runner", "storage"]),
    st.sampled_from(["", "watch", "Idle", "of_ten", "always", "thread", "wrap", "nosuch", "local"]),
    st.lists(
        st.one_of(st.sampled_from([*":?&=;%1", "key", "size", "limit", "~", "//"]), texts(max_size=2)), max_size=6
    ),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_in_place_of_a_spec_works_or_is_a_layer_error(
    stranger: Any, option: str, name: str, pieces: list[str]
) -> None:
    text = name + "".join(pieces)
    given: dict[str, Any] = {"storage": Shelf(), option: text if option == "background_runner" else [text]}
    if option == "storage":
        given["storage"] = [text, Shelf()]
    with contextlib.suppress(LayerError):
        Layer(table="users", get_item_unique_identifier="sk", events="memory:", **given).close()


# Stacks


def test_a_list_of_storage_is_called_from_the_outermost_to_the_store(build: Callable[..., Layer]) -> None:
    calls: list[str] = []
    shelf = Shelf()
    layer = build(storage=[Watched("outer", calls), Watched("inner", calls), shelf], cache_bytes=0)
    layer.set([put(n=1)])
    layer.sync()
    assert calls == ["outer set", "inner set"]
    assert layer.get("eu") == [put(n=1)["item"]]
    assert calls[2:] == ["outer get", "inner get"]
    assert shelf.versions() == [1]
    assert "outer(inner(shelf))" in repr(layer)


def test_a_list_of_one_store_and_a_tuple_are_storage_too(build: Callable[..., Layer]) -> None:
    for storage in ([Shelf()], (Watched("outer", []), Shelf())):
        layer = build(storage=storage)
        layer.set([put()])
        assert layer.sync().count == 1


def test_a_stack_may_end_in_a_url(build: Callable[..., Layer], tmp_path: Path) -> None:
    calls: list[str] = []
    layer = build(storage=[Watched("outer", calls), f"local:{tmp_path}/snapshots"])
    layer.set([put()])
    layer.sync()
    layer.vacuum()
    assert calls == ["outer set", "outer list"]


def test_a_strangers_wrapper_is_used_by_its_url(build: Callable[..., Layer], install: Install) -> None:
    source = """
        from dynalayer import hookimpl

        class Passing:
            def __init__(self, inner):
                self.inner, self.name, self.capabilities = inner, "passing", inner.capabilities

            @hookimpl
            def layer_setter(self, partition, segment):
                return "passed-" + self.inner.layer_setter(partition, segment)

            @hookimpl
            def layer_getter(self, partition, ref):
                return self.inner.layer_getter(partition, ref.removeprefix("passed-"))

            @hookimpl
            def layer_discard(self, partition, ref):
                return self.inner.layer_discard(partition, ref.removeprefix("passed-"))

            @hookimpl
            def layer_list(self, partition):
                return ["passed-" + ref for ref in self.inner.layer_list(partition)]

        class Pass:
            @classmethod
            def from_url(cls, url, table):
                return cls()

            def around(self, inner):
                return Passing(inner)
    """
    install("stranger-pass", source, adapters={"pass": "Pass"})
    layer = build(storage=["pass:", Shelf()], cache_bytes=0)
    layer.set([put()])
    layer.sync()
    assert layer.get("eu") == [put()["item"]]
    assert layer.verify().ok
    with pytest.raises(PluginError, match="is a wrapper, and stands in front of a store"):
        build(storage="pass:")


def test_wrappers_in_the_wrong_order_are_refused(build: Callable[..., Layer]) -> None:
    wrapper: Wrapper = Watched("outer", [])
    with pytest.raises(PluginError, match="is a wrapper, and stands in front of a store"):
        build(storage=[Shelf(), wrapper])
    with pytest.raises(PluginError, match="is a wrapper, and stands in front of a store"):
        build(storage=wrapper)
    with pytest.raises(ConfigurationError, match=r"shelf stands in front of shelf and cannot wrap it.*no around\(\)"):
        build(storage=[Shelf(), Shelf()])
    with pytest.raises(ConfigurationError, match=r"cannot wrap it"):
        build(storage=[Shelf(), wrapper, Shelf()])


def test_an_empty_list_of_storage_is_refused(build: Callable[..., Layer]) -> None:
    with pytest.raises(ConfigurationError, match="storage is an empty list; it ends with the store"):
        build(storage=[])


def test_a_wrapper_that_makes_no_adapter_is_refused(build: Callable[..., Layer]) -> None:
    class Empty:
        def around(self, inner: object) -> object:
            return None

    with pytest.raises(PluginError, match="is no adapter"):
        build(storage=[Empty(), Shelf()])


def test_a_wrapper_that_raises_is_told_as_a_plugin_error_with_its_cause(build: Callable[..., Layer]) -> None:
    class Broken:
        name = "broken"

        def around(self, inner: object) -> object:
            raise OSError("no tape left")

    with pytest.raises(PluginError, match=r"broken.*no tape left") as caught:
        build(storage=[Broken(), Shelf()])
    assert isinstance(caught.value.__cause__, OSError)


def test_a_wrapper_that_refuses_what_it_would_stand_in_front_of_is_heard(build: Callable[..., Layer]) -> None:
    class Picky:
        def around(self, inner: Adapter) -> Adapter:
            raise ConfigurationError(f"cannot stand in front of {inner.name}")

    with pytest.raises(ConfigurationError, match="cannot stand in front of shelf"):
        build(storage=[Picky(), Shelf()])


def test_a_wrapper_that_passes_on_less_is_believed(build: Callable[..., Layer]) -> None:
    class Lessening(Watched):
        def around(self, inner: Adapter) -> Adapter:
            adapter = WatchedAdapter(self.label, self.calls, inner)
            adapter.capabilities = Capabilities(deltas=False, listing=False)
            return adapter

    shelf = Shelf()
    layer = build(storage=[Lessening("less", []), shelf])
    for number in range(3):
        layer.set([put(identifier=str(number))])
        layer.sync()
    assert {segment.kind for segment in shelf.kept.values()} == {"base"}
    with pytest.raises(ConfigurationError, match="vacuum"):
        layer.vacuum()


def test_a_plugin_may_wrap_the_calls_of_storage_to_watch_them(build: Callable[..., Layer]) -> None:
    seen: list[object] = []

    class Meter:
        @hookimpl(wrapper=True)
        def layer_setter(self, partition: str, segment: Segment) -> Iterator[None]:
            ref = yield
            seen.append((partition, segment.to_version, ref))
            return ref

    shelf = Shelf()
    layer = build(storage=shelf, plugins=[Meter()])
    layer.set([put()])
    layer.sync()
    ((_, ref),) = shelf.kept
    assert seen == [("eu", 1, ref)]


# Strategies


def test_a_strategy_is_asked_after_each_set_with_the_layers_meta(build: Callable[..., Layer]) -> None:
    metas: list[LayerMeta] = []

    def strategy(meta: LayerMeta) -> bool:
        metas.append(meta)
        return meta.unsynced_total > 2

    layer = build(sync_strategy=strategy)
    for number in range(3):
        layer.set([put(identifier=str(number))])
    assert [meta.unsynced_total for meta in metas] == [1, 2, 3]
    assert layer.meta().unsynced_total == 0
    assert layer.meta().synced_total == 3


def test_a_strategy_may_take_the_partitions_meta_too(build: Callable[..., Layer]) -> None:
    asked: list[tuple[str, int]] = []

    def strategy(meta: LayerMeta, partition_meta: PartitionMeta) -> bool:
        asked.append((partition_meta.partition, partition_meta.unsynced_total))
        return False

    layer = build(sync_strategy=strategy)
    layer.set([put("eu"), put("us"), put("eu", "b")])
    assert asked == [("eu", 2), ("us", 1)]


def test_a_strategys_own_default_arguments_are_left_alone(build: Callable[..., Layer]) -> None:
    def strategy(meta: LayerMeta, limit: int = 1) -> bool:
        return meta.unsynced_total > limit

    layer = build(sync_strategy=strategy)
    layer.set([put()])
    assert (layer.meta().error, layer.meta().synced_total) == (None, 0)
    layer.set([put()])
    assert (layer.meta().error, layer.meta().synced_total) == (None, 2)


@pytest.mark.parametrize("kind", ["method", "partial", "callable object", "any arguments"])
def test_every_kind_of_callable_is_a_strategy(build: Callable[..., Layer], kind: str) -> None:
    class Asked:
        def method(self, meta: LayerMeta) -> bool:
            return type(meta) is LayerMeta

        def __call__(self, meta: LayerMeta, partition_meta: PartitionMeta) -> bool:
            return (type(meta), type(partition_meta)) == (LayerMeta, PartitionMeta)

    def limited(limit: int, meta: LayerMeta) -> bool:
        return meta.unsynced_total == limit

    def anything(*arguments: object) -> bool:
        return len(arguments) == 2

    strategies: dict[str, Callable[..., bool]] = {
        "method": Asked().method,
        "partial": functools.partial(limited, 1),
        "callable object": Asked(),
        "any arguments": anything,
    }
    layer = build(sync_strategy=strategies[kind])
    layer.set([put()])
    assert (layer.meta().error, layer.meta().synced_total) == (None, 1)


@pytest.mark.parametrize("answer", [True, 1, "yes", [0], object()], ids=range(5))
def test_any_true_answer_syncs_all_that_is_pending(build: Callable[..., Layer], answer: object) -> None:
    layer = build(sync_strategy=lambda meta: meta.unsynced_total > 2 and answer)
    layer.set([put("eu")])
    layer.set([put("us")])
    assert layer.meta().synced_total == 0
    layer.set([put("us", "b")])
    assert layer.meta().unsynced_total == 0


@pytest.mark.parametrize("answer", [False, None, 0, "", []], ids=range(5))
def test_any_false_answer_syncs_nothing(build: Callable[..., Layer], answer: object) -> None:
    layer = build(sync_strategy=lambda meta: answer)
    layer.set([put()])
    assert layer.meta().synced_total == 0
    assert layer.meta().error is None


def test_the_answer_partition_syncs_that_partition_only(build: Callable[..., Layer]) -> None:
    layer = build(sync_strategy=lambda meta, partition: "partition" if partition.unsynced_total >= 2 else None)
    layer.set([put("eu"), put("us")])
    layer.set([put("us", "b"), put("asia")])
    assert layer.meta("us").unsynced_total == 0
    assert layer.meta("eu").unsynced_total == layer.meta("asia").unsynced_total == 1


def test_several_partitions_of_one_set_may_be_synced_each(build: Callable[..., Layer]) -> None:
    layer = build(sync_strategy=lambda meta, partition: partition.partition != "eu" and "partition")
    layer.set([put("eu"), put("us"), put("asia")])
    assert [layer.meta(partition).unsynced_total for partition in ("eu", "us", "asia")] == [1, 0, 0]


@pytest.mark.parametrize("yes", [0, 1, 2])
def test_of_several_strategies_any_may_say_yes(build: Callable[..., Layer], yes: int) -> None:
    strategies: list[Callable[[LayerMeta], bool]] = [lambda meta: False, lambda meta: False, lambda meta: False]
    strategies[yes] = lambda meta: True
    layer = build(sync_strategy=strategies)
    layer.set([put()])
    assert layer.meta().unsynced_total == 0


def test_a_plugins_strategy_and_a_functions_stand_side_by_side(build: Callable[..., Layer]) -> None:
    class Planned:
        @hookimpl
        def layer_strategy(self, meta: LayerMeta) -> str | None:
            return "partition" if meta.unsynced_total == 1 else None

    layer = build(sync_strategy=lambda meta: meta.unsynced_total == 2, plugins=[Planned()])
    layer.set([put("eu")])
    assert layer.meta().synced_times == 1
    layer.set([put("us"), put("asia")])
    assert layer.meta().unsynced_total == 0


def test_no_events_ask_no_strategy(build: Callable[..., Layer]) -> None:
    def never(meta: LayerMeta) -> bool:
        raise AssertionError

    layer = build(sync_strategy=never)
    assert layer.set([]) == []
    assert layer.meta().error is None


def test_a_strategy_that_raises_leaves_the_set_done_and_is_reported(build: Callable[..., Layer]) -> None:
    watcher = Watcher()

    def strategy(meta: LayerMeta) -> bool:
        raise RuntimeError("no idea")

    layer = build(sync_strategy=strategy, plugins=[watcher])
    (event,) = layer.set([put(n=1)])
    assert (event.version, event.cursor) == (1, "__INITIAL__")
    assert layer.get("eu") == [put(n=1)["item"]]
    ((operation, error),) = watcher.of("failed")
    assert operation == "layer_strategy"
    assert isinstance(error, RuntimeError)
    assert "no idea" in (layer.meta().error or "")


def test_a_sync_in_line_that_fails_leaves_the_set_done_and_is_reported(build: Callable[..., Layer]) -> None:
    watcher, shelf = Watcher(), Shelf()
    layer = build(storage=shelf, sync_strategy=lambda meta: True, plugins=[watcher])
    shelf.failure = OSError("full")
    (event,) = layer.set([put(n=1)])
    assert event.version == 1
    assert layer.get("eu") == [put(n=1)["item"]]
    ((operation, error),) = watcher.of("failed")
    assert operation == "sync"
    assert isinstance(error, StorageError)
    assert "OSError: full" in (layer.meta().error or "")
    assert layer.meta().unsynced_total == 1


def test_an_error_is_forgotten_after_a_sync_that_did_not_fail(build: Callable[..., Layer]) -> None:
    shelf = Shelf()
    layer = build(storage=shelf, sync_strategy=lambda meta: True)
    shelf.failure = OSError("full")
    layer.set([put()])
    assert layer.meta().error is not None
    shelf.failure = None
    layer.set([put()])
    assert layer.meta().error is None
    assert layer.meta().unsynced_total == 0


@pytest.mark.parametrize("strategy", [5, [5], "thread", ["thread"], object()], ids=range(5))
def test_what_is_no_strategy_is_refused(build: Callable[..., Layer], strategy: object) -> None:
    with pytest.raises(ConfigurationError, match="sync_strategy is a function of the layer's meta, a plugin with"):
        build(sync_strategy=strategy)


@pytest.mark.parametrize("strategy", [lambda: True, lambda *, meta: True, [lambda a, b, c: True]], ids=range(3))
def test_a_function_that_cannot_be_called_with_the_metas_is_refused(
    build: Callable[..., Layer], strategy: object
) -> None:
    with pytest.raises(ConfigurationError, match="sync_strategy is a function of the layer's meta, or of that and"):
        build(sync_strategy=strategy)


# Publishing


class Press(Shelf):
    """An adapter that publishes."""

    capabilities = Capabilities(publishing=True)

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self.log = log
        self.published: list[tuple[str, int, list[str]]] = []
        self.heads: list[int] = []
        self.jam: Exception | None = None

    @hookimpl
    def layer_publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> bool:
        if self.jam:
            raise self.jam
        assert origin == self.log.origin
        self.published.append((partition, version, sorted(items)))
        self.heads.append(self.log.head(partition).version)
        return True


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_sync_publishes_all_items_of_what_it_folds_before_the_head_moves(
    build: Callable[..., Layer], wrapped: bool
) -> None:
    log = MemoryEventLog("users")
    press = Press(log)
    layer = build(events=log, storage=WrappedAdapter(press) if wrapped else press)
    layer.set([put("eu"), put("us")])
    layer.sync("eu")
    layer.set([put("eu", "b")])
    layer.sync("eu")
    layer.set([{"type": "DELETE", "item": {"pk": "eu", "sk": "a"}}])
    layer.sync("eu")
    assert press.published == [("eu", 1, ["a"]), ("eu", 2, ["a", "b"]), ("eu", 3, ["b"])]
    assert press.heads == [0, 1, 2]


def test_what_cannot_be_published_stays_pending_and_is_published_by_the_next_sync(
    build: Callable[..., Layer],
) -> None:
    log = MemoryEventLog("users")
    press = Press(log)
    layer = build(events=log, storage=press)
    layer.set([put("eu")])
    press.jam = OSError("paper jam")
    with pytest.raises(StorageError, match="could not publish a partition: OSError: paper jam"):
        layer.sync()
    assert (layer.meta().unsynced_total, layer.get("eu")) == (1, [put("eu")["item"]])
    press.jam = None
    assert layer.sync().count == 1
    assert press.published == [("eu", 1, ["a"])]


# Runners


def test_a_function_as_runner_gets_the_job(build: Callable[..., Layer]) -> None:
    jobs: list[Job] = []
    layer = build(sync_strategy=lambda meta: True, background_runner=jobs.append)
    layer.set([put()])
    assert layer.meta().unsynced_total == 1
    (job,) = jobs
    job()
    assert layer.meta().unsynced_total == 0


def test_a_job_never_raises_and_is_reported(build: Callable[..., Layer]) -> None:
    jobs: list[Job] = []
    watcher, shelf = Watcher(), Shelf()
    layer = build(storage=shelf, sync_strategy=lambda meta: True, background_runner=jobs.append, plugins=[watcher])
    layer.set([put()])
    shelf.failure = OSError("full")
    jobs[0]()
    assert [operation for operation, _ in watcher.of("failed")] == ["sync"]
    assert "OSError: full" in (layer.meta().error or "")


def test_a_job_run_twice_or_after_the_close_raises_nothing(build: Callable[..., Layer]) -> None:
    jobs: list[Job] = []
    layer = build(sync_strategy=lambda meta: True, background_runner=jobs.append)
    layer.set([put()])
    jobs[0]()
    jobs[0]()
    assert layer.meta().synced_times == 1
    layer.close()
    jobs[0]()


def test_a_runner_that_raises_leaves_the_set_done_and_is_reported(build: Callable[..., Layer]) -> None:
    watcher = Watcher()

    def runner(job: Job) -> None:
        raise RuntimeError("no legs")

    layer = build(sync_strategy=lambda meta: True, background_runner=runner, plugins=[watcher])
    assert layer.set([put()])[0].version == 1
    assert [operation for operation, _ in watcher.of("failed")] == ["layer_runner"]
    assert "no legs" in (layer.meta().error or "")


def test_a_runner_that_declines_leaves_the_job_to_be_run_in_line(build: Callable[..., Layer]) -> None:
    class Lazy:
        @hookimpl
        def layer_runner(self, job: Job) -> bool | None:
            return None

    layer = build(sync_strategy=lambda meta: True, background_runner=Lazy())
    layer.set([put()])
    assert layer.meta().unsynced_total == 0


@pytest.mark.parametrize("runner", [5, object(), [], True], ids=range(4))
def test_a_runner_that_is_none_is_refused(build: Callable[..., Layer], runner: object) -> None:
    with pytest.raises(ConfigurationError, match="background_runner is a function that takes a job, a plugin with"):
        build(background_runner=runner)


# The thread runner


class Gated(Shelf):
    """An adapter whose setter waits until it is let through, and notes who called it."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.threads: list[int] = []

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        self.threads.append(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        return super().layer_setter(partition, segment)


def test_the_thread_runner_syncs_on_a_thread_of_its_own(build: Callable[..., Layer]) -> None:
    gated = Gated()
    layer = build(storage=gated, sync_strategy=lambda meta: True, background_runner="thread")
    layer.set([put()])
    assert gated.entered.wait(PATIENCE)
    assert layer.meta().unsynced_total == 1
    gated.gate.set()
    layer.close()
    assert gated.versions() == [1]
    assert threading.get_ident() not in gated.threads


def test_closing_the_layer_lets_background_syncs_finish(build: Callable[..., Layer]) -> None:
    gated = Gated()
    layer = build(storage=gated, sync_strategy=lambda meta, partition: "partition", background_runner="thread")
    for partition in ("eu", "us", "asia"):
        layer.set([put(partition)])
    assert gated.entered.wait(PATIENCE)
    letting_through = threading.Timer(0.1, gated.gate.set)
    letting_through.start()
    layer.close()
    letting_through.join()
    assert sorted(partition for partition, _ in gated.kept) == ["asia", "eu", "us"]
    assert not [thread for thread in threading.enumerate() if thread.ident in gated.threads]


@pytest.mark.parametrize("runner", ["thread", None])
def test_a_close_beside_a_set_leaves_what_its_strategy_asks_for_pending_and_reports_no_failure(
    build: Callable[..., Layer], caplog: pytest.LogCaptureFixture, runner: str | None
) -> None:
    """The set of another thread has appended when the layer closes; its runner, or its log, refuses then."""
    asked, gate, watcher = threading.Event(), threading.Event(), Watcher()

    def strategy(meta: LayerMeta) -> bool:
        asked.set()
        assert gate.wait(PATIENCE)
        return True

    layer = build(sync_strategy=strategy, background_runner=runner, plugins=[watcher])
    events: list[Event] = []
    setting = threading.Thread(target=lambda: events.extend(layer.set([put()])))
    setting.start()
    assert asked.wait(PATIENCE)
    layer.close()
    gate.set()
    setting.join()
    assert [event.version for event in events] == [1]
    assert (watcher.of("failed"), caplog.messages) == ([], [])


def test_a_closing_layer_asks_no_strategy_of_what_is_set_meanwhile(
    build: Callable[..., Layer], caplog: pytest.LogCaptureFixture
) -> None:
    closing, gate, asked = threading.Event(), threading.Event(), list[LayerMeta]()

    class Slow:
        @hookimpl
        def layer_closing(self) -> None:
            closing.set()
            assert gate.wait(PATIENCE)

    layer = build(sync_strategy=asked.append, background_runner="thread", plugins=[Slow()])
    thread = threading.Thread(target=layer.close)
    thread.start()
    assert closing.wait(PATIENCE)
    assert layer.set([put()])[0].version == 1
    gate.set()
    thread.join()
    assert (asked, caplog.messages) == ([], [])


def test_closing_a_layer_whose_thread_never_ran_returns(build: Callable[..., Layer]) -> None:
    build(background_runner="thread").close()


def test_a_sync_that_fails_on_the_thread_is_reported_and_the_next_one_runs(build: Callable[..., Layer]) -> None:
    reported = threading.Event()

    class Alarm:
        @hookimpl
        def layer_failed(self) -> None:
            reported.set()

    shelf = Shelf()
    shelf.failure = OSError("full")
    layer = build(storage=shelf, sync_strategy=lambda meta: True, background_runner="thread", plugins=[Alarm()])
    layer.set([put()])
    assert reported.wait(PATIENCE)
    assert "OSError: full" in (layer.meta().error or "")
    shelf.failure = None
    layer.set([put()])
    layer.close()
    assert shelf.versions() == [2]


def test_the_thread_runner_runs_jobs_one_at_a_time_and_in_order() -> None:
    runner = ThreadRunner()
    done: list[int] = []
    running = threading.Lock()

    def job(number: int) -> Job:
        def run() -> None:
            assert running.acquire(blocking=False)
            done.append(number)
            running.release()

        return run

    for number in range(10):
        assert runner.layer_runner(job(number)) is True
    runner.layer_closing()
    assert done == list(range(10))


def test_a_closed_thread_runner_takes_no_job_and_closes_again() -> None:
    runner = ThreadRunner()
    runner.layer_runner(lambda: None)
    runner.layer_closing()
    runner.layer_closing()
    with pytest.raises(ClosedError, match="the background runner was closed"):
        runner.layer_runner(lambda: None)


def test_two_layers_have_a_thread_each(build: Callable[..., Layer]) -> None:
    stuck, free = Gated(), Shelf()
    first = build(storage=stuck, sync_strategy=lambda meta: True, background_runner="thread")
    second = build(storage=free, sync_strategy=lambda meta: True, background_runner="thread")
    first.set([put()])
    second.set([put()])
    second.close()
    assert free.versions() == [1]
    stuck.gate.set()


# Observers


def test_observers_are_told_what_was_done(build: Callable[..., Layer]) -> None:
    watcher = Watcher()
    layer = build(plugins=[watcher])
    events = layer.set([put("eu"), put("us")])
    result = layer.sync()
    layer.sync()
    layer.close()
    layer.close()
    assert watcher.told == [("appended", events), ("synced", result), ("closed", None)]


def test_observers_are_not_told_of_a_set_that_was_refused(build: Callable[..., Layer]) -> None:
    watcher = Watcher()
    layer = build(plugins=[watcher])
    with pytest.raises(ValueError, match="unknown key"):
        layer.set([put(), {**put(), "odd": 1}])
    layer.set([])
    assert watcher.told == []


def test_observers_that_raise_break_nothing(build: Callable[..., Layer]) -> None:
    broken = Watcher("broken", raises=True)
    layer = build(plugins=[broken], sync_strategy=lambda meta: meta.unsynced_total > 1)
    assert layer.set([put(n=1)])[0].version == 1
    assert layer.set([put(n=2)])[0].version == 2
    assert layer.meta().unsynced_total == 0
    layer.set([put(n=3)])
    assert layer.sync().count == 1
    assert layer.get("eu") == [put(n=3)["item"]]
    layer.close()
    assert {hook for hook, _ in broken.told} == {"appended", "synced", "failed", "closed"}


def test_an_observer_that_raises_is_reported_to_the_others(build: Callable[..., Layer]) -> None:
    class Broken:
        @hookimpl
        def layer_appended(self) -> None:
            raise RuntimeError("fell asleep")

    watcher = Watcher()
    layer = build(plugins=[watcher, Broken()])
    layer.set([put()])
    ((operation, error),) = watcher.of("failed")
    assert operation == "layer_appended"
    assert str(error) == "fell asleep"


@pytest.mark.parametrize("order", [["broken", "good"], ["good", "broken"]])
def test_an_observer_that_raises_keeps_no_other_from_being_told(build: Callable[..., Layer], order: list[str]) -> None:
    watchers = {"good": Watcher("good"), "broken": Watcher("broken", raises=True)}
    layer = build(plugins=[watchers[name] for name in order])
    layer.set([put()])
    layer.sync()
    layer.close()
    assert [hook for hook, _ in watchers["good"].told if hook != "failed"] == ["appended", "synced", "closed"]


def test_an_observer_that_raises_at_the_close_keeps_no_sync_from_finishing(build: Callable[..., Layer]) -> None:
    class GatedAndBroken(Gated):
        @hookimpl
        def layer_closed(self) -> None:
            raise RuntimeError("cannot let go")

    gated = GatedAndBroken()
    layer = build(storage=gated, sync_strategy=lambda meta: True, background_runner="thread")
    layer.set([put()])
    assert gated.entered.wait(PATIENCE)
    letting_through = threading.Timer(0.1, gated.gate.set)
    letting_through.start()
    layer.close()
    versions = gated.versions()
    letting_through.join()
    assert versions == [1]


def test_what_fails_is_logged_too(build: Callable[..., Layer], caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.failure = OSError("full")
    layer = build(storage=shelf, sync_strategy=lambda meta: True, plugins=[Watcher("broken", raises=True)])
    layer.set([put()])
    messages = [record.getMessage() for record in caplog.records if record.name == "dynalayer"]
    assert any("layer_appended failed" in message for message in messages)
    assert any("sync failed" in message and "OSError: full" in message for message in messages)


def test_an_observer_may_use_the_layer_it_watches(build: Callable[..., Layer]) -> None:
    seen: list[int] = []

    class Curious:
        layer: Layer

        @hookimpl
        def layer_appended(self) -> None:
            seen.append(len(self.layer.get("eu")))

        @hookimpl
        def layer_synced(self) -> None:
            seen.append(self.layer.meta().synced_total)

    curious = Curious()
    layer = curious.layer = build(plugins=[curious])
    layer.set([put()])
    layer.sync()
    assert seen == [1, 1]
