"""The page on conformance lists the kit's promises, a place's arguments and the sizes, and no other."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path

from dynalayer.testing import AdapterConformance, Place
from dynalayer.testing.adapters.running import promises

PAGE = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()


def test_every_promise_stands_on_the_page_in_the_kits_order_and_no_other() -> None:
    told = [" ".join(line.split()) for line in re.findall(r"^- ([^:]+):", PAGE, re.MULTILINE)]
    assert [f"test_{words.replace(' ', '_')}" for words in told] == list(promises())


def test_every_part_of_the_kit_has_a_heading() -> None:
    parts = [part for part in AdapterConformance.__mro__[1:] if any(name.startswith("test_") for name in vars(part))]
    headings = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
    assert headings == [str(inspect.getdoc(part)).partition("\n")[0].rstrip(".") for part in parts]


def test_every_argument_of_a_place_stands_on_the_page_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]*)` )?\|", PAGE, re.MULTILINE))
    arguments = [each for each in fields(Place) if each.init]
    expected = {
        each.name: "" if each.default is MISSING else repr(each.default).replace("'", '"') for each in arguments
    }
    assert rows == expected


def test_the_sizes_stand_on_the_page_as_they_are() -> None:
    kit = AdapterConformance
    for told in (
        f"`large_bytes` ({kit.large_bytes // 2**20} MiB)",
        f"({kit.many})",
        f"`racers` ({kit.racers})",
        f"`rounds` ({kit.rounds})",
    ):
        assert told in PAGE, told
