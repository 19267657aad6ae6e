"""A layer's options: checked before anything is opened, and its plugins switched on."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import pluggy

from dynalayer.clock import MICROSECONDS
from dynalayer.conversion import kind_of
from dynalayer.errors import ConfigurationError
from dynalayer.eventlog.base import MAX_LEASE
from dynalayer.events import ItemFunction
from dynalayer.pairs import Getter, Setter
from dynalayer.plugins import Answer, FunctionRunner, FunctionStrategy, agreed, made, new_manager, register
from dynalayer.quoting import quoted
from dynalayer.settings import Spec
from dynalayer.states import LayerMeta, PartitionMeta

__all__ = [
    "HistoryOption",
    "RunnerOption",
    "Strategy",
    "StrategyOption",
    "check_history",
    "check_options",
    "check_pair",
    "load_strategy",
    "register_plugins",
]

StrategyOption = object
"""A function of the layer's meta, or of that and the partition's; or a plugin with `layer_strategy`, or its name."""

RunnerOption = object
"""A function that takes a job and runs it, now or later; or what is or names a plugin with `layer_runner`."""

HistoryOption = Literal["ttl", "forever"]
"""How long history is kept."""

Strategy = Callable[[LayerMeta, PartitionMeta], Answer]
"""What asks a strategy of whatever kind."""


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
        raise ConfigurationError(f"lease={quoted(lease)} is no positive number of seconds up to an hour")
    if not 0 <= _number(cache_bytes) < math.inf:
        raise ConfigurationError(f"cache_bytes={quoted(cache_bytes)} is no number of bytes; 0 is none")
    if not callable(clock):
        raise ConfigurationError(f"clock is a function that tells microseconds, not {quoted(clock)}")
    for name, function in (
        ("get_item_unique_identifier", get_item_unique_identifier),
        ("get_item_partition", get_item_partition),
    ):
        if not (function is None or isinstance(function, str) or callable(function)):
            raise ConfigurationError(f"{name} is an attribute's name or a function of the item, not {quoted(function)}")


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
            raise ConfigurationError(f"{name} is a function, not {quoted(function)}")
    if storage is not None:
        raise ConfigurationError("getter and setter stand in place of storage; leave one out")
    if get_id is None:
        raise ConfigurationError(
            "with getter and setter the layer needs get_item_unique_identifier, to tell their items apart"
        )


def check_history(history: object, *, immutable: bool, storage: str) -> bool:
    """Refuse what `history` cannot be; tell whether it is for ever.

    Args:
        history: As the caller gave it.
        immutable: Whether the adapter keeps more than one segment of a partition.
        storage: The adapter's name.

    Raises:
        ConfigurationError: It is neither, or the adapter has no place for it.
    """
    if not isinstance(history, str) or history not in ("ttl", "forever"):
        raise ConfigurationError(f"history={quoted(history)} is neither 'ttl' nor 'forever'")
    if history == "forever" and not immutable:
        raise ConfigurationError(
            f"history='forever' keeps all events in storage, and {storage} has one place a partition, for its items "
            "alone; give the layer another storage, or leave history out"
        )
    return history == "forever"


def register_plugins(
    manager: pluggy.PluginManager,
    plugins: Iterable[object],
    strategy: StrategyOption | Sequence[StrategyOption],
    runner: RunnerOption,
    table: str,
) -> None:
    """Switch on a layer's plugins, strategies and runner.

    Raises:
        ConfigurationError: One is of the wrong kind, or named twice with the same settings.
        PluginError: One is not installed, cannot be loaded, or does not fit.
    """
    if isinstance(plugins, str | Mapping) or not isinstance(plugins, Iterable):
        shown = repr(plugins) if isinstance(plugins, str) and plugins.replace("-", "").isalnum() else "…"
        raise ConfigurationError(f"plugins is a list of names and objects; write plugins=[{shown}]")
    named: list[Spec] = []
    for plugin in plugins:
        _register(manager, plugin, table, "plugins", named)
    strategies = [] if strategy is None else list(strategy) if isinstance(strategy, list | tuple) else [strategy]
    for each in strategies:
        _register(manager, each, table, "sync_strategy", named)
    if runner is not None:
        _register(manager, runner, table, "background_runner", named)


def load_strategy(given: StrategyOption, *, table: str) -> Strategy:
    """What asks one strategy, for strategies that are made of others.

    Of a plugin its strategy alone is asked; its other hooks are not called.

    Args:
        given: As the layer takes it: a function, a plugin, or a spec.
        table: The layer's table.

    Returns:
        A function of the layer's meta and the partition's: True, `"partition"` or False.

    Raises:
        ConfigurationError: It is no strategy, or a setting is wrong.
        PluginError: It is not installed, cannot be loaded, or does not fit.
    """
    manager = new_manager()
    _register(manager, given, table, "sync_strategy", [])

    def ask(meta: LayerMeta, partition_meta: PartitionMeta) -> Answer:
        return agreed(manager.hook.layer_strategy(meta=meta, partition_meta=partition_meta))

    return ask


_Wrap = Callable[[Callable[..., object]], object]
_WANTED: Mapping[str, tuple[str, str, _Wrap]] = {
    "sync_strategy": ("layer_strategy", "a function of the layer's meta", FunctionStrategy),
    "background_runner": ("layer_runner", "a function that takes a job", FunctionRunner),
}
"""For the options that want one hook: which, what stands for it, and how it does."""


def _register(manager: pluggy.PluginManager, given: object, table: str, what: str, named: list[Spec]) -> None:
    """Switch on what a spec names, an object, or, where the option takes one, a function."""
    plugin, name = given, None
    if isinstance(given, str | Mapping):
        spec = Spec.parse(given, what=what)
        if spec in named:
            raise ConfigurationError(f"{what}: {spec.name!r} is named twice with the same settings")
        named.append(spec)
        plugin, name = made(spec, table), spec.name  # no more of it: settings may be secrets
    if what not in _WANTED:
        register(manager, plugin, name)
        return
    hook, function, wrap = _WANTED[what]
    if hasattr(plugin, hook) and not inspect.isclass(plugin):
        register(manager, plugin, name, hook=hook)
    elif callable(plugin) and not inspect.isclass(plugin):
        register(manager, wrap(plugin), name or what)
    else:
        shown = repr(name) if name else f"the class {plugin.__name__}" if inspect.isclass(plugin) else kind_of(plugin)
        raise ConfigurationError(f"{what} is {function}, a plugin with {hook} or its name, not {shown}")
