"""The tables of the page on strategies and runners name what is there, with its settings and defaults."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import dynalayer_strategies
from dynalayer import load_plugin
from dynalayer.plugins import PLUGINS, installed, load
from dynalayer.settings import settings_of
from dynalayer_strategies import combined, timing

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()


def ours(hook: str) -> dict[str, str]:
    """The names of our plugins that have a hook, and their settings as the page writes them; a clock is none there."""
    found: dict[str, str] = {}
    for each in installed(PLUGINS):
        if each.distribution.startswith("dynalayer ") and hasattr(factory := load(PLUGINS, each.name).value, hook):
            settings = [setting for setting in settings_of(factory).values() if setting.name != "clock"]
            found[each.name] = ", ".join(f"`{written(setting)}`" for setting in settings)
    return found


def written(setting: inspect.Parameter) -> str:
    if setting.default is inspect.Parameter.empty:
        return setting.name
    shown = f'"{setting.default}"' if isinstance(setting.default, str) else repr(setting.default)
    return f"{setting.name}={shown}"


def table(title: str) -> dict[str, str]:
    """First cell to second."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return {name: cell.strip() for name, cell in re.findall(r"^\| `([\w-]+)` \|([^|]*)\|", section, re.MULTILINE)}


def test_every_strategy_stands_there_with_its_settings_and_defaults() -> None:
    assert table("Strategies") == ours("layer_strategy")


def test_every_runner_stands_there_with_its_settings_and_defaults() -> None:
    assert table("Runners") == ours("layer_runner")


def test_those_that_take_a_clock_and_all_classes_are_named() -> None:
    (named,) = re.findall(r"As objects, (.*?) take a `clock`", PAGE)
    clocks = {name for name in ours("layer_strategy") if "clock" in settings_of(load(PLUGINS, name).value)}
    assert set(re.findall(r"`(\w+)`", named)) == clocks
    sentence = re.search(r"There are ((?:`\w+Strategy`\W*(?:and)?\s*)+)\.", PAGE)
    assert sentence
    assert sorted(re.findall(r"`(\w+)`", sentence[1])) == dynalayer_strategies.__all__


def test_the_bounds_that_it_tells_are_those_of_the_code() -> None:
    assert f"every {timing.BLIND} pending events" in PAGE
    assert f"at most {combined._STRATEGIES} others, nested at most {combined._LEVELS} levels deep" in PAGE


def test_what_it_writes_as_specs_is_understood() -> None:
    section = PAGE.partition("## Naming plugins")[2]
    specs = re.findall(r"^\| (.*?) \|", section.partition("Settings are")[0], re.MULTILINE)
    written = [spec for cell in specs for spec in re.findall(r'`"([^"]+)"`', cell)]
    assert len(written) == 4
    for spec in written:
        assert load_plugin(spec, table="users")
