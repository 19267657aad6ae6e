"""Configuration, as a user meets it: program and Python over the same file, and what the commands show."""

from __future__ import annotations

import json
import os
from contextlib import chdir
from pathlib import Path

import pytest

from dynalayer import Layer
from program import InProcess, Program
from strangers import Install

FILE = """
ttl = 100_000

[layers.users]
get_item_unique_identifier = "sk"
get_item_partition = "pk"
events = "sqlite:///events.db"
storage = ["local:kept"]

[layers.orders]
table = "all-orders"
get_item_unique_identifier = { function = "operator:itemgetter" }
events = "sqlite:///events.db"
"""

EVENTS = b'{"type": "PUT", "item": {"pk": "eu", "sk": "a"}}\n{"type": "PUT", "item": {"pk": "eu", "sk": "b"}}\n'


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DYNALAYER_"):
            monkeypatch.delenv(name)


@pytest.fixture
def program(tmp_path: Path) -> InProcess:
    return InProcess(tmp_path)


@pytest.fixture
def configured(program: InProcess) -> InProcess:
    (program.folder / "dynalayer.toml").write_text(FILE)
    return program


def test_the_program_and_python_use_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "dynalayer.toml").write_text(FILE)
    program = Program(tmp_path)
    assert program.good("import", "-", "--layer", "users", stdin=EVENTS) == "2 events taken, in 1 partition\n"
    with chdir(tmp_path), Layer.from_config("users") as layer:
        assert layer.get("eu") == [{"pk": "eu", "sk": "a"}, {"pk": "eu", "sk": "b"}]
        assert layer.sync().count == 2
        layer.set([{"type": "DELETE", "item": {"pk": "eu", "sk": "a"}}])
    assert (tmp_path / "kept" / "users").is_dir()
    done = program.run("get", "eu", environment={"DYNALAYER_LAYER": "users"})
    assert (done.returncode, done.stdout) == (0, b'{"pk":"eu","sk":"b"}\n')
    assert "there are several layers: orders, users; name one" in program.bad("get", "eu")
    assert sorted(path.name for path in tmp_path.iterdir() if "-" not in path.name) == [
        "dynalayer.toml",
        "events.db",
        "kept",
    ]


def test_every_command_that_works_on_a_layer_takes_the_configured_one(configured: InProcess) -> None:
    of = ("--layer", "users")
    (configured.folder / "us.json").write_text('[{"pk": "us", "sk": "c"}]')
    configured.good("import", "-", *of, stdin=EVENTS)
    assert "1 partition taken over" in configured.good("import-snapshot", "us.json", *of)
    assert configured.good("get", "us", *of) == '{"pk":"us","sk":"c"}\n'
    assert len(configured.good("history", "eu", *of).splitlines()) == 2
    assert "2 events folded" in configured.good("sync", *of)
    assert "table users: 2 events" in configured.good("status", *of)
    assert "2 items" in configured.good("explain", "eu", *of)
    assert "0 wrong" in configured.good("verify", *of)
    assert "0 segments would be discarded" in configured.good("vacuum", *of)
    configured.good("export", "eu", *of, "--output", "eu.jsonl")
    assert len((configured.folder / "eu.jsonl").read_text().splitlines()) == 2
    assert "create_table makes dynamodb://TABLE, not sqlite:" in configured.bad("create-table", *of)
    assert not (configured.folder / ".dynalayer").exists()


def test_options_of_a_command_win_and_the_rest_stays(configured: InProcess) -> None:
    configured.good("import", "-", "--layer", "users", "--events", "sqlite:///mine.db", stdin=EVENTS)
    assert (configured.folder / "mine.db").exists()
    assert not (configured.folder / "events.db").exists()
    configured.good("import", "-", "--layer", "users", "--table", "t", "--id-attribute", "pk", stdin=EVENTS)
    assert [
        json.loads(line)["id"]
        for line in configured.good("history", "eu", "--layer", "users", "--table", "t").splitlines()
    ] == ["eu", "eu"]


def test_storage_given_several_times_is_a_stack(program: InProcess, install: Install) -> None:
    install(
        "vault",
        """
        from dynalayer import ConfigurationError, WrappedAdapter

        class Note:
            def __init__(self, text: str):
                self.text = text

            def around(self, inner):
                with open("notes", "a") as file:
                    file.write(f"{self.text} around {inner.name};")
                return WrappedAdapter(inner)
    """,
        adapters={"note": "Note"},
    )
    program.good(
        "import",
        "-",
        "--id-attribute",
        "sk",
        "--sync",
        "--storage",
        "note:a",
        "--storage",
        "note:b",
        "--storage",
        "local:kept",
        stdin=EVENTS,
    )
    assert (program.folder / "notes").read_text() == "b around local;a around local;"
    assert (program.folder / "kept" / "items").is_dir()


def test_an_import_uses_the_configured_plugins_and_strategy(program: InProcess, install: Install) -> None:
    install(
        "teller",
        """
        from dynalayer import hookimpl

        class Teller:
            def __init__(self, *, file: str):
                self.file = file

            @hookimpl
            def layer_synced(self, result):
                with open(self.file, "a") as file:
                    file.write(f"{result.count} folded;")

        class Always:
            @hookimpl
            def layer_strategy(self, meta, partition_meta):
                return True
    """,
        plugins={"teller": "Teller", "always": "Always"},
    )
    (program.folder / "dynalayer.toml").write_text(
        'get_item_unique_identifier = "sk"\nplugins = [{ use = "teller", file = "told" }]\nsync_strategy = "always"\n'
    )
    program.good("import", "-", "--batch", "1", stdin=EVENTS)
    assert (program.folder / "told").read_text() == "1 folded;1 folded;"
    environment = {"DYNALAYER_SYNC_STRATEGY": "false", "DYNALAYER_TABLE": "other"}
    assert program.run("import", "-", "--sync", stdin=EVENTS, environment=environment).returncode == 0
    assert (program.folder / "told").read_text() == "1 folded;1 folded;2 folded;"


def test_import_snapshot_needs_an_identifier_from_somewhere(program: InProcess) -> None:
    (program.folder / "eu.json").write_text("[]")
    assert "--id-attribute is missing" in program.bad("import-snapshot", "eu.json", code=2)


def test_an_import_into_a_configured_log_in_memory_is_refused(program: InProcess) -> None:
    (program.folder / "dynalayer.toml").write_text('events = "memory:"\n')
    assert "dynalayer.toml: events: memory: is gone" in program.bad("import", "-", stdin=EVENTS, code=2)
    assert "--events memory: is gone" in program.bad("import", "-", "--events", "memory:", stdin=EVENTS, code=2)


def test_create_table_takes_its_url_from_one_place(configured: InProcess) -> None:
    assert "leave one out" in configured.bad("create-table", "dynamodb://t", "--layer", "users", code=2)


def test_a_wrong_configuration_ends_a_command_with_one_line_and_leaves_nothing(program: InProcess) -> None:
    (program.folder / "dynalayer.toml").write_text("[layers.users]\nstorge = 'local:x'\n")
    for command in (["status"], ["import", "-"], ["sync"], ["config"]):
        assert program.bad(*command, stdin=EVENTS) == (
            "Error: dynalayer.toml: there is no setting 'layers.users.storge'; did you mean 'storage'?\n"
        )
    assert [path.name for path in program.folder.iterdir()] == ["dynalayer.toml"]


def test_what_the_layer_refuses_is_told_with_the_settings_sources(program: InProcess) -> None:
    (program.folder / "dynalayer.toml").write_text("[layers.users]\nlease = 0\n")
    assert program.bad("import", "-", stdin=EVENTS) == (
        "Error: lease=0 is no positive number of seconds up to an hour\n"
        "settings of layer 'users' come from dynalayer.toml; `dynalayer config` shows each\n"
    )


# config


def test_config_shows_each_setting_its_value_and_where_it_is_from(configured: InProcess) -> None:
    done = configured.run("config", "users", "--storage", "local:x", environment={"DYNALAYER_USERS__LEASE": "30"})
    assert done.returncode == 0
    layer, head, *rows = done.stdout.decode().splitlines()
    assert (layer, head.split()) == ("layer users", ["SETTING", "VALUE", "FROM"])
    cells = {row.split("  ")[0]: [cell.strip() for cell in row.split("  ")[1:] if cell] for row in rows}
    assert cells["table"] == ['"users"', "default"]
    assert cells["events"] == ['"sqlite:///events.db"', "dynalayer.toml: layers.users.events"]
    assert cells["ttl"] == ["100000", "dynalayer.toml: ttl"]
    assert cells["lease"] == ["30", "DYNALAYER_USERS__LEASE"]
    assert cells["storage"] == ['"local:x"', "option storage"]
    assert cells["background_runner"] == ["-", "default"]
    assert not (configured.folder / "events.db").exists()


def test_config_as_json_tells_the_same(configured: InProcess) -> None:
    (told,) = json.loads(configured.good("config", "users", "--json"))["layers"]
    assert (told["layer"], told["problem"]) == ("users", None)
    assert told["settings"]["ttl"] == {"value": 100_000, "source": "file", "name": "dynalayer.toml", "key": "ttl"}
    assert told["settings"]["cache_bytes"] == {"value": 268435456, "source": "default", "name": None, "key": None}


def test_config_checks_every_layer_and_tells_what_does_not_load(configured: InProcess) -> None:
    with (configured.folder / "dynalayer.toml").open("a") as file:
        file.write("[layers.old]\nbackground_runner = 'thraed'\n[layers.odd]\nevents = 'sqlite:/x'\n")
        file.write("[layers.gone]\nstorage = { use = 'local:x', note = { env = 'NOT_SET' } }\n")
    done = configured.run("config")
    assert done.returncode == 1
    assert [line for line in done.stdout.decode().splitlines() if line.startswith("layer ")] == [
        "layer gone",
        "layer odd",
        "layer old",
        "layer orders",
        "layer users",
    ]
    first, second, third = done.stderr.decode().splitlines()
    assert "layer gone: dynalayer.toml: layers.gone.storage: the environment variable NOT_SET" in first
    assert "layer odd: events: write sqlite:///" in second
    assert "layer old: there is no plugin 'thraed'; installed: " in third
    assert [path.name for path in configured.folder.iterdir()] == ["dynalayer.toml"]
    told = json.loads(configured.run("config", "old", "--json").stdout)
    assert "thraed" in told["layers"][0]["problem"]


def test_config_without_any_configuration_shows_the_defaults(program: InProcess) -> None:
    told = program.good("config")
    assert told.startswith("no layer is named\n")
    assert '"sqlite:///.dynalayer/events.db"' in told
    assert '"wall clock"' in told
    assert "***" not in told
    assert list(program.folder.iterdir()) == []


def test_config_refuses_two_names(configured: InProcess) -> None:
    assert "exclude each other" in configured.bad("config", "users", "--layer", "orders", code=2)


# plugins


def test_plugins_lists_what_is_installed_a_broken_one_with_its_error(program: InProcess, install: Install) -> None:
    install("teller", "import nowhere_at_all\n", plugins={"teller": "Teller"})
    install("leaver", "import sys\nprint('bye')\nsys.exit(3)\n", adapters={"leaver": "Leaver"})
    install("claimer", "class Thread: pass\n", plugins={"thread": "Thread"})
    install(
        "keeper",
        """
        from dynalayer import Capabilities, WrappedAdapter
        class Keeper:
            def __init__(self, attempts: int = 3, *, longest: float = 2): pass
            def around(self, inner): return WrappedAdapter(inner)
    """,
        adapters={"keeper": "Keeper"},
    )
    told = {
        (each["name"], each["distribution"]): each
        for each in json.loads(program.run("plugins", "--json").stdout)["plugins"]
    }
    broken = told["teller", "teller 1.2"]
    assert broken["kind"] == "plugin"
    assert "cannot be loaded: ModuleNotFoundError: No module named 'nowhere_at_all'" in broken["error"]
    assert "cannot be loaded: SystemExit: 3" in told["leaver", "leaver 1.2"]["error"]
    assert "is claimed by claimer 1.2 and dynalayer" in told["thread", "claimer 1.2"]["error"]
    keeper = told["keeper", "keeper 1.2"]
    assert (keeper["kind"], keeper["settings"], keeper["error"]) == ("wrapper", ["attempts", "longest"], None)
    (local,) = (each for (name, _), each in told.items() if name == "local")
    assert local["kind"] == "adapter"
    assert local["capabilities"] == ["deltas", "listing", "immutable"]
    assert local["hooks"] == ["layer_discard", "layer_getter", "layer_list", "layer_setter"]
    done = program.run("plugins")
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.decode().splitlines()}
    assert "USED BY" not in rows["NAME"]
    assert "settings: attempts, longest" in rows["keeper"]
    assert "teller 1.2" in rows["teller"]
    assert "No module named 'nowhere_at_all'" in rows["teller"]
    assert "bye" not in done.stdout.decode()


def test_plugins_marks_which_layers_use_what(configured: InProcess) -> None:
    with (configured.folder / "dynalayer.toml").open("a") as file:
        file.write("background_runner = 'thread'\n[layers.other]\nstorage = { use = 's3-json://bucket' }\n")
    told = {each["name"]: each["layers"] for each in json.loads(configured.good("plugins", "--json"))["plugins"]}
    assert (told["local"], told["thread"], told["s3-json"]) == (["orders", "users"], ["orders"], ["other"])
    rows = {line.split()[0]: line for line in configured.good("plugins").splitlines()}
    assert "USED BY" in rows["NAME"]
    assert "orders, users" in rows["local"]


def test_plugins_are_listed_under_a_broken_configuration_too(program: InProcess) -> None:
    (program.folder / "dynalayer.toml").write_text("nope = 1\n")
    done = program.run("plugins")
    assert done.returncode == 1
    assert b"local" in done.stdout
    assert b"which of them are used is not known: dynalayer.toml: there is no setting 'nope'" in done.stderr
