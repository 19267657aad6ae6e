"""What is in force, and where it is from: `config`."""

from __future__ import annotations

import inspect
import json
from typing import Any

import click

from dynalayer.cli.options import Chosen, layer_options, print_table, reported
from dynalayer.config import Configuration, Source, Sources, Value, shown
from dynalayer.errors import LayerError
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.events import check_table
from dynalayer.layer import Layer
from dynalayer.opening import DEFAULT_EVENTS, DEFAULT_STORAGE, check_event_log

__all__ = ["config"]

_DEFAULT = Source("default")
_OPTIONS = inspect.signature(Layer).parameters


@click.command()
@click.argument("name", required=False)
@layer_options
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON.")
def config(name: str | None, chosen: Chosen, *, as_json: bool) -> None:
    """Show the settings in force and where each is from: of the layer NAME, or all. Secrets are hidden.

    Each layer is built on an event log in memory, to see whether all that it names is there and fits; its own log is
    not opened. Exit 1 if it does not.
    """
    if name is not None and chosen.layer not in (None, name):
        raise click.UsageError(f"NAME and --layer {chosen.layer} exclude each other")
    with reported():
        sources = Sources.read(chosen.config)
        named = name or chosen.layer or sources.selected
        names = [named] if named or not sources.layers else sources.layers
        found = [sources.configuration(each, chosen.given) for each in names]
    problems = [_problem(each) for each in found]
    if as_json:
        layers = [_as_json(each, problem) for each, problem in zip(found, problems, strict=True)]
        click.echo(json.dumps({"layers": layers}, indent=2, ensure_ascii=False))
    else:
        for number, each in enumerate(found):
            click.echo(nl=number > 0)
            _show(each)
    for each, problem in zip(found, problems, strict=True):
        if problem is not None:
            click.echo(f"Error: {'' if each.layer is None else f'layer {each.layer}: '}{problem}", err=True)
    if any(problems):
        raise click.exceptions.Exit(1)


def _problem(configuration: Configuration) -> str | None:
    """Why the layer could not be built, if so."""
    try:
        with configuration.told():
            options = configuration.options()
            check_event_log(options.pop("events", None) or DEFAULT_EVENTS)
            Layer(**options, events=MemoryEventLog(check_table(options["table"]))).close()
    except LayerError as error:
        return str(error)
    return None


def _in_force(configuration: Configuration) -> dict[str, Value]:
    """All settings, those that nobody gave by their defaults."""
    values = dict(configuration.values)
    for name, option in _OPTIONS.items():
        if name not in values:
            default = {"events": DEFAULT_EVENTS, "storage": DEFAULT_STORAGE, "clock": "wall clock"}.get(name)
            values[name] = Value(option.default if default is None else default, _DEFAULT)
    if values["getter"].given and "storage" not in configuration.values:
        del values["storage"]
    return {name: values[name] for name in _OPTIONS if name in values}


def _shown(name: str, value: Value) -> Any:
    if value.given is False:
        return None
    if value.source is _DEFAULT and isinstance(value.given, str):  # our own words, which nobody wrote as a setting
        return value.given
    return shown(value.given, name)


def _as_json(configuration: Configuration, problem: str | None) -> dict[str, Any]:
    settings = {
        name: {
            "value": _shown(name, value),
            "source": value.source.kind,
            "name": value.source.name or None,
            "key": value.source.key or None,
        }
        for name, value in _in_force(configuration).items()
    }
    return {"layer": configuration.layer, "settings": settings, "problem": problem}


def _show(configuration: Configuration) -> None:
    click.echo("no layer is named" if configuration.layer is None else f"layer {configuration.layer}")
    rows = []
    for name, value in _in_force(configuration).items():
        plain = _shown(name, value)
        told = "-" if plain is None else json.dumps(plain, ensure_ascii=False)
        rows.append((name, told, str(value.source)))
    print_table(("SETTING", "VALUE", "FROM"), rows)
