"""The page on commands says what the program does: each command, argument, option and default, and no other."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from dynalayer.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "commands.md").read_text()
_, SHARED, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
TOLD = {match[1]: section for section in SECTIONS if (match := re.match(r"`dynalayer ([\w-]+)", section))}
LAYER = ("--layer", "--config", "--table", "--events", "--storage")


def options(section: str) -> dict[str, tuple[str, str]]:
    rows = re.findall(r"^\| `(--[^|]*)` \| ([^|]*)\| ([^|]*)\|", section, re.MULTILINE)
    return {name: (default.strip(), text.strip()) for name, default, text in rows}


def expected(option: click.Option) -> tuple[str, str]:
    text = option.help or ""
    told = re.search(r"\[default: (.*?)\]", text)
    shown = "off" if option.is_flag else f"`{option.default}`" if option.show_default else told[1] if told else ""
    return shown, re.sub(r"\s*\[default: .*?\]", "", text) or "The format."


def own(command: click.Command) -> list[click.Option]:
    found = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    works_on_a_layer = {name for option in found for name in option.opts} >= set(LAYER)
    return [option for option in found if not (works_on_a_layer and option.opts[0] in LAYER)]


def test_every_command_has_a_section_and_no_section_is_of_none() -> None:
    assert sorted(TOLD) == sorted(main.commands)
    assert len(TOLD) == len(SECTIONS)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_a_commands_section_has_its_usage_options_and_defaults(name: str) -> None:
    command: Any = main.commands[name]
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    usage = " ".join(["dynalayer", name, *(each.make_metavar(click.Context(command)) for each in arguments)])
    assert TOLD[name].startswith(f"`{usage}`\n")
    assert options(TOLD[name]) == {option.opts[0]: expected(option) for option in own(command)}
    works = len(own(command)) != len([each for each in command.params if isinstance(each, click.Option)])
    assert ("Works on [a layer]" in TOLD[name]) == works


def test_the_options_of_a_layer_stand_first() -> None:
    shared = [each for each in main.commands["get"].params if isinstance(each, click.Option) and each.opts[0] in LAYER]
    assert options(SHARED) == {option.opts[0]: expected(option) for option in shared}


@pytest.mark.parametrize("name", sorted(main.commands))
def test_a_commands_example_is_one_that_it_takes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("changes.jsonl.gz").touch()
    match = re.search(r"^\$ dynalayer (.*)$", TOLD[name], re.MULTILINE)
    assert match
    called, *rest = shlex.split(match[1])
    assert called == name
    with main.commands[name].make_context(name, rest):  # which closes what it opens
        pass
