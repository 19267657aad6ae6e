"""Finding and calling plugins: entry points by name, and one plugin manager for each layer."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

import pluggy

from dynalayer.errors import ConfigurationError, LayerError, PluginError, PluginLoadError, PluginNotFoundError
from dynalayer.hookspecs import PROJECT, HookSpecs, hookimpl
from dynalayer.settings import Spec

__all__ = [
    "ADAPTERS",
    "PLUGINS",
    "Answer",
    "Installed",
    "Loaded",
    "agreed",
    "installed",
    "load",
    "load_plugin",
    "made",
    "new_manager",
    "register",
]

ADAPTERS = "dynalayer.adapters"
"""The entry-point group of storage adapters and of wrappers around them."""

PLUGINS = "dynalayer.plugins"
"""The entry-point group of all other plugins."""

Answer = Literal[True, False, "partition"]
"""What a strategy says: sync all that is pending, nothing, or the partition that was asked about."""

_HOOKS = ", ".join(sorted(name for name in vars(HookSpecs) if name.startswith("layer_")))


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin that is installed, whether or not it can be loaded.

    Attributes:
        name: The name that it is asked for by.
        group: `ADAPTERS` or `PLUGINS`.
        distribution: Name and version of what it came with.
        value: Where its object is, as `module:attribute`.
    """

    name: str
    group: str
    distribution: str
    value: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a name led to."""

    value: Any
    distribution: str


def installed(group: str) -> tuple[Installed, ...]:
    """What is installed in a group, sorted by name. Nothing is imported."""
    found = {Installed(point.name, group, _distribution(point), point.value) for point in entry_points(group=group)}
    return tuple(sorted(found, key=lambda each: (each.name, each.distribution)))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def load(group: str, name: str) -> Loaded:
    """Import what a name stands for; nothing else is imported.

    Raises:
        PluginNotFoundError: Nothing by that name is installed; lists what is.
        PluginLoadError: Its import failed; says what to install where something is missing.
        PluginError: Two distributions claim the name.
    """
    # Names are those of a URL's scheme, in which case does not count.
    points = {point.value: point for point in entry_points(group=group) if point.name.lower() == name.lower()}
    what = "adapter" if group == ADAPTERS else "plugin"
    if not points:
        names = ", ".join(each.name for each in installed(group)) or "none"
        raise PluginNotFoundError(f"there is no {what} {name!r}; installed: {names}")
    if len(points) > 1:
        claims = " and ".join(sorted(_distribution(point) for point in points.values()))
        raise PluginError(f"{what} {name!r} is claimed by {claims}; uninstall one")
    (point,) = points.values()
    try:
        return Loaded(point.load(), _distribution(point))
    except Exception as error:
        raise PluginLoadError(
            f"{what} {name!r} of {_distribution(point)} cannot be loaded: "
            f"{type(error).__name__}: {error}{_missing_extra(point, error)}"
        ) from error


def _missing_extra(point: EntryPoint, error: Exception) -> str:
    """What to install, where the distribution has an extra for the module that is missing."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None or point.dist is None:
        return ""
    missing = re.sub(r"[-_.]+", "-", error.name.partition(".")[0]).lower()
    extras: list[str] = []
    for requirement in point.dist.requires or ():
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", requirement)
        if name and extra and re.sub(r"[-_.]+", "-", name[0]).lower() == missing:
            extras.append(extra[1])
    # Several may bring it: the one that the plugin, or else its module, is named after then.
    extras.sort(key=lambda extra: (extra not in point.name, extra not in point.value))
    return f"; run: pip install '{point.dist.name}[{extras[0]}]'" if extras else ""


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows the hooks and has no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    return manager


def register(
    manager: pluggy.PluginManager, plugin: object, name: str | None = None, *, hook: str | None = None
) -> None:
    """Switch a plugin on for one layer.

    Args:
        manager: The layer's.
        plugin: The plugin.
        name: What it is called in errors; left out, its `name`, or that of its class.
        hook: What it must implement.

    Raises:
        PluginError: It implements no hook, or not that one, implements one with unknown arguments, or is there already.
    """
    label = name or getattr(plugin, "name", None) or type(plugin).__name__
    if inspect.isclass(plugin):
        raise PluginError(f"plugin {plugin.__name__!r} is a class; give its object")
    if manager.is_registered(plugin):
        raise PluginError(f"plugin {label!r} is given twice")
    marked = [each for each in dir(plugin) if manager.parse_hookimpl_opts(plugin, each)]
    if not marked or (hook is not None and hook not in marked):
        lacking = "no method" if hook is None else f"no method {hook}"
        raise PluginError(f"plugin {label!r} marks {lacking} with hookimpl; hooks: {_HOOKS}")
    try:
        manager.register(plugin, name=_free(manager, str(label)))
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(f"plugin {label!r} does not fit: {error}") from error
    callers = manager.get_hookcallers(plugin) or []
    unknown = [caller.name for caller in callers if not caller.has_spec()]
    if unknown:
        manager.unregister(plugin)
        raise PluginError(f"plugin {label!r} marks {unknown[0]!r}, which is no hook; hooks: {_HOOKS}")


def _free(manager: pluggy.PluginManager, name: str) -> str:
    """The name, or with a number what no plugin has yet: one may be there several times, with other settings."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if not manager.has_plugin(each))


def load_plugin(given: str | Mapping[str, object], *, table: str, what: str = "plugins") -> object:
    """The plugin that a spec names: a class makes its object by its settings, anything else is the plugin itself.

    Args:
        given: A name, `"count:100"`, or a mapping of one under `use` with settings beside it.
        table: The layer's table.
        what: What it is for, for errors.

    Raises:
        ConfigurationError: It is no spec, or a setting is wrong.
        PluginError: As `load`; or the class could not make its object.
    """
    return made(Spec.parse(given, what=what), table)


def made(spec: Spec, table: str) -> object:
    """As `load_plugin`, from a spec that was taken apart."""
    loaded = load(PLUGINS, spec.name)
    label = f"plugin {spec.name!r} of {loaded.distribution}"
    if not inspect.isclass(loaded.value):
        if spec.url.location or spec.settings:
            raise ConfigurationError(f"{label} takes no settings")
        return loaded.value
    try:
        return spec.make(loaded.value, what=label, table=table)
    except LayerError:
        raise
    except Exception as error:
        raise PluginError(f"{label} could not be made: {type(error).__name__}: {error}") from error


def agreed(answers: Iterable[object]) -> Answer:
    """What several strategies come to, any of which may say yes: True for all, `"partition"`, or False."""
    said = [answer for answer in answers if answer]
    if any(answer != "partition" for answer in said):
        return True
    return "partition" if said else False


class FunctionStrategy:
    """A plain function as a strategy; it may take the layer's meta only, or the partition's too."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._arguments = _positional(function)

    @hookimpl
    def layer_strategy(self, meta: object, partition_meta: object) -> object:
        """See `HookSpecs.layer_strategy`."""
        return self._function(*(meta, partition_meta)[: self._arguments])


class FunctionRunner:
    """A plain function that takes a job as a runner."""

    def __init__(self, function: Callable[[Callable[[], None]], object]) -> None:
        self._function = function

    @hookimpl
    def layer_runner(self, job: Callable[[], None]) -> bool:
        """See `HookSpecs.layer_runner`."""
        self._function(job)
        return True


def _positional(function: Callable[..., object]) -> int:
    """How many of two arguments a function takes by position; one that has a default of its own is left alone."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some builtins tell no signature
        return 1
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return 2
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [each for each in parameters if each.kind in positional and each.default is inspect.Parameter.empty]
    return min(2, max(1, len(taken)))
