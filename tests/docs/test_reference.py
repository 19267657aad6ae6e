"""The pages of the reference have a section for every hook, capability and error, and for nothing else."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

import dynalayer
from dynalayer import Capabilities, LayerError
from dynalayer.hookspecs import HookSpecs

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
HOOKS = {name: hook for name, hook in inspect.getmembers(HookSpecs, inspect.isfunction) if name[0] != "_"}
ERRORS = {
    name: kind
    for name in dynalayer.__all__
    if inspect.isclass(kind := getattr(dynalayer, name)) and issubclass(kind, LayerError)
}


def sections(page: str) -> dict[str, str]:
    """Heading to text, of the headings that are code."""
    parts = re.split(r"^#{2,3} (.*)$", (REFERENCE / page).read_text(), flags=re.MULTILINE)[1:]
    return {
        heading.strip("`"): text for heading, text in zip(parts[::2], parts[1::2], strict=True) if heading[0] == "`"
    }


def test_every_hook_has_a_section_under_its_signature() -> None:
    expected = [f"{name}({', '.join(list(inspect.signature(hook).parameters)[1:])})" for name, hook in HOOKS.items()]
    assert sorted(sections("hooks.md")) == sorted(expected)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_a_hooks_section_says_whether_its_first_answer_counts(name: str) -> None:
    (text,) = (text for heading, text in sections("hooks.md").items() if heading.startswith(f"{name}("))
    first = vars(HOOKS[name])["dynalayer_spec"]["firstresult"]
    assert ("First answer counts" in " ".join(text.split())) == first


def test_every_capability_has_a_section_under_its_default() -> None:
    assert list(sections("capabilities.md")) == [f"{field.name}={field.default}" for field in fields(Capabilities)]


def test_every_error_has_a_section_after_its_base() -> None:
    told = sections("errors.md")
    assert set(told) == set(ERRORS)
    for name, kind in ERRORS.items():
        if kind is LayerError:
            continue
        bases = [base.__name__ for base in kind.__bases__]
        assert re.findall(r"`(\w+)`", told[name].strip().partition(".*")[0]) == bases, name


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_an_errors_section_tells_the_attributes_that_only_it_has(name: str) -> None:
    kind = ERRORS[name]
    own = set(inspect.signature(kind).parameters) - set(inspect.signature(LayerError).parameters)
    inherited = {
        parameter
        for base in kind.__mro__[1:]
        if base in ERRORS.values()
        for parameter in inspect.signature(base).parameters
    }
    told = re.search(r"Also has (.*?)[.:] ", " ".join(sections("errors.md")[name].split()) + " ")
    names = set(re.findall(r"`(\w+)`", told[1])) if told else set()
    assert names == own - inherited


def test_the_errors_page_tells_the_attributes_that_all_have() -> None:
    table = (REFERENCE / "errors.md").read_text().partition("## `LayerError`")[0]
    told = {
        name for cell in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }
    assert told == set(inspect.signature(LayerError).parameters)
