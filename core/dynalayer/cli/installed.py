"""What is installed: `plugins`."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import click

from dynalayer.cli.options import print_table
from dynalayer.config import Sources
from dynalayer.errors import ConfigurationError, LayerError, PluginError
from dynalayer.hookspecs import Capabilities
from dynalayer.opening import DEFAULT_STORAGE
from dynalayer.plugins import ADAPTERS, PLUGINS, Installed, hooks_of, installed, load
from dynalayer.settings import Spec, settings_of

__all__ = ["plugins"]

_GROUPS = {"storage": ADAPTERS, "sync_strategy": PLUGINS, "background_runner": PLUGINS, "plugins": PLUGINS}


@dataclass(frozen=True, slots=True)
class _Plugin:
    """What is told of one.

    Attributes:
        name: The name that it is asked for by.
        kind: `adapter`, `wrapper` or `plugin`.
        distribution: Name and version of what it came with.
        capabilities: What an adapter can, of what it says without being opened.
        hooks: The hooks that it implements.
        settings: The settings that it takes.
        error: Why it cannot be loaded.
        layers: The layers of the configuration that use it.
    """

    name: str
    kind: str
    distribution: str
    capabilities: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    error: str | None = None
    layers: list[str] = field(default_factory=list)

    @property
    def does(self) -> str:
        """What it is for, in a line."""
        if self.error is not None:
            return " ".join(self.error.split())
        if self.kind == "adapter" and not self.capabilities:
            return "what it can do depends on its options"
        told = self.capabilities if self.kind == "adapter" else self.hooks if self.kind == "plugin" else []
        settings = [f"settings: {', '.join(self.settings)}"] if self.settings else []
        return "; ".join([", ".join(told)] * bool(told) + settings) or "-"


@click.command()
@click.option("--config", metavar="FILE", help="The configuration. [default: dynalayer.toml and pyproject.toml]")
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON.")
def plugins(config: str | None, *, as_json: bool) -> None:
    """List the adapters, wrappers and plugins that are installed, and which layers of the configuration use them.

    One that cannot be loaded is listed with the reason, and keeps no other from being used.
    """
    problem, used = None, None
    try:
        used = _used(Sources.read(config))
    except ConfigurationError as error:
        problem = str(error)
    found = [_looked_at(each, used or {}) for group in (ADAPTERS, PLUGINS) for each in installed(group)]
    if as_json:
        click.echo(json.dumps({"plugins": [asdict(each) for each in found]}, indent=2, ensure_ascii=False))
    else:
        head = ("NAME", "KIND", "FROM", *(("USED BY",) if used else ()), "WHAT IT DOES")
        print_table(
            head,
            [
                (each.name, each.kind, each.distribution, *((", ".join(each.layers),) if used else ()), each.does)
                for each in found
            ],
        )
    if problem is not None:
        raise click.ClickException(f"which of them are used is not known: {problem}")


def _used(sources: Sources) -> dict[tuple[str, str], list[str]]:
    """By group and name, the layers that use it; nothing without a configuration."""
    used: dict[tuple[str, str], list[str]] = {}
    layers: list[str | None] = [*sources.layers] or ([None] if sources.any else [])
    for layer in layers:
        values = sources.configuration(layer).values
        given = {name: values[name].given for name in _GROUPS if name in values}
        if "getter" not in values:
            given.setdefault("storage", DEFAULT_STORAGE)
        for setting, value in given.items():
            for each in value if isinstance(value, list) else [value]:
                name = _name(each)
                users = used.setdefault((_GROUPS[setting], name), []) if name is not None else []
                if (layer or "the layer") not in users:
                    users.append(layer or "the layer")
    return used


def _name(spec: object) -> str | None:
    """What a spec names; None where only what it refers to would tell."""
    text = spec.get("use") if isinstance(spec, dict) else spec
    try:
        return Spec.parse(text, what="a spec").name if isinstance(text, str) else None
    except ConfigurationError:
        return None


def _looked_at(each: Installed, used: dict[tuple[str, str], list[str]]) -> _Plugin:
    kind = "adapter" if each.group == ADAPTERS else "plugin"
    layers = used.get((each.group, each.name.lower()), [])
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what its import prints is no part of the list
            made = load(each.group, each.name).value
        return _Plugin(each.name, layers=layers, distribution=each.distribution, **_looks(made, kind))
    except LayerError as error:
        reason = error.message
    except Exception as error:  # noqa: BLE001 -- whatever is wrong with one is told, and the others are listed
        reason = str(PluginError(f"cannot be looked at: {type(error).__name__}: {error}"))
    return _Plugin(each.name, kind, each.distribution, error=reason, layers=layers)


def _looks(made: Any, kind: str) -> dict[str, Any]:
    opened = hasattr(made, "from_url")
    if kind == "adapter" and hasattr(made, "around") and not opened:
        kind = "wrapper"
    can = getattr(made, "capabilities", None)
    return {
        "kind": kind,
        "capabilities": [each.name for each in fields(Capabilities) if getattr(can, each.name)]
        if isinstance(can, Capabilities)
        else [],
        "hooks": hooks_of(made),
        "settings": list(settings_of(made)) if inspect.isclass(made) and not opened else [],
    }
