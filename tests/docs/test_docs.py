"""The docs say what the code does: names and defaults are compared, examples are run."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

import dynalayer
from dynalayer import Capabilities, Layer, LayerError, LayerMeta, PartitionMeta
from dynalayer.cli import main
from dynalayer.hookspecs import HookSpecs
from dynalayer_cache import Cache
from dynalayer_encryption import Encryption
from dynalayer_retry import Retry

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def section(title: str) -> str:
    match = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", REFERENCE, re.DOTALL | re.MULTILINE)
    assert match, title
    return match[1]


def first_cells(title: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", section(title), re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/async.md",
        "docs/conformance.md",
        "docs/guide.md",
        "docs/history.md",
        "docs/dynamodb.md",
        "docs/following.md",
        "docs/observing.md",
        "docs/parquet.md",
        "docs/plugins.md",
        "docs/reset.md",
        "docs/s3.md",
        "docs/strategies.md",
        "docs/streams.md",
        "docs/wrappers.md",
    ],
)
def test_the_examples_run_as_they_stand(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), page, "exec"), {})  # noqa: S102 -- our own page


def test_every_option_stands_in_the_reference_with_its_default() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|([^|]*)\|", section("Layer"), re.MULTILINE)
    told = {name: default.strip() for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    options = inspect.signature(Layer.__init__).parameters
    expected: dict[str, str] = {}
    for name, parameter in list(options.items())[1:]:
        plain = "" if parameter.default is inspect.Parameter.empty else f"`{parameter.default!r}`"
        expected[name] = "wall clock" if name == "clock" else plain
    assert {name: told.get(name) for name in expected} == expected


def test_every_method_stands_in_the_reference_with_its_arguments() -> None:
    told = set(re.findall(r"^\| `(\w+\([^`]*\))`", section("Layer"), re.MULTILINE))
    expected = set()
    for name, method in inspect.getmembers(Layer, inspect.isfunction):
        if name.startswith("_"):
            continue
        parts: list[str] = []
        for parameter in list(inspect.signature(method).parameters.values())[1:]:
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in parts:
                parts.append("*")
            empty = parameter.default is inspect.Parameter.empty
            shown = '""' if parameter.default == "" else repr(parameter.default)
            parts.append(parameter.name if empty else f"{parameter.name}={shown}")
        expected.add(f"{name}({', '.join(parts)})")
    assert {row for row in told if not row.startswith("Layer(")} == expected


def test_the_reference_says_how_many_threads_an_asynchronous_layer_has() -> None:
    threads = inspect.signature(dynalayer.AsyncLayer).parameters["threads"].default
    assert f"AsyncLayer(*, threads={threads}, …)" in REFERENCE


def test_every_error_stands_in_the_reference_and_no_other() -> None:
    errors = {name for name in dynalayer.__all__ if inspect.isclass(getattr(dynalayer, name))}
    errors = {name for name in errors if issubclass(getattr(dynalayer, name), LayerError)}
    assert set(first_cells("Errors")) | {"LayerError"} == errors


def test_every_hook_and_capability_stands_in_the_reference_with_its_arguments() -> None:
    rows = re.findall(r"^\| `(layer_\w+)` \|([^|]*)\|", section("Hooks"), re.MULTILINE)
    told = {name: re.findall(r"`(\w+)`", arguments) for name, arguments in rows}
    hooks = inspect.getmembers(HookSpecs, inspect.isfunction)
    assert told == {name: list(inspect.signature(hook).parameters)[1:] for name, hook in hooks if name[0] != "_"}
    rows = re.findall(r"^\| `(\w+)` \| `(True|False)` \|", section("Hooks"), re.MULTILINE)
    assert dict(rows) == {field.name: str(field.default) for field in fields(Capabilities)}


def test_every_setting_of_a_wrapper_stands_on_its_page_with_its_default() -> None:
    page = (ROOT / "docs" / "wrappers.md").read_text()
    for wrapper in (Cache, Encryption, Retry):
        match = re.search(rf"^## {wrapper.name}$(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
        assert match, wrapper
        rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", match[1], re.MULTILINE)
        settings = list(inspect.signature(wrapper).parameters.values())
        empty = inspect.Parameter.empty
        assert [(name, told.strip()) for name, told in rows] == [
            (each.name, "" if each.default is empty else f"`{each.default!r}`") for each in settings
        ]


def test_every_command_stands_in_the_reference_and_its_options_exist() -> None:
    told = {row.split()[0]: row for row in first_cells("Command line")}
    assert set(told) == set(main.commands)
    for line in section("Command line").splitlines():
        match = re.match(r"\| `([\w-]+)", line)
        if match:
            command: Any = main.commands[match[1]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert set(re.findall(r"--[a-z-]+", line)) <= known, line


def test_every_command_explains_itself_and_each_of_its_options() -> None:
    for command in main.commands.values():
        assert command.help, command.name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (command.name, parameter.name)


def test_meta_has_the_fields_that_the_reference_names() -> None:
    for kind in (LayerMeta, PartitionMeta):
        match = re.search(rf"`{kind.__name__}`: (.*?)\.(?=\s)", section("Layer"), re.DOTALL)
        assert match
        assert re.findall(r"`(\w+)`", match[1]) == [field.name for field in fields(kind)]


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_all_names_every_public_name_once_sorted_as_it_is_there() -> None:
    assert len(set(dynalayer.__all__)) == len(dynalayer.__all__)
    for name in dynalayer.__all__:
        assert hasattr(dynalayer, name)
    imported = {name for name in vars(dynalayer) if name[0] != "_" and not inspect.ismodule(vars(dynalayer)[name])}
    lazily = {
        "AsyncCapturedTable",
        "AsyncFeed",
        "AsyncLayer",
        "CapturedTable",
        "DynamoDBEventLog",
        "TableMade",
        "create_table",
    }
    assert imported | lazily == set(dynalayer.__all__)


def test_every_testing_tool_that_the_reference_names_is_there() -> None:
    rows = re.findall(r"^\| `(dynalayer\.testing\.\w+)` \|([^|]*)\|", section("Testing"), re.MULTILINE)
    assert {module for module, _ in rows} == {
        f"dynalayer.testing.{path.stem}"
        for path in (ROOT / "core" / "dynalayer" / "testing").iterdir()
        if path.name[0] != "_" and (path.suffix == ".py" or path.is_dir())
    }
    for module, text in rows:
        names = re.findall(r"`([A-Z]\w+)`", text)
        assert names
        assert set(names) <= set(importlib.import_module(module).__all__)
