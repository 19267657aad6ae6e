"""The page on guarantees names tests and commands that are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from dynalayer.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/.]+)`", PAGE))
    assert len(named) > 8
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_command_that_the_page_names_is_there() -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", PAGE))
    assert modules == {"dynalayer.testing.model", "dynalayer.testing.simulate"}
    for module in modules:
        assert importlib.util.find_spec(f"{module}.__main__"), module
    for command in re.findall(r"`dynalayer (\w+)", PAGE):
        assert command in main.commands
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|\$ )make ([\w-]+)", PAGE)) <= set(targets)


def test_every_promise_has_what_shows_it() -> None:
    rows = re.findall(r"^\| \*\*(.*?)\*\*[^|]*\|[^|]*\|([^|]*)\|$", PAGE, re.MULTILINE)
    assert len(rows) >= 12
    assert [promise for promise, shown in rows if not shown.strip()] == []
