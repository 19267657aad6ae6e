"""A layer's options: checked before anything is opened, and its plugins switched on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pluggy

from dynalayer.clock import MICROSECONDS
from dynalayer.errors import ConfigurationError
from dynalayer.eventlog.base import MAX_LEASE
from dynalayer.events import ItemFunction
from dynalayer.pairs import Getter, Setter
from dynalayer.plugins import FunctionRunner, FunctionStrategy, load_plugin, register
from dynalayer.settings import Spec

__all__ = ["RunnerOption", "StrategyOption", "check_options", "check_pair", "register_plugins"]

StrategyOption = object
"""A function of the layer's meta, or of that and the partition's; or a plugin with `layer_strategy`, or its name."""

RunnerOption = object
"""A function that takes a job and runs it, now or later; or what is or names a plugin with `layer_runner`."""


_KINDS = {
    "sync_strategy": "a function of the layer's meta",
    "background_runner": "a function that takes a job",
}


def check_options(
    *,
    lease: object,
    cache_bytes: object,
    clock: object,
    get_item_unique_identifier: object,
    get_item_partition: object,
) -> None:
    """Refuse what these options cannot be.

    Raises:
        ConfigurationError: One of them is wrong; names it.
    """
    if not 0 < _number(lease) <= MAX_LEASE / 2 / MICROSECONDS:
        raise ConfigurationError(f"lease={lease!r:.100} is no positive number of seconds up to an hour")
    if not 0 <= _number(cache_bytes) < math.inf:
        raise ConfigurationError(f"cache_bytes={cache_bytes!r:.100} is no number of bytes; 0 is none")
    if not callable(clock):
        raise ConfigurationError(f"clock is a function that tells microseconds, not {clock!r:.100}")
    for name, function in (
        ("get_item_unique_identifier", get_item_unique_identifier),
        ("get_item_partition", get_item_partition),
    ):
        if not (function is None or isinstance(function, str) or callable(function)):
            raise ConfigurationError(f"{name} is an attribute's name or a function of the item, not {function!r:.100}")


def _number(value: object) -> float:
    """The value if it is a number, and what is within no bounds if not."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def check_pair(getter: Getter | None, setter: Setter | None, storage: object, get_id: ItemFunction | None) -> None:
    """Refuse a plain pair that is none, or that does not go with the other options.

    Raises:
        ConfigurationError: What is wrong with it.
    """
    if (getter is None) != (setter is None):
        missing = "getter" if getter is None else "setter"
        raise ConfigurationError(f"getter and setter go together; {missing} is missing")
    if getter is None:
        return
    for name, function in (("getter", getter), ("setter", setter)):
        if not callable(function):
            raise ConfigurationError(f"{name} is a function, not {function!r:.100}")
    if storage is not None:
        raise ConfigurationError("getter and setter stand in place of storage; leave one out")
    if get_id is None:
        raise ConfigurationError(
            "with getter and setter the layer needs get_item_unique_identifier, to tell their items apart"
        )


def register_plugins(
    manager: pluggy.PluginManager,
    plugins: Iterable[object],
    strategy: StrategyOption | Sequence[StrategyOption],
    runner: RunnerOption,
    table: str,
) -> None:
    """Switch on a layer's plugins, strategies and runner.

    Raises:
        ConfigurationError: One is of the wrong kind.
        PluginError: One is not installed, cannot be loaded, or does not fit.
    """
    if isinstance(plugins, str) or not isinstance(plugins, Iterable):
        raise ConfigurationError(f"plugins is a list of names and objects; write plugins=[{plugins!r:.100}]")
    for plugin in plugins:
        _register(manager, plugin, table, "plugins")
    strategies = [] if strategy is None else list(strategy) if isinstance(strategy, list | tuple) else [strategy]
    for each in strategies:
        if callable(each):
            register(manager, FunctionStrategy(each), f"sync_strategy-{id(each)}")
        else:
            _register(manager, each, table, "sync_strategy", "layer_strategy")
    if callable(runner):
        register(manager, FunctionRunner(runner), "background_runner")
    elif runner is not None:
        _register(manager, runner, table, "background_runner", "layer_runner")


def _register(manager: pluggy.PluginManager, given: object, table: str, what: str, hook: str | None = None) -> None:
    """Switch on what a spec names, or an object; `hook` is what it must have."""
    plugin, name, shown = given, None, f"{given!r:.100}"
    if isinstance(given, str | Mapping):
        plugin = load_plugin(given, table=table, what=what)
        # One plugin may be there several times, with other settings; what they are may be a secret.
        shown = Spec.parse(given, what=what).name
        name = shown if given == shown else f"{shown}-{id(plugin)}"
    if hook is not None and not hasattr(plugin, hook):
        raise ConfigurationError(f"{what} is {_KINDS[what]}, a plugin with {hook} or its name, not {shown}")
    register(manager, plugin, name)
