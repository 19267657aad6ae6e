"""Finding and calling plugins: entry points by name, and one plugin manager for each layer."""

from __future__ import annotations

import difflib
import inspect
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from typing import Any, Literal

import pluggy

from dynalayer.asynchronous import not_coroutine
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
    "hooks_of",
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

_NAMELESS = "a distribution whose metadata cannot be read"

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
    """What is installed in a group, sorted by name. Nothing is imported.

    A distribution that brings something to the group, and whose entry points cannot be read, stands there by its name.
    """
    points, broken = _points(group)
    found = {Installed(point.name, group, _distribution(point), point.value) for point in points}
    found |= {Installed(name, group, distribution, "") for name, (distribution, _) in broken.items()}
    return tuple(sorted(found, key=lambda each: (each.name, each.distribution)))


def _points(group: str) -> tuple[Iterable[EntryPoint], dict[str, tuple[str, Exception]]]:
    """The entry points of a group; and by name, the distributions that have some which cannot be read, and why."""
    try:
        return entry_points(group=group), {}
    except Exception:  # noqa: BLE001 -- one distribution's broken file fails them all: they are read one by one then
        points: list[EntryPoint] = []
        broken: dict[str, tuple[str, Exception]] = {}
        for each in distributions():
            try:
                points += each.entry_points.select(group=group)
            except Exception as error:  # noqa: BLE001 -- likewise, and it breaks only what asks for it
                if _mentions(each, group):
                    named = _named(each)
                    broken["?" if named == _NAMELESS else named.partition(" ")[0].lower()] = (named, error)
        return points, broken


def _mentions(distribution: Distribution, group: str) -> bool:
    try:
        return f"[{group}]" in (distribution.read_text("entry_points.txt") or "")
    except Exception:  # noqa: BLE001 -- what is no text at all may hold anything
        return True


def _distribution(point: EntryPoint) -> str:
    return _named(point.dist) if point.dist else "an unknown distribution"


def _named(distribution: Distribution) -> str:
    try:
        known = [distribution.metadata["Name"], distribution.version]
    except Exception:  # noqa: BLE001 -- it differs by the release of Python
        known = []
    return " ".join(known) if known and all(known) else _NAMELESS


def load(group: str, name: str) -> Loaded:
    """Import what a name stands for; nothing else is imported.

    Raises:
        PluginNotFoundError: Nothing by that name is installed; lists what is.
        PluginLoadError: Its import failed, which says what to install where something is missing; or its distribution's
            entry points cannot be read.
        PluginError: Two distributions claim the name.
    """
    found, broken = _points(group)
    # Names are those of a URL's scheme, in which case does not count.
    points = {point.value: point for point in found if point.name.lower() == name.lower()}
    what = "adapter" if group == ADAPTERS else "plugin"
    if not points and name.lower() in broken:
        distribution, error = broken[name.lower()]
        raise PluginLoadError(
            f"the entry points of {distribution} cannot be read: {type(error).__name__}: {error}; install it anew"
        ) from error
    if not points:
        names = [each.name for each in installed(group)]
        close = difflib.get_close_matches(name[:100].lower(), names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise PluginNotFoundError(f"there is no {what} {name!r}; installed: {', '.join(names) or 'none'}{hint}")
    if len(points) > 1:
        claims = " and ".join(sorted(_distribution(point) for point in points.values()))
        raise PluginError(f"{what} {name!r} is claimed by {claims}; uninstall one")
    (point,) = points.values()
    try:
        return Loaded(point.load(), _distribution(point))
    except (Exception, SystemExit) as error:  # a module that leaves at its import would end the program
        raise PluginLoadError(
            f"{what} {name!r} of {_distribution(point)} cannot be loaded: "
            f"{type(error).__name__}: {error}{_missing_extra(point, error)}"
        ) from error


def _missing_extra(point: EntryPoint, error: BaseException) -> str:
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
    # Several may bring it: the one that the plugin, or else its module, is named after then. Likewise where the module
    # is no requirement's name, as `opentelemetry` is not `opentelemetry-api`.
    extras.sort(key=lambda extra: (extra not in point.name, extra not in point.value))
    if not extras and point.name in point.dist.metadata.get_all("Provides-Extra", []):
        extras = [point.name]
    return f"; run: pip install '{point.dist.name}[{extras[0]}]'" if extras else ""


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows the hooks and has no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    return manager


def hooks_of(plugin: object) -> list[str]:
    """The names of the methods that an object or a class marks with `hookimpl`, sorted."""
    manager = new_manager()
    return sorted(name for name in dir(plugin) if manager.parse_hookimpl_opts(plugin, name))


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
    marked = hooks_of(plugin)
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
        return not_coroutine(self._function(*(meta, partition_meta)[: self._arguments]), "the sync strategy")


class FunctionRunner:
    """A plain function that takes a job as a runner."""

    def __init__(self, function: Callable[[Callable[[], None]], object]) -> None:
        self._function = function

    @hookimpl
    def layer_runner(self, job: Callable[[], None]) -> bool:
        """See `HookSpecs.layer_runner`."""
        not_coroutine(self._function(job), "the background runner")
        return True


def _positional(function: Callable[..., object]) -> int:
    """How many of two arguments a function takes by position; one that has a default of its own is left alone.

    Raises:
        ConfigurationError: It cannot be called with so many.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some builtins tell no signature
        return 1
    count = _wanted_of_two(signature.parameters.values())
    try:
        signature.bind(*("meta", "partition_meta")[:count])
    except TypeError as error:
        raise ConfigurationError(
            "sync_strategy is a function of the layer's meta, or of that and the partition's, and this one cannot be "
            f"called so: {error}"
        ) from error
    return count


def _wanted_of_two(parameters: Collection[inspect.Parameter]) -> int:
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return 2
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [each for each in parameters if each.kind in positional and each.default is inspect.Parameter.empty]
    return min(2, max(1, len(taken)))
