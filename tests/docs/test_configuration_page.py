"""The page on configuration says what the code does: its table is compared, its examples are read and run."""

from __future__ import annotations

import inspect
import os
import re
from base64 import b64encode
from pathlib import Path

import pytest

from dynalayer import Layer
from dynalayer.config import Sources
from dynalayer.config.environment import CONFIG, LAYER
from dynalayer.config.kinds import SETTINGS
from dynalayer.opening import DEFAULT_EVENTS, DEFAULT_STORAGE, check_event_log

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text()
BLOCKS = re.findall(r"```toml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("DYNALAYER_"):
            monkeypatch.delenv(name)


def test_every_setting_stands_on_the_page_with_its_variable_and_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| ([^|]*)\|", PAGE, re.MULTILINE)
    defaults = {name: parameter.default for name, parameter in inspect.signature(Layer).parameters.items()}
    defaults |= {"events": DEFAULT_EVENTS, "storage": DEFAULT_STORAGE, "plugins": list(defaults["plugins"])}
    shown = {name: "" if default is None else f"`{default}`" for name, default in defaults.items()}
    shown |= {"table": "the layer's name, or `items`", "clock": "wall clock"}
    assert [(name, variable, default.strip()) for name, variable, default in rows] == [
        (name, f"DYNALAYER_{name.upper()}", shown[name]) for name in SETTINGS
    ]


def test_the_page_names_no_variable_that_is_none() -> None:
    known = {f"DYNALAYER_{name.upper()}" for name in SETTINGS} | {CONFIG, LAYER, "DYNALAYER_", "DYNALAYER_TEST_"}
    for variable in re.findall(r"DYNALAYER_\w*", PAGE):
        assert re.sub(r"_[A-Z_]+?__", "_", variable) in known, variable


def test_false_leaves_out_what_the_page_says() -> None:
    match = re.search(r"leaves out what a weaker source says of(.*?);", PAGE, re.DOTALL)
    assert match
    assert re.findall(r"`(\w+)`", match[1]) == [name for name, setting in SETTINGS.items() if setting.optional]


@pytest.mark.parametrize(("name", "text"), BLOCKS)
def test_every_file_on_the_page_is_taken(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("key").write_text("k1:" + b64encode(bytes(32)).decode())
    Path("id").write_text("alias/users")
    monkeypatch.setenv("USERS_EVENTS", "sqlite:///events.db")
    Path(name).write_text(text.replace("/run/secrets/users-key", "key").replace("/run/secrets/kms-key-id", "id"))
    for layer in Sources.read().layers:
        options = Sources.read().configuration(layer).options()
        check_event_log(options.pop("events", None) or DEFAULT_EVENTS)
        with Layer(**options, events="memory:") as built:
            assert built.table_name in (layer, "all-orders")


def test_the_examples_of_python_run_beside_the_first_file() -> None:
    name, text = BLOCKS[0]
    Path(name).write_text(text)
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert examples
    exec(compile("\n".join(examples), "configuration.md", "exec"), {})  # noqa: S102 -- our own page
    assert Path("events.db").exists()


def test_how_a_layer_is_made_from_it_stands_in_the_reference() -> None:
    parts = [
        f"**{each.name}" if each.kind is inspect.Parameter.VAR_KEYWORD else f"{each.name}={each.default!r}"
        for each in inspect.signature(Layer.from_config).parameters.values()
    ]
    signature = f"`Layer.from_config({', '.join([parts[0], '*', *parts[1:]])})`"
    assert signature in (ROOT / "docs" / "reference.md").read_text()
