"""The page on streams says what the code does: options, fields and settings are compared."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

from dynalayer.streams import DeadLetter, Followed, follow, handler

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "streams.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def test_every_option_of_follow_stands_there_with_its_default() -> None:
    told: dict[str, str] = {}
    for names, default in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| `([^`]*)` \|", PAGE, re.MULTILINE):
        told |= dict.fromkeys(re.findall(r"`(\w+)`", names), default)
    options = list(inspect.signature(follow).parameters.values())[1:]
    assert told == {option.name: repr(option.default) for option in options}


def test_the_reference_has_the_functions_with_their_arguments_and_the_fields_of_what_they_give() -> None:
    section = REFERENCE.partition("\n## Streams\n")[2].partition("\n## ")[0]
    for function in (handler, follow):
        parameters = list(inspect.signature(function).parameters.values())
        options = ", ".join(f"{each.name}={each.default!r}" for each in parameters[1:])
        assert f"`{function.__name__}(layer, *, {options})`" in section
    for kind in (Followed, DeadLetter):
        told = re.search(rf"`{kind.__name__}`: (.*?)[.;]", section, re.DOTALL)
        assert told
        assert re.findall(r"`(\w+)`", told[1]) == [field.name for field in fields(kind)]


def test_the_template_has_the_setting_without_which_failures_would_be_lost() -> None:
    (template,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert "FunctionResponseTypes: [ReportBatchItemFailures]" in template
    assert "StartingPosition: TRIM_HORIZON" in template
    assert "MaximumRetryAttempts" not in template
