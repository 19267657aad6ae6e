"""Configuration: which source wins, what is refused and how, and that no secret is told."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import sys
import tempfile
import traceback
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from dynalayer import ConfigurationError, Layer, LayerError, PluginError
from dynalayer.cli import main
from dynalayer.config import LayerOptions, Source, Sources, shown
from dynalayer.config.kinds import SETTINGS
from strangers import Install

CANARY = "canary-Xq7Zk29pLw4T"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without configuration."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("DYNALAYER_"):
            monkeypatch.delenv(name)
    return tmp_path


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    return json.dumps(value)


def write(text: str, name: str = "dynalayer.toml") -> None:
    Path(name).write_text(text)


def refusal(name: str | None = None, **options: Any) -> str:
    """What `from_config` refuses with."""
    with pytest.raises(ConfigurationError) as caught:
        Layer.from_config(name, **options)
    return str(caught.value)


class Sample(NamedTuple):
    """Two values that a setting may have, and what the layer is given for them."""

    first: Any
    second: Any
    options: tuple[Any, Any] | None = None

    def option(self, value: object) -> Any:
        return value if self.options is None else self.options[value == self.second]


LOADS, DUMPS = {"function": "json:loads"}, {"function": "json:dumps"}
FUNCTIONS = (json.loads, json.dumps)
SAMPLES = {
    "table": Sample("first", "second"),
    "get_item_unique_identifier": Sample("sk", DUMPS, ("sk", json.dumps)),
    "get_item_partition": Sample(LOADS, "pk", (json.loads, "pk")),
    "events": Sample(
        "sqlite:///first.db",
        {"use": "dynamodb://events", "region": "eu-west-1", "pending_shards": 4},
        ("sqlite:///first.db", "dynamodb://events?region=eu-west-1&pending_shards=4"),
    ),
    "storage": Sample("local:first", ["retry:5", {"use": "s3-json://bucket", "region": "eu-west-1"}]),
    "getter": Sample(LOADS, "json:dumps", FUNCTIONS),
    "setter": Sample("json:loads", DUMPS, FUNCTIONS),
    "sync_strategy": Sample(
        "count:100", [LOADS, {"use": "age", "seconds": 5}], ("count:100", [json.loads, {"use": "age", "seconds": 5}])
    ),
    "background_runner": Sample("thread", LOADS, ("thread", json.loads)),
    "ttl": Sample(100_000, LOADS, (100_000, json.loads)),
    "history": Sample("forever", "ttl"),
    "plugins": Sample(["log"], ["metrics", {"use": "log", "level": "info"}]),
    "lease": Sample(30, 45.5),
    "cache_bytes": Sample(0, 1_000_000),
    "clock": Sample(LOADS, DUMPS, FUNCTIONS),
}

# The weakest first. A place in a file is a name and a section; one in the environment the variable's beginning.
PLACES: dict[str, tuple[str, str]] = {
    "pyproject.toml": ("pyproject.toml", "tool.dynalayer"),
    "pyproject.toml, the layer": ("pyproject.toml", "tool.dynalayer.layers.users"),
    "dynalayer.toml": ("dynalayer.toml", ""),
    "dynalayer.toml, the layer": ("dynalayer.toml", "layers.users"),
    "environment": ("DYNALAYER_", ""),
    "environment, the layer": ("DYNALAYER_USERS__", ""),
    "option": ("", ""),
}


def test_every_option_of_a_layer_is_a_setting_with_samples_here_and_a_type() -> None:
    options = list(inspect.signature(Layer).parameters)
    assert list(SETTINGS) == options
    assert list(SAMPLES) == options
    hints = get_type_hints(LayerOptions)
    assert list(hints) == options
    names = vars(sys.modules["dynalayer.layer"])
    assert hints | {"return": type(None)} == get_type_hints(Layer.__init__, names)


def say(setting: str, said: dict[str, Any], patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Say a setting in some places, in a folder that has the layer; gives the options to pass."""
    files: dict[str, list[str]] = {"dynalayer.toml": [], "pyproject.toml": []}
    options: dict[str, Any] = {}
    for place, (name, section) in PLACES.items():  # the top of a file comes before its tables
        if place == "dynalayer.toml, the layer":
            files[name].append(f"[{section}]")
        if place not in said:
            continue
        value = said[place]
        if place == "option":
            options[setting] = SAMPLES[setting].option(value)
        elif name in files:
            files[name] += [f"[{section}]"] * section.startswith("tool") + [f"{setting} = {toml(value)}"]
        else:
            patch.setenv(f"{name}{setting.upper()}", value if isinstance(value, str) else json.dumps(value))
    for name, lines in files.items():
        write("\n".join(lines), name)
    return options


@pytest.mark.parametrize("setting", SETTINGS)
def test_of_any_two_sources_the_stronger_wins_and_is_told(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = SAMPLES[setting]
    for weaker, stronger in itertools.combinations(PLACES, 2):
        for first, second in ((sample.first, sample.second), (sample.second, sample.first)):
            with monkeypatch.context() as patch:
                options = say(setting, {weaker: first, stronger: second}, patch)
                configuration = Sources.read().configuration("users", options)
                assert configuration.options()[setting] == sample.option(second), (weaker, stronger)
                name, section = PLACES[stronger]
                source = configuration.values[setting].source
                expected = {
                    "option": Source("option", setting),
                    "environment": Source("environment", f"DYNALAYER_{setting.upper()}"),
                    "environment, the layer": Source("environment", f"DYNALAYER_USERS__{setting.upper()}"),
                }.get(stronger, Source("file", name, f"{section}.{setting}".removeprefix(".")))
                assert source == expected


def test_settings_that_a_stronger_source_leaves_out_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        '[tool.dynalayer]\nlease = 10\nttl = 90_000\n[tool.dynalayer.layers.users]\nevents = "sqlite:///a.db"\n',
        "pyproject.toml",
    )
    write("lease = 20\n[layers.users]\ncache_bytes = 5\n")
    monkeypatch.setenv("DYNALAYER_STORAGE", "local:kept")
    assert Sources.read().configuration("users", {"table": "people"}).options() == {
        "table": "people",
        "lease": 20,
        "ttl": 90_000,
        "events": "sqlite:///a.db",
        "cache_bytes": 5,
        "storage": "local:kept",
    }


def test_a_layer_is_built_of_what_is_in_force(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        '[layers.users]\nget_item_unique_identifier = "sk"\nget_item_partition = "pk"\nevents = "sqlite:///log.db"\n'
        'storage = "local:kept"\n'
    )
    with Layer.from_config("users") as layer:
        layer.set([{"type": "PUT", "item": {"pk": "eu", "sk": "a"}}])
        layer.sync()
        assert layer.get("eu") == [{"pk": "eu", "sk": "a"}]
        assert layer.table_name == "users"
    assert (folder / "log.db").exists()
    assert (folder / "kept" / "users").is_dir()
    with Layer.from_config(events="memory:", table="other") as layer:
        assert layer.table_name == "other"
    monkeypatch.setenv("DYNALAYER_EVENTS", "memory:")
    with Layer.from_config() as layer:
        assert layer.partitions() == []


def test_without_any_configuration_it_is_the_embedded_layer(folder: Path) -> None:
    with Layer.from_config() as layer:
        assert layer.table_name == "items"
    assert (folder / ".dynalayer" / "events.db").exists()


def test_an_option_that_is_none_wins_too() -> None:
    write('background_runner = "nope"\n')
    with Layer.from_config(background_runner=None, events="memory:"):
        pass


def test_files_above_the_working_directory_are_not_looked_for(folder: Path) -> None:
    write("[layers.users]\n")
    (folder / "below").mkdir()
    with chdir(folder / "below"):
        assert Sources.read().layers == []
        assert "in the working directory" in refusal("users")


@pytest.mark.parametrize("name", ["other.toml", "pyproject.toml"])
def test_a_named_file_stands_in_place_of_those_in_the_working_directory(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("lease = 1\n")
    (folder / "far").mkdir()
    section = "[tool.dynalayer]\n" if name == "pyproject.toml" else ""
    write(f"{section}ttl = 100_000\n", f"far/{name}")
    expected = {"table": "items", "ttl": 100_000}
    assert Sources.read(folder / "far" / name).configuration().options() == expected
    monkeypatch.setenv("DYNALAYER_CONFIG", f"far/{name}")
    assert Sources.read().configuration().options() == expected
    assert Sources.read("dynalayer.toml").configuration().options() == {"table": "items", "lease": 1}


def test_a_pyproject_without_our_section_says_nothing_unless_it_is_named() -> None:
    write("[project]\nname = 'x'\n", "pyproject.toml")
    assert Sources.read().files == ()
    assert refusal(config="pyproject.toml") == "pyproject.toml has no [tool.dynalayer]"


# Which layer


def test_of_several_layers_one_is_named_by_name_by_the_environment_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[layers.users]\n[layers.orders]\n[layers.old]\n")
    write("[tool.dynalayer.layers.more]\n", "pyproject.toml")
    assert "there are several layers: more, old, orders, users; name one" in refusal()
    assert Sources.read().configuration("old").layer == "old"
    monkeypatch.setenv("DYNALAYER_LAYER", "orders")
    assert Sources.read().configuration().options() == {"table": "orders"}
    assert Sources.read().configuration("more").layer == "more"
    monkeypatch.setenv("DYNALAYER_LAYER", "usesr")
    assert "'usesr' (DYNALAYER_LAYER)" in refusal()
    assert "did you mean 'users'?" in refusal()


def test_an_unknown_layer_is_refused_with_the_nearest() -> None:
    write("[layers.users]\n")
    assert refusal("user") == "there is no layer 'user': dynalayer.toml has none of that name; did you mean 'users'?"


@pytest.mark.parametrize(
    ("layer", "variable"),
    [
        ("user-events.v2", "USER_EVENTS_V2__LEASE"),
        ("a__b", "A__B__LEASE"),
        ("a_", "A___LEASE"),
        ("test", "TEST__LEASE"),
        ("config", "CONFIG__LEASE"),
    ],
)
def test_a_layers_name_is_written_in_capitals_in_the_environment(
    layer: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f'[layers."{layer}"]\n')
    monkeypatch.setenv(f"DYNALAYER_{variable}", "7")
    assert Sources.read().configuration().options() == {"table": layer, "lease": 7}


def test_a_variable_that_two_layers_could_claim_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    write('[layers.a-b]\n[layers."a.b"]\n')
    assert Sources.read().layers == ["a-b", "a.b"]
    monkeypatch.setenv("DYNALAYER_A_B__TTL", "100000")
    assert "DYNALAYER_A_B__TTL could be meant for the layers a-b and a.b" in refusal("a-b")


# What is refused


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tabel = 'x'", "there is no setting 'tabel'; did you mean 'table'?"),
        ("[layer.users]", "there is no setting 'layer'; did you mean 'layers'?"),
        ("[users]\ntable = 'x'", "there is no setting 'users'; settings of a layer stand in [layers.users]"),
        ("[layers.users]\nstorge = 'x'", "there is no setting 'layers.users.storge'; did you mean 'storage'?"),
        ("[layers.users]\nlayers = 'x'", "there is no setting 'layers.users.layers'; known: "),
        ("layers = 3", "layers is a table of layers, as in [layers.users]"),
        ("layers.users = 3", "layers.users is a table of settings, [layers.users]"),
        ('[layers."a b"]', "'a b' is no layer's name"),
    ],
)
@pytest.mark.parametrize("name", ["dynalayer.toml", "pyproject.toml"])
def test_unknown_keys_are_refused_with_file_and_nearest_right_name(name: str, text: str, told: str) -> None:
    prefix = "tool.dynalayer." if name == "pyproject.toml" else ""
    if prefix:
        text = "\n".join(
            line.replace("[", f"[{prefix}", 1) if line.startswith("[") else line for line in f"{text}\n".splitlines()
        )
        text = text if text.startswith("[") else f"[tool.dynalayer]\n{text}"
        told = told.replace("setting '", f"setting '{prefix}").replace("[layers", f"[{prefix}layers")
        told = f"{prefix}{told}" if told.startswith("layers") else told
    write(text, name)
    said = refusal("users")
    assert said.startswith(name)
    assert told in said


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("DYNALAYER_TABEL", "there is no setting DYNALAYER_TABEL; did you mean 'DYNALAYER_TABLE'?"),
        ("DYNALAYER_table", "there is no setting DYNALAYER_table; "),
        ("DYNALAYER_LAYERS", "did you mean 'DYNALAYER_LAYER'?"),
        ("DYNALAYER_", "there is no setting DYNALAYER_; "),
        ("DYNALAYER_USERS__TLT", "there is no setting DYNALAYER_USERS__TLT; did you mean 'DYNALAYER_USERS__TTL'?"),
        ("DYNALAYER_USRES__TTL", "no file has a layer of that name; did you mean 'DYNALAYER_USERS__TTL'?"),
        ("DYNALAYER___TTL", "no file has a layer of that name"),
        ("DYNALAYER_TEST__TTL", "no file has a layer of that name"),
        ("DYNALAYER_USERS__", "there is no setting DYNALAYER_USERS__;"),
    ],
)
def test_unknown_variables_are_refused_with_the_nearest_right_name(
    variable: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("[layers.users]\n")
    monkeypatch.setenv(variable, "x")
    assert told in refusal()


def test_variables_of_others_and_of_tests_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DYNALAYER_TEST_WHATEVER", "DYNALAYERX", "_DYNALAYER_COMPLETE", "dynalayer_ttl"):
        monkeypatch.setenv(name, "x")
    assert Sources.read().configuration().options() == {"table": "items"}


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    assert refusal(stroage="local:x") == "a layer has no option 'stroage'; did you mean 'storage'?"


WRONG: dict[str, list[Any]] = {
    "table": ["", 3, ["a"], {"a": 1}, True],
    "get_item_unique_identifier": ["", 3, True, ["sk"], {"functoin": "json:loads"}, {"function": 3}],
    "get_item_partition": [4.5, {"env": ""}, {"env": "A", "file": "b"}],
    "events": [3, ["memory:"], {"region": "x"}, False],
    "storage": [3, [], [3], [{"us": "retry"}], [["retry"]], False],
    "getter": [3, ["json:loads"], {"use": "x"}],
    "setter": [True, {}],
    "sync_strategy": [3, True, [True], {"us": "count"}],
    "background_runner": [["thread"], True],
    "ttl": ["1 day", True, [5]],
    "history": ["", "for ever", True, 3, ["ttl"], False],
    "plugins": ["log", [3], {"use": "log"}, False],
    "lease": ["60", True, [60]],
    "cache_bytes": [1.5, "5", True],
    "clock": [3, False],
}


def test_wrong_types_are_refused_with_source_and_what_is_right() -> None:
    assert list(WRONG) == list(SETTINGS)
    for setting, values in WRONG.items():
        for value in values:
            write(f"[layers.users]\n{setting} = {toml(value)}\n")
            said = refusal()
            assert said.startswith(f"dynalayer.toml: layers.users.{setting} is "), (setting, value)
            assert SETTINGS[setting].told in said


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("ttl", "soon"),
        ("lease", "[1]"),
        ("cache_bytes", "1.5"),
        ("cache_bytes", "9" * 5000),
        ("storage", "[]"),
        ("plugins", "{a = 1}"),
        ("table", ""),
        ("table", "  "),
        ("storage", "[unclosed"),
        ("events", '{"use": 3}'),
        ("storage", "['a']\nother = 3"),
        ("table", "\udcff"),
        ("storage", "[" * 100_000),
    ],
)
def test_wrong_values_in_the_environment_are_refused_with_the_variable(
    setting: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"DYNALAYER_{setting.upper()}", text)
    said = refusal()
    assert said.startswith(f"DYNALAYER_{setting.upper()} ")
    assert text.strip() == "" or text not in said


@pytest.mark.parametrize("setting", [name for name, setting in SETTINGS.items() if setting.optional])
def test_false_leaves_out_what_a_weaker_source_says(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"{setting} = {toml(SAMPLES[setting].first)}\n[layers.users]\n{setting} = false\n")
    assert Sources.read().configuration().options() == {"table": "users", setting: None}
    write(f"{setting} = {toml(SAMPLES[setting].first)}\n")
    monkeypatch.setenv(f"DYNALAYER_{setting.upper()}", "false")
    assert Sources.read().configuration().options() == {"table": "items", setting: None}


def test_lists_in_the_environment_are_toml_or_json_and_one_plugin_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for text, expected in (
        ("log", ["log"]),
        ("['log', 'metrics']", ["log", "metrics"]),
        ('[{"use": "log", "level": null}]', [{"use": "log", "level": None}]),
        ('[{use = "log", level = "info"}]', [{"use": "log", "level": "info"}]),
    ):
        monkeypatch.setenv("DYNALAYER_PLUGINS", text)
        assert Sources.read().configuration().options()["plugins"] == expected


def test_a_storage_and_a_plain_pair_stand_in_one_anothers_place(monkeypatch: pytest.MonkeyPatch) -> None:
    write('storage = "local:x"\n[layers.users]\ngetter = "json:loads"\nsetter = "json:dumps"\n')
    assert set(Sources.read().configuration().options()) == {"table", "getter", "setter"}
    monkeypatch.setenv("DYNALAYER_STORAGE", "local:y")
    assert set(Sources.read().configuration().options()) == {"table", "storage"}
    write('storage = "local:x"\ngetter = "json:loads"\nsetter = "json:dumps"\nget_item_unique_identifier = "sk"\n')
    monkeypatch.delenv("DYNALAYER_STORAGE")
    assert "getter and setter stand in place of storage" in refusal()


def test_a_plain_pair_that_is_left_out_leaves_the_storage_of_weaker_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = 'getter = "json:loads"\nsetter = "json:dumps"\n'
    off = "getter = false\nsetter = false\n"
    write(f'storage = "local:right"\n[layers.users]\n{off}')
    assert Sources.read().configuration("users").options()["storage"] == "local:right"
    write(f'[tool.dynalayer]\nstorage = "local:right"\n[tool.dynalayer.layers.users]\n{pair}', "pyproject.toml")
    write(f"[layers.users]\n{off}")
    assert Sources.read().configuration().options() == {"table": "users", "storage": "local:right"}
    write(off)
    shown = CliRunner().invoke(main, ["config"]).output
    assert [line.split()[1:] for line in shown.splitlines() if line.startswith("storage ")] == [
        ['"local:right"', "pyproject.toml:", "tool.dynalayer.storage"]
    ], shown
    Path("pyproject.toml").unlink()
    shown = CliRunner().invoke(main, ["config"]).output
    assert '"local:.dynalayer/snapshots"' in shown, "the default is in force, and is shown"
    write('storage = "local:right"')
    monkeypatch.setenv("DYNALAYER_GETTER", "false")
    monkeypatch.setenv("DYNALAYER_SETTER", "false")
    assert Sources.read().configuration().options()["storage"] == "local:right"
    options = Sources.read().configuration(options={"getter": None, "setter": None}).options()
    assert options["storage"] == "local:right"


def test_what_the_layer_refuses_is_told_with_where_its_settings_are_from(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[layers.users]\nlease = -1\n")
    monkeypatch.setenv("DYNALAYER_CACHE_BYTES", "5")
    with pytest.raises(ConfigurationError, match="lease=-1") as caught:
        Layer.from_config()
    assert caught.value.__notes__ == [
        "settings of layer 'users' come from dynalayer.toml, DYNALAYER_CACHE_BYTES; `dynalayer config` shows each"
    ] or caught.value.__notes__ == [
        "settings of layer 'users' come from DYNALAYER_CACHE_BYTES, dynalayer.toml; `dynalayer config` shows each"
    ]


# Files


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"table = 'a'\nlease == 3\n", "dynalayer.toml is no TOML: Invalid value (at line 2, "),
        (b"table = 'a'\ntable = 'b'\n", "is no TOML: Cannot overwrite a value (at line 2"),
        (b"table = '\xff'\n", "is not UTF-8: byte 9 "),
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        (b"plugins" + b".a" * 500 + b" = 1", "plugins is nested deeper than 32 levels"),
        (b"x = " + b"9" * 5000, "is no TOML"),
        (b"#" * (1024 * 1024 + 1), "larger than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_none_is_refused_with_where_and_why(data: bytes, told: str) -> None:
    Path("dynalayer.toml").write_bytes(data)
    said = refusal()
    assert said.startswith("dynalayer.toml")
    assert told in said


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"\xef\xbb\xbflease = 60\r\n", b"[layers]\n"])
def test_an_empty_file_a_mark_of_byte_order_and_dos_lines_are_taken(data: bytes) -> None:
    Path("dynalayer.toml").write_bytes(data)
    assert Sources.read().configuration().options()["table"] == "items"


def test_a_file_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(config="nowhere.toml") == "there is no configuration file nowhere.toml"
    assert "cannot be read" in refusal(config="null\0byte")
    assert "path of a file" in refusal(config=3)
    Path("dynalayer.toml").mkdir()
    assert refusal() == "the configuration file dynalayer.toml cannot be read: Is a directory"
    Path("dynalayer.toml").rmdir()
    Path("dynalayer.toml").symlink_to("dynalayer.toml")
    assert "dynalayer.toml cannot be read: Too many levels of symbolic links" in refusal()
    Path("dynalayer.toml").unlink()
    Path("dynalayer.toml").symlink_to("gone.toml")
    assert refusal() == "there is no configuration file dynalayer.toml"
    Path("dynalayer.toml").unlink()
    write("")

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    assert refusal() == "the configuration file dynalayer.toml cannot be read: Permission denied"


# Secrets


def test_a_reference_stands_for_a_text_at_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTS_URL", "sqlite:///a.db")
    monkeypatch.setenv("VAULT_KEY", CANARY)
    write(f"{CANARY}\n", "key.txt")
    write(
        'events = { env = "EVENTS_URL" }\n'
        'storage = [{ use = "vault", key = { file = "key.txt" } }, { use = { env = "EVENTS_URL" } }]\n'
        'plugins = [{ use = "all", of = [{ use = "x", key = { env = "VAULT_KEY" } }] }]\n'
    )
    assert Sources.read().configuration().options() == {
        "table": "items",
        "events": "sqlite:///a.db",
        "storage": [{"use": "vault", "key": CANARY}, {"use": "sqlite:///a.db"}],
        "plugins": [{"use": "all", "of": [{"use": "x", "key": CANARY}]}],
    }


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ('{ env = "NOWHERE" }', "the environment variable NOWHERE that it refers to is not set, or empty"),
        ('{ env = "EMPTY" }', "EMPTY that it refers to is not set, or empty"),
        ('{ env = "ODD" }', "ODD that it refers to is not UTF-8"),
        (f'{{ env = "{CANARY}" }}', "no name of an environment variable"),
        ('{ file = "nowhere" }', "the file 'nowhere' that it refers to cannot be read: No such file or directory"),
        ('{ file = "." }', "cannot be read: Is a directory"),
        ('{ file = "a\\u0000b" }', "cannot be read: embedded null byte"),
        ('{ file = "empty" }', "the file 'empty' that it refers to is empty"),
        ('{ file = "odd" }', "the file 'odd' that it refers to is not UTF-8"),
        ('{ file = "large" }', "larger than 65,536 bytes"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_with_its_place(
    reference: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("ODD", "\udcff")
    write("\n", "empty")
    Path("odd").write_bytes(b"\xff")
    write("x" * 65_537, "large")
    write(f"events = {reference}\n")
    said = refusal()
    assert said.startswith("dynalayer.toml: events: ")
    assert told in said
    assert CANARY not in said


VAULT = """
    from dynalayer import WrappedAdapter

    class Vault:
        def __init__(self, key: str, *, note: str = "", fails: bool = False):
            if fails:
                raise ValueError(f"the key {key} does not fit {note}")

        def around(self, inner):
            return WrappedAdapter(inner)

    class Odd:
        def __init__(self, first: int = 0):
            pass
"""


def canaries() -> list[str]:
    """Files in which the canary sits where a secret may, right or wrong."""
    within = [
        f'storage = ["vault:{CANARY}", "local:x"]',
        f'storage = ["vault:{CANARY}?fails=true", "local:x"]',
        f'storage = [{{ use = "vault", key = "{CANARY}", fails = true }}, "local:x"]',
        'storage = [{ use = "vault", key = { env = "VAULT_KEY" }, fails = true }, "local:x"]',
        'storage = [{ use = "vault", key = { file = "key.txt" }, fails = true }, "local:x"]',
        'storage = [{ use = "vault", key = "a", note = { env = "VAULT_KEY" }, fails = true }, "local:x"]',
        f'storage = [{{ use = "vault", key = ["{CANARY}"] }}, "local:x"]',
        f'storage = [{{ use = "vault", key = "a", secrte = "{CANARY}" }}, "local:x"]',
        f'storage = [{{ use = "vault:a", key = "{CANARY}" }}, "local:x"]',
        f'storage = ["nope:{CANARY}", "local:x"]',
        f'storage = [{{ use = "encryption", key_env = "{CANARY}" }}, "local:x"]',
        f'storage = [{{ use = "encryption", key_file = "{CANARY}" }}, "local:x"]',
        f'storage = ["encryption?key_env={CANARY}", "local:x"]',
        f'storage = {{ use = "local:x", password = "{CANARY}" }}',
        f'storage = {{ use = "local:x", password = ["{CANARY}"] }}',
        'storage = { use = "local:x", password = { env = "VAULT_KEY" } }',
        f'storage = "local:x?password={CANARY}"',
        f'storage = "s3-json://user:{CANARY}@bucket/prefix"',
        f'storage = "s3-json://{CANARY}@bucket"',
        f'events = "dynamodb://events?secret_key={CANARY}"',
        f'events = "dynamodb://user:{CANARY}@host"',
        'events = { env = "VAULT_KEY" }',
        'events = { file = "key.txt" }',
        'events = { env = "LOG_URL" }',
        'events = { env = "TABLE_URL" }',
        'storage = { env = "STORE_URL" }',
        f'events = {{ use = "dynamodb://events", token = "{CANARY}" }}',
        'table = { env = "VAULT_KEY" }\nlease = -1',
        f'plugins = ["thread:{CANARY}"]',
        f'plugins = [{{ use = "thread", password = "{CANARY}" }}]',
        f'plugins = ["odd:{CANARY}"]',
        f'sync_strategy = "thread:{CANARY}"',
        f'sync_strategy = {{ password = "{CANARY}" }}',
        f'background_runner = {{ use = "thread?key={CANARY}" }}',
        f'background_runner = {{ function = "{CANARY}" }}',
        f'getter = "{CANARY}"',
        f'ttl = "{CANARY}"',
        f'cache_bytes = "{CANARY}"',
        f'plugins = "{CANARY}"',
        f'lease = {{ password = "{CANARY}" }}',
        f'events = "{CANARY}" x',
    ]
    return [f"[layers.users]\n{each}\n" for each in within]


@pytest.mark.parametrize("text", canaries())
def test_no_command_and_no_error_tells_a_secret(text: str, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("vault", VAULT, adapters={"vault": "Vault"}, plugins={"odd": "Odd"})
    monkeypatch.setenv("VAULT_KEY", CANARY)
    monkeypatch.setenv("LOG_URL", f"sqlite:///key.txt/{CANARY}/log.db")
    monkeypatch.setenv("TABLE_URL", f"dynamodb://events?pending_shards={CANARY}")
    monkeypatch.setenv("STORE_URL", f"{CANARY}://{CANARY}?{CANARY}={CANARY}")
    write(CANARY, "key.txt")
    write("[]", "eu.json")
    write('{"type": "PUT", "id": "a", "item": {}}\n', "events.jsonl")
    write(text)
    for arguments in (
        ["config"],
        ["config", "--json"],
        ["plugins"],
        ["plugins", "--json"],
        ["import", "events.jsonl"],
        ["import-snapshot", "eu.json", "--id-attribute", "id"],
        ["sync"],
        ["status"],
    ):
        done = CliRunner().invoke(main, arguments)
        assert CANARY not in done.output, arguments
        assert done.exception is None or isinstance(done.exception, SystemExit), arguments
    told = ""
    try:
        Layer.from_config().close()
    except LayerError as error:
        told = repr(error) + "".join(traceback.format_exception(error))
    assert CANARY not in told


def test_what_can_be_no_secret_is_shown() -> None:
    for setting, value in (
        ("table", "users"),
        ("events", "dynamodb://events-table?region=us-east-1&endpoint_url=http://127.0.0.1:8000&pending_shards=4"),
        ("events", "dynamodb://stack-TableA1B2C3D4-XYZ9876543210?region=eu-west-1"),
        ("storage", "s3-json://stack-bucket83908e77-1gqv2w4h5k6m/prefix"),
        ("storage", "parquet+s3://my-bucket-of-snapshots-2026/some/prefix?storage_class=STANDARD_IA"),
        ("storage", ["cache:/var/cache/users?max_bytes=1000000000", "local:snapshots"]),
        ("sync_strategy", ["count:100", {"use": "age", "seconds": 3600}, {"function": "myapp.sync:due"}]),
        ("plugins", [{"use": "log", "level": "info", "file": {"env": "LOG_FILE"}}]),
        ("getter", "myapp.items_of_everything_2026:read"),
        ("storage", [{"use": "encryption", "key": {"function": "myapp.keys:current"}}]),
        ("storage", [{"use": "encryption", "key": {"env": "KEY"}}, {"use": {"file": "url.txt"}}]),
        ("storage", [{"use": "encryption", "key_env": "USERS_KEY"}, "encryption?key_env=USERS_KEY", "local:x"]),
        ("storage", [{"use": "encryption", "key_file": "/run/secrets/users-key"}, "local:x"]),
        ("storage", ["encryption?key_file=/run/secrets/users-key", "local:x"]),
    ):
        assert shown(value, setting) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("s3-json://bucket?access_key=abc&region=eu-west-1", "s3-json://bucket?access_key=***&region=eu-west-1"),
        ("s3-json://user:pass@bucket/prefix", "s3-json:***"),
        ("s3-json://user%3Apass%40bucket/prefix", "s3-json:***"),
        ("s3-json://bucket/prefix?abc", "s3-json://bucket/prefix?***"),
        ("local:x?note=AKIAIOSFODNN7EXAMPLE", "local:x?note=***"),
        ("ghp_abcdefghij", "***"),
        ("retry?longest=2&password=a", "retry?longest=2&password=***"),
        ("un_heard_of:abc", "un_heard_of:***"),
        ({"use": "x://y", "api_token": 12345, "note": "a"}, {"use": "x://y", "api_token": "***", "note": "a"}),
        ({"use": "x", "key_env": "hunter2"}, {"use": "x", "key_env": "***"}),
        ({"use": "x", "key_env": "k1:Zm9vYmFy"}, {"use": "x", "key_env": "***"}),
        ({"use": "x", "key_env": "JBSWY3DPEHPK3PXP"}, {"use": "x", "key_env": "***"}),
        ({"use": "x", "key_file": "k1:Zm9vYmFy"}, {"use": "x", "key_file": "***"}),
        ({"use": "x", "key_file": "AKIAIOSFODNN7EXAMPLE"}, {"use": "x", "key_file": "***"}),
        ("x?key_env=hunter2", "x?key_env=***"),
        ({"use": "x://y", "secrets": {"a": "b"}}, {"use": "x://y", "secrets": "***"}),
        ({"use": "x://y", "note": "sk-proj-1"}, {"use": "x://y", "note": "***"}),
        ({"use": "x://y", "note": ["q8Zr5Tg1Lm9Xw2Kd"]}, {"use": "x://y", "note": ["***"]}),
        ("unheard-of:abc", "unheard-of:***"),
        ("unheard-of:5", "unheard-of:5"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(value: object, expected: object) -> None:
    assert shown(value, "storage") == expected


def test_functions_are_imported_only_for_the_layer_in_force() -> None:
    write('[layers.users]\n[layers.orders]\nsync_strategy = { function = "nowhere:due" }\n')
    assert Sources.read().configuration("users").options() == {"table": "users"}
    assert "cannot import the module 'nowhere': ModuleNotFoundError" in refusal("orders")


def test_a_function_is_named_at_any_depth() -> None:
    write(
        'storage = [{ use = "vault", key = { function = "json:dumps" } }, "local:x"]\n'
        'sync_strategy = { use = "any-of", strategies = ["count:5", { function = "json:loads" }] }\n'
    )
    assert Sources.read().configuration().options() == {
        "table": "items",
        "storage": [{"use": "vault", "key": json.dumps}, "local:x"],
        "sync_strategy": {"use": "any-of", "strategies": ["count:5", json.loads]},
    }
    write('ttl = { function = "os:sep" }\n')
    assert refusal() == "dynalayer.toml: ttl: 'os:sep' is no function, but str"


def test_an_adapters_settings_may_stand_beside_its_url(install: Install) -> None:
    install("vault", VAULT, adapters={"vault": "Vault"})
    write('events = "memory:"\nstorage = [{ use = "vault", key = "a" }, { use = "local:x", nope = "y" }]\n')
    with pytest.raises(ConfigurationError, match="local: knows no option 'nope'"):
        Layer.from_config()
    write('events = "memory:"\nstorage = [{ use = "vault", key = "a", fails = true }, "local:x"]\n')
    with pytest.raises(PluginError, match="the key a does not fit"):
        Layer.from_config()


# Whatever comes in

TEXTS = st.sampled_from(
    ["sk", "local:x", "memory:", "sqlite:///x.db", "json:loads", "nope:x", "thread", "retry:5", "", "a b", "☃", "x://y"]
) | st.text(max_size=8)
LEAVES = TEXTS | st.integers(-(10**6), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["use", "function", "env", "file", "key", "seconds"]), inner, max_size=2)
    ),
    max_leaves=5,
)
SECTIONS = st.dictionaries(st.sampled_from([*SETTINGS, "tabel"]), VALUES, max_size=4)
DOCUMENTS = st.builds(
    lambda common, layers: common | ({"layers": layers} if layers else {}),
    SECTIONS,
    st.dictionaries(st.sampled_from(["users", "a-b", "a.b", "é"]), SECTIONS, max_size=2),
)
RAW = st.text(st.sampled_from("[]{}=.,'\"#\n abtle1-"), max_size=40) | st.binary(max_size=30)


def document_text(document: dict[str, Any]) -> str:
    return "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in document.items())


@settings(max_examples=40, deadline=None)
@given(DOCUMENTS.map(document_text) | RAW)
def test_whatever_a_file_says_it_works_or_is_refused(text: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("dynalayer.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        for arguments in (["config", "--json"], ["plugins"]):
            done = CliRunner().invoke(main, arguments)
            assert done.exception is None or isinstance(done.exception, SystemExit), text
            assert done.exit_code in (0, 1)
        if CliRunner().invoke(main, ["config"]).exit_code == 0:
            names: list[str | None] = [*Sources.read().layers] or [None]
            for name in names:
                Layer.from_config(name, events="memory:").close()
