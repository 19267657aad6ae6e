"""Distributions of strangers: built, installed beside dynalayer, and used by name, in Python and in the shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

from dynalayer.cli.new_adapter import FILES
from dynalayer.testing import AdapterConformance
from environments import ROOT, Strangers, served, table
from program import InProcess

PAGE = "docs/writing-an-adapter.md"

NOT_RUN = {
    "python -m venv .venv && . .venv/bin/activate": "the tests make the environment",
    "pip install dynalayer": "it is installed, from this checkout",
    "redis-server --port 6379 --appendonly yes --appendfsync always --daemonize yes": "the fixture starts it, so",
    "twine upload dist/*": "it publishes",
}
"""Commands of the page that its test leaves out, and why; there is no other."""

LAYER = """
from dynalayer import Layer
with Layer(table="toys", get_item_unique_identifier="id", storage={storage!r}) as layer:
    layer.set([{{"type": "PUT", "item": {{"id": "bear", "n": 1}}}}])
    assert layer.sync().count == 1
    assert layer.get() == [{{"id": "bear", "n": 1}}]
    assert layer.verify().ok
"""


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A folder with a file of events."""
    event = {"type": "PUT", "id": "bear", "item": {"id": "bear", "n": 1}}
    (tmp_path / "toys.jsonl").write_text(json.dumps(event) + "\n")
    return tmp_path


# new-adapter


def test_an_adapter_from_new_adapter_is_found_by_its_url_in_python(strangers: Strangers, tmp_path: Path) -> None:
    strangers.python(LAYER.format(storage="shelf:segments.db"), cwd=tmp_path)
    assert (tmp_path / "segments.db").stat().st_size > 0
    where = strangers.python("import dynalayer, dynalayer_shelf; print(dynalayer.__file__)", cwd=tmp_path)
    assert where.startswith(str(strangers.folder)), "it is the installed one that is tested"


def test_an_adapter_from_new_adapter_serves_every_command(strangers: Strangers, toys: Path) -> None:
    layer = ("--table", "toys", "--storage", "shelf:segments.db")
    assert strangers.dynalayer("import", "toys.jsonl", *layer, cwd=toys) == "1 event taken, in 1 partition\n"
    strangers.dynalayer("sync", *layer, cwd=toys)
    assert json.loads(strangers.dynalayer("get", *layer, cwd=toys)) == {"id": "bear", "n": 1}
    assert "0 wrong" in strangers.dynalayer("verify", *layer, cwd=toys)
    error = strangers.refused("get", "--table", "toys", "--storage", "shelf:segments.db?colour=red", cwd=toys)
    assert "adapter: shelf from dynalayer-shelf 0.1.0" in error


@pytest.mark.parametrize("distribution", ["dynalayer-shelf", "dynalayer-notify"])
def test_a_strangers_own_tests_pass_unchanged(strangers: Strangers, distribution: str) -> None:
    told = strangers.good("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=strangers.source / distribution)
    assert re.search(r"\d+ passed", told)
    assert "failed" not in told


def test_strangers_distributions_keep_to_ruff_and_mypy_unchanged(strangers: Strangers, tmp_path: Path) -> None:
    for distribution in ("dynalayer-shelf", "dynalayer-notify"):
        checked(strangers, strangers.source / distribution, tmp_path)


def checked(strangers: Strangers, folder: Path, cache: Path) -> None:
    """Check a distribution by its own configuration, against what is installed beside it."""
    for check in (
        ("ruff", "check", "--no-cache", "."),
        ("ruff", "format", "--no-cache", "--check", "."),
        ("mypy", "--python-executable", str(strangers.bin / "python"), "--cache-dir", str(cache / "mypy")),
    ):
        environment = {name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")}
        done = subprocess.run(
            [sys.executable, "-m", *check], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{folder.name}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", ["x", "a1-b2-c3", "abcdefghij-abcdefghij-abcdefgh", "dynalayer-short"])
def test_what_is_written_is_formatted_whatever_the_name(name: str, tmp_path: Path) -> None:
    InProcess(tmp_path).good("new-adapter", name)
    (folder,) = tmp_path.iterdir()
    assert folder.name == "dynalayer-" + name.removeprefix("dynalayer-")
    for check in (("check",), ("format", "--check")):
        command = [sys.executable, "-m", "ruff", *check, "--no-cache", "."]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Shelf", "lower-case letters"),
        ("a b", "no name for an adapter"),
        ("../up", "no name for an adapter"),
        ("a--b", "single hyphens"),
        ("a+b", "no name for an adapter"),
        ("1st", "begins with a letter"),
        ("x" * 31, "at most 30"),
        ("", "no name for an adapter"),
        ("local", "has an adapter 'local'"),
        ("thread", "a package dynalayer_thread is installed"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(name: str, says: str, tmp_path: Path) -> None:
    assert says in InProcess(tmp_path).bad("new-adapter", "--", name, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "dynalayer-shelf").mkdir()
    assert "is there already" in InProcess(tmp_path).bad("new-adapter", "shelf", code=2)
    assert list((tmp_path / "dynalayer-shelf").iterdir()) == []
    InProcess(tmp_path).good("new-adapter", "shelf", "--into", "new/folder")
    assert (tmp_path / "new" / "folder" / "pyproject.toml").is_file()


def test_a_distribution_that_cannot_be_written_whole_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    write = Path.write_text

    def full(path: Path, *arguments: str) -> int:
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write(path, *arguments)

    monkeypatch.setattr(Path, "write_text", full)
    assert "new/folder could not be written: No space left" in InProcess(tmp_path).bad(
        "new-adapter", "shelf", "--into", "new/folder"
    )
    assert len(written) == 4
    assert list(tmp_path.iterdir()) == []


def test_the_installed_command_writes_what_the_checkout_has(strangers: Strangers, tmp_path: Path) -> None:
    """The templates are in the wheel, all of them and as they are."""
    strangers.dynalayer("new-adapter", "drawer", cwd=tmp_path)
    written = tmp_path / "dynalayer-drawer"
    InProcess(tmp_path).good("new-adapter", "drawer", "--into", "here")
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (written, tmp_path / "here")
    ]
    assert contents[0] == contents[1]
    assert {path.name for path in contents[0]} >= {"pyproject.toml", "adapter.py", "py.typed", "test_conformance.py"}


def test_every_template_becomes_a_file() -> None:
    folder = ROOT / "core" / "dynalayer" / "cli" / "adapter_template"
    templates = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert templates == {f"{source}.template" for source in FILES}


# Broken ones beside it


def test_broken_distributions_are_shown_with_version_and_error_and_harm_nobody(
    strangers: Strangers, toys: Path
) -> None:
    shown = table(strangers.dynalayer("plugins", "--json", cwd=toys))
    assert "no_such_module_anywhere" in shown["broken of dynalayer-broken 2.0"]["error"]
    assert "dynalayer-greedy 3.0" in shown["parquet of dynalayer-greedy 3.0"]["error"]
    ours = f"dynalayer {version('dynalayer')}"
    for well in (f"local of {ours}", "shelf of dynalayer-shelf 0.1.0", "notify of dynalayer-notify 0.1.0"):
        assert shown[well]["error"] is None
    for storage in ("local:snapshots", "shelf:segments.db"):
        strangers.dynalayer("import", "toys.jsonl", "--sync", "--table", "toys", "--storage", storage, cwd=toys)
    error = strangers.refused("get", "--table", "toys", "--storage", "broken:x", cwd=toys)
    assert "'broken' of dynalayer-broken 2.0 cannot be loaded" in error
    error = strangers.refused("get", "--table", "toys", "--storage", "parquet+file:x", cwd=toys)
    assert f"claimed by {ours} and dynalayer-greedy 3.0" in error


def test_a_distribution_with_torn_metadata_harms_nobody_and_is_shown(strangers: Strangers, toys: Path) -> None:
    torn = toys / "beside" / "dynalayer_torn-4.0.dist-info"
    torn.mkdir(parents=True)
    (torn / "METADATA").write_text("Metadata-Version: 2.1\nName: dynalayer-torn\nVersion: 4.0\n")
    (torn / "entry_points.txt").write_text("[dynalayer.adapters]\ntorn = dynalayer_to\ntorn off in the mid")
    beside = {"PYTHONPATH": str(torn.parent)}
    shown = table(strangers.dynalayer("plugins", "--json", cwd=toys, **beside))
    assert "cannot be read" in shown["dynalayer-torn of dynalayer-torn 4.0"]["error"]
    assert shown["shelf of dynalayer-shelf 0.1.0"]["error"] is None
    strangers.python(LAYER.format(storage="shelf:segments.db"), cwd=toys, **beside)


# Plugins


def test_the_example_plugins_are_used_by_name_in_python(strangers: Strangers, tmp_path: Path) -> None:
    code = """
from dynalayer import Layer
with Layer(
    table="toys", get_item_unique_identifier="id", get_item_partition="shop",
    plugins=["notify:syncs.jsonl"], sync_strategy="chosen:north;south?count=2",
) as layer:
    for shop in ("north", "west", "north", "west"):
        layer.set([{"type": "PUT", "item": {"id": "bear", "shop": shop}}])
"""
    strangers.python(code, cwd=tmp_path)
    (told,) = (json.loads(line) for line in (tmp_path / "syncs.jsonl").read_text().splitlines())
    assert (told["table"], told["folded"], told["partitions"]) == ("toys", 2, ["north"])


def test_the_example_plugins_are_used_by_the_command_line_from_a_configuration(
    strangers: Strangers, toys: Path
) -> None:
    (toys / "dynalayer.toml").write_text(
        '[layers.toys]\nplugins = [{use = "notify", to = "syncs.jsonl", timeout = 1}]\nsync_strategy = "chosen:west"\n'
    )
    strangers.dynalayer("import", "toys.jsonl", cwd=toys)
    assert not (toys / "syncs.jsonl").exists()
    strangers.dynalayer("sync", cwd=toys)
    (told,) = (json.loads(line) for line in (toys / "syncs.jsonl").read_text().splitlines())
    assert (told["table"], told["folded"]) == ("toys", 1)
    (toys / "dynalayer.toml").write_text('[layers.toys]\nplugins = ["notify:syncs.jsonl?timeot=1"]\n')
    assert "did you mean 'timeout'" in strangers.refused("sync", cwd=toys)


# The guide


def test_the_guide_leads_to_a_distribution_that_works(strangers: Strangers, redis_server: int, tmp_path: Path) -> None:
    """Page by page, as a newcomer goes: each command is run, each file written, each program run."""
    text = (ROOT / PAGE).read_text().replace("6379", str(redis_server))
    skipped = {command.replace("6379", str(redis_server)) for command in NOT_RUN}
    folder = tmp_path
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        first = re.match(r"# (\S+\.(?:py|toml))\n", block)
        if first and language == "toml":
            path = folder / first[1]
            path.write_text(amended(path.read_text(), block.removeprefix(first[0])))
        elif first:
            (folder / first[1]).write_text(block)
        elif language == "python":
            strangers.python(block, cwd=folder)
        else:
            assert language == "console"
            for command, expected in commands(block):
                if command in skipped:
                    skipped.remove(command)
                elif command.startswith("cd "):
                    folder /= command.removeprefix("cd ")
                else:
                    seen = " ".join(strangers.good("bash", "-ec", command, cwd=folder).split())
                    assert re.fullmatch(expected, seen), f"$ {command}\n{seen}"
    assert not skipped
    with ZipFile(folder / "dist" / "dynalayer_redis-0.1.0-py3-none-any.whl") as wheel:
        points = wheel.read("dynalayer_redis-0.1.0.dist-info/entry_points.txt").decode().split("\n")
    assert points[:3] == [
        "[dynalayer.adapters]",
        "redis = dynalayer_redis:RedisAdapter",
        "slow = dynalayer_redis.slow:Slow",
    ]
    checked(strangers, folder, tmp_path)


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Commands, and a pattern of the words that they print: … stands for anything, and so does nothing."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, ".*".join(map(re.escape, " ".join(shown.split()).split("…"))) if shown.strip() else ".*"


def amended(project: str, block: str) -> str:
    """A pyproject.toml with one of its lists or tables replaced."""
    begin = block.partition("\n")[0]
    end = r"^\]\n" if begin.endswith("[") else r"(?=^\n|\Z)"
    pattern = re.compile(rf"^{re.escape(begin)}\n.*?{end}", re.DOTALL | re.MULTILINE)
    assert len(pattern.findall(project)) == 1, begin
    return pattern.sub(lambda _: block, project)


def test_a_server_that_forgets_is_refused_by_the_guides_adapter(
    strangers: Strangers, redis_server: int, tmp_path: Path
) -> None:
    page = (ROOT / PAGE).read_text()
    adapter = re.search(r"^```python\n(# src/dynalayer_redis/adapter.py\n.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert adapter
    (tmp_path / "adapter.py").write_text(adapter[1])
    code = """
from dynalayer import ConfigurationError, Layer
from adapter import RedisAdapter
adapter = RedisAdapter("localhost", {port}, "forgetful", "toys")
with Layer(table="toys", get_item_unique_identifier="id", events="memory:", storage=adapter) as layer:
    layer.set([{{"type": "PUT", "item": {{"id": "bear"}}}}])
    try:
        layer.sync()
    except ConfigurationError as error:
        print(error)
"""
    with served(["--appendonly", "yes"]) as port:
        told = strangers.python(code.format(port=port), cwd=tmp_path)
    assert "has appendfsync everysec, and would lose what it confirmed; set appendfsync always" in told


def test_each_row_of_the_table_of_musts_names_the_tests_that_hold_it() -> None:
    rows = re.findall(r"^\| (MUST|MAY|MUST NOT) \| .* \| ([^|]+) \|$", (ROOT / PAGE).read_text(), re.MULTILINE)
    assert {word for word, _ in rows} == {"MUST", "MAY", "MUST NOT"}
    for _, cell in rows:
        names = re.findall(r"`(test_\w+)`", cell)
        assert names
        assert [name for name in names if not hasattr(AdapterConformance, name)] == []
