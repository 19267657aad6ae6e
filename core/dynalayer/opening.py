"""From what a user gives (a URL, an object, a list) to an event log and a storage."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import pluggy

from dynalayer.errors import ConfigurationError, LayerError, PluginError
from dynalayer.eventlog.base import EventLog
from dynalayer.eventlog.memory import MemoryEventLog
from dynalayer.eventlog.sqlite import SQLiteEventLog
from dynalayer.events import check_table
from dynalayer.hookspecs import Adapter, Capabilities, Wrapper
from dynalayer.observing import Observers
from dynalayer.optional import need
from dynalayer.plugins import ADAPTERS, installed, load, register
from dynalayer.settings import Spec
from dynalayer.storage import Storage
from dynalayer.urls import URL

__all__ = [
    "DEFAULT_EVENTS",
    "DEFAULT_STORAGE",
    "StorageOption",
    "check_event_log",
    "names_event_log",
    "need_capturing",
    "need_dynamodb",
    "open_adapter",
    "open_event_log",
    "open_storage",
]

DEFAULT_EVENTS = "sqlite:///.dynalayer/events.db"
DEFAULT_STORAGE = "local:.dynalayer/snapshots"

StorageOption = str | Mapping[str, object] | Adapter | Wrapper
"""A URL, a wrapper's name with its settings, or an object: an adapter, or a wrapper."""


def _sqlite(url: URL, table: str, *, create: bool) -> EventLog:
    return SQLiteEventLog(_sqlite_path(url), table, create=create)


def _sqlite_path(url: URL) -> str:
    url.refuse_options()
    url.refuse_null_byte(what="events")
    if not url.location.startswith("///") or not url.location.strip("/"):
        raise ConfigurationError(
            "events: write sqlite:///relative/path.db or sqlite:////absolute/path.db, with three or four slashes"
        )
    return url.location[3:]


def _memory(url: URL, table: str, *, create: bool) -> EventLog:
    if not create:
        raise ConfigurationError("events: memory: is empty when it is opened, so that there is nothing to look at")
    _check_memory(url)
    return MemoryEventLog(table)


def _check_memory(url: URL) -> None:
    url.refuse_options()
    if url.location:
        raise ConfigurationError(f"events: memory: takes no path, and got {url.location!r}")


def _dynamodb(url: URL, table: str, *, create: bool) -> EventLog:
    log: EventLog = need_dynamodb().open_log(url, table, create=create)
    return log


def need_dynamodb() -> ModuleType:
    """The module of the DynamoDB log, imported only when it is asked for: boto3 is an extra, and takes a while.

    Raises:
        ConfigurationError: boto3 is not installed.
    """
    return need(
        "dynalayer.eventlog.dynamodb",
        "the DynamoDB event log",
        packages=("boto3", "botocore"),
        install="dynalayer[dynamodb]",
    )


def need_capturing() -> ModuleType:
    """The module of capture, likewise.

    Raises:
        ConfigurationError: boto3 is not installed.
    """
    return need("dynalayer.capturing", "layer.table()", packages=("boto3", "botocore"), install="dynalayer[dynamodb]")


_EVENT_LOGS = {"dynamodb": _dynamodb, "memory": _memory, "sqlite": _sqlite}


def _url_of_log(events: str) -> URL:
    url = URL.parse(events, what="events")
    if url.scheme not in _EVENT_LOGS:
        hint = (
            "; it keeps snapshots: give it as storage"
            if any(each.name == url.scheme for each in installed(ADAPTERS))
            else ""
        )
        raise ConfigurationError(
            f"there is no event log {url.scheme!r}; there are: {', '.join(sorted(_EVENT_LOGS))}{hint}"
        )
    return url


def names_event_log(url: str) -> bool:
    """Whether a URL is an event log's by its scheme; else it is a storage adapter's."""
    return URL.parse(url, what="URL").scheme in _EVENT_LOGS


def check_event_log(events: str) -> None:
    """Refuse a URL that is no event log's, without opening it.

    Raises:
        ConfigurationError: What is wrong with it; or a package that its log needs is not installed.
    """
    url = _url_of_log(events)
    if url.scheme == "dynamodb":
        need_dynamodb().check_url(url)
    elif url.scheme == "sqlite":
        _sqlite_path(url)
    else:
        _check_memory(url)


def open_event_log(events: str | EventLog, table: str, *, create: bool = True) -> EventLog:
    """The event log that a URL names, or the one given.

    Args:
        events: The URL, or the log.
        table: The layer's table.
        create: Whether it may be made; else one that is not there is an error.

    Raises:
        ConfigurationError: The URL is wrong, the table's name is none, or the log is another table's.
        EventLogError: It cannot be opened.
    """
    check_table(table)
    if isinstance(events, str):
        url = _url_of_log(events)
        return _EVENT_LOGS[url.scheme](url, table, create=create)
    if not isinstance(events, EventLog):
        raise ConfigurationError(f"events is a URL or an EventLog, not {type(events).__name__}")
    if events.table != table:
        raise ConfigurationError(
            f"the event log given is for table {events.table!r}, the layer for {table!r}: "
            "one log object serves one layer"
        )
    return events


def open_storage(
    storage: StorageOption | Sequence[StorageOption], table: str, manager: pluggy.PluginManager, observers: Observers
) -> Storage:
    """The storage that a URL, an adapter or a list names, registered with the layer's plugin manager.

    A list begins with the outermost wrapper and ends with the store.

    Raises:
        ConfigurationError: A URL or a setting is wrong, or the list is no stack of wrappers around an adapter.
        PluginError: An adapter is not installed, cannot be loaded, or does not keep to the contract.
    """
    parts = list(storage) if isinstance(storage, list | tuple) else [storage]
    if not parts:
        raise ConfigurationError("storage is an empty list; it ends with the store, as in ['local:snapshots']")
    if isinstance(parts[-1], str) and ":" not in parts[-1]:
        URL.parse(parts[-1], what="storage")  # raises: a name alone is a wrapper's
    opened = [_open(part, table) for part in parts]
    store, distribution = opened[-1]
    adapter = _checked(store, distribution)
    for wrapper, wrapper_distribution in reversed(opened[:-1]):
        outer = _wrapped(wrapper, adapter, wrapper_distribution)
        # Errors name the store; a wrapper that calls itself otherwise is named with its own distribution.
        if outer.name != adapter.name:
            distribution = wrapper_distribution
        adapter = outer
    register(manager, adapter, adapter.name)
    hooks = {caller.name for caller in manager.get_hookcallers(adapter) or []}
    needed = {"layer_setter", "layer_getter"}
    if adapter.capabilities.listing:
        needed |= {"layer_discard", "layer_list"}
    if adapter.capabilities.publishing:
        needed |= {"layer_publish"}
    if adapter.capabilities.columns:
        needed |= {"layer_columns", "layer_columns_setter"}
    if needed - hooks:
        raise PluginError(
            f"adapter {adapter.name!r} does not mark {', '.join(sorted(needed - hooks))} with hookimpl"
        ).within(adapter=adapter.name, distribution=distribution)
    return Storage(manager, observers, name=adapter.name, distribution=distribution, capabilities=adapter.capabilities)


def open_adapter(url: str, table: str) -> Adapter:
    """The adapter that a URL names, as a layer of that table would open it.

    Raises:
        ConfigurationError: The URL is wrong, or names a wrapper.
        PluginError: It is not installed, cannot be loaded, or does not keep to the contract.
    """
    store, distribution = _open(url, check_table(table))
    return _checked(store, distribution)


def _open(part: object, table: str) -> tuple[object, str | None]:
    """The store or the wrapper that a part of `storage` names, and what it came with; an object is itself."""
    if not isinstance(part, str | Mapping):
        return part, None
    spec = Spec.parse(part, what="storage")
    if spec.name in _EVENT_LOGS:
        raise ConfigurationError(
            f"storage: {spec.name} keeps events, no snapshots: give it as events, and a store as storage, as in "
            "'local:snapshots'"
        )
    found = load(ADAPTERS, spec.name)
    try:
        return _made(found.value, spec, found.distribution, table), found.distribution
    except LayerError as error:
        raise error.within(adapter=spec.name, distribution=found.distribution)  # noqa: B904 -- the same error
    except Exception as error:
        raise PluginError(
            f"adapter {spec.name!r} could not be opened: {type(error).__name__}: {error}",
            adapter=spec.name,
            distribution=found.distribution,
        ) from error


def _made(factory: Any, spec: Spec, distribution: str, table: str) -> object:
    from_url = getattr(factory, "from_url", None)
    if callable(from_url):
        return from_url(spec.as_url(what="storage"), table)
    if not inspect.isclass(factory) or not callable(getattr(factory, "around", None)):
        raise PluginError(
            f"adapter {spec.name!r} of {distribution} cannot be opened by a URL: it has no from_url(); "
            "and it is no wrapper: it has no around()"
        )
    return spec.make(factory, what=f"wrapper {spec.name!r} of {distribution}", table=table)


def _wrapped(wrapper: object, adapter: Adapter, distribution: str | None) -> Adapter:
    if inspect.isclass(wrapper):
        raise PluginError(f"storage: {wrapper.__name__} is a class; give its object")
    if not isinstance(wrapper, Wrapper):
        raise ConfigurationError(
            f"storage: {_label(wrapper)} stands in front of {adapter.name} and cannot wrap it: it has no around(); "
            "a list ends with the one store"
        )
    try:
        outer = wrapper.around(adapter)
    except LayerError:
        raise
    except Exception as error:
        raise PluginError(
            f"{_label(wrapper)} could not be put around {adapter.name}: {type(error).__name__}: {error}",
            distribution=distribution,
        ) from error
    return _checked(outer, distribution)


def _checked(adapter: object, distribution: str | None) -> Adapter:
    if (
        inspect.isclass(adapter)
        or not isinstance(adapter, Adapter)
        or not isinstance(adapter.capabilities, Capabilities)
    ):
        if isinstance(adapter, Wrapper) and not inspect.isclass(adapter):
            raise PluginError(
                f"storage: {_label(adapter)} is a wrapper, and stands in front of a store: storage is a list that ends "
                f"with one, as in ['{_label(adapter)}', 'local:snapshots']",
                distribution=distribution,
            )
        hint = "; this is a class: give its object" if inspect.isclass(adapter) else ""
        raise PluginError(
            f"{_label(adapter)} is no adapter: one has a name, capabilities, layer_setter, layer_getter, "
            f"layer_discard and layer_list{hint}",
            distribution=distribution,
        )
    return adapter


def _label(thing: object) -> str:
    return str(getattr(thing, "name", None) or type(thing).__name__)
