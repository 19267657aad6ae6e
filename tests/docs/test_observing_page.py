"""The page on observing says what the plugins do: metrics, settings and fields are compared."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from dynalayer import ErrorFacts, Layer, LayerError
from dynalayer_log import Log
from dynalayer_metrics import Metrics
from dynalayer_metrics.instruments import INSTRUMENTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observing.md").read_text()


def rows(title: str, first: str) -> list[list[str]]:
    """The cells of the table of a section whose first heading this is."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    table = section.partition(f"| {first} |")[2].partition("\n\n")[0]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert found, (title, first)
    return found


def test_the_table_has_every_metric_with_its_kind_unit_and_attributes() -> None:
    told = [(name, kind, unit, attributes) for name, kind, unit, attributes, _ in rows("Metrics and traces", "metric")]
    assert told == [
        (f"`{each.name}`", each.kind, f"`{each.unit}`", ", ".join(f"`{name}`" for name in each.attributes))
        for each in INSTRUMENTS
    ]


@pytest.mark.parametrize(("title", "plugin"), [("Metrics and traces", Metrics), ("Logging", Log)])
def test_every_setting_stands_there_with_its_default(title: str, plugin: type) -> None:
    parameters = list(inspect.signature(plugin).parameters.values())
    expected = [(f"`{each.name}`", f"`{each.default}`") for each in parameters if each.name != "table"]
    assert [(name, default) for name, default, _ in rows(title, "setting")] == expected


def test_every_field_of_a_record_stands_there(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    told = [name.strip("`") for name, _ in rows("Logging", "field")]
    facts = ErrorFacts("StorageError", "full", retryable=True, adapter="local", distribution="dynalayer 0")
    with (
        caplog.at_level("DEBUG", "dynalayer.operations"),
        Layer(
            table="users",
            get_item_unique_identifier="sk",
            events="memory:",
            storage=f"local:{tmp_path}",
            plugins=["log:?slow=0&storage=true"],
        ) as layer,
    ):
        layer.set([{"type": "PUT", "item": {"sk": "a"}}])
        layer.sync()
    seen = {key for record in caplog.records for key in record.__dict__.get("dynalayer", {})}
    assert seen | set(facts.fields()) == set(told)


def test_the_page_names_every_operation_and_no_other(tmp_path: Path) -> None:
    section = PAGE.partition("\n## Operations\n")[2].partition("\n## ")[0]
    core = ROOT / "core" / "dynalayer"
    code = "".join((core / name).read_text() for name in ("layer.py", "runs.py"))
    code += (core / "capturing" / "table.py").read_text() + (core / "streams" / "intake.py").read_text()
    operations = set(re.findall(r'\.(?:running|_?written|_run|_make)\("([\w.]+)"', code))
    calls = {f"storage.{name}" for name in re.findall(r'self\._call\(\s*"(\w+)"', (core / "storage.py").read_text())}
    assert {"set", "sync", "close", "storage.put", "table.put_item"} <= operations | calls
    named = set(re.findall(r"`([a-z]+(?:\.[a-z_]+)?)`", section))
    assert named == operations | calls, "to_arrow is told as a scan"


def test_the_lines_that_are_shown_are_such_as_are_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    shown = re.findall(r"^(?:INFO|ERROR) operation=.*$", PAGE, re.MULTILINE)
    with (
        caplog.at_level("INFO", "dynalayer.operations"),
        Layer(
            table="users",
            get_item_unique_identifier="sk",
            get_item_partition="pk",
            events="memory:",
            storage=f"local:{tmp_path}",
            plugins=["log"],
        ) as layer,
    ):
        layer.set([{"type": "PUT", "item": {"pk": partition, "sk": "a"}} for partition in ("eu", "us")])
        layer.sync()
        with pytest.raises(LayerError):
            layer.get("eu", at=7)
    logged = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    timeless = [re.sub(r"seconds=\S+", "", line) for line in shown]
    assert [re.sub(r"seconds=\S+", "", line) for line in logged[1:3]] == timeless
